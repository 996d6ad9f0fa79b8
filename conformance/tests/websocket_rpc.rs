//! JSON-RPC 2.0 as contract section 4 uses it: requests, notifications, batches, ids and errors.

use std::time::Duration;

use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::router::Router;
use conformance::websocket::{WebSocket, outcome};
use serde_json::{Value, json};

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

fn request(id: Value, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

#[track_caller]
fn error_of(response: &Value) -> i64 {
    outcome(response).expect_err("an error")["code"].as_i64().expect("a code")
}

/// Sends `text` and asserts one error object with this code and no id.
#[track_caller]
fn refused(socket: &mut WebSocket, text: &str, code: i64) {
    socket.send_text(text);
    let response = socket.receive_json();
    assert_eq!((error_of(&response), &response["id"]), (code, &Value::Null), "{text}: {response}");
}

#[test]
fn what_is_no_json_is_a_parse_error() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    for text in [
        "",
        " ",
        "{",
        "nonsense",
        "{\"jsonrpc\": \"2.0\", \"method\": \"foobar, \"params\": \"bar\", \"baz]",
        "[{\"jsonrpc\": \"2.0\", \"method\"",
        "{} {}",
        "{'a': 1}",
        "{\"a\": 01}",
        "\"\u{1}\"",
        "{\"a\":1,}",
        "[1,]",
        "nan",
    ] {
        refused(&mut socket, text, PARSE_ERROR);
    }
    // Of a batch that is no JSON as a whole, nothing is carried out.
    let mut router = Router::bind(daemon.router, "r1");
    let good = request(json!(1), "command", json!({"router": "r1", "name": "x", "oneway": true}));
    for text in
        ["[good,]", "[good good]", "[good]]", "[good", "[good, nonsense]", "[,good]", "[good} ", "[good]\0"]
    {
        refused(&mut socket, &text.replace("good", &good.to_string()), PARSE_ERROR);
    }
    router.ping();
    // Nested beyond reason: refused in one way or another, and nobody falls over.
    for text in ["[".repeat(60_000), "{\"a\":".repeat(10_000), "[".repeat(30_000) + &"]".repeat(30_000)] {
        socket.send_text(&text);
        let response = socket.receive_json();
        // As JSON it is a batch of one that is no request.
        let error = response.get(0).unwrap_or(&response);
        assert!(matches!(error_of(error), PARSE_ERROR | INVALID_REQUEST), "{response}");
    }
    socket.call("routers", json!({})).expect("routers");
}

#[test]
fn what_is_no_request_is_an_invalid_request() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    for text in [
        "{}",
        "1",
        "\"routers\"",
        "null",
        "true",
        "[]",
        "{\"jsonrpc\": \"2.0\", \"method\": 1, \"params\": \"bar\"}",
    ] {
        refused(&mut socket, text, INVALID_REQUEST);
    }
    // Where the id could be read, giving it back is as good as null.
    for value in [
        json!({"jsonrpc": "2.0", "id": 7}),
        json!({"jsonrpc": "1.0", "id": 7, "method": "routers"}),
        json!({"id": 7, "method": "routers"}),
        json!({"jsonrpc": 2.0, "id": 7, "method": "routers"}),
        json!({"jsonrpc": "2.0", "id": 7, "method": null}),
        json!({"jsonrpc": "2.0", "id": 7, "method": ["routers"]}),
        json!({"jsonrpc": "2.0", "id": 7, "result": true}),
    ] {
        socket.send_json(&value);
        let response = socket.receive_json();
        assert_eq!(error_of(&response), INVALID_REQUEST, "{value}: {response}");
        assert!(response["id"] == 7 || response["id"].is_null(), "{response}");
    }
    for id in [json!({}), json!([]), json!([1]), json!(true)] {
        socket.send_json(&request(id, "routers", json!({})));
        let response = socket.receive_json();
        assert_eq!((error_of(&response), &response["id"]), (INVALID_REQUEST, &Value::Null), "{response}");
    }
    for params in [json!(5), json!("all"), json!(true)] {
        socket.send_json(&request(json!(1), "routers", params));
        assert!(matches!(error_of(&socket.receive_json()), INVALID_REQUEST | INVALID_PARAMS));
    }
}

#[test]
fn an_id_of_any_kind_comes_back_as_it_was() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let ids = [
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("a\"b\\c\n\u{0}é😀</script>"),
        json!("x".repeat(100)),
        Value::Null,
    ];
    for id in ids {
        socket.send_json(&request(id.clone(), "routers", json!({})));
        let response = socket.receive_json();
        assert_eq!(response["id"], id);
        outcome(&response).expect("a result");
        socket.send_json(&request(id.clone(), "nothing", json!({})));
        let response = socket.receive_json();
        assert_eq!((error_of(&response), &response["id"]), (METHOD_NOT_FOUND, &id));
    }
}

#[test]
fn a_method_that_is_unknown_is_not_found() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    for method in ["", "Subscribe", "subscribe ", "rpc.discover", "event", "publish"] {
        let error = socket.call(method, json!({})).expect_err("an error");
        assert_eq!(error["code"], METHOD_NOT_FOUND, "{method}");
    }
}

#[test]
fn bad_params_are_invalid_params() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let long_id = "x".repeat(65);
    let long_topic = "x".repeat(129);
    let bad = [
        ("subscribe", json!({})),
        ("subscribe", json!({"router": "r1"})),
        ("subscribe", json!({"topic": "t"})),
        ("subscribe", json!({"router": 1, "topic": "t"})),
        ("subscribe", json!({"router": "r1", "topic": null})),
        ("subscribe", json!({"router": "", "topic": "t"})),
        ("subscribe", json!({"router": "r 1", "topic": "t"})),
        ("subscribe", json!({"router": "r/1", "topic": "t"})),
        ("subscribe", json!({"router": long_id, "topic": "t"})),
        ("subscribe", json!({"router": "r*", "topic": "t"})),
        ("subscribe", json!({"router": "r1", "topic": ""})),
        ("subscribe", json!({"router": "r1", "topic": "a b"})),
        ("subscribe", json!({"router": "r1", "topic": "a/*"})),
        ("subscribe", json!({"router": "r1", "topic": long_topic})),
        ("subscribe", json!(["r1", "t"])),
        ("unsubscribe", json!({})),
        ("unsubscribe", json!({"subscription": 1})),
        ("unsubscribe", json!({"subscription": 4_294_967_296_u64})),
        ("unsubscribe", json!({"subscription": -1})),
        ("unsubscribe", json!({"subscription": "1"})),
        ("command", json!({})),
        ("command", json!({"router": "r1"})),
        ("command", json!({"name": "x"})),
        ("command", json!({"router": "*", "name": "x"})),
        ("command", json!({"router": "r1", "name": "a/b"})),
        ("command", json!({"router": "r1", "name": ""})),
        ("command", json!({"router": "r1", "name": long_id})),
        ("command", json!({"router": "r1", "name": "x", "body": 1, "body_base64": "AA=="})),
        ("command", json!({"router": "r1", "name": "x", "body_base64": "not base64!"})),
        ("command", json!({"router": "r1", "name": "x", "body_base64": 5})),
        ("command", json!({"router": "r1", "name": "x", "timeout_ms": 0})),
        ("command", json!({"router": "r1", "name": "x", "timeout_ms": 600_001})),
        ("command", json!({"router": "r1", "name": "x", "timeout_ms": -1})),
        ("command", json!({"router": "r1", "name": "x", "timeout_ms": 1.5})),
        ("command", json!({"router": "r1", "name": "x", "timeout_ms": "1000"})),
        ("command", json!({"router": "r1", "name": "x", "oneway": "yes"})),
        ("routers", json!({"limit": 0})),
        ("routers", json!({"limit": 1001})),
        ("routers", json!({"limit": "10"})),
        ("routers", json!({"prefix": 5})),
        ("routers", json!({"after": 5})),
    ];
    for (method, params) in bad {
        let error = socket.call(method, params.clone()).expect_err(&format!("{method} {params}"));
        assert_eq!(error["code"], INVALID_PARAMS, "{method} {params}: {error}");
    }
    // The router has seen none of it.
    router.ping();
}

#[test]
fn a_notification_is_carried_out_and_never_answered() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_json(&notification("nothing", json!({})));
    socket.send_json(&notification("subscribe", json!({})));
    socket.send_json(&notification("command", json!({"router": "r1", "name": "one-way", "oneway": true})));
    socket
        .send_json(&notification("command", json!({"router": "r1", "name": "awaited", "timeout_ms": 60000})));
    socket.send_json(&notification("subscribe", json!({"router": "r1", "topic": "t"})));
    socket.call("routers", json!({})).expect("the next thing to be said");
    let mut names = [router.recv_command(), router.recv_command()];
    names.sort_by_key(|command| command.name.clone());
    assert_eq!(names.each_ref().map(Frame::name_text), ["awaited", "one-way"]);
    if names[0].id != 0 {
        router.send(&Frame::reply(names[0].id, "unread"));
    }
    router.send(&Frame::event("t", "1").flags(flag::JSON));
    assert_eq!(socket.event()["body"], 1);
    socket.expect_no_event();
}

#[test]
fn calls_are_answered_when_they_are_done_not_in_turn() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let slow = socket.start("command", json!({"router": "r1", "name": "slow", "timeout_ms": 60000}));
    let id = router.recv_command().id;
    socket.call("routers", json!({})).expect("routers");
    router.send(&Frame::reply(id, "done"));
    assert_eq!(socket.finish(slow).expect("a reply"), json!({"body_base64": "ZG9uZQ=="}));
}

#[test]
fn a_batch_is_answered_as_one() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_json(&json!([
        request(json!("a"), "routers", json!({})),
        notification("routers", json!({})),
        request(json!("b"), "nothing", json!({})),
        {"foo": "boo"},
        request(json!("c"), "subscribe", json!({})),
        17,
        [request(json!("inner"), "routers", json!({}))],
        request(json!("d"), "subscribe", json!({"router": "r1", "topic": "t"})),
    ]));
    let answer = socket.receive_json();
    let responses = answer.as_array().expect("an array");
    assert_eq!(responses.len(), 7, "{answer}");
    let of = |id: &str| responses.iter().find(|response| response["id"] == id).expect("an answer");
    outcome(of("a")).expect("routers");
    assert_eq!(error_of(of("b")), METHOD_NOT_FOUND);
    assert_eq!(error_of(of("c")), INVALID_PARAMS);
    outcome(of("d")).expect("a subscription");
    let invalid: Vec<_> = responses.iter().filter(|response| response["id"].is_null()).collect();
    assert_eq!(invalid.len(), 3, "{answer}");
    assert!(invalid.iter().all(|response| error_of(response) == INVALID_REQUEST));
    socket.expect_no_event();
}

#[test]
fn a_batch_is_of_one_to_sixteen() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let batch =
        |count: usize| -> Value { (0..count).map(|n| request(json!(n), "routers", json!({}))).collect() };
    for count in [1, 16] {
        socket.send_json(&batch(count));
        assert_eq!(socket.receive_json().as_array().expect("an array").len(), count);
    }
    for count in [17, 100] {
        refused(&mut socket, &batch(count).to_string(), INVALID_REQUEST);
    }
    refused(&mut socket, "[]", INVALID_REQUEST);
    socket.send_text("[1, 2]");
    let answer = socket.receive_json();
    let codes: Vec<i64> = answer.as_array().expect("an array").iter().map(error_of).collect();
    assert_eq!(codes, [INVALID_REQUEST; 2]);
    // Notifications alone have no answer, and too many of them are one error all the same.
    let silent: Value = (0..16).map(|_| notification("routers", json!({}))).collect();
    socket.send_json(&silent);
    socket.call("routers", json!({})).expect("the next thing to be said");
    let too_many: Value = (0..17).map(|_| notification("routers", json!({}))).collect();
    refused(&mut socket, &too_many.to_string(), INVALID_REQUEST);
}

#[test]
fn a_batch_with_commands_is_answered_when_all_are_done() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let command = |id: u32, timeout: u32| {
        request(
            json!(id),
            "command",
            json!({"router": "r1", "name": format!("c{id}"), "timeout_ms": timeout}),
        )
    };
    let oneway = request(json!(9), "command", json!({"router": "r1", "name": "w", "oneway": true}));
    socket.send_json(&json!([
        command(1, 60000),
        command(2, 300),
        request(json!(3), "routers", json!({})),
        command(4, 60000),
        oneway
    ]));
    let mut ids = std::collections::HashMap::new();
    for _ in 0..4 {
        let frame = router.recv_command();
        ids.insert(frame.name_text().to_owned(), frame.id);
    }
    assert_eq!(ids["w"], 0);
    router.send(&Frame::reply(ids["c4"], "4"));
    socket.set_patience(Duration::from_millis(600));
    assert!(socket.try_receive().is_err(), "a part of the batch was answered");
    socket.set_patience(conformance::http::PATIENCE);
    // Other calls are not held up by it.
    socket.call("routers", json!({})).expect("routers");
    router.send(&Frame::reply(ids["c1"], "1"));
    let answer = socket.receive_json();
    let responses = answer.as_array().expect("an array");
    assert_eq!(responses.len(), 5, "{answer}");
    let of = |id: u32| outcome(responses.iter().find(|response| response["id"] == id).expect("an answer"));
    assert_eq!(of(1).expect("a reply"), json!({"body_base64": "MQ=="}));
    let late = of(2).expect_err("too late");
    assert_eq!((&late["code"], &late["data"]["code"]), (&json!(-32002), &json!("deadline_exceeded")));
    of(3).expect("routers");
    assert_eq!(of(4).expect("a reply"), json!({"body_base64": "NA=="}));
    assert_eq!(of(9).expect("at once"), json!(true));
}

#[test]
fn a_subscription_in_a_batch_begins_behind_its_answer() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&Frame::event("kept", "1").flags(flag::JSON | flag::RETAIN));
    router.ping();
    let mut socket = WebSocket::connect(daemon.app);
    socket.send_json(&json!([
        request(json!(1), "subscribe", json!({"router": "r1", "topic": "*"})),
        request(json!(2), "subscribe", json!({"router": "r1", "topic": "$presence"})),
        request(json!(3), "command", json!({"router": "r1", "name": "x", "timeout_ms": 60000})),
    ]));
    let id = router.recv_command().id;
    router.send(&Frame::event("live", "2").flags(flag::JSON));
    router.ping();
    router.send(&Frame::reply(id, "ok"));
    let answer = socket.receive_json();
    assert_eq!(answer.as_array().map(Vec::len), Some(3), "the batch's answer comes first: {answer}");
    let mut topics = vec![socket.event()["topic"].clone(), socket.event()["topic"].clone()];
    topics.sort_by_key(ToString::to_string);
    assert_eq!(topics, ["$presence", "kept"]);
    router.send(&Frame::event("live", "3").flags(flag::JSON));
    // Whether the event in between belongs to it is not said; one after the answer does.
    let mut event = socket.event();
    if event["body"] == 2 {
        event = socket.event();
    }
    assert_eq!(event["body"], 3);
}
