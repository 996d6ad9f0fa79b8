//! Contract section 3, the command call: what reaches the router, and each way in which it can be answered.

use std::time::{Duration, Instant};

use conformance::calls::{Census, command, command_in_background, oneway, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Command, Frame, flag};
use conformance::http::{Client, Headers, Response, request};
use conformance::router::Router;
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);
const ECHO: &str = "/v1/routers/r1/commands/echo";
const JSON: Headers = &[("Content-Type", "application/json")];

/// Sends a command on a connection of its own, so that the test can play the router before it reads the answer.
fn send(daemon: &Daemon, target: &str, headers: Headers, body: &[u8]) -> Client {
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", target, headers, body);
    client
}

#[track_caller]
fn assert_sent(answer: &Response, status: u16, code: &str, sent: bool) {
    assert_eq!(answer.problem(status, code)["sent"], sent);
}

#[test]
fn a_command_and_its_reply_pass_through_unread() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut client = send(&daemon, ECHO, &[], &every_byte);
    let command = router.recv_command();
    assert_eq!((command.name_text(), command.flags, command.id), ("echo", 0, 1));
    assert_eq!(command.body, every_byte);
    router.send(&Frame::reply(1, b"\0\xff\r\n".to_vec()));
    let answer = client.response();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("content-length"), Some("4"));
    assert_eq!(answer.header("berth-error"), None);
    assert_eq!(answer.body, b"\0\xff\r\n");
    // RFC 9110 section 6.6.1: an origin server with a clock says the date.
    let date = answer.header("date").expect("Date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[test]
fn json_is_a_flag_each_way_and_is_not_looked_into() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    for (content_type, is_json) in [
        ("application/json", true),
        ("Application/JSON", true),
        ("application/json; charset=utf-8", true),
        ("text/plain", false),
        ("application/octet-stream", false),
        ("application/jsonp", false),
    ] {
        let mut client = send(&daemon, ECHO, &[("Content-Type", content_type)], b"{not json");
        let command = router.recv_command();
        assert_eq!(command.flags, if is_json { flag::JSON } else { 0 }, "{content_type}");
        assert_eq!(command.body, b"{not json");
        router.send(&Frame::reply(command.id, "{\"a\": 1}").flags(flag::JSON));
        let answer = client.response();
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.text(), "{\"a\": 1}");
    }
}

#[test]
fn empty_and_largest_bodies_pass_both_ways() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1").echo();
    let mut client = Client::connect(daemon.http);
    for length in [0, 1, 16_383, 16_384, 16_385, 32_768, 100_000, 1_048_576] {
        let body: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
        let answer = client.request("POST", &format!("{ECHO}?timeout_ms=30000"), &[], &body);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some(length.to_string().as_str()));
        assert!(answer.body == body, "{length} bytes came back changed");
    }
}

#[test]
fn an_error_of_the_router_is_502_with_its_body() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    for (flags, content_type) in [(0, "application/octet-stream"), (flag::JSON, "application/json")] {
        let mut client = send(&daemon, ECHO, &[], b"");
        let id = router.recv_command().id;
        router.send(&Frame::reply(id, "\"no such valve\"").flags(flags | flag::ERROR));
        let answer = client.response();
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("berth-error"), Some("router"));
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(answer.text(), "\"no such valve\"");
        assert!(!answer.closes());
    }
}

#[test]
fn a_router_that_is_not_bound_is_404_and_nothing_was_sent() {
    let daemon = Daemon::start("");
    assert_sent(&command(daemon.http, "r1", "echo", 1000, b"x"), 404, "router_offline", false);
    assert_sent(&oneway(daemon.http, "r1", "echo", b"x"), 404, "router_offline", false);
    drop(Router::bind(daemon.router, "r1"));
    wait_for_live(&daemon, "router", 0, BOUND);
    assert_sent(&command(daemon.http, "r1", "echo", 1000, b"x"), 404, "router_offline", false);
}

#[test]
fn no_reply_in_time_is_504_and_a_late_one_falls_on_nothing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let started = Instant::now();
    let mut client = send(&daemon, &format!("{ECHO}?timeout_ms=200"), &[], b"first");
    let late = router.recv_command();
    assert_sent(&client.response(), 504, "deadline_exceeded", true);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(195) && took < Duration::from_millis(1500), "{took:?}");
    assert_eq!(Census::of(&daemon).live("pending_command"), 0);

    // The late reply reaches neither the next command nor anybody else, and is nobody's fault.
    client.send_request("POST", ECHO, &[], b"second");
    let next = router.recv_command();
    assert_ne!(next.id, late.id);
    router.send(&Frame::reply(late.id, "late"));
    router.send(&Frame::reply(late.id, "late again"));
    router.send(&Frame::reply(next.id, "in time"));
    assert_eq!(client.response().text(), "in time");
    router.ping();
}

#[test]
fn the_deadline_is_a_second_when_none_is_given() {
    let daemon = Daemon::start("");
    let _silent = Router::bind(daemon.router, "r1");
    let started = Instant::now();
    assert_sent(&request(daemon.http, "POST", ECHO, &[], b""), 504, "deadline_exceeded", true);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(990) && took < Duration::from_millis(3000), "{took:?}");
}

#[test]
fn deadlines_pass_in_their_own_order() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut slow = send(&daemon, &format!("{ECHO}?timeout_ms=600000"), &[], b"slow");
    let slow_id = router.recv_command().id;
    let mut quick = send(&daemon, &format!("{ECHO}?timeout_ms=1"), &[], b"quick");
    assert_eq!(quick.response().problem(504, "deadline_exceeded")["code"], "deadline_exceeded");
    assert_eq!(Census::of(&daemon).live("pending_command"), 1);
    router.send(&Frame::reply(slow_id, "here"));
    assert_eq!(slow.response().text(), "here");
}

#[test]
fn replies_find_their_callers_whatever_their_order() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut callers: Vec<Client> = Vec::new();
    let mut ids = Vec::new();
    for n in 0..20 {
        callers.push(send(&daemon, &format!("{ECHO}?timeout_ms=10000"), &[], n.to_string().as_bytes()));
        let command = router.recv_command();
        assert_eq!(command.body, n.to_string().as_bytes());
        ids.push(command.id);
    }
    assert_eq!(ids, (1..=20).collect::<Vec<u32>>(), "ids count up from 1");
    for n in (0..20).rev() {
        router.send(&Frame::reply(ids[n], format!("answer {n}")));
    }
    for (n, caller) in callers.iter_mut().enumerate() {
        assert_eq!(caller.response().text(), format!("answer {n}"));
    }
}

/// How a session comes to its end.
type End = fn(&Daemon, Router);

#[test]
fn the_end_of_the_session_is_503_router_lost() {
    let daemon = Daemon::start("");
    let ends: [(&str, End); 6] = [
        ("FIN", |_, router| drop(router)),
        ("RST", |_, router| router.reset()),
        ("its own BYE", |_, mut router| {
            router.send(&Frame::bye("done"));
            router.expect_fin();
        }),
        ("takeover", |daemon, mut router| {
            let _newcomer = Router::bind(daemon.router, "r1");
            router.expect_end("takeover");
        }),
        ("kick", |daemon, mut router| {
            assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1", &[], b"").status, 204);
            router.expect_end("kicked");
        }),
        ("a protocol error", |_, mut router| {
            router.send_bytes(&[0xff; 12]);
            router.recv_to_end();
        }),
    ];
    for (what, end) in ends {
        let mut router = Router::bind(daemon.router, "r1");
        let mut clients: Vec<Client> =
            (0..3).map(|_| send(&daemon, &format!("{ECHO}?timeout_ms=60000"), &[], b"x")).collect();
        for _ in &clients {
            router.recv_command();
        }
        end(&daemon, router);
        for client in &mut clients {
            let answer = client.response();
            assert_eq!(answer.problem(503, "router_lost")["sent"], true, "{what}");
            assert!(!answer.closes(), "{what}");
        }
        wait_for_live(&daemon, "router", 0, BOUND);
        assert_eq!(Census::audited(&daemon).live("pending_command"), 0, "{what}");
    }
}

#[test]
fn a_reply_before_the_fin_still_counts() {
    let daemon = Daemon::start("");
    for _ in 0..20 {
        let mut router = Router::bind(daemon.router, "r1");
        let mut answered = send(&daemon, ECHO, &[], b"x");
        let id = router.recv_command().id;
        let mut lost = send(&daemon, ECHO, &[], b"y");
        router.recv_command();
        router.send(&Frame::reply(id, "just in time"));
        drop(router);
        assert_eq!(answered.response().text(), "just in time");
        assert_sent(&lost.response(), 503, "router_lost", true);
    }
}

#[test]
fn more_than_max_pending_is_429() {
    let daemon = Daemon::start("router.max_pending = 2");
    let mut router = Router::bind(daemon.router, "r1");
    let long = format!("{ECHO}?timeout_ms=30000");
    let mut first = send(&daemon, &long, &[], b"1");
    let first_id = router.recv_command().id;
    let mut second = send(&daemon, &long, &[], b"2");
    let second_id = router.recv_command().id;
    assert_sent(&request(daemon.http, "POST", &long, &[], b"3"), 429, "router_busy", false);
    // A one-way command keeps no state, and another router has its own count.
    assert_eq!(oneway(daemon.http, "r1", "echo", b"").status, 202);
    assert_eq!(router.recv_command().id, 0);
    let _other = Router::bind(daemon.router, "r2").echo();
    assert_eq!(command(daemon.http, "r2", "echo", 5000, b"").status, 200);

    router.send(&Frame::reply(first_id, "1"));
    assert_eq!(first.response().status, 200);
    let mut third = send(&daemon, &long, &[], b"3");
    let third_id = router.recv_command().id;
    assert_eq!(third_id, 3, "a refused command takes no id that the router would miss");
    router.send(&Frame::reply(second_id, "2"));
    router.send(&Frame::reply(third_id, "3"));
    assert_eq!(second.response().text(), "2");
    assert_eq!(third.response().text(), "3");
}

#[test]
fn a_queue_over_its_limit_is_429_and_an_empty_one_takes_any_command() {
    let daemon = Daemon::start("router.max_queued_bytes = 100000");
    // An empty queue takes a message longer than the limit.
    let whole = Router::bind(daemon.router, "big").echo();
    let answer = command(daemon.http, "big", "echo", 30_000, &[7; 1_000_000]);
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_000));
    drop(whole);

    let mut router = Router::bind_small(daemon.router, "r1");
    let mut taken = 0;
    let refusal = eventually("the queue is full", BOUND, || {
        let answer = oneway(daemon.http, "r1", "fill", &[taken as u8; 30_000]);
        taken += u32::from(answer.status == 202);
        (answer.status != 202).then_some(answer)
    });
    assert_sent(&refusal, 429, "router_busy", false);
    assert_sent(&command(daemon.http, "r1", "echo", 1000, &[0; 60_000]), 429, "router_busy", false);
    // What was taken comes, in order and once; what was refused never.
    for n in 0..taken {
        let command = router.recv_command();
        assert!(command.id == 0 && command.body == [n as u8; 30_000], "one-way {n}");
    }
    router.ping();
    assert_eq!(oneway(daemon.http, "r1", "fill", b"again").status, 202);
    assert_eq!(router.recv_command().body, b"again");
}

#[test]
fn a_command_that_was_never_begun_says_so_and_never_comes() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "r1");
    let mut ahead = 0;
    // One-way commands until some of them must still be queued: then what is behind them has not been begun... unless
    // awaited commands take turns with them, so the queue is filled with awaited ones too.
    eventually("a queue that does not move", BOUND, || {
        assert_eq!(oneway(daemon.http, "r1", "fill", &[1; 100_000]).status, 202);
        ahead += 1;
        let entry = conformance::calls::router(daemon.http, "r1").expect("bound");
        (entry["queued_bytes"].as_u64().expect("queued_bytes") > 300_000).then_some(())
    });
    let answer = command(daemon.http, "r1", "echo", 100, b"never begun");
    let sent = answer.problem(504, "deadline_exceeded")["sent"].clone();
    assert_eq!(sent, false);
    let mut hung_up = send(&daemon, ECHO, &[], b"never begun either");
    wait_for_live(&daemon, "pending_command", 1, BOUND);
    hung_up.finish_sending();
    wait_for_live(&daemon, "pending_command", 0, BOUND);

    let last = send(&daemon, &format!("{ECHO}?timeout_ms=20000"), &[], b"last");
    let mut seen = 0;
    let mut reply_to = None;
    while seen < ahead || reply_to.is_none() {
        match router.try_command().expect("a command") {
            Command::Whole(frame) if frame.id == 0 => seen += 1,
            Command::Whole(frame) => {
                assert_eq!(frame.body, b"last", "a command that nobody waits for");
                reply_to = Some(frame.id);
            }
            Command::Aborted(id) => panic!("an abort of {id}, which was never begun"),
        }
    }
    router.send(&Frame::reply(reply_to.expect("an id"), "ok"));
    let mut last = last;
    assert_eq!(last.response().text(), "ok");
}

#[test]
fn many_callers_at_once_get_their_own_answers() {
    let daemon = Daemon::start("");
    let _routers = [0, 1, 2].map(|n| Router::bind(daemon.router, &format!("r{n}")).echo());
    std::thread::scope(|scope| {
        for caller in 0..16_usize {
            let http = daemon.http;
            scope.spawn(move || {
                let mut client = Client::connect(http);
                for n in 0..100_usize {
                    let path = format!("/v1/routers/r{}/commands/echo?timeout_ms=20000", (caller + n) % 3);
                    let body = format!("{caller} {n} ").repeat(1 + n * 37 % 3000);
                    let answer = client.request("POST", &path, JSON, body.as_bytes());
                    assert_eq!((answer.status, answer.text()), (200, body.as_str()));
                }
            });
        }
    });
    let census = Census::audited(&daemon);
    census.assert_balanced();
    assert_eq!((census.count("pending_command", "opened"), census.live("pending_command")), (1600, 0));
}

#[test]
fn one_way_commands_are_202_in_order_and_leave_nothing() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut client = Client::connect(daemon.http);
    for n in 0..50 {
        let answer = client.request("POST", &format!("{ECHO}?oneway=1"), JSON, n.to_string().as_bytes());
        assert_eq!(answer.status, 202);
    }
    for n in 0..50 {
        let command = router.recv_command();
        assert_eq!((command.id, command.flags, command.name_text()), (0, flag::JSON, "echo"));
        assert_eq!(command.body, n.to_string().as_bytes());
    }
    assert_eq!(Census::of(&daemon).count("pending_command", "opened"), 0);
}

#[test]
fn a_drain_refuses_new_commands_and_waits_for_the_pending_ones() {
    let mut daemon = Daemon::start("drain_s = 30");
    let mut router = Router::bind(daemon.router, "r1");
    let pending = command_in_background(daemon.http, "r1", "echo", 60_000, b"x".to_vec());
    let id = router.recv_command().id;
    daemon.signal(15);
    eventually("not ready", BOUND, || {
        // One that is still idle when the drain begins is closed without an answer.
        let mut client = Client::connect(daemon.http);
        client.send_request("GET", "/readyz", &[], b"");
        client.response_to("GET").ok().filter(|ready| ready.status == 503)
    });
    assert_sent(&command(daemon.http, "r1", "echo", 1000, b""), 503, "draining", false);
    assert_sent(&oneway(daemon.http, "r1", "echo", b""), 503, "draining", false);
    assert_eq!(request(daemon.http, "GET", "/healthz", &[], b"").status, 200);
    assert_eq!(request(daemon.http, "GET", "/v1/routers/r1", &[], b"").json()["pending"], json!(1));
    assert_eq!(Census::of(&daemon).live("router"), 1);
    router.send(&Frame::reply(id, "still answered"));
    assert_eq!(pending.join().expect("the caller").text(), "still answered");
    router.expect_end("draining");
    assert_eq!(daemon.wait_exit(BOUND).code(), Some(0));
}

#[test]
fn a_drain_that_takes_too_long_answers_503() {
    let mut daemon = Daemon::start("drain_s = 0.3");
    let mut router = Router::bind(daemon.router, "r1");
    let pending = command_in_background(daemon.http, "r1", "echo", 60_000, b"x".to_vec());
    router.recv_command();
    daemon.signal(15);
    assert_sent(&pending.join().expect("the caller"), 503, "draining", true);
    router.expect_end("draining");
    assert_eq!(daemon.wait_exit(BOUND).code(), Some(0));
}
