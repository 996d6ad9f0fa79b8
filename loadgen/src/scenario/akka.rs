//! Akka remoting: one pipe, so a big message starved the heartbeats and nodes were declared dead. 1 MiB messages in both
//! directions on all routers, over links that take them slowly: how late is a heartbeat?

use std::time::Duration;

use crate::route::Route;
use crate::stats::Latency;

use super::client::{Actor, Client};
use super::judge::Shadow;
use super::pace::Pace;
use super::script::{Planted, Scale, Scenario};
use super::stage::Stage;
use super::way::Way;
use super::world::Calls;

pub const SCENARIO: Scenario = Scenario {
    name: "akka",
    then: "big messages starved the heartbeats: nodes were lost until the pause was raised to 45 s",
    planted: Some(Planted { own: LATE, fault: "StarveHeartbeats" }),
    routers: |scale| scale.pick(24, 8),
    config: "\
router.heartbeat.interval_s = 1
router.heartbeat.timeout_s = 1
router.max_queued_bytes = 8388608
shadow.keep_s = 0
",
    play,
};

const LATE: &str = "the latest heartbeat beside 1 MiB messages";
/// A link takes so much a second: a message of 1 MiB needs one.
const BYTES_PER_SECOND: usize = 1 << 20;
/// The room that the kernel has for what a router has not read yet: it is in front of any heartbeat.
const RECEIVE_BUFFER: usize = 32 << 10;
const PROBE_EVERY: Duration = Duration::from_millis(100);
const MESSAGE_BYTES: usize = 1_000_000;
/// For a noisy machine with two cores; a heartbeat behind the messages that are queued would be seconds late.
const MOST_MS: u64 = 1000;
const MOST_BUT_FEW_MS: u64 = 400;
const BUT_FEW: f64 = 0.99;

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let ids = stage.world.routers.len() as u32;
    let sizes = (MESSAGE_BYTES, MESSAGE_BYTES);
    let calls = Calls {
        pause: Duration::from_millis(10),
        command_bytes: sizes,
        reply_bytes: sizes,
        timeout: Duration::from_secs(30),
        ..Calls::default()
    };
    let routers = stage.add_routers(0..ids, |router| {
        router.pace = Some(Pace::new(BYTES_PER_SECOND));
        router.probe_every = Some(PROBE_EVERY);
    });
    let route = Route {
        receive_buffer: Some(RECEIVE_BUFFER),
        send_buffer: Some(RECEIVE_BUFFER),
        ..Route::to(stage.router_addresses[0])
    };
    for slot in routers.clone() {
        stage.visit(slot, |_, _, link| link.set_route(route));
    }
    let mut both_ways = stage.reactor.len()..stage.reactor.len();
    for router in 0..ids {
        both_ways.end = stage.add_callers(2, Calls { router: Some(router), ..calls }).end;
    }
    let mut one_way = both_ways.end..both_ways.end;
    for router in 0..ids {
        // A little less than the link takes: while its queue is over half full the daemon neither reads nor asks a router.
        let calls = Calls { oneway_share: 1.0, pause: Duration::from_millis(4400), ..calls };
        one_way.end = stage.add_callers(4, Calls { router: Some(router), ..calls }).end;
    }

    stage.phase("warm-up");
    stage.arrive(routers.clone(), Duration::from_millis(200));
    stage.await_settled(routers.clone(), Duration::from_secs(10))?;
    stage.arrive(both_ways.clone(), Duration::from_millis(200));
    stage.arrive(one_way.clone(), Duration::from_millis(200));
    stage.world.churn = true;
    stage.run_for(Duration::from_secs(3))?;
    stage.everyone_leaves(Duration::from_millis(100), &[Way::Fin], Duration::ZERO)?;
    let before = stage.baseline()?;
    let commands_before = stage.world.tally.commands;
    (stage.world.pong_latency, stage.world.ping_lateness) = (Latency::default(), Latency::default());

    stage.phase("1 MiB both ways");
    (stage.world.quiet, stage.world.churn) = (false, false);
    stage.arrive(routers.clone(), Duration::from_millis(500));
    stage.await_settled(routers.clone(), Duration::from_secs(10))?;
    stage.arrive(both_ways.clone(), Duration::from_millis(500));
    stage.run_for(scale.pick(Duration::from_secs(15), Duration::from_secs(5)))?;
    stage.hush(Duration::from_secs(30))?;
    let replies = stage.world.tally.commands - commands_before;
    stage.leave(both_ways, Duration::ZERO, &[Way::Fin]);

    // A router that says nothing is asked by the daemon.
    stage.phase("1 MiB towards silent routers");
    (stage.world.quiet, stage.world.churn) = (false, true);
    stage.change(routers.clone(), |client| {
        if let Client::Router(router) = client {
            router.probe_every = None;
        }
    });
    stage.world.ping_lateness = Latency::default();
    stage.arrive(one_way, Duration::from_millis(500));
    stage.run_for(scale.pick(Duration::from_secs(15), Duration::from_secs(8)))?;
    stage.hush(Duration::from_secs(30))?;
    let lost = stage.reactor.clients().take(routers.end).filter(|client| !client.is_settled()).count()
        + stage.world.errors.0.keys().filter(|kind| kind.starts_with("router_")).count();
    stage.everyone_leaves(Duration::from_millis(500), &[Way::Farewell], Duration::ZERO)?;

    let now = judge(stage, lost);
    stage.phase("all have gone");
    stage.nothing_stays(&before, Shadow::Counts)?;
    Ok(format!("{now}; {replies} commands of 1 MB answered with 1 MB; {lost} of {ids} routers lost"))
}

fn judge(stage: &mut Stage, lost: usize) -> String {
    let (pongs, pings) = (&stage.world.pong_latency, &stage.world.ping_lateness);
    let ms = |microseconds: u64| microseconds / 1000;
    let few = ms(pongs.at(BUT_FEW).max(pings.at(BUT_FEW)));
    let most = ms(pongs.max().max(pings.max()));
    let counted = format!("{} PONGs, {} PINGs of the daemon", pongs.count(), pings.count());
    let enough = pongs.count() > 0 && pings.count() > 0;
    let now = format!("99 % of the heartbeats within {few} ms, the latest {most} ms");
    stage.finding(LATE, format!("{most} ms ({counted})"), format!("{MOST_MS} ms"), enough && most <= MOST_MS);
    let bound = format!("{MOST_BUT_FEW_MS} ms");
    stage.finding(
        "99 % of the heartbeats are late by at most",
        format!("{few} ms"),
        bound,
        few <= MOST_BUT_FEW_MS,
    );
    stage.finding("routers lost", lost.to_string(), "0", lost == 0);
    now
}
