//! Bytes that nobody meant: every connection ends in a response, a close frame or nothing at all, and nobody else
//! notices.

mod random;

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::http::{Client, encode_request};
use conformance::router::Router;
use conformance::websocket::{HANDSHAKE, PING, TEXT, WebSocket, encode_frame};
use random::{Random, rounds};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(20);

/// A few bytes changed, left out, doubled or put in.
fn mutate(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    const SPECIAL: &[u8] = b"\r\n\0 :;,/%?\xff\x80\t0f";
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let special = SPECIAL[random.below(SPECIAL.len())];
        match random.below(5) {
            0 => bytes[at] = special,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, special),
            _ => {
                let end = (at + 1 + random.below(20)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// Sends `bytes` and FIN, and reads to the end: whatever comes must not stop the daemon.
#[track_caller]
fn throw(daemon: &Daemon, listener: usize, bytes: &[u8]) -> Vec<u8> {
    let address = [daemon.http, daemon.app, daemon.page][listener];
    let mut client = Client::connect(address);
    client.send(bytes);
    client.finish_sending();
    client.read_to_close()
}

#[track_caller]
fn assert_unharmed(daemon: &Daemon) {
    for class in ["app", "page", "pending_command", "subscription"] {
        wait_for_live(daemon, class, 0, BOUND);
    }
    wait_for_live(daemon, "http", 1, BOUND);
    let census = Census::audited(daemon);
    census.assert_balanced();
    assert_eq!(census.0["audit"]["dangling"], json!([]));
    assert_eq!(census.live("router"), 1);
}

#[test]
fn random_bytes() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut random = Random::new();
    for round in 0..rounds(300) {
        let length = 1 + random.below(2000);
        let bytes: Vec<u8> = (0..length).map(|_| (random.next() >> 32) as u8).collect();
        let said = throw(&daemon, round % 3, &bytes);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&said));
    }
    router.ping();
    assert_unharmed(&daemon);
}

#[test]
fn requests_that_are_nearly_good() {
    let daemon = Daemon::start("");
    let echo = Router::bind(daemon.router, "r1").echo();
    let good = [
        encode_request("localhost", "GET", "/v1/routers?prefix=r&limit=10", &[], b""),
        encode_request("localhost", "POST", "/v1/routers/r1/commands/echo?timeout_ms=50", &[], b"hello"),
        encode_request(
            "localhost",
            "POST",
            "/v1/routers/r1/commands/echo?oneway=1",
            &[("Transfer-Encoding", "chunked")],
            b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        ),
        encode_request("localhost", "GET", "/v1/census?audit=1", &[("Expect", "100-continue")], b""),
        encode_request("localhost", "DELETE", "/v1/routers/r2/shadow", &[], b""),
    ];
    let mut random = Random::new();
    for round in 0..rounds(1500) {
        let bytes = mutate(&mut random, &good[round % good.len()]);
        let said = throw(&daemon, 0, &bytes);
        assert!(
            said.is_empty() || said.starts_with(b"HTTP/1."),
            "{:?} for {:?}",
            String::from_utf8_lossy(&said),
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_unharmed(&daemon);
    drop(echo);
}

#[test]
fn handshakes_that_are_nearly_good() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1");
    let mut good = encode_request("localhost", "GET", "/ws", HANDSHAKE, b"");
    good.extend(encode_frame(0x80 | PING, [1, 2, 3, 4], b"?"));
    let mut random = Random::new();
    for round in 0..rounds(1000) {
        let bytes = mutate(&mut random, &good);
        let said = throw(&daemon, 1 + round % 2, &bytes);
        assert!(
            said.is_empty() || said.starts_with(b"HTTP/1."),
            "{:?} for {:?}",
            String::from_utf8_lossy(&said),
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_unharmed(&daemon);
}

#[test]
fn frames_and_calls_that_are_nearly_good() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1");
    let calls = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"router": "r1", "topic": "*"}}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "command",
               "params": {"router": "r1", "name": "x", "body_base64": "AAEC", "timeout_ms": 20}}),
        json!([{"jsonrpc": "2.0", "id": "a", "method": "routers", "params": {"limit": 1}}, {}, 3]),
        json!({"jsonrpc": "2.0", "id": 3, "method": "unsubscribe", "params": {"subscription": 1}}),
    ];
    let mut random = Random::new();
    for round in 0..rounds(500) {
        let mut socket = WebSocket::connect(if round % 2 == 0 { daemon.app } else { daemon.page });
        for _ in 0..4 {
            let call = calls[random.below(calls.len())].to_string();
            let mask = (random.next() as u32).to_be_bytes();
            let bytes = match random.below(2) {
                0 => encode_frame(0x80 | TEXT, mask, &mutate(&mut random, call.as_bytes())),
                _ => mutate(&mut random, &encode_frame(0x80 | TEXT, mask, call.as_bytes())),
            };
            socket.client().send(bytes);
        }
        socket.client().finish_sending();
        // Nothing that a server must not send comes back, whatever it is.
        while socket.try_receive().is_ok() {}
    }
    assert_unharmed(&daemon);
}
