//! Problem documents, the body of every error (RFC 9457; contract section 3).

use std::borrow::Cow;

use serde::Serialize;

/// Sent as `application/problem+json`. `type` is left out and so is `about:blank`: `code` tells the problems apart.
#[derive(Clone, Debug, Serialize)]
pub struct Problem<'a> {
    pub status: u16,
    /// Stable; what programs look at.
    pub code: &'a str,
    pub title: &'a str,
    pub detail: Cow<'a, str>,
    /// Problems of a command: whether a byte of it was written to the router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<bool>,
}

impl Problem<'_> {
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_failed_says_whether_it_was_sent() {
        let mut problem = Problem {
            status: 504,
            code: "deadline_exceeded",
            title: "Gateway Timeout",
            detail: "no reply within 1000 ms".into(),
            sent: Some(true),
        };
        let json = r#"{"status":504,"code":"deadline_exceeded","title":"Gateway Timeout","detail":"no reply within 1000 ms","sent":true}"#;
        assert_eq!(problem.to_json(), json.as_bytes());
        problem.sent = None;
        assert!(!String::from_utf8(problem.to_json()).unwrap().contains("sent"));
    }

    #[test]
    fn texts_are_escaped() {
        let problem = Problem {
            status: 400,
            code: "bad_request",
            title: "Bad Request",
            detail: "\"\\\n\u{1}ä".into(),
            sent: None,
        };
        let parsed: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(parsed["detail"], "\"\\\n\u{1}ä");
    }
}
