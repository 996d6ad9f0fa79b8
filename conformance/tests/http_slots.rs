//! What belonged to a connection that has gone falls on nothing, although another one has taken its place in the
//! table: late replies, timers, subscriptions.

use std::time::Duration;

use conformance::calls::{Census, barrier, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::http::Client;
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);
const ECHO: &str = "/v1/routers/r1/commands/echo?timeout_ms=600000";

#[test]
fn a_reply_to_a_caller_that_hung_up_does_not_reach_the_next_one() {
    let daemon = Daemon::start("router.max_pending = 1000");
    let mut router = Router::bind(daemon.router, "r1");
    let mut stale = Vec::new();
    for round in 0..10 {
        let call = |_| {
            let mut client = Client::connect(daemon.http);
            client.send_request("POST", ECHO, &[], b"");
            client
        };
        let gone: Vec<Client> = (0..20).map(call).collect();
        stale.extend(gone.iter().map(|_| router.recv_command().id));
        drop(gone);
        wait_for_live(&daemon, "pending_command", 0, BOUND);

        let mut waiting: Vec<Client> = (0..20).map(call).collect();
        let ids: Vec<u32> = waiting.iter().map(|_| router.recv_command().id).collect();
        assert!(ids.iter().all(|id| !stale.contains(id)), "an id came again within a session");
        for id in &stale {
            router.send(&Frame::reply(*id, "stale"));
        }
        for id in ids {
            router.send(&Frame::reply(id, format!("fresh {round}")));
        }
        for client in &mut waiting {
            assert_eq!(client.response().text(), format!("fresh {round}"));
        }
    }
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn a_reply_to_a_session_that_ended_does_not_reach_the_next_one() {
    let daemon = Daemon::start("");
    for _ in 0..10 {
        let mut old = Router::bind(daemon.router, "r1");
        let mut lost = Client::connect(daemon.http);
        lost.send_request("POST", ECHO, &[], b"");
        let old_id = old.recv_command().id;
        let mut new = Router::bind(daemon.router, "r1");
        lost.response().problem(503, "router_lost");
        let mut caller = Client::connect(daemon.http);
        caller.send_request("POST", ECHO, &[], b"");
        let id = new.recv_command().id;
        assert_eq!(id, old_id, "ids count up from 1 in each session");
        // The session that was taken over still has its socket; what it says is no one's answer.
        old.send(&Frame::reply(old_id, "from the old session"));
        old.expect_end("takeover");
        barrier(daemon.http);
        new.send(&Frame::reply(id, "from the new one"));
        assert_eq!(caller.response().text(), "from the new one");
    }
}

#[test]
fn the_timer_of_a_connection_that_has_gone_does_not_end_the_next_one() {
    let daemon = Daemon::start("http.header_timeout_s = 1");
    let half = "GET /healthz HTTP/1.1\r\nHost: local";
    let started: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(daemon.http);
            client.send(half);
            client
        })
        .collect();
    let mut waiter = Client::connect(daemon.http);
    waiter.expect_silence(Duration::from_millis(600));
    drop(started);
    // The census itself is one; the waiter is the other.
    wait_for_live(&daemon, "http", 2, BOUND);
    let mut next: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(daemon.http);
            client.send(half);
            client
        })
        .collect();
    // The deadlines of the first ones pass now; those of the next ones do not.
    for client in &mut next[..1] {
        client.expect_silence(Duration::from_millis(600));
    }
    for client in &mut next {
        client.send("host\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn the_deadline_of_a_command_that_was_answered_does_not_end_the_next_one() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut client = Client::connect(daemon.http);
    let command = "/v1/routers/r1/commands/echo";
    for _ in 0..3 {
        client.send_request("POST", &format!("{command}?timeout_ms=300"), &[], b"quick");
        let id = router.recv_command().id;
        router.send(&Frame::reply(id, "quick"));
        assert_eq!(client.response().text(), "quick");
        client.send_request("POST", &format!("{command}?timeout_ms=10000"), &[], b"slow");
        let id = router.recv_command().id;
        // Longer than the deadline of the one before, which had the same place.
        router.expect_silence(Duration::from_millis(500));
        router.send(&Frame::reply(id, "slow"));
        assert_eq!(client.response().text(), "slow");
    }
}

#[test]
fn what_a_client_had_asked_for_does_not_come_to_the_next_one() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    for _ in 0..20 {
        let mut gone = WebSocket::connect(daemon.app);
        gone.subscribe("*", "*");
        gone.start("command", json!({"router": "r1", "name": "x", "timeout_ms": 600000}));
        let id = router.recv_command().id;
        drop(gone);
        wait_for_live(&daemon, "app", 0, BOUND);
        let mut next = WebSocket::connect(daemon.app);
        router.send(&Frame::reply(id, "stale"));
        router.send(&Frame::event("t", "1").flags(flag::JSON));
        router.ping();
        next.expect_no_event();
        next.subscribe("r1", "u");
        router.send(&Frame::event("u", "2").flags(flag::JSON));
        assert_eq!(next.event()["body"], 2);
        drop(next);
        wait_for_live(&daemon, "app", 0, BOUND);
    }
}
