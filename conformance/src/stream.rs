//! Streams, contract section 1: the frames that the server sends for them, a router's side that keeps to its window, and a
//! consumer that reads its response piece by piece.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::frame::{Frame, flag, kind};
use crate::http::{Client, PATIENCE, Response};
use crate::kernel::settled;
use crate::router::{Dial, Router};

/// The longest row in bytes: a fragment without its sequence number.
pub const MAX_ROW: usize = 16_376;

// --- What the server sends to the router -----------------------------------------------------------------------------

/// An OPEN, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub id: u32,
    pub name: String,
    pub max_messages: u32,
    pub max_bytes: u32,
    pub from: u64,
    pub query: String,
}

impl Open {
    /// Panics when the frame is not an OPEN as the table wants it.
    #[track_caller]
    pub fn of(frame: &Frame) -> Self {
        assert_eq!((frame.kind, frame.flags), (kind::OPEN, 0), "{frame:?}");
        assert!(frame.id != 0 && frame.body.len() >= 16, "{frame:?}");
        let u32_at = |at: usize| u32::from_be_bytes(frame.body[at..at + 4].try_into().expect("four bytes"));
        Self {
            id: frame.id,
            name: frame.name_text().to_owned(),
            max_messages: u32_at(0),
            max_bytes: u32_at(4),
            from: u64::from_be_bytes(frame.body[8..16].try_into().expect("eight bytes")),
            query: String::from_utf8(frame.body[16..].to_vec()).expect("a query of UTF-8"),
        }
    }

    /// One row of octets.
    pub fn item(&self, sequence: u64, row: impl AsRef<[u8]>) -> Frame {
        Frame::item(self.id, sequence, row)
    }

    /// One row of JSON.
    pub fn json(&self, sequence: u64, row: impl AsRef<[u8]>) -> Frame {
        self.item(sequence, row).flags(flag::JSON)
    }

    pub fn end(&self, sequence: u64) -> Frame {
        Frame::end(self.id, sequence)
    }

    pub fn error(&self, text: &str) -> Frame {
        Frame::stream_error(self.id, text)
    }
}

/// The number in an ACK of this stream. Panics when it is anything else, or not as the table wants it.
#[track_caller]
pub fn acknowledged(frame: &Frame, stream: u32) -> u64 {
    assert_eq!((frame.kind, frame.id, frame.flags, frame.name.len()), (kind::ACK, stream, 0, 0), "{frame:?}");
    u64::from_be_bytes(frame.body.as_slice().try_into().unwrap_or_else(|_| panic!("{frame:?}")))
}

impl Router {
    /// The next OPEN; ACKs of other streams and PINGs may come before it.
    #[track_caller]
    pub fn recv_open(&mut self) -> Open {
        loop {
            let frame = self.recv();
            match frame.kind {
                kind::PING => self.send(&Frame { kind: kind::PONG, ..frame }),
                kind::ACK => {}
                _ => return Open::of(&frame),
            }
        }
    }

    /// The CANCEL of this stream; ACKs that were queued before may come before it.
    #[track_caller]
    pub fn expect_cancel(&mut self, stream: u32) {
        let mut frame = self.recv();
        while frame.kind == kind::ACK && frame.id == stream {
            frame = self.recv();
        }
        assert_eq!(frame, Frame::new(kind::CANCEL).id(stream));
    }

    /// The CANCEL of a stream whose gathering state was thrown away, and right behind it the OPEN that asks for the same
    /// again, from this row on and under a new id.
    #[track_caller]
    pub fn expect_reopening(&mut self, old: &Open, from: u64) -> Open {
        self.expect_cancel(old.id);
        self.expect_open_again(old, from)
    }

    /// The OPEN alone.
    #[track_caller]
    pub fn expect_open_again(&mut self, old: &Open, from: u64) -> Open {
        let new = Open::of(&self.recv());
        assert_ne!(new.id, old.id, "the same id again");
        assert_eq!(new, Open { id: new.id, from, ..old.clone() });
        new
    }

    /// Sends a PING and returns everything that comes before its PONG.
    #[track_caller]
    pub fn frames_before_pong(&mut self) -> Vec<Frame> {
        let ping = Frame::ping("all until here").id(77);
        self.send(&ping);
        let pong = Frame { kind: kind::PONG, ..ping };
        std::iter::from_fn(|| Some(self.recv()).filter(|frame| *frame != pong)).collect()
    }
}

// --- The router's side -----------------------------------------------------------------------------------------------

/// A router's side of one OPEN: it sends no more than the window allows, and holds the server to the rules of ACK.
#[derive(Debug)]
pub struct Sender {
    pub open: Open,
    /// The number of the next row.
    pub next: u64,
    /// The number of the first row that is not acknowledged.
    pub unacknowledged: u64,
    /// Lengths of the rows from `unacknowledged` to `next`.
    in_flight: VecDeque<usize>,
    flags: u8,
}

impl Sender {
    pub fn of_octets(open: Open) -> Self {
        let (next, unacknowledged) = (open.from, open.from);
        Self { open, next, unacknowledged, in_flight: VecDeque::new(), flags: 0 }
    }

    pub fn of_json(open: Open) -> Self {
        Self { flags: flag::JSON, ..Self::of_octets(open) }
    }

    pub fn fits(&self, length: usize) -> bool {
        let bytes: usize = self.in_flight.iter().sum();
        self.in_flight.len() < self.open.max_messages as usize
            && bytes + length <= self.open.max_bytes as usize
    }

    /// Sends the next row, and does not ask whether it fits.
    pub fn send_at_once(&mut self, router: &mut Router, row: impl AsRef<[u8]>) {
        let row = row.as_ref();
        router.send(&self.open.item(self.next, row).flags(self.flags));
        self.in_flight.push_back(row.len());
        self.next += 1;
    }

    /// Sends the next row, when the ACKs have made room for it.
    #[track_caller]
    pub fn send(&mut self, router: &mut Router, row: impl AsRef<[u8]>) {
        self.wait_for_room(router, row.as_ref().len());
        self.send_at_once(router, row);
    }

    /// Waits until the ACKs have made room for a row of this length.
    #[track_caller]
    pub fn wait_for_room(&mut self, router: &mut Router, length: usize) {
        while !self.fits(length) {
            let frame = router.recv();
            self.take(router, frame);
        }
    }

    /// Takes an ACK of this stream, which must be of rows that were sent and not acknowledged before; answers a PING.
    #[track_caller]
    pub fn take(&mut self, router: &mut Router, frame: Frame) {
        if frame.kind == kind::PING {
            return router.send(&Frame { kind: kind::PONG, ..frame });
        }
        let highest = acknowledged(&frame, self.open.id);
        assert!(highest >= self.unacknowledged, "ACK {highest}, {} was before", self.unacknowledged);
        assert!(highest < self.next, "ACK {highest}, and {} rows were sent", self.next);
        self.in_flight.drain(..=(highest - self.unacknowledged) as usize);
        self.unacknowledged = highest + 1;
    }

    /// Waits until every row that was sent is acknowledged.
    #[track_caller]
    pub fn wait_for_acks(&mut self, router: &mut Router) {
        while self.unacknowledged < self.next {
            let frame = router.recv();
            self.take(router, frame);
        }
    }

    /// Sends rows until a consumer who does not read takes no more of them: the window is closed and stays closed. Returns
    /// the number of bytes that the kernels hold for the consumer.
    #[track_caller]
    pub fn fill(&mut self, router: &mut Router, row: &[u8], consumer: &Consumer) -> u64 {
        loop {
            router.set_patience(Duration::from_millis(20));
            loop {
                while self.fits(row.len()) {
                    self.send_at_once(router, row);
                }
                let Ok(frame) = router.try_recv() else { break };
                self.take(router, frame);
            }
            router.set_patience(PATIENCE);
            let in_kernels = settled(consumer.client.stream());
            // Two round trips: an ACK may be queued behind the first PONG, by what the same turn wrote to the consumer.
            let frames = [router.frames_before_pong(), router.frames_before_pong()].concat();
            for frame in frames {
                self.take(router, frame);
            }
            if !self.fits(row.len()) {
                return in_kernels;
            }
        }
    }

    pub fn end(&self, router: &mut Router) {
        router.send(&self.open.end(self.next));
    }
}

// --- The consumer ----------------------------------------------------------------------------------------------------

/// Whoever asked for a stream over HTTP, and reads the response as it comes.
#[derive(Debug)]
pub struct Consumer {
    pub client: Client,
    /// Decoded bytes of the body that were not taken yet.
    body: VecDeque<u8>,
}

impl Consumer {
    /// Sends the request; `stream` is what follows `/streams/`, so it may have a query.
    pub fn get(http: SocketAddr, router: &str, stream: &str) -> Self {
        Self::over(Client::connect(http), router, stream)
    }

    /// A consumer whose kernel takes little while it does not read.
    pub fn get_small(http: SocketAddr, router: &str, stream: &str) -> Self {
        let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
        let socket: TcpStream = dial.stream(http).expect("connect");
        Self::over(Client::over(socket), router, stream)
    }

    pub fn over(mut client: Client, router: &str, stream: &str) -> Self {
        client.send_request("GET", &format!("/v1/routers/{router}/streams/{stream}"), &[], b"");
        Self { client, body: VecDeque::new() }
    }

    /// The head, which must be that of rows of JSON.
    #[track_caller]
    pub fn expect_lines(&mut self) -> Response {
        self.expect_head("application/x-ndjson")
    }

    /// The head, which must be that of rows of octets.
    #[track_caller]
    pub fn expect_octets(&mut self) -> Response {
        self.expect_head("application/octet-stream")
    }

    #[track_caller]
    fn expect_head(&mut self, content_type: &str) -> Response {
        let head = self.client.head().unwrap_or_else(|error| panic!("no head: {error}"));
        assert_eq!((head.version.as_str(), head.status), ("HTTP/1.1", 200), "{head:?}");
        assert_eq!(head.header("content-type"), Some(content_type), "{head:?}");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{head:?}");
        // RFC 9112 section 6.2: never both.
        assert_eq!(head.header("content-length"), None, "{head:?}");
        head
    }

    /// The next row of a stream of JSON, without the end of its line.
    #[track_caller]
    pub fn line(&mut self) -> Vec<u8> {
        self.try_line().unwrap_or_else(|error| panic!("no row: {error}"))
    }

    pub fn try_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.body.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.body.drain(..=at).collect();
                line.pop();
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// The next row of a stream of octets.
    #[track_caller]
    pub fn row(&mut self) -> Vec<u8> {
        self.try_row().unwrap_or_else(|error| panic!("no row: {error}"))
    }

    pub fn try_row(&mut self) -> io::Result<Vec<u8>> {
        self.gather(4)?;
        let length: Vec<u8> = self.body.iter().take(4).copied().collect();
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        self.gather(4 + length)?;
        self.body.drain(..4);
        Ok(self.body.drain(..length).collect())
    }

    /// Asserts that the body ends as it should, with its last chunk.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let chunk = self.client.chunk().unwrap_or_else(|error| panic!("no end of the body: {error}"));
        assert!(chunk.is_none() && self.body.is_empty(), "more rows: {:?}, {chunk:?}", self.body);
    }

    /// Asserts that the body is cut: the connection ends without the last chunk. The bytes of whole rows and of a part of a
    /// row that may come before are returned.
    #[track_caller]
    pub fn expect_cut(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
                {
                    return self.body.drain(..).collect();
                }
                Err(error) => panic!("the body is not cut: {error}"),
            }
        }
    }

    /// Asserts that the answer is a problem.
    #[track_caller]
    pub fn expect_problem(&mut self, status: u16, code: &str) -> Value {
        self.client.response().problem(status, code)
    }

    fn gather(&mut self, count: usize) -> io::Result<()> {
        while self.body.len() < count {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let ended = || io::Error::new(ErrorKind::InvalidData, "the body has ended");
        self.body.extend(self.client.chunk()?.ok_or_else(ended)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_is_taken_apart() {
        let body = [&[0, 0, 0, 2, 0, 0, 0x40, 0][..], &7_u64.to_be_bytes(), b"a=1"].concat();
        let open = Open::of(&Frame::new(kind::OPEN).id(3).name("log").body(body));
        let (name, query) = ("log".to_owned(), "a=1".to_owned());
        assert_eq!(open, Open { id: 3, name, max_messages: 2, max_bytes: 16_384, from: 7, query });
        assert_eq!(open.json(8, "[]").encode(), b"\x21\x04\0\0\0\0\0\x03\0\0\0\x0a\0\0\0\0\0\0\0\x08[]");
    }

    #[test]
    fn a_sender_keeps_both_sides_of_its_window() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut router = Router::connect(listener.local_addr().expect("an address"));
        let query = String::new();
        let open = Open { id: 1, name: "log".to_owned(), max_messages: 2, max_bytes: 10, from: 5, query };
        let mut sender = Sender::of_json(open);
        assert!(sender.fits(10) && !sender.fits(11));
        sender.send_at_once(&mut router, "123456");
        assert!(sender.fits(4) && !sender.fits(5));
        sender.send_at_once(&mut router, "");
        assert!(!sender.fits(0));
        let ack = |highest: u64| Frame::new(kind::ACK).id(1).body(highest.to_be_bytes());
        sender.take(&mut router, ack(5));
        assert!(sender.fits(10));
        sender.take(&mut router, ack(6));
        assert_eq!((sender.unacknowledged, sender.next), (7, 7));
    }
}
