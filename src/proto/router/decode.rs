//! From bytes to frames, as a server reads them. What one frame alone can tell is refused here; what depends on the
//! frames before it (parts, HELLO first) is the session's.

use super::{HEADER_BYTES, Kind, flags};
use crate::id;
use crate::limits::{MAX_BYE_BYTES, MAX_FRAGMENT_BYTES, MAX_NAME_BYTES, MAX_PING_BYTES};

/// A whole frame from a router, borrowed from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'i> {
    pub kind: Kind,
    pub flags: u8,
    pub id: u32,
    pub name: &'i str,
    pub body: &'i [u8],
}

/// What a router did wrong, as the BYE says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TooLarge(&'static str),
    Protocol(&'static str),
    UnsupportedVersion,
}

/// Takes one whole frame off the front of `input`; `None` while it is incomplete. The header alone is judged as soon as
/// it is there: `too_large` goes first, then kind, direction and flags.
pub fn decode<'i>(input: &mut &'i [u8]) -> Result<Option<Frame<'i>>, Fault> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let name_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let body_len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if body_len > MAX_FRAGMENT_BYTES {
        return Err(Fault::TooLarge("body_len is over 16384"));
    }
    if name_len > MAX_NAME_BYTES {
        return Err(Fault::Protocol("name_len is over 128"));
    }
    let kind = kind_from_router(header[0])?;
    check_header(kind, header[1], id, name_len, body_len)?;
    if rest.len() < name_len + body_len {
        return Ok(None);
    }
    let (name, rest) = rest.split_at(name_len);
    let (body, rest) = rest.split_at(body_len);
    let name = std::str::from_utf8(name).map_err(|_| Fault::Protocol("the name is not UTF-8"))?;
    let is_text = kind == Kind::Bye || kind == Kind::End && header[1] & flags::ERROR != 0;
    if is_text && std::str::from_utf8(body).is_err() {
        return Err(Fault::Protocol("the text of a BYE or END is not UTF-8"));
    }
    if kind == Kind::Bye && !id::is_id(name) {
        return Err(Fault::Protocol("a BYE is named by its code"));
    }
    if kind == Kind::Event && !name.is_empty() && !id::is_topic(name) {
        return Err(Fault::Protocol("a topic is 1 to 128 of A-Za-z0-9._:-/"));
    }
    *input = rest;
    Ok(Some(Frame { kind, flags: header[1], id, name, body }))
}

/// Any frame of either direction, unchecked: kind, flags, id, name, body. For tests and tools.
#[allow(clippy::type_complexity)] // the header's fields, in its order
pub fn decode_any<'i>(input: &mut &'i [u8]) -> Option<(u8, u8, u32, &'i [u8], &'i [u8])> {
    let (header, rest) = input.split_first_chunk::<HEADER_BYTES>()?;
    let name_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let body_len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let (name, rest) = rest.split_at_checked(name_len)?;
    let (body, rest) = rest.split_at_checked(body_len)?;
    *input = rest;
    Some((header[0], header[1], id, name, body))
}

fn kind_from_router(byte: u8) -> Result<Kind, Fault> {
    Ok(match byte {
        0x01 => Kind::Hello,
        0x03 => Kind::Ping,
        0x04 => Kind::Pong,
        0x05 => Kind::Bye,
        0x11 => Kind::Reply,
        0x12 => Kind::Event,
        0x21 => Kind::Item,
        0x23 => Kind::End,
        0x02 | 0x10 | 0x20 | 0x22 | 0x24 => {
            return Err(Fault::Protocol("that kind goes from server to router only"));
        }
        _ => return Err(Fault::Protocol("unknown kind")),
    })
}

/// What the table of SPEC section 1 allows in the header of each kind.
fn check_header(kind: Kind, frame_flags: u8, id: u32, name_len: usize, body_len: usize) -> Result<(), Fault> {
    use flags::{ERROR, JSON, MORE, RETAIN};
    let (allowed, named) = match kind {
        Kind::Hello | Kind::Bye => (0, true),
        Kind::Reply => (MORE | ERROR | JSON, false),
        Kind::Event => (MORE | JSON | RETAIN, true),
        Kind::Item => (JSON, false),
        Kind::End => (ERROR, false),
        _ => (0, false),
    };
    if frame_flags & !allowed != 0 {
        return Err(Fault::Protocol("a flag that is not listed for the kind"));
    }
    if !named && name_len > 0 {
        return Err(Fault::Protocol("a name where none belongs"));
    }
    if frame_flags & MORE != 0 && body_len == 0 {
        return Err(Fault::Protocol("an empty part with MORE"));
    }
    let wrong = match kind {
        Kind::Ping | Kind::Pong if body_len > MAX_PING_BYTES => {
            Some("the body of a PING or PONG is over 64 bytes")
        }
        Kind::Bye if body_len > MAX_BYE_BYTES => Some("the reason of a BYE is over 256 bytes"),
        Kind::Bye if id != 0 => Some("a BYE has id 0"),
        Kind::Event if id != 0 => Some("an EVENT has id 0"),
        Kind::Reply if id == 0 => Some("a REPLY with id 0"),
        Kind::Item if body_len < 8 => Some("an ITEM is shorter than its sequence number"),
        Kind::Item | Kind::End if id == 0 => Some("a stream id is not 0"),
        Kind::End if frame_flags & ERROR == 0 && body_len != 8 => Some("an END carries one u64"),
        _ => None,
    };
    wrong.map_or(Ok(()), |what| Err(Fault::Protocol(what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u8, flags: u8, id: u32, name: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, flags];
        bytes.extend((name.len() as u16).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(name);
        bytes.extend(body);
        bytes
    }

    fn fault(bytes: &[u8]) -> Fault {
        decode(&mut &*bytes).expect_err("refused")
    }

    #[test]
    fn a_whole_frame_is_taken_and_the_rest_left() {
        let mut bytes = raw(0x12, 0x04, 0, b"a/b", b"{}");
        bytes.push(9);
        let mut input = &bytes[..];
        let frame = decode(&mut input).unwrap().unwrap();
        assert_eq!((frame.kind, frame.name, frame.body), (Kind::Event, "a/b", &b"{}"[..]));
        assert_eq!(input, [9]);
    }

    #[test]
    fn every_prefix_asks_for_more() {
        let bytes = raw(0x11, 0, 7, b"", &[1; 100]);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&mut &bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn sizes_are_refused_by_the_header_alone_and_before_the_kind() {
        let huge = [0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01];
        assert!(matches!(fault(&huge), Fault::TooLarge(_)));
        let long_name = [0x12, 0, 0, 129, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(fault(&long_name), Fault::Protocol(_)));
    }

    #[test]
    fn what_the_table_does_not_allow() {
        for (bytes, what) in [
            (raw(0x06, 0, 0, b"", b""), "unknown kind"),
            (raw(0x10, 0, 1, b"x", b""), "wrong way"),
            (raw(0x22, 0, 1, b"", &[0; 8]), "wrong way"),
            (raw(0x03, 1, 0, b"", b""), "flag on PING"),
            (raw(0x03, 0, 0, b"n", b""), "name on PING"),
            (raw(0x03, 0, 0, b"", &[0; 65]), "long PING"),
            (raw(0x04, 0, 0, b"", &[0; 65]), "long PONG"),
            (raw(0x05, 0, 0, b"x", &[b'r'; 257]), "long BYE"),
            (raw(0x05, 0, 1, b"x", b""), "BYE with an id"),
            (raw(0x05, 0, 0, b"x", &[0xff]), "BYE not UTF-8"),
            (raw(0x05, 0, 0, b"", b""), "BYE without a code"),
            (raw(0x23, 2, 1, b"", &[0xff]), "END not UTF-8"),
            (raw(0x11, 0, 0, b"", b""), "REPLY with id 0"),
            (raw(0x11, 8, 1, b"", b""), "RETAIN on REPLY"),
            (raw(0x11, 1, 1, b"", b""), "empty part with MORE"),
            (raw(0x12, 2, 0, b"t", b""), "ERROR on EVENT"),
            (raw(0x12, 0, 1, b"t", b""), "EVENT with an id"),
            (raw(0x12, 0, 0, b"$t", b""), "server's topic"),
            (raw(0x12, 0, 0, b"a b", b""), "bad topic"),
            (raw(0x12, 0, 0, &[0xff], b""), "name not UTF-8"),
            (raw(0x21, 0, 1, b"", &[0; 7]), "short ITEM"),
            (raw(0x23, 0, 1, b"", &[0; 7]), "short END"),
            (raw(0x80, 0, 0, b"", b""), "unknown kind"),
            (raw(0x03, 0x10, 0, b"", b""), "unknown flag"),
        ] {
            assert!(matches!(fault(&bytes), Fault::Protocol(_)), "{what}");
        }
    }

    #[test]
    fn limits_themselves_are_allowed() {
        for bytes in [
            raw(0x03, 0, 9, b"", &[0; 64]),
            raw(0x05, 0, 0, b"kicked", &[b'r'; 256]),
            raw(0x12, 0x0d, 0, &[b't'; 128], &[0; 16_384]),
            raw(0x23, 2, 1, b"", b"text"),
        ] {
            assert!(decode(&mut &bytes[..]).unwrap().is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decode(&mut input) {}
        }
    }
}
