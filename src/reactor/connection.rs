//! One connection: its socket, its queue, its session, its account.

use crate::clock::Time;
use crate::core::fleet::Fleet;
use crate::core::hub::OfClient;
use crate::core::outqueue::OutQueue;
use crate::core::wheel::TimerKey;
use crate::id::{Class, Reason};
use crate::limits::{ANSWERS_PER_TURN_BYTES, Settings};
use crate::session::http::{HttpSession, Task};
use crate::session::router::RouterSession;
use crate::session::websocket::WebSocketSession;
use std::borrow::Cow;
use std::net::SocketAddr;

pub struct Connection<T> {
    pub io: T,
    pub class: Class,
    pub peer: SocketAddr,
    pub session: Session,
    pub out: OutQueue,
    /// Bytes that were read and not carried out.
    pub input: Vec<u8>,
    /// Parsing of `input` was stopped: whole frames or requests may be in it. Otherwise it is the beginning of one.
    pub unparsed: bool,
    /// What this connection has in the sum of held bytes: `input` and the session's half messages.
    pub held: usize,
    /// Set once: nothing more is read or carried out for it, and the reap phase ends it.
    pub closing: Option<Closing>,
    /// The kernel may have bytes for us; cleared by a short read.
    pub readable: bool,
    /// The kernel may have room; cleared by a short write.
    pub writable: bool,
    /// The last write left something that the kernel had no room for.
    pub waits: bool,
    /// The peer has sent FIN, perhaps behind bytes not read yet.
    pub read_closed: bool,
    /// FIN has been read.
    pub eof: bool,
    /// Its last read brought much.
    pub is_bulky: bool,
    /// Is on the list of those to be read, to be flushed, to be replayed to.
    pub in_ready: bool,
    pub in_dirty: bool,
    pub in_replaying: bool,
    pub timer: TimerKey,
    /// When `timer` fires. It may be earlier than what is due: then it is set anew.
    pub timer_at: Time,
    pub opened_at: Time,
    pub opened_unix_ms: u64,
    /// When the socket last took a byte, or the queue began to fill.
    pub last_taken: Time,
    /// When the socket last took bytes that it could not take at once.
    pub trickled_at: Option<Time>,
    pub traffic: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Whole messages: replies and events, requests, JSON-RPC messages.
    pub messages_in: u64,
    /// Whole messages: commands, answers, notifications.
    pub messages_out: u64,
}

/// What a connection is at present. Exhaustive: a new kind must say everywhere what it means.
#[derive(Debug)]
pub enum Session {
    Router(RouterSession),
    Http(HttpSession),
    WebSocket(WebSocketSession),
    /// It has ended; the last frame is on its way, and the peer's FIN is awaited (SPEC section 1, Last words).
    LastWords(LastWords),
}

#[derive(Clone, Copy, Debug)]
pub struct LastWords {
    pub reason: Reason,
    /// FIN was sent: everything queued before it has been taken.
    pub shut: bool,
    /// Bytes read and thrown away.
    pub discarded: u64,
    /// It is closed then, whatever the peer does.
    pub until: Time,
    /// Before FIN was sent: `until` moves on with every byte that the peer takes. For answers, which may be long.
    pub patient: bool,
}

/// That a connection ends, why, and what it is told.
#[derive(Clone, Debug)]
pub struct Closing {
    pub reason: Reason,
    pub farewell: Farewell,
}

#[derive(Clone, Debug)]
pub enum Farewell {
    /// The socket is gone or the peer is: nothing can be said.
    None,
    /// A BYE with the reason's name as its code, and a text.
    Bye { code: &'static str, text: Cow<'static, str> },
    /// A close frame.
    Close { code: u16, text: Cow<'static, str> },
    /// A limit, before anything was asked: an HTTP answer that says so.
    Refused(&'static str),
    /// What is to be said is queued already, and all of it is sent.
    Queued,
}

impl<T> Connection<T> {
    /// An HTTP request is being carried out.
    pub fn is_answering(&self) -> bool {
        matches!(&self.session, Session::Http(session) if session.answering().is_some())
    }

    /// The fleet call that is being answered.
    pub fn fleet(&self) -> Option<&Fleet> {
        match &self.session {
            Session::Http(HttpSession { task: Task::Fleet(fleet), .. }) => Some(fleet),
            _ => None,
        }
    }

    /// A caller is told of events.
    pub fn is_watching(&self) -> bool {
        matches!(&self.session, Session::Http(session) if matches!(session.task, Task::Watch(_)))
    }

    /// What it is sent is read for it from shadows, as it takes it.
    pub fn is_being_replayed_to(&self) -> bool {
        match &self.session {
            Session::WebSocket(session) => session.replays.is_some(),
            Session::Http(session) => matches!(&session.task, Task::Watch(watch) if watch.reading.is_some()),
            Session::Router(_) | Session::LastWords(_) => false,
        }
    }

    /// The subscriptions that events reach it by.
    pub fn subscriptions(&self) -> Option<&OfClient> {
        match &self.session {
            Session::WebSocket(session) => Some(&session.subscriptions),
            Session::Http(session) => match &session.task {
                Task::Watch(watch) => Some(&watch.subscriptions),
                _ => None,
            },
            Session::Router(_) | Session::LastWords(_) => None,
        }
    }

    /// Something came from the peer.
    pub fn heard(&mut self, now: Time) {
        match &mut self.session {
            Session::Router(session) => session.heartbeat.heard(now),
            Session::WebSocket(session) => session.heartbeat.heard(now),
            Session::Http(_) | Session::LastWords(_) => {}
        }
    }

    pub fn is_over(&self) -> bool {
        self.closing.is_some() || matches!(self.session, Session::LastWords(_))
    }

    /// The queue's limit, in bytes.
    pub fn max_queued_bytes(&self, settings: &Settings) -> usize {
        match self.class {
            Class::Router => settings.router.max_queued_bytes,
            Class::Http => settings.http.max_queued_bytes,
            Class::App => settings.app.max_queued_bytes,
            Class::Page => settings.page.max_queued_bytes,
        }
    }

    /// Whether the queue takes `bytes` more. An empty one takes a message of any size.
    pub fn has_room(&self, bytes: usize, settings: &Settings) -> bool {
        let counted = self.out.counted_bytes();
        counted == 0 || counted + bytes <= self.max_queued_bytes(settings)
    }

    /// Over half full: nothing more is read, and the soft limit runs.
    pub fn is_backed_up(&self, settings: &Settings) -> bool {
        self.out.counted_bytes() > self.max_queued_bytes(settings) / 2
    }

    /// So many answers were queued since there were `before` bytes that the next request is the next turn's.
    pub fn has_had_its_share(&self, before: usize) -> bool {
        self.out.counted_bytes() > before + ANSWERS_PER_TURN_BYTES
    }

    /// Whether bytes of the peer can be dealt with now.
    pub fn may_read(&self, settings: &Settings) -> bool {
        if self.closing.is_some() {
            return false;
        }
        match &self.session {
            Session::LastWords(_) => true,
            _ => !self.is_answering() && !self.is_backed_up(settings),
        }
    }

    /// Bytes held of half-received messages.
    pub fn held_bytes(&self) -> usize {
        let session = match &self.session {
            Session::Router(session) => session.half_bytes(),
            Session::Http(session) => session.held_bytes(),
            Session::WebSocket(session) => session.held_bytes(),
            Session::LastWords(_) => 0,
        };
        self.input.len() + session
    }
}

impl Session {
    pub fn router(&mut self) -> Option<&mut RouterSession> {
        match self {
            Session::Router(session) => Some(session),
            _ => None,
        }
    }

    pub fn http(&mut self) -> Option<&mut HttpSession> {
        match self {
            Session::Http(session) => Some(session),
            _ => None,
        }
    }

    pub fn websocket(&mut self) -> Option<&mut WebSocketSession> {
        match self {
            Session::WebSocket(session) => Some(session),
            _ => None,
        }
    }
}

impl LastWords {
    pub fn new(reason: Reason, until: Time, patient: bool) -> Self {
        Self { reason, shut: false, discarded: 0, until, patient }
    }
}
