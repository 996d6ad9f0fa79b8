//! Time as an argument: the core never asks the system for it.

use std::time::Duration;

/// A point on the monotonic clock, in nanoseconds since the process (or the simulation) began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    pub const ZERO: Time = Time(0);
    pub const NEVER: Time = Time(u64::MAX);

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The one clock reading of a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub time: Time,
    /// Wall clock, in milliseconds since 1970: for what people read, never for timers.
    pub unix_ms: u64,
}
