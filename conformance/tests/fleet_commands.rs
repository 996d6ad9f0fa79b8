//! Contract section 3, `POST /v1/commands/{name}`: exactly one line for each router, as it answers.

use std::time::{Duration, Instant};

use conformance::calls::{Census, command_in_background};
use conformance::daemon::Daemon;
use conformance::fleet::{FleetCall, bind_fleet, lines, problem, sorted};
use conformance::frame::{Frame, MAX_MESSAGE, flag};
use conformance::http::Client;
use conformance::router::Router;
use serde_json::json;

#[test]
fn each_router_is_asked_and_each_answer_is_a_line() {
    let daemon = Daemon::start("");
    let [mut a, mut b] = ["a", "b"].map(|id| Router::bind(daemon.router, id));
    let call = json!({ "routers": ["a", "b", "nobody"], "timeout_ms": 5000, "body": { "deep": [1, null] } });
    let mut call = FleetCall::send(daemon.http, "re:boot", &call);
    let [from_a, from_b] = [&mut a, &mut b].map(|router| {
        let command = router.recv_command();
        assert_eq!((command.name_text(), command.flags), ("re:boot", flag::JSON));
        assert_eq!(command.body, br#"{"deep":[1,null]}"#);
        command.id
    });
    call.head();
    assert_eq!(call.line(), problem("nobody", 404, "router_offline", false), "at once");
    b.send(&Frame::reply(from_b, " {\"n\" : 1e2} ").flags(flag::JSON));
    // The line is there while another is still awaited.
    assert_eq!(call.try_line().unwrap().unwrap(), br#"{"router":"b","status":200,"body": {"n" : 1e2} }"#);
    a.send(&Frame::reply(from_a, "{}").flags(flag::JSON | flag::ERROR));
    assert_eq!(
        call.try_line().unwrap().unwrap(),
        br#"{"router":"a","status":502,"code":"router_error","body":{}}"#
    );
    assert!(call.try_line().unwrap().is_none(), "the last chunk");
    // The connection goes on.
    assert_eq!(call.client.request("GET", "/healthz", &[], b"").status, 200);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn bodies_are_json_if_they_are_and_base64_if_not() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "a");
    for (flags, reply, line) in [
        (0, &b""[..], r#"{"router":"a","status":200,"body_base64":""}"#),
        (0, b"{}", r#"{"router":"a","status":200,"body_base64":"e30="}"#),
        (flag::JSON, b"null", r#"{"router":"a","status":200,"body":null}"#),
        (flag::JSON, b"{", r#"{"router":"a","status":200,"body_base64":"ew=="}"#),
        (flag::JSON, b"", r#"{"router":"a","status":200,"body_base64":""}"#),
        (flag::JSON, b"[1,\r\n2]\n", r#"{"router":"a","status":200,"body":[1,  2] }"#),
        (flag::ERROR, b"\xff", r#"{"router":"a","status":502,"code":"router_error","body_base64":"/w=="}"#),
    ] {
        let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": "*", "body_base64": "AP8=" }));
        let command = router.recv_command();
        assert_eq!((command.flags, &*command.body), (0, &b"\x00\xff"[..]));
        router.send(&Frame::reply(command.id, reply).flags(flags));
        call.head();
        assert_eq!(String::from_utf8(call.try_line().unwrap().unwrap()).unwrap(), line);
        assert!(call.rest().is_empty());
    }
}

#[test]
fn without_a_body_the_payload_is_empty_and_null_is_one() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "a");
    for (call, flags, body) in [
        (json!({ "routers": ["a"] }), 0, &b""[..]),
        (json!({ "routers": ["a"], "body": null }), flag::JSON, b"null"),
        (json!({ "routers": ["a"], "body_base64": "", "timeout_ms": null }), 0, b""),
    ] {
        let mut call = FleetCall::send(daemon.http, "x", &call);
        let command = router.recv_command();
        assert_eq!((command.flags, &*command.body), (flags, body));
        router.send(&Frame::reply(command.id, ""));
        call.head();
        assert_eq!(call.rest().len(), 1);
    }
}

#[test]
fn long_messages_go_both_ways() {
    let daemon = Daemon::start("http.max_body_bytes = 2000000");
    let _echo = Router::bind(daemon.router, "a").echo();
    let body = "x".repeat(MAX_MESSAGE - 2);
    let answer = lines(daemon.http, "x", &json!({ "routers": ["a"], "timeout_ms": 20000, "body": body }));
    assert_eq!(answer, [json!({ "router": "a", "status": 200, "body": body })]);
}

#[test]
fn who_is_named_twice_is_asked_once_and_a_bad_id_has_its_line() {
    let daemon = Daemon::start("");
    let _echo = Router::bind(daemon.router, "a").echo();
    let call = json!({ "routers": ["a", "", "a", "b c", "*", "a\"\n", "b c", "x".repeat(65)], "body": 7 });
    let bad = |id: &str| problem(id, 400, "bad_request", false);
    let mut expected = vec![bad(""), bad("b c"), bad("*"), bad("a\"\n"), bad(&"x".repeat(65))];
    expected.push(json!({ "router": "a", "status": 200, "body": 7 }));
    assert_eq!(sorted(lines(daemon.http, "x", &call)), sorted(expected));
}

#[test]
fn nobody_named_is_no_line() {
    let daemon = Daemon::start("");
    assert!(lines(daemon.http, "x", &json!({ "routers": [] })).is_empty());
    assert!(lines(daemon.http, "x", &json!({ "routers": "*" })).is_empty(), "nobody is bound");
}

#[test]
fn a_star_is_who_is_bound_at_the_start() {
    let daemon = Daemon::start("http.fleet_window = 1\nshadow.keep_s = 0");
    let mut first = Router::bind(daemon.router, "a");
    let second = Router::bind(daemon.router, "b");
    drop(Router::bind(daemon.router, "gone"));
    conformance::calls::wait_for_live(&daemon, "router", 2, Duration::from_secs(10));
    let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": "*", "timeout_ms": 10000 }));
    let id = first.recv_command().id;
    // Their turn has not come: one leaves, another comes.
    drop(second);
    let mut newcomer = Router::bind(daemon.router, "aa");
    conformance::calls::wait_for_live(&daemon, "router", 2, Duration::from_secs(10));
    first.send(&Frame::reply(id, "1").flags(flag::JSON));
    call.head();
    let expected =
        [json!({ "router": "a", "status": 200, "body": 1 }), problem("b", 404, "router_offline", false)];
    assert_eq!(call.rest(), expected);
    newcomer.ping();
}

#[test]
fn no_more_than_the_window_are_outstanding() {
    const COUNT: usize = 200;
    let daemon = Daemon::start("http.fleet_window = 16");
    let (mut routers, ids) = bind_fleet(daemon.router, COUNT);
    let mut call =
        FleetCall::send(daemon.http, "x", &json!({ "routers": "*", "timeout_ms": 60000, "body": 1 }));
    call.head();
    let mut asked: Vec<u32> = routers[..16].iter_mut().map(|router| router.recv_command().id).collect();
    for (number, id) in ids.iter().enumerate() {
        assert!(Census::of(&daemon).live("pending_command") <= 16);
        if let Some(next) = routers.get_mut(number + 16) {
            next.ping(); // it was not asked yet
        }
        routers[number].send(&Frame::reply(asked[number], "true").flags(flag::JSON));
        assert_eq!(call.line(), json!({ "router": id, "status": 200, "body": true }));
        if let Some(next) = routers.get_mut(number + 16) {
            asked.push(next.recv_command().id);
        }
    }
    assert!(call.rest().is_empty());
}

#[test]
fn a_busy_router_and_a_lost_one_have_their_lines() {
    let daemon = Daemon::start("router.max_pending = 1");
    let mut busy = Router::bind(daemon.router, "busy");
    let mut lost = Router::bind(daemon.router, "lost");
    let pending = command_in_background(daemon.http, "busy", "x", 60000, vec![]);
    let id = busy.recv_command().id;
    let call = json!({ "routers": ["lost", "busy"], "timeout_ms": 60000 });
    let mut call = FleetCall::send(daemon.http, "x", &call);
    call.head();
    assert_eq!(call.line(), problem("busy", 429, "router_busy", false));
    lost.recv_command();
    drop(lost);
    assert_eq!(call.line(), problem("lost", 503, "router_lost", true));
    assert!(call.rest().is_empty());
    busy.send(&Frame::reply(id, "done"));
    assert_eq!(pending.join().expect("the caller").text(), "done");
}

#[test]
fn the_deadline_is_that_of_the_whole_call() {
    let daemon = Daemon::start("http.fleet_window = 2");
    let (mut routers, ids) = bind_fleet(daemon.router, 5);
    let begun = Instant::now();
    let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": ids, "timeout_ms": 700 }));
    call.head();
    let late = routers[0].recv_command().id;
    let id = routers[1].recv_command().id;
    routers[1].send(&Frame::reply(id, "").flags(0));
    assert_eq!(call.line()["router"], ids[1]);
    routers[2].recv_command();
    let expected = [(0, true), (2, true), (3, false), (4, false)];
    let expected =
        expected.map(|(number, sent): (usize, bool)| problem(&ids[number], 504, "deadline_exceeded", sent));
    assert_eq!(sorted(call.rest()), expected);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(700) && waited < Duration::from_millis(2000), "{waited:?}");
    for router in &mut routers[3..] {
        router.ping(); // they were never asked
    }
    // A late reply falls on nothing.
    routers[0].send(&Frame::reply(late, "late"));
    routers[0].ping();
    assert_eq!(Census::of(&daemon).0["dropped"]["late_replies"], 1);
}

#[test]
fn http_1_0_has_its_lines_unchunked() {
    let daemon = Daemon::start("");
    let _echo = Router::bind(daemon.router, "a").echo();
    let body = r#"{"routers":["a","b"],"body":[]}"#;
    let mut client = Client::connect(daemon.http);
    client.send(format!("POST /v1/commands/x HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let head = client.head().expect("a head");
    assert_eq!(
        (head.status, head.header("transfer-encoding"), head.header("content-length")),
        (200, None, None)
    );
    assert!(head.closes());
    let text = String::from_utf8(client.read_to_close()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let offline = r#"{"router":"b","status":404,"code":"router_offline","sent":false}"#;
    assert_eq!(lines, [r#"{"router":"a","status":200,"body":[]}"#, offline]);
}

#[test]
fn a_pipelined_request_waits_behind_the_last_line() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "a");
    let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": ["a"], "timeout_ms": 20000 }));
    let id = router.recv_command().id;
    call.client.send_request("GET", "/healthz", &[], b"");
    call.head();
    call.client.expect_silence(Duration::from_millis(100));
    router.send(&Frame::reply(id, "").flags(0));
    assert_eq!(call.rest().len(), 1);
    assert_eq!(call.client.response().text(), "ok\n");
}
