//! One command for a whole fleet, with replies of 1 MiB from some, to a reader that takes them at once and to one that dawdles:
//! exactly one line for each router, and no more in memory than a few of them.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::fleet_call::Fleet;
use crate::route::Route;

use super::client::{Actor, Client};
use super::fleet_caller::{Asked, Call, FleetCaller, Outcome};
use super::judge::{Shadow, mebibytes};
use super::pace::Pace;
use super::script::{Scale, Scenario};
use super::stage::Stage;
use super::way::Way;

pub const SCENARIO: Scenario = Scenario {
    name: "fleet-commands",
    then: "request and response maps filled by those that never answered; the answers of all piled up for one",
    planted: None,
    routers: |scale| scale.pick(10_000, 600) + AWAY,
    config: "shadow.keep_s = 0\n",
    play,
};

/// Routers that are never bound.
const AWAY: usize = 20;
/// `http.fleet_window`.
const WINDOW: u64 = 256;
/// `http.max_queued_bytes`, and what those that were asked may bring on top of it.
const MOST_BYTES: u64 = (4 << 20) + (24 << 20);
const HELD: &str = "live bytes while the fleet answers, less those of an idle fleet";
const READ_BYTES_PER_SECOND: usize = 4 << 20;

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let bound = stage.world.routers.len() - AWAY;
    let routers = stage.add_routers(0..bound as u32, |_| {});
    let calls = calls(stage, bound, scale);

    stage.phase("warm-up");
    stage.arrive(routers.clone(), scale.pick(Duration::from_secs(5), Duration::from_millis(500)));
    stage.await_settled(routers.clone(), Duration::from_secs(60))?;
    let first = add(stage, &calls[0]);
    carry_out(stage, first..first + 1, Duration::from_secs(60))?;
    stage.everyone_leaves(Duration::from_secs(1), &[Way::Farewell, Way::Fin], Duration::ZERO)?;
    let before = stage.baseline()?;

    stage.arrive(routers.clone(), scale.pick(Duration::from_secs(5), Duration::from_millis(500)));
    stage.await_settled(routers, Duration::from_secs(60))?;
    let idle = stage.look()?.sample.live_bytes;
    let began = Instant::now();
    let mut lines = 0;
    for planned in &calls[1..] {
        stage.phase(planned.name);
        let slot = add(stage, planned);
        carry_out(stage, slot..slot + 1, planned.call.timeout + Duration::from_secs(30))?;
        lines += judge(stage, slot, planned, bound as u64);
    }
    let seconds = began.elapsed().as_secs_f64();
    let names: Vec<&str> = calls[1..].iter().map(|planned| planned.name).collect();
    let most = stage.samples.iter().filter(|sample| names.contains(&sample.phase.as_str()));
    let most = most.map(|sample| sample.live_bytes).max().unwrap_or(0).saturating_sub(idle);
    stage.finding(HELD, mebibytes(most), mebibytes(MOST_BYTES), most <= MOST_BYTES);
    stage.phase("all have gone");
    stage.everyone_leaves(Duration::from_secs(1), &[Way::Farewell, Way::Fin], Duration::ZERO)?;
    stage.nothing_stays(&before, Shadow::Counts)?;
    Ok(format!("{lines} lines of {bound} routers in {seconds:.1} s, at most {} beside them", mebibytes(most)))
}

/// A call, and what is to come of it.
struct Planned {
    name: &'static str,
    call: Call,
    slow: bool,
    /// Lines that must come, as the outcome names them, and how many at least.
    expected: Vec<(&'static str, u64)>,
}

fn calls(stage: &Stage, bound: usize, scale: Scale) -> Vec<Planned> {
    let fleet = Fleet {
        seed: stage.world.seed,
        reply_bytes: (50, 500),
        big_share: 0.0,
        fail_share: 0.02,
        mute_share: 0.0,
    };
    let call = Call {
        asked: Asked::Everyone,
        fleet,
        nonce: 1,
        json: true,
        payload_bytes: 300,
        timeout: Duration::from_secs(60),
        may_exceed: false,
        may_be_late: false,
    };
    let planned = |name, call, slow| Planned { name, call, slow, expected: Vec::new() };
    let big = Fleet { big_share: scale.pick(0.01, 0.05), ..fleet };
    let mute = Fleet { mute_share: 1.0, ..fleet };
    let mostly_known = Asked::These(mixed_ids(stage, bound));
    let second = Duration::from_millis(1000);
    vec![
        planned("warm-up", call.clone(), false),
        planned("everyone", Call { nonce: 2, json: false, ..call.clone() }, false),
        Planned {
            expected: vec![
                ("404 router_offline sent: false", AWAY as u64),
                ("400 bad_request sent: false", 2),
            ],
            ..planned(
                "some are away, some no ids, some named twice",
                Call { nonce: 3, asked: mostly_known, ..call.clone() },
                false,
            )
        },
        planned("nobody", Call { nonce: 4, asked: Asked::These(Vec::new()), ..call.clone() }, false),
        planned("1 MiB from some", Call { nonce: 5, fleet: big, may_exceed: true, ..call.clone() }, false),
        planned(
            "1 MiB from some, to a reader that dawdles",
            Call { nonce: 6, fleet: big, may_exceed: true, ..call.clone() },
            true,
        ),
        // The window stays full until the deadline: nobody else is asked.
        Planned {
            expected: vec![
                ("504 deadline_exceeded sent: true", WINDOW),
                ("504 deadline_exceeded sent: false", bound as u64 - WINDOW),
            ],
            ..planned("nobody answers", Call { nonce: 7, fleet: mute, timeout: second, ..call }, false)
        },
    ]
}

/// All that are bound, some of them twice, all that are away, and two that are no ids.
fn mixed_ids(stage: &Stage, bound: usize) -> Vec<String> {
    let mut ids: Vec<String> = stage.world.routers.iter().map(|facts| facts.id.clone()).collect();
    let again: Vec<String> = ids[..bound / 10].to_vec();
    ids.extend(again);
    ids.extend(["no id/at all".to_string(), String::new()]);
    ids
}

fn add(stage: &mut Stage, planned: &Planned) -> usize {
    let mut caller = FleetCaller::new(planned.call.clone());
    caller.pace = planned.slow.then(|| Pace::new(READ_BYTES_PER_SECOND));
    let address = stage.world.http();
    let slot = stage.reactor.add_idle(Client::FleetCaller(Box::new(caller)), address);
    if planned.slow {
        let route = Route { receive_buffer: Some(64 << 10), ..Route::to(address) };
        stage.visit(slot, |_, _, link| link.set_route(route));
    }
    slot
}

fn carry_out(stage: &mut Stage, slots: Range<usize>, patience: Duration) -> Result<(), String> {
    stage.arrive(slots.clone(), Duration::ZERO);
    let errors = stage.world.errors.total();
    let done = |stage: &Stage| {
        let mut callers = stage.reactor.clients().skip(slots.start).take(slots.len());
        callers.all(|client| {
            !client.is_up() && matches!(client, Client::FleetCaller(caller) if caller.outcome.whole)
        })
    };
    if stage.run_until(patience, |stage| done(stage) || stage.world.errors.total() > errors)? && done(stage) {
        return Ok(());
    }
    Err(format!("no whole answer within {patience:?}: {:?}", stage.world.errors.0.iter().next_back()))
}

/// Returns the lines that came.
fn judge(stage: &mut Stage, slot: usize, planned: &Planned, bound: u64) -> u64 {
    let Some(Client::FleetCaller(caller)) = stage.reactor.clients().nth(slot) else { return 0 };
    let Outcome { lines, .. } = &caller.outcome;
    let (total, figure) = (caller.outcome.total(), format!("{lines:?}"));
    let expected = match &planned.call.asked {
        Asked::Everyone => bound,
        Asked::These(ids) => ids.iter().collect::<std::collections::HashSet<_>>().len() as u64,
    };
    let short = planned.expected.iter().find(|(outcome, count)| caller.outcome.of(outcome) != *count);
    let bound = match short {
        Some((outcome, count)) => format!("{expected} lines, {count} of them {outcome}"),
        None => format!("{expected} lines"),
    };
    stage.finding(
        &format!("lines, exactly one for each router: {}", planned.name),
        figure,
        bound,
        total == expected && short.is_none(),
    );
    total
}
