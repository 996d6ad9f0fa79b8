//! Every table explains what is charged to its class, at every moment and closely; and when all is removed and given back,
//! it takes what it took when it was new. Random steps: a failure names its seed.
//!
//! The balances are of each thread, so these tests do not see each other.

mod frames;
#[allow(dead_code)]
#[path = "../simulation/random.rs"]
mod random;
mod streams;

use berth::clock::Time;
use berth::core::commands::{Caller, Commands, NewCommand, OfCaller, OfRouter, Request};
use berth::core::hub::{Hub, OfClient};
use berth::core::message::{Message, SharedMessage};
use berth::core::pool::Pool;
use berth::core::shadows::{Event, Shadows};
use berth::core::wheel::{Due, TimerKey, Wheel};
use berth::id::{Mint, Token};
use berth::limits::ShadowSettings;
use berth::memory::allocator::Charging;
use berth::memory::{Holder, charge, holdings};
use bytes::Bytes;
use random::Random;
use std::alloc::System;
use std::collections::BTreeMap;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Charging<System> = Charging(System);

const SEEDS: u64 = 12;
const STEPS: usize = 3_000;
/// What a table may claim beyond what it has: less than a buffer that a small slice keeps alive.
const BUFFER_BYTES: usize = 16_384;

fn charged(holder: Holder) -> usize {
    usize::try_from(holdings().of(holder).bytes).unwrap()
}

fn token(slot: u32) -> Token {
    Token { slot, generation: 1 }
}

/// A table with what its random steps need to know of it.
trait Bench: Default {
    const HOLDER: Holder;
    fn held_bytes(&self) -> usize;
    fn len(&self) -> usize;
    fn give_back(&mut self);
    /// `grow` in percent: how likely the table is to grow.
    fn step(&mut self, random: &mut Random, grow: usize);
    fn remove_all(&mut self);
}

fn check<B: Bench>() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut bench = B::default();
        let at_start = charged(B::HOLDER);
        assert!(at_start > 0, "made at start");
        let mut longest = 0;
        for step in 0..STEPS {
            // Waves: the table fills and empties a few times.
            let grow = if (step * 6 / STEPS).is_multiple_of(2) { 75 } else { 25 };
            match random.below(50) {
                0 => bench.give_back(),
                _ => bench.step(&mut random, grow),
            }
            let (charged, held) = (charged(B::HOLDER), bench.held_bytes());
            assert!(charged <= held, "seed {seed}, step {step}: {charged} bytes charged, {held} explained");
            let unused = held - charged;
            assert!(
                unused < BUFFER_BYTES,
                "seed {seed}, step {step}: {unused} bytes explained that are not there"
            );
            longest = longest.max(bench.len());
        }
        assert!(longest > 130, "seed {seed}: {longest} entries are not three pages");
        a_forgotten_buffer_shows(&bench);
        bench.remove_all();
        bench.give_back();
        assert_eq!(charged(B::HOLDER), at_start, "seed {seed}: all is removed and given back");
        drop(bench);
        assert_eq!(charged(B::HOLDER), 0, "seed {seed}: the table is gone");
    }
}

fn a_forgotten_buffer_shows<B: Bench>(bench: &B) {
    let _charge = charge(B::HOLDER);
    let slice = Bytes::from(vec![0; BUFFER_BYTES]).slice(..20);
    assert!(charged(B::HOLDER) > bench.held_bytes(), "{} bytes keep {BUFFER_BYTES}", slice.len());
}

#[derive(Default)]
struct CommandsBench {
    commands: Commands,
    wheel: Wheel,
    of_router: OfRouter,
    of_caller: OfCaller,
    keys: Vec<u32>,
    last_id: u32,
    /// What a fleet call still asks; its commands may outlive its part in it.
    shared: Option<SharedMessage>,
}

impl CommandsBench {
    /// Begins a fleet call, or ends the part of it that asks.
    fn turn_fleet(&mut self, random: &mut Random) {
        match self.shared.take() {
            Some(message) => self.commands.unshare(message),
            None => {
                let message = SharedMessage::new("name", &vec![b'x'; random.length()], false);
                self.commands.share(&message);
                self.shared = Some(message);
            }
        }
    }

    fn insert(&mut self, random: &mut Random) {
        let token = self.commands.next_token();
        let timer = self.wheel.set(Time(0), Due::Command(token));
        let request = match random.below(4) {
            0 => Request::Http,
            1 => Request::rpc(None, None),
            2 => Request::Fleet { index: 0 },
            _ => Request::rpc(Some(&"7".repeat(random.between(1, 300))), None),
        };
        let message = match (&request, &self.shared) {
            (Request::Fleet { .. }, Some(message)) => Message::shared(message),
            _ => Message::new("name", &vec![b'x'; random.length()], false),
        };
        self.last_id += 1;
        let new = NewCommand {
            router: self::token(0),
            caller: Caller { connection: self::token(1), request },
            id: self.last_id,
            message,
            deadline: Time(0),
        };
        self.commands.insert(token, new, timer, &mut self.of_router, &mut self.of_caller);
        self.keys.push(token.slot);
    }

    fn remove(&mut self, index: usize) {
        let key = self.keys.swap_remove(index);
        self.commands.leave_caller(key, &mut self.of_caller);
        self.commands.remove(key, &mut self.of_router);
    }
}

impl Bench for CommandsBench {
    const HOLDER: Holder = Holder::PendingCommand;

    fn held_bytes(&self) -> usize {
        self.commands.held_bytes()
    }

    fn len(&self) -> usize {
        self.commands.len()
    }

    fn give_back(&mut self) {
        self.commands.give_back();
        self.commands.recount(&self.shared).unwrap();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        if random.chance(3) {
            return self.turn_fleet(random);
        }
        if self.keys.is_empty() || random.chance(grow) {
            return self.insert(random);
        }
        let index = random.below(self.keys.len());
        let key = self.keys[index];
        match random.below(6) {
            // A fragment that lives on is no command's any more.
            0 => _ = self.commands.begin_fragment(key, random.chance(50)),
            1 => self.commands.extend_reply(key, 0, &vec![b'y'; random.length()]),
            2 => _ = self.commands.take_reply(key),
            _ => self.remove(index),
        }
    }

    fn remove_all(&mut self) {
        if let Some(message) = self.shared.take() {
            self.commands.unshare(message);
        }
        while !self.keys.is_empty() {
            self.remove(0);
        }
    }
}

#[test]
fn commands_explain_what_they_hold() {
    check::<CommandsBench>();
}

#[derive(Default)]
struct HubBench {
    hub: Hub,
    lists: [OfClient; 4],
}

impl Bench for HubBench {
    const HOLDER: Holder = Holder::Subscription;

    fn held_bytes(&self) -> usize {
        self.hub.held_bytes()
    }

    fn len(&self) -> usize {
        self.hub.len()
    }

    fn give_back(&mut self) {
        self.hub.give_back();
        self.hub.recount().unwrap();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        let slot = random.below(self.lists.len());
        let list = &mut self.lists[slot];
        if list.is_empty() || random.chance(grow) {
            let mut name = || random.chance(80).then(|| "n".repeat(random.between(1, 64)));
            let (router, topic) = (name(), name());
            self.hub.subscribe(token(slot as u32), 0, router.as_deref(), topic.as_deref(), 0, list);
        } else {
            let chosen = random.below(list.len());
            let key = self.hub.keys(list).nth(chosen).unwrap();
            self.hub.unsubscribe(key, list);
        }
    }

    fn remove_all(&mut self) {
        for list in &mut self.lists {
            while let Some(key) = list.front() {
                self.hub.unsubscribe(key, list);
            }
        }
    }
}

#[test]
fn subscriptions_explain_what_they_hold() {
    check::<HubBench>();
}

const SHADOW_LIMITS: ShadowSettings = ShadowSettings {
    keep: Duration::from_secs(1_000),
    max_offline: 200,
    max_topics: 8,
    max_bytes: 20_000,
    max_total_bytes: 1_000_000,
    history_events: 20,
    history_bytes: 3_000,
};

struct ShadowsBench {
    shadows: Shadows,
    mint: Mint,
    now: Time,
    sessions: u32,
}

impl Default for ShadowsBench {
    fn default() -> Self {
        Self { shadows: Shadows::default(), mint: Mint::new(1), now: Time(0), sessions: 0 }
    }
}

impl ShadowsBench {
    fn publish(&mut self, key: u32, random: &mut Random) {
        let body = vec![b'x'; if random.chance(20) { 0 } else { random.length() / 4 }];
        let topic = "t".repeat(random.between(1, 20));
        let retain = random.chance(80);
        let event = Event { topic: &topic, body: &body, json: false, retain };
        self.shadows.publish(key, &event, &SHADOW_LIMITS);
    }
}

impl Bench for ShadowsBench {
    const HOLDER: Holder = Holder::Shadow;

    fn held_bytes(&self) -> usize {
        self.shadows.held_bytes()
    }

    fn len(&self) -> usize {
        self.shadows.len()
    }

    fn give_back(&mut self) {
        self.shadows.give_back();
        self.shadows.recount().unwrap();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        self.now = self.now + Duration::from_secs(1);
        let number = random.below(400);
        let id = format!("{number:0>length$}", length = 3 + number % 60);
        let key = self.shadows.find(&id);
        match (key, random.chance(grow), random.below(8)) {
            (_, true, _) => {
                self.sessions += 1;
                self.shadows.bind(&id, token(self.sessions), &mut self.mint, &SHADOW_LIMITS);
            }
            (_, _, 0) => self.shadows.expire(self.now, Duration::from_secs(300)),
            (_, _, 1) => self.shadows.forget(&id, &mut self.mint),
            _ => {
                let Some(key) = self.shadows.next_after(Some(&id)) else { return };
                if let Some(bound) = self.shadows.get(key).bound.filter(|_| random.chance(40)) {
                    self.shadows.unbind(key, bound, self.now, &SHADOW_LIMITS);
                } else {
                    self.publish(key, random);
                }
            }
        }
    }

    fn remove_all(&mut self) {
        let bound: Vec<(u32, Option<Token>)> =
            self.shadows.iter().map(|(key, shadow)| (key, shadow.bound)).collect();
        for (key, bound) in bound {
            if let Some(bound) = bound {
                self.shadows.unbind(key, bound, self.now, &SHADOW_LIMITS);
            }
        }
        while !self.shadows.is_empty() {
            self.shadows.expire(self.now, Duration::ZERO);
        }
    }
}

#[test]
fn shadows_explain_what_they_hold() {
    check::<ShadowsBench>();
}

#[derive(Default)]
struct WheelBench {
    wheel: Wheel,
    keys: BTreeMap<u32, TimerKey>,
    now: u64,
    serial: u32,
}

impl Bench for WheelBench {
    const HOLDER: Holder = Holder::Timer;

    fn held_bytes(&self) -> usize {
        self.wheel.held_bytes()
    }

    fn len(&self) -> usize {
        self.wheel.len()
    }

    fn give_back(&mut self) {
        self.wheel.give_back();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        self.now += 1_000_000;
        if random.chance(grow) {
            self.serial += 1;
            let at = Time(self.now + random.below(2_000_000_000) as u64);
            let key = self.wheel.set(at, Due::Connection(token(self.serial)));
            self.keys.insert(self.serial, key);
        } else if let Some((_, key)) = self.keys.pop_first() {
            self.wheel.cancel(key);
        }
        while let Some(Due::Connection(token)) = self.wheel.pop(Time(self.now)) {
            self.keys.remove(&token.slot);
        }
    }

    fn remove_all(&mut self) {
        while let Some((_, key)) = self.keys.pop_first() {
            self.wheel.cancel(key);
        }
    }
}

#[test]
fn timers_explain_what_they_hold() {
    check::<WheelBench>();
}

/// Entries of the shapes that slabs lay out differently: with and without a niche for what is vacant.
#[test]
fn a_pool_knows_its_bytes() {
    fn fill<T: Clone>(value: T) {
        let _charge = charge(Holder::Stream);
        let mut pool = Pool::new(Holder::Stream);
        for number in 0..10_000 {
            pool.insert(value.clone());
            assert!(number % 100 != 0 || charged(Holder::Stream) == pool.capacity_bytes());
        }
        (0..9_000).for_each(|key| _ = pool.remove(key));
        pool.give_back();
        assert_eq!(charged(Holder::Stream), pool.capacity_bytes());
        (9_000..10_000).for_each(|key| _ = pool.remove(key));
        pool.give_back();
        assert_eq!(charged(Holder::Stream), pool.capacity_bytes());
    }
    fill(1u8);
    fill((1u64, 2u8));
    fill([0u32; 3]);
    fill((7u32, std::num::NonZero::new(1u64)));
    fill(&0u8);
    assert_eq!(charged(Holder::Stream), 0);
}
