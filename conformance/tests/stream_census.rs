//! Contract section 6 for streams: they are counted at both ends, no table names one that is gone, and nothing of them stays.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, kind};
use conformance::http::{Client, PATIENCE};
use conformance::random::Random;
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

#[test]
fn a_response_is_one_stream_however_often_it_is_opened() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let figures = || {
        let census = Census::audited(&daemon);
        census.assert_well();
        ["live", "opened", "unbound"].map(|what| census.count("stream", what))
    };
    assert_eq!(figures(), [0, 0, 0]);
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let mut open = router.recv_open();
    assert_eq!(figures(), [1, 1, 0]);
    for n in 0..3 {
        router.send(&open.json(n, "1"));
        router.send(&open.end(99));
        open = router.expect_reopening(&open, n + 1);
        assert_eq!(figures(), [1, 1, 0]);
    }
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    assert_eq!(figures(), [1, 1, 0]);
    let mut router = Router::bind(daemon.router, "hub");
    let open = router.recv_open();
    assert_eq!(figures(), [1, 1, 0]);
    router.send(&open.end(3));
    consumer.expect_lines();
    for _ in 0..3 {
        consumer.line();
    }
    consumer.expect_end();
    assert_eq!(figures(), [0, 1, 1]);
}

#[test]
fn what_is_held_is_charged_and_given_back() {
    let daemon = Daemon::start("shadow.keep_s = 0");
    let mut watch = Client::connect(daemon.http);
    let mut look = || {
        let census = Census::over(&mut watch, "/v1/census?audit=1");
        census.assert_well();
        census
    };
    look();
    let before = look().memory("live_bytes");
    for _ in 0..2 {
        let mut router = Router::bind(daemon.router, "hub");
        let row = vec![7; 16_000];
        let mut stalled = Vec::new();
        for _ in 0..3 {
            let consumer = Consumer::get_small(daemon.http, "hub", "log?max_bytes=1048576");
            let mut sender = Sender::of_octets(router.recv_open());
            sender.fill(&mut router, &row, &consumer);
            stalled.push(consumer);
        }
        let during = look();
        assert_eq!(during.live("stream"), 3);
        let held = during.memory("live_bytes") - before;
        assert!(held > 3 * 10 * 16_000, "{held} bytes are held by 3 stalled streams");
        drop((router, stalled));
        eventually("all of it is given back", PATIENCE, || {
            let census = look();
            let gone = ["stream", "router"].iter().all(|class| census.live(class) == 0);
            (gone && census.memory("live_bytes") <= before + 1024).then_some(())
        });
    }
}

#[test]
fn bursts_of_streams_leave_nothing() {
    const ROUTERS: usize = 20;
    const STREAMS: usize = 10;
    let daemon = Daemon::start("shadow.keep_s = 0\nstream.resume_s = 0.2");
    let mut watch = Client::connect(daemon.http);
    let mut look = || {
        let census = Census::over(&mut watch, "/v1/census?audit=1");
        census.assert_well();
        census
    };
    look();
    let before = look().memory("live_bytes");
    for burst in 0..3 {
        let mut routers: Vec<Router> =
            (0..ROUTERS).map(|n| Router::bind(daemon.router, &format!("r{n}"))).collect();
        let mut consumers = Vec::new();
        for (n, router) in routers.iter_mut().enumerate() {
            for stream in 0..STREAMS {
                let query = format!("n={stream}");
                let mut consumer = Consumer::get(daemon.http, &format!("r{n}"), &format!("log?{query}"));
                // CANCELs of those before, and OPENs again, may come first.
                let open = loop {
                    let frame = router.recv();
                    if frame.kind == kind::OPEN && frame.body.ends_with(query.as_bytes()) {
                        break Open::of(&frame);
                    }
                };
                for row in 0..10 {
                    router.send(&open.item(row, vec![1; 1000]));
                }
                match stream % 5 {
                    0 => router.send(&open.end(10)),
                    1 => router.send(&open.error("no")),
                    2 => router.send(&open.item(99, "")),
                    3 => consumer.client.finish_sending(),
                    _ => {}
                }
                consumers.push(consumer);
            }
        }
        look();
        // Some go with the routers that are first, some with the consumers.
        if burst % 2 == 0 {
            drop(routers);
            wait_for_live(&daemon, "stream", 0, PATIENCE);
            drop(consumers);
        } else {
            drop(consumers);
            wait_for_live(&daemon, "stream", 0, PATIENCE);
            drop(routers);
        }
        let mut last = String::new();
        let back = conformance::daemon::wait_until(PATIENCE, || {
            let census = look();
            last = format!("{before} bytes before: {}", census.0);
            let gone = census.live("router") == 0 && census.live("http") == 1;
            (gone && census.memory("live_bytes") <= before + 1024).then_some(())
        });
        assert!(back.is_some(), "burst {burst}: {last}");
        let census = look();
        assert_eq!(census.count("stream", "opened"), (burst + 1) * (ROUTERS * STREAMS) as u64);
    }
}

/// A router that answers streams well, badly and not at all, and comes and goes.
fn erratic_router(daemon: std::net::SocketAddr, id: &str, seed: u64, sessions: usize) {
    let mut random = Random::new(seed);
    for _ in 0..sessions {
        let mut router = Router::bind(daemon, id);
        router.set_patience(Duration::from_millis(10));
        for _ in 0..random.below(40) {
            let Ok(frame) = router.try_recv() else { continue };
            if frame.kind != kind::OPEN {
                continue;
            }
            let open = Open::of(&frame);
            let rows = random.below(8) as u64;
            for n in open.from..open.from + rows {
                router.send(&open.json(n, "1"));
            }
            let next = open.from + rows;
            match random.below(8) {
                0 => router.send(&open.error("no")),
                1 => router.send(&open.json(next + 1, "")),
                2 => router.send(&open.end(next + 1)),
                3 => router.send(&Frame::item(open.id + 100, 0, "")),
                4 if rows > 0 => router.send(&open.item(next, "a fault")),
                _ => router.send(&open.end(next)),
            }
        }
        if random.one_in(2) {
            router.reset();
        }
    }
}

/// A consumer that reads, half reads, or hangs up.
fn erratic_consumer(http: std::net::SocketAddr, seed: u64, streams: usize) {
    let mut random = Random::new(seed);
    for _ in 0..streams {
        let id = format!("r{}", random.below(3));
        let mut consumer = Consumer::get(http, &id, "log");
        consumer.client.set_patience(Duration::from_millis(random.below(60) as u64 + 1));
        if random.one_in(3) {
            continue;
        }
        // It is told something, it is cut, or it gives up; only other bytes than these would be wrong.
        if let Ok(answer) = consumer.client.response_to("GET") {
            assert!([200, 404, 429, 502, 503].contains(&answer.status), "{answer:?}");
            assert!(answer.status != 200 || answer.body.chunks(2).all(|line| line == b"1\n"), "{answer:?}");
        }
    }
}

#[test]
fn the_counts_agree_at_every_moment_of_a_storm() {
    let daemon = Daemon::start("shadow.keep_s = 0\nstream.resume_s = 0.2\nstream.idle_s = 0.1");
    let mut watch = Client::connect(daemon.http);
    let mut look = || {
        let census = Census::over(&mut watch, "/v1/census?audit=1");
        census.assert_well();
        census
    };
    look();
    let before = look().memory("live_bytes");
    let (router, http) = (daemon.router, daemon.http);
    let mut storm = Vec::new();
    for n in 0..3 {
        storm.push(std::thread::spawn(move || erratic_router(router, &format!("r{n}"), n, 6)));
        storm.push(std::thread::spawn(move || erratic_consumer(http, 100 + n, 60)));
        // Another that has the same id: they take each other over.
        storm.push(std::thread::spawn(move || erratic_router(router, &format!("r{n}"), 200 + n, 6)));
    }
    while !storm.iter().all(std::thread::JoinHandle::is_finished) {
        look();
        std::thread::sleep(Duration::from_millis(1));
    }
    for thread in storm {
        thread.join().expect("a part of the storm");
    }
    eventually("nothing is left of it", PATIENCE, || {
        let census = look();
        let gone = census.live("router") == 0 && census.live("stream") == 0 && census.live("http") == 1;
        (gone && census.memory("live_bytes") <= before + 1024).then_some(())
    });
    assert!(look().count("stream", "opened") > 0, "the storm was none");
}
