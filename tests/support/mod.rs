//! The daemon's own engine on sockets in memory, with peers that cost nothing: for tests that look at what the daemon holds.

#![allow(dead_code)] // each test uses its part

use berth::clock::Now;
use berth::id::{Class, Token};
use berth::limits::Settings;
use berth::memory::{Holder, charge};
use berth::net::transport::{Info, Transport};
use berth::reactor::{Engine, Readiness};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

/// What escapes at a read, in bytes.
pub const ESCAPED_BYTES: usize = 777;

/// What the one peer that talks has sent and was not read, and what all peers were sent: one for all of them, so that the
/// test's own side costs nothing.
#[derive(Default)]
pub struct Wire {
    sender: u64,
    bytes: Vec<u8>,
    pub taken: usize,
    /// Whether each read lets a block of memory escape.
    pub escapes: bool,
    /// What was written since the last peer sent something, as far as it goes into the capacity.
    written: Vec<u8>,
    /// How much more a socket takes, where that is limited.
    pub room: HashMap<u64, usize>,
    /// Whose FIN is there to be read.
    finished: Option<u64>,
}

pub struct Socket {
    number: u64,
    wire: Rc<RefCell<Wire>>,
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        if wire.escapes {
            // Charged to the connection that is being read, and never given back.
            std::mem::forget(vec![0_u8; ESCAPED_BYTES]);
        }
        if wire.finished == Some(self.number) {
            return Ok(0);
        }
        if wire.sender != self.number || wire.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = wire.bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&wire.bytes[..count]);
        wire.bytes.drain(..count);
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _charge = charge(Holder::Other); // what the test keeps is not the connection's
        let mut wire = self.wire.borrow_mut();
        if let Some(room) = wire.room.get_mut(&self.number) {
            let count = slices.iter().map(|slice| slice.len()).sum::<usize>().min(*room);
            *room -= count;
            wire.taken += count;
            return if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) };
        }
        for slice in slices {
            let room = wire.written.capacity() - wire.written.len();
            wire.written.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = slices.iter().map(|slice| slice.len()).sum();
        wire.taken += count;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self) -> Option<io::Error> {
        None
    }

    fn info(&self) -> Option<Info> {
        None
    }

    fn close(self) {}
}

pub struct Bench {
    pub engine: Engine<Socket>,
    pub wire: Rc<RefCell<Wire>>,
    pub now: Now,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let now = Now::default();
        let [bytes, written] = [1 << 16, 1 << 12].map(Vec::with_capacity);
        let wire = Rc::new(RefCell::new(Wire { bytes, written, ..Wire::default() }));
        Self { engine: Engine::new(settings, 1, now), wire, now }
    }

    pub fn connect(&mut self, class: Class) -> Token {
        let wire = self.wire.clone();
        let open = |token: Token| Ok::<_, io::Error>(Socket { number: token.to_u64(), wire });
        self.engine.accept(class, "127.0.0.1:1".parse().unwrap(), open).unwrap()
    }

    pub fn pass(&mut self, time: Duration) {
        self.now.time = self.now.time + time;
        self.engine.set_now(self.now);
    }

    /// The peer sends `bytes`; how many bytes all peers are sent upon it.
    pub fn send(&mut self, token: Token, bytes: &[u8]) -> usize {
        self.pass(Duration::from_micros(10));
        let before = {
            let mut wire = self.wire.borrow_mut();
            wire.sender = token.to_u64();
            wire.written.clear();
            wire.bytes.extend_from_slice(bytes);
            wire.taken
        };
        self.engine.event(token, Readiness { readable: true, ..Readiness::default() });
        self.engine.turn();
        let wire = self.wire.borrow();
        assert!(wire.bytes.is_empty(), "everything was read");
        wire.taken - before
    }

    /// The peer closes; when this returns its connection is gone.
    pub fn hang_up(&mut self, token: Token) {
        self.pass(Duration::from_micros(10));
        self.wire.borrow_mut().finished = Some(token.to_u64());
        self.engine.event(token, Readiness { readable: true, read_closed: true, ..Readiness::default() });
        self.engine.turn();
        assert!(self.engine.describe(token).is_none(), "it has ended");
    }

    /// Whether this was among what all peers were sent upon the last [`Self::send`].
    pub fn was_sent(&self, bytes: &[u8]) -> bool {
        self.wire.borrow().written.windows(bytes.len()).any(|window| window == bytes)
    }

    pub fn router(&mut self, number: usize) -> Token {
        let token = self.connect(Class::Router);
        assert!(self.send(token, &frame(0x01, 0, 1, &format!("router-{number:05}"), b"")) > 0);
        token
    }

    pub fn watcher(&mut self, number: usize) -> Token {
        let token = self.connect(Class::App);
        let handshake = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert!(self.send(token, handshake.as_bytes()) > 0);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{{"router":"router-{number:05}","topic":"*"}}}}"#
        );
        assert!(self.send(token, &websocket(0x81, call.as_bytes())) > 0);
        token
    }
}

pub fn frame(kind: u8, flags: u8, id: u32, name: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, flags];
    bytes.extend((name.len() as u16).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(body);
    bytes
}

/// A WebSocket frame of at most 65,535 bytes with a mask of zeros; `first` is FIN and the opcode.
pub fn websocket(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A request with a body.
pub fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
