//! loadgen against a fake gateway: clean when all is well, and every planted fault is seen.

mod fake;

use std::time::Duration;

use fake::{Fake, Plant};
use loadgen::options::Options;
use loadgen::report::Report;
use loadgen::run::run;

fn run_against(fake: &Fake, duration: Duration, drain: Duration) -> Report {
    let options = Options {
        addresses: fake.addresses.clone(),
        prefix: "load-".to_string(),
        seed: 11,
        routers: 8,
        callers: 6,
        apps: 4,
        pages: 3,
        event_rate: 40.0,
        client_command_rate: 20.0,
        think: Duration::from_millis(2),
        big_share: 0.05,
        retain_share: 0.2,
        // Slow enough that watchers subscribe when there is something retained already.
        ramp: 40.0,
        duration,
        drain,
        ..Options::default()
    };
    run(options).unwrap()
}

fn kinds(report: &Report) -> Vec<&str> {
    report.stats.errors.0.keys().map(String::as_str).collect()
}

/// Longer and longer, for a machine that is busy with other things.
fn durations() -> impl Iterator<Item = Duration> {
    (0..5).map(|doubled| Duration::from_millis(1500 << doubled))
}

#[test]
fn a_run_without_faults_is_clean_and_does_everything() {
    for duration in durations() {
        let fake = Fake::start(Plant::None);
        let report = run_against(&fake, duration, Duration::from_secs(30));
        assert_eq!(kinds(&report), Vec::<&str>::new(), "{}", report.text());
        assert_eq!(report.during.established[..], [8, 7, 4, 3]);
        let counters = report.stats.counters;
        let enough = counters.commands > 100
            && counters.commands_failed_as_asked > 0
            && counters.oneway > 10
            && counters.retained_delivered > 0
            && report.stats.websocket_latency.count() > 10
            // 3 pages see all events and 4 apps one router of eight each: 3.5 deliveries an event, but for the ramp.
            && counters.events_delivered > 2 * counters.events_emitted;
        if enough {
            return;
        }
    }
    panic!("the run never did everything");
}

fn is_seen(plant: Plant, expected: &[&str]) {
    for duration in durations() {
        let fake = Fake::start(plant);
        let report = run_against(&fake, duration, Duration::from_secs(2));
        if fake.has_struck() {
            let seen = kinds(&report);
            assert!(expected.iter().any(|kind| seen.contains(kind)), "{plant:?}: {}", report.text());
            assert_eq!(report.json()["ok"], false);
            return;
        }
    }
    panic!("{plant:?} never had its occasion");
}

#[test]
fn planted_faults_of_events_are_seen() {
    is_seen(Plant::EventDoubled, &["event_doubled"]);
    is_seen(Plant::EventDropped, &["event_gap"]);
    is_seen(Plant::EventChanged, &["event_wrong"]);
    is_seen(Plant::SeqSkipped, &["event_seq"]);
}

#[test]
fn planted_faults_of_commands_are_seen() {
    is_seen(Plant::ReplyChanged, &["reply_wrong"]);
    is_seen(Plant::ReplyType, &["reply_content_type"]);
    is_seen(Plant::CommandDoubled, &["command_doubled", "command_unknown"]);
    is_seen(Plant::OnewayDropped, &["command_lost"]);
}

#[test]
fn planted_faults_of_connections_are_seen() {
    is_seen(Plant::RouterCut, &["router_closed", "router_io"]);
    is_seen(Plant::CensusOff, &["census_balance"]);
}
