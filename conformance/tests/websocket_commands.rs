//! Contract section 4, the methods `command` and `routers`, and the error codes from -32001 on.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, flag};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

fn params(extra: Value) -> Value {
    let mut params = json!({"router": "r1", "name": "do", "timeout_ms": 60000});
    for (key, value) in extra.as_object().expect("an object") {
        params[key] = value.clone();
    }
    params
}

/// Asserts a JSON-RPC error with its code, `data.code` and `data.sent`.
#[track_caller]
fn assert_error(outcome: Result<Value, Value>, code: i64, name: &str, sent: bool) {
    let error = outcome.expect_err("an error");
    assert_eq!(error["code"], code, "{error}");
    assert_eq!((&error["data"]["code"], &error["data"]["sent"]), (&json!(name), &json!(sent)), "{error}");
}

#[test]
fn a_body_is_json_base64_or_nothing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let json_bodies =
        [json!({"a": [1, 2.5, "é", null]}), json!("text"), json!(0), json!(false), Value::Null, json!([])];
    for body in json_bodies {
        let call = socket.start("command", params(json!({"body": body})));
        let command = router.recv_command();
        assert_eq!((command.name_text(), command.flags), ("do", flag::JSON));
        assert_eq!(serde_json::from_slice::<Value>(&command.body).expect("JSON"), body);
        router.send(&Frame::reply(command.id, command.body).flags(flag::JSON));
        assert_eq!(socket.finish(call).expect("a reply"), json!({"body": body}));
    }
    for (base64, bytes) in [("AP8NCg==", &b"\0\xff\r\n"[..]), ("", b""), ("YQ==", b"a")] {
        let call = socket.start("command", params(json!({"body_base64": base64})));
        let command = router.recv_command();
        assert_eq!((command.flags, command.body.as_slice()), (0, bytes));
        router.send(&Frame::reply(command.id, command.body));
        assert_eq!(socket.finish(call).expect("a reply"), json!({"body_base64": base64}));
    }
    let call = socket.start("command", params(json!({})));
    let command = router.recv_command();
    assert_eq!((command.flags, command.body.len()), (0, 0));
    // What is flagged as JSON and is none goes out as bytes, as with events.
    router.send(&Frame::reply(command.id, "{broken").flags(flag::JSON));
    assert_eq!(socket.finish(call).expect("a reply"), json!({"body_base64": "e2Jyb2tlbg=="}));
}

#[test]
fn a_reply_of_any_length_comes_back() {
    let daemon = Daemon::start("websocket.app.max_message_bytes = 4000000");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    for length in [0_usize, 100, 20_000, 1_000_000] {
        let body = json!("x".repeat(length));
        let call = socket.start("command", params(json!({"body": body})));
        let command = router.recv_command();
        router.send_message(&Frame::reply(command.id, command.body).flags(flag::JSON));
        assert_eq!(socket.finish(call).expect("a reply")["body"], body);
    }
    // A command over the longest message of the router link cannot be carried.
    let error = socket.call("command", params(json!({"body": "x".repeat(1_048_577)}))).expect_err("too long");
    assert!(error["code"].as_i64().is_some_and(|code| code < 0), "{error}");
    router.ping();
}

#[test]
fn one_way_is_true_at_once() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.page);
    for n in 0..20 {
        let result = socket.call("command", json!({"router": "r1", "name": "w", "body": n, "oneway": true}));
        assert_eq!(result, Ok(json!(true)));
    }
    for n in 0..20 {
        let command = router.recv_command();
        assert_eq!((command.id, command.flags, command.body), (0, flag::JSON, n.to_string().into_bytes()));
    }
    // `false` is the awaited command.
    let call = socket.start("command", params(json!({"oneway": false})));
    let id = router.recv_command().id;
    assert_ne!(id, 0);
    router.send(&Frame::reply(id, ""));
    assert_eq!(socket.finish(call), Ok(json!({"body_base64": ""})));
    assert_eq!(Census::of(&daemon).live("pending_command"), 0);
}

#[test]
fn each_failure_has_its_code() {
    let daemon = Daemon::start("router.max_pending = 1");
    let mut socket = WebSocket::connect(daemon.app);
    assert_error(socket.call("command", params(json!({}))), -32001, "router_offline", false);
    assert_error(socket.call("command", params(json!({"oneway": true}))), -32001, "router_offline", false);

    let mut router = Router::bind(daemon.router, "r1");
    let call = socket.start("command", params(json!({"timeout_ms": 100})));
    router.recv_command();
    assert_error(socket.finish(call), -32002, "deadline_exceeded", true);

    let call = socket.start("command", params(json!({})));
    let id = router.recv_command().id;
    router.send(&Frame::reply(id, "\"no\"").flags(flag::ERROR | flag::JSON));
    let error = socket.finish(call).expect_err("an error");
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32003), &json!("router_error")), "{error}");

    let pending = socket.start("command", params(json!({})));
    router.recv_command();
    assert_error(socket.call("command", params(json!({}))), -32004, "router_busy", false);
    drop(router);
    assert_error(socket.finish(pending), -32006, "router_lost", true);
    wait_for_live(&daemon, "pending_command", 0, BOUND);
}

#[test]
fn more_than_max_pending_of_a_client_is_limit_exceeded() {
    let daemon = Daemon::start("websocket.app.max_pending = 2");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let first = socket.start("command", params(json!({})));
    let first_id = router.recv_command().id;
    let second = socket.start("command", params(json!({})));
    let second_id = router.recv_command().id;
    assert_error(socket.call("command", params(json!({}))), -32007, "limit_exceeded", false);
    // It is this client's limit, and one-way commands are not pending.
    assert_eq!(socket.call("command", params(json!({"oneway": true}))), Ok(json!(true)));
    router.recv_command();
    let mut other = WebSocket::connect(daemon.app);
    let others = other.start("command", params(json!({})));
    let others_id = router.recv_command().id;
    for id in [first_id, second_id, others_id] {
        router.send(&Frame::reply(id, id.to_string()));
    }
    assert!(socket.finish(first).is_ok() && socket.finish(second).is_ok() && other.finish(others).is_ok());
    let again = socket.start("command", params(json!({})));
    let id = router.recv_command().id;
    router.send(&Frame::reply(id, "ok"));
    assert!(socket.finish(again).is_ok());
}

#[test]
fn a_client_that_goes_takes_its_pending_commands_with_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    for _ in 0..3 {
        socket.start("command", params(json!({"timeout_ms": 600000})));
        router.recv_command();
    }
    assert_eq!(Census::of(&daemon).live("pending_command"), 3);
    drop(socket);
    wait_for_live(&daemon, "pending_command", 0, BOUND);
    // With a close frame as well.
    let mut socket = WebSocket::connect(daemon.app);
    socket.start("command", params(json!({"timeout_ms": 600000})));
    let id = router.recv_command().id;
    socket.send_close(1000, "");
    wait_for_live(&daemon, "pending_command", 0, BOUND);
    router.send(&Frame::reply(id, "to nobody"));
    router.ping();
    socket.expect_close(1000);
}

#[test]
fn a_batch_goes_with_its_client() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    for reply_to_one in [false, true] {
        let mut socket = WebSocket::connect(daemon.app);
        let call =
            |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "command", "params": params(json!({}))});
        socket.send_json(&json!([call(1), call(2), call(3)]));
        let ids = [(); 3].map(|()| router.recv_command().id);
        if reply_to_one {
            router.send(&Frame::reply(ids[1], "one of three"));
            wait_for_live(&daemon, "pending_command", 2, BOUND);
        }
        drop(socket);
        wait_for_live(&daemon, "pending_command", 0, BOUND);
        for id in ids {
            router.send(&Frame::reply(id, "to nobody"));
        }
        router.ping();
    }
    assert_eq!(Census::audited(&daemon).0["audit"]["dangling"], json!([]));
}

#[test]
fn one_id_used_twice_is_answered_twice() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let call = json!({"jsonrpc": "2.0", "id": "same", "method": "command", "params": params(json!({}))});
    socket.send_json(&call);
    socket.send_json(&call);
    let ids = [router.recv_command().id, router.recv_command().id];
    for (id, body) in [(ids[1], "2"), (ids[0], "1")] {
        router.send(&Frame::reply(id, body).flags(flag::JSON));
        let answer = socket.receive_json();
        assert_eq!((&answer["id"], answer["result"]["body"].to_string()), (&json!("same"), body.to_owned()));
    }
}

#[test]
fn routers_lists_bound_and_remembered_ones_in_pages() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    assert_eq!(socket.call("routers", json!({})), Ok(json!({"routers": [], "next": null})));
    let bound: Vec<Router> = ["a", "b1", "b3"].iter().map(|id| Router::bind(daemon.router, id)).collect();
    let mut gone = Router::bind(daemon.router, "b2");
    gone.send(&Frame::event("t", "1").flags(flag::JSON | flag::RETAIN));
    gone.ping();
    drop(gone);
    wait_for_live(&daemon, "router", 3, BOUND);
    let entry = |id: &str, online: bool| json!({"router": id, "online": online});
    let all = [entry("a", true), entry("b1", true), entry("b2", false), entry("b3", true)];
    assert_eq!(socket.call("routers", json!({})), Ok(json!({"routers": all, "next": null})));
    assert_eq!(socket.call("routers", json!({"prefix": "b"})).expect("a page")["routers"], json!(all[1..]));
    assert_eq!(
        socket.call("routers", json!({"prefix": "b", "after": "b1", "limit": 1})),
        Ok(json!({"routers": [all[2]], "next": "b2"}))
    );
    assert_eq!(
        socket.call("routers", json!({"after": "b2", "limit": 1000})).expect("a page")["routers"],
        json!(all[3..])
    );
    for limit in 1..=5 {
        let mut seen = Vec::new();
        let mut page = json!({"limit": limit});
        loop {
            let list = socket.call("routers", page.clone()).expect("a page");
            seen.extend(list["routers"].as_array().expect("a list").clone());
            if list["next"].is_null() {
                break;
            }
            page["after"] = list["next"].clone();
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    drop(bound);
}

#[test]
fn authenticate_is_no_way_past_open_mode() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    // It belongs to keys, which this version does not have; whatever it answers, the connection goes on.
    let _ = socket.call("authenticate", json!({"token": "x.y.z"}));
    socket.call("routers", json!({})).expect("routers");
}

#[test]
fn a_drain_refuses_new_commands_answers_the_pending_ones_and_closes_with_1001() {
    let mut daemon = Daemon::start("drain_s = 30");
    let mut router = Router::bind(daemon.router, "r1");
    let mut busy = WebSocket::connect(daemon.app);
    let mut idle = WebSocket::connect(daemon.page);
    idle.call("routers", json!({})).expect("routers");
    let pending = busy.start("command", params(json!({})));
    let id = router.recv_command().id;
    daemon.signal(15);
    idle.expect_close(1001);
    assert_error(busy.call("command", params(json!({}))), -32008, "draining", false);
    busy.call("routers", json!({})).expect("other calls are answered as ever");
    router.send(&Frame::reply(id, "still"));
    assert!(busy.finish(pending).is_ok());
    busy.expect_close(1001);
    router.expect_end("draining");
    drop((busy, idle, router));
    assert_eq!(daemon.wait_exit(BOUND).code(), Some(0));
}

#[test]
fn a_drain_that_takes_too_long_answers_draining() {
    let mut daemon = Daemon::start("drain_s = 0.3");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let pending = socket.start("command", params(json!({})));
    router.recv_command();
    daemon.signal(15);
    assert_error(socket.finish(pending), -32008, "draining", true);
    socket.expect_close(1001);
    router.expect_end("draining");
    drop((socket, router));
    assert_eq!(daemon.wait_exit(BOUND).code(), Some(0));
}

#[test]
fn commands_of_many_clients_find_their_way_back() {
    let daemon = Daemon::start("");
    let routers: Vec<_> = (0..5).map(|n| Router::bind(daemon.router, &format!("r{n}")).echo()).collect();
    let mut sockets: Vec<WebSocket> =
        (0..10).map(|n| WebSocket::connect(if n % 2 == 0 { daemon.app } else { daemon.page })).collect();
    for round in 0..20 {
        let calls: Vec<u64> = sockets
            .iter_mut()
            .enumerate()
            .map(|(n, socket)| {
                let router = format!("r{}", (n + round) % routers.len());
                socket.start(
                    "command",
                    json!({"router": router, "name": "echo", "body": [n, round], "timeout_ms": 20000}),
                )
            })
            .collect();
        for (n, (socket, call)) in sockets.iter_mut().zip(calls).enumerate() {
            assert_eq!(socket.finish(call), Ok(json!({"body": [n, round]})));
        }
    }
    eventually("nothing pending", BOUND, || (Census::of(&daemon).live("pending_command") == 0).then_some(()));
}
