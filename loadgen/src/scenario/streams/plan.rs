//! How much is streamed, how it is read, and what goes wrong on purpose.

use std::time::Duration;

use crate::frame::stream::MAX_ROW_BYTES;
use crate::options::{self, Sizes};
use crate::scenario::job::{Faults, Job, Window};

/// A run of streams. The default is the one that the daemon is held to: 1,000,000 rows of 200 routers.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub routers: usize,
    pub streams_per_router: usize,
    /// Of each stream.
    pub rows: u64,
    pub row_bytes: Sizes,
    /// Of the streams: rows of the others are octets.
    pub json_share: f64,
    pub window: Window,
    /// Of the consumers.
    pub slow_share: f64,
    /// Bytes a second that a slow one reads.
    pub slow_rate: usize,
    pub faults: Faults,
    /// Every now and then all consumers read nothing for so long.
    pub stall: Option<Duration>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            routers: 200,
            streams_per_router: 1,
            rows: 5000,
            row_bytes: (64, 1024),
            json_share: 0.5,
            window: Window { max_messages: 20, max_bytes: 65_536 },
            slow_share: 0.5,
            slow_rate: 150_000,
            faults: Faults::default(),
            stall: None,
        }
    }
}

impl Plan {
    /// The names that [`Self::set`] knows.
    pub const OPTIONS: [&'static str; 10] = [
        "streams",
        "rows",
        "row-bytes",
        "max-messages",
        "max-bytes",
        "slow-share",
        "slow-rate",
        "gap-every",
        "reconnect-every",
        "stall-ms",
    ];

    /// Takes one option of the command line.
    ///
    /// # Errors
    /// A value that will not do.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "streams" => self.streams_per_router = options::number(value)?,
            "rows" => self.rows = options::number(value)?,
            "row-bytes" => {
                self.row_bytes = options::sizes(value)?;
                if self.row_bytes.1 > MAX_ROW_BYTES {
                    return Err(format!("a row has at most {MAX_ROW_BYTES} bytes"));
                }
            }
            "max-messages" => self.window.max_messages = options::number(value)?,
            "max-bytes" => self.window.max_bytes = options::number(value)?,
            "slow-share" => self.slow_share = options::share(value)?,
            "slow-rate" => self.slow_rate = options::number::<usize>(value)?.max(1),
            "gap-every" => self.faults.gap_every = every(value)?,
            "reconnect-every" => self.faults.reconnect_every = every(value)?,
            "stall-ms" => self.stall = Some(options::seconds(value, 0.001)?),
            _ => unreachable!("every option of OPTIONS has its line"),
        }
        Ok(())
    }

    pub fn streams(&self) -> usize {
        self.routers * self.streams_per_router
    }

    pub fn all_rows(&self) -> u64 {
        self.rows * self.streams() as u64
    }

    /// Whether the consumer of stream number `place` is slow: those of one share are spread evenly.
    pub fn is_slow(&self, place: usize) -> bool {
        let before = |count: usize| (count as f64 * self.slow_share) as usize;
        before(place + 1) > before(place)
    }

    /// What the daemon may hold at most, without the shadow's: the promise of the contract's windows.
    pub fn most_bytes(&self) -> u64 {
        const FRAGMENT: u64 = 16_384;
        (u64::from(self.window.max_bytes) + FRAGMENT) * self.streams() as u64 + (2 << 20)
    }

    /// Long enough for the slowest consumer, several times over.
    pub fn patience(&self) -> Duration {
        let stream = self.rows as f64 * (self.row_bytes.1 + 32) as f64;
        let slow = if self.slow_share > 0.0 { stream / self.slow_rate as f64 } else { 0.0 };
        let stalled = if self.stall.is_some() { 60.0 } else { 0.0 };
        Duration::from_secs_f64(60.0 + stalled + 2.0 * slow)
    }

    /// The job of stream number `place`, with `rows` rows, as number `number` of the world.
    pub fn job(&self, seed: u64, number: usize, place: usize, rows: u64) -> Job {
        let json = (place as f64 * self.json_share).fract() + self.json_share >= 1.0;
        let rows_of = crate::rows::Rows { seed, stream: number as u64, bytes: self.row_bytes, json };
        // Every third stream does not begin at the beginning.
        let from = if place % 3 == 2 { 1000 } else { 0 };
        Job::new((place % self.routers) as u32, rows_of, (from, from + rows), self.window, self.faults)
    }
}

/// 0 is never.
fn every(value: &str) -> Result<Option<u64>, String> {
    options::number(value).map(|every: u64| (every > 0).then_some(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_daemon_is_held_to() {
        let plan = Plan::default();
        assert_eq!((plan.streams(), plan.all_rows()), (200, 1_000_000));
        assert_eq!(plan.most_bytes(), 200 * (65_536 + 16_384) + (2 << 20));
        assert_eq!((0..200).filter(|place| plan.is_slow(*place)).count(), 100);
    }

    #[test]
    fn shares_are_spread_evenly() {
        for (share, expected) in [(0.0, 0), (0.25, 25), (1.0, 100)] {
            let plan = Plan { slow_share: share, json_share: share, ..Plan::default() };
            assert_eq!((0..100).filter(|place| plan.is_slow(*place)).count(), expected);
            assert_eq!((0..100).filter(|place| plan.job(1, 0, *place, 1).rows.json).count(), expected);
        }
    }

    #[test]
    fn options_are_taken_and_bad_ones_refused() {
        let mut plan = Plan::default();
        for name in Plan::OPTIONS {
            plan.set(name, if name == "slow-share" { "1" } else { "20000" }).err().inspect(|error| {
                assert_eq!(name, "row-bytes", "{error}");
            });
        }
        assert_eq!((plan.rows, plan.faults.gap_every), (20_000, Some(20_000)));
        plan.set("gap-every", "0").unwrap();
        assert_eq!(plan.faults.gap_every, None);
        assert!(plan.set("rows", "many").is_err());
    }
}
