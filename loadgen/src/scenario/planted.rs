//! The proof that scenarios can fail: each is played with its own fault in the daemon, and must fall short by its own figure.

use crate::series::{Chapter, Finding};

use super::script::{Planted, Scenario};

/// Whether the scenario fell short by the figure of its own.
pub fn is_seen(scenario: &Scenario, chapter: &Chapter) -> bool {
    own_shortfall(scenario, chapter).is_some()
}

/// The finding that the scenario is about, if it fell short.
fn own_shortfall<'a>(scenario: &Scenario, chapter: &'a Chapter) -> Option<&'a Finding> {
    let own = scenario.planted?.own;
    chapter.findings.iter().find(|finding| finding.what == own && !finding.passed)
}

pub fn table(scenarios: &[&Scenario], chapters: &[Chapter]) -> String {
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
    use crate::scenario::vapor;

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
        assert!(table(&[&vapor::SCENARIO], &[chapter(true)]).starts_with("MISSED"));
        assert!(table(&[&vapor::SCENARIO], &[chapter(false)]).starts_with("seen"));
    }
}
