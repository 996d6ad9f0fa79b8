//! `loadgen soak --hours N`: the traffic of all five scenarios, mixed, in waves, for as long as one likes; after every wave
//! nothing may have stayed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::csv;
use crate::observer::Look;
use crate::options::Options;
use crate::report_html;
use crate::series::{Chapter, Sample};
use crate::watcher::Kind;

use super::Show;
use super::client::Client;
use super::judge::{
    LIVE_BOUND, RESIDENT_BOUND, RESIDENT_WITHIN, Shadow, mebibytes, stayed_live, stayed_resident,
};
use super::router::{Emit, elsewhere};
use super::stage::{REST, Setting, Stage};
use super::way::Way;
use super::world::Calls;

/// Heartbeats and the shadow's memory are short, so that hours show what days would.
const CONFIG: &str = "\
router.heartbeat.interval_s = 15
router.heartbeat.timeout_s = 5
websocket.app.heartbeat.interval_s = 15
websocket.app.heartbeat.timeout_s = 5
websocket.page.heartbeat.interval_s = 15
websocket.page.heartbeat.timeout_s = 5
shadow.keep_s = 120
log.level = \"warn\"
";

const ROUTERS: u32 = 200;
/// The first router that is deaf for a while, and how many there are.
const DEAF: Range<u32> = ROUTERS..ROUTERS + 10;
/// Longer than the heartbeat takes to find out.
const FROZEN_FOR: Duration = Duration::from_secs(30);
/// A wave at full length; a short soak has at least two.
const WAVE: Duration = Duration::from_secs(600);
/// Of a wave: until all are there, and until all have gone again.
const TIDE: f64 = 0.1;

pub struct Soak {
    pub hours: f64,
    pub csv: PathBuf,
}

struct Crew {
    routers: Range<usize>,
    /// The same routers again, for takeovers.
    twins: Range<usize>,
    clients: Range<usize>,
    /// Routers that do not read for a while, and callers that write to them all the same.
    deaf: Range<usize>,
    pushers: Range<usize>,
}

/// Runs the soak and writes samples and report.
///
/// # Errors
/// What keeps it from taking place; what falls short is in the chapter.
pub fn soak(show: &Show, soak: &Soak) -> Result<Chapter, String> {
    let mut file =
        BufWriter::new(File::create(&soak.csv).map_err(|e| format!("{}: {e}", soak.csv.display()))?);
    let mut first = true;
    let on_sample = move |sample: &Sample| {
        let mut lines = csv::row(sample);
        if std::mem::take(&mut first) {
            lines = format!("{}\n{lines}", csv::header(sample));
        }
        // Flushed, so that the samples are there while the soak still goes on.
        if let Err(error) = writeln!(file, "{lines}").and_then(|()| file.flush()) {
            eprintln!("samples: {error}");
        }
    };
    let mut stage = Stage::set(Setting {
        program: show.program.clone(),
        config: CONFIG.to_string(),
        daemon_log: show.daemon_log.clone(),
        plant: None,
        seed: show.seed,
        routers: DEAF.end as usize,
        sample_every: Duration::from_secs(10),
        rest: REST,
        on_sample: Some(Box::new(on_sample)),
        stop: show.stop.clone(),
    })?;
    let length = Duration::from_secs_f64(soak.hours * 3600.0);
    let played = play(&mut stage, length);
    if let Err(error) = played {
        stage.finding("the soak was carried through", error, "to its end", false);
    }
    stage.judge_all_looks();
    let chapter = chapter(stage, length);
    let html = report_html::render("Berth soak", &show.command, std::slice::from_ref(&chapter));
    std::fs::write(&show.report, html).map_err(|e| format!("{}: {e}", show.report.display()))?;
    Ok(chapter)
}

fn chapter(mut stage: Stage, length: Duration) -> Chapter {
    let tally = stage.world.tally;
    let (samples, peak) = (stage.samples.clone(), stage.peak_rss);
    let mut notes = std::mem::take(&mut stage.notes);
    notes.push(format!(
        "{} commands answered, {} timed out as they should, {} hung up on, {} excused by churn; {} one-way sent and {} \
         received; {} events, {} deliveries; {:.1} GB of payload; {} connections, {} takeovers",
        tally.commands,
        tally.timed_out,
        tally.hung_up,
        tally.excused,
        tally.oneway,
        tally.oneway_received,
        tally.events,
        tally.events_delivered,
        tally.payload_bytes as f64 / 1e9,
        tally.connections,
        tally.takeovers
    ));
    notes.push(format!(
        "routers and clients that vanished: {} stopped without FIN (their process neither reads nor answers, the kernel \
         goes on acknowledging, the heartbeat cuts them), {} by RST; no network namespaces were used",
        tally.vanished_frozen, tally.vanished_reset
    ));
    notes.push(format!("refusals by code: {:?}", stage.world.refusals));
    notes.push(format!("peak resident {}", mebibytes(peak)));
    let mut findings = std::mem::take(&mut stage.findings);
    findings.push(stage.close());
    let passed = findings.iter().all(|finding| finding.passed);
    Chapter {
        name: "soak".into(),
        then: "73 MB to 3.47 GB in 30 h; maps that grow for ever; a heap of holes".into(),
        now: format!("{:.2} h, peak {}", length.as_secs_f64() / 3600.0, mebibytes(peak)),
        passed,
        findings,
        samples,
        notes,
    }
}

fn play(stage: &mut Stage, length: Duration) -> Result<(), String> {
    let until = Instant::now() + length;
    let crew = engage(stage);
    let wave = WAVE.min(length / 3);
    stage.phase("warm-up");
    flood(stage, &crew, wave.min(Duration::from_secs(60)))?;
    stage.everyone_leaves(Duration::from_secs(2), &WAYS, FROZEN_FOR)?;
    let before = stage.baseline()?;
    let mut most = (0, 0);
    let mut waves = 0;
    loop {
        waves += 1;
        stage.phase(&format!("wave {waves}"));
        let left = until.saturating_duration_since(Instant::now());
        // The last wave takes what is left, instead of a stump behind it.
        flood(stage, &crew, if left < wave.mul_f64(1.7) { left } else { wave })?;
        stage.phase(&format!("trough {waves}"));
        stage.everyone_leaves(wave.mul_f64(TIDE / 2.0), &WAYS, FROZEN_FOR)?;
        if Instant::now() >= until {
            break;
        }
        let after = trough(stage, &before)?;
        most = (
            most.0.max(stayed_live(&before, &after, Shadow::Stays)),
            most.1.max(stayed_resident(&before, &after)),
        );
    }
    stage.phase("end");
    stage.nothing_stays(&before, Shadow::Stays)?;
    let (live, resident) = most;
    stage.finding(
        "most that stayed after a wave: live bytes without the shadow's",
        format!("{live} B in {waves} waves"),
        format!("{LIVE_BOUND} B"),
        live <= LIVE_BOUND,
    );
    stage.finding(
        "most that stayed after a wave: resident (anonymous)",
        mebibytes(resident),
        mebibytes(RESIDENT_BOUND),
        resident <= RESIDENT_BOUND,
    );
    Ok(())
}

fn trough(stage: &mut Stage, before: &Look) -> Result<Look, String> {
    let before = before.clone();
    stage.look_until(RESIDENT_WITHIN, move |look| {
        stayed_live(&before, look, Shadow::Stays) <= LIVE_BOUND
            && stayed_resident(&before, look) <= RESIDENT_BOUND
    })
}

/// Everyone who will ever play. The rates are modest: daemon and loadgen together take well under one core.
fn engage(stage: &mut Stage) -> Crew {
    let emit = Emit { every: Some(Duration::from_secs(2)), ..Emit::default() };
    let routers = stage.add_routers(0..ROUTERS, |router| {
        router.emit = emit;
        router.frozen_for = FROZEN_FOR;
    });
    let twins = stage.add_routers(0..ROUTERS / 4, |router| router.emit = emit);
    let ms = Duration::from_millis;
    let calls = Calls::default();
    let from = stage.reactor.len();
    // Keep-alive backends, and ones that connect anew for each few commands, some of which hang up.
    stage.add_callers(8, Calls { pause: ms(200), fail_share: 0.05, ..calls });
    stage.add_callers(8, Calls { pause: ms(500), per_connection: Some(3), hang_up_share: 0.05, ..calls });
    // scala-remote-actors: without any answer; and answers that never come.
    stage.add_callers(2, Calls { pause: ms(100), oneway_share: 1.0, depth: 8, ..calls });
    stage.add_callers(4, Calls { pause: ms(300), mute_share: 0.5, timeout: ms(1000), ..calls });
    // akka and erlang: messages of up to 1 MiB in both directions, large results, some of them too late.
    let big = (100_000, 1_000_000);
    stage.add_callers(2, Calls { pause: ms(1500), command_bytes: big, reply_bytes: big, ..calls });
    let erlang = Calls { command_bytes: (10_000, 60_000), reply_bytes: big, mute_share: 0.2, ..calls };
    stage.add_callers(2, Calls { pause: ms(700), timeout: ms(1000), ..erlang });
    let app = Calls { pause: Duration::from_secs(10), mute_share: 0.1, timeout: ms(1000), ..calls };
    stage.add_watchers(Kind::App, 60, true, Some(app));
    stage.add_watchers(Kind::Page, 10, false, None);
    stage.add_watchers(Kind::Page, 50, true, None);
    let clients = from..stage.reactor.len();
    stage.change(clients.clone(), |client| {
        if let Client::Watcher(watcher) = client {
            watcher.frozen_for = FROZEN_FOR;
        }
    });
    // vapor: many big objects at once, as long as somebody does not take them.
    let deaf = stage.add_routers(DEAF, |_| {});
    let first = stage.reactor.len();
    for router in DEAF {
        let push = Calls { oneway_share: 1.0, command_bytes: (48 << 10, 48 << 10), pause: ms(20), ..calls };
        stage.add_callers(1, Calls { router: Some(router), ..push });
    }
    let pushers = first..stage.reactor.len();
    Crew { routers, twins, clients, deaf, pushers }
}

const WAYS: [Way; 5] = [Way::Farewell, Way::Fin, Way::Fin, Way::Reset, Way::Freeze];

/// All come, live, come and go for the rest of `length`.
fn flood(stage: &mut Stage, crew: &Crew, length: Duration) -> Result<(), String> {
    let until = Instant::now() + length;
    (stage.world.quiet, stage.world.churn) = (false, true);
    let spread = length.mul_f64(TIDE);
    stage.arrive(crew.routers.clone(), spread);
    stage.arrive(crew.clients.clone(), spread);
    stage.run_for(spread)?;
    burst(stage, crew)?;
    while Instant::now() < until {
        let step = until.saturating_duration_since(Instant::now()).min(Duration::from_secs(15));
        come_from_elsewhere(stage, crew);
        stage.churn(crew.routers.clone(), step.mul_f64(0.5), 0.01, &WAYS)?;
        stage.churn(crew.clients.clone(), step.mul_f64(0.5), 0.01, &WAYS)?;
    }
    Ok(())
}

/// What waits for routers that do not read grows to their limits, and is taken in the end.
fn burst(stage: &mut Stage, crew: &Crew) -> Result<(), String> {
    let hear = |stage: &mut Stage, deaf: bool| {
        stage.change(crew.deaf.clone(), |client| {
            if let Client::Router(router) = client {
                router.deaf = deaf;
            }
        });
    };
    stage.arrive(crew.deaf.clone(), Duration::from_secs(1));
    stage.await_settled(crew.deaf.clone(), Duration::from_secs(20))?;
    hear(stage, true);
    stage.arrive(crew.pushers.clone(), Duration::from_secs(1));
    stage.run_for(Duration::from_secs(5))?;
    stage.leave(crew.pushers.clone(), Duration::ZERO, &[Way::Fin]);
    hear(stage, false);
    stage.run_for(Duration::from_secs(5))?;
    stage.leave(crew.deaf.clone(), Duration::from_secs(1), &[Way::Fin]);
    Ok(())
}

/// A few routers connect a second time, from another address: 127.0.0.x, ::1, IPv4-mapped.
fn come_from_elsewhere(stage: &mut Stage, crew: &Crew) {
    let addresses = stage.router_addresses.clone();
    for _ in 0..5 {
        let place = stage.world.random.below(crew.twins.len() as u64) as usize;
        let route = elsewhere(&mut stage.world.random, &addresses);
        stage.take_over(crew.routers.start + place, crew.twins.start + place, route);
    }
}

/// `loadgen soak`. Returns whether all held.
///
/// # Errors
/// As [`soak`].
pub fn command(options: Options) -> Result<bool, String> {
    let show = Show::new(&options, "soak.html")?;
    let chapter = soak(&show, &Soak { hours: options.hours, csv: options.csv.clone() })?;
    println!("{}", chapter.now);
    for finding in chapter.findings.iter().filter(|finding| !finding.passed) {
        println!("FAIL {}: {} ({})", finding.what, finding.figure, finding.bound);
    }
    println!("{} (report: {})", if chapter.passed { "pass" } else { "fail" }, show.report.display());
    Ok(chapter.passed)
}
