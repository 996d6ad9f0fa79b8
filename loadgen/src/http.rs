//! Requests and answers of HTTP/1.1, as far as the contract's section 3 uses them: every answer has a Content-Length.

use std::io::Write;

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

/// The answer at the start of `bytes` and its length, or `None` while it is incomplete.
///
/// # Errors
/// What is not HTTP/1.1, and an answer without exactly one Content-Length (a 101 has none).
pub fn decode(bytes: &[u8]) -> Result<Option<(Response<'_>, usize)>, String> {
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
    let (mut content_length, mut upgrade, mut connection_upgrade) = (None, false, false);
    for header in head.headers.iter() {
        let value =
            std::str::from_utf8(header.value).map_err(|_| "a header that is not UTF-8".to_string())?.trim();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" if content_length.is_none() => {
                content_length =
                    Some(value.parse::<usize>().map_err(|_| format!("Content-Length {value:?}"))?);
            }
            "content-length" => return Err("two Content-Lengths".into()),
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
    if response.status == 101 {
        if !upgrade || !connection_upgrade {
            return Err("101 without Upgrade: websocket and Connection: Upgrade".into());
        }
        return Ok(Some((response, head_len)));
    }
    if response.status == 204 {
        return Ok(Some((response, head_len)));
    }
    let length = content_length.ok_or("an answer without Content-Length")?;
    let Some(body) = bytes.get(head_len..head_len + length) else { return Ok(None) };
    response.body = body;
    Ok(Some((response, head_len + length)))
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
