//! Contract section 1, Lanes, and Streams: whoever sends or asks for much takes nobody else's turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use conformance::calls::{Census, command, command_in_background, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, kind};
use conformance::http::PATIENCE;
use conformance::router::Router;
use conformance::stream::{Consumer, Sender};

/// Far more than a turn of the loop takes, even on a busy machine in a debug build.
const SOON: Duration = Duration::from_secs(2);

const HEARTBEAT: &str = "router.heartbeat.interval_s = 1\nrouter.heartbeat.timeout_s = 1";

/// The longest of so many PINGs to PONGs.
fn longest_round_trip(router: &mut Router, count: usize) -> Duration {
    let times = (0..count).map(|_| {
        let begun = Instant::now();
        router.ping();
        begun.elapsed()
    });
    times.max().expect("a round trip")
}

/// A stream at full speed for as long as it is wanted: how many rows it has brought to its consumer.
fn full_speed(daemon: &Daemon, id: &str, row: usize, wanted: &AtomicBool) -> u64 {
    let mut router = Router::bind(daemon.router, id);
    let mut consumer = Consumer::get(daemon.http, id, "log");
    let mut sender = Sender::of_octets(router.recv_open());
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            consumer.expect_octets();
            let mut rows = 0_u64;
            while let Ok(row) = consumer.try_row() {
                assert_eq!(row[..8], rows.to_be_bytes());
                rows += 1;
            }
            rows
        });
        let mut row = vec![0; row];
        while wanted.load(Ordering::Relaxed) {
            row[..8].copy_from_slice(&sender.next.to_be_bytes());
            sender.send(&mut router, &row);
        }
        sender.end(&mut router);
        let rows = reader.join().expect("the consumer");
        assert_eq!(rows, sender.next);
        rows
    })
}

#[test]
fn streams_at_full_speed_delay_nobody_and_no_other_stream() {
    let daemon = Daemon::start(HEARTBEAT);
    let mut idle = Router::bind(daemon.router, "idle");
    let wanted = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..8)
            .map(|n| {
                let (daemon, wanted) = (&daemon, &wanted);
                // Large and small rows.
                let row = if n % 2 == 0 { 16_000 } else { 50 };
                scope.spawn(move || full_speed(daemon, &format!("r{n}"), row, wanted))
            })
            .collect();
        wait_for_live(&daemon, "stream", 8, PATIENCE);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2500) {
            let longest = longest_round_trip(&mut idle, 20);
            assert!(longest < SOON, "PING to PONG took {longest:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        wanted.store(false, Ordering::Relaxed);
        let rows: Vec<u64> = streams.into_iter().map(|stream| stream.join().expect("a stream")).collect();
        assert!(rows.iter().all(|&rows| rows > 100), "one starved: {rows:?}");
        let of_one_kind = |first: usize| rows.iter().skip(first).step_by(2);
        for kind in [0, 1] {
            let (least, most) = (of_one_kind(kind).min(), of_one_kind(kind).max());
            assert!(most.expect("four") / least.expect("four") < 20, "{rows:?}");
        }
    });
    let census = Census::audited(&daemon);
    census.assert_well();
    assert_eq!(census.reason("router", "heartbeat_timeout"), 0, "{}", census.0);
}

#[test]
fn the_flood_of_one_router_does_not_take_anothers_turn() {
    let daemon = Daemon::start("");
    let mut floods: Vec<Router> =
        (0..4).map(|n| Router::bind(daemon.router, &format!("flood-{n}"))).collect();
    let mut quiet = Router::bind(daemon.router, "quiet");
    let _echo = Router::bind(daemon.router, "echo").echo();
    let wanted = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for (n, flood) in floods.iter_mut().enumerate() {
            let wanted = &wanted;
            // Tiny frames, long ones, and items of a stream that there is not.
            let frame = match n {
                0 => Frame::event("t", "x"),
                1 => Frame::event("t", vec![b'x'; 16_384]),
                2 => Frame::item(7, 0, ""),
                _ => Frame::reply(9, vec![b'x'; 100]),
            };
            let bytes = frame.encode();
            let burst = bytes.repeat(200_000 / bytes.len());
            scope.spawn(move || {
                while wanted.load(Ordering::Relaxed) {
                    flood.send_bytes(&burst);
                }
            });
        }
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            let longest = longest_round_trip(&mut quiet, 5);
            assert!(longest < SOON, "PING to PONG took {longest:?}");
            let asked = Instant::now();
            assert_eq!(command(daemon.http, "echo", "x", 10_000, b"?").body, b"?");
            assert!(asked.elapsed() < SOON, "a command took {:?}", asked.elapsed());
            // A stream, from the request to its end.
            let asked = Instant::now();
            let mut consumer = Consumer::get(daemon.http, "quiet", "log");
            let mut sender = Sender::of_json(quiet.recv_open());
            for n in 0..30 {
                sender.send(&mut quiet, n.to_string());
            }
            sender.end(&mut quiet);
            consumer.expect_lines();
            for n in 0..30 {
                assert_eq!(consumer.line(), n.to_string().into_bytes());
            }
            consumer.expect_end();
            assert!(asked.elapsed() < SOON, "a stream of 30 rows took {:?}", asked.elapsed());
            for frame in quiet.frames_before_pong() {
                assert_eq!(frame.kind, kind::ACK, "{frame:?}");
            }
            rounds += 1;
        }
        wanted.store(false, Ordering::Relaxed);
        assert!(rounds > 5, "{rounds} rounds in two seconds");
    });
}

#[test]
fn stalled_streams_and_their_heartbeats_do_not_meet() {
    let daemon = Daemon::start("router.heartbeat.interval_s = 1\nrouter.heartbeat.timeout_s = 2");
    let row = vec![7; 16_000];
    std::thread::scope(|scope| {
        for id in ["r1", "r2", "r3", "r4"] {
            let (daemon, row) = (&daemon, &row);
            scope.spawn(move || {
                let mut router = Router::bind(daemon.router, id);
                let mut consumer = Consumer::get_small(daemon.http, id, "log");
                let mut sender = Sender::of_octets(router.recv_open());
                sender.fill(&mut router, row, &consumer);
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(3500) {
                    router.frames_before_pong();
                    std::thread::sleep(Duration::from_millis(100));
                }
                sender.end(&mut router);
                consumer.expect_octets();
                for _ in 0..sender.next {
                    assert!(consumer.row() == *row);
                }
                consumer.expect_end();
                router.frames_before_pong();
            });
        }
    });
    assert_eq!(Census::of(&daemon).reason("router", "heartbeat_timeout"), 0);
}

#[test]
fn a_long_command_to_a_slow_router_does_not_cost_it_its_session() {
    const LENGTH: usize = 150_000;
    let config = "router.heartbeat.interval_s = 0.5\nrouter.heartbeat.timeout_s = 0.5";
    let daemon = Daemon::start(config);
    let mut router = Router::bind_small(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "big", 60_000, vec![1; LENGTH]);
    let mut gathered = 0;
    // About 50 KB a second.
    while gathered < LENGTH {
        let frame = router.recv();
        match frame.kind {
            kind::PING => router.send(&Frame { kind: kind::PONG, ..frame }),
            _ => {
                gathered += frame.body.len();
                std::thread::sleep(Duration::from_millis(frame.body.len() as u64 / 50));
            }
        }
    }
    router.ping();
    router.send(&Frame::reply(1, "done"));
    assert_eq!(caller.join().expect("the caller").body, b"done");
    assert_eq!(Census::of(&daemon).reason("router", "heartbeat_timeout"), 0);
}

#[test]
fn hundreds_of_streams_and_long_commands_beside_each_other_all_come_to_their_ends() {
    const ROUTERS: u32 = 20;
    const STREAMS: u32 = 10;
    const ROWS: u64 = 20;
    let daemon = Daemon::start("");
    let address = daemon.router;
    let routers: Vec<_> = (0..ROUTERS)
        .map(|n| {
            let mut router = Router::bind(address, &format!("r{n}"));
            std::thread::spawn(move || {
                let mut senders: Vec<Sender> = Vec::new();
                let mut begun = 0;
                let mut replied = false;
                // Every stream gets a row in turn, while the parts of a long command come in between.
                while begun < STREAMS || !senders.is_empty() || !replied {
                    let frame = router.recv();
                    match frame.kind {
                        kind::OPEN => {
                            begun += 1;
                            senders.push(Sender::of_octets(conformance::stream::Open::of(&frame)));
                        }
                        kind::ACK => {
                            // One whose END was sent since has left already.
                            let of = senders.iter_mut().find(|sender| sender.open.id == frame.id);
                            if let Some(sender) = of {
                                sender.take(&mut router, frame);
                            }
                        }
                        kind::COMMAND if !frame.is(conformance::frame::flag::MORE) => {
                            replied = true;
                            router.send(&Frame::reply(frame.id, "done"));
                        }
                        kind::COMMAND => {}
                        _ => panic!("{frame:?}"),
                    }
                    for sender in &mut senders {
                        while sender.next < ROWS && sender.fits(4000) {
                            let row = vec![sender.next as u8; 4000];
                            sender.send_at_once(&mut router, row);
                        }
                    }
                    senders.retain(|sender| {
                        if sender.next == ROWS {
                            sender.end(&mut router);
                        }
                        sender.next < ROWS
                    });
                }
                router
            })
        })
        .collect();
    let callers: Vec<_> = (0..ROUTERS)
        .map(|n| command_in_background(daemon.http, &format!("r{n}"), "big", 30_000, vec![1; 200_000]))
        .collect();
    let mut consumers: Vec<Consumer> = (0..ROUTERS * STREAMS)
        .map(|n| Consumer::get(daemon.http, &format!("r{}", n % ROUTERS), "log?max_messages=4"))
        .collect();
    for consumer in &mut consumers {
        consumer.expect_octets();
        for n in 0..ROWS {
            assert_eq!(consumer.row(), vec![n as u8; 4000]);
        }
        consumer.expect_end();
    }
    for caller in callers {
        assert_eq!(caller.join().expect("the caller").body, b"done");
    }
    for router in routers {
        router.join().expect("a router");
    }
    let census = Census::audited(&daemon);
    census.assert_well();
    assert_eq!(census.live("stream"), 0);
}
