//! Texts that name things: percent-encoding, query strings, request targets, hosts, origins.

use super::answers::check_refusal;
use berth::api::routes::{Call, route};
use berth::proto::http::{
    host_name, is_address_or_localhost, origin_host, parse_head, percent_decode, query_pairs,
};
use std::net::IpAddr;

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    check_percent(text);
    check_query(text);
    check_hosts(text);
    check_in_request(text);
}

fn check_percent(text: &str) {
    assert_eq!(percent_decode(text).map(|decoded| decoded.into_owned()), decoded(text));
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(percent_decode(&encoded).as_deref(), Some(text), "what is encoded comes back");
}

/// By pieces between the percent signs, each but the first with two hex digits in front.
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

fn check_query(text: &str) {
    let mut pairs = query_pairs(text);
    for piece in text.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let read = pairs.next().expect("a pair for each piece");
        match (decoded(name), decoded(value)) {
            (Some(name), Some(value)) => assert_eq!(read, Ok((name.into(), value.into()))),
            _ => assert_eq!(read.expect_err("a bad escape").name, name),
        }
    }
    assert!(pairs.next().is_none());
}

fn check_hosts(text: &str) {
    let is_address = text.parse::<IpAddr>().is_ok();
    assert_eq!(is_address_or_localhost(text), is_address || text.eq_ignore_ascii_case("localhost"));
    assert!(text.contains(host_name(text)));
    if let Some(host) = origin_host(text) {
        let (_, authority) = text.split_once("://").expect("an origin has a scheme");
        assert_eq!(host_name(authority), host);
        assert!(is_plain_authority(authority) && !host.is_empty(), "{text:?}");
    }
}

/// Nothing in it that ends an authority, begins a user's name or ends a line.
fn is_plain_authority(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@%\\\"<>".contains(&byte))
}

/// As the target, the Host and the Origin of a request.
fn check_in_request(text: &str) {
    if text.contains(|c: char| c.is_ascii_whitespace()) {
        // It would not be one thing of the request but several.
        return;
    }
    let request = format!("GET {text} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    if let Ok(Some((head, _))) = parse_head(request.as_bytes(), &mut 0, usize::MAX) {
        let again = head.query.map_or(head.path.to_owned(), |query| format!("{}?{query}", head.path));
        assert_eq!(text.starts_with('/'), text == again, "{text:?} became {again:?}");
        assert!(text.starts_with('/') || head.host.is_some_and(is_plain_authority), "{text:?}");
    }
    let request = format!("GET / HTTP/1.1\r\nHost: {text}\r\nOrigin: {text}\r\n\r\n");
    if let Ok(Some((head, _))) = parse_head(request.as_bytes(), &mut 0, usize::MAX) {
        assert_eq!((head.host, head.origin), (Some(text), Some(text)));
        assert!(is_plain_authority(text), "{text:?}");
    }
    let request = format!("GET /v1/routers?{text} HTTP/1.1\r\nHost: [::1]:7080\r\n\r\n");
    if let Ok(Some((head, _))) = parse_head(request.as_bytes(), &mut 0, usize::MAX) {
        match route(&head) {
            Ok(Call::ListRouters(page)) => assert!((1..=1000).contains(&page.limit)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => check_refusal(&refusal),
        }
    }
}
