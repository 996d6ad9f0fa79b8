//! Whether something justifies that a stream ends, or is refused.

use super::*;

impl Model {
    pub(super) fn may_be_full(&self, number: u64, settings: &Settings) -> bool {
        let asked = &self.streams.asked[&number];
        let others = self.streams.asked.iter().filter(|(other, it)| {
            **other != number && it.router == asked.router && it.end.is_none_or(|(_, at)| at >= asked.at)
        });
        others.count() >= settings.router.max_streams || self.was_sent_much(&asked.router)
    }

    pub(super) fn is_error(&self, asked: &Asked, detail: &str, settings: &Settings, now: Time) -> bool {
        let says_idle = detail.starts_with("stream.idle_s") && self.is_idle(asked, settings, now);
        let says_barren = detail.contains("no new row") && is_barren(asked);
        says_idle || says_barren || asked.errors.iter().any(|text| text == detail)
    }

    /// Its router might have sent something, and has not.
    pub(super) fn is_idle(&self, asked: &Asked, settings: &Settings, now: Time) -> bool {
        let open = asked.last_open.and_then(|key| self.streams.opens.get(&key));
        let is_well = self.streams.session(asked).is_some_and(|tap| is_healthy(&tap.link.borrow()));
        let had_credit = open.is_none_or(|open| {
            let first_in_flight = open.acked.map_or(open.from, |acked| acked + 1);
            open.next - first_in_flight < asked.window.0 as u64
        });
        (had_credit || !is_well) && now.since(asked.moved_at) >= settings.stream.idle
    }

    /// Its router's session has ended by its own fault, or it was away for long enough.
    pub(super) fn is_lost(&self, asked: &Asked, settings: &Settings, now: Time) -> bool {
        let is_rude = |tap: &Tap| {
            let is_its = tap.router.as_ref() == Some(&asked.router);
            is_its && tap.link.borrow().did.broke_rules && tap.ended_at.is_none_or(|at| at >= asked.at)
        };
        if self.streams.taps.values().any(is_rude) {
            return true;
        }
        let is_there = self.streams.session(asked).is_some_and(|tap| is_healthy(&tap.link.borrow()));
        !is_there
            && !self.is_surely_bound(&asked.router, asked.opened_at + settings.stream.resume)
            && now.since(asked.opened_at) >= settings.stream.resume
    }

    pub(super) fn may_cut(&self, asked: &Asked, settings: &Settings, now: Time) -> bool {
        let is_stuck = self.is_idle(asked, settings, now) || is_barren(asked);
        is_stuck || !asked.errors.is_empty() || self.is_lost(asked, settings, now)
    }
}

/// An OPEN that was withdrawn, or lost with its session, is not seen; each session may have had one.
fn is_barren(asked: &Asked) -> bool {
    asked.barren + asked.sessions >= MOST_BARREN
}
