//! The chunked transfer coding (RFC 9112 section 7.1), decoded from reads cut anywhere.
//!
//! Own code, because httparse's chunk size takes an empty size for the last chunk and a bare LF inside extensions. Here
//! every byte has to fit the grammar, also of what is thrown away: extensions and trailer fields.

use super::error::BodyError;
use super::{is_text_byte, is_token_byte};

/// Bytes of extensions and trailer fields that one body may carry, all together.
const MAX_DISCARDED_BYTES: u16 = 8192;
/// Hex digits of a chunk size: what fits into 64 bits, leading zeros counted.
const MAX_SIZE_DIGITS: u8 = 16;

#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    /// The size being read, then what is left of the chunk, in bytes.
    remaining: u64,
    digits: u8,
    discarded: u16,
}

/// What the next byte may be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Size,
    /// Behind white space, which may stand before `;` but not before the line's end.
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl ChunkedDecoder {
    pub(super) fn new() -> Self {
        Self { state: State::Size, remaining: 0, digits: 0, discarded: 0 }
    }

    pub(super) fn read(
        &mut self,
        input: &mut &[u8],
        body: &mut Vec<u8>,
        max_bytes: usize,
    ) -> Result<bool, BodyError> {
        while self.state != State::Done {
            if self.state == State::Data {
                // Fits into usize: a larger chunk was refused at its size line.
                self.remaining -= append(body, input, self.remaining as usize, max_bytes) as u64;
                if self.remaining > 0 {
                    return Ok(false);
                }
                self.state = State::DataReturn;
            }
            let [byte, behind @ ..] = *input else { return Ok(false) };
            *input = behind;
            self.state = self.step(*byte)?;
            if self.state == State::Data && self.remaining > max_bytes.saturating_sub(body.len()) as u64 {
                return Err(BodyError::TooLarge);
            }
        }
        Ok(true)
    }

    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        self.count_discarded()?;
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.size_digit(byte)?,
            (State::Size, _) if self.digits == 0 => {
                return Err(BodyError::BadRequest("a chunk without a size"));
            }
            (State::Size | State::Name | State::Token | State::AfterQuoted, b'\r') => State::SizeLineFeed,
            (
                State::Size
                | State::BeforeSemicolon
                | State::Name
                | State::AfterName
                | State::Token
                | State::AfterQuoted,
                b';',
            ) => State::BeforeName,
            (State::Size | State::BeforeSemicolon | State::Token | State::AfterQuoted, b' ' | b'\t') => {
                State::BeforeSemicolon
            }
            (State::BeforeName | State::BeforeValue, b' ' | b'\t') => self.state,
            (State::Name | State::AfterName, b' ' | b'\t') => State::AfterName,
            (State::Name | State::AfterName, b'=') => State::BeforeValue,
            (State::BeforeName | State::Name, _) if is_token_byte(byte) => State::Name,
            (State::BeforeValue | State::Token, _) if is_token_byte(byte) => State::Token,
            (State::BeforeValue, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::Escaped,
            (State::Quoted | State::Escaped, _) if is_text_byte(byte) => State::Quoted,
            (State::SizeLineFeed, b'\n') if self.remaining == 0 => State::TrailerStart,
            (State::SizeLineFeed, b'\n') => State::Data,

            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::DataReturn | State::DataLineFeed, _) => {
                return Err(BodyError::BadRequest("a chunk longer than its size"));
            }

            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if is_text_byte(byte) => State::TrailerValue,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _)
            | (State::TrailerLineFeed | State::LastLineFeed, _) => {
                return Err(BodyError::BadRequest("a trailer field cannot be read"));
            }
            _ => return Err(BodyError::BadRequest("a chunk size line cannot be read")),
        })
    }

    fn size_digit(&mut self, byte: u8) -> Result<State, BodyError> {
        if self.digits == MAX_SIZE_DIGITS {
            return Err(BodyError::BadRequest("a chunk size has too many digits"));
        }
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        self.remaining = self.remaining << 4 | u64::from(digit);
        self.digits += 1;
        Ok(State::Size)
    }

    /// Sizes and line ends are bounded by the body that they frame; all else is counted.
    fn count_discarded(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Size | State::SizeLineFeed | State::DataReturn | State::DataLineFeed => return Ok(()),
            State::LastLineFeed | State::Data | State::Done => return Ok(()),
            _ => {}
        }
        if self.discarded == MAX_DISCARDED_BYTES {
            return Err(BodyError::TooLarge);
        }
        self.discarded += 1;
        Ok(())
    }
}

/// Moves up to `wanted` bytes and returns how many there were. The first get exactly the memory that they need; later,
/// when it is short it doubles, but not beyond `longest`, the most that the whole body can become.
pub(super) fn append(body: &mut Vec<u8>, input: &mut &[u8], wanted: usize, longest: usize) -> usize {
    let (taken, behind) = input.split_at(wanted.min(input.len()));
    let length = body.len() + taken.len();
    if length > body.capacity() {
        let capacity = (2 * body.capacity()).min(longest).max(length);
        body.reserve_exact(capacity - body.len());
    }
    body.extend_from_slice(taken);
    *input = behind;
    taken.len()
}

#[cfg(test)]
mod tests {
    use super::super::{BodyLength, BodyReader};
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1000;

    /// Content, and what was left of the input.
    type Decoded<'w> = (Vec<u8>, &'w [u8]);

    /// `None` while incomplete.
    fn decode(wire: &[u8], step: usize) -> Result<Option<Decoded<'_>>, BodyError> {
        let (mut reader, mut body, mut at) = (BodyReader::new(BodyLength::Chunked), Vec::new(), 0);
        while at < wire.len() {
            let piece = &wire[at..wire.len().min(at + step)];
            let mut input = piece;
            let complete = reader.read(&mut input, &mut body, MAX)?;
            at += piece.len() - input.len();
            assert!(body.capacity() <= (2 * wire.len()).min(MAX));
            if complete {
                assert_eq!(reader.read(&mut &b"x"[..], &mut body, MAX), Ok(true));
                return Ok(Some((body, &wire[at..])));
            }
            assert!(input.is_empty());
        }
        Ok(None)
    }

    fn content(wire: &str) -> String {
        let (body, rest) = decode(wire.as_bytes(), usize::MAX).unwrap().expect("complete");
        assert_eq!(rest, b"");
        String::from_utf8(body).unwrap()
    }

    fn refusal(wire: &str) -> BodyError {
        let whole = decode(wire.as_bytes(), wire.len()).expect_err(wire);
        assert_eq!(decode(wire.as_bytes(), 1).expect_err(wire), whole);
        whole
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(content("0\r\n\r\n"), "");
        assert_eq!(content("5\r\nhello\r\n0\r\n\r\n"), "hello");
        assert_eq!(content("3\r\nhel\r\n0000000000000002\r\nlo\r\n0000\r\n\r\n"), "hello");
        assert_eq!(content("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "01234567890123456789");
        assert_eq!(content("2\r\n\r\n\r\n0\r\n\r\n"), "\r\n");
    }

    #[test]
    fn nothing_behind_the_last_chunk_is_taken() {
        let (body, rest) = decode(b"1\r\nx\r\n0\r\n\r\n\r\nGET /", usize::MAX).unwrap().unwrap();
        assert_eq!((&*body, rest), (&b"x"[..], &b"\r\nGET /"[..]));
    }

    #[test]
    fn small_chunks_do_not_reallocate_each_time() {
        let (mut reader, mut body) = (BodyReader::new(BodyLength::Chunked), Vec::new());
        let mut capacities = std::collections::BTreeSet::new();
        for _ in 0..MAX {
            reader.read(&mut &b"1\r\nx\r\n"[..], &mut body, MAX).unwrap();
            capacities.insert(body.capacity());
        }
        assert!(capacities.len() <= 11 && body.capacity() == MAX, "{capacities:?}");
    }

    #[test]
    fn extensions_are_read_and_thrown_away() {
        for extension in [
            ";a",
            ";a=b",
            ";a=\"b\"",
            " ; a = b",
            ";a ; b",
            "\t;a=\"x;\\\"\"",
            ";a;b=c;d=\"\"",
            ";a=\"\t \u{e4}\" ;b",
        ] {
            let wire = format!("1{extension}\r\nx\r\n0{extension}\r\n\r\n");
            assert_eq!(content(&wire), "x", "{extension}");
        }
    }

    #[test]
    fn trailers_are_read_and_thrown_away() {
        assert_eq!(content("1\r\nx\r\n0\r\nA: b\r\nContent-Length:5\r\nC:\r\n\r\n"), "x");
    }

    #[test]
    fn every_deviation_is_refused() {
        for wire in [
            "\r\n",
            ";a\r\n",
            " 1\r\n",
            "1 \r\n",
            "+1\r\n",
            "-1\r\n",
            "0x1\r\n",
            "g\r\n",
            "1\n",
            "1\rx",
            "1;\r\n",
            "1;a=\r\n",
            "1;a \r\n",
            "1;a=b \r\n",
            "1;=b\r\n",
            "1;a=b=c\r\n",
            "1;a=\"b\"c\r\n",
            "1;a=\"\n",
            "1;a=\"\\\r\n",
            "1;a\n",
            "1 a\r\n",
            "1;a=(\r\n",
            "1;a=\"\0\"\r\n",
            "1;a=\"\r\"\r\n",
            "00000000000000001\r\n",
            "1\r\nxy",
            "1\r\nx\n",
            "1\r\nx\rx",
            "0\r\n\n",
            "0\r\n x: y\r\n",
            "0\r\n: y\r\n",
            "0\r\nx : y\r\n",
            "0\r\nx\r\n",
            "0\r\nx: \x01\r\n",
            "0\r\nx: y\n",
            "0\r\nx: y\r\n folded\r\n",
            "0\r\n\rx",
        ] {
            assert!(matches!(refusal(wire), BodyError::BadRequest(_)), "{wire:?}");
        }
    }

    #[test]
    fn sizes_over_the_limit_are_refused_when_announced() {
        assert_eq!(refusal("3e9\r\n"), BodyError::TooLarge);
        assert_eq!(refusal("ffffffffffffffff\r\n"), BodyError::TooLarge);
        let filled = format!("3e8\r\n{}\r\n", "x".repeat(MAX));
        assert_eq!(refusal(&format!("{filled}1\r\n")), BodyError::TooLarge);
        assert_eq!(content(&format!("{filled}0\r\n\r\n")).len(), MAX);
    }

    #[test]
    fn what_is_thrown_away_is_bounded_in_sum() {
        let room = usize::from(MAX_DISCARDED_BYTES);
        // Behind the size: ';' is read while still in the size, then the name's bytes and its CR are counted.
        let extension = |length: usize| format!("0;{}\r\n\r\n", "a".repeat(length));
        assert_eq!(content(&extension(room - 10)), "");
        assert_eq!(refusal(&extension(room + 10)), BodyError::TooLarge);
        let many = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "a".repeat(100)).repeat(100));
        assert_eq!(refusal(&many), BodyError::TooLarge);
        assert_eq!(refusal(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(room / 6 + 10))), BodyError::TooLarge);
    }

    fn wire() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let extension = prop_oneof![Just(""), Just(";a"), Just(" ; b = \"q\\\"\"")];
        let chunk = (proptest::collection::vec(any::<u8>(), 1..60), extension);
        (proptest::collection::vec(chunk, 0..10), prop_oneof![Just(""), Just("T: v\r\n")]).prop_map(
            |(chunks, trailer)| {
                let (mut wire, mut content) = (Vec::new(), Vec::new());
                for (data, extension) in chunks {
                    wire.extend(format!("{:x}{extension}\r\n", data.len()).into_bytes());
                    wire.extend([&data[..], b"\r\n"].concat());
                    content.extend(data);
                }
                wire.extend(format!("0\r\n{trailer}\r\n").into_bytes());
                (wire, content)
            },
        )
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_body((wire, content) in wire(), step in 1..80usize) {
            prop_assert_eq!(decode(&wire[..wire.len() - 1], step), Ok(None));
            let followed = [&wire[..], b"next"].concat();
            prop_assert_eq!(decode(&followed, step), Ok(Some((content, &b"next"[..]))));
        }

        #[test]
        fn a_changed_byte_never_panics_and_any_cut_agrees(
            (mut wire, _) in wire(), at in any::<proptest::sample::Index>(), byte in any::<u8>(), step in 1..80usize,
        ) {
            *at.get_mut(&mut wire) = byte;
            prop_assert_eq!(decode(&wire, step), decode(&wire, usize::MAX >> 1));
        }

        #[test]
        fn likely_bytes_never_panic(wire in "[0-9a-f\r\n;=\" x]{0,60}", step in 1..10usize) {
            prop_assert_eq!(decode(wire.as_bytes(), step), decode(wire.as_bytes(), 100));
        }
    }
}
