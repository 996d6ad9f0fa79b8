//! What a history costs an event: `cargo bench --bench events`.
//!
//! Trust ratios of one run, not its times.

use berth::core::shadows::{Cursor, Event, Read, Shadows};
use berth::id::{Mint, Token};
use berth::limits::{Settings, ShadowSettings};
use berth::memory::allocator::Charging;
use std::hint::black_box;
use std::time::Instant;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Charging<Jemalloc> = Charging(Jemalloc);

const EVENTS: usize = 1_000_000;
const BODY: &[u8] = &[b'1'; 200];

/// Events of a fleet, one router after another: the best of some rounds, in nanoseconds each, and the shadows.
fn publish_ns(routers: u32, limits: &ShadowSettings) -> (f64, Shadows) {
    let (mut shadows, mut mint) = (Shadows::default(), Mint::new(1));
    let keys: Vec<u32> = (0..routers)
        .map(|slot| {
            shadows.bind(&format!("router-{slot:05}"), Token { slot, generation: 1 }, &mut mint, limits).0
        })
        .collect();
    let event = Event { topic: "sensors/temperature", body: BODY, json: true, retain: false };
    let mut round = || {
        let began = Instant::now();
        for number in 0..EVENTS {
            black_box(shadows.publish(keys[number % keys.len()], black_box(&event), limits));
        }
        began.elapsed().as_nanos() as f64 / EVENTS as f64
    };
    let best = (0..4).map(|_| round()).fold(f64::INFINITY, f64::min);
    (best, shadows)
}

/// All that is remembered, read once, in nanoseconds each.
fn read_ns(shadows: &Shadows) -> f64 {
    let mut cursor = Cursor::behind(shadows.published() - shadows.remembered() as u64);
    let (mut count, began) = (0, Instant::now());
    while let Read::Event(_, event) = shadows.read(None, &mut cursor) {
        black_box(event);
        count += 1;
    }
    assert_eq!(count, shadows.remembered());
    began.elapsed().as_nanos() as f64 / f64::from(count as u32)
}

fn main() {
    let on = Settings::default().shadow;
    for routers in [10, 1000] {
        let (without, _) = publish_ns(routers, &ShadowSettings { history_events: 0, ..on });
        let (with, shadows) = publish_ns(routers, &on);
        let more = with - without;
        println!(
            "{routers} routers: publish {without:.0} ns without a history, {with:.0} ns with one: {more:+.0} ns"
        );
        println!("  read {:.0} ns an event, of {}", read_ns(&shadows), shadows.remembered());
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        println!("  {:.1} MiB explained, {:.1} counted", mib(shadows.held_bytes()), mib(shadows.bytes()));
    }
}
