//! What the simulator knows of streams. It follows every frame between server and routers and every byte to consumers in the
//! order in which the server read and wrote them, and says what must not be.

mod causes;
mod consumers;
mod routers;

use super::response::{Brought, Expected, Responses};
use super::rows::Rows;
use crate::model::{Model, Network, is_healthy, is_settled};
use crate::socket::{Happened, LinkRef};
use crate::wire::{Answer, Frame, flag, kind, take_frame};
use berth::clock::Time;
use berth::id::Reason;
use berth::limits::Settings;
use std::collections::BTreeMap;

/// The OPENs that a stream may have without a new row between them.
const MOST_BARREN: usize = 11;

/// A stream that a consumer has asked for.
struct Asked {
    router: String,
    name: String,
    query: String,
    from: u64,
    window: (usize, usize),
    rows: Rows,
    consumer: LinkRef,
    at: Time,
    /// The first row that the consumer's socket has not taken.
    next: u64,
    /// What its end was, and when.
    end: Option<(&'static str, Time)>,
    /// The last OPEN: link and id, and where it began.
    last_open: Option<(u64, u32)>,
    /// OPENs in a row that began at the same row; those before WELCOME was seen or that were never written count by `sessions`.
    barren: usize,
    sessions: usize,
    /// When a row last came, or an OPEN went.
    moved_at: Time,
    opened_at: Time,
    opened_count: usize,
    /// ENDs that came: their numbers, or their texts.
    ends: Vec<u64>,
    errors: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Gathering,
    /// The server has read what does not fit.
    Gap,
    /// The same, of an END: it may be cancelled or not.
    GapAtEnd,
    /// Cancelled behind a gap: it may be opened again.
    Reopens,
    Cancelled,
    Ended {
        at_turn: u64,
    },
}

struct Open {
    stream: u64,
    from: u64,
    next: u64,
    acked: Option<u64>,
    state: State,
    /// The first row that was not allowed: it must never be delivered.
    forbidden: Option<u64>,
}

/// An answer that ended before its time.
struct Cut {
    has_begun: bool,
    is_justified: bool,
}

/// A router's connection as the server sees it.
struct Tap {
    link: LinkRef,
    router: Option<String>,
    read: Vec<u8>,
    written: Vec<u8>,
    /// How many OPENs there were when the frame that `written` begins with was begun.
    begun_at: usize,
    last_id: u32,
    ended_at: Option<Time>,
}

#[derive(Default)]
pub struct Streams {
    asked: BTreeMap<u64, Asked>,
    opens: BTreeMap<(u64, u32), Open>,
    taps: BTreeMap<u64, Tap>,
    responses: BTreeMap<u64, Responses>,
    /// Consumers whose answer was cut, and whether something justifies that.
    cut: BTreeMap<u64, Cut>,
    /// OPENs that were written.
    count: usize,
    turn: u64,
}

impl Streams {
    pub fn consumer(&mut self, link: &LinkRef, is_head: bool, is_old: bool) {
        let serial = link.borrow().serial;
        self.responses.insert(serial, Responses::new(link.clone(), is_head, is_old));
    }

    pub fn answers_due(&self, link: &LinkRef) -> usize {
        let responses = self.responses.get(&link.borrow().serial);
        responses.map_or(0, |it| it.expected.len() + usize::from(it.under_way().is_some()))
    }

    pub fn expect(&mut self, link: &LinkRef, expected: Expected) {
        if let Some(responses) = self.responses.get_mut(&link.borrow().serial) {
            responses.expected.push_back(expected);
        }
    }

    #[allow(clippy::too_many_arguments)] // a request's parts
    pub fn ask(
        &mut self,
        number: u64,
        router: &str,
        name: &str,
        query: &str,
        from: u64,
        window: (usize, usize),
        consumer: &LinkRef,
        at: Time,
    ) {
        self.expect(consumer, Expected::Stream(number));
        let asked = Asked {
            router: router.into(),
            name: name.into(),
            query: query.into(),
            from,
            window,
            rows: Rows::of(name, query),
            consumer: consumer.clone(),
            at,
            next: from,
            end: None,
            last_open: None,
            barren: 0,
            sessions: 0,
            moved_at: at,
            opened_at: at,
            opened_count: 0,
            ends: Vec::new(),
            errors: Vec::new(),
        };
        self.asked.insert(number, asked);
    }

    /// A stream that is not at its end, though its consumer is well.
    pub fn awaited(&self) -> Option<u64> {
        let mut asked = self.asked.iter();
        let waits = |asked: &Asked| {
            let consumer = asked.consumer.borrow();
            asked.end.is_none() && is_healthy(&consumer) && consumer.unread() == 0
        };
        asked.find(|(_, asked)| waits(asked)).map(|(number, _)| *number)
    }

    /// Whether the end of a consumer's connection fits what it was told.
    pub fn justifies(&self, serial: u64, reason: Reason) -> bool {
        match (reason, self.cut.get(&serial)) {
            (Reason::RouterLost, Some(cut)) => cut.is_justified,
            (Reason::RouterLost, None) => false,
            // What is whole is not cut, if its consumer took all of it.
            (Reason::Done, Some(Cut { has_begun: true, .. })) => {
                let link = self.responses[&serial].link.borrow();
                let did = link.did;
                did.reset || did.timed_out || did.dead || did.fin || did.cut_off || did.broke_rules
            }
            _ => true,
        }
    }

    fn session(&self, asked: &Asked) -> Option<&Tap> {
        self.taps.get(&asked.last_open?.0)
    }
}

impl Model {
    /// What the server has read and written since the last time.
    pub fn watch_streams(&mut self, network: &Network, settings: &Settings, now: Time) {
        self.streams.turn += 1;
        for (serial, happened) in network.shared.tapped.take() {
            let result = if self.streams.responses.contains_key(&serial) {
                self.consumer_was(serial, happened, settings, now)
            } else {
                self.router_was(serial, happened, network, now)
            };
            if let Err(problem) = result {
                self.fail(problem);
            }
        }
    }

    /// When all is calm: what nobody consumes any more was cancelled.
    pub fn check_streams(&mut self) {
        let left = self.streams.opens.iter().find(|((serial, _), open)| {
            let Some(tap) = self.streams.taps.get(serial) else { return false };
            let is_over = self.streams.asked[&open.stream].end.is_some();
            is_over && open.state == State::Gathering && is_settled(&tap.link.borrow())
        });
        if let Some(((serial, id), open)) = left {
            let what =
                format!("OPEN {id} on link {serial} was not cancelled: stream {} is over", open.stream);
            self.fail(what);
        }
    }
}
