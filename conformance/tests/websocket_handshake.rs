//! Contract section 4 and RFC 6455 section 4: what a handshake needs, and how each lack of it is refused.

use std::time::Duration;

use conformance::calls::{Census, barrier, wait_for_reason};
use conformance::daemon::{Daemon, eventually};
use conformance::http::{self, Client, encode_request};
use conformance::websocket::{
    BINARY, CLOSE, HANDSHAKE, Message, PING, SAMPLE_ACCEPT, SAMPLE_KEY, TEXT, WebSocket, encode_frame,
};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);

/// The usual handshake, with a header left out or put in the place of the usual one.
fn with<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let name =
        HANDSHAKE.iter().map(|(usual, _)| *usual).find(|usual| *usual == name).expect("a usual header");
    let mut headers: Vec<(&str, &str)> = HANDSHAKE.iter().copied().filter(|(n, _)| *n != name).collect();
    headers.extend(value.map(|value| (name, value)));
    headers
}

#[track_caller]
fn refused(daemon: &Daemon, status: u16, headers: &[(&str, &str)]) -> http::Response {
    let answer = WebSocket::handshake(daemon.app, "/ws", headers).expect_err("a refusal");
    assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    answer
}

#[test]
fn the_accept_key_is_that_of_rfc_6455() {
    let daemon = Daemon::start("");
    for address in [daemon.app, daemon.page] {
        let mut client = Client::connect(address);
        let answer = client.request("GET", "/ws", HANDSHAKE, b"");
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
    }
    let mut client = Client::connect(daemon.app);
    let other = with("Sec-WebSocket-Key", Some("AQIDBAUGBwgJCgsMDQ4PEA=="));
    assert_eq!(
        client.request("GET", "/ws", &other, b"").header("sec-websocket-accept"),
        Some("C/0nmHhBztSRGR1CwL6Tf4ZjwpY=")
    );
}

#[test]
fn header_fields_are_read_as_lists_and_without_case() {
    let daemon = Daemon::start("");
    let variants: &[Vec<(&str, &str)>] = &[
        with("Upgrade", Some("WebSocket")),
        with("Upgrade", Some("h2c, websocket")),
        with("Connection", Some("keep-alive, Upgrade")),
        with("Connection", Some("UPGRADE")),
        [with("Connection", Some("keep-alive")), vec![("Connection", "upgrade")]].concat(),
        [HANDSHAKE, &[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]].concat(),
        [HANDSHAKE, &[("Sec-WebSocket-Protocol", "chat, superchat")]].concat(),
        [HANDSHAKE, &[("Content-Length", "0")]].concat(),
    ];
    for headers in variants {
        if let Err(answer) = WebSocket::handshake(daemon.app, "/ws", headers) {
            panic!("{headers:?}: {answer:?}");
        }
    }
    assert!(WebSocket::handshake(daemon.app, "/ws?x=1", HANDSHAKE).is_ok());
}

#[test]
fn another_version_is_426() {
    let daemon = Daemon::start("");
    for version in ["8", "0", "12", "14", "255"] {
        let answer = refused(&daemon, 426, &with("Sec-WebSocket-Version", Some(version)));
        // RFC 6455 section 4.4: the refusal names the version that would do.
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn no_upgrade_asked_for_is_426() {
    let daemon = Daemon::start("");
    for headers in [vec![], with("Upgrade", None), with("Upgrade", Some("h2c"))] {
        let answer = refused(&daemon, 426, &headers);
        // RFC 9110 section 15.5.22.
        assert_eq!(answer.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    }
}

#[test]
fn a_handshake_that_is_wrong_is_400() {
    let daemon = Daemon::start("");
    let wrong: &[Vec<(&str, &str)>] = &[
        with("Sec-WebSocket-Key", None),
        with("Sec-WebSocket-Key", Some("")),
        with("Sec-WebSocket-Key", Some("c2hvcnQ=")),
        with("Sec-WebSocket-Key", Some("not base64, not sixteen!")),
        with("Sec-WebSocket-Key", Some("AQIDBAUGBwgJCgsMDQ4PEBE=")),
        [HANDSHAKE, &[("Sec-WebSocket-Key", SAMPLE_KEY)]].concat(),
        with("Sec-WebSocket-Version", Some("thirteen")),
        [HANDSHAKE, &[("Host", "localhost"), ("Host", "localhost")]].concat(),
    ];
    for headers in wrong {
        let answer = WebSocket::handshake(daemon.app, "/ws", headers).expect_err("a refusal");
        // A version that is no number may as well be one that is not spoken.
        let version = headers.iter().any(|(_, value)| *value == "thirteen");
        assert!(answer.status == 400 || version && answer.status == 426, "{headers:?}: {answer:?}");
    }
    for headers in [with("Connection", None), with("Connection", Some("keep-alive"))] {
        let answer = WebSocket::handshake(daemon.app, "/ws", &headers).expect_err("a refusal");
        assert!(matches!(answer.status, 400 | 426), "{answer:?}");
    }
    let mut client = Client::connect(daemon.app);
    client.send("GET /ws HTTP/1.1\nHost: localhost\n\n");
    client.response().problem(400, "bad_request");
    client.expect_close();
    // RFC 6455 section 4.1: at least HTTP/1.1.
    let old = String::from_utf8(encode_request("localhost", "GET", "/ws", HANDSHAKE, b"")).expect("text");
    let mut client = Client::connect(daemon.app);
    client.send(old.replace("HTTP/1.1", "HTTP/1.0"));
    assert!(matches!(client.response().status, 400 | 426 | 505));
}

#[test]
fn another_path_is_404_and_another_method_405() {
    let daemon = Daemon::start("");
    for address in [daemon.app, daemon.page] {
        for path in ["/", "/ws/", "/WS", "/wss", "/v1/census", "/healthz"] {
            let answer = WebSocket::handshake(address, path, HANDSHAKE).expect_err("a refusal");
            answer.problem(404, "not_found");
        }
        for method in ["POST", "DELETE"] {
            let answer = http::request(address, method, "/ws", HANDSHAKE, b"");
            answer.problem(405, "method_not_allowed");
            assert!(answer.header("allow").expect("Allow").contains("GET"));
        }
    }
}

#[test]
fn a_frame_behind_the_handshake_is_not_lost() {
    let daemon = Daemon::start("");
    let call = json!({"jsonrpc": "2.0", "id": "early", "method": "routers"}).to_string();
    let handshake = encode_request("localhost", "GET", "/ws", HANDSHAKE, b"");
    let frame = encode_frame(0x80 | TEXT, [1, 2, 3, 4], call.as_bytes());
    let whole = [handshake, frame].concat();
    for cut in [0, 1, whole.len() / 2, whole.len() - call.len() - 3, whole.len() - 1] {
        let mut client = Client::connect(daemon.app);
        client.send(&whole[..cut]);
        barrier(daemon.http);
        client.send(&whole[cut..]);
        let mut socket = WebSocket::upgraded(client).expect("an upgrade");
        let answer = socket.receive_json();
        assert_eq!(answer["id"], "early");
        assert_eq!(answer["result"]["routers"], json!([]));
    }
}

#[test]
fn the_answer_to_the_handshake_comes_before_any_frame() {
    let daemon = Daemon::start("");
    let handshake = encode_request("localhost", "GET", "/ws", HANDSHAKE, b"");
    for (behind, expected) in [
        (encode_frame(0x80 | PING, [1, 2, 3, 4], b"early"), Message::Pong(b"early".to_vec())),
        (encode_frame(0x80 | CLOSE, [1, 2, 3, 4], b"\x03\xe8"), Message::Close(Some(1000), String::new())),
    ] {
        let mut client = Client::connect(daemon.app);
        client.send([handshake.clone(), behind].concat());
        let mut socket = WebSocket::upgraded(client).expect("an upgrade");
        assert_eq!(socket.receive(), expected);
    }
    let mut client = Client::connect(daemon.app);
    client.send([handshake, encode_frame(0xf0 | TEXT, [1, 2, 3, 4], b"")].concat());
    WebSocket::upgraded(client).expect("an upgrade").expect_close(1002);
}

#[test]
fn frames_behind_a_refused_handshake_are_no_frames() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.app);
    let handshake = encode_request("localhost", "GET", "/elsewhere", HANDSHAKE, b"");
    client.send([handshake, encode_frame(0x80 | PING, [1, 2, 3, 4], b"x")].concat());
    client.response().problem(404, "not_found");
    // What follows is either never read or no HTTP; no frame comes back.
    let rest = client.read_to_close();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400 "), "{rest:?}");
}

#[test]
fn no_upgrade_in_time_is_header_timeout() {
    let daemon = Daemon::start("websocket.app.handshake_timeout_s = 0.3");
    let mut silent = Client::connect(daemon.app);
    let mut slow = Client::connect(daemon.app);
    slow.send("GET /ws HTTP/1.1\r\nHost: localhost\r\n");
    for client in [&mut silent, &mut slow] {
        let said = client.read_to_close();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{said:?}");
    }
    wait_for_reason(&daemon, "app", "header_timeout", 2, BOUND);
    // The time is for the handshake alone.
    let mut socket = WebSocket::connect(daemon.app);
    socket.client().expect_silence(Duration::from_millis(500));
    socket.call("routers", json!({})).expect("routers");
}

#[test]
fn max_connections_leaves_the_others_alone() {
    let daemon = Daemon::start("websocket.app.max_connections = 2");
    let mut sockets = [WebSocket::connect(daemon.app), WebSocket::connect(daemon.app)];
    let mut extra = Client::connect(daemon.app);
    extra.send_request("GET", "/ws", HANDSHAKE, b"");
    extra.set_patience(Duration::from_millis(200));
    assert!(!extra.response_to("GET").is_ok_and(|answer| answer.status == 101), "a third one was let in");
    for socket in &mut sockets {
        socket.call("routers", json!({})).expect("routers");
    }
    WebSocket::connect(daemon.page);
    drop((sockets, extra));
    eventually("a place is free again", BOUND, || WebSocket::handshake(daemon.app, "/ws", HANDSHAKE).ok());
}

#[test]
fn an_absolute_target_is_the_same_path() {
    let daemon = Daemon::start("");
    assert!(WebSocket::handshake(daemon.app, "http://localhost/ws", HANDSHAKE).is_ok());
    let other = WebSocket::handshake(daemon.app, "http://localhost/w", HANDSHAKE).expect_err("a refusal");
    other.problem(404, "not_found");
    let foreign =
        WebSocket::handshake(daemon.app, "http://evil.example/ws", HANDSHAKE).expect_err("a refusal");
    assert!(matches!(foreign.status, 400 | 403), "{foreign:?}");
}

#[test]
fn a_head_that_is_too_long_is_431() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.app);
    client.send(format!("GET /ws HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200_000)));
    client.response().problem(431, "header_too_large");
}

#[test]
fn clients_are_listed_by_their_kind_once_they_are_upgraded() {
    let daemon = Daemon::start("");
    let mut app = WebSocket::connect(daemon.app);
    let mut page = WebSocket::connect(daemon.page);
    for socket in [&mut app, &mut page] {
        socket.send_frame(0x80 | PING, b"here");
        assert_eq!(socket.receive(), Message::Pong(b"here".to_vec()));
    }
    let census = Census::audited(&daemon);
    assert_eq!((census.live("app"), census.live("page")), (1, 1));
    census.assert_balanced();
    let clients = http::get(daemon.http, "/v1/clients").json();
    let mut kinds: Vec<_> =
        clients["clients"].as_array().expect("a list").iter().map(|c| c["kind"].clone()).collect();
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, [json!("app"), json!("page")]);
    app.send_frame(0x80 | BINARY, b"");
    app.expect_close(1003);
}
