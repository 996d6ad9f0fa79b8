//! `loadgen failures`: each scenario against a daemon of its own, the table, the report; and with `--planted` the proof that
//! each of them can fail.

use std::time::Duration;

use crate::options::Options;

use super::perform::{Part, play_all};
use super::script::Scenario;
use super::{Show, akka, erlang, eventmachine, scala_remote_actors, vapor};

pub const ALL: [&Scenario; 5] = [
    &eventmachine::SCENARIO,
    &scala_remote_actors::SCENARIO,
    &akka::SCENARIO,
    &vapor::SCENARIO,
    &erlang::SCENARIO,
];

const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// `loadgen failures`. Returns whether all held; with `--planted`, whether each fell short for its own reason.
///
/// # Errors
/// As [`play_all`].
pub fn command(options: &Options) -> Result<bool, String> {
    let show = Show::new(options, "failures.html")?;
    play_all(&show, options, &ALL, "The five failures", |part, _| Part { sample_every: SAMPLE_EVERY, ..part })
}
