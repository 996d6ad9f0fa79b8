//! An answer that is read while it comes: a stream's rows, a line for each router of a fleet, events without an end.

use super::{Framing, head};

/// Where the decoder of chunks (RFC 9112, section 7.1) stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chunk {
    Size,
    Data(usize),
    /// The line end behind a chunk's data.
    DataEnd,
    /// The empty line behind the last chunk; the server sends no trailers.
    LastEnd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Head,
    Chunks(Chunk),
    Length(usize),
    Whole,
}

/// One answer: its head, then as much of its body as has come.
pub struct LongAnswer {
    state: State,
    /// 0 until the head has come.
    pub status: u16,
    pub content_type: String,
    /// What has come of the body; whoever has read some of it takes that away.
    pub body: Vec<u8>,
}

impl Default for LongAnswer {
    fn default() -> Self {
        Self { state: State::Head, status: 0, content_type: String::new(), body: Vec::new() }
    }
}

impl LongAnswer {
    /// All has come, the last chunk too: an answer that was cut never gets there.
    pub fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Takes what it can from the start of `bytes` and returns how much that was.
    ///
    /// # Errors
    /// As [`head`]; bytes that are no chunk.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let (used, next) = match self.state {
                State::Head => match head(rest)? {
                    None => return Ok(taken),
                    Some((response, framing, used)) => {
                        self.status = response.status;
                        self.content_type = response.content_type.to_string();
                        let next = match framing {
                            Framing::Chunked => State::Chunks(Chunk::Size),
                            Framing::Length(length) => State::Length(length),
                            Framing::Bodiless => State::Whole,
                        };
                        (used, next)
                    }
                },
                State::Length(0) | State::Whole => {
                    self.state = State::Whole;
                    return Ok(taken);
                }
                State::Length(left) => {
                    let used = self.keep(rest, left);
                    (used, State::Length(left - used))
                }
                State::Chunks(chunk) => self.chunk(chunk, rest)?,
            };
            if used == 0 && next == self.state {
                return Ok(taken);
            }
            taken += used;
            self.state = next;
        }
    }

    fn chunk(&mut self, chunk: Chunk, rest: &[u8]) -> Result<(usize, State), String> {
        let line_end = |behind: State| match rest {
            [b'\r', b'\n', ..] => Ok((2, behind)),
            [] | [b'\r'] => Ok((0, State::Chunks(chunk))),
            _ => Err("a chunk without its line end".to_string()),
        };
        match chunk {
            Chunk::Size => match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete((used, 0))) => Ok((used, State::Chunks(Chunk::LastEnd))),
                Ok(httparse::Status::Complete((used, size))) => {
                    Ok((used, State::Chunks(Chunk::Data(size as usize))))
                }
                Ok(httparse::Status::Partial) => Ok((0, State::Chunks(Chunk::Size))),
                Err(_) => Err("a chunk without a size".into()),
            },
            Chunk::Data(left) => {
                let used = self.keep(rest, left);
                let next = if used == left { Chunk::DataEnd } else { Chunk::Data(left - used) };
                Ok((used, State::Chunks(next)))
            }
            Chunk::DataEnd => line_end(State::Chunks(Chunk::Size)),
            Chunk::LastEnd => line_end(State::Whole),
        }
    }

    /// Keeps up to `left` bytes of the body.
    fn keep(&mut self, rest: &[u8], left: usize) -> usize {
        let used = rest.len().min(left);
        self.body.extend_from_slice(&rest[..used]);
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
                             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nC\r\n to\r\nyou all\r\n0\r\n\r\n";

    /// The answer, of which `piece` bytes come at a time; what is not taken is offered again.
    fn in_pieces(bytes: &[u8], piece: usize) -> Result<LongAnswer, String> {
        let (mut answer, mut offered) = (LongAnswer::default(), Vec::new());
        for part in bytes.chunks(piece) {
            offered.extend_from_slice(part);
            let taken = answer.take(&offered)?;
            offered.drain(..taken);
        }
        assert!(offered.is_empty() || !answer.is_whole());
        Ok(answer)
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        for piece in 1..CHUNKED.len() + 1 {
            let answer = in_pieces(CHUNKED, piece).unwrap();
            assert!(answer.is_whole());
            assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/x-ndjson"));
            assert_eq!(answer.body, b"hello to\r\nyou all");
        }
    }

    #[test]
    fn an_answer_without_its_last_chunk_is_not_whole() {
        for len in 0..CHUNKED.len() {
            assert!(!in_pieces(&CHUNKED[..len], 7).unwrap().is_whole(), "cut at {len}");
        }
    }

    #[test]
    fn a_problem_has_a_length_and_nothing_behind_it_is_taken() {
        let bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n";
        let mut answer = LongAnswer::default();
        assert_eq!(answer.take(bytes), Ok(bytes.len() - "HTTP/1.1 200 OK\r\n".len()));
        assert!(answer.is_whole());
        assert_eq!((answer.status, answer.body.as_slice()), (404, &b"{}"[..]));
    }

    #[test]
    fn what_is_no_chunk_is_an_error() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in ["x\r\n", "2\r\nabc", "0\r\nTrailer: x\r\n\r\n"] {
            assert!(in_pieces(format!("{head}{body}").as_bytes(), 100).is_err(), "{body:?}");
        }
        let both = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";
        assert!(in_pieces(both, 100).is_err());
    }
}
