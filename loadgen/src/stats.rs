//! What is counted while a run goes on.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Something that must not happen: its kind, for the count, and one example in words.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub kind: &'static str,
    pub detail: String,
}

impl Fault {
    pub fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// One kind of error: how often, and the first of them in words.
#[derive(Debug, Default)]
pub struct ErrorKind {
    pub count: u64,
    pub first: String,
}

/// Errors by kind.
#[derive(Debug, Default)]
pub struct Errors(pub BTreeMap<String, ErrorKind>);

impl Errors {
    pub fn add(&mut self, kind: &str, detail: impl Into<String>) {
        self.add_many(kind, 1, detail);
    }

    pub fn add_many(&mut self, kind: &str, count: u64, detail: impl Into<String>) {
        let entry = self.0.entry(kind.to_string()).or_default();
        if entry.count == 0 {
            entry.first = detail.into();
        }
        entry.count += count;
    }

    pub fn add_fault(&mut self, fault: Fault) {
        self.add(fault.kind, fault.detail);
    }

    pub fn total(&self) -> u64 {
        self.0.values().map(|kind| kind.count).sum()
    }
}

/// Counters that only go up; rates are differences between two copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Awaited commands answered, by HTTP and by WebSocket, with every byte checked.
    pub commands: u64,
    /// Of those, the ones whose router answered ERROR as it was asked to.
    pub commands_failed_as_asked: u64,
    /// One-way commands accepted with 202.
    pub oneway: u64,
    pub events_emitted: u64,
    /// Live events received by watchers, checked.
    pub events_delivered: u64,
    pub retained_delivered: u64,
    /// Events of routers that are not ours, and values retained from an earlier run.
    pub foreign_events: u64,
    pub pings_answered: u64,
    pub commands_aborted: u64,
}

/// Latencies of one kind, in microseconds up to a minute, to three digits.
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that hdrhistogram takes"))
    }
}

impl Latency {
    pub fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record((ns / 1000).max(1));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds at a quantile of 0.0 to 1.0.
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub fn max(&self) -> u64 {
        self.0.max()
    }
}

/// Connections of one kind that are where they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Up {
    pub routers: usize,
    pub callers: usize,
    pub apps: usize,
    pub pages: usize,
}

impl Up {
    pub fn total(&self) -> usize {
        self.routers + self.callers + self.apps + self.pages
    }
}

#[derive(Default)]
pub struct Stats {
    pub up: Up,
    pub counters: Counters,
    pub http_latency: Latency,
    pub websocket_latency: Latency,
    pub event_latency: Latency,
    pub errors: Errors,
}
