//! Contract section 3: `GET /v1/events`, events for backends as they happen.

use std::time::Duration;

use conformance::calls::{Census, wait_for_drain, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::http::{Client, PATIENCE, get, request};
use conformance::router::{Dial, Router};
use conformance::sse::{Block, EventSource, publish};
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;

fn event(topic: &str, body: &str) -> Frame {
    Frame::event(topic, body).flags(flag::JSON)
}

/// What tells that nothing else has come before.
fn mark(daemon: &Daemon, router: &str, topic: &str) {
    let event = json!({"router": router, "topic": topic, "body": "mark"});
    assert_eq!(publish(daemon.http, &event).status, 202);
}

fn data(block: &Block) -> (String, Value) {
    assert_eq!(block.event, block.data["topic"].as_str().expect("a topic"));
    (block.event.clone(), block.data["body"].clone())
}

#[test]
fn events_come_as_they_happen_with_ids_that_count_them_all() {
    let daemon = Daemon::start("");
    let mut source = EventSource::connect(daemon.http, "");
    let mut routers = [Router::bind(daemon.router, "r1"), Router::bind(daemon.router, "r2")];
    routers[0].send(&event("door", r#"{"open":true}"#));
    let first = source.block();
    assert_eq!((first.event.as_str(), first.number()), ("door", 1));
    assert_eq!(first.data, json!({"router": "r1", "topic": "door", "seq": 1, "body": {"open": true}}));
    routers[1].send(&Frame::event("raw", b"\0\xff".to_vec()));
    let second = source.block();
    assert_eq!(second.data, json!({"router": "r2", "topic": "raw", "seq": 1, "body_base64": "AP8="}));
    // Presence has no number: a router has gone and another one has come between.
    routers[1].send(&Frame::bye("done"));
    wait_for_live(&daemon, "router", 1, BOUND);
    routers[0].send(&event("door", "1").flags(flag::JSON | flag::RETAIN));
    let third = source.block();
    assert_eq!((second.number(), third.number(), &third.data["seq"]), (2, 3, &json!(2)));
    let run = |block: &Block| block.id.clone().expect("an id").split_once('-').expect("a run").0.to_owned();
    assert_eq!((run(&first), run(&third)), (run(&second), run(&second)));
    // A second run has another name for itself.
    let other = Daemon::start("");
    let mut elsewhere = EventSource::connect(other.http, "");
    mark(&other, "r1", "t");
    assert_ne!(run(&elsewhere.block()), run(&first));
}

#[test]
fn line_ends_in_json_are_spaces() {
    let daemon = Daemon::start("");
    let mut source = EventSource::connect(daemon.http, "");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&event("t", "{\r\n\"a\":\n[1,\r2]}"));
    router.send(&event("t", "\"no\\njson\" \n x"));
    assert_eq!(source.block().data["body"], json!({"a": [1, 2]}));
    assert!(source.block().data["body_base64"].is_string());
}

#[test]
fn filters_are_names_or_stars() {
    let daemon = Daemon::start("");
    let mut all = EventSource::connect(daemon.http, "?router=*&topic=*");
    let mut one = EventSource::connect(daemon.http, "?router=r1");
    let mut topic = EventSource::connect(daemon.http, "?topic=b");
    let mut both = EventSource::connect(daemon.http, "?router=r2&topic=b%2Fc");
    for (router, topic) in [("r1", "a"), ("r1", "b"), ("r2", "b"), ("r2", "b/c")] {
        mark(&daemon, router, topic);
    }
    let numbers =
        |source: &mut EventSource, count| source.blocks(count).iter().map(Block::number).collect::<Vec<_>>();
    assert_eq!(numbers(&mut all, 4), [1, 2, 3, 4]);
    assert_eq!(numbers(&mut one, 2), [1, 2]);
    assert_eq!(numbers(&mut topic, 2), [2, 3]);
    assert_eq!(numbers(&mut both, 1), [4]);
    for (query, named) in [
        ("?router=a/b", "router"),
        ("?router=", "router"),
        ("?topic=$mine", "topic"),
        ("?topic=a&topic=b", "topic"),
        ("?retained=1", "retained"),
    ] {
        let problem = get(daemon.http, &format!("/v1/events{query}")).problem(400, "bad_request");
        assert!(problem["detail"].as_str().expect("a detail").starts_with(named), "{query}: {problem}");
    }
}

#[test]
fn there_are_no_retained_values_and_presence_comes_only_by_name_and_without_id() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&event("kept", "1").flags(flag::JSON | flag::RETAIN));
    router.ping();
    let mut all = EventSource::connect(daemon.http, "");
    let mut presence = EventSource::connect(daemon.http, "?topic=$presence");
    let mut of_r2 = EventSource::connect(daemon.http, "?router=r2&topic=%24presence");
    let mut second = Router::bind(daemon.router, "r2");
    let came = presence.block();
    assert_eq!((came.event.as_str(), &came.id), ("$presence", &None));
    assert_eq!((&came.data["router"], &came.data["body"]["online"]), (&json!("r2"), &json!(true)));
    assert!(came.data.get("seq").is_none() && came.data.get("retained").is_none(), "{came:?}");
    assert_eq!(of_r2.block(), came);
    second.send(&Frame::bye("done"));
    assert_eq!(presence.block().data["body"]["online"], false);
    mark(&daemon, "r1", "t");
    let first = all.block();
    assert_eq!((data(&first), first.number()), (("t".into(), json!("mark")), 2));
}

#[test]
fn head_options_and_other_methods() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    for _ in 0..2 {
        let head = client.request("HEAD", "/v1/events?router=r1", &[], b"");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    }
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    let options = client.request("OPTIONS", "/v1/events", &[], b"");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
    let problem = client.request("DELETE", "/v1/events", &[], b"");
    assert_eq!(problem.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
    problem.problem(405, "method_not_allowed");
    assert_eq!(get(daemon.http, "/v1/events/x").status, 404);
    assert_eq!(Census::of(&daemon).live("subscription"), 0);
}

#[test]
fn http_1_0_gets_it_unchunked() {
    let daemon = Daemon::start("");
    let mut old = Client::connect(daemon.http);
    old.send(format!("GET /v1/events HTTP/1.0\r\nHost: {}\r\n\r\n", daemon.http));
    let head = old.head().expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    let mut new = EventSource::connect(daemon.http, "");
    mark(&daemon, "r1", "t");
    let block = new.block();
    let data = r#"{"router":"r1","topic":"t","seq":1,"body":"mark"}"#;
    let expected = format!("event: t\nid: {}\ndata: {data}\n\n", block.id.expect("an id"));
    assert_eq!(String::from_utf8(old.take(expected.len()).expect("an event")).expect("UTF-8"), expected);
}

#[test]
fn a_watcher_that_hangs_up_takes_its_subscription_with_it() {
    let daemon = Daemon::start("");
    let mut finishes = EventSource::connect(daemon.http, "");
    let resets = EventSource::connect(daemon.http, "?router=r1");
    let mut stays = EventSource::connect(daemon.http, "?topic=t");
    let census = Census::audited(&daemon);
    assert_eq!((census.live("subscription"), &census.0["audit"]["dangling"]), (3, &json!([])));
    // FIN is a hang-up, and so is a close; nothing behind the request is read.
    finishes.client().finish_sending();
    finishes.client().read_to_close();
    drop(resets);
    wait_for_live(&daemon, "subscription", 1, BOUND);
    stays.client().send("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    mark(&daemon, "r1", "t");
    assert_eq!(data(&stays.block()).1, "mark");
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn a_slow_watcher_is_cut_and_slows_nobody() {
    let config = "http.max_queued_bytes = 200000\nqueue.soft_s = 60\nshadow.history_events = 0";
    let daemon = Daemon::start(config);
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let client = Client::over(dial.stream(daemon.http).expect("connect"));
    let mut slow = EventSource::over(client, "", &[]);
    let mut fast = EventSource::connect(daemon.http, "");
    let mut router = Router::bind(daemon.router, "r1");
    let body = format!("\"{}\"", "x".repeat(10_000));
    for number in 1..=400 {
        router.send(&event("t", &body));
        assert_eq!(fast.block().number(), number);
    }
    wait_for_reason(&daemon, "http", "slow_consumer", 1, BOUND);
    // What it had is cut without a last chunk.
    while let Ok(Some(_)) = slow.try_block() {}
    assert!(slow.try_block().is_err());
    assert_eq!(Census::of(&daemon).live("subscription"), 1);
}

#[test]
fn one_event_for_many_watchers_is_held_once() {
    let daemon = Daemon::start("");
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    let mut watchers: Vec<EventSource> = (0..10)
        .map(|_| EventSource::over(Client::over(dial.stream(daemon.http).expect("connect")), "", &[]))
        .collect();
    let mut app = WebSocket::connect(daemon.app);
    app.subscribe("*", "*");
    let mut router = Router::bind(daemon.router, "r1");
    let body = format!("\"{}\"", "x".repeat(1_000_000));
    router.send_message(&event("t", &body));
    assert_eq!(app.event()["seq"], 1);
    let heap = Census::of(&daemon).heap_bytes("queued_frame");
    assert!(heap < 4_000_000, "{heap} bytes");
    for watcher in &mut watchers {
        assert_eq!(watcher.block().number(), 1);
    }
}

#[test]
fn a_drain_ends_it_with_the_last_chunk() {
    let mut daemon = Daemon::start("drain_s = 60");
    let mut router = Router::bind(daemon.router, "r1");
    let mut source = EventSource::connect(daemon.http, "");
    router.send(&event("t", "1"));
    assert_eq!(source.block().number(), 1);
    // A command that is not answered holds the daemon.
    let mut caller = Client::connect(daemon.http);
    caller.send_request("POST", "/v1/routers/r1/commands/x?timeout_ms=60000", &[], b"");
    router.recv_command();
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    source.expect_end();
    source.client().expect_close();
    request(daemon.http, "GET", "/v1/events", &[], b"").problem(503, "draining");
    // Publishing goes on as ever.
    assert_eq!(publish(daemon.http, &json!({"router": "r1", "topic": "t"})).status, 202);
    router.send(&Frame::reply(1, "at last"));
    assert_eq!(caller.response().status, 200);
    drop((router, caller, source));
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0), "{}", daemon.stderr());
}
