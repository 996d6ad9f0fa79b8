//! An HTTP caller: keep-alive, one command outstanding (contract, section 3).

use serde_json::Value;

use crate::command::{Order, Wish};
use crate::http::{self, Response};
use crate::ledger;
use crate::reactor::{self, Ended, Link};
use crate::timers::SECOND;
use crate::world::{Phase, World};

const NEXT: u8 = 0;
const PATIENCE: u8 = 1;
/// The daemon answers at the deadline itself; this long after it, a missing answer is an error.
const GRACE: u64 = 5 * SECOND;

struct Outstanding {
    order: Order,
    sent_at: u64,
}

pub struct Caller {
    number: u32,
    commands: u32,
    up: bool,
    outstanding: Option<Outstanding>,
    /// When the next command is due, with `--command-rate`.
    next_due: u64,
}

impl Caller {
    pub fn new(number: u32) -> Self {
        Self { number, commands: 0, up: false, outstanding: None, next_due: 0 }
    }

    /// The load begins.
    pub fn start(&mut self, world: &mut World, link: &mut Link<'_>) {
        if !self.up {
            return;
        }
        let pause = self.pause(world) as f64 * world.random.fraction();
        self.next_due = link.now + pause as u64;
        link.wake_at(self.next_due, NEXT);
        link.wake_at(link.now + SECOND, PATIENCE);
    }

    fn pause(&self, world: &World) -> u64 {
        match world.options.command_rate {
            Some(rate) => (1e9 / rate.max(1e-9)) as u64,
            None => world.options.think.as_nanos() as u64,
        }
    }

    fn send(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.commands += 1;
        let oneway = world.random.chance(world.options.oneway_share);
        let order = world.order(ledger::nonce(self.number, self.commands), oneway, false);
        let router = &world.routers[order.router as usize].id;
        let host = world.options.addresses.http.to_string();
        order.write_http(link.out, &host, router, world.options.timeout);
        self.outstanding = Some(Outstanding { order, sent_at: link.now });
    }

    fn schedule(&mut self, world: &mut World, link: &mut Link<'_>) {
        let pause = self.pause(world);
        if world.options.command_rate.is_some() {
            self.next_due += pause;
            link.wake_at(self.next_due, NEXT);
        } else if pause == 0 {
            self.send(world, link);
        } else {
            link.wake_at(link.now + pause, NEXT);
        }
    }

    fn answer(&self, world: &mut World, now: u64, outstanding: &Outstanding, response: &Response<'_>) {
        let Outstanding { order, sent_at } = outstanding;
        let fail = order.wish == Wish::Fail;
        if order.oneway && response.status == 202 {
            world.stats.counters.oneway += 1;
            return;
        }
        let expected_status = if fail { 502 } else { 200 };
        if order.oneway || response.status != expected_status || fail != response.router_error {
            world.ledger.given_up(order.fields.nonce);
            let problem: Value = serde_json::from_slice(response.body).unwrap_or_default();
            let code = problem["code"].as_str().unwrap_or("no_code");
            let kind = format!("http_{}_{code}", response.status);
            return world.stats.errors.add(&kind, String::from_utf8_lossy(response.body));
        }
        let reached_router = world.ledger.settled(order.fields.nonce);
        let content_type = http::content_type(order.fields.reply_json);
        if response.body != world.owed(order) || !reached_router {
            let detail = format!("command {:#x}: {} bytes came", order.fields.nonce, response.body.len());
            return world.stats.errors.add("reply_wrong", detail);
        }
        if response.content_type != content_type {
            let detail = format!("{:?} instead of {content_type:?}", response.content_type);
            return world.stats.errors.add("reply_content_type", detail);
        }
        world.stats.counters.commands += 1;
        world.stats.counters.commands_failed_as_asked += u64::from(fail);
        world.stats.http_latency.record_ns(now.saturating_sub(*sent_at));
    }

    pub fn close(&mut self, link: &mut Link<'_>) {
        link.finish();
    }
}

impl reactor::Client for Caller {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.up = true;
        world.stats.up.callers += 1;
        if world.phase == Phase::Load {
            self.start(world, link);
        }
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        while let Some((response, used)) = http::decode(&bytes[taken..])? {
            taken += used;
            let Some(outstanding) = self.outstanding.take() else {
                return Err(format!("an answer {} that nobody asked for", response.status));
            };
            self.answer(world, link.now, &outstanding, &response);
            if response.close {
                return Ok(taken);
            }
            if world.phase == Phase::Load {
                self.schedule(world, link);
            }
        }
        Ok(taken)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            NEXT if world.phase == Phase::Load && self.outstanding.is_none() => self.send(world, link),
            PATIENCE if world.phase <= Phase::Drain => {
                let limit = world.options.timeout.as_nanos() as u64 + GRACE;
                if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.sent_at + limit < link.now)
                {
                    world.stats.errors.add("http_no_answer", format!("caller {}: none in time", self.number));
                    link.finish();
                } else {
                    link.wake_at(link.now + SECOND, PATIENCE);
                }
            }
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        if std::mem::take(&mut self.up) {
            world.stats.up.callers -= 1;
        }
        let outstanding = self.outstanding.take();
        let reached_router = outstanding
            .as_ref()
            .is_some_and(|outstanding| world.ledger.given_up(outstanding.order.fields.nonce));
        if world.phase == Phase::Close {
            return;
        }
        if reached_router {
            let detail = format!("caller {}: {why:?} while the router had its command", self.number);
            world.stats.errors.add("reply_lost", detail);
        }
        // An idle keep-alive connection may be closed at any time; a command without its answer may not.
        if outstanding.is_some() || !matches!(why, Ended::Closed) {
            let detail = format!("caller {}: {why:?}", self.number);
            world.stats.errors.add(&format!("caller_{}", why.kind()), detail);
            link.connect_at(link.now + SECOND);
        } else {
            link.connect_at(link.now);
        }
    }
}
