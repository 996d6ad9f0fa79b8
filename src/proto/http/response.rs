//! Answers, appended to a buffer (RFC 9112 section 4). No formatting machinery: this is on the path of every command.

/// The interim answer that a caller with `Expect: 100-continue` waits for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The head of an answer; its body goes beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    pub status: u16,
    pub content_type: Option<&'a str>,
    /// Further fields. Names and values are the program's own texts, never a peer's.
    pub extra: &'a [(&'a str, &'a str)],
    /// The connection ends behind this answer; always so for HTTP/1.0: `!head.keep_alive`.
    pub close: bool,
    /// The answer to HEAD: all of the head, with the body's length, and no body.
    pub head_only: bool,
}

/// How the end of a body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// Content-Length.
    Length(usize),
    /// The last chunk.
    LastChunk,
    /// The end of the connection: for HTTP/1.0, which knows no chunks.
    Close,
}

/// Appends one whole answer. `date` is an IMF-fixdate (RFC 9110 section 5.6.7).
///
/// 1xx and 204 have neither Content-Length nor body (RFC 9110 section 8.6), 304 has no body.
pub fn write_answer(out: &mut Vec<u8>, answer: &Answer<'_>, date: &str, body: &[u8]) {
    let has_length = answer.status >= 200 && answer.status != 204;
    let body_sent = if has_length && answer.status != 304 && !answer.head_only { body } else { &[] };
    let extra_bytes: usize = answer.extra.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    out.reserve(160 + answer.content_type.map_or(0, str::len) + extra_bytes + body_sent.len());
    write_head(out, answer, date, has_length.then_some(BodyEnd::Length(body.len())));
    out.extend_from_slice(body_sent);
}

/// Appends the head alone; without an end there is no body.
pub fn write_head(out: &mut Vec<u8>, answer: &Answer<'_>, date: &str, end: Option<BodyEnd>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, answer.status.into());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(answer.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    write_field(out, "Date", date);
    if let Some(content_type) = answer.content_type {
        write_field(out, "Content-Type", content_type);
    }
    match end {
        Some(BodyEnd::Length(bytes)) => {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, bytes as u64);
            out.extend_from_slice(b"\r\n");
        }
        Some(BodyEnd::LastChunk) => write_field(out, "Transfer-Encoding", "chunked"),
        Some(BodyEnd::Close) | None => {}
    }
    if answer.close {
        write_field(out, "Connection", "close");
    }
    for (name, value) in answer.extra {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(!value.contains(['\r', '\n']), "a line break in {name} would begin another field");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The phrase of RFC 9110 section 15 (431: RFC 6585); empty, which is legal, for a status that Berth never sends.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sat, 21 Nov 2026 10:00:00 GMT";

    fn written(answer: Answer<'_>, body: &[u8]) -> String {
        let mut out = b"before".to_vec();
        write_answer(&mut out, &answer, DATE, body);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn a_whole_answer() {
        let answer = Answer {
            status: 502,
            content_type: Some("application/json"),
            extra: &[("Berth-Error", "router"), ("X-A", "b")],
            close: true,
            head_only: false,
        };
        assert_eq!(
            written(answer, b"{}"),
            "HTTP/1.1 502 Bad Gateway\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\nConnection: close\r\nBerth-Error: router\r\nX-A: b\r\n\r\n{}"
        );
    }

    #[test]
    fn an_empty_answer_has_a_length() {
        let answer = Answer { status: 202, ..Answer::default() };
        let date = "Date: Sat, 21 Nov 2026 10:00:00 GMT";
        assert_eq!(
            written(answer, b""),
            format!("HTTP/1.1 202 Accepted\r\n{date}\r\nContent-Length: 0\r\n\r\n")
        );
    }

    #[test]
    fn head_keeps_the_length_and_leaves_out_the_body() {
        let head = written(Answer { status: 200, head_only: true, ..Answer::default() }, b"12345");
        assert!(head.ends_with("\r\nContent-Length: 5\r\n\r\n"), "{head}");
    }

    #[test]
    fn statuses_without_content_have_neither_length_nor_body() {
        for status in [101, 204] {
            let text = written(Answer { status, ..Answer::default() }, b"body");
            assert!(!text.contains("Content-Length") && text.ends_with("GMT\r\n\r\n"), "{text}");
        }
    }

    #[test]
    fn an_answer_is_one_allocation_at_most() {
        let mut out = Vec::new();
        let extra = [("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ("Upgrade", "websocket")];
        let answer = Answer {
            status: 431,
            content_type: Some("application/problem+json"),
            extra: &extra,
            close: true,
            head_only: false,
        };
        write_answer(&mut out, &answer, DATE, &[b'x'; 5000]);
        // A buffer that had to grow again would have doubled.
        assert!(out.capacity() < out.len() + 160, "{} of {}", out.len(), out.capacity());
    }
}
