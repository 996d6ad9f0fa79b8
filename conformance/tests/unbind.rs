//! Contract section 6: every reason of unbind, the three counts of the census, and what is left afterwards.

use std::time::Duration;

use conformance::calls::{Census, barrier, command_in_background, oneway, wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, header, kind};
use conformance::http::{self, Client, PATIENCE};
use conformance::kernel::descriptors;
use conformance::router::{Dial, Router};
use conformance::websocket::{TEXT, WebSocket};
use serde_json::json;

/// Short limits, so that every reason can be reached soon; the shadow goes with its session.
const CONFIG: &str = "
shadow.keep_s = 0
close_grace_s = 0.2
queue.soft_s = 0.3
router.hello_timeout_s = 0.4
router.heartbeat.interval_s = 0.8
router.heartbeat.timeout_s = 0.4
router.max_queued_bytes = 262144
router.max_per_ip = 20
http.header_timeout_s = 0.4
http.body_timeout_s = 0.4
http.idle_timeout_s = 0.8
http.max_queued_bytes = 65536
websocket.app.heartbeat.interval_s = 0.8
websocket.app.heartbeat.timeout_s = 0.4
websocket.app.handshake_timeout_s = 0.4
websocket.app.max_queued_bytes = 65536
websocket.app.max_per_ip = 20
";

/// One census is asked for on a connection of its own, which is the only one that lives then.
#[track_caller]
fn everything_is_back(daemon: &Daemon, before: &Census, descriptors_before: usize) {
    for class in ["router", "app", "page"] {
        wait_for_live(daemon, class, 0, PATIENCE);
    }
    wait_for_live(daemon, "http", 1, PATIENCE);
    let census = Census::audited(daemon);
    census.assert_balanced();
    assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
    assert_eq!(census.0["audit"]["dangling"], json!([]), "{}", census.0);
    for class in ["pending_command", "subscription", "queued_frame", "shadow", "timer", "listener"] {
        assert_eq!(census.live(class), before.live(class), "{class} in {}", census.0);
    }
    eventually("all descriptors are back", PATIENCE, || {
        (descriptors(daemon.pid()) == descriptors_before).then_some(())
    });
}

/// Runs a burst between two looks at the census, and checks that everything is back afterwards.
fn around(config: &str, burst: impl FnOnce(&Daemon)) {
    let daemon = Daemon::start(config);
    let before = Census::of(&daemon);
    wait_for_live(&daemon, "http", 1, PATIENCE);
    let descriptors_before = eventually("the descriptors at rest", PATIENCE, || {
        let count = descriptors(daemon.pid());
        barrier(daemon.http);
        std::thread::sleep(Duration::from_millis(20));
        (descriptors(daemon.pid()) == count).then_some(count)
    });
    burst(&daemon);
    everything_is_back(&daemon, &before, descriptors_before);
}

#[test]
fn the_census_has_its_keys() {
    let daemon = Daemon::start("");
    let census = Census::of(&daemon);
    assert!(
        census.0["uptime_s"].as_f64().is_some_and(|uptime| (0.0..60.0).contains(&uptime)),
        "{}",
        census.0
    );
    let classes = [
        "router",
        "http",
        "app",
        "page",
        "listener",
        "pending_command",
        "subscription",
        "timer",
        "shadow",
        "queued_frame",
    ];
    for class in classes {
        for count in ["live", "opened", "unbound"] {
            census.count(class, count);
        }
    }
    assert_eq!(census.live("listener"), 4);
    assert_eq!(census.live("http"), 1);
    let reasons = census.0["unbound_by_reason"].as_object().expect("reasons");
    assert_eq!(reasons.keys().collect::<Vec<_>>().len(), 4);
    assert!(census.0["loop"]["turns"].as_u64().is_some_and(|turns| turns > 0));
    assert!(census.0["loop"]["longest_ms"].is_number() && census.0["loop"]["over_50_ms"].is_u64());
    let audited = Census::audited(&daemon);
    assert_eq!((&audited.0["audit"]["ok"], &audited.0["audit"]["dangling"]), (&json!(true), &json!([])));
    census.assert_balanced();
}

#[test]
fn the_census_takes_only_its_own_parameter() {
    let daemon = Daemon::start("");
    for query in ["audit=2", "audit=", "audit=1&audit=1", "audits=1"] {
        http::get(daemon.http, &format!("/v1/census?{query}")).problem(400, "bad_request");
    }
}

#[test]
fn live_objects_are_counted_while_they_live() {
    let daemon = Daemon::start("");
    let mut routers: Vec<Router> = (0..5).map(|n| Router::bind(daemon.router, &format!("hub-{n}"))).collect();
    let mut apps: Vec<WebSocket> = (0..3).map(|_| WebSocket::connect(daemon.app)).collect();
    for app in &mut apps {
        app.subscribe("hub-0", "*");
        app.subscribe("*", "state");
    }
    let callers: Vec<_> = (0..2)
        .map(|n| command_in_background(daemon.http, &format!("hub-{n}"), "x", 20_000, vec![]))
        .collect();
    let ids = [routers[0].recv_command().id, routers[1].recv_command().id];
    let census = Census::audited(&daemon);
    census.assert_balanced();
    for (class, live) in
        [("router", 5), ("app", 3), ("page", 0), ("http", 3), ("subscription", 6), ("pending_command", 2)]
    {
        assert_eq!(census.live(class), live, "{class} in {}", census.0);
    }
    assert!(census.live("timer") >= 2, "{}", census.0);
    for (n, id) in ids.into_iter().enumerate() {
        routers[n].send(&Frame::reply(id, ""));
    }
    for caller in callers {
        assert_eq!(caller.join().expect("the caller").status, 200);
    }
    let number = apps[0].subscribe("hub-1", "*")["subscription"].clone();
    assert_eq!(Census::of(&daemon).live("subscription"), 7);
    assert_eq!(apps[0].call("unsubscribe", json!({"subscription": number})), Ok(json!(true)));
    assert_eq!(Census::of(&daemon).live("subscription"), 6);
    drop((routers, apps));
    for class in ["router", "app", "subscription", "pending_command"] {
        wait_for_live(&daemon, class, 0, PATIENCE);
    }
}

#[test]
fn routers_end_for_every_reason() {
    around(CONFIG, |daemon| {
        let bind = || Router::bind(daemon.router, "hub");
        let expect = |reason: &str| wait_for_reason(daemon, "router", reason, 1, PATIENCE);

        drop(bind());
        expect("peer_closed");
        bind().reset();
        expect("peer_reset");
        Router::connect(daemon.router).expect_end("hello_timeout");
        expect("hello_timeout");
        let mut silent = bind();
        silent.expect(kind::PING);
        silent.expect_end("heartbeat_timeout");
        expect("heartbeat_timeout");
        let (mut old, mut new) = (bind(), bind());
        old.expect_end("takeover");
        expect("takeover");
        let kicked = http::request(daemon.http, "DELETE", "/v1/routers/hub", &[], b"");
        assert_eq!(kicked.status, 204);
        new.expect_end("kicked");
        expect("kicked");
        let mut faulty = bind();
        faulty.send(&Frame::new(0x7f));
        faulty.expect_end("protocol_error");
        expect("protocol_error");
        let mut large = bind();
        large.send_bytes(&header(kind::EVENT, 0, 1, 0, 16_385));
        large.expect_end("too_large");
        expect("too_large");
        let mut wrong_version = Router::connect(daemon.router);
        wrong_version.send(&Frame::hello("hub").id(2));
        wrong_version.expect_end("unsupported_version");
        wait_for_reason(daemon, "router", "protocol_error", 2, PATIENCE);
        let stalled = Router::bind_small(daemon.router, "hub");
        assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 262_000]).status, 202);
        expect("slow_consumer");
        drop(stalled);
        let from = Dial { from: Some(([127, 0, 0, 9], 0).into()), ..Dial::default() };
        let mut crowd: Vec<Router> = (0..21).map(|_| from.connect(daemon.router)).collect();
        crowd[20].expect_end("limit_exceeded");
        expect("limit_exceeded");
    });
}

#[test]
fn http_connections_end_for_every_reason() {
    around(CONFIG, |daemon| {
        let connect = || Client::connect(daemon.http);
        let at_least = |reason: &str, count: u64| {
            eventually(&format!("{count} ended as {reason}"), PATIENCE, || {
                (Census::of(daemon).reason("http", reason) >= count).then_some(())
            });
        };
        let closed_before = Census::of(daemon).reason("http", "peer_closed");
        drop(connect());
        at_least("peer_closed", closed_before + 1);
        let reset = connect();
        socket2::SockRef::from(reset.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        drop(reset);
        at_least("peer_reset", 1);
        let mut half = connect();
        half.send("GET / HT");
        half.read_to_close();
        at_least("header_timeout", 1);
        let mut idle = connect();
        assert_eq!(idle.request("GET", "/healthz", &[], b"").status, 200);
        idle.read_to_close();
        at_least("idle_timeout", 1);
        let mut slow = connect();
        slow.send(
            "POST /v1/routers/hub/commands/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1234",
        );
        slow.read_to_close();
        at_least("idle_timeout", 2);
        let mut done = connect();
        assert!(done.request("GET", "/healthz", &[("Connection", "close")], b"").closes());
        done.expect_close();
        drop(done);
        at_least("done", 1);
        let mut bad = connect();
        bad.send("GET / HTTP/1.1\r\n\r\n");
        bad.read_to_close();
        at_least("protocol_error", 1);
        let mut large = connect();
        large.send(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000)));
        large.read_to_close();
        at_least("too_large", 1);
        let mut larger = connect();
        larger.send(
            "POST /v1/routers/hub/commands/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
        );
        larger.read_to_close();
        at_least("too_large", 2);
    });
}

#[test]
fn apps_end_for_every_reason() {
    around(CONFIG, |daemon| {
        let connect = || WebSocket::connect(daemon.app);
        let expect = |reason: &str, count: u64| wait_for_reason(daemon, "app", reason, count, PATIENCE);
        let mut polite = connect();
        polite.send_close(1000, "");
        polite.expect_close(1000);
        expect("peer_closed", 1);
        drop(connect());
        expect("peer_closed", 2);
        let mut reset = connect();
        socket2::SockRef::from(reset.client().stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        drop(reset);
        expect("peer_reset", 1);
        Client::connect(daemon.app).read_to_close();
        expect("header_timeout", 1);
        let mut silent = connect();
        silent.client().read_to_close();
        expect("heartbeat_timeout", 1);
        let mut kicked = connect();
        let clients = http::get(daemon.http, "/v1/clients").json();
        let client = clients["clients"][0]["client"].as_str().expect("a client").to_owned();
        let answer = http::request(daemon.http, "DELETE", &format!("/v1/clients/{client}"), &[], b"");
        assert_eq!(answer.status, 204);
        kicked.expect_close(4403);
        drop(kicked);
        expect("kicked", 1);
        for (n, (first, payload)) in
            [(0xf1, &b"x"[..]), (0x82, b"x"), (0x81, b"\xff")].into_iter().enumerate()
        {
            let mut faulty = connect();
            faulty.send_frame(first, payload);
            faulty.client().read_to_close();
            drop(faulty);
            expect("protocol_error", n as u64 + 1);
        }
        let mut large = connect();
        large.send_frame(0x80 | TEXT, &vec![b' '; 65_537]);
        large.expect_close(1009);
        drop(large);
        expect("too_large", 1);
        let from = Dial { from: Some(([127, 0, 0, 9], 0).into()), ..Dial::default() };
        let crowd: Vec<_> = (0..21).map(|_| from.stream(daemon.app).expect("connect")).collect();
        expect("limit_exceeded", 1);
        drop(crowd);

        let mut watcher = connect();
        watcher.subscribe("hub", "*");
        let mut router = Router::bind(daemon.router, "hub");
        let event = Frame::event("big", vec![1; 16_000]).encode();
        eventually("the watcher that does not read is cut", PATIENCE, || {
            router.send_bytes(&event.repeat(20));
            (Census::of(daemon).reason("app", "slow_consumer") == 1).then_some(())
        });
        router.send(&Frame::ping("the router was not slowed"));
        while router.recv().kind != kind::PONG {}
    });
}

#[test]
fn a_router_takes_everything_with_it() {
    around("shadow.keep_s = 0\nclose_grace_s = 0.2", |daemon| {
        let mut watchers: Vec<WebSocket> = (0..5).map(|_| WebSocket::connect(daemon.app)).collect();
        for watcher in &mut watchers {
            watcher.subscribe("hub", "*");
        }
        for n in 0..8 {
            let mut router = Router::bind_small(daemon.router, "hub");
            let callers: Vec<_> = (0..6)
                .map(|_| command_in_background(daemon.http, "hub", "x", 60_000, vec![1; 100_000]))
                .collect();
            eventually("all are pending", PATIENCE, || {
                (Census::of(daemon).live("pending_command") == 6).then_some(())
            });
            router.send(&Frame::event("half", vec![1; 16_384]).flags(conformance::frame::flag::MORE));
            barrier(daemon.http);
            match n % 3 {
                0 => drop(router),
                1 => router.reset(),
                _ => router.send(&Frame::new(0x7f)),
            }
            for caller in callers {
                caller.join().expect("the caller").problem(503, "router_lost");
            }
            assert_eq!(Census::of(daemon).live("pending_command"), 0);
        }
    });
}

#[test]
fn callers_that_hang_up_take_their_commands_with_them() {
    around("shadow.keep_s = 0", |daemon| {
        let mut router = Router::bind(daemon.router, "hub");
        for n in 0..30 {
            let mut caller = Client::connect(daemon.http);
            caller.send_request("POST", "/v1/routers/hub/commands/x?timeout_ms=600000", &[], b"x");
            router.recv_command();
            if n % 2 == 0 {
                socket2::SockRef::from(caller.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            }
        }
        wait_for_live(daemon, "pending_command", 0, PATIENCE);
        router.ping();
    });
}

#[test]
fn the_counts_agree_at_every_moment_of_a_storm() {
    around(CONFIG, |daemon| {
        let router_address = daemon.router;
        let (app_address, http_address) = (daemon.app, daemon.http);
        let routers = std::thread::spawn(move || {
            for n in 0..400_u32 {
                let mut router = Router::connect(router_address);
                router.send(&Frame::hello(&format!("hub-{}", n % 5)));
                router.send(&Frame::event("state", n.to_string()).flags(conformance::frame::flag::RETAIN));
                match n % 4 {
                    0 => router.reset(),
                    1 => router.send(&Frame::new(0x7f)),
                    2 => router.send(&Frame::bye("draining")),
                    _ => {}
                }
            }
        });
        let apps = std::thread::spawn(move || {
            for n in 0..150 {
                let mut app = WebSocket::connect(app_address);
                app.start("subscribe", json!({"router": "*", "topic": "*"}));
                app.start("command", json!({"router": "hub-1", "name": "x", "timeout_ms": 50}));
                if n % 2 == 0 {
                    app.send_frame(0xf1, b"");
                }
            }
        });
        let callers = std::thread::spawn(move || {
            for n in 0..200 {
                let mut caller = Client::connect(http_address);
                caller.send_request("POST", "/v1/routers/hub-2/commands/x?timeout_ms=30", &[], b"x");
                if n % 2 == 0 {
                    let status = caller.response().status;
                    assert!([404, 503, 504].contains(&status), "{status}");
                }
            }
        });
        let storm = [routers, apps, callers];
        while !storm.iter().all(std::thread::JoinHandle::is_finished) {
            let census = Census::audited(daemon);
            census.assert_balanced();
            assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
        }
        for thread in storm {
            thread.join().expect("a part of the storm");
        }
    });
}

#[test]
fn the_census_is_logged_now_and_then() {
    let daemon = Daemon::start("census.log_every_s = 0.2");
    let count = || daemon.stderr().lines().filter(|line| line.contains("census")).count();
    eventually("three lines of census", PATIENCE, || (count() >= 3).then_some(()));
    let silent = Daemon::start("census.log_every_s = 0");
    barrier(silent.http);
    assert!(!silent.stderr().lines().any(|line| line.contains("census")), "{}", silent.stderr());
}
