//! A command of a caller or an app, and how it is spelled on its way to the daemon.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::http;
use crate::payload::CommandFields;

/// What a router must do with a command: it is the command's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    Answer,
    /// The reply comes as `router_error`.
    Fail,
    Silence,
}

impl Wish {
    pub fn name(self) -> &'static str {
        match self {
            Self::Answer => "work",
            Self::Fail => "fail",
            Self::Silence => "mute",
        }
    }
}

/// One command to be sent.
pub struct Order {
    /// The router's index.
    pub router: u32,
    pub wish: Wish,
    pub oneway: bool,
    pub json: bool,
    pub fields: CommandFields,
    pub payload: Vec<u8>,
}

impl Order {
    /// Appends it as a POST to the router with the id `router` (contract, section 3).
    pub fn write_http(&self, out: &mut Vec<u8>, host: &str, router: &str, timeout: Duration) {
        let query = match self.oneway {
            true => "oneway=1".to_string(),
            false => format!("timeout_ms={}", timeout.as_millis().max(1)),
        };
        let path = format!("/v1/routers/{router}/commands/{}?{query}", self.wish.name());
        http::post(out, &path, host, http::content_type(self.json), &self.payload);
    }

    /// The JSON-RPC request `id` to the router with the id `router` (contract, section 4).
    pub fn rpc(&self, id: u64, router: &str, timeout: Duration) -> String {
        let (key, body) = match self.json {
            true => ("body", String::from_utf8(self.payload.clone()).expect("JSON of ours is UTF-8")),
            false => ("body_base64", format!("\"{}\"", BASE64.encode(&self.payload))),
        };
        let (name, timeout_ms) = (self.wish.name(), timeout.as_millis().max(1));
        // Written by hand, because the daemon must pass the JSON body on as it is spelled here.
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"command","params":{{"router":"{router}","name":"{name}","timeout_ms":{timeout_ms},"{key}":{body}}}}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(json: bool, oneway: bool) -> Order {
        let fields = CommandFields { nonce: 1, reply_bytes: 2, reply_json: true };
        Order { router: 0, wish: Wish::Fail, oneway, json, fields, payload: br#"{"b":1.0, "a":2}"#.to_vec() }
    }

    #[test]
    fn a_json_body_goes_as_it_is_spelled() {
        let text = order(true, false).rpc(3, "r", Duration::from_secs(5));
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":3,"method":"command","params":{"router":"r","name":"fail","timeout_ms":5000,"body":{"b":1.0, "a":2}}}"#
        );
        let text = order(false, false).rpc(3, "r", Duration::from_secs(5));
        assert!(text.ends_with(r#""body_base64":"eyJiIjoxLjAsICJhIjoyfQ=="}}"#), "{text}");
    }

    #[test]
    fn a_one_way_command_has_no_deadline() {
        let request = |json, oneway| {
            let mut out = Vec::new();
            order(json, oneway).write_http(&mut out, "h", "r", Duration::from_secs(5));
            String::from_utf8(out).unwrap()
        };
        assert!(request(true, true).starts_with("POST /v1/routers/r/commands/fail?oneway=1 HTTP/1.1\r\n"));
        assert!(request(false, false).starts_with("POST /v1/routers/r/commands/fail?timeout_ms=5000 HTTP"));
    }
}
