//! Commands of 1 MiB to routers whose links take 50 KB a second: each is on its way for twenty seconds, and a heartbeat that
//! waited behind it would be lost after two.

use std::time::{Duration, Instant};

use crate::route::Route;

use super::client::Actor;
use super::judge::{Shadow, mebibytes};
use super::pace::Pace;
use super::script::{Scale, Scenario};
use super::stage::Stage;
use super::way::Way;
use super::world::Calls;

pub const SCENARIO: Scenario = Scenario {
    name: "big-command",
    then: "one pipe: whoever was sent a big message missed its heartbeats and was declared dead",
    planted: None,
    routers: |scale| scale.pick(20, 6),
    config: "\
router.heartbeat.interval_s = 1
router.heartbeat.timeout_s = 1
shadow.keep_s = 0
",
    play,
};

const LINK_BYTES_PER_SECOND: usize = 50_000;
/// The room that the kernel has for what a router has not read yet.
const RECEIVE_BUFFER: usize = 16 << 10;
const SESSIONS: &str = "routers that lost their session beside a command of 1 MiB";

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    // The quick one is on its way for several heartbeats, too.
    let bytes = scale.pick(crate::frame::MAX_MESSAGE_BYTES, 180_000);
    let ids = stage.world.routers.len() as u32;
    let routers = stage.add_routers(0..ids, |router| router.pace = Some(Pace::new(LINK_BYTES_PER_SECOND)));
    let address = stage.router_addresses[0];
    let route = Route { receive_buffer: Some(RECEIVE_BUFFER), ..Route::to(address) };
    for slot in routers.clone() {
        stage.visit(slot, |_, _, link| link.set_route(route));
    }
    let from = stage.reactor.len();
    for router in 0..ids {
        let calls = Calls {
            pause: Duration::from_millis(10),
            command_bytes: (bytes, bytes),
            timeout: Duration::from_secs(90),
            router: Some(router),
            ..Calls::default()
        };
        stage.add_callers(1, calls);
    }
    let callers = from..stage.reactor.len();

    stage.phase("warm-up");
    stage.arrive(routers.clone(), Duration::from_millis(200));
    stage.await_settled(routers.clone(), Duration::from_secs(20))?;
    stage.everyone_leaves(Duration::from_millis(100), &[Way::Fin], Duration::ZERO)?;
    let before = stage.baseline()?;

    stage.phase("1 MiB at 50 KB a second");
    stage.world.quiet = false;
    stage.arrive(routers.clone(), Duration::from_millis(200));
    stage.await_settled(routers.clone(), Duration::from_secs(20))?;
    stage.arrive(callers.clone(), Duration::ZERO);
    stage.await_settled(callers, Duration::from_secs(20))?;
    let began = Instant::now();
    // Each has sent one by then, and none comes behind it.
    stage.run_for(Duration::from_millis(500))?;
    stage.hush(Duration::from_secs(120))?;
    let seconds = began.elapsed().as_secs_f64();

    let answered = stage.world.tally.commands;
    stage.finding("commands answered", answered.to_string(), ids.to_string(), answered == u64::from(ids));
    let bound = stage.reactor.clients().take(routers.end).filter(|client| client.is_settled()).count();
    let lost = stage.world.errors.0.keys().filter(|kind| kind.starts_with("router_")).count();
    let figure = format!("{lost}; {bound} of {ids} bound after {seconds:.0} s");
    stage.finding(SESSIONS, figure, "0", lost == 0 && bound == ids as usize);
    let slow = Duration::from_secs_f64(bytes as f64 / LINK_BYTES_PER_SECOND as f64 / 2.0);
    stage.finding(
        "the links were slow",
        format!("{seconds:.1} s for {}", mebibytes(bytes as u64)),
        format!("at least {:.1} s", slow.as_secs_f64()),
        seconds >= slow.as_secs_f64(),
    );
    stage.everyone_leaves(Duration::from_millis(200), &[Way::Fin], Duration::ZERO)?;
    stage.phase("all have gone");
    stage.nothing_stays(&before, Shadow::Counts)?;
    Ok(format!("{answered} commands of {} in {seconds:.0} s, {lost} sessions lost", mebibytes(bytes as u64)))
}
