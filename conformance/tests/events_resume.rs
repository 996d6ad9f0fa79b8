//! Contract section 4, and issue 4: `subscribe` with `since` and `epoch` brings what a short break has missed.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::http::{get, request};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

fn event(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON)
}

fn retain(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON | flag::RETAIN)
}

/// Sends an event on each topic, whose body is its place in the list.
fn send(router: &mut Router, topics: &[&str]) {
    for (index, topic) in topics.iter().enumerate() {
        router.send_message(&event(topic, &json!(index)));
    }
    router.ping();
}

fn since(epoch: &Value, seq: u64, topic: &str) -> Value {
    json!({"router": "r1", "topic": topic, "since": seq, "epoch": epoch})
}

/// The epoch of `r1`.
fn epoch(daemon: &Daemon) -> Value {
    WebSocket::connect(daemon.app).subscribe("r1", "none")["epoch"].clone()
}

/// The events that come before the answer to a call that is made now: topics and seqs, all replayed.
#[track_caller]
fn replayed(socket: &mut WebSocket) -> Vec<(String, u64)> {
    socket.call("routers", json!({"limit": 1})).expect("routers");
    let events = socket.kept_events();
    let replayed = events.iter().map(|event| {
        assert_eq!(event["replayed"], true, "{event}");
        assert!(event.get("retained").is_none(), "{event}");
        (event["topic"].as_str().expect("a topic").to_owned(), event["seq"].as_u64().expect("a number"))
    });
    replayed.collect()
}

fn pairs(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(topic, seq)| ((*topic).to_owned(), *seq)).collect()
}

#[test]
fn a_break_shorter_than_the_history_loses_nothing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send_message(&retain("kept", &json!("value")));
    send(&mut router, &["a", "b"]);
    let mut socket = WebSocket::connect(daemon.app);
    let first = socket.subscribe("r1", "*");
    assert_eq!((&first["seq"], first.get("recovered")), (&json!(3), None));
    drop(socket);
    send(&mut router, &["c", "a"]);
    router.send_message(&Frame::event("raw", b"\0\xff".to_vec()));
    router.ping();

    let mut socket = WebSocket::connect(daemon.app);
    let result = socket.call("subscribe", since(&first["epoch"], 3, "*")).expect("a subscription");
    let expected = json!({"subscription": 1, "epoch": first["epoch"], "seq": 6, "recovered": true});
    assert_eq!(result, expected);
    let c = json!({"router": "r1", "topic": "c", "seq": 4, "body": 0, "replayed": true});
    assert_eq!(socket.event(), c);
    assert_eq!(socket.event(), json!({"router": "r1", "topic": "a", "seq": 5, "body": 1, "replayed": true}));
    let raw = json!({"router": "r1", "topic": "raw", "seq": 6, "body_base64": "AP8=", "replayed": true});
    assert_eq!(socket.event(), raw);
    // Retained values are not sent: the client has had them, or they are among the events.
    socket.expect_no_event();
    send(&mut router, &["live"]);
    assert_eq!(socket.event(), json!({"router": "r1", "topic": "live", "seq": 7, "body": 0}));
    assert_eq!(Census::audited(&daemon).0["audit"]["dangling"], json!([]));
}

#[test]
fn it_outlives_the_session_and_takes_only_the_topic() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    send(&mut router, &["a", "b", "a", "b"]);
    let epoch = epoch(&daemon);
    drop(router);
    wait_for_live(&daemon, "router", 0, BOUND);
    let mut socket = WebSocket::connect(daemon.app);
    assert_eq!(socket.call("subscribe", since(&epoch, 0, "a")).expect("a subscription")["recovered"], true);
    assert_eq!(replayed(&mut socket), pairs(&[("a", 1), ("a", 3)]));
    // Nothing missed is recovered too.
    assert_eq!(socket.call("subscribe", since(&epoch, 4, "b")).expect("a subscription")["recovered"], true);
    assert_eq!(replayed(&mut socket), []);
}

#[test]
fn what_cannot_be_recovered_is_said_and_gets_the_retained_values() {
    let daemon = Daemon::start("shadow.history_events = 3");
    let mut router = Router::bind(daemon.router, "r1");
    router.send_message(&retain("kept", &json!("value")));
    send(&mut router, &["a", "b", "c", "d"]);
    let known = epoch(&daemon);
    let check = |params: Value, recovered: bool| {
        let mut socket = WebSocket::connect(daemon.app);
        let result = socket.call("subscribe", params.clone()).expect("a subscription");
        assert_eq!(result["recovered"], recovered, "{params}: {result}");
        if recovered {
            return replayed(&mut socket).len();
        }
        let event = socket.event();
        assert_eq!((&event["topic"], &event["retained"]), (&json!("kept"), &json!(true)), "{params}");
        socket.expect_no_event();
        0
    };
    assert_eq!(check(since(&known, 2, "*"), true), 3);
    assert_eq!(check(since(&known, 1, "*"), false), 0, "longer than the history");
    assert_eq!(check(since(&known, 6, "*"), false), 0, "above seq");
    assert_eq!(check(since(&json!("0123456789abcdef"), 2, "*"), false), 0, "another epoch");
    assert_eq!(check(since(&json!(""), 2, "*"), false), 0, "no epoch");
    // Of a router that nothing is known of there is nothing to recover.
    let mut socket = WebSocket::connect(daemon.app);
    let unknown = json!({"router": "nobody", "topic": "*", "since": 0, "epoch": known});
    let result = socket.call("subscribe", unknown).expect("a subscription");
    let expected = json!({"subscription": 1, "epoch": null, "seq": 0, "recovered": false});
    assert_eq!(result, expected);
}

#[test]
fn a_forgotten_shadow_is_another_epoch() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    send(&mut router, &["a", "b"]);
    let old = epoch(&daemon);
    assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1/shadow", &[], b"").status, 204);
    send(&mut router, &["c"]);
    let mut socket = WebSocket::connect(daemon.app);
    let result = socket.call("subscribe", since(&old, 1, "*")).expect("a subscription");
    assert_eq!((&result["recovered"], &result["seq"]), (&json!(false), &json!(1)));
    let result = socket.call("subscribe", since(&result["epoch"], 0, "c")).expect("a subscription");
    assert_eq!(result["recovered"], true);
}

#[test]
fn switched_off_it_recovers_only_who_missed_nothing() {
    for off in ["shadow.history_events = 0", "shadow.history_bytes = 0"] {
        let daemon = Daemon::start(off);
        let mut router = Router::bind(daemon.router, "r1");
        send(&mut router, &["a", "b"]);
        let epoch = epoch(&daemon);
        let mut socket = WebSocket::connect(daemon.app);
        for (seq, recovered) in [(1, false), (2, true)] {
            let result = socket.call("subscribe", since(&epoch, seq, "*")).expect("a subscription");
            assert_eq!(result["recovered"], recovered, "{off}, since {seq}");
        }
        send(&mut router, &["live"]);
        assert_eq!(socket.event()["topic"], "live");
        socket.expect_no_event();
    }
}

#[test]
fn an_event_longer_than_the_history_is_a_break() {
    let daemon = Daemon::start("shadow.history_bytes = 1000");
    let mut router = Router::bind(daemon.router, "r1");
    send(&mut router, &["a", "b"]);
    router.send_message(&event("long", &json!("x".repeat(1000))));
    send(&mut router, &["c"]);
    let epoch = epoch(&daemon);
    for (seq, recovered) in [(1, false), (2, false), (3, true)] {
        let mut socket = WebSocket::connect(daemon.app);
        let result = socket.call("subscribe", since(&epoch, seq, "*")).expect("a subscription");
        assert_eq!(result["recovered"], recovered, "since {seq}");
    }
}

#[test]
fn presence_is_sent_as_ever() {
    let daemon = Daemon::start("shadow.history_events = 1");
    let mut router = Router::bind(daemon.router, "r1");
    send(&mut router, &["a", "b", "c"]);
    let epoch = epoch(&daemon);
    let mut socket = WebSocket::connect(daemon.app);
    // No event of the break matches, so none of them is lost to this subscription.
    let result = socket.call("subscribe", since(&epoch, 0, "$presence")).expect("a subscription");
    assert_eq!(result["recovered"], true);
    let presence = socket.event();
    assert_eq!((&presence["body"]["online"], &presence["retained"]), (&json!(true), &json!(true)));
    drop(router);
    assert_eq!(socket.event()["body"]["online"], false);
    let result = socket.call("subscribe", since(&json!("x"), 0, "$presence")).expect("a subscription");
    assert_eq!(result["recovered"], false);
}

#[test]
fn an_event_comes_once_however_many_subscriptions_match() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    send(&mut router, &["a", "b"]);
    let epoch = epoch(&daemon);
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "a");
    send(&mut router, &["a", "b"]);
    assert_eq!(socket.event()["seq"], 3);
    // Event 3 has been brought by the subscription to topic a; 1, 2 and 4 have not.
    socket.call("subscribe", since(&epoch, 0, "*")).expect("a subscription");
    assert_eq!(replayed(&mut socket), pairs(&[("a", 1), ("b", 2), ("b", 4)]));
    socket.call("subscribe", since(&epoch, 1, "b")).expect("a subscription");
    socket.expect_no_event();
    send(&mut router, &["a", "b"]);
    let seqs = [socket.event()["seq"].clone(), socket.event()["seq"].clone()];
    assert_eq!(seqs, [json!(5), json!(6)]);
    socket.expect_no_event();
}

#[test]
fn the_parameters_go_together_and_with_one_router() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let cases = [
        (json!({"router": "r1", "topic": "*", "since": 1}), "epoch"),
        (json!({"router": "r1", "topic": "*", "epoch": "x"}), "since"),
        (json!({"router": "*", "topic": "*", "since": 1, "epoch": "x"}), "since"),
        (json!({"router": "*", "topic": "*", "since": 1}), "epoch"),
        (json!({"router": "r1", "topic": "*", "since": -1, "epoch": "x"}), "since"),
        (json!({"router": "r1", "topic": "*", "since": 1.5, "epoch": "x"}), "since"),
        (json!({"router": "r1", "topic": "*", "since": "1", "epoch": "x"}), "since"),
        (json!({"router": "r1", "topic": "*", "since": 1, "epoch": 7}), "epoch"),
    ];
    for (params, named) in cases {
        let error = socket.call("subscribe", params.clone()).expect_err("a refusal");
        assert_eq!(error["code"], -32602, "{params}: {error}");
        let detail = error["data"]["detail"].as_str().expect("a detail");
        assert!(detail.starts_with(named), "{params}: {detail}");
    }
    assert_eq!(Census::of(&daemon).live("subscription"), 0);
}

#[test]
fn in_a_batch_it_begins_behind_the_answer() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    send(&mut router, &["a"]);
    let epoch = epoch(&daemon);
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_json(&json!([
        {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": since(&epoch, 0, "*")},
        {"jsonrpc": "2.0", "id": 2, "method": "routers"},
    ]));
    let answer = socket.receive_json();
    assert_eq!(answer[0]["result"]["recovered"], true, "{answer}");
    assert_eq!(socket.event()["replayed"], true);
}

const LONG: usize = 30_000;
/// A history of up to 4 MB.
const BIG: &str = "shadow.history_bytes = 4000000\nwebsocket.app.notsent_lowat_bytes = 16384\n\
                   queue.soft_s = 0.3\nwebsocket.app.max_queued_bytes = 300000\nclose_grace_s = 0.3";

fn send_long(router: &mut Router, count: usize) {
    for _ in 0..count {
        router.send_message(&event("t", &json!("x".repeat(LONG))));
    }
    router.ping();
}

/// A client that has asked for all of `r1` and does not read yet.
fn stalled(daemon: &Daemon, epoch: &Value) -> (WebSocket, u64) {
    let subscriptions = Census::of(daemon).live("subscription");
    let mut socket = WebSocket::connect_small(daemon.app);
    let id = socket.start("subscribe", since(epoch, 0, "*"));
    wait_for_live(daemon, "subscription", subscriptions + 1, BOUND);
    (socket, id)
}

#[test]
fn a_replay_is_read_as_the_client_takes_it_and_live_events_wait_in_the_history() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    send_long(&mut router, 60);
    let (mut socket, id) = stalled(&daemon, &epoch(&daemon));
    // More than its queue may hold happens while it takes nothing, for longer than soft_s: it is not cut.
    send_long(&mut router, 40);
    router.expect_silence(Duration::from_millis(1000));
    let queued = get(daemon.http, "/v1/clients").json()["clients"][0]["queued_bytes"].clone();
    assert!(queued.as_u64().is_some_and(|bytes| bytes > 0 && bytes < 262_144 + 31_000), "{queued}");
    assert_eq!(socket.finish(id).expect("a subscription")["recovered"], true);
    for seq in 1..=100 {
        let event = socket.event();
        assert_eq!((&event["seq"], &event["replayed"]), (&json!(seq), &json!(true)));
    }
    send_long(&mut router, 1);
    let event = socket.event();
    assert_eq!((&event["seq"], event.get("replayed")), (&json!(101), None));
}

#[test]
fn a_history_that_moves_past_its_reader_says_so() {
    let daemon = Daemon::start(&format!("{BIG}\nshadow.history_events = 50"));
    let mut router = Router::bind(daemon.router, "r1");
    send_long(&mut router, 50);
    let epoch = epoch(&daemon);
    let (mut socket, id) = stalled(&daemon, &epoch);
    send_long(&mut router, 50);
    assert_eq!(socket.finish(id).expect("a subscription")["recovered"], true);
    let mut last = 0;
    let gap = loop {
        let event = socket.event();
        if event["gap"] == true {
            break event;
        }
        last += 1;
        assert_eq!(event["seq"], last);
    };
    assert!(last < 50, "it read all of it");
    let lost = gap["seq"].as_u64().expect("the last one that is lost");
    let expected = json!({"router": "r1", "topic": "berth.gap", "seq": lost, "epoch": epoch, "gap": true});
    assert_eq!(gap, expected);
    assert_eq!(lost, 50);
    for seq in lost + 1..=100 {
        assert_eq!(socket.event()["seq"], seq);
    }
    socket.expect_no_event();
}

#[test]
fn a_shadow_forgotten_during_a_replay_is_a_gap_with_the_new_epoch() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    send_long(&mut router, 50);
    let old = epoch(&daemon);
    let (mut socket, id) = stalled(&daemon, &old);
    assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1/shadow", &[], b"").status, 204);
    send(&mut router, &["new"]);
    assert_eq!(socket.finish(id).expect("a subscription")["recovered"], true);
    let gap = loop {
        let event = socket.event();
        if event["gap"] == true {
            break event;
        }
    };
    assert_eq!(gap["seq"], 0);
    assert_ne!(gap["epoch"], old);
    assert_eq!((&gap["epoch"], &socket.event()["seq"]), (&epoch(&daemon), &json!(1)));
}

#[test]
fn a_replay_may_be_ended_or_left_in_the_middle() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    send_long(&mut router, 60);
    let epoch = epoch(&daemon);
    let (leaves, _) = stalled(&daemon, &epoch);
    let (mut socket, id) = stalled(&daemon, &epoch);
    drop(leaves);
    wait_for_live(&daemon, "subscription", 1, BOUND);
    let subscription = socket.finish(id).expect("a subscription")["subscription"].clone();
    assert_eq!(socket.call("unsubscribe", json!({"subscription": subscription})), Ok(json!(true)));
    assert!(socket.kept_events().len() < 60, "all of it came");
    send(&mut router, &["live"]);
    socket.expect_no_event();
    let census = Census::audited(&daemon);
    assert_eq!((&census.0["audit"]["dangling"], census.live("subscription")), (&json!([]), 0));
}

#[test]
fn while_a_history_is_read_nothing_of_its_router_overtakes_it() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    send_long(&mut router, 30);
    let epoch = epoch(&daemon);
    let mut socket = WebSocket::connect_small(daemon.app);
    socket.subscribe("r1", "t");
    socket.subscribe("*", "*");
    let id = socket.start("subscribe", since(&epoch, 0, "*"));
    wait_for_live(&daemon, "subscription", 3, BOUND);
    send_long(&mut router, 10);
    assert_eq!(socket.finish(id).expect("a subscription")["recovered"], true);
    for seq in 1..=40 {
        assert_eq!(socket.event()["seq"], seq);
    }
    send(&mut router, &["live"]);
    assert_eq!(socket.event().get("replayed"), None);
    socket.expect_no_event();
}

#[test]
fn what_has_come_is_not_replayed_whatever_has_become_of_the_subscription() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "t");
    send(&mut router, &["t", "u", "t", "u"]);
    assert_eq!([socket.event()["seq"].clone(), socket.event()["seq"].clone()], [1, 3]);
    let epoch = epoch(&daemon);
    let second = socket.start("subscribe", since(&epoch, 0, "*"));
    let ended = socket.start("unsubscribe", json!({"subscription": 1}));
    for id in [second, ended] {
        socket.finish(id).expect("an answer");
    }
    assert_eq!(replayed(&mut socket), pairs(&[("u", 2), ("u", 4)]));

    // The same while it is being read, by one that joins: what was read ahead is not read to it again.
    let mut router = Router::bind(daemon.router, "r1");
    send_long(&mut router, 40);
    let (mut socket, first) = stalled(&daemon, &epoch);
    let second = socket.start("subscribe", since(&epoch, 0, "t"));
    let ended = socket.start("unsubscribe", json!({"subscription": 1}));
    for id in [first, second, ended] {
        socket.finish(id).expect("an answer");
    }
    socket.call("routers", json!({"limit": 1})).expect("routers");
    let mut seqs: Vec<u64> = socket.kept_events().iter().filter_map(|event| event["seq"].as_u64()).collect();
    while seqs.last() < Some(&44) {
        seqs.extend(socket.event()["seq"].as_u64());
    }
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    assert!((5..=44).all(|seq| seqs.contains(&seq)), "{seqs:?}");
}

#[test]
fn what_was_recovered_covers_no_retained_values_from_before() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send_message(&retain("kept", &json!("value")));
    send(&mut router, &["a"]);
    let epoch = epoch(&daemon);
    let mut socket = WebSocket::connect(daemon.app);
    socket.call("subscribe", since(&epoch, 1, "*")).expect("a subscription");
    assert_eq!(socket.event()["seq"], 2);
    socket.subscribe("r1", "kept");
    let value = socket.event();
    assert_eq!((&value["retained"], &value["seq"]), (&json!(true), &json!(1)));
    // An event that was replayed need not come as a value.
    let mut socket = WebSocket::connect(daemon.app);
    socket.call("subscribe", since(&epoch, 0, "*")).expect("a subscription");
    socket.subscribe("r1", "kept");
    assert_eq!(replayed(&mut socket), pairs(&[("kept", 1), ("a", 2)]));
}
