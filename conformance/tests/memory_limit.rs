//! `memory.max_buffered_bytes` is about memory: a shared frame counts once, what is written counts no more, one turn
//! does not go past it by much, and who holds the memory is who ends.

use conformance::calls::{Census, barrier, command, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, MAX_MESSAGE};
use conformance::http::{Client, PATIENCE};
use conformance::kernel::status_bytes;
use conformance::router::{Dial, Router};
use conformance::websocket::WebSocket;

/// signal(7) of Linux on x86 and ARM.
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

const MIB: u64 = 1 << 20;

#[test]
fn a_frame_that_many_watchers_wait_for_counts_once() {
    const LENGTH: usize = 1_000_000;
    // Little goes into the kernels, so that the frame is in every queue.
    let daemon = Daemon::start(
        "memory.max_buffered_bytes = 4000000\nwebsocket.app.notsent_lowat_bytes = 16384\nqueue.soft_s = 60",
    );
    let mut router = Router::bind(daemon.router, "hub");
    let mut watchers: Vec<WebSocket> = (0..30).map(|_| WebSocket::connect_small(daemon.app)).collect();
    for watcher in &mut watchers {
        watcher.subscribe("hub", "*");
    }
    router.send_message(&Frame::event("t", vec![b'x'; LENGTH]));
    router.ping();
    for watcher in &mut watchers {
        let event = watcher.event();
        assert!(event["body_base64"].as_str().is_some_and(|body| body.len() > LENGTH));
    }
    assert_eq!(Census::of(&daemon).reason("app", "limit_exceeded"), 0);
}

#[test]
fn one_turn_does_not_go_far_past_the_limit() {
    const LIMIT: u64 = 16 * MIB;
    let daemon = Daemon::start(&format!(
        "memory.max_buffered_bytes = {LIMIT}\nwebsocket.app.notsent_lowat_bytes = 16384\nclose_grace_s = 0.2"
    ));
    let mut routers: Vec<Router> = (0..30).map(|n| Router::bind(daemon.router, &format!("r{n}"))).collect();
    let mut deaf: Vec<WebSocket> = (0..60).map(|_| WebSocket::connect_small(daemon.app)).collect();
    for watcher in &mut deaf {
        watcher.subscribe("*", "*");
    }
    let before = status_bytes(daemon.pid(), "RssAnon");
    // Each fills one read of 64 KiB; each event is shown to all the watchers.
    let events = Frame::event("t", vec![b'x'; 20]).encode().repeat(1900);
    daemon.signal(SIGSTOP);
    for router in &mut routers {
        router.send_bytes(&events);
    }
    daemon.signal(SIGCONT);
    let expect_bounded = || {
        let peak = status_bytes(daemon.pid(), "VmHWM").saturating_sub(before);
        assert!(peak < 4 * LIMIT, "{} MiB at a limit of {} MiB", peak / MIB, LIMIT / MIB);
    };
    barrier(daemon.http);
    expect_bounded();
    // No router is at fault, and what all of them have sent has been read.
    for router in &mut routers {
        router.ping();
    }
    expect_bounded();
}

#[test]
fn callers_that_do_not_take_their_last_answer_end_and_not_a_bystander() {
    // Two of the answers fit, and of a third not so much that the router which sends it would hold most.
    const LIMIT: u64 = 2_500_000;
    let daemon = Daemon::start(&format!("memory.max_buffered_bytes = {LIMIT}\nqueue.soft_s = 60"));
    let mut router = Router::bind(daemon.router, "hub");
    let _bystander = Router::bind(daemon.router, "well").echo();
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let callers: Vec<Client> = (0..6)
        .map(|_| {
            let mut caller = Client::over(dial.stream(daemon.http).expect("connect"));
            let target = "/v1/routers/hub/commands/big?timeout_ms=60000";
            caller.send_request("POST", target, &[("Connection", "close")], b"");
            let id = router.recv_command().id;
            router.send_message(&Frame::reply(id, vec![b'z'; MAX_MESSAGE]));
            router.ping();
            caller
        })
        .collect();
    let census = Census::of(&daemon);
    assert_eq!((census.live("router"), census.reason("router", "limit_exceeded")), (2, 0));
    assert!(census.reason("http", "limit_exceeded") > 0, "{}", census.0);
    assert!(census.0["buffered_bytes"].as_u64().is_some_and(|bytes| bytes <= LIMIT), "{}", census.0);
    assert_eq!(command(daemon.http, "well", "echo", 5000, b"x").body, b"x");
    drop(callers);
    wait_for_live(&daemon, "queued_frame", 0, PATIENCE);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn a_command_that_was_sent_holds_no_payload_until_its_reply() {
    const COUNT: usize = 100;
    let daemon = Daemon::start("router.max_pending = 200");
    let mut router = Router::bind(daemon.router, "hub");
    let payload = vec![b'x'; 1_000_000];
    let target = "/v1/routers/hub/commands/big?timeout_ms=600000";
    let mut callers: Vec<Client> = Vec::new();
    let mut send = |router: &mut Router| {
        let mut caller = Client::connect(daemon.http);
        caller.send_request("POST", target, &[], &payload);
        assert_eq!(router.recv_command().body.len(), payload.len());
        callers.push(caller);
    };
    // What the first ones leave is the working set of the daemon.
    (0..10).for_each(|_| send(&mut router));
    let before = status_bytes(daemon.pid(), "RssAnon");
    (10..COUNT).for_each(|_| send(&mut router));
    let grown = status_bytes(daemon.pid(), "RssAnon").saturating_sub(before);
    let census = Census::of(&daemon);
    assert_eq!(census.live("pending_command"), COUNT as u64);
    assert!(grown < 16 * MIB, "{} MiB for {COUNT} commands that were sent", grown / MIB);
    for id in 1..=COUNT as u32 {
        router.send(&Frame::reply(id, "done"));
    }
    for caller in &mut callers {
        assert_eq!(caller.response().body, b"done");
    }
}
