//! How a client of a scenario leaves.

use std::time::Duration;

use crate::reactor::Link;

use super::world::World;

/// The timer of a client that has frozen: the simulation lets go of its socket. The clients' own timers are below it.
pub const GONE: u8 = 4;
/// The timer of a client that is to leave.
pub const LEAVE: u8 = 5;

/// How a connection is left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// BYE or close frame, then FIN.
    Farewell,
    Fin,
    /// RST.
    Reset,
    /// The process stops: nothing is read, answered or sent any more, and no FIN comes. The kernel goes on acknowledging.
    Freeze,
}

impl Way {
    /// Leaves, behind whatever farewell was said. One that freezes keeps its socket for `frozen_for`, until [`GONE`].
    pub fn leave(self, world: &mut World, link: &mut Link<'_>, frozen_for: Duration) {
        match self {
            Self::Farewell | Self::Fin => link.finish(),
            Self::Reset => {
                world.tally.vanished_reset += 1;
                link.reset();
            }
            Self::Freeze => {
                world.tally.vanished_frozen += 1;
                link.allow(Some(0));
                link.wake_at(link.now + frozen_for.as_nanos() as u64, GONE);
            }
        }
    }
}
