//! Why a request is not carried out: becomes `application/problem+json` (RFC 9457) on HTTP.

use crate::proto::http::{Answer, Problem, reason_phrase, write_answer};
use std::borrow::Cow;

/// Names and values of header fields.
pub type Headers = &'static [(&'static str, &'static str)];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people: which field, and what would be right.
    pub detail: Cow<'static, str>,
    /// For commands: whether a byte of it was written to the router.
    pub sent: Option<bool>,
    /// The header fields that go with the status, such as Allow.
    pub headers: Headers,
}

impl Refusal {
    pub fn new(status: u16, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), sent: None, headers: &[] }
    }

    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "bad_request", detail)
    }

    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "forbidden", detail)
    }

    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(404, "not_found", detail)
    }

    /// 405 with `allow`, an Allow field.
    pub fn method_not_allowed(allow: Headers) -> Self {
        let methods = allow.first().map_or("nothing", |(_, methods)| methods);
        Self { headers: allow, ..Self::new(405, "method_not_allowed", format!("this path takes {methods}")) }
    }

    pub fn router_offline() -> Self {
        Self::new(404, "router_offline", "the router is not bound")
    }

    pub fn sent(self, sent: bool) -> Self {
        Self { sent: Some(sent), ..self }
    }

    /// Writes the whole answer.
    pub fn write(&self, out: &mut Vec<u8>, close: bool, head_only: bool, date: &str) {
        let problem = Problem {
            status: self.status,
            code: self.code,
            title: reason_phrase(self.status),
            detail: Cow::Borrowed(&self.detail),
            sent: self.sent,
        };
        let answer = Answer {
            status: self.status,
            content_type: Some(Problem::CONTENT_TYPE),
            extra: self.headers,
            close,
            head_only,
        };
        write_answer(out, &answer, date, &problem.to_json());
    }
}

impl From<crate::proto::http::HeadError> for Refusal {
    fn from(error: crate::proto::http::HeadError) -> Self {
        Self::new(error.status(), error.code(), error.detail())
    }
}

impl From<crate::proto::http::BodyError> for Refusal {
    fn from(error: crate::proto::http::BodyError) -> Self {
        Self::new(error.status(), error.code(), error.detail())
    }
}
