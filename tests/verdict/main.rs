//! The verdict on a daemon in virtual time: each kind of leak is named within ten minutes, honest waves of load go on around
//! it, and thirty hours of them alone raise no alarm. A failure says its seed, and the seed replays.

mod daemon;
#[allow(dead_code)] // shared with the simulation, which uses all of it
#[path = "../simulation/random.rs"]
mod random;

use berth::clock::Time;
use berth::memory::{ClassSample, History, Holder, Load, Sample, State, Verdict};
use daemon::{Daemon, Fault, connections};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

struct Watch {
    daemon: Daemon,
    history: History,
}

impl Watch {
    fn new(daemon: Daemon) -> Self {
        Self { daemon, history: History::new() }
    }

    fn verdict(&self) -> Verdict {
        self.history.verdict(self.daemon.now())
    }

    fn step(&mut self) -> Verdict {
        let sample = self.daemon.sample();
        self.history.record(&sample);
        self.verdict()
    }

    /// Goes on for a minute.
    fn minute(&mut self) -> Verdict {
        for _ in 0..6 {
            let sample = self.daemon.sample();
            self.history.record(&sample);
        }
        self.verdict()
    }

    /// Goes on for so long, and says what was wrong first.
    fn quiet_for(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.daemon.now() + duration;
        while self.daemon.now() < end {
            let verdict = self.minute();
            if matches!(verdict.state, State::Leaking | State::Fragmented) {
                return Err(format!("at {:?}: {verdict}", self.daemon.now().since(Time::ZERO)));
            }
        }
        Ok(())
    }

    /// Goes on until the verdict is this, and says after how long.
    fn until(&mut self, state: State, at_most: Duration) -> (Duration, Verdict) {
        let start = self.daemon.now();
        loop {
            let verdict = self.minute();
            let passed = self.daemon.now().since(start);
            if verdict.state == state {
                return (passed, verdict);
            }
            assert!(passed < at_most, "not {} after {passed:?} but {verdict}", state.name());
        }
    }
}

/// A fault in the midst of honest waves is named with its class, by then.
#[track_caller]
fn is_named(seed: u64, daemon: Daemon, fault: Fault, holder: Holder, by: Duration) -> (Watch, Verdict) {
    println!("seed {seed}: {fault:?}");
    let mut watch = Watch::new(daemon);
    let before = Duration::from_secs(600 + seed * 997 % 80_000);
    watch.quiet_for(before).unwrap_or_else(|wrong| panic!("seed {seed}: before the fault, {wrong}"));
    watch.daemon.plant(fault);
    let (after, verdict) = watch.until(State::Leaking, by);
    println!("  after {} s: {verdict}", after.as_secs());
    let name = holder.name();
    assert!(
        verdict.says.starts_with(&format!("{name}: ")),
        "seed {seed}: {name} is to be named in: {verdict}"
    );
    (watch, verdict)
}

#[test]
fn thirty_hours_of_honest_waves_raise_no_alarm() {
    for seed in 1..=24 {
        Watch::new(Daemon::new(seed))
            .quiet_for(30 * HOUR)
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[test]
fn nor_do_weeks_nor_a_fleet_that_grows_nor_one_without_waves() {
    for seed in 100..104 {
        let mut daemon = Daemon::new(seed);
        daemon.growth_per_day = [0.0, 0.3, 0.1, 0.0][seed as usize - 100];
        daemon.wave = [9.0, 9.0, 0.5, 0.0][seed as usize - 100];
        Watch::new(daemon).quiet_for(14 * DAY).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[test]
fn bytes_of_connections_that_are_gone_are_named() {
    for seed in 200..212 {
        let holder = connections(seed);
        let fault = Fault::Orphans { holder, bytes_per_second: 5.0 };
        let (_, verdict) = is_named(seed, Daemon::new(seed), fault, holder, MINUTE);
        assert!(verdict.says.contains("held for connections that are gone"), "{verdict}");
    }
}

#[test]
fn objects_past_their_time_are_named_and_counted() {
    let tables = [Holder::PendingCommand, Holder::Subscription, Holder::Timer, Holder::Stream];
    for seed in 300..312 {
        let holder = tables[seed as usize % tables.len()];
        let fault = Fault::Strays { holder, per_minute: 31.0 };
        let (mut watch, _) = is_named(seed, Daemon::new(seed), fault, holder, 2 * MINUTE);
        for _ in 0..10 {
            watch.minute();
        }
        let says = watch.verdict().says;
        assert!(
            says.contains("entries are past their deadline or without their owner, first seen 1"),
            "{says}"
        );
        assert!(
            ["30", "31", "32"].iter().any(|rate| says.contains(&format!("{rate} more a minute"))),
            "{says}"
        );
    }
}

#[test]
fn bytes_that_nothing_explains_are_named() {
    for seed in 400..412 {
        for holder in [Holder::Shadow, Holder::Other, Holder::Subscription] {
            let fault = Fault::Excess { holder, bytes_per_second: 200.0 };
            is_named(seed, Daemon::new(seed).with_exact(holder), fault, holder, 10 * MINUTE);
        }
    }
}

#[test]
fn so_are_buffers_kept_by_a_slice_and_names_in_a_map_that_doubles() {
    for seed in 500..512 {
        for holder in [Holder::QueuedFrame, Holder::Shadow] {
            let fault = Fault::LumpyExcess { holder, bytes_per_second: 400.0 };
            is_named(seed, Daemon::new(seed).with_exact(holder), fault, holder, 10 * MINUTE);
        }
    }
}

#[test]
fn a_leak_of_a_few_bytes_a_second_is_named_in_hours() {
    for seed in 600..606 {
        let fault = Fault::Excess { holder: Holder::Shadow, bytes_per_second: 4.0 };
        is_named(seed, Daemon::new(seed).with_exact(Holder::Shadow), fault, Holder::Shadow, 10 * HOUR);
    }
}

#[test]
fn what_creeps_inside_its_bound_is_named_in_a_day_or_two() {
    for seed in 700..712 {
        let fault = Fault::Excess { holder: Holder::Router, bytes_per_second: 600.0 };
        let (_, verdict) = is_named(seed, Daemon::new(seed), fault, Holder::Router, 40 * HOUR);
        assert!(verdict.says.contains("crept up by"), "{verdict}");
    }
}

#[test]
fn what_creeps_beneath_the_daily_wave_is_named_in_days() {
    for seed in 800..804 {
        let fault = Fault::Excess { holder: Holder::App, bytes_per_second: 30.0 };
        is_named(seed, Daemon::new(seed), fault, Holder::App, 10 * DAY);
    }
}

#[test]
fn a_leak_that_is_given_back_is_forgiven_and_one_that_stops_is_remembered() {
    let faults = [
        (Holder::Page, Fault::Orphans { holder: Holder::Page, bytes_per_second: 50.0 }),
        (Holder::Timer, Fault::Strays { holder: Holder::Timer, per_minute: 20.0 }),
        (Holder::Shadow, Fault::Excess { holder: Holder::Shadow, bytes_per_second: 500.0 }),
        (Holder::Other, Fault::Excess { holder: Holder::Other, bytes_per_second: 500.0 }),
    ];
    for (seed, (holder, fault)) in (900..).zip(faults) {
        let daemon = Daemon::new(seed).with_exact(holder);
        let (mut watch, _) = is_named(seed, daemon, fault, holder, 10 * MINUTE);
        watch.daemon.mend();
        for _ in 0..10 {
            assert_eq!(watch.minute().state, State::Leaking, "seed {seed}: what leaked is still there");
        }
        watch.daemon.recover();
        let passed = (0..12).find(|_| watch.step().state != State::Leaking);
        assert!(passed.is_some(), "seed {seed}: {}", watch.verdict());
        watch.quiet_for(2 * HOUR).unwrap_or_else(|wrong| panic!("seed {seed}: after the fault, {wrong}"));
    }
}

#[test]
fn holes_that_stay_are_fragmentation_and_those_of_a_burst_are_not() {
    let mut watch = Watch::new(Daemon::new(1000));
    watch.quiet_for(HOUR).unwrap();
    watch.daemon.plant(Fault::Holes { bytes: 900 << 20 });
    let (after, verdict) = watch.until(State::Fragmented, 10 * MINUTE);
    assert!(after >= 5 * MINUTE, "{after:?}");
    assert!(verdict.says.contains("too much for 5 min"), "{verdict}");
    watch.daemon.recover();
    watch.quiet_for(HOUR).unwrap();
}

/// A daemon that can be told what to show.
fn still(at: Duration) -> Sample {
    let mut sample = Sample {
        at: Time::ZERO + at,
        load: Load { routers: 200, ..Load::default() },
        allocated_from_kernel_bytes: 20 << 20,
        ..Sample::default()
    };
    sample.classes[Holder::Other as usize].bytes = 12 << 20;
    sample
}

fn still_for(history: &mut History, span: std::ops::Range<u64>, change: impl Fn(&mut Sample)) -> Verdict {
    for second in span.clone().step_by(10) {
        let mut sample = still(Duration::from_secs(second));
        change(&mut sample);
        history.record(&sample);
    }
    history.verdict(Time::ZERO + Duration::from_secs(span.end))
}

#[test]
fn a_young_daemon_is_warming_and_a_still_one_flat() {
    let mut history = History::new();
    assert_eq!(history.verdict(Time::ZERO).state, State::Warming);
    let young = still_for(&mut history, 0..110, |_| ());
    assert_eq!(
        young.to_string(),
        "warming: watched for 110 s, to be judged after 2 min; 12.0 MiB live, 200 routers, 8.0 MiB of holes"
    );
    let flat = still_for(&mut history, 110..3600, |_| ());
    assert_eq!(
        flat.to_string(),
        "flat: live bytes have not grown in 58 min; 12.0 MiB live, 200 routers, 8.0 MiB of holes"
    );
    let flat = still_for(&mut history, 3600..4 * 86_400, |_| ());
    assert!(flat.says.starts_with("live bytes have not grown in 4 days; "), "{flat}");
}

#[test]
fn growth_with_a_reason_is_load() {
    let mut history = History::new();
    still_for(&mut history, 0..3600, |_| ());
    let loaded = still_for(&mut history, 3600..3900, |sample| {
        sample.load.routers = 2000;
        sample.classes[Holder::Router as usize].bytes = 3 << 20;
    });
    assert_eq!(
        loaded.to_string(),
        "loaded: live bytes rose by 3.0 MiB in 60 min: routers from 200 to 2,000; \
         15.0 MiB live, 2,000 routers, 5.0 MiB of holes"
    );
    let mut history = History::new();
    still_for(&mut history, 0..3600, |_| ());
    let fuller = still_for(&mut history, 3600..3900, |sample| {
        sample.classes[Holder::Shadow as usize] =
            ClassSample { bytes: 1 << 20, explained_bytes: 1 << 20, ..ClassSample::default() };
    });
    assert!(
        fuller.to_string().contains("loaded: live bytes rose by 1.0 MiB in 60 min: objects of shadow"),
        "{fuller}"
    );
}

#[test]
fn histories_that_fill_up_are_load() {
    let mut history = History::new();
    let with_history = |sample: &mut Sample| {
        let events = (sample.at.0 / 500_000_000).min(50_000); // two a second, up to their limit
        sample.load.remembered_events = events;
        let bytes = 2000 + events * 400;
        sample.classes[Holder::Shadow as usize] = ClassSample {
            bytes: bytes as i64,
            explained_bytes: bytes + events * 5,
            ..ClassSample::default()
        };
    };
    let filling = still_for(&mut history, 0..3 * 3600, with_history);
    assert_eq!(filling.state, State::Loaded, "{filling}");
    assert!(filling.says.contains("remembered events from "), "{filling}");
    let full = still_for(&mut history, 3 * 3600..86_400, with_history);
    assert_eq!(full.state, State::Flat, "{full}");
}

#[test]
fn one_step_without_a_reason_is_told_but_is_no_leak() {
    let mut history = History::new();
    still_for(&mut history, 0..3600, |_| ());
    let stepped = still_for(&mut history, 3600..3900, |sample| {
        sample.classes[Holder::Other as usize].bytes += 5 << 20;
    });
    assert!(
        stepped.to_string().starts_with("flat: live bytes rose by 5.0 MiB in 60 min without more load"),
        "{stepped}"
    );
}

#[test]
fn a_proof_needs_no_warming_and_the_worst_comes_first() {
    let mut history = History::new();
    let verdict = still_for(&mut history, 0..60, |sample| {
        sample.patrol_rounds = sample.at.0;
        sample.classes[Holder::Timer as usize].strays = 3;
        sample.classes[Holder::PendingCommand as usize].strays = 312;
        sample.classes[Holder::App as usize].orphaned_bytes = 1 << 20;
    });
    assert_eq!(
        verdict.to_string(),
        "leaking: pending_command: 312 entries are past their deadline or without their owner, \
         first seen 60 s ago, no more of late; also timer, app"
    );
}

#[test]
fn strays_that_only_one_round_saw_are_no_proof() {
    let mut history = History::new();
    let verdict = still_for(&mut history, 0..600, |sample| {
        sample.patrol_rounds = 1;
        sample.classes[Holder::Timer as usize].strays = 3;
    });
    assert_eq!(verdict.state, State::Flat, "{verdict}");
}

#[test]
fn silence_changes_nothing_but_is_told() {
    let mut watch = Watch::new(Daemon::new(1100));
    watch.quiet_for(3 * HOUR).unwrap();
    let before = watch.verdict();
    watch.daemon.sleep(5 * HOUR);
    let after = watch.verdict();
    assert_eq!(after.state, before.state);
    assert!(after.says.ends_with("; the last sample is 5 h old"), "{after}");
    watch.quiet_for(3 * HOUR).unwrap();
}

#[test]
fn odd_figures_of_the_first_moment_do_no_harm() {
    let extremes = [i64::MIN, -1, i64::MAX].into_iter().zip([u64::MAX, 0, u64::MAX]);
    for (signed, unsigned) in extremes {
        let mut history = History::new();
        let odd = ClassSample {
            bytes: signed,
            objects: unsigned,
            explained_bytes: unsigned,
            ..ClassSample::default()
        };
        let mut sample = still(Duration::ZERO);
        sample.classes = [odd; 13];
        sample.allocated_from_kernel_bytes = unsigned;
        sample.load.routers = unsigned;
        history.record(&sample);
        assert_eq!(history.verdict(Time::ZERO).state, State::Warming);
        let verdict = still_for(&mut history, 10..3600, |_| ());
        assert_eq!(verdict.state, State::Flat, "{verdict}");
        // And in midlife nothing overflows.
        for second in (3600..7200).step_by(20) {
            sample.at = Time::ZERO + Duration::from_secs(second);
            history.record(&sample);
            still_for(&mut history, second + 10..second + 20, |_| ());
        }
    }
}
