//! What is done now and then, in bounded steps: tables give back what a burst made them grow, a slice of them is looked
//! through for strays, and a sample is taken for the verdict. Nothing here is done per connection.

use super::engine::{Engine, WATCHERS_ROOM};
use super::work::shrink;
use crate::limits::{GIVE_BACK_DELAY, HOUSEKEEPING_EVERY};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;

impl<T: Transport> Engine<T> {
    /// A connection has ended: what the tables held for it is given back soon, not at once, so that a burst of endings costs
    /// one look and a table that breathes allocates nothing.
    pub(super) fn hurry_housekeeping(&mut self) {
        self.housekeeping_at = self.housekeeping_at.min(self.now.time + GIVE_BACK_DELAY);
    }

    /// A phase of the turn: does what is due.
    pub fn housekeeping(&mut self) {
        let now = self.now.time;
        if now < self.housekeeping_at {
            return;
        }
        self.housekeeping_at = now + HOUSEKEEPING_EVERY;
        if self.give_back() {
            self.hurry_housekeeping();
        }
        if self.patrol_at <= now {
            self.patrol_at = now + HOUSEKEEPING_EVERY;
            self.patrol();
            self.sample();
        }
    }

    /// Tables that were large and are not any more shrink, to what they would have grown to for what they hold. True if
    /// there is more to give back.
    fn give_back(&mut self) -> bool {
        let tables = [
            self.table.give_back(),
            self.commands.give_back(),
            self.streams.give_back(),
            self.frames.give_back(),
            self.hub.give_back(),
            self.shadows.give_back(),
            self.wheel.give_back(),
        ];
        self.addresses.give_back();
        self.work.give_back();
        let _charge = charge(Holder::Other);
        shrink(&mut self.scratch.watchers, WATCHERS_ROOM);
        tables.contains(&true)
    }
}
