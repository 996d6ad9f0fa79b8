//! What has been opened and what has been given back, by class and by reason (SPEC section 6).
//!
//! The third count, how many there are, is the length of the table itself: the three are kept in three places so that they
//! disagree if something is wrong. See `reactor::census`.

use crate::id::{Class, Reason};

/// Opened at construction, unbound at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub opened: u64,
    pub unbound: u64,
}

impl Count {
    pub fn live(self) -> u64 {
        self.opened - self.unbound
    }
}

/// The connections of each class, and the reasons of those that ended.
#[derive(Debug, Default)]
pub struct Census {
    connections: [Count; Class::ALL.len()],
    reasons: [[u64; Reason::ALL.len()]; Class::ALL.len()],
    pub listeners: Count,
    /// How many listen now.
    pub listeners_open: usize,
    pub dropped: Dropped,
    /// Connections that ended without giving back all that they were charged with.
    pub unbind_imbalances: u64,
    pub turns: Turns,
}

/// What was dropped without anybody being at fault, and limits that were met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropped {
    /// Replies to an id that was no longer awaited.
    pub late_replies: u64,
    /// Frames of streams that are not open.
    pub late_stream_frames: u64,
}

/// How long the turns of the loop took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    pub turns: u64,
    pub longest_ns: u64,
    pub over_50_ms: u64,
}

impl Census {
    pub fn opened(&mut self, class: Class) {
        self.connections[class as usize].opened += 1;
    }

    pub fn unbound(&mut self, class: Class, reason: Reason) {
        self.connections[class as usize].unbound += 1;
        self.reasons[class as usize][reason as usize] += 1;
    }

    pub fn connections(&self, class: Class) -> Count {
        self.connections[class as usize]
    }

    /// The reasons that have occurred in `class`, with their counts.
    pub fn reasons(&self, class: Class) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let counts = &self.reasons[class as usize];
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, counts[reason as usize]))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_sum_up_to_what_was_unbound() {
        let mut census = Census::default();
        for reason in Reason::ALL {
            census.opened(Class::App);
            census.unbound(Class::App, reason);
        }
        census.opened(Class::App);
        let count = census.connections(Class::App);
        assert_eq!(count.live(), 1);
        assert_eq!(census.reasons(Class::App).map(|(_, count)| count).sum::<u64>(), count.unbound);
        assert_eq!(census.reasons(Class::Page).count(), 0);
    }

    #[test]
    fn the_order_of_all_is_the_order_of_the_enum() {
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(Class::ALL.iter().enumerate().all(|(index, class)| *class as usize == index));
    }
}
