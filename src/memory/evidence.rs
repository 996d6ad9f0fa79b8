//! Something that must not be there at all: bytes of connections that are gone, objects past their time. Seen once it may
//! be on its way out; seen twice it is a proof.

use crate::clock::Time;
use std::time::Duration;

/// The rate is that of the last one or two of these: one of hours ago is no longer of interest.
const MARK_EVERY: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    looks: u64,
    first: Mark,
    latest: Mark,
    /// From where the rate is reckoned, and from where it will be next.
    marks: [Mark; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Time,
    amount: i64,
}

impl Evidence {
    /// A look found this much of it; none wipes out whatever there was.
    pub fn look(&mut self, at: Time, amount: i64) {
        if amount <= 0 {
            *self = Self::default();
            return;
        }
        let seen = Mark { at, amount };
        if self.looks == 0 {
            self.first = seen;
            self.marks = [seen; 2];
        } else if at.since(self.marks[1].at) >= MARK_EVERY {
            self.marks = [self.marks[1], seen];
        }
        self.looks += 1;
        self.latest = seen;
    }

    /// How much there is, if it has been seen more than once.
    pub fn proven(&self) -> Option<i64> {
        (self.looks > 1).then_some(self.latest.amount)
    }

    pub fn first_seen(&self) -> Time {
        self.first.at
    }

    /// How much came of late, and in how long.
    pub fn growth(&self) -> (i64, Duration) {
        let from = self.marks[0];
        (self.latest.amount.saturating_sub(from.amount), self.latest.at.since(from.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_two_looks_and_one_clears_it() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut evidence = Evidence::default();
        evidence.look(at(0), 5);
        assert_eq!(evidence.proven(), None);
        evidence.look(at(10), 6);
        assert_eq!(evidence.proven(), Some(6));
        evidence.look(at(20), 0);
        evidence.look(at(30), 5);
        assert_eq!((evidence.proven(), evidence.first_seen()), (None, at(30)));
    }

    #[test]
    fn the_rate_is_that_of_late() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut evidence = Evidence::default();
        for second in (0..7200).step_by(10) {
            evidence.look(at(second), (second as i64).min(3600));
        }
        assert_eq!(evidence.growth().0, 0);
        assert!((600..1210).contains(&evidence.growth().1.as_secs()));
    }
}
