//! The report of `loadgen failures` and `loadgen soak`: one HTML file that needs nothing else, with its plots as SVG.

mod chapter;

use std::fmt::Write;

use time::UtcDateTime;

use crate::markup::escape;
use crate::series::Chapter;

const STYLE: &str = include_str!("report_html/report.css");

/// The whole document. `command` is what made it; the date is that of the call. No text is trusted to be free of markup.
pub fn render(title: &str, command: &str, chapters: &[Chapter]) -> String {
    let leading = chapter::leading_classes(chapters);
    let now = UtcDateTime::now();
    let title = escape(title);
    // The policy makes sure that the file needs, and asks for, nothing from outside.
    let mut out = format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
<meta name="color-scheme" content="light dark" />
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{} {:02}:{:02} UTC. Made by:</p>
<pre><code>{}</code></pre>
<p class="outcome">{}</p>
</header>
<main>
"#,
        now.date(),
        now.hour(),
        now.minute(),
        escape(command),
        outcome(chapters)
    );
    out += &summary(chapters);
    for (number, chapter) in chapters.iter().enumerate() {
        out += &chapter::render(number, chapter, &leading);
    }
    out += "</main>\n</body>\n</html>\n";
    out
}

fn outcome(chapters: &[Chapter]) -> String {
    let passed = chapters.iter().filter(|chapter| chapter.passed).count();
    match (chapters.len(), chapters.len() - passed) {
        (0, _) => "Nothing was run.".into(),
        (1, 0) => format!("{} It holds.", mark(true)),
        (all, 0) => format!("{} All {all} hold.", mark(true)),
        (all, failed) => format!("{} {failed} of {all} fell short.", mark(false)),
    }
}

/// Every scenario on a line.
fn summary(chapters: &[Chapter]) -> String {
    if chapters.is_empty() {
        return String::new();
    }
    let mut out =
        "<table class=\"summary\">\n<thead><tr><th scope=\"col\">scenario</th><th scope=\"col\">then</th>\
                   <th scope=\"col\">now</th><th scope=\"col\">result</th></tr></thead>\n<tbody>\n"
            .to_owned();
    for (number, chapter) in chapters.iter().enumerate() {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><a href=\"#chapter-{number}\">{}</a></th><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&chapter.name),
            escape(&chapter.then),
            escape(&chapter.now),
            mark(chapter.passed)
        );
    }
    out += "</tbody>\n</table>\n";
    out
}

/// The result in a word and a colour, never in a colour alone.
fn mark(passed: bool) -> &'static str {
    if passed { r#"<span class="pass">✓ pass</span>"# } else { r#"<span class="fail">✗ fail</span>"# }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markup::assert_well_formed;
    use crate::series::{Finding, Sample};

    /// `count` samples a second apart, in three phases, with a spike of the router class in the middle.
    fn chapter(count: usize) -> Chapter {
        let sample = |index: usize| Sample {
            at_s: index as f64,
            rss_bytes: 9 << 20,
            anon_bytes: 3 << 20,
            live_bytes: 1 << 20,
            live_without_shadow: 1 << 19,
            allocated_from_kernel_bytes: 2 << 20,
            descriptors: 20,
            kernel_sockets: 7,
            classes: vec![
                ("router".into(), 200, if index == count / 2 { 1 << 30 } else { 1 << 16 }),
                ("stream".into(), 0, 0),
                ("<log>".into(), 0, 4096),
            ],
            verdict: if index < count / 3 { "warming".into() } else { "flat".into() },
            phase: ["before", "burst <1>", "after"][(index * 3 / count.max(1)).min(2)].into(),
            ..Sample::default()
        };
        Chapter {
            name: "event<machine>".into(),
            then: "73 MB & more".into(),
            now: "flat".into(),
            passed: true,
            findings: vec![Finding {
                what: "live at the end".into(),
                figure: "12 \"bytes\"".into(),
                bound: "< 1 KiB".into(),
                passed: false,
            }],
            samples: (0..count).map(sample).collect(),
            notes: vec!["seed <42>".into()],
        }
    }

    #[test]
    fn a_report_is_well_formed_however_long_its_series() {
        for counts in [&[][..], &[0], &[1], &[2, 300], &[60_000]] {
            let chapters: Vec<Chapter> = counts.iter().map(|count| chapter(*count)).collect();
            let html = render("Failures & co <1>", "loadgen failures --html 'a<b>'", &chapters);
            assert_well_formed(&html);
            assert!(!html.contains("NaN") && !html.contains("<script") && !html.contains("<log>"));
            assert_eq!(html.matches("<section").count(), chapters.len());
        }
    }

    #[test]
    fn a_long_series_makes_no_huge_report() {
        let html = render("Soak", "loadgen soak", &[chapter(60_000)]);
        assert!(html.len() < 600_000, "{} bytes", html.len());
        assert!(html.contains("16 h"), "the time is in hours");
    }

    #[test]
    fn it_needs_nothing_from_outside() {
        let html = render("Soak", "loadgen soak", &[chapter(10)]);
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_text_is_there_and_escaped() {
        let html = render("T", "C", &[chapter(3)]);
        for text in [
            "event&lt;machine&gt;",
            "73 MB &amp; more",
            "12 &quot;bytes&quot;",
            "&lt; 1 KiB",
            "seed &lt;42&gt;",
        ] {
            assert!(html.contains(text), "{text}");
        }
        assert!(html.contains("burst &lt;1&gt;") && html.contains("warming"), "phases and verdicts");
    }

    #[test]
    fn the_outcome_is_in_words() {
        let with = |passed| Chapter { passed, ..Chapter::default() };
        assert!(outcome(&[with(true)]).contains("It holds"));
        assert!(outcome(&[with(true), with(true)]).contains("All 2 hold"));
        assert!(outcome(&[with(true), with(false)]).contains("1 of 2 fell short"));
        assert_eq!(outcome(&[]), "Nothing was run.");
    }
}
