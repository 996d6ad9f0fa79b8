//! The loop of `berthd`: poll, one turn of the engine, accept. Sockets, clock and signals come in here and nowhere else.

use super::engine::{Engine, Readiness};
use crate::clock::{Now, Time};
use crate::fault::{Fault, planted};
use crate::id::{Class, Token};
use crate::limits::{ACCEPT_RETRY, ACCEPTS_PER_TURN, LONG_TURN, Settings};
use crate::memory::jemalloc::{self, Decay};
use crate::net::listener::Listener;
use crate::net::sock_diag;
use crate::net::tcp::TcpTransport;
use crate::ops::signals::{Signal, Signals};
use crate::ops::systemd::{Notifier, watchdog_interval};
use mio::{Events, Interest, Poll, Registry};
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Few enough that a turn stays short when as many connections end at once; the rest come with the next poll.
const EVENTS_PER_POLL: usize = 256;
/// Tokens of generation 0 are the loop's own: listeners by index, and the signals.
const SIGNALS: usize = u32::MAX as usize;
/// What could not be logged at once is tried again after this long.
const LOG_RETRY: Duration = Duration::from_millis(50);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Drained,
    /// A second signal came.
    Forced,
}

pub struct EventLoop {
    poll: Poll,
    registry: Rc<Registry>,
    engine: Engine<TcpTransport>,
    listeners: Vec<Option<Listener>>,
    signals: Signals,
    notifier: Notifier,
    /// A listener is out of descriptors until then.
    accept_retry: Option<Time>,
    next_census: Option<Time>,
    watchdog: Option<(Duration, Time)>,
    drain_until: Option<Time>,
    log_waits: bool,
    decay: Decay,
}

impl EventLoop {
    /// Binds everything; the error is for the operator.
    pub fn new(settings: Settings, descriptors: usize) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let poll = Poll::new().map_err(text)?;
        let registry = Rc::new(poll.registry().try_clone().map_err(text)?);
        let signals = Signals::new(&registry, mio::Token(SIGNALS)).map_err(text)?;
        let notifier = Notifier::from_env().unwrap_or_else(|error| {
            log::warn!(error:% = error; "NOTIFY_SOCKET cannot be used: the service manager is not told");
            Notifier::silent()
        });
        let listeners = bind_all(&settings, &registry)?;
        let addresses: Vec<_> = listeners.iter().flatten().map(|listener| listener.address).collect();
        let now = read_clock();
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
        let next_census = settings.census_log_every.map(|every| now.time + every);
        let mut engine = Engine::new(settings, u64::from_ne_bytes(seed), now);
        engine.measure_with(nanoseconds);
        engine.measure_memory_with(jemalloc::resident);
        engine.count_sockets_with(Box::new(move || sock_diag::established(&addresses)));
        engine.limit_descriptors(descriptors);
        let counts = engine.counts_mut();
        (counts.listeners.opened, counts.listeners_open) = (listeners.len() as u64, listeners.len());
        engine.on_unbind = Some(Box::new(|unbound| {
            log::debug!(class = unbound.class.name(), reason = unbound.reason.name(), address:% = unbound.peer,
                seconds = unbound.seconds, bytes_in = unbound.traffic.bytes_in, bytes_out = unbound.traffic.bytes_out;
                "unbound");
        }));
        Ok(Self {
            poll,
            registry,
            engine,
            listeners,
            signals,
            notifier,
            accept_retry: None,
            next_census,
            watchdog: watchdog_interval().map(|every| (every, now.time + every)),
            drain_until: None,
            log_waits: false,
            decay: Decay::default(),
        })
    }

    /// The one line on stdout: `ready router=… http=… app=… page=…`, with the true ports.
    pub fn ready_line(&self) -> String {
        let of = |class| {
            let addresses = self.listeners.iter().flatten().filter(|listener| listener.class == class);
            addresses.map(|listener| listener.address.to_string()).collect::<Vec<_>>().join(",")
        };
        let [router, http, app, page] = [Class::Router, Class::Http, Class::App, Class::Page].map(of);
        format!("ready router={router} http={http} app={app} page={page}")
    }

    /// Runs until a signal ends it.
    pub fn run(&mut self) -> Exit {
        self.notifier.ready(&self.ready_line());
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            self.log_waits = !crate::ops::log::flush().done;
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!(error:% = error; "poll failed");
            }
            let began = Instant::now();
            self.engine.set_now(read_clock());
            self.engine.take_costliest();
            if let Some(exit) = self.dispatch(&events) {
                return self.leave(exit);
            }
            let mut longest = ("events", began.elapsed());
            let mut phase = |name, since: Instant| {
                let took = since.elapsed();
                if took > longest.1 {
                    longest = (name, took);
                }
                Instant::now()
            };
            let since = Instant::now();
            self.engine.read_ready();
            let since = phase("read", since);
            self.engine.fire_timers();
            let since = phase("timers", since);
            self.engine.replay_all();
            let since = phase("replay", since);
            self.engine.settle();
            let since = phase("settle", since);
            self.accept();
            let since = phase("accept", since);
            self.engine.housekeeping();
            let since = phase("housekeeping", since);
            self.upkeep();
            phase("upkeep", since);
            self.count_turn(began.elapsed(), longest);
            if self.is_over() {
                return self.leave(Exit::Drained);
            }
        }
    }

    fn dispatch(&mut self, events: &Events) -> Option<Exit> {
        for event in events {
            let token = Token::from_u64(event.token().0 as u64);
            if token.generation != 0 {
                let readiness = Readiness {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    read_closed: event.is_read_closed(),
                    error: event.is_error(),
                };
                self.engine.event(token, readiness);
            } else if event.token().0 == SIGNALS {
                if let Some(exit) = self.take_signals() {
                    return Some(exit);
                }
            } else if let Some(Some(listener)) = self.listeners.get_mut(event.token().0) {
                listener.ready = true;
            }
        }
        None
    }

    fn take_signals(&mut self) -> Option<Exit> {
        let (mut terminations, mut hangups) = (0, 0);
        self.signals.drain(|signal| match signal {
            Signal::Terminate => terminations += 1,
            Signal::Hangup => hangups += 1,
        });
        if hangups > 0 {
            log::warn!(
                "SIGHUP: reading the configuration again is not supported yet in this version; nothing changes"
            );
        }
        for _ in 0..terminations {
            if self.drain_until.is_some() {
                return Some(Exit::Forced);
            }
            self.drain();
        }
        None
    }

    /// The listeners of routers and clients close; HTTP goes on answering, so that the operator can watch.
    fn drain(&mut self) {
        log::info!("draining");
        self.notifier.stopping();
        for slot in &mut self.listeners {
            if let Some(mut listener) = slot.take_if(|listener| listener.class != Class::Http) {
                let _ = self.registry.deregister(listener.source());
                let counts = self.engine.counts_mut();
                counts.listeners.unbound += 1;
                counts.listeners_open -= 1;
            }
        }
        let settings = self.engine.settings();
        let until = read_clock().time + settings.drain + settings.close_grace + Duration::from_secs(1);
        self.drain_until = Some(until);
        self.engine.drain();
    }

    fn is_over(&self) -> bool {
        self.drain_until.is_some_and(|until| self.engine.is_drained() || read_clock().time >= until)
    }

    fn leave(&mut self, exit: Exit) -> Exit {
        if exit == Exit::Drained {
            self.engine.end_all();
        }
        log::info!(exit:? = exit; "stopped");
        exit
    }

    /// Accepts what waits, a bounded number a turn; behind the events, so that closed connections have made room.
    fn accept(&mut self) {
        if self.accept_retry.is_some_and(|at| at <= self.engine.now().time) {
            self.accept_retry = None;
            self.listeners.iter_mut().flatten().for_each(|listener| listener.starved = false);
        }
        for index in 0..self.listeners.len() {
            let Some(listener) = &mut self.listeners[index] else { continue };
            if !listener.ready
                || listener.starved
                || (listener.full && !self.engine.has_ample_room(listener.class))
            {
                continue;
            }
            listener.full = false;
            self.accept_from(index);
        }
        self.engine.settle(); // those over a limit of their address are told so at once
    }

    fn accept_from(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &mut self.listeners[index] else { return };
            if !self.engine.has_room(listener.class) {
                listener.full = true;
                log::warn!(class = listener.class.name(); "no room for more connections: accepting goes on when there is");
                return;
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    let (class, registry) = (listener.class, self.registry.clone());
                    let open = |token: Token| {
                        TcpTransport::register(stream, registry, mio::Token(token.to_u64() as usize))
                    };
                    if let Err(error) = self.engine.accept(class, peer, open) {
                        log::warn!(error:% = error; "a connection could not be registered");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.ready = false;
                    return;
                }
                Err(error) if is_gone_already(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: no event will say that there are some again, time does.
                    listener.starved = true;
                    self.accept_retry = Some(self.engine.now().time + ACCEPT_RETRY);
                    log::warn!(error:% = error; "accepting pauses");
                    return;
                }
            }
        }
    }

    /// Memory back to the system, the census line, the watchdog.
    fn upkeep(&mut self) {
        let now = self.engine.now().time;
        if !planted(Fault::KeepMemory) {
            self.decay.tick(now);
        }
        if let Some(at) = self.next_census
            && at <= now
        {
            self.engine.log_census();
            self.next_census = self.engine.settings().census_log_every.map(|every| now + every);
        }
        if let Some((every, at)) = self.watchdog
            && at <= now
        {
            self.notifier.watchdog();
            self.watchdog = Some((every, now + every));
        }
    }

    /// How long the poll may sleep.
    fn timeout(&self) -> Option<Duration> {
        let accepting = self.listeners.iter().flatten().any(|listener| {
            listener.ready
                && !listener.starved
                && (!listener.full || self.engine.has_ample_room(listener.class))
        });
        if accepting {
            return Some(Duration::ZERO);
        }
        let now = read_clock().time;
        let log_retry = self.log_waits.then(|| now + LOG_RETRY);
        let watchdog = self.watchdog.map(|(_, at)| at);
        [
            Some(self.engine.next_turn()),
            self.accept_retry,
            self.next_census,
            watchdog,
            self.drain_until,
            log_retry,
            self.decay.next(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.since(now))
    }

    fn count_turn(&mut self, took: Duration, longest: (&'static str, Duration)) {
        let turns = &mut self.engine.counts_mut().turns;
        turns.turns += 1;
        turns.longest_ns = turns.longest_ns.max(took.as_nanos() as u64);
        if took <= LONG_TURN {
            return;
        }
        turns.over_50_ms += 1;
        let costliest = self.engine.take_costliest();
        let connection = costliest.token.and_then(|token| self.engine.describe(token));
        let (class, address) =
            connection.map_or(("none", String::new()), |(class, peer)| (class.name(), peer.to_string()));
        log::warn!(ms = took.as_millis() as u64, phase = longest.0, phase_ms = longest.1.as_millis() as u64,
            class = class, address:% = address, connection_ms = costliest.nanoseconds / 1_000_000; "a long turn of the loop");
    }
}

/// Errors of the connection that was to be accepted, not of the listener (accept(2)).
fn is_gone_already(error: &io::Error) -> bool {
    const OF_THE_PEER: [i32; 8] = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPROTO,
        libc::EPERM,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
    ];
    error.raw_os_error().is_some_and(|number| OF_THE_PEER.contains(&number))
}

fn bind_all(settings: &Settings, registry: &Registry) -> Result<Vec<Option<Listener>>, String> {
    let classes = [
        (Class::Router, &settings.router.listen),
        (Class::Http, &settings.http.listen),
        (Class::App, &settings.app.listen),
        (Class::Page, &settings.page.listen),
    ];
    let mut listeners = Vec::new();
    for (class, listen) in classes {
        for address in &listen.bind {
            let mut listener = Listener::bind(class, *address, listen)?;
            let token = mio::Token(listeners.len());
            let registered = registry.register(listener.source(), token, Interest::READABLE);
            registered.map_err(|error| error.to_string())?;
            listeners.push(Some(listener));
        }
    }
    Ok(listeners)
}

/// The one clock reading of a turn.
fn read_clock() -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Now { time: Time(nanoseconds()), unix_ms }
}

/// Monotonic, since the first call.
fn nanoseconds() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Prints the ready line. Nobody may be reading: that is no reason to stop.
pub fn print_ready(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}
