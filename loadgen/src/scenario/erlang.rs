//! Erlang's gen_server: a long-lived worker hoards what short work allocated. An hour's worth of calls that carry and build
//! large temporary results, some of them too late for their callers: what is left of each?

use std::time::Duration;

use super::judge::{Shadow, mebibytes};
use super::script::{Planted, Scale, Scenario};
use super::stage::Stage;
use super::way::Way;
use super::world::Calls;

pub const SCENARIO: Scenario = Scenario {
    name: "erlang",
    then: "the worker kept what each call had built, until the VM died",
    planted: Some(Planted { own: FLAT, fault: "HoardReplies" }),
    routers: |scale| scale.pick(50, 16),
    config: "shadow.keep_s = 0\n",
    play,
};

const FLAT: &str = "live bytes between the calls, at the end less the beginning";
/// What one reply hoarded would add is more; a connection that comes or goes in between, less.
const FLAT_BOUND: u64 = 64 << 10;
/// An hour's worth of a site's calls: five a second.
const HOUR_OF_CALLS: u64 = 18_000;

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let ids = stage.world.routers.len() as u32;
    let routers = stage.add_routers(0..ids, |_| {});
    let large = Calls {
        pause: Duration::from_millis(5),
        command_bytes: (1000, 64_000),
        reply_bytes: (16_000, 300_000),
        mute_share: 0.1,
        fail_share: 0.05,
        timeout: Duration::from_millis(1000),
        ..Calls::default()
    };
    let callers = stage.add_callers(scale.pick(96, 24), large);
    let everyone = 0..stage.reactor.len();

    stage.phase("warm-up");
    stage.world.churn = true;
    stage.arrive(routers.clone(), Duration::from_millis(200));
    stage.await_settled(routers, Duration::from_secs(10))?;
    stage.arrive(callers, Duration::from_millis(200));
    stage.run_for(Duration::from_millis(1500))?;
    stage.everyone_leaves(Duration::from_millis(100), &[Way::Fin], Duration::ZERO)?;
    let before = stage.baseline()?;

    stage.world.quiet = false;
    stage.arrive(everyone, Duration::from_millis(200));
    let calls = scale.pick(HOUR_OF_CALLS, 900);
    let done = |stage: &Stage| stage.world.tally.commands + stage.world.tally.timed_out;
    let first = done(stage);
    let timed_out_before = stage.world.tally.timed_out;
    let quarters = 4;
    let mut rests = Vec::new();
    for quarter in 1..=quarters {
        stage.phase(&format!("quarter {quarter} of the hour"));
        stage.world.quiet = false;
        let wanted = first + calls * quarter / quarters;
        if !stage.run_until(Duration::from_secs(60), |stage| done(stage) >= wanted)? {
            return Err(format!("only {} of {calls} calls in time", done(stage) - first));
        }
        stage.hush(Duration::from_secs(15))?;
        rests.push(stage.look()?.sample.live_bytes);
    }
    let figures = rests.iter().map(|bytes| mebibytes(*bytes)).collect::<Vec<_>>().join(", ");
    let grown = rests[rests.len() - 1].saturating_sub(rests[0]);
    let bound = format!("{} KiB", FLAT_BOUND >> 10);
    stage.finding(FLAT, format!("{grown} B ({figures})"), bound, grown <= FLAT_BOUND);
    stage.everyone_leaves(Duration::from_millis(500), &[Way::Fin, Way::Reset], Duration::ZERO)?;
    stage.phase("all have gone");
    stage.nothing_stays(&before, Shadow::Counts)?;
    let timed_out = stage.world.tally.timed_out - timed_out_before;
    Ok(format!(
        "{} calls, {timed_out} of them timed out, {:.1} GB carried: live bytes between the calls {figures}",
        done(stage) - first,
        stage.world.tally.payload_bytes as f64 / 1e9
    ))
}
