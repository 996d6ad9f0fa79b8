//! Contract section 4: `subscribe`, `unsubscribe` and the `event` notification.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

fn event(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON)
}

#[test]
fn an_event_is_a_notification_of_exactly_this_shape() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    for address in [daemon.app, daemon.page] {
        let mut socket = WebSocket::connect(address);
        socket.subscribe("*", "*");
        router.send(&event("door/front", &json!({"open": true, "by": "é😀"})));
        let message = socket.receive_json();
        let seq = message["params"]["seq"].clone();
        assert!(seq.is_u64(), "{message}");
        let params =
            json!({"router": "r1", "topic": "door/front", "seq": seq, "body": {"open": true, "by": "é😀"}});
        assert_eq!(message, json!({"jsonrpc": "2.0", "method": "event", "params": params}));
    }
}

#[test]
fn a_body_that_is_not_json_is_base64() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "t");
    let bodies: &[(u8, &[u8], &str)] = &[
        (0, b"\0\xff\r\n", "AP8NCg=="),
        (0, b"", ""),
        (0, b"{}", "e30="),
        (0, b"a", "YQ=="),
        (flag::JSON, b"{broken", "e2Jyb2tlbg=="),
        (flag::JSON, b"", ""),
        (flag::JSON, b"\"\xff\"", "Iv8i"),
        (flag::JSON, b"1 2", "MSAy"),
        (flag::JSON, b"{\"a\":1}x", "eyJhIjoxfXg="),
        (flag::JSON, b"nan", "bmFu"),
        (flag::JSON, b"\"\x01\"", "IgEi"),
    ];
    for (index, (flags, body, base64)) in bodies.iter().enumerate() {
        router.send(&Frame::event("t", *body).flags(*flags));
        let seq = index + 1;
        assert_eq!(socket.event(), json!({"router": "r1", "topic": "t", "seq": seq, "body_base64": base64}));
    }
    // Valid JSON in any form stays JSON.
    for text in ["null", "0", "\"\"", " [1 ,\r\n 2]\n", "{\"a\":{\"b\":[]}}", "-1.5e3", "\"\\ud83d\\ude00\""]
    {
        router.send(&Frame::event("t", text).flags(flag::JSON));
        let event = socket.event();
        assert_eq!(event["body"], serde_json::from_str::<Value>(text).expect("JSON"), "{text:?}: {event}");
        assert!(event.get("body").is_some() && event.get("body_base64").is_none(), "{event}");
    }
    // Nested beyond what a reader takes: in one form or the other, and the watcher lives on.
    router.send(&Frame::event("t", "[".repeat(5_000) + &"]".repeat(5_000)).flags(flag::JSON));
    router.send(&event("t", &json!("next")));
    socket.receive();
    assert_eq!(socket.event()["body"], "next");
}

#[test]
fn events_come_in_order_and_are_numbered_for_each_router() {
    let daemon = Daemon::start("");
    let mut routers = [Router::bind(daemon.router, "r1"), Router::bind(daemon.router, "r2")];
    let mut watchers = [WebSocket::connect(daemon.app), WebSocket::connect(daemon.page)];
    for watcher in &mut watchers {
        watcher.subscribe("*", "*");
    }
    let count = 500;
    for n in 1..=count {
        for router in &mut routers {
            router.send(&event(&format!("t{}", n % 7), &json!(n)));
        }
    }
    for watcher in &mut watchers {
        let mut last = json!({"r1": 0, "r2": 0});
        for _ in 0..2 * count {
            let event = watcher.event();
            let router = event["router"].as_str().expect("a router").to_owned();
            let n = event["seq"].as_u64().expect("a number");
            assert_eq!(n, last[&router].as_u64().expect("a number") + 1, "{event}");
            assert_eq!((&event["body"], &event["topic"]), (&json!(n), &json!(format!("t{}", n % 7))));
            last[&router] = json!(n);
        }
    }
}

#[test]
fn a_subscription_takes_what_it_names() {
    let daemon = Daemon::start("");
    let mut r1 = Router::bind(daemon.router, "r1");
    let mut r2 = Router::bind(daemon.router, "r2");
    let filters =
        [("r1", "a"), ("r1", "*"), ("*", "a"), ("*", "*"), ("r2", "b"), ("r10", "a"), ("r1", "a/b")];
    let mut watchers = filters.map(|(router, topic)| {
        let mut watcher = WebSocket::connect(daemon.app);
        watcher.subscribe(router, topic);
        watcher
    });
    for (name, router) in [("r1", &mut r1), ("r2", &mut r2)] {
        for topic in ["a", "b", "a/b"] {
            router.send(&event(topic, &json!(format!("{name} {topic}"))));
        }
        router.ping();
    }
    for ((router, topic), watcher) in filters.iter().zip(&mut watchers) {
        for (name, of) in [("r1", "a"), ("r1", "b"), ("r1", "a/b"), ("r2", "a"), ("r2", "b"), ("r2", "a/b")] {
            if [name, "*"].contains(router) && [of, "*"].contains(topic) {
                assert_eq!(watcher.event()["body"], format!("{name} {of}"), "{router} {topic}");
            }
        }
        watcher.expect_no_event();
    }
}

#[test]
fn an_event_comes_once_however_many_subscriptions_match() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    let mut numbers = Vec::new();
    for (router, topic) in [("r1", "t"), ("r1", "t"), ("r1", "*"), ("*", "t"), ("*", "*")] {
        numbers.push(socket.subscribe(router, topic)["subscription"].clone());
    }
    for (index, number) in numbers.iter().enumerate() {
        assert!(number.is_u64() && !numbers[..index].contains(number), "{numbers:?}");
    }
    // With each subscription that ends it still comes once, until the last has gone.
    for number in &numbers {
        router.send(&event("t", number));
        router.ping();
        assert_eq!(&socket.event()["body"], number);
        socket.expect_no_event();
        assert_eq!(socket.call("unsubscribe", json!({"subscription": number})), Ok(json!(true)));
        let twice = socket.call("unsubscribe", json!({"subscription": number})).expect_err("an error");
        assert_eq!(twice["code"], -32602);
    }
    router.send(&event("t", &json!("to nobody")));
    router.ping();
    socket.expect_no_event();
    assert_eq!(Census::audited(&daemon).live("subscription"), 0);
}

#[test]
fn the_subscription_of_another_client_cannot_be_ended() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut mine = WebSocket::connect(daemon.app);
    let mut theirs = WebSocket::connect(daemon.app);
    let number = mine.subscribe("r1", "t")["subscription"].clone();
    for n in 0..100 {
        let error = theirs.call("unsubscribe", json!({"subscription": n})).expect_err("an error");
        assert_eq!(error["code"], -32602);
    }
    let error = theirs.call("unsubscribe", json!({"subscription": number})).expect_err("an error");
    assert_eq!(error["code"], -32602);
    router.send(&event("t", &json!(1)));
    assert_eq!(mine.event()["body"], 1);
}

#[test]
fn more_than_max_subscriptions_is_limit_exceeded() {
    let daemon = Daemon::start("websocket.app.max_subscriptions = 2");
    let mut socket = WebSocket::connect(daemon.app);
    let first = socket.subscribe("r1", "a")["subscription"].clone();
    socket.subscribe("r1", "b");
    let error = socket.call("subscribe", json!({"router": "r1", "topic": "c"})).expect_err("an error");
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32007), &json!("limit_exceeded")));
    // It is one client's limit, the page's is another, and a place that is free can be taken again.
    WebSocket::connect(daemon.app).subscribe("r1", "c");
    let mut page = WebSocket::connect(daemon.page);
    for n in 0..64 {
        page.subscribe("r1", &format!("t{n}"));
    }
    let error = page.call("subscribe", json!({"router": "r1", "topic": "c"})).expect_err("an error");
    assert_eq!(error["code"], -32007);
    socket.call("unsubscribe", json!({"subscription": first})).expect("the first");
    socket.subscribe("r1", "c");
}

#[test]
fn subscribe_tells_epoch_and_seq_of_one_router() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    let unknown = socket.subscribe("r1", "t");
    assert_eq!((&unknown["epoch"], &unknown["seq"]), (&Value::Null, &json!(0)), "{unknown}");
    assert_eq!(unknown.as_object().map(|members| members.len()), Some(3), "{unknown}");
    let mut router = Router::bind(daemon.router, "r1");
    router.send(&event("other", &json!(1)));
    router.send(&event("other", &json!(2)));
    router.ping();
    let known = socket.subscribe("r1", "*");
    assert!(known["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()), "{known}");
    assert_eq!(known["seq"], 2);
    let all = socket.subscribe("*", "t");
    assert_eq!(all, json!({"subscription": all["subscription"]}));
}

#[test]
fn an_event_of_any_length_is_one_message() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("r1", "*");
    for length in [100, 125, 126, 16_384, 65_535, 65_536, 1_048_576] {
        let body: Vec<u8> = format!("\"{}\"", "x".repeat(length - 2)).into_bytes();
        router.send_message(&Frame::event("t", body).flags(flag::JSON));
        assert_eq!(socket.event()["body"].as_str().map(str::len), Some(length - 2));
    }
    router.send_message(&Frame::event("t", vec![0xff; 1_048_576]));
    assert_eq!(socket.event()["body_base64"].as_str().map(str::len), Some(1_398_104));
}

#[test]
fn an_empty_queue_takes_a_message_of_any_legal_size() {
    let daemon = Daemon::start("websocket.app.max_queued_bytes = 16384");
    let mut router = Router::bind(daemon.router, "r1");
    let mut socket = WebSocket::connect_small(daemon.app);
    socket.subscribe("r1", "*");
    for n in 0..3 {
        let body = json!([n, "x".repeat(1_000_000)]);
        router.send_message(&event("t", &body));
        assert_eq!(socket.event()["body"], body);
    }
}

#[test]
fn subscriptions_go_with_their_client() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    for _ in 0..5 {
        let mut socket = WebSocket::connect(daemon.app);
        for topic in ["a", "b", "*", "$presence"] {
            socket.subscribe("r1", topic);
        }
        assert_eq!(Census::audited(&daemon).live("subscription"), 4);
        drop(socket);
        wait_for_live(&daemon, "subscription", 0, BOUND);
        router.send(&event("a", &json!("to nobody")));
        router.ping();
    }
    let census = Census::audited(&daemon);
    census.assert_balanced();
    assert_eq!(census.0["audit"]["dangling"], json!([]));
}

#[test]
fn events_before_a_fin_still_count() {
    let daemon = Daemon::start("");
    let mut socket = WebSocket::connect(daemon.app);
    socket.subscribe("*", "*");
    for n in 0..20 {
        let mut router = Router::bind(daemon.router, "r1");
        for part in 0..10 {
            router.send(&event("t", &json!([n, part])));
        }
        drop(router);
        for part in 0..10 {
            assert_eq!(socket.event()["body"], json!([n, part]));
        }
    }
}
