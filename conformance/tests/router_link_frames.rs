//! Contract section 1: where bytes are cut does not matter, PING and PONG, and what counts before a FIN.

use std::time::Duration;

use conformance::calls::{self, barrier, command, command_in_background, wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, MAX_FRAGMENT, flag, kind};
use conformance::http::PATIENCE;
use conformance::router::Router;

/// Every message that the daemon has taken from a bound router.
fn messages_in(daemon: &Daemon, id: &str) -> u64 {
    calls::router(daemon.http, id).expect("bound")["messages_in"].as_u64().expect("a number")
}

#[test]
fn bytes_may_be_cut_anywhere() {
    let daemon = Daemon::start("");
    let frames = [Frame::hello("hub"), Frame::event("a/b", "value").flags(flag::RETAIN), Frame::ping("ping")];
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    for cut in 1..bytes.len() {
        let mut router = Router::connect(daemon.router);
        router.send_bytes(&bytes[..cut]);
        // The daemon has read the first piece before the second one is sent.
        barrier(daemon.http);
        router.send_bytes(&bytes[cut..]);
        router.expect(kind::WELCOME);
        assert_eq!(router.recv(), Frame::new(kind::PONG).body("ping"), "cut at {cut}");
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    let frames = [Frame::hello("hub"), Frame::event("a/b", "value"), Frame::ping("ping")];
    for byte in frames.iter().flat_map(Frame::encode) {
        router.send_bytes(&[byte]);
        barrier(daemon.http);
    }
    router.expect(kind::WELCOME);
    assert_eq!(router.recv(), Frame::new(kind::PONG).body("ping"));
}

#[test]
fn a_long_frame_may_be_cut_anywhere_too() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let body: Vec<u8> = (0..MAX_FRAGMENT).map(|n| n as u8).collect();
    let bytes = Frame::event("big", body).encode();
    for cut in [1, 11, 12, 13, 14, 15, 16, 1000, 8192, bytes.len() - 1] {
        router.send_bytes(&bytes[..cut]);
        barrier(daemon.http);
        router.send_bytes(&bytes[cut..]);
        router.ping();
    }
}

#[test]
fn a_router_may_send_on_behind_its_hello() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    let mut bytes = Frame::hello("hub").encode();
    for n in 0..200_u8 {
        bytes.extend(Frame::event("topic", vec![n; 100]).encode());
        bytes.extend(Frame::ping(vec![n]).encode());
    }
    router.send_bytes(&bytes);
    router.expect(kind::WELCOME);
    for n in 0..200 {
        assert_eq!(router.recv(), Frame::new(kind::PONG).body([n]));
    }
}

#[test]
fn pong_brings_back_the_body_and_the_id_of_the_ping() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let bodies = [vec![], vec![0], vec![0xff; 63], (0..64).collect()];
    for (body, id) in bodies.into_iter().zip([0, 1, 0x0102_0304, u32::MAX]) {
        router.send(&Frame::ping(body.clone()).id(id));
        assert_eq!(router.recv(), Frame::new(kind::PONG).id(id).body(body));
    }
}

#[test]
fn an_unasked_pong_is_nobodys_fault() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&Frame::new(kind::PONG).id(77).body([7; 64]));
    router.ping();
}

#[test]
fn whole_frames_before_fin_count() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "last", 10_000, b"?".to_vec());
    let id = router.recv_command().id;
    let body = vec![7; 3 * MAX_FRAGMENT];
    router.send_message(&Frame::reply(id, body.clone()));
    router.finish_sending();
    let response = caller.join().expect("the caller");
    assert_eq!((response.status, response.body), (200, body));
    router.expect_fin();
    wait_for_reason(&daemon, "router", "peer_closed", 1, PATIENCE);
}

#[test]
fn hello_and_fin_in_one_segment_are_a_session_that_ends() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    router.send_bytes(&Frame::hello("hub").encode());
    router.finish_sending();
    router.expect(kind::WELCOME);
    router.expect_fin();
    wait_for_live(&daemon, "router", 0, PATIENCE);
    wait_for_reason(&daemon, "router", "peer_closed", 1, PATIENCE);
    assert!(calls::router(daemon.http, "hub").is_none());
}

#[test]
fn half_a_frame_before_fin_is_nothing() {
    let daemon = Daemon::start("");
    let event = Frame::event("topic", "value").encode();
    for cut in [0, 1, 11, 12, 14, event.len() - 1] {
        let mut router = Router::bind(daemon.router, "hub");
        router.send_bytes(&event[..cut]);
        router.finish_sending();
        router.expect_fin();
    }
    wait_for_reason(&daemon, "router", "peer_closed", 6, PATIENCE);
}

#[test]
fn every_kind_that_a_router_may_send_is_taken() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let topic = "t".repeat(128);
    let frames = [
        Frame::event("a", ""),
        Frame::event(&topic, "x"),
        Frame::event("A.b_c:d-e/f//", "x"),
        Frame::event("/", "x"),
        Frame::event("a", "{}").flags(flag::JSON),
        Frame::event("a", "{}").flags(flag::JSON | flag::RETAIN),
        Frame::event("a", "").flags(flag::RETAIN),
        Frame::event("a", "not JSON at all").flags(flag::JSON),
        Frame::event("a", vec![0xff; MAX_FRAGMENT]),
        Frame::reply(1, ""),
        Frame::reply(u32::MAX, "late").flags(flag::ERROR | flag::JSON),
        Frame::new(kind::ITEM).id(1).body([0; 8]),
        Frame::new(kind::ITEM).id(1).flags(flag::JSON).body(vec![b'1'; MAX_FRAGMENT]),
        Frame::new(kind::END).id(1).body([0; 8]),
        Frame::new(kind::END).id(u32::MAX).flags(flag::ERROR).body("gone"),
        Frame::new(kind::END).id(1).flags(flag::ERROR),
    ];
    for frame in frames {
        router.send(&frame);
        router.ping();
    }
}

#[test]
fn the_last_event_of_one_burst_arrives_like_the_first() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let before = messages_in(&daemon, "hub");
    let event = Frame::event("topic", vec![1; 1000]).encode();
    router.send_bytes(&event.repeat(2000));
    router.ping();
    eventually("2000 events counted", PATIENCE, || {
        (messages_in(&daemon, "hub") >= before + 2000).then_some(())
    });
}

#[test]
fn a_bye_of_the_routers_own_ends_the_session() {
    let daemon = Daemon::start("");
    let codes = ["draining", "kicked", "takeover", "protocol_error", "unauthorized", "limit_exceeded"];
    for code in codes {
        let mut router = Router::bind(daemon.router, "hub");
        router.send(&Frame::bye(code).body("r".repeat(256)));
        // It is the last frame: what stands behind it falls on nothing, and no BYE comes back.
        router.send(&Frame::ping("behind"));
        router.expect_fin();
    }
    wait_for_reason(&daemon, "router", "peer_closed", codes.len() as u64, PATIENCE);
    assert!(calls::router(daemon.http, "hub").is_none());
}

#[test]
fn a_reset_ends_the_session() {
    let daemon = Daemon::start("");
    let router = Router::bind(daemon.router, "hub");
    router.reset();
    wait_for_reason(&daemon, "router", "peer_reset", 1, PATIENCE);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    command(daemon.http, "hub", "x", 1000, b"").problem(404, "router_offline");
}

#[test]
fn one_router_may_send_much_while_others_go_on() {
    let daemon = Daemon::start("");
    let mut loud = Router::bind(daemon.router, "loud");
    let _quiet = Router::bind(daemon.router, "quiet").echo();
    let event = Frame::event("noise", vec![1; MAX_FRAGMENT]).encode();
    let sender = std::thread::spawn(move || {
        for _ in 0..2000 {
            loud.send_bytes(&event);
        }
        loud.ping();
    });
    for _ in 0..20 {
        assert_eq!(command(daemon.http, "quiet", "echo", 5000, b"x").status, 200);
        std::thread::sleep(Duration::from_millis(1));
    }
    sender.join().expect("the loud router");
}
