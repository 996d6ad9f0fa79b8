//! The decoder against what clients may and may not send; the section names are those of the Autobahn test
//! suite.

use super::*;
use proptest::prelude::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const LIMITS: Limits = Limits { max_message_bytes: 1000, binary: true };
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A message that owns what it says, for comparing.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Message<'_>> for Got {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Got::Text(text.into_owned()),
            Message::Binary(bytes) => Got::Binary(bytes.into_owned()),
            Message::Ping(payload) => Got::Ping(payload.to_vec()),
            Message::Pong(payload) => Got::Pong(payload.to_vec()),
            Message::Close { code, reason } => Got::Close(code, reason.to_owned()),
        }
    }
}

/// A masked frame; `first` is FIN, RSV bits and opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let (header, header_len) = text_header(payload.len());
    let mut frame = header[..header_len].to_vec();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Only a header, which announces a payload that never comes.
fn announce(first: u8, len: u64) -> Vec<u8> {
    let mut header = vec![first, 0x80 | 127];
    header.extend(len.to_be_bytes());
    header.extend(MASK);
    header
}

/// Feeds the pieces as a connection would: what the decoder leaves is put in front of the next one.
fn receive<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Got>, Result<Decoder, Fault>) {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    let mut kept = Vec::new();
    let mut received = 0;
    for piece in pieces {
        kept.extend_from_slice(piece);
        received += piece.len();
        let mut input = &mut kept[..];
        loop {
            match decoder.next(&mut input, limits) {
                Ok(Some(message)) => got.push(message.into()),
                Ok(None) => break,
                Err(fault) => return (got, Err(fault)),
            }
        }
        kept = input.to_vec();
        assert!(kept.len() <= 130, "only a header or control frame may be left");
        assert!(decoder.held_bytes() <= (2 * received).max(8));
    }
    (got, Ok(decoder))
}

fn messages(frames: &[Vec<u8>]) -> Vec<Got> {
    let (got, end) = receive([&frames.concat()[..]], &LIMITS);
    end.expect("no fault");
    got
}

#[track_caller]
fn refused(frames: &[Vec<u8>], code: u16) {
    let (_, end) = receive([&frames.concat()[..]], &LIMITS);
    assert_eq!(end.expect_err("a fault").code, code);
}

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

#[test]
fn framing_1() {
    assert_eq!(messages(&[frame(FIN | TEXT, b"")]), [text("")]);
    assert_eq!(messages(&[frame(FIN | TEXT, "κόσμε".as_bytes())]), [text("κόσμε")]);
    assert_eq!(messages(&[frame(FIN | BINARY, &[0xFE; 125])]), [Got::Binary(vec![0xFE; 125])]);
    let limits = Limits { max_message_bytes: 65_536, binary: true };
    for len in [126, 127, 128, 65_535, 65_536] {
        let message = frame(FIN | BINARY, &vec![7; len]);
        let (got, _) = receive([&message[..]], &limits);
        assert_eq!(got, [Got::Binary(vec![7; len])]);
        let (got, _) = receive(message.chunks(997), &limits);
        assert_eq!(got, [Got::Binary(vec![7; len])]);
    }
}

#[test]
fn a_message_that_lies_whole_in_the_input_is_not_copied() {
    let mut bytes = [frame(FIN | TEXT, b"one"), frame(FIN | BINARY, b"two")].concat();
    let mut input = &mut bytes[..];
    let mut decoder = Decoder::default();
    use std::borrow::Cow::Borrowed;
    assert!(matches!(decoder.next(&mut input, &LIMITS), Ok(Some(Message::Text(Borrowed("one"))))));
    assert!(matches!(decoder.next(&mut input, &LIMITS), Ok(Some(Message::Binary(Borrowed(b"two"))))));
    assert!(input.is_empty());
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn pings_and_pongs_2() {
    let payload = [0xFE; 125];
    assert_eq!(messages(&[frame(FIN | PING, b"")]), [Got::Ping(vec![])]);
    assert_eq!(messages(&[frame(FIN | PING, &payload)]), [Got::Ping(payload.to_vec())]);
    assert_eq!(messages(&[frame(FIN | PONG, b"unasked")]), [Got::Pong(b"unasked".to_vec())]);
    refused(&[frame(FIN | PING, &[0; 126])], 1002);
    refused(&[frame(FIN | PONG, &[0; 126])], 1002);
    refused(&[announce(FIN | PING, 65_536)], 1002);
}

#[test]
fn reserved_bits_3() {
    for rsv in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            refused(&[frame(FIN | rsv | opcode, b"")], 1002);
        }
    }
}

#[test]
fn reserved_opcodes_4() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refused(&[frame(FIN | opcode, b"")], 1002);
        refused(&[frame(FIN | opcode, b"payload")], 1002);
    }
}

#[test]
fn fragmentation_5() {
    let pinged = [
        frame(TEXT, b"frag"),
        frame(FIN | PING, b"p"),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, b"ment"),
        frame(FIN | TEXT, b"next"),
    ];
    assert_eq!(messages(&pinged), [Got::Ping(b"p".to_vec()), text("fragment"), text("next")]);
    let empty = [frame(BINARY, b""), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, b"")];
    assert_eq!(messages(&empty), [Got::Binary(vec![])]);
    refused(&[frame(PING, b"")], 1002);
    refused(&[frame(PONG, b"")], 1002);
    refused(&[frame(CLOSE, b"")], 1002);
    refused(&[frame(FIN | CONTINUATION, b"x")], 1002);
    refused(&[frame(CONTINUATION, b"x")], 1002);
    refused(&[frame(FIN | TEXT, b"x"), frame(FIN | CONTINUATION, b"x")], 1002);
    refused(&[frame(TEXT, b"x"), frame(FIN | TEXT, b"x")], 1002);
    refused(&[frame(TEXT, b"x"), frame(BINARY, b"x")], 1002);
}

#[test]
fn utf8_6() {
    let across = [frame(TEXT, b"\xE2"), frame(CONTINUATION, b"\x82"), frame(FIN | CONTINUATION, b"\xAC")];
    assert_eq!(messages(&across), [text("€")]);
    refused(&[frame(FIN | TEXT, b"\xCE\xBA\xED\xA0\x80")], 1007);
    refused(&[frame(FIN | TEXT, b"a\xE2\x82")], 1007);
    refused(&[frame(TEXT, b"a\xE2\x82"), frame(FIN | CONTINUATION, b"")], 1007);
    assert_eq!(messages(&[frame(FIN | BINARY, b"\xFF")]), [Got::Binary(vec![0xFF])]);
}

#[test]
fn a_bad_byte_fails_before_its_sequence_frame_and_message_are_complete() {
    refused(&[frame(TEXT, b"\xED\xA0")], 1007);
    let message = frame(FIN | TEXT, b"\xED\xA0\x80 and much more");
    let until = |len| receive([&message[..len]], &LIMITS).1.map(drop);
    assert_eq!(until(6 + 1), Ok(()));
    assert_eq!(until(6 + 2).unwrap_err().code, 1007);
}

#[test]
fn closing_7() {
    let close = |code: u16, reason: &[u8]| frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat());
    assert_eq!(messages(&[frame(FIN | CLOSE, b"")]), [Got::Close(None, String::new())]);
    assert_eq!(messages(&[close(1000, b"bye")]), [Got::Close(Some(1000), "bye".to_owned())]);
    assert_eq!(messages(&[close(1000, &[b'x'; 123])]), [Got::Close(Some(1000), "x".repeat(123))]);
    refused(&[frame(FIN | CLOSE, b"\x03")], 1002);
    refused(&[close(1000, &[b'x'; 124])], 1002);
    refused(&[close(1000, b"\xED\xA0\x80")], 1007);
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        assert_eq!(messages(&[close(code, b"")]), [Got::Close(Some(code), String::new())]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        refused(&[close(code, b"")], 1002);
    }
}

#[test]
fn limits_9() {
    assert_eq!(messages(&[frame(FIN | TEXT, &[b'x'; 1000])]), [text(&"x".repeat(1000))]);
    refused(&[announce(FIN | TEXT, 65_536)], 1009);
    refused(&[announce(FIN | TEXT, i64::MAX as u64)], 1009);
    refused(&[frame(FIN | TEXT, &[b'x'; 1001])[..8].to_vec()], 1009);
    // By the header and what is held, before the payload comes.
    refused(&[frame(TEXT, &[b'x'; 999]), frame(CONTINUATION, b"xx")[..6].to_vec()], 1009);
    refused(
        &[
            frame(TEXT, "x".repeat(997).as_bytes()),
            frame(CONTINUATION, b"\xE2\x82"),
            frame(CONTINUATION, b"\xACx"),
        ],
        1009,
    );
}

#[test]
fn binary_is_refused_by_its_header_where_it_is_not_taken() {
    let limits = Limits { binary: false, ..LIMITS };
    let code = |bytes: &[u8]| receive([bytes], &limits).1.map(drop).unwrap_err().code;
    assert_eq!(code(&frame(FIN | BINARY, b"payload")[..6]), 1003);
    assert_eq!(code(&frame(BINARY, b"")), 1003);
    assert_eq!(code(&[frame(TEXT, b"x"), frame(BINARY, b"x")].concat()), 1002);
}

#[test]
fn a_client_must_mask() {
    refused(&[vec![FIN | TEXT, 1, b'x']], 1002);
    refused(&[vec![FIN | PING, 0]], 1002);
}

#[test]
fn lengths_must_take_the_shortest_form() {
    refused(&[vec![FIN | TEXT, 0x80 | 126, 0, 125, 1, 2, 3, 4]], 1002);
    refused(&[announce(FIN | TEXT, 125)], 1002);
    refused(&[announce(FIN | TEXT, 65_535)], 1002);
    refused(&[announce(FIN | TEXT, 1 << 63)], 1002);
    refused(&[vec![FIN | PING, 0x80 | 126, 0, 5, 1, 2, 3, 4]], 1002);
}

#[test]
fn memory_is_taken_for_what_came_and_not_for_what_was_announced() {
    let limits = Limits { max_message_bytes: 1 << 20, binary: true };
    let message = frame(FIN | TEXT, &vec![b'x'; 1 << 20]);
    let (_, decoder) = receive([&message[..14]], &limits);
    assert_eq!(decoder.unwrap().held_bytes(), 0);
    let (_, decoder) = receive([&message[..14 + 100]], &limits);
    let held = decoder.unwrap().held_bytes();
    assert!((100..=200).contains(&held), "{held}");
    let (got, decoder) = receive(message.chunks(1460), &limits);
    assert_eq!((got.len(), decoder.unwrap().held_bytes()), (1, 0));
}

#[test]
fn an_incomplete_control_frame_stays_as_it_was() {
    let ping = frame(FIN | PING, b"payload");
    let mut bytes = ping[..ping.len() - 1].to_vec();
    let mut input = &mut bytes[..];
    assert_eq!(Decoder::default().next(&mut input, &LIMITS), Ok(None));
    assert_eq!(input, &ping[..ping.len() - 1]);
}

fn any_message() -> impl Strategy<Value = Got> {
    let control = || prop::collection::vec(any::<u8>(), 0..=MAX_CONTROL_BYTES);
    prop_oneof![
        any::<String>().prop_map(Got::Text),
        "\\PC{0,300}".prop_map(Got::Text),
        any::<Vec<u8>>().prop_map(Got::Binary),
        control().prop_map(Got::Ping),
        control().prop_map(Got::Pong),
        (3000u16..5000, "\\PC{0,30}").prop_map(|(code, reason)| Got::Close(Some(code), reason)),
    ]
}

/// The frames of a message; text and binary cut into fragments of `fragment` bytes, each followed by a PING.
fn encode(message: &Got, fragment: usize) -> Vec<u8> {
    let data = |opcode: u8, payload: &[u8]| {
        let mut out = Vec::new();
        let mut rest = payload;
        let mut opcode = opcode;
        while rest.len() > fragment {
            let (part, behind) = rest.split_at(fragment);
            out.extend(frame(opcode, part));
            (rest, opcode) = (behind, CONTINUATION);
        }
        out.extend(frame(FIN | opcode, rest));
        out
    };
    match message {
        Got::Text(text) => data(TEXT, text.as_bytes()),
        Got::Binary(bytes) => data(BINARY, bytes),
        Got::Ping(payload) => frame(FIN | PING, payload),
        Got::Pong(payload) => frame(FIN | PONG, payload),
        Got::Close(code, reason) => {
            let code = code.map_or(vec![], |code| code.to_be_bytes().to_vec());
            frame(FIN | CLOSE, &[&code, reason.as_bytes()].concat())
        }
    }
}

/// The pieces between the cuts, which may be anywhere.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn what_was_sent_is_received_wherever_the_stream_is_cut(
        sent in prop::collection::vec((any_message(), 1usize..400), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        bytewise: bool,
    ) {
        let limits = Limits { max_message_bytes: 1 << 20, binary: true };
        let stream: Vec<u8> = sent.iter().flat_map(|(message, fragment)| encode(message, *fragment)).collect();
        let pieces = if bytewise { stream.chunks(1).collect() } else { cut(&stream, &cuts) };
        let (got, end) = receive(pieces, &limits);
        prop_assert_eq!(end.map(|decoder| decoder.held_bytes()), Ok(0));
        let sent: Vec<Got> = sent.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn any_bytes_end_alike_wherever_they_are_cut(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        valid_start: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        if valid_start && bytes.len() > 1 {
            bytes[0] &= 0x81;
            bytes[1] |= 0x80;
        }
        let (whole, end) = receive([&bytes[..]], &LIMITS);
        let (pieces, cut_end) = receive(cut(&bytes, &cuts), &LIMITS);
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(end.map(drop), cut_end.map(drop));
    }
}
