//! The end of a connection. *Retire* takes its session by value and gives back all that the session owned; last words may
//! follow. *Unbind* takes the connection out of the table by value and gives back the rest. Each runs once, for every
//! connection, whatever the reason: nothing can stand in for a release or skip it.

use super::connection::{Closing, Connection, Farewell, LastWords, Session};
use super::engine::{Engine, Unbound};
use crate::api::Refusal;
use crate::core::frames::Payload;
use crate::fault::{Fault, bears_with_imbalance, planted};
use crate::id::{Class, Reason, Token};
use crate::memory;
use crate::net::transport::Transport;
use crate::proto::router::{Kind, system_frame};
use crate::proto::websocket::write_close;

impl<T: Transport> Engine<T> {
    /// Ends the session of a connection marked as closing; the connection itself lives on for its last words, if any.
    pub(super) fn retire(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(Closing { reason, farewell }) = connection.closing.clone() else { return };
        if matches!(connection.session, Session::LastWords(_)) {
            return;
        }
        self.release_commands_of_router(token, reason);
        self.release_streams_of_router(token, reason);
        self.release_commands_of_caller(token);
        self.release_task(token);
        self.release_subscriptions(token);
        self.release_registry_entry(token, reason);

        let Some(connection) = self.table.get_mut(token) else { return };
        // What is queued may take its time; a reader that stands still does not.
        let patient = match farewell {
            Farewell::Queued => connection.class != Class::Router,
            Farewell::Close { .. } => !gives_up_on_reader(reason),
            _ => false,
        };
        let wait = if patient { self.settings.queue_soft } else { self.settings.close_grace };
        let words = LastWords::new(reason, self.now.time + wait, patient);
        let session = std::mem::replace(&mut connection.session, Session::LastWords(words));
        connection.closing = None;
        if !planted(Fault::KeepInput) {
            (connection.input, connection.unparsed) = (Vec::new(), false);
        }
        drop(session);
        if !planted(Fault::KeepHeldBytes) {
            self.recount_held(token);
        }
        self.say_farewell(token, reason, farewell);
    }

    fn release_commands_of_router(&mut self, token: Token, reason: Reason) {
        if planted(Fault::KeepCommandsOfRouter) {
            return;
        }
        while let Some(session) = self.table.get_mut(token).and_then(|connection| connection.session.router())
            && let Some(command) = session.commands.front()
        {
            let drained = reason == Reason::Draining && self.draining.is_some();
            self.finish(
                command,
                if drained { super::command::Outcome::Draining } else { super::command::Outcome::Lost },
            );
        }
    }

    /// Nobody waits any more for what this connection asked.
    fn release_commands_of_caller(&mut self, token: Token) {
        if planted(Fault::KeepCommandsOfCaller) {
            return;
        }
        while let Some(command) = self.first_command_of_caller(token) {
            self.withdraw(command, false);
        }
    }

    fn release_subscriptions(&mut self, token: Token) {
        if planted(Fault::KeepSubscriptions) {
            return;
        }
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        while let Some(subscription) = session.subscriptions.front() {
            self.hub.unsubscribe(subscription, &mut session.subscriptions);
        }
    }

    /// The registry forgets the connection: a client's id at once, a router's only if it still points here.
    fn release_registry_entry(&mut self, token: Token, reason: Reason) {
        if planted(Fault::KeepRegistryEntry) {
            return;
        }
        let Some(connection) = self.table.get_mut(token) else { return };
        match &mut connection.session {
            Session::WebSocket(session) => {
                self.clients.remove(&session.client);
            }
            Session::Router(session) => {
                session.drop_half_event();
                if let Some(bound) = session.bound.take() {
                    self.router_gone(token, bound, reason);
                }
            }
            _ => {}
        }
    }

    fn say_farewell(&mut self, token: Token, reason: Reason, farewell: Farewell) {
        let date = self.scratch.date.text(self.now.unix_ms);
        let Some(connection) = self.table.get_mut(token) else { return };
        let mut frame = Vec::new();
        match farewell {
            Farewell::None => return self.drop_last_words(token),
            Farewell::Bye { code, text } => {
                system_frame(&mut frame, Kind::Bye, 0, 0, code, cut(&text).as_bytes());
            }
            Farewell::Close { code, text } => {
                write_close(&mut frame, code, &text);
                if !gives_up_on_reader(reason) {
                    // Answers that were queued go out first.
                    connection.out.push_user(&mut self.frames, Payload::copy(&frame));
                    frame.clear();
                }
            }
            Farewell::Refused(text) => {
                Refusal::new(429, "limit_exceeded", text).write(&mut frame, true, false, date);
            }
            Farewell::Queued => {}
        }
        if !frame.is_empty() {
            if gives_up_on_reader(reason) {
                connection.out.clear(&mut self.frames);
            } else {
                connection.out.clear_user(&mut self.frames);
            }
            connection.out.push_system(&mut self.frames, Payload::copy(&frame));
        }
        if connection.out.is_empty() || connection.writable {
            // Not through the dirty list: with nothing to write it must still send FIN.
            if self.flush(token) {
                self.write_on_next_turn(token);
            }
        }
        self.advance_timer(token);
        self.resume_reading(token);
    }

    /// Takes the connection out of the table and gives back what is left of it. The one way a connection ends.
    pub(super) fn unbind(&mut self, token: Token) {
        let Some(connection) = self.table.remove(token) else { return };
        let summary = self.release(connection);
        if planted(Fault::LeakConnection) {
            let _charge = memory::charge_connection(summary.class, token);
            std::mem::forget(vec![0_u8; size_of::<Connection<T>>()]);
        }
        self.settle_account(token, &summary);
        self.hurry_housekeeping();
        if let Some(hook) = &mut self.on_unbind {
            hook(&summary);
        }
    }

    /// Gives back all that a connection owned, and it with it.
    fn release(&mut self, mut connection: Connection<T>) -> Unbound {
        let Session::LastWords(LastWords { reason, .. }) = connection.session else {
            unreachable!("a connection is retired before it is unbound");
        };
        if !planted(Fault::KeepTimer) {
            self.wheel.cancel(connection.timer);
        }
        if !planted(Fault::KeepQueuedFrames) {
            connection.out.release(&mut self.frames);
        }
        self.held_bytes -= connection.held;
        if self.listen_settings(connection.class).max_per_ip.is_some() && !planted(Fault::KeepAddressCount) {
            self.addresses.remove(connection.class, connection.peer.ip());
        }
        if !planted(Fault::KeepUnbindCount) {
            self.census.unbound(connection.class, reason);
        }
        let summary = Unbound {
            class: connection.class,
            reason,
            peer: connection.peer,
            seconds: self.now.time.since(connection.opened_at).as_secs_f64(),
            traffic: connection.traffic,
        };
        if planted(Fault::KeepSocket) {
            std::mem::forget(connection.io);
        } else {
            connection.io.close();
        }
        summary
    }

    /// What a connection was charged with must be zero now: everything that it owned is given back (SPEC section 6).
    fn settle_account(&mut self, token: Token, ended: &Unbound) {
        let left = memory::close_account(ended.class, token);
        if left == 0 {
            return;
        }
        self.census.unbind_imbalances += 1;
        log::error!(class = ended.class.name(), reason = ended.reason.name(), address:% = ended.peer, bytes = left;
            "a connection ended without giving back all it owned: this is a bug of the daemon, please report it");
        debug_assert!(
            bears_with_imbalance(),
            "{token:?} ({}) ended with {left} bytes on its account",
            ended.class.name()
        );
    }

    /// A consumer that does not take what waits for it is cut, behind the frame that was begun; its name goes to the log.
    pub(super) fn close_slow(&mut self, token: Token, text: &'static str) {
        let Some(connection) = self.table.get(token) else { return };
        log::warn!(class = connection.class.name(), address:% = connection.peer,
            queued_bytes = connection.out.queued_bytes(); "slow consumer");
        let farewell = match connection.class {
            Class::Router => Farewell::Bye { code: "slow_consumer", text: text.into() },
            Class::App | Class::Page => Farewell::Close { code: 4408, text: text.into() },
            Class::Http => Farewell::None,
        };
        self.close(token, Reason::SlowConsumer, farewell);
    }
}

/// Whether what is queued is dropped because the client does not take it anyway.
fn gives_up_on_reader(reason: Reason) -> bool {
    matches!(reason, Reason::SlowConsumer | Reason::LimitExceeded | Reason::HeartbeatTimeout)
}

/// The text of a BYE is at most 256 bytes.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(crate::limits::MAX_BYE_BYTES)]
}
