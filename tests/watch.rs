//! A backend's watch in virtual time: what keeps it alive, and that it costs what it owns.

mod support;

use berth::clock::Time;
use berth::id::{Class, Token};
use berth::memory::allocator::Charging;
use berth::reactor::Readiness;
use std::alloc::System;
use std::time::Duration;
use support::{Bench, frame, post};

#[global_allocator]
static ALLOCATOR: Charging<System> = Charging(System);

const COMMENT: &[u8] = b"3\r\n:\n\n\r\n";
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
    assert_eq!(sent_in(&mut bench, Duration::from_millis(200)), COMMENT.len());
    assert!(bench.was_sent(COMMENT));
    assert_eq!(sent_in(&mut bench, Duration::from_secs(60)), 4 * COMMENT.len());
    // An event puts it off.
    sent_in(&mut bench, Duration::from_secs(10));
    let caller = bench.connect(Class::Http);
    bench.send(caller, &post("/v1/events", br#"{"router":"router-00001","topic":"t","body":1}"#));
    assert!(bench.was_sent(b"event: t\n"));
    assert_eq!(sent_in(&mut bench, Duration::from_millis(14_900)), 0);
    assert_eq!(sent_in(&mut bench, Duration::from_millis(200)), COMMENT.len());
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
