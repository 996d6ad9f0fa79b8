//! Queued frames: one pool for all connections, so that a queue owns no memory and pushing to one allocates nothing in the
//! steady state. A frame for many watchers is one encoded buffer that each queue refers to, and so is a long one-way command
//! for its fragments.

use crate::census::Count;
use crate::core::pool::Pool;
use crate::memory::{Holder, charge};
use crate::proto::websocket::MAX_UNUSED_BYTES;
use bytes::Bytes;
use std::collections::HashSet;
use std::ops::Range;

const NONE: u32 = u32::MAX;
/// The longest frame that is kept in the pool itself: a PONG with the longest body.
pub const INLINE_BYTES: usize = 12 + crate::limits::MAX_PING_BYTES;

/// Pieces of a long answer are gathered in blocks: a frame for each would take more than they do. Of so many bytes while the
/// queue is short, and it mostly is; beyond [`LONG_QUEUE_BYTES`] of up to [`LONG_BLOCK_BYTES`], in steps.
const BLOCK_BYTES: usize = 4096;
const LONG_QUEUE_BYTES: usize = 65_536;
const LONG_BLOCK_BYTES: usize = 12_288;
const BLOCK_STEP_BYTES: usize = 1024;

/// The bytes of one frame, or of a run of frames that need not be told apart.
#[derive(Debug)]
pub enum Payload {
    Static(&'static [u8]),
    /// Short frames, without an allocation.
    Inline {
        len: u8,
        bytes: [u8; INLINE_BYTES],
    },
    /// An answer, or one fragment of a command; of this queue alone.
    Owned(Vec<u8>),
    /// A notification or answer that was encoded behind room for its header; of this queue alone.
    Encoded(Bytes),
    /// An event for many: one encoded frame that every queue refers to. See [`Frames::share`].
    Shared(Bytes),
    /// One fragment of a long message, which all its fragments refer to: it is held whole until the last one has gone.
    /// Counted as what is shared.
    Part {
        message: Bytes,
        range: Range<usize>,
    },
}

impl Payload {
    /// Copies a frame: a short one into the pool itself.
    pub fn copy(frame: &[u8]) -> Self {
        Self::concat(&[frame])
    }

    /// The same for a frame in pieces.
    pub fn concat(pieces: &[&[u8]]) -> Self {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        if len > INLINE_BYTES {
            let _charge = charge(Holder::QueuedFrame);
            return Payload::Owned(pieces.concat());
        }
        let mut bytes = [0; INLINE_BYTES];
        let mut end = 0;
        for piece in pieces {
            bytes[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        Payload::Inline { len: len as u8, bytes }
    }

    /// One more reference to an event for many. The first one makes the count of all of them.
    pub fn shared(event: &Bytes) -> Self {
        let _charge = charge(Holder::QueuedFrame);
        Payload::Shared(event.clone())
    }

    /// The same for one fragment of a long message.
    pub fn part(message: &Bytes, range: Range<usize>) -> Self {
        let _charge = charge(Holder::QueuedFrame);
        Payload::Part { message: message.clone(), range }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Static(bytes) => bytes,
            Payload::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Payload::Owned(bytes) => bytes,
            Payload::Encoded(bytes) | Payload::Shared(bytes) => bytes,
            Payload::Part { message, range } => &message[range.clone()],
        }
    }

    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of a part of a long message: what goes before it in the same buffer, in bytes.
    pub fn sent_before(&self) -> usize {
        match self {
            Payload::Part { range, .. } => range.start,
            _ => 0,
        }
    }

    /// What only this payload holds, in bytes.
    fn own_bytes(&self) -> usize {
        match self {
            Payload::Owned(bytes) => bytes.len(),
            Payload::Encoded(bytes) => bytes.len(),
            Payload::Static(_) | Payload::Inline { .. } | Payload::Shared(_) | Payload::Part { .. } => 0,
        }
    }

    /// The buffer that other payloads may refer to as well.
    fn shared_buffer(&self) -> Option<&Bytes> {
        match self {
            Payload::Shared(buffer) | Payload::Part { message: buffer, .. } => Some(buffer),
            Payload::Static(_) | Payload::Inline { .. } | Payload::Owned(_) | Payload::Encoded(_) => None,
        }
    }

    /// What [`Self::own_bytes`] takes of the heap, in bytes, at most.
    fn own_heap(&self) -> usize {
        match self {
            Payload::Owned(bytes) => bytes.capacity(),
            Payload::Encoded(bytes) => encoded_heap(bytes),
            Payload::Static(_) | Payload::Inline { .. } | Payload::Shared(_) | Payload::Part { .. } => 0,
        }
    }
}

/// What an encoded frame takes of the heap, in bytes, at most: what [`TextFrame`](crate::proto::websocket::TextFrame) may
/// leave unused of it, and the 24 bytes by which [`Bytes`] counts its owners. A long message leaves nothing unused.
fn encoded_heap(frame: &Bytes) -> usize {
    frame.len() + MAX_UNUSED_BYTES + 24
}

#[derive(Debug)]
struct Queued {
    payload: Payload,
    /// A value or event that is being replayed: it does not count as slowness.
    replay: bool,
    next: u32,
}

/// The frames of all queues.
pub struct Frames {
    queued: Pool<Queued>,
    /// What all queued frames count against the limit: what is shared counts once, and every place in a queue counts.
    bytes: usize,
    /// What their payloads take of the heap, in bytes, at most.
    payload_heap: usize,
    count: Count,
}

impl Default for Frames {
    fn default() -> Self {
        Self { queued: Pool::new(Holder::QueuedFrame), bytes: 0, payload_heap: 0, count: Count::default() }
    }
}

/// What a place in a queue takes, in bytes.
const PLACE_BYTES: usize = size_of::<Queued>();

impl Frames {
    pub fn insert(&mut self, payload: Payload, replay: bool) -> u32 {
        self.count.opened += 1;
        self.bytes += PLACE_BYTES + payload.own_bytes();
        self.payload_heap += payload.own_heap();
        self.queued.insert(Queued { payload, replay, next: NONE }) as u32
    }

    pub fn remove(&mut self, key: u32) -> Payload {
        self.count.unbound += 1;
        let Queued { payload, .. } = self.queued.remove(key as usize);
        self.bytes -= PLACE_BYTES + payload.own_bytes();
        self.payload_heap -= payload.own_heap();
        if let Some(buffer) = payload.shared_buffer() {
            self.unshare(buffer);
        }
        payload
    }

    /// Makes a frame that is a part of a long message one of its own, so that it does not keep the rest of the message.
    pub fn detach(&mut self, key: u32) {
        let payload = &mut self.queued[key as usize].payload;
        if let Payload::Part { message, range } = payload {
            let own = Payload::copy(&message[range.clone()]);
            let message = std::mem::take(message);
            self.bytes += own.own_bytes();
            self.payload_heap += own.own_heap();
            *payload = own;
            self.unshare(&message);
        }
    }

    /// Counts a buffer that is about to be queued more than once. Whoever made it calls [`Self::unshare`] when that is done.
    pub fn share(&mut self, buffer: &Bytes) {
        self.bytes += buffer.len();
        self.payload_heap += encoded_heap(buffer);
    }

    /// One holder of a shared buffer lets go: the last one takes it off the count.
    pub fn unshare(&mut self, buffer: &Bytes) {
        if buffer.is_unique() {
            self.bytes -= buffer.len();
            self.payload_heap -= encoded_heap(buffer);
        }
    }

    /// What counts against `memory.max_buffered_bytes`.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the queued frames explain of the heap, in bytes, at most.
    pub fn held_bytes(&self) -> usize {
        self.queued.capacity_bytes() + self.payload_heap
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        self.queued.give_back()
    }

    /// For the audit: the bytes, counted again.
    pub fn recount(&self) -> Result<(), String> {
        let mut shared = HashSet::new();
        let (mut bytes, mut heap) = (0, 0);
        for (_, Queued { payload, .. }) in self.queued.iter() {
            bytes += PLACE_BYTES + payload.own_bytes();
            heap += payload.own_heap();
            if let Some(buffer) = payload.shared_buffer()
                && shared.insert(buffer.as_ptr())
            {
                bytes += buffer.len();
                heap += encoded_heap(buffer);
            }
        }
        if (bytes, heap) != (self.bytes, self.payload_heap) {
            let counted = (self.bytes, self.payload_heap);
            return Err(format!("queued frames: {:?} bytes and heap, {counted:?} counted", (bytes, heap)));
        }
        Ok(())
    }

    pub fn payload(&self, key: u32) -> &Payload {
        &self.queued[key as usize].payload
    }

    pub fn is_replay(&self, key: u32) -> bool {
        self.queued[key as usize].replay
    }

    pub fn len(&self) -> usize {
        self.queued.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    pub fn count(&self) -> Count {
        self.count
    }
}

/// Frames in order: a singly linked list through the pool.
#[derive(Clone, Copy, Debug)]
pub struct Fifo {
    head: u32,
    tail: u32,
    bytes: usize,
    len: u32,
}

impl Default for Fifo {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, bytes: 0, len: 0 }
    }
}

impl Fifo {
    pub fn push(&mut self, frames: &mut Frames, payload: Payload, replay: bool) {
        self.bytes += payload.len();
        self.len += 1;
        let key = frames.insert(payload, replay);
        match self.tail {
            NONE => self.head = key,
            tail => frames.queued[tail as usize].next = key,
        }
        self.tail = key;
    }

    /// Appends bytes that need not stay together: they fill up the last frame, and what it has no room for begins another.
    pub fn append(&mut self, frames: &mut Frames, pieces: &[&[u8]]) {
        let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut room = self.room_of_last(frames, left);
        for piece in pieces {
            let mut piece = *piece;
            while !piece.is_empty() {
                if room == 0 {
                    room = self.new_block_bytes(left);
                    let _charge = charge(Holder::QueuedFrame);
                    self.push(frames, Payload::Owned(Vec::with_capacity(room)), false);
                }
                let (fits, rest) = piece.split_at(piece.len().min(room));
                if let Payload::Owned(last) = &mut frames.queued[self.tail as usize].payload {
                    last.extend_from_slice(fits);
                }
                frames.bytes += fits.len();
                self.bytes += fits.len();
                (room, left) = (room - fits.len(), left - fits.len());
                piece = rest;
            }
        }
    }

    /// How long a new block is that begins with `left` bytes. In a long queue it grows to more, step by step.
    fn new_block_bytes(&self, left: usize) -> usize {
        match self.bytes < LONG_QUEUE_BYTES && left < BLOCK_BYTES / 2 {
            true => BLOCK_BYTES,
            false => left,
        }
    }

    /// How much can be appended to the last frame, in bytes. In a long queue, which its reader takes slowly, a block grows for
    /// `left` more: fewer and larger ones, and hardly any room unused.
    fn room_of_last(&self, frames: &mut Frames, left: usize) -> usize {
        let Some(last) = self.front().map(|_| &mut frames.queued[self.tail as usize].payload) else {
            return 0;
        };
        let Payload::Owned(bytes) = last else { return 0 };
        let room = bytes.capacity() - bytes.len();
        let grows = self.bytes >= LONG_QUEUE_BYTES && bytes.len() + left <= LONG_BLOCK_BYTES;
        if room < left && grows {
            let _charge = charge(Holder::QueuedFrame);
            let before = bytes.capacity();
            bytes.reserve_exact(left.max(BLOCK_STEP_BYTES));
            frames.payload_heap += bytes.capacity() - before;
        }
        bytes.capacity() - bytes.len()
    }

    /// Unlinks the first frame, which stays in the pool: it is the caller's now.
    pub fn take_first(&mut self, frames: &Frames) -> Option<u32> {
        let key = self.front()?;
        let entry = &frames.queued[key as usize];
        self.head = entry.next;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.bytes -= entry.payload.len();
        self.len -= 1;
        Some(key)
    }

    /// Unlinks the first frame that `is_wanted`; it stays in the pool, as with [`Self::take_first`]. Walks the queue.
    pub fn take_where(&mut self, frames: &mut Frames, is_wanted: impl Fn(&Payload) -> bool) -> Option<u32> {
        let key = self.iter(frames).find(|key| is_wanted(frames.payload(*key)))?;
        if self.head == key {
            return self.take_first(frames);
        }
        let before = self.iter(frames).find(|other| frames.queued[*other as usize].next == key)?;
        let Queued { payload, next, .. } = &frames.queued[key as usize];
        let (len, next) = (payload.len(), *next);
        frames.queued[before as usize].next = next;
        if next == NONE {
            self.tail = before;
        }
        self.bytes -= len;
        self.len -= 1;
        Some(key)
    }

    /// Drops every frame; what they held in bytes.
    pub fn clear(&mut self, frames: &mut Frames) -> usize {
        let bytes = self.bytes;
        while let Some(key) = self.take_first(frames) {
            frames.remove(key);
        }
        bytes
    }

    pub fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub fn iter<'f>(&self, frames: &'f Frames) -> impl Iterator<Item = u32> + 'f {
        std::iter::successors(self.front(), move |key| {
            let next = frames.queued[*key as usize].next;
            (next != NONE).then_some(next)
        })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_keeps_order_and_gives_back_what_it_held() {
        let (mut frames, mut fifo) = (Frames::default(), Fifo::default());
        fifo.push(&mut frames, Payload::copy(b"one"), false);
        fifo.push(&mut frames, Payload::concat(&[&[7; 12], b"body"]), true);
        assert_eq!((fifo.bytes(), fifo.len(), frames.len()), (19, 2, 2));
        let first = fifo.take_first(&frames).unwrap();
        assert_eq!(frames.payload(first).bytes(), b"one");
        frames.remove(first);
        assert_eq!(fifo.clear(&mut frames), 16);
        assert!(frames.is_empty() && fifo.is_empty());
        assert_eq!(frames.count().live(), 0);
    }

    #[test]
    fn what_is_shared_counts_once() {
        let (mut frames, mut fifos) = (Frames::default(), [Fifo::default(); 3]);
        let event = Bytes::from(vec![7; 1000]);
        frames.share(&event);
        for fifo in &mut fifos {
            fifo.push(&mut frames, Payload::shared(&event), false);
        }
        frames.unshare(&event);
        drop(event);
        assert_eq!(frames.bytes(), 1000 + 3 * PLACE_BYTES);
        frames.recount().unwrap();
        for fifo in &mut fifos[..2] {
            fifo.clear(&mut frames);
        }
        assert_eq!(frames.bytes(), 1000 + PLACE_BYTES);
        fifos[2].clear(&mut frames);
        assert_eq!(frames.bytes(), 0);
        let nobody = Bytes::from(vec![7; 1000]);
        frames.share(&nobody);
        frames.unshare(&nobody);
        assert_eq!((frames.bytes(), frames.payload_heap), (0, 0));
    }

    #[test]
    fn only_what_is_short_is_kept_inline() {
        assert!(matches!(Payload::copy(&[1; INLINE_BYTES]), Payload::Inline { .. }));
        assert!(matches!(Payload::copy(&[1; INLINE_BYTES + 1]), Payload::Owned(_)));
        assert_eq!(Payload::copy(&[1; 300]).len(), 300);
    }
}
