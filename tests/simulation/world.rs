//! One schedule: an [`Engine`], the peers around it, and a clock that jumps. It makes turns as `berthd`'s loop does.

mod ending;

use crate::caller::CallerPeer;
use crate::client::ClientPeer;
use crate::model::{Context, Model, Network, justifies};
use crate::random::Random;
use crate::router::RouterPeer;
use crate::settings::settings;
use crate::socket::{Link, LinkRef, Shared, SimSocket};
use crate::source::SourcePeer;
use crate::streams::consumer::ConsumerPeer;
use berth::clock::{Now, Time};
use berth::core::wheel::Due;
use berth::id::{Class, Reason, Token};
use berth::limits::Settings;
use berth::memory::{Holder, Holdings, holdings};
use berth::reactor::{Engine, Readiness};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const ACCEPTS_PER_TURN: usize = 4;
/// No schedule takes longer to become calm or to end, in virtual time.
const PATIENCE: Duration = Duration::from_secs(400);

/// A schedule has some hundred turns.
const MOST_TURNS: u64 = 20_000;

/// What a schedule that found nothing wrong leaves.
#[derive(Debug)]
pub struct Report {
    /// Hash of all bytes written and all ends: the same for the same seed.
    pub trace: u64,
    pub seen: BTreeMap<String, usize>,
    pub turns: u64,
}

enum Actor {
    Router(RouterPeer),
    Caller(CallerPeer),
    Client(Box<ClientPeer>),
    Source(SourcePeer),
    Consumer(ConsumerPeer),
}

struct World {
    engine: Engine<SimSocket>,
    settings: Settings,
    random: Random,
    now: Time,
    shared: Rc<Shared>,
    network: Network,
    model: Model,
    actors: Vec<Actor>,
    /// Tokens of connections that are gone.
    stale: Vec<Token>,
    ends: Rc<RefCell<Vec<(SocketAddr, Class, Reason)>>>,
    full: [bool; 4],
    turns: u64,
    is_calm: bool,
    /// What each class held before the first connection.
    held_at_start: Holdings,
}

/// Runs the schedule of `seed`. `tells`: prints what is read and written.
pub fn run(seed: u64, tells: bool) -> Result<Report, String> {
    let mut world = World::new(seed, tells);
    world.schedule().map_err(|problem| {
        format!("at {:?}, turn {}: {problem}", Duration::from_nanos(world.now.0), world.turns)
    })?;
    let mut trace = world.shared.trace.borrow().clone();
    trace.write_u64(world.turns);
    Ok(Report { trace: trace.finish(), seen: std::mem::take(&mut world.model.seen), turns: world.turns })
}

/// A peer goes: properly, rudely, or without a word.
pub fn leave(link: &LinkRef, random: &mut Random) {
    let mut link = link.borrow_mut();
    match random.below(4) {
        0 => link.finish(),
        1 => link.hang_up(),
        2 => link.reset(),
        _ => link.die(),
    }
}

impl World {
    fn new(seed: u64, tells: bool) -> Self {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let shared = Rc::new(Shared { tells, ..Shared::default() });
        let now = Time(random.below(5_000_000_000) as u64);
        shared.now.set(now);
        let mut engine = Engine::new(settings.clone(), seed, clock(now));
        engine.keep_books_with(Holdings::default); // the trace must not tell what the test holds
        let ends = Rc::new(RefCell::new(Vec::new()));
        let hook = ends.clone();
        engine.on_unbind = Some(Box::new(move |unbound| {
            hook.borrow_mut().push((unbound.peer, unbound.class, unbound.reason))
        }));
        let mut actors = Vec::new();
        actors.extend((0..random.between(2, 5)).map(|_| Actor::Router(RouterPeer::default())));
        actors.extend((0..random.between(1, 4)).map(|_| Actor::Caller(CallerPeer::default())));
        let clients = random.between(0, 3);
        actors.extend((0..clients).map(|index| {
            Actor::Client(Box::new(ClientPeer::new(if index % 2 == 0 { Class::App } else { Class::Page })))
        }));
        let sources = random.between(0, 2);
        actors.extend((0..sources).map(|_| Actor::Source(SourcePeer::new(&mut random))));
        actors.extend((0..random.between(0, 2)).map(|_| Actor::Consumer(ConsumerPeer::default())));
        let mut model = Model::default();
        model.tight_memory = settings.max_buffered_bytes < 1 << 20;
        Self {
            engine,
            settings,
            random,
            now,
            network: Network::new(shared.clone()),
            shared,
            model,
            actors,
            stale: Vec::new(),
            ends,
            full: [false; 4],
            turns: 0,
            is_calm: false,
            held_at_start: holdings(),
        }
    }

    fn schedule(&mut self) -> Result<(), String> {
        for _ in 0..self.random.between(60, 300) {
            self.step()?;
        }
        match self.random.below(10) {
            0..4 => self.drain()?, // with commands in flight
            4 => {
                self.calm_down()?;
                self.drain()?;
            }
            _ => {
                if self.random.chance(70) {
                    self.calm_down()?;
                }
                self.all_leave()?;
            }
        }
        self.forget_shadows()?;
        self.check_answers()?;
        self.check_drained_to_zero()
    }

    /// Peers act, the network delivers, the engine makes a turn, the clock goes on.
    fn step(&mut self) -> Result<(), String> {
        self.act()?;
        self.turn()?;
        self.advance();
        Ok(())
    }

    fn act(&mut self) -> Result<(), String> {
        for index in 0..self.actors.len() {
            if self.is_calm || self.random.chance(60) {
                let mut actors = std::mem::take(&mut self.actors);
                self.with_context(|context| match &mut actors[index] {
                    Actor::Router(router) => router.act(context),
                    Actor::Caller(caller) => caller.act(context),
                    Actor::Client(client) => client.act(context),
                    Actor::Source(source) => source.act(context),
                    Actor::Consumer(consumer) => consumer.act(context),
                });
                self.actors = actors;
            }
        }
        for link in &self.network.links {
            let mut link = link.borrow_mut();
            if link.did.dead && !link.did.timed_out && link.token.is_some() && self.random.chance(1) {
                link.time_out();
            }
        }
        self.judge()
    }

    fn with_context(&mut self, act: impl FnOnce(&mut Context<'_>)) {
        act(&mut Context {
            random: &mut self.random,
            model: &mut self.model,
            network: &mut self.network,
            settings: &self.settings,
            now: self.now,
            is_calm: self.is_calm,
        });
    }

    /// One turn of the loop, as in `reactor::event_loop`: events in any order, some a turn late; then accepting.
    fn turn(&mut self) -> Result<(), String> {
        self.turns += 1;
        self.engine.set_now(clock(self.now));
        let mut events = Vec::new();
        for link in &self.network.links {
            let mut link = link.borrow_mut();
            link.arrive();
            if let (true, false, Some(token)) = (link.has_edge(), link.closed, link.token)
                && (self.is_calm || self.random.chance(85))
            {
                events.push((token, link.poll()));
            }
        }
        self.add_stale_events(&mut events);
        self.random.shuffle(&mut events);
        for (token, readiness) in events {
            self.engine.event(token, readiness);
        }
        if !self.stale.is_empty() && self.random.chance(20) {
            let token = *self.random.pick(&self.stale);
            self.engine.due(Due::Connection(token));
        }
        if self.random.chance(10) {
            // No tenant ever has generation 0.
            self.engine.due(Due::Command(Token { slot: self.random.below(3) as u32, generation: 0 }));
        }
        self.engine.turn();
        self.accept();
        self.engine.settle();
        self.take_ends();
        self.audit()?;
        self.judge()?;
        let actors = std::mem::take(&mut self.actors);
        for actor in &actors {
            if let Actor::Caller(caller) = actor {
                self.with_context(|context| caller.check(context));
            }
        }
        self.actors = actors;
        self.judge()
    }

    /// Events for connections that are gone, whose slots have been used again; and some that say what is known.
    fn add_stale_events(&mut self, events: &mut Vec<(Token, Readiness)>) {
        for _ in 0..self.random.below(3) {
            if !self.stale.is_empty() {
                let token = *self.random.pick(&self.stale);
                let mut flag = || self.random.chance(50);
                events.push((
                    token,
                    Readiness { readable: flag(), writable: flag(), read_closed: flag(), error: flag() },
                ));
            }
        }
        if self.random.chance(20) && !self.network.links.is_empty() {
            let link = self.random.pick(&self.network.links).borrow();
            if let (Some(token), false) = (link.token, link.closed) {
                events.push((token, Readiness { readable: true, writable: true, ..Readiness::default() }));
            }
        }
    }

    fn accept(&mut self) {
        for class in Class::ALL {
            if self.full[class as usize] && !self.engine.has_ample_room(class) {
                continue;
            }
            self.full[class as usize] = false;
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(index) = self.network.backlog.iter().position(|link| link.borrow().class == class)
                else {
                    break;
                };
                if !self.engine.has_room(class) {
                    self.full[class as usize] = true;
                    break;
                }
                let link = self.network.backlog.remove(index);
                let peer = link.borrow().peer;
                link.borrow_mut().opened_at = self.now;
                let opened: Result<Token, std::convert::Infallible> =
                    self.engine.accept(class, peer, |token| Ok(SimSocket::open(&link, token)));
                let Ok(_) = opened;
            }
        }
    }

    /// What the hook saw: each end once, each with a reason that something justifies.
    fn take_ends(&mut self) {
        self.model.watch_streams(&self.network, &self.settings, self.now);
        for (peer, class, reason) in self.ends.take() {
            self.shared.trace.borrow_mut().write_u64(u64::from(peer.port()) << 8 | reason as u64);
            self.model.count(&format!("{} {}", class.name(), reason.name()));
            let link = self.network.links.iter().find(|link| link.borrow().peer == peer).cloned();
            let Some(link) = link else {
                self.model.fail(format!("{peer} ended, which is not there"));
                continue;
            };
            if !justifies(&link.borrow(), reason, &self.model, &self.settings, self.now) {
                self.model.fail(format!(
                    "{} {peer} ended as {} without cause: {:?}",
                    class.name(),
                    reason.name(),
                    link.borrow().did
                ));
            }
            let mut link = link.borrow_mut();
            if link.end.replace(reason).is_some() {
                self.model.fail(format!("{peer} ended twice"));
            }
            self.stale.extend(link.token);
        }
        if self.stale.len() > 12 {
            self.stale.remove(0);
        }
        self.network.links.retain(|link| link.borrow().end.is_none());
    }

    fn audit(&mut self) -> Result<(), String> {
        let found = self.engine.audit();
        if !found.is_empty() {
            return Err(format!("the audit found {found:?}"));
        }
        self.check_heap()
    }

    /// Every byte has an owner that is there, and no class holds more than its objects explain. `other` is the world's too.
    fn check_heap(&self) -> Result<(), String> {
        let held = holdings();
        for holder in Holder::ALL.into_iter().filter(|holder| !matches!(holder, Holder::Other | Holder::Log))
        {
            let (bytes, explained) = (held.of(holder).bytes, self.engine.explained_bytes(holder) as i64);
            if bytes > explained || held.orphaned(holder) != 0 {
                let orphaned = held.orphaned(holder);
                return Err(format!(
                    "{}: {bytes} bytes, {explained} explained, {orphaned} nobody's",
                    holder.name()
                ));
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        match self.model.failures.first() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Jumps to what is due next, or goes on a little; never past what is due.
    fn advance(&mut self) {
        let next = self.engine.next_due();
        let little = self.now + Duration::from_micros(self.random.below(3_000) as u64);
        let wished = match self.random.below(100) {
            0..75 => little,
            75..85 => self.now + Duration::from_millis(self.random.below(2_000) as u64),
            _ => next.unwrap_or(little).max(little),
        };
        let jitter = Duration::from_micros(self.random.below(900) as u64);
        self.now = next.map_or(wished, |next| wished.min(next + jitter)).max(self.now);
        self.shared.now.set(self.now);
    }
}

fn clock(now: Time) -> Now {
    Now { time: now, unix_ms: 1_790_000_000_000 + now.0 / 1_000_000 }
}
