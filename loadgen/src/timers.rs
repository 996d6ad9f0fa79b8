//! Timers of the load generator: a heap, and a generation that makes the timers of an earlier connection fall on nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// On the reactor's clock, which counts nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Nanoseconds on the reactor's clock.
    pub at: u64,
    pub client: u32,
    pub generation: u32,
    pub timer: u8,
}

#[derive(Default)]
pub struct Timers(BinaryHeap<Reverse<Due>>);

impl Timers {
    pub fn set(&mut self, due: Due) {
        self.0.push(Reverse(due));
    }

    pub fn next_at(&self) -> Option<u64> {
        self.0.peek().map(|due| due.0.at)
    }

    pub fn pop_due(&mut self, now: u64) -> Option<Due> {
        if self.next_at()? > now {
            return None;
        }
        self.0.pop().map(|due| due.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_not_early() {
        let mut timers = Timers::default();
        for at in [30, 10, 20] {
            timers.set(Due { at, client: 1, generation: 0, timer: 0 });
        }
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(25).map(|due| due.at), Some(10));
        assert_eq!(timers.pop_due(25).map(|due| due.at), Some(20));
        assert_eq!(timers.pop_due(25), None);
        assert_eq!(timers.next_at(), Some(30));
    }
}
