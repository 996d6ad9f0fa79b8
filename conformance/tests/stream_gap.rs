//! Contract section 1, Gap: what was gathered is thrown away, and the stream is opened again at the first missing row when
//! the consumer has taken all before it. The consumer sees every row once, in order.

use std::time::Duration;

use conformance::calls::Census;
use conformance::daemon::Daemon;
use conformance::frame::{Frame, kind};
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

struct Scene {
    daemon: Daemon,
    router: Router,
}

impl Scene {
    fn new(config: &str) -> Self {
        let daemon = Daemon::start(config);
        let router = Router::bind(daemon.router, "hub");
        Self { daemon, router }
    }

    fn open(&mut self, stream: &str) -> (Open, Consumer) {
        let consumer = Consumer::get(self.daemon.http, "hub", stream);
        (self.router.recv_open(), consumer)
    }

    fn late(&self) -> u64 {
        Census::of(&self.daemon).late_stream_frames()
    }

    fn send_all(&mut self, frames: &[Frame]) {
        self.router.send_bytes(&frames.iter().flat_map(Frame::encode).collect::<Vec<_>>());
    }

    /// The rest of the rows up to `count`, and the end.
    fn finish(&mut self, open: &Open, count: u64) {
        let mut sender = Sender::of_json(open.clone());
        for n in open.from..count {
            sender.send(&mut self.router, n.to_string());
        }
        sender.end(&mut self.router);
    }
}

/// Rows that are their own numbers, each once and in order, and the end.
#[track_caller]
fn expect_rows(consumer: &mut Consumer, from: u64, count: u64) {
    consumer.expect_lines();
    for n in from..count {
        assert_eq!(consumer.line(), n.to_string().into_bytes());
    }
    consumer.expect_end();
}

#[test]
fn an_item_that_is_not_the_expected_one_is_a_gap() {
    let mut scene = Scene::new("");
    // One too far, far too far, the last one again, one from before the beginning, and the very last number.
    for wrong in [14, 1000, 12, 3, 0, u64::MAX] {
        let (open, mut consumer) = scene.open("log?from=10&max_messages=9&max_bytes=16385&x=1");
        scene.send_all(&[
            open.json(10, "10"),
            open.json(11, "11"),
            open.json(12, "12"),
            open.json(wrong, "wrong"),
        ]);
        let new = scene.router.expect_reopening(&open, 13);
        assert_eq!(new.id, open.id + 1);
        scene.finish(&new, 20);
        expect_rows(&mut consumer, 10, 20);
    }
}

#[test]
fn a_first_item_that_is_wrong_is_a_gap() {
    let mut scene = Scene::new("");
    for wrong in [0, 4, 6] {
        let (open, mut consumer) = scene.open("log?from=5");
        // Its form fixes nothing, because it is no row.
        scene.router.send(&open.item(wrong, "wrong"));
        let new = scene.router.expect_reopening(&open, 5);
        scene.finish(&new, 8);
        expect_rows(&mut consumer, 5, 8);
    }
}

#[test]
fn an_end_with_a_wrong_number_is_a_gap() {
    let mut scene = Scene::new("");
    for wrong in [0, 1, 3, 5, u64::MAX] {
        let (open, mut consumer) = scene.open("log?from=1");
        scene.send_all(&[open.json(1, "1"), open.json(2, "2"), open.json(3, "3"), open.end(wrong)]);
        let new = scene.router.expect_reopening(&open, 4);
        // The rows were all there: only the number was wrong.
        scene.router.send(&new.end(4));
        expect_rows(&mut consumer, 1, 4);
    }
    let (open, mut consumer) = scene.open("log?from=7");
    scene.router.send(&open.end(0));
    let new = scene.router.expect_reopening(&open, 7);
    scene.router.send(&new.end(7));
    expect_rows(&mut consumer, 7, 7);
}

#[test]
fn late_items_of_the_old_id_fall_on_nothing() {
    let mut scene = Scene::new("");
    let (open, mut consumer) = scene.open("log");
    scene.send_all(&[open.json(0, "0"), open.json(2, "2")]);
    let new = scene.router.expect_reopening(&open, 1);
    let before = scene.late();
    // Even the ones that would be right, and of another form, and an END.
    scene.send_all(&[
        open.json(1, "old"),
        open.item(3, "old"),
        new.json(1, "1"),
        open.json(2, "old"),
        open.end(1),
        open.error("old"),
        new.json(2, "2"),
    ]);
    scene.router.frames_before_pong();
    assert_eq!(scene.late() - before, 5);
    scene.router.send(&new.end(3));
    expect_rows(&mut consumer, 0, 3);
    Census::audited(&scene.daemon).assert_well();
}

#[test]
fn what_comes_behind_the_gap_in_one_write_falls_on_nothing() {
    let mut scene = Scene::new("");
    let (open, mut consumer) = scene.open("log");
    let before = scene.late();
    scene.send_all(&[
        open.json(0, "0"),
        open.json(2, "lost"),
        open.json(1, "lost"),
        open.json(3, "lost"),
        open.end(4),
    ]);
    let new = scene.router.expect_reopening(&open, 1);
    // Whether the item that made the gap counts is not said.
    assert!((3..=4).contains(&(scene.late() - before)));
    scene.finish(&new, 5);
    expect_rows(&mut consumer, 0, 5);
}

#[test]
fn the_cancel_comes_at_once_and_the_open_when_all_is_taken() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(scene.daemon.http, "hub", "log");
    let open = scene.router.recv_open();
    let mut sender = Sender::of_octets(open.clone());
    sender.fill(&mut scene.router, &row, &consumer);
    scene.router.send(&open.item(sender.next + 1, ""));
    // Nothing but the CANCEL: no ACK of the old id behind it, no OPEN before the consumer has taken what is held.
    assert_eq!(scene.router.frames_before_pong(), [Frame::new(kind::CANCEL).id(open.id)]);
    scene.router.expect_silence(Duration::from_millis(500));
    consumer.expect_octets();
    for _ in 0..sender.unacknowledged {
        assert!(consumer.row() == row);
    }
    for _ in sender.unacknowledged..sender.next {
        assert!(consumer.row() == row);
    }
    let new = scene.router.expect_open_again(&open, sender.next);
    scene.router.send(&new.item(new.from, "last"));
    scene.router.send(&new.end(new.from + 1));
    assert_eq!(consumer.row(), b"last");
    consumer.expect_end();
}

#[test]
fn the_open_waits_for_the_last_row_and_not_for_the_one_before() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(scene.daemon.http, "hub", "log?max_messages=20&max_bytes=1048576");
    let open = scene.router.recv_open();
    let mut sender = Sender::of_octets(open.clone());
    sender.fill(&mut scene.router, &row, &consumer);
    let held = sender.next - sender.unacknowledged;
    assert!(held > 10, "{held} rows held");
    scene.router.send(&open.end(0));
    scene.router.expect_cancel(open.id);
    consumer.expect_octets();
    // The kernels take less than the half of what is held still.
    for _ in 0..sender.unacknowledged + held / 4 {
        assert!(consumer.row() == row);
    }
    conformance::kernel::settled(consumer.client.stream());
    assert_eq!(scene.router.frames_before_pong(), [], "opened again with rows that nobody has taken");
    for _ in sender.unacknowledged + held / 4..sender.next {
        assert!(consumer.row() == row);
    }
    let new = scene.router.expect_open_again(&open, sender.next);
    scene.router.send(&new.end(new.from));
    consumer.expect_end();
}

#[test]
fn a_window_is_granted_anew_and_never_twice() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(scene.daemon.http, "hub", "log?max_messages=3");
    let mut open = scene.router.recv_open();
    let mut read = 0;
    for _ in 0..4 {
        // As much as a window allows is held; then a gap.
        let mut sender = Sender::of_octets(open.clone());
        sender.fill(&mut scene.router, &row, &consumer);
        scene.router.send(&open.end(0));
        scene.router.expect_cancel(open.id);
        if read == 0 {
            consumer.expect_octets();
        }
        while read < sender.next {
            assert!(consumer.row() == row);
            read += 1;
        }
        open = scene.router.expect_open_again(&open, sender.next);
    }
    // The new window is whole, and it ends where it should.
    let mut sender = Sender::of_octets(open);
    sender.fill(&mut scene.router, &row, &consumer);
    sender.send_at_once(&mut scene.router, "");
    scene.router.expect_end("protocol_error");
}

#[test]
fn a_stream_full_of_gaps_delivers_every_row_once_and_in_order() {
    const ROWS: u64 = 3000;
    let mut scene = Scene::new("");
    let mut consumer = Consumer::get(scene.daemon.http, "hub", "log?max_messages=16");
    let open = scene.router.recv_open();
    let Scene { daemon, mut router } = scene;
    let source = std::thread::spawn(move || {
        let mut sender = Sender::of_json(open);
        let mut gaps = 0;
        while sender.next < ROWS {
            sender.send(&mut router, sender.next.to_string());
            if sender.next.is_multiple_of(23) {
                // One is left out, and some behind it are on their way already.
                let left = [1, 2, 3].map(|n| sender.open.json(sender.next + n, "lost"));
                for item in left.iter().take(16 - (sender.next - sender.unacknowledged) as usize) {
                    router.send(item);
                }
                if sender.next - sender.unacknowledged < 16 {
                    let new = router.expect_reopening(&sender.open, sender.next);
                    sender = Sender::of_json(new);
                    gaps += 1;
                }
            }
        }
        sender.end(&mut router);
        assert!(gaps > 50, "{gaps} gaps");
        router
    });
    expect_rows(&mut consumer, 0, ROWS);
    source.join().expect("the router").frames_before_pong();
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_gap_of_one_stream_does_not_touch_another() {
    let mut scene = Scene::new("");
    let (one, mut first) = scene.open("log?n=1");
    let (two, mut second) = scene.open("log?n=2");
    scene.send_all(&[one.json(0, "0"), two.json(0, "0"), one.json(2, "lost"), two.json(1, "1")]);
    // Their own ACKs may come between.
    let mut frames = Vec::new();
    while !frames.iter().any(|frame: &Frame| frame.kind == kind::OPEN) {
        frames.push(scene.router.recv());
    }
    frames.retain(|frame| frame.kind != kind::ACK);
    assert_eq!(frames[0], Frame::new(kind::CANCEL).id(one.id));
    let new = Open::of(&frames[1]);
    assert_eq!((new.id, new.from, new.query.as_str()), (3, 1, "n=1"));
    scene.send_all(&[two.json(2, "2"), two.end(3), new.json(1, "1"), new.end(2)]);
    expect_rows(&mut first, 0, 2);
    expect_rows(&mut second, 0, 3);
}

#[test]
fn a_hang_up_while_the_open_waits_opens_nothing() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let consumer = Consumer::get_small(scene.daemon.http, "hub", "log");
    let open = scene.router.recv_open();
    let mut sender = Sender::of_octets(open.clone());
    sender.fill(&mut scene.router, &row, &consumer);
    scene.router.send(&open.item(sender.next + 1, ""));
    scene.router.expect_cancel(open.id);
    drop(consumer);
    conformance::calls::wait_for_live(&scene.daemon, "stream", 0, conformance::http::PATIENCE);
    assert_eq!(scene.router.frames_before_pong(), []);
}

#[test]
fn gaps_of_stalled_streams_hold_no_more_than_their_windows() {
    const STREAMS: u64 = 6;
    const WINDOW: u64 = 65_536;
    let mut scene = Scene::new("");
    let before = Census::of(&scene.daemon);
    let row = vec![7; 16_000];
    let mut stalled = Vec::new();
    for _ in 0..STREAMS {
        let consumer = Consumer::get_small(scene.daemon.http, "hub", "log");
        let mut sender = Sender::of_octets(scene.router.recv_open());
        sender.fill(&mut scene.router, &row, &consumer);
        scene.router.send(&sender.open.end(0));
        scene.router.expect_cancel(sender.open.id);
        // A router that has not seen the CANCEL yet, for long.
        for n in 0..64 {
            scene.router.send(&sender.open.item(sender.next + n, &row));
        }
        stalled.push((sender, consumer));
    }
    assert_eq!(scene.router.frames_before_pong(), []);
    let census = Census::audited(&scene.daemon);
    census.assert_well();
    assert!(census.late_stream_frames() >= 64 * STREAMS);
    let heap = |census: &Census| census.memory("live_bytes") - census.heap_bytes("shadow");
    let grown = heap(&census).saturating_sub(heap(&before));
    assert!(grown < STREAMS * (WINDOW + 16_384) + (64 << 10), "{grown} bytes");
    for (sender, mut consumer) in stalled {
        consumer.expect_octets();
        for _ in 0..sender.next {
            assert!(consumer.row() == row);
        }
        let new = Open::of(&scene.router.recv());
        assert_eq!(new.from, sender.next);
        scene.router.send(&new.end(new.from));
        consumer.expect_end();
    }
}
