//! EventMachine: a subclass overrode `unbind` and so skipped the parent's release. 200 routers and their watchers coming
//! and going, some without FIN: what does each of them leave behind?

use std::ops::Range;
use std::time::Duration;

use crate::watcher::Kind;

use super::client::Client;
use super::judge::{LIVE, Shadow, mebibytes};
use super::router::Emit;
use super::script::{Planted, Scale, Scenario};
use super::stage::Stage;
use super::way::Way;
use super::world::Calls;

pub const SCENARIO: Scenario = Scenario {
    name: "eventmachine",
    then: "200 routers: 73 MB grew to 3.47 GB in 30 h",
    planted: Some(Planted { own: LIVE, fault: "LeakConnection" }),
    routers: |scale| scale.pick(200, 60),
    config: "\
router.heartbeat.interval_s = 1
router.heartbeat.timeout_s = 1
websocket.app.heartbeat.interval_s = 1
websocket.app.heartbeat.timeout_s = 1
websocket.page.heartbeat.interval_s = 1
websocket.page.heartbeat.timeout_s = 1
",
    play,
};

/// A little longer than the heartbeat takes to find out.
const FROZEN_FOR: Duration = Duration::from_secs(4);
const WAYS: [Way; 5] = [Way::Farewell, Way::Fin, Way::Fin, Way::Reset, Way::Freeze];

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let routers = engage(stage, scale);
    stage.phase("warm-up");
    round(stage, &routers, Duration::from_secs(2))?;
    let before = stage.baseline()?;
    let gone_before = cut_by_heartbeat(&before);
    let frozen_before = stage.world.tally.frozen_routers;
    let connections_before = stage.world.tally.connections;
    for number in 1..=scale.pick(5, 1) {
        stage.phase(&format!("round {number}"));
        round(stage, &routers, scale.pick(Duration::from_secs(5), Duration::from_secs(4)))?;
    }
    stage.phase("all have gone");
    let after = stage.nothing_stays(&before, Shadow::Stays)?;
    let frozen = stage.world.tally.frozen_routers - frozen_before;
    let cut = cut_by_heartbeat(&after) - gone_before;
    stage.finding(
        "routers that vanished without FIN, cut by the daemon itself",
        format!("{cut} of {frozen}"),
        "nine in ten; the rest was written to in its last second, and so seemed alive",
        cut * 10 >= frozen * 9,
    );
    stage.notes.push(format!(
        "vanished without FIN: a process that stops (it neither reads nor answers, its kernel goes on acknowledging; no \
         network namespaces are needed), and RST: {}",
        stage.world.tally.vanished_reset
    ));
    let connections = stage.world.tally.connections - connections_before;
    Ok(format!(
        "{} live before and {} after {connections} connections, {frozen} of them routers that vanished",
        mebibytes(before.sample.live_without_shadow),
        mebibytes(after.sample.live_without_shadow)
    ))
}

fn cut_by_heartbeat(look: &crate::observer::Look) -> u64 {
    let reasons = &look.census["unbound_by_reason"]["router"];
    ["heartbeat_timeout", "keepalive", "slow_consumer"]
        .iter()
        .map(|reason| reasons[*reason].as_u64().unwrap_or(0))
        .sum()
}

/// The whole cast, not connected. Returns the routers' slots.
fn engage(stage: &mut Stage, scale: Scale) -> Range<usize> {
    let ms = Duration::from_millis;
    let emit = Emit { every: Some(ms(250)), ..Emit::default() };
    let routers = stage.add_routers(0..stage.world.routers.len() as u32, |router| {
        router.emit = emit;
        router.frozen_for = FROZEN_FOR;
    });
    let calls = Calls::default();
    stage.add_callers(scale.pick(20, 6), Calls { pause: ms(30), fail_share: 0.05, ..calls });
    let anew = Calls { pause: ms(50), per_connection: Some(2), hang_up_share: 0.05, ..calls };
    stage.add_callers(scale.pick(40, 12), anew);
    let app = Calls { pause: Duration::from_secs(1), ..calls };
    let watchers = stage.add_watchers(Kind::App, scale.pick(100, 30), true, Some(app)).start;
    stage.add_watchers(Kind::Page, scale.pick(100, 30), true, None);
    stage.add_watchers(Kind::Page, scale.pick(5, 2), false, None);
    stage.change(watchers..stage.reactor.len(), |client| {
        if let Client::Watcher(watcher) = client {
            watcher.frozen_for = FROZEN_FOR;
        }
    });
    routers
}

/// All come, some go and come again, all go.
fn round(stage: &mut Stage, routers: &Range<usize>, length: Duration) -> Result<(), String> {
    (stage.world.quiet, stage.world.churn) = (false, true);
    let all = 0..stage.reactor.len();
    stage.arrive(all.clone(), Duration::from_millis(500));
    stage.run_for(Duration::from_millis(700))?;
    stage.churn(routers.clone(), length / 2, 0.1, &WAYS)?;
    stage.churn(all, length / 2, 0.1, &WAYS)?;
    stage.everyone_leaves(Duration::from_millis(500), &WAYS, FROZEN_FOR)
}
