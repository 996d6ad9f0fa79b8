//! A router's session: HELLO first and once, then frames; parts of events are gathered here, parts of replies in the
//! command that awaits them.

use crate::clock::Time;
use crate::core::commands::OfRouter;
use crate::core::streams;
use crate::id::{self, SessionId};
use crate::limits::{HeartbeatSettings, MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use crate::proto::router::{Fault, Frame, Kind, decode, flags};
use crate::session::heartbeat::Heartbeat;
use std::borrow::Cow;
use std::time::Duration;

#[derive(Debug)]
pub struct RouterSession {
    pub bound: Option<Bound>,
    pub heartbeat: Heartbeat,
    /// The commands that await this router's reply.
    pub commands: OfRouter,
    /// The streams that it sends or is to send, and those that an ACK is due for.
    pub streams: streams::OfRouter,
    pub acks: streams::Acks,
    /// Bytes of half-received messages: of an event here, of replies in their commands.
    half_bytes: usize,
    event: Option<Box<HalfEvent>>,
    last_id: u32,
    last_stream: u32,
}

/// What a session has after HELLO.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub shadow: u32,
    pub session: SessionId,
}

#[derive(Debug)]
struct HalfEvent {
    topic: Box<str>,
    flags: u8,
    body: Vec<u8>,
}

/// What a router said.
#[derive(Debug, PartialEq)]
pub enum FromRouter<'i> {
    Hello {
        router: &'i str,
    },
    Ping {
        id: u32,
        body: &'i [u8],
    },
    Pong,
    Bye {
        code: &'i str,
    },
    ReplyPart {
        id: u32,
        flags: u8,
        body: &'i [u8],
    },
    Event {
        topic: Cow<'i, str>,
        flags: u8,
        body: Cow<'i, [u8]>,
    },
    /// A row of a stream.
    Item {
        id: u32,
        json: bool,
        seq: u64,
        row: &'i [u8],
    },
    /// The end of a stream: the number behind its last row.
    End {
        id: u32,
        next: u64,
    },
    /// The end of a stream that failed.
    StreamError {
        id: u32,
        text: &'i str,
    },
}

impl RouterSession {
    pub fn new(now: Time) -> Self {
        Self {
            bound: None,
            heartbeat: Heartbeat::new(now),
            commands: OfRouter::default(),
            streams: streams::OfRouter::default(),
            acks: streams::Acks::default(),
            half_bytes: 0,
            event: None,
            last_id: 0,
            last_stream: 0,
        }
    }

    /// The next thing the router said, taken off the front of `input`; `None` when the next frame is not whole yet.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<FromRouter<'i>>, Fault> {
        loop {
            if self.bound.is_none() && input.first().is_some_and(|kind| *kind != Kind::Hello as u8) {
                self.check_sizes_first(input)?;
                if input.len() >= crate::proto::router::HEADER_BYTES {
                    return Err(Fault::Protocol("HELLO comes first"));
                }
            }
            let Some(frame) = decode(input)? else {
                return Ok(None);
            };
            if let Some(said) = self.meaning(frame)? {
                return Ok(Some(said));
            }
        }
    }

    /// `too_large` goes before everything else, before HELLO too.
    fn check_sizes_first(&self, input: &[u8]) -> Result<(), Fault> {
        match decode(&mut &*input) {
            Err(fault @ Fault::TooLarge(_)) => Err(fault),
            _ => Ok(()),
        }
    }

    fn meaning<'i>(&mut self, frame: Frame<'i>) -> Result<Option<FromRouter<'i>>, Fault> {
        Ok(Some(match frame.kind {
            Kind::Hello => self.hello(frame)?,
            Kind::Ping => FromRouter::Ping { id: frame.id, body: frame.body },
            Kind::Pong => FromRouter::Pong,
            Kind::Bye => FromRouter::Bye { code: frame.name },
            Kind::Reply => FromRouter::ReplyPart { id: frame.id, flags: frame.flags, body: frame.body },
            Kind::Event => return self.event_part(frame),
            Kind::Item => {
                let (seq, row) = leading_u64(frame.body);
                FromRouter::Item { id: frame.id, json: frame.flags & flags::JSON != 0, seq, row }
            }
            Kind::End if frame.flags & flags::ERROR != 0 => {
                FromRouter::StreamError { id: frame.id, text: std::str::from_utf8(frame.body).unwrap_or("") }
            }
            Kind::End => FromRouter::End { id: frame.id, next: leading_u64(frame.body).0 },
            Kind::Welcome | Kind::Command | Kind::Open | Kind::Ack | Kind::Cancel => {
                unreachable!("the decoder refuses what goes to routers only")
            }
        }))
    }

    /// In this order: frame, version, name, credential (which open mode does not read).
    fn hello<'i>(&mut self, frame: Frame<'i>) -> Result<FromRouter<'i>, Fault> {
        if self.bound.is_some() {
            return Err(Fault::Protocol("HELLO comes once"));
        }
        if frame.id != PROTOCOL_VERSION {
            return Err(Fault::UnsupportedVersion);
        }
        if !id::is_id(frame.name) {
            return Err(Fault::Protocol("a router id is 1 to 64 of A-Za-z0-9._:-"));
        }
        Ok(FromRouter::Hello { router: frame.name })
    }

    fn event_part<'i>(&mut self, frame: Frame<'i>) -> Result<Option<FromRouter<'i>>, Fault> {
        let more = frame.flags & flags::MORE != 0;
        let constant = frame.flags & !flags::MORE;
        let Some(mut half) = self.event.take() else {
            if frame.name.is_empty() {
                return Err(Fault::Protocol("an EVENT begins with its topic"));
            }
            if !more {
                let (topic, body) = (Cow::Borrowed(frame.name), Cow::Borrowed(frame.body));
                return Ok(Some(FromRouter::Event { topic, flags: constant, body }));
            }
            self.hold(frame.body.len())?;
            self.event = Some(Box::new(HalfEvent {
                topic: frame.name.into(),
                flags: constant,
                body: frame.body.to_vec(),
            }));
            return Ok(None);
        };
        if let Err(fault) = self.check_part(&frame, half.flags, half.body.len(), more) {
            self.event = Some(half); // kept with its account: the end of the session gives both back
            return Err(fault);
        }
        half.body.extend_from_slice(frame.body);
        if more {
            self.event = Some(half);
            return Ok(None);
        }
        self.half_bytes -= half.body.len() - frame.body.len();
        let HalfEvent { topic, flags, body } = *half;
        Ok(Some(FromRouter::Event { topic: Cow::Owned(topic.into()), flags, body: Cow::Owned(body) }))
    }

    /// A part behind the first, of a message of which `held` bytes have come: the same flags, no name, not too much.
    fn check_part(
        &mut self,
        frame: &Frame<'_>,
        first_flags: u8,
        held: usize,
        more: bool,
    ) -> Result<(), Fault> {
        if !frame.name.is_empty() {
            return Err(Fault::Protocol("a name in a later part"));
        }
        self.check_reply_part(frame.flags & !flags::MORE, first_flags, held, frame.body.len(), more)
    }

    /// The same for a part of a reply. When more is to come, its bytes are held from now on.
    pub fn check_reply_part(
        &mut self,
        part_flags: u8,
        first_flags: u8,
        held: usize,
        part: usize,
        more: bool,
    ) -> Result<(), Fault> {
        if held + part > MAX_MESSAGE_BYTES {
            return Err(Fault::TooLarge("a message over 1048576 bytes"));
        }
        if part_flags != first_flags {
            return Err(Fault::Protocol("changed flags in a later part"));
        }
        if more { self.hold(part) } else { Ok(()) }
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        if self.half_bytes + bytes > MAX_MESSAGE_BYTES {
            return Err(Fault::TooLarge("half-received messages over 1048576 bytes together"));
        }
        self.half_bytes += bytes;
        Ok(())
    }

    /// A gathered reply is whole, or its command is gone.
    pub fn let_go(&mut self, bytes: usize) {
        self.half_bytes -= bytes;
    }

    pub fn half_bytes(&self) -> usize {
        self.half_bytes
    }

    pub fn half_event_bytes(&self) -> usize {
        self.event.as_ref().map_or(0, |half| half.body.len())
    }

    /// Drops the half-received event, at the end.
    pub fn drop_half_event(&mut self) {
        if let Some(half) = self.event.take() {
            self.half_bytes -= half.body.len();
        }
    }

    /// The next correlation id: they count up from 1; 0 and ids in use are skipped after the wrap.
    pub fn next_id(&mut self, in_use: impl Fn(u32) -> bool) -> u32 {
        count_up(&mut self.last_id, in_use)
    }

    /// The next stream id: the same, counted apart.
    pub fn next_stream(&mut self, in_use: impl Fn(u32) -> bool) -> u32 {
        count_up(&mut self.last_stream, in_use)
    }

    pub fn deadline(&self, opened_at: Time, hello_timeout: Duration, heartbeat: &HeartbeatSettings) -> Time {
        match self.bound {
            None => opened_at + hello_timeout,
            Some(_) => self.heartbeat.deadline(heartbeat),
        }
    }
}

fn count_up(last: &mut u32, in_use: impl Fn(u32) -> bool) -> u32 {
    loop {
        *last = last.wrapping_add(1);
        if *last != 0 && !in_use(*last) {
            return *last;
        }
    }
}

/// The number that the body of an ITEM or END begins with, which the decoder has seen to, and what is behind it.
fn leading_u64(body: &[u8]) -> (u64, &[u8]) {
    body.split_first_chunk().map_or((0, body), |(number, rest)| (u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::router::system_frame;

    fn frame(kind: Kind, flags: u8, id: u32, name: &str, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        system_frame(&mut out, kind, flags, id, name, body);
        out
    }

    fn bound() -> RouterSession {
        let mut session = RouterSession::new(Time::ZERO);
        session.bound = Some(Bound { shadow: 0, session: crate::id::Mint::new(1).session() });
        session
    }

    #[test]
    fn hello_first_and_once_and_in_order() {
        let mut session = RouterSession::new(Time::ZERO);
        let hello = frame(Kind::Hello, 0, 1, "hub-1", b"credential");
        assert_eq!(session.next(&mut &hello[..]), Ok(Some(FromRouter::Hello { router: "hub-1" })));
        let version = frame(Kind::Hello, 0, 2, "bad name", b"");
        assert_eq!(session.next(&mut &version[..]), Err(Fault::UnsupportedVersion));
        let ping = frame(Kind::Ping, 0, 0, "", b"");
        assert!(matches!(session.next(&mut &ping[..]), Err(Fault::Protocol(_))));
        assert_eq!(session.next(&mut &ping[..5]), Ok(None));
        assert!(matches!(bound().next(&mut &hello[..]), Err(Fault::Protocol(_))));
    }

    #[test]
    fn events_in_parts_with_frames_between() {
        let mut session = bound();
        let mut bytes = frame(Kind::Event, flags::MORE | flags::JSON, 0, "a/b", b"[1,");
        bytes.extend(frame(Kind::Ping, 0, 7, "", b""));
        bytes.extend(frame(Kind::Event, flags::JSON, 0, "", b"2]"));
        let mut input = &bytes[..];
        assert_eq!(session.next(&mut input), Ok(Some(FromRouter::Ping { id: 7, body: b"" })));
        assert_eq!(session.half_bytes(), 3);
        let event =
            FromRouter::Event { topic: "a/b".into(), flags: flags::JSON, body: b"[1,2]".as_slice().into() };
        assert_eq!(session.next(&mut input), Ok(Some(event)));
        assert_eq!((session.half_bytes(), session.next(&mut input)), (0, Ok(None)));
    }

    #[test]
    fn later_parts_have_the_same_flags_and_no_name() {
        for (later_flags, name) in [(0, ""), (flags::JSON, "a")] {
            let mut bytes = frame(Kind::Event, flags::MORE | flags::JSON, 0, "a", b"1");
            bytes.extend(frame(Kind::Event, later_flags, 0, name, b"2"));
            assert!(matches!(bound().next(&mut &bytes[..]), Err(Fault::Protocol(_))));
        }
    }

    #[test]
    fn a_message_may_be_of_the_limit_and_not_over_it() {
        for (last, fits) in [(MAX_MESSAGE_BYTES % 16_384, true), (1, false)] {
            let mut bytes = frame(Kind::Event, flags::MORE, 0, "a", &[1; 16_384]);
            for _ in 0..MAX_MESSAGE_BYTES / 16_384 - 1 {
                bytes.extend(frame(Kind::Event, flags::MORE, 0, "", &[1; 16_384]));
            }
            bytes.extend(frame(Kind::Event, 0, 0, "", &vec![1; last]));
            let mut session = bound();
            let result = session.next(&mut &bytes[..]);
            assert_eq!(matches!(result, Ok(Some(FromRouter::Event { .. }))), fits);
            assert_eq!(matches!(result, Err(Fault::TooLarge(_))), !fits);
        }
    }

    #[test]
    fn ids_count_up_and_skip_zero_and_those_in_use() {
        let mut session = bound();
        assert_eq!((session.next_id(|_| false), session.next_id(|_| false)), (1, 2));
        session.last_id = u32::MAX - 1;
        assert_eq!(session.next_id(|_| false), u32::MAX);
        assert_eq!(session.next_id(|id| id <= 2), 3);
    }
}
