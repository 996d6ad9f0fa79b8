//! Contract section 4, `$presence`: who is bound, told at once and at each change.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::Frame;
use conformance::http::request;
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

/// The body of the next event, which must be presence of `router`.
#[track_caller]
fn presence(socket: &mut WebSocket, router: &str, retained: bool) -> Value {
    let event = socket.event();
    assert_eq!((&event["router"], &event["topic"]), (&json!(router), &json!("$presence")), "{event}");
    assert_eq!(event.get("seq"), None, "without seq: {event}");
    assert_eq!(event.get("retained"), retained.then_some(&json!(true)), "{event}");
    assert!(event["body"].is_object(), "{event}");
    event["body"].clone()
}

#[track_caller]
fn assert_online(body: &Value) -> Value {
    assert_eq!(body["online"], true, "{body}");
    assert!(!body["session"].is_null(), "{body}");
    assert_eq!(body.get("reason"), None, "{body}");
    body["session"].clone()
}

#[track_caller]
fn assert_offline(body: &Value, reason: &str) {
    assert_eq!((&body["online"], &body["reason"]), (&json!(false), &json!(reason)), "{body}");
}

#[test]
fn a_named_router_is_told_at_once_bound_or_not() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "$presence");
    let made_up = presence(&mut socket, "r1", true);
    assert_eq!(made_up, json!({"online": false, "session": null}));
    // It costs nothing: nobody is remembered for having been asked about.
    assert_eq!(Census::of(&daemon).live("shadow"), 0);
    assert_eq!(socket.call("routers", json!({})).expect("routers")["routers"], json!([]));

    let _router = Router::bind(daemon.router, "r1");
    let session = assert_online(&presence(&mut socket, "r1", false));
    let listed = request(daemon.http, "GET", "/v1/routers/r1", &[], b"").json();
    assert_eq!(listed["session"], session);
    let mut later = WebSocket::connect(daemon.page);
    later.subscribe("r1", "$presence");
    assert_eq!(assert_online(&presence(&mut later, "r1", true)), session);
    socket.expect_no_event();
}

#[test]
fn all_routers_means_the_bound_ones() {
    let daemon = Daemon::start("");
    let mut gone = Router::bind(daemon.router, "gone");
    gone.send(&Frame::event("t", "x").flags(conformance::frame::flag::RETAIN));
    gone.ping();
    drop(gone);
    wait_for_live(&daemon, "router", 0, BOUND);
    let _bound = [Router::bind(daemon.router, "r1"), Router::bind(daemon.router, "r2")];
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "$presence");
    let mut told = vec![];
    for _ in 0..2 {
        let event = socket.event();
        assert_eq!((&event["retained"], &event["body"]["online"]), (&json!(true), &json!(true)), "{event}");
        told.push(event["router"].clone());
    }
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["r1", "r2"]);
    socket.expect_no_event();
    let _third = Router::bind(daemon.router, "r3");
    assert_online(&presence(&mut socket, "r3", false));
}

/// How a session comes to its end.
type End = fn(&Daemon, Router);

#[test]
fn going_offline_tells_why() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "$presence");
    presence(&mut socket, "r1", true);
    let ends: [(&str, End); 5] = [
        ("peer_closed", |_, router| drop(router)),
        ("peer_closed", |_, mut router| {
            router.send(&Frame::bye("done"));
            router.expect_fin();
        }),
        ("peer_reset", |_, router| router.reset()),
        ("kicked", |daemon, mut router| {
            request(daemon.http, "DELETE", "/v1/routers/r1", &[], b"");
            router.expect_end("kicked");
        }),
        ("protocol_error", |_, mut router| {
            router.send(&Frame::new(0x7f));
            router.expect_end("protocol_error");
        }),
    ];
    let mut sessions = Vec::new();
    for (reason, end) in ends {
        let router = Router::bind(daemon.router, "r1");
        let session = assert_online(&presence(&mut socket, "r1", false));
        assert!(!sessions.contains(&session), "{session} again");
        sessions.push(session);
        end(&daemon, router);
        assert_offline(&presence(&mut socket, "r1", false), reason);
    }
    socket.expect_no_event();
}

#[test]
fn a_takeover_is_one_online_with_the_new_session() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "$presence");
    let mut old = Router::bind(daemon.router, "r1");
    let first = assert_online(&presence(&mut socket, "r1", false));
    let mut new = Router::bind(daemon.router, "r1");
    let second = assert_online(&presence(&mut socket, "r1", false));
    assert_ne!(first, second);
    old.expect_end("takeover");
    drop(old);
    wait_for_live(&daemon, "router", 1, BOUND);
    new.ping();
    // Neither the end of the old one nor its last words say anything more.
    socket.expect_no_event();
    drop(new);
    assert_offline(&presence(&mut socket, "r1", false), "peer_closed");
    socket.expect_no_event();
}

#[test]
fn presence_comes_only_when_asked_for_by_name() {
    let daemon = Daemon::start("");
    let _there = Router::bind(daemon.router, "there");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "*");
    socket.subscribe("there", "*");
    let router = Router::bind(daemon.router, "r1");
    drop(router);
    wait_for_live(&daemon, "router", 1, BOUND);
    socket.expect_no_event();
}

#[test]
fn presence_comes_once_however_many_subscriptions_match() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "$presence");
    socket.subscribe("r1", "$presence");
    presence(&mut socket, "r1", true);
    let router = Router::bind(daemon.router, "r1");
    assert_online(&presence(&mut socket, "r1", false));
    socket.expect_no_event();
    drop(router);
    assert_offline(&presence(&mut socket, "r1", false), "peer_closed");
    socket.expect_no_event();
}

#[test]
fn presence_takes_no_sequence_number() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "*");
    for n in 1..=3 {
        let mut router = Router::bind(daemon.router, "r1");
        router.send(&Frame::event("t", "x"));
        assert_eq!(socket.event()["seq"], n);
        drop(router);
        wait_for_live(&daemon, "router", 0, BOUND);
    }
}

#[test]
fn events_before_the_end_come_before_the_offline() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "*");
    socket.subscribe("r1", "$presence");
    presence(&mut socket, "r1", true);
    for n in 1..=20 {
        let mut router = Router::bind(daemon.router, "r1");
        router.send(&Frame::event("t", "x"));
        drop(router);
        assert_online(&presence(&mut socket, "r1", false));
        assert_eq!(socket.event()["seq"], n);
        assert_offline(&presence(&mut socket, "r1", false), "peer_closed");
    }
}

#[test]
fn a_storm_of_comings_and_goings_ends_in_the_truth() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "$presence");
    let mut routers: Vec<Router> = Vec::new();
    for round in 0..5 {
        routers = (0..50).map(|n| Router::bind(daemon.router, &format!("r{n}"))).collect();
        if round < 4 {
            routers.drain(..25);
        }
    }
    routers.truncate(30);
    wait_for_live(&daemon, "router", 30, BOUND);
    socket.call("routers", json!({"limit": 1})).expect("routers");
    let mut online = std::collections::BTreeMap::new();
    for event in socket.kept_events() {
        online
            .insert(event["router"].as_str().expect("a router").to_owned(), event["body"]["online"] == true);
    }
    let truly = online.values().filter(|online| **online).count();
    assert_eq!((online.len(), truly), (50, 30));
    for n in 0..50 {
        assert_eq!(online[&format!("r{n}")], n < 30, "r{n}");
    }
}
