//! A round of the patrol: where it is, and what it has found.

use crate::memory::Holder;

/// The tables in the order of a round.
const BEATS: [Beat; 7] = [
    Beat::Connections,
    Beat::Commands,
    Beat::Streams,
    Beat::Subscriptions,
    Beat::Channels,
    Beat::Timers,
    Beat::Shadows,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Connections,
    Commands,
    Streams,
    Subscriptions,
    Channels,
    Timers,
    Shadows,
}

#[derive(Debug, Default)]
pub(super) struct Round {
    /// Which table, and which of its pages is next.
    beat: usize,
    page: usize,
    /// Found in this round so far, by class.
    pub found: [u64; Holder::ALL.len()],
    /// Found in the last round that was completed.
    strays: [u64; Holder::ALL.len()],
    completed: u64,
}

impl Round {
    /// Where it goes on.
    pub fn place(&self) -> (Beat, usize) {
        (BEATS[self.beat], self.page)
    }

    /// A page is done, of a table that has so many now. True when it was the last one of the round.
    pub fn advance(&mut self, pages: usize) -> bool {
        self.page += 1;
        if self.page < pages {
            return false;
        }
        (self.beat, self.page) = ((self.beat + 1) % BEATS.len(), 0);
        if self.beat > 0 {
            return false;
        }
        self.strays = std::mem::take(&mut self.found);
        self.completed += 1;
        true
    }

    /// What the last complete round found of a class.
    pub fn strays(&self, holder: Holder) -> u64 {
        self.strays[holder as usize]
    }

    /// Rounds that were completed.
    pub fn completed(&self) -> u64 {
        self.completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_behind_the_last_page_of_the_last_table() {
        let mut round = Round::default();
        for lap in 1..=2 {
            for (index, beat) in BEATS.into_iter().enumerate() {
                for page in 0..3 {
                    assert_eq!(round.place(), (beat, page));
                    round.found[Holder::Timer as usize] += lap;
                    assert_eq!(round.advance(3), index == BEATS.len() - 1 && page == 2);
                }
            }
            assert_eq!((round.completed(), round.strays(Holder::Timer)), (lap, 3 * BEATS.len() as u64 * lap));
        }
    }
}
