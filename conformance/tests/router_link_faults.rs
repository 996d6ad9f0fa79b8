//! Contract section 1, Faults: each with its exact code, and none of them touches anybody else.

use conformance::calls::{Census, barrier, command, command_in_background, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::{Frame, MAX_FRAGMENT, flag, header, kind};
use conformance::http::PATIENCE;
use conformance::router::{Echo, Router};

/// A daemon with a bystander, whom no fault may touch.
struct Scene {
    daemon: Daemon,
    _bystander: Echo,
}

impl Scene {
    fn new() -> Self {
        let daemon = Daemon::start("");
        let bystander = Router::bind(daemon.router, "bystander").echo();
        Self { daemon, _bystander: bystander }
    }

    /// A newly bound router sends these bytes and must get this BYE, then FIN.
    #[track_caller]
    fn fault(&self, case: &str, bytes: &[u8], code: &str) {
        let mut router = Router::bind(self.daemon.router, "culprit");
        router.send_bytes(bytes);
        let bye = router.try_recv().unwrap_or_else(|error| panic!("{case}: no BYE but {error}"));
        assert_eq!((bye.kind, bye.name_text()), (kind::BYE, code), "{case}: {bye:?}");
        router.expect_fin();
    }

    #[track_caller]
    fn faults(&self, cases: &[(&str, Vec<Frame>)], code: &str) {
        for (case, frames) in cases {
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            self.fault(case, &bytes, code);
        }
        self.bystander_is_well();
        wait_for_reason(&self.daemon, "router", code, cases.len() as u64, PATIENCE);
    }

    #[track_caller]
    fn bystander_is_well(&self) {
        assert_eq!(command(self.daemon.http, "bystander", "echo", 5000, b"well").body, b"well");
        let census = Census::audited(&self.daemon);
        census.assert_balanced();
        assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
        assert_eq!(census.reason("router", "takeover"), 0);
    }
}

fn item() -> Frame {
    Frame::new(kind::ITEM).id(1).body([0; 8])
}

fn end() -> Frame {
    Frame::new(kind::END).id(1).body([0; 8])
}

#[test]
fn unknown_kinds() {
    let scene = Scene::new();
    for kind in [0x00, 0x06, 0x0f, 0x13, 0x1f, 0x25, 0x30, 0x80, 0x90, 0xff] {
        scene.fault(&format!("kind {kind:#x}"), &Frame::new(kind).encode(), "protocol_error");
    }
    scene.bystander_is_well();
}

#[test]
fn the_servers_own_kinds() {
    let window = [0, 0, 0, 1, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let cases = [
        ("WELCOME", vec![Frame::new(kind::WELCOME).id(1).flags(flag::JSON).name("s").body("{}")]),
        ("COMMAND", vec![Frame::new(kind::COMMAND).id(1).name("reboot")]),
        ("one-way COMMAND", vec![Frame::new(kind::COMMAND).name("reboot")]),
        ("abort", vec![Frame::new(kind::COMMAND).id(1).flags(flag::ERROR)]),
        ("OPEN", vec![Frame::new(kind::OPEN).id(1).name("log").body(window)]),
        ("ACK", vec![Frame::new(kind::ACK).id(1).body([0; 8])]),
        ("CANCEL", vec![Frame::new(kind::CANCEL).id(1)]),
    ];
    Scene::new().faults(&cases, "protocol_error");
}

#[test]
fn flags_not_listed_for_the_kind() {
    let scene = Scene::new();
    use flag::{ERROR, JSON, MORE, RETAIN};
    let listed = [
        (Frame::ping("x"), 0),
        (Frame::new(kind::PONG).body("x"), 0),
        (Frame::bye("kicked"), 0),
        (Frame::reply(1, "x"), MORE | ERROR | JSON),
        (Frame::event("topic", "x"), MORE | JSON | RETAIN),
        (item(), JSON),
        (end(), ERROR),
    ];
    for (frame, allowed) in listed {
        for bit in (0..8).map(|n| 1_u8 << n).filter(|bit| allowed & bit == 0) {
            let case = format!("flag {bit:#x} on kind {:#x}", frame.kind);
            scene.fault(&case, &frame.clone().flags(bit).encode(), "protocol_error");
            scene.fault(&case, &frame.clone().flags(allowed & !MORE | bit).encode(), "protocol_error");
        }
    }
    scene.bystander_is_well();
}

#[test]
fn names_that_are_bad_or_do_not_belong() {
    let mut cases = vec![
        ("PING", vec![Frame::ping("x").name("n")]),
        ("PONG", vec![Frame::new(kind::PONG).name("n")]),
        ("REPLY", vec![Frame::reply(1, "x").name("n")]),
        ("ITEM", vec![item().name("n")]),
        ("END", vec![end().name("n")]),
        ("EVENT without a topic", vec![Frame::event("", "x")]),
        ("BYE with bad UTF-8", vec![Frame::bye("kicked").name(b"k\xff")]),
        ("BYE without a code", vec![Frame::bye("")]),
    ];
    let topics: [&[u8]; 10] =
        [b"a b", b"a\n", b"a*", b"*", b"a,b", b"a\0", b"\xc3\xbc", b"a\xff", b"a+b", b"a#"];
    for topic in topics {
        cases.push(("topic", vec![Frame::new(kind::EVENT).name(topic).body("x")]));
    }
    for topic in ["$presence", "$", "$x/y"] {
        cases.push(("a topic of the server's own", vec![Frame::event(topic, "x")]));
    }
    Scene::new().faults(&cases, "protocol_error");
}

#[test]
fn ids_that_do_not_belong() {
    let cases = [
        ("EVENT with an id", vec![Frame::event("topic", "x").id(1)]),
        ("REPLY without an id", vec![Frame::reply(0, "x")]),
        ("BYE with an id", vec![Frame::bye("kicked").id(1)]),
    ];
    Scene::new().faults(&cases, "protocol_error");
}

#[test]
fn bodies_over_or_under_their_limits() {
    let cases = [
        ("PING of 65", vec![Frame::ping([0; 65])]),
        ("PING of a fragment", vec![Frame::ping([0; MAX_FRAGMENT])]),
        ("PONG of 65", vec![Frame::new(kind::PONG).body([0; 65])]),
        ("BYE of 257", vec![Frame::bye("kicked").body([b'x'; 257])]),
        ("ITEM without a number", vec![item().body([])]),
        ("ITEM with half a number", vec![item().body([0; 7])]),
        ("END without a number", vec![end().body([])]),
        ("END with half a number", vec![end().body([0; 7])]),
        ("END with ERROR and bad UTF-8", vec![end().flags(flag::ERROR).body([0xff, 0xfe])]),
    ];
    Scene::new().faults(&cases, "protocol_error");
}

#[test]
fn parts_that_do_not_fit_together() {
    use flag::{JSON, MORE, RETAIN};
    let event = |flags| Frame::event("topic", "x").flags(flags);
    let later = |flags| Frame::new(kind::EVENT).flags(flags).body("y");
    let cases = [
        ("an empty first part", vec![Frame::event("topic", "").flags(MORE)]),
        ("an empty later part", vec![event(MORE), later(MORE).body([])]),
        ("JSON comes", vec![event(MORE), later(JSON)]),
        ("JSON goes", vec![event(MORE | JSON), later(0)]),
        ("RETAIN comes", vec![event(MORE), later(MORE | RETAIN)]),
        ("RETAIN goes", vec![event(MORE | RETAIN), later(0)]),
        ("a name in a later part", vec![event(MORE), later(0).name("topic")]),
        ("another message of the same kind with id 0", vec![event(MORE), Frame::event("other", "z")]),
        ("a later part without a first one", vec![later(0)]),
        ("a later part behind the last one", vec![event(MORE), later(0), later(0)]),
    ];
    Scene::new().faults(&cases, "protocol_error");
}

#[test]
fn parts_of_a_reply_that_do_not_fit_together() {
    use flag::{ERROR, JSON, MORE};
    let scene = Scene::new();
    let later = |flags| Frame::new(kind::REPLY).flags(flags).body("y");
    let cases = [
        ("ERROR comes", MORE, later(ERROR)),
        ("ERROR goes", MORE | ERROR, later(0)),
        ("JSON comes", MORE, later(MORE | JSON)),
        ("an empty later part", MORE, later(MORE).body("")),
        ("a name in a later part", MORE, later(0).name("name")),
    ];
    for (case, first_flags, later) in cases {
        let mut router = Router::bind(scene.daemon.router, "culprit");
        let caller = command_in_background(scene.daemon.http, "culprit", "x", 10_000, vec![]);
        let id = router.recv_command().id;
        router.send(&Frame::reply(id, "x").flags(first_flags));
        router.send(&later.id(id));
        let bye = router.recv();
        assert_eq!((bye.kind, bye.name_text()), (kind::BYE, "protocol_error"), "{case}");
        router.expect_fin();
        caller.join().expect("the caller").problem(503, "router_lost");
    }
    scene.bystander_is_well();
}

#[test]
fn a_body_over_a_fragment_is_refused_by_its_header_alone() {
    let scene = Scene::new();
    let kinds = [kind::PING, kind::BYE, kind::REPLY, kind::EVENT, kind::ITEM, kind::END];
    for kind in kinds {
        for body_len in [16_385, 1 << 20, u32::MAX] {
            let bytes = header(kind, 0, 1, 0, body_len);
            scene.fault(&format!("kind {kind:#x} of {body_len}"), &bytes, "too_large");
        }
    }
    // It goes before everything else that is wrong with the frame.
    for kind in [0x00, 0x7f, kind::HELLO, kind::WELCOME, kind::COMMAND] {
        let case = format!("kind {kind:#x}");
        scene.fault(&case, &header(kind, 0xff, u16::MAX, u32::MAX, 16_385), "too_large");
    }
    scene.bystander_is_well();
}

#[test]
fn a_name_over_128_is_refused_by_its_header_alone() {
    let scene = Scene::new();
    for kind in [kind::EVENT, kind::REPLY, kind::PING, kind::BYE, 0x7f] {
        for name_len in [129, u16::MAX] {
            let bytes = header(kind, 0, name_len, 0, 0);
            scene.fault(&format!("kind {kind:#x} named {name_len}"), &bytes, "protocol_error");
        }
    }
    let mut unbound = Router::connect(scene.daemon.router);
    unbound.send_bytes(&header(kind::HELLO, 0, 129, 1, 0));
    unbound.expect_end("protocol_error");
    scene.bystander_is_well();
}

#[test]
fn a_message_over_1_mib() {
    let scene = Scene::new();
    let limit = Frame::event("topic", vec![1; 1 << 20]);
    let mut router = Router::bind(scene.daemon.router, "exact");
    for _ in 0..3 {
        router.send_message(&limit);
        router.ping();
    }
    let over = Frame::event("topic", vec![1; (1 << 20) + 1]);
    scene.fault("one byte over", &over.encode_parts(), "too_large");
    // 64 whole fragments are the limit: a 65th part is over it, whether or not more is announced.
    let mut more = over.parts();
    more.last_mut().expect("the last part").flags |= flag::MORE;
    let bytes: Vec<u8> = more.iter().flat_map(Frame::encode).collect();
    scene.fault("one byte over and more to come", &bytes, "too_large");
    scene.bystander_is_well();
}

#[test]
fn a_reply_over_1_mib() {
    let scene = Scene::new();
    let mut router = Router::bind(scene.daemon.router, "culprit");
    let exact = command_in_background(scene.daemon.http, "culprit", "x", 10_000, vec![]);
    let id = router.recv_command().id;
    router.send_message(&Frame::reply(id, vec![3; 1 << 20]));
    let response = exact.join().expect("the caller");
    assert_eq!((response.status, response.body.len()), (200, 1 << 20));

    let over = command_in_background(scene.daemon.http, "culprit", "x", 10_000, vec![]);
    let id = router.recv_command().id;
    router.send_message(&Frame::reply(id, vec![3; (1 << 20) + 1]));
    router.expect_end("too_large");
    assert_eq!(over.join().expect("the caller").problem(503, "router_lost")["sent"], true);
    scene.bystander_is_well();
}

#[test]
fn half_messages_over_the_sum() {
    let scene = Scene::new();
    let mut router = Router::bind(scene.daemon.router, "culprit");
    let callers = [0, 1].map(|_| command_in_background(scene.daemon.http, "culprit", "x", 20_000, vec![]));
    let ids = [0, 1].map(|_| router.recv_command().id);
    let part = |id, bytes| Frame::reply(id, vec![5; bytes]).flags(flag::MORE);
    for _ in 0..20 {
        router.send(&part(ids[0], MAX_FRAGMENT));
        router.send(&part(ids[1], MAX_FRAGMENT));
    }
    router.send(&Frame::event("topic", vec![5; MAX_FRAGMENT]).flags(flag::MORE));
    for _ in 0..23 {
        router.send(&Frame::new(kind::EVENT).flags(flag::MORE).body(vec![5; MAX_FRAGMENT]));
    }
    // 20 + 20 + 24 fragments are 1 MiB exactly.
    router.ping();
    router.send(&part(ids[0], 1));
    router.expect_end("too_large");
    for caller in callers {
        caller.join().expect("the caller").problem(503, "router_lost");
    }
    scene.bystander_is_well();
}

#[test]
fn nothing_behind_a_fault_is_carried_out() {
    let scene = Scene::new();
    let mut router = Router::bind(scene.daemon.router, "culprit");
    let caller = command_in_background(scene.daemon.http, "culprit", "x", 10_000, vec![]);
    let id = router.recv_command().id;
    router.send_bytes(&[Frame::new(0x7f).encode(), Frame::reply(id, "too late").encode()].concat());
    router.expect_end("protocol_error");
    caller.join().expect("the caller").problem(503, "router_lost");
}

#[test]
fn whole_frames_before_a_fault_count() {
    let scene = Scene::new();
    let mut router = Router::bind(scene.daemon.router, "culprit");
    let caller = command_in_background(scene.daemon.http, "culprit", "x", 10_000, vec![]);
    let id = router.recv_command().id;
    router.send_bytes(&[Frame::reply(id, "in time").encode(), Frame::new(0x7f).encode()].concat());
    router.expect_end("protocol_error");
    assert_eq!(caller.join().expect("the caller").body, b"in time");
}

#[test]
fn what_is_no_frame_at_all() {
    let scene = Scene::new();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0];
    for bytes in [&http[..], &tls] {
        let mut stranger = Router::connect(scene.daemon.router);
        stranger.send_bytes(bytes);
        let bye = stranger.recv();
        assert_eq!(bye.kind, kind::BYE, "{bye:?}");
        assert!(["too_large", "protocol_error"].contains(&bye.name_text()), "{bye:?}");
        stranger.expect_fin();
    }
    barrier(scene.daemon.http);
    scene.bystander_is_well();
}
