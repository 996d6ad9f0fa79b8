//! How a client that is slow on purpose reads.

use crate::reactor::Link;
use crate::timers::SECOND;

/// How often a slow reader reads.
const READ_EVERY: u64 = SECOND / 100;

/// Reads so many bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bytes_per_second: u64,
    read_at: u64,
}

impl Pace {
    pub fn new(bytes_per_second: usize) -> Self {
        Self { bytes_per_second: bytes_per_second as u64, read_at: 0 }
    }

    /// Allows the next bytes. Returns when to allow more.
    pub fn allow(&mut self, link: &mut Link<'_>) -> u64 {
        // By the time that has passed: the loop may have been busy with others.
        let passed = (link.now - self.read_at).min(SECOND / 4);
        self.read_at = link.now;
        link.allow(Some((self.bytes_per_second * passed / SECOND).max(1) as usize));
        link.now + READ_EVERY
    }
}
