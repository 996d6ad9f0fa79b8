//! `loadgen failures`: each scenario against a daemon of its own, the table, the report; and with `--planted` the proof that
//! each of them can fail.

use crate::options::Options;
use crate::series::{Chapter, Finding};

use super::perform::{Part, choose, perform, publish, table};
use super::script::{Planted, Scale, Scenario};
use super::{Show, akka, erlang, eventmachine, scala_remote_actors, vapor};

pub const ALL: [&Scenario; 5] = [
    &eventmachine::SCENARIO,
    &scala_remote_actors::SCENARIO,
    &akka::SCENARIO,
    &vapor::SCENARIO,
    &erlang::SCENARIO,
];

/// `loadgen failures`. Returns whether all held; with `--planted`, whether each fell short for its own reason.
///
/// # Errors
/// No such scenario, a daemon that does not start, a report that cannot be written.
pub fn command(options: &Options) -> Result<bool, String> {
    let show = Show::new(options, "failures.html")?;
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let chosen = choose(&ALL, options.only.as_deref())?;
    let mut chapters = Vec::new();
    for scenario in &chosen {
        let plant = scenario.planted.filter(|_| options.planted).map(|planted| planted.fault);
        let part = Part { plant, ..Part::of(scenario, scale) };
        chapters.push(perform(&show, part, |stage| (scenario.play)(stage, scale))?);
    }
    let title = if options.planted { "The five failures, planted" } else { "The five failures" };
    let good = if options.planted {
        print!("{}", planted_table(&chosen, &chapters));
        chosen.iter().zip(&chapters).all(|(scenario, chapter)| own_shortfall(scenario, chapter).is_some())
    } else {
        print!("{}", table(&chapters));
        chapters.iter().all(|chapter| chapter.passed)
    };
    publish(&show, title, &chapters)?;
    Ok(good)
}

/// The finding that the scenario is about, if it fell short.
fn own_shortfall<'a>(scenario: &Scenario, chapter: &'a Chapter) -> Option<&'a Finding> {
    let own = scenario.planted?.own;
    chapter.findings.iter().find(|finding| finding.what == own && !finding.passed)
}

fn planted_table(scenarios: &[&Scenario], chapters: &[Chapter]) -> String {
    let mut text = String::new();
    for (scenario, chapter) in scenarios.iter().zip(chapters) {
        let Some(Planted { own, fault }) = scenario.planted else { continue };
        text += &match own_shortfall(scenario, chapter) {
            Some(short) => format!(
                "seen    {} under {fault}: {own}: {} ({})\n",
                scenario.name, short.figure, short.bound
            ),
            None => format!("MISSED  {} under {fault}: {own}\n", scenario.name),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter(own_passed: bool) -> Chapter {
        let finding = |what: &str, passed| Finding { what: what.into(), passed, ..Finding::default() };
        let findings =
            vec![finding("something else", false), finding(vapor::SCENARIO.planted.unwrap().own, own_passed)];
        Chapter { name: "vapor".into(), findings, ..Chapter::default() }
    }

    #[test]
    fn a_planted_fault_counts_as_seen_only_by_the_figure_of_its_own() {
        assert!(own_shortfall(&vapor::SCENARIO, &chapter(false)).is_some());
        assert!(own_shortfall(&vapor::SCENARIO, &chapter(true)).is_none());
        assert!(planted_table(&[&vapor::SCENARIO], &[chapter(true)]).starts_with("MISSED"));
        assert!(planted_table(&[&vapor::SCENARIO], &[chapter(false)]).starts_with("seen"));
    }
}
