//! `memory.max_buffered_bytes` ends the connection that holds most: what counts is what is held for it, not what is unsent.

mod support;

use berth::id::{Class, Token};
use berth::limits::Settings;
use support::{Bench, frame, post};

/// Of a long one-way command all is held until its last fragment has gone. Eight routers that have taken nearly all of one
/// hold eight times a megabyte; a watcher with a tenth of that is not the one to go.
#[test]
fn what_was_sent_of_a_message_that_is_held_whole_counts() {
    const LIMIT: usize = 8 << 20;
    let mut bench = Bench::with(Settings { max_buffered_bytes: LIMIT, ..Settings::default() });
    let watcher = bench.watcher(50);
    let talker = bench.router(50);
    bench.wire.borrow_mut().room.insert(watcher.to_u64(), 0);
    let caller = bench.connect(Class::Http);
    let payload = vec![1; 1_000_000];
    let routers: Vec<Token> = (0..8).map(|number| bench.router(number)).collect();
    for (number, router) in routers.iter().enumerate() {
        bench.wire.borrow_mut().room.insert(router.to_u64(), 990_000);
        let call = post(&format!("/v1/routers/router-{number:05}/commands/do?oneway=1"), &payload);
        for chunk in call.chunks(1 << 15) {
            bench.send(caller, chunk);
        }
    }
    assert!(bench.engine.buffered_bytes() > 8_000_000, "each command is held whole");

    for _ in 0..200 {
        bench.send(talker, &frame(0x12, 0, 0, "t", &[1; 16_000]));
        if bench.engine.buffered_bytes() < 8_000_000 {
            break;
        }
    }
    assert!(bench.engine.buffered_bytes() < LIMIT);
    assert!(bench.engine.is_open(watcher), "the watcher is still a client");
    let open = routers.iter().filter(|router| bench.engine.is_open(**router)).count();
    assert!(open < routers.len(), "a router goes");
}
