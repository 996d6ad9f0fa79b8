//! `loadgen failures`: each scenario against a daemon of its own, the table, the report; and with `--planted` the proof that
//! each of them can fail.

use std::time::{Duration, Instant};

use crate::options::Options;
use crate::report_html;
use crate::series::{Chapter, Finding};

use super::judge::mebibytes;
use super::script::{Scale, Scenario};
use super::stage::{Setting, Stage};
use super::{Show, akka, erlang, eventmachine, scala_remote_actors, vapor};

pub const ALL: [&Scenario; 5] = [
    &eventmachine::SCENARIO,
    &scala_remote_actors::SCENARIO,
    &akka::SCENARIO,
    &vapor::SCENARIO,
    &erlang::SCENARIO,
];

/// Plays `scenario`.
///
/// # Errors
/// The daemon does not start; what goes wrong later is in the chapter.
pub fn play(show: &Show, scenario: &Scenario, scale: Scale, planted: bool) -> Result<Chapter, String> {
    let began = Instant::now();
    eprintln!("{}", scenario.name);
    let mut stage = Stage::set(Setting {
        program: show.program.clone(),
        config: format!("log.level = \"warn\"\n{}", scenario.config),
        daemon_log: show
            .daemon_log
            .as_ref()
            .map(|path| path.with_extension(format!("{}.log", scenario.name))),
        plant: planted.then(|| scenario.plant.to_string()),
        seed: show.seed,
        routers: (scenario.routers)(scale),
        sample_every: Duration::from_millis(500),
        on_sample: None,
        stop: show.stop.clone(),
    })?;
    let now = (scenario.play)(&mut stage, scale).unwrap_or_else(|error| {
        stage.finding("the scenario was carried through", error.as_str(), "to its end", false);
        error
    });
    stage.judge_all_looks();
    let mut notes = std::mem::take(&mut stage.notes);
    notes.push(format!(
        "{:.0} s, peak resident {}, {} looks, seed {}",
        began.elapsed().as_secs_f64(),
        mebibytes(stage.peak_rss),
        stage.looks,
        show.seed
    ));
    if !stage.world.refusals.is_empty() {
        notes.push(format!("refusals by code: {:?}", stage.world.refusals));
    }
    let (mut findings, samples) = (std::mem::take(&mut stage.findings), std::mem::take(&mut stage.samples));
    findings.push(stage.close());
    let passed = findings.iter().all(|finding| finding.passed);
    let (name, then) = (scenario.name.to_string(), scenario.then.to_string());
    Ok(Chapter { name, then, now, passed, findings, samples, notes })
}

/// `loadgen failures`. Returns whether all held; with `--planted`, whether each fell short for its own reason.
///
/// # Errors
/// No such scenario, a daemon that does not start, a report that cannot be written.
pub fn command(options: &Options) -> Result<bool, String> {
    let show = Show::new(options, "failures.html")?;
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let chosen =
        ALL.into_iter().filter(|scenario| options.only.as_ref().is_none_or(|name| name == scenario.name));
    let chosen: Vec<&Scenario> = chosen.collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(format!("--only: one of {}", names.join(", ")));
    }
    let mut chapters = Vec::new();
    for scenario in &chosen {
        chapters.push(play(&show, scenario, scale, options.planted)?);
    }
    let title = if options.planted { "The five failures, planted" } else { "The five failures" };
    let html = report_html::render(title, &show.command, &chapters);
    std::fs::write(&show.report, html).map_err(|e| format!("{}: {e}", show.report.display()))?;
    let good = if options.planted {
        print!("{}", planted_table(&chosen, &chapters));
        chosen.iter().zip(&chapters).all(|(scenario, chapter)| own_shortfall(scenario, chapter).is_some())
    } else {
        print!("{}", table(&chapters));
        chapters.iter().all(|chapter| chapter.passed)
    };
    println!("report: {}", show.report.display());
    Ok(good)
}

fn table(chapters: &[Chapter]) -> String {
    let mut text = String::new();
    for chapter in chapters {
        let verdict = if chapter.passed { "pass" } else { "FAIL" };
        text += &format!(
            "{verdict}  {}\n      then: {}\n      now:  {}\n",
            chapter.name, chapter.then, chapter.now
        );
        for finding in chapter.findings.iter().filter(|finding| !finding.passed) {
            text += &format!("      short: {}: {} ({})\n", finding.what, finding.figure, finding.bound);
        }
    }
    text
}

/// The finding that the scenario is about, if it fell short.
fn own_shortfall<'a>(scenario: &Scenario, chapter: &'a Chapter) -> Option<&'a Finding> {
    chapter.findings.iter().find(|finding| finding.what == scenario.own && !finding.passed)
}

fn planted_table(scenarios: &[&Scenario], chapters: &[Chapter]) -> String {
    let mut text = String::new();
    for (scenario, chapter) in scenarios.iter().zip(chapters) {
        text += &match own_shortfall(scenario, chapter) {
            Some(own) => format!(
                "seen    {} under {}: {}: {} ({})\n",
                scenario.name, scenario.plant, own.what, own.figure, own.bound
            ),
            None => format!("MISSED  {} under {}: {}\n", scenario.name, scenario.plant, scenario.own),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter(own_passed: bool) -> Chapter {
        let finding = |what: &str, passed| Finding { what: what.into(), passed, ..Finding::default() };
        let findings = vec![finding("something else", false), finding(vapor::SCENARIO.own, own_passed)];
        Chapter { name: "vapor".into(), findings, ..Chapter::default() }
    }

    #[test]
    fn a_planted_fault_counts_as_seen_only_by_the_figure_of_its_own() {
        assert!(own_shortfall(&vapor::SCENARIO, &chapter(false)).is_some());
        assert!(own_shortfall(&vapor::SCENARIO, &chapter(true)).is_none());
        assert!(planted_table(&[&vapor::SCENARIO], &[chapter(true)]).starts_with("MISSED"));
        assert!(planted_table(&[&vapor::SCENARIO], &[chapter(false)]).starts_with("seen"));
    }

    #[test]
    fn the_table_names_what_fell_short() {
        let text = table(&[chapter(true)]);
        assert!(text.starts_with("FAIL  vapor") && text.contains("short: something else"), "{text}");
    }
}
