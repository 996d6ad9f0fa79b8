//! The census for a person at a terminal. What a daemon of another version leaves out shows as `-`.

use crate::memory::Holder;
use serde_json::{Map, Value};

/// The verdict in words, then what it rests on: memory, classes, reasons, the loop.
pub fn render(census: &Value) -> String {
    let mut out = Lines::default();
    verdict(&mut out, census);
    out.line("");
    out.table(&memory(census));
    out.line("");
    out.table(&classes(census));
    out.line("");
    reasons(&mut out, census);
    health(&mut out, census);
    out.0
}

fn verdict(out: &mut Lines, census: &Value) {
    let verdict = &census["verdict"];
    let says = verdict["says"].as_str().unwrap_or("no reason given");
    match verdict["state"].as_str() {
        Some(state) => out.line(&format!("{}: {says}", state.to_uppercase())),
        None => out.line("no verdict in this census"),
    }
}

fn memory(census: &Value) -> Vec<Vec<String>> {
    let memory = &census["memory"];
    let mut rows = vec![row(["memory", "", "bytes"])];
    for (name, value) in [
        ("resident", &memory["rss_bytes"]),
        ("live", &memory["live_bytes"]),
        ("allocated from kernel", &memory["allocated_from_kernel_bytes"]),
        ("fragmentation", &memory["fragmentation_bytes"]),
        ("in queues and half messages", &census["buffered_bytes"]),
    ] {
        rows.push(row([name, &humane_bytes(value), &exact(value)]));
    }
    rows.push(row(["live allocations", "", &exact(&memory["live_allocations"])]));
    rows
}

fn classes(census: &Value) -> Vec<Vec<String>> {
    let classes = &census["classes"];
    let mut rows = vec![row(["class", "live", "opened", "unbound", "heap", "bytes"])];
    let known = Holder::ALL.map(Holder::name);
    let unknown = members(classes).map(|(name, _)| name).filter(|name| !known.contains(name));
    for name in known.into_iter().chain(unknown) {
        let class = &classes[name];
        let heap = &class["heap_bytes"];
        let mut cells = row([
            name,
            &exact(&class["live"]),
            &exact(&class["opened"]),
            &exact(&class["unbound"]),
            &humane_bytes(heap),
            &exact(heap),
        ]);
        if !adds_up(class) {
            cells.push("opened - unbound is not live!".to_owned());
        }
        rows.push(cells);
    }
    rows
}

/// Whether `opened - unbound == live`, where all three are there.
fn adds_up(class: &Value) -> bool {
    let [live, opened, unbound] = ["live", "opened", "unbound"].map(|key| class[key].as_u64());
    let (Some(live), Some(opened), Some(unbound)) = (live, opened, unbound) else { return true };
    opened.checked_sub(unbound) == Some(live)
}

fn reasons(out: &mut Lines, census: &Value) {
    for (class, reasons) in members(&census["unbound_by_reason"]) {
        let counts = counts(reasons);
        if !counts.is_empty() {
            out.fact(&format!("{class} ended by"), &counts);
        }
    }
}

fn health(out: &mut Lines, census: &Value) {
    let turns = &census["loop"];
    let longest = turns["longest_ms"].as_f64().map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
    let (count, long) = (exact(&turns["turns"]), exact(&turns["over_50_ms"]));
    out.fact("up for", &census["uptime_s"].as_f64().map_or("-".to_owned(), humane_time));
    out.fact("loop", &format!("{count} turns, the longest {longest}, {long} over 50 ms"));
    let dropped = counts(&census["dropped"]);
    out.fact("dropped", if dropped.is_empty() { "nothing" } else { &dropped });
    if let Some(count) = census["unbind_imbalances"].as_u64().filter(|count| *count > 0) {
        out.fact(
            "unbind",
            &format!("{count} connections whose memory was not back at 0 when they were released!"),
        );
    }
    out.fact("sockets", &sockets(&census["sockets"]));
    out.fact("audit", audit(&census["audit"]["ok"]));
    for entry in census["audit"]["dangling"].as_array().into_iter().flatten() {
        out.fact("", &entry.as_str().map_or_else(|| entry.to_string(), str::to_owned));
    }
}

fn audit(ok: &Value) -> &'static str {
    match ok.as_bool() {
        Some(true) => "ok: no table names a connection that is gone",
        Some(false) => "FAILED: entries that name a connection that is gone",
        None => "-",
    }
}

fn sockets(sockets: &Value) -> String {
    match (sockets["kernel"].as_u64(), sockets["table"].as_u64()) {
        (Some(kernel), Some(table)) if kernel == table => format!("{table}, by the kernel and by the table"),
        (Some(kernel), Some(table)) => format!("{kernel} by the kernel, {table} by the table"),
        (None, Some(table)) => {
            format!("{table} by the table; the kernel could not be asked, the log says why")
        }
        _ => "-".to_owned(),
    }
}

/// `name count, name count`, without those that are 0.
fn counts(object: &Value) -> String {
    let counts = members(object).filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0));
    counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// The members of an object; of anything else, none.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn exact(value: &Value) -> String {
    value.as_number().map_or("-".to_owned(), ToString::to_string)
}

fn humane_bytes(value: &Value) -> String {
    let Some(bytes) = value.as_f64() else { return "-".to_owned() };
    let units = ["KiB", "MiB", "GiB", "TiB"].into_iter().zip([10, 20, 30, 40]);
    match units
        .rev()
        .map(|(unit, shift)| (unit, bytes / f64::from(shift).exp2()))
        .find(|(_, n)| n.abs() >= 1.0)
    {
        Some((unit, number)) => format!("{number:.1} {unit}"),
        None => format!("{bytes:.0} B"),
    }
}

/// The two largest units of a time in seconds.
fn humane_time(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Text by lines, in which nothing from the daemon can move the cursor.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: &str) {
        self.0.extend(
            text.trim_end().chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }),
        );
        self.0.push('\n');
    }

    fn fact(&mut self, name: &str, text: &str) {
        self.line(&format!("{name:<17}{text}"));
    }

    /// The first column to the left, the others to the right, each as wide as it must be.
    fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.first().map_or(0, Vec::len);
        let width_of = |column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width_of(column).unwrap_or(0)).collect();
        for cells in rows {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                line += &match (column, widths.get(column)) {
                    (0, Some(width)) => format!("{cell:<width$}"),
                    (_, Some(width)) => format!("  {cell:>width$}"),
                    (_, None) => format!("  {cell}"),
                };
            }
            self.line(&line);
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
