//! Contract section 4, the shadow: sequence numbers and retained values that outlive the session, bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, flag};
use conformance::http::request;
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

fn retain(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON | flag::RETAIN)
}

fn event(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON)
}

/// Subscribes a fresh client and returns epoch, seq, and the retained values by their topic.
#[track_caller]
fn snapshot(daemon: &Daemon, router: &str, topic: &str) -> (Value, Value, BTreeMap<String, Value>) {
    let mut socket = WebSocket::connect(daemon.app);
    let result = socket.subscribe(router, topic);
    let mut values = BTreeMap::new();
    // They are sent right behind the answer: what is not there before the next answer is not in the snapshot.
    socket.call("routers", json!({"limit": 1})).expect("routers");
    for event in socket.kept_events() {
        assert_eq!(event["retained"], true, "{event}");
        assert_eq!(event["router"], router);
        let value = values.insert(event["topic"].as_str().expect("a topic").to_owned(), event);
        assert!(value.is_none(), "twice: {value:?}");
    }
    (result["epoch"].clone(), result["seq"].clone(), values)
}

fn bodies(values: &BTreeMap<String, Value>) -> Value {
    values
        .iter()
        .map(|(topic, event)| (topic.clone(), event["body"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[track_caller]
fn forget(daemon: &Daemon, router: &str) {
    assert_eq!(request(daemon.http, "DELETE", &format!("/v1/routers/{router}/shadow"), &[], b"").status, 204);
}

/// Ends the session and waits until the daemon knows.
#[track_caller]
fn unbind(daemon: &Daemon, router: Router) {
    let live = Census::of(daemon).live("router");
    drop(router);
    wait_for_live(daemon, "router", live - 1, BOUND);
}

#[test]
fn a_retained_value_is_given_to_every_new_subscriber() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&event("plain", &json!(0)));
    router.send(&retain("state", &json!({"on": true})));
    router.send(&retain("level", &json!(5)));
    router.send(&Frame::event("raw", b"\0\xff".to_vec()).flags(flag::RETAIN));
    router.ping();
    let (_, seq, values) = snapshot(&daemon, "r1", "*");
    assert_eq!(seq, 4);
    assert_eq!(values.keys().collect::<Vec<_>>(), ["level", "raw", "state"]);
    let expected = |topic: &str, seq: u64, body: Value| json!({"router": "r1", "topic": topic, "seq": seq, "body": body, "retained": true});
    assert_eq!(values["state"], expected("state", 2, json!({"on": true})));
    assert_eq!(values["level"], expected("level", 3, json!(5)));
    let raw = json!({"router": "r1", "topic": "raw", "seq": 4, "body_base64": "AP8=", "retained": true});
    assert_eq!(values["raw"], raw);
    // One topic alone, and all routers.
    assert_eq!(snapshot(&daemon, "r1", "level").2.keys().collect::<Vec<_>>(), ["level"]);
    assert_eq!(snapshot(&daemon, "r1", "plain").2.len(), 0);
    let mut everywhere = WebSocket::connect(daemon.page);
    everywhere.subscribe("*", "state");
    assert_eq!(everywhere.event(), expected("state", 2, json!({"on": true})));
}

#[test]
fn the_answer_comes_before_the_retained_values_and_a_live_event_is_not_retained() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&retain("t", &json!(1)));
    router.ping();
    let mut socket = WebSocket::connect(daemon.app);
    let id = socket.start("subscribe", json!({"router": "r1", "topic": "t"}));
    assert_eq!(socket.receive_json()["id"], id);
    assert_eq!(socket.event()["retained"], true);
    router.send(&retain("t", &json!(2)));
    assert_eq!(socket.event(), json!({"router": "r1", "topic": "t", "seq": 2, "body": 2}));
}

#[test]
fn a_newer_value_takes_the_place_of_the_older_and_an_empty_one_clears_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut live = WebSocket::connect(daemon.app);
    live.subscribe("r1", "*");
    for n in 1..=3 {
        router.send(&retain("t", &json!(n)));
    }
    router.send(&event("t", &json!("not retained")));
    router.ping();
    let (_, seq, values) = snapshot(&daemon, "r1", "*");
    assert_eq!((seq, bodies(&values), &values["t"]["seq"]), (json!(4), json!({"t": 3}), &json!(3)));
    router.send(&Frame::event("t", "").flags(flag::RETAIN));
    router.ping();
    let (_, seq, values) = snapshot(&daemon, "r1", "*");
    assert_eq!((seq, values.len()), (json!(5), 0));
    // The watchers were told of each, in order.
    for body in [json!(1), json!(2), json!(3), json!("not retained")] {
        assert_eq!(live.event()["body"], body);
    }
    assert_eq!(live.event(), json!({"router": "r1", "topic": "t", "seq": 5, "body_base64": ""}));
    router.send(&retain("t", &json!("again")));
    router.ping();
    assert_eq!(bodies(&snapshot(&daemon, "r1", "t").2), json!({"t": "again"}));
}

#[test]
fn it_outlives_the_session_and_counts_on() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&retain("t", &json!(1)));
    router.send(&event("u", &json!(2)));
    router.ping();
    let (epoch, seq, _) = snapshot(&daemon, "r1", "t");
    assert!(epoch.is_string() && seq == 2);
    unbind(&daemon, router);
    let (gone_epoch, gone_seq, values) = snapshot(&daemon, "r1", "t");
    assert_eq!((&gone_epoch, &gone_seq, bodies(&values)), (&epoch, &seq, json!({"t": 1})));

    let mut router = Router::bind(daemon.router, "r1");
    router.send(&event("u", &json!(3)));
    router.ping();
    let (back_epoch, back_seq, values) = snapshot(&daemon, "r1", "t");
    assert_eq!((back_epoch, back_seq, bodies(&values)), (epoch.clone(), json!(3), json!({"t": 1})));
    // A takeover is the same router.
    let mut newcomer = Router::bind(daemon.router, "r1");
    newcomer.send(&event("u", &json!(4)));
    newcomer.ping();
    let (taken_epoch, taken_seq, values) = snapshot(&daemon, "r1", "t");
    assert_eq!((taken_epoch, taken_seq, bodies(&values)), (epoch, json!(4), json!({"t": 1})));
}

#[test]
fn delete_forgets_it_and_the_epoch_is_new() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut live = WebSocket::connect(daemon.app);
    live.subscribe("r1", "*");
    router.send(&retain("t", &json!(1)));
    router.send(&retain("u", &json!(2)));
    router.ping();
    let (epoch, _, _) = snapshot(&daemon, "r1", "*");
    // Of a bound router: it stays bound, and counts from 1 again.
    forget(&daemon, "r1");
    router.send(&retain("t", &json!(3)));
    router.ping();
    let (new_epoch, seq, values) = snapshot(&daemon, "r1", "*");
    assert!(new_epoch.is_string() && new_epoch != epoch);
    assert_eq!((seq, bodies(&values)), (json!(1), json!({"t": 3})));
    let seen: Vec<Value> = (0..3).map(|_| live.event()["seq"].clone()).collect();
    assert_eq!(seen, [json!(1), json!(2), json!(1)], "a watcher sees the new count");
    // Of one that has gone: nothing is left.
    unbind(&daemon, router);
    forget(&daemon, "r1");
    forget(&daemon, "r1");
    assert_eq!(snapshot(&daemon, "r1", "*"), (Value::Null, json!(0), BTreeMap::new()));
    let mut socket = WebSocket::connect(daemon.app);
    assert_eq!(socket.call("routers", json!({})).expect("routers")["routers"], json!([]));
}

#[test]
fn keep_s_is_how_long() {
    let daemon = Daemon::start("shadow.keep_s = 0.5");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&retain("t", &json!(1)));
    router.ping();
    let (epoch, _, _) = snapshot(&daemon, "r1", "t");
    unbind(&daemon, router);
    eventually("forgotten", BOUND, || snapshot(&daemon, "r1", "t").0.is_null().then_some(()));
    assert_eq!(snapshot(&daemon, "r1", "t"), (Value::Null, json!(0), BTreeMap::new()));
    // One that comes back in time is kept as long as it is bound, and the time begins anew.
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&retain("t", &json!(2)));
    router.ping();
    unbind(&daemon, router);
    let mut router = Router::bind(daemon.router, "r1");
    router.expect_silence(Duration::from_millis(1200));
    let (kept_epoch, seq, values) = snapshot(&daemon, "r1", "t");
    assert_eq!((seq, bodies(&values)), (json!(1), json!({"t": 2})));
    assert!(kept_epoch.is_string() && kept_epoch != epoch);
}

#[test]
fn keep_s_of_zero_lets_it_go_with_the_session() {
    let daemon = Daemon::start("shadow.keep_s = 0");
    for n in 0..3 {
        let mut router = Router::bind(daemon.router, "r1");
        router.send(&retain("t", &json!(n)));
        router.ping();
        let (epoch, seq, values) = snapshot(&daemon, "r1", "t");
        assert_eq!((epoch.is_string(), seq, bodies(&values)), (true, json!(1), json!({"t": n})));
        unbind(&daemon, router);
        assert_eq!(snapshot(&daemon, "r1", "t"), (Value::Null, json!(0), BTreeMap::new()));
        assert_eq!(Census::of(&daemon).live("shadow"), 0);
    }
}

#[test]
fn more_than_max_topics_is_delivered_and_not_kept() {
    let daemon = Daemon::start("shadow.max_topics = 2");
    let mut router = Router::bind(daemon.router, "r1");
    let mut live = WebSocket::connect(daemon.app);
    live.subscribe("r1", "*");
    for (topic, body) in [("a", 1), ("b", 2), ("c", 3), ("a", 4)] {
        router.send(&retain(topic, &json!(body)));
    }
    for body in 1..=4 {
        assert_eq!(live.event()["body"], body);
    }
    let (_, seq, values) = snapshot(&daemon, "r1", "*");
    assert_eq!((seq, bodies(&values)), (json!(4), json!({"a": 4, "b": 2})));
    // A topic that was cleared makes room.
    router.send(&Frame::event("b", "").flags(flag::RETAIN));
    router.send(&retain("c", &json!(5)));
    router.ping();
    assert_eq!(bodies(&snapshot(&daemon, "r1", "*").2), json!({"a": 4, "c": 5}));
    // It is each router's own limit.
    let mut other = Router::bind(daemon.router, "r2");
    other.send(&retain("x", &json!(1)));
    other.send(&retain("y", &json!(2)));
    other.ping();
    assert_eq!(bodies(&snapshot(&daemon, "r2", "*").2), json!({"x": 1, "y": 2}));
}

#[test]
fn more_than_max_bytes_is_delivered_and_removes_the_old_value() {
    let daemon = Daemon::start("shadow.max_bytes = 10000");
    let mut router = Router::bind(daemon.router, "r1");
    let mut live = WebSocket::connect(daemon.app);
    live.subscribe("r1", "*");
    let text = |length: usize| json!("x".repeat(length));
    router.send(&retain("a", &text(3000)));
    router.send(&retain("b", &text(3000)));
    router.ping();
    assert_eq!(snapshot(&daemon, "r1", "*").2.len(), 2);
    // Too much together with b: it cannot be kept, and what it was before is not true any more.
    router.send(&retain("a", &text(9000)));
    router.ping();
    assert_eq!(bodies(&snapshot(&daemon, "r1", "*").2), json!({"b": text(3000)}));
    router.send(&retain("a", &text(11_000)));
    router.send(&retain("b", &text(11_000)));
    router.ping();
    assert_eq!(snapshot(&daemon, "r1", "*").2.len(), 0);
    // What it gave back can be used again.
    router.send(&retain("a", &text(3000)));
    router.send(&retain("b", &text(3000)));
    router.ping();
    assert_eq!(snapshot(&daemon, "r1", "*").2.len(), 2);
    for length in [3000, 3000, 9000, 11_000, 11_000, 3000, 3000] {
        assert_eq!(live.event()["body"], text(length), "all of it is delivered");
    }
}

#[test]
fn the_longest_gone_is_dropped_first() {
    let daemon = Daemon::start("shadow.max_offline = 2");
    let mut bound = Router::bind(daemon.router, "bound");
    bound.send(&retain("t", &json!("bound")));
    bound.ping();
    let gone = |id: &str| {
        let mut router = Router::bind(daemon.router, id);
        router.send(&retain("t", &json!(id)));
        router.ping();
        unbind(&daemon, router);
    };
    let remembered = || {
        let mut socket = WebSocket::connect(daemon.app);
        let list = socket.call("routers", json!({})).expect("routers");
        let ids = list["routers"].as_array().expect("a list").iter().map(|entry| entry["router"].clone());
        ids.collect::<Vec<_>>()
    };
    gone("a");
    gone("b");
    assert_eq!(remembered(), ["a", "b", "bound"]);
    gone("c");
    assert_eq!(remembered(), ["b", "bound", "c"]);
    // The one that was gone longest comes back and goes again: now it is the shortest.
    gone("b");
    gone("d");
    assert_eq!(remembered(), ["b", "bound", "d"]);
    assert_eq!(bodies(&snapshot(&daemon, "b", "t").2), json!({"t": "b"}));
    assert_eq!(snapshot(&daemon, "a", "t"), (Value::Null, json!(0), BTreeMap::new()));
    assert_eq!(bodies(&snapshot(&daemon, "bound", "t").2), json!({"t": "bound"}));
}

#[test]
fn all_shadows_together_stay_under_max_total_bytes() {
    let daemon = Daemon::start("shadow.max_total_bytes = 100000");
    let mut live = WebSocket::connect(daemon.app);
    live.subscribe("*", "*");
    for n in 0..20 {
        let mut router = Router::bind(daemon.router, &format!("r{n:02}"));
        for topic in ["a", "b"] {
            router.send(&retain(topic, &json!("x".repeat(10_000))));
            assert_eq!(live.event()["seq"], if topic == "a" { 1 } else { 2 });
        }
        unbind(&daemon, router);
        let mut socket = WebSocket::connect(daemon.app);
        socket.subscribe("*", "*");
        socket.call("routers", json!({"limit": 1})).expect("routers");
        let kept: usize =
            socket.kept_events().iter().map(|event| event["body"].as_str().expect("text").len()).sum();
        assert!(kept > 0 && kept <= 100_000, "{kept} bytes are remembered");
    }
}
