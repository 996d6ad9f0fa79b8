//! The frame of the router link, contract section 1, encoded and decoded here independently of the daemon.

use std::fmt;

/// The longest body of one frame, in bytes.
pub const MAX_FRAGMENT: usize = 16_384;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 1_048_576;
pub const HEADER: usize = 12;

pub mod kind {
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const PING: u8 = 0x03;
    pub const PONG: u8 = 0x04;
    pub const BYE: u8 = 0x05;
    pub const COMMAND: u8 = 0x10;
    pub const REPLY: u8 = 0x11;
    pub const EVENT: u8 = 0x12;
    pub const OPEN: u8 = 0x20;
    pub const ITEM: u8 = 0x21;
    pub const ACK: u8 = 0x22;
    pub const END: u8 = 0x23;
    pub const CANCEL: u8 = 0x24;
}

pub mod flag {
    pub const MORE: u8 = 0x01;
    pub const ERROR: u8 = 0x02;
    pub const JSON: u8 = 0x04;
    pub const RETAIN: u8 = 0x08;
}

/// One frame, or one message when its parts have been put together; nothing in it is checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub name: Vec<u8>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, flags, id, name, body } = self;
        let start = &body[..body.len().min(100)];
        write!(f, "kind {kind:#04x}, flags {flags:#04x}, id {id}, name \"{}\", ", name.escape_ascii())?;
        write!(f, "{} bytes \"{}\"", body.len(), start.escape_ascii())
    }
}

impl Frame {
    pub fn new(kind: u8) -> Self {
        Self { kind, ..Self::default() }
    }

    pub fn hello(router: &str) -> Self {
        Self::new(kind::HELLO).id(1).name(router)
    }

    pub fn ping(body: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::PING).body(body)
    }

    pub fn reply(id: u32, body: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::REPLY).id(id).body(body)
    }

    pub fn event(topic: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::EVENT).name(topic).body(body)
    }

    /// One row of a stream.
    pub fn item(stream: u32, sequence: u64, row: impl AsRef<[u8]>) -> Self {
        Self::new(kind::ITEM).id(stream).body([&sequence.to_be_bytes(), row.as_ref()].concat())
    }

    /// The end of a stream, whose last row has the number before `sequence`.
    pub fn end(stream: u32, sequence: u64) -> Self {
        Self::new(kind::END).id(stream).body(sequence.to_be_bytes())
    }

    /// A stream that failed, and what the router says of it.
    pub fn stream_error(stream: u32, text: &str) -> Self {
        Self::new(kind::END).id(stream).flags(flag::ERROR).body(text)
    }

    pub fn bye(code: &str) -> Self {
        Self::new(kind::BYE).name(code)
    }

    pub fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub fn id(self, id: u32) -> Self {
        Self { id, ..self }
    }

    pub fn name(self, name: impl AsRef<[u8]>) -> Self {
        Self { name: name.as_ref().to_owned(), ..self }
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn name_text(&self) -> &str {
        std::str::from_utf8(&self.name).expect("a name of UTF-8")
    }

    pub fn encode(&self) -> Vec<u8> {
        let name_len = u16::try_from(self.name.len()).expect("a name that has a length");
        let body_len = u32::try_from(self.body.len()).expect("a body that has a length");
        let header = header(self.kind, self.flags, name_len, self.id, body_len);
        [&header[..], &self.name, &self.body].concat()
    }

    /// The message in parts of `MAX_FRAGMENT` bytes, as section 1 wants them.
    pub fn parts(&self) -> Vec<Frame> {
        self.parts_of(MAX_FRAGMENT)
    }

    pub fn parts_of(&self, size: usize) -> Vec<Frame> {
        let pieces: Vec<&[u8]> = match self.body.is_empty() {
            true => vec![&[]],
            false => self.body.chunks(size).collect(),
        };
        let last = pieces.len() - 1;
        let part = |(n, piece): (usize, &&[u8])| Frame {
            flags: if n == last { self.flags } else { self.flags | flag::MORE },
            name: if n == 0 { self.name.clone() } else { Vec::new() },
            body: piece.to_vec(),
            ..*self
        };
        pieces.iter().enumerate().map(part).collect()
    }

    /// All the parts, one behind the other.
    pub fn encode_parts(&self) -> Vec<u8> {
        self.parts().iter().flat_map(Frame::encode).collect()
    }

    /// The first frame in `bytes` and its length, once it is there as a whole.
    pub fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
        let header = bytes.get(..HEADER)?;
        let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let name_end = HEADER + usize::from(u16::from_be_bytes([header[2], header[3]]));
        let end = name_end + u32_at(8) as usize;
        let frame = Frame {
            kind: header[0],
            flags: header[1],
            id: u32_at(4),
            name: bytes.get(HEADER..name_end)?.to_vec(),
            body: bytes.get(name_end..end)?.to_vec(),
        };
        Some((frame, end))
    }
}

/// The 12 bytes in front of a frame, with lengths that may lie.
pub fn header(kind: u8, flags: u8, name_len: u16, id: u32, body_len: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = kind;
    header[1] = flags;
    header[2..4].copy_from_slice(&name_len.to_be_bytes());
    header[4..8].copy_from_slice(&id.to_be_bytes());
    header[8..].copy_from_slice(&body_len.to_be_bytes());
    header
}

/// Puts the parts of COMMANDs together and holds the daemon to the rules of parts.
#[derive(Debug, Default)]
pub struct Assembler {
    halves: Vec<Frame>,
}

/// What a frame of kind COMMAND has brought to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Whole(Frame),
    /// The correlation id of the command that was begun and will not be finished.
    Aborted(u32),
}

impl Assembler {
    /// Takes one COMMAND frame. Panics when it breaks a rule of section 1.
    pub fn push(&mut self, frame: Frame) -> Option<Command> {
        assert_eq!(frame.kind, kind::COMMAND, "{frame:?}");
        assert!(frame.body.len() <= MAX_FRAGMENT, "a fragment of {} bytes", frame.body.len());
        assert_eq!(frame.flags & !(flag::MORE | flag::JSON | flag::ERROR), 0, "{frame:?}");
        let begun = self.halves.iter().position(|half| half.id == frame.id);
        if frame.is(flag::ERROR) {
            assert_eq!((frame.flags, frame.name.len(), frame.body.len()), (flag::ERROR, 0, 0), "{frame:?}");
            assert_ne!(frame.id, 0, "the abort of a one-way command");
            self.halves.remove(begun.expect("an abort of a command that was begun"));
            return Some(Command::Aborted(frame.id));
        }
        assert!(!(frame.is(flag::MORE) && frame.body.is_empty()), "an empty part with MORE");
        let Some(begun) = begun else {
            assert!(!frame.name.is_empty(), "a first part without a name: {frame:?}");
            return self.add(frame);
        };
        let mut whole = self.halves.remove(begun);
        assert!(frame.name.is_empty(), "a name in a later part");
        assert_eq!(frame.flags | flag::MORE, whole.flags, "flags that change");
        whole.flags = frame.flags;
        whole.body.extend(frame.body);
        self.add(whole)
    }

    pub fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }

    fn add(&mut self, message: Frame) -> Option<Command> {
        assert!(message.body.len() <= MAX_MESSAGE, "a message of {} bytes", message.body.len());
        if message.is(flag::MORE) {
            self.halves.push(message);
            return None;
        }
        Some(Command::Whole(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_bytes_of_the_table() {
        let frame = Frame::event("t/1", "value").flags(flag::RETAIN);
        let bytes = b"\x12\x08\0\x03\0\0\0\0\0\0\0\x05t/1value";
        assert_eq!(frame.encode(), bytes);
        assert_eq!(Frame::decode(bytes), Some((frame, bytes.len())));
        for cut in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn parts_are_put_together_again() {
        for length in [0, 1, MAX_FRAGMENT, MAX_FRAGMENT + 1, MAX_MESSAGE] {
            let whole = Frame::new(kind::COMMAND).id(7).flags(flag::JSON).name("n").body(vec![1; length]);
            let mut assembler = Assembler::default();
            let mut last = None;
            for part in whole.parts() {
                assert!(last.is_none());
                last = assembler.push(part);
            }
            assert!(assembler.is_empty() && last == Some(Command::Whole(whole)));
        }
    }
}
