//! What is remembered of one router.

use super::history::{EVENT_BYTES, History, Remembered};
use super::message::Message;
use crate::clock::Time;
use crate::core::list::{Link, Linked};
use crate::id::Token;
use std::rc::Rc;

/// What a shadow is charged with besides its id, its values and its history, in bytes: itself, its index entry, its list links.
pub(super) const SHADOW_BYTES: usize = 192;
/// The same for a retained value.
pub(super) const VALUE_BYTES: usize = 64;

#[derive(Debug)]
pub struct Retained {
    pub message: Message,
    /// The JSON flag was set; whether the body is JSON is looked at when it is shown.
    pub json: bool,
    pub seq: u64,
    /// The number (over all events) of the topic's last event, whether retained or not: who subscribed before it has seen it.
    pub last_event: u64,
}

#[derive(Debug)]
pub struct Shadow {
    pub id: Rc<str>,
    /// Random, new whenever the shadow is: a `seq` means something only within its epoch.
    pub epoch: u64,
    pub seq: u64,
    pub bound: Option<Token>,
    /// When its last session ended; of one that is bound without meaning.
    pub gone_at: Time,
    /// By topic.
    pub(super) values: Vec<Retained>,
    /// Topics and bodies of the values.
    pub(super) value_bytes: usize,
    pub(super) history: History,
    /// What the messages of values and history take of the heap: one that is both is held once.
    pub(super) message_bytes: usize,
    offline: Link,
}

impl Shadow {
    /// `lost`: the number of the last event that a shadow of the same id may have had before.
    pub(super) fn new(id: Rc<str>, epoch: u64, now: Time, lost: u64) -> Self {
        Self {
            id,
            epoch,
            seq: 0,
            bound: None,
            gone_at: now,
            values: Vec::new(),
            value_bytes: 0,
            history: History::new(lost),
            message_bytes: 0,
            offline: Link::default(),
        }
    }

    pub(super) fn counted_bytes(&self) -> usize {
        let places = self.values.len() * VALUE_BYTES + self.history.len() * EVENT_BYTES;
        SHADOW_BYTES + self.id.len() + places + self.message_bytes
    }

    /// What it holds besides its place in the table, in bytes of heap: its id with the two counts in front of it, the places of
    /// its values and events, and what is in them.
    pub(super) fn held_bytes(&self) -> usize {
        let id = (2 * size_of::<usize>() + self.id.len()).next_multiple_of(align_of::<usize>());
        id + self.values.capacity() * size_of::<Retained>() + self.history.place_bytes() + self.message_bytes
    }

    /// The first value behind `topic` in topic order.
    pub fn value_after(&self, topic: Option<&str>) -> Option<&Retained> {
        let index =
            topic.map_or(0, |topic| self.values.partition_point(|value| value.message.topic() <= topic));
        self.values.get(index)
    }

    pub fn value(&self, topic: &str) -> Option<&Retained> {
        self.find(topic).ok().map(|index| &self.values[index])
    }

    pub fn values(&self) -> usize {
        self.values.len()
    }

    /// How many of its last events are remembered.
    pub fn remembered(&self) -> usize {
        self.history.len()
    }

    /// Its first event behind `seq`, if that is remembered; an unbroken run follows it.
    pub fn event_behind(&self, seq: u64) -> Option<&Remembered> {
        let ahead = seq.checked_sub(self.lost_seq())?;
        self.history.get(usize::try_from(ahead).ok()?)
    }

    /// The `seq` of its last event that is not remembered; 0 when all are.
    pub fn lost_seq(&self) -> u64 {
        self.seq - self.history.len() as u64
    }

    pub(super) fn find(&self, topic: &str) -> Result<usize, usize> {
        self.values.binary_search_by(|value| value.message.topic().cmp(topic))
    }

    pub(super) fn remove(&mut self, topic: &str) {
        if let Ok(index) = self.find(topic) {
            let message = self.values.remove(index).message;
            self.value_bytes -= message.len();
            self.let_go(message);
        }
    }

    pub(super) fn forget_first(&mut self) -> Option<u64> {
        let first = self.history.pop()?;
        self.let_go(first.message);
        Some(first.number)
    }

    /// A value or the history no longer holds a message.
    fn let_go(&mut self, message: Message) {
        if message.is_last() {
            self.message_bytes -= message.heap_bytes();
        }
    }

    /// For the audit: what its messages take, counted again. A value that is newer than what is lost is in the history too.
    pub(super) fn recount_messages(&self) -> usize {
        let in_values = self.values.iter().filter(|value| value.seq <= self.lost_seq());
        let of_values: usize = in_values.map(|value| value.message.heap_bytes()).sum();
        let of_history: usize = self.history.iter().map(|event| event.message.heap_bytes()).sum();
        of_values + of_history
    }
}

impl Linked<0> for Shadow {
    fn link(&mut self) -> &mut Link {
        &mut self.offline
    }
    fn peek(&self) -> &Link {
        &self.offline
    }
}
