//! Contract section 3: `POST /v1/events` publishes as if the router had sent it, bound or not.

use conformance::calls::Census;
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::http::{Client, request};
use conformance::router::Router;
use conformance::sse::{EventSource, publish};
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

#[track_caller]
fn accepted(daemon: &Daemon, event: &Value) {
    let response = publish(daemon.http, event);
    assert_eq!((response.status, response.body.len()), (202, 0), "{event}: {response:?}");
}

#[test]
fn it_is_as_if_the_router_had_sent_it() {
    let daemon = Daemon::start("");
    let mut app = WebSocket::connect(daemon.app);
    app.subscribe("r1", "*");
    let mut source = EventSource::connect(daemon.http, "?router=r1");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&Frame::event("t", "1").flags(flag::JSON));
    assert_eq!(app.event()["seq"], 1);
    accepted(&daemon, &json!({"router": "r1", "topic": "a/b", "body": {"on": [true, null]}}));
    let expected = json!({"router": "r1", "topic": "a/b", "seq": 2, "body": {"on": [true, null]}});
    assert_eq!(app.event(), expected);
    assert_eq!(source.blocks(2)[1].data, expected);
    router.send(&Frame::event("t", "2").flags(flag::JSON));
    assert_eq!(app.event()["seq"], 3);
}

#[test]
fn bodies_of_every_kind() {
    let daemon = Daemon::start("");
    let mut source = EventSource::connect(daemon.http, "");
    for (members, expected) in [
        (json!({"body": null}), json!({"body": null})),
        (json!({"body": "text"}), json!({"body": "text"})),
        (json!({"body": 1.50}), json!({"body": 1.50})),
        (json!({"body_base64": "AP8="}), json!({"body_base64": "AP8="})),
        (json!({"body_base64": ""}), json!({"body_base64": ""})),
        (json!({}), json!({"body_base64": ""})),
        (json!({"body": 1, "retain": false}), json!({"body": 1})),
    ] {
        let mut event = members;
        (event["router"], event["topic"]) = ("r1".into(), "t".into());
        accepted(&daemon, &event);
        let mut data = source.block().data;
        let data = data.as_object_mut().expect("an object");
        assert_eq!(data.remove("topic"), Some(json!("t")));
        assert!(data.remove("router").is_some() && data.remove("seq").is_some());
        assert_eq!(Value::Object(data.clone()), expected, "{event}");
    }
    // JSON passes as it was written.
    let text = r#"{"router":"r1","topic":"t","body":{"b": 1,  "a":1e3}}"#;
    assert_eq!(request(daemon.http, "POST", "/v1/events", &[], text.as_bytes()).status, 202);
    let mut client = Client::connect(daemon.http);
    client.send(format!(
        "GET /v1/events?router=r1 HTTP/1.0\r\nHost: {}\r\nLast-Event-ID: x\r\n\r\n",
        daemon.http
    ));
    client.head().expect("a head");
    assert_eq!(request(daemon.http, "POST", "/v1/events", &[], text.as_bytes()).status, 202);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(r#""body":{"b": 1,  "a":1e3}"#) {
        seen.extend(client.take(1).expect("more"));
    }
}

#[test]
fn retained_values_are_kept_and_cleared_of_routers_that_are_not_bound() {
    let daemon = Daemon::start("");
    accepted(&daemon, &json!({"router": "virtual", "topic": "state", "body": "on", "retain": true}));
    accepted(&daemon, &json!({"router": "virtual", "topic": "other", "body_base64": "AA==", "retain": true}));
    let census = Census::of(&daemon);
    assert_eq!(census.live("shadow"), 1);
    let mut app = WebSocket::connect(daemon.app);
    assert_eq!(app.subscribe("virtual", "state")["seq"], 2);
    let state = json!({"router": "virtual", "topic": "state", "seq": 1, "body": "on", "retained": true});
    assert_eq!(app.event(), state);
    let routers = app.call("routers", json!({})).expect("routers");
    assert_eq!(routers["routers"], json!([{"router": "virtual", "online": false}]));
    // Its counter goes on when the router comes.
    let mut router = Router::bind(daemon.router, "virtual");
    router.send(&Frame::event("state", "\"off\"").flags(flag::JSON));
    assert_eq!(app.event()["seq"], 3);
    accepted(&daemon, &json!({"router": "virtual", "topic": "state", "retain": true}));
    assert_eq!(app.event()["seq"], 4);
    let mut late = WebSocket::connect(daemon.app);
    late.subscribe("virtual", "*");
    assert_eq!(late.event()["topic"], "other");
    late.expect_no_event();
}

#[test]
fn with_keep_s_0_it_is_delivered_and_nothing_is_kept() {
    let daemon = Daemon::start("shadow.keep_s = 0");
    let mut source = EventSource::connect(daemon.http, "");
    for number in 1..=2 {
        accepted(&daemon, &json!({"router": "r1", "topic": "t", "body": 1, "retain": true}));
        let block = source.block();
        assert_eq!((block.number(), &block.data["seq"]), (number, &json!(1)));
    }
    assert_eq!(Census::audited(&daemon).live("shadow"), 0);
}

#[test]
fn what_is_wrong_is_named() {
    let daemon = Daemon::start("http.max_body_bytes = 3000000");
    let mut client = Client::connect(daemon.http);
    for (body, named) in [
        (r#"{"topic":"t"}"#, "router"),
        (r#"{"router":"r1"}"#, "topic"),
        (r#"{"router":"r/1","topic":"t"}"#, "router"),
        (r#"{"router":"*","topic":"t"}"#, "router"),
        (r#"{"router":"r1","topic":""}"#, "topic"),
        (r#"{"router":"r1","topic":"$presence"}"#, "topic"),
        (r#"{"router":"r1","topic":"*"}"#, "topic"),
        (r#"{"router":"r1","topic":1}"#, "topic"),
        (r#"{"router":"r1","topic":"t","body":1,"body_base64":"AA=="}"#, "body_base64"),
        (r#"{"router":"r1","topic":"t","body_base64":"?"}"#, "body_base64"),
        (r#"{"router":"r1","topic":"t","retain":"yes"}"#, "retain"),
        (r#"{"router":"r1","topic":"t","seq":1}"#, "seq"),
        (r#"{"router":"r1","topic":"t","topic":"t"}"#, "topic"),
        (r#"["r1","t"]"#, ""),
        (r#"{"router":"r1","topic":"t""#, ""),
        ("", ""),
    ] {
        let response = client.request("POST", "/v1/events", &[], body.as_bytes());
        let problem = response.problem(400, "bad_request");
        assert!(problem["detail"].as_str().expect("a detail").contains(named), "{body}: {problem}");
    }
    let problem = client.request("POST", "/v1/events?retain=1", &[], b"{}").problem(400, "bad_request");
    assert!(problem["detail"].as_str().expect("a detail").starts_with("retain"), "{problem}");
    // The payload has the limit of every message, and one byte less is published.
    let event =
        |length: usize| json!({"router": "r1", "topic": "t", "body": "x".repeat(length - 2)}).to_string();
    client.request("POST", "/v1/events", &[], event(1_048_577).as_bytes()).problem(413, "too_large");
    assert_eq!(client.request("POST", "/v1/events", &[], event(1_048_576).as_bytes()).status, 202);
    // The type of the content is not looked at.
    let plain = [("Content-Type", "text/plain")];
    assert_eq!(client.request("POST", "/v1/events", &plain, event(10).as_bytes()).status, 202);
}
