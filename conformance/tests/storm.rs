//! Contract sections 1 to 6 together: everybody at once, at random and by seed. Every command gets exactly one answer, the
//! census agrees with itself at every moment, and at the end nothing is left.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Command, Frame, flag, kind};
use conformance::http::{self, Client, PATIENCE, is_timeout};
use conformance::kernel::descriptors;
use conformance::random::Random;
use conformance::router::{Dial, Router};
use conformance::websocket::WebSocket;
use serde_json::json;

const CONFIG: &str = "
shadow.keep_s = 0.5
shadow.max_offline = 3
shadow.max_topics = 4
close_grace_s = 0.2
queue.soft_s = 0.3
router.max_queued_bytes = 131072
router.max_pending = 4
router.heartbeat.interval_s = 0.4
router.heartbeat.timeout_s = 0.4
websocket.app.max_queued_bytes = 65536
websocket.app.max_subscriptions = 8
websocket.app.max_pending = 4
memory.max_buffered_bytes = 3000000
";

const HUBS: usize = 6;

fn hub(random: &mut Random) -> String {
    format!("hub-{}", random.below(HUBS))
}

/// A router that lives for a while: it answers, answers late or not at all, sends events, and ends in some way.
fn one_router(address: SocketAddr, random: &mut Random) {
    let small = random.one_in(3).then_some(4096);
    let Ok(stream) = (Dial { receive_buffer: small, ..Dial::default() }).stream(address) else { return };
    let mut router = Router::over(stream);
    router.send(&Frame::hello(&hub(random)));
    router.set_patience(Duration::from_millis(5));
    for _ in 0..random.below(30) {
        match random.below(8) {
            0 => router.send(&Frame::event("state", vec![1; random.below(3000)]).flags(flag::RETAIN)),
            1 => router
                .send(&Frame::event(random.pick(&["a", "b", "c", "d", "e", "f"]), "1").flags(flag::JSON)),
            2 => router.send(&Frame::event("gone", "").flags(flag::RETAIN)),
            3 => router.send_message(&Frame::event("big", vec![1; random.below(60_000)])),
            4 => std::thread::sleep(Duration::from_millis(random.below(20) as u64)),
            _ => match router.try_recv() {
                Ok(frame) if frame.kind == kind::COMMAND && frame.id != 0 && !frame.is(flag::MORE) => {
                    let flags = if random.one_in(4) { flag::ERROR } else { 0 };
                    let body = vec![b'r'; random.below(30_000)];
                    router.send_message(&Frame::reply(frame.id, body).flags(flags));
                }
                Ok(frame) if frame.kind == kind::PING => router.send(&Frame { kind: kind::PONG, ..frame }),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(_) => return,
            },
        }
    }
    match random.below(6) {
        0 => router.reset(),
        1 => router.send(&Frame::bye("draining")),
        2 => router.send(&Frame::new(0x7f)),
        3 => router.send(&Frame::event("half", "x").flags(flag::MORE)),
        // Stays, without reading, until the heartbeat or a takeover ends it.
        4 => std::thread::sleep(Duration::from_millis(300)),
        _ => {}
    }
}

fn one_app(address: SocketAddr, random: &mut Random) {
    let mut app = WebSocket::connect(address);
    for _ in 0..random.below(12) {
        let router = if random.one_in(3) { "*".to_owned() } else { hub(random) };
        match random.below(6) {
            0 => drop(app.start(
                "subscribe",
                json!({"router": router, "topic": random.pick(&["*", "$presence", "a"])}),
            )),
            1 => drop(app.start("unsubscribe", json!({"subscription": random.below(5)}))),
            2 => drop(app.start(
                "command",
                json!({"router": hub(random), "name": "x", "timeout_ms": 1 + random.below(100)}),
            )),
            3 => drop(app.start("routers", json!({}))),
            4 => app.send_frame(0x89, b"ping"),
            _ => std::thread::sleep(Duration::from_millis(random.below(30) as u64)),
        }
    }
    match random.below(4) {
        0 => app.send_close(1000, ""),
        1 => app.send_frame(0xf1, b""),
        2 => {
            socket2::SockRef::from(app.client().stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER")
        }
        _ => {}
    }
}

/// A caller that gets one answer for each request, or hangs up.
fn one_caller(address: SocketAddr, random: &mut Random) {
    let mut caller = Client::connect(address);
    for _ in 0..random.below(6) {
        let oneway = random.one_in(3);
        let query =
            if oneway { "oneway=1".to_owned() } else { format!("timeout_ms={}", 1 + random.below(150)) };
        let target = format!("/v1/routers/{}/commands/x?{query}", hub(random));
        let length = random.pick(&[0, 10, 5000, 40_000, 120_000]);
        caller.send_request("POST", &target, &[], &vec![b'c'; length]);
        if random.one_in(5) {
            return;
        }
        let Ok(response) = caller.response_to("POST") else { panic!("no answer for {target}") };
        let expected: &[u16] = if oneway { &[202, 404, 429] } else { &[200, 404, 429, 502, 503, 504] };
        assert!(expected.contains(&response.status), "{target}: {response:?}");
        if response.closes() {
            // The one that holds most of a full memory goes.
            assert_eq!(response.status, 429);
            return;
        }
    }
}

fn kicker(address: SocketAddr, random: &mut Random) {
    let status = http::request(address, "DELETE", &format!("/v1/routers/{}", hub(random)), &[], b"").status;
    assert!([204, 404].contains(&status), "{status}");
    for target in ["/v1/routers", "/v1/clients"] {
        assert_eq!(http::get(address, target).status, 200);
    }
    std::thread::sleep(Duration::from_millis(random.below(40) as u64));
}

fn repeat(
    times: usize,
    seed: u64,
    address: SocketAddr,
    one: impl Fn(SocketAddr, &mut Random) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut random = Random::new(seed);
        for _ in 0..times {
            one(address, &mut random);
        }
    })
}

#[test]
fn everybody_at_once_leaves_nothing() {
    let daemon = Daemon::start(CONFIG);
    let before = Census::of(&daemon);
    wait_for_live(&daemon, "http", 1, PATIENCE);
    let descriptors_before = descriptors(daemon.pid());
    let mut storm = Vec::new();
    for seed in 0..6 {
        storm.push(repeat(60, seed, daemon.router, one_router));
        storm.push(repeat(100, 100 + seed, daemon.http, one_caller));
    }
    for seed in 200..203 {
        storm.push(repeat(60, seed, daemon.app, one_app));
    }
    storm.push(repeat(60, 300, daemon.http, kicker));
    let mut looks = 0;
    while !storm.iter().all(JoinHandle::is_finished) {
        let census = Census::audited(&daemon);
        census.assert_balanced();
        assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
        looks += 1;
    }
    assert!(looks > 10, "the storm was over at once");
    for thread in storm {
        thread.join().expect("a part of the storm");
    }
    for class in ["router", "app", "page", "pending_command", "subscription", "queued_frame", "shadow"] {
        wait_for_live(&daemon, class, 0, PATIENCE);
    }
    wait_for_live(&daemon, "timer", before.live("timer"), PATIENCE);
    eventually("all descriptors are back", PATIENCE, || {
        (descriptors(daemon.pid()) <= descriptors_before).then_some(())
    });
    // It is as good as new.
    let mut router = Router::bind(daemon.router, "hub-0");
    let caller = conformance::calls::command_in_background(daemon.http, "hub-0", "x", 10_000, vec![]);
    match router.try_command().expect("a command") {
        Command::Whole(command) => router.send(&Frame::reply(command.id, "fine")),
        Command::Aborted(id) => panic!("{id} was aborted"),
    }
    assert_eq!(caller.join().expect("the caller").body, b"fine");
}
