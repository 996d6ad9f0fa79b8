//! Calls and batches of calls, as clients send them.

use super::RpcError;
use super::codes::{self, INVALID_REQUEST, PARSE_ERROR};
use crate::limits::MAX_BATCH;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The longest `id`, in bytes of JSON. A pending call keeps its id, so it must not be as long as a message
/// may be.
pub const MAX_CALL_ID_BYTES: usize = 256;

const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// One text message.
#[derive(Debug)]
pub enum Incoming<'i> {
    One(Result<Call<'i>, Refusal<'i>>),
    /// From 1 to [`MAX_BATCH`] of them, in order. Their answers go out in one array, unless there is none.
    Batch(Vec<Result<Call<'i>, Refusal<'i>>>),
}

/// A request object that is as it should be.
#[derive(Debug, Clone)]
pub struct Call<'i> {
    /// A string, number or null, to be written back verbatim. `None`: a notification, which is never
    /// answered.
    pub id: Option<&'i RawValue>,
    pub method: Cow<'i, str>,
    /// An object or array.
    pub params: Option<&'i RawValue>,
}

/// A request object that is not. It is always answered, even without an id.
#[derive(Debug, Clone)]
pub struct Refusal<'i> {
    /// `None`: it could not be read, which is answered with null.
    pub id: Option<&'i RawValue>,
    /// −32700 or −32600.
    pub code: i32,
    pub message: &'static str,
    pub detail: Cow<'static, str>,
}

impl Refusal<'_> {
    /// The id to answer with, as JSON.
    pub fn id(&self) -> &str {
        self.id.map_or("null", RawValue::get)
    }

    pub fn error(&self) -> RpcError<'_> {
        RpcError { detail: Some(&self.detail), ..RpcError::new(self.code) }
    }
}

/// Reads one text message. Never fails: what cannot be understood is a refusal to be sent back.
///
/// Members that JSON-RPC does not know are ignored, as its other servers do; one that stands twice is
/// refused, because two readers could take different ones. The message limit is all that bounds length and
/// depth, so nothing here recurses.
pub fn parse(text: &str) -> Incoming<'_> {
    if !begins_with(text, '[') {
        return Incoming::One(parse_one(text));
    }
    let batch = match serde_json::from_str::<Batch<'_>>(text) {
        Ok(batch) => batch,
        Err(error) => return Incoming::One(Err(Refusal::syntax(&error))),
    };
    match batch.len {
        0 => Incoming::One(Err(Refusal::invalid(None, "the batch is empty"))),
        1..=MAX_BATCH => Incoming::Batch(batch.calls.into_iter().map(|call| parse_one(call.get())).collect()),
        _ => Incoming::One(Err(Refusal::invalid(None, "the batch is too long"))),
    }
}

fn parse_one(text: &str) -> Result<Call<'_>, Refusal<'_>> {
    if !begins_with(text, '{') {
        return Err(match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Refusal::invalid(None, "not an object"),
            Err(error) => Refusal::syntax(&error),
        });
    }
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| Refusal::syntax(&error))?;
    if members.repeated {
        return Err(Refusal::invalid(None, "a member stands twice"));
    }
    let id = members.id;
    if id.is_some_and(|id| id.get().starts_with(['{', '[', 't', 'f'])) {
        return Err(Refusal::invalid(None, "id must be a string, a number or null"));
    }
    let invalid = |detail| Refusal::invalid(id, detail);
    if id.is_some_and(|id| id.get().len() > MAX_CALL_ID_BYTES) {
        return Err(invalid("id is too long"));
    }
    if string(members.jsonrpc).as_deref() != Some("2.0") {
        return Err(invalid("jsonrpc must be \"2.0\""));
    }
    let method = string(members.method).ok_or_else(|| invalid("method must be a string"))?;
    if members.params.is_some_and(|params| !params.get().starts_with(['{', '['])) {
        return Err(invalid("params must be an object or an array"));
    }
    Ok(Call { id, method, params: members.params })
}

fn begins_with(text: &str, first: char) -> bool {
    text.trim_start_matches(WHITE_SPACE).starts_with(first)
}

fn string<'i>(value: Option<&'i RawValue>) -> Option<Cow<'i, str>> {
    /// Alone, a `Cow` would always be read into a new string.
    #[derive(Deserialize)]
    struct Text<'i>(#[serde(borrow)] Cow<'i, str>);

    serde_json::from_str(value?.get()).ok().map(|Text(text)| text)
}

impl<'i> Refusal<'i> {
    fn new(code: i32, id: Option<&'i RawValue>, detail: Cow<'static, str>) -> Self {
        Self { id, code, message: codes::message(code), detail }
    }

    fn syntax(error: &serde_json::Error) -> Self {
        Self::new(PARSE_ERROR, None, error.to_string().into())
    }

    fn invalid(id: Option<&'i RawValue>, detail: &'static str) -> Self {
        Self::new(INVALID_REQUEST, id, detail.into())
    }
}

/// The members of a request object, as they stand. Nothing of them is judged while reading, so that a syntax
/// error anywhere in the text goes before whatever else is wrong with it.
#[derive(Default)]
struct Members<'i> {
    jsonrpc: Option<&'i RawValue>,
    id: Option<&'i RawValue>,
    method: Option<&'i RawValue>,
    params: Option<&'i RawValue>,
    repeated: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Jsonrpc,
    Id,
    Method,
    Params,
    #[serde(other)]
    Other,
}

impl<'i> Deserialize<'i> for Members<'i> {
    fn deserialize<D: Deserializer<'i>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'i> Visitor<'i> for MembersVisitor {
    type Value = Members<'i>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request object")
    }

    fn visit_map<A: MapAccess<'i>>(self, mut map: A) -> Result<Members<'i>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key()? {
            let member = match name {
                Name::Jsonrpc => &mut members.jsonrpc,
                Name::Id => &mut members.id,
                Name::Method => &mut members.method,
                Name::Params => &mut members.params,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            members.repeated |= member.replace(map.next_value()?).is_some();
        }
        Ok(members)
    }
}

/// The elements of a batch. Those past the limit are only counted.
struct Batch<'i> {
    calls: Vec<&'i RawValue>,
    len: usize,
}

impl<'i> Deserialize<'i> for Batch<'i> {
    fn deserialize<D: Deserializer<'i>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'i> Visitor<'i> for BatchVisitor {
    type Value = Batch<'i>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch")
    }

    fn visit_seq<A: SeqAccess<'i>>(self, mut seq: A) -> Result<Batch<'i>, A::Error> {
        let mut calls = Vec::new();
        while calls.len() < MAX_BATCH {
            let Some(call) = seq.next_element()? else { return Ok(Batch { len: calls.len(), calls }) };
            calls.push(call);
        }
        let mut len = calls.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            len += 1;
        }
        Ok(Batch { calls, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(text: &str) -> Call<'_> {
        match parse(text) {
            Incoming::One(Ok(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(text: &str) -> (i32, String) {
        match parse(text) {
            Incoming::One(Err(refusal)) => (refusal.code, refusal.id().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_is_borrowed_from_the_text() {
        let call = call(
            r#" {"jsonrpc": "2.0", "id": "a\n", "method": "command", "params": { "x": [1] }, "more": 1} "#,
        );
        assert!(matches!(call.method, Cow::Borrowed("command")));
        assert_eq!(call.id.map(RawValue::get), Some(r#""a\n""#));
        assert_eq!(call.params.map(RawValue::get), Some(r#"{ "x": [1] }"#));
    }

    #[test]
    fn the_id_comes_back_as_it_was_and_without_one_it_is_a_notification() {
        for id in ["1", "-1.50e3", "null", r#""""#, "12345678901234567890123"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(call(&text).id.map(RawValue::get), Some(id));
        }
        assert!(call(r#"{"jsonrpc":"2.0","method":"m","params":[]}"#).id.is_none());
        assert_eq!(call(r#"{"jsonrpc":"2.0","method":"\u006d"}"#).method, "m");
    }

    #[test]
    fn what_is_not_json_is_a_parse_error() {
        let null = "null".to_owned();
        for text in [
            "",
            " ",
            "{",
            "[",
            "nul",
            r#"{"jsonrpc":"2.0","method":"foobar","params":"bar","baz]"#,
            r#"{"jsonrpc":1,"id":{},"method":"m",}"#,
            r#"{"jsonrpc":"2.0","method":"m"} x"#,
            r#"[{"jsonrpc":"2.0","method":"m"},{"jsonrpc":"2.0","method"]"#,
            "[1,]",
            "[] []",
            "\u{feff}{}",
            "{\"a\":\"\n\"}",
        ] {
            assert_eq!(refused(text), (PARSE_ERROR, null.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_request_is_invalid() {
        for (text, id) in [
            ("1", "null"),
            ("\"x\"", "null"),
            ("[]", "null"),
            (" [ ] ", "null"),
            ("{}", "null"),
            (r#"{"id":7}"#, "7"),
            (r#"{"id":7,"method":"m"}"#, "7"),
            (r#"{"id":7,"method":"m","jsonrpc":"1.0"}"#, "7"),
            (r#"{"id":7,"method":"m","jsonrpc":2.0}"#, "7"),
            (r#"{"id":7,"jsonrpc":"2.0"}"#, "7"),
            (r#"{"id":7,"jsonrpc":"2.0","method":1}"#, "7"),
            (r#"{"id":7,"jsonrpc":"2.0","method":null}"#, "7"),
            (r#"{"id":7,"jsonrpc":"2.0","method":"m","params":1}"#, "7"),
            (r#"{"id":7,"jsonrpc":"2.0","method":"m","params":null}"#, "7"),
            (r#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#, "null"),
            (r#"{"id":true,"jsonrpc":"2.0","method":"m"}"#, "null"),
            (r#"{"id":[1],"jsonrpc":"2.0","method":"m"}"#, "null"),
            (r#"{"id":{},"jsonrpc":"2.0","method":"m"}"#, "null"),
            (r#"{"id":7,"jsonrpc":"2.0","method":"m","id":7}"#, "null"),
            (r#"{"id":7,"jsonrpc":"2.0","method":"m","m\u0065thod":"n"}"#, "null"),
            (r#"{"id":7,"result":1,"jsonrpc":"2.0"}"#, "7"),
        ] {
            assert_eq!(refused(text), (INVALID_REQUEST, id.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_long_id_is_refused_but_still_answered() {
        let with_id =
            |len: usize| format!(r#"{{"jsonrpc":"2.0","method":"m","id":"{}"}}"#, "x".repeat(len - 2));
        assert!(call(&with_id(MAX_CALL_ID_BYTES)).id.is_some());
        let (code, id) = refused(&with_id(MAX_CALL_ID_BYTES + 1));
        assert_eq!((code, id.len()), (INVALID_REQUEST, MAX_CALL_ID_BYTES + 1));
    }

    #[test]
    fn a_batch_gives_each_call_its_own_outcome() {
        let Incoming::Batch(calls) = parse(r#" [{"jsonrpc":"2.0","id":1,"method":"m"}, 1, {"id":2}] "#)
        else {
            panic!("a batch")
        };
        assert!(calls[0].is_ok());
        let codes: Vec<_> =
            calls[1..].iter().map(|call| call.as_ref().map_err(|r| (r.code, r.id()))).collect();
        assert!(
            matches!(codes[..], [Err((INVALID_REQUEST, "null")), Err((INVALID_REQUEST, "2"))]),
            "{codes:?}"
        );
    }

    #[test]
    fn a_batch_is_refused_whole_past_the_limit() {
        let batch = |len| format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#; len].join(","));
        assert!(matches!(parse(&batch(MAX_BATCH)), Incoming::Batch(calls) if calls.len() == MAX_BATCH));
        assert_eq!(refused(&batch(MAX_BATCH + 1)), (INVALID_REQUEST, "null".to_owned()));
        assert_eq!(refused(&batch(MAX_BATCH + 1).replace(']', "x]")), (PARSE_ERROR, "null".to_owned()));
    }

    #[test]
    fn depth_does_not_cost_stack() {
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        let params = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{deep},"x":{deep}}}"#);
        let small_stack = std::thread::Builder::new().stack_size(256 * 1024);
        let read = small_stack.spawn(move || {
            assert_eq!(call(&params).params.map(RawValue::get), Some(&deep[..]));
            assert!(matches!(parse(&deep), Incoming::Batch(calls) if calls.len() == 1));
        });
        read.unwrap().join().unwrap();
    }

    proptest! {
        #[test]
        fn any_text_has_an_outcome(text in any::<String>(), json in r#"[\[\]{}",: a0-9\\u.]{0,40}"#) {
            parse(&text);
            parse(&json);
            parse(&format!(r#"{{"jsonrpc":"2.0","id":{json},"method":{text:?}}}"#));
        }
    }

    #[test]
    fn a_comma_too_many_is_a_parse_error() {
        for text in ["[1,]", "[{},]", "[,1]", "[1 1]"] {
            assert!(matches!(parse(text), Incoming::One(Err(Refusal { code: PARSE_ERROR, .. }))), "{text}");
        }
    }
}
