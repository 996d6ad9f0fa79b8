//! Contract sections 3 and 7: sizes (413, 431) and times (`http.header_timeout_s`, `body_timeout_s`, `idle_timeout_s`).

use std::time::{Duration, Instant};

use conformance::calls::wait_for_reason;
use conformance::daemon::{Daemon, eventually};
use conformance::http::{self, Client, get};
use conformance::router::Dial;
use conformance::websocket::HANDSHAKE;

const BOUND: Duration = Duration::from_secs(10);

#[test]
fn a_head_over_max_header_bytes_is_431() {
    let daemon = Daemon::start("http.max_header_bytes = 1024");
    let head = |length: usize| {
        let frame = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n".len();
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(length - frame))
    };
    let mut client = Client::connect(daemon.http);
    client.send(head(1024));
    assert_eq!(client.response().status, 200);
    for length in [1026, 2000, 100_000] {
        let mut client = Client::connect(daemon.http);
        client.send(head(length));
        let answer = client.response();
        answer.problem(431, "header_too_large");
        assert!(answer.closes());
        client.expect_close();
    }
    // It does not take the end of the head to know that it is too long.
    let mut client = Client::connect(daemon.http);
    client.send(&head(2000)[..1500]);
    client.response().problem(431, "header_too_large");
    let mut client = Client::connect(daemon.http);
    client.send(format!("GET /{}", "x".repeat(2000)));
    client.response().problem(431, "header_too_large");
    client.expect_close();
    wait_for_reason(&daemon, "http", "too_large", 5, BOUND);
}

#[test]
fn many_small_header_fields_are_served_or_431() {
    let daemon = Daemon::start("");
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(2000));
    let mut client = Client::connect(daemon.http);
    client.send(head);
    let answer = client.response();
    assert!(matches!(answer.status, 200 | 431), "{answer:?}");
    let mut client = Client::connect(daemon.http);
    client.send(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(40)));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_body_over_max_body_bytes_is_413() {
    let daemon = Daemon::start("http.max_body_bytes = 1000");
    let path = "/v1/routers/r1/commands/echo";
    let too_long = [0; 1001];
    for announced in ["1001", "1000000000", "18446744073709551615"] {
        let mut client = Client::connect(daemon.http);
        client.send_request("POST", path, &[("Content-Length", announced)], &too_long);
        let answer = client.response();
        answer.problem(413, "too_large");
        assert!(answer.closes());
        client.expect_close();
    }
    // With Expect the refusal takes the place of 100, so that the body is never sent (RFC 9110 section 10.1.1).
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", path, &[("Content-Length", "1001"), ("Expect", "100-continue")], b"");
    client.response().problem(413, "too_large");
    client.expect_close();
    // Chunked: known only when it has come, in one chunk or in many, announced or sent.
    let announced = "3e9\r\n".to_owned();
    let many = "64\r\n".to_owned() + &"x".repeat(100) + "\r\n";
    for body in [announced, many.repeat(11)] {
        let mut client = Client::connect(daemon.http);
        client.send_request("POST", path, &[("Transfer-Encoding", "chunked")], body.as_bytes());
        client.response().problem(413, "too_large");
        client.expect_close();
    }
    let mut client = Client::connect(daemon.http);
    client.request("POST", path, &[], &[0; 1000]).problem(404, "router_offline");
    client
        .request(
            "POST",
            path,
            &[("Transfer-Encoding", "chunked")],
            (many.repeat(10) + "0\r\n\r\n").as_bytes(),
        )
        .problem(404, "router_offline");
    wait_for_reason(&daemon, "http", "too_large", 6, BOUND);
}

#[test]
fn no_whole_head_in_time_is_header_timeout() {
    let daemon = Daemon::start("http.header_timeout_s = 0.3");
    for head in ["GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "\r\n"] {
        let started = Instant::now();
        let mut client = Client::connect(daemon.http);
        client.send(head);
        // Whether it says 408 before is its own affair (RFC 9110 section 15.5.9).
        let said = client.read_to_close();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
        assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
    }
    wait_for_reason(&daemon, "http", "header_timeout", 3, BOUND);
}

#[test]
fn a_head_that_trickles_is_no_progress() {
    let daemon = Daemon::start("http.header_timeout_s = 0.5");
    let mut client = Client::connect(daemon.http);
    client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ");
    let started = Instant::now();
    client.set_patience(Duration::from_millis(50));
    // One byte each 50 ms: the time counts for the whole head, not for each byte.
    loop {
        client.send("x");
        match client.take(1) {
            Err(error) if http::is_timeout(&error) => assert!(started.elapsed() < BOUND, "still open"),
            _ => break,
        }
    }
}

#[test]
fn a_body_too_slow_is_idle_timeout() {
    let daemon = Daemon::start("http.body_timeout_s = 0.3");
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", "/v1/routers/r1/commands/echo", &[("Content-Length", "10")], b"half");
    let said = client.read_to_close();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
    wait_for_reason(&daemon, "http", "idle_timeout", 1, BOUND);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let daemon = Daemon::start("http.idle_timeout_s = 0.4");
    let mut client = Client::connect(daemon.http);
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    let idle_since = Instant::now();
    client.expect_close();
    assert!(idle_since.elapsed() >= Duration::from_millis(300), "{:?}", idle_since.elapsed());
    wait_for_reason(&daemon, "http", "idle_timeout", 1, BOUND);
}

#[test]
fn a_request_in_the_idle_time_starts_it_anew() {
    let daemon = Daemon::start("http.idle_timeout_s = 1");
    let mut client = Client::connect(daemon.http);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2500) {
        assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
        client.expect_silence(Duration::from_millis(250));
    }
}

#[test]
fn max_connections_leaves_the_others_alone() {
    let daemon = Daemon::start("http.max_connections = 3");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(daemon.http)).collect();
    for client in &mut clients {
        assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    }
    // One over the cap waits or is closed, but is not served while the others are there.
    let mut extra = Client::connect(daemon.http);
    extra.send_request("GET", "/healthz", &[], b"");
    extra.set_patience(Duration::from_millis(200));
    assert!(extra.response_to("GET").is_err());
    for client in &mut clients {
        assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    }
    drop(clients);
    eventually("a place is free again", BOUND, || {
        let mut client = Client::connect(daemon.http);
        client.send_request("GET", "/healthz", &[], b"");
        client.set_patience(Duration::from_millis(200));
        client.response_to("GET").ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn max_per_ip_counts_each_address_by_itself() {
    let daemon = Daemon::start("http.max_per_ip = 2\nwebsocket.app.max_per_ip = 1");
    let mut clients = [Client::connect(daemon.http), Client::connect(daemon.http)];
    for client in &mut clients {
        assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    }
    let mut third = Client::connect(daemon.http);
    third.send_request("GET", "/healthz", &[], b"");
    third.set_patience(Duration::from_millis(300));
    // One over the limit is closed, whether it is told why or not.
    if let Ok(answer) = third.response_to("GET") {
        answer.problem(429, "limit_exceeded");
        assert!(answer.closes(), "{answer:?}");
    }
    let from = |source: &str, to| {
        let source = Some(format!("{source}:0").parse().expect("an address"));
        Client::over(Dial { from: source, ..Dial::default() }.stream(to).expect("connect"))
    };
    assert_eq!(from("127.0.0.2", daemon.http).request("GET", "/healthz", &[], b"").status, 200);
    let upgrade = |mut client: Client| {
        client.set_patience(Duration::from_millis(300));
        client.send_request("GET", "/ws", HANDSHAKE, b"");
        client.response_to("GET").is_ok_and(|answer| answer.status == 101).then_some(client)
    };
    let first = upgrade(from("127.0.0.3", daemon.app)).expect("the first of its address");
    assert!(upgrade(from("127.0.0.3", daemon.app)).is_none());
    assert!(upgrade(from("127.0.0.4", daemon.app)).is_some());
    drop((first, clients, third));
    eventually("the address has room again", BOUND, || upgrade(from("127.0.0.3", daemon.app)).map(drop));
    eventually("so has the other", BOUND, || {
        let mut client = Client::connect(daemon.http);
        client.send_request("GET", "/healthz", &[], b"");
        client.response_to("GET").ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn what_the_daemon_does_not_have_yet_is_404() {
    let daemon = Daemon::start("");
    for path in [
        "/",
        "/metrics/",
        "/v1",
        "/v1/",
        "/v1/routers/r1/streams",
        "/v1/routers/r1/streams/a/b",
        "/v1/events/",
        "/healthz/",
        "//healthz",
    ] {
        get(daemon.http, path).problem(404, "not_found");
    }
    let post = |path: &str| http::request(daemon.http, "POST", path, &[], b"{}");
    post("/v1/commands").problem(404, "not_found");
    post("/v1/routers/r1/commands").problem(404, "not_found");
    post("/v1/routers/r1/commands/a/b").problem(404, "not_found");
}
