//! Random choices that come again with the same seed; `RANDOM_SEED` and `RANDOM_TIMES` search further.

/// xorshift64*: enough to shuffle bytes.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(setting("RANDOM_SEED", 1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }
}

/// How many rounds of something, when it is `count` by default.
pub fn rounds(count: usize) -> usize {
    count * setting("RANDOM_TIMES", 1) as usize
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number above 0"))
}
