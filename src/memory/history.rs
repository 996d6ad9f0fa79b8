//! What the daemon remembers of its own memory: the lowest of everything in each of the last 60 minutes, 48 hours and 60
//! days. Load comes and goes, and so does the memory it takes; what a leak took does not come back, so it lifts the troughs.
//!
//! All of it, some 70 KB, is allocated at start and never grows. What is concluded from it is in [`verdict`](super::verdict).

use super::Holder;
use super::evidence::Evidence;
use super::sample::{CLASSES, Load, Sample, signed};
use crate::clock::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// What is made in the first minutes is made for good, and says nothing about growth.
pub(super) const WARM_UP: Duration = Duration::from_secs(120);

/// The allocator may hold as much again as is live, and this much in any case.
const ALLOWED_HOLES_BYTES: i64 = 32 << 20;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The lowest of everything in a span of time; each figure has its own moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Troughs {
    /// When the first look of the span was taken.
    pub from: Time,
    pub live_bytes: i64,
    /// By how much the holes were more than is allowed.
    pub excessive_holes: i64,
    /// In the order of `Load::PARTS`.
    pub load: [u64; Load::PARTS.len()],
    classes: [ClassTroughs; CLASSES],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ClassTroughs {
    pub bytes: i64,
    pub explained: i64,
    /// By how much the bytes were more than is explained; 0 where they were less.
    pub unexplained: i64,
}

impl Troughs {
    pub(super) fn of_sample(sample: &Sample) -> Self {
        let live_bytes = sample.live_bytes();
        Self {
            from: sample.at,
            live_bytes,
            excessive_holes: sample.holes_bytes().saturating_sub(live_bytes.max(ALLOWED_HOLES_BYTES)),
            load: sample.load.figures(),
            classes: sample.classes.map(|class| {
                let explained = signed(class.explained_bytes);
                ClassTroughs {
                    bytes: class.bytes,
                    explained,
                    unexplained: class.bytes.saturating_sub(explained).max(0),
                }
            }),
        }
    }

    fn lower_to(&mut self, other: &Troughs) {
        self.live_bytes = self.live_bytes.min(other.live_bytes);
        self.excessive_holes = self.excessive_holes.min(other.excessive_holes);
        for (mine, theirs) in self.load.iter_mut().zip(other.load) {
            *mine = (*mine).min(theirs);
        }
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.bytes = mine.bytes.min(theirs.bytes);
            mine.explained = mine.explained.min(theirs.explained);
            mine.unexplained = mine.unexplained.min(theirs.unexplained);
        }
    }

    pub fn of(&self, holder: Holder) -> &ClassTroughs {
        &self.classes[holder as usize]
    }
}

/// The troughs of the last spans of one length, oldest first; the newest is still under way. Spans without a look are left
/// out.
pub(super) struct Ring {
    span: Duration,
    kept: usize,
    troughs: VecDeque<Troughs>,
}

impl Ring {
    fn new(span: Duration, kept: usize) -> Self {
        Self { span, kept, troughs: VecDeque::with_capacity(kept) }
    }

    fn record(&mut self, look: &Troughs) {
        let number = |time: Time| u128::from(time.0) / self.span.as_nanos();
        match self.troughs.back_mut() {
            Some(newest) if number(look.from) <= number(newest.from) => newest.lower_to(look),
            _ => {
                if self.troughs.len() == self.kept {
                    self.troughs.pop_front();
                }
                self.troughs.push_back(*look);
            }
        }
    }

    pub fn all(&self) -> &VecDeque<Troughs> {
        &self.troughs
    }

    /// How many of them are whole; they are the first.
    pub fn complete(&self) -> usize {
        self.troughs.len().saturating_sub(1)
    }
}

/// The samples of a daemon's life, in bounded memory.
pub struct History {
    pub(super) first: Option<Time>,
    pub(super) latest: Option<Sample>,
    pub(super) minutes: Ring,
    pub(super) hours: Ring,
    pub(super) days: Ring,
    /// What must not be there at all, by class.
    pub(super) orphans: [Evidence; CLASSES],
    pub(super) strays: [Evidence; CLASSES],
}

impl Default for History {
    fn default() -> Self {
        Self {
            first: None,
            latest: None,
            minutes: Ring::new(MINUTE, 60),
            hours: Ring::new(HOUR, 48),
            days: Ring::new(DAY, 60),
            orphans: Default::default(),
            strays: Default::default(),
        }
    }
}

impl History {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a sample in. Allocates nothing.
    pub fn record(&mut self, sample: &Sample) {
        let first = *self.first.get_or_insert(sample.at);
        let is_new_round = self.latest.is_none_or(|latest| latest.patrol_rounds != sample.patrol_rounds);
        for (index, class) in sample.classes.iter().enumerate() {
            self.orphans[index].look(sample.at, class.orphaned_bytes);
            if is_new_round {
                self.strays[index].look(sample.at, signed(class.strays));
            }
        }
        self.latest = Some(*sample);
        if sample.at.since(first) >= WARM_UP {
            let look = Troughs::of_sample(sample);
            for ring in [&mut self.minutes, &mut self.hours, &mut self.days] {
                ring.record(&look);
            }
        }
    }

    /// Since when it has held without a break, as far as remembered; `None` if it does not hold now.
    pub(super) fn unbroken(&self, holds: impl Fn(&Troughs) -> bool) -> Option<Time> {
        let mut since = None;
        for ring in [&self.minutes, &self.hours, &self.days] {
            for troughs in ring.all().iter().rev() {
                if !holds(troughs) {
                    return since;
                }
                since = Some(since.map_or(troughs.from, |since: Time| since.min(troughs.from)));
            }
        }
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: u64, bytes: i64) -> Sample {
        let mut sample = Sample { at: Time(at_s * 1_000_000_000), ..Sample::default() };
        sample.classes[Holder::Other as usize].bytes = bytes;
        sample
    }

    /// Live bytes of the last trough that is complete.
    fn settled(ring: &Ring) -> Option<i64> {
        ring.all().get(ring.complete().saturating_sub(1)).map(|trough| trough.live_bytes)
    }

    fn room(history: &History) -> usize {
        [&history.minutes, &history.hours, &history.days].iter().map(|ring| ring.troughs.capacity()).sum()
    }

    #[test]
    fn a_span_keeps_its_lowest() {
        let mut history = History::new();
        for (at_s, bytes) in [(0, 1), (120, 70), (130, 50), (140, 90), (180, 60)] {
            history.record(&sample(at_s, bytes));
        }
        let minutes: Vec<_> = history.minutes.all().iter().map(|trough| trough.live_bytes).collect();
        assert_eq!(minutes, [50, 60], "and what is before the end of the warm-up is not in it");
        assert_eq!(settled(&history.minutes), Some(50));
        assert_eq!(settled(&history.hours), Some(50));
    }

    #[test]
    fn a_hundred_days_take_no_more_room_than_none() {
        let mut history = History::new();
        let at_start = room(&history);
        assert!(at_start * size_of::<Troughs>() + size_of::<History>() < 80_000);
        for at_s in (0..100 * 86_400).step_by(100) {
            history.record(&sample(at_s, 1));
        }
        assert_eq!(room(&history), at_start);
        assert_eq!(
            [&history.minutes, &history.hours, &history.days].map(|ring| ring.all().len()),
            [60, 48, 60]
        );
    }

    #[test]
    fn what_holds_is_followed_back_into_hours_and_days() {
        let mut history = History::new();
        for at_s in (0..5 * 86_400).step_by(60) {
            history.record(&sample(at_s, if at_s < 2 * 86_400 { 1 } else { 9 }));
        }
        let since = history.unbroken(|troughs| troughs.live_bytes > 5);
        assert_eq!(since, Some(Time(2 * 86_400_000_000_000)), "48 hours back, then a whole day");
        assert_eq!(history.unbroken(|troughs| troughs.live_bytes > 9), None);
    }
}
