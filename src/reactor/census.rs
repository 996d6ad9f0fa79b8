//! `GET /v1/census` (SPEC section 6): what there is, what there was, and whether the tables agree.

use super::engine::Engine;
use crate::census::Count;
use crate::id::Class;
use crate::net::transport::Transport;
use serde_json::{Map, Value, json};

impl<T: Transport> Engine<T> {
    /// The census. The audit walks every table, so it is made only when it is asked for; otherwise the last one is shown.
    pub fn census_json(&mut self, audit: bool) -> Value {
        if audit {
            self.last_audit = (self.now.time, self.audit());
        }
        let (audited_at, dangling) = &self.last_audit;
        json!({
            "uptime_s": self.now.time.0 as f64 / 1e9,
            "classes": self.classes(),
            "unbound_by_reason": self.reasons(),
            "dropped": {
                "late_replies": self.census.dropped.late_replies,
                "late_stream_frames": self.census.dropped.late_stream_frames,
                "unkept_retains": self.shadows.unkept,
                "evicted_shadows": self.shadows.evicted,
                "log_lines": crate::ops::log::dropped(),
            },
            "buffered_bytes": self.buffered_bytes(),
            "loop": {
                "turns": self.census.turns.turns,
                "longest_ms": self.census.turns.longest_ns as f64 / 1e6,
                "over_50_ms": self.census.turns.over_50_ms,
            },
            "audit": { "ok": dangling.is_empty(), "dangling": dangling, "at_s": audited_at.0 as f64 / 1e9 },
        })
    }

    /// Opened and unbound are counted where it happens; live is the length of the table.
    fn classes(&self) -> Value {
        let mut classes = Map::new();
        for class in Class::ALL {
            classes
                .insert(class.name().into(), entry(self.census.connections(class), self.table.live(class)));
        }
        for (name, count, live) in self.table_counts() {
            classes.insert(name.into(), entry(count, live));
        }
        Value::Object(classes)
    }

    /// The tables that are no connections: what was counted, and how long they are.
    pub(super) fn table_counts(&self) -> [(&'static str, Count, usize); 7] {
        [
            ("listener", self.census.listeners, self.census.listeners_open),
            ("pending_command", self.commands.count(), self.commands.len()),
            ("subscription", self.hub.count(), self.hub.len()),
            ("stream", Count::default(), 0), // none can be opened in this version
            ("timer", self.wheel.counts(), self.wheel.len()),
            ("shadow", self.shadows.count(), self.shadows.len()),
            ("queued_frame", self.frames.count(), self.frames.len()),
        ]
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
                unbound = count.unbound, reasons = reasons.join(",").as_str(); "census");
        }
    }
}

fn entry(count: Count, live: usize) -> Value {
    json!({ "live": live, "opened": count.opened, "unbound": count.unbound })
}
