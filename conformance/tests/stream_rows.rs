//! Contract section 3, the row of the streams: how rows stand in the body, and what surrounds them.

use std::time::Duration;

use conformance::calls::{Census, command_in_background, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, kind};
use conformance::http::{Client, PATIENCE, get};
use conformance::router::Router;
use conformance::stream::{Consumer, MAX_ROW, Open, Sender};

const LOG: &str = "/v1/routers/hub/streams/log";

/// A request on a connection of its own, and the OPEN that it makes.
fn asked(daemon: &Daemon, router: &mut Router, stream: &str) -> (Open, Consumer) {
    let consumer = Consumer::get(daemon.http, "hub", stream);
    (router.recv_open(), consumer)
}

#[test]
fn rows_of_json_are_lines() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    let rows = ["{\"a\": 1}", "[]", "null", "\"\u{fc}\"", "not json at all", "", " x ", "{}"];
    for (sequence, row) in rows.iter().enumerate() {
        router.send(&open.json(sequence as u64, row));
    }
    router.send(&open.end(rows.len() as u64));
    consumer.expect_lines();
    for row in rows {
        assert_eq!(consumer.line(), row.as_bytes());
    }
    consumer.expect_end();
}

#[test]
fn cr_and_lf_in_json_are_sent_as_spaces() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    let pretty = "{\r\n  \"a\": [\n\t1,\r2]\n}\n";
    router.send(&open.json(0, pretty));
    router.send(&open.json(1, "\n\n\r\r"));
    router.send(&open.json(2, "\"a\\nb\""));
    router.send(&open.end(3));
    consumer.expect_lines();
    assert_eq!(consumer.line(), pretty.replace(['\r', '\n'], " ").into_bytes());
    assert_eq!(consumer.line(), b"    ");
    assert_eq!(consumer.line(), b"\"a\\nb\"");
    consumer.expect_end();
}

#[test]
fn rows_of_octets_stand_behind_their_length() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    let every_byte: Vec<u8> = (0..=255).collect();
    let rows = [&every_byte[..], b"", b"\r\n", b"\0", b"{\"a\":\n1}"];
    for (sequence, row) in rows.iter().enumerate() {
        router.send(&open.item(sequence as u64, row));
    }
    router.send(&open.end(rows.len() as u64));
    consumer.expect_octets();
    for row in rows {
        assert_eq!(consumer.row(), row);
    }
    consumer.expect_end();
}

#[test]
fn a_stream_without_rows_is_empty_lines() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for from in ["", "?from=17", "?from=9223372036854775807"] {
        let (open, mut consumer) = asked(&daemon, &mut router, &format!("log{from}"));
        router.send(&open.end(open.from));
        consumer.expect_lines();
        consumer.expect_end();
    }
}

#[test]
fn rows_of_every_length_come_whole() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = |length: usize| -> Vec<u8> { (0..length).map(|n| b'a' + (n * 7 % 26) as u8).collect() };
    let lengths = [0, 1, 2, 3, 4, 15, 16, 255, 256, 4095, 4096, 16_000, MAX_ROW - 1, MAX_ROW, 1, MAX_ROW];
    for json in [true, false] {
        let (open, mut consumer) = asked(&daemon, &mut router, "log?max_bytes=16384");
        let mut sender = if json { Sender::of_json(open) } else { Sender::of_octets(open) };
        for length in lengths {
            sender.send(&mut router, row(length));
        }
        sender.end(&mut router);
        if json {
            consumer.expect_lines()
        } else {
            consumer.expect_octets()
        };
        for length in lengths {
            let got = if json { consumer.line() } else { consumer.row() };
            assert!(got == row(length), "{} bytes instead of {length}", got.len());
        }
        consumer.expect_end();
    }
}

#[test]
fn many_rows_come_once_and_in_order() {
    const ROWS: u64 = 20_000;
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log?max_messages=64&from=1000000");
    let source = std::thread::spawn(move || {
        let mut sender = Sender::of_json(router.recv_open());
        for n in 0..ROWS {
            sender.send(&mut router, format!("[{n}]"));
        }
        sender.end(&mut router);
        router
    });
    consumer.expect_lines();
    for n in 0..ROWS {
        assert_eq!(consumer.line(), format!("[{n}]").as_bytes());
    }
    consumer.expect_end();
    // The router lives; ACKs may have been under way when it sent END.
    source.join().expect("the router").frames_before_pong();
}

#[test]
fn the_head_waits_for_the_first_row_and_no_longer() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    consumer.client.expect_silence(Duration::from_millis(300));
    router.send(&open.json(0, "0"));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"0");
    // A row does not wait for the next one.
    router.send(&open.json(1, "1"));
    assert_eq!(consumer.line(), b"1");
    router.send(&open.end(2));
    consumer.expect_end();
}

#[test]
fn the_head_says_what_an_answer_should() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    router.send(&open.json(0, "0"));
    let head = consumer.expect_lines();
    let date = head.header("date").expect("Date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    assert!(!head.closes(), "{head:?}");
    router.send(&open.end(1));
}

#[test]
fn what_is_pipelined_behind_a_stream_is_answered_behind_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    for target in [LOG, "/healthz", LOG, "/v1/routers/hub"] {
        client.send_request("GET", target, &[], b"");
    }
    for n in 1..=2 {
        let open = router.recv_open();
        assert_eq!(open.id, n);
        // The second is not asked for before the first is answered.
        assert_eq!(router.frames_before_pong(), []);
        router.send(&open.json(0, "\"row\""));
        router.send(&open.end(1));
        assert_eq!(client.response().text(), "\"row\"\n");
        assert_eq!(client.response().status, 200);
    }
    // And the connection goes on.
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn a_body_of_the_request_is_no_next_request() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    client.send_request("GET", LOG, &[("Content-Length", "27")], b"GET /healthz HTTP/1.1\r\n\r\n\r\n");
    client.send_request("GET", "/v1/routers/hub", &[], b"");
    let open = router.recv_open();
    router.send(&open.json(0, "1"));
    router.send(&open.end(1));
    assert_eq!(client.response().body, b"1\n");
    assert_eq!(client.response().json()["router"], "hub");
}

#[test]
fn a_consumer_that_asks_for_a_close_gets_it_behind_the_stream() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    client.send_request("GET", LOG, &[("Connection", "close")], b"");
    let open = router.recv_open();
    router.send(&open.json(0, "1"));
    router.send(&open.end(1));
    let response = client.response();
    assert!(response.closes() && response.body == b"1\n", "{response:?}");
    client.expect_close();
}

#[test]
fn http_1_0_gets_the_rows_unchunked_until_the_close() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    client.send(format!("GET {LOG} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
    let mut sender = Sender::of_octets(router.recv_open());
    for n in 0..100_u8 {
        sender.send(&mut router, [n; 3]);
    }
    sender.end(&mut router);
    let head = client.head().expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None), "{head:?}");
    assert_eq!(head.header("content-length"), None);
    assert_eq!(head.header("content-type"), Some("application/octet-stream"));
    let expected: Vec<u8> = (0..100_u8).flat_map(|n| [0, 0, 0, 3, n, n, n]).collect();
    assert_eq!(client.read_to_close(), expected);
}

#[test]
fn head_has_no_body_and_leaves_nothing_behind() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    client.send_request("HEAD", LOG, &[], b"");
    // The router may be asked for the form of the first row, or be left alone.
    let answer = loop {
        for frame in router.frames_before_pong() {
            if frame.kind == kind::OPEN {
                let open = Open::of(&frame);
                router.send(&open.json(0, "1"));
                router.send(&open.end(1));
            }
        }
        client.set_patience(Duration::from_millis(50));
        match client.response_to("HEAD") {
            Ok(answer) => break answer,
            Err(error) => assert!(conformance::http::is_timeout(&error), "{error}"),
        }
    };
    client.set_patience(PATIENCE);
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    wait_for_live(&daemon, "stream", 0, PATIENCE);
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    let mut offline = Client::connect(daemon.http);
    offline.send_request("HEAD", "/v1/routers/nobody/streams/log", &[], b"");
    assert_eq!(offline.response_to("HEAD").expect("an answer").status, 404);
    assert_eq!(offline.request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn only_get_and_head_are_allowed() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = client.request(method, LOG, &[], b"");
        refused.problem(405, "method_not_allowed");
        let allow = refused.header("allow").expect("Allow").to_owned();
        assert!(allow.split(',').any(|method| method.trim() == "GET"), "{allow}");
    }
    assert_eq!(router.frames_before_pong(), [] as [Frame; 0]);
    get(daemon.http, "/v1/routers/hub/streams/").problem(400, "bad_request");
}

#[test]
fn rows_may_come_cut_anywhere() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for size in [1, 2, 5, 7, 13, 20, 21, 22] {
        let (open, mut consumer) = asked(&daemon, &mut router, "log");
        let mut frames: Vec<Frame> = (0..10).map(|n| open.item(n, vec![n as u8; 2 * n as usize])).collect();
        frames.push(open.end(10));
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for piece in bytes.chunks(size) {
            router.send_bytes(piece);
        }
        consumer.expect_octets();
        for n in 0..10 {
            assert_eq!(consumer.row(), vec![n; 2 * usize::from(n)]);
        }
        consumer.expect_end();
    }
}

#[test]
fn rows_may_come_between_the_parts_of_other_messages() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
    let command = router.recv_command();
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    let event = Frame::event("t", vec![1; 100]).parts_of(20);
    let reply = Frame::reply(command.id, vec![2; 100]).parts_of(20);
    for (n, (event, reply)) in (0..).zip(event.iter().zip(&reply)) {
        for frame in [event, &open.json(n, n.to_string()), reply] {
            router.send(frame);
        }
    }
    router.send(&open.end(5));
    consumer.expect_lines();
    for n in 0..5 {
        assert_eq!(consumer.line(), n.to_string().into_bytes());
    }
    consumer.expect_end();
    assert_eq!(caller.join().expect("the caller").body, vec![2; 100]);
}

#[test]
fn what_is_sent_behind_a_stream_is_not_read() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let (open, mut consumer) = asked(&daemon, &mut router, "log");
    let before = Census::of(&daemon).memory("live_bytes");
    let next = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    consumer.client.send_until_stalled(next.repeat(400_000));
    let held = Census::of(&daemon).memory("live_bytes").saturating_sub(before);
    assert!(held < 300_000, "{held} bytes of requests are held");
    router.send(&open.json(0, "1"));
    router.send(&open.end(1));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"1");
    consumer.expect_end();
    for _ in 0..1000 {
        assert_eq!(consumer.client.response().status, 200);
    }
}
