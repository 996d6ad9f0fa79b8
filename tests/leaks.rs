//! The verdict of the daemon's own engine in virtual time: each planted leak is named within ten minutes, while honest load
//! goes on around it; thirty hours of honest load with daily waves raise no alarm.

mod support;

use berth::id::{Class, Token};
use berth::limits::Settings;
use berth::memory::allocator::Charging;
use berth::memory::{Resident, holdings};
use std::alloc::System;
use std::collections::VecDeque;
use std::time::Duration;
use support::{Bench, frame, post, websocket};

#[global_allocator]
static ALLOCATOR: Charging<System> = Charging(System);

const STEP: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

/// Routers, watchers and callers that come, do something, and go.
struct Fleet {
    bench: Bench,
    routers: VecDeque<Token>,
    watchers: VecDeque<Token>,
    caller: Token,
    /// Takes one short stream of each new router.
    consumer: Token,
    /// The number of the router that came last.
    newest: usize,
    /// Counts everything that is done, and so makes names.
    serial: u32,
    /// How many commands each was sent: the correlation id of the next.
    commands: u32,
}

impl Fleet {
    fn new() -> Self {
        let mut settings = Settings::default();
        // Silence is no death here: a step is long, and everybody speaks rarely.
        settings.router.heartbeat.interval = 100 * HOUR;
        settings.app.heartbeat.interval = 100 * HOUR;
        settings.http.idle_timeout = 100 * HOUR;
        settings.shadow.keep = Duration::from_secs(600);
        let mut bench = Bench::with(settings);
        // A heap with honest holes.
        bench.engine.measure_memory_with(|| {
            let live = holdings().live_bytes() as u64;
            Resident { rss: live + (8 << 20), allocator: live * 5 / 4 + (4 << 20) }
        });
        let [caller, consumer] = [(); 2].map(|()| bench.connect(Class::Http));
        let mut fleet = Self {
            bench,
            routers: VecDeque::new(),
            watchers: VecDeque::new(),
            caller,
            consumer,
            newest: 0,
            serial: 0,
            commands: 0,
        };
        fleet.grow_to(20, 10);
        fleet
    }

    /// Lets routers and watchers come or go until there are so many.
    fn grow_to(&mut self, routers: usize, watchers: usize) {
        while self.routers.len() < routers {
            self.serial += 1;
            // The same names come again, as a fleet's do.
            self.newest = self.serial as usize % 1000;
            self.routers.push_back(self.bench.router(self.newest));
        }
        while self.routers.len() > routers {
            let token = self.routers.pop_front().unwrap();
            self.hang_up(token);
        }
        while self.watchers.len() < watchers {
            self.serial += 1;
            let watcher = self.bench.watcher(self.serial as usize % 10_000);
            let topic = format!("a/long/name/that/comes/but/once/{:090}", self.serial);
            let params = format!(r#"{{"router":"*","topic":"{topic}"}}"#);
            let call = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"subscribe","params":{params}}}"#);
            self.bench.send(watcher, &websocket(0x81, call.as_bytes()));
            self.watchers.push_back(watcher);
        }
        while self.watchers.len() > watchers {
            let token = self.watchers.pop_front().unwrap();
            self.hang_up(token);
        }
    }

    /// One that was taken over meanwhile is gone already.
    fn hang_up(&mut self, token: Token) {
        if self.bench.engine.describe(token).is_some() {
            self.bench.hang_up(token);
        }
    }

    /// Some seconds of traffic: one router and some watchers are replaced, the others say something.
    fn step(&mut self) {
        self.serial += 1;
        let (routers, watchers) = (self.routers.len(), self.watchers.len());
        self.grow_to(routers - 1, watchers - 3);
        self.grow_to(routers, watchers);
        let newest = *self.routers.back().unwrap();
        let topic = format!("topic-{}", self.serial % 20);
        self.bench.send(newest, &frame(0x12, 0x0c, 0, &topic, br#"{"level":1}"#)); // JSON, RETAIN
        self.bench.send(newest, &frame(0x12, 0x04, 0, "plain", br#"{"level":2}"#));
        let name = format!("router-{:05}", self.newest);
        let call = post(&format!("/v1/routers/{name}/commands/do?timeout_ms=1000"), b"hello");
        self.commands += 1;
        self.bench.send(self.caller, &call);
        if self.commands.is_multiple_of(2) {
            self.bench.send(newest, &frame(0x11, 0, 1, "", b"fine"));
        } // the other half of the commands time out
        let open = format!("GET /v1/routers/{name}/streams/rows HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.bench.send(self.consumer, open.as_bytes());
        self.bench.send(newest, &frame(0x21, 0, 1, "", &[&[0; 8][..], b"row"].concat()));
        self.bench.send(newest, &frame(0x23, 0, 1, "", &1_u64.to_be_bytes()));
        for _ in 0..5 {
            self.bench.pass(STEP / 5);
            self.bench.engine.turn();
        }
    }

    /// State and sentence of the verdict now.
    fn verdict(&mut self) -> (String, String) {
        let verdict = self.bench.engine.census_json(false)["verdict"].take();
        (verdict["state"].as_str().unwrap().into(), verdict["says"].as_str().unwrap().into())
    }

    fn go_on(&mut self, duration: Duration) {
        let until = self.bench.now.time + duration;
        while self.bench.now.time < until {
            self.step();
        }
    }
}

/// The figures of the sentence are those of the same answer, and a rise is told when it is there, not when it has lasted.
#[test]
fn a_rise_is_told_at_once_and_so_is_its_end() {
    let mut fleet = Fleet::new();
    fleet.go_on(Duration::from_secs(600));
    assert_eq!(fleet.verdict().0, "flat");
    fleet.grow_to(900, 10);
    let (state, says) = fleet.verdict();
    assert_eq!(state, "loaded", "{says}");
    assert!(says.contains("900 routers"), "{says}");
    fleet.grow_to(20, 10);
    fleet.go_on(Duration::from_secs(20));
    let (state, says) = fleet.verdict();
    assert!(says.contains(" 20 routers"), "{state}: {says}");
}

/// Every router's history fills up to its limit, and stays there.
#[test]
fn histories_that_fill_up_raise_no_alarm() {
    let mut fleet = Fleet::new();
    let mut states = std::collections::BTreeSet::new();
    for round in 0..90 {
        for _ in 0..10 {
            fleet.bench.pass(Duration::from_secs(6));
            fleet.bench.engine.turn();
            for router in fleet.routers.clone() {
                fleet.bench.send(router, &frame(0x12, 0x04, 0, "level", &[b'7'; 100]));
            }
        }
        let (state, says) = fleet.verdict();
        assert!(!matches!(state.as_str(), "leaking" | "fragmented"), "in round {round}: {state}: {says}");
        states.insert(state);
    }
    assert!(states.contains("loaded"), "{states:?}");
    let (state, says) = fleet.verdict();
    assert_eq!(state, "flat", "{says}");
    assert_eq!(fleet.bench.engine.audit(), Vec::<String>::new());
}

#[test]
fn thirty_hours_of_honest_waves_raise_no_alarm() {
    let mut fleet = Fleet::new();
    let mut states = std::collections::BTreeSet::new();
    while fleet.bench.now.time.0 < 30 * HOUR.as_nanos() as u64 {
        let hours = fleet.bench.now.time.0 as f64 / HOUR.as_nanos() as f64;
        let tide = (1.0 - (hours * std::f64::consts::TAU / 24.0).cos()) / 2.0;
        // Every five hours many come at once, for ten minutes.
        let rush = if hours % 5.0 > 4.0 && hours % 5.0 < 4.17 { 500 } else { 0 };
        fleet.grow_to(20 + (200.0 * tide) as usize + rush, 10 + (100.0 * tide) as usize + rush);
        fleet.go_on(Duration::from_secs(60));
        let (state, says) = fleet.verdict();
        assert!(!matches!(state.as_str(), "leaking" | "fragmented"), "at {hours:.1} h: {state}: {says}");
        states.insert(state);
    }
    assert!(states.contains("flat") && states.contains("loaded"), "{states:?}");
    let streams = fleet.bench.engine.census_json(false)["classes"]["stream"].take();
    assert!(streams["unbound"].as_u64() > Some(1000) && streams["live"] == 0, "{streams}");
    assert_eq!(fleet.bench.engine.counts().unbind_imbalances, 0);
    assert_eq!(fleet.bench.engine.audit(), Vec::<String>::new());
}

#[cfg(feature = "planted-faults")]
mod planted {
    use super::*;
    use berth::fault::{Fault, bear_with_imbalance, plant};

    /// Plants it after ten honest minutes; the class must be named within ten more.
    fn is_named(fault: Fault, class: &str) {
        bear_with_imbalance(true);
        let mut fleet = Fleet::new();
        fleet.go_on(Duration::from_secs(600));
        let (state, says) = fleet.verdict();
        assert_ne!(state, "leaking", "before: {says}");
        plant(Some(fault));
        let planted_at = fleet.bench.now.time;
        loop {
            fleet.step();
            let (state, says) = fleet.verdict();
            let after = fleet.bench.now.time.since(planted_at);
            if state == "leaking" {
                println!("{fault:?} after {} s: {says}", after.as_secs());
                assert!(says.starts_with(class), "{fault:?}: {says}");
                break;
            }
            assert!(after < Duration::from_secs(600), "{fault:?} is not seen: {state}: {says}");
        }
        plant(None);
        bear_with_imbalance(false);
    }

    #[test]
    fn a_session_that_skips_one_release() {
        is_named(Fault::LeakConnection, "app");
    }

    #[test]
    fn a_pending_entry_that_is_never_removed() {
        is_named(Fault::KeepCommandEntry, "pending_command");
    }

    #[test]
    fn a_subscription_left_behind() {
        is_named(Fault::KeepSubscriptions, "subscription");
    }

    #[test]
    fn a_buffer_kept_by_a_small_slice() {
        is_named(Fault::KeepBySlice, "shadow");
    }

    #[test]
    fn an_index_that_keeps_what_its_table_let_go() {
        is_named(Fault::KeepCommandIndex, "pending_command");
    }

    #[test]
    fn a_channel_that_nobody_watches() {
        is_named(Fault::KeepChannel, "subscription");
    }

    #[test]
    fn interned_names() {
        is_named(Fault::InternNames, "subscription");
    }
}
