//! What connections cost in memory, counted by the allocator: an idle one, a heartbeat, a message that is over.
//!
//! One test in this file: the count is the whole process's.

mod support;

use berth::id::{Class, Token};
use berth::limits::Settings;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{Bench, frame, post, websocket};

/// Counts what is asked for, nothing else.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// What `work` allocated in number, and what it left behind in bytes.
fn cost(work: impl FnOnce()) -> (usize, isize) {
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), live());
    work();
    (ALLOCATIONS.load(Ordering::Relaxed) - allocations, live() as isize - bytes as isize)
}

const EACH: usize = 10_000;

#[test]
fn idle_connections_are_small_and_nothing_stays() {
    let mut settings = Settings::default();
    settings.shadow.history_events = 0; // what is remembered on purpose stays
    let mut bench = Bench::with(settings);
    let empty = live();
    let routers: Vec<Token> = (0..EACH).map(|number| bench.router(number)).collect();
    let with_routers = live();
    let watchers: Vec<Token> = (0..EACH).map(|number| bench.watcher(number)).collect();
    let per_router = (with_routers - empty) / EACH;
    let per_watcher = (live() - with_routers) / EACH;
    println!(
        "heap of an idle router: {per_router} bytes, its shadow included; of an idle watcher: {per_watcher}"
    );
    assert!(per_router <= 1024 && per_watcher <= 1024);

    pings_allocate_nothing(&mut bench, &routers, &watchers);
    messages_leave_nothing(&mut bench, &routers);
    a_sent_command_keeps_no_payload(&mut bench, routers[0]);
    assert_eq!(bench.engine.audit(), Vec::<String>::new());
}

fn pings_allocate_nothing(bench: &mut Bench, routers: &[Token], watchers: &[Token]) {
    // A client's mask of four bytes does not come back.
    let of_routers = [frame(0x03, 0, 7, "", b""), frame(0x03, 0, 8, "", &[1; 64])];
    let of_clients = [websocket(0x89, b""), websocket(0x89, b"are you there?")];
    let round = |bench: &mut Bench, count| {
        for (router, watcher) in routers.iter().zip(watchers).take(count) {
            for ping in &of_routers {
                assert_eq!(bench.send(*router, ping), ping.len());
            }
            for ping in &of_clients {
                assert_eq!(bench.send(*watcher, ping), ping.len() - 4);
            }
        }
    };
    round(bench, 1);
    assert_eq!(cost(|| round(bench, 100)), (0, 0), "allocations and bytes left by 400 PINGs");

    // The server's own: everybody is silent for an interval, twice; the second time every table has its size.
    for round in 0..2 {
        bench.pass(Duration::from_secs(61));
        let before = bench.wire.borrow().taken;
        let pinged = cost(|| bench.engine.turn());
        assert_eq!(bench.wire.borrow().taken - before, EACH * 12 + EACH * 2, "everybody is pinged");
        if round == 1 {
            assert_eq!(pinged.1, 0, "bytes left by {} PINGs", 2 * EACH);
        }
        let pongs = [frame(0x04, 0, 0, "", b""), websocket(0x8a, b"")];
        routers.iter().for_each(|token| assert_eq!(bench.send(*token, &pongs[0]), 0));
        watchers.iter().for_each(|token| assert_eq!(bench.send(*token, &pongs[1]), 0));
    }
    assert_eq!(bench.engine.counts().connections(Class::Router).unbound, 0, "nobody was taken for dead");
}

fn messages_leave_nothing(bench: &mut Bench, routers: &[Token]) {
    let caller = bench.connect(Class::Http);
    let event = frame(0x12, 0x04, 0, "topic", br#"{"level":1}"#);
    let one_way = post("/v1/routers/router-00001/commands/do?oneway=1", b"hello");
    let awaited = post("/v1/routers/router-00002/commands/do?timeout_ms=600000", b"hello");
    let mut round = |ids: std::ops::Range<u32>| {
        for id in ids {
            assert!(bench.send(routers[id as usize % 100], &event) > event.len(), "its watcher is shown it");

            bench.send(caller, &one_way);
            assert!(bench.was_sent(&frame(0x10, 0, 0, "do", b"hello")), "the router is sent it");
            assert!(bench.was_sent(b"HTTP/1.1 202 "));

            let command = frame(0x10, 0, id, "do", b"hello");
            assert_eq!(bench.send(caller, &awaited), command.len());
            assert!(bench.was_sent(&command), "the router is sent it");
            bench.send(routers[2], &frame(0x11, 0, id, "", b"fine"));
            assert!(bench.was_sent(b"HTTP/1.1 200 ") && bench.was_sent(b"\r\n\r\nfine"));
        }
    };
    round(1..101);
    assert_eq!(cost(|| round(101..201)).1, 0, "bytes left by 100 events, one-way and awaited commands each");
}

/// Only that its caller waits is left of it.
fn a_sent_command_keeps_no_payload(bench: &mut Bench, router: Token) {
    const COMMANDS: u32 = 20;
    let payload = vec![1; 1_000_000];
    let call = post("/v1/routers/router-00000/commands/do?timeout_ms=600000", &payload);
    let callers: Vec<Token> = (0..COMMANDS).map(|_| bench.connect(Class::Http)).collect();
    let mut send = |caller| {
        let sent: usize = call.chunks(1 << 15).map(|chunk| bench.send(caller, chunk)).sum();
        assert!(sent > payload.len(), "{sent} bytes reach the router");
    };
    send(callers[0]);
    let kept = cost(|| callers[1..].iter().copied().for_each(send)).1;
    assert!(kept < 1024 * COMMANDS as isize, "{kept} bytes of {COMMANDS} commands that were sent");
    for id in 1..=COMMANDS {
        bench.send(router, &frame(0x11, 0, id, "", b"fine"));
        assert!(bench.was_sent(b"HTTP/1.1 200 "));
    }
}
