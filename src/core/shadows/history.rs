//! The last events of each router, so that a short break loses nothing; and the order of all of them.
//!
//! A history is an unbroken run that ends with the router's last event: what cannot be kept takes all before it along, and
//! room is made from the front. So what a reader has missed is one number, and nobody has to look for holes.

use super::message::Message;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// What an event that is remembered is charged with besides its topic and body, in bytes: its place, which is one of twice as
/// many at most, its entry in the order, its block.
pub(super) const EVENT_BYTES: usize = 96;

/// An event as it was published.
#[derive(Debug)]
pub struct Remembered {
    /// Over all events of the daemon, from 1.
    pub number: u64,
    pub seq: u64,
    pub message: Message,
    /// The JSON flag was set; whether the body is JSON is looked at when it is shown.
    pub json: bool,
}

/// The last events of one router.
#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<Remembered>,
    /// Topics and bodies.
    bytes: usize,
    /// The number of its last event that is not remembered; 0 when there is none.
    lost: u64,
}

impl History {
    pub fn new(lost: u64) -> Self {
        Self { events: VecDeque::new(), bytes: 0, lost }
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What the places of its events take of the heap.
    pub fn place_bytes(&self) -> usize {
        self.events.capacity() * size_of::<Remembered>()
    }

    pub fn get(&self, index: usize) -> Option<&Remembered> {
        self.events.get(index)
    }

    /// The number of its last event, remembered or not.
    pub fn last(&self) -> u64 {
        self.events.back().map_or(self.lost, |event| event.number)
    }

    /// The first event whose number is above `number`.
    pub fn after(&self, number: u64) -> Option<&Remembered> {
        self.events.get(self.events.partition_point(|event| event.number <= number))
    }

    pub fn push(&mut self, event: Remembered) {
        self.bytes += event.message.len();
        self.events.push_back(event);
    }

    /// Forgets the first event.
    pub fn pop(&mut self) -> Option<Remembered> {
        let first = self.events.pop_front()?;
        self.bytes -= first.message.len();
        self.lost = first.number;
        if self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(2 * self.events.len());
        }
        Some(first)
    }

    /// An event that is not kept; all before it must have gone.
    pub fn lose(&mut self, number: u64) {
        debug_assert!(self.events.is_empty());
        self.lost = number;
    }

    pub fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.events.iter()
    }
}

/// All events that are remembered, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By number: the key of the shadow that remembers it.
    shadows: BTreeMap<u64, u32>,
    /// How many events there have been: the number of the last one.
    pub published: u64,
    /// The highest number of an event that is not remembered any more.
    pub lost: u64,
    /// The same of those whose shadow is gone too.
    pub forgotten: u64,
}

impl Order {
    pub fn insert(&mut self, number: u64, shadow: u32) {
        self.shadows.insert(number, shadow);
    }

    pub fn lose(&mut self, number: u64) {
        self.shadows.remove(&number);
        self.lost = self.lost.max(number);
    }

    pub fn oldest(&self) -> Option<u32> {
        self.shadows.first_key_value().map(|(_, shadow)| *shadow)
    }

    /// The shadow of the first event whose number is above `number`.
    pub fn after(&self, number: u64) -> Option<u32> {
        self.shadows.range((Bound::Excluded(number), Bound::Unbounded)).next().map(|(_, shadow)| *shadow)
    }

    pub fn shadow_of(&self, number: u64) -> Option<u32> {
        self.shadows.get(&number).copied()
    }

    pub fn len(&self) -> usize {
        self.shadows.len()
    }

    pub fn give_back(&mut self) {
        if self.shadows.is_empty() {
            self.shadows = BTreeMap::new(); // an empty one keeps its last node
        }
    }

    /// What it takes of the heap at most, in bytes: a leaf of 144 and six or more entries for it, one of them in an inner node
    /// of 240, which has six leaves or more.
    pub fn held_bytes(&self) -> usize {
        const ROOT: usize = 240 + 144;
        const ENTRY: usize = 32;
        ROOT + self.shadows.len() * ENTRY
    }
}

/// How far a reader of histories has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the last event that it has had, or passed over.
    pub after: u64,
    /// The reader has been told that events up to this number may be missing.
    pub warned: u64,
}

impl Cursor {
    /// A reader of what comes behind `number`.
    pub fn behind(number: u64) -> Self {
        Self { after: number, warned: number }
    }
}
