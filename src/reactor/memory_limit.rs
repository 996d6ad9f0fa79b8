//! `memory.max_buffered_bytes`: all queues and half-received messages together. Over it the connection that holds most ends.
//!
//! One read can bring thousands of events for thousands of watchers, so the sum is watched within a turn too: a turn that
//! has brought enough reads no further before it has written.

use super::connection::{Farewell, Session};
use super::engine::Engine;
use crate::fault::{Fault, planted};
use crate::id::{Class, Reason, Token};
use crate::limits::FRAMES_PER_TURN;
use crate::net::transport::Transport;

impl<T: Transport> Engine<T> {
    /// What is counted against the limit: queued frames, messages of commands on their way, and what is half received.
    pub fn buffered_bytes(&self) -> usize {
        self.frames.bytes() + self.commands.message_bytes() + self.held_bytes
    }

    /// A turn's reading begins.
    pub(super) fn begin_share(&mut self) {
        self.work.frames_at_turn = self.frames.count().opened;
        self.work.read_in_turn = 0;
    }

    /// Whether this turn has queued so much that it should write before it reads more.
    pub(super) fn is_share_spent(&self) -> bool {
        self.frames.count().opened - self.work.frames_at_turn > FRAMES_PER_TURN
            || self.buffered_bytes() > self.settings.max_buffered_bytes
    }

    /// Brings the sum of held bytes up to date with one connection.
    pub(super) fn recount_held(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token) {
            let held = connection.held_bytes();
            self.held_bytes = self.held_bytes + held - connection.held;
            connection.held = held;
        }
    }

    /// Over the limit the connection that holds most ends, one in its last words too: rare, so it may look at all of them.
    pub(super) fn enforce_memory_limit(&mut self) {
        if self.buffered_bytes() <= self.settings.max_buffered_bytes {
            return;
        }
        let live = self.table.iter().filter(|(_, connection)| connection.closing.is_none());
        let holds = |connection: &super::connection::Connection<T>| {
            connection.out.holding_bytes(&self.frames, &self.commands) + connection.held
        };
        let Some((token, connection)) = live.max_by_key(|(_, connection)| holds(connection)) else { return };
        let (class, bytes) = (connection.class, holds(connection));
        if bytes == 0 {
            return;
        }
        log::warn!(class = class.name(), address:% = connection.peer, bytes = bytes;
            "memory.max_buffered_bytes: the connection that held most ends");
        match &connection.session {
            Session::LastWords(_) => self.cut_last_words(token, Reason::LimitExceeded),
            // In the middle of an answer nothing else can be said.
            Session::Http(_) if connection.is_answering() || !connection.out.is_empty() => {
                self.close(token, Reason::LimitExceeded, Farewell::None);
            }
            _ => self.close_for_limit(token, "memory.max_buffered_bytes: this connection held most"),
        }
    }

    /// What a caller was still to be told is cut: that is how its connection ended, whatever was meant before.
    pub(super) fn cut_last_words(&mut self, token: Token, reason: Reason) {
        if let Some(connection) = self.table.get_mut(token)
            && let Session::LastWords(words) = &mut connection.session
            && connection.class == Class::Http
        {
            words.reason = reason;
        }
        self.drop_last_words(token);
    }

    /// What it was still to be told is dropped, and the connection with it.
    pub(super) fn drop_last_words(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token)
            && !planted(Fault::KeepQueuedFrames)
        {
            connection.out.release(&mut self.frames);
        }
        self.work.ended.push(token);
    }

    /// Ends a connection as `limit_exceeded`, in the words of its protocol.
    pub(super) fn close_for_limit(&mut self, token: Token, text: &'static str) {
        let Some(connection) = self.table.get(token) else { return };
        let farewell = match connection.class {
            Class::Router => Farewell::Bye { code: "limit_exceeded", text: text.into() },
            Class::App | Class::Page if connection.is_open_websocket() => {
                Farewell::Close { code: 4429, text: text.into() }
            }
            _ => Farewell::Refused(text),
        };
        self.close(token, Reason::LimitExceeded, farewell);
    }
}
