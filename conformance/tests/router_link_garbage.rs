//! Contract section 1: whatever bytes come, the daemon answers by the contract, lives, and touches nobody else.

use std::io::ErrorKind;
use std::time::Duration;

use conformance::calls::{Census, barrier, command, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag, kind};
use conformance::http::{PATIENCE, is_timeout};
use conformance::random::Random;
use conformance::router::Router;

const CODES: [&str; 11] = [
    "protocol_error",
    "unauthorized",
    "unsupported_version",
    "too_large",
    "hello_timeout",
    "heartbeat_timeout",
    "takeover",
    "kicked",
    "draining",
    "slow_consumer",
    "limit_exceeded",
];

fn good_frame(random: &mut Random) -> Frame {
    let body = vec![b'1'; random.pick(&[0, 1, 8, 64, 100, 5000, 16_384])];
    let id = random.pick(&[0, 1, 2, 77, u32::MAX]);
    let event = Frame::event(random.pick(&["a", "a/b", "state"]), body.clone());
    match random.below(8) {
        0 => Frame::ping(vec![7; random.below(65)]).id(id),
        1 => Frame::new(kind::PONG).body(vec![7; random.below(65)]),
        2 => Frame::reply(id.max(1), body),
        3 => Frame::reply(id.max(1), body).flags(flag::ERROR | flag::JSON),
        4 => event.flags(flag::JSON | flag::RETAIN),
        5 => event.body("half").flags(flag::MORE),
        6 => Frame::new(kind::ITEM).id(1).body([0; 16]).flags(flag::JSON),
        _ => event,
    }
}

/// Some frames of a session, with some of their bytes changed, doubled or left out.
fn session(random: &mut Random) -> Vec<u8> {
    let mut bytes = Frame::hello("culprit").encode();
    for _ in 0..random.below(8) {
        bytes.extend(good_frame(random).encode());
    }
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.number() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, random.pick(&[0, 1, 0xff])),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// What the server says must be whole frames of its own kinds, and a BYE only at the end.
fn check_answers(router: &mut Router, seed: u64) {
    let mut ended = false;
    loop {
        match router.try_recv() {
            Ok(frame) => {
                assert!(!ended, "seed {seed}: {frame:?} behind a BYE");
                match frame.kind {
                    kind::WELCOME | kind::PING | kind::PONG => {}
                    kind::BYE => {
                        assert!(CODES.contains(&frame.name_text()), "seed {seed}: {frame:?}");
                        ended = true;
                    }
                    _ => panic!("seed {seed}: {frame:?}"),
                }
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}

#[test]
fn garbled_sessions_end_by_the_contract() {
    let daemon = Daemon::start("");
    let _bystander = Router::bind(daemon.router, "bystander").echo();
    for seed in 0..1500 {
        let mut random = Random::new(seed);
        let bytes = session(&mut random);
        let mut router = Router::connect(daemon.router);
        let cut = random.below(bytes.len() + 1);
        router.send_bytes(&bytes[..cut]);
        if random.one_in(3) {
            barrier(daemon.http);
        }
        router.send_bytes(&bytes[cut..]);
        router.finish_sending();
        check_answers(&mut router, seed);
    }
    assert_eq!(command(daemon.http, "bystander", "echo", 5000, b"well").body, b"well");
    wait_for_live(&daemon, "router", 1, PATIENCE);
    let census = Census::audited(&daemon);
    census.assert_balanced();
    assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
}

#[test]
fn pure_noise_ends_with_a_fault() {
    let daemon = Daemon::start("router.hello_timeout_s = 0.3");
    let _bystander = Router::bind(daemon.router, "bystander").echo();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let noise: Vec<u8> = (0..1 + random.below(3000)).map(|_| random.number() as u8).collect();
        let mut router = Router::connect(daemon.router);
        router.send_bytes(&noise);
        router.finish_sending();
        check_answers(&mut router, seed);
    }
    assert_eq!(command(daemon.http, "bystander", "echo", 5000, b"well").body, b"well");
}

#[test]
fn good_sessions_cut_at_random_are_good_sessions() {
    let daemon = Daemon::start("");
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut bytes = Frame::hello("hub").encode();
        let mut bodies = Vec::new();
        for n in 0..40_u8 {
            bytes.extend(Frame::event("topic", vec![n; random.below(3000)]).encode());
            let body = vec![n; random.below(65)];
            bytes.extend(Frame::ping(body.clone()).encode());
            bodies.push(body);
        }
        let mut router = Router::connect(daemon.router);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + random.below(4000)).min(rest.len()));
            router.send_bytes(piece);
            if random.one_in(4) {
                barrier(daemon.http);
            }
            rest = behind;
        }
        router.expect(kind::WELCOME);
        for body in bodies {
            assert_eq!(router.recv(), Frame::new(kind::PONG).body(body), "seed {seed}");
        }
    }
}

#[test]
fn a_stream_of_connections_that_say_nothing_is_no_harm() {
    let daemon = Daemon::start("router.hello_timeout_s = 0.3\nclose_grace_s = 0.2");
    let _bystander = Router::bind(daemon.router, "bystander").echo();
    let silent: Vec<Router> = (0..500).map(|_| Router::connect(daemon.router)).collect();
    assert_eq!(command(daemon.http, "bystander", "echo", 5000, b"well").body, b"well");
    wait_for_live(&daemon, "router", 1, PATIENCE);
    for router in &silent {
        router.set_patience(Duration::from_millis(1));
    }
    for mut router in silent {
        let bye = router.try_recv();
        assert!(bye.is_ok_and(|bye| bye.name == b"hello_timeout"));
        assert!(!router.try_recv().is_err_and(|error| is_timeout(&error)), "still open");
    }
}
