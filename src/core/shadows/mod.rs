//! Shadows: what is remembered of a router, bound or not. Its event counter, its retained values, its last events, and where
//! it is bound.
//!
//! The shadow is the registry entry: `bound` names the connection that the router's session lives on. Whoever unbinds
//! clears it only if it still names *him*, because a reconnect overtakes a clean-up.

mod history;
mod message;
mod read;
mod remember;
mod shadow;

pub use history::{Cursor, Remembered};
pub use message::Message;
pub use read::Read;
pub use shadow::{Retained, Shadow};

use crate::census::Count;
use crate::clock::Time;
use crate::core::list::List;
use crate::core::pool::Pool;
use crate::fault::{Fault, planted};
use crate::id::{Mint, Token};
use crate::limits::{MAX_FRAGMENT_BYTES, ShadowSettings};
use crate::memory::{Holder, charge};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use history::Order;
use shadow::VALUE_BYTES;

/// How many shadows go in one step when their time has come, so that a fleet that went together does not hold up a turn.
const EXPIRED_AT_ONCE: usize = 128;

/// An event to be remembered.
pub struct Event<'a> {
    pub topic: &'a str,
    pub body: &'a [u8],
    /// The JSON flag: a claim.
    pub json: bool,
    pub retain: bool,
}

pub struct Shadows {
    shadows: Pool<Shadow>,
    by_id: BTreeMap<Rc<str>, u32>,
    /// Not bound, the longest gone first.
    offline: List<0>,
    /// What counts against `shadow.max_total_bytes`.
    bytes: usize,
    /// What all shadows hold besides their places, in bytes of heap.
    shadow_bytes: usize,
    order: Order,
    count: Count,
    pub evicted: u64,
    pub unkept: u64,
}

impl Default for Shadows {
    fn default() -> Self {
        Self {
            shadows: Pool::new(Holder::Shadow),
            by_id: BTreeMap::new(),
            offline: List::default(),
            bytes: 0,
            shadow_bytes: 0,
            order: Order::default(),
            count: Count::default(),
            evicted: 0,
            unkept: 0,
        }
    }
}

/// What the index by id takes of the heap at most, in bytes: its nodes hold up to eleven entries, at least five but for the
/// root. With a leaf of 232 bytes and six or more of them to an inner node of 328 an entry costs 50 at most.
fn index_bytes(entries: usize) -> usize {
    const ROOT: usize = 328;
    const ENTRY: usize = 50;
    ROOT + entries * ENTRY
}

impl Shadows {
    pub fn find(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub fn get(&self, key: u32) -> &Shadow {
        &self.shadows[key as usize]
    }

    /// Where the tenant of a slot is bound, whoever that is.
    pub fn holder(&self, key: u32) -> Option<Token> {
        self.shadows.get(key as usize)?.bound
    }

    /// The shadow that is bound on `token`, if `key` is still it: a session that was taken over outlives its claim, and
    /// perhaps the shadow.
    pub fn bound_on(&self, key: u32, token: Token) -> Option<&Shadow> {
        self.shadows.get(key as usize).filter(|shadow| shadow.bound == Some(token))
    }

    /// The connection that `id` is bound on.
    pub fn bound(&self, id: &str) -> Option<Token> {
        self.get(self.find(id)?).bound
    }

    /// The first router behind `after` in id order, and its shadow.
    pub fn next_after(&self, after: Option<&str>) -> Option<u32> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range::<str, _>((from, Bound::Unbounded)).next().map(|(_, key)| *key)
    }

    /// Routers with `prefix`, behind `after`, in id order.
    pub fn page<'s>(&'s self, prefix: &'s str, after: Option<&str>) -> impl Iterator<Item = &'s Shadow> + 's {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = self.by_id.range::<str, _>((from, Bound::Unbounded));
        range.take_while(move |(id, _)| id.starts_with(prefix)).map(|(_, key)| self.get(*key))
    }

    /// Binds `id` to `token`; the connection that it was bound on before, if any, is returned.
    pub fn bind(
        &mut self,
        id: &str,
        token: Token,
        mint: &mut Mint,
        limits: &ShadowSettings,
    ) -> (u32, Option<Token>) {
        let key = self.find(id).unwrap_or_else(|| self.create(id, Time::ZERO, mint));
        let shadow = &mut self.shadows[key as usize];
        let old = shadow.bound.replace(token);
        if old.is_none() {
            self.offline.remove(&mut self.shadows, key);
        }
        self.make_room(0, limits, None);
        (key, old)
    }

    /// A new shadow begins in the offline list, as if it had just gone.
    fn create(&mut self, id: &str, now: Time, mint: &mut Mint) -> u32 {
        let _charge = charge(Holder::Shadow);
        let id: Rc<str> = id.into();
        let shadow = Shadow::new(id.clone(), mint.random(), now, self.order.forgotten);
        self.bytes += shadow.counted_bytes();
        self.shadow_bytes += shadow.held_bytes();
        let key = self.shadows.insert(shadow) as u32;
        self.by_id.insert(id, key);
        self.offline.push_back(&mut self.shadows, key);
        self.count.opened += 1;
        key
    }

    /// The shadow of a router that something is published for. Of one that is not bound it is as if a session had just ended.
    pub fn touch(&mut self, id: &str, now: Time, mint: &mut Mint, limits: &ShadowSettings) -> u32 {
        let key = self.find(id).unwrap_or_else(|| self.create(id, now, mint));
        let shadow = &mut self.shadows[key as usize];
        if shadow.bound.is_none() {
            shadow.gone_at = now;
            self.offline.remove(&mut self.shadows, key);
            self.offline.push_back(&mut self.shadows, key);
        }
        self.make_room(0, limits, Some(key));
        key
    }

    /// Nothing more is published for it: one that is not bound goes at once if nothing is to be kept.
    pub fn release(&mut self, key: u32, limits: &ShadowSettings) {
        if limits.keep == Duration::ZERO && self.get(key).bound.is_none() {
            self.remove(key);
        }
    }

    /// The session on `token` ended: the id of its router, unless that is bound elsewhere by now.
    pub fn unbind(&mut self, key: u32, token: Token, now: Time, limits: &ShadowSettings) -> Option<Rc<str>> {
        let id = self.bound_on(key, token)?.id.clone();
        let shadow = &mut self.shadows[key as usize];
        shadow.bound = None;
        shadow.gone_at = now;
        self.offline.push_back(&mut self.shadows, key);
        if limits.keep == Duration::ZERO {
            self.remove(key);
        } else {
            self.make_room(0, limits, None);
        }
        Some(id)
    }

    /// Counts an event, keeps or clears the topic's value, and remembers the event if it can. Returns its `seq`; its number over
    /// all events is [`Self::published`].
    pub fn publish(&mut self, key: u32, event: &Event<'_>, limits: &ShadowSettings) -> u64 {
        self.order.published += 1;
        let shadow = &mut self.shadows[key as usize];
        shadow.seq += 1;
        let seq = shadow.seq;
        let mut message = None;
        if event.retain {
            message = self.retain(key, seq, event, limits);
        } else if let Ok(index) = shadow.find(event.topic) {
            shadow.values[index].last_event = self.order.published;
        }
        self.remember(key, seq, event, message, limits);
        seq
    }

    /// Keeps or clears the value of the event's topic. What is kept can be remembered without a second copy.
    fn retain(&mut self, key: u32, seq: u64, event: &Event<'_>, limits: &ShadowSettings) -> Option<Message> {
        self.change(key, |shadow| shadow.remove(event.topic));
        let bytes = event.topic.len() + event.body.len();
        let shadow = &self.shadows[key as usize];
        let fits = shadow.values.len() < limits.max_topics && shadow.value_bytes + bytes <= limits.max_bytes;
        let clears = event.body.is_empty();
        if clears || !fits || !self.make_room(bytes + VALUE_BYTES, limits, Some(key)) {
            self.unkept += u64::from(!clears);
            self.change(key, |shadow| shadow.values.shrink_to_fit());
            return None;
        }
        let _charge = charge(Holder::Shadow);
        if planted(Fault::KeepBySlice) {
            std::mem::forget(Vec::<u8>::with_capacity(MAX_FRAGMENT_BYTES)); // what the value came in
        }
        let mut message = Message::new(event);
        let remembered = limits.remembers(bytes).then(|| message.share());
        let value = Retained { message, json: event.json, seq, last_event: self.order.published };
        self.change(key, |shadow| {
            let index = shadow.find(event.topic).unwrap_err();
            shadow.value_bytes += bytes;
            shadow.message_bytes += value.message.heap_bytes();
            shadow.values.reserve_exact(1);
            shadow.values.insert(index, value);
        });
        remembered
    }

    fn change(&mut self, key: u32, change: impl FnOnce(&mut Shadow)) {
        let shadow = &mut self.shadows[key as usize];
        self.bytes -= shadow.counted_bytes();
        self.shadow_bytes -= shadow.held_bytes();
        change(shadow);
        self.bytes += shadow.counted_bytes();
        self.shadow_bytes += shadow.held_bytes();
    }

    /// Drops what can be dropped until `more` bytes fit and no more than `max_offline` are left: the oldest events of all
    /// histories go first, then the longest gone shadows. `spare` is not dropped.
    fn make_room(&mut self, more: usize, limits: &ShadowSettings, spare: Option<u32>) -> bool {
        while self.offline.len() > limits.max_offline && self.drop_longest_gone(spare) {}
        while self.bytes + more > limits.max_total_bytes {
            if !self.forget_oldest() && !self.drop_longest_gone(spare) {
                return false;
            }
        }
        true
    }

    fn drop_longest_gone(&mut self, spare: Option<u32>) -> bool {
        let longest_gone = self.offline.iter(&self.shadows).find(|key| Some(*key) != spare);
        let Some(key) = longest_gone else { return false };
        self.remove(key);
        self.evicted += 1;
        true
    }

    /// Forgets what is remembered of `id`: a bound router begins anew, with a new epoch.
    pub fn forget(&mut self, id: &str, mint: &mut Mint) {
        let Some(key) = self.find(id) else { return };
        if self.get(key).bound.is_none() {
            return self.remove(key);
        }
        self.forget_history(key);
        self.change(key, |shadow| {
            (shadow.epoch, shadow.seq) = (mint.random(), 0);
            (shadow.values, shadow.value_bytes, shadow.message_bytes) = (Vec::new(), 0, 0);
        });
    }

    /// Drops shadows that have been offline for `keep`; [`Self::next_expiry`] says whether there are more.
    pub fn expire(&mut self, now: Time, keep: Duration) {
        for _ in 0..EXPIRED_AT_ONCE {
            if self.next_expiry(keep).is_none_or(|at| at > now) {
                return;
            }
            let key = self.offline.front().expect("there is one that expires");
            self.remove(key);
        }
    }

    pub fn next_expiry(&self, keep: Duration) -> Option<Time> {
        self.offline.front().map(|key| self.shadows[key as usize].gone_at + keep)
    }

    fn remove(&mut self, key: u32) {
        self.forget_history(key);
        self.order.forgotten = self.order.forgotten.max(self.get(key).history.last());
        self.offline.remove(&mut self.shadows, key);
        let shadow = self.shadows.remove(key as usize);
        self.by_id.remove(&shadow.id);
        self.bytes -= shadow.counted_bytes();
        self.shadow_bytes -= shadow.held_bytes();
        self.count.unbound += 1;
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        if self.by_id.is_empty() {
            self.by_id = BTreeMap::new(); // an empty one keeps its last node
        }
        self.order.give_back();
        self.shadows.give_back()
    }

    /// What the shadows explain of the heap, in bytes, at most.
    pub fn held_bytes(&self) -> usize {
        self.shadows.capacity_bytes() + index_bytes(self.len()) + self.order.held_bytes() + self.shadow_bytes
    }

    pub fn entries(&self) -> &Pool<Shadow> {
        &self.shadows
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Shadow)> {
        self.shadows.iter().map(|(key, shadow)| (key as u32, shadow))
    }

    /// What counts against `shadow.max_total_bytes`.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events there have been: the number of the last one.
    pub fn published(&self) -> u64 {
        self.order.published
    }

    /// How many events are remembered, in all histories.
    pub fn remembered(&self) -> usize {
        self.order.len()
    }

    pub fn len(&self) -> usize {
        self.shadows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shadows.is_empty()
    }

    pub fn count(&self) -> Count {
        self.count
    }

    /// For the audit: the index, the offline list, the bytes and the order of events, counted again.
    pub fn recount(&self) -> Result<(), String> {
        for (key, shadow) in self.iter() {
            if self.find(&shadow.id) != Some(key) {
                return Err(format!("shadow {} is not in the index", shadow.id));
            }
        }
        let offline = self.iter().filter(|(_, shadow)| shadow.bound.is_none()).count();
        let bytes: usize = self.iter().map(|(_, shadow)| shadow.counted_bytes()).sum();
        if self.by_id.len() != self.len() || offline != self.offline.len() || bytes != self.bytes {
            return Err(format!(
                "shadows: {} of {} offline, {bytes} of {} bytes",
                offline,
                self.offline.len(),
                self.bytes
            ));
        }
        let shadow_bytes: usize = self.iter().map(|(_, shadow)| shadow.held_bytes()).sum();
        if shadow_bytes != self.shadow_bytes {
            return Err(format!("shadows: {shadow_bytes} bytes of heap, {} counted", self.shadow_bytes));
        }
        self.recount_histories()
    }
}

#[cfg(test)]
mod tests;
