//! Contract section 1, Heartbeat: the server PINGs a silent router and unbinds one that does not stir.

use std::time::{Duration, Instant};

use conformance::calls::{self, Census, command_in_background, oneway, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag, kind};
use conformance::http::PATIENCE;
use conformance::router::Router;

const INTERVAL: Duration = Duration::from_millis(400);
const CONFIG: &str = "router.heartbeat.interval_s = 0.4\nrouter.heartbeat.timeout_s = 0.4";

#[test]
fn silence_is_answered_with_a_ping_after_the_interval() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind(daemon.router, "hub");
    for _ in 0..3 {
        let begun = Instant::now();
        let ping = router.expect(kind::PING);
        // The byte before was read by the daemon a little earlier than its answer was read here.
        assert!(begun.elapsed() > INTERVAL - Duration::from_millis(100), "after {:?}", begun.elapsed());
        assert_eq!((ping.flags, ping.name.len()), (0, 0), "{ping:?}");
        assert!(ping.body.len() <= 64);
        router.send(&Frame { kind: kind::PONG, ..ping });
    }
}

#[test]
fn a_router_that_answers_stays() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind(daemon.router, "hub");
    let begun = Instant::now();
    let mut pings = 0;
    while begun.elapsed() < INTERVAL * 8 {
        let ping = router.expect(kind::PING);
        router.send(&Frame { kind: kind::PONG, ..ping });
        pings += 1;
    }
    assert!(pings >= 4, "{pings} PINGs");
    router.ping();
}

#[test]
fn a_router_that_ignores_the_ping_is_unbound() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![]);
    router.recv_command();
    let begun = Instant::now();
    router.expect(kind::PING);
    router.expect_end("heartbeat_timeout");
    assert!(begun.elapsed() > INTERVAL * 2 - Duration::from_millis(200), "after {:?}", begun.elapsed());
    caller.join().expect("the caller").problem(503, "router_lost");
    wait_for_reason(&daemon, "router", "heartbeat_timeout", 1, PATIENCE);
    assert!(calls::router(daemon.http, "hub").is_none());
}

#[test]
fn any_byte_is_life() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind(daemon.router, "hub");
    // One frame that comes in single bytes for more than five intervals: never a PING.
    let frame = Frame::event("topic", [7; 16]).encode();
    router.set_patience(INTERVAL / 5);
    for byte in frame {
        router.send_bytes(&[byte]);
        let silence = router.try_recv();
        assert!(silence.is_err(), "{silence:?}");
    }
    router.set_patience(PATIENCE);
    router.ping();
}

#[test]
fn a_byte_behind_the_ping_is_life_too() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind(daemon.router, "hub");
    let frame = Frame::event("topic", [7; 16]).encode();
    for byte in &frame[..4] {
        router.expect(kind::PING);
        router.send_bytes(&[*byte]);
    }
    router.send_bytes(&frame[4..]);
    router.ping();
}

#[test]
fn an_event_sent_now_and_then_is_heartbeat_enough() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind(daemon.router, "hub");
    router.set_patience(INTERVAL / 2);
    for _ in 0..8 {
        router.send(&Frame::event("topic", "x"));
        let silence = router.try_recv();
        assert!(silence.is_err(), "{silence:?}");
    }
}

#[test]
fn a_router_that_only_takes_is_alive_as_long_as_it_acknowledges() {
    let daemon = Daemon::start(CONFIG);
    let mut router = Router::bind_small(daemon.router, "hub");
    // More than the kernels hold, taken so slowly that it lasts for several times interval and timeout.
    assert_eq!(oneway(daemon.http, "hub", "big", &vec![1; 900_000]).status, 202);
    let begun = Instant::now();
    let mut taken = 0;
    while taken < 900_000 {
        let frame = router.recv();
        assert_ne!(frame.kind, kind::BYE, "after {:?} and {taken} bytes: {frame:?}", begun.elapsed());
        taken += frame.body.len() * usize::from(frame.kind == kind::COMMAND);
        std::thread::sleep(Duration::from_millis(60));
    }
    assert!(begun.elapsed() > INTERVAL * 4, "too fast to prove anything: {:?}", begun.elapsed());
    router.ping();
}

#[test]
fn a_router_that_is_not_read_because_it_takes_slowly_is_alive() {
    let daemon = Daemon::start(&format!("{CONFIG}\nrouter.max_queued_bytes = 262144\nqueue.soft_s = 60"));
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "big", &vec![1; 1_000_000]).status, 202);
    // It sends all the time, but the daemon leaves that in the kernel while the queue is over half full.
    let begun = Instant::now();
    let mut taken = 0;
    while taken < 1_000_000 {
        router.send(&Frame::event("topic", "x"));
        let frame = router.recv();
        assert_ne!(frame.kind, kind::BYE, "after {:?} and {taken} bytes: {frame:?}", begun.elapsed());
        taken += frame.body.len() * usize::from(frame.kind == kind::COMMAND);
        std::thread::sleep(Duration::from_millis(40));
    }
    assert!(begun.elapsed() > INTERVAL * 4, "too fast to prove anything: {:?}", begun.elapsed());
    router.ping();
}

#[test]
fn every_router_has_its_own_heartbeat() {
    let daemon = Daemon::start(CONFIG);
    let mut dead: Vec<Router> = (0..20).map(|n| Router::bind(daemon.router, &format!("dead-{n}"))).collect();
    let alive: Vec<_> = (0..20).map(|n| Router::bind(daemon.router, &format!("alive-{n}")).echo()).collect();
    for router in &mut dead {
        router.expect(kind::PING);
        router.expect_end("heartbeat_timeout");
    }
    wait_for_reason(&daemon, "router", "heartbeat_timeout", 20, PATIENCE);
    for n in 0..20 {
        assert!(calls::router(daemon.http, &format!("alive-{n}")).is_some());
    }
    drop(alive);
}

#[test]
fn a_daemon_that_was_stopped_for_a_while_does_not_lose_its_fleet() {
    const SIGSTOP: i32 = 19;
    const SIGCONT: i32 = 18;
    let daemon = Daemon::start(CONFIG);
    let routers: Vec<_> = (0..20).map(|n| Router::bind(daemon.router, &format!("hub-{n}")).echo()).collect();
    for _ in 0..3 {
        // Some have a PING under way; their answers wait in the kernel while the time limit passes.
        std::thread::sleep(INTERVAL + INTERVAL / 4);
        daemon.signal(SIGSTOP);
        std::thread::sleep(INTERVAL * 3);
        daemon.signal(SIGCONT);
    }
    std::thread::sleep(INTERVAL * 2);
    let census = Census::of(&daemon);
    assert_eq!((census.live("router"), census.reason("router", "heartbeat_timeout")), (20, 0));
    drop(routers);
}

/// The kernel of a slow reader acknowledges in lumps and has taken the PING long before the router comes to it.
#[test]
fn a_big_command_does_not_cost_a_slow_reader_its_session() {
    const BYTES: usize = 400_000;
    const BYTES_PER_S: f64 = 50_000.0;
    let daemon = Daemon::start("router.heartbeat.interval_s = 1\nrouter.heartbeat.timeout_s = 1");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "big", 60_000, vec![7; BYTES]);
    let (begun, mut taken, mut pings) = (Instant::now(), 0, 0);
    loop {
        let frame = router.recv();
        taken += frame.encode().len();
        // The pace of the reader, not a wait for anything.
        std::thread::sleep(
            Duration::from_secs_f64(taken as f64 / BYTES_PER_S).saturating_sub(begun.elapsed()),
        );
        match frame.kind {
            kind::PING => {
                pings += 1;
                router.send(&Frame { kind: kind::PONG, ..frame });
            }
            kind::COMMAND if frame.flags & flag::MORE == 0 => {
                router.send(&Frame::reply(frame.id, "done"));
                break;
            }
            kind::COMMAND => {}
            _ => panic!("{frame:?} after {:?}", begun.elapsed()),
        }
    }
    assert!(pings > 0 && begun.elapsed() > Duration::from_secs(4), "it was not slow: {:?}", begun.elapsed());
    assert_eq!(caller.join().expect("the caller").status, 200);
    assert_eq!(Census::of(&daemon).count("router", "unbound"), 0);
}
