//! `loadgen fleets`: big results and whole fleets, each scenario against a daemon of its own; and `loadgen streams`, one of
//! them with figures of the user's.

use std::time::Duration;

use crate::options::Options;

use super::perform::{Part, choose, perform, publish, table};
use super::script::{Scale, Scenario};
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

/// `loadgen fleets`. Returns whether all held.
///
/// # Errors
/// No such scenario, a daemon that does not start, a report that cannot be written.
pub fn command(options: &Options) -> Result<bool, String> {
    let show = Show::new(options, "fleets.html")?;
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let mut chapters = Vec::new();
    for scenario in choose(&ALL, options.only.as_deref())? {
        let part = Part { sample_every: SAMPLE_EVERY, ..Part::of(scenario, scale) };
        chapters.push(perform(&show, part, |stage| (scenario.play)(stage, scale))?);
    }
    print!("{}", table(&chapters));
    publish(&show, "Big results and whole fleets", &chapters)?;
    Ok(chapters.iter().all(|chapter| chapter.passed))
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
    };
    let chapter = perform(&show, part, |stage| streams::play(stage, &plan))?;
    print!("{}", table(std::slice::from_ref(&chapter)));
    publish(&show, "Streams", std::slice::from_ref(&chapter))?;
    Ok(chapter.passed)
}
