//! Contract section 1, Faults and Ids, for ITEM and END: what is a protocol error, and what falls on nothing.

use conformance::calls::{Census, oneway, wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, MAX_FRAGMENT, flag, header, kind};
use conformance::http::PATIENCE;
use conformance::kernel::settled;
use conformance::router::Router;
use conformance::stream::{Consumer, MAX_ROW, Open};

/// A stream of which one row has come.
struct Begun {
    router: Router,
    open: Open,
    consumer: Consumer,
}

impl Begun {
    fn new(daemon: &Daemon, json: bool) -> Self {
        let mut router = Router::bind(daemon.router, "hub");
        let mut consumer = Consumer::get(daemon.http, "hub", "log");
        let open = router.recv_open();
        if json {
            router.send(&open.json(0, "0"));
            consumer.expect_lines();
            assert_eq!(consumer.line(), b"0");
        } else {
            router.send(&open.item(0, "0"));
            consumer.expect_octets();
            assert_eq!(consumer.row(), b"0");
        }
        Self { router, open, consumer }
    }

    /// These bytes end the session with this BYE, and the response is cut.
    #[track_caller]
    fn fault(mut self, case: &str, bytes: &[u8], code: &str) {
        self.router.send_bytes(bytes);
        let frames = self.router.recv_to_end();
        let bye = frames.last().unwrap_or_else(|| panic!("{case}: no BYE"));
        assert_eq!((bye.kind, bye.name_text()), (kind::BYE, code), "{case}: {frames:?}");
        // An ACK may have been under way; nothing else is said.
        let others = frames[..frames.len() - 1].iter().filter(|frame| frame.kind != kind::ACK);
        assert_eq!(others.count(), 0, "{case}: {frames:?}");
        assert_eq!(self.consumer.expect_cut(), b"", "{case}");
    }
}

#[test]
fn a_row_of_another_form_is_a_protocol_error() {
    let daemon = Daemon::start("");
    let begun = Begun::new(&daemon, true);
    let octets = begun.open.item(1, "x").encode();
    begun.fault("octets among lines", &octets, "protocol_error");
    let begun = Begun::new(&daemon, false);
    let json = begun.open.json(1, "1").encode();
    begun.fault("a line among octets", &json, "protocol_error");
    wait_for_reason(&daemon, "router", "protocol_error", 2, PATIENCE);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    Census::audited(&daemon).assert_well();
}

#[test]
fn bad_items_and_ends_of_an_open_stream_are_protocol_errors() {
    let daemon = Daemon::start("");
    let item = |body: &[u8]| Frame::new(kind::ITEM).id(1).flags(flag::JSON).body(body);
    let end = |body: &[u8]| Frame::new(kind::END).id(1).body(body);
    for (case, frame) in [
        ("ITEM without a number", item(b"")),
        ("ITEM with half a number", item(&[0; 7])),
        ("END without a number", end(b"")),
        ("END with half a number", end(&[0, 0, 0, 1])),
        ("END with more than a number", end(&[0, 0, 0, 0, 0, 0, 0, 1, 0])),
        ("END with an error in bad UTF-8", end(b"oh \xff").flags(flag::ERROR)),
        ("ITEM with MORE", item(&[0; 9]).flags(flag::JSON | flag::MORE)),
        ("ITEM with ERROR", item(&[0; 9]).flags(flag::JSON | flag::ERROR)),
        ("END with JSON", end(&[0; 8]).flags(flag::JSON)),
        ("END with MORE", end(&[0; 8]).flags(flag::MORE)),
        ("ITEM with a name", item(&[0; 9]).name("log")),
        ("END with a name", end(&[0; 8]).name("log")),
    ] {
        Begun::new(&daemon, true).fault(case, &frame.encode(), "protocol_error");
    }
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_row_of_more_than_a_fragment_is_too_large() {
    let daemon = Daemon::start("");
    let length = MAX_FRAGMENT as u32 + 1;
    // By the header alone.
    let bytes = header(kind::ITEM, flag::JSON, 0, 1, length);
    Begun::new(&daemon, true).fault("a long row", &bytes, "too_large");
    let bytes = header(kind::END, flag::ERROR, 0, 1, length);
    Begun::new(&daemon, true).fault("a long error", &bytes, "too_large");
    let begun = Begun::new(&daemon, true);
    let longest = begun.open.json(1, vec![b'1'; MAX_ROW]).encode();
    assert_eq!(longest.len(), 12 + MAX_FRAGMENT);
    let Begun { mut router, open, mut consumer } = begun;
    router.send_bytes(&longest);
    router.send(&open.end(2));
    assert_eq!(consumer.line().len(), MAX_ROW);
    consumer.expect_end();
}

#[test]
fn items_and_ends_of_streams_that_never_were_fall_on_nothing() {
    let daemon = Daemon::start("");
    let Begun { mut router, open, mut consumer } = Begun::new(&daemon, true);
    let before = Census::of(&daemon).late_stream_frames();
    let strays = [2, 3, 77, u32::MAX]
        .map(|id| [Frame::item(id, 0, "x"), Frame::end(id, 1), Frame::stream_error(id, "x")]);
    for frame in strays.iter().flatten() {
        router.send(frame);
    }
    let frames = router.frames_before_pong();
    assert!(frames.iter().all(|frame| frame.kind == kind::ACK), "{frames:?}");
    assert_eq!(Census::of(&daemon).late_stream_frames() - before, 12);
    router.send(&open.end(1));
    consumer.expect_end();
}

#[test]
fn what_comes_behind_an_end_falls_on_nothing() {
    let daemon = Daemon::start("");
    let Begun { mut router, open, mut consumer } = Begun::new(&daemon, true);
    let before = Census::of(&daemon).late_stream_frames();
    let frames = [
        open.json(1, "1"),
        open.end(2),
        open.json(2, "late"),
        open.item(2, "late and of another form"),
        open.end(2),
        open.end(9),
        open.error("late"),
    ];
    router.send_bytes(&frames.iter().flat_map(Frame::encode).collect::<Vec<_>>());
    router.frames_before_pong();
    assert_eq!(Census::of(&daemon).late_stream_frames() - before, 5);
    assert_eq!(consumer.line(), b"1");
    consumer.expect_end();
    // Nothing was asked for again.
    assert_eq!(router.frames_before_pong(), []);
}

#[test]
fn what_comes_behind_an_end_that_is_held_falls_on_nothing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = conformance::stream::Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    sender.end(&mut router);
    let before = Census::of(&daemon).late_stream_frames();
    // As many as no window allows.
    for n in 0..30 {
        router.send(&sender.open.item(sender.next + n, "late"));
    }
    router.send(&sender.open.error("late"));
    assert_eq!(router.frames_before_pong(), []);
    assert_eq!(Census::of(&daemon).late_stream_frames() - before, 31);
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    consumer.expect_end();
}

#[test]
fn a_fault_takes_all_streams_of_its_router_and_no_other() {
    let daemon = Daemon::start("");
    let Begun { mut router, mut consumer, .. } = Begun::new(&daemon, true);
    let mut without_a_head = Consumer::get(daemon.http, "hub", "log");
    router.recv_open();
    let mut other = Router::bind(daemon.router, "other");
    let mut kept = Consumer::get(daemon.http, "other", "log");
    let theirs = other.recv_open();
    router.send(&Frame::reply(0, ""));
    assert_eq!(router.recv_to_end().last().map(Frame::name_text), Some("protocol_error"));
    assert_eq!(consumer.expect_cut(), b"");
    without_a_head.expect_problem(503, "router_lost");
    other.send(&theirs.json(0, "1"));
    other.send(&theirs.end(1));
    kept.expect_lines();
    assert_eq!(kept.line(), b"1");
    kept.expect_end();
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_router_cannot_touch_the_stream_of_another() {
    let daemon = Daemon::start("");
    let Begun { mut router, open, mut consumer } = Begun::new(&daemon, true);
    let mut other = Router::bind(daemon.router, "other");
    let before = Census::of(&daemon).late_stream_frames();
    // The same id, which is none in that session.
    other.send(&open.json(1, "foreign"));
    other.send(&open.end(1));
    assert_eq!(other.frames_before_pong(), []);
    assert_eq!(Census::of(&daemon).late_stream_frames() - before, 2);
    router.send(&open.json(1, "own"));
    router.send(&open.end(2));
    assert_eq!(consumer.line(), b"own");
    consumer.expect_end();
}

#[test]
fn items_of_an_open_that_was_not_written_fall_on_nothing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 600_000]).status, 202);
    settled(router.stream());
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    wait_for_live(&daemon, "stream", 1, PATIENCE);
    // A router that guesses the id.
    let before = Census::of(&daemon).late_stream_frames();
    router.send(&Frame::item(1, 0, "guessed"));
    router.send(&Frame::item(1, 7, "guessed"));
    router.send(&Frame::end(1, 0));
    eventually("they are counted", PATIENCE, || {
        (Census::of(&daemon).late_stream_frames() == before + 3).then_some(())
    });
    let open = loop {
        let frame = router.recv();
        if frame.kind == kind::OPEN {
            break Open::of(&frame);
        }
        assert_eq!(frame.kind, kind::COMMAND, "{frame:?}");
    };
    assert_eq!((open.id, open.from), (1, 0));
    router.send(&open.json(0, "asked for"));
    router.send(&open.end(1));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"asked for");
    consumer.expect_end();
}
