//! What a run has found, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::census::{self, CONNECTIONS};
use crate::proc::Memory;
use crate::stats::{Counters, Latency, Stats, Up};

/// The daemon at one moment, by the kernel's account and by its own.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    pub memory: Option<Memory>,
    pub descriptors: Option<usize>,
    /// The whole census, or `Null`.
    pub census: Value,
    /// Established connections of the kernel on the four ports: routers, http, apps, pages.
    pub established: [usize; 4],
}

impl Moment {
    /// Whether the census counts the connections that the kernel has; true if there is no census.
    pub fn agrees(&self) -> bool {
        let mut pairs = CONNECTIONS.iter().zip(self.established);
        self.census.is_null()
            || pairs.all(|(class, count)| census::live(&self.census, class) == Some(count as u64))
    }

    /// Descriptors that are no established connection: those of the process itself, and any that leak.
    pub fn other_descriptors(&self) -> Option<usize> {
        Some(self.descriptors?.saturating_sub(self.established.iter().sum()))
    }

    fn json(&self) -> Value {
        json!({
            "rss_bytes": self.memory.map(|memory| memory.rss),
            "anonymous_bytes": self.memory.map(|memory| memory.anonymous),
            "descriptors": self.descriptors,
            "established": {"router": self.established[0], "http": self.established[1],
                            "app": self.established[2], "page": self.established[3]},
            "census": self.census,
        })
    }

    fn line(&self) -> String {
        let mut line = String::new();
        match self.memory {
            Some(memory) => {
                let _ = write!(line, "rss {} anon {}", mebibytes(memory.rss), mebibytes(memory.anonymous));
            }
            None => line.push_str("rss unknown"),
        }
        if let Some(bytes) = self.census["memory"]["live_bytes"].as_u64() {
            let _ = write!(line, " live {}", mebibytes(bytes));
        }
        let descriptors = self.descriptors.map_or("unknown".to_string(), |count| count.to_string());
        let [router, http, app, page] = self.established;
        let _ = write!(
            line,
            " · descriptors {descriptors} · established: router {router}, http {http}, app {app}, page {page}"
        );
        let classes = self.census["classes"].as_object();
        let live: Vec<String> = classes
            .into_iter()
            .flatten()
            .filter_map(|(name, class)| {
                Some(format!("{name} {}", class["live"].as_u64().filter(|live| *live > 0)?))
            })
            .collect();
        let _ = write!(line, "\n           census live: {}", live.join(", "));
        line
    }
}

#[derive(Default)]
pub struct Report {
    pub seed: u64,
    pub wanted: Up,
    pub most_up: Up,
    pub ramp_s: f64,
    pub load_s: f64,
    /// What happened during the load, without ramp and drain.
    pub load: Counters,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub stats: Stats,
    /// CPU time that the daemon took during the load, in nanoseconds.
    pub daemon_cpu_ns: Option<u64>,
    pub before: Moment,
    pub during: Moment,
    pub after: Moment,
    pub peak_rss: u64,
}

impl Report {
    /// Anonymous memory of the daemon for each connection that we hold, in bytes.
    fn bytes_per_connection(&self) -> Option<f64> {
        let grown = self.during.memory?.anonymous as f64 - self.before.memory?.anonymous as f64;
        Some(grown / self.wanted.total().max(1) as f64)
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.load_s.max(1e-9)
    }

    pub fn json(&self) -> Value {
        let errors: serde_json::Map<String, Value> = self
            .stats
            .errors
            .0
            .iter()
            .map(|(kind, error)| (kind.clone(), json!({"count": error.count, "first": error.first})))
            .collect();
        let up =
            |up: &Up| json!({"router": up.routers, "http": up.callers, "app": up.apps, "page": up.pages});
        let total = &self.stats.counters;
        json!({
            "ok": self.stats.errors.total() == 0,
            "seed": self.seed,
            "connections": {"wanted": up(&self.wanted), "most": up(&self.most_up)},
            "ramp_s": self.ramp_s,
            "load_s": self.load_s,
            "rates_per_s": {
                "commands": self.rate(self.load.commands), "oneway": self.rate(self.load.oneway),
                "events_emitted": self.rate(self.load.events_emitted),
                "events_delivered": self.rate(self.load.events_delivered),
                "bytes_in": self.rate(self.bytes_in), "bytes_out": self.rate(self.bytes_out),
            },
            "totals": {
                "commands": total.commands, "commands_failed_as_asked": total.commands_failed_as_asked,
                "oneway": total.oneway, "events_emitted": total.events_emitted,
                "events_delivered": total.events_delivered, "retained_delivered": total.retained_delivered,
                "foreign_events": total.foreign_events, "pings_answered": total.pings_answered,
                "commands_aborted": total.commands_aborted,
            },
            "latency_us": {
                "http_command": latency_json(&self.stats.http_latency),
                "websocket_command": latency_json(&self.stats.websocket_latency),
                "event": latency_json(&self.stats.event_latency),
            },
            "errors": errors,
            "daemon": {
                "cpu_s": self.daemon_cpu_ns.map(|ns| ns as f64 / 1e9),
                "peak_rss_bytes": self.peak_rss,
                "bytes_per_connection": self.bytes_per_connection(),
                "before": self.before.json(), "during": self.during.json(), "after": self.after.json(),
            },
        })
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        let up = &self.most_up;
        let wanted = self.wanted;
        let total = &self.stats.counters;
        let mut line = |name: &str, rest: String| {
            let _ = writeln!(text, "{name:<11}{rest}");
        };
        line("seed", self.seed.to_string());
        line(
            "connected",
            format!(
                "{} of {} routers, {} of {} callers, {} of {} apps, {} of {} pages in {:.1} s",
                up.routers,
                wanted.routers,
                up.callers,
                wanted.callers,
                up.apps,
                wanted.apps,
                up.pages,
                wanted.pages,
                self.ramp_s
            ),
        );
        line(
            "load",
            format!(
                "{:.1} s: {:.0} commands/s, {:.0} one-way/s, {:.0} events/s in, {:.0} events/s out, {:.2} MB/s to us, {:.2} MB/s from us",
                self.load_s,
                self.rate(self.load.commands),
                self.rate(self.load.oneway),
                self.rate(self.load.events_emitted),
                self.rate(self.load.events_delivered),
                self.rate(self.bytes_in) / 1e6,
                self.rate(self.bytes_out) / 1e6
            ),
        );
        line(
            "checked",
            format!(
                "{} replies ({} failed as asked), {} one-way, {} events emitted, {} delivered, {} retained, {} foreign; {} pings answered, {} aborts",
                total.commands,
                total.commands_failed_as_asked,
                total.oneway,
                total.events_emitted,
                total.events_delivered,
                total.retained_delivered,
                total.foreign_events,
                total.pings_answered,
                total.commands_aborted
            ),
        );
        for (name, latency) in [
            ("http", &self.stats.http_latency),
            ("websocket", &self.stats.websocket_latency),
            ("event", &self.stats.event_latency),
        ] {
            line(name, latency_text(latency));
        }
        if let Some(ns) = self.daemon_cpu_ns {
            let share = ns as f64 / 1e7 / self.load_s.max(1e-9);
            line(
                "daemon",
                format!("{:.2} s of CPU time under load, {share:.1} % of a core", ns as f64 / 1e9),
            );
        }
        line("before", self.before.line());
        line("during", self.during.line());
        line("after", self.after.line());
        line("peak", format!("rss {}", mebibytes(self.peak_rss)));
        if let Some(bytes) = self.bytes_per_connection() {
            line("growth", format!("{bytes:.0} bytes of anonymous memory a connection"));
        }
        if self.stats.errors.total() == 0 {
            line("errors", "none".into());
        }
        for (kind, error) in &self.stats.errors.0 {
            line("ERROR", format!("{} × {kind}; first: {}", error.count, error.first));
        }
        text
    }
}

fn latency_json(latency: &Latency) -> Value {
    json!({
        "count": latency.count(), "p50": latency.at(0.5), "p99": latency.at(0.99), "p99_9": latency.at(0.999),
        "max": latency.max(),
    })
}

fn latency_text(latency: &Latency) -> String {
    let ms = |us: u64| us as f64 / 1000.0;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms of {}",
        ms(latency.at(0.5)),
        ms(latency.at(0.99)),
        ms(latency.at(0.999)),
        ms(latency.max()),
        latency.count()
    )
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_agree_on_errors() {
        let mut report = Report::default();
        assert_eq!(report.json()["ok"], true);
        assert!(report.text().contains("errors     none"));
        report.stats.errors.add("event_gap", "3 came, 2 was due");
        report.stats.errors.add("event_gap", "a later one");
        assert_eq!(report.json()["errors"]["event_gap"], json!({"count": 2, "first": "3 came, 2 was due"}));
        assert!(report.text().contains("2 × event_gap; first: 3 came, 2 was due"));
    }

    #[test]
    fn the_kernel_and_the_census_must_agree() {
        let class = |live: u64| json!({"live": live});
        let census =
            json!({"classes": {"router": class(3), "http": class(1), "app": class(0), "page": class(2)}});
        let moment = Moment { census, descriptors: Some(20), established: [3, 1, 0, 2], ..Moment::default() };
        assert!(moment.agrees());
        assert_eq!(moment.other_descriptors(), Some(14));
        assert!(!Moment { established: [3, 1, 1, 2], ..moment }.agrees());
    }

    #[test]
    fn growth_is_counted_by_connection() {
        let moment = |anonymous| Moment {
            memory: Some(Memory { anonymous, ..Memory::default() }),
            ..Moment::default()
        };
        let wanted = Up { routers: 1000, ..Up::default() };
        let report = Report { wanted, before: moment(1000), during: moment(901_000), ..Report::default() };
        assert_eq!(report.bytes_per_connection(), Some(900.0));
    }
}
