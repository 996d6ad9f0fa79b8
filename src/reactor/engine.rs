//! Everything of the loop but the poll: the tables, and one turn over them.
//!
//! A turn reads what is readable, fires what is due, replays what clients take, and settles: ends what is closing, flushes what was queued, and takes
//! the ended out of the table. Handlers only mark; nothing recurses.

use super::address_counts::AddressCounts;
use super::connection::{Closing, Connection, Farewell, Session, Traffic};
use super::round::Round;
use super::table::Table;
use super::work::Work;
use crate::census::Census;
use crate::clock::{Now, Time};
use crate::core::commands::Commands;
use crate::core::frames::Frames;
use crate::core::hub::Hub;
use crate::core::outqueue::{OutQueue, Plan};
use crate::core::shadows::Shadows;
use crate::core::streams::Streams;
use crate::core::wheel::{Due, Wheel};
use crate::fault::{Fault, planted};
use crate::id::{Class, Mint, Reason, SessionId, Token};
use crate::limits::{ListenSettings, READ_CHUNK_BYTES, Settings, kept_descriptors};
use crate::memory::{self, Charge, History, Holder, Holdings, Resident};
use crate::net::transport::Transport;
use crate::session::http::HttpSession;
use crate::session::router::RouterSession;
use crate::session::websocket::WebSocketSession;
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub struct Engine<T> {
    pub(super) settings: Settings,
    pub(super) now: Now,
    pub(super) table: Table<T>,
    pub(super) shadows: Shadows,
    pub(super) hub: Hub,
    pub(super) commands: Commands,
    pub(super) streams: Streams,
    pub(super) frames: Frames,
    pub(super) wheel: Wheel,
    /// Everything that was due then has been carried out.
    pub(super) timers_fired_at: Time,
    pub(super) census: Census,
    pub(super) mint: Mint,
    /// Random, fixed at start: event ids of another run mean nothing in this one.
    pub(super) run: u64,
    /// WebSocket clients by id, for the operator.
    pub(super) clients: BTreeMap<SessionId, Token>,
    pub(super) addresses: AddressCounts,
    /// Half-received messages of all connections together.
    pub(super) held_bytes: usize,
    /// Since when the daemon drains, and until when it waits.
    pub(super) draining: Option<Time>,
    pub(super) work: Work,
    pub(super) scratch: Scratch,
    /// Sees a summary of every connection after it has ended, and can change nothing.
    pub on_unbind: Option<UnbindHook>,
    pub(super) costliest: Costliest,
    stopwatch: fn() -> u64,
    clocked_until: u64,
    /// What the last audit found, and when it was made.
    pub(super) last_audit: (Time, Vec<String>),
    /// When the tables are looked after next, when the patrol goes on, and when the last sample was taken.
    pub(super) housekeeping_at: Time,
    pub(super) patrol_at: Time,
    pub(super) sampled_at: Option<Time>,
    resident: fn() -> Resident,
    holdings: fn() -> Holdings,
    pub(super) history: Box<History>,
    pub(super) round: Round,
    pub(super) count_sockets: Option<SocketCount>,
    /// Descriptors that the process may have; routers and clients leave some for the operator.
    descriptors: usize,
}

/// Room for the watchers of one event that is kept.
pub(super) const WATCHERS_ROOM: usize = 1024;

/// Buffers of the loop, shared by all connections: made at the start, kept.
pub(super) struct Scratch {
    pub read: Vec<u8>,
    pub plan: Plan,
    pub watchers: Vec<Token>,
    /// For encoding a short frame.
    pub frame: Vec<u8>,
    pub date: super::date::DateCache,
}

/// The connection that took longest in this turn, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costliest {
    pub token: Option<Token>,
    pub nanoseconds: u64,
}

pub type SocketCount = Box<dyn Fn() -> std::io::Result<u64>>;
pub type UnbindHook = Box<dyn FnMut(&Unbound)>;

/// What a hook sees of a connection that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Unbound {
    pub class: Class,
    pub reason: Reason,
    pub peer: SocketAddr,
    pub seconds: f64,
    pub traffic: Traffic,
}

/// What the poll says of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub error: bool,
}

impl<T: Transport> Engine<T> {
    /// `seed` makes session ids and epochs: random in the daemon.
    pub fn new(settings: Settings, seed: u64, now: Now) -> Self {
        let mut mint = Mint::new(seed);
        // Room for what is kept of an unfinished head or frame, and for what one read brings behind it.
        let read = vec![0; settings.http.max_header_bytes.max(32_768) + READ_CHUNK_BYTES];
        Self {
            settings,
            now,
            table: Table::default(),
            shadows: Shadows::default(),
            hub: Hub::default(),
            commands: Commands::default(),
            streams: Streams::default(),
            frames: Frames::default(),
            wheel: Wheel::default(),
            timers_fired_at: now.time,
            census: Census::default(),
            run: mint.random(),
            mint,
            clients: BTreeMap::new(),
            addresses: AddressCounts::default(),
            held_bytes: 0,
            draining: None,
            work: Work::default(),
            scratch: Scratch {
                read,
                plan: Plan::default(),
                watchers: Vec::with_capacity(WATCHERS_ROOM),
                frame: Vec::with_capacity(256),
                date: super::date::DateCache::default(),
            },
            on_unbind: None,
            costliest: Costliest::default(),
            stopwatch: || 0,
            clocked_until: 0,
            last_audit: (now.time, Vec::new()),
            housekeeping_at: now.time,
            patrol_at: now.time,
            sampled_at: None,
            resident: Resident::default,
            holdings: memory::holdings,
            history: Box::new(History::new()),
            round: Round::default(),
            count_sockets: None,
            descriptors: usize::MAX,
        }
    }

    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub fn now(&self) -> Now {
        self.now
    }

    /// Takes in a connection. `open` registers the socket under the token that it will have.
    pub fn accept<E>(
        &mut self,
        class: Class,
        peer: SocketAddr,
        open: impl FnOnce(Token) -> Result<T, E>,
    ) -> Result<Token, E> {
        let token = self.table.next_token();
        let io = open(token)?;
        let now = self.now.time;
        memory::open_account(token);
        let _charge = memory::charge_connection(class, token);
        let session = match class {
            Class::Router => Session::Router(RouterSession::new(now)),
            Class::Http => Session::Http(HttpSession::new(now)),
            Class::App | Class::Page => Session::WebSocket(WebSocketSession::new(now, self.mint.session())),
        };
        let timer_at = now + self.first_timeout(class);
        let connection = Box::new(Connection {
            io,
            class,
            peer,
            session,
            out: OutQueue::default(),
            input: Vec::new(),
            unparsed: false,
            held: 0,
            closing: None,
            readable: false,
            writable: true,
            waits: false,
            read_closed: false,
            eof: false,
            is_bulky: false,
            in_ready: false,
            in_dirty: false,
            in_replaying: false,
            timer: self.wheel.set(timer_at, Due::Connection(token)),
            timer_at,
            opened_at: now,
            opened_unix_ms: self.now.unix_ms,
            last_taken: now,
            trickled_at: None,
            traffic: Traffic::default(),
        });
        self.table.insert(token, connection);
        self.census.opened(class);
        self.check_address(token, class, peer);
        Ok(token)
    }

    /// Charges what is allocated while the guard lives to a connection: only what it alone owns.
    pub(super) fn charge_to(&self, token: Token) -> Charge {
        match self.table.get(token) {
            Some(connection) => memory::charge_connection(connection.class, token),
            None => memory::charge(Holder::Other),
        }
    }

    /// How long a new connection has to say what it is.
    fn first_timeout(&self, class: Class) -> std::time::Duration {
        match class {
            Class::Router => self.settings.router.hello_timeout,
            Class::Http => self.settings.http.header_timeout,
            Class::App => self.settings.app.handshake_timeout,
            Class::Page => self.settings.page.handshake_timeout,
        }
    }

    fn check_address(&mut self, token: Token, class: Class, peer: SocketAddr) {
        let Some(most) = self.listen_settings(class).max_per_ip else { return };
        if self.addresses.add(class, peer.ip()) > most {
            self.close_for_limit(token, "max_per_ip: too many connections from this address");
        }
    }

    pub(super) fn listen_settings(&self, class: Class) -> &ListenSettings {
        match class {
            Class::Router => &self.settings.router.listen,
            Class::Http => &self.settings.http.listen,
            Class::App => &self.settings.app.listen,
            Class::Page => &self.settings.page.listen,
        }
    }

    /// Remembers what the poll said. A stale token falls on nothing.
    pub fn event(&mut self, token: Token, readiness: Readiness) {
        let token = match planted(Fault::TrustStaleEvent) {
            true => self.table.tenant(token.slot).unwrap_or(token),
            false => token,
        };
        let Some(connection) = self.table.get_mut(token) else { return };
        if readiness.readable && (connection.in_ready || !connection.may_read(&self.settings)) {
            connection.heard(self.now.time); // its bytes wait in the kernel: a sign of life
        }
        if readiness.readable || readiness.read_closed || readiness.error {
            connection.readable = true;
            connection.read_closed |= readiness.read_closed || readiness.error;
            self.work.mark_ready(connection, token);
        }
        if readiness.writable {
            connection.writable = true;
            if !connection.out.is_empty() {
                self.work.dirty.mark(&mut connection.in_dirty, token);
            }
        }
    }

    /// One turn behind the poll, at the time set by [`Self::set_now`].
    pub fn turn(&mut self) {
        self.read_ready();
        self.fire_timers();
        self.replay_all();
        self.settle();
        self.housekeeping();
    }

    pub(super) fn restart_stopwatch(&mut self) {
        self.clocked_until = (self.stopwatch)();
    }

    /// Books the time since the last call on `token`, so that a long turn can be named.
    pub(super) fn clock(&mut self, token: Token) {
        let now = (self.stopwatch)();
        let nanoseconds = now - std::mem::replace(&mut self.clocked_until, now);
        if nanoseconds > self.costliest.nanoseconds {
            self.costliest = Costliest { token: Some(token), nanoseconds };
        }
    }

    /// Gives the engine a clock for [`Self::take_costliest`]: nanoseconds since some moment.
    pub fn measure_with(&mut self, stopwatch: fn() -> u64) {
        self.stopwatch = stopwatch;
    }

    /// Gives the engine a way to ask what memory is resident.
    pub fn measure_memory_with(&mut self, resident: fn() -> Resident) {
        self.resident = resident;
    }

    /// Gives the engine a way to ask the kernel how many established connections the listeners have.
    pub fn count_sockets_with(&mut self, count: SocketCount) {
        self.count_sockets = Some(count);
    }

    /// Gives the engine other books than its thread's: a simulation's must not tell what else the thread holds.
    pub fn keep_books_with(&mut self, holdings: fn() -> Holdings) {
        self.holdings = holdings;
    }

    /// What is resident and what is charged to whom, in one snapshot: nothing is allocated between the two, and nothing
    /// within the second.
    pub(super) fn look_at_memory(&self) -> (Resident, Holdings) {
        ((self.resident)(), (self.holdings)())
    }

    /// Ends what closes, sends what is queued and takes the ended out of the table, until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            while let Some(token) = self.work.closing.pop() {
                self.retire(token);
            }
            self.flush_all();
            while let Some(token) = self.work.ended.pop() {
                self.unbind(token);
            }
            self.enforce_memory_limit();
            if self.work.closing.is_empty() && self.work.dirty.is_empty() && self.work.ended.is_empty() {
                break;
            }
        }
    }

    /// When the next turn is due even if no socket has anything.
    pub fn next_turn(&self) -> Time {
        self.next_due().map_or(self.housekeeping_at, |due| due.min(self.housekeeping_at))
    }

    /// The same without housekeeping: when something is owed to somebody.
    pub fn next_due(&self) -> Option<Time> {
        if [&self.work.ready, &self.work.bulky, &self.work.replaying].iter().any(|list| !list.is_empty()) {
            return Some(self.now.time);
        }
        let times = [
            self.wheel.next(),
            self.shadows.next_expiry(self.settings.shadow.keep),
            self.draining.filter(|until| *until > self.now.time),
        ];
        times.into_iter().flatten().min()
    }

    /// Whether connections of `class` may be accepted: up to the cap.
    pub fn has_room(&self, class: Class) -> bool {
        self.table.live(class) < self.listen_settings(class).max_connections
            && self.leaves_descriptors(class, 1)
    }

    /// The descriptors that the process may have.
    pub fn limit_descriptors(&mut self, descriptors: usize) {
        self.descriptors = descriptors;
    }

    /// Whether `reserve` shares of what is kept for the operator's calls are left.
    fn leaves_descriptors(&self, class: Class, reserve: usize) -> bool {
        class == Class::Http
            || self.table.len() + reserve * kept_descriptors(self.descriptors) < self.descriptors
    }

    /// After the cap was met, accepting goes on below nine tenths of it.
    pub fn has_ample_room(&self, class: Class) -> bool {
        let most = self.listen_settings(class).max_connections;
        self.table.live(class) < (most * 9).div_ceil(10) && self.leaves_descriptors(class, 2)
    }

    /// Marks a connection as closing; the first reason stays.
    pub(super) fn close(&mut self, token: Token, reason: Reason, farewell: Farewell) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.is_over() {
            return;
        }
        connection.closing = Some(Closing { reason, farewell });
        self.work.closing.push(token);
    }

    /// Lets a connection be read again, if there is something and nothing stands in the way.
    pub(super) fn resume_reading(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token)
            && (connection.readable || !connection.input.is_empty())
            && connection.may_read(&self.settings)
        {
            self.work.mark_ready(connection, token);
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn counts(&self) -> &Census {
        &self.census
    }

    pub fn counts_mut(&mut self) -> &mut Census {
        &mut self.census
    }

    /// The connection that cost most since the last call.
    pub fn take_costliest(&mut self) -> Costliest {
        self.clocked_until = (self.stopwatch)();
        std::mem::take(&mut self.costliest)
    }

    /// Whether a connection is there and not in its last words.
    pub fn is_open(&self, token: Token) -> bool {
        self.table.get(token).is_some_and(|connection| !connection.is_over())
    }

    /// Class and address of a connection, for the log.
    pub fn describe(&self, token: Token) -> Option<(Class, SocketAddr)> {
        self.table.get(token).map(|connection| (connection.class, connection.peer))
    }
}
