//! An app or a page of a scenario: it watches, checks every event, calls now and then (contract, section 4).

use std::collections::HashMap;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::command::{Order, Wish};
use crate::options::MAX_WEBSOCKET_BODY_BYTES;
use crate::reactor::{self, Ended, Link};
use crate::rpc::{self, Event, Reply, Rpc, SUBSCRIBE_ID, shown};
use crate::timers::SECOND;
use crate::watcher::Kind;
use crate::websocket::{self, Fragments, Message};

use super::client::Actor;
use super::way::{GONE, LEAVE, Way};
use super::world::{Calls, World};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Down,
    Upgrading,
    Subscribing,
    Watching,
}

const COMMAND: u8 = 0;

struct Outstanding {
    id: u64,
    order: Order,
}

pub struct Watcher {
    kind: Kind,
    number: u32,
    /// The router to be watched; `None` is all.
    router: Option<u32>,
    /// What it calls; `None` only watches.
    pub calls: Option<Calls>,
    /// It reads nothing.
    pub deaf: bool,
    pub frozen_for: Duration,
    stage: Stage,
    leaving: Option<Way>,
    fragments: Fragments,
    /// The last event of each router.
    seen: HashMap<u32, u64>,
    count: u32,
    outstanding: Option<Outstanding>,
    /// COMMAND is set.
    ticking: bool,
}

impl Watcher {
    /// `number` is unique among all that send commands.
    pub fn new(kind: Kind, number: u32, router: Option<u32>, calls: Option<Calls>) -> Self {
        Self {
            kind,
            number,
            router,
            calls,
            deaf: false,
            frozen_for: Duration::from_secs(10),
            stage: Stage::Down,
            leaving: None,
            fragments: Fragments::default(),
            seen: HashMap::new(),
            count: 0,
            outstanding: None,
            ticking: false,
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.kind.name(), self.number)
    }

    fn subscribe(&mut self, world: &mut World, link: &mut Link<'_>) {
        let router = self.router.map_or("*", |router| world.routers[router as usize].id.as_str());
        let request = rpc::subscribe(router);
        websocket::encode(link.out, websocket::TEXT, request.as_bytes(), &mut world.random);
        self.stage = Stage::Subscribing;
    }

    fn text(&mut self, world: &mut World, link: &mut Link<'_>, text: &[u8]) -> Result<(), String> {
        match Rpc::parse(text)? {
            Rpc { method: Some("event"), params: Some(event), id: None, .. }
                if self.stage == Stage::Watching =>
            {
                self.event(world, &event);
                Ok(())
            }
            Rpc { id: Some(SUBSCRIBE_ID), result: Some(_), .. } if self.stage == Stage::Subscribing => {
                self.stage = Stage::Watching;
                self.begin(world, link);
                Ok(())
            }
            Rpc { id: Some(id), result, error, .. }
                if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.id == id) =>
            {
                self.answer(world, result, error);
                Ok(())
            }
            _ => Err(format!("a message out of place: {}", shown(text))),
        }
    }

    fn tick(&mut self, link: &mut Link<'_>, after: u64) {
        if !std::mem::replace(&mut self.ticking, true) {
            link.wake_at(link.now + after, COMMAND);
        }
    }

    fn event(&mut self, world: &mut World, event: &Event<'_>) {
        let Some(router) = world.router_index(&event.router) else {
            return world.errors.add("event_wrong", format!("of {}", event.router));
        };
        let n = match event.fields(router) {
            Ok(fields) => fields.n,
            Err(detail) => return world.errors.add("event_wrong", detail),
        };
        world.tally.events_delivered += 1;
        if event.retained {
            return;
        }
        let facts = &world.routers[router as usize];
        if let Some(last) = self.seen.insert(router, n) {
            if n <= last {
                let detail = format!("{}: {n} of router {router} behind {last}", self.name());
                world.errors.add("event_order", detail);
            } else if n > last + 1 && facts.may_lack < last + 1 {
                let detail = format!("{}: {n} of router {router} behind {last}", self.name());
                world.errors.add("event_gap", detail);
            }
        }
    }

    fn send(&mut self, world: &mut World, link: &mut Link<'_>, calls: &Calls) {
        self.count += 1;
        let order = world.order(self.number, self.count, calls, MAX_WEBSOCKET_BODY_BYTES);
        let id = SUBSCRIBE_ID + u64::from(self.count);
        let router = &world.routers[order.router as usize].id;
        let request = order.rpc(id, router, calls.timeout);
        websocket::encode(link.out, websocket::TEXT, request.as_bytes(), &mut world.random);
        self.outstanding = Some(Outstanding { id, order });
    }

    fn answer(&mut self, world: &mut World, result: Option<&RawValue>, error: Option<&RawValue>) {
        let Some(Outstanding { order, .. }) = self.outstanding.take() else { return };
        if let Some(error) = error {
            return refused(world, &order, error);
        }
        let reply: Option<Reply> = result.and_then(|result| serde_json::from_str(result.get()).ok());
        let right = reply.is_some_and(|reply| reply.brings(&world.owed(&order), order.fields.reply_json));
        if !world.ledger.settled(order.fields.nonce) || !right || order.wish != Wish::Answer {
            let detail = format!("{}: {}", self.name(), shown(result.map_or("", |r| r.get()).as_bytes()));
            return world.errors.add("reply_wrong", detail);
        }
        world.tally.commands += 1;
    }

    fn leave(&mut self, world: &mut World, link: &mut Link<'_>, way: Way) {
        self.leaving = Some(way);
        if way == Way::Farewell && self.stage == Stage::Watching {
            websocket::encode(link.out, websocket::CLOSE, &1000u16.to_be_bytes(), &mut world.random);
        }
        way.leave(world, link, self.frozen_for);
    }
}

impl Actor for Watcher {
    fn is_settled(&self) -> bool {
        self.stage == Stage::Watching
    }

    fn is_up(&self) -> bool {
        self.stage != Stage::Down
    }

    fn waits(&self) -> bool {
        // One that has stopped will never take its answer.
        self.outstanding.is_some() && self.leaving != Some(Way::Freeze)
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.stage != Stage::Down && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    fn begin(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.stage != Stage::Watching || self.leaving.is_some() {
            return;
        }
        link.allow(if self.deaf { Some(0) } else { None });
        if let Some(calls) = self.calls {
            self.tick(link, (calls.pause.as_nanos() as f64 * world.random.fraction()) as u64);
        }
    }
}

impl reactor::Client for Watcher {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        link.out.extend_from_slice(self.kind.upgrade_request(&world.addresses).as_bytes());
        self.stage = Stage::Upgrading;
        (self.leaving, self.ticking) = (None, false);
        self.fragments = Fragments::default();
        self.seen.clear();
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        if self.stage == Stage::Upgrading {
            let Some(used) = websocket::upgraded(bytes)? else { return Ok(0) };
            taken = used;
            self.subscribe(world, link);
        }
        while let Some((frame, used)) = websocket::decode(&bytes[taken..])? {
            taken += used;
            match self.fragments.take(&frame)? {
                Message::Text(text) => self.text(world, link, &text)?,
                Message::Control(websocket::PING, payload) => {
                    websocket::encode(link.out, websocket::PONG, payload, &mut world.random);
                }
                Message::Control(websocket::CLOSE, payload) if self.leaving.is_none() => {
                    let code = payload.first_chunk::<2>().map_or(0, |code| u16::from_be_bytes(*code));
                    return Err(format!("the server closes with {code}"));
                }
                Message::Control(..) | Message::Part => {}
            }
        }
        Ok(taken)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            GONE => link.drop_connection(),
            LEAVE => {
                if let Some(way) = self.leaving.take() {
                    self.leave(world, link, way);
                }
            }
            COMMAND if self.stage == Stage::Watching && self.leaving != Some(Way::Freeze) => {
                self.ticking = false;
                let Some(calls) = self.calls else { return };
                if self.outstanding.is_none() && !world.quiet {
                    self.send(world, link, &calls);
                }
                self.tick(link, calls.pause.as_nanos() as u64);
            }
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        let stage = std::mem::replace(&mut self.stage, Stage::Down);
        if let Some(outstanding) = self.outstanding.take() {
            world.ledger.given_up(outstanding.order.fields.nonce);
        }
        if self.leaving.take().is_some() {
            return;
        }
        let detail = format!("{} in {stage:?}: {why:?}", self.name());
        world.errors.add(&format!("{}_{}", self.kind.name(), why.kind()), detail);
        link.connect_at(link.now + SECOND);
    }
}

fn refused(world: &mut World, order: &Order, error: &RawValue) {
    world.ledger.given_up(order.fields.nonce);
    let error: serde_json::Value = serde_json::from_str(error.get()).unwrap_or_default();
    let code = error["data"]["code"].as_str().unwrap_or("no_code");
    match (order.wish, code) {
        (Wish::Fail, "router_error") => world.tally.commands += 1,
        (Wish::Silence, "deadline_exceeded") => world.tally.timed_out += 1,
        (_, "router_offline" | "router_lost" | "router_busy" | "deadline_exceeded") if world.churn => {
            *world.refusals.entry(format!("rpc {code}")).or_default() += 1;
            world.tally.excused += 1;
        }
        _ => world.errors.add(&format!("websocket_{code}"), error.to_string()),
    }
}
