//! All streams: by router session and stream id, and those whose router is away by its name.

use super::gatherer::{Gatherer, Misfit, Window};
use super::stream::{ACKS, BY_ROUTER, Format, Opening, Stream};
use crate::census::Count;
use crate::clock::Time;
use crate::core::list::List;
use crate::core::pool::{PAGE_ENTRIES, Pool, is_worth_shrinking};
use crate::core::wheel::TimerKey;
use crate::fault::{Fault, planted};
use crate::id::{Generations, Token};
use crate::memory::{Holder, charge};
use hashbrown::HashMap;
use std::hash::RandomState;

/// What a router's session keeps of its streams, and of those that an ACK is due for: the heads of the lists.
pub type OfRouter = List<BY_ROUTER>;
pub type Acks = List<ACKS>;

/// What an entry is made of.
pub struct NewStream {
    pub consumer: Token,
    pub router: Box<str>,
    pub session: Token,
    pub opening: Opening,
    pub from: u64,
    pub chunked: bool,
}

pub struct Streams {
    entries: Pool<Stream>,
    /// Those that are open, by the router's slot and the stream id.
    by_id: HashMap<(u32, u32), u32, RandomState>,
    /// Those whose router is away, by its id.
    adrift: HashMap<Box<str>, OfRouter, RandomState>,
    /// What the names in `adrift` take, in bytes.
    name_bytes: usize,
    generations: Generations,
    /// How many have a gatherer: as many as the index has entries.
    open: usize,
    /// What all entries hold besides their places, in bytes of heap.
    entry_bytes: usize,
    count: Count,
}

impl Default for Streams {
    fn default() -> Self {
        let _charge = charge(Holder::Stream);
        Self {
            entries: Pool::new(Holder::Stream),
            by_id: HashMap::with_capacity_and_hasher(PAGE_ENTRIES, RandomState::new()),
            adrift: HashMap::with_capacity_and_hasher(PAGE_ENTRIES, RandomState::new()),
            name_bytes: 0,
            generations: Generations::default(),
            open: 0,
            entry_bytes: 0,
            count: Count::default(),
        }
    }
}

impl Streams {
    /// The token that the next entry will have: its timer needs it before the entry exists.
    pub fn next_token(&mut self) -> Token {
        Token { slot: self.entries.vacant_key() as u32, generation: self.generations.draw() }
    }

    /// Fills the slot that `token` was promised, and links it to its router's session. Nothing is gathered yet.
    pub fn insert(
        &mut self,
        token: Token,
        new: NewStream,
        now: Time,
        timer: TimerKey,
        of_router: &mut OfRouter,
    ) -> u32 {
        let stream = Stream::new(token.generation, new, now, timer);
        self.entry_bytes += stream.held_bytes();
        let key = self.entries.insert(stream) as u32;
        debug_assert_eq!(key, token.slot);
        of_router.push_back(&mut self.entries, key);
        self.count.opened += 1;
        key
    }

    pub fn get(&self, key: u32) -> &Stream {
        &self.entries[key as usize]
    }

    /// For what takes no memory.
    pub fn get_mut(&mut self, key: u32) -> &mut Stream {
        &mut self.entries[key as usize]
    }

    /// The entry that a timer meant, if it is still the same.
    pub fn by_token(&self, token: Token) -> Option<u32> {
        let entry = self.entries.get(token.slot as usize)?;
        (entry.generation == token.generation).then_some(token.slot)
    }

    /// The token that names an entry in its timer.
    pub fn token(&self, key: u32) -> Token {
        Token { slot: key, generation: self.get(key).generation }
    }

    /// The stream that `id` opened on a router's session.
    pub fn find(&self, session: Token, id: u32) -> Option<u32> {
        let key = *self.by_id.get(&(session.slot, id))?;
        (self.get(key).session == Some(session)).then_some(key)
    }

    /// Begins to gather under `id`, on the session that the stream belongs to.
    pub fn begin(&mut self, key: u32, session: Token, id: u32) {
        let _charge = charge(Holder::Stream);
        self.get_mut(key).begin(id);
        self.by_id.insert((session.slot, id), key);
        self.open += 1;
    }

    /// OPENs of a router have been written: all but those of the stream ids that `waits` knows.
    pub fn mark_asked(&mut self, of_router: &OfRouter, waits: impl Fn(u32) -> bool, now: Time) {
        let mut next = of_router.front();
        while let Some(key) = next {
            next = of_router.next(&self.entries, key);
            let stream = self.get_mut(key);
            let id = stream.gatherer.as_ref().map(|gatherer| gatherer.id);
            if !stream.is_asked && id.is_some_and(|id| !waits(id)) {
                (stream.is_asked, stream.moved_at) = (true, now);
            }
        }
    }

    /// Takes a row in; see [`Gatherer::take_in`].
    pub fn take_in(&mut self, key: u32, seq: u64, bytes: usize) -> Result<(), Misfit> {
        self.change(key, |stream| {
            let endless = Window { max_messages: u32::MAX, max_bytes: u32::MAX };
            let window = if planted(Fault::TrustWindow) { endless } else { stream.opening.window };
            match &mut stream.gatherer {
                Some(gatherer) => gatherer.take_in(seq, bytes, window),
                None => Err(Misfit::Gap),
            }
        })
    }

    /// The head of the answer was queued, `bytes` long; rows will be in `format`.
    pub fn add_head(&mut self, key: u32, bytes: usize, format: Format) {
        let stream = self.get_mut(key);
        stream.format = Some(format);
        stream.add_queued(bytes, false);
    }

    /// A row was queued, which takes `bytes` there.
    pub fn add_row(&mut self, key: u32, bytes: usize) {
        self.get_mut(key).add_queued(bytes, true);
    }

    /// So many bytes wait in the consumer's queue: takes off what it has taken. True if an ACK is due that was not.
    pub fn take_off(&mut self, key: u32, waiting: usize) -> bool {
        let any = self.change(key, |stream| stream.take_off(waiting));
        let stream = self.get_mut(key);
        any && !std::mem::replace(&mut stream.ack_due, true)
    }

    pub fn push_ack(&mut self, key: u32, acks: &mut Acks) {
        acks.push_back(&mut self.entries, key);
    }

    /// The next ACK of a session: the stream, its id, and how far its consumer is.
    pub fn pop_ack(&mut self, acks: &mut Acks) -> Option<(u32, u32, u64)> {
        let key = acks.front()?;
        acks.remove(&mut self.entries, key);
        let stream = self.get_mut(key);
        stream.ack_due = false;
        let gatherer = stream.gatherer.as_mut()?;
        Some((key, gatherer.id, gatherer.acknowledge()))
    }

    /// Throws away what is gathered, and the ACK that was due for it.
    pub fn drop_gatherer(&mut self, key: u32, acks: &mut Acks) -> Option<Gatherer> {
        if std::mem::take(&mut self.get_mut(key).ack_due) {
            acks.remove(&mut self.entries, key);
        }
        let gatherer = self.change(key, Stream::drop_gatherer)?;
        self.open -= 1;
        if let Some(session) = self.get(key).session
            && !planted(Fault::KeepStreamIndex)
        {
            self.by_id.remove(&(session.slot, gatherer.id));
        }
        Some(gatherer)
    }

    /// Its router is gone: it waits for it by name. Nothing of it is gathered any more.
    pub fn set_adrift(&mut self, key: u32, of_router: &mut OfRouter, now: Time) {
        debug_assert!(self.get(key).gatherer.is_none());
        of_router.remove(&mut self.entries, key);
        let stream = &mut self.entries[key as usize];
        (stream.session, stream.moved_at) = (None, now);
        let _charge = charge(Holder::Stream);
        let name = stream.router.clone();
        let list = self.adrift.entry(name).or_insert_with_key(|name| {
            self.name_bytes += name.len();
            OfRouter::default()
        });
        list.push_back(&mut self.entries, key);
    }

    /// The first stream that waits for a router.
    pub fn first_adrift(&self, router: &str) -> Option<u32> {
        self.adrift.get(router)?.front()
    }

    /// All streams whose router is away.
    pub fn adrift(&self) -> Vec<u32> {
        self.adrift.values().flat_map(|list| list.iter(&self.entries)).collect()
    }

    /// Its router is back, on `session`.
    pub fn moor(&mut self, key: u32, session: Token, of_router: &mut OfRouter, now: Time) {
        self.leave_adrift(key);
        let stream = &mut self.entries[key as usize];
        (stream.session, stream.moved_at) = (Some(session), now);
        of_router.push_back(&mut self.entries, key);
    }

    fn leave_adrift(&mut self, key: u32) {
        let router = &self.entries[key as usize].router;
        let hashbrown::hash_map::EntryRef::Occupied(mut list) = self.adrift.entry_ref(&**router) else {
            return;
        };
        let name_len = router.len();
        list.get_mut().remove(&mut self.entries, key);
        if list.get().is_empty() {
            list.remove();
            self.name_bytes -= name_len;
        }
    }

    /// Takes an entry out of the table, and out of its router's list, or of those that wait for it. Nothing of it is gathered
    /// any more.
    pub fn remove(&mut self, key: u32, of_router: Option<&mut OfRouter>) -> Stream {
        match of_router {
            Some(list) => list.remove(&mut self.entries, key),
            None => self.leave_adrift(key),
        }
        let stream = self.entries.remove(key as usize);
        debug_assert!(stream.gatherer.is_none());
        self.entry_bytes -= stream.held_bytes();
        self.count.unbound += 1;
        stream
    }

    fn change<R>(&mut self, key: u32, change: impl FnOnce(&mut Stream) -> R) -> R {
        let _charge = charge(Holder::Stream);
        let stream = &mut self.entries[key as usize];
        self.entry_bytes -= stream.held_bytes();
        let result = change(stream);
        self.entry_bytes += stream.held_bytes();
        result
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        let _charge = charge(Holder::Stream);
        if is_worth_shrinking(self.by_id.len(), self.by_id.capacity()) {
            self.by_id.shrink_to(PAGE_ENTRIES);
        }
        if is_worth_shrinking(self.adrift.len(), self.adrift.capacity()) {
            self.adrift.shrink_to(PAGE_ENTRIES);
        }
        self.entries.give_back()
    }

    /// What the streams explain of the heap, in bytes.
    pub fn held_bytes(&self) -> usize {
        let indexes = self.by_id.allocation_size() + self.adrift.allocation_size() + self.name_bytes;
        self.entries.capacity_bytes() + indexes + self.entry_bytes
    }

    /// For the audit: the bytes, the index and the lists by name, counted again.
    pub fn recount(&self) -> Result<(), String> {
        let bytes: usize = self.entries.iter().map(|(_, stream)| stream.held_bytes()).sum();
        let open = self.entries.iter().filter(|(_, stream)| stream.gatherer.is_some()).count();
        let away = self.entries.iter().filter(|(_, stream)| stream.session.is_none()).count();
        let listed: usize = self.adrift.values().map(OfRouter::len).sum();
        let name_bytes: usize = self.adrift.keys().map(|name| name.len()).sum();
        let counted = (self.entry_bytes, self.by_id.len(), self.open, listed, self.name_bytes);
        if (bytes, open, open, away, name_bytes) != counted {
            return Err(format!(
                "streams: {bytes} bytes, {open} open, {away} adrift, {name_bytes} bytes of names; counted: {counted:?}"
            ));
        }
        Ok(())
    }

    /// Entries of the index that stand for no OPEN, or OPENs without one: none, ever.
    pub fn mismatch(&self) -> u64 {
        self.by_id.len().abs_diff(self.open) as u64
    }

    pub fn entries(&self) -> &Pool<Stream> {
        &self.entries
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn count(&self) -> Count {
        self.count
    }
}
