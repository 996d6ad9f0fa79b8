//! A backend that publishes events of routers, bound or not (contract, section 3: `POST /v1/events`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::http;
use crate::payload::{self, EventFields};
use crate::reactor::{self, Ended, Link};
use crate::router::topic_of;
use crate::timers::SECOND;

use super::client::Actor;
use super::way::{LEAVE, Way};
use super::world::World;

const NEXT: u8 = 0;

pub struct Publisher {
    /// Routers that nobody else speaks for: one after another, so that the order of each is known.
    routers: std::ops::Range<u32>,
    every: Duration,
    bytes: crate::options::Sizes,
    next: u32,
    up: bool,
    waits: bool,
    /// NEXT is set.
    ticking: bool,
    leaving: Option<Way>,
    pub published: u64,
}

impl Publisher {
    pub fn new(routers: std::ops::Range<u32>, every: Duration, bytes: crate::options::Sizes) -> Self {
        let next = routers.start;
        Self {
            routers,
            every,
            bytes,
            next,
            up: false,
            waits: false,
            ticking: false,
            leaving: None,
            published: 0,
        }
    }

    fn publish(&mut self, world: &mut World, link: &mut Link<'_>) {
        let router = self.next;
        self.next = if router + 1 < self.routers.end { router + 1 } else { self.routers.start };
        let (json, retain) = (world.random.chance(0.5), world.random.chance(0.1));
        let size = world.random.within(self.bytes);
        let fields = EventFields {
            seed: world.seed,
            n: world.routers[router as usize].emit(retain),
            sent_ns: link.now,
        };
        let body = payload::event(router, &fields, json, size);
        let body = if json {
            format!(r#""body":{}"#, String::from_utf8(body).expect("JSON of ours is UTF-8"))
        } else {
            format!(r#""body_base64":"{}""#, BASE64.encode(body))
        };
        let (id, topic) = (&world.routers[router as usize].id, topic_of(retain));
        let request = format!(r#"{{"router":"{id}","topic":"{topic}",{body},"retain":{retain}}}"#);
        http::post(
            link.out,
            "/v1/events",
            &world.http().to_string(),
            http::content_type(true),
            request.as_bytes(),
        );
        self.waits = true;
        world.tally.events += 1;
    }

    fn tick(&mut self, link: &mut Link<'_>, after: Duration) {
        if !std::mem::replace(&mut self.ticking, true) {
            link.wake_at(link.now + after.as_nanos() as u64, NEXT);
        }
    }
}

impl Actor for Publisher {
    fn is_settled(&self) -> bool {
        self.up
    }

    fn is_up(&self) -> bool {
        self.up
    }

    fn waits(&self) -> bool {
        self.waits
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.up && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    fn begin(&mut self, _: &mut World, link: &mut Link<'_>) {
        if self.up {
            self.tick(link, self.every);
        }
    }
}

impl reactor::Client for Publisher {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        (self.up, self.waits, self.ticking, self.leaving) = (true, false, false, None);
        self.begin(world, link);
    }

    fn received(&mut self, _: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        let Some((response, used)) = http::decode(bytes)? else { return Ok(0) };
        if response.status != 202 || !std::mem::take(&mut self.waits) {
            return Err(format!("{}: {}", response.status, crate::rpc::shown(response.body)));
        }
        self.published += 1;
        self.tick(link, self.every);
        Ok(used)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            NEXT => {
                self.ticking = false;
                if world.quiet || self.waits {
                    self.tick(link, Duration::from_millis(100));
                } else {
                    self.publish(world, link);
                }
            }
            LEAVE if self.leaving == Some(Way::Reset) => link.reset(),
            LEAVE => link.finish(),
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        let waited = std::mem::take(&mut self.waits);
        self.up = false;
        if self.leaving.take().is_some() {
            return;
        }
        // An idle keep-alive connection may be closed at any time.
        if waited || !matches!(why, Ended::Closed) {
            let detail = format!("publisher of {:?}: {why:?}", self.routers);
            world.errors.add(&format!("publisher_{}", why.kind()), detail);
        }
        link.connect_at(link.now + SECOND);
    }
}
