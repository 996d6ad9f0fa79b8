//! Contract section 7: SIGTERM and SIGINT drain in three steps.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use conformance::calls::{
    Census, command, command_in_background, oneway, wait_for_drain, wait_for_live, wait_for_reason,
};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, kind};
use conformance::http::{self, Client, PATIENCE};
use conformance::router::{Dial, Router};
use conformance::websocket::{Message, WebSocket};
use serde_json::json;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// A daemon that drains and is held by one pending command of the router that is returned.
struct Held {
    daemon: Daemon,
    router: Router,
    caller: std::thread::JoinHandle<http::Response>,
}

/// `before` runs while the command is pending already, and the signal has not come yet.
fn held<T>(config: &str, before: impl FnOnce(&Daemon) -> T) -> (Held, T) {
    let daemon = Daemon::start(&format!("close_grace_s = 0.5\n{config}"));
    let mut router = Router::bind(daemon.router, "busy");
    let caller = command_in_background(daemon.http, "busy", "x", 600_000, vec![]);
    assert_eq!(router.recv_command().id, 1);
    let made = before(&daemon);
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    (Held { daemon, router, caller }, made)
}

impl Held {
    /// The command is answered, and the daemon ends as it should.
    fn release(mut self) {
        self.router.send(&Frame::reply(1, "at last"));
        let response = self.caller.join().expect("the caller");
        assert_eq!((response.status, response.body.as_slice()), (200, &b"at last"[..]));
        self.router.expect_end("draining");
        drop(self.router);
        assert_eq!(self.daemon.wait_exit(PATIENCE).code(), Some(0), "{}", self.daemon.stderr());
    }
}

#[test]
fn an_idle_daemon_ends_at_once_with_0() {
    for signal in [SIGTERM, SIGINT] {
        let mut daemon = Daemon::start("drain_s = 60");
        let begun = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
    }
}

#[test]
fn everybody_is_told() {
    let mut daemon = Daemon::start("");
    let mut routers: Vec<Router> =
        (0..20).map(|n| Router::bind(daemon.router, &format!("hub-{n}"))).collect();
    let mut app = WebSocket::connect(daemon.app);
    let origin = format!("http://{}", daemon.page);
    let mut page = WebSocket::connect_from(daemon.page, &origin);
    let mut idle = Client::connect(daemon.http);
    assert_eq!(idle.request("GET", "/readyz", &[], b"").status, 200);
    daemon.signal(SIGTERM);
    for router in &mut routers {
        router.expect_end("draining");
    }
    drop(routers);
    app.expect_close(1001);
    page.expect_close(1001);
    idle.expect_close();
    drop((app, page, idle));
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn peers_that_do_not_leave_hold_it_for_the_grace_only() {
    let mut daemon = Daemon::start("close_grace_s = 0.5\ndrain_s = 60");
    let _router = Router::bind(daemon.router, "hub");
    let _app = WebSocket::connect(daemon.app);
    let _unbound = Router::connect(daemon.router);
    let _half = TcpStream::connect(daemon.http).expect("connect");
    daemon.signal(SIGTERM);
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_pending_command_is_answered_before_the_end() {
    let (mut held, ()) = held("", |_| ());
    assert!(held.daemon.is_running());
    held.release();
}

#[test]
fn the_other_listeners_close_and_http_stays() {
    let (held, ()) = held("", |_| ());
    for address in [held.daemon.router, held.daemon.app, held.daemon.page] {
        let error = TcpStream::connect(address).expect_err("a listener that is closed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    let http = held.daemon.http;
    assert_eq!(http::get(http, "/healthz").status, 200);
    http::get(http, "/readyz").problem(503, "draining");
    let census = Census::of(&held.daemon);
    assert_eq!(census.live("router"), 1);
    assert_eq!(census.live("pending_command"), 1);
    held.release();
}

#[test]
fn other_calls_are_answered_as_ever() {
    let (held, ()) = held("", |_| ());
    let http = held.daemon.http;
    let routers = http::get(http, "/v1/routers").json();
    assert_eq!(routers["routers"][0]["router"], "busy");
    assert_eq!(http::get(http, "/v1/routers/busy").status, 200);
    http::get(http, "/v1/routers/gone").problem(404, "router_offline");
    assert_eq!(http::get(http, "/v1/clients").status, 200);
    http::get(http, "/nowhere").problem(404, "not_found");
    held.release();
}

#[test]
fn new_commands_are_draining() {
    let (mut held, ()) = held("", |_| ());
    let http = held.daemon.http;
    for router in ["busy", "gone"] {
        let refused = command(http, router, "x", 1000, b"");
        assert_eq!(refused.problem(503, "draining")["sent"], false);
        oneway(http, router, "x", b"").problem(503, "draining");
    }
    held.router.ping();
    held.release();
}

#[test]
fn idle_connections_close_in_the_first_step() {
    let (held, (mut router, mut unbound, mut app, mut idle)) = held("drain_s = 60", |daemon| {
        let router = Router::bind(daemon.router, "idle");
        let unbound = Router::connect(daemon.router);
        let app = WebSocket::connect(daemon.app);
        let mut idle = Client::connect(daemon.http);
        assert_eq!(idle.request("GET", "/healthz", &[], b"").status, 200);
        (router, unbound, app, idle)
    });
    router.expect_end("draining");
    app.expect_close(1001);
    idle.expect_close();
    // One that has not said HELLO may be told so, or just be closed.
    let frames = unbound.recv_to_end();
    assert!(frames.iter().all(|frame| frame.kind == kind::BYE && frame.name == b"draining"), "{frames:?}");
    drop((router, unbound, app, idle));
    wait_for_reason(&held.daemon, "router", "draining", 2, PATIENCE);
    wait_for_reason(&held.daemon, "app", "draining", 1, PATIENCE);
    wait_for_live(&held.daemon, "app", 0, PATIENCE);
    assert!(Census::of(&held.daemon).reason("http", "draining") >= 1);
    Census::audited(&held.daemon).assert_balanced();
    held.release();
}

#[test]
fn a_client_with_a_pending_call_is_kept_until_it_is_answered() {
    let daemon = Daemon::start("drain_s = 60");
    let mut router = Router::bind(daemon.router, "busy");
    let mut app = WebSocket::connect(daemon.app);
    let params = json!({"router": "busy", "name": "x", "body": 1, "timeout_ms": 600_000});
    let call = app.start("command", params.clone());
    let asked = router.recv_command();
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    let error = app.call("command", params).expect_err("a new command");
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32008), &json!("draining")));
    assert_eq!(error["data"]["sent"], false);
    router.send(&Frame::reply(asked.id, "[2]").flags(conformance::frame::flag::JSON));
    assert_eq!(app.finish(call), Ok(json!({"body": [2]})));
    app.expect_close(1001);
    router.expect_end("draining");
    drop((app, router));
    let mut daemon = daemon;
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn after_drain_s_the_pending_are_told() {
    let mut daemon = Daemon::start("drain_s = 1");
    let mut router = Router::bind(daemon.router, "busy");
    let mut app = WebSocket::connect(daemon.app);
    let caller = command_in_background(daemon.http, "busy", "x", 600_000, vec![]);
    router.recv_command();
    let call = app.start("command", json!({"router": "busy", "name": "y", "timeout_ms": 600_000}));
    router.recv_command();
    let begun = Instant::now();
    daemon.signal(SIGTERM);
    let response = caller.join().expect("the caller");
    assert_eq!(response.problem(503, "draining")["sent"], true);
    assert!(begun.elapsed() > Duration::from_millis(950), "after {:?}", begun.elapsed());
    let error = app.finish(call).expect_err("a call that was given up");
    assert_eq!((&error["code"], &error["data"]["sent"]), (&json!(-32008), &json!(true)));
    app.expect_close(1001);
    router.expect_end("draining");
    drop((router, app));
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_deadline_that_passes_meanwhile_is_a_deadline() {
    let mut daemon = Daemon::start("drain_s = 60");
    let mut router = Router::bind(daemon.router, "busy");
    let caller = command_in_background(daemon.http, "busy", "x", 1000, vec![]);
    router.recv_command();
    daemon.signal(SIGTERM);
    caller.join().expect("the caller").problem(504, "deadline_exceeded");
    router.expect_end("draining");
    drop(router);
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_pending_router_that_dies_meanwhile_ends_the_wait() {
    let (held, ()) = held("drain_s = 60", |_| ());
    let Held { mut daemon, router, caller } = held;
    router.reset();
    caller.join().expect("the caller").problem(503, "router_lost");
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn the_last_answer_reaches_its_caller_before_the_exit() {
    for _ in 0..10 {
        let mut daemon = Daemon::start("");
        let mut router = Router::bind(daemon.router, "busy");
        let caller = command_in_background(daemon.http, "busy", "x", 60_000, vec![]);
        let id = router.recv_command().id;
        daemon.signal(SIGTERM);
        let body = vec![7; 1 << 20];
        router.send_message(&Frame::reply(id, body.clone()));
        let response = caller.join().expect("the caller");
        assert!(response.status == 200 && response.body == body);
        drop(router);
        assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
    }
}

#[test]
fn a_router_that_takes_nothing_holds_it_for_the_grace_only() {
    let mut daemon = Daemon::start("close_grace_s = 0.5\ndrain_s = 60");
    let router = Router::bind_small(daemon.router, "stalled");
    assert_eq!(oneway(daemon.http, "stalled", "fill", &vec![1; 1 << 20]).status, 202);
    daemon.signal(SIGTERM);
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
    drop(router);
}

#[test]
fn a_caller_that_takes_nothing_holds_it_for_the_grace_only() {
    let mut daemon = Daemon::start("close_grace_s = 0.5\ndrain_s = 1");
    let _echo = Router::bind(daemon.router, "hub").echo();
    let small = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let mut caller = small.stream(daemon.http).expect("connect");
    let request =
        http::encode_request("localhost", "POST", "/v1/routers/hub/commands/x", &[], &vec![1; 1 << 20]);
    std::io::Write::write_all(&mut caller, &request).expect("send");
    // The answer begins, so it is in the caller's queue.
    caller.peek(&mut [0]).expect("an answer");
    daemon.signal(SIGTERM);
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_watcher_hears_of_the_drain_only_by_its_close() {
    let (held, mut watcher) = held("", |daemon| {
        let mut watcher = WebSocket::connect(daemon.app);
        watcher.subscribe("busy", "*");
        watcher
    });
    match watcher.receive() {
        Message::Close(code, _) => assert_eq!(code, Some(1001)),
        other => panic!("{other:?}"),
    }
    drop(watcher);
    held.release();
}

#[test]
fn an_answer_in_a_drain_says_that_no_next_request_is_taken() {
    let mut daemon = Daemon::start("drain_s = 30");
    let mut router = Router::bind(daemon.router, "hub");
    let mut caller = http::Client::connect(daemon.http);
    caller.send_request("POST", "/v1/routers/hub/commands/x?timeout_ms=20000", &[], b"");
    let id = router.recv_command().id;
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    router.send(&Frame::reply(id, "done"));
    let response = caller.response();
    assert!(response.status == 200 && response.closes(), "{response:?}");
    router.expect_end("draining");
    drop((router, caller));
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
}

/// The head of the stream went out before the drain and did not say that the connection closes.
#[test]
fn a_request_behind_a_long_answer_is_answered_in_a_drain() {
    let mut daemon = Daemon::start("drain_s = 30");
    let mut router = Router::bind(daemon.router, "hub");
    let mut caller = http::Client::connect(daemon.http);
    caller.send_request("GET", "/v1/routers/hub/streams/log", &[], b"");
    caller.send_request("GET", "/healthz", &[], b"");
    let open = router.recv_open();
    router.send(&open.json(0, "1"));
    assert!(!caller.head().expect("a head").closes());
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    router.send(&open.end(1));
    assert_eq!(caller.chunk().expect("the row").as_deref(), Some(&b"1\n"[..]));
    assert_eq!(caller.chunk().expect("the last chunk"), None);
    let behind = caller.response();
    assert!(behind.status == 200 && behind.closes(), "{behind:?}");
    drop((router, caller));
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
}
