//! Contract section 1: COMMAND and REPLY on the wire, parts both ways, ids, order and turns.

use conformance::calls::{self, command, command_in_background, oneway};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, MAX_FRAGMENT, MAX_MESSAGE, flag, kind};
use conformance::http;
use conformance::router::Router;

/// A body whose every byte depends on its place, so that parts out of order show.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[test]
fn a_command_is_one_frame_with_name_and_id() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "set.relay-1", 10_000, b"on".to_vec());
    let frame = router.recv();
    assert_eq!(frame, Frame::new(kind::COMMAND).id(1).name("set.relay-1").body("on"));
    router.send(&Frame::reply(1, "done"));
    let response = caller.join().expect("the caller");
    assert_eq!((response.status, response.body.as_slice()), (200, &b"done"[..]));
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn json_goes_both_ways_as_a_flag() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let address = daemon.http;
    let caller = std::thread::spawn(move || {
        let json = [("Content-Type", "application/json")];
        http::request(address, "POST", "/v1/routers/hub/commands/x?timeout_ms=10000", &json, b"{}")
    });
    assert_eq!(router.recv(), Frame::new(kind::COMMAND).id(1).flags(flag::JSON).name("x").body("{}"));
    router.send(&Frame::reply(1, "[1]").flags(flag::JSON));
    let response = caller.join().expect("the caller");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.body, b"[1]");
}

#[test]
fn a_reply_with_error_is_502_with_its_body() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for (flags, content_type) in [(0, "application/octet-stream"), (flag::JSON, "application/json")] {
        let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![]);
        let id = router.recv_command().id;
        let body = b"\"relay stuck\"".repeat(3000);
        router.send_message(&Frame::reply(id, body.clone()).flags(flags | flag::ERROR));
        let response = caller.join().expect("the caller");
        assert_eq!((response.status, &response.body), (502, &body));
        assert_eq!(response.header("berth-error"), Some("router"));
        assert_eq!(response.header("content-type"), Some(content_type));
    }
}

#[test]
fn correlation_ids_count_from_1_in_every_session() {
    let daemon = Daemon::start("");
    for _session in 0..2 {
        let mut router = Router::bind(daemon.router, "hub");
        for id in 1..=5 {
            let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![]);
            assert_eq!(router.recv_command().id, id);
            router.send(&Frame::reply(id, ""));
            assert_eq!(caller.join().expect("the caller").status, 200);
            // One-way commands have none, and use none up.
            assert_eq!(oneway(daemon.http, "hub", "y", b"").status, 202);
            assert_eq!(router.recv_command(), Frame::new(kind::COMMAND).name("y"));
        }
    }
}

#[test]
fn commands_are_split_as_the_contract_says() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for length in
        [0, 1, MAX_FRAGMENT - 1, MAX_FRAGMENT, MAX_FRAGMENT + 1, 2 * MAX_FRAGMENT, 100_000, MAX_MESSAGE]
    {
        let caller = command_in_background(daemon.http, "hub", "big", 20_000, pattern(length));
        // The assembler checks flags, names and lengths of every part.
        let whole = router.recv_command();
        assert_eq!((whole.name_text(), whole.flags), ("big", 0));
        assert!(whole.body == pattern(length), "the body of {length}");
        router.send(&Frame::reply(whole.id, ""));
        assert_eq!(caller.join().expect("the caller").status, 200);
    }
}

#[test]
fn a_split_command_repeats_its_flags() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let json = [("Content-Type", "application/json")];
    let body = vec![b' '; 40_000];
    let response = http::request(daemon.http, "POST", "/v1/routers/hub/commands/x?oneway=1", &json, &body);
    assert_eq!(response.status, 202);
    let parts = [router.recv(), router.recv(), router.recv()];
    let flags: Vec<u8> = parts.iter().map(|part| part.flags).collect();
    assert_eq!(flags, [flag::MORE | flag::JSON, flag::MORE | flag::JSON, flag::JSON]);
    assert_eq!(parts.each_ref().map(|part| part.name.len()), [1, 0, 0]);
    assert_eq!(parts.iter().map(|part| part.body.len()).sum::<usize>(), 40_000);
}

#[test]
fn replies_of_every_length_come_back_whole() {
    let daemon = Daemon::start("");
    let _echo = Router::bind(daemon.router, "hub").echo();
    for length in [0, 1, MAX_FRAGMENT - 1, MAX_FRAGMENT, MAX_FRAGMENT + 1, 3 * MAX_FRAGMENT, MAX_MESSAGE] {
        let response = command(daemon.http, "hub", "echo", 20_000, &pattern(length));
        assert_eq!(response.status, 200, "{length}");
        assert!(response.body == pattern(length), "the body of {length}");
    }
}

#[test]
fn a_reply_may_come_in_parts_of_any_size() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for size in [1, 7, 100, MAX_FRAGMENT - 1] {
        let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
        let id = router.recv_command().id;
        let body = pattern(size * 5 + 1);
        let parts = Frame::reply(id, body.clone()).parts_of(size);
        router.send_bytes(&parts.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
        assert!(caller.join().expect("the caller").body == body, "parts of {size}");
    }
    // The last part may be empty: only one with MORE may not.
    let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
    let id = router.recv_command().id;
    router.send(&Frame::reply(id, "all").flags(flag::MORE));
    router.send(&Frame::reply(id, ""));
    assert_eq!(caller.join().expect("the caller").body, b"all");
}

#[test]
fn parts_of_several_replies_and_an_event_may_be_interleaved() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let callers: Vec<_> =
        (0..4_u8).map(|n| command_in_background(daemon.http, "hub", "x", 20_000, vec![n])).collect();
    let mut commands: Vec<Frame> = callers.iter().map(|_| router.recv_command()).collect();
    // Answered in another order than asked, each with what it asked.
    commands.reverse();
    let mut queues: Vec<std::vec::IntoIter<Frame>> = commands
        .iter()
        .map(|asked| Frame::reply(asked.id, asked.body.repeat(50_000)).parts().into_iter())
        .chain([Frame::event("topic", pattern(60_000)).parts().into_iter()])
        .collect();
    loop {
        let round: Vec<Frame> = queues.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            break;
        }
        router.send_bytes(&round.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
        router.send(&Frame::ping("between"));
    }
    for (n, caller) in callers.into_iter().enumerate() {
        let response = caller.join().expect("the caller");
        assert_eq!(response.status, 200);
        assert!(response.body == vec![n as u8; 50_000], "caller {n} got another's reply");
    }
}

#[test]
fn replies_that_nobody_awaits_are_dropped() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for id in [1, 2, 77, u32::MAX] {
        router.send(&Frame::reply(id, "nobody asked"));
        router.send_message(&Frame::reply(id, pattern(40_000)).flags(flag::ERROR));
    }
    router.ping();
    let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![]);
    let id = router.recv_command().id;
    router.send(&Frame::reply(id + 1, "not this one"));
    router.send(&Frame::reply(id, "this one"));
    router.send(&Frame::reply(id, "once more"));
    assert_eq!(caller.join().expect("the caller").body, b"this one");
    router.ping();
}

#[test]
fn a_late_reply_is_dropped_also_when_it_was_begun_in_time() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let late = command_in_background(daemon.http, "hub", "x", 300, vec![]);
    let id = router.recv_command().id;
    router.send(&Frame::reply(id, pattern(MAX_FRAGMENT)).flags(flag::MORE));
    let response = late.join().expect("the caller");
    assert_eq!(response.problem(504, "deadline_exceeded")["sent"], true);
    let bound = calls::router(daemon.http, "hub").expect("bound");
    assert_eq!(bound["pending"], 0);
    router.send(&Frame::reply(id, pattern(MAX_FRAGMENT)).flags(flag::MORE));
    router.send(&Frame::reply(id, "the end"));
    router.ping();
    // What it had half received is gone: a whole message of the limit has room again.
    let next = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
    let id = router.recv_command().id;
    router.send_message(&Frame::reply(id, pattern(MAX_MESSAGE)));
    assert_eq!(next.join().expect("the caller").body.len(), MAX_MESSAGE);
}

#[test]
fn a_command_that_was_written_whole_is_not_aborted() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let late = command_in_background(daemon.http, "hub", "x", 200, vec![]);
    router.recv_command();
    late.join().expect("the caller").problem(504, "deadline_exceeded");
    router.ping();
}

#[test]
fn oneway_commands_keep_their_order() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut caller = http::Client::connect(daemon.http);
    for n in 0..300_u32 {
        let length = if n % 10 == 0 { 40_000 } else { 4 };
        let body = n.to_be_bytes().repeat(length / 4);
        let response = caller.request("POST", "/v1/routers/hub/commands/step?oneway=1", &[], &body);
        assert_eq!(response.status, 202);
        // It is taken in bursts, so that something queues up.
        if n % 20 == 19 {
            for expected in n - 19..=n {
                let step = router.recv_command();
                assert_eq!((step.id, step.body[..4].to_vec()), (0, expected.to_be_bytes().to_vec()));
            }
        }
    }
}

#[test]
fn a_reply_answers_its_own_sessions_command_only() {
    let daemon = Daemon::start("");
    let mut routers = ["a", "b", "c"].map(|id| Router::bind(daemon.router, id));
    let callers = ["a", "b", "c"].map(|id| command_in_background(daemon.http, id, "x", 20_000, vec![]));
    for router in &mut routers {
        assert_eq!(router.recv_command().id, 1);
    }
    for (router, body) in routers.iter_mut().zip(["from a", "from b", "from c"]) {
        router.send(&Frame::reply(1, body));
        router.send(&Frame::reply(1, "once more"));
        router.ping();
    }
    let bodies =
        callers.map(|caller| String::from_utf8(caller.join().expect("the caller").body).expect("UTF-8"));
    assert_eq!(bodies, ["from a", "from b", "from c"]);
}

#[test]
fn a_new_session_is_not_taken_for_the_one_before() {
    let daemon = Daemon::start("");
    for n in 0..20_u8 {
        let mut old = Router::bind(daemon.router, "hub");
        let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
        assert_eq!(old.recv_command().id, 1);
        drop(old);
        caller.join().expect("the caller").problem(503, "router_lost");
        // Its slot and its first correlation id are those of the one before.
        let mut new = Router::bind(daemon.router, "hub");
        let caller = command_in_background(daemon.http, "hub", "x", 20_000, vec![]);
        assert_eq!(new.recv_command().id, 1);
        new.send(&Frame::reply(1, [n]));
        assert_eq!(caller.join().expect("the caller").body, [n]);
    }
}

#[test]
fn a_crowd_gets_each_its_own_answer() {
    let daemon = Daemon::start("");
    let _echoes: Vec<_> = (0..40).map(|n| Router::bind(daemon.router, &format!("hub-{n}")).echo()).collect();
    let callers: Vec<_> = (0..8_usize)
        .map(|caller| {
            let address = daemon.http;
            std::thread::spawn(move || {
                let mut client = http::Client::connect(address);
                for n in 0..300 {
                    let target =
                        format!("/v1/routers/hub-{}/commands/echo?timeout_ms=20000", (n * 7 + caller) % 40);
                    let length = if n % 50 == 0 { 50_000 } else { 20 };
                    let body = format!("{caller}/{n} ").repeat(length / 4).into_bytes();
                    let response = client.request("POST", &target, &[], &body);
                    assert!(response.status == 200 && response.body == body, "caller {caller}, {n}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller");
    }
}
