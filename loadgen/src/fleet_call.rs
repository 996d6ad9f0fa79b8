//! A command for a whole fleet (contract, section 3, 'Fleet commands'), the caller's side: how it is spelled, and what each
//! line of its answer must say.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::command::Wish;
use crate::options::Sizes;
use crate::payload;
use crate::random::{Random, mix};

/// What the routers of a fleet do with a command that all of them get. It follows from the router and the command, so that
/// router and caller know it alike.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub seed: u64,
    pub reply_bytes: Sizes,
    /// Of the routers, those whose replies are as long as a message can be.
    pub big_share: f64,
    /// Those that answer with an error.
    pub fail_share: f64,
    /// Those that never answer.
    pub mute_share: f64,
}

/// One router's part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub wish: Wish,
    pub reply_bytes: u32,
    pub reply_json: bool,
}

impl Fleet {
    /// What `router` does with the command `nonce`.
    pub fn part(&self, router: u32, nonce: u64) -> Part {
        let mut random = Random::new(mix(self.seed ^ mix(nonce) ^ u64::from(router)));
        let fraction = random.fraction();
        let wish = match fraction {
            share if share < self.mute_share => Wish::Silence,
            share if share < self.mute_share + self.fail_share => Wish::Fail,
            _ => Wish::Answer,
        };
        let big = random.chance(self.big_share);
        let reply_bytes =
            if big { crate::frame::MAX_MESSAGE_BYTES } else { random.within(self.reply_bytes) } as u32;
        Part { wish, reply_bytes, reply_json: random.chance(0.5) }
    }
}

/// Appends the body of the POST: to `routers`, or to all that are bound.
pub fn write_request(
    out: &mut Vec<u8>,
    routers: Option<&[String]>,
    timeout: Duration,
    payload: &[u8],
    json: bool,
) {
    let routers = match routers {
        Some(ids) => serde_json::json!(ids).to_string(),
        None => r#""*""#.to_string(),
    };
    let _ = write!(out, r#"{{"routers":{routers},"timeout_ms":{},"#, timeout.as_millis().max(1));
    if json {
        out.extend_from_slice(br#""body":"#);
        // As it is spelled: the daemon must pass it on so.
        out.extend_from_slice(payload);
    } else {
        let _ = write!(out, r#""body_base64":"{}""#, BASE64.encode(payload));
    }
    out.push(b'}');
}

/// One line of the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    #[serde(borrow)]
    pub router: Cow<'a, str>,
    pub status: u16,
    #[serde(borrow)]
    pub code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub body: Option<&'a RawValue>,
    #[serde(borrow)]
    pub body_base64: Option<Cow<'a, str>>,
    pub sent: Option<bool>,
}

impl<'a> Line<'a> {
    /// # Errors
    /// What is not a line of the contract.
    pub fn parse(text: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|e| format!("{e} in {}", crate::rpc::shown(text)))
    }

    /// Status and code, in words.
    pub fn outcome(&self) -> String {
        match &self.code {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    pub fn has_body(&self) -> bool {
        self.body.is_some() || self.body_base64.is_some()
    }

    /// Whether it brings `owed`, in the form for a body with or without the JSON flag.
    pub fn brings(&self, owed: &[u8], json: bool) -> bool {
        match (self.body, &self.body_base64) {
            (Some(body), None) if json => payload::same_json(body.get().as_bytes(), owed),
            (None, Some(text)) if !json => BASE64.decode(text.as_bytes()).is_ok_and(|bytes| bytes == owed),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Fleet =
        Fleet { seed: 5, reply_bytes: (10, 20), big_share: 0.1, fail_share: 0.2, mute_share: 0.1 };

    #[test]
    fn parts_follow_from_router_and_command_and_keep_their_shares() {
        let parts: Vec<Part> = (0..1000).map(|router| FLEET.part(router, 7)).collect();
        assert_eq!(parts[3], FLEET.part(3, 7));
        let count = |of: fn(&Part) -> bool| parts.iter().filter(|part| of(part)).count();
        assert!((60..140).contains(&count(|part| part.reply_bytes > 20)));
        assert!((150..250).contains(&count(|part| part.wish == Wish::Fail)));
        assert!((60..140).contains(&count(|part| part.wish == Wish::Silence)));
    }

    #[test]
    fn a_request_names_routers_or_all_and_keeps_a_json_body_as_it_is_spelled() {
        let text = |routers: Option<&[String]>, json| {
            let mut out = Vec::new();
            write_request(&mut out, routers, Duration::from_secs(2), br#"{"b":1.0, "a":2}"#, json);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(None, true), r#"{"routers":"*","timeout_ms":2000,"body":{"b":1.0, "a":2}}"#);
        assert_eq!(
            text(Some(&["a".into(), "b".into()]), false),
            r#"{"routers":["a","b"],"timeout_ms":2000,"body_base64":"eyJiIjoxLjAsICJhIjoyfQ=="}"#
        );
    }

    #[test]
    fn a_line_has_the_members_of_the_contract_and_no_others() {
        let line =
            Line::parse(br#"{"router":"r","status":502,"code":"router_error","body":{"a":1},"sent":true}"#);
        let line = line.unwrap();
        assert_eq!((line.outcome().as_str(), line.sent), ("502 router_error", Some(true)));
        assert!(line.brings(br#"{"a":1}"#, true) && !line.brings(br#"{"a":1}"#, false));
        let line = Line::parse(br#"{"router":"r","status":200,"body_base64":"aGk="}"#).unwrap();
        assert!(line.brings(b"hi", false) && line.has_body());
        assert!(Line::parse(br#"{"router":"r"}"#).is_err());
        assert!(Line::parse(br#"{"router":"r","status":200,"other":1}"#).is_err());
    }
}
