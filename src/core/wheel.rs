//! The timer wheel: six levels of 64 slots, one millisecond the finest, intrusive lists through one pool.
//!
//! Setting, cancelling and firing cost the same however many timers there are. A timer never fires early; it fires at most
//! one tick late. Connections do not move their timer when something is heard: they let it fire and set it anew.

use crate::clock::Time;
use crate::core::list::{Link, Linked, List};
use crate::core::pool::Pool;
use crate::id::Token;
use crate::memory::Holder;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
const TICK_NS: u64 = 1_000_000;
/// How far ahead a timer can lie: half the span of the wheel, about one year, so that the top level never wraps on itself.
const FURTHEST_TICKS: u64 = 1 << (BITS as usize * LEVELS - 1);

/// What a timer is for. Each carries a generation, so that a timer for a tenant long gone falls on nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Connection(Token),
    Command(Token),
    Stream(Token),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey(u32);

struct Timer {
    due: Due,
    tick: u64,
    level: u8,
    slot: u8,
    link: Link,
}

impl Linked<0> for Timer {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn peek(&self) -> &Link {
        &self.link
    }
}

pub struct Wheel {
    timers: Pool<Timer>,
    slots: [[List<0>; SLOTS]; LEVELS],
    /// A bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    /// Every timer before this tick has fired.
    elapsed: u64,
    opened: u64,
    unbound: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            timers: Pool::new(Holder::Timer),
            slots: [[List::default(); SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            elapsed: 0,
            opened: 0,
            unbound: 0,
        }
    }
}

impl Wheel {
    pub fn set(&mut self, at: Time, due: Due) -> TimerKey {
        let tick = at.0.div_ceil(TICK_NS).clamp(self.elapsed, self.elapsed + FURTHEST_TICKS);
        let key = self.timers.insert(Timer { due, tick, level: 0, slot: 0, link: Link::default() }) as u32;
        self.opened += 1;
        self.file(key);
        TimerKey(key)
    }

    pub fn cancel(&mut self, key: TimerKey) {
        self.unfile(key.0);
        self.timers.remove(key.0 as usize);
        self.unbound += 1;
    }

    /// Takes the next timer that is due at `now`. The key of what it returns is free again.
    pub fn pop(&mut self, now: Time) -> Option<Due> {
        let now = now.0 / TICK_NS;
        loop {
            let Some((level, slot, tick)) = self.earliest().filter(|(_, _, tick)| *tick <= now) else {
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            self.elapsed = self.elapsed.max(tick);
            if level == 0 {
                let key = self.slots[level][slot].front().expect("an occupied slot has a timer");
                self.unfile(key);
                self.unbound += 1;
                return Some(self.timers.remove(key as usize).due);
            }
            // A slot of a higher level was reached: spread all of it over the lower ones.
            for _ in 0..self.slots[level][slot].len() {
                let key = self.slots[level][slot].front().expect("counted");
                self.unfile(key);
                self.file(key);
            }
        }
    }

    /// No timer fires before this; `None` when there is none at all.
    pub fn next(&self) -> Option<Time> {
        self.earliest().map(|(_, _, tick)| Time(tick * TICK_NS))
    }

    pub fn len(&self) -> usize {
        self.timers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        self.timers.give_back()
    }

    /// What the timers explain of the heap, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.timers.capacity_bytes()
    }

    /// What was set and what fired or was cancelled, for the census.
    pub fn counts(&self) -> crate::census::Count {
        crate::census::Count { opened: self.opened, unbound: self.unbound }
    }

    /// What each timer is for, for the audit.
    pub fn iter(&self) -> impl Iterator<Item = (TimerKey, Due)> + '_ {
        self.timers.iter().map(|(key, timer)| (TimerKey(key as u32), timer.due))
    }

    /// How many pages of timers there are, to be walked one at a time.
    pub fn pages(&self) -> usize {
        self.timers.pages()
    }

    pub fn iter_page(&self, page: usize) -> impl Iterator<Item = Due> + '_ {
        self.timers.iter_page(page).map(|(_, timer)| timer.due)
    }

    fn file(&mut self, key: u32) {
        let elapsed = self.elapsed;
        let timer = &mut self.timers[key as usize];
        timer.tick = timer.tick.max(elapsed);
        // The highest bit in which the tick differs from now tells the level.
        let differing = (timer.tick ^ elapsed) | (SLOTS as u64 - 1);
        let level = (((63 - differing.leading_zeros()) / BITS) as usize).min(LEVELS - 1);
        let slot = (timer.tick >> (BITS as usize * level)) as usize % SLOTS;
        (timer.level, timer.slot) = (level as u8, slot as u8);
        self.slots[level][slot].push_back(&mut self.timers, key);
        self.occupied[level] |= 1 << slot;
    }

    fn unfile(&mut self, key: u32) {
        let (level, slot) =
            (self.timers[key as usize].level as usize, self.timers[key as usize].slot as usize);
        self.slots[level][slot].remove(&mut self.timers, key);
        if self.slots[level][slot].is_empty() {
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// The first slot in time that holds a timer, and the tick at which it begins.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        (0..LEVELS).find(|level| self.occupied[*level] != 0).map(|level| {
            let width = BITS as usize * level;
            let current = (self.elapsed >> width) as usize % SLOTS;
            let ahead = self.occupied[level].rotate_right(current as u32).trailing_zeros() as usize;
            let slot = (current + ahead) % SLOTS;
            let begins = ((self.elapsed >> width) + ahead as u64) << width;
            (level, slot, begins.max(self.elapsed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(n: u32) -> Due {
        Due::Connection(Token { slot: n, generation: 1 })
    }

    #[test]
    fn fires_on_time_and_not_before() {
        let mut wheel = Wheel::default();
        wheel.set(Time(5_000_000), due(1));
        assert_eq!(wheel.next(), Some(Time(5_000_000)));
        assert_eq!(wheel.pop(Time(4_999_999)), None);
        assert_eq!(wheel.pop(Time(5_000_000)), Some(due(1)));
        assert_eq!(wheel.pop(Time(5_000_000)), None);
        assert!(wheel.is_empty() && wheel.next().is_none());
    }

    #[test]
    fn a_timer_in_the_past_fires_at_once() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.pop(Time(9_000_000_000)), None);
        wheel.set(Time(1), due(1));
        assert_eq!(wheel.pop(Time(9_000_000_000)), Some(due(1)));
    }

    #[test]
    fn what_lies_beyond_the_span_is_kept() {
        let mut wheel = Wheel::default();
        wheel.set(Time::NEVER, due(1));
        assert_eq!(wheel.pop(Time(1 << 50)), None);
        assert_eq!(wheel.len(), 1);
    }

    proptest::proptest! {
        /// Against the naive model: a list that is searched.
        #[test]
        fn behaves_like_a_sorted_list(steps in proptest::collection::vec((0u8..4, 0u64..400_000, 0usize..20), 1..300)) {
            let mut wheel = Wheel::default();
            let mut model: Vec<(u64, u32, TimerKey)> = Vec::new();
            let (mut now, mut serial) = (0u64, 0u32);
            for (what, ms, index) in steps {
                match what {
                    0 | 1 => {
                        serial += 1;
                        let at = now + if what == 0 { ms } else { ms * 997 };
                        model.push((at, serial, wheel.set(Time(at * TICK_NS), due(serial))));
                    }
                    2 => if index < model.len() {
                        wheel.cancel(model.swap_remove(index).2);
                    }
                    _ => {
                        let next = wheel.next();
                        let first = model.iter().map(|(at, ..)| *at).min();
                        assert!(next.is_none() == first.is_none() && next.is_none_or(|next| next.0 <= first.unwrap() * TICK_NS));
                        now += ms;
                        let mut fired = Vec::new();
                        while let Some(Due::Connection(token)) = wheel.pop(Time(now * TICK_NS)) {
                            fired.push(token.slot);
                        }
                        let mut expected: Vec<u32> = model.iter().filter(|(at, ..)| *at <= now).map(|(_, n, _)| *n).collect();
                        model.retain(|(at, ..)| *at > now);
                        fired.sort();
                        expected.sort();
                        assert_eq!(fired, expected);
                    }
                }
                assert_eq!(wheel.len(), model.len());
                assert_eq!(wheel.counts().live() as usize, model.len());
            }
        }
    }
}
