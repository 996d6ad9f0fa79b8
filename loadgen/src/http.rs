//! Requests and answers of HTTP/1.1, as far as the contract's section 3 uses them: an answer has a Content-Length, or is a
//! long one in chunks ([`LongAnswer`]).

mod long;

use std::io::Write;

pub use long::LongAnswer;

/// One answer as it lies in the read buffer.
#[derive(Debug, PartialEq)]
pub struct Response<'a> {
    pub status: u16,
    pub content_type: &'a str,
    /// The header `Berth-Error: router` was there: the body is the router's own.
    pub router_error: bool,
    /// The server will close the connection behind it.
    pub close: bool,
    /// `Upgrade`, `Connection` and `Sec-WebSocket-Accept` of a 101.
    pub accept: Option<&'a str>,
    pub body: &'a [u8],
}

/// The `Content-Type` of a body with or without the JSON flag.
pub fn content_type(json: bool) -> &'static str {
    if json { "application/json" } else { "application/octet-stream" }
}

/// Appends a POST with a body; `content_type` is left out if empty.
pub fn post(out: &mut Vec<u8>, path: &str, host: &str, content_type: &str, body: &[u8]) {
    let _ = write!(out, "POST {path} HTTP/1.1\r\nHost: {host}\r\n");
    if !content_type.is_empty() {
        let _ = write!(out, "Content-Type: {content_type}\r\n");
    }
    let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

/// Appends a GET, with further header lines `extra`, each with its line end.
pub fn get(out: &mut Vec<u8>, path: &str, host: &str, extra: &str) {
    let _ = write!(out, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n");
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    /// Of 101 and 204.
    Bodiless,
    Length(usize),
    Chunked,
}

/// The answer at the start of `bytes` and its length, or `None` while it is incomplete.
///
/// # Errors
/// As [`head`]; an answer in chunks.
pub fn decode(bytes: &[u8]) -> Result<Option<(Response<'_>, usize)>, String> {
    let Some((mut response, framing, head_len)) = head(bytes)? else { return Ok(None) };
    let length = match framing {
        Framing::Bodiless => 0,
        Framing::Length(length) => length,
        Framing::Chunked => return Err("an answer in chunks".into()),
    };
    let Some(body) = bytes.get(head_len..head_len + length) else { return Ok(None) };
    response.body = body;
    Ok(Some((response, head_len + length)))
}

/// The head of the answer at the start of `bytes` (its body empty still) and its length, or `None` while it is incomplete.
///
/// # Errors
/// What is not HTTP/1.1, and a body without exactly one of Content-Length and chunks (101 and 204 have none).
pub fn head(bytes: &[u8]) -> Result<Option<(Response<'_>, Framing, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let head_len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not an HTTP answer: {error}")),
    };
    let mut response = Response {
        status: head.code.unwrap_or(0),
        content_type: "",
        router_error: false,
        close: false,
        accept: None,
        body: &[],
    };
    let (mut framing, mut upgrade, mut connection_upgrade) = (None, false, false);
    for header in head.headers.iter() {
        let value =
            std::str::from_utf8(header.value).map_err(|_| "a header that is not UTF-8".to_string())?.trim();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" | "transfer-encoding" if framing.is_some() => {
                return Err("a length that is said twice".into());
            }
            "content-length" => {
                let length = value.parse().map_err(|_| format!("Content-Length {value:?}"))?;
                framing = Some(Framing::Length(length));
            }
            "transfer-encoding" if value == "chunked" => framing = Some(Framing::Chunked),
            "transfer-encoding" => return Err(format!("Transfer-Encoding {value:?}")),
            "content-type" => response.content_type = value,
            "berth-error" => response.router_error = value == "router",
            "connection" => {
                response.close |= value.eq_ignore_ascii_case("close");
                connection_upgrade |= value.eq_ignore_ascii_case("upgrade");
            }
            "upgrade" => upgrade = value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-accept" => response.accept = Some(value),
            _ => {}
        }
    }
    if response.status == 101 && !(upgrade && connection_upgrade) {
        return Err("101 without Upgrade: websocket and Connection: Upgrade".into());
    }
    let bodiless = matches!(response.status, 101 | 204).then_some(Framing::Bodiless);
    let framing = bodiless.or(framing).ok_or("an answer without a length")?;
    Ok(Some((response, framing, head_len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_decodes_only_when_it_is_whole() {
        let bytes = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\nBerth-Error: router\r\n\
                      content-length: 2\r\nConnection: close\r\n\r\n{}HTTP/1.1";
        let whole = bytes.len() - "HTTP/1.1".len();
        for cut in 0..whole {
            assert_eq!(decode(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let (response, used) = decode(bytes).unwrap().unwrap();
        assert_eq!(
            (response.status, response.content_type, response.body),
            (502, "application/json", &b"{}"[..])
        );
        assert!(response.router_error && response.close);
        assert_eq!(used, whole);
    }

    #[test]
    fn an_upgrade_has_no_body() {
        let bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81";
        let (response, used) = decode(bytes).unwrap().unwrap();
        assert_eq!(response.accept, Some(crate::websocket::ACCEPT));
        assert_eq!(used, bytes.len() - 1);
        assert!(decode(b"HTTP/1.1 101 X\r\n\r\n").is_err());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        assert!(decode(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(decode(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx").is_err());
        assert!(decode(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(decode(b"SSH-2.0\r\n\r\n").is_err());
    }
}
