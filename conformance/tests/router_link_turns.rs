//! Contract section 1, Lanes: the commands of one router take turns, so that none waits for a long one.

use conformance::calls::{self, barrier, command_in_background, oneway};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, MAX_FRAGMENT, MAX_MESSAGE};
use conformance::http::PATIENCE;
use conformance::router::Router;

#[test]
fn awaited_commands_take_turns_of_one_fragment_each() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let length = 30 * MAX_FRAGMENT;
    let callers = [1_u8, 2, 3].map(|n| {
        let caller = command_in_background(daemon.http, "hub", "big", 20_000, vec![n; length]);
        eventually("it is queued", PATIENCE, || {
            (calls::router(daemon.http, "hub").expect("bound")["pending"] == u64::from(n)).then_some(())
        });
        caller
    });
    let frames: Vec<Frame> = (0..90).map(|_| router.recv()).collect();
    let order: Vec<u32> = frames.iter().map(|frame| frame.id).collect();
    // The first has a lead of what the kernels took before the others came.
    let second = order.iter().position(|&id| id == 2).expect("the second");
    let third = order.iter().position(|&id| id == 3).expect("the third");
    let together = third.max(second);
    assert!(together < 20, "they do not take turns: {order:?}");
    let turns = &order[together..together + 30];
    for window in turns.windows(3) {
        let mut window = window.to_vec();
        window.sort_unstable();
        assert_eq!(window, [1, 2, 3], "not one fragment each: {order:?}");
    }
    for id in 1..=3 {
        router.send(&Frame::reply(id, ""));
    }
    for caller in callers {
        assert_eq!(caller.join().expect("the caller").status, 200);
    }
}

#[test]
fn a_small_command_does_not_wait_for_a_big_one() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let big = command_in_background(daemon.http, "hub", "big", 20_000, vec![1; MAX_MESSAGE]);
    eventually("it is queued", PATIENCE, || {
        (calls::router(daemon.http, "hub").expect("bound")["pending"] == 1).then_some(())
    });
    let small = command_in_background(daemon.http, "hub", "small", 20_000, b"quick".to_vec());
    eventually("both are queued", PATIENCE, || {
        (calls::router(daemon.http, "hub").expect("bound")["pending"] == 2).then_some(())
    });
    barrier(daemon.http);
    let first = router.recv_command();
    assert_eq!(first.name_text(), "small");
    router.send(&Frame::reply(first.id, ""));
    assert_eq!(small.join().expect("the caller").status, 200);
    let second = router.recv_command();
    assert_eq!(second.body.len(), MAX_MESSAGE);
    router.send(&Frame::reply(second.id, ""));
    assert_eq!(big.join().expect("the caller").status, 200);
}

#[test]
fn an_awaited_command_does_not_wait_for_a_long_oneway_one() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    assert_eq!(oneway(daemon.http, "hub", "long", &vec![1; MAX_MESSAGE]).status, 202);
    let caller = command_in_background(daemon.http, "hub", "small", 20_000, b"quick".to_vec());
    eventually("it is queued", PATIENCE, || {
        (calls::router(daemon.http, "hub").expect("bound")["pending"] == 1).then_some(())
    });
    let first = router.recv_command();
    assert_eq!(first.name_text(), "small");
    router.send(&Frame::reply(first.id, ""));
    assert_eq!(caller.join().expect("the caller").status, 200);
    assert_eq!(router.recv_command().body.len(), MAX_MESSAGE);
}
