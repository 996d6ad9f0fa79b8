//! The frames of streams (contract, section 1, 'Streams').

use super::{ACK, CANCEL, END, ERROR, Frame, ITEM, JSON, OPEN, encode, is_name};

/// The longest row: a fragment less its sequence number.
pub const MAX_ROW_BYTES: usize = super::MAX_FRAGMENT_BYTES - 8;

/// What the server says of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said<'a> {
    Open(Open<'a>),
    /// The consumer has taken all rows up to this sequence number.
    Ack(u64),
    Cancel,
}

/// The server asks for rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open<'a> {
    pub name: &'a str,
    pub max_messages: u32,
    pub max_bytes: u32,
    pub from: u64,
    /// As the consumer sent it, without the three keys that are the server's.
    pub query: &'a str,
}

/// Reads an OPEN, ACK or CANCEL.
///
/// # Errors
/// What the contract does not allow: flags, a name that is bad or does not belong, a body that is no such thing, a window
/// out of its range, id 0.
pub fn parse<'a>(frame: &Frame<'a>) -> Result<Said<'a>, String> {
    if frame.flags != 0 || frame.id == 0 || (frame.kind != OPEN && !frame.name.is_empty()) {
        return Err(format!(
            "kind {:#04x} with flags {:#x}, id {}, name {:?}",
            frame.kind, frame.flags, frame.id, frame.name
        ));
    }
    match (frame.kind, frame.body) {
        (OPEN, body) => open(frame.name, body).map(Said::Open),
        (ACK, body) => match body.try_into() {
            Ok(bytes) => Ok(Said::Ack(u64::from_be_bytes(bytes))),
            Err(_) => Err(format!("an ACK of {} bytes", body.len())),
        },
        (CANCEL, []) => Ok(Said::Cancel),
        (kind, body) => Err(format!("kind {kind:#04x} with {} bytes", body.len())),
    }
}

fn open<'a>(name: &'a str, body: &'a [u8]) -> Result<Open<'a>, String> {
    let Some((fixed, query)) = body.split_first_chunk::<16>() else {
        return Err(format!("an OPEN of {} bytes", body.len()));
    };
    let query = std::str::from_utf8(query).map_err(|_| "an OPEN whose query is not UTF-8".to_string())?;
    let open = Open {
        name,
        max_messages: u32::from_be_bytes(fixed[..4].try_into().expect("four bytes")),
        max_bytes: u32::from_be_bytes(fixed[4..8].try_into().expect("four bytes")),
        from: u64::from_be_bytes(fixed[8..].try_into().expect("eight bytes")),
        query,
    };
    let within = (1..=1024).contains(&open.max_messages)
        && (16_384..=1_048_576).contains(&open.max_bytes)
        && open.from < 1 << 63;
    if within && is_name(name) { Ok(open) } else { Err(format!("{open:?}")) }
}

/// Appends the row with the sequence number `n`.
pub fn encode_item(out: &mut Vec<u8>, id: u32, json: bool, n: u64, row: &[u8]) {
    debug_assert!(row.len() <= MAX_ROW_BYTES);
    let begin = out.len();
    encode(out, ITEM, if json { JSON } else { 0 }, id, "", &n.to_be_bytes());
    // The body is longer by the row, which is not copied twice.
    let body_len = (8 + row.len()) as u32;
    out[begin + 8..begin + 12].copy_from_slice(&body_len.to_be_bytes());
    out.extend_from_slice(row);
}

/// Appends the end behind the last row; `next` is that row's sequence number + 1.
pub fn encode_end(out: &mut Vec<u8>, id: u32, next: u64) {
    encode(out, END, 0, id, "", &next.to_be_bytes());
}

/// Appends an end for a reason.
pub fn encode_failed(out: &mut Vec<u8>, id: u32, reason: &str) {
    encode(out, END, ERROR, id, "", reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::decode;

    fn frame<'a>(kind: u8, name: &'a str, body: &'a [u8]) -> Frame<'a> {
        Frame { kind, flags: 0, id: 3, name, body }
    }

    fn open_body(max_messages: u32, max_bytes: u32, from: u64, query: &str) -> Vec<u8> {
        let numbers = [&max_messages.to_be_bytes()[..], &max_bytes.to_be_bytes(), &from.to_be_bytes()];
        [&numbers.concat()[..], query.as_bytes()].concat()
    }

    #[test]
    fn an_open_says_window_beginning_and_query() {
        let body = open_body(20, 65_536, 7, "a=b&c");
        let open = Open { name: "log", max_messages: 20, max_bytes: 65_536, from: 7, query: "a=b&c" };
        assert_eq!(parse(&frame(OPEN, "log", &body)), Ok(Said::Open(open)));
        assert_eq!(parse(&frame(ACK, "", &9u64.to_be_bytes())), Ok(Said::Ack(9)));
        assert_eq!(parse(&frame(CANCEL, "", b"")), Ok(Said::Cancel));
    }

    #[test]
    fn what_the_server_must_not_send_is_refused() {
        let good = open_body(1, 16_384, 0, "");
        let bad_windows =
            [(0, 16_384, 0), (1025, 16_384, 0), (1, 16_383, 0), (1, 1_048_577, 0), (1, 16_384, 1 << 63)];
        for (messages, bytes, from) in bad_windows {
            assert!(parse(&frame(OPEN, "log", &open_body(messages, bytes, from, ""))).is_err());
        }
        for (kind, name, body) in [
            (OPEN, "", &good[..]),
            (OPEN, "log", &good[..15]),
            (ACK, "", &[0; 7]),
            (ACK, "x", &[0; 8]),
            (CANCEL, "", b"x"),
        ] {
            assert!(parse(&frame(kind, name, body)).is_err(), "{kind:#x} {name:?}");
        }
        assert!(parse(&Frame { id: 0, ..frame(CANCEL, "", b"") }).is_err());
        assert!(parse(&Frame { flags: ERROR, ..frame(CANCEL, "", b"") }).is_err());
    }

    #[test]
    fn an_item_is_its_number_and_its_row() {
        let mut out = Vec::new();
        encode_item(&mut out, 3, true, 258, b"{}");
        encode_end(&mut out, 3, 259);
        let (item, used) = decode(&out).unwrap().unwrap();
        let expected = Frame { kind: ITEM, flags: JSON, id: 3, name: "", body: b"\0\0\0\0\0\0\x01\x02{}" };
        assert_eq!(item, expected);
        let (end, _) = decode(&out[used..]).unwrap().unwrap();
        assert_eq!((end.kind, end.flags, end.body), (END, 0, &259u64.to_be_bytes()[..]));
    }
}
