//! Messages out of the bytes of a client (RFC 6455 sections 5 to 8), unmasked and checked where they lie.

use super::encoder::MAX_CONTROL_BYTES;
use super::mask::unmask;
use super::utf8::{NotUtf8, Utf8Collector};
use std::borrow::Cow;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// What a client has sent. Whatever lay whole in the input is borrowed from it.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'i> {
    Text(Cow<'i, str>),
    Binary(Cow<'i, [u8]>),
    Ping(&'i [u8]),
    Pong(&'i [u8]),
    /// Nothing may be sent behind it by the client: the caller stops reading.
    Close {
        code: Option<u16>,
        reason: &'i str,
    },
}

/// Why the connection must be failed (RFC 6455 section 7.1.7), with the code of the close frame that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// 1002 protocol, 1003 binary, 1007 not UTF-8, 1009 too big.
    pub code: u16,
    /// Fit for the close frame's reason.
    pub what: &'static str,
}

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, over all its fragments, in bytes.
    pub max_message_bytes: usize,
    /// Whether binary messages are taken. If not, one is refused with 1003 as soon as its header is seen.
    pub binary: bool,
}

/// The half-received message of one client. It owns heap only while there is one, and never more than twice
/// what came of it (and never less than 8 bytes), whatever its headers announce.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The data frame whose payload is not complete.
    frame: Option<DataFrame>,
    /// The message whose last frame is not complete.
    message: Option<Partial>,
}

#[derive(Debug)]
struct DataFrame {
    last: bool,
    remaining: usize,
    /// Turned so that it begins with the key of the next byte.
    mask: [u8; 4],
}

#[derive(Debug)]
enum Partial {
    Text(Utf8Collector),
    Binary(Vec<u8>),
}

impl Decoder {
    /// Takes one whole message or control frame off the front of `input`. What belongs to an unfinished
    /// message is consumed, unmasked, checked as UTF-8 at once and kept. `None`: more bytes are needed, and
    /// what is then left in `input` (an incomplete header or control frame, at most 130 bytes) is to be kept
    /// by the caller and given again in front of them.
    ///
    /// After a fault the decoder and the rest of `input` mean nothing any more.
    pub fn next<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &Limits,
    ) -> Result<Option<Message<'i>>, Fault> {
        loop {
            if let Some(message) = self.take_payload(input)? {
                return Ok(Some(message));
            }
            if self.frame.is_some() {
                return Ok(None);
            }
            let Some(header) = Header::parse(input)? else { return Ok(None) };
            match header.opcode {
                OpCode::Control(control) => return take_control(control, &header, input),
                OpCode::Data(data) => {
                    let payload_len = self.check_data(data, &header, limits)?;
                    take(input, header.len);
                    if header.last && self.message.is_none() && payload_len <= input.len() {
                        let payload = take(input, payload_len);
                        unmask(payload, header.mask);
                        return whole_message(data, payload).map(Some);
                    }
                    self.message.get_or_insert_with(|| Partial::new(data));
                    let frame = DataFrame { last: header.last, remaining: payload_len, mask: header.mask };
                    self.frame = Some(frame);
                }
            }
        }
    }

    /// Bytes of the half-received message that have come.
    pub fn half_bytes(&self) -> usize {
        match &self.message {
            None => 0,
            Some(Partial::Text(text)) => text.len(),
            Some(Partial::Binary(bytes)) => bytes.len(),
        }
    }

    /// Bytes of heap that the half-received message takes: its capacity, not only its length.
    pub fn held_bytes(&self) -> usize {
        match &self.message {
            None => 0,
            Some(Partial::Text(text)) => text.capacity(),
            Some(Partial::Binary(bytes)) => bytes.capacity(),
        }
    }

    /// Takes what has come of the current data frame, and the message if it was the last of it.
    fn take_payload<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Message<'i>>, Fault> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else { return Ok(None) };
        let len = frame.remaining.min(input.len());
        let payload = take(input, len);
        unmask(payload, frame.mask);
        frame.mask.rotate_left(len % 4);
        frame.remaining -= len;
        message.push(payload)?;
        if frame.remaining > 0 {
            return Ok(None);
        }
        let last = frame.last;
        self.frame = None;
        if last { self.message.take().map(Partial::finish).transpose() } else { Ok(None) }
    }

    /// Checks the header of a data frame against the message under way, and gives its payload's length.
    fn check_data(&self, data: Data, header: &Header, limits: &Limits) -> Result<usize, Fault> {
        match (data, &self.message) {
            (Data::Continue, None) => return Err(protocol("continuation of nothing")),
            (Data::Continue, Some(_)) => {}
            (_, Some(_)) => return Err(protocol("new message inside a fragmented one")),
            (Data::Binary, None) if !limits.binary => {
                return Err(Fault { code: 1003, what: "binary messages are not taken" });
            }
            (_, None) => {}
        }
        let room = limits.max_message_bytes.saturating_sub(self.message.as_ref().map_or(0, Partial::len));
        usize::try_from(header.payload_len)
            .ok()
            .filter(|len| *len <= room)
            .ok_or(Fault { code: 1009, what: "message too big" })
    }
}

impl Partial {
    fn new(data: Data) -> Self {
        match data {
            Data::Binary => Self::Binary(Vec::new()),
            _ => Self::Text(Utf8Collector::default()),
        }
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), NotUtf8> {
        match self {
            Self::Text(text) => text.push(payload),
            Self::Binary(bytes) => {
                bytes.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn finish<'i>(self) -> Result<Message<'i>, Fault> {
        Ok(match self {
            Self::Text(text) => Message::Text(Cow::Owned(text.finish()?)),
            Self::Binary(bytes) => Message::Binary(Cow::Owned(bytes)),
        })
    }
}

/// A frame's header, as far as it can be checked without its place among others.
struct Header {
    last: bool,
    opcode: OpCode,
    mask: [u8; 4],
    payload_len: u64,
    /// Bytes that the header itself takes.
    len: usize,
}

impl Header {
    /// `None`: it is not complete.
    fn parse(input: &[u8]) -> Result<Option<Self>, Fault> {
        let mut cursor = Cursor::new(input);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| protocol("reserved opcode"))?;
        let Some((header, payload_len)) = parsed else { return Ok(None) };
        let len = cursor.position();
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol("reserved bit set"));
        }
        let Some(mask) = header.mask else { return Err(protocol("frame not masked")) };
        if let OpCode::Control(_) = header.opcode {
            if !header.is_final {
                return Err(protocol("fragmented control frame"));
            }
            if payload_len > MAX_CONTROL_BYTES as u64 {
                return Err(protocol("control frame too long"));
            }
        }
        if len != header.len(payload_len) as u64 || payload_len > i64::MAX as u64 {
            return Err(protocol("bad form of length"));
        }
        Ok(Some(Self { last: header.is_final, opcode: header.opcode, mask, payload_len, len: len as usize }))
    }
}

/// Takes a control frame, header and all, if it is complete.
fn take_control<'i>(
    control: Control,
    header: &Header,
    input: &mut &'i mut [u8],
) -> Result<Option<Message<'i>>, Fault> {
    let len = header.len + header.payload_len as usize;
    if input.len() < len {
        return Ok(None);
    }
    let payload = &mut take(input, len)[header.len..];
    unmask(payload, header.mask);
    Ok(Some(match control {
        Control::Ping => Message::Ping(payload),
        Control::Pong => Message::Pong(payload),
        Control::Close => close(payload)?,
        Control::Reserved(_) => return Err(protocol("reserved opcode")),
    }))
}

fn whole_message(data: Data, payload: &[u8]) -> Result<Message<'_>, Fault> {
    Ok(match data {
        Data::Binary => Message::Binary(Cow::Borrowed(payload)),
        _ => Message::Text(Cow::Borrowed(std::str::from_utf8(payload).map_err(|_| NotUtf8)?)),
    })
}

/// The body of a close frame (RFC 6455 sections 5.5.1 and 7.4).
fn close(payload: &[u8]) -> Result<Message<'_>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Message::Close { code: None, reason: "" })
        } else {
            Err(protocol("half a close code"))
        };
    };
    let code = u16::from_be_bytes(*code);
    // The others are reserved, for use inside an endpoint only, or not registered.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol("bad close code"));
    }
    Ok(Message::Close { code: Some(code), reason: std::str::from_utf8(reason).map_err(|_| NotUtf8)? })
}

fn take<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    input.split_off_mut(..len).expect("the caller has looked at the length")
}

fn protocol(what: &'static str) -> Fault {
    Fault { code: 1002, what }
}

impl From<NotUtf8> for Fault {
    fn from(_: NotUtf8) -> Self {
        Self { code: 1007, what: "not UTF-8" }
    }
}
