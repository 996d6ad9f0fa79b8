//! Contract section 3: FIN or RST while an answer is pending is a hang-up, and takes the pending command with it; what
//! only waits is not idle.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, flag};
use conformance::http::{Client, Headers};
use conformance::router::Router;

const BOUND: Duration = Duration::from_secs(10);
const ECHO: &str = "/v1/routers/r1/commands/echo";

fn send(daemon: &Daemon, target: &str, headers: Headers, body: &[u8]) -> Client {
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", target, headers, body);
    client
}

#[test]
fn a_hang_up_takes_the_pending_command_with_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let long = format!("{ECHO}?timeout_ms=600000");
    for reset in [false, true] {
        let mut client = send(&daemon, &long, &[], b"x");
        let id = router.recv_command().id;
        assert_eq!(Census::of(&daemon).live("pending_command"), 1);
        if reset {
            socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            drop(client);
        } else {
            client.finish_sending();
            // Nobody waits for an answer, and none comes.
            client.expect_close();
        }
        wait_for_live(&daemon, "pending_command", 0, BOUND);
        // The command was written as a whole: there is nothing to abort, and the reply falls on nothing.
        router.send(&Frame::reply(id, "to nobody"));
        router.ping();
    }
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn a_hang_up_in_the_middle_of_a_command_is_an_abort() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "r1");
    let mut client = send(&daemon, &format!("{ECHO}?timeout_ms=600000"), &[], &[9; 1_000_000]);
    wait_for_live(&daemon, "pending_command", 1, BOUND);
    // The first part has come, so it was begun; the rest cannot all be in the kernel's small buffers.
    let first = router.recv();
    assert_eq!((first.name_text(), first.flags), ("echo", flag::MORE));
    client.finish_sending();
    wait_for_live(&daemon, "pending_command", 0, BOUND);
    let end = loop {
        let part = router.recv();
        assert_eq!(part.id, first.id);
        if part.flags != flag::MORE {
            break part;
        }
    };
    assert_eq!((end.flags, end.name.len(), end.body.len()), (flag::ERROR, 0, 0), "not an abort");
    router.ping();
}

#[test]
fn a_hang_up_is_seen_behind_pipelined_requests() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let long = format!("{ECHO}?timeout_ms=600000");
    // As much stands between the pending request and the FIN as the kernel takes without being read.
    for (count, length) in [(1, 0), (1, 100), (100, 0), (1, 30_000)] {
        let mut client = send(&daemon, &long, &[], b"pending");
        assert_eq!(router.recv_command().body, b"pending");
        for _ in 0..count {
            client.send_request("POST", &long, &[], &vec![b'x'; length]);
        }
        client.finish_sending();
        wait_for_live(&daemon, "pending_command", 0, BOUND);
        client.read_to_close();
        // The pipelined ones were never carried out.
        router.ping();
    }
    wait_for_live(&daemon, "http", 1, BOUND);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn the_reason_of_a_hang_up_is_told_apart() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let long = format!("{ECHO}?timeout_ms=600000");
    let reset = send(&daemon, &long, &[], b"");
    router.recv_command();
    socket2::SockRef::from(reset.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(reset);
    wait_for_reason(&daemon, "http", "peer_reset", 1, BOUND);
    let closed = send(&daemon, &long, &[], b"");
    router.recv_command();
    let before = Census::of(&daemon).reason("http", "peer_closed");
    drop(closed);
    wait_for_live(&daemon, "pending_command", 0, BOUND);
    assert!(Census::of(&daemon).reason("http", "peer_closed") > before);
}

#[test]
fn a_caller_that_waits_for_its_answer_is_not_idle() {
    let daemon = Daemon::start(
        "http.idle_timeout_s = 0.3\nhttp.header_timeout_s = 0.3\nhttp.body_timeout_s = 0.3\nqueue.soft_s = 0.3",
    );
    let mut router = Router::bind(daemon.router, "r1");
    let mut client = send(&daemon, &format!("{ECHO}?timeout_ms=60000"), &[], b"slow");
    let id = router.recv_command().id;
    router.expect_silence(Duration::from_millis(1200));
    router.send(&Frame::reply(id, "at last"));
    assert_eq!(client.response().text(), "at last");
    // The time to the next request begins with the answer.
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    client.expect_close();
}
