//! The simulation: the daemon's own [`berth::reactor::Engine`] without sockets, on a virtual clock, under seeded random
//! schedules. After each turn the audit walks every table against every other, every answer is judged by what happened, and
//! at the end everything has drained to zero.
//!
//! `BERTH_SIM_SCHEDULES=100000 cargo test --test simulation` runs more of them. A failing seed is printed, and
//! `BERTH_SIM_SEED=123 cargo test --test simulation replay -- --nocapture` runs it again and
//! prints every read and write.

mod caller;
mod client;
mod fleet;
mod model;
mod random;
mod recall;
mod router;
mod settings;
mod socket;
mod source;
mod streams;
mod watcher;
mod wire;
mod world;

use berth::memory::allocator::Charging;
use std::alloc::System;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Every connection's account must be balanced when it ends: the daemon panics otherwise.
#[global_allocator]
static ALLOCATOR: Charging<System> = Charging(System);

/// The first seed of every run: the same schedules each time, unless `BERTH_SIM_BASE` says otherwise.
const BASE_SEED: u64 = 1;
const SCHEDULES: u64 = 1000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// One schedule; a panic anywhere in it is a failure like any other.
fn run(seed: u64, tells: bool) -> Result<world::Report, String> {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, tells))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without words")))
    })
}

fn how_to_replay(seed: u64) -> String {
    format!("BERTH_SIM_SEED={seed} cargo test --test simulation replay -- --nocapture")
}

#[test]
fn every_schedule_drains_to_zero() {
    let schedules = number("BERTH_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let base = number("BERTH_SIM_BASE").unwrap_or(BASE_SEED);
    let began = std::time::Instant::now();
    let (mut seen, mut turns): (BTreeMap<String, usize>, u64) = Default::default();
    let mut failures = Vec::new();
    for seed in base..base + schedules {
        if failures.len() == 10 {
            break;
        }
        match run(seed, false) {
            Err(problem) => {
                failures.push(format!("seed {seed}: {problem}\n  replay: {}", how_to_replay(seed)))
            }
            Ok(report) => {
                turns += report.turns;
                for (what, count) in report.seen {
                    *seen.entry(what).or_default() += count;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{schedules} schedules from seed {base}, {turns} turns, {:?}; met: {seen:#?}", began.elapsed());
}

#[test]
fn replay() {
    let Some(seed) = number("BERTH_SIM_SEED") else { return };
    match run(seed, true) {
        Ok(report) => println!("seed {seed} finds nothing: {report:#?}"),
        Err(problem) => panic!("seed {seed}: {problem}"),
    }
}

#[test]
fn a_seed_is_a_schedule() {
    for seed in 1..=20 {
        let [first, second] =
            [run(seed, false), run(seed, false)].map(|result| result.map(|report| report.trace));
        assert!(first.is_ok(), "seed {seed}: {first:?}");
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Each fault makes some schedule fail; that none fails without one is the first test above.
#[cfg(feature = "planted-faults")]
mod planted {
    use super::run;
    use berth::fault::{Fault, plant};
    use std::cell::Cell;

    const SCHEDULES: u64 = 1000;

    thread_local! {
        static EXPECTS_PANICS: Cell<bool> = const { Cell::new(false) };
    }

    /// A panic is one way of going red: its text is kept, its noise is not. Other threads panic as ever.
    fn expect_panics() {
        EXPECTS_PANICS.set(true);
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !EXPECTS_PANICS.get() {
                report(panic);
            }
        }));
    }

    /// The seed of the first schedule that goes red, and what it says.
    fn first_red(fault: Fault) -> Option<(u64, String)> {
        plant(Some(fault));
        let red = (1..=SCHEDULES).find_map(|seed| run(seed, false).err().map(|problem| (seed, problem)));
        plant(None);
        red
    }

    #[test]
    fn every_planted_fault_turns_it_red() {
        expect_panics();
        let mut unseen = Vec::new();
        for fault in Fault::ALL.iter().filter(|fault| !fault.needs_time()) {
            match first_red(*fault) {
                Some((seed, problem)) => println!("{fault:?}: seed {seed}: {problem}"),
                None => unseen.push(fault),
            }
        }
        EXPECTS_PANICS.set(false);
        assert!(unseen.is_empty(), "the simulation does not see {unseen:?}");
    }
}
