//! Streams of rows to consumers that are fast, slow or stopped, over routers that leave rows out and break their
//! connections: every row once, in order, while the daemon's memory stays under its windows' sum and its heartbeats go on.

mod plan;

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::probe::Probe;
use crate::route::Route;
use crate::stats::Latency;

use super::client::Client;
use super::consumer::Consumer;
use super::job::Faults;
use super::judge::{Shadow, mebibytes};
use super::pace::Pace;
use super::script::{Planted, Scale, Scenario};
use super::stage::Stage;
use super::way::Way;

pub use plan::Plan;

/// A heartbeat that is late by a second costs a router its session.
pub const CONFIG: &str = "\
router.heartbeat.interval_s = 1
router.heartbeat.timeout_s = 1
shadow.keep_s = 0
";

pub const HALF_SLOW: Scenario = Scenario {
    name: "streams",
    then: "a big result piled up wherever its consumer was slower than its source",
    planted: None,
    routers: |scale| half_slow(scale).routers,
    config: CONFIG,
    play: |stage, scale| play(stage, &half_slow(scale)),
};

fn half_slow(scale: Scale) -> Plan {
    let quick = Plan { routers: 40, rows: 500, slow_rate: 120_000, ..Plan::default() };
    scale.pick(Plan::default(), quick)
}

pub const FULL_SPEED: Scenario = Scenario {
    name: "streams-at-full-speed",
    then: "big results starved the heartbeats: nodes were declared dead",
    planted: None,
    routers: |scale| full_speed(scale).routers,
    config: CONFIG,
    play: |stage, scale| play(stage, &full_speed(scale)),
};

fn full_speed(scale: Scale) -> Plan {
    let window = super::job::Window { max_messages: 1024, max_bytes: 65_536 };
    let plan = Plan { rows: 10_000, slow_share: 0.0, window, ..Plan::default() };
    scale.pick(plan, Plan { routers: 40, rows: 1500, ..plan })
}

pub const GAPS: Scenario = Scenario {
    name: "streams-with-gaps",
    then: "recovery grew tangled: a lost message left a half-built result that was repaired in place",
    planted: None,
    routers: |scale| gaps(scale).routers,
    config: CONFIG,
    play: |stage, scale| play(stage, &gaps(scale)),
};

fn gaps(scale: Scale) -> Plan {
    let faults = Faults { gap_every: Some(1000), reconnect_every: Some(10_000) };
    let plan = Plan {
        routers: 20,
        streams_per_router: 2,
        rows: 30_000,
        row_bytes: (64, 256),
        slow_rate: 1_000_000,
        faults,
        ..Plan::default()
    };
    let often = Faults { gap_every: Some(100), reconnect_every: Some(1000) };
    scale.pick(plan, Plan { routers: 5, rows: 2500, faults: often, ..plan })
}

pub const STALLS: Scenario = Scenario {
    name: "streams-that-stall",
    then: "a stream that was asked for again held its window twice",
    planted: Some(Planted { own: HELD, fault: "GrantTwice" }),
    routers: |scale| stalls(scale).routers,
    config: CONFIG,
    play: |stage, scale| play(stage, &stalls(scale)),
};

/// A window holds more rows than there are to the next gap, so every one meets a gap, whenever its consumer stops.
fn stalls(scale: Scale) -> Plan {
    let plan = Plan {
        rows: 200,
        row_bytes: (1000, 8000),
        slow_share: 0.0,
        faults: Faults { gap_every: Some(7), reconnect_every: Some(75) },
        stall: Some(Duration::from_millis(1500)),
        ..Plan::default()
    };
    scale.pick(plan, Plan { routers: 30, stall: Some(Duration::from_millis(700)), ..plan })
}

const HELD: &str = "most live bytes, without the shadow's";
const STREAMING: &str = "streaming";
const WARM_UP_ROWS: u64 = 40;
/// The room that the kernel has for what a slow consumer has not read.
const SLOW_RECEIVE_BUFFER: usize = 16 << 10;
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// A PONG may take so many times as long as without the load; or so long, where that was next to nothing.
const MOST_TIMES: f64 = 10.0;
const MEDIAN_US: u64 = 20_000;
const BUT_FEW_US: u64 = 100_000;

/// Plays `plan`.
///
/// # Errors
/// It cannot be carried through.
pub fn play(stage: &mut Stage, plan: &Plan) -> Result<String, String> {
    let (routers, consumers) = engage(stage, plan);

    stage.phase("warm-up");
    stage.arrive(routers.clone(), Duration::from_millis(300));
    stage.await_settled(routers.clone(), Duration::from_secs(20))?;
    read_all(stage, plan, &consumers, Duration::from_secs(60), None)?;
    stage.everyone_leaves(Duration::from_millis(300), &[Way::Farewell, Way::Fin], Duration::ZERO)?;
    let before = stage.baseline()?;

    stage.phase("idle");
    stage.world.quiet = false;
    stage.arrive(routers.clone(), Duration::from_millis(300));
    stage.await_settled(routers.clone(), Duration::from_secs(20))?;
    let probe = Probe::start(stage.router_addresses[0], "probe", PROBE_EVERY)?;
    stage.run_for(Duration::from_millis(1500))?;
    let idle = probe.take();

    stage.phase(STREAMING);
    // A consumer may come while its router is on its way back.
    stage.world.churn = plan.faults.reconnect_every.is_some();
    next_jobs(stage, plan, &consumers);
    let rows_before = (stage.world.tally.rows, stage.world.tally.payload_bytes);
    let began = Instant::now();
    let loaded = read_all(stage, plan, &consumers, plan.patience(), Some(&probe))?;
    let seconds = began.elapsed().as_secs_f64();
    let rows = stage.world.tally.rows - rows_before.0;
    let bytes = stage.world.tally.payload_bytes - rows_before.1;

    stage.phase("all have gone");
    let probed = probe.end();
    judge(stage, plan, rows);
    judge_heartbeats(stage, &idle, &loaded, probed)?;
    stage.everyone_leaves(Duration::from_millis(300), &[Way::Farewell, Way::Fin], Duration::ZERO)?;
    stage.nothing_stays(&before, Shadow::Counts)?;
    Ok(format!(
        "{rows} rows, {} in {seconds:.1} s: {:.0} rows/s, {}/s; PING to PONG {} µs idle, {} µs beside",
        mebibytes(bytes),
        rows as f64 / seconds,
        mebibytes((bytes as f64 / seconds) as u64),
        idle.at(0.5),
        loaded.at(0.5)
    ))
}

fn engage(stage: &mut Stage, plan: &Plan) -> (Range<usize>, Range<usize>) {
    let routers = stage.add_routers(0..plan.routers as u32, |_| {});
    let from = stage.reactor.len();
    for place in 0..plan.streams() {
        let mut consumer = Consumer::new(place as u32);
        consumer.pace = plan.is_slow(place).then(|| Pace::new(plan.slow_rate));
        let slow = consumer.pace.is_some() || plan.stall.is_some();
        let address = stage.world.http();
        let slot = stage.reactor.add_idle(Client::Consumer(Box::new(consumer)), address);
        if slow {
            let route = Route { receive_buffer: Some(SLOW_RECEIVE_BUFFER), ..Route::to(address) };
            stage.visit(slot, |_, _, link| link.set_route(route));
        }
        let mut job = plan.job(stage.world.seed, place, place, plan.rows.min(WARM_UP_ROWS));
        job.faults = Faults::default();
        stage.world.jobs.push(job);
    }
    (routers, from..stage.reactor.len())
}

/// Behind the warm-up: the streams that count.
fn next_jobs(stage: &mut Stage, plan: &Plan, consumers: &Range<usize>) {
    let first = stage.world.jobs.len();
    for (place, slot) in consumers.clone().enumerate() {
        let job = plan.job(stage.world.seed, first + place, place, plan.rows);
        stage.world.jobs.push(job);
        stage.visit(slot, |client, _, _| {
            if let Client::Consumer(consumer) = client {
                consumer.next((first + place) as u32);
            }
        });
    }
}

/// All consumers read their streams to the end. Returns what `probe` has measured until half of them were done.
fn read_all(
    stage: &mut Stage,
    plan: &Plan,
    consumers: &Range<usize>,
    patience: Duration,
    probe: Option<&Probe>,
) -> Result<Latency, String> {
    /// Of a stall, how long they read between two of them.
    const READING: f64 = 0.2;
    stage.arrive(consumers.clone(), Duration::from_millis(300));
    let (until, mut measured) = (Instant::now() + patience, None);
    let (mut deaf, mut turn_at) = (false, Instant::now());
    loop {
        let clients = stage.reactor.clients().skip(consumers.start).take(consumers.len());
        let over = |client: &&Client| matches!(client, Client::Consumer(consumer) if consumer.is_over());
        let reading = consumers.len() - clients.filter(over).count();
        if measured.is_none() && reading <= consumers.len() / 2 {
            measured = probe.map(Probe::take);
        }
        if reading == 0 {
            return Ok(measured.unwrap_or_default());
        }
        if Instant::now() > until {
            return Err(format!("{reading} of {} streams were not done after {patience:?}", consumers.len()));
        }
        if let Some(stall) = plan.stall.filter(|_| Instant::now() >= turn_at) {
            deaf = !deaf;
            turn_at = Instant::now() + if deaf { stall } else { stall.mul_f64(READING) };
            stage.change(consumers.clone(), |client| {
                if let Client::Consumer(consumer) = client {
                    consumer.deaf = deaf;
                }
            });
        }
        stage.turn()?;
    }
}

fn judge(stage: &mut Stage, plan: &Plan, rows: u64) {
    let whole = stage.world.jobs.iter().filter(|job| job.is_delivered()).count();
    let figure = format!("{rows}; {whole} of {} streams whole", stage.world.jobs.len());
    let all = rows == plan.all_rows() && whole == stage.world.jobs.len();
    stage.finding("rows, each once, in order, byte for byte", figure, plan.all_rows().to_string(), all);

    let sum = |count: fn(&super::job::Job) -> u64| stage.world.jobs.iter().map(count).sum::<u64>();
    let (gaps, reconnects, opens) = (sum(|job| job.gaps), sum(|job| job.reconnects), sum(|job| job.opens));
    let Faults { gap_every, reconnect_every } = plan.faults;
    let met = |every: Option<u64>, count: u64| every.is_none_or(|every| every > plan.rows || count > 0);
    stage.finding(
        "rows left out and connections broken on purpose",
        format!("{gaps} and {reconnects}; {opens} OPENs"),
        format!("every {} and {} rows", shown(gap_every), shown(reconnect_every)),
        met(gap_every, gaps) && met(reconnect_every, reconnects),
    );

    let streaming = stage.samples.iter().filter(|sample| sample.phase == STREAMING);
    let (mut most, mut looks) = (0, 0);
    for sample in streaming {
        most = most.max(sample.live_without_shadow);
        looks += 1;
    }
    let figure = format!("{} in {looks} looks", mebibytes(most));
    let bound = format!("{}: (window + one fragment) × streams + 2 MiB", mebibytes(plan.most_bytes()));
    stage.finding(HELD, figure, bound, looks > 0 && most <= plan.most_bytes());
}

fn shown(every: Option<u64>) -> String {
    every.map_or("no".into(), |every| every.to_string())
}

fn judge_heartbeats(
    stage: &mut Stage,
    idle: &Latency,
    loaded: &Latency,
    probed: Result<(), String>,
) -> Result<(), String> {
    for (name, quantile, most_us) in [("median", 0.5, MEDIAN_US), ("99 %", 0.99, BUT_FEW_US)] {
        let (before, beside) = (idle.at(quantile).max(1), loaded.at(quantile));
        let times = beside as f64 / before as f64;
        stage.finding(
            &format!("PING to PONG beside the load, {name}"),
            format!("{beside} µs of {} PONGs; {before} µs before it: {times:.1} times", loaded.count()),
            format!("{MOST_TIMES:.0} times, or {} ms", most_us / 1000),
            loaded.count() > 0 && (times <= MOST_TIMES || beside <= most_us),
        );
    }
    let census = stage.look()?.census;
    let missed = census["unbound_by_reason"]["router"]["heartbeat_timeout"].as_u64().unwrap_or(0);
    let lost = stage.world.errors.0.keys().filter(|kind| kind.starts_with("router_")).count();
    let figure = match probed {
        Ok(()) => format!("{missed} by the daemon's count, {lost} by ours"),
        Err(ref error) => error.clone(),
    };
    stage.finding(
        "routers that lost their session at heartbeat 1 s and 1 s",
        figure,
        "0",
        missed == 0 && lost == 0 && probed.is_ok(),
    );
    Ok(())
}
