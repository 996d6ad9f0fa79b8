//! Contract sections 1, 3 and 7: how a fleet call ends when its caller or the daemon does.

use std::time::Duration;

use conformance::calls::{Census, wait_for_drain, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::fleet::{FleetCall, bind_fleet, problem, sorted};
use conformance::frame::{Command, Frame, flag};
use conformance::http::{PATIENCE, request};
use conformance::router::Router;
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;

#[test]
fn a_hang_up_takes_all_of_the_call_with_it() {
    let daemon = Daemon::start("http.fleet_window = 3");
    let (mut routers, ids) = bind_fleet(daemon.router, 6);
    for reset in [false, true] {
        let call = json!({ "routers": ids, "timeout_ms": 600_000, "body": "x".repeat(1000) });
        let mut call = FleetCall::send(daemon.http, "x", &call);
        call.head();
        let asked: Vec<u32> = routers[..3].iter_mut().map(|router| router.recv_command().id).collect();
        routers[1].send(&Frame::reply(asked[1], "done"));
        call.line();
        routers[3].recv_command();
        assert_eq!(Census::of(&daemon).live("pending_command"), 3);
        if reset {
            socket2::SockRef::from(call.client.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            drop(call);
        } else {
            call.client.finish_sending();
            call.client.expect_close();
        }
        wait_for_live(&daemon, "pending_command", 0, BOUND);
        routers[0].send(&Frame::reply(asked[0], "to nobody"));
        for router in &mut routers {
            router.ping(); // nobody is told anything: what was sent was whole, and the rest is never asked
        }
    }
    wait_for_reason(&daemon, "http", "peer_reset", 1, BOUND);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn a_hang_up_aborts_what_was_begun() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "a");
    let call = json!({ "routers": ["a"], "timeout_ms": 600_000, "body": "x".repeat(1_000_000) });
    let mut call = FleetCall::send(daemon.http, "x", &call);
    call.head();
    wait_for_live(&daemon, "pending_command", 1, BOUND);
    call.client.finish_sending();
    wait_for_live(&daemon, "pending_command", 0, BOUND);
    match router.try_command().expect("a command or its abort") {
        Command::Aborted(id) => assert_eq!(id, 1),
        Command::Whole(_) => panic!("a megabyte went into small buffers"),
    }
    router.ping();
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn in_a_drain_a_call_under_way_gets_its_lines() {
    let mut daemon = Daemon::start("http.fleet_window = 2\nclose_grace_s = 0.5\ndrain_s = 30");
    let (mut routers, ids) = bind_fleet(daemon.router, 4);
    let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": ids, "timeout_ms": 60_000 }));
    call.head();
    let asked: Vec<u32> = routers[..2].iter_mut().map(|router| router.recv_command().id).collect();
    daemon.signal(SIGTERM);
    wait_for_drain(daemon.http);
    let refused = request(daemon.http, "POST", "/v1/commands/x", &[], br#"{"routers":[]}"#);
    assert_eq!(refused.problem(503, "draining")["sent"], false);
    // Who was not asked yet will not be, and says so at once.
    let not_asked = [2, 3].map(|number: usize| problem(&ids[number], 503, "draining", false));
    assert_eq!(sorted(vec![call.line(), call.line()]), not_asked);
    for (router, id) in routers.iter_mut().zip(&asked) {
        router.send(&Frame::reply(*id, "1").flags(flag::JSON));
    }
    let answered = [0, 1].map(|number: usize| json!({ "router": ids[number], "status": 200, "body": 1 }));
    assert_eq!(sorted(call.rest()), answered);
    call.client.expect_close();
    for router in &mut routers {
        router.expect_end("draining");
    }
    drop((routers, call));
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0), "{}", daemon.stderr());
}

#[test]
fn at_the_end_of_a_drain_every_router_has_a_line() {
    let mut daemon = Daemon::start("http.fleet_window = 1\nclose_grace_s = 0.5\ndrain_s = 0.5");
    let (mut routers, ids) = bind_fleet(daemon.router, 3);
    let mut call = FleetCall::send(daemon.http, "x", &json!({ "routers": ids, "timeout_ms": 60_000 }));
    call.head();
    routers[0].recv_command();
    daemon.signal(SIGTERM);
    let expected = [(0, true), (1, false), (2, false)];
    let expected = expected.map(|(number, sent): (usize, bool)| problem(&ids[number], 503, "draining", sent));
    assert_eq!(sorted(call.rest()), expected, "and the last chunk behind them");
    drop((routers, call));
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0), "{}", daemon.stderr());
}
