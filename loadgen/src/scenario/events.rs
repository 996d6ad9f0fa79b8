//! Events for backends: routers and backends publish, backends follow over server-sent events with filters and breaks. Every
//! event once and in order to each, or the gap is told.

use std::ops::Range;
use std::time::Duration;

use super::client::{Actor, Client};
use super::event_stream::{Breaks, EventStream, Filter};
use super::judge::Shadow;
use super::pace::Pace;
use super::publisher::Publisher;
use super::router::Emit;
use super::script::{Scale, Scenario};
use super::stage::Stage;
use super::way::Way;

pub const SCENARIO: Scenario = Scenario {
    name: "events",
    then: "a watcher that was away for a moment had missed something, and was not told",
    planted: None,
    routers: |scale| scale.pick(100, 30),
    // A short history, so that a break of seconds is longer.
    config: "shadow.keep_s = 300\nshadow.history_events = 24\n",
    play,
};

const EVERY: Duration = Duration::from_millis(100);
/// Well within the history.
const SHORT: Breaks = Breaks { every: Duration::from_millis(900), away: Duration::from_millis(300) };
/// Beyond it.
const LONG: Breaks = Breaks { every: Duration::from_millis(1500), away: Duration::from_secs(4) };

/// Who is there. Of the routers, the last ten are spoken for by publishers; of those, half are never bound.
struct Crew {
    routers: Range<usize>,
    publishers: Range<usize>,
    /// They must have everything.
    exact: Range<usize>,
    /// They have a `Last-Event-ID` of another run.
    strangers: Range<usize>,
    /// They are away for too long.
    late: Range<usize>,
}

const SPOKEN_FOR: u32 = 10;

fn play(stage: &mut Stage, scale: Scale) -> Result<String, String> {
    let crew = engage(stage);
    let streams = crew.exact.start..crew.late.end;

    stage.phase("warm-up");
    round(stage, &crew, crew.exact.start..crew.strangers.end, Duration::from_secs(1))?;
    let before = stage.baseline()?;

    stage.phase("events");
    forget(stage, streams.clone());
    let (events, delivered) = (stage.world.tally.events, stage.world.tally.events_delivered);
    let length = scale.pick(Duration::from_secs(20), Duration::from_secs(6));
    let missing = round(stage, &crew, streams.clone(), length)?;
    let (events, delivered) =
        (stage.world.tally.events - events, stage.world.tally.events_delivered - delivered);
    judge(stage, &crew, missing);
    stage.phase("all have gone");
    stage.nothing_stays(&before, Shadow::Stays)?;
    Ok(format!("{events} events, {delivered} deliveries to {} streams, each once, in order", streams.len()))
}

/// The routers, publishers and `streams` come, live and go. Returns how many events never came to those that must have them all.
fn round(stage: &mut Stage, crew: &Crew, streams: Range<usize>, length: Duration) -> Result<u64, String> {
    let patience = Duration::from_secs(20);
    // Nobody speaks before all listen.
    stage.world.quiet = true;
    stage.arrive(streams.clone(), Duration::from_millis(200));
    stage.await_settled(streams.clone(), patience)?;
    stage.arrive(crew.routers.clone(), Duration::from_millis(200));
    stage.arrive(crew.publishers.clone(), Duration::ZERO);
    stage.await_settled(crew.routers.clone(), patience)?;
    stage.world.quiet = false;
    stage.run_for(length)?;
    stage.hush(patience)?;
    // Those that are away come back, and are brought up to date.
    stage.run_until(LONG.away + patience, |stage| {
        missing(stage, crew) == 0 && followers(stage, &streams).all(Actor::is_settled)
    })?;
    let missing = missing(stage, crew);
    stage.everyone_leaves(Duration::from_millis(200), &[Way::Fin], Duration::ZERO)?;
    Ok(missing)
}

fn engage(stage: &mut Stage) -> Crew {
    let ids = stage.world.routers.len() as u32;
    let emit = Emit { every: Some(EVERY), ..Emit::default() };
    let speaking = ids - SPOKEN_FOR;
    let routers = stage.add_routers(0..speaking, |router| router.emit = emit);
    let silent = stage.add_routers(speaking..ids - SPOKEN_FOR / 2, |_| {});
    let http = stage.world.http();
    let from = stage.reactor.len();
    for half in [speaking..ids - SPOKEN_FOR / 2, ids - SPOKEN_FOR / 2..ids] {
        let publisher = Publisher::new(half, Duration::from_millis(10), (100, 2000));
        stage.reactor.add_idle(Client::Publisher(Box::new(publisher)), http);
    }
    let publishers = from..stage.reactor.len();

    let everything = Filter::default();
    let one = |router| Filter { router: Some(router), topic: None };
    let topic = |topic| Filter { router: None, topic: Some(topic) };
    let both = |router, topic| Filter { router: Some(router), topic: Some(topic) };
    let mut exact = vec![
        (everything, None, None),
        (everything, Some(SHORT), None),
        (everything, Some(SHORT), None),
        (everything, None, Some(Pace::new(2 << 20))),
        (topic("state"), None, None),
        (topic("state"), Some(SHORT), None),
        (topic("load"), Some(SHORT), None),
        (both(1, "load"), Some(SHORT), None),
        (both(ids - 1, "state"), Some(SHORT), None),
    ];
    exact.extend((0..ids).map(|router| (one(router), (router % 2 == 0).then_some(SHORT), None)));
    let exact = add(stage, exact, |_, _| {});
    let strangers = vec![(everything, None, None), (one(0), Some(SHORT), None), (topic("state"), None, None)];
    let strangers = add(stage, strangers, |place, stream| {
        stream.claim = Some(["0123456789abcdef-12", "no id of anyone's", "18446744073709551616-1"][place]);
    });
    let late =
        vec![(everything, Some(LONG), None), (one(0), Some(LONG), None), (one(ids - 1), Some(LONG), None)];
    let late = add(stage, late, |_, stream| stream.may_lack = true);
    Crew { routers: routers.start..silent.end, publishers, exact, strangers, late }
}

fn add(
    stage: &mut Stage,
    streams: Vec<(Filter, Option<Breaks>, Option<Pace>)>,
    with: impl Fn(usize, &mut EventStream),
) -> Range<usize> {
    let from = stage.reactor.len();
    for (place, (filter, breaks, pace)) in streams.into_iter().enumerate() {
        let mut stream = EventStream::new((from + place) as u32, filter);
        (stream.breaks, stream.pace) = (breaks, pace);
        with(place, &mut stream);
        let address = stage.world.http();
        stage.reactor.add_idle(Client::EventStream(Box::new(stream)), address);
    }
    from..stage.reactor.len()
}

/// The streams begin as if they had never been there.
fn forget(stage: &mut Stage, streams: Range<usize>) {
    for slot in streams {
        stage.visit(slot, |client, _, _| {
            if let Client::EventStream(stream) = client {
                stream.forget();
            }
        });
    }
}

fn followers<'a>(stage: &'a Stage, streams: &Range<usize>) -> impl Iterator<Item = &'a EventStream> {
    let clients = stage.reactor.clients().skip(streams.start).take(streams.len());
    clients.filter_map(|client| match client {
        Client::EventStream(stream) => Some(stream.as_ref()),
        _ => None,
    })
}

fn missing(stage: &Stage, crew: &Crew) -> u64 {
    let streams = crew.exact.start..crew.strangers.end;
    followers(stage, &streams).map(|stream| stream.missing(&stage.world)).sum()
}

fn judge(stage: &mut Stage, crew: &Crew, missing: u64) {
    let sum = |streams: &Range<usize>, what: fn(&EventStream) -> u64| -> u64 {
        followers(stage, streams).map(what).sum()
    };
    let events = sum(&crew.exact, |stream| stream.count.events);
    let breaks = sum(&crew.exact, |stream| stream.count.breaks);
    let gaps = sum(&crew.exact, |stream| stream.count.unfounded_gaps);
    let strangers = sum(&crew.strangers, |stream| stream.count.gaps);
    let late_breaks = sum(&crew.late, |stream| stream.count.breaks);
    let late_gaps = sum(&crew.late, |stream| stream.count.gaps);
    let accepted: u64 = stage
        .reactor
        .clients()
        .filter_map(|client| match client {
            Client::Publisher(publisher) => Some(publisher.published),
            _ => None,
        })
        .sum();
    stage.finding(
        "events that never came to a stream that asked for them",
        format!("{missing} ({events} came, over {breaks} short breaks)"),
        "0",
        missing == 0 && events > 0 && breaks > 0,
    );
    stage.finding("gaps told where there were none", gaps.to_string(), "0", gaps == 0);
    let figure = format!("{strangers} of {} told", crew.strangers.len());
    let all = strangers == crew.strangers.len() as u64;
    stage.finding("a Last-Event-ID of nobody's is a gap", figure, "all", all);
    let figure = format!("{late_gaps} told in {late_breaks} breaks");
    stage.finding("a break that is longer than the history is a gap", figure, "at least one", late_gaps > 0);
    stage.finding("events published over HTTP", accepted.to_string(), "some", accepted > 0);
}
