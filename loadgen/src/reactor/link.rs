//! What the reactor and a client have to do with each other.

use std::io;

use crate::route::Route;
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
    /// The kernel has taken all that was in [`Link::out`].
    fn drained(&mut self, _world: &mut Self::World, _link: &mut Link<'_>) {}
    /// The connection is gone; a new one comes if [`Link::connect_at`] is called.
    fn ended(&mut self, world: &mut Self::World, link: &mut Link<'_>, why: Ended);
}

/// What a client may do with its connection.
pub struct Link<'a> {
    /// Nanoseconds since the reactor began.
    pub now: u64,
    /// Bytes to send; the reactor writes them when the client returns.
    pub out: &'a mut Vec<u8>,
    pub(super) timers: &'a mut Timers,
    pub(super) client: u32,
    pub(super) generation: u32,
    pub(super) finish: &'a mut bool,
    pub(super) cut: &'a mut Option<Cut>,
    pub(super) allowance: &'a mut Option<usize>,
    pub(super) route: &'a mut Route,
}

/// An end without a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cut {
    Reset,
    Drop,
}

pub(super) const CONNECT: u8 = u8::MAX;

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

    /// Ends the connection at once with RST; what was not sent is not. [`Client::ended`] follows.
    pub fn reset(&mut self) {
        *self.cut = Some(Cut::Reset);
    }

    /// Closes the connection at once, whatever has become of it. [`Client::ended`] follows.
    pub fn drop_connection(&mut self) {
        *self.cut = Some(Cut::Drop);
    }

    /// How many bytes will still be read, until it is called again: `Some(0)` is a client that has stopped, `None` one that
    /// reads whatever comes.
    pub fn allow(&mut self, bytes: Option<usize>) {
        *self.allowance = bytes;
    }

    /// The next connection goes this way.
    pub fn set_route(&mut self, route: Route) {
        *self.route = route;
    }
}
