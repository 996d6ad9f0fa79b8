//! The client's side of RFC 6455: the upgrade request, masked frames out, unmasked frames in.

use std::borrow::Cow;

use crate::http;
use crate::random::Random;

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
const CONTINUATION: u8 = 0x0;

/// Key and accept value are the example of RFC 6455, section 1.3: a known answer needs no SHA-1 on this side.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The upgrade request for `/ws`, with an Origin of the same host if `page`.
pub fn upgrade_request(host: &str, page: bool) -> String {
    let origin = if page { format!("Origin: http://{host}\r\n") } else { String::new() };
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{origin}\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The length of the answer to the upgrade request at the start of `bytes`, or `None` while it is incomplete.
///
/// # Errors
/// An answer that is not the upgrade.
pub fn upgraded(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some((response, used)) = http::decode(bytes)? else { return Ok(None) };
    if response.status != 101 || response.accept != Some(ACCEPT) {
        let body = String::from_utf8_lossy(response.body);
        return Err(format!("upgrade: {} {body}, accept {:?}", response.status, response.accept));
    }
    Ok(Some(used))
}

/// Appends one masked frame (section 5.3).
pub fn encode(out: &mut Vec<u8>, opcode: u8, payload: &[u8], random: &mut Random) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = (random.draw() as u32).to_be_bytes();
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// One frame from the server.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    pub fin: bool,
    pub opcode: u8,
    pub payload: &'a [u8],
}

/// The frame at the start of `bytes` and its length, or `None` while it is incomplete.
///
/// # Errors
/// What a server must not send (section 5.2): reserved bits, a mask, a control frame that is long or fragmented.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let Some(&[first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err("a frame with a reserved bit or a mask".into());
    }
    if opcode >= CLOSE && (!fin || second > 125) {
        return Err("a control frame that is long or fragmented".into());
    }
    let (head, len): (usize, usize) = match second {
        126 => match bytes.get(2..4) {
            Some(len) => (4, usize::from(u16::from_be_bytes(len.try_into().expect("two bytes")))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(len) => (10, u64::from_be_bytes(len.try_into().expect("eight bytes")) as usize),
            None => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    match bytes.get(head..head.saturating_add(len)) {
        Some(payload) => Ok(Some((Frame { fin, opcode, payload }, head + len))),
        None => Ok(None),
    }
}

/// What a frame completed.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    Text(Cow<'a, [u8]>),
    Control(u8, &'a [u8]),
    Part,
}

/// Fragments of a text message that is not complete yet.
#[derive(Default)]
pub struct Fragments(Option<Vec<u8>>);

impl Fragments {
    /// # Errors
    /// A binary message, which the contract does not know, or fragments out of turn (section 5.4).
    pub fn take<'a>(&mut self, frame: &Frame<'a>) -> Result<Message<'a>, String> {
        match (frame.opcode, frame.fin, &mut self.0) {
            (TEXT, true, None) => Ok(Message::Text(Cow::Borrowed(frame.payload))),
            (TEXT, false, None) => {
                self.0 = Some(frame.payload.to_vec());
                Ok(Message::Part)
            }
            (CONTINUATION, fin, Some(half)) => {
                half.extend_from_slice(frame.payload);
                if !fin {
                    return Ok(Message::Part);
                }
                Ok(Message::Text(Cow::Owned(self.0.take().expect("just matched"))))
            }
            (CLOSE | PING | PONG, _, _) => Ok(Message::Control(frame.opcode, frame.payload)),
            (opcode, ..) => Err(format!("opcode {opcode:#x} out of turn")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server would see: our frame, unmasked.
    fn unmask(frame: &[u8]) -> Vec<u8> {
        let head = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let (mask, payload) = frame[head..].split_at(4);
        payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }

    #[test]
    fn what_we_send_is_masked_in_all_three_lengths() {
        let mut random = Random::new(3);
        for (len, second) in [(0, 0x80), (125, 0xfd), (126, 0xfe), (65_535, 0xfe), (65_536, 0xff)] {
            let payload = vec![b'x'; len];
            let mut out = Vec::new();
            encode(&mut out, TEXT, &payload, &mut random);
            assert_eq!(out[..2], [0x81, second]);
            assert_eq!(unmask(&out), payload);
        }
    }

    #[test]
    fn a_frame_decodes_only_when_it_is_whole() {
        for head in [&[0x81, 2][..], &[0x81, 126, 0, 2], &[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 2]] {
            let bytes = [head, b"hi"].concat();
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None));
            }
            assert_eq!(
                decode(&bytes),
                Ok(Some((Frame { fin: true, opcode: TEXT, payload: b"hi" }, bytes.len())))
            );
        }
        assert!(decode(&[0x81, 0x82]).is_err());
        assert!(decode(&[0xc1, 0]).is_err());
        assert!(decode(&[0x09, 0]).is_err());
    }

    #[test]
    fn fragments_are_joined_and_controls_pass_between_them() {
        let mut fragments = Fragments::default();
        let mut take = |fin, opcode, payload: &'static [u8]| fragments.take(&Frame { fin, opcode, payload });
        assert_eq!(take(false, TEXT, b"he"), Ok(Message::Part));
        assert_eq!(take(true, PING, b"?"), Ok(Message::Control(PING, b"?")));
        assert!(take(true, TEXT, b"no").is_err());
        assert_eq!(take(true, CONTINUATION, b"llo"), Ok(Message::Text(Cow::Owned(b"hello".to_vec()))));
        assert!(take(true, CONTINUATION, b"").is_err());
        assert!(take(true, BINARY, b"").is_err());
    }
}
