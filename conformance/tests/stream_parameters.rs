//! Contract section 3: the parameters of a stream are checked, never clamped; unknown ones belong to the router.

use conformance::calls::Census;
use conformance::daemon::Daemon;
use conformance::http::get;
use conformance::router::Router;
use conformance::stream::Consumer;

#[test]
fn a_parameter_that_is_out_of_range_or_repeated_is_named() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let refused = |query: &str, parameter: &str| {
        let answer = get(daemon.http, &format!("/v1/routers/hub/streams/log?{query}"));
        let problem = answer.problem(400, "bad_request");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(parameter), "{query}: {detail}");
    };
    let never = ["", "-1", "+5", "abc", "1.5", "1e3", "0x10", "%201", "5,6"];
    for value in never.iter().chain(&["0", "1025", "4294967297"]) {
        refused(&format!("max_messages={value}"), "max_messages");
    }
    for value in never.iter().chain(&["0", "1", "16383", "1048577"]) {
        refused(&format!("max_bytes={value}"), "max_bytes");
    }
    let too_far = ["9223372036854775808", "18446744073709551615", "18446744073709551616"];
    for value in never.iter().chain(&too_far) {
        refused(&format!("from={value}"), "from");
    }
    for parameter in ["max_messages", "max_bytes", "from"] {
        refused(parameter, parameter);
        refused(&format!("{parameter}=20000&{parameter}=20000"), parameter);
        refused(&format!("mine=1&{parameter}=x&yours=2"), parameter);
        // A key is percent-decoded as on every other call, so this is the same key again.
        let encoded = parameter.replace('m', "%6d").replace('f', "%66");
        refused(&format!("{encoded}=20000&{parameter}=20000"), parameter);
    }
    // The router has seen none of it, and nothing is left of it.
    assert_eq!(router.frames_before_pong(), []);
    let census = Census::audited(&daemon);
    census.assert_well();
    assert_eq!((census.live("stream"), census.count("stream", "opened")), (0, 0));
}

#[test]
fn the_ends_of_the_ranges_are_good() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for (query, window) in [
        ("max_messages=1&max_bytes=16384&from=0", (1, 16_384, 0)),
        ("max_messages=1024&max_bytes=1048576&from=9223372036854775807", (1024, 1 << 20, i64::MAX as u64)),
        ("max_messages=%31%30", (10, 65_536, 0)),
        ("from=4294967296", (20, 65_536, 1 << 32)),
    ] {
        let mut consumer = Consumer::get(daemon.http, "hub", &format!("log?{query}"));
        let open = router.recv_open();
        assert_eq!((open.max_messages, open.max_bytes, open.from), window, "{query}");
        router.send(&open.end(open.from));
        consumer.expect_lines();
        consumer.expect_end();
    }
}

#[test]
fn a_bad_request_for_an_offline_router_is_a_bad_request() {
    let daemon = Daemon::start("");
    get(daemon.http, "/v1/routers/nobody/streams/log?from=x").problem(400, "bad_request");
    get(daemon.http, "/v1/routers/no%20body/streams/log").problem(400, "bad_request");
    get(daemon.http, "/v1/routers/nobody/streams/l*g").problem(400, "bad_request");
    get(daemon.http, "/v1/routers/nobody/streams/log/more").problem(404, "not_found");
    get(daemon.http, "/v1/routers/nobody/streams").problem(404, "not_found");
}

#[test]
fn the_last_rows_of_the_numbers_are_rows_like_others() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let last = i64::MAX as u64;
    let mut consumer = Consumer::get(daemon.http, "hub", &format!("log?from={last}"));
    let open = router.recv_open();
    for n in 0..3 {
        router.send(&open.json(last + n, "1"));
    }
    let new = {
        router.send(&open.end(last));
        router.expect_reopening(&open, last + 3)
    };
    router.send(&new.end(last + 3));
    consumer.expect_lines();
    for _ in 0..3 {
        assert_eq!(consumer.line(), b"1");
    }
    consumer.expect_end();
}
