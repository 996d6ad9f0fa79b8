//! Queued frames: one pool for all connections, so that a queue owns no memory and pushing to one allocates nothing in the
//! steady state. A frame for many watchers is one encoded buffer that each queue refers to.

use crate::census::Count;
use bytes::Bytes;
use slab::Slab;
use std::collections::HashSet;

const NONE: u32 = u32::MAX;
/// The longest frame that is kept in the pool itself: a PONG with the longest body.
pub const INLINE_BYTES: usize = 12 + crate::limits::MAX_PING_BYTES;

/// The bytes of one frame, or of a run of frames that need not be told apart.
#[derive(Clone, Debug)]
pub enum Payload {
    Static(&'static [u8]),
    /// Short frames, without an allocation.
    Inline {
        len: u8,
        bytes: [u8; INLINE_BYTES],
    },
    /// An answer, of this queue alone.
    Owned(Vec<u8>),
    /// A notification or answer that was encoded behind room for its header; of this queue alone.
    Encoded(Bytes),
    /// An event for many: one encoded frame that every queue refers to. See [`Frames::share`].
    Shared(Bytes),
    /// One part of a message on the router link: its header and a slice of the message.
    Fragment {
        header: [u8; 12],
        body: Bytes,
    },
}

impl Payload {
    /// Copies a short frame into the pool, or takes a longer one as it is.
    pub fn copy(frame: &[u8]) -> Self {
        match u8::try_from(frame.len()) {
            Ok(len) if frame.len() <= INLINE_BYTES => {
                let mut bytes = [0; INLINE_BYTES];
                bytes[..frame.len()].copy_from_slice(frame);
                Payload::Inline { len, bytes }
            }
            _ => Payload::Owned(frame.to_vec()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Payload::Static(bytes) => bytes.len(),
            Payload::Inline { len, .. } => usize::from(*len),
            Payload::Owned(bytes) => bytes.len(),
            Payload::Encoded(bytes) | Payload::Shared(bytes) => bytes.len(),
            Payload::Fragment { header, body } => header.len() + body.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The two slices that, one after the other, are the frame; the second is mostly empty.
    pub fn slices(&self) -> [&[u8]; 2] {
        match self {
            Payload::Static(bytes) => [bytes, &[]],
            Payload::Inline { len, bytes } => [&bytes[..usize::from(*len)], &[]],
            Payload::Owned(bytes) => [bytes, &[]],
            Payload::Encoded(bytes) | Payload::Shared(bytes) => [bytes, &[]],
            Payload::Fragment { header, body } => [header, body],
        }
    }
}

#[derive(Debug)]
struct Queued {
    payload: Payload,
    /// A retained value that is being replayed: it does not count as slowness.
    replay: bool,
    next: u32,
}

/// The frames of all queues.
#[derive(Debug, Default)]
pub struct Frames {
    queued: Slab<Queued>,
    /// What all queued frames take in memory: what is shared counts once, and every place in a queue counts.
    bytes: usize,
    count: Count,
}

/// What a place in a queue takes, in bytes.
const PLACE_BYTES: usize = size_of::<Queued>();

impl Frames {
    pub fn insert(&mut self, payload: Payload, replay: bool) -> u32 {
        self.count.opened += 1;
        self.bytes += PLACE_BYTES + own_bytes(&payload);
        self.queued.insert(Queued { payload, replay, next: NONE }) as u32
    }

    pub fn remove(&mut self, key: u32) -> Payload {
        self.count.unbound += 1;
        let Queued { payload, .. } = self.queued.remove(key as usize);
        self.bytes -= PLACE_BYTES + own_bytes(&payload);
        if let Payload::Shared(bytes) = &payload {
            self.unshare(bytes);
        }
        if self.queued.is_empty() && self.queued.capacity() > 1024 {
            self.queued = Slab::new(); // the peak of a burst is not kept
        }
        payload
    }

    /// Counts a frame that is about to be queued for many. Whoever made it calls [`Self::unshare`] when all have it.
    pub fn share(&mut self, frame: &Bytes) {
        self.bytes += frame.len();
    }

    /// One holder of a shared frame lets go: the last one takes it off the count.
    pub fn unshare(&mut self, frame: &Bytes) {
        if frame.is_unique() {
            self.bytes -= frame.len();
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For the audit: the same, counted again.
    pub fn recount(&self) -> usize {
        let mut shared = HashSet::new();
        let bytes = |payload: &Payload| match payload {
            Payload::Shared(frame) if shared.insert(frame.as_ptr()) => frame.len(),
            payload => own_bytes(payload),
        };
        self.queued
            .iter()
            .map(|(_, queued)| &queued.payload)
            .map(bytes)
            .map(|bytes| PLACE_BYTES + bytes)
            .sum()
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

/// What only this payload holds.
fn own_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Owned(bytes) => bytes.len(),
        Payload::Encoded(bytes) => bytes.len(),
        Payload::Fragment { body, .. } => body.len(),
        Payload::Static(_) | Payload::Inline { .. } | Payload::Shared(_) => 0,
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
        fifo.push(
            &mut frames,
            Payload::Fragment { header: [7; 12], body: Bytes::from_static(b"body") },
            true,
        );
        assert_eq!((fifo.bytes(), fifo.len(), frames.len()), (19, 2, 2));
        let first = fifo.take_first(&frames).unwrap();
        assert_eq!(frames.payload(first).slices().concat(), b"one");
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
            fifo.push(&mut frames, Payload::Shared(event.clone()), false);
        }
        frames.unshare(&event);
        drop(event);
        assert_eq!(frames.bytes(), 1000 + 3 * PLACE_BYTES);
        for fifo in &mut fifos[..2] {
            fifo.clear(&mut frames);
        }
        assert_eq!(frames.bytes(), 1000 + PLACE_BYTES);
        fifos[2].clear(&mut frames);
        assert_eq!(frames.bytes(), 0);
        let nobody = Bytes::from(vec![7; 1000]);
        frames.share(&nobody);
        frames.unshare(&nobody);
        assert_eq!(frames.bytes(), 0);
    }

    #[test]
    fn only_what_is_short_is_kept_inline() {
        assert!(matches!(Payload::copy(&[1; INLINE_BYTES]), Payload::Inline { .. }));
        assert!(matches!(Payload::copy(&[1; INLINE_BYTES + 1]), Payload::Owned(_)));
        assert_eq!(Payload::copy(&[1; 300]).len(), 300);
    }
}
