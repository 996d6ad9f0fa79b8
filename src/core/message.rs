//! A command on its way to a router: where its fragments are, and, if a reply is awaited, how much of it has been begun.

use crate::core::frames::Payload;
use crate::limits::MAX_FRAGMENT_BYTES;
use crate::memory::{Holder, charge};
use crate::proto::router::{HEADER_BYTES, Kind, flags, fragments, header};
use bytes::Bytes;
use std::ops::Range;
use std::rc::Rc;

/// What the lengths of a command say about its fragments. The first one has the name.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    name_len: usize,
    payload_len: usize,
    json: bool,
}

impl Outline {
    pub fn new(name: &str, payload: &[u8], json: bool) -> Self {
        Self { name_len: name.len(), payload_len: payload.len(), json }
    }

    pub fn payload_bytes(&self) -> usize {
        self.payload_len
    }

    /// How many there are: at least one.
    pub fn fragments(&self) -> usize {
        fragments(self.payload_len)
    }

    /// Bytes on the wire, headers included.
    pub fn wire_bytes(&self) -> usize {
        self.wire_bytes_before(self.fragments())
    }

    fn wire_bytes_before(&self, index: usize) -> usize {
        index * HEADER_BYTES + self.start(index)
    }

    /// Where a fragment begins in name and payload, headers left out; of the one behind the last: where they end.
    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.name_len + (index * MAX_FRAGMENT_BYTES).min(self.payload_len) }
    }

    fn range(&self, index: usize) -> Range<usize> {
        self.start(index)..self.start(index + 1)
    }

    pub fn header(&self, id: u32, index: usize) -> [u8; HEADER_BYTES] {
        let more = index + 1 < self.fragments();
        let frame_flags = if self.json { flags::JSON } else { 0 } | if more { flags::MORE } else { 0 };
        let name_len = if index == 0 { self.name_len } else { 0 };
        header(Kind::Command, frame_flags, id, name_len, self.range(index).len() - name_len)
    }

    /// The whole command as it goes over the wire, to be queued in parts. Copies name and payload, once.
    pub fn encode(&self, id: u32, name: &str, payload: &[u8]) -> Bytes {
        let _charge = charge(Holder::QueuedFrame);
        let mut wire = Vec::with_capacity(self.wire_bytes());
        wire.extend_from_slice(&self.header(id, 0));
        wire.extend_from_slice(name.as_bytes());
        for (index, part) in payload.chunks(MAX_FRAGMENT_BYTES).enumerate() {
            if index > 0 {
                wire.extend_from_slice(&self.header(id, index));
            }
            wire.extend_from_slice(part);
        }
        wire.into()
    }

    /// Where the fragments are in what [`Self::encode`] makes.
    pub fn encoded_ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.fragments())
            .map(move |index| self.wire_bytes_before(index)..self.wire_bytes_before(index + 1))
    }
}

/// Name and payload of a command that goes to many routers: there is one, which all its commands refer to until they are
/// sent. [`Commands::share`](crate::core::commands::Commands::share) counts it.
#[derive(Clone, Debug)]
pub struct SharedMessage(Rc<Whole>);

/// Name, then payload.
#[derive(Debug)]
struct Whole {
    bytes: Box<[u8]>,
    outline: Outline,
}

impl SharedMessage {
    /// Copies name and payload.
    pub fn new(name: &str, payload: &[u8], json: bool) -> Self {
        let _charge = charge(Holder::PendingCommand);
        let bytes = [name.as_bytes(), payload].concat().into_boxed_slice();
        Self(Rc::new(Whole { bytes, outline: Outline::new(name, payload, json) }))
    }

    pub fn outline(&self) -> Outline {
        self.0.outline
    }

    /// What goes with this holder, in bytes of heap: all of it with the last one, and nothing before.
    pub fn held_bytes(&self) -> usize {
        if Rc::strong_count(&self.0) == 1 { self.heap_bytes() } else { 0 }
    }

    /// What there is once, however many refer to it, in bytes of heap: the bytes, and the two counts in front of them.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.bytes.len() + size_of::<Whole>() + 2 * size_of::<usize>()
    }

    /// Tells it from others, for the audit.
    pub(super) fn address(&self) -> *const () {
        Rc::as_ptr(&self.0).cast()
    }
}

/// Where the bytes of a message are.
#[derive(Debug)]
enum Text {
    /// Name, then payload; of this message alone.
    Own(Box<[u8]>),
    Shared(SharedMessage),
    /// All of it was begun.
    Sent,
}

/// The message of an awaited command: its name and payload in one buffer.
#[derive(Debug)]
pub struct Message {
    text: Text,
    outline: Outline,
    /// How many fragments were begun.
    begun: usize,
}

impl Message {
    /// Copies name and payload.
    pub fn new(name: &str, payload: &[u8], json: bool) -> Self {
        let _charge = charge(Holder::PendingCommand);
        let bytes = [name.as_bytes(), payload].concat().into_boxed_slice();
        Self { text: Text::Own(bytes), outline: Outline::new(name, payload, json), begun: 0 }
    }

    /// One of many that say the same; nothing is copied.
    pub fn shared(message: &SharedMessage) -> Self {
        Self { text: Text::Shared(message.clone()), outline: message.outline(), begun: 0 }
    }

    /// What goes with it, in bytes of heap: of a shared one nothing, unless it is the last.
    pub fn held_bytes(&self) -> usize {
        match &self.text {
            Text::Own(bytes) => bytes.len(),
            Text::Shared(message) => message.held_bytes(),
            Text::Sent => 0,
        }
    }

    /// What only this message can refer to, in bytes of heap, and what others may refer to as well.
    pub(super) fn parts(&self) -> (usize, Option<&SharedMessage>) {
        match &self.text {
            Text::Own(bytes) => (bytes.len(), None),
            Text::Shared(message) => (0, Some(message)),
            Text::Sent => (0, None),
        }
    }

    /// Drops the bytes: nothing more of it will be sent.
    pub(super) fn let_go(&mut self) {
        self.text = Text::Sent;
    }

    pub fn is_begun(&self) -> bool {
        self.begun > 0
    }

    pub fn is_finished(&self) -> bool {
        self.begun == self.outline.fragments()
    }

    /// What is held although it has been sent: all of it is kept until the last fragment is begun.
    pub fn sent_bytes(&self) -> usize {
        if self.is_finished() { 0 } else { self.outline.wire_bytes_before(self.begun) }
    }

    /// Bytes on the wire that were not begun yet, headers included.
    pub fn unsent_bytes(&self) -> usize {
        self.outline.wire_bytes() - self.outline.wire_bytes_before(self.begun)
    }

    /// The fragment that is `ahead` fragments behind the next one, without beginning it.
    pub fn fragment(&self, id: u32, ahead: usize) -> Option<([u8; HEADER_BYTES], &[u8])> {
        let index = self.begun + ahead;
        let bytes = match &self.text {
            Text::Own(bytes) => bytes,
            Text::Shared(message) => &message.0.bytes,
            Text::Sent => return None,
        };
        (index < self.outline.fragments())
            .then(|| (self.outline.header(id, index), &bytes[self.outline.range(index)]))
    }

    /// Begins the next fragment, as a frame that lives on whatever becomes of the command. It is a copy: a slice would keep
    /// all of a message that may be long gone.
    pub fn begin_fragment(&mut self, id: u32) -> Option<Payload> {
        let (header, bytes) = self.fragment(id, 0)?;
        let frame = Payload::concat(&[&header, bytes]);
        self.skip_fragment();
        Some(frame)
    }

    /// Passes over the next fragment, which was written whole.
    pub fn skip_fragment(&mut self) {
        if !self.is_finished() {
            self.begun += 1;
        }
        if self.is_finished() {
            self.let_go(); // while the reply is awaited nothing of it is needed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: usize) -> Message {
        Message::new("name", &vec![b'x'; payload], true)
    }

    #[test]
    fn a_short_message_is_one_fragment() {
        for payload in [0, 1, MAX_FRAGMENT_BYTES] {
            let mut message = message(payload);
            assert_eq!(message.unsent_bytes(), 12 + 4 + payload);
            let frame = message.begin_fragment(3).unwrap();
            assert_eq!(frame.bytes()[..12], header(Kind::Command, flags::JSON, 3, 4, payload));
            assert_eq!(frame.len(), 12 + 4 + payload);
            assert!(message.is_finished() && message.begin_fragment(3).is_none());
            assert_eq!((message.unsent_bytes(), message.held_bytes()), (0, 0));
        }
    }

    #[test]
    fn a_shared_message_goes_with_its_last_holder() {
        let shared = SharedMessage::new("name", &vec![b'x'; MAX_FRAGMENT_BYTES + 1], true);
        let all = shared.held_bytes();
        assert!(all > MAX_FRAGMENT_BYTES);
        let mut messages = [Message::shared(&shared), Message::shared(&shared)];
        assert_eq!((shared.held_bytes(), messages[0].held_bytes(), messages[1].held_bytes()), (0, 0, 0));
        drop(shared);
        let frames = |message: &mut Message| -> Vec<Vec<u8>> {
            std::iter::from_fn(|| message.begin_fragment(7)).map(|frame| frame.bytes().to_vec()).collect()
        };
        let own = frames(&mut message(MAX_FRAGMENT_BYTES + 1));
        assert_eq!(frames(&mut messages[0]), own, "on the wire nothing tells them apart");
        assert_eq!(messages[1].held_bytes(), all, "the other one was sent");
        messages[1].let_go();
        assert_eq!((messages[1].held_bytes(), messages[1].fragment(7, 0)), (0, None));
    }

    proptest::proptest! {
        #[test]
        fn fragments_make_the_message(payload in 0usize..100_000) {
            let mut message = message(payload);
            let joined = |(head, bytes): ([u8; 12], &[u8])| [&head, bytes].concat();
            let planned: Vec<_> = (0..).map_while(|ahead| message.fragment(9, ahead).map(joined)).collect();
            let (mut wire, mut begun) = (0, Vec::new());
            let all = message.unsent_bytes();
            while let Some(frame) = message.begin_fragment(9) {
                wire += frame.len();
                assert_eq!(message.unsent_bytes() + wire, all);
                begun.push(frame.bytes().to_vec());
            }
            assert_eq!(planned, begun);
            assert_eq!(begun.iter().map(|frame| frame.len() - 12).sum::<usize>(), payload + 4);
            let last = begun.len() - 1;
            assert!(begun.iter().enumerate().all(|(index, frame)| (frame[1] & flags::MORE != 0) == (index < last)));

            let text = vec![b'x'; payload];
            let outline = Outline::new("name", &text, true);
            let wire = outline.encode(9, "name", &text);
            assert_eq!(wire.len(), all);
            assert!(outline.encoded_ranges().map(|range| &wire[range]).eq(begun.iter().map(Vec::as_slice)));
        }
    }
}
