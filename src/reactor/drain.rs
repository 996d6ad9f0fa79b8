//! The end of the daemon, in three steps (SPEC section 7): the idle go at once, those who owe or await an answer when it
//! is given or `drain_s` has passed, then everybody.

use super::command::Outcome;
use super::connection::{Connection, Farewell, Session};
use super::engine::Engine;
use crate::id::{Class, Reason, Token};
use crate::net::transport::Transport;

impl<T: Transport> Engine<T> {
    /// Step one. The listeners of routers and clients are closed by the caller.
    pub fn drain(&mut self) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(self.now.time + self.settings.drain);
        self.end_streams(false);
        self.end_watches();
        self.close_all(|engine, token| !engine.is_owed_answers(token) && engine.is_quiet(token));
        for token in self.tokens() {
            self.resume_fleet(token); // who was not asked will not be
        }
        self.settle();
    }

    /// `drain_s` has passed: every answer that is owed is `draining`, and everybody goes.
    pub(super) fn drain_due(&mut self) {
        if self.draining.is_none_or(|until| self.now.time < until) {
            return;
        }
        let waiting: Vec<u32> = self.commands.entries().iter().map(|(key, _)| key as u32).collect();
        for command in waiting {
            self.finish(command, Outcome::Draining);
        }
        self.end_streams(true);
        for token in self.tokens() {
            self.advance_fleet(token, usize::MAX);
        }
        self.close_all(|_, _| true);
    }

    /// Step two, for one connection: its last answer has been given, or its last request carried out.
    pub(super) fn drain_further(&mut self, token: Token) {
        if self.draining.is_some() && !self.is_owed_answers(token) && self.is_quiet(token) {
            let class = self.table.get(token).map(|connection| connection.class);
            if class.is_some_and(|class| class != Class::Http) {
                self.say_goodbye(token);
            }
        }
    }

    /// Whether all that is left are idle callers: then the daemon may exit.
    pub fn is_drained(&self) -> bool {
        let busy = |connection: &Connection<T>| match &connection.session {
            Session::Http(session) => {
                !session.is_idle() || !connection.out.is_empty() || !connection.input.is_empty()
            }
            _ => true,
        };
        self.draining.is_some() && !self.table.iter().any(|(_, connection)| busy(connection))
    }

    /// Ends every connection at once, without words: for the exit behind a drain.
    pub fn end_all(&mut self) {
        for token in self.tokens() {
            self.close(token, Reason::Draining, Farewell::None);
            self.settle();
            self.work.ended.push(token);
        }
        self.settle();
    }

    fn close_all(&mut self, goes: impl Fn(&Self, Token) -> bool) {
        for token in self.tokens() {
            if goes(self, token) {
                self.say_goodbye(token);
            }
        }
    }

    fn tokens(&self) -> Vec<Token> {
        self.table.iter().map(|(token, _)| token).collect()
    }

    /// A connection with requests that have come and were not carried out is not idle.
    fn is_quiet(&self, token: Token) -> bool {
        self.table.get(token).is_some_and(|connection| match &connection.session {
            Session::Http(session) => {
                session.is_idle() && connection.out.is_empty() && connection.input.is_empty()
            }
            _ => !connection.unparsed,
        })
    }

    fn say_goodbye(&mut self, token: Token) {
        let Some(connection) = self.table.get(token) else { return };
        let farewell = match connection.class {
            Class::Router => Farewell::Bye { code: "draining", text: "the daemon stops".into() },
            Class::App | Class::Page if connection.is_open_websocket() => {
                Farewell::Close { code: 1001, text: "draining".into() }
            }
            Class::App | Class::Page => Farewell::None,
            // What is queued is still sent.
            Class::Http => Farewell::Queued,
        };
        self.close(token, Reason::Draining, farewell);
    }
}
