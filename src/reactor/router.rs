//! What routers say, applied: HELLO binds, replies answer, events go to their watchers.

use super::command::Outcome;
use super::connection::Farewell;
use super::engine::Engine;
use super::send::queued_bytes;
use crate::core::frames::{INLINE_BYTES, Payload};
use crate::fault::{Fault as Planted, planted};
use crate::id::{Reason, Token};
use crate::limits::{MAX_FRAGMENT_BYTES, MAX_MESSAGE_BYTES, MAX_PING_BYTES, ROUTER_FRAMES_PER_TURN};
use crate::net::transport::Transport;
use crate::proto::router::{Fault, HEADER_BYTES, Kind, flags, header, system_frame};
use crate::session::router::{Bound, FromRouter};

impl<T: Transport> Engine<T> {
    /// Carries out the whole frames at the front of `input`. True if it stopped before the last one.
    pub(super) fn consume_router(&mut self, token: Token, input: &mut &[u8]) -> bool {
        for _ in 0..ROUTER_FRAMES_PER_TURN {
            if self.is_share_spent() {
                break;
            }
            let Some(connection) = self.table.get_mut(token) else { return false };
            if connection.closing.is_some() {
                return false;
            }
            let Some(session) = connection.session.router() else { return false };
            match session.next(input) {
                Ok(Some(said)) => self.apply_router(token, said),
                Ok(None) => return false,
                Err(fault) => {
                    self.close_at_fault(token, fault);
                    return false;
                }
            }
        }
        true
    }

    fn apply_router(&mut self, token: Token, said: FromRouter<'_>) {
        match said {
            FromRouter::Hello { router } => self.bind(token, router),
            FromRouter::Ping { .. } if planted(Planted::NoPong) => {}
            FromRouter::Ping { id, body } => self.send_system(token, pong(id, body)),
            FromRouter::Pong => {}
            FromRouter::Bye { .. } => self.close(token, Reason::PeerClosed, Farewell::Queued),
            FromRouter::ReplyPart { id, flags, body } => self.reply_part(token, id, flags, body),
            FromRouter::Item { id, json, seq, row } => self.item(token, id, json, seq, row),
            FromRouter::End { id, next } => self.end(token, id, next),
            FromRouter::StreamError { id, text } => self.stream_error(token, id, text),
            FromRouter::Event { topic, flags, body } => {
                let Some(connection) = self.table.get_mut(token) else { return };
                connection.traffic.messages_in += 1;
                let Some(bound) = connection.session.router().and_then(|session| session.bound) else {
                    return;
                };
                self.publish(
                    bound.shadow,
                    &topic,
                    &body,
                    flags & flags::JSON != 0,
                    flags & flags::RETAIN != 0,
                );
            }
        }
    }

    /// The newcomer is welcomed, and the old session, if there is one, is told so and ends.
    fn bind(&mut self, token: Token, router: &str) {
        let session = self.mint.session();
        let (shadow, old) = self.shadows.bind(router, token, &mut self.mint, &self.settings.shadow);
        if let Some(connection) = self.table.get_mut(token)
            && let Some(router_session) = connection.session.router()
        {
            router_session.bound = Some(Bound { shadow, session });
            router_session.heartbeat.heard(self.now.time);
        }
        let heartbeat = self.settings.router.heartbeat;
        let body = serde_json::json!({
            "heartbeat_interval_ms": heartbeat.interval.as_millis() as u64,
            "heartbeat_timeout_ms": heartbeat.timeout.as_millis() as u64,
            "max_message_bytes": MAX_MESSAGE_BYTES,
            "max_fragment_bytes": MAX_FRAGMENT_BYTES,
        });
        let name = session.to_string();
        let welcome = queued_bytes(256, |out| {
            system_frame(out, Kind::Welcome, flags::JSON, 1, &name, body.to_string().as_bytes());
        });
        self.send_system(token, Payload::Owned(welcome));
        if let Some(old) = old {
            let text = "the router has connected again".into();
            self.close(old, Reason::Takeover, Farewell::Bye { code: "takeover", text });
        }
        self.publish_presence(router, true, &name, None);
        self.resume_streams(router, token);
    }

    /// A session has ended. Its router is offline, unless it is bound elsewhere by now.
    pub(super) fn router_gone(&mut self, token: Token, bound: Bound, reason: Reason) {
        let holder = match planted(Planted::TrustStaleRegistryEntry) {
            true => self.shadows.holder(bound.shadow).unwrap_or(token),
            false => token,
        };
        if let Some(router) = self.shadows.unbind(bound.shadow, holder, self.now.time, &self.settings.shadow)
        {
            self.publish_presence(&router, false, &bound.session.to_string(), Some(reason));
        }
    }

    fn reply_part(&mut self, token: Token, id: u32, part_flags: u8, body: &[u8]) {
        let more = part_flags & flags::MORE != 0;
        let awaited = self.commands.find(token, id).filter(|key| self.commands.get(*key).message.is_begun());
        let Some(key) = awaited else {
            self.census.dropped.late_replies += u64::from(!more);
            return;
        };
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.router() else { return };
        let command = self.commands.get(key);
        let constant = part_flags & !flags::MORE;
        let held = command.reply_bytes();
        let first_flags = command.reply_flags().unwrap_or(constant);
        if let Err(fault) = session.check_reply_part(constant, first_flags, held, body.len(), more) {
            return self.close_at_fault(token, fault);
        }
        self.commands.extend_reply(key, constant, body);
        if more {
            return;
        }
        session.let_go(held);
        connection.traffic.messages_in += 1;
        let body = self.commands.take_reply(key);
        let json = constant & flags::JSON != 0;
        let outcome = if constant & flags::ERROR != 0 {
            Outcome::RouterError { json, body }
        } else {
            Outcome::Reply { json, body }
        };
        self.finish(key, outcome);
    }

    pub(super) fn close_at_fault(&mut self, token: Token, fault: Fault) {
        let (reason, code, text) = match fault {
            Fault::TooLarge(what) => (Reason::TooLarge, "too_large", what),
            Fault::Protocol(what) => (Reason::ProtocolError, "protocol_error", what),
            Fault::UnsupportedVersion => (Reason::ProtocolError, "unsupported_version", "the version is 1"),
        };
        self.close(token, reason, Farewell::Bye { code, text: text.into() });
    }
}

/// The PONG to a PING, without an allocation.
fn pong(id: u32, body: &[u8]) -> Payload {
    const _: () = assert!(HEADER_BYTES + MAX_PING_BYTES <= INLINE_BYTES);
    let mut frame = [0; HEADER_BYTES + MAX_PING_BYTES];
    frame[..HEADER_BYTES].copy_from_slice(&header(Kind::Pong, 0, id, 0, body.len()));
    frame[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
    Payload::copy(&frame[..HEADER_BYTES + body.len()])
}
