//! Sockets in memory: a [`Link`] is a TCP connection with the kernels at both ends, [`SimSocket`] the server's descriptor.

use crate::random::Random;
use berth::clock::Time;
use berth::id::{Class, Reason, Token};
use berth::memory::{Holder, charge};
use berth::net::transport::{Info, Transport};
use berth::reactor::Readiness;
use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const EPIPE: i32 = 32;

pub type LinkRef = Rc<RefCell<Link>>;

/// What the server did with a link that is tapped.
pub enum Happened {
    Read(Vec<u8>),
    Written(Vec<u8>),
    /// FIN, or the end of the socket.
    Ended,
}

/// What all sockets of a schedule share: the clock, the count of descriptors, and the trace of what happened.
#[derive(Default)]
pub struct Shared {
    /// What happened on tapped links since it was looked at, in order, each with the link's serial.
    pub tapped: RefCell<Vec<(u64, Happened)>>,
    pub now: Cell<Time>,
    pub open: Cell<i64>,
    pub closed: Cell<u64>,
    /// Dropped without close.
    pub lost: Cell<u64>,
    pub trace: RefCell<DefaultHasher>,
    /// Whether the schedule is printed as it runs.
    pub tells: bool,
}

/// What the peer has done to its end: the only things that may justify some of the reasons of an unbind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Did {
    pub fin: bool,
    /// That was before it had seen all that the server had to say.
    pub left_first: bool,
    /// A BYE, or a close frame.
    pub bye: bool,
    pub reset: bool,
    pub timed_out: bool,
    pub dead: bool,
    pub stalled: bool,
    /// It took so little that a write of the server was cut; and it was so at the end.
    pub slow: bool,
    pub cut_off: bool,
    /// It has sent something that the contract refuses.
    pub broke_rules: bool,
    /// It has asked for the connection to be closed behind an answer.
    pub asked_close: bool,
}

pub struct Link {
    pub serial: u64,
    pub class: Class,
    pub peer: SocketAddr,
    pub token: Option<Token>,
    pub opened_at: Time,
    pub did: Did,
    /// When bytes of the peer last reached the server's kernel, and when the server last read some.
    pub last_arrival: Time,
    pub last_read: Time,
    /// The server's last write was cut or refused, and no event has said since that there is room.
    pub blocked: bool,
    pub fin_from_server: bool,
    pub closed: bool,
    /// How the connection ended, as the server's hook saw it.
    pub end: Option<Reason>,
    /// Whether the server's reads and writes are kept for the model.
    pub is_tapped: bool,
    /// Sent by the peer, not arrived.
    wire: Vec<u8>,
    inbound: Vec<u8>,
    inbound_cap: usize,
    fin_arrived: bool,
    error: Option<i32>,
    broken: bool,
    /// The peer has closed wholly: what is written to it is answered with RST.
    gone: bool,
    /// Written by the server, not taken by the peer.
    outbound: Vec<u8>,
    outbound_cap: usize,
    receive_cap: usize,
    taken: u64,
    last_taken: Time,
    no_space: bool,
    edge: bool,
    tells_info: bool,
    random: Random,
    shared: Rc<Shared>,
}

impl Link {
    pub fn new(
        serial: u64,
        class: Class,
        peer: SocketAddr,
        random: &mut Random,
        shared: &Rc<Shared>,
    ) -> LinkRef {
        let cap = |random: &mut Random| match random.below(4) {
            0 => random.between(64, 600),
            1 => random.between(600, 8_000),
            _ => random.between(8_000, 100_000),
        };
        let now = shared.now.get();
        Rc::new(RefCell::new(Self {
            serial,
            class,
            peer,
            token: None,
            opened_at: now,
            did: Did::default(),
            last_arrival: now,
            last_read: now,
            blocked: false,
            fin_from_server: false,
            closed: false,
            end: None,
            is_tapped: class == Class::Router,
            wire: Vec::new(),
            inbound: Vec::new(),
            inbound_cap: cap(random),
            fin_arrived: false,
            error: None,
            broken: false,
            gone: false,
            outbound: Vec::new(),
            outbound_cap: cap(random),
            receive_cap: cap(random),
            taken: 0,
            last_taken: now,
            no_space: false,
            edge: true, // registering reports the state there is
            tells_info: random.chance(90),
            random: random.fork(),
            shared: shared.clone(),
        }))
    }

    /// For the replay of a seed: what the server read and wrote.
    fn tell(&self, what: &str, bytes: &[u8]) {
        if self.shared.tells && !bytes.is_empty() {
            let text = bytes[..bytes.len().min(100)].escape_ascii();
            println!(
                "{:?} {} {}: {what} {}: {text}",
                Duration::from_nanos(self.shared.now.get().0),
                self.class.name(),
                self.serial,
                bytes.len()
            );
        }
    }

    fn tap(&self, happened: impl FnOnce() -> Happened) {
        if self.is_tapped {
            let _charge = charge(Holder::Other);
            self.shared.tapped.borrow_mut().push((self.serial, happened()));
        }
    }

    // --- The peer's end ---------------------------------------------------------------------------------------

    pub fn send(&mut self, bytes: &[u8]) {
        if !self.did.fin && !self.broken && !self.did.dead {
            self.wire.extend_from_slice(bytes);
        }
    }

    /// What the peer's process takes off its socket: at most `most` bytes.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        if self.did.dead || self.did.reset || self.did.timed_out {
            return Vec::new();
        }
        let count = most.min(self.outbound.len());
        if count > 0 {
            self.taken += count as u64;
            self.last_taken = self.shared.now.get();
            if std::mem::take(&mut self.no_space) {
                self.edge = true;
            }
        }
        self.outbound.drain(..count).collect()
    }

    /// Everything that the server sent was taken, and it has ended its side.
    pub fn at_end(&self) -> bool {
        self.broken || ((self.fin_from_server || self.closed) && self.outbound.is_empty())
    }

    /// Room for all that is on its way, so that the end of a schedule is not a matter of patience.
    pub fn widen(&mut self) {
        self.inbound_cap += self.wire.len();
    }

    pub fn untaken(&self) -> usize {
        self.outbound.len()
    }

    pub fn unread(&self) -> usize {
        self.wire.len() + self.inbound.len()
    }

    pub fn finish(&mut self) {
        self.did.left_first |= !self.at_end();
        self.did.fin = true;
    }

    /// Closes wholly: nothing is taken any more.
    pub fn hang_up(&mut self) {
        self.did.left_first |= !self.at_end();
        self.did.fin = true;
        self.gone = true;
    }

    pub fn reset(&mut self) {
        self.did.reset = true;
        self.break_with(ECONNRESET);
    }

    /// The peer's host vanishes: nothing arrives, nothing is taken, and nobody is told.
    pub fn die(&mut self) {
        self.did.dead = true;
        self.wire.clear();
    }

    /// The server's kernel has given up a peer that does not answer.
    pub fn time_out(&mut self) {
        self.did.timed_out = true;
        self.break_with(ETIMEDOUT);
    }

    fn break_with(&mut self, errno: i32) {
        self.error = Some(errno);
        self.broken = true;
        self.wire.clear();
        self.outbound.clear();
        self.edge = true;
    }

    // --- The network and the server's kernel ------------------------------------------------------------------

    /// Lets some of what the peer sent arrive: all of it, or cut anywhere.
    pub fn arrive(&mut self) {
        if self.broken || self.closed {
            return;
        }
        let room = self.inbound_cap.saturating_sub(self.inbound.len()).min(self.wire.len());
        let count = if self.random.chance(60) { room } else { self.random.below(room + 1) };
        if count > 0 && !self.did.dead {
            self.inbound.extend(self.wire.drain(..count));
            self.last_arrival = self.shared.now.get();
            self.edge = true;
        }
        if self.did.fin && self.wire.is_empty() && !self.fin_arrived && !self.did.dead {
            self.fin_arrived = true;
            self.edge = true;
        }
    }

    pub fn has_edge(&self) -> bool {
        self.edge
    }

    /// The event that the poll returns: the state as it is when it is asked.
    pub fn poll(&mut self) -> Readiness {
        self.edge = false;
        let failed = self.error.is_some();
        let writable = failed || self.has_room();
        self.blocked &= !writable;
        Readiness {
            readable: failed || self.fin_arrived || !self.inbound.is_empty(),
            writable,
            read_closed: failed || self.fin_arrived,
            error: failed,
        }
    }

    fn has_room(&self) -> bool {
        self.outbound.len() < self.outbound_cap
    }

    /// What the peer's host has acknowledged: what the process took, and what fits into its kernel's buffer.
    fn acked(&self) -> u64 {
        let in_kernel = if self.did.dead { 0 } else { self.outbound.len().min(self.receive_cap) };
        self.taken + in_kernel as u64
    }
}

/// The server's descriptor of a link.
pub struct SimSocket {
    link: LinkRef,
    is_closed: bool,
}

impl SimSocket {
    pub fn open(link: &LinkRef, token: Token) -> Self {
        let mut opened = link.borrow_mut();
        opened.token = Some(token);
        opened.shared.open.set(opened.shared.open.get() + 1);
        drop(opened);
        Self { link: link.clone(), is_closed: false }
    }
}

fn errno<R>(number: i32) -> io::Result<R> {
    Err(io::Error::from_raw_os_error(number))
}

impl Transport for SimSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _charge = charge(Holder::Other); // the kernel's buffers are not the connection's
        let link = &mut *self.link.borrow_mut();
        assert!(!link.closed, "read of a closed socket");
        if link.random.chance(1) {
            return Err(ErrorKind::Interrupted.into());
        }
        if link.inbound.is_empty() {
            return match link.error.take() {
                Some(number) => errno(number),
                None if link.fin_arrived || link.broken => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let available = buffer.len().min(link.inbound.len());
        let count = match link.random.below(10) {
            0 => link.random.between(1, available),
            _ => available,
        };
        buffer[..count].copy_from_slice(&link.inbound[..count]);
        link.tell("read", &buffer[..count]);
        link.tap(|| Happened::Read(buffer[..count].to_vec()));
        link.inbound.drain(..count);
        if !link.inbound.is_empty() && count < buffer.len() {
            link.edge = true; // as if the rest had come just behind this read
        }
        link.last_read = link.shared.now.get();
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _charge = charge(Holder::Other);
        let link = &mut *self.link.borrow_mut();
        assert!(!link.closed && !link.fin_from_server, "write behind the end");
        if let Some(number) = link.error.take() {
            return errno(number);
        }
        if link.broken {
            return errno(EPIPE);
        }
        if link.random.chance(1) {
            return Err(ErrorKind::Interrupted.into());
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(total > 0, "a write of nothing");
        let mut room = link.outbound_cap.saturating_sub(link.outbound.len()).min(total);
        if room > 0 && link.random.chance(10) {
            room = link.random.between(1, room);
        }
        if room < total {
            link.blocked = true;
            link.did.slow = true;
            link.no_space = true;
            link.edge |= link.has_room() && room > 0; // cut with room left: the event comes at once
        }
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut left = room;
        for slice in slices {
            let part = &slice[..left.min(slice.len())];
            link.shared.trace.borrow_mut().write(part);
            link.tell("written", part);
            link.tap(|| Happened::Written(part.to_vec()));
            link.outbound.extend_from_slice(part);
            left -= part.len();
        }
        if link.gone {
            link.break_with(ECONNRESET);
        }
        Ok(room)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let link = &mut *self.link.borrow_mut();
        assert!(!link.closed && !link.fin_from_server, "FIN twice");
        link.fin_from_server = true;
        link.tap(|| Happened::Ended);
        if link.broken { errno(EPIPE) } else { Ok(()) }
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.link.borrow_mut().error.take().map(io::Error::from_raw_os_error)
    }

    fn info(&self) -> Option<Info> {
        let link = self.link.borrow();
        let since = link.shared.now.get().since(link.last_taken);
        let last_ack_ms =
            if link.did.dead { since } else { since.min(Duration::from_secs(20)) }.as_millis() as u32;
        let unanswered = if link.did.dead { 3 } else { 0 };
        link.tells_info.then(|| Info {
            rtt_us: 100,
            retransmits: 0,
            acked_bytes: link.acked(),
            last_ack_ms,
            unanswered,
        })
    }

    fn close(mut self) {
        self.is_closed = true;
        let mut link = self.link.borrow_mut();
        assert!(!std::mem::replace(&mut link.closed, true), "closed twice");
        link.did.cut_off = link.blocked;
        link.tap(|| Happened::Ended);
        link.shared.open.set(link.shared.open.get() - 1);
        link.shared.closed.set(link.shared.closed.get() + 1);
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if !self.is_closed {
            let shared = self.link.borrow().shared.clone();
            shared.lost.set(shared.lost.get() + 1);
        }
    }
}
