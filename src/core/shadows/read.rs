//! Reading histories: of one router or of all in the order of their numbers, and what a reader must be told that it missed.

use super::history::{Cursor, Remembered};
use super::{Shadow, Shadows};

/// What comes next to a reader.
#[derive(Debug)]
pub enum Read<'s> {
    Event(&'s Shadow, &'s Remembered),
    /// Events up to this number may be missing; what is still there of them follows.
    Gap(u64),
    /// Everything has been read: what is published from now on reaches the reader live.
    End,
}

impl Shadows {
    /// The next thing for a reader of `router`'s events, or of all, and moves its cursor behind it.
    ///
    /// A gap is told once for all that was lost when it was met. What is lost further on while the reader works through what
    /// is left is told when the reader comes there.
    pub fn read(&self, router: Option<&str>, cursor: &mut Cursor) -> Read<'_> {
        let next = self.event_after(router, cursor.after);
        let lost = self.lost(router);
        let passes_warned = next.is_none_or(|(_, event)| event.number > cursor.warned);
        if passes_warned && lost > cursor.after.max(cursor.warned) {
            // The newest place to go on from: nothing that is remembered lies before it.
            *cursor =
                Cursor { after: next.map_or(lost, |(_, event)| lost.min(event.number - 1)), warned: lost };
            return Read::Gap(lost);
        }
        match next {
            Some((shadow, event)) => {
                cursor.after = event.number;
                Read::Event(shadow, event)
            }
            None => Read::End,
        }
    }

    fn event_after(&self, router: Option<&str>, number: u64) -> Option<(&Shadow, &Remembered)> {
        let key = match router {
            Some(router) => self.find(router)?,
            None => self.order.after(number)?,
        };
        let shadow = self.get(key);
        Some((shadow, shadow.history.after(number)?))
    }

    /// The highest number of an event of `router`, or of all, that is not remembered.
    fn lost(&self, router: Option<&str>) -> u64 {
        match router {
            Some(router) => {
                self.find(router).map_or(self.order.forgotten, |key| self.get(key).history.lost())
            }
            None => self.order.lost,
        }
    }

    /// Whether event `seq` of `router` in `epoch` has been, or 0 and the epoch is the present one.
    pub fn has_been(&self, router: &str, epoch: &str, seq: u64) -> bool {
        let shadow = self.find(router).map(|key| self.get(key));
        shadow.is_some_and(|shadow| format!("{:016x}", shadow.epoch) == epoch && seq <= shadow.seq)
    }

    /// Where a reader begins who has had everything of `router` up to `seq`, in its present epoch. `None` if something behind
    /// it is lost.
    pub fn resume(&self, router: &str, seq: u64) -> Option<Cursor> {
        let shadow = self.get(self.find(router)?);
        let number = shadow.event_behind(seq).map_or(self.published(), |event| event.number - 1);
        (seq >= shadow.lost_seq()).then(|| Cursor::behind(number))
    }
}
