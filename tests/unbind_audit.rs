//! The account of a connection is balanced when it ends (SPEC section 6), and an escape of any kind is seen.

mod support;

use berth::id::{Class, Token};
use berth::limits::Settings;
use berth::memory::allocator::Charging;
use berth::memory::{Holder, holdings, owned_by};
use berth::reactor::Readiness;
use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use support::{Bench, ESCAPED_BYTES, frame, post, websocket};

#[global_allocator]
static ALLOCATOR: Charging<System> = Charging(System);

fn bench() -> Bench {
    let mut settings = Settings::default();
    settings.shadow.keep = Duration::ZERO;
    Bench::with(settings)
}

fn connect(bench: &mut Bench, class: Class) -> Token {
    match class {
        Class::Router => bench.router(7),
        Class::App => bench.watcher(7),
        Class::Http | Class::Page => bench.connect(class),
    }
}

/// The beginning of something that is held until the rest comes.
fn half_message(class: Class) -> Vec<u8> {
    match class {
        Class::Router => frame(0x12, 0x01, 0, "topic", &[7; 10_000]),
        Class::Http => post("/v1/routers/router-00001/commands/x", &[7; 10_000])[..9_000].to_vec(),
        // A text frame that is not the last of its message; a part of a handshake.
        Class::App => websocket(0x01, &[b'x'; 100]),
        Class::Page => b"GET /ws HTTP/1.1\r\nHost: loc".to_vec(),
    }
}

#[test]
fn whatever_a_connection_held_its_account_ends_at_zero() {
    for class in Class::ALL {
        let mut bench = bench();
        let token = connect(&mut bench, class);
        let idle = owned_by(token);
        assert!(idle > 100, "{class:?}: itself at least, not {idle}");
        bench.send(token, &half_message(class));
        let held = owned_by(token) - idle;
        let sent = half_message(class).len() as i64;
        assert!((sent / 2..4 * sent).contains(&held), "{class:?}: {held} bytes for {sent}");
        bench.hang_up(token);
        assert_eq!((owned_by(token), holdings().of(Holder::from(class)).bytes), (0, 0), "{class:?}");
        assert_eq!(bench.engine.counts().unbind_imbalances, 0);
    }
}

/// What a stream holds is its own, what waits of its rows is a queued frame's; whoever goes, all of it comes back.
#[test]
fn a_stream_ends_with_its_consumer_or_without_its_router() {
    let held =
        || [Holder::Stream, Holder::QueuedFrame, Holder::Timer].map(|holder| holdings().of(holder).bytes);
    for consumer_goes in [true, false] {
        let mut bench = bench();
        let (router, consumer) = (bench.router(7), bench.connect(Class::Http));
        let before = (held(), owned_by(router), owned_by(consumer));
        bench.send(
            consumer,
            b"GET /v1/routers/router-00007/streams/rows?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        assert!(bench.was_sent(b"rows\x00\x00\x00\x14"), "OPEN, with 20 rows granted");
        bench.wire.borrow_mut().room.insert(consumer.to_u64(), 0);
        for seq in 0_u64..20 {
            bench.send(router, &frame(0x21, 0, 1, "", &[&seq.to_be_bytes()[..], &[7; 1000]].concat()));
        }
        let [stream, frames, _] = held();
        assert!(stream > before.0[0] && frames > before.0[1] + 20_000, "{stream} and {frames} bytes");
        assert_eq!((owned_by(router), owned_by(consumer)), (before.1, before.2), "neither owns a row");
        assert_eq!(bench.engine.audit(), Vec::<String>::new());
        bench.hang_up(if consumer_goes { consumer } else { router });
        bench.wire.borrow_mut().room.clear();
        if consumer_goes {
            bench.hang_up(router);
        } else {
            bench.engine.event(consumer, Readiness { writable: true, ..Readiness::default() });
            bench.pass(Duration::from_secs(31)); // stream.resume_s
            bench.engine.turn();
            bench.hang_up(consumer);
        }
        let census = bench.engine.census_json(true);
        assert_eq!(
            (&census["classes"]["stream"]["live"], &census["classes"]["stream"]["unbound"]),
            (&0.into(), &1.into())
        );
        assert_eq!(bench.engine.audit(), Vec::<String>::new());
        bench.pass(Duration::from_secs(2));
        bench.engine.turn(); // the tables give back
        assert_eq!(held(), before.0, "consumer goes: {consumer_goes}");
    }
}

/// One escape for each class: a block that is charged to the connection and outlives it.
#[test]
#[cfg(debug_assertions)]
fn an_escape_is_a_panic_that_names_class_and_amount() {
    for class in Class::ALL {
        let mut bench = bench();
        let token = connect(&mut bench, class);
        bench.wire.borrow_mut().escapes = true;
        bench.send(token, &half_message(class)[..10]);
        bench.wire.borrow_mut().escapes = false;
        let panic = catch_unwind(AssertUnwindSafe(|| bench.hang_up(token))).expect_err("it panics");
        let text = panic.downcast_ref::<String>().expect("with words");
        assert!(text.contains(class.name()) && text.contains(&format!("{ESCAPED_BYTES} bytes")), "{text}");
    }
}

/// In a daemon that must live on it is counted, and its bytes stay visible as nobody's.
#[test]
#[cfg(feature = "planted-faults")]
fn an_escape_is_counted_and_its_bytes_are_nobodys() {
    use berth::fault::{Fault, bear_with_imbalance, plant};
    bear_with_imbalance(true);
    plant(Some(Fault::LeakConnection));
    for (count, class) in Class::ALL.into_iter().enumerate() {
        let mut bench = bench();
        let token = connect(&mut bench, class);
        bench.hang_up(token);
        assert_eq!(bench.engine.counts().unbind_imbalances, 1, "{class:?}, number {count}");
        assert!(holdings().orphaned(Holder::from(class)) > 100);
        let census = bench.engine.census_json(false);
        assert_eq!(census["unbind_imbalances"], 1);
    }
    plant(None);
    bear_with_imbalance(false);
}
