//! `GET /metrics`: the census (SPEC section 6) in the text format of Prometheus, version 0.0.4.
//!
//! It is made from the JSON of the census and from nothing else, so the two cannot disagree. What the census leaves out
//! or has as `null` has no sample. Names follow the rules of `promtool check metrics`: base units, `_total` for counters.

use crate::memory::State;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// For the answer that carries the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole exposition of `census`, the JSON object of `GET /v1/census`.
pub fn render(census: &Value) -> String {
    let mut out = Exposition(String::with_capacity(16 << 10));
    process(&mut out, census);
    classes(&mut out, census);
    health(&mut out, census);
    out.0
}

fn process(out: &mut Exposition, census: &Value) {
    let memory = &census["memory"];
    out.family(Gauge, "berth_uptime_seconds", "Time since the start.").sample(&[], &census["uptime_s"]);
    let mut family = out.family(
        Gauge,
        "berth_memory_bytes",
        "Memory: resident (rss), asked for and not freed (live), resident in the allocator, and the difference of the two.",
    );
    for kind in ["rss", "live", "allocated_from_kernel", "fragmentation"] {
        family.sample(&[("kind", kind)], &memory[format!("{kind}_bytes")]);
    }
    out.family(Gauge, "berth_live_allocations", "Blocks of memory asked for and not freed.")
        .sample(&[], &memory["live_allocations"]);
    out.family(Gauge, "berth_buffered_bytes", "All queues and half-received messages together.")
        .sample(&[], &census["buffered_bytes"]);
    let dropped = "Things dropped because nobody awaited them or there was no room for them.";
    out.family(Counter, "berth_dropped_total", dropped).by_name("what", &census["dropped"]);
}

fn classes(out: &mut Exposition, census: &Value) {
    for (kind, name, help, key) in [
        (Gauge, "berth_live", "Things of a class that there are now.", "live"),
        (Counter, "berth_opened_total", "Things of a class ever opened.", "opened"),
        (Counter, "berth_unbound_total", "Things of a class ever given back.", "unbound"),
        (
            Gauge,
            "berth_heap_bytes",
            "Live heap charged to a class; the sum is the live memory.",
            "heap_bytes",
        ),
    ] {
        let mut family = out.family(kind, name, help);
        for (class, entry) in members(&census["classes"]) {
            family.sample(&[("class", class)], &entry[key]);
        }
    }
    let mut family =
        out.family(Counter, "berth_unbound_by_reason_total", "Connections that ended, by their reason.");
    for (class, reasons) in members(&census["unbound_by_reason"]) {
        for (reason, count) in members(reasons) {
            family.sample(&[("class", class), ("reason", reason)], count);
        }
    }
    // Always there, so that an alert on it never lacks its series.
    let none = Value::from(0);
    let imbalances = census.get("unbind_imbalances").unwrap_or(&none);
    let help = "Connections whose memory was not back at 0 bytes when they had been released.";
    out.family(Counter, "berth_unbind_imbalance_total", help).sample(&[], imbalances);
}

fn health(out: &mut Exposition, census: &Value) {
    let turns = &census["loop"];
    out.family(Counter, "berth_loop_turns_total", "Turns of the event loop.").sample(&[], &turns["turns"]);
    let longest = turns["longest_ms"].as_f64().map_or(Value::Null, |ms| (ms / 1e3).into());
    out.family(Gauge, "berth_loop_longest_seconds", "The longest turn of the loop since the start.")
        .sample(&[], &longest);
    out.family(Counter, "berth_loop_long_turns_total", "Turns of the loop that took over 50 ms.")
        .sample(&[], &turns["over_50_ms"]);
    out.family(Gauge, "berth_audit_ok", "1 if the last audit found no entry of a table without its owner.")
        .sample(&[], &census["audit"]["ok"]);
    if let Some(now) = census["verdict"]["state"].as_str() {
        let mut family =
            out.family(Gauge, "berth_verdict", "What the memory does: 1 for the state it is in, else 0.");
        for state in State::ALL.map(State::name) {
            family.sample(&[("state", state)], &Value::from(u8::from(state == now)));
        }
    }
}

/// The members of an object; of anything else, none.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}
use Kind::{Counter, Gauge};

struct Exposition(String);

impl Exposition {
    fn family<'o>(&'o mut self, kind: Kind, name: &'static str, help: &'static str) -> Family<'o> {
        Family { out: &mut self.0, kind, name, help, begun: false }
    }
}

/// All samples of one name, behind the lines that say what it is. Without a sample there is nothing of it.
struct Family<'o> {
    out: &'o mut String,
    kind: Kind,
    name: &'static str,
    help: &'static str,
    begun: bool,
}

impl Family<'_> {
    /// A number, or true as 1 and false as 0; anything else is left out.
    fn sample(&mut self, labels: &[(&str, &str)], value: &Value) {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Bool(yes) => u8::from(*yes).to_string(),
            _ => return,
        };
        self.begin();
        self.out.push_str(self.name);
        for (index, (name, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            write!(self.out, "{before}{name}=\"{}\"", escaped(text)).expect("a string takes all");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        writeln!(self.out, "{end} {value}").expect("a string takes all");
    }

    /// A sample for each member of an object.
    fn by_name(&mut self, label: &str, object: &Value) {
        for (name, value) in members(object) {
            self.sample(&[(label, name)], value);
        }
    }

    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let kind = match self.kind {
            Gauge => "gauge",
            Counter => "counter",
        };
        let (name, help) = (self.name, self.help);
        writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
