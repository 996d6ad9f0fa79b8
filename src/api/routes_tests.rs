use super::*;
use crate::proto::http::parse_head;

fn call(line: &str) -> Result<Call<'static>, Refusal> {
    with_headers(line, "Host: 127.0.0.1:7080\r\n")
}

fn with_headers(line: &str, headers: &str) -> Result<Call<'static>, Refusal> {
    let head = format!("{line} HTTP/1.1\r\n{headers}\r\n");
    let (head, _) = parse_head(head.as_bytes(), &mut 0, 32_768).unwrap().unwrap();
    route(&head).map(Call::into_owned)
}

fn refused(line: &str) -> (u16, String) {
    let refusal = call(line).unwrap_err();
    (refusal.status, refusal.detail.into_owned())
}

#[test]
fn a_command_with_its_parameters() {
    let expected = Call::Command {
        router: "hub:1".into(),
        name: "reboot".into(),
        timeout: Duration::from_millis(1000),
        one_way: false,
        json: false,
    };
    assert_eq!(call("POST /v1/routers/hub%3a1/commands/reboot"), Ok(expected));
    match call("POST /v1/routers/a/commands/b?timeout_ms=600000&oneway=1").unwrap() {
        Call::Command { timeout, one_way, .. } => assert!(one_way && timeout.as_secs() == 600),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parameters_are_named_when_they_are_wrong() {
    for (query, name) in [
        ("timeout_ms=0", "timeout_ms"),
        ("timeout_ms=600001", "timeout_ms"),
        ("timeout_ms=+5", "timeout_ms"),
        ("timeout_ms=", "timeout_ms"),
        ("timeout_ms=1&timeout_ms=1", "timeout_ms"),
        ("oneway=0", "oneway"),
        ("what=1", "what"),
        ("oneway=%zz", "oneway"),
    ] {
        let (status, detail) = refused(&format!("POST /v1/routers/a/commands/b?{query}"));
        assert!(status == 400 && detail.starts_with(name), "{query}: {detail}");
    }
    assert!(refused("GET /v1/routers?limit=1001").1.starts_with("limit"));
    assert!(refused("GET /v1/census?audit=2").1.starts_with("audit"));
    assert!(refused("GET /v1/routers/a?x=1").1.starts_with("x"));
}

#[test]
fn ids_are_decoded_once_and_of_the_charset() {
    for path in
        ["/v1/routers/a%2520b", "/v1/routers/a%2fb", "/v1/routers/", "/v1/routers/%ff", "/v1/routers/a%"]
    {
        assert_eq!(refused(&format!("GET {path}")).0, 400, "{path}");
    }
}

#[test]
fn paths_and_methods() {
    for path in
        ["/v1", "/v1/", "/v1/routers/a/b", "/v1//routers", "/nothing", "/metrics/", "/", "/v1/census/x"]
    {
        assert_eq!(refused(&format!("GET {path}")).0, 404, "{path}");
    }
    assert_eq!(refused("POST /v1/routers/a/streams/b").0, 405);
    assert_eq!(call("GET /v1/routers/a/commands/b").unwrap_err().headers, [("Allow", "POST, OPTIONS")]);
    assert_eq!(refused("DELETE /v1/census").0, 405);
    assert_eq!(call("HEAD /healthz?anything=goes"), Ok(Call::Healthz));
    assert_eq!(call("GET /metrics?anything=goes&anything=%zz"), Ok(Call::Metrics));
    assert_eq!(call("POST /metrics").unwrap_err().headers, [("Allow", "GET, HEAD, OPTIONS")]);
    assert_eq!(call("OPTIONS /v1/clients/c1"), Ok(Call::Options(&[("Allow", "DELETE, OPTIONS")])));
    assert!(matches!(call("OPTIONS *"), Ok(Call::Options(_))));
}

#[test]
fn open_mode_knows_addresses_and_localhost() {
    for (headers, fine) in [
        ("Host: localhost\r\n", true),
        ("Host: [::1]:7080\r\n", true),
        ("Host: 10.0.0.1\r\n", true),
        ("Host: evil.example\r\n", false),
        ("Host: localhost.evil.example\r\n", false),
        ("Host: 127.0.0.1:7080\r\nOrigin: http://127.0.0.1:3000\r\n", true),
        ("Host: 127.0.0.1:7080\r\nOrigin: http://localhost\r\n", false),
        ("Host: 127.0.0.1:7080\r\nOrigin: null\r\n", false),
    ] {
        let status = with_headers("GET /healthz", headers).map_or_else(|refusal| refusal.status, |_| 200);
        assert_eq!(status, if fine { 200 } else { 403 }, "{headers}");
    }
}

#[test]
fn a_stream_keeps_the_query_that_is_the_routers() {
    let stream = |line: &str| match call(line).unwrap() {
        Call::Stream(asked) => {
            (asked.window.max_messages, asked.window.max_bytes, asked.from, asked.query.into_owned())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(stream("GET /v1/routers/a/streams/b"), (20, 65_536, 0, String::new()));
    assert_eq!(
        stream("GET /v1/routers/a/streams/b?x=%zz&from=7&&max_%6dessages=1024&x&max_bytes=16384"),
        (1024, 16_384, 7, "x=%zz&&x".to_owned())
    );
    assert_eq!(stream("GET /v1/routers/a/streams/b?x=1&&").3, "x=1&&");
    for (query, named) in
        [("from=1&from=1", "from"), ("max_bytes=%zz", "max_bytes"), ("max_messages=1025", "max_messages")]
    {
        let (status, detail) = refused(&format!("GET /v1/routers/a/streams/b?{query}"));
        assert!(status == 400 && detail.starts_with(named), "{detail}");
    }
    let long = "x".repeat(16_369);
    assert_eq!(refused(&format!("GET /v1/routers/a/streams/b?{long}")).0, 400);
}

#[test]
fn a_fleet_command_has_its_name_and_nothing_else() {
    assert_eq!(call("POST /v1/commands/re%3aboot"), Ok(Call::FleetCommand { name: "re:boot".into() }));
    let refusal = call("POST /v1/commands/a?timeout_ms=5").unwrap_err();
    assert_eq!((refusal.status, refusal.sent), (400, Some(false)));
    assert_eq!(call("POST /v1/commands/").unwrap_err().status, 400);
    assert_eq!(call("POST /v1/commands").unwrap_err().status, 404);
    assert_eq!(call("HEAD /v1/commands/a").unwrap_err().headers, &[("Allow", "POST, OPTIONS")]);
}
