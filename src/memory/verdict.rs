//! The verdict: whether memory is flat, and if it is not, who holds it and since when. One state and one sentence, for an
//! operator who has just been woken. `docs/memory.md` says what to do about each.

use super::history::{History, Troughs, WARM_UP};
use super::sample::{Load, SAMPLE_EVERY, Sample, signed};
use super::{Holder, leaks, words};
use crate::clock::Time;
use std::fmt;

/// Holes that are gone sooner than this were a burst's.
const FRAGMENTED_MINUTES: usize = 5;
/// A difference in live bytes up to this, and to a sixteenth of them, is no growth.
const NO_GROWTH_BYTES: i64 = 256 << 10;

/// The states of SPEC section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Warming,
    Flat,
    /// Live bytes rose, and what explains them rose too.
    Loaded,
    /// The allocator holds much more than is live, for minutes.
    Fragmented,
    /// Bytes or objects rose without a reason.
    Leaking,
}

impl State {
    pub const ALL: [State; 5] =
        [State::Warming, State::Flat, State::Loaded, State::Fragmented, State::Leaking];

    /// Its name in the census.
    pub fn name(self) -> &'static str {
        match self {
            State::Warming => "warming",
            State::Flat => "flat",
            State::Loaded => "loaded",
            State::Fragmented => "fragmented",
            State::Leaking => "leaking",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    /// One sentence, without the state's name.
    pub says: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.state.name(), self.says)
    }
}

impl History {
    /// What the samples so far come to, and this look, which need not be one of them: its figures are those of the sentence.
    pub fn verdict_on(&self, look: &Sample) -> Verdict {
        self.leaking(look, look.at)
            .or_else(|| self.warming(look, look.at))
            .or_else(|| self.fragmented(look, look.at))
            .or_else(|| self.grown(look, look.at))
            .unwrap_or_else(|| self.flat(look, look.at))
    }

    /// What the samples so far come to.
    pub fn verdict(&self, now: Time) -> Verdict {
        let Some(latest) = &self.latest else {
            return Verdict { state: State::Warming, says: "no sample has been taken yet".to_owned() };
        };
        let mut verdict = self.verdict_on(&Sample { at: now, ..*latest });
        let age = now.since(latest.at);
        if age > 3 * SAMPLE_EVERY {
            verdict.says += &format!("; the last sample is {} old", words::duration(age));
        }
        verdict
    }

    fn leaking(&self, latest: &Sample, now: Time) -> Option<Verdict> {
        let leaks = leaks::find(self, latest, now);
        let worst = leaks.first()?;
        let mut says = worst.says.clone();
        let mut named = vec![worst.holder];
        for leak in &leaks {
            if !named.contains(&leak.holder) {
                says += if named.len() == 1 { "; also " } else { ", " };
                says += leak.holder.name();
                named.push(leak.holder);
            }
        }
        Some(Verdict { state: State::Leaking, says })
    }

    fn warming(&self, latest: &Sample, now: Time) -> Option<Verdict> {
        if self.minutes.all().is_empty() {
            let since = self.first.unwrap_or(latest.at);
            let says = format!(
                "watched for {}, to be judged after {}; {}",
                words::duration(now.since(since)),
                words::duration(WARM_UP),
                figures(latest)
            );
            return Some(Verdict { state: State::Warming, says });
        }
        None
    }

    fn fragmented(&self, latest: &Sample, now: Time) -> Option<Verdict> {
        let is_fragmented = |troughs: &Troughs| troughs.excessive_holes > 0;
        let lasting = self.minutes.all().iter().rev().take(FRAGMENTED_MINUTES + 1);
        if lasting.len() <= FRAGMENTED_MINUTES || !lasting.clone().all(is_fragmented) {
            return None;
        }
        let since = self.unbroken(is_fragmented)?;
        let says = format!(
            "the allocator holds {} more than the {} that are live, too much for {}; {} resident",
            words::bytes(latest.holes_bytes().max(0)),
            words::bytes(latest.live_bytes()),
            words::duration(now.since(since)),
            words::bytes(signed(latest.resident_bytes)),
        );
        Some(Verdict { state: State::Fragmented, says })
    }

    /// Live bytes rose against an hour ago, or as far back as there is.
    fn grown(&self, latest: &Sample, now: Time) -> Option<Verdict> {
        let (then, today) = (self.minutes.all().front()?, &Troughs::of_sample(latest));
        let growth = today.live_bytes.saturating_sub(then.live_bytes);
        if growth <= no_growth(then.live_bytes) {
            return None;
        }
        let rose = format!(
            "live bytes rose by {} in {}",
            words::bytes(growth),
            words::duration(now.since(then.from))
        );
        let verdict = match reason(then, today) {
            Some(reason) => {
                Verdict { state: State::Loaded, says: format!("{rose}: {reason}; {}", figures(latest)) }
            }
            None => Verdict {
                state: State::Flat,
                says: format!("{rose} without more load, but not steadily; {}", figures(latest)),
            },
        };
        Some(verdict)
    }

    fn flat(&self, latest: &Sample, now: Time) -> Verdict {
        let live = Troughs::of_sample(latest).live_bytes;
        let since = self.unbroken(|then| live <= then.live_bytes.saturating_add(no_growth(then.live_bytes)));
        let says = format!(
            "live bytes have not grown in {}; {}",
            words::duration(now.since(since.unwrap_or(latest.at))),
            figures(latest)
        );
        Verdict { state: State::Flat, says }
    }
}

fn no_growth(live_bytes: i64) -> i64 {
    NO_GROWTH_BYTES.max(live_bytes / 16)
}

/// Why the class that grew most did: the load that rose most of those that explain it, or else its own objects. Of a table
/// either counts only if its objects and its structure account for half of what it grew by.
fn reason(then: &Troughs, now: &Troughs) -> Option<String> {
    let growth = |holder: Holder| now.of(holder).bytes.saturating_sub(then.of(holder).bytes);
    let holder = Holder::ALL.into_iter().max_by_key(|holder| growth(*holder))?;
    let (before, after) = (then.of(holder), now.of(holder));
    if !holder.is_connection() && after.explained.saturating_sub(before.explained) < growth(holder) / 2 {
        return None;
    }
    let loads = Load::PARTS.iter().zip(then.load.iter().zip(now.load));
    let rises = loads
        .filter(|(part, _)| part.explains(holder))
        .filter_map(|(part, (&then, now))| Some((part.rise(then, now)?, part, then, now)));
    let bytes = |bytes| words::bytes(signed(bytes));
    Some(match rises.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, part, then, now)) if part.is_bytes => {
            format!("{} from {} to {}", part.name, bytes(then), bytes(now))
        }
        Some((_, part, then, now)) => {
            format!("{} from {} to {}", part.name, words::count(then), words::count(now))
        }
        None => format!(
            "objects of {} from {} to {}",
            holder.name(),
            words::bytes(before.bytes),
            words::bytes(after.bytes)
        ),
    })
}

fn figures(latest: &Sample) -> String {
    format!(
        "{} live, {} routers, {} of holes",
        words::bytes(latest.live_bytes()),
        words::count(latest.load.routers),
        words::bytes(latest.holes_bytes().max(0))
    )
}
