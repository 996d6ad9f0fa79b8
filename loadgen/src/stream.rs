//! The router's side of streams (contract, section 1, 'Streams'): rows go out as far as each window allows, and the server is
//! held to what it may say.

use std::collections::VecDeque;

use crate::frame::stream::{self, Open, Said};
use crate::frame::{Frame, HEADER_BYTES};

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// The row that was appended.
    Row { json: bool },
    /// A planted fault: this sequence number is left out.
    Skip,
    /// A planted fault: the router's connection breaks.
    Break,
    /// There is no such row: the stream ends here.
    End,
}

/// Who has the rows.
pub trait Source {
    /// A stream is asked for: what stands for it from now on, or `None` if there is none of that name.
    ///
    /// # Errors
    /// The server must not have asked for it.
    fn open(&mut self, open: &Open<'_>) -> Result<Option<u32>, String>;

    /// Appends row `n` of `stream` to `row`, if that is what comes next.
    fn next(&mut self, stream: u32, n: u64, row: &mut Vec<u8>) -> Next;

    /// The consumer has taken everything before row `next`.
    fn acknowledged(&mut self, _stream: u32, _next: u64) {}

    /// The stream ended, was cancelled, or went with its session.
    fn closed(&mut self, _stream: u32) {}
}

struct Stream {
    id: u32,
    source: u32,
    max_messages: usize,
    max_bytes: usize,
    from: u64,
    /// The next row's sequence number.
    next: u64,
    /// All before this one are acknowledged.
    acknowledged: u64,
    /// Sequence number and length of each row in flight.
    in_flight: VecDeque<(u64, usize)>,
    bytes_in_flight: usize,
    /// A row that did not fit into the window yet.
    waiting: Option<(bool, Vec<u8>)>,
}

/// What [`Serving::fill`] came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filled {
    /// All windows are full, or the output is.
    Enough,
    /// The router's connection is to break here.
    Break,
}

/// The streams of one session.
#[derive(Default)]
pub struct Serving {
    open: VecDeque<Stream>,
    last_id: u32,
    row: Vec<u8>,
}

/// So much is handed to the kernel at a time: a PONG waits behind it.
const OUT_BYTES: usize = 32 * 1024;

impl Serving {
    /// Takes an OPEN, ACK or CANCEL.
    ///
    /// # Errors
    /// What the server must not send: what [`stream::parse`] refuses, an id that does not count up or was never opened, an
    /// ACK of what was not sent or one that goes back.
    pub fn take(
        &mut self,
        frame: &Frame<'_>,
        source: &mut impl Source,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let said = stream::parse(frame)?;
        if let Said::Open(open) = said {
            return self.open(frame.id, &open, source, out);
        }
        if frame.id > self.last_id {
            return Err(format!("{said:?} of stream {}, which was never opened", frame.id));
        }
        let Some(place) = self.open.iter().position(|stream| stream.id == frame.id) else {
            // It crossed with our END.
            return Ok(());
        };
        match said {
            Said::Ack(highest) => {
                self.open[place].acknowledge(highest)?;
                source.acknowledged(self.open[place].source, highest + 1);
            }
            _ => {
                let stream = self.open.remove(place).expect("it was found there");
                source.closed(stream.source);
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        id: u32,
        open: &Open<'_>,
        source: &mut impl Source,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        if id != self.last_id + 1 {
            return Err(format!("stream id {id} behind {}", self.last_id));
        }
        self.last_id = id;
        let Some(found) = source.open(open)? else {
            stream::encode_failed(out, id, "no stream of this name");
            return Ok(());
        };
        self.open.push_back(Stream {
            id,
            source: found,
            max_messages: open.max_messages as usize,
            max_bytes: open.max_bytes as usize,
            from: open.from,
            next: open.from,
            acknowledged: open.from,
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            waiting: None,
        });
        Ok(())
    }

    /// Appends what the windows allow, one row of each stream in turn, until `out` is long enough for now.
    pub fn fill(&mut self, source: &mut impl Source, out: &mut Vec<u8>) -> Filled {
        let mut idle = 0;
        while idle < self.open.len() && out.len() < OUT_BYTES {
            let mut stream = self.open.pop_front().expect("there are more than the idle ones");
            match stream.advance(source, &mut self.row, out) {
                Advance::Sent => idle = 0,
                Advance::Full => idle += 1,
                Advance::Ended => {
                    source.closed(stream.source);
                    continue;
                }
                Advance::Break => {
                    self.open.push_front(stream);
                    return Filled::Break;
                }
            }
            self.open.push_back(stream);
        }
        Filled::Enough
    }

    /// The session is over.
    pub fn clear(&mut self, source: &mut impl Source) {
        for stream in self.open.drain(..) {
            source.closed(stream.source);
        }
        self.last_id = 0;
    }
}

enum Advance {
    Sent,
    Full,
    Ended,
    Break,
}

impl Stream {
    fn advance(&mut self, source: &mut impl Source, row: &mut Vec<u8>, out: &mut Vec<u8>) -> Advance {
        if self.in_flight.len() >= self.max_messages {
            return Advance::Full;
        }
        let json = match self.waiting.take() {
            Some((json, waited)) => {
                *row = waited;
                json
            }
            None => {
                row.clear();
                match source.next(self.source, self.next, row) {
                    Next::Row { json } => json,
                    Next::Skip => {
                        self.next += 1;
                        return Advance::Sent;
                    }
                    Next::Break => return Advance::Break,
                    Next::End => {
                        stream::encode_end(out, self.id, self.next);
                        return Advance::Ended;
                    }
                }
            }
        };
        if self.bytes_in_flight + row.len() > self.max_bytes {
            self.waiting = Some((json, std::mem::take(row)));
            return Advance::Full;
        }
        out.reserve(HEADER_BYTES + 8 + row.len());
        stream::encode_item(out, self.id, json, self.next, row);
        self.in_flight.push_back((self.next, row.len()));
        self.bytes_in_flight += row.len();
        self.next += 1;
        Advance::Sent
    }

    fn acknowledge(&mut self, highest: u64) -> Result<(), String> {
        if highest < self.acknowledged || highest >= self.next {
            return Err(format!(
                "ACK {highest} of stream {} from {}, with {} acknowledged and {} next",
                self.id, self.from, self.acknowledged, self.next
            ));
        }
        self.acknowledged = highest + 1;
        while self.in_flight.front().is_some_and(|(n, _)| *n <= highest) {
            self.bytes_in_flight -= self.in_flight.pop_front().map_or(0, |(_, len)| len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
