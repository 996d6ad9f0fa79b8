//! Contract section 1, Last words: behind its BYE the server shuts down writing, and waits for the router to leave.

use std::time::{Duration, Instant};

use conformance::calls::{self, Census, command_in_background, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, kind};
use conformance::http::{self, PATIENCE};
use conformance::router::Router;

fn kick(daemon: &Daemon, id: &str) -> http::Response {
    http::request(daemon.http, "DELETE", &format!("/v1/routers/{id}"), &[], b"")
}

#[test]
fn a_kicked_router_is_told_so() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
    router.recv_command();
    let answer = kick(&daemon, "hub");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    router.expect_end("kicked");
    assert_eq!(caller.join().expect("the caller").problem(503, "router_lost")["sent"], true);
    wait_for_reason(&daemon, "router", "kicked", 1, PATIENCE);
    kick(&daemon, "hub").problem(404, "router_offline");
}

#[test]
fn a_connection_in_its_last_words_may_still_send() {
    let daemon = Daemon::start("close_grace_s = 30");
    let mut router = Router::bind(daemon.router, "hub");
    kick(&daemon, "hub");
    router.expect_end("kicked");
    for _ in 0..20 {
        let sent = router.try_send_bytes(&Frame::event("topic", [1; 1000]).encode());
        sent.expect("a socket that is still read");
        calls::barrier(daemon.http);
    }
    router.stream().take_error().expect("SO_ERROR");
    let census = Census::of(&daemon);
    assert_eq!(census.live("router"), 1, "it counts as live");
    assert_eq!(census.reason("router", "kicked"), 0, "it is not unbound yet");
    assert!(calls::router(daemon.http, "hub").is_none(), "but is not in the registry");
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    wait_for_reason(&daemon, "router", "kicked", 1, PATIENCE);
}

#[test]
fn last_words_end_with_the_grace() {
    let daemon = Daemon::start("close_grace_s = 0.5");
    let mut router = Router::bind(daemon.router, "hub");
    let begun = Instant::now();
    kick(&daemon, "hub");
    router.expect_end("kicked");
    wait_for_live(&daemon, "router", 0, PATIENCE);
    assert!(begun.elapsed() >= Duration::from_millis(450), "after {:?}", begun.elapsed());
    router.expect_closed(PATIENCE);
}

#[test]
fn bytes_do_not_prolong_the_grace() {
    let daemon = Daemon::start("close_grace_s = 0.5");
    let mut router = Router::bind(daemon.router, "hub");
    kick(&daemon, "hub");
    router.expect_end("kicked");
    router.expect_closed(Duration::from_secs(10));
}

#[test]
fn last_words_end_with_the_peers_fin() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&Frame::new(0x7f));
    router.expect_end("protocol_error");
    router.finish_sending();
    wait_for_live(&daemon, "router", 0, PATIENCE);
    wait_for_reason(&daemon, "router", "protocol_error", 1, PATIENCE);
}

#[test]
fn last_words_end_with_a_reset_too_and_keep_their_reason() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&Frame::new(0x7f));
    router.expect_end("protocol_error");
    router.reset();
    wait_for_live(&daemon, "router", 0, PATIENCE);
    wait_for_reason(&daemon, "router", "protocol_error", 1, PATIENCE);
}

#[test]
fn last_words_end_behind_1_mib() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut router = Router::bind(daemon.router, "hub");
    kick(&daemon, "hub");
    router.expect_end("kicked");
    let chunk = vec![0; 65_536];
    let begun = Instant::now();
    let mut sent = 0;
    while router.try_send_bytes(&chunk).is_ok() {
        sent += chunk.len();
        assert!(begun.elapsed() < PATIENCE, "{sent} bytes were taken");
    }
    assert!(sent >= 1 << 20, "only {sent} bytes were taken");
    wait_for_live(&daemon, "router", 0, PATIENCE);
}

#[test]
fn an_id_is_free_again_before_the_last_words_are_over() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut old = Router::bind(daemon.router, "hub");
    kick(&daemon, "hub");
    old.expect_end("kicked");
    let mut new = Router::bind(daemon.router, "hub");
    new.ping();
    drop(old);
    wait_for_live(&daemon, "router", 1, PATIENCE);
    // The old one's end does not take the new one's entry with it.
    assert!(calls::router(daemon.http, "hub").is_some());
    assert_eq!(Census::of(&daemon).reason("router", "takeover"), 0);
}

#[test]
fn commands_for_one_in_its_last_words_find_nobody() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut router = Router::bind(daemon.router, "hub");
    router.send(&Frame::new(0x7f));
    router.expect_end("protocol_error");
    calls::command(daemon.http, "hub", "x", 1000, b"").problem(404, "router_offline");
}

#[test]
fn a_bye_of_the_routers_own_is_a_close_like_any() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
    router.recv_command();
    router.send(&Frame { kind: kind::BYE, ..Frame::default() }.name("draining"));
    router.expect_fin();
    caller.join().expect("the caller").problem(503, "router_lost");
    assert!(calls::router(daemon.http, "hub").is_none());
    drop(router);
    wait_for_reason(&daemon, "router", "peer_closed", 1, PATIENCE);
    wait_for_live(&daemon, "router", 0, PATIENCE);
}

#[test]
fn a_thousand_endings_leave_nothing() {
    let daemon = Daemon::start("close_grace_s = 0.2");
    for n in 0..1000 {
        let mut router = Router::bind(daemon.router, &format!("hub-{}", n % 7));
        match n % 4 {
            0 => drop(router),
            1 => router.reset(),
            2 => router.send(&Frame::bye("draining")),
            _ => router.send(&Frame::new(0x7f)),
        }
    }
    wait_for_live(&daemon, "router", 0, PATIENCE);
    let census = Census::audited(&daemon);
    census.assert_balanced();
    assert_eq!(census.count("router", "opened"), 1000);
    assert_eq!(census.live("pending_command"), 0);
}
