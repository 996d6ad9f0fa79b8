//! A simulated router: HELLO, heartbeats, answers, events (contract, section 1).

use std::time::Duration;

use serde_json::json;

use crate::frame::{self, Command, Commands, Frame, Gathered, Welcome};
use crate::log_rows::LogRows;
use crate::payload::{self, EventFields};
use crate::random::Random;
use crate::reactor::{self, Ended, Link};
use crate::stream::Serving;
use crate::timers::SECOND;
use crate::world::{Phase, World};

/// What a router does besides keeping its session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Duty {
    /// Checks what it receives, answers what is owed, emits events that prove themselves.
    Load,
    /// Plays a real router for someone who tries the daemon out.
    Fleet,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Session {
    None,
    Greeting,
    Bound { since: u64 },
}

const HEARTBEAT: u8 = 0;
const EVENT: u8 = 1;

pub struct Router {
    index: u32,
    duty: Duty,
    session: Session,
    session_id: String,
    commands: Commands,
    serving: Serving,
    backoff: Backoff,
    heartbeat_interval: u64,
    heartbeat_timeout: u64,
    last_heard: u64,
    pinged: bool,
    next_event: u64,
    /// The code of the server's BYE.
    bye: Option<String>,
}

impl Router {
    pub fn new(index: u32, duty: Duty) -> Self {
        Self {
            index,
            duty,
            session: Session::None,
            session_id: String::new(),
            commands: Commands::default(),
            serving: Serving::default(),
            backoff: Backoff::default(),
            heartbeat_interval: 60 * SECOND,
            heartbeat_timeout: 20 * SECOND,
            last_heard: 0,
            pinged: false,
            next_event: 0,
            bye: None,
        }
    }

    fn frame(&mut self, world: &mut World, link: &mut Link<'_>, frame: &Frame<'_>) -> Result<(), String> {
        match (frame.kind, self.session) {
            (frame::WELCOME, Session::Greeting) => self.welcome(world, link, frame),
            (frame::BYE, _) => {
                self.bye = Some(frame.name.to_string());
                Ok(())
            }
            (_, Session::Bound { .. }) if self.bye.is_some() => Err("a frame behind BYE".into()),
            (frame::PING, Session::Bound { .. }) => {
                if frame.flags != 0 || !frame.name.is_empty() || frame.body.len() > 64 {
                    return Err("a PING with flags, a name or a long body".into());
                }
                world.stats.counters.pings_answered += 1;
                frame::encode(link.out, frame::PONG, 0, frame.id, "", frame.body);
                Ok(())
            }
            (frame::PONG, Session::Bound { .. }) => Ok(()),
            (frame::COMMAND, Session::Bound { .. }) => match self.commands.take(frame)? {
                Gathered::Whole(command) => {
                    self.answer(world, link, &command);
                    Ok(())
                }
                Gathered::Part => Ok(()),
                Gathered::Aborted => {
                    world.stats.counters.commands_aborted += 1;
                    Ok(())
                }
            },
            (frame::OPEN | frame::ACK | frame::CANCEL, Session::Bound { .. }) => {
                let mut rows = LogRows { router: &world.routers[self.index as usize].id };
                self.serving.take(frame, &mut rows, link.out)
            }
            (kind, session) => Err(format!("a frame of kind {kind:#04x} in {session:?}")),
        }
    }

    fn welcome(&mut self, world: &mut World, link: &mut Link<'_>, frame: &Frame<'_>) -> Result<(), String> {
        let welcome = Welcome::parse(frame)?;
        self.heartbeat_interval = welcome.heartbeat_interval;
        self.heartbeat_timeout = welcome.heartbeat_timeout;
        if welcome.session_id == self.session_id {
            return Err(format!("the session id {} a second time", welcome.session_id));
        }
        self.session_id = welcome.session_id.to_string();
        self.session = Session::Bound { since: link.now };
        world.stats.up.routers += 1;
        link.wake_at(link.now + self.heartbeat_interval, HEARTBEAT);
        match self.duty {
            Duty::Load if world.options.event_rate > 0.0 => {
                // A random phase, so that the fleet does not speak in chorus.
                self.next_event = link.now + (self.period(world) as f64 * world.random.fraction()) as u64;
                link.wake_at(self.next_event, EVENT);
            }
            Duty::Load => {}
            Duty::Fleet => {
                let status = json!({"state": "ok", "firmware": "1.4.2", "session": self.session_id});
                self.emit_json(link, "status", &status, frame::RETAIN);
                self.next_event = link.now + (self.period(world) as f64 * world.random.fraction()) as u64;
                link.wake_at(self.next_event, EVENT);
            }
        }
        Ok(())
    }

    fn period(&self, world: &World) -> u64 {
        match self.duty {
            Duty::Load => (1e9 / world.options.event_rate) as u64,
            Duty::Fleet => world.options.interval.as_nanos().max(1_000_000) as u64,
        }
    }

    fn emit(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.duty == Duty::Fleet {
            let metrics = json!({
                "uptime_s": link.now / SECOND,
                "load": (world.random.fraction() * 100.0).round() / 100.0,
                "clients": world.random.below(20),
                "rx_bytes": world.random.below(1 << 30),
            });
            return self.emit_json(link, "metrics", &metrics, 0);
        }
        let json = world.random.chance(world.options.json_share);
        let retain = world.random.chance(world.options.retain_share);
        let size = world.size(world.options.event_bytes);
        let facts = &mut world.routers[self.index as usize];
        facts.emitted += 1;
        let fields = EventFields { seed: world.options.seed, n: facts.emitted, sent_ns: link.now };
        let body = payload::event(self.index, &fields, json, size);
        encode_event(link.out, &body, json, retain);
        world.stats.counters.events_emitted += 1;
    }

    fn emit_json(&mut self, link: &mut Link<'_>, topic: &str, body: &serde_json::Value, flags: u8) {
        let body = body.to_string();
        frame::encode_message(link.out, frame::EVENT, frame::JSON | flags, 0, topic, body.as_bytes());
    }

    fn answer(&mut self, world: &mut World, link: &mut Link<'_>, command: &Command<'_>) {
        let json = command.flags & frame::JSON;
        let router = world.routers[self.index as usize].id.as_str();
        if self.duty == Duty::Fleet {
            if command.id == 0 {
                return;
            }
            let text = match command.name.as_ref() {
                "echo" => {
                    return frame::encode_message(
                        link.out,
                        frame::REPLY,
                        json,
                        command.id,
                        "",
                        &command.body,
                    );
                }
                "fail" => json!({"router": router, "error": "asked to fail"}),
                name => json!({"router": router, "command": name, "received_bytes": command.body.len()}),
            };
            let error = if command.name == "fail" { frame::ERROR } else { 0 };
            let flags = frame::JSON | error;
            return frame::encode_message(
                link.out,
                frame::REPLY,
                flags,
                command.id,
                "",
                text.to_string().as_bytes(),
            );
        }
        let checked = payload::check_command(world.options.seed, &command.body, json != 0);
        let fields = match checked {
            Ok(fields) => fields,
            Err(detail) => return world.stats.errors.add("command_changed", detail),
        };
        if let Err(fault) = world.ledger.reached(fields.nonce, self.index) {
            world.stats.errors.add_fault(fault);
        }
        if command.id == 0 {
            return;
        }
        let body = payload::reply(world.options.seed, router, &fields, &command.body);
        let mut flags = if fields.reply_json { frame::JSON } else { 0 };
        if command.name == "fail" {
            flags |= frame::ERROR;
        }
        frame::encode_message(link.out, frame::REPLY, flags, command.id, "", &body);
    }

    /// Says good-bye; every other router just closes.
    pub fn close(&mut self, link: &mut Link<'_>) {
        if matches!(self.session, Session::Bound { .. }) && self.index.is_multiple_of(2) {
            frame::encode(link.out, frame::BYE, 0, 0, "done", b"");
        }
        link.finish();
    }
}

impl reactor::Client for Router {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.session = Session::Greeting;
        (self.commands, self.serving) = (Commands::default(), Serving::default());
        self.bye = None;
        self.pinged = false;
        frame::encode(link.out, frame::HELLO, 0, 1, &world.routers[self.index as usize].id, b"");
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        (self.last_heard, self.pinged) = (link.now, false);
        let mut taken = 0;
        while let Some((frame, used)) = frame::decode(&bytes[taken..])? {
            self.frame(world, link, &frame)?;
            taken += used;
        }
        self.drained(world, link);
        Ok(taken)
    }

    /// The next rows of streams.
    fn drained(&mut self, world: &mut World, link: &mut Link<'_>) {
        let mut rows = LogRows { router: &world.routers[self.index as usize].id };
        self.serving.fill(&mut rows, link.out);
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        let Session::Bound { .. } = self.session else { return };
        if timer == EVENT {
            if world.phase <= Phase::Load {
                self.emit(world, link);
                self.next_event += self.period(world);
                link.wake_at(self.next_event, EVENT);
            }
            return;
        }
        let patience = self.heartbeat_interval + if self.pinged { self.heartbeat_timeout } else { 0 };
        if link.now < self.last_heard + patience {
            link.wake_at(self.last_heard + patience, HEARTBEAT);
        } else if self.pinged {
            world.stats.errors.add("daemon_silent", format!("router {}: no PONG", self.index));
            frame::encode(link.out, frame::BYE, 0, 0, "heartbeat_timeout", b"");
            link.finish();
        } else {
            self.pinged = true;
            frame::encode(link.out, frame::PING, 0, 1, "", b"");
            link.wake_at(link.now + self.heartbeat_timeout, HEARTBEAT);
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        let session = std::mem::replace(&mut self.session, Session::None);
        if let Session::Bound { .. } = session {
            world.stats.up.routers -= 1;
        }
        if world.phase == Phase::Close {
            return;
        }
        if self.duty == Duty::Load {
            let bye = self.bye.as_deref().unwrap_or("none");
            let detail = format!("router {} in {session:?}, BYE {bye}: {why:?}", self.index);
            world.stats.errors.add(&format!("router_{}", why.kind()), detail);
        }
        let good_for = if let Session::Bound { since } = session { link.now - since } else { 0 };
        let delay = self.backoff.next(&mut world.random, self.bye.as_deref(), Duration::from_nanos(good_for));
        link.connect_at(link.now + delay.as_nanos() as u64);
    }
}

/// The topic of all events with RETAIN.
pub const RETAINED_TOPIC: &str = "state";

/// The topic of an event: it says whether it is retained.
pub fn topic_of(retain: bool) -> &'static str {
    if retain { RETAINED_TOPIC } else { "load" }
}

/// Appends an event that proves itself.
pub fn encode_event(out: &mut Vec<u8>, body: &[u8], json: bool, retain: bool) {
    let flags = if retain { frame::RETAIN } else { 0 } | if json { frame::JSON } else { 0 };
    frame::encode_message(out, frame::EVENT, flags, 0, topic_of(retain), body);
}

/// The advice to routers of section 1: random from 1 to 60 s, doubling; reset after a minute of good session.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self, random: &mut Random, bye: Option<&str>, good_for: Duration) -> Duration {
        if good_for >= Duration::from_secs(60) {
            self.failures = 0;
        }
        self.failures = (self.failures + 1).min(6);
        match bye {
            Some("draining") => Duration::from_secs_f64(5.0 * random.fraction()),
            Some("takeover" | "unauthorized" | "unsupported_version") => {
                Duration::from_secs_f64(60.0 + 10.0 * random.fraction())
            }
            _ => {
                let longest = f64::from(1u32 << self.failures).min(60.0);
                Duration::from_secs_f64(1.0 + (longest - 1.0) * random.fraction())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_follows_the_advice_of_the_contract() {
        let mut random = Random::new(5);
        let mut backoff = Backoff::default();
        let mut draw =
            |bye, good_s| backoff.next(&mut random, bye, Duration::from_secs(good_s)).as_secs_f64();
        assert!((1.0..2.0).contains(&draw(None, 0)));
        for _ in 0..50 {
            assert!((1.0..60.0).contains(&draw(None, 59)));
            assert!(draw(Some("draining"), 0) < 5.0);
            assert!(draw(Some("takeover"), 0) >= 60.0);
            assert!(draw(Some("unauthorized"), 0) >= 60.0);
        }
        assert!((1.0..2.0).contains(&draw(None, 60)));
    }
}
