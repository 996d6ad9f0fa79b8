//! Contract section 4: silent clients, slow watchers, and that neither slows anybody else down.

use std::time::{Duration, Instant};

use conformance::calls::{Census, wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, flag};
use conformance::http::{get, is_timeout};
use conformance::router::Router;
use conformance::websocket::{Message, PING, PONG, TEXT, WebSocket, encode_frame};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(20);

fn event(topic: &str, body: &Value) -> Frame {
    Frame::event(topic, body.to_string()).flags(flag::JSON)
}

/// A kernel that holds little unsent, so that a watcher that stops reading is felt in the daemon's own queue soon.
fn stalling(config: &str) -> String {
    format!("websocket.app.notsent_lowat_bytes = 16384\nwebsocket.page.notsent_lowat_bytes = 16384\n{config}")
}

/// Waits until this many clients are left in the registry: one that is cut leaves it at once.
#[track_caller]
fn wait_for_clients(daemon: &Daemon, count: usize) {
    eventually(&format!("{count} clients"), BOUND, || {
        let list = get(daemon.http, "/v1/clients").json();
        (list["clients"].as_array().map(Vec::len) == Some(count)).then_some(())
    });
}

/// Reads what a client that was cut has still got, up to the close frame: whole messages, in their order.
#[track_caller]
fn read_to_cut(socket: &mut WebSocket, code: u16) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        match socket.receive() {
            Message::Text(text) => events.push(serde_json::from_str(&text).expect("a whole message")),
            Message::Close(got, reason) => {
                assert_eq!(got, Some(code), "{reason}");
                socket.client().expect_close();
                return events;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_idle_client_is_pinged_and_lives_as_long_as_it_answers() {
    let daemon =
        Daemon::start("websocket.app.heartbeat.interval_s = 0.2\nwebsocket.app.heartbeat.timeout_s = 0.4");
    let mut socket = WebSocket::connect(daemon.app);
    socket.answers_pings = false;
    let started = Instant::now();
    for _ in 0..5 {
        let Message::Ping(payload) = socket.receive() else { panic!("no PING") };
        assert!(payload.len() <= 125);
        socket.send_frame(0x80 | PONG, &payload);
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "PINGs each {:?}", started.elapsed() / 5);
    socket.call("routers", json!({})).expect("routers");
}

#[test]
fn anything_that_is_sent_is_a_sign_of_life() {
    let daemon =
        Daemon::start("websocket.app.heartbeat.interval_s = 0.5\nwebsocket.app.heartbeat.timeout_s = 0.5");
    let mut socket = WebSocket::connect(daemon.app);
    socket.answers_pings = false;
    socket.set_patience(Duration::from_millis(100));
    // Bytes of a message that is not whole yet: silence means that no byte was received.
    socket.send_frame(TEXT, b"\"");
    for _ in 0..20 {
        socket.send_frame(0, b"x");
        let read = socket.try_receive();
        assert!(read.as_ref().is_err_and(is_timeout), "{read:?}");
    }
}

#[test]
fn a_silent_client_is_4408() {
    let daemon =
        Daemon::start("websocket.app.heartbeat.interval_s = 0.2\nwebsocket.app.heartbeat.timeout_s = 0.3");
    let mut socket = WebSocket::connect(daemon.app);
    let mut page = WebSocket::connect(daemon.page);
    socket.answers_pings = false;
    let started = Instant::now();
    assert!(matches!(socket.receive(), Message::Ping(_)));
    assert!(matches!(socket.receive(), Message::Close(Some(4408), _)));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
    socket.client().expect_close();
    drop(socket);
    wait_for_reason(&daemon, "app", "heartbeat_timeout", 1, BOUND);
    // Pages have a heartbeat of their own.
    page.client().expect_silence(Duration::from_millis(50));
}

#[test]
fn a_slow_watcher_is_cut_with_4408_and_slows_nobody() {
    let daemon = Daemon::start(&stalling("websocket.app.max_queued_bytes = 200000\nclose_grace_s = 60"));
    let mut router = Router::bind(daemon.router, "r1");
    let mut slow = WebSocket::connect_small(daemon.app);
    slow.subscribe("*", "*");
    let mut quick = WebSocket::connect(daemon.app);
    quick.subscribe("*", "*");
    let mut page = WebSocket::connect(daemon.page);
    page.subscribe("r1", "t");
    let filler = "x".repeat(10_000);
    let count = 400;
    for n in 1..=count {
        router.send(&event("t", &json!([n, filler])));
        for watcher in [&mut quick, &mut page] {
            let event = watcher.event();
            assert_eq!((&event["seq"], &event["body"][0]), (&json!(n), &json!(n)));
        }
    }
    router.ping();
    wait_for_clients(&daemon, 2);
    // Whole messages, none left out, then the close frame behind the one that was begun.
    let events = read_to_cut(&mut slow, 4408);
    assert!(!events.is_empty() && events.len() < count, "{}", events.len());
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["params"]["seq"], index + 1);
    }
    drop(slow);
    wait_for_reason(&daemon, "app", "slow_consumer", 1, BOUND);
    quick.expect_no_event();
    assert_eq!(Census::audited(&daemon).live("subscription"), 2);
}

#[test]
fn a_queue_over_half_full_for_too_long_is_slow_too() {
    let daemon = Daemon::start(&stalling(
        "websocket.app.max_queued_bytes = 1000000\nqueue.soft_s = 0.4\nclose_grace_s = 60",
    ));
    let mut router = Router::bind(daemon.router, "r1");
    let mut slow = WebSocket::connect_small(daemon.app);
    slow.subscribe("*", "*");
    let filler = "x".repeat(15_000);
    // Over half of the limit and what the kernel takes, but not over the limit.
    for n in 0..60 {
        router.send(&event("t", &json!([n, filler])));
    }
    router.ping();
    wait_for_clients(&daemon, 0);
    read_to_cut(&mut slow, 4408);
    router.ping();
}

#[test]
fn a_watcher_that_never_reads_is_gone_after_the_grace() {
    let daemon = Daemon::start(&stalling("websocket.app.max_queued_bytes = 100000\nclose_grace_s = 0.3"));
    let mut router = Router::bind(daemon.router, "r1");
    let mut deaf = WebSocket::connect_small(daemon.app);
    deaf.subscribe("*", "*");
    let filler = "x".repeat(15_000);
    for n in 0..100 {
        router.send(&event("t", &json!([n, filler])));
    }
    router.ping();
    wait_for_reason(&daemon, "app", "slow_consumer", 1, BOUND);
    wait_for_live(&daemon, "app", 0, BOUND);
}

#[test]
fn a_slow_page_does_not_hold_up_commands() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut slow = WebSocket::connect_small(daemon.page);
    slow.subscribe("*", "*");
    let filler = "x".repeat(15_000);
    let mut app = WebSocket::connect(daemon.app);
    for n in 0..400 {
        router.send(&event("t", &json!([n, filler])));
        if n % 20 == 0 {
            let call =
                app.start("command", json!({"router": "r1", "name": "echo", "body": n, "timeout_ms": 10000}));
            let id = router.recv_command().id;
            router.send(&Frame::reply(id, n.to_string()).flags(flag::JSON));
            assert_eq!(app.finish(call), Ok(json!({"body": n})));
        }
    }
}

#[test]
fn one_that_holds_most_of_the_memory_ends_with_4429() {
    let daemon = Daemon::start(&stalling("memory.max_buffered_bytes = 600000\nclose_grace_s = 60"));
    let mut router = Router::bind(daemon.router, "r1");
    let mut hoarder = WebSocket::connect_small(daemon.app);
    hoarder.subscribe("*", "*");
    let mut quick = WebSocket::connect(daemon.app);
    quick.subscribe("*", "*");
    let filler = "x".repeat(10_000);
    for n in 0..200 {
        router.send(&event("t", &json!([n, filler])));
        assert_eq!(quick.event()["body"][0], n);
    }
    wait_for_clients(&daemon, 1);
    read_to_cut(&mut hoarder, 4429);
    drop(hoarder);
    wait_for_reason(&daemon, "app", "limit_exceeded", 1, BOUND);
}

#[test]
fn a_client_that_sends_without_reading_is_not_read_for_ever() {
    let daemon = Daemon::start("websocket.app.max_queued_bytes = 1000000");
    let mut socket = WebSocket::connect_small(daemon.app);
    let mut bystander = WebSocket::connect(daemon.app);
    // Each answer is as long as its call: 20 MB of answers would be owed, and no answer is taken.
    let call = json!({"jsonrpc": "2.0", "id": "x".repeat(40), "method": "routers"});
    let batch = Value::from(vec![call; 16]).to_string();
    let frame = encode_frame(0x80 | TEXT, [1, 2, 3, 4], batch.as_bytes());
    socket.client().send_until_stalled(frame.repeat(15_000));
    for _ in 0..20 {
        bystander.call("routers", json!({})).expect("routers");
    }
    bystander.send_frame(0x80 | PING, b"?");
    assert_eq!(bystander.receive(), Message::Pong(b"?".to_vec()));
}
