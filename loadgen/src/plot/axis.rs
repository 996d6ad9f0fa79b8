//! Axes that a person can read: round steps in a unit of human size.

use std::fmt::Write;

/// A scale from 0 or from the first sample, in plain units: seconds, bytes or objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub from: f64,
    pub to: f64,
    /// Where the ticks stand, and what is written beside them.
    pub ticks: Vec<(f64, String)>,
}

const TIME_UNITS: [(f64, &str, &[f64]); 4] = [
    (1.0, "s", &[0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0]),
    (60.0, "min", &[0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0]),
    (3600.0, "h", &[0.5, 1.0, 2.0, 3.0, 6.0, 12.0]),
    (86_400.0, "d", &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]),
];

/// Seconds, with about `count` ticks. A span of nothing becomes one second.
pub fn time(from: f64, to: f64, count: usize) -> Axis {
    let to = to.max(from + 1.0);
    let (seconds, name, steps) = time_unit(to - from);
    let wanted = (to - from) / seconds / count.max(1) as f64;
    let step = steps.iter().find(|step| **step >= wanted).or(steps.last()).copied().unwrap_or(1.0);
    let ticks = multiples(from / seconds, to / seconds, step);
    let label = |tick: f64| (tick * seconds, format!("{} {name}", decimal(tick, step)));
    Axis { from, to, ticks: ticks.map(label).collect() }
}

/// Bytes from 0 on, in B, KiB, MiB, … .
pub fn bytes(most: f64, count: usize) -> Axis {
    let (size, name) = byte_unit(most);
    let (to, step) = round_scale(most / size, count);
    let label = |tick: f64| {
        (tick * size, if tick == 0.0 { "0".into() } else { format!("{} {name}", decimal(tick, step)) })
    };
    Axis { from: 0.0, to: to * size, ticks: multiples(0.0, to, step).map(label).collect() }
}

/// Objects from 0 on; never in fractions.
pub fn count(most: f64, count: usize) -> Axis {
    let (to, step) = round_scale(most, count);
    let (to, step) = if step < 1.0 { (to.ceil(), 1.0) } else { (to, step) };
    let label = |tick: f64| (tick, grouped(tick as u64));
    Axis { from: 0.0, to, ticks: multiples(0.0, to, step).map(label).collect() }
}

/// A size for a table: `1.24 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    let (size, name) = byte_unit(bytes as f64);
    if size == 1.0 { format!("{bytes} B") } else { format!("{:.2} {name}", bytes as f64 / size) }
}

/// A time since the start: `90 s`, `12.5 min`, `3 h`.
pub fn time_text(seconds: f64) -> String {
    let (size, name, _) = time_unit(seconds);
    let text = format!("{:.1}", seconds / size);
    format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The largest unit of which the span has two, so that a tick is seldom a fraction.
fn time_unit(span: f64) -> (f64, &'static str, &'static [f64]) {
    TIME_UNITS.into_iter().rfind(|(seconds, ..)| span >= 2.0 * seconds).unwrap_or(TIME_UNITS[0])
}

fn byte_unit(most: f64) -> (f64, &'static str) {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = units.iter().enumerate().rposition(|(power, _)| most >= 1024_f64.powi(power as i32));
    let power = power.unwrap_or(0);
    (1024_f64.powi(power as i32), units[power])
}

/// The end of a scale that holds `most`, and its step: 1, 2 or 5 of a power of ten.
fn round_scale(most: f64, count: usize) -> (f64, f64) {
    if most <= 0.0 {
        return (1.0, 1.0);
    }
    let wanted = most / count.max(1) as f64;
    let power = 10_f64.powf(wanted.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|of| of * power).find(|step| *step >= wanted * (1.0 - 1e-9));
    let step = step.unwrap_or(10.0 * power);
    ((most / step * (1.0 - 1e-9)).ceil() * step, step)
}

fn multiples(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (from / step - 1e-9).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last).map(move |index| index as f64 * step)
}

/// A tick with as many decimals as its step has.
fn decimal(tick: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let mut text = String::new();
    let _ = write!(text, "{tick:.decimals$}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn time_is_in_the_unit_that_fits() {
        assert_eq!(labels(&time(0.0, 60.0, 6)), ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]);
        assert_eq!(labels(&time(0.0, 3600.0, 5)), ["0 min", "15 min", "30 min", "45 min", "60 min"]);
        assert_eq!(labels(&time(0.0, 108_000.0, 6)), ["0 h", "6 h", "12 h", "18 h", "24 h", "30 h"]);
        assert_eq!(labels(&time(0.0, 0.0, 2)), ["0.0 s", "0.5 s", "1.0 s"]);
        assert_eq!(labels(&time(95.0, 130.0, 4)), ["100 s", "110 s", "120 s", "130 s"]);
    }

    #[test]
    fn a_scale_holds_its_most_and_has_round_steps() {
        assert_eq!(labels(&bytes(3.4 * 1024.0 * 1024.0, 4)), ["0", "1 MiB", "2 MiB", "3 MiB", "4 MiB"]);
        assert_eq!(labels(&bytes(900.0, 4)), ["0", "500 B", "1000 B"]);
        assert_eq!(labels(&bytes(0.0, 4)), ["0", "1 B"]);
        assert_eq!(labels(&count(10_000.0, 4)), ["0", "5,000", "10,000"]);
        assert_eq!(labels(&count(2.0, 4)), ["0", "1", "2"]);
        assert_eq!(labels(&count(0.0, 4)), ["0", "1"]);
        for most in (1..5000).map(|n| f64::from(n) * 777.7) {
            for axis in [bytes(most, 4), count(most, 4)] {
                assert!(axis.to >= most && axis.to < most * 2.5 + 2.0, "{most}: {axis:?}");
                assert!((2..=6).contains(&axis.ticks.len()), "{most}: {axis:?}");
            }
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([0, 1023, 1536, 3 << 30].map(bytes_text), ["0 B", "1023 B", "1.50 KiB", "3.00 GiB"]);
        assert_eq!([0.0, 90.0, 750.0, 10_800.0].map(time_text), ["0 s", "90 s", "12.5 min", "3 h"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
