//! What all clients of a scenario share: the facts about the routers, the ledger of commands, the counts.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::command::{Order, Wish};
use crate::fleet_call::Fleet;
use crate::ledger::{self, Ledger};
use crate::options::{Addresses, Sizes};
use crate::payload::{self, CommandFields};
use crate::random::Random;
use crate::router::RETAINED_TOPIC;
use crate::stats::{Errors, Latency};

use super::fleet_caller::Reached;
use super::job::Job;

/// What is known of a router, whatever connection it has.
pub struct Facts {
    pub id: String,
    /// Its own count of events, from 1.
    pub emitted: u64,
    /// Of those, the ones with RETAIN.
    retained: u64,
    /// Events up to this one may have been lost with a connection that ended.
    pub may_lack: u64,
    /// Sessions that it has now, frozen ones left out: two for the moment of a takeover.
    pub sessions: u32,
}

impl Facts {
    /// Counts one more event. Returns its number.
    pub fn emit(&mut self, retain: bool) -> u64 {
        self.emitted += 1;
        self.retained += u64::from(retain);
        self.emitted
    }

    /// Events on `topic`, or on all.
    pub fn emitted_on(&self, topic: Option<&str>) -> u64 {
        match topic {
            None => self.emitted,
            Some(RETAINED_TOPIC) => self.retained,
            Some(_) => self.emitted - self.retained,
        }
    }
}

/// What a caller asks for, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// Between an answer and the next command.
    pub pause: Duration,
    pub command_bytes: Sizes,
    pub reply_bytes: Sizes,
    pub oneway_share: f64,
    /// Commands that their router never answers: 504.
    pub mute_share: f64,
    /// Commands that their router is asked to fail: 502.
    pub fail_share: f64,
    /// Commands whose caller hangs up instead of waiting.
    pub hang_up_share: f64,
    pub timeout: Duration,
    /// Commands that may wait for their answers on one connection.
    pub depth: usize,
    /// The connection is closed after so many answers and a new one made.
    pub per_connection: Option<u32>,
    /// Only this router, instead of any that is bound.
    pub router: Option<u32>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(100),
            command_bytes: (100, 400),
            reply_bytes: (100, 400),
            oneway_share: 0.0,
            mute_share: 0.0,
            fail_share: 0.0,
            hang_up_share: 0.0,
            timeout: Duration::from_secs(5),
            depth: 1,
            per_connection: None,
            router: None,
        }
    }
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub commands: u64,
    pub oneway: u64,
    pub oneway_received: u64,
    pub timed_out: u64,
    pub hung_up: u64,
    /// Answers that only churn excuses: 404, 503, 504 of a router that was going.
    pub excused: u64,
    pub events: u64,
    pub events_delivered: u64,
    pub vanished_frozen: u64,
    /// Of those, routers.
    pub frozen_routers: u64,
    pub vanished_reset: u64,
    pub takeovers: u64,
    pub connections: u64,
    pub rows: u64,
    pub payload_bytes: u64,
}

pub struct World {
    pub seed: u64,
    pub random: Random,
    pub addresses: Addresses,
    pub routers: Vec<Facts>,
    pub ledger: Ledger,
    /// The streams that are read, each once.
    pub jobs: Vec<Job>,
    /// What the routers do with the fleet command that is under way.
    pub fleet: Option<Fleet>,
    pub fleet_reached: Reached,
    /// The last one-way command of each caller at each router: their order is promised.
    oneway_order: HashMap<(u32, u32), u64>,
    /// Nothing new is begun: events and commands rest.
    pub quiet: bool,
    /// Connections come and go: a router that is away, lost or slow is no error.
    pub churn: bool,
    pub tally: Tally,
    pub errors: Errors,
    /// Other answers than 200, by status and code.
    pub refusals: BTreeMap<String, u64>,
    pub call_latency: Latency,
    /// How far beyond its deadline a command was answered.
    pub deadline_lateness: Latency,
    /// Our PING to the daemon's PONG.
    pub pong_latency: Latency,
    /// How much later than `heartbeat.interval_s` of our silence the daemon's PING came.
    pub ping_lateness: Latency,
}

impl World {
    pub fn new(seed: u64, addresses: Addresses, routers: usize) -> Self {
        let facts = |number| Facts {
            id: format!("r-{number:05}"),
            emitted: 0,
            retained: 0,
            may_lack: 0,
            sessions: 0,
        };
        Self {
            seed,
            random: Random::new(seed),
            addresses,
            routers: (0..routers).map(facts).collect(),
            ledger: Ledger::default(),
            jobs: Vec::new(),
            fleet: None,
            fleet_reached: Reached::default(),
            oneway_order: HashMap::new(),
            quiet: false,
            churn: false,
            tally: Tally::default(),
            errors: Errors::default(),
            refusals: BTreeMap::new(),
            call_latency: Latency::default(),
            deadline_lateness: Latency::default(),
            pong_latency: Latency::default(),
            ping_lateness: Latency::default(),
        }
    }

    pub fn router_index(&self, id: &str) -> Option<u32> {
        let index: usize = id.strip_prefix("r-")?.parse().ok()?;
        (self.routers.get(index)?.id == id).then_some(index as u32)
    }

    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Draws the `count`th command of `caller` and enters it into the ledger.
    pub fn order(&mut self, caller: u32, count: u32, calls: &Calls, longest: usize) -> Order {
        let random = &mut self.random;
        let oneway = random.chance(calls.oneway_share);
        let wish = match random.fraction() {
            _ if oneway => Wish::Answer,
            share if share < calls.mute_share => Wish::Silence,
            share if share < calls.mute_share + calls.fail_share => Wish::Fail,
            _ => Wish::Answer,
        };
        let json = random.chance(0.5);
        let size = random.within(calls.command_bytes).min(longest);
        let reply_bytes = random.within(calls.reply_bytes) as u32;
        let fields = CommandFields {
            nonce: ledger::nonce(caller, count),
            reply_bytes,
            reply_json: random.chance(0.5),
        };
        let router = calls.router.unwrap_or_else(|| self.bound_router());
        let payload = payload::command(self.seed, &fields, json, size);
        self.tally.payload_bytes += payload.len() as u64;
        if !oneway {
            self.ledger.sent(fields.nonce, false);
        }
        Order { router, wish, oneway, json, fields, payload }
    }

    /// A router that is bound, or after some vain tries any.
    fn bound_router(&mut self) -> u32 {
        let mut router = 0;
        for _ in 0..8 {
            router = self.random.below(self.routers.len() as u64) as u32;
            if self.routers[router as usize].sessions > 0 {
                break;
            }
        }
        router
    }

    /// The reply that `order` must bring.
    pub fn owed(&self, order: &Order) -> Vec<u8> {
        payload::reply(self.seed, &self.routers[order.router as usize].id, &order.fields, &order.payload)
    }

    /// A router received a one-way command.
    pub fn received_oneway(&mut self, router: u32, nonce: u64) {
        self.tally.oneway_received += 1;
        let last = self.oneway_order.entry((router, ledger::caller(nonce))).or_default();
        if *last >= nonce {
            self.errors.add("oneway_order", format!("{nonce:#x} came behind {last:#x}"));
        }
        *last = nonce;
    }
}
