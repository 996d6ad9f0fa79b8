//! The JSON-RPC of apps and pages, the client's side (contract, section 4).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::payload::{self, EventFields};

/// The id of the request that [`subscribe`] makes; those of commands are above it.
pub const SUBSCRIBE_ID: u64 = 1;

/// A message of the daemon: an event, or the answer to a request.
#[derive(Deserialize)]
pub struct Rpc<'a> {
    jsonrpc: &'a str,
    pub id: Option<u64>,
    pub method: Option<&'a str>,
    #[serde(borrow)]
    pub params: Option<Event<'a>>,
    #[serde(borrow)]
    pub result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub struct Event<'a> {
    #[serde(borrow)]
    pub router: Cow<'a, str>,
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    pub seq: Option<u64>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    body_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    pub retained: bool,
}

/// The result of a command.
#[derive(Deserialize)]
pub struct Reply<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    body_base64: Option<Cow<'a, str>>,
}

impl<'a> Rpc<'a> {
    /// Reads the text of one message.
    ///
    /// # Errors
    /// What is not JSON, or not of JSON-RPC 2.0.
    pub fn parse(text: &'a [u8]) -> Result<Self, String> {
        let message: Self = serde_json::from_slice(text).map_err(|e| format!("{e} in {}", shown(text)))?;
        if message.jsonrpc != "2.0" {
            return Err(format!("not of JSON-RPC 2.0: {}", shown(text)));
        }
        Ok(message)
    }
}

impl Event<'_> {
    /// What the body carries, if it is what router number `router` sent.
    ///
    /// # Errors
    /// A text that says what is wrong with the body.
    pub fn fields(&self, router: u32) -> Result<EventFields, String> {
        match (self.body, &self.body_base64) {
            (Some(raw), None) => payload::check_event(router, raw.get().as_bytes(), true),
            (None, Some(text)) => {
                let body = BASE64.decode(text.as_bytes()).map_err(|_| "body_base64 that is none")?;
                payload::check_event(router, &body, false)
            }
            _ => Err("not exactly one of body and body_base64".into()),
        }
    }
}

impl Reply<'_> {
    /// Whether it brings `owed`, in the form for a body with or without the JSON flag.
    pub fn brings(&self, owed: &[u8], json: bool) -> bool {
        match (self.body, &self.body_base64) {
            (Some(body), None) if json => payload::same_json(body.get().as_bytes(), owed),
            (None, Some(text)) if !json => BASE64.decode(text.as_bytes()).is_ok_and(|bytes| bytes == owed),
            _ => false,
        }
    }
}

/// The request for all topics of `router`, an id or `*`.
pub fn subscribe(router: &str) -> String {
    let params = json!({"router": router, "topic": "*"});
    json!({"jsonrpc": "2.0", "id": SUBSCRIBE_ID, "method": "subscribe", "params": params}).to_string()
}

/// The beginning of a message, for an error.
pub fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_exactly_one_body() {
        let fields = EventFields { seed: 1, n: 2, sent_ns: 3 };
        let json = String::from_utf8(payload::event(7, &fields, true, 100)).unwrap();
        let base64 = format!("\"{}\"", BASE64.encode(payload::event(7, &fields, false, 100)));
        let checked = |bodies: &str| {
            let text = format!(r#"{{"router":"r","topic":"t","seq":1,{bodies}}}"#);
            serde_json::from_str::<Event>(&text).unwrap().fields(7)
        };
        assert_eq!(checked(&format!(r#""body":{json}"#)), Ok(fields));
        assert_eq!(checked(&format!(r#""body_base64":{base64}"#)), Ok(fields));
        assert!(checked(&format!(r#""body":{json},"body_base64":{base64}"#)).is_err());
        assert!(checked(r#""body_base64":"?""#).is_err());
        assert!(checked(r#""retained":true"#).is_err());
    }

    #[test]
    fn a_reply_comes_in_the_form_of_its_flag() {
        let reply = |text| serde_json::from_str::<Reply>(text).unwrap();
        assert!(reply(r#"{"body":{"a": 1}}"#).brings(br#"{"a":1}"#, true));
        assert!(!reply(r#"{"body":{"a": 1}}"#).brings(br#"{"a":1}"#, false));
        assert!(reply(r#"{"body_base64":"aGk="}"#).brings(b"hi", false));
        assert!(!reply(r#"{"body_base64":"aGk="}"#).brings(b"hi", true));
        assert!(!reply("{}").brings(b"", false));
    }

    #[test]
    fn another_version_is_refused() {
        assert!(Rpc::parse(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#).is_ok());
        assert!(Rpc::parse(br#"{"jsonrpc":"1.0","id":1,"result":{}}"#).is_err());
        assert!(Rpc::parse(b"{").is_err());
    }
}
