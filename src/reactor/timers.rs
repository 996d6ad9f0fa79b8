//! Deadlines. Every connection has one timer for all that it waits for; it is moved only when something becomes due
//! earlier, and otherwise fires, looks, and is set anew.

use super::command::Outcome;
use super::connection::{Connection, Farewell, Session};
use super::engine::Engine;
use super::send::queued_bytes;
use crate::api::Refusal;
use crate::clock::Time;
use crate::core::frames::Payload;
use crate::core::wheel::Due;
use crate::fault::{Fault, planted};
use crate::id::{Class, Reason, Token};
use crate::net::transport::Transport;
use crate::proto::router::{HEADER_BYTES, Kind, header};
use crate::proto::websocket;
use crate::session::heartbeat::{Acks, Beat};
use crate::session::http::Waiting;
use crate::session::websocket::settings_of;
use std::time::Duration;

impl<T: Transport> Engine<T> {
    pub fn fire_timers(&mut self) {
        while let Some(due) = self.wheel.pop(self.now.time) {
            self.due(due);
        }
        self.timers_fired_at = self.now.time;
        if !planted(Fault::KeepShadow) {
            self.shadows.expire(self.now.time, self.settings.shadow.keep);
        }
        self.drain_due();
    }

    /// A timer has fired. One for a connection or command that is gone falls on nothing.
    pub fn due(&mut self, due: Due) {
        match due {
            Due::Connection(token) => self.connection_due(token),
            Due::Command(token) => self.command_due(token),
            Due::Stream(token) => {
                if let Some(stream) = self.streams.by_token(token) {
                    self.stream_due(stream);
                }
            }
        }
    }

    fn command_due(&mut self, token: Token) {
        let command = match planted(Fault::TrustStaleCommandTimer) {
            true => self.commands.entries().contains(token.slot as usize).then_some(token.slot),
            false => self.commands.by_token(token),
        };
        if let Some(command) = command {
            self.finish_late(command, Outcome::Deadline);
        }
    }

    fn connection_due(&mut self, token: Token) {
        let token = match planted(Fault::TrustStaleTimer) {
            true => self.table.tenant(token.slot).unwrap_or(token),
            false => token,
        };
        // The timer that fired is gone: there is a new one before anything else happens.
        if self.table.get(token).is_none() {
            return;
        }
        self.set_timer(token, Time::NEVER);
        if self.table.get(token).is_some_and(|connection| self.deadline(connection) <= self.now.time) {
            self.expire(token);
        }
        // A tick ahead at least, so that nothing fires twice in a turn.
        let Some(connection) = self.table.get(token) else { return };
        let at = self.deadline(connection).max(self.now.time + Duration::from_millis(1));
        self.wheel.cancel(connection.timer);
        self.set_timer(token, at);
    }

    fn set_timer(&mut self, token: Token, at: Time) {
        let timer = self.wheel.set(at, Due::Connection(token));
        if let Some(connection) = self.table.get_mut(token) {
            (connection.timer, connection.timer_at) = (timer, at);
        }
    }

    /// Moves a connection's timer if what is due next is due earlier than it fires.
    pub(super) fn advance_timer(&mut self, token: Token) {
        let Some(connection) = self.table.get(token) else { return };
        let at = self.deadline(connection);
        if at < connection.timer_at {
            self.wheel.cancel(connection.timer);
            self.set_timer(token, at);
        }
    }

    /// The next moment at which something is due for a connection.
    pub(super) fn deadline(&self, connection: &Connection<T>) -> Time {
        let settings = &self.settings;
        let session = match &connection.session {
            Session::LastWords(words) if words.patient && !words.shut => {
                return words.until.max(connection.last_taken + settings.queue_soft);
            }
            Session::LastWords(words) => return words.until,
            Session::Router(session) => session.deadline(
                connection.opened_at,
                settings.router.hello_timeout,
                &settings.router.heartbeat,
            ),
            Session::WebSocket(session) => {
                session.deadline(connection.opened_at, settings_of(settings, connection.class))
            }
            Session::Http(session) => match session.deadline(&settings.http) {
                Some((at, Waiting::NextRequest)) if !connection.out.is_empty() => {
                    at.max(connection.last_taken + settings.http.idle_timeout)
                }
                Some((at, _)) => at,
                None => Time::NEVER,
            },
        };
        if connection.is_backed_up(settings) {
            session.min(self.backlog_deadline(connection))
        } else {
            session
        }
    }

    fn backlog_deadline(&self, connection: &Connection<T>) -> Time {
        connection.last_taken + self.settings.queue_soft
    }

    /// Something is due.
    fn expire(&mut self, token: Token) {
        let now = self.now.time;
        let Some(connection) = self.table.get(token) else { return };
        if connection.closing.is_some() {
            return;
        }
        let backed_up = connection.is_backed_up(&self.settings) && self.backlog_deadline(connection) <= now;
        match &connection.session {
            Session::LastWords(words) if words.patient && !words.shut => {
                self.cut_last_words(token, Reason::SlowConsumer);
            }
            Session::LastWords(_) => self.drop_last_words(token),
            _ if backed_up => self.close_slow(token, "queue.soft_s: its socket takes nothing"),
            Session::Router(session) if session.bound.is_none() => {
                let text = "router.hello_timeout_s: no HELLO".into();
                self.close(token, Reason::HelloTimeout, Farewell::Bye { code: "hello_timeout", text });
            }
            Session::WebSocket(session) if !session.is_open() => {
                let bytes_seen = !connection.input.is_empty();
                self.late(token, Reason::HeaderTimeout, bytes_seen, "handshake_timeout_s: no whole request");
            }
            Session::Http(session) => match session.deadline(&self.settings.http) {
                Some((_, Waiting::FirstByte)) => self.close(token, Reason::HeaderTimeout, Farewell::None),
                Some((_, Waiting::NextRequest)) => self.close(token, Reason::IdleTimeout, Farewell::None),
                Some((_, Waiting::Head)) => {
                    self.late(token, Reason::HeaderTimeout, true, "http.header_timeout_s: no whole head")
                }
                Some((_, Waiting::Body)) => self.late(
                    token,
                    Reason::IdleTimeout,
                    true,
                    "http.body_timeout_s: the body came too slowly",
                ),
                Some((_, Waiting::Silence)) => self.comment(token),
                None => {}
            },
            Session::Router(_) | Session::WebSocket(_) => self.beat(token),
        }
    }

    /// A request that did not come in time is answered 408, if a part of it came at all (RFC 9110 section 15.5.9).
    fn late(&mut self, token: Token, reason: Reason, begun: bool, detail: &'static str) {
        if !begun {
            return self.close(token, reason, Farewell::None);
        }
        let date = self.scratch.date.text(self.now.unix_ms);
        let refusal = Refusal::new(408, "request_timeout", detail);
        let answer = queued_bytes(0, |out| refusal.write(out, true, false, date));
        self.send_user(token, Payload::Owned(answer));
        self.close(token, reason, Farewell::Queued);
    }

    fn beat(&mut self, token: Token) {
        const ROUTER_PING: [u8; HEADER_BYTES] = [Kind::Ping as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        debug_assert_eq!(ROUTER_PING, header(Kind::Ping, 0, 0, 0, 0));
        let now = self.now.time;
        let Some(connection) = self.table.get_mut(token) else { return };
        let io = &connection.io;
        let trickled_at = connection.trickled_at;
        let acks =
            || io.info().map(|info| Acks { bytes: info.acked_bytes, host_is_silent: info.unanswered > 1 });
        let (beat, ping): (_, &'static [u8]) = match &mut connection.session {
            Session::Router(session) => {
                let settings = &self.settings.router.heartbeat;
                (
                    session.heartbeat.beat(now, settings, ROUTER_PING.len() as u64, trickled_at, acks),
                    &ROUTER_PING,
                )
            }
            Session::WebSocket(session) => {
                let settings = settings_of(&self.settings, connection.class);
                let ping = websocket::ping();
                (session.heartbeat.beat(now, &settings.heartbeat, ping.len() as u64, trickled_at, acks), ping)
            }
            _ => return,
        };
        match beat {
            Beat::Nothing => {}
            Beat::Ping => self.send_system(token, Payload::Static(ping)),
            Beat::Dead => {
                let text = "heartbeat.timeout_s: nothing was heard".into();
                let farewell = match self.table.get(token).map(|connection| connection.class) {
                    Some(Class::Router) => Farewell::Bye { code: "heartbeat_timeout", text },
                    _ => Farewell::Close { code: 4408, text },
                };
                self.close(token, Reason::HeartbeatTimeout, farewell);
            }
        }
    }
}
