//! Contract section 1, Back-pressure: `router_busy`, `slow_consumer`, and the daemon-wide limit.

use std::time::{Duration, Instant};

use conformance::calls::{self, Census, barrier, command, command_in_background, oneway};
use conformance::calls::{wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, MAX_FRAGMENT, MAX_MESSAGE, flag, kind};
use conformance::http::{PATIENCE, is_timeout};
use conformance::kernel::{Tcp, settled};
use conformance::router::Router;

fn queued_bytes(daemon: &Daemon, id: &str) -> u64 {
    calls::router(daemon.http, id).expect("bound")["queued_bytes"].as_u64().expect("a number")
}

#[test]
fn a_command_over_the_queue_is_router_busy() {
    let daemon = Daemon::start("router.max_queued_bytes = 262144");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "first", &[1; 220_000]).status, 202);
    settled(router.stream());
    let before = queued_bytes(&daemon, "hub");
    assert!(before > 0, "nothing is queued");
    for response in [
        oneway(daemon.http, "hub", "second", &[2; 220_000]),
        command(daemon.http, "hub", "third", 10_000, &[3; 220_000]),
    ] {
        assert_eq!(response.problem(429, "router_busy")["sent"], false);
    }
    assert_eq!(queued_bytes(&daemon, "hub"), before, "a refused command leaves nothing");
    assert_eq!(calls::router(daemon.http, "hub").expect("bound")["pending"], 0);
    assert_eq!(oneway(daemon.http, "hub", "small", b"fits").status, 202);
    assert_eq!(router.recv_command().name_text(), "first");
    assert_eq!(router.recv_command().name_text(), "small");
    router.ping();
    assert_eq!(queued_bytes(&daemon, "hub"), 0);
    let _echo = router.echo();
    assert_eq!(command(daemon.http, "hub", "echo", 10_000, &[3; 220_000]).status, 200);
}

#[test]
fn an_empty_queue_takes_one_command_of_any_legal_size() {
    let daemon = Daemon::start("router.max_queued_bytes = 65536");
    let mut router = Router::bind(daemon.router, "hub");
    for _ in 0..3 {
        assert_eq!(oneway(daemon.http, "hub", "big", &vec![1; MAX_MESSAGE]).status, 202);
        assert_eq!(router.recv_command().body.len(), MAX_MESSAGE);
        router.ping();
    }
}

#[test]
fn max_pending_is_router_busy() {
    let daemon = Daemon::start("router.max_pending = 2");
    let mut router = Router::bind(daemon.router, "hub");
    let callers = [0, 1].map(|_| command_in_background(daemon.http, "hub", "x", 20_000, vec![]));
    let ids = [0, 1].map(|_| router.recv_command().id);
    let refused = command(daemon.http, "hub", "x", 10_000, b"");
    assert_eq!(refused.problem(429, "router_busy")["sent"], false);
    // One-way commands are not pending, and another router is not concerned.
    assert_eq!(oneway(daemon.http, "hub", "y", b"").status, 202);
    assert_eq!(router.recv_command().name_text(), "y");
    let _other = Router::bind(daemon.router, "other").echo();
    assert_eq!(command(daemon.http, "other", "echo", 10_000, b"").status, 200);
    for id in ids {
        router.send(&Frame::reply(id, ""));
    }
    for caller in callers {
        assert_eq!(caller.join().expect("the caller").status, 200);
    }
    let _echo = router.echo();
    assert_eq!(command(daemon.http, "hub", "echo", 10_000, b"").status, 200);
}

#[test]
fn a_queue_over_half_that_does_not_move_ends_the_session() {
    let daemon = Daemon::start("router.max_queued_bytes = 262144\nqueue.soft_s = 0.5\nclose_grace_s = 0.3");
    let mut router = Router::bind_small(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "small", 20_000, vec![]);
    assert_eq!(router.recv_command().id, 1);
    let begun = Instant::now();
    assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 262_000]).status, 202);
    let lost = caller.join().expect("the caller");
    assert_eq!(lost.problem(503, "router_lost")["sent"], true);
    assert!(begun.elapsed() >= Duration::from_millis(450), "after {:?}", begun.elapsed());
    assert!(calls::router(daemon.http, "hub").is_none());
    wait_for_reason(&daemon, "router", "slow_consumer", 1, PATIENCE);
    // Frames in the kernels are whole or cut by the end; nothing but a BYE comes behind them.
    let frames = router.recv_to_end();
    let byes: Vec<usize> = (0..frames.len()).filter(|&n| frames[n].kind == kind::BYE).collect();
    assert!(byes.is_empty() || byes == [frames.len() - 1], "{byes:?} of {}", frames.len());
    if let [last] = byes[..] {
        assert_eq!(frames[last].name_text(), "slow_consumer");
    }
    wait_for_live(&daemon, "router", 0, PATIENCE);
}

#[test]
fn a_queue_under_half_may_wait() {
    let daemon = Daemon::start("router.max_queued_bytes = 1048576\nqueue.soft_s = 0.2");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 400_000]).status, 202);
    settled(router.stream());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(queued_bytes(&daemon, "hub") > 0);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(router.recv_command().body.len(), 400_000);
    router.ping();
}

#[test]
fn a_slow_router_that_takes_something_is_not_cut() {
    let daemon = Daemon::start("router.max_queued_bytes = 262144\nqueue.soft_s = 1");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; MAX_MESSAGE]).status, 202);
    let begun = Instant::now();
    let mut taken = 0;
    while taken < MAX_MESSAGE {
        taken += router.expect(kind::COMMAND).body.len();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "too fast to prove anything: {:?}", begun.elapsed());
    router.ping();
}

#[test]
fn a_flood_of_pings_that_takes_no_answer_is_a_slow_consumer() {
    let daemon = Daemon::start("close_grace_s = 0.3");
    let mut flooder = Router::bind_small(daemon.router, "flooder");
    let _bystander = Router::bind(daemon.router, "well").echo();
    flooder.stream().set_write_timeout(Some(Duration::from_millis(200))).expect("write timeout");
    let pings = Frame::ping([7; 64]).encode().repeat(200);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < deadline, "still bound");
        match flooder.try_send_bytes(&pings) {
            Err(error) if !is_timeout(&error) => break,
            _ => {}
        }
        if calls::router(daemon.http, "flooder").is_none() {
            break;
        }
    }
    wait_for_reason(&daemon, "router", "slow_consumer", 1, PATIENCE);
    assert_eq!(command(daemon.http, "well", "echo", 5000, b"x").body, b"x");
    wait_for_live(&daemon, "router", 1, PATIENCE);
}

#[test]
fn a_flood_of_pings_whose_answers_are_taken_is_fine() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    // 48 KB at once are under the 64 KiB of the lane, however they are read.
    let pings = Frame::ping("ping").encode().repeat(3000);
    for _ in 0..20 {
        router.send_bytes(&pings);
        for _ in 0..3000 {
            assert_eq!(router.recv(), Frame::new(kind::PONG).body("ping"));
        }
    }
}

#[test]
fn a_connection_whose_queue_is_over_half_full_is_not_read() {
    let daemon = Daemon::start("router.max_queued_bytes = 262144\nqueue.soft_s = 60");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 262_000]).status, 202);
    settled(router.stream());
    assert!(queued_bytes(&daemon, "hub") > 131_072, "the kernels took too much");
    let before = calls::router(daemon.http, "hub").expect("bound")["messages_in"].clone();
    router.send(&Frame::event("topic", [1; 1000]));
    barrier(daemon.http);
    barrier(daemon.http);
    assert_eq!(calls::router(daemon.http, "hub").expect("bound")["messages_in"], before, "it was read");
    let unread = Tcp::other_end(router.stream()).expect("the daemon's end").receive_queue;
    assert!(unread >= 1000, "{unread} bytes wait in the kernel");
    router.recv_command();
    router.ping();
    let after = calls::router(daemon.http, "hub").expect("bound")["messages_in"].clone();
    assert!(after.as_u64() > before.as_u64(), "{after}");
}

#[test]
fn over_the_daemon_wide_limit_the_one_that_holds_most_ends() {
    let daemon = Daemon::start("memory.max_buffered_bytes = 524288");
    let half = |fragments: usize| {
        let mut bytes = Frame::event("topic", vec![1; MAX_FRAGMENT]).flags(flag::MORE).encode();
        let later = Frame::new(kind::EVENT).flags(flag::MORE).body(vec![1; MAX_FRAGMENT]).encode();
        bytes.extend(later.repeat(fragments - 1));
        bytes
    };
    let mut big = Router::bind(daemon.router, "big");
    let mut small = Router::bind(daemon.router, "small");
    big.send_bytes(&half(20));
    big.ping();
    small.send_bytes(&half(8));
    small.ping();
    // 28 fragments are held; with 12 more it is too much, and the smaller one brings the last drop.
    small.send_bytes(&half(6)[Frame::event("topic", vec![1; MAX_FRAGMENT]).encode().len()..]);
    big.expect_end("limit_exceeded");
    small.ping();
    small.send(&Frame::new(kind::EVENT).body("end"));
    small.ping();
    wait_for_reason(&daemon, "router", "limit_exceeded", 1, PATIENCE);
}

#[test]
fn queues_count_for_the_daemon_wide_limit_too() {
    let daemon = Daemon::start("memory.max_buffered_bytes = 800000\nqueue.soft_s = 60\nclose_grace_s = 0.2");
    let mut routers: Vec<Router> = (0..3)
        .map(|n| {
            let id = format!("hub-{n}");
            let router = Router::bind_small(daemon.router, &id);
            let length = if n == 1 { 400_000 } else { 150_000 };
            assert_eq!(oneway(daemon.http, &id, "fill", &vec![n; length]).status, 202);
            settled(router.stream());
            router
        })
        .collect();
    let length = 300_000;
    // The kernels hold some 20 KB of each. This one is too much, and the one that holds most goes, not the one that
    // came last.
    let mut last = Router::bind_small(daemon.router, "last");
    assert_eq!(oneway(daemon.http, "last", "fill", &vec![9; length]).status, 202);
    wait_for_reason(&daemon, "router", "limit_exceeded", 1, PATIENCE);
    assert!(calls::router(daemon.http, "hub-1").is_none());
    let taken = routers[1].recv_to_end().iter().map(|frame| frame.body.len()).sum::<usize>();
    assert!(taken < 400_000, "it came whole");
    for (n, length) in [(0, 150_000), (2, 150_000)] {
        assert_eq!(routers[n].recv_command().body.len(), length);
        routers[n].ping();
    }
    assert_eq!(last.recv_command().body.len(), length);
    last.ping();
    let census = Census::audited(&daemon);
    census.assert_balanced();
}

#[test]
fn one_that_alone_is_over_the_daemon_wide_limit_ends() {
    let daemon = Daemon::start("memory.max_buffered_bytes = 262144\nclose_grace_s = 0.2");
    let _bystander = Router::bind(daemon.router, "well").echo();
    let mut router = Router::bind(daemon.router, "hub");
    let parts = Frame::event("topic", vec![1; 400_000]).parts();
    router.send_bytes(&parts.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
    router.expect_end("limit_exceeded");
    drop(router);
    wait_for_reason(&daemon, "router", "limit_exceeded", 1, PATIENCE);
    assert_eq!(command(daemon.http, "well", "echo", 5000, &[1; 50_000]).body.len(), 50_000);
}

#[test]
fn a_reset_is_seen_while_a_queue_is_stuck() {
    let daemon = Daemon::start("");
    let router = Router::bind_small(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "fill", 60_000, vec![1; MAX_MESSAGE]);
    eventually("it is pending", PATIENCE, || {
        (calls::router(daemon.http, "hub").expect("bound")["pending"] == 1).then_some(())
    });
    settled(router.stream());
    router.reset();
    let lost = caller.join().expect("the caller");
    assert_eq!(lost.problem(503, "router_lost")["sent"], true);
    wait_for_reason(&daemon, "router", "peer_reset", 1, PATIENCE);
}
