//! Contract section 1, Streams: a consumer that hangs up is a CANCEL; and nothing of its stream stays.

use std::time::Duration;

use conformance::calls::{Census, command_in_background, oneway, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, MAX_FRAGMENT, flag, kind};
use conformance::http::PATIENCE;
use conformance::kernel::settled;
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

/// RST instead of FIN.
fn reset(consumer: Consumer) {
    let socket = socket2::SockRef::from(consumer.client.stream());
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

#[test]
fn a_hang_up_cancels_the_stream() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for rows in [0, 3] {
        for way in ["close", "FIN", "RST"] {
            let mut consumer = Consumer::get(daemon.http, "hub", "log");
            let open = router.recv_open();
            for n in 0..rows {
                router.send(&open.json(n, "1"));
            }
            if rows > 0 {
                consumer.expect_lines();
                for _ in 0..rows {
                    assert_eq!(consumer.line(), b"1");
                }
            }
            let mut kept = None;
            match way {
                "close" => drop(consumer),
                "RST" => reset(consumer),
                _ => {
                    consumer.client.finish_sending();
                    kept = Some(consumer);
                }
            }
            router.expect_cancel(open.id);
            wait_for_live(&daemon, "stream", 0, PATIENCE);
            // Its rows that are on their way fall on nothing, and nothing is acknowledged any more.
            let before = Census::of(&daemon).late_stream_frames();
            router.send(&open.json(rows, "1"));
            router.send(&open.end(rows + 1));
            assert_eq!(router.frames_before_pong(), [], "{way} behind {rows} rows");
            assert_eq!(Census::of(&daemon).late_stream_frames() - before, 2);
            drop(kept);
        }
    }
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_stalled_consumer_that_hangs_up_takes_what_is_held_with_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    for way in ["close", "FIN", "RST"] {
        let mut consumer = Consumer::get_small(daemon.http, "hub", "log?max_bytes=1048576");
        let mut sender = Sender::of_octets(router.recv_open());
        sender.fill(&mut router, &row, &consumer);
        let mut kept = None;
        match way {
            "close" => drop(consumer),
            "RST" => reset(consumer),
            _ => {
                consumer.client.finish_sending();
                kept = Some(consumer);
            }
        }
        router.expect_cancel(sender.open.id);
        wait_for_live(&daemon, "stream", 0, PATIENCE);
        drop(kept);
    }
    assert_eq!(router.frames_before_pong(), []);
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_hang_up_behind_the_end_is_no_cancel() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    sender.end(&mut router);
    router.frames_before_pong();
    drop(consumer);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    assert_eq!(router.frames_before_pong(), []);
}

#[test]
fn a_hang_up_is_seen_behind_a_pipelined_request() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for (count, row) in [(1, false), (1, true), (100, false), (100, true)] {
        let mut consumer = Consumer::get(daemon.http, "hub", "log");
        let open = router.recv_open();
        if row {
            router.send(&open.json(0, "1"));
            consumer.expect_lines();
        }
        for _ in 0..count {
            consumer.client.send_request("GET", "/v1/routers/hub/streams/log", &[], b"");
        }
        consumer.client.finish_sending();
        router.expect_cancel(open.id);
        wait_for_live(&daemon, "stream", 0, PATIENCE);
        // The pipelined ones were never carried out.
        assert_eq!(router.frames_before_pong(), []);
    }
}

#[test]
fn an_open_that_was_not_written_is_never_sent() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 600_000]).status, 202);
    settled(router.stream());
    for _ in 0..3 {
        let consumer = Consumer::get(daemon.http, "hub", "log");
        wait_for_live(&daemon, "stream", 1, PATIENCE);
        drop(consumer);
        wait_for_live(&daemon, "stream", 0, PATIENCE);
    }
    assert_eq!(router.recv_command().body.len(), 600_000);
    assert_eq!(router.frames_before_pong(), []);
    Census::audited(&daemon).assert_well();
}

#[test]
fn an_open_that_was_not_written_is_asked_of_the_next_session() {
    let daemon = Daemon::start("");
    let router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 600_000]).status, 202);
    settled(router.stream());
    let mut consumer = Consumer::get(daemon.http, "hub", "log?from=4");
    wait_for_live(&daemon, "stream", 1, PATIENCE);
    let mut router = Router::bind(daemon.router, "hub");
    let open = router.recv_open();
    assert_eq!((open.id, open.from), (1, 4));
    router.send(&open.end(4));
    consumer.expect_lines();
    consumer.expect_end();
}

#[test]
fn of_many_consumers_only_those_that_left_are_cancelled() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumers: Vec<_> = (0..12)
        .map(|n| {
            let consumer = Consumer::get(daemon.http, "hub", &format!("log?n={n}"));
            (router.recv_open(), consumer)
        })
        .collect();
    let mut left: Vec<u32> = Vec::new();
    let mut number = 0;
    consumers.retain(|(open, _)| {
        number += 1;
        let leaves = number % 3 == 0;
        left.extend(leaves.then_some(open.id));
        !leaves
    });
    let mut cancelled: Vec<u32> = left
        .iter()
        .map(|_| {
            let frame = router.expect(kind::CANCEL);
            assert_eq!(frame, Frame::new(kind::CANCEL).id(frame.id));
            frame.id
        })
        .collect();
    cancelled.sort_unstable();
    assert_eq!(cancelled, left);
    for (open, mut consumer) in consumers {
        router.send(&open.json(0, "1"));
        router.send(&open.end(1));
        consumer.expect_lines();
        assert_eq!(consumer.line(), b"1");
        consumer.expect_end();
    }
}

#[test]
fn the_reason_of_a_hang_up_is_told_apart() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let consumer = Consumer::get(daemon.http, "hub", "log");
    router.recv_open();
    reset(consumer);
    wait_for_reason(&daemon, "http", "peer_reset", 1, PATIENCE);
    let before = Census::of(&daemon).reason("http", "peer_closed");
    drop(Consumer::get(daemon.http, "hub", "log"));
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    conformance::daemon::eventually("it was closed", PATIENCE, || {
        (Census::of(&daemon).reason("http", "peer_closed") > before).then_some(())
    });
}

#[test]
fn a_fin_behind_the_end_does_not_take_what_is_queued() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    sender.end(&mut router);
    router.frames_before_pong();
    // No answer is pending any more: all of it is queued.
    consumer.client.finish_sending();
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    consumer.expect_end();
    consumer.client.expect_close();
}

#[test]
fn of_opens_that_wait_only_those_of_who_left_are_missing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 600_000]).status, 202);
    settled(router.stream());
    let mut consumers = Vec::new();
    for n in 1..=5 {
        consumers.push(Consumer::get(daemon.http, "hub", &format!("log?n={n}")));
        wait_for_live(&daemon, "stream", n, PATIENCE);
    }
    for n in [0, 1, 2] {
        // Those that asked first, third and fifth.
        drop(consumers.remove(n));
        wait_for_live(&daemon, "stream", 4 - n as u64, PATIENCE);
    }
    // They take turns with the parts of the one-way command.
    let mut frames = vec![router.recv()];
    while frames.iter().all(|frame| frame.kind != kind::COMMAND || frame.is(flag::MORE)) {
        frames.push(router.recv());
    }
    frames.extend([router.frames_before_pong(), router.frames_before_pong()].concat());
    let others = frames.iter().filter(|frame| frame.kind != kind::COMMAND);
    let opens: Vec<String> = others.map(|frame| Open::of(frame).query).collect();
    assert_eq!(opens, ["n=2", "n=4"]);
}

#[test]
fn an_open_that_was_begun_is_finished_and_cancelled() {
    const STREAMS: u64 = 16;
    let daemon = Daemon::start("http.max_header_bytes = 65536");
    let mut router = Router::bind_small(daemon.router, "hub");
    let query = "q".repeat(MAX_FRAGMENT - 16);
    let consumers: Vec<Consumer> =
        (0..STREAMS).map(|_| Consumer::get(daemon.http, "hub", &format!("log?{query}"))).collect();
    wait_for_live(&daemon, "stream", STREAMS, PATIENCE);
    settled(router.stream());
    drop(consumers);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    let mut frames = router.frames_before_pong();
    frames.extend(router.frames_before_pong());
    let of_kind = |kind: u8| frames.iter().filter(move |frame| frame.kind == kind);
    let opened: Vec<u32> = of_kind(kind::OPEN).map(|frame| Open::of(frame).id).collect();
    let mut cancelled: Vec<u32> = of_kind(kind::CANCEL).map(|frame| frame.id).collect();
    cancelled.sort_unstable();
    assert_eq!(opened, cancelled);
    assert_eq!(frames.len(), opened.len() + cancelled.len(), "other frames");
    assert!((1..STREAMS as usize).contains(&opened.len()), "{opened:?} prove nothing");
    // No CANCEL before its OPEN.
    let place = |wanted: u8, id: u32| frames.iter().position(|frame| (frame.kind, frame.id) == (wanted, id));
    assert!(opened.iter().all(|&id| place(kind::OPEN, id) < place(kind::CANCEL, id)));
}

#[test]
fn a_command_of_the_same_id_is_not_touched() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
    let command = router.recv_command();
    let consumer = Consumer::get(daemon.http, "hub", "log");
    let open = router.recv_open();
    assert_eq!((command.id, open.id), (1, 1));
    drop(consumer);
    router.expect_cancel(1);
    router.send(&Frame::reply(1, "still there"));
    assert_eq!(caller.join().expect("the caller").body, b"still there");
}
