//! Queued frames: one pool for all connections, so that a queue owns no memory and pushing to one allocates nothing in the
//! steady state. A frame for many watchers is one encoded buffer that each queue refers to.

use crate::census::Count;
use bytes::Bytes;
use slab::Slab;

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
    /// An encoded frame, perhaps shared.
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
            _ => Payload::Shared(Bytes::copy_from_slice(frame)),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Payload::Static(bytes) => bytes.len(),
            Payload::Inline { len, .. } => usize::from(*len),
            Payload::Shared(bytes) => bytes.len(),
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
            Payload::Shared(bytes) => [bytes, &[]],
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
    /// What waits in all queues together, commands that take turns included.
    pub queued_bytes: usize,
    count: Count,
}

impl Frames {
    pub fn insert(&mut self, payload: Payload, replay: bool) -> u32 {
        self.count.opened += 1;
        self.queued.insert(Queued { payload, replay, next: NONE }) as u32
    }

    pub fn remove(&mut self, key: u32) -> Payload {
        self.count.unbound += 1;
        let Queued { payload, .. } = self.queued.remove(key as usize);
        if self.queued.is_empty() && self.queued.capacity() > 1024 {
            self.queued = Slab::new(); // the peak of a burst is not kept
        }
        payload
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
    fn only_what_is_short_is_kept_inline() {
        assert!(matches!(Payload::copy(&[1; INLINE_BYTES]), Payload::Inline { .. }));
        assert!(matches!(Payload::copy(&[1; INLINE_BYTES + 1]), Payload::Shared(_)));
        assert_eq!(Payload::copy(&[1; 300]).len(), 300);
    }
}
