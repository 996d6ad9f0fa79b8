//! Contract section 3: the lists of routers and clients, one of them, the kick, the shadow, health and census.

use std::time::Duration;

use conformance::calls::{Census, barrier, command, router as entry, wait_for_live, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::Frame;
use conformance::http::{Client, get, request};
use conformance::router::Router;
use conformance::websocket::WebSocket;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

/// The ids of one page of a list, and its `next`.
#[track_caller]
fn page(daemon: &Daemon, target: &str) -> (Vec<String>, Value) {
    let answer = get(daemon.http, target);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{target}");
    let list = answer.json();
    assert_eq!(list.as_object().expect("an object").len(), 2, "{list}");
    let (items, id) = if target.contains("clients") { ("clients", "client") } else { ("routers", "router") };
    let ids = list[items].as_array().expect("a list").iter();
    (ids.map(|item| item[id].as_str().expect("an id").to_owned()).collect(), list["next"].clone())
}

#[test]
fn routers_are_listed_in_pages_in_the_order_of_their_ids() {
    let daemon = Daemon::start("");
    assert_eq!(get(daemon.http, "/v1/routers").json(), json!({"routers": [], "next": null}));
    let ids = ["b", "a10", "a1", "B", "a:2", "c", "a9", "aa"];
    let mut routers: Vec<Router> = ids.iter().map(|id| Router::bind(daemon.router, id)).collect();
    let mut sorted = ids.map(str::to_owned);
    sorted.sort();

    let (all, next) = page(&daemon, "/v1/routers");
    assert_eq!((all.as_slice(), next), (sorted.as_slice(), Value::Null));
    // Page after page, whatever their size, gives each of them once.
    for limit in 1..=9 {
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let (ids, next) = page(&daemon, &format!("/v1/routers?limit={limit}{after}"));
            assert!(ids.len() <= limit);
            seen.extend(ids);
            match next {
                Value::Null => break,
                next => after = format!("&after={}", next.as_str().expect("an id")),
            }
        }
        assert_eq!(seen, sorted, "pages of {limit}");
    }
    assert_eq!(page(&daemon, "/v1/routers?prefix=a").0, ["a1", "a10", "a9", "a:2", "aa"]);
    assert_eq!(page(&daemon, "/v1/routers?prefix=a&after=a10").0, ["a9", "a:2", "aa"]);
    assert_eq!(page(&daemon, "/v1/routers?prefix=a&after=a10&limit=1").0, ["a9"]);
    assert_eq!(page(&daemon, "/v1/routers?prefix=a%3A").0, ["a:2"]);
    assert_eq!(page(&daemon, "/v1/routers?prefix=zz"), (vec![], Value::Null));
    // `after` need not be there any more; it may stand before or behind the prefix.
    assert_eq!(page(&daemon, "/v1/routers?after=a5").0[0], "a9");
    assert_eq!(page(&daemon, "/v1/routers?after=zzz"), (vec![], Value::Null));
    assert_eq!(page(&daemon, "/v1/routers?prefix=b&after=a").0, ["b"]);
    assert_eq!(page(&daemon, "/v1/routers?prefix=a&after=b").0, Vec::<String>::new());
    // A last page that is just full has nothing behind it.
    assert_eq!(page(&daemon, "/v1/routers?prefix=c&limit=1"), (vec!["c".to_owned()], Value::Null));

    routers.truncate(1);
    wait_for_live(&daemon, "router", 1, BOUND);
    assert_eq!(page(&daemon, "/v1/routers").0, ["b"]);
}

#[test]
fn the_default_limit_of_a_list_is_100() {
    let daemon = Daemon::start("");
    let _routers: Vec<Router> = (0..101).map(|n| Router::bind(daemon.router, &format!("r{n:03}"))).collect();
    let (ids, next) = page(&daemon, "/v1/routers");
    assert_eq!((ids.len(), next), (100, json!("r099")));
    assert_eq!(page(&daemon, "/v1/routers?after=r099"), (vec!["r100".to_owned()], Value::Null));
    assert_eq!(page(&daemon, "/v1/routers?limit=101").0.len(), 101);
}

#[test]
fn an_entry_tells_all_of_a_router() {
    let daemon = Daemon::start("");
    let mut router = Router::connect(daemon.router);
    let session = router.hello("r1").id;
    let local = router.stream().local_addr().expect("an address").to_string();
    let before = entry(daemon.http, "r1").expect("bound");
    let fields = [
        "router",
        "session",
        "address",
        "since",
        "bytes_in",
        "bytes_out",
        "messages_in",
        "messages_out",
        "pending",
        "queued_bytes",
        "heap_bytes",
        "rtt_us",
        "retransmits",
    ];
    for field in fields {
        assert!(before.get(field).is_some(), "no {field} in {before}");
    }
    assert_eq!(before["router"], "r1");
    assert_eq!(before["address"], local);
    assert!(!before["session"].is_null(), "{before} (WELCOME said {session})");
    let since = before["since"].as_str().expect("RFC 3339");
    let shape: String = since.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape.starts_with("0000-00-00T00:00:00") && since.ends_with('Z'), "{since}");
    assert_eq!((&before["pending"], &before["queued_bytes"]), (&json!(0), &json!(0)));
    // The list has all of it too.
    let listed = get(daemon.http, "/v1/routers").json()["routers"][0].clone();
    for field in fields {
        assert!(listed.get(field).is_some(), "no {field} in {listed}");
    }
    assert_eq!(listed["session"], before["session"]);

    let mut caller = Client::connect(daemon.http);
    caller.send_request("POST", "/v1/routers/r1/commands/echo?timeout_ms=10000", &[], b"12345");
    let id = router.recv_command().id;
    assert_eq!(entry(daemon.http, "r1").expect("bound")["pending"], 1);
    router.send(&Frame::reply(id, "1234567"));
    assert_eq!(caller.response().status, 200);
    let after = entry(daemon.http, "r1").expect("bound");
    let grown =
        |field: &str| after[field].as_u64().expect("a number") - before[field].as_u64().expect("a number");
    assert_eq!(grown("bytes_out"), 12 + 4 + 5, "a COMMAND of 5 bytes");
    assert_eq!(grown("bytes_in"), 12 + 7, "a REPLY of 7 bytes");
    assert_eq!((grown("messages_out"), grown("messages_in")), (1, 1));
    assert_eq!(after["pending"], 0);
    assert_eq!((&after["session"], &after["since"]), (&before["session"], &before["since"]));
}

#[test]
fn a_router_that_is_not_bound_is_404() {
    let daemon = Daemon::start("");
    get(daemon.http, "/v1/routers/nobody").problem(404, "router_offline");
    request(daemon.http, "DELETE", "/v1/routers/nobody", &[], b"").problem(404, "router_offline");
    let shadow = request(daemon.http, "DELETE", "/v1/routers/nobody/shadow", &[], b"");
    assert_eq!((shadow.status, shadow.body.len()), (204, 0));
    assert_eq!(shadow.header("content-length"), None, "RFC 9110 section 8.6: none in a 204");
}

#[test]
fn a_kick_ends_the_session() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut other = Router::bind(daemon.router, "r2");
    assert_eq!(request(daemon.http, "DELETE", "/v1/routers/r1", &[], b"").status, 204);
    // It is gone with the answer, not some time after it.
    request(daemon.http, "DELETE", "/v1/routers/r1", &[], b"").problem(404, "router_offline");
    command(daemon.http, "r1", "echo", 1000, b"").problem(404, "router_offline");
    router.expect_end("kicked");
    other.ping();
    drop(router);
    wait_for_reason(&daemon, "router", "kicked", 1, BOUND);
    // It may come back.
    Router::bind(daemon.router, "r1").ping();
}

#[test]
fn clients_are_listed_and_kicked() {
    let daemon = Daemon::start("");
    assert_eq!(get(daemon.http, "/v1/clients").json(), json!({"clients": [], "next": null}));
    let mut app = WebSocket::connect(daemon.app);
    let mut page_client = WebSocket::connect(daemon.page);
    // Neither a handshake that is not finished nor a router is a client.
    let mut unfinished = Client::connect(daemon.app);
    unfinished.send("GET /ws HTTP/1.1\r\n");
    barrier(daemon.http);
    let list = get(daemon.http, "/v1/clients").json();
    let clients = list["clients"].as_array().expect("a list");
    assert_eq!((clients.len(), &list["next"]), (2, &Value::Null), "{list}");
    for client in clients {
        for field in
            ["client", "kind", "address", "since", "bytes_in", "bytes_out", "messages_in", "messages_out"]
        {
            assert!(client.get(field).is_some(), "no {field} in {client}");
        }
    }
    let of_kind = |kind: &str| -> String {
        let found = clients.iter().find(|client| client["kind"] == kind).expect("one of the kind");
        found["client"].as_str().expect("an id").to_owned()
    };
    let (app_id, page_id) = (of_kind("app"), of_kind("page"));
    let local = app.client().stream().local_addr().expect("an address").to_string();
    assert!(clients.iter().any(|client| client["client"] == app_id.as_str() && client["address"] == local));

    let kick = |id: &str| request(daemon.http, "DELETE", &format!("/v1/clients/{id}"), &[], b"");
    assert_eq!(kick(&app_id).status, 204);
    kick(&app_id).problem(404, "not_found");
    app.expect_close(4403);
    drop(app);
    wait_for_reason(&daemon, "app", "kicked", 1, BOUND);
    page_client.call("routers", json!({})).expect("routers");
    assert_eq!(kick(&page_id).status, 204);
    page_client.expect_close(4403);
    kick("unknown").problem(404, "not_found");
}

#[test]
fn clients_come_in_pages_too() {
    let daemon = Daemon::start("");
    let _sockets: Vec<WebSocket> =
        (0..7).map(|n| WebSocket::connect(if n % 2 == 0 { daemon.app } else { daemon.page })).collect();
    let (all, next) = page(&daemon, "/v1/clients");
    assert_eq!((all.len(), next), (7, Value::Null));
    for limit in 1..=8 {
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let (ids, next) = page(&daemon, &format!("/v1/clients?limit={limit}{after}"));
            assert!(ids.len() <= limit);
            seen.extend(ids);
            match next {
                Value::Null => break,
                next => after = format!("&after={}", next.as_str().expect("an id")),
            }
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    let prefix = &all[0];
    assert!(page(&daemon, &format!("/v1/clients?prefix={prefix}")).0.contains(prefix));
}

#[test]
fn the_kick_of_a_client_takes_its_pending_commands_with_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut app = WebSocket::connect(daemon.app);
    app.subscribe("*", "*");
    app.start("command", json!({"router": "r1", "name": "x", "timeout_ms": 600000}));
    let id = router.recv_command().id;
    let client = page(&daemon, "/v1/clients").0.remove(0);
    assert_eq!(request(daemon.http, "DELETE", &format!("/v1/clients/{client}"), &[], b"").status, 204);
    let census = Census::audited(&daemon);
    assert_eq!((census.live("pending_command"), census.live("subscription")), (0, 0));
    assert_eq!(census.0["audit"]["dangling"], json!([]));
    router.send(&Frame::reply(id, "to nobody"));
    router.ping();
    app.expect_close(4403);
}

#[test]
fn health_and_readiness() {
    let daemon = Daemon::start("");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(daemon.http, path).status, 200);
    }
}

#[test]
fn the_census_balances() {
    let daemon = Daemon::start("");
    for n in 0..5 {
        let router = Router::bind(daemon.router, &format!("r{n}"));
        let mut app = WebSocket::connect(daemon.app);
        app.subscribe("*", "*");
        let mut page = WebSocket::connect(daemon.page);
        page.subscribe("*", "$presence");
        Census::audited(&daemon).assert_balanced();
        drop((router, app, page));
    }
    for class in ["router", "app", "page", "subscription", "pending_command"] {
        wait_for_live(&daemon, class, 0, BOUND);
    }
    let census = Census::audited(&daemon);
    census.assert_balanced();
    assert_eq!(census.count("router", "opened"), 5);
    assert_eq!(census.reason("router", "peer_closed"), 5);
    assert_eq!(census.0["audit"]["dangling"], json!([]));
    assert!(census.0["uptime_s"].as_f64().is_some_and(|uptime| uptime > 0.0));
    assert!(census.0["loop"]["turns"].as_u64().is_some_and(|turns| turns > 0));
    for member in ["longest_ms", "over_50_ms"] {
        assert!(census.0["loop"][member].is_number(), "{member}");
    }
    eventually("the loop turns on", BOUND, || {
        let later = Census::of(&daemon);
        (later.0["loop"]["turns"].as_u64() > census.0["loop"]["turns"].as_u64()).then_some(())
    });
}
