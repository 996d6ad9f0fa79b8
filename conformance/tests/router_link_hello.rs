//! Contract section 1: HELLO, WELCOME, the order of refusal, takeover and the connection caps.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::calls::{self, barrier, command, command_in_background, wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, flag, header, kind};
use conformance::http::PATIENCE;
use conformance::router::{Dial, Router};

#[test]
fn welcome_is_exact() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    let welcome = router.hello("hub-1");
    assert_eq!((welcome.kind, welcome.flags, welcome.id), (kind::WELCOME, flag::JSON, 1));
    let body: serde_json::Value = serde_json::from_slice(&welcome.body).expect("JSON");
    let expected = serde_json::json!({
        "heartbeat_interval_ms": 60_000,
        "heartbeat_timeout_ms": 20_000,
        "max_message_bytes": 1_048_576,
        "max_fragment_bytes": 16_384,
    });
    assert_eq!(body, expected);
    let session = welcome.name_text();
    assert!(!session.is_empty());
    let bound = calls::router(daemon.http, "hub-1").expect("bound");
    assert_eq!(bound["router"], "hub-1");
    assert_eq!(bound["session"], session);
}

#[test]
fn welcome_tells_the_configured_heartbeat() {
    let daemon = Daemon::start("router.heartbeat.interval_s = 7.5\nrouter.heartbeat.timeout_s = 2.25");
    let welcome = Router::connect(daemon.router).hello("hub");
    let body: serde_json::Value = serde_json::from_slice(&welcome.body).expect("JSON");
    assert_eq!(body["heartbeat_interval_ms"], 7500);
    assert_eq!(body["heartbeat_timeout_ms"], 2250);
}

#[test]
fn every_session_has_its_own_id() {
    let daemon = Daemon::start("");
    let mut routers: Vec<Router> = (0..20).map(|_| Router::connect(daemon.router)).collect();
    let mut sessions: HashSet<Vec<u8>> =
        routers.iter_mut().enumerate().map(|(n, router)| router.hello(&format!("hub-{n}")).name).collect();
    sessions.insert(Router::connect(daemon.router).hello("hub-0").name);
    assert_eq!(sessions.len(), 21);
}

#[test]
fn open_mode_takes_any_credential() {
    let daemon = Daemon::start("");
    for credential in [vec![], b"no.token.at-all".to_vec(), vec![b'x'; 16_384]] {
        let mut router = Router::connect(daemon.router);
        router.send(&Frame::hello("hub").body(credential));
        router.expect(kind::WELCOME);
    }
}

#[test]
fn router_ids_at_their_limits_are_welcome() {
    let daemon = Daemon::start("");
    let longest = "x".repeat(64);
    let ids = ["a", "0", ".", "-", "_", ":", "..", "AZaz09._:-", "127.0.0.1", "::ffff:127.0.0.1", &longest];
    for id in ids {
        let mut router = Router::bind(daemon.router, id);
        router.ping();
        // A path that begins with a dot may be normalised on its way.
        if !id.starts_with('.') {
            assert_eq!(calls::router(daemon.http, id).expect("bound")["router"], id);
        }
    }
}

#[test]
fn bad_router_ids_are_protocol_errors() {
    let daemon = Daemon::start("");
    let too_long = "x".repeat(65);
    let ids: [&[u8]; 12] = [
        b"",
        too_long.as_bytes(),
        b"a b",
        b" a",
        b"a\n",
        b"a/b",
        b"$a",
        b"a,b",
        b"*",
        b"a\0",
        "h\u{fc}b".as_bytes(),
        b"a\xff",
    ];
    for id in ids {
        let mut router = Router::connect(daemon.router);
        router.send(&Frame::new(kind::HELLO).id(1).name(id));
        router.expect_end("protocol_error");
    }
}

#[test]
fn refusal_at_hello_goes_by_frame_then_version_then_name() {
    let daemon = Daemon::start("");
    let hello = Frame::hello("hub");
    let cases = [
        ("version 0", hello.clone().id(0), "unsupported_version"),
        ("version 2", hello.clone().id(2), "unsupported_version"),
        ("last version", hello.clone().id(u32::MAX), "unsupported_version"),
        ("version before name", hello.clone().id(2).name("a b"), "unsupported_version"),
        ("version before an empty name", hello.clone().id(2).name(""), "unsupported_version"),
        ("version before credential", hello.clone().id(2).body("x.y.z"), "unsupported_version"),
        ("flag", hello.clone().flags(flag::JSON), "protocol_error"),
        ("flag before version", hello.clone().flags(flag::MORE).id(2), "protocol_error"),
        ("unknown flag", hello.clone().flags(0x80), "protocol_error"),
        ("kind before version", Frame::new(0x7f).id(2).name("hub"), "protocol_error"),
        ("name before credential", hello.clone().name("a b").body("x.y.z"), "protocol_error"),
        ("size before flag", hello.clone().flags(flag::MORE).body(vec![0; 16_385]), "too_large"),
        ("size before version", hello.clone().id(2).body(vec![0; 16_385]), "too_large"),
        ("size before kind", Frame::new(0x7f).body(vec![0; 16_385]), "too_large"),
    ];
    for (case, frame, code) in cases {
        let mut router = Router::connect(daemon.router);
        router.send(&frame);
        let bye = router.recv();
        assert_eq!((bye.kind, bye.name_text()), (kind::BYE, code), "{case}: {bye:?}");
        router.expect_fin();
    }
}

#[test]
fn nothing_may_come_before_hello() {
    let daemon = Daemon::start("");
    let item = Frame::new(kind::ITEM).id(1).body([0; 8]);
    let end = Frame::new(kind::END).id(1).body([0; 8]);
    let frames = [
        Frame::ping(""),
        Frame::new(kind::PONG),
        Frame::bye("kicked"),
        Frame::reply(1, "x"),
        Frame::event("topic", "x"),
        item,
        end,
    ];
    for frame in frames {
        let mut router = Router::connect(daemon.router);
        router.send(&frame);
        router.send(&Frame::hello("hub"));
        router.expect_end("protocol_error");
    }
    assert!(calls::router(daemon.http, "hub").is_none());
}

#[test]
fn hello_comes_once() {
    let daemon = Daemon::start("");
    for again in [Frame::hello("hub"), Frame::hello("other"), Frame::hello("hub").id(2)] {
        let mut router = Router::bind(daemon.router, "hub");
        router.send(&again);
        router.expect_end("protocol_error");
    }
    assert!(calls::router(daemon.http, "other").is_none());
}

#[test]
fn what_stands_behind_a_refused_hello_is_dropped() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    let behind = [Frame::ping("1"), Frame::hello("hub"), Frame::event("topic", "x")];
    let bytes: Vec<u8> = behind.iter().flat_map(Frame::encode).collect();
    router.send_bytes(&[Frame::hello("hub").id(9).encode(), bytes].concat());
    router.expect_end("unsupported_version");
    assert!(calls::router(daemon.http, "hub").is_none());
}

#[test]
fn hello_timeout_comes_and_dripping_bytes_do_not_delay_it() {
    let daemon = Daemon::start("router.hello_timeout_s = 0.4");
    let begun = Instant::now();
    let mut silent = Router::connect(daemon.router);
    silent.expect_end("hello_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(400), "after {:?}", begun.elapsed());

    let mut dripping = Router::connect(daemon.router);
    dripping.set_patience(Duration::from_millis(30));
    let begun = Instant::now();
    let hello = Frame::hello("hub").body(vec![b'x'; 16_384]).encode();
    let bye = hello.iter().find_map(|byte| {
        dripping.send_bytes(&[*byte]);
        dripping.try_recv().ok()
    });
    assert_eq!(bye.expect("a BYE").name_text(), "hello_timeout");
    assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
    wait_for_reason(&daemon, "router", "hello_timeout", 2, PATIENCE);
}

#[test]
fn hello_timeout_ends_with_hello() {
    let daemon = Daemon::start("router.hello_timeout_s = 0.2");
    let mut router = Router::bind(daemon.router, "hub");
    router.expect_silence(Duration::from_millis(800));
    router.ping();
}

#[test]
fn takeover_ends_the_old_session_and_keeps_the_new() {
    let daemon = Daemon::start("");
    let mut old = Router::connect(daemon.router);
    let old_session = old.hello("hub").name;
    let pending = command_in_background(daemon.http, "hub", "slow", 10_000, b"x".to_vec());
    old.recv_command();

    let mut new = Router::connect(daemon.router);
    let new_session = new.hello("hub").name;
    assert_ne!(old_session, new_session);
    old.expect_end("takeover");
    let lost = pending.join().expect("the caller");
    assert_eq!(lost.problem(503, "router_lost")["sent"], true);

    let bound = calls::router(daemon.http, "hub").expect("bound");
    assert_eq!(bound["session"], String::from_utf8(new_session).expect("UTF-8"));
    assert_eq!(bound["pending"], 0);
    let _echo = new.echo();
    assert_eq!(command(daemon.http, "hub", "echo", 5000, b"hello").body, b"hello");
    wait_for_reason(&daemon, "router", "takeover", 1, PATIENCE);
    drop(old);
    wait_for_live(&daemon, "router", 1, PATIENCE);
    assert_eq!(command(daemon.http, "hub", "echo", 5000, b"again").body, b"again");
}

#[test]
fn takeover_goes_by_the_id_and_not_by_the_address() {
    let daemon = Daemon::start("");
    let from = |address: &str| Dial { from: Some(address.parse().expect("an address")), ..Dial::default() };
    let mut old = from("127.0.0.1:0").bind(daemon.router, "hub");
    let mut new = from("127.0.0.77:0").bind(daemon.router, "hub");
    old.expect_end("takeover");
    let mut neighbour = from("127.0.0.77:0").bind(daemon.router, "HUB");
    neighbour.ping();
    new.ping();
}

#[test]
fn a_chain_of_takeovers_leaves_one() {
    let daemon = Daemon::start("");
    let mut routers: Vec<Router> = (0..30).map(|_| Router::connect(daemon.router)).collect();
    for router in &mut routers {
        router.send(&Frame::hello("hub"));
    }
    // Which one is the last is the daemon's choice; each was welcomed, and all but one were taken over.
    let mut ends = 0;
    for router in &mut routers {
        router.expect(kind::WELCOME);
    }
    for router in &mut routers {
        router.send(&Frame::ping(""));
        match router.recv().kind {
            kind::PONG => {}
            _ => ends += 1,
        }
    }
    assert_eq!(ends, 29);
    drop(routers);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    assert!(calls::router(daemon.http, "hub").is_none());
    wait_for_reason(&daemon, "router", "takeover", 29, PATIENCE);
}

#[test]
fn max_per_ip_refuses_with_limit_exceeded() {
    let daemon = Daemon::start("router.max_per_ip = 2");
    let mut first = Router::bind(daemon.router, "hub-1");
    let mut second = Router::bind(daemon.router, "hub-2");
    let mut third = Router::connect(daemon.router);
    third.send(&Frame::hello("hub-3"));
    third.expect_end("limit_exceeded");
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    let mut elsewhere = Dial { from: Some(other), ..Dial::default() }.bind(daemon.router, "hub-4");
    for router in [&mut first, &mut second, &mut elsewhere] {
        router.ping();
    }
    drop((first, third));
    wait_for_live(&daemon, "router", 2, PATIENCE);
    Router::bind(daemon.router, "hub-5").ping();
}

#[test]
fn max_connections_lets_the_rest_wait_until_some_have_gone() {
    let daemon = Daemon::start("router.max_connections = 10");
    let mut bound: Vec<Router> = (0..10).map(|n| Router::bind(daemon.router, &format!("hub-{n}"))).collect();
    let mut waiting = Router::connect(daemon.router);
    waiting.send(&Frame::hello("late"));
    for router in &mut bound {
        router.ping();
    }
    barrier(daemon.http);
    assert!(calls::router(daemon.http, "late").is_none(), "an eleventh connection was accepted");
    assert_eq!(calls::Census::of(&daemon).live("router"), 10);
    bound.truncate(8);
    waiting.expect(kind::WELCOME);
    eventually("the late one is bound", PATIENCE, || calls::router(daemon.http, "late"));
}

#[test]
fn a_header_alone_is_no_frame_yet() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    router.send_bytes(&header(kind::HELLO, 0, 3, 1, 0));
    barrier(daemon.http);
    router.expect_silence(Duration::from_millis(100));
    router.send_bytes(b"hub");
    router.expect(kind::WELCOME);
}
