//! Contract section 3, `GET /metrics`: the census of section 6 in the text format of Prometheus.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use conformance::calls::{Census, command_in_background, wait_for_drain, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::Frame;
use conformance::http::{Client, PATIENCE, get, request};
use conformance::router::Router;

/// Every sample by its name and labels, as they stand. Panics at a line that the format does not know, at a sample
/// without HELP and TYPE, and at one that stands there twice.
fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let response = get(address, "/metrics");
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let (mut samples, mut described) = (BTreeMap::new(), Vec::new());
    for line in response.text().lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (keyword, rest) = rest.split_once(' ').expect(line);
            assert!(matches!(keyword, "HELP" | "TYPE"), "{line}");
            described.push((keyword, rest.split_once(' ').expect(line).0));
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let name = series.split('{').next().expect("a name");
        assert!(name.starts_with("berth_"), "{line}");
        assert!(described.contains(&("HELP", name)) && described.contains(&("TYPE", name)), "{line}");
        assert!(samples.insert(series.to_owned(), value.parse().expect(line)).is_none(), "twice: {line}");
    }
    let all = described.len();
    described.sort_unstable();
    described.dedup();
    assert_eq!(described.len(), all, "a family in two places");
    samples
}

#[test]
fn it_says_what_the_census_says() {
    let daemon = Daemon::start("");
    let _routers: Vec<Router> = (0..3).map(|n| Router::bind(daemon.router, &format!("hub-{n}"))).collect();
    drop(Router::bind(daemon.router, "gone"));
    wait_for_live(&daemon, "router", 3, PATIENCE);

    let census = Census::of(&daemon).0;
    let samples = scrape(daemon.http);
    let of = |series: &str| *samples.get(series).unwrap_or_else(|| panic!("no {series} in {samples:#?}"));
    assert_eq!(of(r#"berth_live{class="router"}"#), 3.0);
    assert_eq!(of(r#"berth_opened_total{class="router"}"#), 4.0);
    assert_eq!(of(r#"berth_unbound_total{class="router"}"#), 1.0);
    assert_eq!(of(r#"berth_unbound_by_reason_total{class="router",reason="peer_closed"}"#), 1.0);
    assert_eq!(of("berth_unbind_imbalance_total"), 0.0);
    assert_eq!(of("berth_audit_ok"), 1.0);
    assert!(of("berth_uptime_seconds") >= census["uptime_s"].as_f64().expect("a time"));
    assert!(of("berth_loop_turns_total") >= census["loop"]["turns"].as_f64().expect("a count"));
    for (class, entry) in census["classes"].as_object().expect("classes") {
        for (key, name) in [("live", "live"), ("opened", "opened_total"), ("unbound", "unbound_total")] {
            assert_eq!(
                samples.contains_key(&format!("berth_{name}{{class=\"{class}\"}}")),
                entry[key].is_u64(),
                "{class} {key}"
            );
        }
    }
}

#[test]
fn it_takes_get_and_head_and_any_parameters() {
    let daemon = Daemon::start("");
    assert_eq!(get(daemon.http, "/metrics?name%5B%5D=a&name%5B%5D=b&audit=7").status, 200);
    let mut client = Client::connect(daemon.http);
    let head = client.request("HEAD", "/metrics", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    assert_eq!(client.request("GET", "/metrics", &[], b"").status, 200, "the connection goes on");
    for method in ["POST", "PUT", "DELETE"] {
        let refused = request(daemon.http, method, "/metrics", &[], b"");
        refused.problem(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
}

#[test]
fn it_is_answered_while_the_daemon_drains() {
    let mut daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "busy");
    let caller = command_in_background(daemon.http, "busy", "x", 600_000, vec![]);
    let id = router.recv_command().id;
    daemon.signal(15);
    wait_for_drain(daemon.http);
    assert_eq!(scrape(daemon.http)[r#"berth_live{class="pending_command"}"#], 1.0);
    router.send(&Frame::reply(id, "done"));
    assert_eq!(caller.join().expect("the caller").status, 200);
    router.expect_end("draining");
    drop(router);
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}
