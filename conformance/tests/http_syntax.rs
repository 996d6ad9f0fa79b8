//! Contract section 3, "strict RFC 9112": what could be read in two ways is refused with 400 and the connection closed.

use std::time::Duration;

use conformance::calls::{barrier, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::http::{Client, get};

/// Sends `bytes` and asserts the refusal: a problem, `Connection: close`, FIN, and nobody else is touched.
#[track_caller]
fn refused(daemon: &Daemon, statuses: &[u16], bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let mut client = Client::connect(daemon.http);
    client.send(bytes);
    let answer = client.response_to("POST").unwrap_or_else(|error| panic!("{error} for {shown:?}"));
    assert!(statuses.contains(&answer.status), "{} for {shown:?}", answer.status);
    if answer.status == 400 {
        answer.problem(400, "bad_request");
    }
    // A 403 can be framed well enough: the connection may go on.
    if answer.status != 403 {
        assert!(answer.closes(), "{shown:?}: {answer:?}");
        client.expect_close();
    }
}

#[track_caller]
fn served(daemon: &Daemon, bytes: &[u8]) {
    let mut client = Client::connect(daemon.http);
    client.send(bytes);
    let answer = client.response();
    assert_eq!(answer.status, 200, "{} for {:?}", answer.status, String::from_utf8_lossy(bytes));
}

#[test]
fn a_head_that_is_not_plain_rfc_9112_is_refused() {
    let daemon = Daemon::start("");
    let heads: &[&[u8]] = &[
        // Line ends.
        b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\rHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\nb: c\r\n\r\n",
        // Folding, and space where none may be.
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost\t: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length : 0\r\n\r\n",
        // Names and values.
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n: no name\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX(y): z\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX\x80: z\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x7fb\r\n\r\n",
        // The request line.
        b"GET /healthz\r\nHost: localhost\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET\t/healthz\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        b" GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health\x01z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health\x80z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz#part HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G@T /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz http/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/11\r\nHost: localhost\r\n\r\n",
        // Garbage before it.
        b"\0GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        // Host.
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET http://localhost/healthz HTTP/1.1\r\n\r\n",
    ];
    for head in heads {
        refused(&daemon, &[400], head);
    }
    for host in
        ["local host", "localhost/healthz", "user@localhost", "localhost:port", "localhost,localhost", "[::1"]
    {
        refused(&daemon, &[400, 403], format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    }
    refused(&daemon, &[400, 431], "\r\n".repeat(16_384).as_bytes());
    // RFC 9110 section 15.6.6 has a status of its own for a version that is not served.
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.1"] {
        let head = format!("GET /healthz {version}\r\nHost: localhost\r\n\r\n");
        refused(&daemon, &[400, 505], head.as_bytes());
    }
    assert_eq!(get(daemon.http, "/healthz").status, 200);
}

#[test]
fn a_body_length_that_could_be_read_in_two_ways_is_refused() {
    let daemon = Daemon::start("");
    let framings: &[&str] = &[
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 5;\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: five\r\n",
        "Content-Length:\r\n",
        "Content-Length: \u{b2}\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
    ];
    for framing in framings {
        for method in ["POST", "GET"] {
            let head = format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n");
            refused(&daemon, &[400], format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes());
        }
    }
    // RFC 9112 section 6.1: a coding that is not understood may be 501.
    for coding in ["gzip, chunked", "identity", "xchunked", "gzip", "chunked;q=1"] {
        let request = format!(
            "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        refused(&daemon, &[400, 501], request.as_bytes());
    }
    // RFC 9112 section 6.1: chunked in HTTP/1.0 is faulty framing, even with a good body.
    let old = b"POST /healthz HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&daemon, &[400], old);
    let overflow =
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n";
    refused(&daemon, &[400, 413], overflow.as_bytes());
}

#[test]
fn what_rfc_9112_allows_is_served() {
    let daemon = Daemon::start("");
    let heads: &[&[u8]] = &[
        b"GET /healthz HTTP/1.1\r\nhOsT:localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: \t localhost \t \r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX:\r\nY: \xe4\xff \"(,;\r\n\r\n",
        // RFC 9112 section 2.2: at least one empty line in front is ignored.
        b"\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz? HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://127.0.0.1:7080/healthz?a=b HTTP/1.1\r\nHost: 127.0.0.1:7080\r\n\r\n",
        b"GET HTTP://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n",
    ];
    for head in heads {
        served(&daemon, head);
    }
}

#[test]
fn the_body_of_a_request_that_needs_none_is_not_the_next_request() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    let smuggled = "GET /v1/census HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let body = [("Content-Length", smuggled.len().to_string())];
    for (name, value) in &body {
        let answer = client.request("GET", "/healthz", &[(name, value)], smuggled.as_bytes());
        assert_eq!(answer.status, 200);
    }
    client.expect_silence(Duration::from_millis(50));
    assert_eq!(client.request("GET", "/readyz", &[], b"").status, 200);
}

#[test]
fn a_head_cut_anywhere_is_the_same_head() {
    let daemon = Daemon::start("");
    let head =
        b"GET /healthz?x=1 HTTP/1.1\r\nHost: localhost\r\nX-Long: abc def\r\nContent-Length: 2\r\n\r\nok";
    for cut in 1..head.len() {
        let mut client = Client::connect(daemon.http);
        client.send(&head[..cut]);
        barrier(daemon.http);
        client.send(&head[cut..]);
        assert_eq!(client.response().status, 200, "cut at {cut}");
    }
    let mut client = Client::connect(daemon.http);
    for byte in head {
        client.send([*byte]);
    }
    assert_eq!(client.response().status, 200);
}

#[test]
fn refusals_are_counted_as_protocol_errors() {
    let daemon = Daemon::start("");
    for _ in 0..3 {
        refused(&daemon, &[400], b"nonsense\r\n\r\n");
    }
    wait_for_reason(&daemon, "http", "protocol_error", 3, Duration::from_secs(10));
}

#[test]
fn what_stands_behind_a_refused_request_is_not_read() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.response().problem(400, "bad_request");
    client.expect_close();
}
