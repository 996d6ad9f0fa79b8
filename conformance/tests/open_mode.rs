//! Contract section 4, its last point, and section 5: without a key, a page of another site that a browser on this
//! machine shows (or that has rebound its name to this address) gets nowhere.

use std::net::SocketAddr;

use conformance::daemon::{self, Daemon};
use conformance::http::{Headers, Response, request};
use conformance::websocket::{HANDSHAKE, WebSocket};

fn http(address: SocketAddr, headers: Headers) -> Response {
    request(address, "GET", "/healthz", headers, b"")
}

/// The refusal of a handshake at a WebSocket listener, or `None` when it was let in.
fn refusal(address: SocketAddr, headers: Headers) -> Option<Response> {
    WebSocket::handshake(address, "/ws", &[HANDSHAKE, headers].concat()).err()
}

#[track_caller]
fn let_in(address: SocketAddr, headers: Headers) {
    if let Some(answer) = refusal(address, headers) {
        panic!("{headers:?}: {answer:?}");
    }
}

#[track_caller]
fn forbidden(address: SocketAddr, headers: Headers) {
    match refusal(address, headers) {
        Some(answer) => answer.problem(403, "forbidden"),
        None => panic!("{headers:?} was let in"),
    };
}

const OUR_HOSTS: &[&str] = &[
    "localhost",
    "localhost:1",
    "LocalHost",
    "127.0.0.1",
    "127.0.0.1:65535",
    "127.1.2.3",
    "192.0.2.1:80",
    "[::1]",
    "[::1]:7080",
    "[2001:db8::1]",
];

const OTHER_HOSTS: &[&str] = &[
    "evil.example",
    "evil.example:7080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "xlocalhost",
    "berth",
    "1.2.3",
    "127.0.0.1x",
];

#[test]
fn a_host_that_is_a_name_is_forbidden_everywhere() {
    let daemon = Daemon::start("");
    for host in OUR_HOSTS {
        let headers = [("Host", *host)];
        assert_eq!(http(daemon.http, &headers).status, 200, "{host}");
        let_in(daemon.app, &headers);
        let_in(daemon.page, &[("Host", host), ("Origin", &format!("http://{host}"))]);
    }
    for host in OTHER_HOSTS {
        let headers = [("Host", *host)];
        http(daemon.http, &headers).problem(403, "forbidden");
        forbidden(daemon.app, &headers);
        forbidden(daemon.page, &[("Host", host), ("Origin", &format!("http://{host}"))]);
    }
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let daemon = Daemon::start("");
    // RFC 9112 section 3.2.2: the target's host takes the place of the header's. Two that differ may be refused.
    let foreign = request(daemon.http, "GET", "http://evil.example/healthz", &[("Host", "localhost")], b"");
    assert!(matches!(foreign.status, 400 | 403), "{foreign:?}");
    let foreign =
        request(daemon.http, "GET", "http://evil.example/healthz", &[("Host", "evil.example")], b"");
    foreign.problem(403, "forbidden");
}

#[test]
fn an_origin_of_another_host_is_forbidden_on_http_and_for_apps() {
    let daemon = Daemon::start("");
    let ours = ["http://localhost", "http://localhost:8000", "https://localhost"];
    for origin in ours {
        let headers = [("Host", "localhost:7080"), ("Origin", origin)];
        assert_eq!(http(daemon.http, &headers).status, 200, "{origin}");
        let_in(daemon.app, &headers);
        let_in(daemon.page, &headers);
    }
    // As text: another name of the same machine is another host.
    let others = [
        "http://evil.example",
        "http://127.0.0.1",
        "http://[::1]",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://evil.example:7080",
        "null",
        "",
    ];
    for origin in others {
        let headers = [("Host", "localhost:7080"), ("Origin", origin)];
        http(daemon.http, &headers).problem(403, "forbidden");
        forbidden(daemon.app, &headers);
        forbidden(daemon.page, &headers);
    }
    let two = [("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", "http://evil.example")];
    assert!(matches!(http(daemon.http, &two).status, 400 | 403));
    assert!(refusal(daemon.app, &two).is_some());
    assert!(refusal(daemon.page, &two).is_some());
    let address = [("Host", "[::1]:7080"), ("Origin", "http://[::1]:3000")];
    assert_eq!(http(daemon.http, &address).status, 200);
}

#[test]
fn a_forbidden_command_does_not_reach_the_router_nor_tell_of_it() {
    let daemon = Daemon::start("");
    let headers = [("Host", "localhost"), ("Origin", "http://evil.example")];
    let answer = request(daemon.http, "POST", "/v1/routers/nobody/commands/reboot", &headers, b"");
    answer.problem(403, "forbidden");
    let answer = request(daemon.http, "DELETE", "/v1/routers/nobody", &headers, b"");
    answer.problem(403, "forbidden");
    let answer = request(daemon.http, "OPTIONS", "/v1/routers/nobody", &headers, b"");
    assert!(answer.header("access-control-allow-origin").is_none());
}

#[test]
fn an_empty_list_of_origins_means_the_same_host() {
    let daemon = Daemon::start("");
    let host = ("Host", "localhost:7002");
    let_in(daemon.page, &[host, ("Origin", "http://localhost")]);
    let_in(daemon.page, &[host, ("Origin", "https://localhost:7002")]);
    let_in(daemon.page, &[host]);
    forbidden(daemon.page, &[host, ("Origin", "http://127.0.0.1:7002")]);
    forbidden(daemon.page, &[host, ("Origin", "null")]);
}

#[test]
fn a_list_of_origins_is_all_there_is() {
    let daemon =
        Daemon::start("websocket.page.origins = [\"https://app.example\", \"http://localhost:3000\"]");
    let host = ("Host", "localhost:7002");
    let_in(daemon.page, &[host, ("Origin", "https://app.example")]);
    let_in(daemon.page, &[host, ("Origin", "http://localhost:3000")]);
    forbidden(daemon.page, &[host, ("Origin", "http://app.example")]);
    forbidden(daemon.page, &[host, ("Origin", "https://app.example:444")]);
    forbidden(daemon.page, &[host, ("Origin", "https://app.example.evil.example")]);
    forbidden(daemon.page, &[host, ("Origin", "https://evil.example")]);
    forbidden(daemon.page, &[host, ("Origin", "http://localhost:7002")]);
    forbidden(daemon.page, &[host, ("Origin", "null")]);
    // Without an Origin, where the list is not empty.
    forbidden(daemon.page, &[host]);
    // The list is the page's; an app still needs none, and none of another host.
    let_in(daemon.app, &[host]);
    forbidden(daemon.app, &[host, ("Origin", "https://app.example")]);
    // And the Host rule stands before it.
    forbidden(daemon.page, &[("Host", "evil.example"), ("Origin", "https://app.example")]);
}

#[test]
fn open_mode_stays_on_loopback() {
    for listener in ["router", "http", "websocket.app", "websocket.page"] {
        let config = format!("{listener}.bind = \"0.0.0.0:0\"");
        let (status, said) = daemon::try_start(&config).err().expect("a refusal");
        assert_eq!(status.code(), Some(2), "{listener}: {said}");
        assert!(said.contains("loopback"), "{listener}: {said}");
    }
    let daemon = Daemon::start("http.bind = [\"127.0.0.1:0\", \"[::1]:0\"]");
    assert_eq!(http(daemon.http, &[]).status, 200);
}
