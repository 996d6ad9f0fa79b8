//! Contract section 4: retained values are read from the shadow as the client takes them, and what happens meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::http::{get, request};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

/// A shadow of 1.8 MB, far more than a stalled client is sent ahead.
const TOPICS: usize = 30;
const BIG: &str =
    "shadow.max_bytes = 4000000\nwebsocket.app.notsent_lowat_bytes = 16384\nclose_grace_s = 0.3";

fn retain(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON | flag::RETAIN)
}

fn event(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON)
}

fn value(topic: usize, round: usize) -> Value {
    json!([topic, round, "x".repeat(60_000)])
}

fn fill(router: &mut Router) {
    for topic in 0..TOPICS {
        router.send_message(&retain(&format!("t{topic:02}"), &value(topic, 0)));
    }
    router.ping();
}

/// A client that has subscribed to everything of `r1` and has not read anything yet.
fn stalled(daemon: &Daemon) -> (WebSocket, u64) {
    let subscriptions = Census::of(daemon).live("subscription");
    let mut socket = WebSocket::connect_small(daemon.app);
    let id = socket.start("subscribe", json!({"router": "r1", "topic": "*"}));
    wait_for_live(daemon, "subscription", subscriptions + 1, BOUND);
    (socket, id)
}

#[test]
fn a_big_snapshot_is_read_as_the_client_takes_it_and_never_goes_back() {
    let daemon =
        Daemon::start(&format!("{BIG}\nqueue.soft_s = 0.3\nwebsocket.app.max_queued_bytes = 600000"));
    let mut router = Router::bind(daemon.router, "r1");
    fill(&mut router);
    let (mut socket, id) = stalled(&daemon);
    // 1.8 MB wait for a client that takes nothing for far longer than soft_s: retained values are no slowness.
    router.expect_silence(Duration::from_millis(1500));
    assert_eq!(Census::of(&daemon).live("subscription"), 1, "it was cut");
    // They are read at most 256 KiB ahead, to the end of one value.
    let queued = get(daemon.http, "/v1/clients").json()["clients"][0]["queued_bytes"].clone();
    assert!(queued.as_u64().is_some_and(|bytes| bytes > 0 && bytes < 262_144 + 61_000), "{queued}");
    // New values overtake those that have not been read from the shadow yet.
    for topic in [0, 15, 29] {
        router.send_message(&retain(&format!("t{topic:02}"), &value(topic, 1)));
    }
    router.ping();
    let result = socket.finish(id).expect("a subscription");
    assert_eq!(result["seq"], TOPICS);
    let mut latest: BTreeMap<String, (u64, Value)> = BTreeMap::new();
    let is_over = |latest: &BTreeMap<String, (u64, Value)>| {
        latest.len() == TOPICS && ["t00", "t15", "t29"].iter().all(|topic| latest[*topic].1[1] == 1)
    };
    while !is_over(&latest) {
        let event = socket.event();
        let topic = event["topic"].as_str().expect("a topic").to_owned();
        let seq = event["seq"].as_u64().expect("a number");
        if let Some((before, _)) = latest.insert(topic, (seq, event["body"].clone())) {
            assert!(seq > before, "{before} before {seq}");
        }
    }
    // Nothing older comes behind it.
    socket.expect_no_event();
    router.send(&event("t00", &json!("last")));
    assert_eq!(socket.event()["body"], "last");
}

#[test]
fn a_second_subscription_does_not_bring_an_older_value() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "*");
    router.send(&retain("t", &json!("kept")));
    router.send(&event("t", &json!("newer, not kept")));
    assert_eq!(socket.event()["seq"], 1);
    assert_eq!(socket.event()["seq"], 2);
    // Its retained value has a seq that is not above the last one sent for this router and topic.
    socket.subscribe("r1", "t");
    socket.expect_no_event();
}

#[test]
fn an_unsubscribe_ends_the_snapshot() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    fill(&mut router);
    let (mut socket, id) = stalled(&daemon);
    let subscription = socket.finish(id).expect("a subscription")["subscription"].clone();
    assert_eq!(socket.call("unsubscribe", json!({"subscription": subscription})), Ok(json!(true)));
    // What had been queued came before the answer; nothing comes behind it.
    let seen = socket.kept_events().len();
    assert!(seen < TOPICS, "all of it came");
    router.send(&event("t00", &json!("live")));
    router.ping();
    socket.expect_no_event();
    assert_eq!(Census::audited(&daemon).0["audit"]["dangling"], json!([]));
}

#[test]
fn a_client_may_leave_in_the_middle_of_a_snapshot() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    fill(&mut router);
    for round in 0..5 {
        let (socket, _) = stalled(&daemon);
        if round % 2 == 0 {
            router.send_message(&retain("t29", &value(29, round)));
            router.ping();
        }
        drop(socket);
        wait_for_live(&daemon, "app", 0, BOUND);
        let census = Census::audited(&daemon);
        assert_eq!((census.live("subscription"), census.live("queued_frame")), (0, 0));
        assert_eq!(census.0["audit"]["dangling"], json!([]));
    }
    router.ping();
}

#[test]
fn a_shadow_may_go_in_the_middle_of_a_snapshot() {
    let daemon = Daemon::start(BIG);
    for unbound in [false, true] {
        let mut router = Router::bind(daemon.router, "r1");
        fill(&mut router);
        let (mut socket, id) = stalled(&daemon);
        let router = if unbound {
            drop(router);
            wait_for_live(&daemon, "router", 0, BOUND);
            None
        } else {
            Some(router)
        };
        assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1/shadow", &[], b"").status, 204);
        socket.finish(id).expect("a subscription");
        // What was sent ahead still comes; the rest is forgotten, and the subscription lives on.
        let mut router = router.unwrap_or_else(|| Router::bind(daemon.router, "r1"));
        router.send(&event("new", &json!("after")));
        let mut seen = 0;
        loop {
            let event = socket.event();
            if event["topic"] == "new" {
                assert_eq!((&event["seq"], &event["body"]), (&json!(1), &json!("after")));
                break;
            }
            assert_eq!(event["retained"], true);
            seen += 1;
        }
        assert!(seen < TOPICS, "{seen} values of a shadow that is gone");
        drop((socket, router));
        wait_for_live(&daemon, "router", 0, BOUND);
        wait_for_live(&daemon, "app", 0, BOUND);
        assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1/shadow", &[], b"").status, 204);
    }
    assert_eq!(Census::audited(&daemon).0["audit"]["dangling"], json!([]));
}

#[test]
fn two_snapshots_at_once_bring_each_value_once_or_newer() {
    let daemon = Daemon::start(BIG);
    let mut router = Router::bind(daemon.router, "r1");
    fill(&mut router);
    let (mut socket, first) = stalled(&daemon);
    let second = socket.start("subscribe", json!({"router": "*", "topic": "*"}));
    wait_for_live(&daemon, "subscription", 2, BOUND);
    router.send_message(&retain("t20", &value(20, 1)));
    router.send(&Frame::event("t21", "").flags(flag::RETAIN));
    router.send(&event("end", &json!(0)));
    router.ping();
    socket.finish(first).expect("a subscription");
    socket.finish(second).expect("a subscription");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut note = |event: &Value| {
        let topic = event["topic"].as_str().expect("a topic").to_owned();
        let seq = event["seq"].as_u64().expect("a number");
        if let Some(before) = last.insert(topic, seq) {
            assert!(seq > before, "{before} before {seq}");
        }
        last.len()
    };
    // 30 topics and `end`, each at its newest in the end.
    while note(&socket.event()) < TOPICS + 1 {}
    socket.call("routers", json!({})).expect("routers");
    for event in socket.kept_events() {
        note(&event);
    }
    assert_eq!((last["t20"], last["t21"], last["end"]), (31, 32, 33));
}

#[test]
fn all_retained_values_of_many_routers_come() {
    let daemon = Daemon::start("");
    let mut routers: Vec<Router> =
        (0..300).map(|n| Router::bind(daemon.router, &format!("r{n:03}"))).collect();
    for router in &mut routers {
        router.send(&retain("a", &json!("x".repeat(2000))));
        router.send(&retain("b", &json!("y".repeat(2000))));
        router.ping();
    }
    // Half of them are only remembered.
    routers.truncate(150);
    wait_for_live(&daemon, "router", 150, BOUND);
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "*");
    let mut seen: Vec<(String, String)> = (0..600)
        .map(|_| {
            let event = socket.event();
            assert_eq!(event["retained"], true);
            let text = |member: &str| event[member].as_str().expect("text").to_owned();
            (text("router"), text("topic"))
        })
        .collect();
    socket.expect_no_event();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 600);
    socket.subscribe("*", "$presence");
    let mut online: Vec<Value> = (0..150).map(|_| socket.event()["router"].clone()).collect();
    socket.expect_no_event();
    online.sort_by_key(ToString::to_string);
    online.dedup();
    assert_eq!(online.len(), 150);
}
