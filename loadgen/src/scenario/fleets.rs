//! `loadgen fleets`: big results and whole fleets, each scenario against a daemon of its own; and `loadgen streams`, one of
//! them with figures of the user's.

use std::time::Duration;

use crate::options::Options;

use super::perform::{Part, perform, play_all, publish, table};
use super::script::Scenario;
use super::stage::REST;
use super::streams::{self, Plan};
use super::{Show, big_command, events, fleet_commands};

pub const ALL: [&Scenario; 7] = [
    &streams::HALF_SLOW,
    &streams::FULL_SPEED,
    &streams::GAPS,
    &streams::STALLS,
    &big_command::SCENARIO,
    &fleet_commands::SCENARIO,
    &events::SCENARIO,
];

/// What the daemon holds is looked at so often: a burst is short.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// `loadgen fleets`. Returns whether all held; with `--planted`, whether those that have a fault fell short by it.
///
/// # Errors
/// As [`play_all`].
pub fn command(options: &Options) -> Result<bool, String> {
    let show = Show::new(options, "fleets.html")?;
    play_all(&show, options, &ALL, "Big results and whole fleets", |part, scale| Part {
        sample_every: SAMPLE_EVERY,
        // Seven rests would be most of a quick run.
        rest: scale.pick(part.rest, Duration::from_millis(500)),
        ..part
    })
}

/// `loadgen streams`. Returns whether all held.
///
/// # Errors
/// As [`command`].
pub fn streams_command(options: &Options) -> Result<bool, String> {
    let show = Show::new(options, "streams.html")?;
    let plan = Plan { routers: options.routers, json_share: options.json_share, ..options.plan };
    let config = format!("router.max_streams = {}\n{}", plan.streams_per_router.max(16), streams::CONFIG);
    let part = Part {
        name: "streams",
        then: streams::HALF_SLOW.then,
        config: &config,
        routers: plan.routers,
        plant: None,
        sample_every: SAMPLE_EVERY,
        rest: REST,
    };
    let chapter = perform(&show, part, |stage| streams::play(stage, &plan))?;
    print!("{}", table(std::slice::from_ref(&chapter)));
    publish(&show, "Streams", std::slice::from_ref(&chapter))?;
    Ok(chapter.passed)
}
