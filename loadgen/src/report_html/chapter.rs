//! One scenario of the report: what was found, and its plots over time.

use std::fmt::Write;

use super::mark;
use crate::markup::escape;
use crate::plot::axis::{bytes_text, grouped, time_text};
use crate::plot::{COLOURS, Phase, Plot, Series, Size, Unit};
use crate::series::{Chapter, Finding, Sample};

pub fn render(number: usize, chapter: &Chapter, leading: &[String]) -> String {
    let mut out = format!(
        "<section id=\"chapter-{number}\">\n<h2>{} {}</h2>\n",
        escape(&chapter.name),
        mark(chapter.passed)
    );
    for (label, text) in [("Then", &chapter.then), ("Now", &chapter.now)] {
        if !text.is_empty() {
            let _ = writeln!(out, "<p><strong>{label}:</strong> {}</p>", escape(text));
        }
    }
    out += &findings(&chapter.findings);
    out += &list("notes", &chapter.notes);
    if chapter.samples.is_empty() {
        out += "<p>No samples were taken.</p>\n";
    } else {
        out += &extremes(&chapter.samples);
        out += &plots(&chapter.samples, leading);
    }
    out += "</section>\n";
    out
}

fn findings(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut out = "<table>\n<thead><tr><th scope=\"col\">measured</th><th scope=\"col\">figure</th>\
                   <th scope=\"col\">bound</th><th scope=\"col\">result</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for finding in findings {
        let cells = [&finding.what, &finding.figure, &finding.bound].map(|text| escape(text));
        let [what, figure, bound] = cells;
        let result = mark(finding.passed);
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{what}</th><td>{figure}</td><td>{bound}</td><td>{result}</td></tr>"
        );
    }
    out += "</tbody>\n</table>\n";
    out
}

fn list(class: &str, texts: &[String]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let items: String = texts.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    format!("<ul class=\"{class}\">{items}</ul>\n")
}

type Figure = (&'static str, fn(&Sample) -> u64, Unit);

/// What the kernel and the daemon say in one figure each.
const FIGURES: [Figure; 7] = [
    ("live", |sample| sample.live_bytes, Unit::Bytes),
    ("live without the shadow's", |sample| sample.live_without_shadow, Unit::Bytes),
    ("allocated from the kernel", |sample| sample.allocated_from_kernel_bytes, Unit::Bytes),
    ("resident, anonymous", |sample| sample.anon_bytes, Unit::Bytes),
    ("resident", |sample| sample.rss_bytes, Unit::Bytes),
    ("descriptors", |sample| sample.descriptors, Unit::Count),
    ("kernel sockets", |sample| sample.kernel_sockets, Unit::Count),
];

/// The plots' main figures as a table, for eyes that need numbers.
fn extremes(samples: &[Sample]) -> String {
    let mut out = "<table class=\"figures\">\n<thead><tr><th scope=\"col\">over time</th><th scope=\"col\">first</th>\
                   <th scope=\"col\">last</th><th scope=\"col\">least</th><th scope=\"col\">most</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for (name, figure, unit) in FIGURES {
        let text = |value: Option<u64>| match unit {
            Unit::Bytes => bytes_text(value.unwrap_or(0)),
            Unit::Count => grouped(value.unwrap_or(0)),
        };
        let all = || samples.iter().map(figure);
        let cells =
            [samples.first().map(figure), samples.last().map(figure), all().min(), all().max()].map(text);
        let _ = writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", cells.join("</td><td>"));
    }
    out += "</tbody>\n</table>\n";
    out
}

fn plots(samples: &[Sample], leading: &[String]) -> String {
    let times: Vec<f64> = samples.iter().map(|sample| sample.at_s).collect();
    let phases = runs(samples, |sample| &sample.phase);
    let verdicts = runs(samples, |sample| &sample.verdict);
    let plot = |title, unit| Plot { title, times: &times, phases: &phases, unit, size: Size::Wide };
    let line = |index: usize, name: &str, colour, dashed| Series {
        name: name.into(),
        values: samples.iter().map(|sample| (FIGURES[index].1)(sample) as f64).collect(),
        colour,
        dashed,
    };
    let mut out = plot("Memory: live, allocated from the kernel, resident", Unit::Bytes).lines(&[
        line(4, "resident", 2, false),
        line(3, "resident, anonymous", 2, true),
        line(2, "allocated from the kernel", 1, false),
        line(0, "live", 0, false),
        line(1, "live without the shadow's", 0, true),
    ]);
    out += &plot("Live heap by class, stacked", Unit::Bytes).stacked(&heap_by_class(samples, leading));
    out += &objects(samples, &times, &phases);
    out += &plot("Descriptors and established sockets", Unit::Count)
        .lines(&[line(5, "descriptors", 1, false), line(6, "established, by the kernel", 0, true)]);
    out += &spans("Phases", "ol", &phases);
    out += &spans("The daemon's verdict", "ul", &verdicts);
    out
}

/// The classes that hold most of the heap at some time of some chapter, so many that each has a colour of its own in the
/// whole report; the rest share the last colour.
pub fn leading_classes(chapters: &[Chapter]) -> Vec<String> {
    let mut shares: Vec<(String, f64)> = Vec::new();
    for chapter in chapters {
        let most =
            |bytes: &dyn Fn(&Sample) -> u64| chapter.samples.iter().map(bytes).max().unwrap_or(0) as f64;
        let total = most(&|sample| sample.classes.iter().map(|class| class.2).sum()).max(1.0);
        for (index, (name, ..)) in
            chapter.samples.first().map_or(&[][..], |sample| &sample.classes).iter().enumerate()
        {
            let share = most(&|sample| sample.classes.get(index).map_or(0, |class| class.2)) / total;
            match shares.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = known.max(share),
                None => shares.push((name.clone(), share)),
            }
        }
    }
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares.into_iter().take(COLOURS - 1).map(|(name, _)| name).collect()
}

fn heap_by_class(samples: &[Sample], leading: &[String]) -> Vec<Series> {
    let is_leading = |name: &String| leading.contains(name);
    let sum = |named: &dyn Fn(&String) -> bool| -> Vec<f64> {
        let of = |sample: &Sample| {
            sample.classes.iter().filter(|class| named(&class.0)).map(|class| class.2).sum()
        };
        samples
            .iter()
            .map(|sample| {
                let bytes: u64 = of(sample);
                bytes as f64
            })
            .collect()
    };
    let mut stack: Vec<Series> = leading
        .iter()
        .enumerate()
        .map(|(colour, name)| Series {
            name: name.clone(),
            values: sum(&|class| class == name),
            colour,
            dashed: false,
        })
        .collect();
    let rest: Vec<&str> = samples
        .first()
        .map_or(&[][..], |sample| &sample.classes)
        .iter()
        .map(|class| &class.0)
        .filter(|name| !is_leading(name))
        .map(String::as_str)
        .collect();
    if !rest.is_empty() {
        let values = sum(&|class| !is_leading(class));
        stack.push(Series { name: rest.join(", "), values, colour: COLOURS - 1, dashed: false });
    }
    stack
}

/// A small plot for each class that had an object at any time, each with a scale of its own.
fn objects(samples: &[Sample], times: &[f64], phases: &[Phase]) -> String {
    let mut out = "<h3>Live objects by class</h3>\n<div class=\"smalls\">\n".to_owned();
    let mut never = Vec::new();
    for (index, (name, ..)) in samples.first().map_or(&[][..], |sample| &sample.classes).iter().enumerate() {
        let live = |sample: &Sample| sample.classes.get(index).map_or(0, |class| class.1);
        let most = samples.iter().map(live).max().unwrap_or(0);
        if most == 0 {
            never.push(escape(name));
            continue;
        }
        let last = samples.last().map_or(0, live);
        let title = format!("{name}: {} at the end, {} at most", grouped(last), grouped(most));
        let values = samples.iter().map(|sample| live(sample) as f64).collect();
        let plot = Plot { title: &title, times, phases, unit: Unit::Count, size: Size::Small };
        out += &plot.lines(&[Series { name: name.clone(), values, colour: 0, dashed: false }]);
    }
    out += "</div>\n";
    if !never.is_empty() {
        let _ = writeln!(out, "<p class=\"never\">Never any: {}.</p>", never.join(", "));
    }
    out
}

/// From each change of a text to the next.
fn runs(samples: &[Sample], text: impl Fn(&Sample) -> &String) -> Vec<Phase> {
    let mut runs: Vec<Phase> = Vec::new();
    for sample in samples {
        if let Some(run) = runs.last_mut() {
            run.to_s = sample.at_s;
            if run.name == *text(sample) {
                continue;
            }
        }
        runs.push(Phase { name: text(sample).clone(), from_s: sample.at_s, to_s: sample.at_s });
    }
    if runs.iter().all(|run| run.name.is_empty()) {
        runs.clear();
    }
    runs
}

/// The runs in words, numbered in an `ol` as the plots number them.
fn spans(title: &str, tag: &str, runs: &[Phase]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let mut out = format!("<h3>{title}</h3>\n<{tag} class=\"spans\">\n");
    for run in runs {
        let name = if run.name.is_empty() { "–".into() } else { escape(&run.name) };
        let _ = writeln!(
            out,
            "<li>{name} <span class=\"span\">({} to {})</span></li>",
            time_text(run.from_s),
            time_text(run.to_s)
        );
    }
    let _ = writeln!(out, "</{tag}>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, phase: &str, classes: &[(&str, u64, u64)]) -> Sample {
        let classes = classes.iter().map(|(name, live, heap)| ((*name).into(), *live, *heap)).collect();
        Sample { at_s, phase: phase.into(), classes, ..Sample::default() }
    }

    #[test]
    fn a_run_lasts_until_the_next_begins() {
        let samples =
            [sample(0.0, "a", &[]), sample(1.0, "a", &[]), sample(2.0, "b", &[]), sample(3.0, "a", &[])];
        let runs = runs(&samples, |sample| &sample.phase);
        let spans: Vec<_> = runs.iter().map(|run| (run.name.as_str(), run.from_s, run.to_s)).collect();
        assert_eq!(spans, [("a", 0.0, 2.0), ("b", 2.0, 3.0), ("a", 3.0, 3.0)]);
        assert!(super::runs(&[sample(0.0, "", &[])], |sample| &sample.phase).is_empty());
    }

    #[test]
    fn a_class_that_leads_anywhere_has_a_colour_everywhere() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let classes: Vec<(&str, u64, u64)> =
            names.iter().enumerate().map(|(index, name)| (*name, 0, 1000 - index as u64)).collect();
        let chapter = |classes: &[(&str, u64, u64)]| Chapter {
            samples: vec![sample(0.0, "", classes), sample(1.0, "", classes)],
            ..Chapter::default()
        };
        let chapters = [chapter(&classes), chapter(&[("i", 0, 7)])];
        let leading = leading_classes(&chapters);
        assert_eq!(leading, ["i", "a", "b", "c", "d", "e", "f"]);
        let stack = heap_by_class(&chapters[0].samples, &leading);
        assert_eq!(stack.last().map(|series| series.name.as_str()), Some("g, h"));
        let total: f64 = stack.iter().map(|series| series.values[1]).sum();
        assert_eq!(total, classes.iter().map(|class| class.2).sum::<u64>() as f64, "nothing is left out");
    }

    #[test]
    fn a_class_without_objects_is_named_instead_of_plotted() {
        let samples = [sample(0.0, "", &[("router", 2, 0), ("stream", 0, 0)])];
        let html = objects(&samples, &[0.0], &[]);
        assert!(
            html.contains("router: 2 at the end, 2 at most") && html.contains("Never any: stream."),
            "{html}"
        );
        assert_eq!(html.matches("<figure").count(), 1);
    }
}
