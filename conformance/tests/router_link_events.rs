//! Contract section 1: an EVENT arrives as it was sent, however it was cut and whatever came behind it.

use conformance::calls::barrier;
use conformance::daemon::Daemon;
use conformance::frame::{Frame, MAX_FRAGMENT, MAX_MESSAGE, flag, kind};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

/// A daemon with one who watches everything of the router `hub` but its presence.
fn watched() -> (Daemon, WebSocket) {
    let daemon = Daemon::start("");
    let mut watcher = WebSocket::connect(daemon.app);
    watcher.subscribe("hub", "*");
    (daemon, watcher)
}

/// A JSON string of exactly this many bytes.
fn json_text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length - 2))
}

fn json_event(topic: &str, value: &Value) -> Frame {
    Frame::event(topic, value.to_string()).flags(flag::JSON)
}

#[test]
fn events_arrive_in_order_with_their_numbers() {
    let (daemon, mut watcher) = watched();
    let mut router = Router::bind(daemon.router, "hub");
    for n in 0..500 {
        router.send(&json_event("count", &json!(n)));
    }
    for n in 0..500 {
        let event = watcher.event();
        assert_eq!((&event["router"], &event["topic"]), (&json!("hub"), &json!("count")));
        assert_eq!((&event["seq"], &event["body"]), (&json!(n + 1), &json!(n)));
        assert!(event.get("retained").is_none(), "{event}");
    }
}

#[test]
fn an_event_that_is_cut_anywhere_arrives_whole() {
    let (daemon, mut watcher) = watched();
    let mut router = Router::bind(daemon.router, "hub");
    let value = json!({"temperature": 21.5, "name": "Küche"});
    let bytes = json_event("state/kitchen", &value).encode();
    for cut in 1..bytes.len() {
        router.send_bytes(&bytes[..cut]);
        barrier(daemon.http);
        router.send_bytes(&bytes[cut..]);
        let event = watcher.event();
        assert_eq!((&event["topic"], &event["body"]), (&json!("state/kitchen"), &value), "cut at {cut}");
    }
}

#[test]
fn events_in_parts_are_put_together() {
    let (daemon, mut watcher) = watched();
    let mut router = Router::bind(daemon.router, "hub");
    for length in [MAX_FRAGMENT, MAX_FRAGMENT + 1, 5 * MAX_FRAGMENT, MAX_MESSAGE - 1, MAX_MESSAGE] {
        let text = json_text(length);
        router.send_message(&Frame::event("big", text.clone()).flags(flag::JSON));
        let event = watcher.event();
        assert!(event["body"].as_str().expect("a string") == &text[1..length - 1], "the body of {length}");
    }
    // Parts may be of any size, one byte too.
    let parts = json_event("small", &json!([1, 2, 3])).parts_of(1);
    router.send_bytes(&parts.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
    assert_eq!(watcher.event()["body"], json!([1, 2, 3]));
}

#[test]
fn system_frames_may_stand_between_the_parts_of_an_event() {
    let (daemon, mut watcher) = watched();
    let mut router = Router::bind(daemon.router, "hub");
    for part in json_event("slow", &json!("in parts")).parts_of(3) {
        router.send(&part);
        router.ping();
    }
    assert_eq!(watcher.event()["body"], "in parts");
}

#[test]
fn events_behind_hello_and_before_fin_count() {
    let (daemon, mut watcher) = watched();
    for n in 0..20 {
        let mut router = Router::connect(daemon.router);
        let frames = [Frame::hello("hub"), json_event("a", &json!(n)), json_event("b", &json!(n))];
        router.send_bytes(&frames.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
        router.finish_sending();
        for topic in ["a", "b"] {
            let event = watcher.event();
            assert_eq!((&event["topic"], &event["body"]), (&json!(topic), &json!(n)));
        }
        router.expect(kind::WELCOME);
        router.expect_fin();
    }
}

#[test]
fn events_before_a_fault_count_and_those_behind_do_not() {
    let (daemon, mut watcher) = watched();
    for last in [Frame::new(0x7f), Frame::bye("draining"), Frame::event("$x", "")] {
        let mut router = Router::bind(daemon.router, "hub");
        let frames = [json_event("before", &json!(1)), last, json_event("behind", &json!(2))];
        router.send_bytes(&frames.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
        assert_eq!(watcher.event()["topic"], "before");
        drop(router);
        watcher.expect_no_event();
    }
}

#[test]
fn half_an_event_is_no_event() {
    let (daemon, mut watcher) = watched();
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&Frame::event("half", "[1").flags(flag::JSON | flag::MORE));
    router.ping();
    router.finish_sending();
    router.expect_fin();
    watcher.expect_no_event();
    // The next session begins with nothing.
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&json_event("whole", &json!(true)));
    assert_eq!(watcher.event()["topic"], "whole");
}

#[test]
fn a_takeover_ends_the_old_ones_events() {
    let (daemon, mut watcher) = watched();
    let mut old = Router::bind(daemon.router, "hub");
    old.send(&json_event("old", &json!(1)));
    assert_eq!(watcher.event()["topic"], "old");
    let mut new = Router::bind(daemon.router, "hub");
    old.send(&json_event("too-late", &json!(2)));
    old.expect_end("takeover");
    new.send(&json_event("new", &json!(3)));
    let event = watcher.event();
    assert_eq!((&event["topic"], &event["seq"]), (&json!("new"), &json!(2)));
}

#[test]
fn bodies_are_json_only_when_the_flag_says_so_and_it_is_true() {
    let (daemon, mut watcher) = watched();
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&Frame::event("raw", "{}"));
    assert_eq!(watcher.event()["body_base64"], "e30=");
    router.send(&Frame::event("bad", "{").flags(flag::JSON));
    let event = watcher.event();
    assert_eq!((event.get("body"), &event["body_base64"]), (None, &json!("ew==")));
    router.send(&Frame::event("empty", ""));
    assert_eq!(watcher.event()["body_base64"], "");
}
