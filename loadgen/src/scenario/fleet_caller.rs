//! A backend that sends one command to many routers (contract, section 3): exactly one line for each, as it answers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::command::Wish;
use crate::fleet_call::{self, Fleet, Line};
use crate::http::{self, LongAnswer};
use crate::payload::{self, CommandFields};
use crate::reactor::{self, Ended, Link};

use super::client::Actor;
use super::pace::Pace;
use super::way::{LEAVE, Way};
use super::world::World;

const READ: u8 = 0;

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// `*`.
    Everyone,
    /// These, in this order, whether they are bound, away, named twice or no ids at all.
    These(Vec<String>),
}

/// One command to a fleet.
#[derive(Clone, Debug)]
pub struct Call {
    pub asked: Asked,
    pub fleet: Fleet,
    pub nonce: u64,
    pub json: bool,
    pub payload_bytes: usize,
    pub timeout: Duration,
    /// Replies may not find room behind a reader that dawdles: 503 `limit_exceeded`.
    pub may_exceed: bool,
    /// Not all need to be asked before the deadline.
    pub may_be_late: bool,
}

/// How the routers were answered for.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Lines by status, code and whether the command was sent.
    pub lines: BTreeMap<String, u64>,
    pub whole: bool,
}

impl Outcome {
    pub fn total(&self) -> u64 {
        self.lines.values().sum()
    }

    pub fn of(&self, outcome: &str) -> u64 {
        self.lines.get(outcome).copied().unwrap_or(0)
    }
}

/// Commands that have reached their routers, by nonce: each router at most once.
#[derive(Default)]
pub struct Reached(HashMap<u64, HashSet<u32>>);

impl Reached {
    /// Whether it is the first time.
    pub fn enter(&mut self, nonce: u64, router: u32) -> bool {
        self.0.entry(nonce).or_default().insert(router)
    }

    pub fn has(&self, nonce: u64, router: u32) -> bool {
        self.0.get(&nonce).is_some_and(|routers| routers.contains(&router))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Down,
    Reading,
    Done,
}

pub struct FleetCaller {
    pub call: Call,
    pub pace: Option<Pace>,
    pub outcome: Outcome,
    stage: Stage,
    leaving: Option<Way>,
    answer: LongAnswer,
    payload: Vec<u8>,
    /// Ids that are still owed a line.
    owed: HashSet<String>,
}

impl FleetCaller {
    pub fn new(call: Call) -> Self {
        Self {
            call,
            pace: None,
            outcome: Outcome::default(),
            stage: Stage::Down,
            leaving: None,
            answer: LongAnswer::default(),
            payload: Vec::new(),
            owed: HashSet::new(),
        }
    }

    fn ask(&mut self, world: &World, link: &mut Link<'_>) {
        let Call { nonce, json, timeout, .. } = self.call;
        let fields = CommandFields { nonce, reply_bytes: 0, reply_json: false };
        self.payload = payload::command(world.seed, &fields, json, self.call.payload_bytes);
        let ids = match &self.call.asked {
            Asked::Everyone => {
                let bound = world.routers.iter().filter(|facts| facts.sessions > 0);
                self.owed = bound.map(|facts| facts.id.clone()).collect();
                None
            }
            Asked::These(ids) => {
                self.owed = ids.iter().cloned().collect();
                Some(ids.as_slice())
            }
        };
        let mut body = Vec::new();
        fleet_call::write_request(&mut body, ids, timeout, &self.payload, json);
        let host = world.http().to_string();
        http::post(link.out, "/v1/commands/fleet", &host, http::content_type(true), &body);
    }

    fn lines(&mut self, world: &mut World) -> Result<(), String> {
        let body = std::mem::take(&mut self.answer.body);
        let mut rest = &body[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = Line::parse(&rest[..end])?;
            if !self.owed.remove(line.router.as_ref()) {
                return Err(format!("a line for {:?}, which is owed none", line.router));
            }
            self.line(world, &line).map_err(|what| format!("{what}: {}", crate::rpc::shown(&rest[..end])))?;
            let sent = line.sent.map_or(String::new(), |sent| format!(" sent: {sent}"));
            *self.outcome.lines.entry(format!("{}{sent}", line.outcome())).or_default() += 1;
            rest = &rest[end + 1..];
        }
        self.answer.body = rest.to_vec();
        Ok(())
    }

    /// Checks what a line says of its router.
    fn line(&self, world: &mut World, line: &Line<'_>) -> Result<(), String> {
        let known = world.router_index(&line.router);
        let outcome = line.outcome();
        let bound = known.filter(|router| world.routers[*router as usize].sessions > 0);
        let Some(router) = bound else {
            let owed = if is_id(&line.router) { "404 router_offline" } else { "400 bad_request" };
            let right = outcome == owed && !line.has_body() && line.sent != Some(true);
            return if right { Ok(()) } else { Err(format!("not {owed}")) };
        };
        let part = self.call.fleet.part(router, self.call.nonce);
        let reached = world.fleet_reached.has(self.call.nonce, router);
        let fields = CommandFields {
            nonce: self.call.nonce,
            reply_bytes: part.reply_bytes,
            reply_json: part.reply_json,
        };
        let brings_reply = |world: &mut World| {
            let id = &world.routers[router as usize].id;
            let owed = payload::reply(world.seed, id, &fields, &self.payload);
            world.tally.payload_bytes += owed.len() as u64;
            line.brings(&owed, part.reply_json)
        };
        let right = match (part.wish, outcome.as_str()) {
            (Wish::Answer, "200") => reached && line.sent != Some(false) && brings_reply(world),
            (Wish::Fail, "502 router_error") => reached && line.sent != Some(false) && brings_reply(world),
            (Wish::Answer | Wish::Fail, "503 limit_exceeded") => {
                reached && self.call.may_exceed && !line.has_body() && line.sent != Some(false)
            }
            (wish, "504 deadline_exceeded") => {
                let late = wish == Wish::Silence || self.call.may_be_late;
                // What was begun may be on its way still.
                late && !line.has_body()
                    && if reached { line.sent == Some(true) } else { line.sent.is_some() }
            }
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("not what {part:?} owes; reached it: {reached}")) }
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

impl Actor for FleetCaller {
    fn is_settled(&self) -> bool {
        self.is_up()
    }

    fn is_up(&self) -> bool {
        self.stage != Stage::Down
    }

    fn waits(&self) -> bool {
        self.stage == Stage::Reading
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.is_up() && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    fn begin(&mut self, _: &mut World, link: &mut Link<'_>) {
        match self.pace {
            Some(_) => link.wake_at(link.now, READ),
            None => link.allow(None),
        }
    }
}

impl reactor::Client for FleetCaller {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        (self.stage, self.leaving) = (Stage::Reading, None);
        (self.answer, self.outcome) = (LongAnswer::default(), Outcome::default());
        world.fleet = Some(self.call.fleet);
        self.ask(world, link);
        self.begin(world, link);
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        let taken = self.answer.take(bytes)?;
        let head = (self.answer.status, self.answer.content_type.as_str());
        if head != (200, "application/x-ndjson") && self.answer.status != 0 {
            return Err(format!("{head:?}: {}", crate::rpc::shown(&self.answer.body)));
        }
        self.lines(world)?;
        if self.answer.is_whole() && self.stage == Stage::Reading {
            if !self.owed.is_empty() || !self.answer.body.is_empty() {
                return Err(format!("whole, and {} lines are missing", self.owed.len()));
            }
            self.outcome.whole = true;
            self.stage = Stage::Done;
            link.finish();
        }
        Ok(taken)
    }

    fn timer(&mut self, _: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            READ => {
                if let Some(pace) = &mut self.pace {
                    let again = pace.allow(link);
                    link.wake_at(again, READ);
                }
            }
            LEAVE if self.leaving == Some(Way::Reset) => link.reset(),
            LEAVE => link.finish(),
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, _: &mut Link<'_>, why: Ended) {
        let stage = std::mem::replace(&mut self.stage, Stage::Down);
        if self.leaving.take().is_some() || stage == Stage::Done {
            return;
        }
        let detail = format!("command {:#x}, {} lines: {why:?}", self.call.nonce, self.outcome.total());
        world.errors.add(&format!("fleet_caller_{}", why.kind()), detail);
    }
}
