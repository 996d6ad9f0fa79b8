//! Frames of one queue in order, and the blocks that pieces of a long answer are gathered in.

use super::{Frames, NONE, Payload, Queued};
use crate::memory::{Holder, charge};

/// Pieces of a long answer are gathered in blocks: a frame for each would take more than they do. Of so many bytes while the
/// queue is short, and it mostly is; beyond [`LONG_QUEUE_BYTES`] of up to [`LONG_BLOCK_BYTES`], in steps.
const BLOCK_BYTES: usize = 4096;
const LONG_QUEUE_BYTES: usize = 65_536;
const LONG_BLOCK_BYTES: usize = 12_288;
const BLOCK_STEP_BYTES: usize = 1024;

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
