//! Vapor on SwiftNIO: a few live bytes kept big buffers, and the heap's holes looked like a leak. 10,000 objects of 48 KB
//! at once, four times: what is resident afterwards?

use std::ops::Range;
use std::time::Duration;

use crate::census;
use crate::observer::Look;
use crate::route::Route;
use crate::watcher::Kind;

use super::client::Client;
use super::judge::{RESIDENT_BOUND, RESIDENT_WITHIN, Shadow, mebibytes, stayed_resident};
use super::router::Emit;
use super::script::{Planted, Scale, Scenario};
use super::stage::Stage;
use super::way::Way;
use super::world::Calls;

pub const SCENARIO: Scenario = Scenario {
    name: "vapor",
    then: "10,000 objects of 48 KB, four times: 26, 408, 473, 481 MB resident, with 1 MB live",
    planted: Some(Planted { own: ROUND, fault: "KeepMemory" }),
    routers: |scale| scale.pick(100, 20),
    // Nobody is cut for being slow: everything is meant to wait at once.
    config: "\
memory.max_buffered_bytes = 2147483648
router.max_queued_bytes = 1073741824
websocket.app.max_queued_bytes = 1073741824
websocket.app.notsent_lowat_bytes = 16384
queue.soft_s = 600
router.heartbeat.interval_s = 600
router.heartbeat.timeout_s = 600
websocket.app.heartbeat.interval_s = 600
websocket.app.heartbeat.timeout_s = 600
router.keepalive.user_timeout_s = 600
websocket.app.keepalive.user_timeout_s = 600
shadow.keep_s = 0
",
    play,
};

const ROUND: &str = "resident (anonymous) after each of four bursts";
const OBJECT_BYTES: usize = 48 << 10;
/// The kernel is to hold little of what is not read.
const RECEIVE_BUFFER: usize = 16 << 10;

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let ids = stage.world.routers.len() as u32;
    let objects = scale.pick(10_000, 1000);
    let routers = stage.add_routers(0..ids, |_| {});
    let sizes = (OBJECT_BYTES, OBJECT_BYTES);
    let calls = Calls {
        oneway_share: 1.0,
        pause: Duration::ZERO,
        command_bytes: sizes,
        depth: 4,
        ..Calls::default()
    };
    let callers = stage.add_callers(8, calls);
    let apps = stage.add_watchers(Kind::App, ids as usize, true, None);
    for (slots, to) in
        [(routers.clone(), stage.router_addresses[0]), (apps.clone(), stage.world.addresses.app)]
    {
        let route = Route { receive_buffer: Some(RECEIVE_BUFFER), ..Route::to(to) };
        for slot in slots {
            stage.visit(slot, |_, _, link| link.set_route(route));
        }
    }
    let cast = Cast { routers, callers, apps };

    let cold = stage.look()?.sample.anon_bytes;
    stage.phase("warm-up");
    cast.commands(stage, objects)?;
    cast.events(stage, objects)?;
    let before = stage.baseline()?;
    stage.notes.push(format!(
        "resident (anonymous) before any load {}, after a warm-up of one burst of each kind {}: the allocator's own tables, about \
         one byte for each hundred that it has ever held at once, are made in the first burst and stay",
        mebibytes(cold),
        mebibytes(before.sample.anon_bytes)
    ));
    let mut resident = vec![before.sample.anon_bytes];
    let mut peaks = Vec::new();
    for round in 1..=4 {
        stage.phase(&format!("burst {round}"));
        // Commands that wait for routers, and events that wait for watchers, take turns.
        let peak = if round % 2 == 1 { cast.commands(stage, objects)? } else { cast.events(stage, objects)? };
        peaks.push(peak);
        stage.phase(&format!("after burst {round}"));
        let before = before.clone();
        let after = stage
            .look_until(RESIDENT_WITHIN, move |look| stayed_resident(&before, look) <= RESIDENT_BOUND)?;
        resident.push(after.sample.anon_bytes);
    }
    let held = peaks.iter().copied().min().unwrap_or(0);
    let wanted = (objects * OBJECT_BYTES) as u64;
    stage.finding(
        "live bytes in each burst",
        peaks.iter().map(|peak| mebibytes(*peak)).collect::<Vec<_>>().join(", "),
        format!("at least {}: all at once", mebibytes(wanted * 9 / 10)),
        held >= wanted * 9 / 10,
    );
    let figures = resident.iter().map(|bytes| mebibytes(*bytes)).collect::<Vec<_>>().join(", ");
    let bound = resident[0] + RESIDENT_BOUND;
    let back = resident.iter().all(|bytes| *bytes <= bound);
    stage.finding(ROUND, figures.as_str(), format!("{} within 10 s", mebibytes(bound)), back);
    stage.phase("all have gone");
    stage.nothing_stays(&before, Shadow::Counts)?;
    Ok(format!("{objects} objects of 48 KB, four times: {figures} resident (anonymous)"))
}

struct Cast {
    routers: Range<usize>,
    callers: Range<usize>,
    apps: Range<usize>,
}

impl Cast {
    /// `objects` one-way commands wait for routers that do not read. Returns the live bytes when all do.
    fn commands(&self, stage: &mut Stage, objects: usize) -> Result<u64, String> {
        stage.world.quiet = false;
        stage.change(self.routers.clone(), |client| set_deaf(client, true));
        stage.arrive(self.routers.clone(), Duration::from_millis(200));
        stage.await_settled(self.routers.clone(), Duration::from_secs(20))?;
        let wanted = stage.world.tally.oneway + objects as u64;
        stage.arrive(self.callers.clone(), Duration::ZERO);
        stage.run_until(Duration::from_secs(60), |stage| stage.world.tally.oneway >= wanted)?;
        stage.hush(Duration::from_secs(10))?;
        let held = stage.look()?.sample.live_bytes;
        self.release(stage, self.routers.clone())?;
        Ok(held)
    }

    /// `objects` events, each for a watcher that does not read. Returns the live bytes when all wait.
    fn events(&self, stage: &mut Stage, objects: usize) -> Result<u64, String> {
        stage.world.quiet = false;
        stage.change(self.routers.clone(), |client| set_deaf(client, false));
        stage.arrive(self.routers.clone(), Duration::from_millis(200));
        stage.arrive(self.apps.clone(), Duration::from_millis(200));
        stage.await_settled(self.routers.clone(), Duration::from_secs(20))?;
        stage.await_settled(self.apps.clone(), Duration::from_secs(20))?;
        stage.change(self.apps.clone(), |client| set_deaf(client, true));
        let each = objects.div_ceil(self.routers.len());
        for _ in 0..each {
            for slot in self.routers.clone() {
                stage.visit(slot, |client, world, link| {
                    if let Client::Router(router) = client {
                        // As base64 or JSON on WebSocket it is a little longer.
                        router.emit =
                            Emit { bytes: (OBJECT_BYTES, OBJECT_BYTES), retain_share: 0.0, ..router.emit };
                        router.event(world, link);
                    }
                });
            }
            stage.turn()?;
        }
        stage.world.quiet = true;
        let came =
            |look: &Look| census::live(&look.census, "queued_frame").unwrap_or(0) * 10 >= objects as u64 * 9;
        let held = stage.look_until(Duration::from_secs(30), came)?.sample.live_bytes;
        self.release(stage, self.apps.clone())?;
        Ok(held)
    }

    /// Those who did not read do again, until all has come; then everyone leaves.
    fn release(&self, stage: &mut Stage, deaf: Range<usize>) -> Result<(), String> {
        stage.change(deaf, |client| set_deaf(client, false));
        let empty = |look: &Look| census::live(&look.census, "queued_frame") == Some(0);
        let look = stage.look_until(Duration::from_secs(60), empty)?;
        if !empty(&look) {
            stage.world.errors.add("not_drained", "frames still wait a minute after their takers read again");
        }
        stage.everyone_leaves(Duration::from_millis(300), &[Way::Fin, Way::Farewell], Duration::ZERO)
    }
}

fn set_deaf(client: &mut Client, deaf: bool) {
    match client {
        Client::Router(router) => router.deaf = deaf,
        Client::Watcher(watcher) => watcher.deaf = deaf,
        _ => {}
    }
}
