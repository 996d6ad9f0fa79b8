//! HTTP requests, carried out; their answers, queued.

use super::command::{Ask, Denied, Outcome};
use super::connection::Farewell;
use super::engine::Engine;
use super::send::queued_bytes;
use crate::api::Refusal;
use crate::api::events::publication;
use crate::api::routes::Call;
use crate::core::commands::{Caller, Request};
use crate::core::frames::Payload;
use crate::fault::{Fault, planted};
use crate::id::{Reason, Token};
use crate::limits::REQUESTS_PER_TURN;
use crate::net::transport::Transport;
use crate::ops::metrics;
use crate::proto::http::{Answer, CONTINUE, write_answer};
use crate::session::http::{Exchange, FromCaller};
use std::time::Duration;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

impl<T: Transport> Engine<T> {
    /// Carries out the whole requests at the front of `input`, as long as each is answered at once and there is room.
    /// True if it stopped before the last one.
    pub(super) fn consume_http(&mut self, token: Token, input: &mut &[u8]) -> bool {
        let before = self.table.get(token).map_or(0, |connection| connection.out.counted_bytes());
        for _ in 0..REQUESTS_PER_TURN {
            let Some(connection) = self.table.get_mut(token) else { return false };
            if !connection.may_read(&self.settings) || connection.has_had_its_share(before) {
                return true;
            }
            let Some(session) = connection.session.http() else { return false };
            let Some(said) = session.next(input, self.now.time, &self.settings.http) else { return false };
            match said {
                FromCaller::Continue => {
                    // In its place behind the answers before it: the system lane would overtake them.
                    self.send_user(token, Payload::Static(CONTINUE));
                    return false;
                }
                FromCaller::Refused { refusal, exchange } => self.refuse(token, exchange, &refusal),
                FromCaller::Request { call, body, exchange } => {
                    connection.traffic.messages_in += 1;
                    self.carry_out(token, exchange, call, &body);
                }
            }
        }
        true
    }

    fn carry_out(&mut self, token: Token, exchange: Exchange, call: Call<'_>, body: &[u8]) {
        match call {
            Call::Command { router, name, timeout, one_way, json } => {
                let ask = Ask { router: &router, name: &name, body, json };
                self.command_over_http(token, exchange, &ask, (!one_way).then_some(timeout));
            }
            Call::Stream(asked) => self.open_stream(token, exchange, &asked),
            Call::Watch(asked) => self.watch(token, exchange, &asked),
            Call::Publish => match publication(body) {
                Ok(event) => {
                    self.publish_for(&event);
                    self.respond(token, exchange, 202, None, &[]);
                }
                Err(refusal) => self.refuse(token, exchange, &refusal),
            },
            Call::FleetCommand { name } => self.command_fleet(token, exchange, &name, body),
            Call::ListRouters(page) => {
                let body = self.list_routers(&page);
                self.respond_json(token, exchange, &body);
            }
            Call::ShowRouter(router) => match self.show_router(&router) {
                Some(body) => self.respond_json(token, exchange, &body),
                None => self.refuse(token, exchange, &Refusal::router_offline()),
            },
            Call::KickRouter(router) => match self.shadows.bound(&router) {
                Some(session) => {
                    let text = "by the operator".into();
                    self.close(session, Reason::Kicked, Farewell::Bye { code: "kicked", text });
                    self.respond(token, exchange, 204, None, &[]);
                }
                None => self.refuse(token, exchange, &Refusal::router_offline()),
            },
            Call::ForgetShadow(router) => {
                self.shadows.forget(&router, &mut self.mint);
                self.respond(token, exchange, 204, None, &[]);
            }
            Call::ListClients(page) => {
                let body = self.list_clients(&page);
                self.respond_json(token, exchange, &body);
            }
            Call::KickClient(client) => match self.client(&client) {
                Some(session) => {
                    self.kick_client(session);
                    self.respond(token, exchange, 204, None, &[]);
                }
                None => {
                    self.refuse(token, exchange, &Refusal::not_found("client: there is none of that name"))
                }
            },
            Call::Census { audit } => {
                self.recount_held(token); // it is being read: the request's own bytes are not held any more
                let body = self.census_json(audit);
                self.respond_json(token, exchange, &body);
            }
            Call::Metrics => {
                self.recount_held(token);
                let text = metrics::render(&self.census_json(false));
                self.respond(token, exchange, 200, Some(metrics::CONTENT_TYPE), text.as_bytes());
            }
            Call::Healthz => self.respond(token, exchange, 200, Some("text/plain"), b"ok\n"),
            Call::Readyz if self.draining.is_some() => {
                self.refuse(token, exchange, &Refusal::new(503, "draining", "the daemon is draining"));
            }
            Call::Readyz => self.respond(token, exchange, 200, Some("text/plain"), b"ready\n"),
            Call::Options(allow) => {
                let answer = Answer { status: 204, extra: allow, ..Answer::default() };
                self.write_answer(token, exchange, answer, &[]);
            }
        }
    }

    fn command_over_http(
        &mut self,
        token: Token,
        exchange: Exchange,
        ask: &Ask<'_>,
        timeout: Option<Duration>,
    ) {
        let result = match timeout {
            None => self.tell(ask),
            Some(timeout) => self.ask(Caller { connection: token, request: Request::Http }, ask, timeout),
        };
        match result {
            Err(denied) if planted(denied.skipped_answer()) => {}
            Err(denied) => self.refuse(token, exchange, &denied.refusal()),
            Ok(()) if timeout.is_none() => self.respond(token, exchange, 202, None, &[]),
            Ok(()) => {} // the answer comes when the router's does
        }
    }

    /// The answer to the command that an HTTP caller awaits.
    pub(super) fn answer_http(&mut self, token: Token, outcome: Outcome, sent: bool) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(exchange) = connection.session.http().and_then(|session| session.answering()) else {
            return;
        };
        let content_type = |json| Some(if json { JSON } else { BYTES });
        match outcome {
            Outcome::Reply { json, body } => self.respond(token, exchange, 200, content_type(json), &body),
            Outcome::RouterError { json, body } => {
                let extra = &[("Berth-Error", "router")];
                let answer =
                    Answer { status: 502, content_type: content_type(json), extra, ..Answer::default() };
                self.write_answer(token, exchange, answer, &body);
            }
            Outcome::Deadline => {
                let refusal = Refusal::new(504, "deadline_exceeded", "timeout_ms: no reply came in time");
                self.refuse(token, exchange, &refusal.sent(sent));
            }
            Outcome::Lost => {
                let refusal =
                    Refusal::new(503, "router_lost", "the router's session ended before it replied");
                self.refuse(token, exchange, &refusal.sent(sent));
            }
            Outcome::Draining => {
                let refusal = Refusal::new(503, "draining", "the daemon stopped before the router replied");
                self.refuse(token, exchange, &refusal.sent(sent));
            }
        }
    }

    fn respond_json(&mut self, token: Token, exchange: Exchange, body: &serde_json::Value) {
        if planted(Fault::NoHttpResult) {
            return;
        }
        self.respond(token, exchange, 200, Some(JSON), body.to_string().as_bytes());
    }

    fn respond(
        &mut self,
        token: Token,
        exchange: Exchange,
        status: u16,
        content_type: Option<&str>,
        body: &[u8],
    ) {
        self.write_answer(token, exchange, Answer { status, content_type, ..Answer::default() }, body);
    }

    fn write_answer(&mut self, token: Token, exchange: Exchange, answer: Answer<'_>, body: &[u8]) {
        let exchange = self.closing_when_draining(exchange);
        let answer = Answer { close: exchange.close, head_only: exchange.head_only, ..answer };
        let date = self.scratch.date.text(self.now.unix_ms);
        let out = queued_bytes(256 + body.len(), |out| write_answer(out, &answer, date, body));
        self.send_answer(token, exchange, out, Reason::Done);
    }

    pub(super) fn refuse(&mut self, token: Token, exchange: Exchange, refusal: &Refusal) {
        let exchange = self.closing_when_draining(exchange);
        let date = self.scratch.date.text(self.now.unix_ms);
        let out = queued_bytes(0, |out| refusal.write(out, exchange.close, exchange.head_only, date));
        self.send_answer(token, exchange, out, reason_of(refusal));
    }

    /// The daemon may be gone before a next request came: its caller must know not to send one here.
    pub(super) fn closing_when_draining(&self, exchange: Exchange) -> Exchange {
        Exchange { close: exchange.close || self.draining.is_some(), ..exchange }
    }

    /// Queues a whole answer.
    fn send_answer(&mut self, token: Token, exchange: Exchange, answer: Vec<u8>, reason: Reason) {
        self.send_user(token, Payload::Owned(answer));
        self.conclude(token, exchange, reason);
    }

    /// All of an answer is queued: it is the next request's turn, or the last words are said.
    pub(super) fn conclude(&mut self, token: Token, exchange: Exchange, reason: Reason) {
        if exchange.close {
            return self.close(token, reason, Farewell::Queued);
        }
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Some(session) = connection.session.http() {
            session.answered(self.now.time);
        }
        self.resume_reading(token);
        self.advance_timer(token);
    }
}

/// Why a connection ends behind a refusal that closes it (SPEC section 6).
pub(super) fn reason_of(refusal: &Refusal) -> Reason {
    match refusal.status {
        400 | 417 | 426 | 501 | 505 => Reason::ProtocolError,
        401 => Reason::Unauthorized,
        413 | 431 => Reason::TooLarge,
        _ => Reason::Done,
    }
}

impl Denied {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Denied::Draining => Refusal::new(503, "draining", "the daemon is draining").sent(false),
            Denied::Offline => Refusal::router_offline().sent(false),
            Denied::Busy(limit) => Refusal::new(429, "router_busy", limit).sent(false),
            Denied::TooLarge => Refusal::new(413, "too_large", "body: at most 1048576 bytes").sent(false),
        }
    }

    /// The planted fault that leaves this out.
    pub(super) fn skipped_answer(self) -> Fault {
        match self {
            Denied::Draining => Fault::NoDraining,
            Denied::Offline => Fault::NoOffline,
            Denied::Busy(_) | Denied::TooLarge => Fault::NoBusy,
        }
    }
}
