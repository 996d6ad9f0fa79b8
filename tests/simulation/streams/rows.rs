//! The rows of a stream: they follow from its name, its query and their number, so that router and model know every byte.

use crate::random::Random;
use std::hash::{DefaultHasher, Hasher};

/// The longest row, in bytes.
const MAX_ROW_BYTES: usize = 16_376;

#[derive(Clone, Debug)]
pub struct Rows {
    seed: u64,
    pub json: bool,
    /// How many there are, from row 0.
    pub total: u64,
    /// Its router never brings a row: it ends each OPEN with a wrong number.
    pub is_barren: bool,
}

impl Rows {
    pub fn of(name: &str, query: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        hasher.write(query.as_bytes());
        let mut random = Random::new(hasher.finish());
        Self {
            json: random.chance(60),
            total: {
                let most = if random.chance(20) { 120 } else { 25 };
                random.between(0, most) as u64
            },
            is_barren: random.chance(8),
            seed: random.next(),
        }
    }

    fn random(&self, seq: u64) -> Random {
        Random::new(self.seed ^ seq.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn pad(random: &mut Random) -> usize {
        match random.below(60) {
            0 => MAX_ROW_BYTES - 64,
            1 => random.between(4_000, 16_000),
            2..10 => 0,
            _ => random.between(1, 400),
        }
    }

    /// As the router sends it.
    pub fn row(&self, seq: u64) -> Vec<u8> {
        let mut random = self.random(seq);
        let pad = Self::pad(&mut random);
        if self.json {
            // Line ends are white space in JSON.
            let space = random.pick(&["", " ", "\n", "\r\n"]);
            format!("{{\"n\":{seq},{space}\"pad\":\"{}\"}}{space}", "p".repeat(pad)).into_bytes()
        } else if pad == 0 {
            Vec::new()
        } else {
            let byte = random.next() as u8;
            (0..pad).map(|index| byte.wrapping_add(index as u8)).collect()
        }
    }

    /// As it stands in the body of the answer.
    pub fn in_body(&self, seq: u64) -> Vec<u8> {
        let mut row = self.row(seq);
        if !self.json {
            let length = (row.len() as u32).to_be_bytes();
            return [&length[..], &row].concat();
        }
        for byte in row.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')) {
            *byte = b' ';
        }
        row.push(b'\n');
        row
    }
}
