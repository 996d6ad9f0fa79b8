//! A backend that follows events as server-sent events (contract, section 3): every event that it asked for, once, in order,
//! also over breaks, or it is told of the gap.

use std::collections::HashMap;
use std::time::Duration;

use crate::http::{self, LongAnswer};
use crate::reactor::{self, Ended, Link};
use crate::rpc::Event;
use crate::sse::{self, Block, EventId};

use super::client::Actor;
use super::pace::Pace;
use super::way::{LEAVE, Way};
use super::world::World;

const READ: u8 = 0;
const BREAK: u8 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// The router's index; `None` is all.
    pub router: Option<u32>,
    /// `None` is all.
    pub topic: Option<&'static str>,
}

/// How the connection breaks again and again.
#[derive(Clone, Copy, Debug)]
pub struct Breaks {
    pub every: Duration,
    pub away: Duration,
}

/// What has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub events: u64,
    /// `berth.gap`.
    pub gaps: u64,
    /// Of those, the ones where nothing can have been lost.
    pub unfounded_gaps: u64,
    pub breaks: u64,
}

/// What was last seen of a router.
struct Seen {
    /// The router's own count.
    n: u64,
    seq: u64,
}

pub struct EventStream {
    number: u32,
    filter: Filter,
    pub breaks: Option<Breaks>,
    pub pace: Option<Pace>,
    /// A `Last-Event-ID` to begin with.
    pub claim: Option<&'static str>,
    /// A break may be longer than the history.
    pub may_lack: bool,
    pub count: Count,
    /// What would have been owed when it first came.
    begin_at: u64,
    last: Option<EventId>,
    seen: HashMap<u32, Seen>,
    up: bool,
    following: bool,
    leaving: Option<Way>,
    breaking: bool,
    /// READ and BREAK are set.
    ticking: (bool, bool),
    /// A gap must be told before anything else.
    gap_owed: bool,
    /// A gap was told: what comes next need not follow what came last.
    gap_told: bool,
    answer: LongAnswer,
}

impl EventStream {
    pub fn new(number: u32, filter: Filter) -> Self {
        Self {
            number,
            filter,
            breaks: None,
            pace: None,
            claim: None,
            may_lack: false,
            count: Count::default(),
            begin_at: 0,
            last: None,
            seen: HashMap::new(),
            up: false,
            following: false,
            leaving: None,
            breaking: false,
            ticking: (false, false),
            gap_owed: false,
            gap_told: false,
            answer: LongAnswer::default(),
        }
    }

    fn ask(&mut self, world: &World, link: &mut Link<'_>) {
        let router = self.filter.router.map_or("*", |router| world.routers[router as usize].id.as_str());
        let path = format!("/v1/events?router={router}&topic={}", self.filter.topic.unwrap_or("*"));
        let from = match (&self.last, self.claim) {
            (Some(EventId { run, n }), _) => Some(format!("{run}-{n}")),
            (None, claim) => claim.map(String::from),
        };
        self.gap_owed = self.last.is_none() && self.claim.is_some() && self.count.gaps == 0;
        let header = from.map_or(String::new(), |from| format!("Last-Event-ID: {from}\r\n"));
        http::get(link.out, &path, &world.http().to_string(), &header);
    }

    /// Begins as if it had never been there.
    pub fn forget(&mut self) {
        (self.last, self.count) = (None, Count::default());
        self.seen.clear();
    }

    /// Events that were emitted since it first came, and have not come to it.
    pub fn missing(&self, world: &World) -> u64 {
        let owed = self.owed(world) - self.begin_at;
        match self.claim {
            // Who comes with an id of another run is given what is remembered of this one first.
            Some(_) => owed.saturating_sub(self.count.events),
            None => owed.abs_diff(self.count.events),
        }
    }

    /// Events that it would have had, had it always been there.
    fn owed(&self, world: &World) -> u64 {
        let routers: &[_] = match self.filter.router {
            Some(router) => std::slice::from_ref(&world.routers[router as usize]),
            None => &world.routers,
        };
        routers.iter().map(|facts| facts.emitted_on(self.filter.topic)).sum()
    }

    fn blocks(&mut self, world: &mut World) -> Result<(), String> {
        let body = std::mem::take(&mut self.answer.body);
        let mut taken = 0;
        while let Some((block, used)) = sse::decode(&body[taken..])? {
            taken += used;
            match block {
                Block::Comment => {}
                Block::Event { topic: "berth.gap", id, .. } => self.gap(id)?,
                Block::Event { topic, id, data } => {
                    self.event(world, topic, id, data)
                        .map_err(|what| format!("{what}: id {id:?}, {data:.200}"))?;
                }
            }
        }
        self.answer.body = body[taken..].to_vec();
        Ok(())
    }

    fn gap(&mut self, id: Option<&str>) -> Result<(), String> {
        if let Some(id) = id {
            self.last = Some(EventId::parse(id)?);
        }
        // Who hears of one topic only may have an old id to come back with, behind which others were lost since.
        if !self.gap_owed && !self.may_lack && self.filter.topic.is_none() {
            self.count.unfounded_gaps += 1;
        }
        (self.gap_owed, self.gap_told) = (false, true);
        self.seen.clear();
        self.count.gaps += 1;
        Ok(())
    }

    fn event(&mut self, world: &mut World, topic: &str, id: Option<&str>, data: &str) -> Result<(), String> {
        if self.gap_owed {
            return Err("an event before the gap was told".into());
        }
        let event: Event = serde_json::from_str(data).map_err(|e| e.to_string())?;
        let id = EventId::parse(id.ok_or("no id")?)?;
        let router = world.router_index(&event.router).ok_or("of an unknown router")?;
        let asked = self.filter.router.is_none_or(|wanted| wanted == router)
            && self.filter.topic.map_or(!topic.starts_with('$'), |wanted| wanted == topic);
        if !asked || event.topic != topic || event.retained {
            return Err("not asked for".into());
        }
        let n = event.fields(router)?.n;
        let seq = event.seq.ok_or("no seq")?;
        if let Some(last) = self.last.replace(id.clone()) {
            // One count over all events: who asked for all of them misses none, unless some are no longer there.
            let all = self.filter.router.is_none() && self.filter.topic.is_none() && !self.may_lack;
            let follows = if all && !self.gap_told { id.n == last.n + 1 } else { id.n > last.n };
            if last.run != id.run || !follows {
                return Err(format!("behind {last:?}"));
            }
        }
        self.gap_told = false;
        if let Some(Seen { n: last_n, seq: last_seq }) = self.seen.insert(router, Seen { n, seq }) {
            let follows = if self.filter.topic.is_none() { n == last_n + 1 } else { n > last_n };
            // Both count every event of the router.
            if !follows || seq.checked_sub(last_seq) != Some(n - last_n) {
                return Err(format!(
                    "number {n} of its router with seq {seq}, behind {last_n} with {last_seq}"
                ));
            }
        }
        self.count.events += 1;
        world.tally.events_delivered += 1;
        Ok(())
    }

    fn tick_break(&mut self, world: &mut World, link: &mut Link<'_>) {
        if let Some(breaks) = self.breaks.filter(|_| !self.ticking.1) {
            self.ticking.1 = true;
            let after = breaks.every.as_nanos() as f64 * (0.5 + world.random.fraction());
            link.wake_at(link.now + after as u64, BREAK);
        }
    }
}

impl Actor for EventStream {
    fn is_settled(&self) -> bool {
        self.following
    }

    fn is_up(&self) -> bool {
        self.up
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.up && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    fn begin(&mut self, world: &mut World, link: &mut Link<'_>) {
        if !self.up {
            return;
        }
        self.tick_break(world, link);
        if self.pace.is_some() && !std::mem::replace(&mut self.ticking.0, true) {
            link.wake_at(link.now, READ);
        }
    }
}

impl reactor::Client for EventStream {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        (self.up, self.following, self.leaving, self.breaking) = (true, false, None, false);
        (self.ticking, self.gap_told) = ((false, false), false);
        self.answer = LongAnswer::default();
        if self.last.is_none() && self.count.events == 0 {
            self.begin_at = self.owed(world);
        }
        self.ask(world, link);
        self.begin(world, link);
    }

    fn received(&mut self, world: &mut World, _: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        if self.breaking {
            // What comes still will come again.
            return Ok(bytes.len());
        }
        let taken = self.answer.take(bytes)?;
        let head = (self.answer.status, self.answer.content_type.as_str());
        if head != (200, "text/event-stream") && self.answer.status != 0 {
            return Err(format!("{head:?}: {}", crate::rpc::shown(&self.answer.body)));
        }
        self.following = self.answer.status == 200;
        self.blocks(world)?;
        Ok(taken)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            READ => {
                self.ticking.0 = false;
                if let Some(pace) = &mut self.pace {
                    let again = pace.allow(link);
                    self.ticking.0 = true;
                    link.wake_at(again, READ);
                }
            }
            BREAK if !world.quiet && self.breaks.is_some() && self.leaving.is_none() => {
                self.count.breaks += 1;
                self.breaking = true;
                // By FIN and by RST in turn.
                if self.count.breaks.is_multiple_of(2) { link.reset() } else { link.finish() }
            }
            LEAVE if self.leaving == Some(Way::Reset) => link.reset(),
            LEAVE => link.finish(),
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        (self.up, self.following) = (false, false);
        if self.leaving.take().is_some() {
            return;
        }
        match self.breaks.filter(|_| std::mem::take(&mut self.breaking)) {
            Some(breaks) => link.connect_at(link.now + breaks.away.as_nanos() as u64),
            None => {
                let detail = format!("event stream {}, {:?}: {why:?}", self.number, self.filter);
                world.errors.add(&format!("event_stream_{}", why.kind()), detail);
            }
        }
    }
}
