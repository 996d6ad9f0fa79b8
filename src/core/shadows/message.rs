//! Topic and body of an event as a shadow keeps them: copied once, whether as the topic's value, in the history, or both.

use super::Event;
use bytes::Bytes;

/// What counts the owners of a message that has two, in bytes of heap.
const SHARED_BYTES: usize = 24;

#[derive(Debug)]
pub struct Message {
    /// Topic, then body: one block, because there are many of them.
    bytes: Bytes,
    topic_len: u8,
    /// It has two owners, or had.
    is_shared: bool,
}

impl Message {
    pub(super) fn new(event: &Event<'_>) -> Self {
        let bytes = [event.topic.as_bytes(), event.body].concat().into();
        Self { bytes, topic_len: event.topic.len() as u8, is_shared: false }
    }

    /// The same for a second owner.
    pub(super) fn share(&mut self) -> Self {
        self.is_shared = true;
        Self { bytes: self.bytes.clone(), ..*self }
    }

    pub fn topic(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.topic_len)]).expect("a topic is ASCII")
    }

    pub fn body(&self) -> &[u8] {
        &self.bytes[usize::from(self.topic_len)..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is gone when this is dropped.
    pub(super) fn is_last(&self) -> bool {
        self.bytes.is_unique()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.len() + if self.is_shared { SHARED_BYTES } else { 0 }
    }
}
