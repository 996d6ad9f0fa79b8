//! `GET /v1/census` (SPEC section 6): what there is, what there was, and whether the tables agree.

use super::connection::{Connection, Session};
use super::engine::Engine;
use crate::census::Count;
use crate::id::Class;
use crate::memory::{Holder, Holdings, Resident, charge};
use crate::net::transport::Transport;
use serde_json::{Value, json};

/// What an audit finds is kept up to so many sentences.
const MOST_FINDINGS: usize = 100;
/// With more connections the log line does not ask the kernel for them: the answer would be a long turn.
const MOST_SOCKETS_TO_LOG: usize = 10_000;

impl<T: Transport> Engine<T> {
    /// The census: in bytes, seconds, milliseconds and counts as SPEC section 6 names them. The audit walks every table, so
    /// it is made only when it is asked for; otherwise the last one is shown.
    pub fn census_json(&mut self, audit: bool) -> Value {
        if audit {
            let _charge = charge(Holder::Other); // what it finds is kept
            let mut found = self.audit();
            let more = found.len().saturating_sub(MOST_FINDINGS);
            if more > 0 {
                found.truncate(MOST_FINDINGS);
                found.push(format!("and {more} more"));
            }
            found.shrink_to_fit();
            self.last_audit = (self.now.time, found);
        }
        let (resident, holdings) = self.look_at_memory();
        let verdict = self.history.verdict_on(&self.look(&resident, &holdings));
        let patrol = self.patrol_says();
        let (audited_at, found) = &self.last_audit;
        let dangling: Vec<&str> =
            found.iter().map(String::as_str).chain(patrol.iter().map(String::as_str)).collect();
        let mut census = json!({
            "uptime_s": self.now.time.0 as f64 / 1e9,
            "memory": memory_json(&resident, &holdings),
            "classes": self.classes(&holdings),
            "unbound_by_reason": self.reasons(),
            "dropped": {
                "late_replies": self.census.dropped.late_replies,
                "late_stream_frames": self.census.dropped.late_stream_frames,
                "unkept_retains": self.shadows.unkept,
                "evicted_shadows": self.shadows.evicted,
                "log_lines": crate::ops::log::dropped(),
            },
            "unbind_imbalances": self.census.unbind_imbalances,
            "buffered_bytes": self.buffered_bytes(),
            "loop": {
                "turns": self.census.turns.turns,
                "longest_ms": self.census.turns.longest_ns as f64 / 1e6,
                "over_50_ms": self.census.turns.over_50_ms,
            },
            "audit": { "ok": dangling.is_empty(), "dangling": dangling, "at_s": audited_at.0 as f64 / 1e9 },
            "verdict": { "state": verdict.state.name(), "says": verdict.says },
        });
        if audit {
            census["sockets"] = json!({ "kernel": self.kernel_sockets(), "table": self.open_connections() });
        }
        census
    }

    /// What the patrol has found: without being asked, and so without the names that an audit has.
    fn patrol_says(&self) -> Vec<String> {
        let found = Holder::ALL.into_iter().map(|holder| (holder, self.strays(holder)));
        let found = found.filter(|(_, strays)| *strays > 0);
        found
            .map(|(holder, strays)| {
                format!("patrol: {strays} of {} past their deadline or without their owner", holder.name())
            })
            .collect()
    }

    /// How many established connections of ours the kernel knows; `None` when it cannot be asked.
    fn kernel_sockets(&self) -> Option<u64> {
        match (self.count_sockets.as_ref()?)() {
            Ok(count) => Some(count),
            Err(error) => {
                log::warn!(error:% = error; "the kernel cannot be asked for our sockets");
                None
            }
        }
    }

    /// Connections that are not in their last words.
    fn open_connections(&self) -> usize {
        let is_open = |connection: &Connection<T>| !matches!(connection.session, Session::LastWords(_));
        self.table.iter().filter(|(_, connection)| is_open(connection)).count()
    }

    /// Opened and unbound are counted where it happens; live is the length of the table.
    fn classes(&self, holdings: &Holdings) -> Value {
        let entries = Holder::ALL.into_iter().map(|holder| {
            let mut entry = json!({ "heap_bytes": holdings.of(holder).bytes });
            if let Some((count, live)) = self.objects(holder) {
                entry["live"] = live.into();
                entry["opened"] = count.opened.into();
                entry["unbound"] = count.unbound.into();
            }
            (holder.name().to_owned(), entry)
        });
        Value::Object(entries.collect())
    }

    /// What was counted of a class at both ends, and how long its table is; `log` and `other` hold bytes only.
    pub(super) fn objects(&self, holder: Holder) -> Option<(Count, usize)> {
        let of_connections = |class: Class| Some((self.census.connections(class), self.table.live(class)));
        match holder {
            Holder::Router => of_connections(Class::Router),
            Holder::Http => of_connections(Class::Http),
            Holder::App => of_connections(Class::App),
            Holder::Page => of_connections(Class::Page),
            Holder::Listener => Some((self.census.listeners, self.census.listeners_open)),
            Holder::PendingCommand => Some((self.commands.count(), self.commands.len())),
            Holder::Subscription => Some((self.hub.count(), self.hub.len())),
            Holder::Stream => Some((self.streams.count(), self.streams.len())),
            Holder::Timer => Some((self.wheel.counts(), self.wheel.len())),
            Holder::Shadow => Some((self.shadows.count(), self.shadows.len())),
            Holder::QueuedFrame => Some((self.frames.count(), self.frames.len())),
            Holder::Log | Holder::Other => None,
        }
    }

    fn reasons(&self) -> Value {
        let of = |class| {
            let reasons =
                self.census.reasons(class).map(|(reason, count)| (reason.name().to_owned(), count.into()));
            Value::Object(reasons.collect())
        };
        Value::Object(Class::ALL.into_iter().map(|class| (class.name().to_owned(), of(class))).collect())
    }

    /// The lines for the log, every `census.log_every_s`: one of the tables, and one of each class of connections.
    pub fn log_census(&self) {
        let (resident, holdings) = self.look_at_memory();
        let verdict = self.history.verdict_on(&self.look(&resident, &holdings));
        let is_cheap = self.table.len() <= MOST_SOCKETS_TO_LOG;
        let sockets = if is_cheap { self.kernel_sockets() } else { None };
        let sockets = sockets.map_or(-1, |count| count as i64);
        log::info!(
            verdict = verdict.state.name(), says = verdict.says.as_str(), rss_bytes = resident.rss,
            live_bytes = holdings.live_bytes(), live_allocations = holdings.live_allocations(),
            allocated_from_kernel_bytes = resident.allocator, unbind_imbalances = self.census.unbind_imbalances,
            kernel_sockets = sockets, table_sockets = self.open_connections();
            "census"
        );
        log::info!(
            pending = self.commands.len(), subscriptions = self.hub.len(), shadows = self.shadows.len(),
            timers = self.wheel.len(), queued_frames = self.frames.len(), buffered_bytes = self.buffered_bytes(),
            turns = self.census.turns.turns, over_50_ms = self.census.turns.over_50_ms;
            "census"
        );
        for class in Class::ALL {
            let count = self.census.connections(class);
            let reasons: Vec<String> = self
                .census
                .reasons(class)
                .map(|(reason, count)| format!("{}:{count}", reason.name()))
                .collect();
            log::info!(class = class.name(), live = self.table.live(class), opened = count.opened,
                unbound = count.unbound, heap_bytes = holdings.of(Holder::from(class)).bytes, reasons = reasons.join(",").as_str(); "census");
        }
    }
}

/// In bytes. What the allocator holds resident beyond what is live is holes, its own tables, and what it has not given
/// back yet.
fn memory_json(resident: &Resident, holdings: &Holdings) -> Value {
    let live = holdings.live_bytes();
    json!({
        "rss_bytes": resident.rss,
        "live_bytes": live,
        "allocated_from_kernel_bytes": resident.allocator,
        "fragmentation_bytes": (resident.allocator as i64 - live).max(0),
        "live_allocations": holdings.live_allocations(),
    })
}
