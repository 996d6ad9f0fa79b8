//! Issue 4: `Last-Event-ID`. A short break loses nothing; a longer one, or another run of the daemon, is said first.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::http::{Client, request};
use conformance::router::{Dial, Router};
use conformance::sse::{Block, EventSource, publish};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);

#[track_caller]
fn send(daemon: &Daemon, events: &[(&str, &str)]) {
    for (router, topic) in events {
        assert_eq!(publish(daemon.http, &json!({"router": router, "topic": topic, "body": 1})).status, 202);
    }
}

fn numbers(blocks: &[Block]) -> Vec<u64> {
    blocks.iter().map(Block::number).collect()
}

/// The id of event `number` in the run of the daemon: it has published one at least.
fn id(daemon: &Daemon, number: u64) -> String {
    let mut source = EventSource::connect(daemon.http, "?router=run");
    send(daemon, &[("run", "t")]);
    let id = source.block().id.expect("an id");
    format!("{}-{number}", id.split_once('-').expect("a run").0)
}

#[test]
fn a_short_break_loses_nothing_whoever_published() {
    let daemon = Daemon::start("");
    let mut source = EventSource::connect(daemon.http, "");
    send(&daemon, &[("r1", "a"), ("r2", "a")]);
    let last = source.blocks(2).pop().expect("two").id.expect("an id");
    drop(source);
    send(&daemon, &[("r2", "b"), ("r1", "b"), ("r2", "a"), ("r3", "a")]);

    let mut source = EventSource::resume(daemon.http, "", &last);
    let blocks = source.blocks(4);
    assert_eq!(numbers(&blocks), [3, 4, 5, 6]);
    let second = json!({"router": "r1", "topic": "b", "seq": 2, "body": 1});
    assert_eq!((blocks[1].event.as_str(), &blocks[1].data), ("b", &second));
    // And then it is live.
    send(&daemon, &[("r1", "a")]);
    assert_eq!(source.block().number(), 7);

    // With the filters of another watch.
    let resumed = |query: &str, count| numbers(&EventSource::resume(daemon.http, query, &last).blocks(count));
    assert_eq!(resumed("?router=r2", 2), [3, 5]);
    assert_eq!(resumed("?topic=a", 3), [5, 6, 7]);
    assert_eq!(resumed("?router=r1&topic=b", 1), [4]);
    // Who has had everything is told nothing.
    let mut source = EventSource::resume(daemon.http, "", &id(&daemon, 8));
    send(&daemon, &[("r1", "a")]);
    assert_eq!(source.block().number(), 9);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn a_break_longer_than_the_history_is_said_first() {
    let daemon = Daemon::start("shadow.history_events = 3");
    send(
        &daemon,
        &[("quiet", "a"), ("noisy", "a"), ("noisy", "a"), ("noisy", "a"), ("noisy", "a"), ("quiet", "a")],
    );
    let first = id(&daemon, 0);
    let mut source = EventSource::resume(daemon.http, "", &first);
    let gap = source.block();
    gap.expect_gap();
    assert_eq!(gap.data, json!({"gap": true, "until": first.replace("-0", "-2")}));
    assert_eq!(gap.id.as_deref(), Some(first.as_str()), "who breaks off here has had nothing");
    // What is still there comes all the same.
    assert_eq!(numbers(&source.blocks(6)), [1, 3, 4, 5, 6, 7]);
    // Of one router alone, only what that one has lost counts.
    let resume = |query: &str, number| EventSource::resume(daemon.http, query, &id(&daemon, number));
    assert_eq!(numbers(&resume("?router=quiet", 0).blocks(2)), [1, 6]);
    resume("?router=noisy", 1).block().expect_gap();
    assert_eq!(numbers(&resume("?router=noisy", 2).blocks(3)), [3, 4, 5]);
}

#[test]
fn another_run_and_what_cannot_be_read_are_gaps() {
    let daemon = Daemon::start("");
    send(&daemon, &[("r1", "a"), ("r1", "a")]);
    let present = id(&daemon, 3);
    let beyond = present.replace("-3", "-4");
    for bad in [&beyond, "", "1", "nonsense", "-", "0123456789abcdef-99999999999999999999"] {
        let mut source = EventSource::resume(daemon.http, "", bad);
        let gap = source.block();
        gap.expect_gap();
        assert_eq!(gap.id.as_ref(), Some(&present), "{bad}: it is live from now on");
        assert_eq!(gap.data["until"], json!(present));
    }
    // A restart begins a new run.
    let last = present;
    drop(daemon);
    let daemon = Daemon::start("");
    send(&daemon, &[("r1", "a"), ("r1", "a"), ("r1", "a"), ("r1", "a")]);
    let mut source = EventSource::resume(daemon.http, "", &last);
    let gap = source.block();
    gap.expect_gap();
    assert_eq!(gap.number(), 0, "all of this run is new to it");
    send(&daemon, &[("r1", "a")]);
    assert_eq!(numbers(&source.blocks(5)), [1, 2, 3, 4, 5]);
    // Presence has no ids to go on from.
    let mut source = EventSource::resume(daemon.http, "?topic=$presence", &last);
    let _router = Router::bind(daemon.router, "r9");
    assert_eq!(source.block().event, "$presence");
}

#[test]
fn what_is_forgotten_is_a_gap() {
    let daemon = Daemon::start("");
    send(&daemon, &[("r1", "a"), ("r2", "a"), ("r1", "a")]);
    let first = id(&daemon, 1);
    assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1/shadow", &[], b"").status, 204);
    let mut source = EventSource::resume(daemon.http, "", &first);
    source.block().expect_gap();
    assert_eq!(source.block().number(), 2);
    EventSource::resume(daemon.http, "?router=r1", &first).block().expect_gap();
    assert_eq!(EventSource::resume(daemon.http, "?router=r2", &first).block().number(), 2);
}

#[test]
fn without_a_history_every_break_is_a_gap_and_none_is_none() {
    let daemon = Daemon::start("shadow.history_events = 0");
    send(&daemon, &[("r1", "a"), ("r1", "a")]);
    let id = id(&daemon, 2);
    EventSource::resume(daemon.http, "?router=r1", &id.replace("-2", "-1")).block().expect_gap();
    let mut source = EventSource::resume(daemon.http, "?router=r1", &id);
    send(&daemon, &[("r1", "a")]);
    assert_eq!(source.block().number(), 4);
}

const LONG: usize = 30_000;
const BIG: &str = "shadow.history_bytes = 4000000\nhttp.max_queued_bytes = 300000\nqueue.soft_s = 0.3\n\
                   http.notsent_lowat_bytes = 16384";

fn send_long(daemon: &Daemon, count: usize) {
    let event = json!({"router": "r1", "topic": "t", "body": "x".repeat(LONG)});
    for _ in 0..count {
        assert_eq!(publish(daemon.http, &event).status, 202);
    }
}

/// A watcher that has asked for everything and takes nothing yet.
fn stalled(daemon: &Daemon) -> EventSource {
    let id = id(daemon, 0);
    let subscriptions = Census::of(daemon).live("subscription");
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let client = Client::over(dial.stream(daemon.http).expect("connect"));
    let source = EventSource::over(client, "?topic=t", &[("Last-Event-ID", &id)]);
    wait_for_live(daemon, "subscription", subscriptions + 1, BOUND);
    source
}

#[test]
fn it_is_read_as_the_watcher_takes_it_and_live_events_wait_in_the_history() {
    let daemon = Daemon::start(BIG);
    send_long(&daemon, 60);
    let mut source = stalled(&daemon);
    // More than its queue may hold happens while it takes nothing.
    send_long(&daemon, 40);
    let census = Census::of(&daemon);
    let queued = census.0["buffered_bytes"].as_u64().expect("bytes");
    assert!(queued < 262_144 + 100_000, "{queued}");
    let blocks = source.blocks(101);
    assert_eq!(numbers(&blocks), (1..=101).collect::<Vec<_>>());
    send_long(&daemon, 1);
    assert_eq!(source.block().number(), 102);
    assert_eq!(Census::of(&daemon).reason("http", "slow_consumer"), 0);
}

#[test]
fn a_reader_that_is_overtaken_is_told_and_goes_on() {
    let daemon = Daemon::start(&format!("{BIG}\nshadow.history_events = 50"));
    send_long(&daemon, 49);
    let mut source = stalled(&daemon);
    send_long(&daemon, 60);
    let mut last = 0;
    let gap = loop {
        let block = source.block();
        if block.event == "berth.gap" {
            break block;
        }
        assert_eq!(block.number(), last + 1);
        last = block.number();
    };
    gap.expect_gap();
    assert!(last < 49, "it read all of it");
    assert_eq!(gap.number(), 49, "who breaks off here is given what is still there");
    // 60 events of r1 are its numbers 51 to 110, and 50 of them are remembered; event 50 is that of another router.
    assert!(gap.data["until"].as_str().expect("an id").ends_with("-60"), "{gap:?}");
    assert_eq!(numbers(&source.blocks(51)), [50].into_iter().chain(61..=110).collect::<Vec<_>>());
    send_long(&daemon, 1);
    assert_eq!(source.block().number(), 111);
}

#[test]
fn a_watcher_may_leave_in_the_middle() {
    let daemon = Daemon::start(BIG);
    send_long(&daemon, 60);
    drop(stalled(&daemon));
    wait_for_live(&daemon, "subscription", 0, BOUND);
    Census::audited(&daemon).assert_balanced();
    send_long(&daemon, 1);
}
