//! Figures as an operator reads them at three in the morning.

use std::time::Duration;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 86_400;

/// A count with its thousands apart: `2,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// An amount of memory in the unit that leaves at most four digits before the point: `312 bytes`, `12.4 MiB`.
pub fn bytes(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    let size = bytes.unsigned_abs();
    let scaled = |shift: u32| size as f64 / (1u64 << shift) as f64;
    match size {
        1 => format!("{sign}1 byte"),
        0..1024 => format!("{sign}{size} bytes"),
        1024..0x10_0000 => format!("{sign}{:.1} KiB", scaled(10)),
        0x10_0000..0x4000_0000 => format!("{sign}{:.1} MiB", scaled(20)),
        _ => format!("{sign}{:.1} GiB", scaled(30)),
    }
}

/// A length of time, to the unit that matters: `40 s`, `58 min`, `12 h`, `3 days`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..5400 => format!("{} min", (seconds + MINUTE_S / 2) / MINUTE_S),
        5400..172_800 => format!("{} h", (seconds + HOUR_S / 2) / HOUR_S),
        _ => format!("{} days", (seconds + DAY_S / 2) / DAY_S),
    }
}

/// What `amount` in `span` comes to in a natural unit of time: `(12_000, "a minute")`.
pub fn rate(amount: i64, span: Duration) -> (i64, &'static str) {
    let seconds = span.as_secs().max(1);
    let (unit_s, unit) = match seconds {
        0..7200 => (MINUTE_S, "a minute"),
        7200..172_800 => (HOUR_S, "an hour"),
        _ => (DAY_S, "a day"),
    };
    ((amount as f64 * unit_s as f64 / seconds as f64).round() as i64, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_humane() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1, 312, 2048, 13_002_342, -1536].map(bytes),
            ["1 byte", "312 bytes", "2.0 KiB", "12.4 MiB", "-1.5 KiB"]
        );
        assert_eq!(bytes(i64::MIN), "-8589934592.0 GiB");
        let spans = [40, 58 * 60, 12 * 3600, 3 * 86_400];
        assert_eq!(spans.map(|s| duration(Duration::from_secs(s))), ["40 s", "58 min", "12 h", "3 days"]);
        assert_eq!(rate(120_000, Duration::from_secs(600)), (12_000, "a minute"));
        assert_eq!(rate(24, Duration::from_secs(86_400)), (1, "an hour"));
        assert_eq!(rate(5, Duration::ZERO), (300, "a minute"));
    }
}
