//! Every refusal and every acceptance of [`parse_head`](super::parse_head), and its behaviour under any cut.

use proptest::prelude::*;

use super::*;

const MAX: usize = 16_384;

fn parsed(text: &str) -> Head<'_> {
    let mut scanned = 0;
    match parse_head(text.as_bytes(), &mut scanned, MAX) {
        Ok(Some((head, taken))) => {
            assert_eq!((taken, scanned), (text.len(), 0), "{text:?}");
            head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

/// With `{}` for the field lines that follow a good Host.
fn with(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn refused(text: impl AsRef<[u8]>) -> HeadError {
    let text = text.as_ref();
    match parse_head(text, &mut 0, MAX) {
        Err(error) => error,
        other => panic!("{}: {other:?}", text.escape_ascii()),
    }
}

#[track_caller]
fn assert_bad(text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let error = refused(text);
    assert!(matches!(error, HeadError::BadRequest(_)), "{}: {error:?}", text.escape_ascii());
}

#[test]
fn a_usual_request() {
    let head = parsed(
        "POST /v1/routers/r%2d1/commands/get?timeout_ms=5&x HTTP/1.1\r\nhost: 127.0.0.1:7080\r\nOrigin:http://a\r\n\
         Content-Type: application/json\r\nContent-Length: 12\r\nX-Empty:\r\nX-A:\t one \t\r\nx-a: two\r\n\r\n",
    );
    assert_eq!((head.method, head.version), (Method::Post, Version::Http11));
    assert_eq!((head.path, head.query), ("/v1/routers/r%2d1/commands/get", Some("timeout_ms=5&x")));
    assert_eq!((head.host, head.origin), (Some("127.0.0.1:7080"), Some("http://a")));
    assert_eq!(head.body, BodyLength::Exactly(12));
    assert!(head.keep_alive && head.json && !head.expect_continue);
    assert_eq!(head.headers("X-a").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(head.headers("x-empty").collect::<Vec<_>>(), [""]);
    assert_eq!(head.headers("x").count(), 0);
}

#[test]
fn http_1_0_needs_no_host_and_is_never_kept_alive() {
    let head = parsed("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((head.version, head.host, head.body), (Version::Http10, None, BodyLength::None));
    assert!(!head.keep_alive);
    assert!(!parsed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    let expecting = "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
    assert!(!parsed(expecting).expect_continue);
    parsed("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: other\r\n\r\n");
}

#[test]
fn all_methods_are_known_and_case_matters() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        assert_eq!(parsed(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).method.as_str(), method);
    }
    for method in ["get", "BREW", "GETT", "G!#$%&'*+-.^_`|~9"] {
        let error = refused(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(matches!(error, HeadError::NotImplemented(_)), "{method}: {error:?}");
    }
}

#[test]
fn the_four_forms_of_a_target() {
    let target = |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nHost: h:1\r\n\r\n");
    let cases = [
        ("GET", "/a//b?c=/?d", "/a//b", Some("c=/?d"), "h:1"),
        ("GET", "/?", "/", Some(""), "h:1"),
        ("GET", "//x/y", "//x/y", None, "h:1"),
        ("GET", "/http://x", "/http://x", None, "h:1"),
        ("GET", "http://b:2/c?d", "/c", Some("d"), "b:2"),
        ("GET", "HTTPS://[::1]:2", "/", None, "[::1]:2"),
        ("GET", "http://b?d", "/", Some("d"), "b"),
        ("OPTIONS", "*", "*", None, "h:1"),
        ("OPTIONS", "http://b", "*", None, "b"),
        ("OPTIONS", "http://b/", "/", None, "b"),
        ("CONNECT", "b:443", "b:443", None, "b:443"),
    ];
    for (method, sent, path, query, host) in cases {
        let text = target(method, sent);
        let head = parsed(&text);
        assert_eq!((head.path, head.query, head.host), (path, query, Some(host)), "{method} {sent}");
    }
    for sent in [
        "*",
        "x",
        "?x",
        "a:1",
        "/a#b",
        "/#",
        "#",
        "/ä",
        "/\u{7f}",
        "http://",
        "http:///x",
        "http://u@b/",
        "http://b:x/",
        "ftp://b/",
        "http:/b",
        "http://b#c",
        "http://b\\c/",
    ] {
        assert_bad(target("GET", sent));
    }
    for sent in ["/", "b", "b:", "http://b:1", "[::1]", "*", "u@b:1", "b:1/x"] {
        assert_bad(target("CONNECT", sent));
    }
    assert_bad(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_bad(target("GET", "**"));
    assert_bad(target("OPTIONS", "*?x"));
}

#[test]
fn a_request_line_is_three_words_between_single_spaces() {
    for line in [
        "GET",
        "GET /",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.1x",
        "GET / HTTP/11",
        "GET / HTTP/x.y",
        "GET / JUNK/1.1",
        " GET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / HTTP/1.1\rX: y",
        "GET /\rb HTTP/1.1",
    ] {
        assert_bad(format!("{line}\r\nHost: a\r\n\r\n"));
    }
    for version in ["2.0", "3.0", "0.9", "1.2", "9.9"] {
        let error = refused(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        assert_eq!(error, HeadError::VersionNotSupported, "{version}");
    }
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HeadError::VersionNotSupported);
}

#[test]
fn empty_lines_in_front_are_few() {
    for (front, good) in
        [("", true), ("\r\n", true), ("\r\n\r\n", true), ("\r\n\r\n\r\n", false), ("\r\r\n", false)]
    {
        let text = format!("{front}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match good {
            true => assert_eq!(parsed(&text).path, "/"),
            false => assert_bad(text),
        }
    }
}

#[test]
fn junk_is_refused_before_its_end_arrives() {
    for junk in [
        "\n",
        "\r\n\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\nHost: a\n",
        "\x16\x03\x01",
        "\0",
        "\u{e4}",
        " ",
    ] {
        assert_bad(junk);
    }
    assert_bad("GET / HTTP/1.1\nHost: a\n\n");
    for waiting in
        ["", "\r", "\r\n\r\n", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"]
    {
        assert_eq!(parse_head(waiting.as_bytes(), &mut 0, MAX), Ok(None), "{waiting:?}");
    }
}

#[test]
fn field_lines_are_strict() {
    for line in [
        "X : y",
        "X\t: y",
        ": y",
        "X",
        " X: y",
        "X: y\r\n folded",
        "X: y\r\n\tfolded",
        "X: a\0b",
        "X: a\x01b",
        "X: a\x7fb",
        "X: a\rb",
        "X: a\r\rb",
        "X:\r\r",
        "X\rY: z",
        "X(: y",
        "X\u{e4}: y",
        "X: y\nZ: w",
    ] {
        assert_bad(with(&format!("{line}\r\n")));
        // Also far behind the first bytes, where the parser works on whole vectors.
        assert_bad(with(&format!(
            "Long-Name-Of-A-Field-That-Is-Harmless: {}\r\n{line}\r\n",
            "v".repeat(100)
        )));
    }
    for control in (0..32).chain([127]).filter(|&byte| byte != b'\t') {
        assert_bad(with(&format!("X: {}{}{}\r\n", "v".repeat(70), char::from(control), "v".repeat(70))));
    }
    assert_eq!(parsed(&with("X: a\tb \u{e4}\r\n")).headers("x").next(), Some("a\tb \u{e4}"));
    let latin = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n";
    let (head, _) = parse_head(latin, &mut 0, MAX).unwrap().unwrap();
    assert_eq!(head.headers("x").collect::<Vec<_>>(), ["\u{FFFD}"]);
}

#[test]
fn there_is_one_host_and_it_is_valid() {
    assert_bad("GET / HTTP/1.1\r\n\r\n");
    assert_bad("GET http://a/ HTTP/1.1\r\n\r\n");
    for version in ["1.0", "1.1"] {
        assert_bad(format!("GET / HTTP/{version}\r\nHost: a\r\nHost: a\r\n\r\n"));
        for host in [
            "u@a", "u:p@a", "a b", "a, b", "a:x", "a:65536", "a:1:2", "http://a", "a/b", "::1", "[::1",
            "\u{e4}",
        ] {
            assert_bad(format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n"));
            assert_bad(format!("GET http://good/ HTTP/{version}\r\nHost: {host}\r\n\r\n"));
        }
        for host in ["a", "a:1", "A.b-c", "1.2.3.4:80", "[::1]", "[::1]:80", "a:", ""] {
            let text = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n");
            assert_eq!(parsed(&text).host, Some(host));
        }
    }
}

#[test]
fn what_can_only_be_said_once() {
    for name in ["Origin", "Content-Type", "Content-Length"] {
        assert_bad(with(&format!("{name}: 5\r\n{name}: 5\r\n")));
    }
}

#[test]
fn content_length_is_digits() {
    for value in ["", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5.0", "\u{665}", "18446744073709551616", "a"]
    {
        assert_bad(with(&format!("Content-Length: {value}\r\n")));
    }
    for (value, length) in [("0", 0), ("005", 5), ("18446744073709551615", u64::MAX)] {
        assert_eq!(parsed(&with(&format!("Content-Length: {value}\r\n"))).body, BodyLength::Exactly(length));
    }
    assert_eq!(parsed(&with("")).body, BodyLength::None);
}

#[test]
fn transfer_encoding_is_chunked_or_refused() {
    for value in ["chunked", "Chunked", "CHUNKED\t"] {
        assert_eq!(parsed(&with(&format!("Transfer-Encoding: {value}\r\n"))).body, BodyLength::Chunked);
    }
    for value in [
        "",
        ",",
        "chunked,",
        ", chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked;a=b",
        "chunked ;",
        "\"chunked\"",
        "gzip",
        "identity",
        "xchunked",
        "gzip;a=\"x, chunked\"",
        "chu nked",
    ] {
        assert_bad(with(&format!("Transfer-Encoding: {value}\r\n")));
    }
    for lines in
        ["Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"]
    {
        assert!(matches!(refused(with(lines)), HeadError::NotImplemented(_)), "{lines}");
    }
    assert_bad(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"));
    assert_bad(with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"));
    assert_bad(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"));
    assert_bad("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn connection_and_other_lists() {
    for (lines, keep_alive) in [
        ("", true),
        ("Connection: keep-alive\r\n", true),
        ("Connection: close\r\n", false),
        ("Connection: keep-alive, , CLOSE\r\n", false),
        ("Connection: Upgrade\r\nConnection: close\r\n", false),
        ("Connection: closed\r\n", true),
    ] {
        assert_eq!(parsed(&with(lines)).keep_alive, keep_alive, "{lines}");
    }
    let text = with("Connection: keep-alive\r\nCONNECTION: foo , Upgrade\r\nUpgrade: websocket\r\n");
    let head = parsed(&text);
    assert!(head.has_token("connection", "upgrade") && head.has_token("Upgrade", "WebSocket"));
    assert!(!head.has_token("Connection", "close") && !head.has_token("Upgrade", "web"));
}

#[test]
fn expectations() {
    let expecting = |body: &str, value: &str| with(&format!("{body}Expect: {value}\r\n"));
    assert!(parsed(&expecting("Content-Length: 1\r\n", "100-continue")).expect_continue);
    assert!(parsed(&expecting("Transfer-Encoding: chunked\r\n", "100-Continue")).expect_continue);
    assert!(!parsed(&expecting("", "100-continue")).expect_continue);
    assert!(!parsed(&expecting("Content-Length: 0\r\n", "100-continue")).expect_continue);
    for value in ["tea", "100-continue, tea", "100-continue=1", "\u{e4}"] {
        assert_eq!(refused(expecting("", value)), HeadError::ExpectationFailed, "{value}");
    }
}

#[test]
fn json_is_told_by_the_media_type_alone() {
    for (value, json) in [
        ("application/json", true),
        ("Application/JSON;charset=utf-8", true),
        ("application/json ; a=b", true),
        ("application/json5", false),
        ("application/problem+json", false),
        ("text/plain; a=application/json", false),
        ("application/json, text/plain", false),
        ("", false),
    ] {
        assert_eq!(parsed(&with(&format!("Content-Type: {value}\r\n"))).json, json, "{value}");
    }
}

#[test]
fn a_head_has_limits() {
    let text = with("X: y\r\n");
    assert!(parse_head(text.as_bytes(), &mut 0, text.len()).unwrap().is_some());
    assert_eq!(parse_head(text.as_bytes(), &mut 0, text.len() - 1), Err(HeadError::TooLarge));
    assert_eq!(parse_head(&text.as_bytes()[..20], &mut 0, 20), Err(HeadError::TooLarge));
    assert_eq!(parse_head(&text.as_bytes()[..19], &mut 0, 20), Ok(None));
    assert_eq!(refused("G".repeat(MAX)), HeadError::TooLarge);
    parsed(&with(&"X: y\r\n".repeat(MAX_HEADERS - 1)));
    assert_eq!(refused(with(&"X: y\r\n".repeat(MAX_HEADERS))), HeadError::TooLarge);
}

#[test]
fn the_next_request_is_left_alone() {
    let first = with("Content-Length: 3\r\n");
    let both = format!("{first}abc{first}");
    let (_, taken) = parse_head(both.as_bytes(), &mut 0, MAX).unwrap().unwrap();
    assert_eq!(taken, first.len());
}

#[test]
fn every_error_has_a_status_and_a_text() {
    for (error, status, code) in [
        (HeadError::BadRequest("x"), 400, "bad_request"),
        (HeadError::TooLarge, 431, "header_too_large"),
        (HeadError::NotImplemented("x"), 501, "not_implemented"),
        (HeadError::ExpectationFailed, 417, "expectation_failed"),
        (HeadError::VersionNotSupported, 505, "version_not_supported"),
    ] {
        assert_eq!((error.status(), error.code()), (status, code));
        assert!(!error.detail().is_empty() && !reason_phrase(status).is_empty());
    }
}

/// The first verdict on bytes that arrive one by one.
fn byte_by_byte(input: &[u8], max_bytes: usize) -> Result<Option<(Head<'_>, usize)>, HeadError> {
    let mut scanned = 0;
    for arrived in 0..=input.len() {
        match parse_head(&input[..arrived], &mut scanned, max_bytes) {
            Ok(None) => assert_eq!(parse_head(&input[..arrived], &mut 0, max_bytes), Ok(None)),
            verdict => return verdict,
        }
    }
    Ok(None)
}

/// Heads made of pieces that are likely to break a parser, right as often as wrong.
fn likely_head() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => Just("Host: a\r\n"), 1 => Just("Host : a\r\n"), 2 => Just("Content-Length: 5\r\n"),
        1 => Just("Transfer-Encoding: chunked\r\n"), 1 => Just(" folded\r\n"), 1 => Just("X: y\n"), 1 => Just("X:\r\r\n"),
        1 => Just("Connection: close\r\n"), 1 => Just("\r\n"), 1 => Just("\r"), 1 => Just("X"), 1 => Just("\u{e4}: \0\r\n"),
    ];
    let front = prop_oneof![6 => Just(""), 1 => Just("\r\n"), 1 => Just("\r\n\r\n\r\n"), 1 => Just("\n")];
    let request =
        prop_oneof![6 => Just("GET / HTTP/1.1\r\n"), 1 => Just("GET /\r\n"), 1 => Just("GET * HTTP/9.9\r\n")];
    (front, request, proptest::collection::vec(line, 0..6))
        .prop_map(|(front, request, lines)| format!("{front}{request}{}\r\nGET / HT", lines.concat()))
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_verdict(text in likely_head(), max_bytes in 0..120usize) {
        let whole = parse_head(text.as_bytes(), &mut 0, max_bytes);
        prop_assert_eq!(byte_by_byte(text.as_bytes(), max_bytes), whole);
        if let Ok(Some((_, taken))) = whole {
            prop_assert!(taken <= max_bytes && text[..taken].ends_with("\r\n\r\n"));
        }
    }

    #[test]
    fn a_changed_byte_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut text = with("Content-Length: 5\r\nConnection: close\r\nExpect: 100-continue\r\n").into_bytes();
        *at.get_mut(&mut text) = byte;
        if let Ok(Some((head, taken))) = parse_head(&text, &mut 0, MAX) {
            prop_assert_eq!(taken, text.len());
            prop_assert!(head.path.starts_with('/') && head.headers("host").count() == 1);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(byte_by_byte(&bytes, 100), parse_head(&bytes, &mut 0, 100));
    }
}
