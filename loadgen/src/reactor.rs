//! One thread, one mio event loop. It owns the sockets, the clock and the timers; clients are state machines that take
//! bytes and timers and leave bytes in their link.

mod link;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use link::{CONNECT, Cut};
pub use link::{Client, Ended, Link};

use crate::route::{self, Route};
use crate::timers::{Due, Timers};

struct Slot<C> {
    client: C,
    route: Route,
    generation: u32,
    stream: Option<TcpStream>,
    connected: bool,
    finish: bool,
    cut: Option<Cut>,
    allowance: Option<usize>,
    /// Something may be there to read that the allowance kept from being read.
    unread: bool,
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
    /// Slot and generation of those whose sockets may hold more than they were read of.
    unfinished: Vec<(usize, u32)>,
    scratch: Vec<u8>,
    began: Instant,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The read buffer that all connections share, and the most that one is read of before the others have their turn: a PING
/// waits behind so much of each.
const READ_BYTES: usize = 64 * 1024;
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
            unfinished: Vec::new(),
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
        let index = self.add_idle(client, address) as u32;
        self.timers.set(Due { at, client: index, generation: 0, timer: CONNECT });
    }

    /// Adds a client that connects when it is visited and told to. Returns its index.
    pub fn add_idle(&mut self, client: C, address: SocketAddr) -> usize {
        self.slots.push(Slot {
            client,
            route: Route::to(address),
            generation: 0,
            stream: None,
            connected: false,
            finish: false,
            cut: None,
            allowance: None,
            unread: false,
            partial: Vec::new(),
            out: Vec::new(),
            written: 0,
        });
        self.slots.len() - 1
    }

    pub fn clients(&self) -> impl Iterator<Item = &C> {
        self.slots.iter().map(|slot| &slot.client)
    }

    /// Clients, connected or not.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
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
        self.settle(world, index);
    }

    /// Behind a call from outside a read: what the client left is written, and what it now allows is read.
    fn settle(&mut self, world: &mut C::World, index: usize) {
        if self.flush(world, index) && slot_may_read(&self.slots[index]) {
            self.read(world, index, true);
        }
    }

    /// A client that is not connected yet, or not any more, does not connect either.
    pub fn give_up(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !slot.connected {
            slot.stream = None;
            // Its timers, the one to connect among them, fall on nothing.
            slot.generation += 1;
        }
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
        let mut wait = until_timer.map_or(longest, |until| until.min(longest));
        let unfinished = std::mem::take(&mut self.unfinished);
        if !unfinished.is_empty() {
            wait = Duration::ZERO;
        }
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
        for (index, generation) in unfinished {
            if self.slots[index].generation == generation {
                self.read(world, index, true);
            }
        }
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
                self.settle(world, index);
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
            cut: &mut slot.cut,
            allowance: &mut slot.allowance,
            route: &mut slot.route,
        };
        call(&mut slot.client, &mut link)
    }

    fn connect(&mut self, world: &mut C::World, index: usize) {
        let slot = &mut self.slots[index];
        if slot.stream.is_some() {
            return;
        }
        let opened = slot.route.open().and_then(|mut stream| {
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

    /// Reads until the socket is empty, or so much that it is the others' turn. A short read means that it is empty, unless a
    /// FIN stands behind it.
    fn read(&mut self, world: &mut C::World, index: usize, until_end: bool) {
        loop {
            let slot = &mut self.slots[index];
            let Some(stream) = &mut slot.stream else { return };
            let most = slot.allowance.map_or(READ_BYTES, |allowance| allowance.min(READ_BYTES));
            slot.unread = most == 0;
            if slot.unread {
                return;
            }
            match stream.read(&mut self.scratch[..most]) {
                Ok(0) => return self.end(world, index, Ended::Closed),
                Ok(count) => {
                    self.bytes_in += count as u64;
                    if let Some(allowance) = &mut slot.allowance {
                        *allowance -= count;
                    }
                    if !self.deliver(world, index, count) {
                        return;
                    }
                    if count == READ_BYTES {
                        return self.unfinished.push((index, self.slots[index].generation));
                    }
                    if count < most && !until_end {
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
            if let (Some(cut), Some(stream)) = (slot.cut.take(), &slot.stream) {
                if cut == Cut::Reset {
                    route::reset_on_close(stream);
                }
                self.end(world, index, Ended::Closed);
                return false;
            }
            let Some(stream) = slot.stream.as_mut().filter(|_| slot.connected) else { return true };
            if slot.written == slot.out.len() {
                let wrote = slot.written > 0;
                slot.written = 0;
                slot.out.clear();
                if wrote {
                    self.with_link(index, |client, link| client.drained(world, link));
                    if !self.slots[index].out.is_empty() || self.slots[index].cut.is_some() {
                        continue;
                    }
                }
                let slot = &mut self.slots[index];
                let Some(stream) = &mut slot.stream else { return true };
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
        slot.cut = None;
        slot.allowance = None;
        slot.unread = false;
        slot.partial = Vec::new();
        slot.out = Vec::new();
        slot.written = 0;
        self.with_link(index, |client, link| client.ended(world, link, why));
        self.slots[index].out.clear();
    }
}

/// Whether an allowance that was given since kept bytes from being read.
fn slot_may_read<C>(slot: &Slot<C>) -> bool {
    slot.unread && slot.connected && slot.allowance != Some(0)
}
