//! Answers to calls. They are appended to whatever is there, so that a batch's answers can be gathered in one
//! array.

use super::body::{Body, write_body_member};
use super::codes;

/// What goes wrong, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcError<'a> {
    /// One of [`codes`].
    pub code: i32,
    pub message: &'a str,
    /// `data.code`, the stable name.
    pub data_code: &'a str,
    /// `data.detail`: what is wrong in this very case.
    pub detail: Option<&'a str>,
    /// `data.sent`, of a command: whether the router may have got it.
    pub sent: Option<bool>,
    /// `data.body` or `data.body_base64`: what the router itself said about its error.
    pub body: Option<Body<'a>>,
}

impl RpcError<'_> {
    /// Only the code and its words.
    pub fn new(code: i32) -> Self {
        Self {
            code,
            message: codes::message(code),
            data_code: codes::code_name(code),
            detail: None,
            sent: None,
            body: None,
        }
    }
}

/// Appends the answer to a call that went well. `id` and `result_json` are JSON already.
pub fn write_result(out: &mut Vec<u8>, id: &str, result_json: &[u8]) {
    write_id(out, id);
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(result_json);
    out.push(b'}');
}

/// Appends the answer to a call that did not. `id` is JSON already, `null` where it could not be read.
pub fn write_error(out: &mut Vec<u8>, id: &str, error: &RpcError<'_>) {
    write_id(out, id);
    out.extend_from_slice(b",\"error\":{\"code\":");
    out.extend_from_slice(itoa::Buffer::new().format(error.code).as_bytes());
    out.extend_from_slice(b",\"message\":");
    write_string(out, error.message);
    out.extend_from_slice(b",\"data\":{\"code\":");
    write_string(out, error.data_code);
    if let Some(detail) = error.detail {
        out.extend_from_slice(b",\"detail\":");
        write_string(out, detail);
    }
    if let Some(sent) = error.sent {
        out.extend_from_slice(if sent { b",\"sent\":true" } else { b",\"sent\":false" });
    }
    if let Some(body) = error.body {
        out.push(b',');
        write_body_member(out, body);
    }
    out.extend_from_slice(b"}}}");
}

fn write_id(out: &mut Vec<u8>, id: &str) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.as_bytes());
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_result() {
        let answer = written(|out| write_result(out, "\"a\"", b"{\"body\":1}"));
        assert_eq!(answer, r#"{"jsonrpc":"2.0","id":"a","result":{"body":1}}"#);
    }

    #[test]
    fn an_error_says_only_what_there_is() {
        let error = RpcError::new(codes::PARSE_ERROR);
        assert_eq!(
            written(|out| write_error(out, "null", &error)),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":{"code":"parse_error"}}}"#
        );
    }

    #[test]
    fn an_error_with_everything() {
        let error = RpcError {
            detail: Some("say \"x\"\n"),
            sent: Some(true),
            body: Some(Body::Json(b"[1]")),
            ..RpcError::new(codes::ROUTER_ERROR)
        };
        assert_eq!(
            written(|out| write_error(out, "7", &error)),
            concat!(
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32003,"message":"The router answered with an error","#,
                r#""data":{"code":"router_error","detail":"say \"x\"\n","sent":true,"body":[1]}}}"#
            )
        );
        let error = RpcError { sent: Some(false), body: Some(Body::Base64(b"x")), ..error };
        let answer = written(|out| write_error(out, "7", &error));
        assert!(answer.ends_with(r#""sent":false,"body_base64":"eA=="}}}"#), "{answer}");
    }
}
