//! Contract section 7: what a drain does to streams.

use std::time::{Duration, Instant};

use conformance::calls::{wait_for_drain, wait_for_live};
use conformance::daemon::Daemon;
use conformance::http::{self, PATIENCE};
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

const SIGTERM: i32 = 15;

/// A daemon that drains, and a stream that began before.
struct Draining {
    daemon: Daemon,
    router: Router,
    open: Open,
    consumer: Consumer,
}

impl Draining {
    fn new(config: &str, rows: u64) -> Self {
        let daemon = Daemon::start(&format!("close_grace_s = 0.5\n{config}"));
        let mut router = Router::bind(daemon.router, "hub");
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
        daemon.signal(SIGTERM);
        wait_for_drain(daemon.http);
        Self { daemon, router, open, consumer }
    }

    /// Both sides are told, and the daemon ends as it should.
    fn finish(mut self) {
        while self.router.recv().kind != conformance::frame::kind::BYE {}
        drop((self.router, self.consumer));
        assert_eq!(self.daemon.wait_exit(PATIENCE).code(), Some(0), "{}", self.daemon.stderr());
    }
}

#[test]
fn a_stream_is_kept_until_it_is_done() {
    for rows in [0, 2] {
        let mut draining = Draining::new("drain_s = 60", rows);
        let Draining { daemon, router, open, consumer } = &mut draining;
        // A row now, a command refused, and a gap: all goes on as ever.
        router.send(&open.json(rows, "1"));
        if rows == 0 {
            consumer.expect_lines();
        }
        assert_eq!(consumer.line(), b"1");
        router.send(&open.json(rows + 5, "lost"));
        let again = router.expect_reopening(open, rows + 1);
        let mut sender = Sender::of_json(again);
        for _ in 0..50 {
            sender.send(router, "1");
        }
        assert!(daemon.is_running());
        sender.end(router);
        for _ in 0..50 {
            assert_eq!(consumer.line(), b"1");
        }
        consumer.expect_end();
        consumer.client.expect_close();
        draining.finish();
    }
}

#[test]
fn new_streams_are_draining() {
    let mut draining = Draining::new("drain_s = 60", 0);
    for router in ["hub", "nobody"] {
        Consumer::get(draining.daemon.http, router, "log").expect_problem(503, "draining");
    }
    assert_eq!(draining.router.frames_before_pong(), []);
    http::get(draining.daemon.http, "/readyz").problem(503, "draining");
    draining.router.send(&draining.open.end(0));
    draining.consumer.expect_lines();
    draining.consumer.expect_end();
    draining.finish();
}

#[test]
fn after_drain_s_a_stream_without_a_head_is_draining() {
    let begun = Instant::now();
    let mut draining = Draining::new("drain_s = 1", 0);
    draining.consumer.expect_problem(503, "draining");
    assert!(begun.elapsed() > Duration::from_millis(950), "after {:?}", begun.elapsed());
    draining.finish();
}

#[test]
fn after_drain_s_a_response_is_cut() {
    let begun = Instant::now();
    let mut draining = Draining::new("drain_s = 1", 3);
    assert_eq!(draining.consumer.expect_cut(), b"");
    assert!(begun.elapsed() > Duration::from_millis(950), "after {:?}", begun.elapsed());
    draining.finish();
}

#[test]
fn a_consumer_that_hangs_up_ends_the_wait() {
    let Draining { mut daemon, mut router, open, consumer } = Draining::new("drain_s = 60", 1);
    drop(consumer);
    let frames = router.recv_to_end();
    assert_eq!(
        frames.last().map(|bye| bye.name_text().to_owned()),
        Some("draining".to_owned()),
        "{frames:?}"
    );
    assert!(frames.iter().all(|frame| frame.id == open.id || frame.id == 0), "{frames:?}");
    drop(router);
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_router_that_leaves_in_a_drain_cannot_come_back() {
    let mut draining = Draining::new("drain_s = 3\nstream.resume_s = 1", 0);
    draining.router.reset();
    // Its listener is closed: at latest when the time to come back is over, the consumer is told.
    let answer = draining.consumer.client.response();
    assert!(answer.status == 503, "{answer:?}");
    drop(draining.consumer);
    assert_eq!(draining.daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn what_is_held_behind_an_end_still_reaches_its_consumer() {
    let mut daemon = Daemon::start("drain_s = 30");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log?max_bytes=1048576");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    sender.end(&mut router);
    router.frames_before_pong();
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    consumer.expect_end();
    drop((consumer, router));
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_stalled_consumer_holds_it_for_drain_s_only() {
    let mut daemon = Daemon::start("drain_s = 1\nclose_grace_s = 0.5");
    let mut router = Router::bind(daemon.router, "hub");
    let consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &[7; 16_000], &consumer);
    daemon.signal(SIGTERM);
    assert_eq!(daemon.wait_exit(Duration::from_secs(10)).code(), Some(0));
    drop((router, consumer));
}

#[test]
fn a_stream_whose_router_is_away_is_not_waited_for() {
    for rows in [0, 1] {
        let mut daemon = Daemon::start("drain_s = 60\nstream.resume_s = 60");
        let mut router = Router::bind(daemon.router, "hub");
        let mut consumer = Consumer::get(daemon.http, "hub", "log");
        let open = router.recv_open();
        for n in 0..rows {
            router.send(&open.json(n, "1"));
            consumer.expect_lines();
            assert_eq!(consumer.line(), b"1");
        }
        drop(router);
        wait_for_live(&daemon, "router", 0, PATIENCE);
        // Nobody can come back: the listener closes.
        daemon.signal(SIGTERM);
        match rows {
            0 => drop(consumer.expect_problem(503, "draining")),
            _ => drop(consumer.expect_cut()),
        }
        drop(consumer);
        assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
    }
}
