//! Payloads inside JSON: `body` where it is JSON itself, `body_base64` where it is not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A payload, as it is going to stand in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// Valid JSON, which is written verbatim.
    Json(&'a [u8]),
    /// Anything else: the bytes themselves, which are encoded when written.
    Base64(&'a [u8]),
}

/// Takes a payload that came with or without the JSON flag. The flag is only a claim: what is not one JSON
/// value in UTF-8 would spoil the message around it. Checking needs no stack, however deep the value is.
pub fn body_of(bytes: &[u8], json_flag: bool) -> Body<'_> {
    if json_flag && serde_json::from_slice::<&RawValue>(bytes).is_ok() {
        Body::Json(bytes)
    } else {
        Body::Base64(bytes)
    }
}

/// The other way: the payload and its JSON flag out of the `body` and `body_base64` of a command or event.
/// Neither: an empty payload. The error names the member.
pub fn body_bytes<'a>(
    body: Option<&'a RawValue>,
    body_base64: Option<&str>,
) -> Result<(Cow<'a, [u8]>, bool), &'static str> {
    match (body, body_base64) {
        (None, None) => Ok((Cow::Borrowed(&[]), false)),
        (Some(json), None) => Ok((Cow::Borrowed(json.get().as_bytes()), true)),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Ok((Cow::Owned(bytes), false)),
            Err(_) => Err("body_base64 is not base64"),
        },
        (Some(_), Some(_)) => Err("body and body_base64 exclude each other"),
    }
}

/// Appends `"body":…` or `"body_base64":"…"`, without a comma on either side.
pub fn write_body_member(out: &mut Vec<u8>, body: Body<'_>) {
    match body {
        Body::Json(json) => {
            out.extend_from_slice(b"\"body\":");
            out.extend_from_slice(json);
        }
        Body::Base64(bytes) => {
            out.extend_from_slice(b"\"body_base64\":\"");
            let start = out.len();
            out.resize(start + base64_len(bytes.len()), 0);
            STANDARD.encode_slice(bytes, &mut out[start..]).expect("room for all of it");
            out.push(b'"');
        }
    }
}

/// Makes JSON fit for a place where a line ends the value (NDJSON, SSE). In strings line ends are escaped, so
/// those that are there are white space, and a space serves as well.
pub fn flatten_lines(json: &mut [u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

/// The same without touching what is given: copied only if there is a line end in it.
pub fn flat_lines(json: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', json).is_none() {
        return Cow::Borrowed(json);
    }
    let mut flat = json.to_vec();
    flatten_lines(&mut flat);
    Cow::Owned(flat)
}

impl Body<'_> {
    /// Bytes that [`write_body_member`] appends.
    pub(super) fn member_len(&self) -> usize {
        match self {
            Self::Json(json) => r#""body":"#.len() + json.len(),
            Self::Base64(bytes) => r#""body_base64":"""#.len() + base64_len(bytes.len()),
        }
    }
}

/// With padding (RFC 4648 section 4).
fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(body: Body<'_>) -> String {
        let mut out = Vec::new();
        write_body_member(&mut out, body);
        assert_eq!(out.len(), body.member_len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn valid_json_goes_verbatim() {
        for json in ["null", "1", " {\"a\" : [1e999, \"\\ud800\"]}\r\n", "\"é\"", "12345678901234567890123"]
        {
            assert_eq!(body_of(json.as_bytes(), true), Body::Json(json.as_bytes()));
            assert_eq!(member(body_of(json.as_bytes(), true)), format!("\"body\":{json}"));
        }
    }

    #[test]
    fn everything_else_goes_as_base64() {
        for bytes in [
            &b""[..],
            b" ",
            b"{",
            b"1 2",
            b"NaN",
            b"{a:1}",
            b"\"\xFF\"",
            b"\"\xED\xA0\x80\"",
            b"\"\n\"",
            b"[1,]",
            b"\0",
        ] {
            assert_eq!(body_of(bytes, true), Body::Base64(bytes));
        }
        assert_eq!(body_of(b"1", false), Body::Base64(b"1"));
        assert_eq!(member(Body::Base64(b"")), r#""body_base64":"""#);
        assert_eq!(member(Body::Base64(b"\xFF\x00")), r#""body_base64":"/wA=""#);
    }

    #[test]
    fn depth_does_not_cost_stack() {
        let mut deep = "[{\"a\":".repeat(100_000) + "1" + &"}]".repeat(100_000);
        let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
        let check = small_stack.spawn(move || {
            assert!(matches!(body_of(deep.as_bytes(), true), Body::Json(_)));
            deep.pop();
            assert!(matches!(body_of(deep.as_bytes(), true), Body::Base64(_)));
        });
        check.unwrap().join().unwrap();
    }

    #[test]
    fn payload_of_a_request() {
        let json = serde_json::from_str::<&RawValue>(" [1, 2] ").unwrap();
        assert_eq!(body_bytes(Some(json), None).unwrap(), (Cow::Borrowed(&b"[1, 2]"[..]), true));
        assert_eq!(body_bytes(Some(RawValue::NULL), None).unwrap(), (Cow::Borrowed(&b"null"[..]), true));
        assert_eq!(body_bytes(None, Some("/wA=")).unwrap(), (Cow::Borrowed(&b"\xFF\x00"[..]), false));
        assert_eq!(body_bytes(None, None).unwrap(), (Cow::Borrowed(&b""[..]), false));
        assert!(body_bytes(None, Some("/w")).is_err());
        assert!(body_bytes(None, Some("/w A=")).is_err());
        assert!(body_bytes(Some(json), Some("")).is_err());
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes: Vec<u8>) {
            let written = member(Body::Base64(&bytes));
            let text = written.strip_prefix("\"body_base64\":\"").unwrap().strip_suffix('"').unwrap();
            prop_assert_eq!(body_bytes(None, Some(text)), Ok((Cow::Owned(bytes), false)));
        }

        #[test]
        fn lines_become_spaces(text in "[ab \r\n]{0,40}") {
            let mut flat = text.clone().into_bytes();
            flatten_lines(&mut flat);
            prop_assert_eq!(flat, text.replace(['\r', '\n'], " ").into_bytes());
        }
    }
}
