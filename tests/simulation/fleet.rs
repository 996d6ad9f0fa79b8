//! A fleet call as its caller sees it. In the model each of its routers has a command of its own, so that each line is
//! judged as the answer to a single command would be; here is what makes them one call: exactly one line a router.

use crate::model::{Body, Context};
use crate::router::{IDS, payload};
use crate::socket::LinkRef;
use crate::wire::Answer;
use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use berth::clock::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// No router has this id, and none can.
const BAD_ID: &str = "no id";

pub struct FleetCall {
    /// By router: the number of its command in the model.
    lines: BTreeMap<&'static str, u64>,
    names_bad_id: bool,
    /// It named `*`: who was not bound has no line.
    names_all: bool,
    pub at: Time,
    pub timeout: Duration,
}

impl FleetCall {
    /// Draws a call, and tells the model of each of its commands. With the call goes the body of its request.
    pub fn ask(link: &LinkRef, bulk: usize, context: &mut Context<'_>) -> (Self, String) {
        let shared = context.model.nonce();
        let timeout_ms = context.random.timeout_ms();
        let json = context.random.chance(50);
        let payload = payload(shared, json, bulk + context.random.length());
        let names_all = context.random.chance(25);
        let names_bad_id = !names_all && context.random.chance(20);
        let mut named: Vec<&str> =
            IDS.iter().copied().filter(|_| names_all || context.random.chance(60)).collect();
        let timeout = Duration::from_millis(timeout_ms);
        let lines = named.iter().map(|router| {
            let nonce = context.model.nonce();
            context.model.fleets.insert((shared, (*router).to_owned()), nonce);
            context.model.ask(nonce, router, link, timeout, payload.len(), context.now);
            (*IDS.iter().find(|id| *id == router).expect("one of them"), nonce)
        });
        let lines = lines.collect();
        if names_bad_id {
            named.push(BAD_ID);
        }
        if context.random.chance(30) {
            named.extend(named.first().copied()); // counts once
        }
        context.random.shuffle(&mut named);
        let routers = if names_all { json!("*") } else { json!(named) };
        let body = match json {
            true => format!("\"body\":{payload}"),
            false => format!("\"body_base64\":\"{}\"", STANDARD.encode(&payload)),
        };
        let text = format!("{{\"routers\":{routers},\"timeout_ms\":{timeout_ms},{body}}}");
        context.model.count("fleet call");
        (Self { lines, names_bad_id, names_all, at: context.now, timeout }, text)
    }

    /// Judges the whole answer.
    pub fn judge(mut self, link: &LinkRef, answer: &Answer, problem: &Value, context: &mut Context<'_>) {
        if answer.status == 503 && problem["code"] == "draining" && context.model.draining {
            for nonce in self.lines.values() {
                context.model.answer(*nonce, link, "draining", Some(false), Body::None, context.now);
            }
            return;
        }
        if answer.status != 200 || answer.content_type != "application/x-ndjson" {
            return context.model.fail(format!("a fleet call is answered {} {problem}", answer.status));
        }
        if !answer.body.is_empty() && answer.body.last() != Some(&b'\n') {
            return context.model.fail("a line that does not end");
        }
        for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.judge_line(link, line, context);
        }
        if self.names_bad_id {
            context.model.fail("a bad id has no line");
        }
        for (router, nonce) in self.lines {
            // Bound at the start, as far as can be told: then it has a line.
            let is_bound = !context.model.tight_memory && context.model.is_surely_bound(router, self.at);
            if !self.names_all || is_bound {
                context.model.fail(format!("{router} has no line"));
            }
            let asked = context.model.commands.remove(&nonce);
            if asked.is_some_and(|asked| asked.begun) {
                context.model.fail(format!("{router} was asked and has no line"));
            }
        }
    }

    fn judge_line(&mut self, link: &LinkRef, line: &[u8], context: &mut Context<'_>) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            return context.model.fail(format!("a line {:?}", String::from_utf8_lossy(line)));
        };
        let router = line["router"].as_str().unwrap_or_default();
        let (status, code, sent) = (line["status"].as_u64(), line["code"].as_str(), line["sent"].as_bool());
        if router == BAD_ID {
            if !std::mem::take(&mut self.names_bad_id)
                || (status, code, sent) != (Some(400), Some("bad_request"), Some(false))
            {
                context.model.fail(format!("a bad id has the line {line}"));
            }
            return;
        }
        let Some(nonce) = self.lines.remove(router) else {
            return context.model.fail(format!("a line too many: {line}"));
        };
        let body = || match (line.get("body"), line["body_base64"].as_str()) {
            (Some(value), None) => Body::Json(value.clone()),
            (None, Some(text)) => Body::Base64(STANDARD.decode(text).unwrap_or_default()),
            _ => Body::None,
        };
        let (code, body) = match (status, code) {
            (Some(200), None) => ("ok", body()),
            (Some(502), Some("router_error")) => ("router_error", body()),
            (Some(503), Some("limit_exceeded")) => ("reply_over_limit", Body::None),
            (Some(404), Some(code @ "router_offline"))
            | (Some(429), Some(code @ "router_busy"))
            | (Some(503), Some(code @ ("router_lost" | "draining")))
            | (Some(504), Some(code @ "deadline_exceeded")) => (code, Body::None),
            _ => return context.model.fail(format!("a line {line}")),
        };
        context.model.answer(nonce, link, code, sent, body, context.now);
    }
}
