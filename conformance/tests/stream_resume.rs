//! Contract section 1, Resume: a router that comes back within `stream.resume_s`, or is taken over by its own new connection,
//! is sent OPEN from the first missing row, and the response goes on.

use std::time::{Duration, Instant};

use conformance::calls::{Census, command_in_background, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::Frame;
use conformance::http::{self, PATIENCE};
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

/// A stream of which three rows have come.
struct Begun {
    daemon: Daemon,
    router: Router,
    open: Open,
    consumer: Consumer,
}

impl Begun {
    fn new(config: &str) -> Self {
        let daemon = Daemon::start(config);
        let mut router = Router::bind(daemon.router, "hub");
        let mut consumer = Consumer::get(daemon.http, "hub", "log?max_messages=9&max_bytes=16385&x=1");
        let open = router.recv_open();
        for n in 0..3 {
            router.send(&open.json(n, n.to_string()));
        }
        consumer.expect_lines();
        for n in 0..3 {
            assert_eq!(consumer.line(), n.to_string().into_bytes());
        }
        Self { daemon, router, open, consumer }
    }
}

/// The OPEN of a new session: the same in all, but from this row, and ids count from 1 again.
#[track_caller]
fn expect_resume(router: &mut Router, old: &Open, from: u64) -> Open {
    let new = Open::of(&router.recv());
    assert_eq!(new, Open { id: 1, from, ..old.clone() });
    new
}

/// One more row and the end.
#[track_caller]
fn finish(router: &mut Router, open: &Open, consumer: &mut Consumer) {
    router.send(&open.json(open.from, "\"last\""));
    router.send(&open.end(open.from + 1));
    assert_eq!(consumer.line(), b"\"last\"");
    consumer.expect_end();
    assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn a_router_that_comes_back_goes_on_where_it_was() {
    type Leave = fn(&Daemon, Router);
    let ways: [(&str, Leave); 4] = [
        ("FIN", |_, router| drop(router)),
        ("RST", |_, router| router.reset()),
        ("BYE", |_, mut router| router.send(&Frame::bye("draining"))),
        ("kick", |daemon, mut router| {
            assert_eq!(http::request(daemon.http, "DELETE", "/v1/routers/hub", &[], b"").status, 204);
            while router.recv().kind != conformance::frame::kind::BYE {}
        }),
    ];
    for (way, leave) in ways {
        let Begun { daemon, router, open, mut consumer } = Begun::new("");
        leave(&daemon, router);
        wait_for_live(&daemon, "router", 0, PATIENCE);
        assert_eq!(Census::of(&daemon).live("stream"), 1, "{way}");
        Census::audited(&daemon).assert_well();
        consumer.client.expect_silence(Duration::from_millis(100));
        let mut router = Router::bind(daemon.router, "hub");
        let new = expect_resume(&mut router, &open, 3);
        finish(&mut router, &new, &mut consumer);
        wait_for_live(&daemon, "stream", 0, PATIENCE);
    }
}

#[test]
fn a_router_that_takes_itself_over_goes_on_too() {
    let Begun { daemon, router: mut old, open, mut consumer } = Begun::new("");
    let mut router = Router::bind(daemon.router, "hub");
    let new = expect_resume(&mut router, &open, 3);
    // What the old session says now is nobody's.
    old.send(&open.json(3, "old"));
    finish(&mut router, &new, &mut consumer);
    let frames = old.recv_to_end();
    assert_eq!(frames.last().map(Frame::name_text), Some("takeover"), "{frames:?}");
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_silent_router_that_comes_back_goes_on_too() {
    let config = "router.heartbeat.interval_s = 0.2\nrouter.heartbeat.timeout_s = 0.2";
    let Begun { daemon, router, open, mut consumer } = Begun::new(config);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    let mut next = Router::bind(daemon.router, "hub");
    let new = expect_resume(&mut next, &open, 3);
    finish(&mut next, &new, &mut consumer);
    drop(router);
}

#[test]
fn before_the_first_row_it_is_the_same() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log?from=77");
    let open = router.recv_open();
    for _ in 0..3 {
        drop(router);
        wait_for_live(&daemon, "router", 0, PATIENCE);
        router = Router::bind(daemon.router, "hub");
        expect_resume(&mut router, &open, 77);
    }
    router.send(&open.json(77, "1"));
    router.send(&open.end(78));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"1");
    consumer.expect_end();
}

#[test]
fn the_form_of_the_rows_stays_fixed() {
    let Begun { daemon, router, open, mut consumer } = Begun::new("");
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    let mut router = Router::bind(daemon.router, "hub");
    let new = expect_resume(&mut router, &open, 3);
    router.send(&new.item(3, "octets"));
    router.expect_end("protocol_error");
    assert_eq!(consumer.expect_cut(), b"");
}

#[test]
fn all_streams_of_a_router_are_resumed() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumers: Vec<Consumer> = (0..5_u64)
        .map(|n| {
            let consumer = Consumer::get(daemon.http, "hub", &format!("log?n={n}"));
            let open = router.recv_open();
            // Each has brought another number of rows.
            let mut sender = Sender::of_json(open);
            for row in 0..n {
                sender.send(&mut router, row.to_string());
            }
            sender.wait_for_acks(&mut router);
            consumer
        })
        .collect();
    let mut new = Router::bind(daemon.router, "hub");
    let mut opens: Vec<Open> = (0..5).map(|_| Open::of(&new.recv())).collect();
    let mut ids: Vec<u32> = opens.iter().map(|open| open.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    opens.sort_by_key(|open| open.from);
    for (n, open) in (0..).zip(&opens) {
        assert_eq!((open.from, open.query.as_str()), (n, format!("n={n}").as_str()));
        new.send(&open.json(n, n.to_string()));
        new.send(&open.end(n + 1));
        let consumer = &mut consumers[n as usize];
        consumer.expect_lines();
        for row in 0..=n {
            assert_eq!(consumer.line(), row.to_string().into_bytes());
        }
        consumer.expect_end();
    }
    Census::audited(&daemon).assert_well();
}

#[test]
fn the_open_of_a_resume_waits_until_the_consumer_has_taken_what_is_held() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    let mut router = Router::bind(daemon.router, "hub");
    // Nothing of the old session is acknowledged, cancelled or asked for in the new one.
    assert_eq!(router.frames_before_pong(), []);
    router.expect_silence(Duration::from_millis(400));
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    let new = expect_resume(&mut router, &sender.open, sender.next);
    router.send(&new.end(new.from));
    consumer.expect_end();
}

#[test]
fn a_consumer_that_hangs_up_meanwhile_is_not_resumed() {
    let Begun { daemon, router, consumer, .. } = Begun::new("");
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    drop(consumer);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    let mut router = Router::bind(daemon.router, "hub");
    assert_eq!(router.frames_before_pong(), []);
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_stream_whose_end_has_come_needs_no_router() {
    let daemon = Daemon::start("stream.resume_s = 0.3");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    sender.end(&mut router);
    router.frames_before_pong();
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    std::thread::sleep(Duration::from_millis(900));
    let mut router = Router::bind(daemon.router, "hub");
    assert_eq!(router.frames_before_pong(), [], "asked for what has come already");
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    consumer.expect_end();
}

#[test]
fn after_resume_s_a_stream_without_a_head_is_router_lost() {
    let daemon = Daemon::start("stream.resume_s = 0.6");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    router.recv_open();
    let begun = Instant::now();
    drop(router);
    consumer.expect_problem(503, "router_lost");
    assert!((550..5000).contains(&begun.elapsed().as_millis()), "after {:?}", begun.elapsed());
    assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
    assert_eq!(Census::of(&daemon).live("stream"), 0);
    let mut router = Router::bind(daemon.router, "hub");
    assert_eq!(router.frames_before_pong(), []);
}

#[test]
fn after_resume_s_a_response_is_cut() {
    let Begun { daemon, router, mut consumer, .. } = Begun::new("stream.resume_s = 0.6");
    let begun = Instant::now();
    router.reset();
    assert_eq!(consumer.expect_cut(), b"");
    assert!((550..5000).contains(&begun.elapsed().as_millis()), "after {:?}", begun.elapsed());
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    drop(consumer);
    wait_for_reason(&daemon, "http", "router_lost", 1, PATIENCE);
    Census::audited(&daemon).assert_well();
    let mut router = Router::bind(daemon.router, "hub");
    assert_eq!(router.frames_before_pong(), []);
}

#[test]
fn the_time_counts_from_each_end_of_a_session() {
    let Begun { daemon, mut router, mut open, mut consumer } = Begun::new("stream.resume_s = 1");
    for from in 3..6 {
        drop(router);
        wait_for_live(&daemon, "router", 0, PATIENCE);
        consumer.client.expect_silence(Duration::from_millis(500));
        router = Router::bind(daemon.router, "hub");
        open = expect_resume(&mut router, &open, from);
        router.send(&open.json(from, from.to_string()));
        assert_eq!(consumer.line(), from.to_string().into_bytes());
    }
    router.send(&open.end(6));
    consumer.expect_end();
}

#[test]
fn a_router_that_is_away_is_not_silent() {
    let config = "stream.idle_s = 0.3\nstream.resume_s = 20";
    let Begun { daemon, router, open, mut consumer } = Begun::new(config);
    drop(router);
    consumer.client.expect_silence(Duration::from_millis(1000));
    let mut router = Router::bind(daemon.router, "hub");
    let new = expect_resume(&mut router, &open, 3);
    finish(&mut router, &new, &mut consumer);
}

#[test]
fn a_router_that_was_at_fault_is_not_resumed() {
    let daemon = Daemon::start("");
    for rows in [0, 1] {
        let mut router = Router::bind(daemon.router, "hub");
        let mut consumer = Consumer::get(daemon.http, "hub", "log");
        let open = router.recv_open();
        let begun = Instant::now();
        for n in 0..rows {
            router.send(&open.json(n, "1"));
        }
        router.send(&Frame::new(0x7f));
        assert_eq!(router.recv_to_end().last().map(Frame::name_text), Some("protocol_error"));
        match rows {
            0 => drop(consumer.expect_problem(503, "router_lost")),
            _ => {
                consumer.expect_lines();
                consumer.expect_cut();
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the router");
        let mut router = Router::bind(daemon.router, "hub");
        assert_eq!(router.frames_before_pong(), []);
        wait_for_live(&daemon, "stream", 0, PATIENCE);
    }
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_new_stream_of_a_router_that_is_away_is_offline() {
    let Begun { daemon, router, open, mut consumer } = Begun::new("");
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    Consumer::get(daemon.http, "hub", "log").expect_problem(404, "router_offline");
    // One that comes back answers old and new ones.
    let mut router = Router::bind(daemon.router, "hub");
    let resumed = expect_resume(&mut router, &open, 3);
    let mut another = Consumer::get(daemon.http, "hub", "log");
    let new = router.recv_open();
    assert_eq!((new.id, new.from), (2, 0));
    router.send(&new.end(0));
    another.expect_lines();
    another.expect_end();
    let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![]);
    let command = router.recv_command();
    router.send(&Frame::reply(command.id, ""));
    assert_eq!(caller.join().expect("the caller").status, 200);
    finish(&mut router, &resumed, &mut consumer);
}

#[test]
fn a_stream_with_many_reconnects_and_gaps_delivers_every_row_once() {
    const ROWS: u64 = 1500;
    let daemon = Daemon::start("");
    let mut consumer = {
        let mut router = Router::bind(daemon.router, "hub");
        let consumer = Consumer::get(daemon.http, "hub", "log?max_messages=8");
        router.recv_open();
        consumer
    };
    let address = daemon.router;
    let source = std::thread::spawn(move || {
        let mut router = Router::bind(address, "hub");
        let mut sender = Sender::of_json(router.recv_open());
        let (mut next_gap, mut next_break) = (100, 70);
        while sender.next < ROWS {
            sender.send(&mut router, sender.next.to_string());
            if sender.next >= next_gap {
                next_gap += 100;
                sender.wait_for_room(&mut router, 4);
                router.send(&sender.open.json(sender.next + 1, "lost"));
                router.expect_cancel(sender.open.id);
                let new = Open::of(&router.recv());
                assert_eq!(new.from, sender.next, "all that was sent in order had come");
                sender = Sender::of_json(new);
            }
            if sender.next >= next_break {
                next_break += 70;
                // The newcomer is asked for what has not come, wherever the old session was.
                router = Router::bind(address, "hub");
                sender = Sender::of_json(router.recv_open());
            }
        }
        sender.end(&mut router);
        router
    });
    consumer.expect_lines();
    for n in 0..ROWS {
        assert_eq!(consumer.line(), n.to_string().into_bytes());
    }
    consumer.expect_end();
    source.join().expect("the router").frames_before_pong();
    Census::audited(&daemon).assert_well();
}

#[test]
fn a_stream_needs_no_shadow() {
    for (config, forget) in [("shadow.keep_s = 0", false), ("", true)] {
        let Begun { daemon, router, open, mut consumer } = Begun::new(config);
        drop(router);
        wait_for_live(&daemon, "router", 0, PATIENCE);
        if forget {
            let answer = http::request(daemon.http, "DELETE", "/v1/routers/hub/shadow", &[], b"");
            assert_eq!(answer.status, 204);
        }
        assert_eq!(Census::of(&daemon).live("shadow"), 0);
        let mut router = Router::bind(daemon.router, "hub");
        let new = expect_resume(&mut router, &open, 3);
        finish(&mut router, &new, &mut consumer);
    }
}

#[test]
fn a_router_that_is_back_in_time_has_time() {
    let daemon = Daemon::start("stream.resume_s = 0.3\nstream.idle_s = 20");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    let mut router = Router::bind(daemon.router, "hub");
    // It is the consumer that keeps it from going on, for longer than the router had to come back.
    router.expect_silence(Duration::from_millis(900));
    consumer.expect_octets();
    for _ in 0..sender.next {
        assert!(consumer.row() == row);
    }
    let new = expect_resume(&mut router, &sender.open, sender.next);
    router.send(&new.end(new.from));
    consumer.expect_end();
}

#[test]
fn a_router_that_came_back_and_brings_nothing_ends_in_time() {
    let Begun { daemon, router, open, mut consumer } =
        Begun::new("stream.idle_s = 0.5\nstream.resume_s = 60");
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    let mut router = Router::bind(daemon.router, "hub");
    let new = expect_resume(&mut router, &open, 3);
    let begun = Instant::now();
    router.set_patience(Duration::from_secs(5));
    router.expect_cancel(new.id);
    assert!(begun.elapsed() > Duration::from_millis(450), "after {:?}", begun.elapsed());
    assert_eq!(consumer.expect_cut(), b"");
}
