//! Contract section 1, Streams: what an OPEN says, byte by byte, and under which id.

use conformance::calls::{command_in_background, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, MAX_FRAGMENT, flag, kind};
use conformance::http::{Client, PATIENCE};
use conformance::router::Router;
use conformance::stream::{Consumer, Open};

/// The stream comes to its end without a row.
#[track_caller]
fn finish(router: &mut Router, open: &Open, consumer: &mut Consumer) {
    router.send(&open.end(open.from));
    consumer.expect_lines();
    consumer.expect_end();
}

#[test]
fn an_open_is_the_bytes_of_the_table() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let target = "readings.2026:a-b_c?kind=temp&max_messages=7&x=%20%2f&from=258&max_bytes=65537&kind=%41";
    let mut consumer = Consumer::get(daemon.http, "hub", target);
    let open = router.recv();
    let body = b"\0\0\0\x07\0\x01\0\x01\0\0\0\0\0\0\x01\x02kind=temp&x=%20%2f&kind=%41";
    assert_eq!(open, Frame::new(kind::OPEN).id(1).name("readings.2026:a-b_c").body(*body));
    assert_eq!(open.encode()[..12], [0x20, 0, 0, 19, 0, 0, 0, 1, 0, 0, 0, body.len() as u8]);
    finish(&mut router, &Open::of(&open), &mut consumer);
}

#[test]
fn the_window_has_defaults() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let open = router.recv_open();
    let expected = Open {
        id: 1,
        name: "log".to_owned(),
        max_messages: 20,
        max_bytes: 65_536,
        from: 0,
        query: String::new(),
    };
    assert_eq!(open, expected);
    finish(&mut router, &open, &mut consumer);
}

#[test]
fn the_query_is_passed_on_as_it_was_sent_without_the_three_keys() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for (sent, passed) in [
        ("?", ""),
        ("?from=0", ""),
        ("?max_messages=5&max_bytes=16384&from=9", ""),
        ("?a=1", "a=1"),
        ("?a=1&from=9", "a=1"),
        ("?from=9&a=1", "a=1"),
        ("?a=1&from=9&b=2", "a=1&b=2"),
        ("?a=1&a=1&A=2", "a=1&a=1&A=2"),
        ("?flag&from=0&empty=", "flag&empty="),
        ("?t=2026-11-22T00:00:00%2B01:00&q=a+b", "t=2026-11-22T00:00:00%2B01:00&q=a+b"),
        ("?FROM=1&from_=2&max_message=3&timeout_ms=x", "FROM=1&from_=2&max_message=3&timeout_ms=x"),
        ("?n=%C3%BC&%6bey=%3d%26", "n=%C3%BC&%6bey=%3d%26"),
        ("?where=from=3&x=max_bytes=1", "where=from=3&x=max_bytes=1"),
    ] {
        let mut consumer = Consumer::get(daemon.http, "hub", &format!("log{sent}"));
        let open = router.recv_open();
        assert_eq!(open.query, passed, "{sent}");
        finish(&mut router, &open, &mut consumer);
    }
}

#[test]
fn a_query_that_fits_no_fragment_is_refused() {
    let daemon = Daemon::start("http.max_header_bytes = 65536");
    let mut router = Router::bind(daemon.router, "hub");
    let fits = "q".repeat(MAX_FRAGMENT - 16);
    let mut consumer = Consumer::get(daemon.http, "hub", &format!("log?from=5&{fits}"));
    let open = router.recv_open();
    assert_eq!((open.from, open.query == fits), (5, true));
    finish(&mut router, &open, &mut consumer);

    let mut too_long = Consumer::get(daemon.http, "hub", &format!("log?{fits}q"));
    let refused = too_long.client.response();
    assert!((400..500).contains(&refused.status), "{refused:?}");
    router.ping();
    wait_for_live(&daemon, "stream", 0, PATIENCE);
}

#[test]
fn the_ids_of_streams_and_of_commands_count_apart() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for n in 1..=5 {
        let mut consumer = Consumer::get(daemon.http, "hub", "log");
        let open = router.recv_open();
        assert_eq!(open.id, n);
        finish(&mut router, &open, &mut consumer);
        let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
        let command = router.recv_command();
        assert_eq!(command.id, n);
        router.send(&Frame::reply(command.id, ""));
        assert_eq!(caller.join().expect("the caller").status, 200);
    }
    // A new session begins anew.
    drop(router);
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    let open = router.recv_open();
    assert_eq!(open.id, 1);
    finish(&mut router, &open, &mut consumer);
}

#[test]
fn streams_of_one_router_run_beside_each_other() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut streams: Vec<(Open, Consumer)> = (0..8)
        .map(|n| {
            let consumer = Consumer::get(daemon.http, "hub", &format!("log?n={n}"));
            let open = router.recv_open();
            assert_eq!((open.id, open.query.as_str()), (n + 1, format!("n={n}").as_str()));
            (open, consumer)
        })
        .collect();
    for sequence in 0..5 {
        for (open, _) in &streams {
            router.send(&open.json(sequence, format!("[{},{sequence}]", open.id)));
        }
    }
    // They end in another order than they began in.
    streams.reverse();
    for (open, consumer) in &mut streams {
        router.send(&open.end(5));
        consumer.expect_lines();
        for sequence in 0..5 {
            assert_eq!(consumer.line(), format!("[{},{sequence}]", open.id).into_bytes());
        }
        consumer.expect_end();
    }
}

#[test]
fn an_unknown_name_is_the_routers_to_refuse() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut consumer = Consumer::get(daemon.http, "hub", "nonsense");
    let open = router.recv_open();
    router.send(&open.error("there is no stream of that name"));
    let problem = consumer.expect_problem(502, "router_error");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("there is no stream of that name"), "{detail}");
    router.ping();
}

#[test]
fn a_name_is_percent_decoded_once() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "a:b");
    let mut client = Client::connect(daemon.http);
    client.send_request("GET", "/v1/routers/a%3Ab/streams/l%6fg%2E1", &[], b"");
    let open = router.recv_open();
    assert_eq!(open.name, "log.1");
    router.send(&open.json(0, "{}"));
    router.send(&open.end(1));
    let response = client.response();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"{}\n"[..]));
    for name in ["%6c%2571", "a%20b", "a*b", "%C3%BC", &"x".repeat(65)] {
        let refused = client.request("GET", &format!("/v1/routers/a:b/streams/{name}"), &[], b"");
        refused.problem(400, "bad_request");
    }
    assert_eq!(router.frames_before_pong(), []);
}

#[test]
fn the_first_row_may_come_with_the_json_flag_or_without() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for flags in [flag::JSON, 0] {
        let mut consumer = Consumer::get(daemon.http, "hub", "log?from=41");
        let open = router.recv_open();
        assert_eq!(open.from, 41);
        router.send(&open.item(41, "1").flags(flags));
        match flags {
            0 => consumer.expect_octets(),
            _ => consumer.expect_lines(),
        };
        router.send(&open.end(42));
        assert_eq!(if flags == 0 { consumer.row() } else { consumer.line() }, b"1");
        consumer.expect_end();
    }
}
