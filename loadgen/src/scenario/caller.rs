//! An HTTP caller of a scenario (contract, section 3).

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::command::{Order, Wish};
use crate::http::{self, Response};
use crate::reactor::{self, Ended, Link};
use crate::timers::SECOND;

use super::client::Actor;
use super::way::{LEAVE, Way};
use super::world::{Calls, World};

const NEXT: u8 = 0;
const PATIENCE: u8 = 1;
const HANG_UP: u8 = 2;
/// The daemon answers at the deadline itself; this long after it, a missing answer is an error.
const GRACE: u64 = 5 * SECOND;

struct Outstanding {
    order: Order,
    sent_at: u64,
}

pub struct Caller {
    number: u32,
    pub calls: Calls,
    count: u32,
    up: bool,
    leaving: Option<Way>,
    /// Closes of our own making, after which a new connection comes.
    renewing: bool,
    answered: u32,
    outstanding: VecDeque<Outstanding>,
    /// NEXT is set.
    scheduled: bool,
}

impl Caller {
    /// `number` is unique among all that send commands.
    pub fn new(number: u32, calls: Calls) -> Self {
        Self {
            number,
            calls,
            count: 0,
            up: false,
            leaving: None,
            renewing: false,
            answered: 0,
            outstanding: VecDeque::new(),
            scheduled: false,
        }
    }

    fn schedule(&mut self, link: &mut Link<'_>, pause: u64) {
        if !self.scheduled {
            self.scheduled = true;
            link.wake_at(link.now + pause, NEXT);
        }
    }

    fn next(&mut self, world: &mut World, link: &mut Link<'_>) {
        if world.quiet {
            return self.schedule(link, SECOND / 5);
        }
        if self.leaving.is_some() || self.renewing {
            return;
        }
        while self.outstanding.len() < self.calls.depth {
            self.send(world, link);
        }
    }

    fn send(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.count += 1;
        let order = world.order(self.number, self.count, &self.calls, usize::MAX);
        let router = &world.routers[order.router as usize].id;
        order.write_http(link.out, &world.http().to_string(), router, self.calls.timeout);
        if !order.oneway && world.random.chance(self.calls.hang_up_share) {
            link.wake_at(link.now + SECOND / 20, HANG_UP);
        }
        self.outstanding.push_back(Outstanding { order, sent_at: link.now });
    }

    fn answer(&self, world: &mut World, now: u64, outstanding: &Outstanding, response: &Response<'_>) {
        let Outstanding { order, sent_at } = outstanding;
        let took = now.saturating_sub(*sent_at);
        if order.oneway && response.status == 202 {
            world.tally.oneway += 1;
            return;
        }
        let expected = match order.wish {
            Wish::Answer => 200,
            Wish::Fail => 502,
            Wish::Silence => 504,
        };
        if order.oneway || response.status != expected || (order.wish == Wish::Fail) != response.router_error
        {
            return self.refused(world, order, response);
        }
        if order.wish == Wish::Silence {
            world.ledger.given_up(order.fields.nonce);
            world.tally.timed_out += 1;
            world.deadline_lateness.record_ns(took.saturating_sub(self.calls.timeout.as_nanos() as u64));
            return;
        }
        let reached_router = world.ledger.settled(order.fields.nonce);
        if response.body != world.owed(order) || !reached_router {
            let detail = format!("command {:#x}: {} bytes came", order.fields.nonce, response.body.len());
            return world.errors.add("reply_wrong", detail);
        }
        world.tally.commands += 1;
        world.call_latency.record_ns(took);
    }

    fn refused(&self, world: &mut World, order: &Order, response: &Response<'_>) {
        if !order.oneway {
            world.ledger.given_up(order.fields.nonce);
        }
        let problem: Value = serde_json::from_slice(response.body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or("no_code");
        *world.refusals.entry(format!("{} {code}", response.status)).or_default() += 1;
        if world.churn && matches!(response.status, 404 | 429 | 503 | 504) {
            world.tally.excused += 1;
        } else {
            let kind = format!("http_{}_{code}", response.status);
            world.errors.add(&kind, String::from_utf8_lossy(&response.body[..response.body.len().min(300)]));
        }
    }
}

impl Actor for Caller {
    fn is_settled(&self) -> bool {
        self.up
    }

    fn is_up(&self) -> bool {
        self.up
    }

    fn waits(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Leaves after `delay`, with RST or FIN; whatever was outstanding then is hung up on.
    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.up && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    /// Begins to call, after a random part of the pause.
    fn begin(&mut self, world: &mut World, link: &mut Link<'_>) {
        if self.up && !self.scheduled {
            let pause = self.calls.pause.as_nanos() as f64 * world.random.fraction();
            self.schedule(link, pause as u64);
        }
    }
}

impl reactor::Client for Caller {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        (self.up, self.leaving, self.renewing) = (true, None, false);
        self.answered = 0;
        self.scheduled = false;
        link.wake_at(link.now + SECOND, PATIENCE);
        self.begin(world, link);
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        while let Some((response, used)) = http::decode(&bytes[taken..])? {
            taken += used;
            let Some(outstanding) = self.outstanding.pop_front() else {
                return Err(format!("an answer {} that nobody asked for", response.status));
            };
            self.answer(world, link.now, &outstanding, &response);
            self.answered += 1;
            if response.close {
                return Ok(taken);
            }
            if self.calls.per_connection.is_some_and(|most| self.answered >= most) && !self.waits() {
                self.renewing = true;
                link.finish();
                return Ok(taken);
            }
            if self.outstanding.len() <= self.calls.depth / 2 {
                self.schedule(link, self.calls.pause.as_nanos() as u64);
            }
        }
        Ok(taken)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            NEXT => {
                self.scheduled = false;
                self.next(world, link);
            }
            HANG_UP if self.waits() => {
                world.tally.hung_up += 1;
                self.renewing = true;
                // An end by FIN and one by RST take turns.
                if self.count.is_multiple_of(2) {
                    link.reset();
                } else {
                    link.finish();
                }
            }
            PATIENCE => {
                let limit = self.calls.timeout.as_nanos() as u64 + GRACE;
                if self.outstanding.front().is_some_and(|first| first.sent_at + limit < link.now) {
                    world.errors.add("http_no_answer", format!("caller {}: none in time", self.number));
                    self.renewing = true;
                    link.reset();
                } else {
                    link.wake_at(link.now + SECOND, PATIENCE);
                }
            }
            LEAVE if self.leaving == Some(Way::Reset) => link.reset(),
            LEAVE => link.finish(),
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        self.up = false;
        let waited = self.waits();
        for outstanding in self.outstanding.drain(..) {
            if !outstanding.order.oneway {
                world.ledger.given_up(outstanding.order.fields.nonce);
            }
        }
        if self.leaving.take().is_some() {
            return;
        }
        // An idle keep-alive connection may be closed at any time; a command without its answer may not.
        let renewing = std::mem::take(&mut self.renewing);
        if !renewing && (waited || !matches!(why, Ended::Closed)) {
            world.errors.add(&format!("caller_{}", why.kind()), format!("caller {}: {why:?}", self.number));
        }
        let pause = if renewing { self.calls.pause.as_nanos() as u64 } else { SECOND };
        link.connect_at(link.now + pause);
    }
}
