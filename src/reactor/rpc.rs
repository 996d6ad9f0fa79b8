//! JSON-RPC calls of apps and pages, carried out (SPEC section 4).

use super::command::{Ask, Denied, Outcome};
use super::engine::Engine;
use crate::api::routes::Page;
use crate::core::commands::{BatchPlace, Caller, Request};
use crate::core::frames::Payload;
use crate::fault::{Fault, planted};
use crate::id::{self, PRESENCE, Token};
use crate::limits::{DEFAULT_PAGE, DEFAULT_TIMEOUT_MS, PAGE, TIMEOUT_MS};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{
    Body, Call, CommandParams, Incoming, Refusal, RoutersParams, RpcError, SubscribeParams,
    UnsubscribeParams, body_bytes, body_of, codes, params, parse, write_body_member, write_error,
    write_result,
};
use crate::proto::websocket::TextFrame;
use crate::session::websocket::{Batch, Part, Replay, settings_of};
use serde_json::value::RawValue;
use std::time::Duration;

/// A call's answer, or that it comes later.
enum Answered {
    /// The result, as JSON.
    Now(Vec<u8>),
    Later,
}

/// An error answer: code, detail, and whether a byte of the command was sent.
struct Failure {
    code: i32,
    detail: String,
    sent: Option<bool>,
}

impl Failure {
    fn invalid(detail: impl Into<String>) -> Self {
        Self { code: codes::INVALID_PARAMS, detail: detail.into(), sent: None }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        let (code, detail) = match denied {
            Denied::Draining => (codes::DRAINING, "the daemon is draining"),
            Denied::Offline => (codes::ROUTER_OFFLINE, "the router is not bound"),
            Denied::Busy(limit) => (codes::ROUTER_BUSY, limit),
            Denied::TooLarge => (codes::INVALID_PARAMS, "body: at most 1048576 bytes"),
        };
        Self { code, detail: detail.into(), sent: Some(false) }
    }
}

impl<T: Transport> Engine<T> {
    pub(super) fn carry_out_rpc(&mut self, token: Token, text: &str) {
        match parse(text) {
            Incoming::One(Err(refusal)) => self.send_text(token, |out| write_refusal(out, &refusal)),
            Incoming::One(Ok(call)) => {
                let answered = self.carry_out_call(token, &call, None);
                if let Some(answer) = self.answer_of(&call, answered) {
                    self.send_text(token, |out| out.extend_from_slice(&answer));
                }
            }
            Incoming::Batch(calls) => self.carry_out_batch(token, calls),
        }
    }

    /// The answer to a call as JSON, unless it comes later or is not wanted.
    fn answer_of(&self, call: &Call<'_>, answered: Result<Answered, Failure>) -> Option<Vec<u8>> {
        let id = call.id?.get();
        let mut out = Vec::new();
        match answered {
            Ok(Answered::Later) => return None,
            _ if planted(Fault::NoRpcResult) => return None,
            Ok(Answered::Now(result)) => write_result(&mut out, id, &result),
            Err(failure) => write_failure(&mut out, id, &failure),
        }
        Some(out)
    }

    fn carry_out_batch(&mut self, token: Token, calls: Vec<Result<Call<'_>, Refusal<'_>>>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        let parts = calls.iter().map(|_| Part::Waiting).collect();
        let batch =
            session.batches.get_or_insert_default().insert(Batch { parts, waiting: calls.len() }) as u32;
        for (index, call) in calls.into_iter().enumerate() {
            let place = BatchPlace { batch, index: index as u32 };
            let part = match call {
                Err(refusal) => {
                    let mut out = Vec::new();
                    write_refusal(&mut out, &refusal);
                    Part::Answer(out)
                }
                // It begins behind the batch's answer, so it is carried out when the rest of that is there.
                Ok(call) if call.method == "subscribe" => Part::Subscribe {
                    id: call.id.map(|id| id.get().into()),
                    params: call.params.map(|params| params.get().into()),
                },
                // A notification has no answer: the batch does not wait for what becomes of it.
                Ok(call) => match self.carry_out_call(token, &call, call.id.map(|_| place)) {
                    Ok(Answered::Later) if call.id.is_some() => continue,
                    answered => self.answer_of(&call, answered).map_or(Part::Nothing, Part::Answer),
                },
            };
            self.fill_part(token, place, part);
        }
    }

    /// One part of a batch is there. The last one sends the answer.
    fn fill_part(&mut self, token: Token, place: BatchPlace, part: Part) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        let Some(batches) = &mut session.batches else { return };
        let Some(batch) = batches.get_mut(place.batch as usize) else { return };
        batch.parts[place.index as usize] = part;
        batch.waiting -= 1;
        if batch.waiting > 0 {
            return self.recount_held(token);
        }
        let batch = batches.remove(place.batch as usize);
        if batches.is_empty() {
            session.batches = None;
        }
        self.recount_held(token);
        self.complete_batch(token, batch);
    }

    fn complete_batch(&mut self, token: Token, batch: Batch) {
        let mut answers: Vec<Vec<u8>> = Vec::with_capacity(batch.parts.len());
        for part in batch.parts {
            match part {
                Part::Answer(answer) => answers.push(answer),
                Part::Subscribe { id, params } => answers.extend(self.subscribe_in_batch(token, id, params)),
                Part::Nothing | Part::Waiting => {}
            }
        }
        if !answers.is_empty() && !planted(Fault::NoBatchAnswer) {
            self.send_text(token, |out| {
                for (index, answer) in answers.iter().enumerate() {
                    out.push(if index == 0 { b'[' } else { b',' });
                    out.extend_from_slice(answer);
                }
                out.push(b']');
            });
        }
    }

    fn subscribe_in_batch(
        &mut self,
        token: Token,
        id: Option<Box<str>>,
        raw: Option<Box<str>>,
    ) -> Option<Vec<u8>> {
        let raw: Option<&RawValue> = raw.as_deref().and_then(|raw| serde_json::from_str(raw).ok());
        let result = self.subscribe(token, raw);
        let id = id?;
        let mut out = Vec::new();
        match result {
            Ok(result) => write_result(&mut out, &id, &result),
            Err(failure) => write_failure(&mut out, &id, &failure),
        }
        Some(out)
    }

    fn carry_out_call(
        &mut self,
        token: Token,
        call: &Call<'_>,
        batch: Option<BatchPlace>,
    ) -> Result<Answered, Failure> {
        match &*call.method {
            "subscribe" => self.subscribe(token, call.params).map(Answered::Now),
            "unsubscribe" => self.unsubscribe(token, call.params).map(Answered::Now),
            "command" => self
                .command_over_rpc(token, call, batch)
                .map_err(|failure| Failure { sent: Some(false), ..failure }),
            "routers" => self.routers(call.params).map(Answered::Now),
            _ => Err(Failure {
                code: codes::METHOD_NOT_FOUND,
                detail: "method: subscribe, unsubscribe, command or routers".into(),
                sent: None,
            }),
        }
    }

    /// Adds a subscription. What is replayed to it goes behind the answer, because it is read later in the turn.
    fn subscribe(&mut self, token: Token, raw: Option<&RawValue>) -> Result<Vec<u8>, Failure> {
        let SubscribeParams { router, topic, since, epoch } = params(raw).map_err(Failure::invalid)?;
        let router = star_or(&router, id::is_id).ok_or_else(|| Failure::invalid("router: an id or *"))?;
        let topic = star_or(&topic, |topic| id::is_topic(topic) || topic == PRESENCE)
            .ok_or_else(|| Failure::invalid("topic: a topic, $presence or *"))?;
        let since = match (router, since, epoch.as_deref()) {
            (_, None, None) => None,
            (Some(router), Some(seq), Some(epoch)) => Some((router, epoch, seq)),
            (_, None, _) => return Err(Failure::invalid("since: missing, goes with epoch")),
            (_, _, None) => return Err(Failure::invalid("epoch: missing, goes with since")),
            (None, ..) => return Err(Failure::invalid("since: only with one router")),
        };
        let connection =
            self.table.get_mut(token).ok_or_else(|| Failure::invalid("the connection is gone"))?;
        let most = settings_of(&self.settings, connection.class).max_subscriptions;
        let Some(session) = connection.session.websocket() else {
            return Err(Failure::invalid("no session"));
        };
        if session.subscriptions.len() >= most
            || since.is_some_and(|(router, ..)| session.reads_much(router, most))
        {
            let detail = "max_subscriptions: too many subscriptions".into();
            return Err(Failure { code: codes::LIMIT_EXCEEDED, detail, sent: None });
        }
        let number = session.next_subscription();
        let last = self.shadows.published();
        let key = self.hub.subscribe(token, number, router, topic, last, &mut session.subscriptions);
        let mut result = serde_json::json!({ "subscription": number });
        if let Some(router) = router {
            let shadow = self.shadows.find(router).map(|key| self.shadows.get(key));
            result["epoch"] = shadow.map(|shadow| format!("{:016x}", shadow.epoch)).into();
            result["seq"] = shadow.map_or(0, |shadow| shadow.seq).into();
        }
        let mut goes_on = None;
        if let Some((router, epoch, seq)) = since {
            let has_been = self.shadows.has_been(router, epoch, seq);
            if topic != Some(PRESENCE) && has_been {
                goes_on = self.shadows.resume(router, seq).map(|cursor| (router, cursor));
            }
            result["recovered"] = (has_been && (topic == Some(PRESENCE) || goes_on.is_some())).into();
        }
        match goes_on {
            Some((router, cursor)) => self.go_on(token, key, router, cursor),
            None => self.begin_replay(token, Replay::Values { subscription: key, after: None }),
        }
        Ok(result.to_string().into_bytes())
    }

    fn unsubscribe(&mut self, token: Token, raw: Option<&RawValue>) -> Result<Vec<u8>, Failure> {
        let UnsubscribeParams { subscription } = params(raw).map_err(Failure::invalid)?;
        let session = self.table.get_mut(token).and_then(|connection| connection.session.websocket());
        let Some(session) = session else { return Err(Failure::invalid("no session")) };
        let Some(key) = self.hub.numbered(&session.subscriptions, subscription) else {
            return Err(Failure::invalid("subscription: there is none of that number"));
        };
        self.hub.unsubscribe(key, &mut session.subscriptions);
        if !planted(Fault::KeepReplay) {
            self.end_replay(token, key);
        }
        Ok(b"true".to_vec())
    }

    fn command_over_rpc(
        &mut self,
        token: Token,
        call: &Call<'_>,
        batch: Option<BatchPlace>,
    ) -> Result<Answered, Failure> {
        let asked: CommandParams<'_> = params(call.params).map_err(Failure::invalid)?;
        if !id::is_id(&asked.router) {
            return Err(Failure::invalid("router: 1 to 64 of A-Za-z0-9._:-"));
        }
        if !id::is_id(&asked.name) {
            return Err(Failure::invalid("name: 1 to 64 of A-Za-z0-9._:-"));
        }
        let timeout_ms = asked.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !TIMEOUT_MS.contains(&timeout_ms) {
            return Err(Failure::invalid("timeout_ms: a whole number from 1 to 600000"));
        }
        let (body, json) = body_bytes(asked.body, asked.body_base64.as_deref()).map_err(Failure::invalid)?;
        let ask = Ask { router: &asked.router, name: &asked.name, body: &body, json };
        if asked.oneway == Some(true) {
            self.tell(&ask)?;
            return Ok(Answered::Now(b"true".to_vec()));
        }
        if self.pending_of_client(token) >= self.max_pending_of_client(token) {
            let detail = "max_pending: too many commands await a reply".into();
            return Err(Failure { code: codes::LIMIT_EXCEEDED, detail, sent: Some(false) });
        }
        let request = Request::rpc(call.id.map(RawValue::get), batch);
        match self.ask(Caller { connection: token, request }, &ask, Duration::from_millis(timeout_ms)) {
            Err(denied) if planted(denied.skipped_answer()) => Ok(Answered::Later),
            result => result.map(|()| Answered::Later).map_err(Failure::from),
        }
    }

    fn pending_of_client(&mut self, token: Token) -> usize {
        let session = self.table.get_mut(token).and_then(|connection| connection.session.websocket());
        session.map_or(0, |session| session.commands.len())
    }

    fn max_pending_of_client(&self, token: Token) -> usize {
        self.table
            .get(token)
            .map_or(0, |connection| settings_of(&self.settings, connection.class).max_pending)
    }

    fn routers(&mut self, raw: Option<&RawValue>) -> Result<Vec<u8>, Failure> {
        let RoutersParams { prefix, after, limit } = params(raw).map_err(Failure::invalid)?;
        let limit = limit.map_or(Some(DEFAULT_PAGE), |limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| PAGE.contains(limit));
        let limit = limit.ok_or_else(|| Failure::invalid("limit: a whole number from 1 to 1000"))?;
        let page = Page { prefix: prefix.unwrap_or_default(), after, limit };
        Ok(self.known_routers(&page).to_string().into_bytes())
    }

    /// The answer to a command that a client awaits.
    pub(super) fn answer_rpc(
        &mut self,
        token: Token,
        id: Option<Box<str>>,
        batch: Option<BatchPlace>,
        outcome: Outcome,
        sent: bool,
    ) {
        let _charge = self.charge_to(token); // a part of a batch waits in the session of its client
        let answer = id.map(|id| {
            let mut out = Vec::new();
            write_outcome(&mut out, &id, &outcome, sent);
            out
        });
        match (batch, answer) {
            (Some(place), answer) => self.fill_part(token, place, answer.map_or(Part::Nothing, Part::Answer)),
            (None, Some(answer)) => self.send_text(token, |out| out.extend_from_slice(&answer)),
            (None, None) => {}
        }
    }

    fn send_text(&mut self, token: Token, write: impl FnOnce(&mut Vec<u8>)) {
        let frame = {
            let _charge = charge(Holder::QueuedFrame);
            let mut frame = TextFrame::begin(256);
            write(frame.payload());
            frame.finish()
        };
        self.send_user(token, Payload::Encoded(frame));
    }
}

/// `*` is `None`; a name must be a good one.
#[allow(clippy::option_option)] // outer: is it good at all; inner: is it a name
fn star_or(text: &str, is_good: impl Fn(&str) -> bool) -> Option<Option<&str>> {
    match text {
        "*" => Some(None),
        name if is_good(name) => Some(Some(name)),
        _ => None,
    }
}

fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal<'_>) {
    write_error(out, refusal.id(), &refusal.error());
}

fn write_failure(out: &mut Vec<u8>, id: &str, failure: &Failure) {
    let error = RpcError { detail: Some(&failure.detail), sent: failure.sent, ..RpcError::new(failure.code) };
    write_error(out, id, &error);
}

fn write_outcome(out: &mut Vec<u8>, id: &str, outcome: &Outcome, sent: bool) {
    let sent = Some(sent);
    let error = |code, detail| RpcError { detail: Some(detail), sent, ..RpcError::new(code) };
    match outcome {
        Outcome::Reply { json, body } => {
            let mut result = b"{".to_vec();
            write_body_member(&mut result, body_of(body, *json));
            result.push(b'}');
            write_result(out, id, &result);
        }
        Outcome::RouterError { json, body } => {
            let body: Option<Body<'_>> = Some(body_of(body, *json));
            write_error(out, id, &RpcError { sent, body, ..RpcError::new(codes::ROUTER_ERROR) });
        }
        Outcome::Deadline => {
            write_error(out, id, &error(codes::DEADLINE_EXCEEDED, "timeout_ms: no reply came in time"))
        }
        Outcome::Lost => {
            write_error(out, id, &error(codes::ROUTER_LOST, "the router's session ended before it replied"));
        }
        Outcome::Draining => {
            write_error(out, id, &error(codes::DRAINING, "the daemon stopped before the router replied"));
        }
    }
}
