//! Contract section 1, Lanes: the commands and OPENs of one router take turns, so that none waits for a long one.

use conformance::calls::{self, barrier, command_in_background, oneway, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, HEADER, MAX_FRAGMENT, MAX_MESSAGE, flag, kind};
use conformance::http::PATIENCE;
use conformance::kernel::settled;
use conformance::router::Router;
use conformance::stream::{Consumer, Open, Sender};

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

/// All frames up to the first of this kind, and it.
#[track_caller]
fn frames_until(router: &mut Router, kind: u8) -> Vec<Frame> {
    let mut frames = vec![router.recv()];
    while frames.last().expect("a frame").kind != kind {
        frames.push(router.recv());
    }
    frames
}

fn bytes_of(frames: &[Frame]) -> usize {
    frames.iter().map(|frame| HEADER + frame.name.len() + frame.body.len()).sum()
}

/// A router whose kernels are full with the beginning of something long, and how many bytes they hold.
fn stalled(daemon: &Daemon, long: impl FnOnce()) -> (Router, usize) {
    let router = Router::bind_small(daemon.router, "hub");
    long();
    let in_kernels = settled(router.stream()) as usize;
    (router, in_kernels)
}

#[test]
fn an_open_does_not_wait_for_a_long_command() {
    let daemon = Daemon::start("");
    let mut caller = None;
    let (mut router, in_kernels) = stalled(&daemon, || {
        caller = Some(command_in_background(daemon.http, "hub", "big", 20_000, vec![1; 800_000]));
        wait_for_live(&daemon, "pending_command", 1, PATIENCE);
    });
    let mut consumer = Consumer::get(daemon.http, "hub", "log");
    wait_for_live(&daemon, "stream", 1, PATIENCE);
    let frames = frames_until(&mut router, kind::OPEN);
    // The fragment that was begun, and at most one that had its turn before.
    let before = bytes_of(&frames[..frames.len() - 1]);
    assert!(
        before <= in_kernels + 2 * (HEADER + MAX_FRAGMENT),
        "{before} bytes, {in_kernels} in the kernels"
    );
    let open = Open::of(frames.last().expect("the OPEN"));
    // The stream is served while the command is still being written.
    router.send(&open.json(0, "1"));
    router.send(&open.end(1));
    consumer.expect_lines();
    assert_eq!(consumer.line(), b"1");
    consumer.expect_end();
    router.send(&Frame::reply(1, "early"));
    assert_eq!(caller.expect("a caller").join().expect("the caller").status, 200);
}

#[test]
fn an_open_does_not_wait_for_a_long_oneway_command() {
    let daemon = Daemon::start("");
    let (mut router, in_kernels) = stalled(&daemon, || {
        assert_eq!(oneway(daemon.http, "hub", "long", &vec![1; 800_000]).status, 202);
    });
    let consumer = Consumer::get(daemon.http, "hub", "log");
    wait_for_live(&daemon, "stream", 1, PATIENCE);
    let frames = frames_until(&mut router, kind::OPEN);
    let before = bytes_of(&frames[..frames.len() - 1]);
    assert!(
        before <= in_kernels + 2 * (HEADER + MAX_FRAGMENT),
        "{before} bytes, {in_kernels} in the kernels"
    );
    drop(consumer);
}

#[test]
fn commands_and_opens_take_turns() {
    let daemon = Daemon::start("");
    let mut callers = Vec::new();
    let (mut router, in_kernels) = stalled(&daemon, || {
        for n in 1..=3 {
            callers.push(command_in_background(daemon.http, "hub", "big", 20_000, vec![1; 300_000]));
            wait_for_live(&daemon, "pending_command", n, PATIENCE);
        }
    });
    let mut consumers = Vec::new();
    for n in 1..=5 {
        consumers.push(Consumer::get(daemon.http, "hub", "log"));
        wait_for_live(&daemon, "stream", n, PATIENCE);
    }
    let mut frames: Vec<Frame> = Vec::new();
    for _ in 0..5 {
        frames.extend(frames_until(&mut router, kind::OPEN));
    }
    // Behind what was begun already: one round of all takes three fragments and five OPENs, in which order ever.
    let before: usize = bytes_of(&frames);
    let round = 4 * (HEADER + MAX_FRAGMENT) + 5 * 100;
    assert!(before <= in_kernels + round, "{before} bytes, {in_kernels} in the kernels");
    let opens = frames.iter().filter(|frame| frame.kind == kind::OPEN);
    assert!(opens.map(|frame| frame.id).eq(1..=5), "OPENs in another order than asked for");
    // The commands come to their ends, and no OPEN comes twice.
    let ends = |frames: &[Frame]| frames.iter().filter(|frame| !frame.is(flag::MORE)).count();
    let mut rest = Vec::new();
    while ends(&rest) < 3 {
        rest.push(router.expect(kind::COMMAND));
    }
    for id in 1..=3 {
        router.send(&Frame::reply(id, ""));
    }
    for caller in callers {
        assert_eq!(caller.join().expect("the caller").status, 200);
    }
}

#[test]
fn a_command_does_not_wait_for_streams() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let row = vec![7; 16_000];
    // Streams that stall and one at full speed, of the same router.
    let stalled: Vec<(Sender, Consumer)> = (0..4)
        .map(|_| {
            let consumer = Consumer::get_small(daemon.http, "hub", "log");
            let mut sender = Sender::of_octets(router.recv_open());
            sender.fill(&mut router, &row, &consumer);
            (sender, consumer)
        })
        .collect();
    for n in 1..=20 {
        let caller = command_in_background(daemon.http, "hub", "x", 10_000, vec![n]);
        let command = router.recv_command();
        router.send(&Frame::reply(command.id, command.body));
        assert_eq!(caller.join().expect("the caller").body, [n]);
    }
    drop(stalled);
}

#[test]
fn acks_and_cancels_wait_behind_at_most_one_begun_fragment() {
    let daemon = Daemon::start("");
    let mut router = Router::bind_small(daemon.router, "hub");
    let mut reading = Consumer::get(daemon.http, "hub", "log?n=1");
    let read = router.recv_open();
    let leaving = Consumer::get(daemon.http, "hub", "log?n=2");
    let left = router.recv_open();
    let caller = command_in_background(daemon.http, "hub", "big", 20_000, vec![1; 800_000]);
    wait_for_live(&daemon, "pending_command", 1, PATIENCE);
    let in_kernels = settled(router.stream()) as usize;
    router.send(&read.json(0, "1"));
    reading.expect_lines();
    assert_eq!(reading.line(), b"1");
    drop(leaving);
    wait_for_live(&daemon, "stream", 1, PATIENCE);

    let most = in_kernels + HEADER + MAX_FRAGMENT + 100;
    let mut system = Vec::new();
    let mut before = 0;
    while system.len() < 2 {
        let frame = router.recv();
        match frame.kind {
            kind::COMMAND => before += bytes_of(&[frame]),
            _ => system.push(frame),
        }
        assert!(before <= most, "{before} bytes before {system:?}, {in_kernels} in the kernels");
    }
    system.sort_by_key(|frame| frame.kind);
    assert_eq!(conformance::stream::acknowledged(&system[0], read.id), 0);
    assert_eq!(system[1], Frame::new(kind::CANCEL).id(left.id));
    router.send(&Frame::reply(1, "early"));
    assert_eq!(caller.join().expect("the caller").status, 200);
}

#[test]
fn a_system_frame_does_not_wait_for_long_opens() {
    let daemon = Daemon::start("http.max_header_bytes = 65536");
    let mut router = Router::bind_small(daemon.router, "hub");
    let query = "q".repeat(MAX_FRAGMENT - 16);
    let consumers: Vec<Consumer> =
        (0..16).map(|_| Consumer::get(daemon.http, "hub", &format!("log?{query}"))).collect();
    wait_for_live(&daemon, "stream", 16, PATIENCE);
    let in_kernels = settled(router.stream()) as usize;
    router.send(&Frame::ping("overtakes"));
    barrier(daemon.http);
    let frames = frames_until(&mut router, kind::PONG);
    let before = bytes_of(&frames[..frames.len() - 1]);
    assert!(before <= in_kernels + HEADER + 3 + MAX_FRAGMENT, "{before} bytes, {in_kernels} in the kernels");
    assert!(frames.len() < 17, "the kernels took all OPENs: this proves nothing");
    drop(consumers);
}
