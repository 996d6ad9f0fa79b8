//! A router of a scenario: it can freeze, vanish, come back from elsewhere, read slowly, and measure heartbeats.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::command::Wish;
use crate::fleet_call::Part;
use crate::frame::{self, Command, Commands, Frame, Gathered, Welcome};
use crate::options::Sizes;
use crate::payload::{self, CommandFields, EventFields};
use crate::random::Random;
use crate::reactor::{self, Ended, Link};
use crate::route::Route;
use crate::router::encode_event;
use crate::stats::Fault;
use crate::stream::{Filled, Serving};
use crate::timers::SECOND;

use super::client::Actor;
use super::job::Shelf;
use super::pace::Pace;
use super::replies::Replies;
use super::way::{GONE, LEAVE, Way};
use super::world::World;

/// What a router emits.
#[derive(Clone, Copy, Debug)]
pub struct Emit {
    /// Between two bursts; `None` is silence.
    pub every: Option<Duration>,
    pub burst: u32,
    pub bytes: Sizes,
    pub retain_share: f64,
}

impl Default for Emit {
    fn default() -> Self {
        Self { every: None, burst: 1, bytes: (100, 400), retain_share: 0.05 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Session {
    Down,
    Greeting,
    Bound,
}

const HEARTBEAT: u8 = 0;
const EVENT: u8 = 1;
const READ: u8 = 2;
const PROBE: u8 = 3;
const PROBE_ID: u32 = 7;
/// How long a router that broke its connection on purpose is away.
const RETURN_AFTER: u64 = SECOND / 20;

pub struct Router {
    index: u32,
    pub emit: Emit,
    /// How it reads; `None` is whatever comes.
    pub pace: Option<Pace>,
    /// It reads nothing at all, but is otherwise well.
    pub deaf: bool,
    /// How often it PINGs to measure.
    pub probe_every: Option<Duration>,
    /// How long it is frozen before the simulation lets go of its socket.
    pub frozen_for: Duration,
    session: Session,
    session_id: String,
    leaving: Option<Way>,
    commands: Commands,
    replies: Replies,
    serving: Serving,
    /// The connection breaks for a stream's sake: a new one comes at once.
    returning: bool,
    interval: u64,
    timeout: u64,
    last_heard: u64,
    last_sent: u64,
    pinged: bool,
    probe_sent: Option<u64>,
    bye: Option<String>,
    /// A bit for each of EVENT, READ and PROBE that is set.
    ticking: u8,
}

impl Router {
    pub fn new(index: u32) -> Self {
        Self {
            index,
            emit: Emit::default(),
            pace: None,
            deaf: false,
            probe_every: None,
            frozen_for: Duration::from_secs(10),
            session: Session::Down,
            session_id: String::new(),
            leaving: None,
            commands: Commands::default(),
            replies: Replies::default(),
            serving: Serving::default(),
            returning: false,
            interval: 0,
            timeout: 0,
            last_heard: 0,
            last_sent: 0,
            pinged: false,
            probe_sent: None,
            bye: None,
            ticking: 0,
        }
    }

    fn frame(&mut self, world: &mut World, link: &mut Link<'_>, frame: &Frame<'_>) -> Result<(), String> {
        match (frame.kind, self.session) {
            (frame::WELCOME, Session::Greeting) => self.welcome(world, link, frame),
            (frame::BYE, _) => {
                self.bye = Some(frame.name.to_string());
                Ok(())
            }
            (_, Session::Bound) if self.bye.is_some() => Err("a frame behind BYE".into()),
            (frame::PING, Session::Bound) => {
                let late = link.now.saturating_sub(self.last_sent + self.interval);
                world.ping_lateness.record_ns(late);
                frame::encode(link.out, frame::PONG, 0, frame.id, "", frame.body);
                Ok(())
            }
            (frame::PONG, Session::Bound) => {
                if frame.id == PROBE_ID {
                    let sent = self.probe_sent.take().ok_or("a PONG without a PING")?;
                    world.pong_latency.record_ns(link.now - sent);
                }
                Ok(())
            }
            (frame::COMMAND, Session::Bound) => match self.commands.take(frame)? {
                Gathered::Whole(command) => {
                    self.answer(world, link, &command);
                    Ok(())
                }
                Gathered::Part | Gathered::Aborted => Ok(()),
            },
            (frame::OPEN | frame::ACK | frame::CANCEL, Session::Bound) => {
                let mut shelf = Shelf { router: self.index, jobs: &mut world.jobs };
                self.serving.take(frame, &mut shelf, link.out)
            }
            (kind, session) => Err(format!("a frame of kind {kind:#04x} in {session:?}")),
        }
    }

    fn welcome(&mut self, world: &mut World, link: &mut Link<'_>, frame: &Frame<'_>) -> Result<(), String> {
        let welcome = Welcome::parse(frame)?;
        self.interval = welcome.heartbeat_interval;
        self.timeout = welcome.heartbeat_timeout;
        if welcome.session_id == self.session_id {
            return Err(format!("the session id {} a second time", welcome.session_id));
        }
        self.session_id = welcome.session_id.to_string();
        self.session = Session::Bound;
        let facts = &mut world.routers[self.index as usize];
        facts.sessions += 1;
        link.wake_at(link.now + self.interval, HEARTBEAT);
        self.begin(world, link);
        Ok(())
    }

    /// Sets one of the timers that go on by themselves, unless it is set already.
    fn tick(&mut self, link: &mut Link<'_>, after: u64, timer: u8) {
        if self.ticking & 1 << timer == 0 {
            self.ticking |= 1 << timer;
            link.wake_at(link.now + after, timer);
        }
    }

    fn heartbeat(&mut self, world: &mut World, link: &mut Link<'_>) {
        // The daemon, which counts from when it last heard us, comes first: a router that asks too would hide it.
        let patience = 2 * self.interval + if self.pinged { self.timeout } else { 0 };
        if self.deaf || link.now < self.last_heard + patience {
            link.wake_at(link.now.max(self.last_heard + patience) + SECOND / 10, HEARTBEAT);
        } else if self.pinged {
            world.errors.add("daemon_silent", format!("router {}: no PONG", self.index));
            link.reset();
        } else {
            self.pinged = true;
            frame::encode(link.out, frame::PING, 0, 1, "", b"");
            self.last_sent = link.now;
            link.wake_at(link.now + self.timeout, HEARTBEAT);
        }
    }

    pub fn event(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.session != Session::Bound || self.leaving == Some(Way::Freeze) {
            return;
        }
        let json = world.random.chance(0.5);
        let retain = world.random.chance(self.emit.retain_share);
        let size = world.random.within(self.emit.bytes);
        let n = world.routers[self.index as usize].emit(retain);
        let fields = EventFields { seed: world.seed, n, sent_ns: link.now };
        let body = payload::event(self.index, &fields, json, size);
        encode_event(link.out, &body, json, retain);
        self.last_sent = link.now;
        world.tally.events += 1;
        world.tally.payload_bytes += body.len() as u64;
    }

    fn answer(&mut self, world: &mut World, link: &mut Link<'_>, command: &Command<'_>) {
        let fields = match payload::check_command(world.seed, &command.body, command.flags & frame::JSON != 0)
        {
            Ok(fields) => fields,
            Err(detail) => return world.errors.add("command_changed", detail),
        };
        if command.id == 0 {
            return world.received_oneway(self.index, fields.nonce);
        }
        let (wish, fields) = match self.wish(world, &command.name, fields) {
            Ok(wish) => wish,
            Err(fault) => return world.errors.add_fault(fault),
        };
        if wish == Wish::Silence {
            return;
        }
        let router = world.routers[self.index as usize].id.as_str();
        let body = payload::reply(world.seed, router, &fields, &command.body);
        world.tally.payload_bytes += body.len() as u64;
        let mut flags = if fields.reply_json { frame::JSON } else { 0 };
        if wish == Wish::Fail {
            flags |= frame::ERROR;
        }
        self.replies.send(link.out, command.id, flags, body);
    }

    /// What it is to do with an awaited command: that is in its name, or known of the whole fleet.
    fn wish(
        &self,
        world: &mut World,
        name: &str,
        fields: CommandFields,
    ) -> Result<(Wish, CommandFields), Fault> {
        let nonce = fields.nonce;
        if let Some(fleet) = world.fleet.filter(|_| name == "fleet") {
            if !world.fleet_reached.enter(nonce, self.index) {
                return Err(Fault::new("command_doubled", format!("{nonce:#x} reached a router twice")));
            }
            let Part { wish, reply_bytes, reply_json } = fleet.part(self.index, nonce);
            return Ok((wish, CommandFields { nonce, reply_bytes, reply_json }));
        }
        world.ledger.reached(nonce, self.index)?;
        let wish = match name {
            "mute" => Wish::Silence,
            "fail" => Wish::Fail,
            _ => Wish::Answer,
        };
        Ok((wish, fields))
    }

    /// Leaves now.
    pub fn leave(&mut self, world: &mut World, link: &mut Link<'_>, way: Way) {
        if self.session == Session::Down {
            return;
        }
        self.leaving = Some(way);
        let facts = &mut world.routers[self.index as usize];
        facts.may_lack = facts.emitted;
        match way {
            Way::Farewell => frame::encode(link.out, frame::BYE, 0, 0, "done", b""),
            Way::Freeze => {
                facts.sessions -= u32::from(self.session == Session::Bound);
                world.tally.frozen_routers += 1;
            }
            Way::Fin | Way::Reset => {}
        }
        way.leave(world, link, self.frozen_for);
    }
}

impl Actor for Router {
    fn is_settled(&self) -> bool {
        self.session == Session::Bound
    }

    fn is_up(&self) -> bool {
        self.session != Session::Down
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.session != Session::Down && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    fn begin(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.session != Session::Bound || self.leaving.is_some() {
            return;
        }
        if let Some(every) = self.emit.every {
            // A random phase, so that the fleet does not speak in chorus.
            self.tick(link, (every.as_nanos() as f64 * world.random.fraction()) as u64, EVENT);
        }
        if self.deaf {
            link.allow(Some(0));
        } else if self.pace.is_some() {
            self.tick(link, 0, READ);
        } else {
            link.allow(None);
        }
        if let Some(every) = self.probe_every {
            self.tick(link, (every.as_nanos() as f64 * world.random.fraction()) as u64, PROBE);
        }
    }
}

impl reactor::Client for Router {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        self.session = Session::Greeting;
        self.leaving = None;
        self.commands = Commands::default();
        self.replies.clear();
        (self.bye, self.pinged, self.probe_sent, self.ticking) = (None, false, None, 0);
        self.last_heard = link.now;
        frame::encode(link.out, frame::HELLO, 0, 1, &world.routers[self.index as usize].id, b"");
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        (self.last_heard, self.pinged) = (link.now, false);
        let mut taken = 0;
        while let Some((frame, used)) = frame::decode(&bytes[taken..])? {
            self.frame(world, link, &frame)?;
            taken += used;
        }
        if link.out.is_empty() {
            self.drained(world, link);
        } else {
            self.last_sent = link.now;
        }
        Ok(taken)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            GONE => return link.drop_connection(),
            LEAVE => {
                if let Some(way) = self.leaving.take() {
                    self.leave(world, link, way);
                }
                return;
            }
            _ if self.session != Session::Bound || self.leaving == Some(Way::Freeze) => return,
            _ => self.ticking &= !(1 << timer),
        }
        match (timer, self.emit.every, &mut self.pace, self.probe_every) {
            (EVENT, Some(every), ..) => {
                if !world.quiet {
                    for _ in 0..self.emit.burst {
                        self.event(world, link);
                    }
                }
                self.tick(link, every.as_nanos() as u64, EVENT);
            }
            (READ, _, Some(pace), _) if !self.deaf => {
                let again = pace.allow(link);
                self.tick(link, again - link.now, READ);
            }
            (PROBE, .., Some(every)) => {
                if self.probe_sent.is_none() {
                    self.probe_sent = Some(link.now);
                    frame::encode(link.out, frame::PING, 0, PROBE_ID, "", b"probe");
                    self.last_sent = link.now;
                }
                self.tick(link, every.as_nanos() as u64, PROBE);
            }
            (HEARTBEAT, ..) => self.heartbeat(world, link),
            _ => {}
        }
    }

    /// The next fragments of long replies, the next rows of streams.
    fn drained(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.returning {
            return;
        }
        self.replies.advance(link.out);
        let mut shelf = Shelf { router: self.index, jobs: &mut world.jobs };
        if self.serving.fill(&mut shelf, link.out) == Filled::Break {
            self.returning = true;
            // What was sent before a FIN arrives, what was sent before an RST perhaps not.
            let way = if world.random.chance(0.5) { Way::Fin } else { Way::Reset };
            self.leave(world, link, way);
        }
        if !link.out.is_empty() {
            self.last_sent = link.now;
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        let session = std::mem::replace(&mut self.session, Session::Down);
        let leaving = self.leaving.take();
        let facts = &mut world.routers[self.index as usize];
        facts.may_lack = facts.emitted;
        // A frozen one was counted out when it froze.
        facts.sessions -= u32::from(session == Session::Bound && leaving != Some(Way::Freeze));
        if let Some(sent) = self.probe_sent.take() {
            world.pong_latency.record_ns(link.now - sent);
        }
        self.replies.clear();
        self.serving.clear(&mut Shelf { router: self.index, jobs: &mut world.jobs });
        if std::mem::take(&mut self.returning) {
            return link.connect_at(link.now + RETURN_AFTER);
        }
        if self.bye.as_deref() == Some("takeover") {
            world.tally.takeovers += 1;
            return;
        }
        if leaving.is_some() {
            return;
        }
        let bye = self.bye.as_deref().unwrap_or("none");
        let detail = format!("router {} in {session:?}, BYE {bye}: {why:?}", self.index);
        world.errors.add(&format!("router_{}", why.kind()), detail);
        link.connect_at(link.now + SECOND);
    }
}

/// A way to one of `listeners` (127.0.0.1, ::1, IPv4-mapped) from another address than the last: 127.0.0.x or ::1.
pub fn elsewhere(random: &mut Random, listeners: &[SocketAddr]) -> Route {
    let to = listeners[random.below(listeners.len() as u64) as usize];
    let near = Ipv4Addr::new(127, 0, 0, 2 + random.below(250) as u8);
    let from = match to.ip() {
        IpAddr::V4(_) => Some(IpAddr::V4(near)),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some(IpAddr::V6(near.to_ipv6_mapped())),
        IpAddr::V6(_) => None,
    };
    Route { from, ..Route::to(to) }
}
