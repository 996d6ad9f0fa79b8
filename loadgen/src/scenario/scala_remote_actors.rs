//! Scala remote actors: maps that were filled by messages which never get a response, one peer held twice because it was
//! known by host name and by address, ids that were never forgotten.

use std::time::{Duration, Instant};

use crate::census;

use super::judge::{OBJECTS, Shadow};
use super::router::{Emit, elsewhere};
use super::script::{Planted, Scale, Scenario};
use super::stage::Stage;
use super::way::Way;
use super::world::Calls;

pub const SCENARIO: Scenario = Scenario {
    name: "scala-remote-actors",
    then: "request and response maps grew for ever; a peer was held twice, by name and by address",
    planted: Some(Planted { own: OBJECTS, fault: "KeepCommandEntry" }),
    routers: |scale| scale.pick(100, 30),
    config: "",
    play,
};

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let ids = stage.world.routers.len() as u32;
    let ms = Duration::from_millis;
    let (events, period) = scale.pick((50, 100), (10, 100));
    let emit = Emit { every: Some(ms(period)), burst: events, bytes: (40, 120), retain_share: 0.01 };
    let routers = stage.add_routers(0..ids, |router| router.emit = emit);
    let twins = stage.add_routers(0..ids, |router| router.emit = emit);
    let calls = Calls { command_bytes: (40, 120), ..Calls::default() };
    let oneway = Calls { pause: Duration::ZERO, oneway_share: 1.0, depth: scale.pick(64, 16), ..calls };
    let callers = stage.add_callers(scale.pick(6, 2), oneway).start;
    let mute = Calls { pause: ms(100), mute_share: 1.0, timeout: ms(500), ..calls };
    let callers = callers..stage.add_callers(scale.pick(150, 30), mute).end;

    stage.phase("warm-up");
    stage.world.churn = true;
    stage.arrive(routers.clone(), ms(300));
    stage.await_settled(routers.clone(), Duration::from_secs(20))?;
    stage.arrive(callers.clone(), ms(300));
    stage.run_for(ms(1500))?;
    stage.everyone_leaves(ms(200), &[Way::Fin], Duration::ZERO)?;
    let before = stage.baseline()?;
    let tally_before = stage.world.tally;

    stage.phase("no answers");
    stage.world.quiet = false;
    stage.arrive(routers.clone(), ms(300));
    stage.await_settled(routers.clone(), Duration::from_secs(20))?;
    stage.arrive(callers.clone(), ms(300));
    stage.run_for(scale.pick(Duration::from_secs(12), Duration::from_secs(4)))?;
    stage.phase("from other addresses");
    let addresses = stage.router_addresses.clone();
    let until = Instant::now() + scale.pick(Duration::from_secs(16), Duration::from_secs(5));
    while Instant::now() < until {
        stage.run_for(ms(100))?;
        let router = stage.world.random.below(u64::from(ids)) as usize;
        let route = elsewhere(&mut stage.world.random, &addresses);
        stage.take_over(routers.start + router, twins.start + router, route);
    }
    stage.hush(Duration::from_secs(10))?;
    stage.run_for(ms(500))?;
    let bound = stage.look_until(Duration::from_secs(5), |look| {
        census::live(&look.census, "router") == Some(u64::from(ids))
    })?;
    let bound = census::live(&bound.census, "router").unwrap_or(0);
    stage.finding(
        "sessions of routers that came back from 127.0.0.x, ::1 and IPv4-mapped addresses",
        format!("{bound}, over {} listeners", addresses.len()),
        format!("{ids}: one a router id"),
        bound == u64::from(ids),
    );
    let tally = stage.world.tally;
    let [events, oneway, timed_out, takeovers] = [
        tally.events - tally_before.events,
        tally.oneway - tally_before.oneway,
        tally.timed_out - tally_before.timed_out,
        tally.takeovers - tally_before.takeovers,
    ];
    let lateness = stage.world.deadline_lateness.at(0.999) / 1000;
    stage.finding(
        "answers 504 after their deadline, 99.9 % of them within",
        format!("{lateness} ms, of {timed_out}"),
        "1000 ms",
        lateness <= 1000 && timed_out > 0,
    );
    stage.everyone_leaves(ms(500), &[Way::Farewell, Way::Fin, Way::Reset], Duration::ZERO)?;
    stage.phase("all have gone");
    stage.nothing_stays(&before, Shadow::Stays)?;
    stage.notes.push(format!(
        "{} of {} one-way commands that were accepted reached their router; the rest went with a session that was taken over",
        tally.oneway_received, tally.oneway
    ));
    Ok(format!(
        "{:.2} million messages without any answer ({events} events, {oneway} one-way commands), {timed_out} commands never \
         answered, {takeovers} takeovers: nothing is kept of them",
        (events + oneway) as f64 / 1e6
    ))
}
