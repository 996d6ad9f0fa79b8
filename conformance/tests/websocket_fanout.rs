//! Contract section 4: many watchers, many routers; everybody sees everything once and in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use conformance::calls::Census;
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::json;

#[test]
fn two_hundred_watchers_see_the_same() {
    let daemon = Daemon::start("");
    let mut routers: Vec<Router> = (0..5).map(|n| Router::bind(daemon.router, &format!("r{n}"))).collect();
    let mut watchers: Vec<WebSocket> =
        (0..200).map(|n| WebSocket::connect(if n % 2 == 0 { daemon.app } else { daemon.page })).collect();
    for watcher in &mut watchers {
        watcher.subscribe("*", "*");
    }
    for n in 1..=20 {
        for router in &mut routers {
            router.send(&Frame::event("t", json!([n, "x".repeat(n * 100)]).to_string()).flags(flag::JSON));
        }
    }
    for watcher in &mut watchers {
        let mut last: HashMap<String, u64> = HashMap::new();
        for _ in 0..100 {
            let event = watcher.event();
            let seq = event["seq"].as_u64().expect("a number");
            let before =
                last.insert(event["router"].as_str().expect("a router").to_owned(), seq).unwrap_or(0);
            assert_eq!(seq, before + 1);
            assert_eq!(event["body"], json!([seq, "x".repeat(seq as usize * 100)]));
        }
    }
    assert_eq!(Census::audited(&daemon).live("subscription"), 200);
    // One encoded frame is shared by its watchers, and gone when all have it.
    assert_eq!(Census::of(&daemon).live("queued_frame"), 0);
}

#[test]
fn one_that_joins_in_the_middle_sees_everything_from_there_on() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let flags = if n % 3 == 0 { flag::JSON | flag::RETAIN } else { flag::JSON };
                router.send(&Frame::event(&format!("t{}", n % 5), n.to_string()).flags(flags));
                // A round trip: the daemon is kept busy, not buried.
                router.ping();
            }
        });
        for _ in 0..30 {
            let mut socket = WebSocket::connect(daemon.app);
            let since = socket.subscribe("r1", "*")["seq"].as_u64().expect("a number");
            let mut next = since + 1;
            while next <= since + 20 {
                let event = socket.event();
                let seq = event["seq"].as_u64().expect("a number");
                assert_eq!(event["body"], seq);
                if event["retained"] == true {
                    assert!(seq <= since, "{seq} is newer than the snapshot of {since}");
                } else {
                    assert_eq!(seq, next, "neither a gap nor a doubled event");
                    next += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn big_and_small_events_keep_their_order() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut watchers = [WebSocket::connect(daemon.app), WebSocket::connect(daemon.page)];
    for watcher in &mut watchers {
        watcher.subscribe("r1", "*");
    }
    let lengths = [10, 500_000, 1, 16_384, 16_385, 3, 1_000_000, 2];
    for (n, length) in lengths.iter().enumerate() {
        let body = json!([n, "x".repeat(*length)]).to_string();
        router.send_message(&Frame::event("t", body).flags(flag::JSON));
        for watcher in &mut watchers {
            let event = watcher.event();
            assert_eq!((&event["seq"], &event["body"][0]), (&json!(n + 1), &json!(n)));
            assert_eq!(event["body"][1].as_str().map(str::len), Some(*length));
        }
    }
}

#[test]
fn replies_and_events_share_one_connection() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "*");
    for n in 0..100 {
        let call =
            socket.start("command", json!({"router": "r1", "name": "x", "body": n, "timeout_ms": 10000}));
        let id = router.recv_command().id;
        router.send(&Frame::event("before", n.to_string()).flags(flag::JSON));
        router.send(&Frame::reply(id, n.to_string()).flags(flag::JSON));
        router.send(&Frame::event("after", n.to_string()).flags(flag::JSON));
        assert_eq!(socket.finish(call), Ok(json!({"body": n})));
        for topic in ["before", "after"] {
            let event = socket.event();
            assert_eq!((&event["topic"], &event["body"]), (&json!(topic), &json!(n)));
        }
    }
}
