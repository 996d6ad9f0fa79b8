//! What all clients of a run share: its options, the facts about the routers, the ledger of commands, the counters.

use crate::command::{Order, Wish};
use crate::ledger::Ledger;
use crate::options::{MAX_WEBSOCKET_BODY_BYTES, Options, Sizes};
use crate::payload::CommandFields;
use crate::random::Random;
use crate::stats::Stats;

/// What is known of a router, whatever connection it has.
pub struct RouterFacts {
    pub id: String,
    /// Its own count of events, from 1.
    pub emitted: u64,
    /// The daemon's `seq` less our count: the same for every event of a router, since both count each event once.
    pub seq_offset: Option<u64>,
}

/// What is going on in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are being made; routers emit from the moment that they are bound.
    Ramp,
    /// Callers call too.
    Load,
    /// Nothing new; what is outstanding comes in.
    Drain,
    /// All say good-bye: an end is no error any more.
    Close,
}

pub struct World {
    pub options: Options,
    pub phase: Phase,
    pub random: Random,
    pub routers: Vec<RouterFacts>,
    pub ledger: Ledger,
    pub stats: Stats,
}

impl World {
    pub fn new(options: Options) -> Self {
        let routers = (1..=options.routers)
            .map(|number| RouterFacts {
                id: format!("{}{number:04}", options.prefix),
                emitted: 0,
                seq_offset: None,
            })
            .collect();
        Self {
            phase: Phase::Ramp,
            random: Random::new(options.seed),
            routers,
            ledger: Ledger::default(),
            stats: Stats::default(),
            options,
        }
    }

    /// The index of a router of ours.
    pub fn router_index(&self, id: &str) -> Option<u32> {
        let number: usize = id.strip_prefix(self.options.prefix.as_str())?.parse().ok()?;
        let facts = self.routers.get(number.checked_sub(1)?)?;
        (facts.id == id).then_some(number as u32 - 1)
    }

    pub fn size(&mut self, sizes: Sizes) -> usize {
        let big = self.random.chance(self.options.big_share);
        self.random.within(if big { self.options.big_bytes } else { sizes })
    }

    /// Draws the next command of a caller and enters it into the ledger.
    pub fn order(&mut self, nonce: u64, oneway: bool, over_websocket: bool) -> Order {
        let router = self.random.below(self.routers.len() as u64) as u32;
        let fail = !oneway && self.random.chance(self.options.fail_share);
        let wish = if fail { Wish::Fail } else { Wish::Answer };
        let json = self.random.chance(self.options.json_share);
        let mut size = self.size(self.options.command_bytes);
        if over_websocket {
            size = size.min(MAX_WEBSOCKET_BODY_BYTES);
        }
        let reply_bytes = self.size(self.options.reply_bytes) as u32;
        let reply_json = self.random.chance(self.options.json_share);
        let fields = CommandFields { nonce, reply_bytes, reply_json };
        let payload = crate::payload::command(self.options.seed, &fields, json, size);
        self.ledger.sent(nonce, oneway);
        Order { router, wish, oneway, json, fields, payload }
    }

    /// The reply that `order` must bring.
    pub fn owed(&self, order: &Order) -> Vec<u8> {
        let router = &self.routers[order.router as usize].id;
        crate::payload::reply(self.options.seed, router, &order.fields, &order.payload)
    }
}
