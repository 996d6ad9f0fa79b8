//! Seeded randomness (SplitMix64): the same seed gives the same schedule, on every machine.

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A generator of its own, so that what one part draws does not shift what another does.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.below(index + 1));
        }
    }

    /// Mostly some seconds, sometimes longer than a drain.
    pub fn timeout_ms(&mut self) -> u64 {
        let most = if self.chance(15) { 8_000 } else { 3_000 };
        self.between(1, most) as u64
    }

    /// Mostly short, sometimes of several fragments of the router link.
    pub fn length(&mut self) -> usize {
        match self.below(40) {
            0 | 39 => self.between(16_000, 50_000),
            1..6 => self.below(6_000),
            _ => self.below(60),
        }
    }
}
