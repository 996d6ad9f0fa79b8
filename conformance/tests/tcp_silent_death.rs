//! Contract section 2: peers that vanish without FIN or RST, in network namespaces whose cable is cut. Needs root.

use std::time::{Duration, Instant};

use conformance::calls::{self, Census, command_in_background, oneway, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, kind};
use conformance::http::{Client, PATIENCE};
use conformance::network::Network;
use conformance::router::Router;
use conformance::websocket::WebSocket;

/// Silence is noticed 3 s after the last byte, idle or not, on every listener; heartbeats are out of the way.
const CONFIG: &str = "
router.keepalive = { idle_s = 1, interval_s = 1, count = 2, user_timeout_s = 3 }
http.keepalive = { idle_s = 1, interval_s = 1, count = 2, user_timeout_s = 3 }
websocket.app.keepalive = { idle_s = 1, interval_s = 1, count = 2, user_timeout_s = 3 }
websocket.page.keepalive = { idle_s = 1, interval_s = 1, count = 2, user_timeout_s = 3 }
";

/// Far above the 3 s, for a busy machine, and far below every other time limit.
const NOTICED: Duration = Duration::from_secs(15);

fn bind(network: &Network, daemon: &Daemon, id: &str) -> Router {
    network.on_router_side(|| Router::bind(daemon.router, id))
}

#[test]
fn an_idle_router_that_vanished_is_reaped_by_keepalive() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let _router = bind(&network, &daemon, "hub");
    network.on_daemon_side(|| {
        let mut near = Router::bind(daemon.router, "near");
        assert_eq!(Census::of(&daemon).live("router"), 2);
        network.silence_router_side();
        let begun = Instant::now();
        wait_for_reason(&daemon, "router", "keepalive", 1, NOTICED);
        assert!(begun.elapsed() > Duration::from_secs(1), "after {:?}", begun.elapsed());
        assert!(calls::router(daemon.http, "hub").is_none());
        assert_eq!(Census::of(&daemon).live("router"), 1);
        near.ping();
    });
}

#[test]
fn a_living_idle_router_is_not_reaped() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let mut router = bind(&network, &daemon, "hub");
    // Its kernel answers the probes; three times the user timeout pass.
    router.expect_silence(Duration::from_secs(9));
    router.ping();
}

#[test]
fn a_pending_command_of_a_vanished_router_gets_its_answer() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let mut router = bind(&network, &daemon, "hub");
    network.on_daemon_side(|| {
        let caller = command_in_background(daemon.http, "hub", "x", 60_000, vec![]);
        router.recv_command();
        network.silence_router_side();
        let begun = Instant::now();
        assert_eq!(caller.join().expect("the caller").problem(503, "router_lost")["sent"], true);
        assert!(begun.elapsed() < NOTICED, "after {:?}", begun.elapsed());
        wait_for_reason(&daemon, "router", "keepalive", 1, PATIENCE);
    });
}

#[test]
fn unacknowledged_data_is_given_up_after_the_user_timeout() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let _router = bind(&network, &daemon, "hub");
    network.on_daemon_side(|| {
        network.silence_router_side();
        // Keepalive is silent while this is unacknowledged.
        let caller = command_in_background(daemon.http, "hub", "x", 60_000, vec![1; 1000]);
        let begun = Instant::now();
        assert_eq!(caller.join().expect("the caller").problem(503, "router_lost")["sent"], true);
        assert!(begun.elapsed() < NOTICED, "after {:?}", begun.elapsed());
        wait_for_reason(&daemon, "router", "keepalive", 1, PATIENCE);
        assert!(calls::router(daemon.http, "hub").is_none());
    });
}

#[test]
fn a_pulled_cable_is_noticed_with_and_without_data_under_way() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let _idle = bind(&network, &daemon, "idle");
    let _busy = bind(&network, &daemon, "busy");
    network.on_daemon_side(|| {
        network.pull_cable();
        assert_eq!(oneway(daemon.http, "busy", "x", &[1; 1000]).status, 202);
        wait_for_reason(&daemon, "router", "keepalive", 2, NOTICED);
        wait_for_live(&daemon, "router", 0, PATIENCE);
    });
}

#[test]
fn the_heartbeat_comes_first_when_it_is_shorter() {
    let network = Network::new();
    let heartbeat =
        "router.heartbeat.interval_s = 0.5\nrouter.heartbeat.timeout_s = 0.5\nclose_grace_s = 0.5";
    let daemon = network.start(heartbeat);
    let _router = bind(&network, &daemon, "hub");
    network.on_daemon_side(|| {
        network.silence_router_side();
        wait_for_reason(&daemon, "router", "heartbeat_timeout", 1, NOTICED);
        wait_for_live(&daemon, "router", 0, NOTICED);
    });
}

#[test]
fn a_living_router_that_takes_nothing_is_a_slow_consumer() {
    let network = Network::new();
    let daemon = network.start(&format!("{CONFIG}\nrouter.max_queued_bytes = 8388608"));
    let router = network.on_router_side(|| Router::bind_small(daemon.router, "hub"));
    network.on_daemon_side(|| {
        // Under half of its queue, so that only the kernel's timer can end it.
        assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 1 << 20]).status, 202);
        wait_for_reason(&daemon, "router", "slow_consumer", 1, Duration::from_secs(30));
        assert_eq!(Census::of(&daemon).reason("router", "keepalive"), 0);
    });
    drop(router);
}

#[test]
fn a_vanished_router_with_a_full_queue_is_reaped_too() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let router = network.on_router_side(|| Router::bind_small(daemon.router, "hub"));
    network.on_daemon_side(|| {
        assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; 900_000]).status, 202);
    });
    network.on_router_side(|| router.stream().peek(&mut [0]).expect("the first bytes"));
    network.silence_router_side();
    network.on_daemon_side(|| {
        wait_for_live(&daemon, "router", 0, NOTICED);
        Census::of(&daemon).assert_balanced();
    });
}

#[test]
fn vanished_http_callers_are_reaped() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let mut caller = network.on_router_side(|| Client::connect(daemon.http));
    assert_eq!(caller.request("GET", "/healthz", &[], b"").status, 200);
    network.on_daemon_side(|| {
        network.silence_router_side();
        wait_for_reason(&daemon, "http", "keepalive", 1, NOTICED);
    });
}

#[test]
fn vanished_watchers_are_reaped_idle_or_not() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let _watchers = network.on_router_side(|| {
        let mut busy = WebSocket::connect(daemon.app);
        busy.subscribe("hub", "*");
        let origin = format!("http://{}", daemon.page);
        (busy, WebSocket::connect(daemon.app), WebSocket::connect_from(daemon.page, &origin))
    });
    network.on_daemon_side(|| {
        let mut router = Router::bind(daemon.router, "hub");
        network.silence_router_side();
        router.send(&Frame::event("topic", "into the void"));
        wait_for_reason(&daemon, "app", "keepalive", 2, NOTICED);
        wait_for_reason(&daemon, "page", "keepalive", 1, NOTICED);
        assert_eq!(Census::of(&daemon).live("subscription"), 0);
        router.ping();
    });
}

#[test]
fn one_that_comes_back_before_its_death_is_noticed_takes_over() {
    let network = Network::new();
    let daemon = network.start("");
    let _ghost = bind(&network, &daemon, "hub");
    network.silence_router_side();
    network.on_daemon_side(|| {
        // The same router through another network, while its old connection is dead but unnoticed.
        let mut back = Router::bind(daemon.router, "hub");
        let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![]);
        let asked = back.expect(kind::COMMAND);
        back.send(&Frame::reply(asked.id, "here"));
        assert_eq!(caller.join().expect("the caller").body, b"here");
        wait_for_reason(&daemon, "router", "takeover", 1, PATIENCE);
    });
}

#[test]
fn a_stall_that_ends_before_the_user_timeout_is_no_death() {
    let network = Network::new();
    let daemon = network.start(CONFIG);
    let mut router = network.on_router_side(|| Router::bind_small(daemon.router, "hub"));
    network.on_daemon_side(|| assert_eq!(oneway(daemon.http, "hub", "fill", &[1; 600_000]).status, 202));
    network.on_router_side(|| {
        while router.stream().peek(&mut [0; 1]).is_err() {}
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(router.recv_command().body.len(), 600_000);
        router.ping();
    });
}
