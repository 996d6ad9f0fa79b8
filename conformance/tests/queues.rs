//! Contract section 1, Back-pressure, and section 4: who reads is never cut, whatever one turn of the daemon brings; who
//! does not is, whatever else happens meanwhile.

use std::time::{Duration, Instant};

use conformance::calls::{self, barrier, command_in_background, oneway, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, MAX_MESSAGE, kind};
use conformance::http::{Client, PATIENCE};
use conformance::kernel::settled;
use conformance::router::{Dial, Router};
use conformance::websocket::{Message, PING, WebSocket, encode_frame};
use serde_json::Value;

/// signal(7) of Linux on x86 and ARM.
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

fn figure(daemon: &Daemon, id: &str, what: &str) -> u64 {
    calls::router(daemon.http, id).expect("bound")[what].as_u64().expect("a number")
}

// --- Peers that read -----------------------------------------------------------------------------------------------

#[test]
fn a_watcher_that_reads_gets_thousands_of_events_of_one_read() {
    const COUNT: u64 = 12_000;
    // One read of 64 KiB brings more than half of the queue; all of it is less than the kernels take.
    let daemon = Daemon::start("websocket.app.max_queued_bytes = 1000000");
    let mut router = Router::bind(daemon.router, "hub");
    let mut watcher = WebSocket::connect(daemon.app);
    watcher.subscribe("hub", "*");
    let events = Frame::event("t", "x").encode().repeat(COUNT as usize);
    std::thread::scope(|scope| {
        scope.spawn(|| router.send_bytes(&events));
        for seq in 1..=COUNT {
            assert_eq!(watcher.event()["seq"], seq);
        }
    });
}

#[test]
fn what_one_turn_brings_is_measured_when_the_socket_has_had_its_chance() {
    const LENGTH: usize = 40_000;
    let daemon = Daemon::start("websocket.app.max_queued_bytes = 100000");
    let mut routers: Vec<Router> = (0..5).map(|n| Router::bind(daemon.router, &format!("r{n}"))).collect();
    let mut watcher = WebSocket::connect(daemon.app);
    watcher.subscribe("*", "*");
    daemon.signal(SIGSTOP);
    for router in &mut routers {
        router.send_message(&Frame::event("t", vec![b'x'; LENGTH]));
    }
    daemon.signal(SIGCONT);
    for _ in &routers {
        let event = watcher.event();
        assert!(event["body_base64"].as_str().is_some_and(|body| body.len() > LENGTH), "{event}");
    }
}

#[test]
fn a_router_that_reads_its_pongs_may_send_thousands_of_pings_at_once() {
    let daemon = Daemon::start("");
    // The kernels take all the answers, so that nothing depends on when the test's thread runs.
    let dial = Dial { receive_buffer: Some(2 << 20), ..Dial::default() };
    for (count, body) in [(20_000, vec![]), (3000, vec![b'y'; 64])] {
        let mut router = dial.bind(daemon.router, "hub");
        let pings = Frame::ping(body.clone()).encode().repeat(count);
        let mut sender = Router::over(router.stream().try_clone().expect("a second handle"));
        std::thread::scope(|scope| {
            scope.spawn(move || sender.send_bytes(&pings));
            for _ in 0..count {
                assert_eq!(router.recv(), Frame::new(kind::PONG).body(body.clone()));
            }
        });
    }
}

#[test]
fn a_client_that_reads_its_pongs_may_send_thousands_of_pings_at_once() {
    const COUNT: usize = 3000;
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let payload = vec![b'z'; 125];
    let pings = encode_frame(0x80 | PING, [1, 2, 3, 4], &payload).repeat(COUNT);
    let mut sender = Client::over(socket.client().stream().try_clone().expect("a second handle"));
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(&pings));
        for _ in 0..COUNT {
            assert_eq!(socket.receive(), Message::Pong(payload.clone()));
        }
    });
}

// --- Routers that do not -------------------------------------------------------------------------------------------

#[test]
fn a_withdrawn_command_that_makes_room_lets_the_router_be_read_again() {
    let daemon = Daemon::start("router.max_queued_bytes = 400000\nqueue.soft_s = 60");
    let mut router = Router::bind_small(daemon.router, "hub");
    settled_with_some_queued(&daemon, &router);
    let little = figure(&daemon, "hub", "queued_bytes");
    assert!(little < 100_000, "{little} bytes");
    // Not begun, because its socket takes nothing; but it takes the queue over half.
    let caller = command_in_background(daemon.http, "hub", "big", 2500, vec![1; 300_000]);
    eventually("it is queued", PATIENCE, || (figure(&daemon, "hub", "queued_bytes") > 200_000).then_some(()));
    let before = figure(&daemon, "hub", "messages_in");
    router.send_bytes(&Frame::event("t", "hello").encode().repeat(10));
    barrier(daemon.http);
    assert_eq!(
        figure(&daemon, "hub", "messages_in"),
        before,
        "it is read though its queue is over half full"
    );
    assert_eq!(caller.join().expect("the caller").problem(504, "deadline_exceeded")["sent"], false);
    eventually("it is read again", Duration::from_secs(5), || {
        (figure(&daemon, "hub", "messages_in") == before + 10).then_some(())
    });
}

/// One-way commands until some of them are in the daemon's queue, behind kernels that take no more.
fn settled_with_some_queued(daemon: &Daemon, router: &Router) {
    eventually("something is queued", PATIENCE, || {
        assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 16_000]).status, 202);
        settled(router.stream());
        (figure(daemon, "hub", "queued_bytes") > 20_000).then_some(())
    });
}

#[test]
fn commands_that_keep_coming_do_not_put_off_the_end_of_a_router_that_takes_nothing() {
    let daemon = Daemon::start("router.max_queued_bytes = 262144\nqueue.soft_s = 0.5\nclose_grace_s = 0.2");
    let router = Router::bind_small(daemon.router, "hub");
    // More than half of the limit is queued, whatever the kernels take; what is short still fits.
    assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 240_000]).status, 202);
    let begun = Instant::now();
    while calls::router(daemon.http, "hub").is_some() {
        assert!(begun.elapsed() < Duration::from_secs(6), "still bound");
        // Any answer will do; it may be gone by now.
        oneway(daemon.http, "hub", "more", b"x");
        calls::command(daemon.http, "hub", "more", 10, b"x");
    }
    wait_for_reason(&daemon, "router", "slow_consumer", 1, PATIENCE);
    drop(router);
}

// --- The last answer of a connection -------------------------------------------------------------------------------

/// A caller with a small kernel that is being sent `MAX_MESSAGE` bytes, and nothing after that.
fn caller_with_a_last_answer(daemon: &Daemon) -> Client {
    let mut router = Router::bind(daemon.router, "hub");
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let mut caller = Client::over(dial.stream(daemon.http).expect("connect"));
    let target = "/v1/routers/hub/commands/big?timeout_ms=60000";
    caller.send_request("POST", target, &[("Connection", "close")], b"");
    let id = router.recv_command().id;
    router.send_message(&Frame::reply(id, vec![b'z'; MAX_MESSAGE]));
    router.ping();
    caller
}

#[test]
fn a_last_answer_may_take_longer_than_the_idle_timeout() {
    let daemon = Daemon::start("http.idle_timeout_s = 0.5\nclose_grace_s = 0.5\nqueue.soft_s = 5");
    let mut caller = caller_with_a_last_answer(&daemon);
    let begun = Instant::now();
    for count in (0..MAX_MESSAGE).step_by(16_384) {
        caller.peek(count).unwrap_or_else(|error| panic!("{error} before {count} bytes"));
        // A slow reader, never still for long.
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(begun.elapsed() > Duration::from_millis(1200), "too fast to prove anything");
    let response = caller.response();
    assert_eq!((response.status, response.body.len(), response.closes()), (200, MAX_MESSAGE, true));
    caller.expect_close();
}

#[test]
fn a_last_answer_that_nobody_takes_ends_after_the_soft_limit() {
    let daemon = Daemon::start("http.idle_timeout_s = 60\nclose_grace_s = 0.5\nqueue.soft_s = 0.5");
    let caller = caller_with_a_last_answer(&daemon);
    wait_for_reason(&daemon, "http", "slow_consumer", 1, Duration::from_secs(8));
    let buffered: Value = calls::Census::of(&daemon).0["buffered_bytes"].clone();
    assert_eq!(buffered, 0);
    drop(caller);
}
