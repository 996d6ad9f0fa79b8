//! Queued frames: one pool for all connections, so that a queue owns no memory and pushing to one allocates nothing in the
//! steady state. A frame for many watchers is one encoded buffer that each queue refers to, and so is a long one-way command
//! for its fragments.

mod fifo;

pub use fifo::Fifo;

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
    /// The same of what is replayed alone.
    replay_bytes: usize,
    /// What their payloads take of the heap, in bytes, at most.
    payload_heap: usize,
    count: Count,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            queued: Pool::new(Holder::QueuedFrame),
            bytes: 0,
            replay_bytes: 0,
            payload_heap: 0,
            count: Count::default(),
        }
    }
}

/// What a place in a queue takes, in bytes.
const PLACE_BYTES: usize = size_of::<Queued>();

impl Frames {
    pub fn insert(&mut self, payload: Payload, replay: bool) -> u32 {
        self.count.opened += 1;
        self.bytes += PLACE_BYTES + payload.own_bytes();
        self.payload_heap += payload.own_heap();
        if replay {
            self.replay_bytes += PLACE_BYTES + payload.len();
        }
        self.queued.insert(Queued { payload, replay, next: NONE }) as u32
    }

    pub fn remove(&mut self, key: u32) -> Payload {
        self.count.unbound += 1;
        let Queued { payload, replay, .. } = self.queued.remove(key as usize);
        if replay {
            self.replay_bytes -= PLACE_BYTES + payload.len();
        }
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

    /// What of that is read ahead out of shadows.
    pub fn replay_bytes(&self) -> usize {
        self.replay_bytes
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
        let (mut bytes, mut heap, mut replay_bytes) = (0, 0, 0);
        for (_, Queued { payload, replay, .. }) in self.queued.iter() {
            replay_bytes += if *replay { PLACE_BYTES + payload.len() } else { 0 };
            bytes += PLACE_BYTES + payload.own_bytes();
            heap += payload.own_heap();
            if let Some(buffer) = payload.shared_buffer()
                && shared.insert(buffer.as_ptr())
            {
                bytes += buffer.len();
                heap += encoded_heap(buffer);
            }
        }
        let counted = (self.bytes, self.payload_heap, self.replay_bytes);
        if (bytes, heap, replay_bytes) != counted {
            let found = (bytes, heap, replay_bytes);
            return Err(format!("queued frames: {found:?} bytes, heap and replay, {counted:?} counted"));
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
