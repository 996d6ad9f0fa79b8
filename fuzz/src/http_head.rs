//! Heads of requests: against a reading of the lines that knows nothing but CRLF and the first colon.

use super::answers::check_refusal;
use super::pieces::{cuttings, feed};
use berth::api::{routes, upgrade};
use berth::id::Class;
use berth::proto::http::{BodyLength, Head, MAX_HEADERS, Method, Version, parse_head};

/// Low enough for an input of any size to go over it.
const MAX_HEAD_BYTES: usize = 2048;

pub fn check(data: &[u8]) {
    let whole = parse_head(data, &mut 0, MAX_HEAD_BYTES);
    for pieces in cuttings(data) {
        let (mut scanned, mut ended) = (0, false);
        feed(&pieces, |waiting| {
            let parsed = parse_head(waiting, &mut scanned, MAX_HEAD_BYTES);
            if parsed == Ok(None) {
                assert!(scanned <= waiting.len());
                return Some(0);
            }
            assert_eq!(parsed, whole, "the cut changed the meaning");
            ended = true;
            None
        });
        assert_eq!(ended, whole != Ok(None));
    }
    match whole {
        Ok(Some((head, used))) => {
            assert!(used <= data.len().min(MAX_HEAD_BYTES));
            check_lines(&data[..used], &head);
            check_rules(&head);
            check_use(&head);
        }
        Ok(None) => assert!(data.len() < MAX_HEAD_BYTES),
        Err(error) => check_refusal(&error.into()),
    }
}

fn check_lines(bytes: &[u8], head: &Head<'_>) {
    let text = bytes.trim_ascii_start();
    let mut lines: Vec<&[u8]> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        lines.push(line.strip_suffix(b"\r").unwrap_or(line));
    }
    assert!(bytes.ends_with(b"\r\n\r\n"));
    assert_eq!(lines.split_off(lines.len() - 2), [b"", b""], "the head ends with the first empty line");
    assert!(lines.iter().all(|line| !line.is_empty() && !line.contains(&b'\r')), "a bare CR or an early end");
    assert!(lines.len() <= 1 + MAX_HEADERS);
    let fields: Vec<(String, &[u8])> = lines[1..]
        .iter()
        .map(|line| {
            let colon = line.iter().position(|&byte| byte == b':').expect("a colon in every field line");
            (String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), line[colon + 1..].trim_ascii())
        })
        .collect();
    let values = |name: &str| -> Vec<&str> {
        let of_name = fields.iter().filter(|(field, _)| field == name);
        of_name.map(|(_, value)| str::from_utf8(value).unwrap_or("\u{FFFD}")).collect()
    };

    for (name, _) in &fields {
        assert_eq!(head.headers(name).collect::<Vec<_>>(), values(name));
        assert_eq!(head.headers(&name.to_ascii_uppercase()).count(), values(name).len());
    }
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match head.body {
        BodyLength::None => assert!(lengths.is_empty() && codings.is_empty()),
        BodyLength::Exactly(length) => {
            assert!(codings.is_empty() && lengths.len() == 1);
            assert!(lengths[0].bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(lengths[0].parse(), Ok(length));
        }
        BodyLength::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case("chunked") && head.version == Version::Http11);
        }
    }
    assert!(values("host").len() == 1 || head.version == Version::Http10 && values("host").is_empty());
    assert!(values("origin").len() <= 1 && head.origin == values("origin").first().copied());
    assert!(lines[0].starts_with(head.method.as_str().as_bytes()));
    assert!(lines[0].ends_with(if head.version == Version::Http11 { b" HTTP/1.1" } else { b" HTTP/1.0" }));
}

fn check_rules(head: &Head<'_>) {
    let is_path = head.path.starts_with('/') || head.path == "*" && head.method == Method::Options;
    assert!(is_path || head.method == Method::Connect, "{head:?}");
    assert!(head.path.bytes().chain(head.query.unwrap_or("").bytes()).all(|byte| byte.is_ascii_graphic()));
    assert!(head.version == Version::Http11 || !head.keep_alive && !head.expect_continue);
    assert!(!head.keep_alive || !head.has_token("connection", "close"));
    assert!(!head.expect_continue || !matches!(head.body, BodyLength::None | BodyLength::Exactly(0)));
}

/// What the listeners do with a head, neither of which may panic.
fn check_use(head: &Head<'_>) {
    match routes::route(head) {
        Ok(call) => assert_eq!(call.clone().into_owned(), call),
        Err(refusal) => check_refusal(&refusal),
    }
    for class in [Class::App, Class::Page] {
        for origins in [&[][..], &["https://app.example".to_owned()]] {
            match upgrade::check(head, class, origins) {
                Ok(accept) => assert_eq!(accept.len(), 28, "20 bytes in base64"),
                Err(refusal) => check_refusal(&refusal),
            }
        }
    }
}
