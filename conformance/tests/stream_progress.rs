//! Contract section 1, No progress: a stream that brings nothing for `stream.idle_s`, or no new row in eleven OPENs, ends.

use std::time::{Duration, Instant};

use conformance::calls::{Census, oneway, wait_for_live};
use conformance::daemon::{Daemon, try_start};
use conformance::frame::{Frame, kind};
use conformance::http::PATIENCE;
use conformance::kernel::settled;
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

/// How many OPENs in a row may bring no new row: the first and ten reopenings.
const OPENS: u32 = 11;

/// Answers OPENs with a gap each, until the server does not open again: all the OPENs, with the one that is given.
#[track_caller]
fn gaps_only(router: &mut Router, first: Open, gap: impl Fn(&Open) -> Frame) -> Vec<Open> {
    let mut opens = vec![first];
    loop {
        let open = opens.last().expect("an OPEN").clone();
        router.send(&gap(&open));
        router.expect_cancel(open.id);
        // The consumer has nothing to take, so the OPEN follows at once, or never.
        match router.frames_before_pong().as_slice() {
            [] => match router.frames_before_pong().as_slice() {
                [] => return opens,
                [again] => opens.push(Open::of(again)),
                more => panic!("{more:?}"),
            },
            [again] => opens.push(Open::of(again)),
            more => panic!("{more:?}"),
        }
        assert!(opens.len() < 50, "it opens for ever");
    }
}

#[test]
fn eleven_opens_without_a_row_end_a_stream_without_a_head() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    type Gap = fn(&Open) -> Frame;
    let gaps: [Gap; 3] = [|open| open.json(open.from + 1, "x"), |open| open.end(0), |open| open.json(0, "x")];
    for gap in gaps {
        let mut consumer = Consumer::get(daemon.http, "hub", "log?from=3");
        let first = router.recv_open();
        let opens = gaps_only(&mut router, first, gap);
        assert_eq!(opens.len(), OPENS as usize);
        assert!(opens.iter().all(|open| open.from == 3), "{opens:?}");
        assert!(opens.windows(2).all(|pair| pair[1].id == pair[0].id + 1), "{opens:?}");
        let problem = consumer.expect_problem(502, "router_error");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("row")), "{problem}");
        // The connection is none the worse for it.
        assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
    }
    wait_for_live(&daemon, "stream", 0, PATIENCE);
}

#[test]
fn eleven_opens_without_a_row_cut_a_response() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let first = router.recv_open();
    router.send(&first.json(0, "0"));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"0");
    router.send(&first.json(5, "lost"));
    let again = router.expect_reopening(&first, 1);
    let opens = gaps_only(&mut router, again, |open| open.json(9, "lost"));
    // The first one had brought a row; ten reopenings have not.
    assert_eq!(opens.len(), 10);
    assert_eq!(consumer.expect_cut(), b"");
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    router.ping();
}

#[test]
fn a_new_row_begins_the_count_anew() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let mut open = router.recv_open();
    for row in 0..4 {
        // But for the very first, the OPEN behind a row is a reopening itself.
        let barren = if row == 0 { OPENS - 1 } else { OPENS - 2 };
        for _ in 0..barren {
            router.send(&open.end(99));
            open = router.expect_reopening(&open, row);
        }
        router.send(&open.json(row, "new"));
        router.send(&open.end(99));
        open = router.expect_reopening(&open, row + 1);
    }
    router.send(&open.end(4));
    consumer.expect_lines();
    for _ in 0..4 {
        assert_eq!(consumer.line(), b"new");
    }
    consumer.expect_end();
}

#[test]
fn reconnects_that_bring_no_row_are_counted_too() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    router.recv_open();
    let mut opens = 1;
    loop {
        drop(router);
        wait_for_live(&daemon, "router", 0, PATIENCE);
        router = Router::bind(daemon.router, "hub");
        // An OPEN, or nothing any more.
        let frames = [router.frames_before_pong(), router.frames_before_pong()].concat();
        match frames.as_slice() {
            [] => break,
            [open] => assert_eq!(Open::of(open).from, 0),
            more => panic!("{more:?}"),
        }
        opens += 1;
        assert!(opens < 50, "it opens for ever");
    }
    assert_eq!(opens, OPENS);
    let answer = consumer.client.response();
    assert!([502, 503].contains(&answer.status), "{answer:?}");
}

#[test]
fn a_stream_that_brings_nothing_ends() {
    let daemon = Daemon::start("stream.idle_s = 0.5");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let open = router.recv_open();
    let begun = Instant::now();
    // A router that is well, and a stream that is not.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(router.frames_before_pong(), []);
        router.send(&Frame::event("state", "well"));
    }
    router.expect_cancel(open.id);
    assert!((450..5000).contains(&begun.elapsed().as_millis()), "after {:?}", begun.elapsed());
    let problem = consumer.expect_problem(502, "router_error");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("row")), "{problem}");
    assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_stream_that_stops_is_cut() {
    let daemon = Daemon::start("stream.idle_s = 0.4");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let mut sender = Sender::of_json(router.recv_open());
    let begun = Instant::now();
    consumer.client.set_patience(PATIENCE);
    for n in 0..6 {
        // Each row gives it as long again.
        std::thread::sleep(Duration::from_millis(150));
        sender.send(&mut router, n.to_string());
        sender.wait_for_acks(&mut router);
    }
    router.expect_cancel(sender.open.id);
    assert!(begun.elapsed() > Duration::from_millis(1250), "after {:?}", begun.elapsed());
    consumer.expect_lines();
    for n in 0..6 {
        assert_eq!(consumer.line(), n.to_string().into_bytes());
    }
    assert_eq!(consumer.expect_cut(), b"");
    wait_for_live(&daemon, "stream", 0, PATIENCE);
}

#[test]
fn a_closed_window_is_no_silence() {
    let daemon = Daemon::start("stream.idle_s = 0.4");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    for gap in [false, true] {
        let mut consumer = Consumer::get_small(daemon.http, "hub", "log?max_messages=3");
        let mut sender = Sender::of_octets(router.recv_open());
        sender.fill(&mut router, &row, &consumer);
        let open = sender.open.clone();
        if gap {
            // Nothing is open now at all, until the consumer has taken what is held.
            router.send(&open.end(0));
            router.expect_cancel(open.id);
        }
        router.expect_silence(Duration::from_millis(1200));
        consumer.expect_octets();
        for _ in 0..sender.next {
            assert!(consumer.row() == row);
        }
        if gap {
            sender = Sender::of_octets(router.expect_open_again(&open, sender.next));
        } else {
            sender.wait_for_acks(&mut router);
        }
        sender.end(&mut router);
        consumer.expect_end();
    }
}

#[test]
fn a_window_that_opens_again_gives_the_whole_time() {
    let daemon = Daemon::start("stream.idle_s = 0.6");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log?max_messages=3");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    router.expect_silence(Duration::from_millis(900));
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    sender.wait_for_acks(&mut router);
    let begun = Instant::now();
    router.expect_cancel(sender.open.id);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(400), "cut {waited:?} after the window had opened");
    assert_eq!(consumer.expect_cut(), b"");
}

#[test]
fn the_time_begins_when_the_open_is_written() {
    let daemon = Daemon::start("stream.idle_s = 1");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 600_000]).status, 202);
    settled(router.stream());
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    // A router that does not read cannot be asked.
    consumer.client.expect_silence(Duration::from_millis(1500));
    let until = |router: &mut Router, kind: u8| loop {
        let frame = router.recv();
        if frame.kind == kind {
            return frame;
        }
        assert_eq!(frame.kind, kind::COMMAND, "{frame:?}");
    };
    let open = Open::of(&until(&mut router, kind::OPEN));
    let begun = Instant::now();
    assert_eq!(until(&mut router, kind::CANCEL).id, open.id);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(800), "ended {waited:?} after the OPEN was there");
    consumer.expect_problem(502, "router_error");
}

#[test]
fn the_time_is_not_of_one_open_but_of_rows() {
    // A router that answers every OPEN with a gap at once brings ITEMs, but no progress: the count ends it, not the time.
    let daemon = Daemon::start("stream.idle_s = 30");
    let mut router = Router::bind(daemon.router, "hub");
    let begun = Instant::now();
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let first = router.recv_open();
    gaps_only(&mut router, first, |open| open.end(7));
    consumer.expect_problem(502, "router_error");
    assert!(begun.elapsed() < Duration::from_secs(10), "after {:?}", begun.elapsed());
}

#[test]
fn zero_is_refused() {
    for key in ["stream.resume_s", "stream.idle_s", "router.max_streams"] {
        for value in ["0", "-1", "\"x\""] {
            let (status, stderr) = match try_start(&format!("{key} = {value}")) {
                Err(refusal) => refusal,
                Ok(_) => panic!("{key} = {value} is accepted"),
            };
            assert_eq!(status.code(), Some(2), "{stderr}");
            let name = key.split('.').next_back().expect("a name");
            assert!(stderr.contains(name), "{stderr}");
        }
    }
}
