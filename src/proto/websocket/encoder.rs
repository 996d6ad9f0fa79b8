//! Frames that the server sends: never fragmented, never masked (RFC 6455 section 5.1). So one encoded frame
//! serves any number of clients.

use bytes::{Buf, Bytes};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;
/// The longest header of an unmasked frame, in bytes.
const MAX_HEADER_BYTES: usize = 10;
/// Room behind its end that a finished [`TextFrame`] keeps at most, in bytes.
const MAX_SPARE_BYTES: usize = 64;
/// How much of its buffer a finished [`TextFrame`] may leave unused, in bytes: behind it, and in front of a shorter header.
pub const MAX_UNUSED_BYTES: usize = MAX_SPARE_BYTES + MAX_HEADER_BYTES;

fn header(opcode: OpCode, payload_len: usize) -> ([u8; MAX_HEADER_BYTES], usize) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut bytes = [0; MAX_HEADER_BYTES];
    header.format(payload_len as u64, &mut &mut bytes[..]).expect("the longest unmasked header fits");
    (bytes, header.len(payload_len as u64))
}

fn write(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let (header, len) = header(opcode, payload.len());
    out.reserve(len + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// The header of a text message of `payload_len` bytes, and how many of the ten bytes it takes.
pub fn text_header(payload_len: usize) -> ([u8; MAX_HEADER_BYTES], usize) {
    header(OpCode::Data(Data::Text), payload_len)
}

/// Appends a text message. `payload` must be UTF-8.
pub fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(std::str::from_utf8(payload).is_ok());
    write(out, OpCode::Data(Data::Text), payload);
}

/// Appends a binary message.
pub fn write_binary(out: &mut Vec<u8>, payload: &[u8]) {
    write(out, OpCode::Data(Data::Binary), payload);
}

/// A PING without payload.
pub fn ping() -> &'static [u8; 2] {
    &[0x89, 0]
}

/// Appends the PONG for a PING with that payload, at most [`MAX_CONTROL_BYTES`] long as the decoder has seen
/// to.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(payload.len() <= MAX_CONTROL_BYTES);
    write(out, OpCode::Control(Control::Pong), payload);
}

/// Appends a close frame. A reason that does not fit is cut between two characters.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_BYTES - 2)];
    let (header, len) = header(OpCode::Control(Control::Close), 2 + reason.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// A text message written in place: the payload's length is known only behind it, the header stands before
/// it, so room for the longest header is left in front and the payload is never moved.
#[derive(Debug)]
pub struct TextFrame {
    buffer: Vec<u8>,
}

impl TextFrame {
    /// Room for a payload of `capacity` bytes; it may become longer.
    pub fn begin(capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(MAX_HEADER_BYTES + capacity);
        buffer.resize(MAX_HEADER_BYTES, 0);
        Self { buffer }
    }

    /// Where the payload, UTF-8, is to be appended. What is there already must stay.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The whole frame, to be shared by all who are sent it. It may wait for long, so it does not keep much room.
    pub fn finish(mut self) -> Bytes {
        debug_assert!(std::str::from_utf8(&self.buffer[MAX_HEADER_BYTES..]).is_ok());
        let (header, len) = text_header(self.buffer.len() - MAX_HEADER_BYTES);
        let unused = MAX_HEADER_BYTES - len;
        self.buffer[unused..MAX_HEADER_BYTES].copy_from_slice(&header[..len]);
        if self.buffer.capacity() - self.buffer.len() > MAX_SPARE_BYTES {
            self.buffer.shrink_to_fit();
        }
        let mut frame = Bytes::from(self.buffer);
        frame.advance(unused);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        let header = |len| {
            let (bytes, used) = text_header(len);
            bytes[..used].to_vec()
        };
        assert_eq!(header(0), [0x81, 0]);
        assert_eq!(header(125), [0x81, 125]);
        assert_eq!(header(126), [0x81, 126, 0, 126]);
        assert_eq!(header(65_535), [0x81, 126, 0xFF, 0xFF]);
        assert_eq!(header(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_frame_in_place_equals_one_written_out() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut expected = Vec::new();
            write_text(&mut expected, &payload);
            let mut frame = TextFrame::begin(16);
            frame.payload().extend_from_slice(&payload);
            assert_eq!(frame.finish(), expected);
        }
    }

    #[test]
    fn control_frames() {
        let mut out = ping().to_vec();
        write_pong(&mut out, b"hi");
        write_close(&mut out, 1001, "draining");
        write_binary(&mut out, b"\xFF");
        assert_eq!(out, b"\x89\x00\x8A\x02hi\x88\x0A\x03\xE9draining\x82\x01\xFF");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, 1002, &"€".repeat(50));
        assert_eq!(out[1], 2 + 123);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("€".repeat(41).as_str()));
        out.clear();
        write_close(&mut out, 1002, &"é".repeat(62));
        assert_eq!(out[1], 2 + 122);
    }
}
