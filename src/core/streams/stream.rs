//! One stream: who consumes it, where it comes from, and how far it is.

use super::gatherer::{Gatherer, Window};
use crate::clock::Time;
use crate::core::list::{Link, Linked};
use crate::core::wheel::TimerKey;
use crate::id::Token;
use crate::proto::http::chunk_bytes;
use crate::proto::router::{HEADER_BYTES, Kind, header};

/// Streams of one router; and those of them that an ACK is due for.
pub const BY_ROUTER: usize = 0;
pub const ACKS: usize = 1;

/// What OPEN says each time, but for id and `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub name: Box<str>,
    pub window: Window,
    /// The query string as sent, without the keys that are the server's.
    pub query: Box<str>,
}

impl Opening {
    pub fn new(name: &str, window: Window, query: &str) -> Self {
        Self { name: name.into(), window, query: query.into() }
    }

    /// What OPEN carries besides the query, in bytes.
    pub const FIXED_BYTES: usize = 16;

    /// The whole frame.
    pub fn frame(&self, id: u32, from: u64) -> Vec<u8> {
        let body_len = Self::FIXED_BYTES + self.query.len();
        let mut frame = Vec::with_capacity(self.wire_bytes());
        frame.extend_from_slice(&header(Kind::Open, 0, id, self.name.len(), body_len));
        frame.extend_from_slice(self.name.as_bytes());
        frame.extend_from_slice(&self.window.max_messages.to_be_bytes());
        frame.extend_from_slice(&self.window.max_bytes.to_be_bytes());
        frame.extend_from_slice(&from.to_be_bytes());
        frame.extend_from_slice(self.query.as_bytes());
        frame
    }

    pub fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.name.len() + Self::FIXED_BYTES + self.query.len()
    }
}

/// How rows are told apart in the body: the first one's JSON flag fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One a line.
    Ndjson,
    /// Each behind its length, a u32.
    Octets,
}

impl Format {
    pub fn of(json: bool) -> Self {
        if json { Format::Ndjson } else { Format::Octets }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/x-ndjson",
            Format::Octets => "application/octet-stream",
        }
    }

    /// What a row takes in the consumer's queue.
    fn wire_bytes(self, row: usize, chunked: bool) -> usize {
        let piece = row + if self == Format::Ndjson { 1 } else { 4 };
        if chunked { chunk_bytes(piece) } else { piece }
    }
}

#[derive(Debug)]
pub struct Stream {
    pub(super) generation: u32,
    pub consumer: Token,
    /// The router's id: a stream outlives the session that it was opened on.
    pub router: Box<str>,
    /// The session that it belongs to; none while its router is away.
    pub session: Option<Token>,
    pub opening: Opening,
    /// Where the next OPEN begins.
    from: u64,
    /// Between two OPENs there is none.
    pub(super) gatherer: Option<Gatherer>,
    /// Its OPEN is written: the router may send, and its time runs.
    pub is_asked: bool,
    /// Reopenings in a row that have brought no row.
    pub barren: u32,
    /// Fixed by the first row, with which the head is sent.
    pub format: Option<Format>,
    chunked: bool,
    /// Bytes of the answer that were queued, and how many of them are rows that have been taken.
    queued: u64,
    taken: u64,
    /// When it last came further, or began to wait.
    pub moved_at: Time,
    pub timer: TimerKey,
    pub(super) by_router: Link,
    pub(super) ack: Link,
    pub ack_due: bool,
}

impl Stream {
    pub(super) fn new(generation: u32, new: super::NewStream, now: Time, timer: TimerKey) -> Self {
        let super::NewStream { consumer, router, session, opening, from, chunked } = new;
        Self {
            generation,
            consumer,
            router,
            session: Some(session),
            opening,
            from,
            gatherer: None,
            is_asked: false,
            barren: 0,
            format: None,
            chunked,
            queued: 0,
            taken: 0,
            moved_at: now,
            timer,
            by_router: Link::default(),
            ack: Link::default(),
            ack_due: false,
        }
    }

    pub fn gatherer(&self) -> Option<&Gatherer> {
        self.gatherer.as_ref()
    }

    /// The first row that has not come.
    pub fn next(&self) -> u64 {
        self.gatherer.as_ref().map_or(self.from, Gatherer::next)
    }

    /// Begins to gather under a new id.
    pub(super) fn begin(&mut self, id: u32) {
        debug_assert!(self.gatherer.is_none(), "a window is never granted twice");
        self.gatherer = Some(Gatherer::new(id, self.from));
        self.is_asked = false;
        self.taken = self.queued; // it begins when the consumer has taken all
    }

    /// Throws the gathering state away; what it was. The rows that have come stay counted.
    pub(super) fn drop_gatherer(&mut self) -> Option<Gatherer> {
        self.from = self.next();
        self.gatherer.take()
    }

    /// So many bytes of the answer have been queued: the head, a row.
    pub(super) fn add_queued(&mut self, bytes: usize, is_row: bool) {
        if !is_row {
            self.taken += bytes as u64; // rows are reckoned from behind the head
        }
        self.queued += bytes as u64;
    }

    /// So many bytes wait in the consumer's queue: takes off the rows whose last byte has left it. True if there are any.
    pub(super) fn take_off(&mut self, waiting: usize) -> bool {
        let position = self.queued.saturating_sub(waiting as u64);
        let (Some(format), Some(gatherer)) = (self.format, &mut self.gatherer) else { return false };
        let mut any = false;
        while let Some(row) = gatherer.first_untaken() {
            let end = self.taken + format.wire_bytes(row, self.chunked) as u64;
            if end > position {
                break;
            }
            self.taken = end;
            gatherer.take_off();
            any = true;
        }
        any
    }

    /// What it holds besides its place in the table, in bytes of heap.
    pub(super) fn held_bytes(&self) -> usize {
        let texts = self.router.len() + self.opening.name.len() + self.opening.query.len();
        texts + self.gatherer.as_ref().map_or(0, Gatherer::held_bytes)
    }
}

impl Linked<BY_ROUTER> for Stream {
    fn link(&mut self) -> &mut Link {
        &mut self.by_router
    }
    fn peek(&self) -> &Link {
        &self.by_router
    }
}

impl Linked<ACKS> for Stream {
    fn link(&mut self) -> &mut Link {
        &mut self.ack
    }
    fn peek(&self) -> &Link {
        &self.ack
    }
}
