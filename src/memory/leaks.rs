//! How a leak is told from load. Four ways, from proof to suspicion:
//!
//! 1. *Strays*: objects past their deadline or without their owner, in two rounds of the patrol.
//! 2. *Orphans*: bytes charged to connections that are gone, in two samples.
//! 3. *Excess*: bytes that no object explains, and their troughs rise: of minutes, or for a slow leak of hours. Only what is
//!    above the bound counts of a table, because below it honest slack goes up and down as it likes.
//! 4. *Creep*, the net for what the others cannot see, inside a bound or in a living connection: the troughs of a class's
//!    bytes rise for half a day or for days, while neither those of the load that it goes with do nor what is explained. The shadow is left out: it
//!    is meant to fill up, and its bound is tight.
//!
//! A rise is steady if no trough is lower than the one before, most are higher, and it is not one great step, as a map makes
//! that doubles. Waves of load fail the first, peaks and lazy tables the others.

use super::Holder;
use super::evidence::Evidence;
use super::history::{History, Ring, Troughs};
use super::sample::{Load, Sample};
use super::words;
use crate::clock::Time;
use std::time::Duration;

/// A class that leaks, and in words how that is known.
pub(super) struct Leak {
    pub holder: Holder,
    pub says: String,
    strength: (Ground, i64),
}

/// Later is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    Creep,
    Excess,
    Orphans,
    Strays,
}

/// When a rise is steady.
struct Rule {
    /// How many troughs in a row are not lower than the one before.
    steps: usize,
    /// What they must come to without the largest of them.
    least_bytes: i64,
    /// What they must come to of what the class held, in percent.
    least_percent: i64,
}

const EXCESS_IN_MINUTES: Rule = Rule { steps: 5, least_bytes: 4 << 10, least_percent: 0 };
const EXCESS_IN_HOURS: Rule = Rule { steps: 6, least_bytes: 32 << 10, least_percent: 0 };
const CREEP_IN_HOURS: Rule = Rule { steps: 12, least_bytes: 256 << 10, least_percent: 25 };
const CREEP_IN_DAYS: Rule = Rule { steps: 5, least_bytes: 256 << 10, least_percent: 25 };

/// A steady rise that has not been undone since.
struct Rise {
    bytes: i64,
    since: Time,
    span: Duration,
}

/// All that leaks, the strongest evidence first.
pub(super) fn find(history: &History, latest: &Sample, now: Time) -> Vec<Leak> {
    let mut leaks = Vec::new();
    for holder in Holder::ALL {
        leaks.extend(strays(history, holder, now));
        leaks.extend(orphans(history, holder, now));
        leaks.extend(excess(history, latest, holder, now));
        leaks.extend(creep(history, latest, holder));
    }
    leaks.sort_by_key(|leak| std::cmp::Reverse(leak.strength));
    leaks
}

fn strays(history: &History, holder: Holder, now: Time) -> Option<Leak> {
    let evidence = &history.strays[holder as usize];
    let objects = evidence.proven()?;
    let says = format!(
        "{}: {} past their deadline or without their owner, first seen {} ago, {}",
        holder.name(),
        match objects {
            1 => "1 entry is".to_owned(),
            _ => format!("{} entries are", words::count(objects.unsigned_abs())),
        },
        words::duration(now.since(evidence.first_seen())),
        more(evidence, |objects| words::count(objects.unsigned_abs())),
    );
    Some(Leak { holder, says, strength: (Ground::Strays, objects) })
}

fn orphans(history: &History, holder: Holder, now: Time) -> Option<Leak> {
    let evidence = &history.orphans[holder as usize];
    let bytes = evidence.proven()?;
    let says = format!(
        "{}: {} are held for connections that are gone, first seen {} ago, {}",
        holder.name(),
        words::bytes(bytes),
        words::duration(now.since(evidence.first_seen())),
        more(evidence, words::bytes),
    );
    Some(Leak { holder, says, strength: (Ground::Orphans, bytes) })
}

fn more(evidence: &Evidence, in_words: impl Fn(i64) -> String) -> String {
    let (amount, span) = evidence.growth();
    match words::rate(amount, span) {
        (..=0, _) => "no more of late".to_owned(),
        (more, unit) => format!("{} more {unit}", in_words(more)),
    }
}

fn excess(history: &History, latest: &Sample, holder: Holder, now: Time) -> Option<Leak> {
    if holder.is_connection() {
        return None;
    }
    let growth = |before: &Troughs, after: &Troughs| match holder {
        // It has no bound as a whole: it counts from where it was.
        Holder::Other => beyond_explained(holder, before, after),
        _ => after.of(holder).unexplained - before.of(holder).unexplained,
    };
    let rise = steady_rise(&history.minutes, &EXCESS_IN_MINUTES, holder, growth)
        .or_else(|| steady_rise(&history.hours, &EXCESS_IN_HOURS, holder, growth))?;
    let (by, unit) = words::rate(rise.bytes, rise.span);
    let beyond = match latest.of(holder).objects {
        0 => "that no load explains".to_owned(),
        objects => format!("beyond what its {} objects explain", words::count(objects)),
    };
    let says = format!(
        "{}: {} more than {} ago {beyond}, {} {unit}",
        holder.name(),
        words::bytes(rise.bytes),
        words::duration(now.since(rise.since)),
        words::bytes(by),
    );
    Some(Leak { holder, says, strength: (Ground::Excess, rise.bytes) })
}

fn creep(history: &History, latest: &Sample, holder: Holder) -> Option<Leak> {
    if holder == Holder::Shadow {
        return None;
    }
    let growth = |before: &Troughs, after: &Troughs| {
        let bytes = beyond_explained(holder, before, after);
        if bytes > 0 && load_rose(holder, before, after) { 0 } else { bytes }
    };
    let rise = steady_rise(&history.hours, &CREEP_IN_HOURS, holder, growth)
        .or_else(|| steady_rise(&history.days, &CREEP_IN_DAYS, holder, growth))?;
    let (by, unit) = words::rate(rise.bytes, rise.span);
    let says = format!(
        "{}: crept up by {} in {}, {} {unit}, while no load rose; {} live, {} objects",
        holder.name(),
        words::bytes(rise.bytes),
        words::duration(rise.span),
        words::bytes(by),
        words::bytes(latest.of(holder).bytes),
        words::count(latest.of(holder).objects),
    );
    Some(Leak { holder, says, strength: (Ground::Creep, rise.bytes) })
}

/// By how much the bytes rose more than what explains them; of connections only the load does.
fn beyond_explained(holder: Holder, before: &Troughs, after: &Troughs) -> i64 {
    let (before, after) = (before.of(holder), after.of(holder));
    let explained = match holder.is_connection() {
        true => 0,
        false => after.explained.saturating_sub(before.explained).max(0),
    };
    after.bytes.saturating_sub(before.bytes).saturating_sub(explained)
}

/// Whether a part of the load rose with which the bytes of the class rise.
fn load_rose(holder: Holder, before: &Troughs, after: &Troughs) -> bool {
    let mut parts = Load::PARTS.iter().zip(before.load.iter().zip(after.load));
    parts.any(|(part, (then, now))| part.explains(holder) && part.rise(*then, now).is_some())
}

/// What is known of `other` is known less well the more there is.
fn blur(holder: Holder, troughs: &Troughs) -> i64 {
    if holder == Holder::Other { troughs.of(holder).explained / 4 } else { 0 }
}

/// The earliest steady rise of which at least half is still there.
fn steady_rise(
    ring: &Ring,
    rule: &Rule,
    holder: Holder,
    growth: impl Fn(&Troughs, &Troughs) -> i64,
) -> Option<Rise> {
    let troughs = ring.all();
    let newest = troughs.back()?;
    (rule.steps..ring.complete()).find_map(|last| {
        let start = &troughs[last - rule.steps];
        if growth(start, newest) <= 0 {
            return None;
        }
        let steps = || (last - rule.steps..last).map(|at| growth(&troughs[at], &troughs[at + 1]));
        if steps().any(|step| step < 0) {
            return None;
        }
        let sum = steps().fold(0, i64::saturating_add);
        let largest = steps().max()?;
        // A step far below the mean is a plateau: two maps that double are not a slope.
        let risen = steps().filter(|step| *step > sum / rule.steps as i64 / 4).count();
        let least =
            rule.least_bytes.max(start.of(holder).bytes / 100 * rule.least_percent).max(blur(holder, start));
        let is_steady = risen * 5 >= rule.steps * 4 && sum - largest >= least;
        let is_still_there = [&troughs[last], newest].iter().all(|end| growth(start, end) >= sum / 2);
        let settled = &troughs[ring.complete() - 1];
        (is_steady && is_still_there).then(|| Rise {
            bytes: growth(start, settled),
            since: start.from,
            span: settled.from.since(start.from),
        })
    })
}
