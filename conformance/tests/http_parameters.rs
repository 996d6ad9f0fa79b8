//! Contract section 3: ids and names in the path, and query parameters; nothing is guessed or clamped.

use conformance::calls::command;
use conformance::daemon::Daemon;
use conformance::frame::Frame;
use conformance::http::{Client, get, request};
use conformance::router::Router;

/// Asserts a 400 whose detail names the parameter.
#[track_caller]
fn names(daemon: &Daemon, method: &str, target: &str, parameter: &str) {
    let answer = request(daemon.http, method, target, &[], b"");
    let problem = answer.problem(400, "bad_request");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(parameter), "{method} {target}: {detail}");
}

#[test]
fn a_parameter_that_is_unknown_repeated_or_out_of_range_is_named() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "r1");
    let echo = "/v1/routers/r1/commands/echo";
    for value in
        ["0", "600001", "-1", "+5", "abc", "", "1.5", "1e3", "0x10", "99999999999999999999", "%201", "1000ms"]
    {
        names(&daemon, "POST", &format!("{echo}?timeout_ms={value}"), "timeout_ms");
    }
    for value in ["0", "2", "true", "yes", "", "11"] {
        names(&daemon, "POST", &format!("{echo}?oneway={value}"), "oneway");
    }
    names(&daemon, "POST", &format!("{echo}?timeout_ms"), "timeout_ms");
    names(&daemon, "POST", &format!("{echo}?timeout_ms=5&timeout_ms=5"), "timeout_ms");
    names(&daemon, "POST", &format!("{echo}?oneway=1&oneway=1"), "oneway");
    names(&daemon, "POST", &format!("{echo}?timeout=5"), "timeout");
    names(&daemon, "POST", &format!("{echo}?TIMEOUT_MS=5"), "TIMEOUT_MS");
    names(&daemon, "POST", &format!("{echo}?timeout_ms=5&surprise=1"), "surprise");
    for limit in ["0", "1001", "-1", "ten", ""] {
        names(&daemon, "GET", &format!("/v1/routers?limit={limit}"), "limit");
        names(&daemon, "GET", &format!("/v1/clients?limit={limit}"), "limit");
    }
    names(&daemon, "GET", "/v1/routers?limit=5&limit=6", "limit");
    names(&daemon, "GET", "/v1/routers?prefix=a&prefix=a", "prefix");
    names(&daemon, "GET", "/v1/routers?offset=3", "offset");
    names(&daemon, "GET", "/v1/clients?offset=3", "offset");
    names(&daemon, "GET", "/v1/routers/r1?verbose=1", "verbose");
    names(&daemon, "DELETE", "/v1/routers/r1?force=1", "force");
    names(&daemon, "DELETE", "/v1/routers/r1/shadow?force=1", "force");
    for value in ["0", "true", "", "2"] {
        names(&daemon, "GET", &format!("/v1/census?audit={value}"), "audit");
    }
    names(&daemon, "GET", "/v1/census?audit=1&audit=1", "audit");
    names(&daemon, "GET", "/v1/census?full=1", "full");
    // The router has seen none of it.
    router.ping();
}

#[test]
fn the_ends_of_the_ranges_are_good() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "r1").echo();
    for timeout in ["600000", "1000", "0001000"] {
        let answer = request(
            daemon.http,
            "POST",
            &format!("/v1/routers/r1/commands/echo?timeout_ms={timeout}"),
            &[],
            b"",
        );
        // Leading zeros may be read or refused, but not as another number.
        assert!(
            answer.status == 200 || timeout.starts_with('0') && answer.status == 400,
            "{timeout}: {answer:?}"
        );
    }
    for limit in [1, 1000] {
        assert_eq!(get(daemon.http, &format!("/v1/routers?limit={limit}")).status, 200);
        assert_eq!(get(daemon.http, &format!("/v1/clients?limit={limit}")).status, 200);
    }
    assert_eq!(get(daemon.http, "/v1/census?audit=1").status, 200);
    assert_eq!(get(daemon.http, "/v1/routers?").status, 200);
}

#[test]
fn values_are_percent_decoded_too() {
    let daemon = Daemon::start("");
    let _routers = ["r1", "r2", "x"].map(|id| Router::bind(daemon.router, id));
    let list = get(daemon.http, "/v1/routers?prefix=%72&%6cimit=%31").json();
    assert_eq!((&list["routers"][0]["router"], &list["next"]), (&"r1".into(), &"r1".into()), "{list}");
    assert_eq!(list["routers"].as_array().map(Vec::len), Some(1));
    for target in
        ["/v1/routers?prefix=%7", "/v1/routers?prefix=%zz", "/v1/routers?%=1", "/v1/routers?limit=%2531"]
    {
        get(daemon.http, target).problem(400, "bad_request");
    }
}

#[test]
fn health_takes_any_parameter() {
    let daemon = Daemon::start("");
    for target in ["/healthz?x=1", "/readyz?x=1&x=1", "/healthz?%zz", "/readyz?&&="] {
        assert_eq!(get(daemon.http, target).status, 200, "{target}");
    }
}

#[test]
fn a_path_is_percent_decoded_once() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "a:b.c_D-1");
    let mut client = Client::connect(daemon.http);
    for path in [
        "a:b.c_D-1/commands/re.set:1",
        "a%3Ab%2ec_D-1/commands/re.set%3a1",
        "%61:b.c_D%2D1/commands/r%65.set:1",
    ] {
        client.send_request("POST", &format!("/v1/routers/{path}"), &[], b"");
        let command = router.recv_command();
        assert_eq!(command.name_text(), "re.set:1");
        router.send(&Frame::reply(command.id, ""));
        assert_eq!(client.response().status, 200, "{path}");
    }
    // What comes out of the first decoding is not decoded again.
    get(daemon.http, "/v1/routers/%2561:b.c_D-1").problem(400, "bad_request");
}

#[test]
fn an_id_or_name_outside_its_charset_is_400() {
    let daemon = Daemon::start("");
    let too_long = "x".repeat(65);
    let bad = [
        "a%20b",
        "a+b",
        "a%2Fb",
        "a%00",
        "%ff",
        "a~b",
        "a@b",
        "%C3%A9",
        "a%",
        "a%4",
        "a%zz",
        "a*",
        "$a",
        "a%0Ab",
        "a,b",
        "a;b",
        "a=b",
        "(a)",
        too_long.as_str(),
    ];
    for id in bad {
        for (method, target) in [
            ("GET", format!("/v1/routers/{id}")),
            ("DELETE", format!("/v1/routers/{id}")),
            ("DELETE", format!("/v1/routers/{id}/shadow")),
            ("POST", format!("/v1/routers/{id}/commands/echo")),
            ("POST", format!("/v1/routers/r1/commands/{id}")),
        ] {
            let answer = request(daemon.http, method, &target, &[], b"");
            assert_eq!(answer.status, 400, "{method} {target}: {answer:?}");
            answer.problem(400, "bad_request");
        }
    }
    for target in ["/v1/routers/", "/v1/routers//commands/echo", "/v1/routers/r1/commands/"] {
        let method = if target.contains("commands") { "POST" } else { "GET" };
        let answer = request(daemon.http, method, target, &[], b"");
        assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
    }
    let longest = "x".repeat(64);
    command(daemon.http, &longest, &longest, 1000, b"").problem(404, "router_offline");
    // Dots are in the charset; a path is not walked.
    command(daemon.http, "..", ".", 1000, b"").problem(404, "router_offline");
}

#[test]
fn a_refusal_of_this_kind_keeps_the_connection() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.http);
    for target in ["/v1/routers?limit=0", "/v1/routers/a~b", "/nowhere", "/v1/routers/r1"] {
        let answer = client.request("GET", target, &[], b"");
        assert!(matches!(answer.status, 400 | 404), "{answer:?}");
        assert!(!answer.closes(), "{target}: only what cannot be framed closes");
    }
    let refused =
        client.request("POST", "/v1/routers/r1/commands/echo?oneway=2", &[], b"a body that is not a request");
    refused.problem(400, "bad_request");
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
}
