//! An app or a page: upgrade, subscribe, check every event, now and then a command (contract, section 4).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::command::{Order, Wish};
use crate::ledger;
use crate::options::Addresses;
use crate::order::EventOrder;
use crate::reactor::{self, Ended, Link};
use crate::router::RETAINED_TOPIC;
use crate::rpc::{self, Event, Reply, Rpc, SUBSCRIBE_ID, shown};
use crate::timers::SECOND;
use crate::websocket::{self, Fragments, Message};
use crate::world::{Phase, World};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    App,
    Page,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Page => "page",
        }
    }

    /// The request that opens its WebSocket.
    pub fn upgrade_request(self, addresses: &Addresses) -> String {
        let address = match self {
            Self::App => addresses.app,
            Self::Page => addresses.page,
        };
        websocket::upgrade_request(&address.to_string(), self == Self::Page)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Down,
    Upgrading,
    Subscribing,
    Watching,
    Closing,
}

const COMMAND: u8 = 0;
const PATIENCE: u8 = 1;
const GRACE: u64 = 5 * SECOND;

struct Outstanding {
    id: u64,
    order: Order,
    sent_at: u64,
}

pub struct Watcher {
    kind: Kind,
    number: u32,
    /// The router to be watched; `None` is all.
    router: Option<u32>,
    stage: Stage,
    fragments: Fragments,
    order: EventOrder,
    /// What `subscribe` said of the router: the first live event must have the next number.
    subscribed_seq: Option<u64>,
    commands: u32,
    outstanding: Option<Outstanding>,
}

#[derive(Deserialize)]
struct Subscribed {
    #[serde(rename = "subscription")]
    _subscription: u64,
    epoch: Option<String>,
    seq: Option<u64>,
}

impl Watcher {
    /// `number` is unique among all that send commands.
    pub fn new(kind: Kind, number: u32, router: Option<u32>, routers: usize) -> Self {
        Self {
            kind,
            number,
            router,
            stage: Stage::Down,
            fragments: Fragments::default(),
            order: EventOrder::new(router, routers),
            subscribed_seq: None,
            commands: 0,
            outstanding: None,
        }
    }

    /// Events that this watcher should have had by now.
    pub fn missing(&self, world: &World) -> u64 {
        if self.stage == Stage::Watching {
            self.order.missing(|router| world.routers[router as usize].emitted)
        } else {
            0
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.kind.name(), self.number)
    }

    fn up<'w>(&self, world: &'w mut World) -> &'w mut usize {
        match self.kind {
            Kind::App => &mut world.stats.up.apps,
            Kind::Page => &mut world.stats.up.pages,
        }
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
                if matches!(self.stage, Stage::Watching | Stage::Closing) =>
            {
                self.event(world, link.now, &event);
                Ok(())
            }
            Rpc { id: Some(SUBSCRIBE_ID), result: Some(result), .. } if self.stage == Stage::Subscribing => {
                self.subscribed(world, link, result)
            }
            Rpc { id: Some(id), result, error, .. }
                if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.id == id) =>
            {
                self.answer(world, link.now, result, error);
                Ok(())
            }
            _ => Err(format!("a message out of place: {}", shown(text))),
        }
    }

    fn subscribed(
        &mut self,
        world: &mut World,
        link: &mut Link<'_>,
        result: &RawValue,
    ) -> Result<(), String> {
        let result: Subscribed =
            serde_json::from_str(result.get()).map_err(|e| format!("{e} in {result}"))?;
        if self.router.is_some() != result.seq.is_some() || (result.epoch.is_none() && result.seq > Some(0)) {
            return Err(format!("subscribe: epoch {:?} and seq {:?}", result.epoch, result.seq));
        }
        self.subscribed_seq = result.seq;
        self.order.subscribed(|router| world.routers[router as usize].emitted);
        self.stage = Stage::Watching;
        *self.up(world) += 1;
        if world.phase == Phase::Load {
            self.start(world, link);
        }
        Ok(())
    }

    /// The load begins.
    pub fn start(&mut self, world: &mut World, link: &mut Link<'_>) {
        let rate = world.options.client_command_rate;
        if self.stage == Stage::Watching && self.kind == Kind::App && rate > 0.0 && !world.routers.is_empty()
        {
            link.wake_at(link.now + (1e9 / rate * world.random.fraction()) as u64, COMMAND);
            link.wake_at(link.now + SECOND, PATIENCE);
        }
    }

    fn event(&mut self, world: &mut World, now: u64, event: &Event<'_>) {
        let Some(router) = world.router_index(&event.router) else {
            world.stats.counters.foreign_events += 1;
            return;
        };
        let fields = match event.fields(router) {
            Ok(fields) => fields,
            Err(detail) => return world.stats.errors.add("event_wrong", detail),
        };
        if event.retained && fields.seed != world.options.seed {
            world.stats.counters.foreign_events += 1;
            return;
        }
        let facts = &mut world.routers[router as usize];
        let offset = event.seq.unwrap_or(0).wrapping_sub(fields.n);
        if *facts.seq_offset.get_or_insert(offset) != offset || event.seq.is_none() {
            let detail = format!("{}: seq {:?} for its event {}", self.name(), event.seq, fields.n);
            world.stats.errors.add("event_seq", detail);
            facts.seq_offset = Some(offset);
        }
        if (event.retained && event.topic != RETAINED_TOPIC)
            || fields.n > facts.emitted
            || fields.seed != world.options.seed
        {
            world.stats.errors.add("event_wrong", format!("event {} on topic {}", fields.n, event.topic));
        }
        let first = self.subscribed_seq.take_if(|_| !event.retained);
        if first.is_some_and(|seq| Some(seq + 1) != event.seq) {
            let detail = format!("{}: subscribed at {first:?}, first came {:?}", self.name(), event.seq);
            world.stats.errors.add("event_after_subscribe", detail);
        }
        let in_order = if event.retained {
            world.stats.counters.retained_delivered += 1;
            self.order.retained(router, fields.n)
        } else {
            world.stats.counters.events_delivered += 1;
            world.stats.event_latency.record_ns(now.saturating_sub(fields.sent_ns));
            self.order.live(router, fields.n, event.topic == RETAINED_TOPIC)
        };
        if let Err(mut fault) = in_order {
            fault.detail = format!("{}: {}", self.name(), fault.detail);
            world.stats.errors.add_fault(fault);
        }
    }

    fn send(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.commands += 1;
        let order = world.order(ledger::nonce(self.number, self.commands), false, true);
        let id = SUBSCRIBE_ID + u64::from(self.commands);
        let router = &world.routers[order.router as usize].id;
        let request = order.rpc(id, router, world.options.timeout);
        websocket::encode(link.out, websocket::TEXT, request.as_bytes(), &mut world.random);
        self.outstanding = Some(Outstanding { id, order, sent_at: link.now });
    }

    fn answer(&mut self, world: &mut World, now: u64, result: Option<&RawValue>, error: Option<&RawValue>) {
        let Some(Outstanding { order, sent_at, .. }) = self.outstanding.take() else { return };
        let fail = order.wish == Wish::Fail;
        let reply: Option<Reply> = result.and_then(|result| serde_json::from_str(result.get()).ok());
        let right = match (reply, error) {
            (Some(reply), None) => !fail && reply.brings(&world.owed(&order), order.fields.reply_json),
            (None, Some(error)) => {
                let error: serde_json::Value = serde_json::from_str(error.get()).unwrap_or_default();
                let code = error["data"]["code"].as_str().unwrap_or("no_code");
                if !(fail && code == "router_error" && error["code"] == -32003) {
                    world.ledger.given_up(order.fields.nonce);
                    return world.stats.errors.add(&format!("websocket_{code}"), error.to_string());
                }
                true
            }
            _ => false,
        };
        if !world.ledger.settled(order.fields.nonce) || !right {
            let detail = format!("{}: {}", self.name(), shown(result.map_or("", |r| r.get()).as_bytes()));
            return world.stats.errors.add("reply_wrong", detail);
        }
        world.stats.counters.commands += 1;
        world.stats.counters.commands_failed_as_asked += u64::from(fail);
        world.stats.websocket_latency.record_ns(now.saturating_sub(sent_at));
    }

    /// Says good-bye with 1000; the server answers and closes.
    pub fn close(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.stage == Stage::Watching {
            self.stage = Stage::Closing;
            *self.up(world) -= 1;
            websocket::encode(link.out, websocket::CLOSE, &1000u16.to_be_bytes(), &mut world.random);
        }
        link.finish();
    }
}

impl reactor::Client for Watcher {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        link.out.extend_from_slice(self.kind.upgrade_request(&world.options.addresses).as_bytes());
        self.stage = Stage::Upgrading;
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
                    world.stats.counters.pings_answered += 1;
                    websocket::encode(link.out, websocket::PONG, payload, &mut world.random);
                }
                Message::Control(websocket::CLOSE, payload) if self.stage != Stage::Closing => {
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
            COMMAND if world.phase == Phase::Load => {
                if self.outstanding.is_none() {
                    self.send(world, link);
                }
                link.wake_at(link.now + (1e9 / world.options.client_command_rate) as u64, COMMAND);
            }
            PATIENCE if world.phase <= Phase::Drain => {
                let limit = world.options.timeout.as_nanos() as u64 + GRACE;
                if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.sent_at + limit < link.now)
                {
                    world.stats.errors.add("websocket_no_answer", format!("{}: none in time", self.name()));
                    let lost = self.outstanding.take().map(|outstanding| outstanding.order.fields.nonce);
                    lost.map(|nonce| world.ledger.given_up(nonce));
                }
                link.wake_at(link.now + SECOND, PATIENCE);
            }
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        let stage = std::mem::replace(&mut self.stage, Stage::Down);
        if stage == Stage::Watching {
            *self.up(world) -= 1;
        }
        if let Some(outstanding) = self.outstanding.take() {
            world.ledger.given_up(outstanding.order.fields.nonce);
        }
        if world.phase == Phase::Close {
            return;
        }
        let detail = format!("{} in {stage:?}: {why:?}", self.name());
        world.stats.errors.add(&format!("{}_{}", self.kind.name(), why.kind()), detail);
        *self = Self {
            commands: self.commands,
            ..Self::new(self.kind, self.number, self.router, world.routers.len())
        };
        link.connect_at(link.now + SECOND);
    }
}
