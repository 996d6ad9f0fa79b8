//! Fleet commands (SPEC section 3): what the body of a call asks for, and the lines of its answer.

use super::Refusal;
use crate::core::fleet::Names;
use crate::limits::{DEFAULT_TIMEOUT_MS, MAX_MESSAGE_BYTES, TIMEOUT_MS};
use crate::proto::jsonrpc::{body_bytes, by_name, even_null};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Whom a call names.
#[derive(Debug)]
pub enum Routers {
    /// `*`: who is bound.
    All,
    /// Each once, in the order of the call; they need not be good ids.
    These(Names),
}

/// What a call asks for.
#[derive(Debug)]
pub struct FleetCall<'b> {
    pub routers: Routers,
    pub timeout: Duration,
    pub body: Cow<'b, [u8]>,
    pub json: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'b> {
    routers: Routers,
    timeout_ms: Option<u64>,
    /// JSON as it stands; null is a body like any other.
    #[serde(borrow, default, deserialize_with = "even_null")]
    body: Option<&'b RawValue>,
    body_base64: Option<Cow<'b, str>>,
}

impl<'b> FleetCall<'b> {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// 400 naming the member; 413 for a payload that no message of the router link can carry.
    pub fn parse(body: &'b [u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::bad_request("the body is not UTF-8"))?;
        let members: Members<'b> = by_name(text).map_err(Refusal::bad_request)?;
        let timeout_ms = members.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !TIMEOUT_MS.contains(&timeout_ms) {
            return Err(Refusal::bad_request("timeout_ms: a whole number from 1 to 600000"));
        }
        let (body, json) =
            body_bytes(members.body, members.body_base64.as_deref()).map_err(Refusal::bad_request)?;
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(Refusal::new(413, "too_large", "body: at most 1048576 bytes"));
        }
        let timeout = Duration::from_millis(timeout_ms);
        Ok(Self { routers: members.routers, timeout, body, json })
    }
}

impl<'b> Deserialize<'b> for Routers {
    fn deserialize<D: Deserializer<'b>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RoutersVisitor)
    }
}

struct RoutersVisitor;

impl<'b> Visitor<'b> for RoutersVisitor {
    type Value = Routers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of router ids, or \"*\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Routers, E> {
        match text {
            "*" => Ok(Routers::All),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut ids: A) -> Result<Routers, A::Error> {
        #[derive(Deserialize, PartialEq, Eq, Hash)]
        struct Id<'b>(#[serde(borrow)] Cow<'b, str>);

        let (mut names, mut seen) = (Names::default(), HashSet::new());
        while let Some(Id(id)) = ids.next_element()? {
            if !seen.contains(&id) {
                names.push(&id);
                seen.insert(id);
            }
        }
        Ok(Routers::These(names))
    }
}

/// Appends a line up to its body: `{"router":…,"status":…,"code":…`, without a comma or an end.
pub fn begin_line(out: &mut Vec<u8>, router: &str, status: u16, code: Option<&str>) {
    out.extend_from_slice(b"{\"router\":");
    serde_json::to_writer(&mut *out, router).expect("texts always have a JSON form");
    out.extend_from_slice(b",\"status\":");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    if let Some(code) = code {
        out.extend_from_slice(b",\"code\":\"");
        out.extend_from_slice(code.as_bytes());
        out.push(b'"');
    }
}

/// Appends the whole line of a router that was not asked, or did not answer. `sent`: a byte of the command was written to it.
pub fn problem_line(out: &mut Vec<u8>, router: &str, status: u16, code: &str, sent: bool) {
    begin_line(out, router, status, Some(code));
    out.extend_from_slice(if sent { b",\"sent\":true}\n" } else { b",\"sent\":false}\n" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(body: &str) -> String {
        let refusal = FleetCall::parse(body.as_bytes()).expect_err("a refusal");
        assert_eq!((refusal.status, refusal.code), (400, "bad_request"));
        refusal.detail.into_owned()
    }

    fn names(body: &str) -> Vec<String> {
        match FleetCall::parse(body.as_bytes()).unwrap().routers {
            Routers::All => vec!["*".into()],
            Routers::These(names) => (0..names.len()).map(|n| names.get(n).unwrap().to_owned()).collect(),
        }
    }

    #[test]
    fn what_a_call_says() {
        let call = FleetCall::parse(br#"{"routers":["a"],"timeout_ms":7,"body": [1, null] }"#).unwrap();
        assert_eq!((&*call.body, call.json, call.timeout.as_millis()), (&b"[1, null]"[..], true, 7));
        let call = FleetCall::parse(br#"{"body_base64":"/wA=","routers":"*"}"#).unwrap();
        assert_eq!((&*call.body, call.json, call.timeout.as_millis()), (&b"\xff\x00"[..], false, 1000));
        let call = FleetCall::parse(br#"{"routers":[],"body":null,"timeout_ms":null}"#).unwrap();
        assert_eq!((&*call.body, call.json), (&b"null"[..], true));
        let call = FleetCall::parse(br#"{"routers":[]}"#).unwrap();
        assert!(call.body.is_empty() && !call.json);
    }

    #[test]
    fn duplicates_count_once_and_the_order_stays() {
        assert_eq!(names(r#"{"routers":["b","a","b","\u0061","c"]}"#), ["b", "a", "c"]);
        assert_eq!(names(r#"{"routers":["*",""]}"#), ["*", ""], "neither is an id, and each gets its line");
        assert_eq!(names(r#"{"routers":"*"}"#), ["*"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, detail) in [
            ("{}", "missing field `routers`"),
            (
                r#"{"routers":"a"}"#,
                "routers: invalid value: string \"a\", expected an array of router ids, or \"*\"",
            ),
            (r#"{"routers":null}"#, "routers: invalid type: null, expected an array of router ids, or \"*\""),
            (r#"{"routers":["a",1]}"#, "routers: invalid type: integer `1`, expected a string"),
            (r#"{"routers":[],"routers":[]}"#, "duplicate field `routers`"),
            (r#"{"routers":[],"timeout_ms":0}"#, "timeout_ms: a whole number from 1 to 600000"),
            (r#"{"routers":[],"timeout_ms":600001}"#, "timeout_ms: a whole number from 1 to 600000"),
            (r#"{"routers":[],"body":1,"body_base64":""}"#, "body and body_base64 exclude each other"),
            (r#"{"routers":[],"body_base64":"?"}"#, "body_base64 is not base64"),
            ("[]", "invalid type: sequence, expected an object with named members"),
        ] {
            assert_eq!(refused(body), detail);
        }
        for (body, named) in [
            (r#"{"routers":[],"timeout_ms":-1}"#, "timeout_ms: "),
            (r#"{"routers":[],"timeout_ms":1.5}"#, "timeout_ms: "),
            (r#"{"routers":[],"body_base64":7}"#, "body_base64: "),
            (r#"{"routers":[],"oneway":true}"#, "unknown field `oneway`"),
        ] {
            assert!(refused(body).starts_with(named), "{}", refused(body));
        }
        for body in ["", "{", "{\"routers\":[]} x"] {
            refused(body);
        }
        assert_eq!(FleetCall::parse(b"\"\xff\"").unwrap_err().detail, "the body is not UTF-8");
    }

    #[test]
    fn a_payload_longer_than_a_message_is_too_large() {
        let call = |length| format!(r#"{{"routers":[],"body":"{}"}}"#, "x".repeat(length - 2));
        assert!(FleetCall::parse(call(MAX_MESSAGE_BYTES).as_bytes()).is_ok());
        let refusal = FleetCall::parse(call(MAX_MESSAGE_BYTES + 1).as_bytes()).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (413, "too_large"));
    }

    #[test]
    fn lines_are_compact_and_texts_escaped() {
        let mut out = Vec::new();
        problem_line(&mut out, "a", 404, "router_offline", false);
        problem_line(&mut out, "\"\n", 400, "bad_request", true);
        let expected = concat!(
            r#"{"router":"a","status":404,"code":"router_offline","sent":false}"#,
            "\n",
            r#"{"router":"\"\n","status":400,"code":"bad_request","sent":true}"#,
            "\n"
        );
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    }
}
