//! Contract section 1, Status: what a stream is answered that does not begin, and how one ends that had begun.

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::flag;
use conformance::http::PATIENCE;
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

fn opened(daemon: &Daemon, router: &mut Router) -> (Open, Consumer) {
    let consumer = Consumer::get(daemon.http, "hub", "log");
    (router.recv_open(), consumer)
}

#[test]
fn nobody_there_is_router_offline() {
    let daemon = Daemon::start("");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    consumer.expect_problem(404, "router_offline");
    assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
    let census = Census::audited(&daemon);
    census.assert_well();
    assert_eq!((census.live("stream"), census.count("stream", "opened")), (0, 0));
}

#[test]
fn over_max_streams_is_router_busy() {
    let daemon = Daemon::start("router.max_streams = 2");
    let mut router = Router::bind(daemon.router, "hub");
    let mut other = Router::bind(daemon.router, "other");
    let (open, mut first) = opened(&daemon, &mut router);
    let (_, second) = opened(&daemon, &mut router);
    let mut third = Consumer::get(daemon.http, "hub", "log");
    let problem = third.expect_problem(429, "router_busy");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("max_streams"), "{detail}");
    assert_eq!(router.frames_before_pong(), []);
    // The limit is each router's own.
    let mut elsewhere = Consumer::get(daemon.http, "other", "log");
    let theirs = other.recv_open();
    other.send(&theirs.end(0));
    elsewhere.expect_lines();
    elsewhere.expect_end();
    // One that ends makes room, however it ends.
    router.send(&open.end(0));
    first.expect_lines();
    first.expect_end();
    let (_, fourth) = opened(&daemon, &mut router);
    Consumer::get(daemon.http, "hub", "log").expect_problem(429, "router_busy");
    drop((second, fourth));
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    let mut again = Consumer::get(daemon.http, "hub", "log");
    let open = router_after_cancels(&mut router);
    router.send(&open.end(0));
    again.expect_lines();
    again.expect_end();
}

/// The next OPEN, behind the CANCELs of those that hung up.
#[track_caller]
fn router_after_cancels(router: &mut Router) -> Open {
    loop {
        let frame = router.recv();
        if frame.kind != conformance::frame::kind::CANCEL {
            return Open::of(&frame);
        }
    }
}

#[test]
fn sixteen_streams_are_the_default() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let streams: Vec<_> = (0..16).map(|_| opened(&daemon, &mut router)).collect();
    Consumer::get(daemon.http, "hub", "log").expect_problem(429, "router_busy");
    assert_eq!(Census::of(&daemon).live("stream"), 16);
    drop(streams);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
}

#[test]
fn an_error_before_the_first_row_is_router_error() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for text in ["disk \"0\" failed\n\u{fc}\u{1f600}", "<b>&\\", &"long ".repeat(3000)] {
        let (open, mut consumer) = opened(&daemon, &mut router);
        router.send(&open.error(text));
        let problem = consumer.expect_problem(502, "router_error");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(text), "{detail}");
        assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
    }
    let (open, mut consumer) = opened(&daemon, &mut router);
    router.send(&open.error(""));
    let answer = consumer.client.response();
    assert_eq!((answer.status, &answer.json()["code"]), (502, &"router_error".into()), "{answer:?}");
    assert_eq!(router.frames_before_pong(), []);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
}

#[test]
fn an_error_behind_rows_cuts_the_response() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for flags in [flag::JSON, 0] {
        let (open, mut consumer) = opened(&daemon, &mut router);
        for n in 0..5 {
            router.send(&open.item(n, "row").flags(flags));
        }
        router.send(&open.error("no more"));
        // Every row that came before it is there as a whole, and nothing of the text.
        let expected: Vec<u8> = match flags {
            0 => {
                consumer.expect_octets();
                b"\0\0\0\x03row".repeat(5)
            }
            _ => {
                consumer.expect_lines();
                b"row\n".repeat(5)
            }
        };
        assert_eq!(consumer.expect_cut(), expected);
    }
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    router.frames_before_pong();
    Census::audited(&daemon).assert_well();
}

#[test]
fn an_error_of_a_stalled_response_cuts_it_when_what_is_held_is_taken() {
    let daemon = Daemon::start("queue.soft_s = 30");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    let mut consumer = Consumer::get_small(daemon.http, "hub", "log");
    let mut sender = Sender::of_octets(router.recv_open());
    sender.fill(&mut router, &row, &consumer);
    router.send(&sender.open.error("no more"));
    // After END, neither ACK nor CANCEL.
    assert_eq!([router.frames_before_pong(), router.frames_before_pong()].concat(), []);
    consumer.expect_octets();
    for _ in 0..sender.unacknowledged {
        assert!(consumer.row() == row);
    }
    let rest = consumer.expect_cut();
    let whole = [&[0, 0, 0x3e, 0x80][..], &row].concat();
    assert!(whole.repeat(sender.next as usize).starts_with(&rest), "other bytes than those of rows");
    assert_eq!(router.frames_before_pong(), []);
}

#[test]
fn a_cut_response_over_http_1_0_is_no_clean_end() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = conformance::http::Client::connect(daemon.http);
    client.send("GET /v1/routers/hub/streams/log HTTP/1.0\r\n\r\n");
    let open = router.recv_open();
    router.send(&open.item(0, "row"));
    router.send(&open.error("no more"));
    assert_eq!(client.head().expect("a head").status, 200);
    // RFC 9112 section 8: without a length only a reset can say that a body is not complete. The rows that came may be lost
    // with it.
    let body = client.read_to_close();
    assert!(b"\0\0\0\x03row".starts_with(&body), "{body:?}");
    wait_for_live(&daemon, "stream", 0, PATIENCE);
}

#[test]
fn a_router_that_leaves_and_does_not_return_takes_only_its_own_streams() {
    let daemon = Daemon::start("stream.resume_s = 0.3");
    let mut router = Router::bind(daemon.router, "hub");
    let mut other = Router::bind(daemon.router, "other");
    let (_, mut lost) = opened(&daemon, &mut router);
    let mut kept = Consumer::get(daemon.http, "other", "log");
    let mut sender = Sender::of_json(other.recv_open());
    drop(router);
    lost.expect_problem(503, "router_lost");
    sender.send(&mut other, "1");
    sender.end(&mut other);
    kept.expect_lines();
    assert_eq!(kept.line(), b"1");
    kept.expect_end();
}

#[test]
fn a_consumer_that_waits_or_reads_slowly_is_not_idle() {
    let daemon = Daemon::start(
        "http.idle_timeout_s = 0.3\nhttp.header_timeout_s = 0.3\nhttp.body_timeout_s = 0.3\nqueue.soft_s = 0.3",
    );
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = opened(&daemon, &mut router);
    consumer.client.expect_silence(Duration::from_millis(800));
    router.send(&open.json(0, "0"));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"0");
    consumer.client.expect_silence(Duration::from_millis(800));
    router.send(&open.json(1, "1"));
    router.send(&open.end(2));
    assert_eq!(consumer.line(), b"1");
    consumer.expect_end();
    // The time to the next request begins with the end.
    assert_eq!(consumer.client.request("GET", "/healthz", &[], b"").status, 200);
    consumer.client.expect_close();
}

#[test]
fn streams_that_came_back_with_their_router_count() {
    let daemon = Daemon::start("router.max_streams = 2");
    let mut router = Router::bind(daemon.router, "hub");
    let streams = [opened(&daemon, &mut router), opened(&daemon, &mut router)];
    for leaves_first in [true, false] {
        let old = router;
        if leaves_first {
            drop(old);
            wait_for_live(&daemon, "router", 0, PATIENCE);
        }
        router = Router::bind(daemon.router, "hub");
        assert_eq!([router.recv_open().id, router.recv_open().id], [1, 2]);
        Consumer::get(daemon.http, "hub", "log").expect_problem(429, "router_busy");
        assert_eq!(router.frames_before_pong(), []);
    }
    drop(streams);
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    Census::audited(&daemon).assert_well();
}
