//! The body of a request, gathered from reads cut anywhere (RFC 9112 section 6).

use super::chunked::{ChunkedDecoder, append};
use super::error::BodyError;
use super::framing::BodyLength;

/// How far one body has been read. Owns no heap: the bytes go to the Vec that each call is given.
#[derive(Debug)]
pub struct BodyReader {
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    Length { remaining: u64 },
    Chunked(ChunkedDecoder),
}

impl BodyReader {
    pub fn new(length: BodyLength) -> Self {
        let framing = match length {
            BodyLength::None => Framing::Length { remaining: 0 },
            BodyLength::Exactly(remaining) => Framing::Length { remaining },
            BodyLength::Chunked => Framing::Chunked(ChunkedDecoder::new()),
        };
        Self { framing }
    }

    /// Takes from `input` what belongs to this body, never a byte behind it, and appends the content to `body`, which has
    /// to be empty before the first call and to grow by nothing else. True when the body is complete.
    ///
    /// A body over `max_bytes` is refused as soon as it is announced, so a first call, even without input, tells whether
    /// to answer `100 Continue`. Memory follows what has arrived, never what was announced.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        body: &mut Vec<u8>,
        max_bytes: usize,
    ) -> Result<bool, BodyError> {
        match &mut self.framing {
            Framing::Length { remaining } => {
                if *remaining > max_bytes.saturating_sub(body.len()) as u64 {
                    return Err(BodyError::TooLarge);
                }
                let whole = body.len() + *remaining as usize;
                *remaining -= append(body, input, *remaining as usize, whole) as u64;
                Ok(*remaining == 0)
            }
            Framing::Chunked(decoder) => decoder.read(input, body, max_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_body_takes_nothing() {
        for length in [BodyLength::None, BodyLength::Exactly(0)] {
            let (mut input, mut body) = (&b"GET"[..], Vec::new());
            assert_eq!(BodyReader::new(length).read(&mut input, &mut body, 10), Ok(true));
            assert_eq!((input, body.capacity()), (&b"GET"[..], 0));
        }
    }

    #[test]
    fn a_body_in_one_read_gets_its_exact_size() {
        let (mut input, mut body) = (&b"helloGET"[..], Vec::new());
        assert_eq!(BodyReader::new(BodyLength::Exactly(5)).read(&mut input, &mut body, 5), Ok(true));
        assert_eq!((input, &*body, body.capacity()), (&b"GET"[..], &b"hello"[..], 5));
    }

    #[test]
    fn memory_follows_what_arrived_and_ends_at_what_was_announced() {
        let (mut reader, mut body) = (BodyReader::new(BodyLength::Exactly(1_000_000)), Vec::new());
        let mut arrived = 0;
        while arrived < 1_000_000 {
            let piece = [7; 1500];
            let mut input = &piece[..piece.len().min(1_000_000 - arrived)];
            arrived += input.len();
            assert_eq!(reader.read(&mut input, &mut body, 1 << 20), Ok(arrived == 1_000_000));
            assert!(body.capacity() <= (2 * arrived).min(1_000_000), "{} for {arrived}", body.capacity());
        }
        assert_eq!((body.len(), body.capacity()), (1_000_000, 1_000_000));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_a_byte_of_it() {
        for length in [11, u64::MAX] {
            let mut reader = BodyReader::new(BodyLength::Exactly(length));
            assert_eq!(reader.read(&mut &b""[..], &mut Vec::new(), 10), Err(BodyError::TooLarge));
        }
        assert_eq!(
            BodyReader::new(BodyLength::Exactly(10)).read(&mut &b""[..], &mut Vec::new(), 10),
            Ok(false)
        );
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_body(content in proptest::collection::vec(any::<u8>(), 0..500), step in 1..50usize) {
            let wire = [&content[..], b"next"].concat();
            let (mut reader, mut body) = (BodyReader::new(BodyLength::Exactly(content.len() as u64)), Vec::new());
            let mut at = 0;
            loop {
                let piece = &wire[at..wire.len().min(at + step)];
                let mut input = piece;
                let complete = reader.read(&mut input, &mut body, 500).unwrap();
                at += piece.len() - input.len();
                if complete {
                    break;
                }
                prop_assert!(input.is_empty());
            }
            prop_assert_eq!(at, content.len());
            prop_assert_eq!(body, content);
        }
    }
}
