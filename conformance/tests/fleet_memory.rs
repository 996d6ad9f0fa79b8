//! Contract section 3: a fleet call holds its message once, and what its caller does not take does not pile up.

use std::collections::BTreeSet;

use conformance::calls::{Census, command, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::fleet::{FleetCall, bind_fleet, lines};
use conformance::frame::{Frame, flag};
use conformance::http::{Client, PATIENCE};
use conformance::router::{Dial, Router};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn buffered(daemon: &Daemon) -> u64 {
    Census::of(daemon).0["buffered_bytes"].as_u64().expect("buffered_bytes")
}

/// A caller whose kernel takes little while it does not read.
fn dawdler(daemon: &Daemon) -> Client {
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    Client::over(dial.stream(daemon.http).expect("connect"))
}

#[test]
fn the_message_is_there_once() {
    const COUNT: usize = 64;
    let daemon = Daemon::start("http.fleet_window = 64");
    let ids: Vec<String> = (0..COUNT).map(|number| format!("r{number}")).collect();
    let routers: Vec<Router> = ids.iter().map(|id| Router::bind_small(daemon.router, id)).collect();
    let before = Census::of(&daemon).memory("live_bytes");
    let call = json!({ "routers": ids, "timeout_ms": 600_000, "body": "x".repeat(1_000_000) });
    let mut call = FleetCall::send(daemon.http, "x", &call);
    call.head();
    wait_for_live(&daemon, "pending_command", COUNT as u64, PATIENCE);
    let census = Census::audited(&daemon);
    census.assert_balanced();
    assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
    assert!(census.heap_bytes("pending_command") < MIB + MIB / 8, "{}", census.0);
    // Each router has a fragment that was begun, and the request may still be in its caller's buffers.
    assert!(census.memory("live_bytes") - before < 4 * MIB, "{}", census.0);
    call.client.finish_sending();
    wait_for_live(&daemon, "pending_command", 0, PATIENCE);
    drop((routers, call));
    wait_for_live(&daemon, "router", 0, PATIENCE);
    eventually("nothing is held", PATIENCE, || (buffered(&daemon) == 0).then_some(()));
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn replies_past_the_limit_are_lines_without_body() {
    const COUNT: usize = 20;
    const REPLY: usize = 300_000;
    const LIMIT: u64 = 1_000_000;
    let daemon =
        Daemon::start(&format!("http.fleet_window = 8\nhttp.max_queued_bytes = {LIMIT}\nqueue.soft_s = 60"));
    let (mut routers, ids) = bind_fleet(daemon.router, COUNT);
    let call = json!({ "routers": ids, "timeout_ms": 600_000 });
    let mut call = FleetCall::over(dawdler(&daemon), "x", &call);
    let text = json!("y".repeat(REPLY)).to_string();
    let answer = move |router: &mut Router| {
        let id = router.recv_command().id;
        router.send_message(&Frame::reply(id, text.as_bytes()).flags(flag::JSON));
        router.ping();
    };
    routers[..8].iter_mut().for_each(&answer);
    assert!(buffered(&daemon) < LIMIT + 10_000, "{}", buffered(&daemon));
    // With the second reply over half of the queue waited: behind it nobody was asked.
    assert!(Census::of(&daemon).live("pending_command") <= 2);
    routers[10..].iter_mut().for_each(Router::ping);

    let others = std::thread::spawn(move || routers[8..].iter_mut().for_each(answer));
    call.head();
    let lines = call.rest();
    others.join().expect("the routers");
    let whole = |line: &&Value| line["status"] == 200 && line["body"].as_str().map(str::len) == Some(REPLY);
    let over = |line: &&Value| {
        let expected =
            json!({ "router": line["router"], "status": 503, "code": "limit_exceeded", "sent": true });
        **line == expected
    };
    let (whole, over) = (lines.iter().filter(whole).count(), lines.iter().filter(over).count());
    assert_eq!(whole + over, COUNT);
    assert!(whole >= 3 && over >= 1, "{whole} whole, {over} over the limit");
    let named: BTreeSet<&str> = lines.iter().filter_map(|line| line["router"].as_str()).collect();
    assert_eq!(named.len(), COUNT, "each once");
}

#[test]
fn one_reply_of_any_size_fits() {
    let daemon = Daemon::start("http.max_queued_bytes = 10000");
    let mut router = Router::bind(daemon.router, "a");
    let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": ["a"], "timeout_ms": 20_000 }));
    call.head();
    let id = router.recv_command().id;
    router.send_message(&Frame::reply(id, vec![0; 1 << 20]));
    let line = call.line();
    assert_eq!(line["status"], 200);
    assert!(
        line["body_base64"].as_str().is_some_and(|text| text.len() > 1 << 20 && text.starts_with("AAAA"))
    );
}

#[test]
fn lines_wait_for_their_reader_and_not_in_memory() {
    const COUNT: usize = 10_000;
    const LIMIT: u64 = 200_000;
    let daemon = Daemon::start(&format!("http.max_queued_bytes = {LIMIT}\nqueue.soft_s = 60"));
    let _deaf = Router::bind(daemon.router, "deaf");
    let ids: Vec<String> = (0..COUNT).map(|number| format!("router-{number:05}")).collect();
    let names = (COUNT * ("router-00000".len() + 4)) as u64;
    let mut call = FleetCall::over(dawdler(&daemon), "x", &json!({ "routers": ids, "timeout_ms": 300 }));
    call.head();
    eventually("half of the queue waits", PATIENCE, || (buffered(&daemon) > names + LIMIT / 2).then_some(()));
    // One turn's lines beyond the half of it, and the deadline changes nothing.
    assert!(buffered(&daemon) < names + LIMIT / 2 + 40_000, "{}", buffered(&daemon));
    assert_eq!(command(daemon.http, "deaf", "x", 400, b"").status, 504);
    assert!(buffered(&daemon) < names + LIMIT / 2 + 40_000, "{}", buffered(&daemon));
    let lines = call.rest();
    let named: Vec<&str> = lines.iter().filter_map(|line| line["router"].as_str()).collect();
    assert_eq!(named, ids, "each once, in the order of the call");
    assert!(lines.iter().all(|line| line["sent"] == false));
    let codes: BTreeSet<&str> = lines.iter().filter_map(|line| line["code"].as_str()).collect();
    assert_eq!(codes, BTreeSet::from(["deadline_exceeded", "router_offline"]));
    eventually("nothing is held", PATIENCE, || (buffered(&daemon) == 0).then_some(()));
}

#[test]
fn hundreds_of_routers_are_one_call() {
    const COUNT: usize = 300;
    let daemon = Daemon::start("http.fleet_window = 32\nhttp.max_queued_bytes = 20000000");
    let (mut routers, ids) = bind_fleet(daemon.router, COUNT);
    let before = Census::of(&daemon);
    let routers = std::thread::spawn(move || {
        for (number, router) in routers.iter_mut().enumerate() {
            let command = router.recv_command();
            let reply = if number % 50 == 0 { vec![b'z'; 1 << 20] } else { command.body };
            router.send_message(&Frame::reply(command.id, reply));
        }
        routers
    });
    let answer =
        lines(daemon.http, "x", &json!({ "routers": "*", "timeout_ms": 60_000, "body_base64": "QUJD" }));
    let mut named: Vec<&str> = answer.iter().filter_map(|line| line["router"].as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ids);
    let short = answer.iter().filter(|line| line["body_base64"] == "QUJD").count();
    assert_eq!(short, COUNT - COUNT / 50);
    let _routers = routers.join().expect("the routers");
    let after = Census::audited(&daemon);
    after.assert_balanced();
    assert_eq!(after.0["audit"]["ok"], true);
    eventually("what the call took is given back", PATIENCE, || {
        let live = Census::of(&daemon).memory("live_bytes");
        (live < before.memory("live_bytes") + 8192).then_some(())
    });
}
