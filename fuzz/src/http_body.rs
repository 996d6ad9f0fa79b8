//! Request bodies: the chunked coding against a decoder that forgives, and against an encoder; Content-Length.

use super::pieces::{cuttings, feed, uneven};
use berth::proto::http::{BodyError, BodyLength, BodyReader};

/// Low enough for an input of any size to go over it.
const MAX_BODY_BYTES: usize = 1000;

pub fn check(data: &[u8]) {
    check_wire(data);
    check_content(data);
}

/// The data is what a caller sends behind `Transfer-Encoding: chunked`.
fn check_wire(data: &[u8]) {
    let whole = read(BodyLength::Chunked, &[data], MAX_BODY_BYTES);
    for pieces in cuttings(data) {
        assert_eq!(read(BodyLength::Chunked, &pieces, MAX_BODY_BYTES), whole, "the cut changed the meaning");
    }
    if let Ok(Some((body, taken))) = whole {
        assert_eq!(forgiving(data), Some((body, taken)), "another parser reads another body");
    }
}

/// The data is a body that is encoded in both ways and must come back, and nothing of what stands behind it be taken.
fn check_content(data: &[u8]) {
    let mut chunked = Vec::new();
    for piece in uneven(data) {
        chunked.extend_from_slice(format!("{:x};name=\"va\\\"lue\"\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    // Extensions count against a limit of their own.
    let fits = data.len() <= MAX_BODY_BYTES;
    chunked.extend_from_slice(b"0\r\nTrailer: field\r\n\r\n");
    let exactly = BodyLength::Exactly(data.len() as u64);
    for (length, wire) in [(BodyLength::Chunked, &chunked[..]), (exactly, data)] {
        let sent = [wire, b"GET /"].concat();
        for pieces in cuttings(&sent) {
            let expected =
                if fits { Ok(Some((data.to_vec(), wire.len()))) } else { Err(BodyError::TooLarge) };
            assert_eq!(read(length, &pieces, MAX_BODY_BYTES), expected);
        }
    }
}

/// The body and how many bytes it took; `None`: it is not complete.
type Body = Option<(Vec<u8>, usize)>;

fn read(length: BodyLength, pieces: &[&[u8]], max: usize) -> Result<Body, BodyError> {
    let (mut reader, mut body, mut received, mut taken) = (BodyReader::new(length), Vec::new(), 0, 0);
    let mut result = Ok(false);
    feed(pieces, |waiting| {
        received += waiting.len();
        let mut input = &*waiting;
        result = reader.read(&mut input, &mut body, max);
        taken += waiting.len() - input.len();
        assert!(body.capacity() <= (2 * received).min(max), "{} for {received}", body.capacity());
        assert!(result != Ok(false) || input.is_empty(), "bytes of the body were left");
        (result == Ok(false)).then_some(waiting.len())
    });
    result.map(|complete| complete.then_some((body, taken)))
}

/// Reads as a careless server would: hex digits, anything up to the line's end, so many bytes.
fn forgiving(wire: &[u8]) -> Body {
    let (mut rest, mut body) = (wire, Vec::new());
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.split_off(..size)?);
        take_line(&mut rest)?;
    }
    while !take_line(&mut rest)?.is_empty() {}
    Some((body, wire.len() - rest.len()))
}

fn take_line<'w>(rest: &mut &'w [u8]) -> Option<&'w [u8]> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = rest.split_off(..end + 2)?;
    Some(&line[..end])
}
