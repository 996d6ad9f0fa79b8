//! Streams: entries, rows in flight, lists by router and by name.

use crate::random::Random;
use crate::{Bench, check, token};
use berth::clock::Time;
use berth::core::streams::{Acks, Format, NewStream, OfRouter, Opening, Streams, Window};
use berth::core::wheel::{Due, Wheel};
use berth::id::Token;
use berth::memory::{Holder, charge};

const WINDOW: Window = Window { max_messages: 1024, max_bytes: 1 << 20 };

#[derive(Default)]
struct StreamsBench {
    streams: Streams,
    wheel: Wheel,
    of_router: OfRouter,
    acks: Acks,
    keys: Vec<u32>,
    last_id: u32,
}

impl StreamsBench {
    const ROUTER: Token = Token { slot: 0, generation: 1 };

    fn insert(&mut self, random: &mut Random) {
        let token = self.streams.next_token();
        let timer = self.wheel.set(Time(0), Due::Stream(token));
        let mut name = || "n".repeat(random.between(1, 64));
        let (router, name, query) = (name(), name(), name());
        let new = {
            let _charge = charge(Holder::Stream);
            NewStream {
                consumer: self::token(1),
                router: router.as_str().into(),
                session: Self::ROUTER,
                opening: Opening::new(&name, WINDOW, &query),
                from: 0,
                chunked: true,
            }
        };
        let key = self.streams.insert(token, new, Time(0), timer, &mut self.of_router);
        self.streams.add_head(key, 100, Format::Ndjson);
        self.keys.push(key);
        self.open(key);
    }

    fn open(&mut self, key: u32) {
        self.last_id += 1;
        self.streams.begin(key, Self::ROUTER, self.last_id);
    }

    fn remove(&mut self, index: usize) {
        let key = self.keys.swap_remove(index);
        self.streams.drop_gatherer(key, &mut self.acks);
        let is_there = self.streams.get(key).session.is_some();
        self.streams.remove(key, is_there.then_some(&mut self.of_router));
    }

    fn rows(&mut self, key: u32, count: usize) {
        for _ in 0..count {
            let next = self.streams.get(key).next();
            if self.streams.take_in(key, next, 10).is_err() {
                break;
            }
            self.streams.add_row(key, 20);
        }
    }
}

impl Bench for StreamsBench {
    const HOLDER: Holder = Holder::Stream;

    fn held_bytes(&self) -> usize {
        self.streams.held_bytes()
    }

    fn len(&self) -> usize {
        self.streams.len()
    }

    fn give_back(&mut self) {
        self.streams.give_back();
        self.streams.recount().unwrap();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        if self.keys.is_empty() || random.chance(grow) {
            return self.insert(random);
        }
        let index = random.below(self.keys.len());
        let key = self.keys[index];
        match (random.below(6), self.streams.get(key).session.is_some()) {
            (0 | 1, _) => self.remove(index),
            (_, false) => {
                self.streams.moor(key, Self::ROUTER, &mut self.of_router, Time(0));
                self.open(key);
            }
            (2, _) => {
                self.streams.drop_gatherer(key, &mut self.acks);
                self.streams.set_adrift(key, &mut self.of_router, Time(0));
            }
            (3, _) => {
                if self.streams.take_off(key, random.below(400)) {
                    self.streams.push_ack(key, &mut self.acks);
                }
            }
            (4, _) => _ = self.streams.pop_ack(&mut self.acks),
            _ => self.rows(key, random.between(1, 60)),
        }
    }

    fn remove_all(&mut self) {
        while !self.keys.is_empty() {
            self.remove(0);
        }
    }
}

#[test]
fn streams_explain_what_they_hold() {
    check::<StreamsBench>();
}
