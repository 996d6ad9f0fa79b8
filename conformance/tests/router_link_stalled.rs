//! Contract section 1, Abort and Lanes: what happens to commands when a router does not read for a while.

use std::net::SocketAddr;

use conformance::calls::{self, barrier, command, command_in_background, oneway};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Command, Frame, HEADER, MAX_FRAGMENT, MAX_MESSAGE, flag, kind};
use conformance::http::{Client, PATIENCE, Response};
use conformance::kernel::settled;
use conformance::router::Router;

/// More than the kernels take for a router that does not read.
const BIG: usize = 600_000;

fn wait_for_pending(http: SocketAddr, id: &str, count: u64) {
    eventually(&format!("{count} pending"), PATIENCE, || {
        (calls::router(http, id).expect("bound")["pending"] == count).then_some(())
    });
}

/// The router's kernel and the daemon's are full with the first part of a one-way command, which is queued as well.
fn stalled_by_oneway(daemon: &Daemon) -> Router {
    let router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; BIG]).status, 202);
    settled(router.stream());
    router
}

/// The stalled router reads on: the one-way command comes whole, and nothing but the answer to a PING behind it.
#[track_caller]
fn expect_only_the_oneway(router: &mut Router) {
    let fill = router.recv_command();
    assert_eq!((fill.id, fill.name_text(), fill.body.len()), (0, "fill", BIG));
    router.ping();
}

#[track_caller]
fn expect_deadline(response: &Response, sent: bool) {
    assert_eq!(response.problem(504, "deadline_exceeded")["sent"], sent);
}

#[test]
fn a_begun_command_is_aborted_at_its_deadline() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let response = command(daemon.http, "hub", "big", 500, &vec![1; BIG]);
    expect_deadline(&response, true);
    let in_kernel = settled(router.stream());
    let bound = calls::router(daemon.http, "hub").expect("bound");
    assert_eq!(bound["pending"], 0);
    assert!(
        bound["queued_bytes"].as_u64().expect("a number") <= (HEADER + MAX_FRAGMENT + HEADER) as u64,
        "{bound}"
    );

    assert_eq!(router.try_command().expect("an abort"), Command::Aborted(1));
    router.ping();
    // What was in the kernels, the fragment that was begun, and the abort: nothing else was written.
    let written = calls::router(daemon.http, "hub").expect("bound")["bytes_out"].as_u64().expect("a number");
    let allowed = in_kernel + (MAX_FRAGMENT + 3 * HEADER + 200) as u64;
    assert!(written <= allowed, "{written} bytes, {in_kernel} of them in the kernels at the deadline");

    let next = command_in_background(daemon.http, "hub", "next", 10_000, vec![]);
    let asked = router.recv_command();
    assert_eq!((asked.name_text(), asked.id), ("next", 2));
    router.send(&Frame::reply(2, "fine"));
    assert_eq!(next.join().expect("the caller").body, b"fine");
}

#[test]
fn a_begun_command_is_aborted_when_its_caller_hangs_up() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let mut caller = Client::connect(daemon.http);
    caller.send_request("POST", "/v1/routers/hub/commands/big?timeout_ms=60000", &[], &vec![1; BIG]);
    wait_for_pending(daemon.http, "hub", 1);
    settled(router.stream());
    caller.finish_sending();
    wait_for_pending(daemon.http, "hub", 0);
    assert_eq!(router.try_command().expect("an abort"), Command::Aborted(1));
    router.ping();
}

#[test]
fn an_unsent_command_never_appears_after_its_deadline() {
    let daemon = Daemon::start("");
    let mut router = stalled_by_oneway(&daemon);
    expect_deadline(&command(daemon.http, "hub", "small", 300, b"x"), false);
    expect_deadline(&command(daemon.http, "hub", "long", 300, &vec![1; 100_000]), false);
    expect_only_the_oneway(&mut router);
}

#[test]
fn an_unsent_command_never_appears_when_its_caller_hangs_up() {
    let daemon = Daemon::start("");
    let mut router = stalled_by_oneway(&daemon);
    for hang_up in [Client::finish_sending, |caller: &mut Client| {
        socket2::SockRef::from(caller.stream())
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("SO_LINGER");
    }] {
        let mut caller = Client::connect(daemon.http);
        caller.send_request("POST", "/v1/routers/hub/commands/small?timeout_ms=60000", &[], b"x");
        wait_for_pending(daemon.http, "hub", 1);
        hang_up(&mut caller);
        drop(caller);
        wait_for_pending(daemon.http, "hub", 0);
    }
    expect_only_the_oneway(&mut router);
}

#[test]
fn of_many_unsent_commands_only_the_given_up_ones_are_missing() {
    let daemon = Daemon::start("");
    let mut router = stalled_by_oneway(&daemon);
    let callers: Vec<_> = (0..10_u8)
        .map(|n| {
            let timeout_ms = if n % 2 == 0 { 300 } else { 30_000 };
            let caller = command_in_background(daemon.http, "hub", "x", timeout_ms, vec![n; 20_000]);
            (n, caller)
        })
        .collect();
    let (given_up, kept): (Vec<_>, Vec<_>) = callers.into_iter().partition(|(n, _)| n % 2 == 0);
    for (_, caller) in given_up {
        expect_deadline(&caller.join().expect("the caller"), false);
    }
    // They take turns with the rest of the one-way command.
    let mut numbers = Vec::new();
    for _ in 0..=kept.len() {
        let asked = router.recv_command();
        if asked.id != 0 {
            numbers.push(asked.body[0]);
            router.send_message(&Frame::reply(asked.id, asked.body));
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 3, 5, 7, 9]);
    for (n, caller) in kept {
        assert_eq!(caller.join().expect("the caller").body, vec![n; 20_000]);
    }
    router.ping();
}

#[test]
fn a_begun_oneway_command_is_always_finished() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let mut caller = Client::connect(daemon.http);
    let response = caller.request("POST", "/v1/routers/hub/commands/fill?oneway=1", &[], &vec![1; BIG]);
    assert_eq!(response.status, 202);
    settled(router.stream());
    drop(caller);
    barrier(daemon.http);
    expect_only_the_oneway(&mut router);
}

#[test]
fn a_reply_of_a_command_that_is_still_being_written_is_its_answer() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let caller = command_in_background(daemon.http, "hub", "big", 30_000, vec![1; BIG]);
    let first = router.expect(kind::COMMAND);
    assert!(first.is(flag::MORE));
    router.send(&Frame::reply(first.id, "enough").flags(flag::ERROR));
    let response = caller.join().expect("the caller");
    assert_eq!((response.status, response.body.as_slice()), (502, &b"enough"[..]));
    // The rest is thrown away or comes to its end; either way the session goes on.
    router.send(&Frame::ping("end"));
    while router.recv().kind != kind::PONG {}
    let next = command_in_background(daemon.http, "hub", "next", 30_000, vec![]);
    let asked = loop {
        let frame = router.recv();
        if frame.name == b"next" {
            break frame;
        }
    };
    router.send(&Frame::reply(asked.id, ""));
    assert_eq!(next.join().expect("the caller").status, 200);
}

#[test]
fn a_system_frame_waits_behind_at_most_one_begun_fragment() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let callers = [0, 1].map(|_| command_in_background(daemon.http, "hub", "b", 30_000, vec![1; 400_000]));
    wait_for_pending(daemon.http, "hub", 2);
    let in_kernel = settled(router.stream()) as usize;
    router.send(&Frame::ping("overtakes"));
    barrier(daemon.http);
    let mut before = 0;
    loop {
        let frame = router.recv();
        if frame.kind == kind::PONG {
            break;
        }
        before += HEADER + frame.name.len() + frame.body.len();
    }
    assert!(
        before <= in_kernel + HEADER + 1 + MAX_FRAGMENT,
        "{before} bytes before it, {in_kernel} in the kernels"
    );
    drop(router);
    for caller in callers {
        caller.join().expect("the caller").problem(503, "router_lost");
    }
}

#[test]
fn a_bye_overtakes_what_was_not_begun() {
    let daemon = Daemon::start("close_grace_s = 30");
    let mut old = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "fill", &vec![1; MAX_MESSAGE]).status, 202);
    let in_kernel = settled(old.stream()) as usize;
    let mut new = Router::bind(daemon.router, "hub");
    let frames = old.recv_to_end();
    let taken: usize = frames.iter().map(|frame| HEADER + frame.name.len() + frame.body.len()).sum();
    assert!(
        taken <= in_kernel + 2 * HEADER + 300 + MAX_FRAGMENT,
        "{taken} bytes, {in_kernel} in the kernels"
    );
    let bye = frames.last().expect("a frame");
    assert_eq!((bye.kind, bye.name_text()), (kind::BYE, "takeover"), "{} frames", frames.len());
    new.ping();
}

#[test]
fn a_router_that_stops_reading_delays_nobody() {
    let daemon = Daemon::start("");
    let stalled: Vec<Router> = (0..5)
        .map(|n| {
            let id = format!("stalled-{n}");
            let router = Router::bind_small(daemon.router, &id);
            assert_eq!(oneway(daemon.http, &id, "fill", &vec![1; MAX_MESSAGE]).status, 202);
            router
        })
        .collect();
    let _echo = Router::bind(daemon.router, "well").echo();
    let begun = std::time::Instant::now();
    for n in 0..200_u8 {
        assert_eq!(command(daemon.http, "well", "echo", 5000, &[n]).body, [n]);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "200 round trips in {:?}", begun.elapsed());
    drop(stalled);
}

#[test]
fn taking_resumes_where_it_stopped() {
    let daemon = Daemon::start("");
    let mut router = stalled_by_oneway(&daemon);
    for n in 0..10_u8 {
        assert_eq!(oneway(daemon.http, "hub", "next", &[n]).status, 202);
    }
    assert_eq!(router.recv_command().body.len(), BIG);
    for n in 0..10 {
        assert_eq!(router.recv_command().body, [n]);
    }
    let bound = calls::router(daemon.http, "hub").expect("bound");
    assert_eq!(bound["queued_bytes"], 0);
}
