//! One thread, one mio event loop. It owns the sockets, the clock and the timers; clients are state machines that take
//! bytes and timers and leave bytes in their link.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::timers::{Due, Timers};

/// Why a connection is over.
#[derive(Debug)]
pub enum Ended {
    /// The peer's FIN, or ours after [`Link::finish`] answered by the peer's.
    Closed,
    /// RST, a failed connect, or another error of the socket.
    Error(io::Error),
    /// The client itself refused what it received.
    Fault(String),
}

impl Ended {
    /// One word, for the kind of an error.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Error(_) => "io",
            Self::Fault(_) => "breach",
        }
    }
}

/// A state machine behind one connection.
pub trait Client {
    type World;
    fn connected(&mut self, world: &mut Self::World, link: &mut Link<'_>);
    /// Takes whole messages from the start of `bytes` and returns how many bytes it took.
    ///
    /// # Errors
    /// What ends the connection, in words.
    fn received(
        &mut self,
        world: &mut Self::World,
        link: &mut Link<'_>,
        bytes: &[u8],
    ) -> Result<usize, String>;
    fn timer(&mut self, world: &mut Self::World, link: &mut Link<'_>, timer: u8);
    /// The connection is gone; a new one comes if [`Link::connect_at`] is called.
    fn ended(&mut self, world: &mut Self::World, link: &mut Link<'_>, why: Ended);
}

/// What a client may do with its connection.
pub struct Link<'a> {
    /// Nanoseconds since the reactor began.
    pub now: u64,
    /// Bytes to send; the reactor writes them when the client returns.
    pub out: &'a mut Vec<u8>,
    timers: &'a mut Timers,
    client: u32,
    generation: u32,
    finish: &'a mut bool,
}

const CONNECT: u8 = u8::MAX;

impl Link<'_> {
    /// Calls [`Client::timer`] with `timer` (below 255) at `at`, unless the connection has ended by then.
    pub fn wake_at(&mut self, at: u64, timer: u8) {
        self.timers.set(Due { at, client: self.client, generation: self.generation, timer });
    }

    /// Opens a connection at `at`. To be called when there is none.
    pub fn connect_at(&mut self, at: u64) {
        self.wake_at(at, CONNECT);
    }

    /// Sends FIN behind what is still to be sent; what the peer then sends is still read.
    pub fn finish(&mut self) {
        *self.finish = true;
    }
}

struct Slot<C> {
    client: C,
    address: SocketAddr,
    generation: u32,
    stream: Option<TcpStream>,
    connected: bool,
    finish: bool,
    /// Bytes received that do not make a whole message yet.
    partial: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

pub struct Reactor<C: Client> {
    poll: Poll,
    events: Events,
    slots: Vec<Slot<C>>,
    timers: Timers,
    scratch: Vec<u8>,
    began: Instant,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The read buffer that all connections share.
const READ_BYTES: usize = 256 * 1024;
/// Buffers of a connection over this are given back when they are empty.
const KEEP_BYTES: usize = 64 * 1024;

impl<C: Client> Reactor<C> {
    /// # Errors
    /// No epoll instance could be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            slots: Vec::new(),
            timers: Timers::default(),
            scratch: vec![0; READ_BYTES],
            began: Instant::now(),
            bytes_in: 0,
            bytes_out: 0,
        })
    }

    /// Nanoseconds since the reactor began.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Adds a client that connects to `address` at `at`.
    pub fn add(&mut self, client: C, address: SocketAddr, at: u64) {
        let index = self.slots.len() as u32;
        self.slots.push(Slot {
            client,
            address,
            generation: 0,
            stream: None,
            connected: false,
            finish: false,
            partial: Vec::new(),
            out: Vec::new(),
            written: 0,
        });
        self.timers.set(Due { at, client: index, generation: 0, timer: CONNECT });
    }

    pub fn clients(&self) -> impl Iterator<Item = &C> {
        self.slots.iter().map(|slot| &slot.client)
    }

    /// Connections that have a socket.
    pub fn open(&self) -> usize {
        self.slots.iter().filter(|slot| slot.stream.is_some()).count()
    }

    /// Calls `visit` for every client, with its link: for the rare moments that concern all of them.
    pub fn each(
        &mut self,
        world: &mut C::World,
        mut visit: impl FnMut(&mut C, &mut C::World, &mut Link<'_>),
    ) {
        for index in 0..self.slots.len() {
            self.visit(world, index, &mut visit);
        }
    }

    /// Calls `visit` for one client, with its link.
    pub fn visit(
        &mut self,
        world: &mut C::World,
        index: usize,
        visit: impl FnOnce(&mut C, &mut C::World, &mut Link<'_>),
    ) {
        self.with_link(index, |client, link| visit(client, world, link));
        self.flush(world, index);
    }

    /// Closes what is still open, without a word.
    pub fn drop_all(&mut self) {
        for slot in &mut self.slots {
            slot.stream = None;
        }
    }

    /// One turn: waits for events or timers, at most `longest`, and carries them out.
    ///
    /// # Errors
    /// epoll failed.
    pub fn turn(&mut self, world: &mut C::World, longest: Duration) -> io::Result<()> {
        let until_timer = self.timers.next_at().map(|at| Duration::from_nanos(at.saturating_sub(self.now())));
        let wait = until_timer.map_or(longest, |until| until.min(longest));
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let (index, generation) = (event.token().0 & 0xffff_ffff, (event.token().0 >> 32) as u32);
            if self.slots[index].generation != generation || self.slots[index].stream.is_none() {
                continue;
            }
            if !self.slots[index].connected && event.is_writable() {
                self.finish_connect(world, index);
            } else if event.is_writable() {
                self.flush(world, index);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(world, index, event.is_read_closed() || event.is_error());
            }
        }
        self.events = events;
        let now = self.now();
        while let Some(due) = self.timers.pop_due(now) {
            let index = due.client as usize;
            if self.slots[index].generation != due.generation {
                continue;
            }
            if due.timer == CONNECT {
                self.connect(world, index);
            } else {
                self.with_link(index, |client, link| client.timer(world, link, due.timer));
                self.flush(world, index);
            }
        }
        Ok(())
    }

    fn with_link<R>(&mut self, index: usize, call: impl FnOnce(&mut C, &mut Link<'_>) -> R) -> R {
        let now = self.now();
        let slot = &mut self.slots[index];
        let mut link = Link {
            now,
            out: &mut slot.out,
            timers: &mut self.timers,
            client: index as u32,
            generation: slot.generation,
            finish: &mut slot.finish,
        };
        call(&mut slot.client, &mut link)
    }

    fn connect(&mut self, world: &mut C::World, index: usize) {
        let slot = &mut self.slots[index];
        if slot.stream.is_some() {
            return;
        }
        let opened = TcpStream::connect(slot.address).and_then(|mut stream| {
            let token = Token((slot.generation as usize) << 32 | index);
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => slot.stream = Some(stream),
            Err(error) => self.end(world, index, Ended::Error(error)),
        }
    }

    fn finish_connect(&mut self, world: &mut C::World, index: usize) {
        let Some(stream) = &self.slots[index].stream else { return };
        let checked = match stream.take_error() {
            Ok(None) => stream.peer_addr().and_then(|_| stream.set_nodelay(true)),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match checked {
            Ok(()) => {
                self.slots[index].connected = true;
                self.with_link(index, |client, link| client.connected(world, link));
                self.flush(world, index);
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => self.end(world, index, Ended::Error(error)),
        }
    }

    /// Reads until the socket is empty. A short read means that, unless a FIN stands behind it.
    fn read(&mut self, world: &mut C::World, index: usize, until_end: bool) {
        loop {
            let slot = &mut self.slots[index];
            let Some(stream) = &mut slot.stream else { return };
            match stream.read(&mut self.scratch) {
                Ok(0) => return self.end(world, index, Ended::Closed),
                Ok(count) => {
                    self.bytes_in += count as u64;
                    if !self.deliver(world, index, count) {
                        return;
                    }
                    if count < READ_BYTES && !until_end {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.end(world, index, Ended::Error(error)),
            }
        }
    }

    /// Hands `count` new bytes of the read buffer to the client. False if that ended the connection.
    fn deliver(&mut self, world: &mut C::World, index: usize, count: usize) -> bool {
        let mut partial = std::mem::take(&mut self.slots[index].partial);
        let scratch = std::mem::take(&mut self.scratch);
        let taken = if partial.is_empty() {
            let fresh = &scratch[..count];
            let taken = self.with_link(index, |client, link| client.received(world, link, fresh));
            taken.map(|taken| partial.extend_from_slice(&fresh[taken..]))
        } else {
            partial.extend_from_slice(&scratch[..count]);
            let taken = self.with_link(index, |client, link| client.received(world, link, &partial));
            taken.map(|taken| drop(partial.drain(..taken)))
        };
        self.scratch = scratch;
        if partial.is_empty() && partial.capacity() > KEEP_BYTES {
            partial = Vec::new();
        }
        self.slots[index].partial = partial;
        match taken {
            Ok(()) => self.flush(world, index),
            Err(fault) => {
                self.end(world, index, Ended::Fault(fault));
                false
            }
        }
    }

    /// Writes what the client left. False if that ended the connection.
    fn flush(&mut self, world: &mut C::World, index: usize) -> bool {
        loop {
            let slot = &mut self.slots[index];
            let Some(stream) = slot.stream.as_mut().filter(|_| slot.connected) else { return true };
            if slot.written == slot.out.len() {
                slot.written = 0;
                slot.out.clear();
                if slot.out.capacity() > KEEP_BYTES {
                    slot.out = Vec::new();
                }
                if std::mem::take(&mut slot.finish) {
                    // An error here means that the peer is gone already: reading tells.
                    let _ = stream.shutdown(Shutdown::Write);
                }
                return true;
            }
            match stream.write(&slot.out[slot.written..]) {
                Ok(count) => {
                    slot.written += count;
                    self.bytes_out += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end(world, index, Ended::Error(error));
                    return false;
                }
            }
        }
    }

    fn end(&mut self, world: &mut C::World, index: usize, why: Ended) {
        let slot = &mut self.slots[index];
        if let Some(mut stream) = slot.stream.take() {
            // The socket closes with the stream; an error of epoll here cannot keep it open.
            let _ = self.poll.registry().deregister(&mut stream);
        }
        slot.generation += 1;
        slot.connected = false;
        slot.finish = false;
        slot.partial = Vec::new();
        slot.out = Vec::new();
        slot.written = 0;
        self.with_link(index, |client, link| client.ended(world, link, why));
        self.slots[index].out.clear();
    }
}
