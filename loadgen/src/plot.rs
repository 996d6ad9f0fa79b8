//! Plots of figures over time as SVG inside HTML: lines and stacked areas, with phases of the run behind them.
//!
//! Colours are classes `c0` to `c7` of the page's style sheet, so that a plot is readable in dark and light mode and on paper.

pub mod axis;
mod thin;

use std::fmt::Write;

use crate::markup::escape;
use axis::Axis;

/// How many colours the style sheet has; `c7` is grey, for the rest.
pub const COLOURS: usize = 8;

/// What is plotted. Each series has a value for each of the plot's times.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub values: Vec<f64>,
    /// Less than [`COLOURS`].
    pub colour: usize,
    pub dashed: bool,
}

/// What the run was doing, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub name: String,
    pub from_s: f64,
    pub to_s: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As wide as the page, with the phases' names.
    Wide,
    /// One of many that stand side by side.
    Small,
}

/// What the plots of one chapter have in common.
#[derive(Clone, Copy, Debug)]
pub struct Plot<'a> {
    pub title: &'a str,
    /// Seconds since the start, which never go back.
    pub times: &'a [f64],
    pub phases: &'a [Phase],
    pub unit: Unit,
    pub size: Size,
}

/// The plotting area within the picture, in pixels at its natural size.
struct Area {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

const WIDE: Area = Area { width: 900.0, height: 280.0, left: 74.0, right: 888.0, top: 24.0, bottom: 252.0 };
const SMALL: Area = Area { width: 286.0, height: 120.0, left: 52.0, right: 278.0, top: 8.0, bottom: 98.0 };

/// What a character of the labels takes on average, in pixels.
const CHARACTER: f64 = 6.4;

impl Plot<'_> {
    /// A figure with a line for each series. Every spike is visible, however long the series.
    pub fn lines(&self, series: &[Series]) -> String {
        let most = most(series.iter().flat_map(|series| &series.values));
        let scales = self.scales(most);
        let mut body = String::new();
        for series in series {
            let points = scales.points(self.times, &series.values, &[&series.values]);
            let dash = if series.dashed { " dashed" } else { "" };
            let _ = write!(body, r#"<polyline class="line c{}{dash}" points="{points}" />"#, series.colour);
            if let (1, Some(at), Some(value)) = (self.times.len(), self.times.first(), series.values.first())
            {
                // A line through one point shows nothing.
                let (x, y) = (scales.x(*at), scales.y(*value));
                let _ = write!(
                    body,
                    r#"<circle class="dot c{}" cx="{x:.1}" cy="{y:.1}" r="3" />"#,
                    series.colour
                );
            }
        }
        self.figure(&scales, &body, series.iter())
    }

    /// A figure with the series on top of each other, the first at the bottom.
    pub fn stacked(&self, series: &[Series]) -> String {
        let mut upper = vec![0.0; self.times.len()];
        let mut edges = Vec::new();
        for series in series {
            upper.iter_mut().zip(&series.values).for_each(|(sum, value)| *sum += value);
            edges.push(upper.clone());
        }
        let scales = self.scales(most(&upper));
        let extremes: Vec<&[f64]> =
            series.iter().map(|series| &*series.values).chain([upper.as_slice()]).collect();
        let mut body = String::new();
        // From the top down, each to the bottom: the next one covers what is not its own.
        for (series, edge) in series.iter().zip(&edges).rev() {
            let points = scales.points(self.times, edge, &extremes);
            let (floor, from, to) = (scales.area.bottom, scales.x(scales.time.from), scales.x(self.end()));
            let _ = write!(
                body,
                r#"<polygon class="area c{}" points="{from:.1},{floor:.1} {points} {to:.1},{floor:.1}" />"#,
                series.colour
            );
        }
        self.figure(&scales, &body, series.iter().rev())
    }

    fn end(&self) -> f64 {
        self.times.last().copied().unwrap_or(0.0)
    }

    fn scales(&self, most: f64) -> Scales {
        let (area, across, up) = match self.size {
            Size::Wide => (&WIDE, 9, 4),
            Size::Small => (&SMALL, 3, 2),
        };
        let value = match self.unit {
            Unit::Bytes => axis::bytes(most, up),
            Unit::Count => axis::count(most, up),
        };
        Scales {
            area,
            time: axis::time(self.times.first().copied().unwrap_or(0.0), self.end(), across),
            value,
        }
    }

    fn figure<'s>(&self, scales: &Scales, body: &str, series: impl Iterator<Item = &'s Series>) -> String {
        let Area { width, height, .. } = scales.area;
        let title = escape(self.title);
        let class = if self.size == Size::Wide { "wide" } else { "small" };
        let mut out = format!(r#"<figure class="{class}"><figcaption>{title}</figcaption>"#);
        if self.size == Size::Wide {
            out += &legend(series);
        }
        let _ = write!(
            out,
            r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}"><title>{title}</title>"#
        );
        out += &self.bands(scales);
        out += &scales.grid();
        out += body;
        out += &self.names(scales);
        out += "</svg></figure>\n";
        out
    }

    /// The phases as bands behind everything.
    fn bands(&self, scales: &Scales) -> String {
        let mut out = String::new();
        let Area { top, bottom, .. } = scales.area;
        for (index, phase) in self.phases.iter().enumerate() {
            let (from, to) = (scales.x(phase.from_s), scales.x(phase.to_s));
            let (width, height) = (to - from, bottom - top);
            let name = escape(&phase.name);
            let _ = write!(
                out,
                r#"<rect class="phase{}" x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"><title>{name}</title></rect>"#,
                index % 2
            );
        }
        out
    }

    /// The phases' names above the plot. Where a name has no room, the number that it has in the list of phases stands
    /// there; where many are narrow, not every number.
    fn names(&self, scales: &Scales) -> String {
        let mut out = String::new();
        if self.size == Size::Small {
            return out;
        }
        let mut free_from = scales.area.left;
        for (index, phase) in self.phases.iter().enumerate() {
            let (from, to) = (scales.x(phase.from_s), scales.x(phase.to_s));
            let half = |text: &str| text.chars().count() as f64 * CHARACTER / 2.0;
            let (x, y) = ((from + to) / 2.0, scales.area.top - 8.0);
            let number = (index + 1).to_string();
            let text = if 2.0 * half(&phase.name) <= to - from { &phase.name } else { &number };
            if x - half(text) < free_from {
                continue;
            }
            free_from = x + half(text) + CHARACTER;
            let _ = write!(out, r#"<text class="middle" x="{x:.1}" y="{y:.1}">{}</text>"#, escape(text));
        }
        out
    }
}

/// From times and values to pixels.
struct Scales {
    area: &'static Area,
    time: Axis,
    value: Axis,
}

impl Scales {
    fn x(&self, time: f64) -> f64 {
        let Area { left, right, .. } = *self.area;
        left + (time - self.time.from) / (self.time.to - self.time.from) * (right - left)
    }

    fn y(&self, value: f64) -> f64 {
        let Area { top, bottom, .. } = *self.area;
        bottom - (value - self.value.from) / (self.value.to - self.value.from) * (bottom - top)
    }

    /// The polyline through `values`, at the times that show the extremes of every one of `extremes`.
    fn points(&self, times: &[f64], values: &[f64], extremes: &[&[f64]]) -> String {
        let mut out = String::new();
        for index in thin::visible(times, extremes, (self.area.right - self.area.left) as usize) {
            let (x, y) = (self.x(times[index]), self.y(values[index]));
            let _ = write!(out, "{}{x:.1},{y:.1}", if out.is_empty() { "" } else { " " });
        }
        out
    }

    fn grid(&self) -> String {
        let Area { left, right, bottom, .. } = *self.area;
        let mut out = String::new();
        for (value, label) in &self.value.ticks {
            let y = self.y(*value);
            let _ = write!(
                out,
                r#"<path class="grid" d="M{left:.1},{y:.1}H{right:.1}" /><text class="end" x="{:.1}" y="{:.1}">{label}</text>"#,
                left - 6.0,
                y + 4.0
            );
        }
        for (time, label) in &self.time.ticks {
            let x = self.x(*time);
            // The last one would be cut by the picture's edge.
            let (class, at) = if x > right - 14.0 { ("end", right + 4.0) } else { ("middle", x) };
            let _ = write!(
                out,
                r#"<path class="tick" d="M{x:.1},{bottom:.1}v4" /><text class="{class}" x="{at:.1}" y="{:.1}">{label}</text>"#,
                bottom + 17.0
            );
        }
        let _ = write!(out, r#"<path class="tick" d="M{left:.1},{bottom:.1}H{right:.1}" />"#);
        out
    }
}

fn legend<'s>(series: impl Iterator<Item = &'s Series>) -> String {
    let mut out = r#"<ul class="legend">"#.to_owned();
    for series in series {
        let dash = if series.dashed { " dashed" } else { "" };
        let _ = write!(
            out,
            r#"<li><svg viewBox="0 0 24 10" aria-hidden="true"><path class="swatch c{}{dash}" d="M1,5H23" /></svg>{}</li>"#,
            series.colour,
            escape(&series.name)
        );
    }
    out += "</ul>";
    out
}

fn most<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markup::assert_well_formed;

    fn plot<'a>(times: &'a [f64], phases: &'a [Phase]) -> Plot<'a> {
        Plot { title: "a < b", times, phases, unit: Unit::Bytes, size: Size::Wide }
    }

    fn series(values: &[f64]) -> Series {
        Series { name: "R&D".into(), values: values.to_vec(), colour: 1, dashed: true }
    }

    #[test]
    fn no_sample_and_one_sample_are_plots_too() {
        for times in [&[][..], &[7.0], &[1.0, 2.0]] {
            let values: Vec<f64> = times.iter().map(|time| time * 1e6).collect();
            for size in [Size::Wide, Size::Small] {
                let plot = Plot { size, ..plot(times, &[]) };
                for svg in [plot.lines(&[series(&values)]), plot.stacked(&[series(&values), series(&values)])]
                {
                    assert_well_formed(&svg);
                    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                }
            }
        }
        assert!(plot(&[7.0], &[]).lines(&[series(&[1.0])]).contains("<circle"));
    }

    #[test]
    fn a_spike_reaches_its_height_in_a_long_series() {
        let times: Vec<f64> = (0..60_000).map(f64::from).collect();
        let mut values = vec![0.0; times.len()];
        values[31_000] = 4096.0;
        let mut steady = series(&values);
        steady.values.fill(2048.0);
        let top = format!(",{:.1} ", WIDE.top);
        let lines = plot(&times, &[]).lines(&[series(&values)]);
        // 4096 B of a scale that ends at 4 KiB.
        assert!(lines.contains(&top) && lines.len() < 60_000, "{} bytes", lines.len());
        // In a stack a series' own spike is seen too: together they end at 6 KiB.
        let stacked = plot(&times, &[]).stacked(&[steady, series(&values)]);
        assert!(stacked.contains(&top) && stacked.len() < 120_000, "{} bytes", stacked.len());
    }

    #[test]
    fn a_phase_without_room_for_its_name_has_its_number() {
        let phase = |name: &str, from_s, to_s| Phase { name: name.into(), from_s, to_s };
        let phases =
            [phase("quiet <1>", 0.0, 50.0), phase("a long name", 50.0, 53.0), phase("", 53.0, 100.0)];
        let svg = plot(&[0.0, 100.0], &phases).lines(&[series(&[1.0, 2.0])]);
        assert_well_formed(&svg);
        assert!(svg.contains(">quiet &lt;1&gt;</text>"), "{svg}");
        assert!(svg.contains(">2</text>") && !svg.contains(">a long name</text>"), "{svg}");
    }

    #[test]
    fn all_that_is_drawn_is_within_the_picture() {
        let times = [3.0, 90.0, 4000.0];
        let svg = plot(&times, &[]).lines(&[series(&[1.0, 5e9, 0.0])]);
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("points");
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!(
                (WIDE.left..=WIDE.right).contains(&x) && (WIDE.top..=WIDE.bottom).contains(&y),
                "{point}"
            );
        }
    }
}
