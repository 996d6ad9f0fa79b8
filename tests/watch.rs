//! A backend's watch in virtual time: what keeps it alive, and that it costs what it owns.

mod support;

use berth::clock::Time;
use berth::id::{Class, Token};
use berth::limits::{MIN_REPLAY_SHARE_BYTES, REPLAY_BYTES_PER_TURN, Settings};
use berth::memory::allocator::Charging;
use berth::reactor::Readiness;
use std::alloc::System;
use std::time::Duration;
use support::{Bench, frame, post};

#[global_allocator]
static ALLOCATOR: Charging<System> = Charging(System);

/// In a chunk.
const COMMENT: &[u8] = b"3\r\n:\n\n\r\n";
const COMMENT_BYTES: usize = COMMENT.len();
const WATCH: &[u8] = b"GET /v1/events?router=router-00001 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

fn watch(bench: &mut Bench) -> Token {
    let token = bench.connect(Class::Http);
    assert!(bench.send(token, WATCH) > 0 && bench.was_sent(b"text/event-stream"));
    token
}

/// How many bytes all peers are sent while time passes.
fn sent_in(bench: &mut Bench, time: Duration) -> usize {
    let before = bench.wire.borrow().taken;
    let until: Time = bench.now.time + time;
    while bench.now.time < until {
        let next = bench.engine.next_turn().min(until);
        bench.pass(next.since(bench.now.time).max(Duration::from_millis(1)));
        bench.engine.turn();
    }
    bench.wire.borrow().taken - before
}

#[test]
fn a_comment_comes_when_nothing_has_come_for_fifteen_seconds() {
    let mut bench = Bench::new();
    watch(&mut bench);
    assert_eq!(sent_in(&mut bench, Duration::from_millis(14_900)), 0);
    assert_eq!(sent_in(&mut bench, Duration::from_millis(200)), COMMENT_BYTES);
    assert!(bench.was_sent(COMMENT));
    assert_eq!(sent_in(&mut bench, Duration::from_secs(60)), 4 * COMMENT_BYTES);
    // An event puts it off.
    sent_in(&mut bench, Duration::from_secs(10));
    let caller = bench.connect(Class::Http);
    bench.send(caller, &post("/v1/events", br#"{"router":"router-00001","topic":"t","body":1}"#));
    assert!(bench.was_sent(b"event: t\n"));
    assert_eq!(sent_in(&mut bench, Duration::from_millis(14_900)), 0);
    assert_eq!(sent_in(&mut bench, Duration::from_millis(200)), COMMENT_BYTES);
}

#[test]
fn who_takes_nothing_is_sent_no_comments() {
    let mut bench = Bench::new();
    let watcher = watch(&mut bench);
    let router = bench.router(1);
    bench.wire.borrow_mut().room.insert(watcher.to_u64(), 10);
    bench.send(router, &frame(0x12, 0x04, 0, "t", b"1"));
    sent_in(&mut bench, Duration::from_secs(50));
    bench.wire.borrow_mut().room.remove(&watcher.to_u64());
    bench.engine.event(watcher, Readiness { writable: true, ..Readiness::default() });
    assert!(sent_in(&mut bench, Duration::from_millis(10)) > 50);
    assert!(!bench.was_sent(COMMENT));
}

#[test]
fn a_watch_owns_little_and_leaves_nothing() {
    let mut bench = Bench::new();
    let held = |bench: &mut Bench, class: &str| {
        bench.engine.census_json(true)["classes"][class]["heap_bytes"].as_i64().unwrap()
    };
    bench.router(1);
    let before = [held(&mut bench, "http"), held(&mut bench, "subscription")];
    let watchers: Vec<Token> = (0..1000).map(|_| watch(&mut bench)).collect();
    let each = (held(&mut bench, "http") - before[0]) / 1000;
    println!("{each} bytes a watch");
    assert!(each < 1500, "{each}");
    for watcher in watchers {
        bench.hang_up(watcher);
    }
    sent_in(&mut bench, Duration::from_secs(3));
    assert_eq!([held(&mut bench, "http"), held(&mut bench, "subscription")], before);
    assert_eq!(bench.engine.audit(), Vec::<String>::new());
}

const EVENTS: usize = 500;
const BODY_BYTES: usize = 1000;

/// Watchers that take nothing yet and have missed half a megabyte each.
fn dawdlers(settings: Settings, count: usize) -> (Bench, Vec<Token>) {
    let mut bench = Bench::with(settings);
    let router = bench.router(1);
    for _ in 0..EVENTS {
        bench.send(router, &frame(0x12, 0, 0, "t", &[b'x'; BODY_BYTES]));
    }
    let watchers = (0..count).map(|_| {
        let token = bench.connect(Class::Http);
        bench.wire.borrow_mut().room.insert(token.to_u64(), 0);
        // Of another run: everything is new to it.
        bench.send(
            token,
            b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nLast-Event-ID: 0123456789abcdef-1\r\n\r\n",
        );
        token
    });
    let watchers = watchers.collect();
    for _ in 0..100 {
        bench.engine.turn();
    }
    (bench, watchers)
}

fn with_history() -> Settings {
    let mut settings = Settings::default();
    (settings.shadow.history_events, settings.shadow.history_bytes) = (2 * EVENTS, 4 * EVENTS * BODY_BYTES);
    settings
}

fn let_take(bench: &mut Bench, watchers: &[Token]) {
    for watcher in watchers {
        bench.wire.borrow_mut().room.remove(&watcher.to_u64());
        bench.engine.event(*watcher, Readiness { writable: true, ..Readiness::default() });
    }
}

#[test]
fn a_turn_does_not_grow_with_the_watchers_that_catch_up() {
    const WATCHERS: usize = 40;
    let (mut bench, watchers) = dawdlers(with_history(), WATCHERS);
    let_take(&mut bench, &watchers);
    bench.engine.turn(); // what was read ahead
    let mut turns = Vec::new();
    let mut total = 0;
    while bench.engine.next_due() == Some(bench.now.time) {
        let before = bench.wire.borrow().taken;
        bench.engine.turn();
        turns.push(bench.wire.borrow().taken - before);
        total += turns.last().unwrap();
    }
    let longest = *turns.iter().max().unwrap();
    assert!(longest < REPLAY_BYTES_PER_TURN + MIN_REPLAY_SHARE_BYTES + 2 * BODY_BYTES, "{longest}");
    assert!(total > WATCHERS * EVENTS * BODY_BYTES / 2, "{total}: they were far from the end");
}

#[test]
fn many_that_dawdle_read_less_ahead_and_none_is_cut() {
    const WATCHERS: usize = 40;
    let settings = Settings { max_buffered_bytes: 2 << 20, ..with_history() };
    let (mut bench, watchers) = dawdlers(settings, WATCHERS);
    let buffered = bench.engine.buffered_bytes();
    assert!(buffered < (2 << 20) / 4 + WATCHERS * 4 * BODY_BYTES, "{buffered}");
    assert!(watchers.iter().all(|watcher| bench.engine.is_open(*watcher)));
    let before = bench.wire.borrow().taken;
    let_take(&mut bench, &watchers);
    bench.engine.turn();
    while bench.engine.next_due() == Some(bench.now.time) {
        bench.engine.turn();
    }
    let taken = bench.wire.borrow().taken - before;
    assert!(taken > WATCHERS * EVENTS * BODY_BYTES, "{taken}: each has got everything");
}
