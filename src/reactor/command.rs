//! Commands: from whoever asks to a router, and the one answer back.

use super::connection::Session;
use super::engine::Engine;
use crate::clock::Time;
use crate::core::commands::{Caller, Command, NewCommand, OfCaller, Request};
use crate::core::frames::Payload;
use crate::core::message::{Message, Outline, SharedMessage};
use crate::core::wheel::Due;
use crate::fault::{Fault, planted};
use crate::id::Token;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::router::{Kind, flags, header};
use std::time::Duration;

/// A command as it is asked for.
pub(super) struct Ask<'a> {
    pub router: &'a str,
    pub name: &'a str,
    pub body: &'a [u8],
    pub json: bool,
}

/// Why a command was not taken. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Draining,
    Offline,
    /// With the limit that was met.
    Busy(&'static str),
    TooLarge,
}

/// What became of an awaited command.
#[derive(Debug)]
pub(super) enum Outcome {
    Reply { json: bool, body: Vec<u8> },
    RouterError { json: bool, body: Vec<u8> },
    Deadline,
    Lost,
    Draining,
}

impl<T: Transport> Engine<T> {
    /// Queues a command that awaits a reply. Exactly one answer will go to `caller`, unless it is denied here.
    pub(super) fn ask(&mut self, caller: Caller, ask: &Ask<'_>, timeout: Duration) -> Result<(), Denied> {
        let outline = Outline::new(ask.name, ask.body, ask.json);
        let message = || Message::new(ask.name, ask.body, ask.json);
        self.ask_with(caller, ask.router, outline, message, self.now.time + timeout)
    }

    /// The same with a message that many are asked.
    pub(super) fn ask_shared(
        &mut self,
        caller: Caller,
        router: &str,
        message: &SharedMessage,
        deadline: Time,
    ) -> Result<(), Denied> {
        self.ask_with(caller, router, message.outline(), || Message::shared(message), deadline)
    }

    /// `message` is made when it is sure that it will be needed.
    fn ask_with(
        &mut self,
        caller: Caller,
        router: &str,
        outline: Outline,
        message: impl FnOnce() -> Message,
        deadline: Time,
    ) -> Result<(), Denied> {
        let router = self.admit(router, outline)?;
        let Some(connection) = self.table.get_mut(router) else { return Err(Denied::Offline) };
        let Some(session) = connection.session.router() else { return Err(Denied::Offline) };
        if session.commands.len() >= self.settings.router.max_pending {
            return Err(Denied::Busy("router.max_pending: too many commands await a reply"));
        }
        let commands = &self.commands;
        let id = session.next_id(|id| commands.find(router, id).is_some());
        let caller_token = caller.connection;
        let token = self.commands.next_token();
        let timer = self.wheel.set(deadline, Due::Command(token));
        // The two lists live in two connections: each is taken out, used and put back.
        let mut of_router = std::mem::take(&mut session.commands);
        let mut of_caller = self.take_caller_list(caller_token);
        let new = NewCommand { router, caller, id, message: message(), deadline };
        self.commands.insert(token, new, timer, &mut of_router, &mut of_caller);
        self.put_caller_list(caller_token, of_caller);
        let Some(connection) = self.table.get_mut(router) else { return Ok(()) };
        if let Some(session) = connection.session.router() {
            session.commands = of_router;
        }
        let was_backed_up = connection.is_backed_up(&self.settings);
        connection.out.push_command(&mut self.commands, token.slot);
        self.queued(router, was_backed_up);
        Ok(())
    }

    /// Queues a command that nobody awaits. It leaves nothing behind but its frames.
    pub(super) fn tell(&mut self, ask: &Ask<'_>) -> Result<(), Denied> {
        let router = self.admit(ask.router, Outline::new(ask.name, ask.body, ask.json))?;
        let Some(connection) = self.table.get_mut(router) else { return Err(Denied::Offline) };
        let was_backed_up = connection.is_backed_up(&self.settings);
        connection.out.push_one_way(&mut self.frames, ask.name, ask.body, ask.json);
        self.queued(router, was_backed_up);
        Ok(())
    }

    /// Where a command goes, if it may go at all. Nothing of it is copied yet.
    fn admit(&mut self, router: &str, outline: Outline) -> Result<Token, Denied> {
        if self.draining.is_some() {
            return Err(Denied::Draining);
        }
        if outline.payload_bytes() > MAX_MESSAGE_BYTES {
            return Err(Denied::TooLarge);
        }
        self.admit_frame(router, outline.wire_bytes())
    }

    /// The session of a bound router, if its queue has room for so many bytes.
    pub(super) fn admit_frame(&mut self, router: &str, bytes: usize) -> Result<Token, Denied> {
        let router = self.shadows.bound(router).ok_or(Denied::Offline)?;
        if !self.takes(router, bytes)? {
            self.flush_early(router);
            if !self.takes(router, bytes)? {
                return Err(Denied::Busy("router.max_queued_bytes: the queue to the router is full"));
            }
        }
        Ok(router)
    }

    /// Whether the router's session is there, and its queue has room.
    fn takes(&self, router: Token, bytes: usize) -> Result<bool, Denied> {
        let connection =
            self.table.get(router).filter(|connection| !connection.is_over()).ok_or(Denied::Offline)?;
        Ok(connection.has_room(bytes, &self.settings))
    }

    /// Answers a command and drops all that it held.
    pub(super) fn finish(&mut self, key: u32, outcome: Outcome) {
        let Some(command) = self.remove_command(key, false) else { return };
        self.answer(command, outcome);
    }

    /// The same, from its own timer, which is gone already.
    pub(super) fn finish_late(&mut self, key: u32, outcome: Outcome) {
        let Some(command) = self.remove_command(key, true) else { return };
        self.answer(command, outcome);
    }

    /// Drops a command that nobody awaits any more.
    pub(super) fn withdraw(&mut self, key: u32, timer_fired: bool) {
        if let Some(command) = self.remove_command(key, timer_fired) {
            self.drain_further(command.router);
        }
    }

    /// Takes a command out of every table: its turn, its router's list and half reply, its caller's list, its timer.
    fn remove_command(&mut self, key: u32, timer_fired: bool) -> Option<Command> {
        let command = self.commands.get(key);
        let (router, caller, timer) = (command.router, command.caller.connection, command.timer);
        let (id, reply_bytes) = (command.id, command.reply_bytes());
        let is_cut = command.message.is_begun() && !command.message.is_finished();
        let mut of_router = Default::default();
        if let Some(connection) = self.table.get_mut(router) {
            if !planted(Fault::KeepTurn) || self.commands.get(key).message.unsent_bytes() == 0 {
                connection.out.withdraw(&mut self.commands, key);
            }
            if is_cut && !connection.is_over() && !planted(Fault::NoAbort) {
                // The router has parts of it: tell it to throw them away.
                let abort = header(Kind::Command, flags::ERROR, id, 0, 0);
                connection.out.push_system(&mut self.frames, Payload::copy(&abort));
                self.work.dirty.mark(&mut connection.in_dirty, router);
            }
            if let Some(session) = connection.session.router() {
                session.let_go(if planted(Fault::KeepHalfReply) { 0 } else { reply_bytes });
                of_router = std::mem::take(&mut session.commands);
            }
        }
        let mut of_caller = self.take_caller_list(caller);
        self.commands.leave_caller(key, &mut of_caller);
        self.put_caller_list(caller, of_caller);
        let command = self.commands.remove(key, &mut of_router);
        if let Some(session) = self.table.get_mut(router).and_then(|connection| connection.session.router()) {
            session.commands = of_router;
        }
        if !timer_fired && !planted(Fault::KeepCommandTimer) {
            self.wheel.cancel(timer);
        }
        self.recount_held(router);
        self.resume_reading(router); // its queue may be below half again
        Some(command)
    }

    fn take_caller_list(&mut self, caller: Token) -> OfCaller {
        self.caller_list(caller).map(std::mem::take).unwrap_or_default()
    }

    fn put_caller_list(&mut self, caller: Token, of_caller: OfCaller) {
        if let Some(list) = self.caller_list(caller) {
            *list = of_caller;
        }
    }

    fn caller_list(&mut self, caller: Token) -> Option<&mut OfCaller> {
        match &mut self.table.get_mut(caller)?.session {
            Session::Http(session) => Some(&mut session.commands),
            Session::WebSocket(session) => Some(&mut session.commands),
            _ => None,
        }
    }

    pub(super) fn first_command_of_caller(&mut self, caller: Token) -> Option<u32> {
        self.caller_list(caller)?.front()
    }

    fn answer(&mut self, command: Command, outcome: Outcome) {
        let skipped = match &outcome {
            Outcome::Reply { .. } => Fault::NoReply,
            Outcome::RouterError { .. } => Fault::NoRouterError,
            Outcome::Deadline => Fault::NoDeadline,
            Outcome::Lost => Fault::NoRouterLost,
            Outcome::Draining => Fault::NoDrained,
        };
        if planted(Fault::HoardReplies)
            && let Outcome::Reply { body, .. } = &outcome
        {
            let _charge = charge(Holder::Other);
            std::mem::forget(body.clone());
        }
        let (router, sent) = (command.router, command.message.is_begun());
        let caller = command.caller;
        if !planted(skipped)
            && self.table.get(caller.connection).is_some_and(|connection| !connection.is_over())
        {
            match caller.request {
                Request::Http if planted(Fault::NoHttpAnswer) => {}
                Request::Rpc { .. } if planted(Fault::NoRpcAnswer) => {}
                Request::Fleet { .. } if planted(Fault::NoFleetAnswer) => {}
                Request::Http => self.answer_http(caller.connection, outcome, sent),
                Request::Rpc { id, batch } => self.answer_rpc(caller.connection, id, batch, outcome, sent),
                Request::Fleet { index } => self.answer_for_fleet(caller.connection, index, outcome, sent),
            }
        }
        self.drain_further(router);
        self.drain_further(caller.connection);
    }

    /// When the last answer is due: for the bound of a drain.
    pub(super) fn is_owed_answers(&self, token: Token) -> bool {
        self.table.get(token).is_some_and(|connection| match &connection.session {
            Session::Router(session) => !session.commands.is_empty() || !session.streams.is_empty(),
            Session::WebSocket(session) => !session.commands.is_empty(),
            Session::Http(session) => session.answering().is_some(),
            Session::LastWords(_) => false,
        })
    }
}
