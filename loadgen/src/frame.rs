//! The frame of the router link (contract, section 1): a header of 12 bytes, big-endian, then name and body.

pub mod stream;

use std::borrow::Cow;
use std::collections::HashMap;

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

pub const MORE: u8 = 0x01;
pub const ERROR: u8 = 0x02;
pub const JSON: u8 = 0x04;
pub const RETAIN: u8 = 0x08;

pub const HEADER_BYTES: usize = 12;
pub const MAX_FRAGMENT_BYTES: usize = 16_384;
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
const MAX_NAME_BYTES: usize = 128;

/// One frame as it lies in the read buffer.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub name: &'a str,
    pub body: &'a [u8],
}

/// The frame at the start of `bytes` and its length, or `None` while it is incomplete.
///
/// # Errors
/// What the server must never send: a name or body over its limit, a name that is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let name_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let body_len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if name_len > MAX_NAME_BYTES || body_len > MAX_FRAGMENT_BYTES {
        return Err(format!(
            "frame of kind {:#04x} with name_len {name_len}, body_len {body_len}",
            header[0]
        ));
    }
    let total = HEADER_BYTES + name_len + body_len;
    let Some(rest) = bytes.get(HEADER_BYTES..total) else { return Ok(None) };
    let (name, body) = rest.split_at(name_len);
    let name = std::str::from_utf8(name).map_err(|_| "a name that is not UTF-8".to_string())?;
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    Ok(Some((Frame { kind: header[0], flags: header[1], id, name, body }, total)))
}

/// Appends one frame. `body` must fit into one fragment.
pub fn encode(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, name: &str, body: &[u8]) {
    debug_assert!(name.len() <= MAX_NAME_BYTES && body.len() <= MAX_FRAGMENT_BYTES);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&(name.len() as u16).to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(body);
}

/// Appends a message, in as many parts as it needs: all but the last carry MORE, the name stands in the first only.
pub fn encode_message(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, name: &str, body: &[u8]) {
    let mut name = name;
    let mut rest = body;
    while rest.len() > MAX_FRAGMENT_BYTES {
        let (part, behind) = rest.split_at(MAX_FRAGMENT_BYTES);
        encode(out, kind, flags | MORE, id, name, part);
        (name, rest) = ("", behind);
    }
    encode(out, kind, flags, id, name, rest);
}

/// Whether `name` may be that of a command or a stream.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// What WELCOME says.
pub struct Welcome<'a> {
    pub session_id: &'a str,
    /// Nanoseconds.
    pub heartbeat_interval: u64,
    /// Nanoseconds.
    pub heartbeat_timeout: u64,
}

impl<'a> Welcome<'a> {
    /// Reads a WELCOME frame, which says the same sizes to everyone.
    ///
    /// # Errors
    /// A body without one of its four fields, other sizes than those of the contract, other flags or another id.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, String> {
        let limits: serde_json::Value =
            serde_json::from_slice(frame.body).map_err(|e| format!("the body of WELCOME: {e}"))?;
        let field = |name: &str| limits[name].as_u64().ok_or_else(|| format!("WELCOME without {name}"));
        let welcome = Self {
            session_id: frame.name,
            heartbeat_interval: field("heartbeat_interval_ms")? * 1_000_000,
            heartbeat_timeout: field("heartbeat_timeout_ms")? * 1_000_000,
        };
        let sizes = (field("max_message_bytes")?, field("max_fragment_bytes")?);
        if frame.flags != JSON
            || frame.id != 1
            || frame.name.is_empty()
            || sizes != (MAX_MESSAGE_BYTES as u64, MAX_FRAGMENT_BYTES as u64)
        {
            return Err(format!("WELCOME with flags {:#x}, id {}, sizes {sizes:?}", frame.flags, frame.id));
        }
        Ok(welcome)
    }
}

/// A whole COMMAND, gathered from its parts if it had several.
#[derive(Debug, PartialEq)]
pub struct Command<'a> {
    pub id: u32,
    pub flags: u8,
    pub name: Cow<'a, str>,
    pub body: Cow<'a, [u8]>,
}

/// What a COMMAND frame brought.
#[derive(Debug, PartialEq)]
pub enum Gathered<'a> {
    Whole(Command<'a>),
    /// A part; more are to come.
    Part,
    /// The server gave the command up; its parts are thrown away.
    Aborted,
}

struct Half {
    flags: u8,
    name: String,
    body: Vec<u8>,
}

/// The half-received commands of one session, and the rules for their ids and parts.
#[derive(Default)]
pub struct Commands {
    halves: HashMap<u32, Half>,
    last_id: u32,
}

impl Commands {
    /// Takes one COMMAND frame.
    ///
    /// # Errors
    /// A breach of section 1 by the server: an id that does not count up, changed flags or a name in a later part, an
    /// empty part with MORE, an abort of what was never begun, a message over its limit.
    pub fn take<'a>(&mut self, frame: &Frame<'a>) -> Result<Gathered<'a>, String> {
        let more = frame.flags & MORE != 0;
        if frame.flags & !(MORE | ERROR | JSON) != 0 {
            return Err(format!("COMMAND with flags {:#04x}", frame.flags));
        }
        if frame.flags & ERROR != 0 {
            return self.abort(frame);
        }
        if more && frame.body.is_empty() {
            return Err("an empty part with MORE".into());
        }
        if let Some(half) = self.halves.get_mut(&frame.id) {
            if frame.flags & !MORE != half.flags || !frame.name.is_empty() {
                return Err("a later part with other flags or a name".into());
            }
            half.body.extend_from_slice(frame.body);
            if half.body.len() > MAX_MESSAGE_BYTES {
                return Err("a message over 1 MiB".into());
            }
            if more {
                return Ok(Gathered::Part);
            }
            let half = self.halves.remove(&frame.id).expect("it was there a moment ago");
            let command = Command {
                id: frame.id,
                flags: half.flags,
                name: Cow::Owned(half.name),
                body: Cow::Owned(half.body),
            };
            return Ok(Gathered::Whole(command));
        }
        self.begin(frame)?;
        if more {
            let (name, body) = (frame.name.to_string(), frame.body.to_vec());
            self.halves.insert(frame.id, Half { flags: frame.flags & !MORE, name, body });
            return Ok(Gathered::Part);
        }
        let (name, body) = (Cow::Borrowed(frame.name), Cow::Borrowed(frame.body));
        Ok(Gathered::Whole(Command { id: frame.id, flags: frame.flags, name, body }))
    }

    fn begin(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        if !is_name(frame.name) {
            return Err(format!("COMMAND with the name {:?}", frame.name));
        }
        if frame.id != 0 {
            if frame.id <= self.last_id {
                return Err(format!("COMMAND id {} behind {}", frame.id, self.last_id));
            }
            self.last_id = frame.id;
        }
        Ok(())
    }

    fn abort(&mut self, frame: &Frame<'_>) -> Result<Gathered<'static>, String> {
        if frame.flags & MORE != 0 || !frame.name.is_empty() || !frame.body.is_empty() || frame.id == 0 {
            return Err("an abort with MORE, a name, a body or id 0".into());
        }
        match self.halves.remove(&frame.id) {
            Some(_) => Ok(Gathered::Aborted),
            None => Err(format!("an abort of {}, of which nothing is half received", frame.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame<'a>(flags: u8, id: u32, name: &'a str, body: &'a [u8]) -> Frame<'a> {
        Frame { kind: COMMAND, flags, id, name, body }
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let mut out = Vec::new();
        encode(&mut out, HELLO, 0, 1, "r1", b"key");
        assert_eq!(out, [1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, b'r', b'1', b'k', b'e', b'y']);
    }

    #[test]
    fn a_welcome_says_the_sizes_of_the_contract() {
        let body = |bytes: usize| {
            format!(
                r#"{{"heartbeat_interval_ms":60000,"heartbeat_timeout_ms":20000,"max_message_bytes":{bytes},"max_fragment_bytes":16384}}"#
            )
        };
        let parse = |flags, id, name, body: &str| {
            let frame = Frame { kind: WELCOME, flags, id, name, body: body.as_bytes() };
            Welcome::parse(&frame).map(|welcome| (welcome.heartbeat_interval, welcome.heartbeat_timeout))
        };
        assert_eq!(parse(JSON, 1, "s", &body(MAX_MESSAGE_BYTES)), Ok((60_000_000_000, 20_000_000_000)));
        assert!(parse(JSON, 1, "s", &body(1)).is_err());
        assert!(parse(JSON, 1, "", &body(MAX_MESSAGE_BYTES)).is_err());
        assert!(parse(JSON, 2, "s", &body(MAX_MESSAGE_BYTES)).is_err());
        assert!(parse(0, 1, "s", &body(MAX_MESSAGE_BYTES)).is_err());
        assert!(parse(JSON, 1, "s", "{}").is_err());
    }

    #[test]
    fn a_frame_decodes_only_when_it_is_whole() {
        let mut out = Vec::new();
        encode(&mut out, EVENT, JSON | RETAIN, 0, "a/b", b"{}");
        for cut in 0..out.len() {
            assert_eq!(decode(&out[..cut]), Ok(None), "cut at {cut}");
        }
        let expected = Frame { kind: EVENT, flags: JSON | RETAIN, id: 0, name: "a/b", body: b"{}" };
        assert_eq!(decode(&out), Ok(Some((expected, out.len()))));
    }

    #[test]
    fn limits_are_refused_by_the_header_alone() {
        let mut header = [0u8; HEADER_BYTES];
        header[8..].copy_from_slice(&16_385u32.to_be_bytes());
        assert!(decode(&header).is_err());
        header[8..].copy_from_slice(&16_384u32.to_be_bytes());
        assert_eq!(decode(&header), Ok(None));
        header[2..4].copy_from_slice(&129u16.to_be_bytes());
        assert!(decode(&header).is_err());
    }

    #[test]
    fn a_long_message_is_split_and_gathered_again() {
        for len in [0, 1, 16_384, 16_385, 32_768, 32_769, MAX_MESSAGE_BYTES] {
            let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut out = Vec::new();
            encode_message(&mut out, COMMAND, JSON, 5, "work", &body);
            let mut commands = Commands::default();
            let (mut rest, mut parts, mut whole) = (&out[..], 0, None);
            while let Some((frame, used)) = decode(rest).unwrap() {
                parts += 1;
                match commands.take(&frame).unwrap() {
                    Gathered::Whole(command) => {
                        whole = Some((command.flags, command.name.into_owned(), command.body.into_owned()))
                    }
                    other => assert_eq!(other, Gathered::Part),
                }
                rest = &rest[used..];
            }
            assert_eq!(parts, len.div_ceil(MAX_FRAGMENT_BYTES).max(1));
            assert_eq!(whole, Some((JSON, "work".to_string(), body)));
            assert!(commands.halves.is_empty());
        }
    }

    #[test]
    fn parts_of_several_commands_may_interleave() {
        let mut commands = Commands::default();
        assert_eq!(commands.take(&frame(MORE, 1, "a", b"1")), Ok(Gathered::Part));
        assert_eq!(commands.take(&frame(MORE | JSON, 0, "b", b"x")), Ok(Gathered::Part));
        assert!(matches!(commands.take(&frame(0, 2, "c", b"")), Ok(Gathered::Whole(_))));
        let Ok(Gathered::Whole(command)) = commands.take(&frame(JSON, 0, "", b"y")) else {
            panic!("not whole")
        };
        assert_eq!((command.name.as_ref(), command.body.as_ref()), ("b", &b"xy"[..]));
        assert_eq!(commands.take(&frame(ERROR, 1, "", b"")), Ok(Gathered::Aborted));
    }

    #[test]
    fn breaches_of_the_server_are_named() {
        let begun = || {
            let mut commands = Commands::default();
            commands.take(&frame(MORE, 4, "a", b"1")).unwrap();
            commands
        };
        for bad in [
            frame(JSON, 4, "", b"2"),
            frame(0, 4, "a", b"2"),
            frame(MORE, 4, "", b""),
            frame(0, 3, "a", b""),
            frame(0, 5, "", b""),
            frame(0, 5, "a b", b""),
            frame(RETAIN, 5, "a", b""),
            frame(ERROR, 3, "", b""),
            frame(ERROR, 4, "", b"why"),
        ] {
            assert!(begun().take(&bad).is_err(), "{bad:?}");
        }
    }
}
