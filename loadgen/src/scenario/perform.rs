//! Scenarios from their beginning to their chapters of the report: a daemon of its own, the play, what all are held against.

use std::time::{Duration, Instant};

use crate::options::Options;
use crate::report_html;
use crate::series::Chapter;

use super::judge::mebibytes;
use super::script::{Scale, Scenario};
use super::stage::{REST, Setting, Stage};
use super::{Show, planted};

/// What is played, and what the stage is set for.
pub struct Part<'a> {
    pub name: &'a str,
    pub then: &'a str,
    pub config: &'a str,
    pub routers: usize,
    /// The daemon's fault.
    pub plant: Option<&'a str>,
    pub sample_every: Duration,
    pub rest: Duration,
}

impl Part<'_> {
    pub fn of(scenario: &Scenario, scale: Scale) -> Self {
        Self {
            name: scenario.name,
            then: scenario.then,
            config: scenario.config,
            routers: (scenario.routers)(scale),
            plant: None,
            sample_every: Duration::from_secs(1),
            rest: REST,
        }
    }
}

/// Sets the stage for `part` and plays it.
///
/// # Errors
/// The daemon does not start; what goes wrong later is in the chapter.
pub fn perform(
    show: &Show,
    part: Part<'_>,
    play: impl FnOnce(&mut Stage) -> Result<String, String>,
) -> Result<Chapter, String> {
    let began = Instant::now();
    eprintln!("{}", part.name);
    let mut stage = Stage::set(Setting {
        program: show.program.clone(),
        config: format!("log.level = \"warn\"\n{}", part.config),
        daemon_log: show.daemon_log.as_ref().map(|path| path.with_extension(format!("{}.log", part.name))),
        plant: part.plant.map(String::from),
        seed: show.seed,
        routers: part.routers,
        sample_every: part.sample_every,
        rest: part.rest,
        on_sample: None,
        stop: show.stop.clone(),
    })?;
    let now = play(&mut stage).unwrap_or_else(|error| {
        stage.finding("the scenario was carried through", error.as_str(), "to its end", false);
        error
    });
    stage.judge_all_looks();
    let mut notes = std::mem::take(&mut stage.notes);
    notes.push(format!(
        "{:.0} s, peak resident {}, {} looks, seed {}; the longest turn: {:.0} ms of the daemon's loop, {} ms of ours",
        began.elapsed().as_secs_f64(),
        mebibytes(stage.peak_rss),
        stage.looks,
        show.seed,
        stage.daemon_longest_ms,
        stage.longest_turn.as_millis()
    ));
    if !stage.world.refusals.is_empty() {
        notes.push(format!("refusals by code: {:?}", stage.world.refusals));
    }
    let (mut findings, samples) = (std::mem::take(&mut stage.findings), std::mem::take(&mut stage.samples));
    findings.push(stage.close());
    let passed = findings.iter().all(|finding| finding.passed);
    let (name, then) = (part.name.to_string(), part.then.to_string());
    Ok(Chapter { name, then, now, passed, findings, samples, notes })
}

/// Plays those of `all` that `options` names, each on a stage that is set `with` changes, prints the table and writes the report. Returns whether all held; with
/// `--planted` only those are played that have a fault to plant, and it is whether each of them fell short by its own figure.
///
/// # Errors
/// No such scenario, a daemon that does not start, a report that cannot be written.
pub fn play_all(
    show: &Show,
    options: &Options,
    all: &[&Scenario],
    title: &str,
    with: impl for<'a> Fn(Part<'a>, Scale) -> Part<'a>,
) -> Result<bool, String> {
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let mut chosen = choose(all, options.only.as_deref())?;
    if options.planted {
        chosen.retain(|scenario| scenario.planted.is_some());
    }
    let mut chapters = Vec::new();
    for scenario in &chosen {
        let plant = scenario.planted.filter(|_| options.planted).map(|planted| planted.fault);
        let part = Part { plant, ..with(Part::of(scenario, scale), scale) };
        chapters.push(perform(show, part, |stage| (scenario.play)(stage, scale))?);
    }
    let good = if options.planted {
        print!("{}", planted::table(&chosen, &chapters));
        chosen.iter().zip(&chapters).all(|(scenario, chapter)| planted::is_seen(scenario, chapter))
    } else {
        print!("{}", table(&chapters));
        chapters.iter().all(|chapter| chapter.passed)
    };
    let title = if options.planted { format!("{title}, planted") } else { title.to_string() };
    publish(show, &title, &chapters)?;
    Ok(good)
}

/// Those of `all` that `only` names; all of them without it.
///
/// # Errors
/// No such scenario.
fn choose<'a>(all: &[&'a Scenario], only: Option<&str>) -> Result<Vec<&'a Scenario>, String> {
    let chosen = all.iter().filter(|scenario| only.is_none_or(|name| name == scenario.name));
    let chosen: Vec<&Scenario> = chosen.copied().collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
        return Err(format!("--only: one of {}", names.join(", ")));
    }
    Ok(chosen)
}

/// Writes the report.
///
/// # Errors
/// It cannot be written.
pub fn publish(show: &Show, title: &str, chapters: &[Chapter]) -> Result<(), String> {
    let html = report_html::render(title, &show.command, chapters);
    std::fs::write(&show.report, html).map_err(|e| format!("{}: {e}", show.report.display()))?;
    println!("report: {}", show.report.display());
    Ok(())
}

pub fn table(chapters: &[Chapter]) -> String {
    let mut text = String::new();
    for chapter in chapters {
        let verdict = if chapter.passed { "pass" } else { "FAIL" };
        text += &format!(
            "{verdict}  {}\n      then: {}\n      now:  {}\n",
            chapter.name, chapter.then, chapter.now
        );
        for note in &chapter.notes {
            text += &format!("      note: {note}\n");
        }
        for finding in chapter.findings.iter().filter(|finding| !finding.passed) {
            text += &format!("      short: {}: {} ({})\n", finding.what, finding.figure, finding.bound);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Finding;

    #[test]
    fn the_table_names_what_fell_short() {
        let finding = |what: &str, passed| Finding { what: what.into(), passed, ..Finding::default() };
        let findings = vec![finding("something else", false), finding("its own", true)];
        let text = table(&[Chapter { name: "vapor".into(), findings, ..Chapter::default() }]);
        assert!(text.starts_with("FAIL  vapor") && text.contains("short: something else"), "{text}");
        assert!(!text.contains("its own"));
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let all = super::super::failures::ALL;
        assert_eq!(choose(&all, None).unwrap().len(), all.len());
        assert_eq!(choose(&all, Some("akka")).unwrap().len(), 1);
        assert!(choose(&all, Some("none")).err().unwrap().contains("akka, vapor"));
    }
}
