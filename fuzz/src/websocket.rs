//! WebSocket messages: the decoder against a plain reading of RFC 6455 section 5.2, and what the encoder writes.

use super::pieces::{cuttings, feed};
use berth::proto::websocket::{
    Decoder, Fault, Limits, MAX_CONTROL_BYTES, Message, TextFrame, write_binary, write_close, write_pong,
    write_text,
};

/// Low enough for an input of any size to go over it.
const MAX_MESSAGE_BYTES: usize = 1000;

/// A message by its opcode, and its payload; of a close frame with the code in front.
type Whole = (u8, Vec<u8>);

pub fn check(data: &[u8]) {
    for binary in [true, false] {
        let limits = Limits { max_message_bytes: MAX_MESSAGE_BYTES, binary };
        let whole = decode(&[data], &limits);
        for pieces in cuttings(data) {
            assert_eq!(decode(&pieces, &limits), whole, "the cut changed the meaning");
        }
        check_against_plain(data, binary, &whole);
    }
    check_encoder(data);
}

fn decode(pieces: &[&[u8]], limits: &Limits) -> (Vec<Whole>, Option<Fault>) {
    let (mut decoder, mut all, mut fault) = (Decoder::default(), Vec::new(), None);
    let mut received = 0;
    feed(pieces, |waiting| {
        let len = waiting.len();
        let mut input = waiting;
        loop {
            let next = decoder.next(&mut input, limits);
            let taken = len - input.len();
            match next {
                Ok(Some(message)) => all.push(owned(message)),
                Ok(None) => {
                    received += taken;
                    assert!(decoder.held_bytes() <= (2 * received).max(8), "{} held", decoder.held_bytes());
                    assert!(input.len() <= 14 + MAX_CONTROL_BYTES, "too much is left to the caller");
                    return Some(taken);
                }
                Err(error) => {
                    fault = Some(error);
                    return None;
                }
            }
        }
    });
    (all, fault)
}

fn owned(message: Message<'_>) -> Whole {
    match message {
        Message::Text(text) => (1, text.into_owned().into_bytes()),
        Message::Binary(bytes) => (2, bytes.into_owned()),
        Message::Close { code: None, .. } => (8, Vec::new()),
        Message::Close { code: Some(code), reason } => (8, [&code.to_be_bytes(), reason.as_bytes()].concat()),
        Message::Ping(payload) => (9, payload.to_vec()),
        Message::Pong(payload) => (10, payload.to_vec()),
    }
}

/// A frame as it stands, with what has come of its payload, unmasked.
struct Frame {
    first: u8,
    masked: bool,
    shortest: bool,
    payload_len: u64,
    payload: Vec<u8>,
}

fn plain_frame(input: &mut &[u8]) -> Option<Frame> {
    let rest = &mut *input;
    let [first, second] = *rest.split_off(..2)? else { return None };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (payload_len, least) = match second & 0x7f {
        126 => (number(rest.split_off(..2)?), 126),
        127 => (number(rest.split_off(..8)?), 65_536),
        length => (u64::from(length), 0),
    };
    let masked = second & 0x80 != 0;
    let mask = if masked { rest.split_off(..4)? } else { &[0; 4] };
    let here = rest.len().min(usize::try_from(payload_len).unwrap_or(usize::MAX));
    let payload =
        rest.split_off(..here)?.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some(Frame {
        first,
        masked,
        shortest: payload_len >= least && payload_len >> 63 == 0,
        payload_len,
        payload,
    })
}

/// The messages that there must be, and how it must end: `Some(true)` with a fault, `Some(false)` without, `None` where
/// a header is cut off, of which a decoder may or may not judge what there is.
fn plain(mut input: &[u8], binary: bool) -> (Vec<Whole>, Option<bool>) {
    let (mut all, mut message) = (Vec::new(), None::<Whole>);
    while !input.is_empty() {
        let Some(frame) = plain_frame(&mut input) else { return (all, None) };
        let (last, opcode) = (frame.first & 0x80 != 0, frame.first & 0x0f);
        let complete = frame.payload.len() as u64 == frame.payload_len;
        let held = message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        let wrong = frame.first & 0x70 != 0
            || !frame.masked
            || !frame.shortest
            || match opcode {
                0 => message.is_none() || held + frame.payload_len > MAX_MESSAGE_BYTES as u64,
                1 | 2 => {
                    let allowed = binary || opcode == 1;
                    message.is_some() || !allowed || frame.payload_len > MAX_MESSAGE_BYTES as u64
                }
                8..=10 => {
                    !last || frame.payload_len > 125 || complete && opcode == 8 && !is_close(&frame.payload)
                }
                _ => true,
            };
        if wrong {
            return (all, Some(true));
        }
        if opcode >= 8 {
            if complete {
                all.push((opcode, frame.payload));
            }
            continue;
        }
        let (kind, mut bytes) = message.take().unwrap_or((opcode, Vec::new()));
        bytes.extend_from_slice(&frame.payload);
        let bad_text = kind == 1
            && str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_some() || complete && last);
        if bad_text {
            return (all, Some(true));
        }
        if complete && last {
            all.push((kind, bytes));
        } else {
            message = Some((kind, bytes));
        }
    }
    (all, Some(false))
}

fn is_close(payload: &[u8]) -> bool {
    let Some((code, reason)) = payload.split_first_chunk() else { return payload.is_empty() };
    let is_code = matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999);
    is_code && str::from_utf8(reason).is_ok()
}

fn check_against_plain(data: &[u8], binary: bool, (messages, fault): &(Vec<Whole>, Option<Fault>)) {
    let (expected, faulty) = plain(data, binary);
    assert_eq!(*messages, expected);
    assert!(faulty.is_none_or(|faulty| faulty == fault.is_some()), "{fault:?}, but {faulty:?}");
    assert!(fault.is_none_or(|fault| [1002, 1003, 1007, 1009].contains(&fault.code)));
}

/// The data is a payload. What the server writes becomes a client's frame when it is masked, and must decode.
fn check_encoder(data: &[u8]) {
    let limits = Limits { max_message_bytes: data.len(), binary: true };
    let decoded = |frame: &[u8]| decode(&[&masked(frame)], &limits);
    let mut frame = Vec::new();
    write_binary(&mut frame, data);
    assert_eq!(decoded(&frame), (vec![(2, data.to_vec())], None));

    let short = &data[..data.len().min(MAX_CONTROL_BYTES)];
    frame.clear();
    write_pong(&mut frame, short);
    assert_eq!(decoded(&frame), (vec![(10, short.to_vec())], None));

    let text = String::from_utf8_lossy(data);
    let limits = Limits { max_message_bytes: text.len(), binary: false };
    frame.clear();
    write_text(&mut frame, text.as_bytes());
    assert_eq!(decode(&[&masked(&frame)], &limits), (vec![(1, text.as_bytes().to_vec())], None));
    let mut in_place = TextFrame::begin(0);
    in_place.payload().extend_from_slice(text.as_bytes());
    assert_eq!(in_place.finish(), frame);

    frame.clear();
    write_close(&mut frame, 1001, &text);
    let (messages, fault) = decode(&[&masked(&frame)], &limits);
    let [(8, close)] = &messages[..] else { panic!("{messages:?}, {fault:?}") };
    let (code, reason) = close.split_at(2);
    assert_eq!(code, 1001_u16.to_be_bytes());
    assert!(text.as_bytes().starts_with(reason) && reason.len() <= MAX_CONTROL_BYTES - 2);
    let next = text[reason.len()..].chars().next().map_or(usize::MAX, |next| reason.len() + next.len_utf8());
    assert!(next > MAX_CONTROL_BYTES - 2, "cut before it had to be");
}

/// The same frame as a client would send it.
fn masked(frame: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x12, 0xf4, 0x56, 0x9a];
    let header_len = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let (header, payload) = frame.split_at(header_len);
    let mut out = header.to_vec();
    out[1] |= 0x80;
    out.extend_from_slice(&KEY);
    out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}
