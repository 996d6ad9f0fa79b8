//! Contract section 3 and RFC 9112: chunked bodies, Expect, pipelining, keep-alive, methods, and the end of a connection.

use std::time::Duration;

use conformance::calls::{Census, barrier, oneway, wait_for_live, wait_for_reason};
use conformance::daemon::Daemon;
use conformance::frame::Frame;
use conformance::http::{Client, encode_request, get, request};
use conformance::router::Router;

const BOUND: Duration = Duration::from_secs(10);
const ECHO: &str = "/v1/routers/r1/commands/echo";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn chunked_head() -> String {
    format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
}

#[test]
fn a_chunked_body_is_put_together() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1").echo();
    let mut client = Client::connect(daemon.http);
    let bodies: &[(&str, &str)] = &[
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("0005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        // Extensions and trailers are read over (RFC 9112 sections 7.1.1 and 7.1.2).
        ("5;a\r\nhello\r\n0;last=1\r\n\r\n", "hello"),
        ("5;a=b;c=\"d;\\\"e\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5 ; a = b\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n0\r\nX-Sum: 17\r\nY: z\r\n\r\n", "hello"),
    ];
    for (encoded, body) in bodies {
        client.send(chunked_head() + encoded);
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (200, *body), "{encoded:?}");
    }
    // A trailer is no header: neither Content-Length nor Host there means anything.
    client
        .send(chunked_head() + "5\r\nhello\r\n0\r\nContent-Length: 99\r\nConnection: close\r\n\r\n" + HEALTH);
    let answer = client.response();
    if answer.status == 200 {
        assert_eq!(answer.text(), "hello");
        assert_eq!(client.response().status, 200);
    } else {
        answer.problem(400, "bad_request");
    }
}

#[test]
fn a_chunked_body_cut_anywhere_is_the_same_body() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1").echo();
    let mut client = Client::connect(daemon.http);
    let request = chunked_head() + "5;ext=\"v\"\r\nhello\r\n00c\r\n, wide world\r\n0\r\nX: y\r\n\r\n";
    for cut in 1..request.len() {
        client.send(&request[..cut]);
        barrier(daemon.http);
        client.send(&request[cut..]);
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (200, "hello, wide world"), "cut at {cut}");
    }
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().text(), "hello, wide world");
}

#[test]
fn a_bad_chunk_is_400_and_the_connection_closed() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let bodies: &[&str] = &[
        "\r\nhello\r\n0\r\n\r\n",
        ";ext\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5x\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    ];
    for body in bodies {
        let mut client = Client::connect(daemon.http);
        client.send(chunked_head() + body);
        let answer = client.response_to("POST").unwrap_or_else(|error| panic!("{error} for {body:?}"));
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
        answer.problem(400, "bad_request");
        assert!(answer.closes(), "{body:?}");
        client.expect_close();
    }
    // Sizes that do not fit: whether they are bad or too large is the same to the sender.
    let f = "F".repeat(16);
    for size in [
        f.clone(),
        f.clone() + "F",
        "1".to_owned() + &"0".repeat(16),
        "8".to_owned() + &"0".repeat(15),
        "0".repeat(20_000),
    ] {
        let mut client = Client::connect(daemon.http);
        client.send(chunked_head() + &size + "\r\nhello\r\n0\r\n\r\n");
        let answer = client.response();
        assert!(matches!(answer.status, 400 | 413), "{size}: {answer:?}");
        assert!(answer.closes());
        client.expect_close();
    }
    for endless in ["5;".to_owned() + &"e".repeat(100_000), "0\r\n".to_owned() + &"X: y\r\n".repeat(20_000)] {
        let mut client = Client::connect(daemon.http);
        client.send(chunked_head() + &endless);
        let answer = client.response();
        assert!(matches!(answer.status, 400 | 413 | 431), "{answer:?}");
        assert!(answer.closes());
    }
    // None of it was a command.
    router.ping();
}

#[test]
fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    for _ in 0..20 {
        let answer = client.request("GET", "/healthz", &[], b"");
        assert_eq!((answer.status, answer.version.as_str()), (200, "HTTP/1.1"));
        assert!(!answer.closes());
    }
    let paths = ["/healthz", "/v1/routers", "/nowhere", "/v1/clients", "/v1/routers/r1", "/readyz"];
    let mut pipeline = String::new();
    for path in paths {
        pipeline.push_str(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    for cut in (0..pipeline.len()).step_by(7) {
        client.send(&pipeline[..cut]);
        barrier(daemon.http);
        client.send(&pipeline[cut..]);
        let statuses = paths.map(|_| client.response().status);
        assert_eq!(statuses, [200, 200, 404, 200, 404, 200]);
    }
    client.send(HEALTH.repeat(1000));
    for _ in 0..1000 {
        assert_eq!(client.response().status, 200);
    }
    let census = Census::of(&daemon);
    census.assert_balanced();
}

#[test]
fn pipelined_commands_are_carried_out_one_after_another() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut client = Client::connect(daemon.http);
    for n in 0..3 {
        client.send_request("POST", ECHO, &[], n.to_string().as_bytes());
    }
    client.send(HEALTH);
    for n in 0..3 {
        let command = router.recv_command();
        assert_eq!(command.body, n.to_string().as_bytes());
        // The next one is not parsed before this one is answered.
        router.expect_silence(Duration::from_millis(30));
        router.send(&Frame::reply(command.id, format!("answer {n}")));
        assert_eq!(client.response().text(), format!("answer {n}"));
    }
    assert_eq!(client.response().status, 200);
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1").echo();
    let mut client = Client::connect(daemon.http);
    let expect = ("Expect", "100-continue");
    for _ in 0..2 {
        client.send_request("POST", ECHO, &[expect, ("Content-Length", "5")], b"");
        let interim = client.response();
        assert_eq!(interim.status, 100);
        client.send("hello");
        assert_eq!(client.response().text(), "hello");
        client.send_request("POST", ECHO, &[expect, ("Transfer-Encoding", "chunked")], b"");
        assert_eq!(client.response().status, 100);
        client.send("5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
    // A client that does not wait gets its answer all the same; the interim response may be left out.
    client.send_request("POST", ECHO, &[expect], b"hello");
    let mut answer = client.response();
    if answer.status == 100 {
        answer = client.response();
    }
    assert_eq!(answer.text(), "hello");
    // Without a body there is nothing to go on with, and HTTP/1.0 knows no 100 (RFC 9110 section 10.1.1).
    let none = client.request("GET", "/healthz", &[expect], b"");
    assert_eq!(none.status, 200);
    client.send(format!(
        "POST {ECHO} HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    ));
    client.expect_silence(Duration::from_millis(100));
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn an_expectation_that_is_unknown_is_417_or_ignored() {
    let daemon = Daemon::start("");
    let answer = request(daemon.http, "GET", "/healthz", &[("Expect", "the-unexpected")], b"");
    assert!(matches!(answer.status, 200 | 417), "{answer:?}");
}

#[test]
fn http_1_0_is_served_and_closed() {
    let daemon = Daemon::start("");
    for extra in ["", "Connection: keep-alive\r\n"] {
        let mut client = Client::connect(daemon.http);
        client.send(format!("GET /healthz HTTP/1.0\r\nHost: localhost\r\n{extra}\r\n"));
        let answer = client.response();
        assert_eq!(answer.status, 200);
        assert!(
            answer.header("connection").is_none_or(|value| value.eq_ignore_ascii_case("close")),
            "{answer:?}"
        );
        client.expect_close();
    }
    let _router = Router::bind(daemon.router, "r1").echo();
    let mut client = Client::connect(daemon.http);
    client.send(format!("POST {ECHO} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"));
    assert_eq!(client.response().text(), "hello");
    client.expect_close();
}

#[test]
fn connection_close_is_the_last_answer() {
    let daemon = Daemon::start("");
    for value in ["close", "Close", "x, close", "keep-alive, close"] {
        let mut client = Client::connect(daemon.http);
        client
            .send(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: {value}\r\n\r\n{HEALTH}"));
        let answer = client.response();
        assert_eq!(answer.status, 200);
        assert!(answer.closes(), "{value}");
        client.expect_close();
    }
    wait_for_reason(&daemon, "http", "done", 4, BOUND);
    let mut client = Client::connect(daemon.http);
    assert!(!client.request("GET", "/healthz", &[("Connection", "keep-alive")], b"").closes());
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn a_request_that_is_whole_is_answered_although_the_caller_has_finished_sending() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let mut client = Client::connect(daemon.http);
    client.send(HEALTH.repeat(3));
    client.finish_sending();
    for _ in 0..3 {
        assert_eq!(client.response().status, 200);
    }
    client.expect_close();
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", &format!("{ECHO}?oneway=1"), &[], b"x");
    client.finish_sending();
    assert_eq!(client.response().status, 202);
    client.expect_close();
    assert_eq!(router.recv_command().body, b"x");
    // A half of a request is none.
    let mut client = Client::connect(daemon.http);
    client.send("POST /v1/routers/r1/commands/echo?oneway=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhel");
    client.finish_sending();
    let said = client.read_to_close();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&said));
    router.ping();
    wait_for_live(&daemon, "http", 1, BOUND);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn the_last_words_wait_for_the_caller_and_not_for_ever() {
    let daemon = Daemon::start("close_grace_s = 0.3");
    let mut client = Client::connect(daemon.http);
    client.send("nonsense\r\n\r\n");
    client.response().problem(400, "bad_request");
    client.expect_close();
    // FIN came, the caller's side is still open: bytes are discarded until the grace is over.
    client.send("more of the same");
    wait_for_live(&daemon, "http", 1, BOUND);

    // More than 1 MiB is not waited for, however long the grace.
    let daemon = Daemon::start("close_grace_s = 600");
    let mut client = Client::connect(daemon.http);
    client.send("nonsense\r\n\r\n");
    client.response().problem(400, "bad_request");
    client.send(vec![b'x'; 3_000_000]);
    wait_for_live(&daemon, "http", 1, BOUND);

    // A caller that sends less than that still reads why it was refused.
    let daemon = Daemon::start("http.max_body_bytes = 1000");
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", ECHO, &[("Content-Length", "500000")], &[0; 500_000]);
    client.response().problem(413, "too_large");
}

#[test]
fn head_is_get_without_the_body() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    for path in ["/healthz", "/readyz", "/v1/routers", "/v1/clients", "/nowhere", "/v1/routers/r1"] {
        let get = client.request("GET", path, &[], b"");
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
    }
    assert_eq!(client.request("HEAD", "/v1/census", &[], b"").status, 200);
    client.expect_silence(Duration::from_millis(50));
}

#[test]
fn options_and_405_tell_what_is_allowed() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1");
    let routes: &[(&str, &[&str])] = &[
        (ECHO, &["POST"]),
        ("/v1/routers", &["GET", "HEAD"]),
        ("/v1/routers/r1", &["GET", "HEAD", "DELETE"]),
        ("/v1/routers/r1/shadow", &["DELETE"]),
        ("/v1/clients", &["GET", "HEAD"]),
        ("/v1/clients/c1", &["DELETE"]),
        ("/v1/census", &["GET", "HEAD"]),
        ("/healthz", &["GET", "HEAD"]),
        ("/readyz", &["GET", "HEAD"]),
    ];
    let mut client = Client::connect(daemon.http);
    for (path, methods) in routes {
        let mut expected: Vec<&str> = [*methods, &["OPTIONS"]].concat();
        expected.sort_unstable();
        let options = client.request("OPTIONS", path, &[], b"");
        assert!(matches!(options.status, 200 | 204), "{path}: {options:?}");
        assert_eq!(allowed(options.header("allow")), expected, "OPTIONS {path}");
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            if methods.contains(&method) {
                continue;
            }
            client.send_request(method, path, &[], b"");
            let answer = client.response_to(method).expect("an answer");
            assert_eq!(answer.status, 405, "{method} {path}");
            if method != "HEAD" {
                answer.problem(405, "method_not_allowed");
            }
            assert_eq!(allowed(answer.header("allow")), expected, "{method} {path}");
        }
    }
    let star = client.request("OPTIONS", "*", &[], b"");
    assert!(matches!(star.status, 200 | 204), "{star:?}");
    assert_eq!(get(daemon.http, "/v1/routers/r1").status, 200, "nothing of it was carried out");
}

fn allowed(header: Option<&str>) -> Vec<String> {
    let mut methods: Vec<String> =
        header.expect("Allow").split(',').map(|method| method.trim().to_owned()).collect();
    methods.sort_unstable();
    methods
}

#[test]
fn an_unknown_method_is_501() {
    let daemon = Daemon::start("");
    for method in ["BREW", "get", "G", "PROPFIND", "GETT"] {
        let answer = request(daemon.http, method, "/healthz", &[], b"");
        assert_eq!(answer.status, 501, "{method}: {answer:?}");
        let code = answer.json()["code"].as_str().expect("a code").to_owned();
        answer.problem(501, &code);
    }
    // What RFC 9110 knows and no route has may be called either.
    for method in ["PUT", "PATCH", "TRACE"] {
        let answer = request(daemon.http, method, "/healthz", &[], b"");
        assert!(matches!(answer.status, 405 | 501), "{method}: {answer:?}");
    }
    let mut client = Client::connect(daemon.http);
    client.send("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n");
    assert!(matches!(client.response().status, 400 | 404 | 405 | 501));
}

#[test]
fn a_caller_that_reads_nothing_holds_up_nobody() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1").echo();
    let mut deaf = Client::connect(daemon.http);
    socket2::SockRef::from(deaf.stream()).set_recv_buffer_size(4096).expect("SO_RCVBUF");
    let request_bytes = encode_request("localhost", "POST", ECHO, &[], &[b'x'; 200_000]);
    deaf.send_until_stalled(request_bytes.repeat(100));
    for _ in 0..20 {
        assert_eq!(oneway(daemon.http, "r1", "echo", b"").status, 202);
        assert_eq!(request(daemon.http, "POST", ECHO, &[], b"hello").text(), "hello");
    }
}
