//! Contract section 3: what is wrong with a fleet call is said before any of it is sent, and by name.

use conformance::daemon::Daemon;
use conformance::frame::MAX_MESSAGE;
use conformance::http::{Client, request};
use conformance::router::Router;
use serde_json::json;

const CALL: &str = "/v1/commands/x";

#[test]
fn members_that_are_wrong_are_named() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "a");
    for (body, named) in [
        (r#"{}"#, "routers"),
        (r#"{"routers":null}"#, "routers"),
        (r#"{"routers":"a"}"#, "routers"),
        (r#"{"routers":{"a":1}}"#, "routers"),
        (r#"{"routers":["a",1]}"#, "routers"),
        (r#"{"routers":["a",null]}"#, "routers"),
        (r#"{"routers":["a",["b"]]}"#, "routers"),
        (r#"{"routers":["a"],"routers":["a"]}"#, "routers"),
        (r#"{"routers":["a"],"timeout_ms":0}"#, "timeout_ms"),
        (r#"{"routers":["a"],"timeout_ms":600001}"#, "timeout_ms"),
        (r#"{"routers":["a"],"timeout_ms":-1}"#, "timeout_ms"),
        (r#"{"routers":["a"],"timeout_ms":1.0}"#, "timeout_ms"),
        (r#"{"routers":["a"],"timeout_ms":"5"}"#, "timeout_ms"),
        (r#"{"routers":["a"],"timeout_ms":5,"timeout_ms":5}"#, "timeout_ms"),
        (r#"{"routers":["a"],"body":1,"body":1}"#, "body"),
        (r#"{"routers":["a"],"body":1,"body_base64":""}"#, "body_base64"),
        (r#"{"routers":["a"],"body_base64":"?"}"#, "body_base64"),
        (r#"{"routers":["a"],"body_base64":["AA=="]}"#, "body_base64"),
        (r#"{"routers":["a"],"oneway":true}"#, "oneway"),
        (r#"{"routers":["a"],"name":"x"}"#, "name"),
    ] {
        let problem = request(daemon.http, "POST", CALL, &[], body.as_bytes()).problem(400, "bad_request");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{body}: {problem}");
        assert_eq!(problem["sent"], false, "{problem}");
    }
    router.ping(); // nothing of it was sent
}

#[test]
fn what_is_not_an_object_is_refused() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    let bodies: [&[u8]; 8] = [
        b"",
        b"[]",
        b"\"*\"",
        b"null",
        b"{",
        b"{\"routers\":[]}}",
        b"{\"routers\":[\"\xff\"]}",
        b"{\"routers\":[\"\\ud800\"]}",
    ];
    for body in bodies {
        client.request("POST", CALL, &[], body).problem(400, "bad_request");
    }
}

#[test]
fn the_path_is_a_name_without_parameters() {
    let daemon = Daemon::start("");
    let body = br#"{"routers":[]}"#;
    for (target, named) in [("/v1/commands/a%20b", "name"), ("/v1/commands/x?timeout_ms=5", "timeout_ms")] {
        let problem = request(daemon.http, "POST", target, &[], body).problem(400, "bad_request");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(named)), "{problem}");
        assert_eq!(problem["sent"], false);
    }
    request(daemon.http, "POST", "/v1/commands", &[], body).problem(404, "not_found");
    request(daemon.http, "POST", "/v1/commands/x/y", &[], body).problem(404, "not_found");
    assert_eq!(request(daemon.http, "POST", "/v1/commands/r%65boot", &[], body).status, 200);
}

#[test]
fn it_takes_post_alone() {
    let daemon = Daemon::start("");
    for method in ["GET", "DELETE", "PUT"] {
        let response = request(daemon.http, method, CALL, &[], b"");
        response.problem(405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some("POST, OPTIONS"));
    }
    assert_eq!(request(daemon.http, "HEAD", CALL, &[], b"").status, 405);
    let options = request(daemon.http, "OPTIONS", CALL, &[], b"");
    assert_eq!((options.status, options.header("allow")), (204, Some("POST, OPTIONS")));
}

#[test]
fn what_is_too_large_is_413() {
    let daemon = Daemon::start("");
    let over = vec![b' '; (1 << 20) + 1];
    let problem = request(daemon.http, "POST", CALL, &[], &over).problem(413, "too_large");
    assert!(problem["sent"].is_null() || problem["sent"] == false, "{problem}");
    // A body may be longer where that is allowed, and its payload still no longer than a message.
    let daemon = Daemon::start("http.max_body_bytes = 4000000");
    let call = |length: usize| json!({ "routers": [], "body": "x".repeat(length - 2) }).to_string();
    assert_eq!(request(daemon.http, "POST", CALL, &[], call(MAX_MESSAGE).as_bytes()).status, 200);
    let problem = request(daemon.http, "POST", CALL, &[], call(MAX_MESSAGE + 1).as_bytes());
    assert_eq!(problem.problem(413, "too_large")["sent"], false);
}

#[test]
fn expect_and_chunks_are_as_everywhere() {
    let daemon = Daemon::start("");
    let _echo = Router::bind(daemon.router, "a").echo();
    let mut client = Client::connect(daemon.http);
    let headers = [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")];
    client.send_request("POST", CALL, &headers, b"");
    assert_eq!(client.response().status, 100);
    client.send("10\r\n{\"routers\":[\"a\"]\r\n1\r\n}\r\n0\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.status, response.text()),
        (200, "{\"router\":\"a\",\"status\":200,\"body_base64\":\"\"}\n")
    );
    client.send_request("POST", "/v1/commands/a%20b", &headers, b"");
    let refused = client.response();
    refused.problem(400, "bad_request");
    assert!(refused.closes());
}
