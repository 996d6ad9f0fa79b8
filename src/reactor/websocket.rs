//! WebSocket clients: the handshake, control frames, and messages handed to JSON-RPC.

use super::connection::{Connection, Farewell, Session};
use super::engine::Engine;
use super::http::reason_of;
use super::send::queued_bytes;
use crate::api::Refusal;
use crate::core::frames::Payload;
use crate::id::{Reason, Token};
use crate::limits::REQUESTS_PER_TURN;
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::websocket::{Fault, Message, write_pong, write_upgrade};
use crate::session::websocket::{Handshake, settings_of};

impl<T: Transport> Engine<T> {
    /// Carries out the whole messages at the front of `input`, as long as there is room for answers. True if it stopped
    /// before the last one.
    pub(super) fn consume_websocket(&mut self, token: Token, input: &mut &mut [u8]) -> bool {
        let before = self.table.get(token).map_or(0, |connection| connection.out.counted_bytes());
        for _ in 0..REQUESTS_PER_TURN {
            let Some(connection) = self.table.get_mut(token) else { return false };
            if !connection.may_read(&self.settings) || connection.has_had_its_share(before) {
                return true;
            }
            let Session::WebSocket(session) = &mut connection.session else { return false };
            if !session.is_open() {
                match session.handshake(input, connection.class, &self.settings.page.origins) {
                    Handshake::Incomplete => return false,
                    Handshake::Accepted { accept } => self.upgrade(token, &accept),
                    Handshake::Refused(refusal) => return self.refuse_upgrade(token, &refusal),
                }
                continue;
            }
            match session.next(input, settings_of(&self.settings, connection.class)) {
                Ok(None) => return false,
                Ok(Some(message)) => self.apply_message(token, message),
                Err(fault) => {
                    self.close_at_websocket_fault(token, fault);
                    return false;
                }
            }
        }
        true
    }

    fn refuse_upgrade(&mut self, token: Token, refusal: &Refusal) -> bool {
        let date = self.scratch.date.text(self.now.unix_ms);
        let answer = queued_bytes(0, |out| refusal.write(out, true, false, date));
        self.send_user(token, Payload::Owned(answer));
        self.close(token, reason_of(refusal), Farewell::Queued);
        false
    }

    fn upgrade(&mut self, token: Token, accept: &str) {
        let date = self.scratch.date.text(self.now.unix_ms);
        let answer = queued_bytes(256, |out| write_upgrade(out, accept, date));
        self.send_system(token, Payload::Owned(answer)); // before the answers to frames behind the handshake
        if let Some(session) = self.table.get_mut(token).and_then(|connection| connection.session.websocket())
        {
            session.heartbeat.heard(self.now.time);
            let _charge = charge(Holder::Other); // the registry is nobody's
            self.clients.insert(session.client, token);
        }
    }

    fn apply_message(&mut self, token: Token, message: Message<'_>) {
        #[cfg(feature = "websocket-echo")]
        let Some(message) = self.echo(token, message) else { return };
        match message {
            Message::Text(text) => {
                if let Some(connection) = self.table.get_mut(token) {
                    connection.traffic.messages_in += 1;
                }
                self.carry_out_rpc(token, &text);
            }
            Message::Ping(payload) => {
                let mut pong = std::mem::take(&mut self.scratch.frame);
                write_pong(&mut pong, payload);
                self.send_system(token, Payload::copy(&pong));
                pong.clear();
                self.scratch.frame = pong;
            }
            Message::Pong(_) => {}
            Message::Close { code, .. } => {
                // RFC 6455 section 5.5.1: the close frame is answered with its own code.
                let farewell = Farewell::Close { code: code.unwrap_or(1000), text: "".into() };
                self.close(token, Reason::PeerClosed, farewell);
            }
            Message::Binary(_) => unreachable!("the decoder refuses binary messages"),
        }
    }

    fn close_at_websocket_fault(&mut self, token: Token, fault: Fault) {
        let reason = if fault.code == 1009 { Reason::TooLarge } else { Reason::ProtocolError };
        self.close(token, reason, Farewell::Close { code: fault.code, text: fault.what.into() });
    }

    pub(super) fn kick_client(&mut self, token: Token) {
        let open = self.table.get(token).is_some_and(Connection::is_open_websocket);
        let farewell = if open {
            Farewell::Close { code: 4403, text: "by the operator".into() }
        } else {
            Farewell::None
        };
        self.close(token, Reason::Kicked, farewell);
    }
}

impl<T> Connection<T> {
    pub(super) fn is_open_websocket(&self) -> bool {
        matches!(&self.session, Session::WebSocket(session) if session.is_open())
    }
}
