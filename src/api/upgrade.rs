//! The WebSocket handshake's request (RFC 6455 section 4.2.1; SPEC section 4: path `/ws`, Origin rules).

use super::{Refusal, open_mode};
use crate::id::Class;
use crate::proto::http::{Head, Method, Version, host_name, origin_host};
use crate::proto::websocket::accept_key;

/// Checks an upgrade on the listener of `class`; the value of Sec-WebSocket-Accept if it may go on.
pub fn check(head: &Head<'_>, class: Class, page_origins: &[String]) -> Result<String, Refusal> {
    open_mode::check_host(head)?;
    match class {
        Class::Page => check_page_origin(head, page_origins)?,
        _ => open_mode::check_same_origin(head)?,
    }
    if head.path != "/ws" {
        return Err(Refusal::not_found("the WebSocket is at /ws"));
    }
    if head.method != Method::Get {
        return Err(Refusal::method_not_allowed(&[("Allow", "GET")]));
    }
    let upgrades = head.version == Version::Http11
        && head.has_token("connection", "upgrade")
        && head.has_token("upgrade", "websocket");
    if !upgrades {
        return Err(upgrade_required("this path takes a WebSocket upgrade only"));
    }
    if single(head, "sec-websocket-version") != Some("13") {
        return Err(upgrade_required("Sec-WebSocket-Version: 13 is the only one"));
    }
    single(head, "sec-websocket-key")
        .and_then(accept_key)
        .ok_or_else(|| Refusal::bad_request("Sec-WebSocket-Key: base64 of 16 bytes, once"))
}

/// 426 names what to upgrade to (RFC 9110 sections 7.8 and 15.5.22, RFC 6455 section 4.4).
fn upgrade_required(detail: &'static str) -> Refusal {
    const FIELDS: &[(&str, &str)] =
        &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
    Refusal { headers: FIELDS, ..Refusal::new(426, "upgrade_required", detail) }
}

fn single<'b>(head: &Head<'b>, name: &str) -> Option<&'b str> {
    let mut values = head.headers(name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// On the list; with an empty list: of the same host, or none at all.
fn check_page_origin(head: &Head<'_>, origins: &[String]) -> Result<(), Refusal> {
    let allowed = match head.origin {
        Some(origin) if origins.is_empty() => {
            let host = head.host.map(host_name);
            origin_host(origin).zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
        }
        Some(origin) => origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin)),
        None => origins.is_empty(),
    };
    if allowed { Ok(()) } else { Err(Refusal::forbidden("Origin: it is not on websocket.page.origins")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::parse_head;

    const GOOD: &str = "Host: 127.0.0.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn status(line: &str, headers: &str, class: Class, origins: &[&str]) -> u16 {
        let text = format!("{line} HTTP/1.1\r\n{headers}\r\n");
        let (head, _) = parse_head(text.as_bytes(), &mut 0, 4096).unwrap().unwrap();
        let origins: Vec<String> = origins.iter().map(|origin| origin.to_string()).collect();
        check(&head, class, &origins).map_or_else(|refusal| refusal.status, |_| 101)
    }

    #[test]
    fn the_handshake_of_the_rfc() {
        assert_eq!(status("GET /ws", GOOD, Class::App, &[]), 101);
        assert_eq!(status("GET /ws?access_token=x", GOOD, Class::App, &[]), 101);
        assert_eq!(status("GET /other", GOOD, Class::App, &[]), 404);
        assert_eq!(status("POST /ws", GOOD, Class::App, &[]), 405);
        assert_eq!(status("GET /ws", "Host: 127.0.0.1\r\n", Class::App, &[]), 426);
        assert_eq!(status("GET /ws", &GOOD.replace("13", "12"), Class::App, &[]), 426);
        assert_eq!(status("GET /ws", &GOOD.replace("dGhl", ""), Class::App, &[]), 400);
    }

    #[test]
    fn origins_of_pages_and_apps() {
        let from = |origin: &str| format!("{GOOD}Origin: {origin}\r\n");
        let listed = ["https://app.example"];
        assert_eq!(status("GET /ws", &from("http://127.0.0.1:8000"), Class::Page, &[]), 101);
        assert_eq!(status("GET /ws", &from("http://evil.example"), Class::Page, &[]), 403);
        assert_eq!(status("GET /ws", &from("null"), Class::Page, &[]), 403);
        assert_eq!(status("GET /ws", GOOD, Class::Page, &listed), 403);
        assert_eq!(status("GET /ws", &from("https://app.example"), Class::Page, &listed), 101);
        assert_eq!(status("GET /ws", &from("https://app.example:444"), Class::Page, &listed), 403);
        assert_eq!(status("GET /ws", &from("https://app.example"), Class::App, &listed), 403);
    }
}
