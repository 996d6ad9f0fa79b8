//! One look at the daemon's memory, and at what may explain it. The housekeeping takes one every [`SAMPLE_EVERY`].

use super::Holder;
use crate::clock::Time;
use std::time::Duration;

/// How far samples are apart.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);

pub(super) const CLASSES: usize = Holder::ALL.len();

#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub at: Time,
    /// By `Holder as usize`.
    pub classes: [ClassSample; CLASSES],
    /// How many rounds through all tables the patrol has completed: strays of one round say nothing that those of another
    /// do not confirm.
    pub patrol_rounds: u64,
    pub load: Load,
    /// RSS of the process.
    pub resident_bytes: u64,
    /// What the allocator holds resident; the holes are what of it is not live.
    pub allocated_from_kernel_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ClassSample {
    /// The live heap charged to the class.
    pub bytes: i64,
    pub objects: u64,
    /// A table: the most that its objects and its own structure can take, never less than honest `bytes`. `other`: what of it
    /// grows with load, as exactly as can be. Connections are judged by `orphaned_bytes` instead.
    pub explained_bytes: u64,
    /// Charged to connections that are no longer there.
    pub orphaned_bytes: i64,
    /// Objects past their deadline or without their owner, as the last complete round of the patrol counted them.
    pub strays: u64,
}

/// What explains memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bound routers.
    pub routers: u64,
    /// Apps and pages.
    pub clients: u64,
    pub http_connections: u64,
    /// Awaited commands within their deadline.
    pub requests: u64,
    pub streams: u64,
    pub subscriptions: u64,
    /// Shadows of bound routers and those within `keep_s`.
    pub shadows: u64,
    /// Events in their histories.
    pub remembered_events: u64,
    /// Out-queues and half-received messages.
    pub buffered_bytes: u64,
}

/// A part of the load: how it is called and compared, and whose bytes rise with it.
pub(super) struct LoadPart {
    pub name: &'static str,
    pub is_bytes: bool,
    /// A difference up to this is no difference.
    floor: u64,
    explains: &'static [Holder],
}

const fn counted(name: &'static str, explains: &'static [Holder]) -> LoadPart {
    LoadPart { name, is_bytes: false, floor: 16, explains }
}

impl Load {
    pub(super) const PARTS: [LoadPart; 9] = {
        use Holder::*;
        [
            counted("routers", &[Router, Timer, Other]),
            counted("clients", &[App, Page, Timer, Other]),
            counted("http connections", &[Http, Timer, Other]),
            counted("requests", &[Router, Http, App, Page, PendingCommand, Timer, Other]),
            counted("streams", &[Router, Http, Stream, Timer, Other]),
            counted("subscriptions", &[Http, App, Page, Subscription, Other]),
            counted("shadows", &[Shadow]),
            counted("remembered events", &[Shadow]),
            LoadPart {
                name: "buffered",
                is_bytes: true,
                floor: 1 << 20,
                explains: &[Router, Http, App, Page, PendingCommand, QueuedFrame, Other],
            },
        ]
    };

    /// In the order of `PARTS`.
    pub(super) fn figures(&self) -> [u64; 9] {
        [
            self.routers,
            self.clients,
            self.http_connections,
            self.requests,
            self.streams,
            self.subscriptions,
            self.shadows,
            self.remembered_events,
            self.buffered_bytes,
        ]
    }
}

impl LoadPart {
    /// Whether this part has risen by more than a tenth, and how many times over it is what it was.
    pub fn rise(&self, then: u64, now: u64) -> Option<f64> {
        let has_risen = now > then.saturating_add(then / 10).saturating_add(self.floor);
        has_risen.then(|| now as f64 / then.saturating_add(self.floor) as f64)
    }

    pub fn explains(&self, holder: Holder) -> bool {
        self.explains.contains(&holder)
    }
}

impl Sample {
    pub fn of(&self, holder: Holder) -> &ClassSample {
        &self.classes[holder as usize]
    }

    /// All live bytes.
    pub fn live_bytes(&self) -> i64 {
        self.classes.iter().fold(0i64, |sum, class| sum.saturating_add(class.bytes))
    }

    /// What the allocator holds beyond what is live.
    pub fn holes_bytes(&self) -> i64 {
        signed(self.allocated_from_kernel_bytes).saturating_sub(self.live_bytes())
    }
}

/// A bound above all numbers stays above them all.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
