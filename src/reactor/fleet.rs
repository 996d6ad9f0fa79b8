//! Fleet commands: one call to many routers, and a line of the answer for each, as they answer (SPEC section 3).
//!
//! The call is a box in the session of its caller; what is outstanding are ordinary awaited commands. Routers have their
//! turns when the ready list brings the caller, a bounded number each time, so a call to thousands holds up nobody.

use super::command::Outcome;
use super::engine::Engine;
use crate::api::Refusal;
use crate::api::fleet::{self, FleetCall, Routers};
use crate::core::commands::{Caller, Request};
use crate::core::fleet::{Fleet, Names};
use crate::core::message::SharedMessage;
use crate::fault::{Fault, planted};
use crate::id::{self, Token};
use crate::limits::WRITE_CHUNK_BYTES;
use crate::net::transport::Transport;
use crate::proto::http::chunk_bytes;
use crate::proto::jsonrpc::{Body, body_of, flatten_lines, write_body_member};
use crate::session::http::{Exchange, Task};

/// Routers of one call that have their turn in one turn of the loop.
pub(super) const FLEET_TURNS: usize = 256;
/// When so many bytes were queued to the routers of one call, the next one's turn is in the next turn of the loop: they are
/// all to be written, though they came only once.
const ASKED_BYTES_PER_TURN: usize = 4 * WRITE_CHUNK_BYTES;
/// What a router's turn counts for besides, among what a turn of the loop has read, in bytes: it costs about as much as a
/// request.
const TURN_BYTES: usize = 512;

/// How a call goes on.
enum Next {
    /// It has more to do, and has had its share.
    GoOn,
    /// For an answer, or for the caller to take what is queued: each brings it back.
    Wait,
    /// Each router has its line.
    Done,
}

impl<T: Transport> Engine<T> {
    pub(super) fn command_fleet(&mut self, token: Token, exchange: Exchange, name: &str, body: &[u8]) {
        let fleet = match FleetCall::parse(body) {
            Err(refusal) => return self.refuse(token, exchange, &refusal.sent(false)),
            Ok(_) if self.draining.is_some() => {
                let refusal = super::command::Denied::Draining.refusal();
                return self.refuse(token, exchange, &refusal);
            }
            Ok(FleetCall { routers, timeout, body, json }) => {
                let routers = match routers {
                    Routers::All => self.bound_routers(),
                    Routers::These(names) => names,
                };
                let message = SharedMessage::new(name, &body, json);
                self.commands.share(&message);
                Fleet::new(routers, message, self.now.time + timeout)
            }
        };
        self.put_fleet(token, Box::new(fleet));
        self.begin_long_answer(token, fleet::CONTENT_TYPE, &[]);
        self.resume_fleet(token);
    }

    /// Who is bound now, in id order.
    fn bound_routers(&self) -> Names {
        let mut names = Names::default();
        let shadows = self.shadows.page("", None);
        shadows.filter(|shadow| shadow.bound.is_some()).for_each(|shadow| names.push(&shadow.id));
        names
    }

    /// Something has changed for a call: the ready list brings it back.
    pub(super) fn resume_fleet(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token)
            && connection.fleet().is_some()
            && !planted(Fault::NoFleetResumption)
        {
            self.work.mark_ready(connection, token);
        }
    }

    /// Gives routers of a call their turns, `most` of them; ends the answer behind the last line.
    pub(super) fn advance_fleet(&mut self, token: Token, most: usize) {
        let Some(mut fleet) = self.take_fleet(token) else { return };
        let next = self.give_turns(token, &mut fleet, most);
        if fleet.is_all_asked() {
            self.let_go_of_message(&mut fleet);
        }
        match next {
            Next::Done if planted(Fault::NoFleetEnd) => self.put_fleet(token, fleet),
            Next::Done => {
                self.release_fleet(*fleet);
                self.recount_held(token);
                self.end_long_answer(token);
            }
            Next::Wait => self.put_fleet(token, fleet),
            Next::GoOn => {
                self.put_fleet(token, fleet);
                self.resume_fleet(token);
            }
        }
    }

    fn give_turns(&mut self, token: Token, fleet: &mut Fleet, most: usize) -> Next {
        let mut asked_bytes = 0;
        for _ in 0..most {
            if asked_bytes >= ASKED_BYTES_PER_TURN {
                break;
            }
            let Some(connection) = self.table.get_mut(token) else { return Next::Wait };
            if connection.is_over() || connection.is_backed_up(&self.settings) {
                return Next::Wait;
            }
            let outstanding = connection.session.http().map_or(0, |session| session.commands.len());
            if fleet.is_all_asked() {
                return if outstanding == 0 { Next::Done } else { Next::Wait };
            }
            let asks = self.draining.is_none() && !self.is_late(fleet);
            if asks && outstanding >= self.settings.http.fleet_window {
                return Next::Wait;
            }
            let bytes = self.give_turn(token, fleet);
            self.work.read_in_turn += TURN_BYTES + bytes;
            asked_bytes += bytes;
        }
        Next::GoOn
    }

    /// The next router is asked, or its line says why not. Returns what was queued to it, in bytes.
    fn give_turn(&mut self, token: Token, fleet: &mut Fleet) -> usize {
        let Some(index) = fleet.take_turn() else { return 0 };
        let (Some(router), Some(message)) = (fleet.router(index), fleet.message()) else { return 0 };
        let (status, code) = if !id::is_id(router) {
            (400, "bad_request")
        } else if self.is_late(fleet) {
            (504, "deadline_exceeded")
        } else {
            let caller = Caller { connection: token, request: Request::Fleet { index } };
            match self.ask_shared(caller, router, message, fleet.deadline()) {
                Ok(()) => return message.outline().wire_bytes(),
                Err(denied) if planted(denied.skipped_answer()) => return 0,
                Err(denied) => {
                    let Refusal { status, code, .. } = denied.refusal();
                    (status, code)
                }
            }
        };
        self.problem_line(token, router, status, code, false);
        0
    }

    /// Who was not asked by the deadline will not be.
    fn is_late(&self, fleet: &Fleet) -> bool {
        fleet.deadline() <= self.now.time
    }

    /// The line of a router that was asked.
    pub(super) fn answer_for_fleet(&mut self, token: Token, index: u32, outcome: Outcome, sent: bool) {
        let Some(fleet) = self.take_fleet(token) else { return };
        let router = fleet.router(index).unwrap_or_default();
        match outcome {
            Outcome::Reply { json, body } => self.reply_line(token, router, (200, None), json, body),
            Outcome::RouterError { json, body } => {
                self.reply_line(token, router, (502, Some("router_error")), json, body);
            }
            Outcome::Deadline => self.problem_line(token, router, 504, "deadline_exceeded", sent),
            Outcome::Lost => self.problem_line(token, router, 503, "router_lost", sent),
            Outcome::Draining => self.problem_line(token, router, 503, "draining", sent),
        }
        self.put_fleet(token, fleet);
        self.resume_fleet(token);
    }

    /// A line that takes the caller's queue over its limit is replaced by one that says so: its router is not made to wait,
    /// and what the caller does not take does not pile up.
    fn reply_line(
        &mut self,
        token: Token,
        router: &str,
        (status, code): (u16, Option<&str>),
        json: bool,
        mut body: Vec<u8>,
    ) {
        let mut line = Vec::with_capacity(128);
        fleet::begin_line(&mut line, router, status, code);
        line.push(b',');
        if matches!(body_of(&body, json), Body::Json(_)) {
            flatten_lines(&mut body);
            line.extend_from_slice(b"\"body\":");
        } else {
            write_body_member(&mut line, Body::Base64(&body));
            body.clear();
        }
        body.extend_from_slice(b"}\n");
        if self.has_room_for(token, chunk_bytes(line.len() + body.len())) {
            self.continue_long_answer(token, &line, &body);
        } else {
            self.problem_line(token, router, 503, "limit_exceeded", true);
        }
    }

    /// Whether the queue of a caller takes this much, when it has been written what its socket takes.
    fn has_room_for(&mut self, token: Token, bytes: usize) -> bool {
        let has_room = |engine: &Self| {
            engine.table.get(token).is_some_and(|connection| connection.has_room(bytes, &engine.settings))
        };
        if !has_room(self) {
            self.flush_early(token);
        }
        has_room(self)
    }

    fn problem_line(&mut self, token: Token, router: &str, status: u16, code: &str, sent: bool) {
        let mut line = Vec::with_capacity(128);
        fleet::problem_line(&mut line, router, status, code, sent);
        self.continue_long_answer(token, &line, b"");
    }

    /// Gives back what a call holds besides itself. Its outstanding commands are its caller's.
    pub(super) fn release_fleet(&mut self, mut fleet: Fleet) {
        if !planted(Fault::KeepFleetMessage) {
            self.let_go_of_message(&mut fleet);
        }
    }

    fn let_go_of_message(&mut self, fleet: &mut Fleet) {
        if let Some(message) = fleet.take_message() {
            self.commands.unshare(message);
        }
    }

    fn take_fleet(&mut self, token: Token) -> Option<Box<Fleet>> {
        let session = self.table.get_mut(token)?.session.http()?;
        match std::mem::take(&mut session.task) {
            Task::Fleet(fleet) => Some(fleet),
            other => {
                session.task = other;
                None
            }
        }
    }

    fn put_fleet(&mut self, token: Token, fleet: Box<Fleet>) {
        if let Some(session) = self.table.get_mut(token).and_then(|connection| connection.session.http()) {
            session.task = Task::Fleet(fleet);
        }
    }
}
