//! Rows of streams that prove themselves: each follows from the seed, the stream and its sequence number.

use std::io::Write;

use crate::options::Sizes;
use crate::payload;
use crate::random::{Random, mix};

/// The rows of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub seed: u64,
    /// Which stream: unique in the run.
    pub stream: u64,
    /// The length of a row; a JSON row may need a little more.
    pub bytes: Sizes,
    pub json: bool,
}

/// Every so many rows a JSON row goes with a line end in it, which is white space, and must come as such.
const BROKEN_EVERY: u64 = 61;

impl Rows {
    /// Appends row `n` as its router sends it.
    pub fn write(&self, n: u64, out: &mut Vec<u8>) {
        let key = mix(self.seed ^ mix(self.stream << 40 ^ n));
        let size = Random::new(key).within(self.bytes);
        let begin = out.len();
        if self.json {
            let space = if n % BROKEN_EVERY == BROKEN_EVERY - 1 { "\r\n" } else { "" };
            let _ = write!(out, r#"{{"stream":{},{space}"n":{n},"fill":""#, self.stream);
        } else {
            out.extend_from_slice(&n.to_be_bytes()[..size.min(8)]);
        }
        let quote: &[u8] = if self.json { b"\"}" } else { b"" };
        let len = size.saturating_sub(out.len() - begin + quote.len());
        payload::fill(out, key, len, self.json);
        out.extend_from_slice(quote);
    }

    /// Appends row `n` as a consumer must get it (contract, section 3): a line of NDJSON, in which line ends are spaces, or
    /// behind its u32 length.
    pub fn write_delivered(&self, n: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        if self.json {
            self.write(n, out);
            for byte in &mut out[begin..] {
                if matches!(byte, b'\r' | b'\n') {
                    *byte = b' ';
                }
            }
            out.push(b'\n');
        } else {
            out.extend_from_slice(&[0; 4]);
            self.write(n, out);
            let len = (out.len() - begin - 4) as u32;
            out[begin..begin + 4].copy_from_slice(&len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn rows(json: bool, bytes: Sizes) -> Rows {
        Rows { seed: 7, stream: 3, bytes, json }
    }

    fn written(rows: &Rows, n: u64, delivered: bool) -> Vec<u8> {
        let mut out = b"before".to_vec();
        if delivered {
            rows.write_delivered(n, &mut out)
        } else {
            rows.write(n, &mut out)
        }
        out.split_off(6)
    }

    #[test]
    fn every_row_differs_and_is_as_long_as_it_was_asked_to_be() {
        for json in [false, true] {
            let rows = rows(json, (100, 300));
            let all: HashSet<Vec<u8>> = (0..500).map(|n| written(&rows, n, false)).collect();
            assert_eq!(all.len(), 500);
            assert!(all.iter().all(|row| (100..=300).contains(&row.len())));
            assert!(all.iter().all(|row| serde_json::from_slice::<serde_json::Value>(row).is_ok() == json));
        }
        assert_eq!(written(&rows(false, (0, 0)), 5, false), b"");
    }

    #[test]
    fn json_rows_are_lines_and_their_own_line_ends_are_spaces() {
        let rows = rows(true, (80, 80));
        let broken = BROKEN_EVERY - 1;
        assert!(written(&rows, broken, false).contains(&b'\n'));
        let line = written(&rows, broken, true);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        assert_eq!(line.len(), 81);
    }

    #[test]
    fn other_rows_stand_behind_their_length() {
        let rows = rows(false, (20, 20));
        let delivered = written(&rows, 9, true);
        assert_eq!(delivered[..4], 20u32.to_be_bytes());
        assert_eq!(delivered[4..], written(&rows, 9, false));
    }
}
