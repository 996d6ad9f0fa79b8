//! Contract section 6: the census, member by member, against what `/proc`, the kernel and the arithmetic say.

use std::collections::BTreeSet;

use conformance::calls::{Census, command, command_in_background, router as entry, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, MAX_FRAGMENT, flag};
use conformance::http::{Client, PATIENCE, get, request};
use conformance::kernel::status_bytes;
use conformance::router::Router;
use conformance::websocket::{TEXT, WebSocket};
use serde_json::{Value, json};

const CONNECTIONS: [&str; 4] = ["router", "http", "app", "page"];
const TABLES: [&str; 7] =
    ["listener", "pending_command", "subscription", "stream", "timer", "shadow", "queued_frame"];
const STATES: [&str; 5] = ["warming", "flat", "loaded", "fragmented", "leaking"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

#[track_caller]
fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

#[track_caller]
fn has_just(value: &Value, names: &[&str]) {
    assert_eq!(members(value), names.iter().copied().collect(), "{value}");
}

#[track_caller]
fn all_counts(value: &Value) {
    for (name, count) in value.as_object().expect("an object") {
        assert!(count.is_u64(), "{name} is {count}");
    }
}

/// The `sockets` of an audit.
#[track_caller]
fn sockets(caller: &mut Client) -> (u64, u64) {
    let census = Census::over(caller, "/v1/census?audit=1");
    assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
    let count = |what: &str| census.0["sockets"][what].as_u64().unwrap_or_else(|| panic!("{}", census.0));
    (count("kernel"), count("table"))
}

/// The only entry of `/v1/clients`.
#[track_caller]
fn client(daemon: &Daemon) -> Value {
    let list = get(daemon.http, "/v1/clients").json();
    assert_eq!(list["clients"].as_array().map(Vec::len), Some(1), "{list}");
    list["clients"][0].clone()
}

#[track_caller]
fn heap_bytes(entry: &Value) -> u64 {
    entry["heap_bytes"].as_u64().unwrap_or_else(|| panic!("no heap_bytes in {entry}"))
}

/// Parts of an event of `length` bytes, without the last one.
fn half_event(length: usize) -> (Vec<u8>, Vec<u8>) {
    let parts = Frame::event("half", vec![b'x'; length]).parts();
    let (last, first) = parts.split_last().expect("parts");
    (first.iter().flat_map(Frame::encode).collect(), last.encode())
}

#[test]
fn the_census_has_every_member_with_its_type() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1");
    let response = get(daemon.http, "/v1/census?audit=1");
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let census = response.json();
    for member in
        ["uptime_s", "memory", "classes", "unbound_by_reason", "loop", "audit", "sockets", "verdict"]
    {
        assert!(census.get(member).is_some(), "no {member} in {census}");
    }
    assert!(census["uptime_s"].as_f64().is_some_and(|uptime| uptime > 0.0), "{census}");

    has_just(
        &census["memory"],
        &[
            "rss_bytes",
            "live_bytes",
            "allocated_from_kernel_bytes",
            "fragmentation_bytes",
            "live_allocations",
        ],
    );
    all_counts(&census["memory"]);

    has_just(&census["classes"], &[&CONNECTIONS[..], &TABLES, &["log", "other"]].concat());
    for class in CONNECTIONS.iter().chain(&TABLES) {
        has_just(&census["classes"][class], &["live", "opened", "unbound", "heap_bytes"]);
        all_counts(&census["classes"][class]);
    }
    for class in ["log", "other"] {
        has_just(&census["classes"][class], &["heap_bytes"]);
        all_counts(&census["classes"][class]);
    }

    has_just(&census["unbound_by_reason"], &CONNECTIONS);
    CONNECTIONS.iter().for_each(|class| all_counts(&census["unbound_by_reason"][class]));

    has_just(&census["loop"], &["turns", "longest_ms", "over_50_ms"]);
    assert!(census["loop"]["turns"].is_u64() && census["loop"]["over_50_ms"].is_u64(), "{census}");
    assert!(census["loop"]["longest_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{census}");

    assert_eq!(
        (&census["audit"]["ok"], &census["audit"]["dangling"]),
        (&json!(true), &json!([])),
        "{census}"
    );
    has_just(&census["sockets"], &["kernel", "table"]);
    all_counts(&census["sockets"]);

    has_just(&census["verdict"], &["state", "says"]);
    let state = census["verdict"]["state"].as_str().expect("a state");
    assert!(STATES.contains(&state), "{state}");
    assert!(census["verdict"]["says"].as_str().is_some_and(|says| !says.is_empty()), "{census}");
}

#[test]
fn the_kernel_is_asked_for_its_sockets_only_when_told_to() {
    let daemon = Daemon::start("");
    assert!(Census::of(&daemon).0["sockets"].is_null());
    assert!(Census::audited(&daemon).0["sockets"].is_object());
    assert!(Census::of(&daemon).0["sockets"].is_null());
}

#[test]
fn audit_takes_1_and_nothing_else_is_taken() {
    let daemon = Daemon::start("");
    let refused = [
        ("audit", "audit"),
        ("audit=", "audit"),
        ("audit=0", "audit"),
        ("audit=2", "audit"),
        ("audit=11", "audit"),
        ("audit=01", "audit"),
        ("audit=%2B1", "audit"),
        ("audit=true", "audit"),
        ("audit=1&audit=1", "audit"),
        ("audit=1&audit=2", "audit"),
        ("AUDIT=1", "AUDIT"),
        ("audits=1", "audits"),
        ("audit=1&sockets=1", "sockets"),
        ("full=1", "full"),
        ("=1", ""),
    ];
    for (query, name) in refused {
        let problem = get(daemon.http, &format!("/v1/census?{query}")).problem(400, "bad_request");
        assert!(problem["detail"].as_str().expect("a detail").contains(name), "{query}: {problem}");
    }
    for query in ["", "?", "?audit=1", "?audit=%31"] {
        assert_eq!(get(daemon.http, &format!("/v1/census{query}")).status, 200, "{query}");
    }
    assert_eq!(request(daemon.http, "HEAD", "/v1/census?audit=1", &[], b"").status, 200);
    let refused = request(daemon.http, "DELETE", "/v1/census", &[], b"");
    refused.problem(405, "method_not_allowed");
    assert!(refused.header("allow").is_some_and(|allow| allow.contains("GET")), "{refused:?}");
}

#[test]
fn the_sums_are_exact_in_every_snapshot() {
    let daemon = Daemon::start("");
    let mut caller = Client::connect(daemon.http);
    let mut kept = Vec::new();
    for n in 0..40 {
        let id = format!("r{n}");
        let mut router = Router::bind(daemon.router, &id);
        let mut app = WebSocket::connect(daemon.app);
        app.subscribe("*", "*");
        router.send(&Frame::event("state", vec![b's'; 100 * n]).flags(flag::RETAIN));
        router.send_bytes(&half_event(20_000).0);
        let pending = command_in_background(daemon.http, &id, "never", 100, vec![b'c'; 1000]);
        let census = Census::over(&mut caller, "/v1/census?audit=1");
        census.assert_balanced();
        let [live, allocated, holes] = ["live_bytes", "allocated_from_kernel_bytes", "fragmentation_bytes"]
            .map(|what| census.memory(what));
        assert!(allocated >= live, "{}", census.0);
        assert_eq!(allocated - live, holes, "{}", census.0);
        assert!(census.memory("live_allocations") > 0 && census.memory("live_allocations") < live);
        assert_eq!(pending.join().expect("the caller").status, 504);
        if n % 2 == 0 {
            kept.push((router, app));
        }
    }
    wait_for_live(&daemon, "router", 20, PATIENCE);
    wait_for_live(&daemon, "app", 20, PATIENCE);
    Census::over(&mut caller, "/v1/census?audit=1").assert_balanced();
}

#[test]
fn resident_memory_is_what_proc_says() {
    let daemon = Daemon::start("");
    // Page faults that the kernel has not yet added up make small differences.
    const SLACK: u64 = MIB;
    for _ in 0..10 {
        let before = status_bytes(daemon.pid(), "VmRSS");
        let rss = Census::of(&daemon).memory("rss_bytes");
        let after = status_bytes(daemon.pid(), "VmRSS");
        assert!(
            (before.min(after) - SLACK..=before.max(after) + SLACK).contains(&rss),
            "{before} {rss} {after}"
        );
    }
}

#[test]
fn the_kernel_has_as_many_sockets_as_the_table() {
    let daemon = Daemon::start("router.bind = [\"[::1]:0\"]");
    let mut caller = Client::connect(daemon.http);
    assert_eq!(sockets(&mut caller), (1, 1));
    let mut routers: Vec<Router> = (0..30).map(|n| Router::bind(daemon.router, &format!("r{n}"))).collect();
    let apps: Vec<WebSocket> = (0..20).map(|_| WebSocket::connect(daemon.app)).collect();
    let pages: Vec<WebSocket> = (0..10).map(|_| WebSocket::connect(daemon.page)).collect();
    let callers: Vec<Client> = (0..5)
        .map(|_| {
            let mut caller = Client::connect(daemon.http);
            assert_eq!(caller.request("GET", "/healthz", &[], b"").status, 200);
            caller
        })
        .collect();
    assert_eq!(sockets(&mut caller), (66, 66));
    // Sockets of other servers and of the clients' side are none of them.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = elsewhere.local_addr().expect("an address");
    let _stranger = std::net::TcpStream::connect(address).expect("connect");
    assert_eq!(sockets(&mut caller), (66, 66));
    routers.truncate(10);
    drop((apps, pages, callers));
    for (class, live) in [("router", 10), ("app", 0), ("page", 0), ("http", 2)] {
        wait_for_live(&daemon, class, live, PATIENCE);
    }
    eventually("the callers of the census are gone", PATIENCE, || {
        (sockets(&mut caller) == (11, 11)).then_some(())
    });
}

#[test]
fn a_connection_in_its_last_words_is_not_in_the_table() {
    let daemon = Daemon::start("close_grace_s = 60");
    let mut caller = Client::connect(daemon.http);
    let _bystander = Router::bind(daemon.router, "well");
    let mut kicked = Router::bind(daemon.router, "kicked");
    assert_eq!(sockets(&mut caller), (3, 3));
    assert_eq!(caller.request("DELETE", "/v1/routers/kicked", &[], b"").status, 204);
    kicked.expect_end("kicked");
    // It does not close.
    assert_eq!(Census::over(&mut caller, "/v1/census").live("router"), 2);
    assert_eq!(sockets(&mut caller), (2, 2));
}

#[test]
fn half_a_message_is_on_the_routers_account_until_it_is_whole() {
    const LENGTH: usize = 900_000;
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut other = Router::bind(daemon.router, "other");
    router.ping();
    other.ping();
    let of = |id: &str| heap_bytes(&entry(daemon.http, id).expect("bound"));
    let class = || Census::of(&daemon).heap_bytes("router");
    let (before, other_before, class_before) = (of("hub"), of("other"), class());
    assert!(before > 0, "a connection that owns nothing");
    assert!(before < 16 * KIB, "an idle router that owns {before} bytes");

    let (first, last) = half_event(LENGTH);
    router.send_bytes(&first);
    router.ping();
    // A buffer that grows may have up to twice the room.
    let held = of("hub") - before;
    assert!((LENGTH - MAX_FRAGMENT..2 * LENGTH + 64 * 1024).contains(&(held as usize)), "{held} bytes");
    assert_eq!(class() - class_before, held, "the class has what its only growing member has");
    assert_eq!(of("other"), other_before);
    // A frame that is cut is held too.
    other.send_bytes(&Frame::event("t", vec![b'x'; MAX_FRAGMENT]).encode()[..10_000]);
    eventually("the cut frame is held", PATIENCE, || (of("other") >= other_before + 10_000).then_some(()));

    router.send_bytes(&last);
    router.ping();
    assert_eq!(of("hub"), before, "all of it was given back");
    drop(other);
    wait_for_live(&daemon, "router", 1, PATIENCE);
    // The class has no more than what the one that is left owns.
    assert_eq!(class(), before);
}

#[test]
fn half_a_message_is_on_the_clients_account_until_it_is_whole() {
    const LENGTH: usize = 900_000;
    let daemon = Daemon::start("websocket.app.max_message_bytes = 1048576");
    let mut app = WebSocket::connect(daemon.app);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "routers", "params": {"prefix": "a"}}).to_string();
    app.send_text(&call);
    app.receive_json();
    let before = heap_bytes(&client(&daemon));
    assert!(before > 0 && before < 16 * KIB, "an idle client that owns {before} bytes");
    // White space in front of the call makes it long.
    app.send_frame(TEXT, &vec![b' '; LENGTH]);
    let held = eventually("the half message is held", PATIENCE, || {
        let held = heap_bytes(&client(&daemon)) - before;
        (held >= LENGTH as u64).then_some(held)
    });
    assert!(held < 2 * LENGTH as u64 + 64 * KIB, "{held} bytes");
    app.send_frame(0x80, call.as_bytes());
    assert_eq!(app.receive_json()["result"]["routers"], json!([]));
    assert_eq!(heap_bytes(&client(&daemon)), before, "all of it was given back");
}

#[test]
fn half_a_body_is_on_the_callers_account() {
    const LENGTH: u64 = 900_000;
    let daemon = Daemon::start("");
    let mut watch = Client::connect(daemon.http);
    let mut caller = Client::connect(daemon.http);
    assert_eq!(caller.request("GET", "/healthz", &[], b"").status, 200);
    let mut http = || Census::over(&mut watch, "/v1/census").heap_bytes("http");
    http();
    let before = http();
    caller.send(
        "POST /v1/routers/hub/commands/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    );
    caller.send(vec![b'x'; LENGTH as usize]);
    eventually("the half body is held", PATIENCE, || (http() >= before + LENGTH).then_some(()));
    assert!(http() < before + 2 * LENGTH + 64 * KIB, "{} before, {} now", before, http());
    caller.send(vec![b'x'; 1_000_000 - LENGTH as usize]);
    caller.response().problem(404, "router_offline");
    assert_eq!(http(), before, "all of it was given back");
}

#[test]
fn a_shared_frame_is_not_on_its_watchers_accounts() {
    const WATCHERS: usize = 10;
    const LENGTH: usize = 1_000_000;
    // Little goes into the kernels, so that the frame stays in every queue.
    let daemon = Daemon::start("websocket.app.notsent_lowat_bytes = 16384\nqueue.soft_s = 60");
    let mut router = Router::bind(daemon.router, "hub");
    let mut deaf: Vec<WebSocket> = (0..WATCHERS).map(|_| WebSocket::connect_small(daemon.app)).collect();
    for watcher in &mut deaf {
        watcher.subscribe("hub", "*");
    }
    let before = Census::of(&daemon);
    router.send_message(&Frame::event("t", vec![b'x'; LENGTH]));
    router.ping();
    let during = Census::of(&daemon);
    during.assert_balanced();
    assert_eq!(during.live("queued_frame"), WATCHERS as u64, "{}", during.0);
    let grown = |class: &str| during.heap_bytes(class).saturating_sub(before.heap_bytes(class));
    // In base64, once for all.
    let encoded = LENGTH as u64 * 4 / 3;
    assert!((encoded..2 * encoded).contains(&grown("queued_frame")), "{} bytes", grown("queued_frame"));
    assert!(grown("app") < KIB * WATCHERS as u64, "{} bytes", grown("app"));
    let list = get(daemon.http, "/v1/clients").json();
    for client in list["clients"].as_array().expect("clients") {
        assert!(client["queued_bytes"].as_u64().is_some_and(|bytes| bytes > encoded / 2), "{client}");
        assert!(heap_bytes(client) < 16 * KIB, "{client}");
    }
    for watcher in &mut deaf {
        watcher.event();
    }
    eventually("the frame is given back", PATIENCE, || {
        let now = Census::of(&daemon);
        (now.live("queued_frame") == 0 && now.heap_bytes("queued_frame") <= before.heap_bytes("queued_frame"))
            .then_some(())
    });
}

#[test]
fn what_is_remembered_is_charged_to_the_shadow() {
    const LENGTH: u64 = 60_000;
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    router.ping();
    let own = || heap_bytes(&entry(daemon.http, "hub").expect("bound"));
    let shadow = || Census::of(&daemon).heap_bytes("shadow");
    let (own_before, before) = (own(), shadow());
    router.send_message(&Frame::event("state", vec![b's'; LENGTH as usize]).flags(flag::RETAIN));
    router.ping();
    let held = shadow() - before;
    assert!((LENGTH..LENGTH + 4 * KIB).contains(&held), "{held} bytes");
    assert_eq!(own(), own_before);
    // It outlives the session.
    drop(router);
    wait_for_live(&daemon, "router", 0, PATIENCE);
    assert!(shadow() >= before + LENGTH);
    assert_eq!(request(daemon.http, "DELETE", "/v1/routers/hub/shadow", &[], b"").status, 204);
    eventually("the shadow is given back", PATIENCE, || (shadow() <= before).then_some(()));
}

#[test]
fn no_unbind_leaves_anything_on_an_account() {
    let daemon = Daemon::start("close_grace_s = 0.2");
    for n in 0..30 {
        let id = format!("r{n}");
        let mut router = Router::bind(daemon.router, &id);
        let mut app = WebSocket::connect(daemon.app);
        app.subscribe("*", "*");
        app.send_frame(TEXT, &vec![b' '; 10_000 * (n % 3)]);
        router.send_bytes(&half_event(10_000 + 20_000 * n).0);
        // Its caller hangs up while it waits.
        let mut caller = Client::connect(daemon.http);
        caller.send_request("POST", &format!("/v1/routers/{id}/commands/x"), &[], &vec![b'c'; 40_000]);
        router.recv_command();
        match n % 4 {
            0 => router.reset(),
            1 => router.send(&Frame::new(0x7f)),
            2 => drop(request(daemon.http, "DELETE", &format!("/v1/routers/{id}"), &[], b"")),
            _ => drop(router),
        }
    }
    for class in ["router", "app", "pending_command", "queued_frame"] {
        wait_for_live(&daemon, class, 0, PATIENCE);
    }
    Census::audited(&daemon).assert_balanced();
    let metrics = get(daemon.http, "/metrics");
    assert_eq!(metrics.status, 200, "{metrics:?}");
    let sample = metrics.text().lines().find_map(|line| line.strip_prefix("berth_unbind_imbalance_total "));
    assert_eq!(sample, Some("0"), "{}", metrics.text());
    assert!(!daemon.stderr().contains("imbalance"), "{}", daemon.stderr());
    // It is as good as new.
    let _echo = Router::bind(daemon.router, "well").echo();
    assert_eq!(command(daemon.http, "well", "x", 5000, b"fine").body, b"fine");
}

#[test]
fn a_daemon_that_has_just_started_gives_no_verdict_yet() {
    let daemon = Daemon::start("");
    let census = Census::of(&daemon);
    assert_eq!(census.0["verdict"]["state"], "warming", "{}", census.0);
}
