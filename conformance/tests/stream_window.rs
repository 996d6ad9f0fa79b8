//! Contract section 1, Streams: a row is acknowledged when the consumer's socket has taken it, and no more is in flight than
//! the window allows.

use std::time::Duration;

use conformance::calls::{Census, oneway, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag, kind};
use conformance::kernel::{cpu_time, settled};
use conformance::router::Router;
use conformance::stream::{Consumer, MAX_ROW, Open, Sender};

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

    /// A consumer that does not read, behind kernels that take no more, and a window that is closed.
    fn stalled(&mut self, stream: &str, row: &[u8]) -> (Sender, Consumer) {
        let consumer = Consumer::get_small(self.daemon.http, "hub", stream);
        let mut sender = Sender::of_octets(self.router.recv_open());
        sender.fill(&mut self.router, row, &consumer);
        (sender, consumer)
    }

    /// All rows that were sent, and the end.
    #[track_caller]
    fn finish(&mut self, sender: &Sender, mut consumer: Consumer, row: &[u8]) {
        sender.end(&mut self.router);
        consumer.expect_octets();
        for n in sender.open.from..sender.next {
            assert!(consumer.row() == row, "row {n}");
        }
        consumer.expect_end();
    }
}

#[test]
fn the_smallest_window_moves_row_by_row() {
    let mut scene = Scene::new("");
    let (open, mut consumer) = scene.open("log?max_messages=1&max_bytes=16384");
    assert_eq!((open.max_messages, open.max_bytes), (1, 16_384));
    let mut sender = Sender::of_octets(open);
    for n in 0..50_u8 {
        sender.send_at_once(&mut scene.router, [n; 100]);
        // Nothing else acknowledges it than an ACK of its own.
        sender.wait_for_acks(&mut scene.router);
        if n == 0 {
            consumer.expect_octets();
        }
        assert_eq!(consumer.row(), [n; 100]);
    }
    sender.end(&mut scene.router);
    consumer.expect_end();
}

#[test]
fn a_whole_window_may_come_at_once() {
    let mut scene = Scene::new("");
    for (window, length, count) in
        [("max_messages=1024&max_bytes=1048576", 1024, 1024), ("max_messages=1024&max_bytes=65536", 1, 1024)]
    {
        let consumer = Consumer::get_small(scene.daemon.http, "hub", &format!("log?{window}"));
        let open = scene.router.recv_open();
        let row = vec![b'r'; length];
        let burst: Vec<u8> = (0..count).flat_map(|n| open.item(n, &row).encode()).collect();
        scene.router.send_bytes(&burst);
        assert!(scene.router.frames_before_pong().iter().all(|frame| frame.kind == kind::ACK));
        let mut sender = Sender::of_octets(open);
        sender.next = count;
        scene.finish(&sender, consumer, &row);
    }
}

#[test]
fn the_last_row_is_acknowledged_when_all_are_taken() {
    let mut scene = Scene::new("");
    let (open, mut consumer) = scene.open("log?from=500");
    let mut sender = Sender::of_octets(open);
    for burst in [1, 20, 7, 20] {
        for _ in 0..burst {
            sender.send_at_once(&mut scene.router, [1; 200]);
        }
        sender.wait_for_acks(&mut scene.router);
    }
    sender.end(&mut scene.router);
    consumer.expect_octets();
    for _ in 500..sender.next {
        assert_eq!(consumer.row(), [1; 200]);
    }
    consumer.expect_end();
}

#[test]
fn only_what_the_consumers_socket_has_taken_is_acknowledged() {
    let mut scene = Scene::new("");
    for row in [vec![7; MAX_ROW], vec![7; 1000]] {
        let consumer = Consumer::get_small(scene.daemon.http, "hub", "log");
        let mut sender = Sender::of_octets(scene.router.recv_open());
        let in_kernels = sender.fill(&mut scene.router, &row, &consumer);
        let taken = sender.unacknowledged * (row.len() + 4) as u64;
        assert!(taken < in_kernels, "{taken} bytes acknowledged, {in_kernels} in the kernels");
        // TCP_NOTSENT_LOWAT bounds what the kernels take for a consumer that does not read.
        assert!(in_kernels < 256 * 1024, "{in_kernels} bytes in the kernels");
        scene.finish(&sender, consumer, &row);
    }
}

#[test]
fn a_stalled_consumer_stalls_its_router_and_nothing_piles_up() {
    let mut scene = Scene::new("");
    let row = vec![7; MAX_ROW];
    let (mut sender, mut consumer) = scene.stalled("log?max_messages=4&max_bytes=65536", &row);
    assert_eq!(scene.router.frames_before_pong(), []);
    scene.router.expect_silence(Duration::from_millis(500));
    // It reads a little: the window opens by as much.
    consumer.expect_octets();
    let mut read = 0;
    for _ in 0..20 {
        assert!(consumer.row() == row);
        read += 1;
        while sender.fits(row.len()) {
            sender.send_at_once(&mut scene.router, &row);
        }
        if read < sender.unacknowledged {
            continue;
        }
        let frame = scene.router.recv();
        sender.take(&mut scene.router, frame);
    }
    sender.end(&mut scene.router);
    for _ in read..sender.next {
        assert!(consumer.row() == row);
    }
    consumer.expect_end();
}

#[test]
fn stalled_consumers_cost_a_window_and_a_fragment_each() {
    const STREAMS: u64 = 8;
    const WINDOW: u64 = 65_536;
    let mut scene = Scene::new("");
    let before = Census::of(&scene.daemon);
    let row = vec![7; MAX_ROW];
    let stalled: Vec<_> = (0..STREAMS).map(|_| scene.stalled("log", &row)).collect();
    let census = Census::audited(&scene.daemon);
    census.assert_well();
    assert_eq!(census.live("stream"), STREAMS);
    let heap = |census: &Census| census.memory("live_bytes") - census.heap_bytes("shadow");
    let grown = heap(&census).saturating_sub(heap(&before));
    assert!(grown < STREAMS * (WINDOW + 16_384) + (2 << 20), "{grown} bytes");
    for (sender, consumer) in stalled {
        scene.finish(&sender, consumer, &row);
    }
}

#[test]
fn one_item_over_the_window_is_a_protocol_error() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let (mut sender, mut consumer) = scene.stalled("log?max_messages=4&max_bytes=1048576", &row);
    sender.send_at_once(&mut scene.router, "");
    scene.router.expect_end("protocol_error");
    consumer.expect_octets();
    consumer.expect_cut();
}

#[test]
fn one_byte_over_the_window_is_a_protocol_error() {
    let mut scene = Scene::new("");
    let row = vec![7; 8192];
    let (mut sender, mut consumer) = scene.stalled("log?max_messages=1024&max_bytes=16384", &row);
    // Rows without a byte still fit, and the full window is no fault.
    for _ in 0..10 {
        sender.send_at_once(&mut scene.router, "");
    }
    assert_eq!(scene.router.frames_before_pong(), []);
    sender.send_at_once(&mut scene.router, "x");
    scene.router.expect_end("protocol_error");
    consumer.expect_octets();
    consumer.expect_cut();
}

#[test]
fn a_window_belongs_to_its_stream() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let stalled: Vec<_> = (0..3).map(|_| scene.stalled("log?max_messages=2", &row)).collect();
    let (open, mut consumer) = scene.open("log");
    let mut free = Sender::of_octets(open);
    for n in 0..60_u8 {
        free.send(&mut scene.router, [n; 1000]);
    }
    free.end(&mut scene.router);
    consumer.expect_octets();
    for n in 0..60 {
        assert_eq!(consumer.row(), [n; 1000]);
    }
    consumer.expect_end();
    for (sender, consumer) in stalled {
        scene.finish(&sender, consumer, &row);
    }
}

#[test]
fn a_stream_pipelined_behind_one_that_is_held_waits_for_the_consumer_too() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    let (first, mut consumer) = scene.stalled("log", &row);
    consumer.client.send_request("GET", "/v1/routers/hub/streams/log", &[], b"");
    assert_eq!(scene.router.frames_before_pong(), []);
    first.end(&mut scene.router);
    // All of the first answer is queued now, so the second is asked for; its rows wait behind it.
    let mut second = Sender::of_octets(scene.router.recv_open());
    second.fill(&mut scene.router, &row, &consumer);
    assert_eq!(second.unacknowledged, 0, "rows were acknowledged that stand behind others");
    for sender in [&first, &second] {
        consumer.expect_octets();
        for n in 0..4 {
            assert!(consumer.row() == row, "row {n}");
        }
        let (from, to) = (4, sender.next);
        if sender.open.id == second.open.id {
            second.end(&mut scene.router);
        }
        for n in from..to {
            assert!(consumer.row() == row, "row {n}");
        }
        consumer.expect_end();
    }
}

#[test]
fn pipelined_streams_that_nobody_reads_do_not_pile_up() {
    const WINDOW: u64 = 1 << 20;
    let mut scene = Scene::new("");
    let before = Census::of(&scene.daemon).memory("live_bytes");
    let dial = conformance::router::Dial { receive_buffer: Some(4096), ..Default::default() };
    let mut client = conformance::http::Client::over(dial.stream(scene.daemon.http).expect("connect"));
    for _ in 0..20 {
        let target = "/v1/routers/hub/streams/log?max_messages=1024&max_bytes=1048576";
        client.send_request("GET", target, &[], b"");
    }
    let row = vec![7; 16_000];
    let rows = WINDOW / row.len() as u64;
    scene.router.set_patience(Duration::from_secs(1));
    let mut answered = 0;
    // A window and END for each OPEN, until no other is asked for.
    while let Ok(frame) = scene.router.try_recv() {
        if frame.kind == kind::OPEN {
            let open = Open::of(&frame);
            for n in 0..rows {
                scene.router.send(&open.item(n, &row));
            }
            scene.router.send(&open.end(rows));
            answered += 1;
        }
    }
    let held = Census::of(&scene.daemon).memory("live_bytes").saturating_sub(before);
    assert!(held < 4 * WINDOW, "{held} bytes are held, of {answered} streams");
    scene.router.set_patience(conformance::http::PATIENCE);
    scene.router.frames_before_pong();
    // Who reads gets them all.
    let Scene { mut router, .. } = scene;
    let source = std::thread::spawn(move || {
        while answered < 20 {
            let open = router.recv_open();
            for n in 0..rows {
                router.send(&open.item(n, &row));
            }
            router.send(&open.end(rows));
            answered += 1;
        }
        router
    });
    for n in 0..20 {
        let response = client.response();
        let length = rows as usize * (4 + 16_000);
        assert_eq!((response.status, response.body.len()), (200, length), "answer {n}");
    }
    source.join().expect("the router").frames_before_pong();
}

#[test]
fn nothing_is_acknowledged_behind_the_end() {
    let mut scene = Scene::new("");
    let row = vec![7; 16_000];
    // The consumer takes what is held long after the END.
    let (sender, consumer) = scene.stalled("log", &row);
    scene.finish(&sender, consumer, &row);
    assert_eq!(scene.router.frames_before_pong(), []);
    // Rows and END in one write: nothing was acknowledged before it was there.
    let (open, mut consumer) = scene.open("log");
    let frames = [open.item(0, "a"), open.item(1, "a"), open.end(2)];
    scene.router.send_bytes(&frames.iter().flat_map(Frame::encode).collect::<Vec<_>>());
    consumer.expect_octets();
    assert_eq!([consumer.row(), consumer.row()], [b"a", b"a"]);
    consumer.expect_end();
    let frames = scene.router.frames_before_pong();
    // What one read brought is one; a read may end between two frames.
    assert!(frames.iter().all(|frame| frame.kind == kind::ACK && frame.body[7] < 2), "{frames:?}");
}

#[test]
fn an_end_that_waits_in_a_stalled_stream_is_kept() {
    let mut scene = Scene::new("stream.idle_s = 0.3");
    let row = vec![7; 16_000];
    let (sender, mut consumer) = scene.stalled("log", &row);
    sender.end(&mut scene.router);
    // The router may forget it all, and even go: everything is here.
    scene.router.expect_silence(Duration::from_millis(900));
    drop(scene.router);
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    consumer.expect_end();
    assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn streams_that_wait_cost_no_time() {
    let mut scene = Scene::new("");
    let mut away = Router::bind(scene.daemon.router, "away");
    let row = vec![7; 16_000];
    let stalled: Vec<_> = (0..5).map(|_| scene.stalled("log", &row)).collect();
    let (_, silent) = scene.open("log");
    let (broken, no_rows) = scene.open("log");
    scene.router.send(&broken.end(7));
    let lost = Consumer::get(scene.daemon.http, "away", "log");
    away.recv_open();
    drop(away);
    wait_for_live(&scene.daemon, "router", 1, conformance::http::PATIENCE);
    let before = cpu_time(scene.daemon.pid());
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_time(scene.daemon.pid()) - before;
    assert!(used <= Duration::from_millis(100), "{used:?} of one second");
    drop((stalled, silent, no_rows, lost));
}

#[test]
fn rows_that_nobody_takes_are_bounded_for_all_connections_together() {
    let mut scene = Scene::new("memory.max_buffered_bytes = 1000000");
    let row = vec![7; 16_000];
    // Each may hold 720 KB less what the kernels take: the second is too much, and whoever holds most ends.
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let target = "log?max_messages=45&max_bytes=1048576";
        consumers.push(Consumer::get_small(scene.daemon.http, "hub", target));
        let open = scene.router.recv_open();
        for n in 0..45 {
            scene.router.send(&open.item(n, &row));
        }
    }
    wait_for_reason(&scene.daemon, "http", "limit_exceeded", 1, conformance::http::PATIENCE);
    let census = Census::audited(&scene.daemon);
    census.assert_well();
    assert_eq!(census.live("stream"), 1);
    let cancels = scene.router.frames_before_pong().into_iter().filter(|frame| frame.kind == kind::CANCEL);
    assert_eq!(cancels.count(), 1);
}

/// Its socket is full when the ACK is queued, and END comes before it could be sent.
#[test]
fn an_ack_that_waits_is_not_sent_behind_the_end() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let open = router.recv_open();
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 1_000_000]).status, 202);
    settled(router.stream());
    router.send(&open.json(0, "1"));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"1");
    router.send(&open.end(1));
    consumer.expect_end();
    loop {
        let frame = router.recv();
        assert_ne!(frame.kind, kind::ACK, "{frame:?}");
        if frame.kind == kind::COMMAND && frame.flags & flag::MORE == 0 {
            break;
        }
    }
}
