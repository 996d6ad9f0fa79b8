//! Reading: one `read` a connection and turn, into the one buffer of the loop; what makes no whole frame is kept.

use super::connection::{Connection, Farewell, Session};
use super::engine::{Engine, mark};
use crate::id::{Class, Reason, Token};
use crate::limits::{MAX_LAST_WORDS_BYTES, READ_CHUNK_BYTES};
use crate::net::transport::Transport;
use std::io;

impl<T: Transport> Engine<T> {
    pub fn read_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.work.ready);
        for token in ready.drain(..) {
            if let Some(connection) = self.table.get_mut(token) {
                connection.in_ready = false;
                if connection.writable && !connection.out.is_empty() {
                    mark(&mut connection.in_dirty, &mut self.work.dirty, token); // its share of the last turn was used up
                }
                self.read(token);
                self.resume_replay(token);
                self.charge(token);
            }
        }
        if self.work.ready.is_empty() {
            self.work.ready = ready; // its capacity serves the next turn
        } else {
            self.work.ready.append(&mut ready);
        }
    }

    fn read(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.closing.is_some() {
            return;
        }
        if !connection.may_read(&self.settings) {
            // Its bytes wait in the kernel. They are a sign of life, and that it is gone must be seen all the same.
            let gone = connection.read_closed;
            match &mut connection.session {
                Session::Router(session) => session.heartbeat.heard(self.now.time),
                Session::WebSocket(session) => session.heartbeat.heard(self.now.time),
                _ => {}
            }
            if gone {
                self.gone_while_waiting(token);
            }
            return;
        }
        let mut buffer = std::mem::take(&mut self.scratch.read);
        let kept = connection.input.len();
        // What is kept may be whole requests that wait for room: more is read when they have been carried out.
        let most_unfinished = buffer.len() - READ_CHUNK_BYTES;
        let result = if connection.readable && kept <= most_unfinished {
            receive(connection, &mut buffer[kept..kept + READ_CHUNK_BYTES])
        } else {
            Ok(0)
        };
        match result {
            Ok(received) => {
                buffer[..kept].copy_from_slice(&connection.input);
                connection.input = Vec::new();
                connection.traffic.bytes_in += received as u64;
                self.consume(token, &mut buffer[..kept + received], received);
            }
            Err(error) => self.lose(token, &error),
        }
        self.scratch.read = buffer;
        self.after_read(token);
    }

    fn consume(&mut self, token: Token, bytes: &mut [u8], received: usize) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let now = self.now.time;
        let rest = match &mut connection.session {
            Session::Router(session) => {
                if received > 0 {
                    session.heartbeat.heard(now);
                }
                let mut input = &*bytes;
                self.consume_router(token, &mut input);
                input
            }
            Session::Http(_) => {
                let mut input = &*bytes;
                self.consume_http(token, &mut input);
                input
            }
            Session::WebSocket(session) => {
                if received > 0 {
                    session.heartbeat.heard(now);
                }
                let mut input = bytes;
                self.consume_websocket(token, &mut input);
                input
            }
            Session::LastWords(words) => {
                words.discarded += received as u64;
                if words.discarded > MAX_LAST_WORDS_BYTES {
                    self.work.ended.push(token);
                }
                &[]
            }
        };
        if let Some(connection) = self.table.get_mut(token)
            && connection.closing.is_none()
            && !rest.is_empty()
        {
            connection.input = rest.to_vec();
        }
    }

    fn after_read(&mut self, token: Token) {
        self.recount_held(token);
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.closing.is_some() {
            return;
        }
        if connection.eof {
            self.peer_finished(token);
        } else if connection.readable && connection.may_read(&self.settings) {
            mark(&mut connection.in_ready, &mut self.work.ready, token);
        }
        self.advance_timer(token);
    }

    /// FIN has been read, and every whole frame before it.
    fn peer_finished(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        match &connection.session {
            Session::LastWords(words) => {
                if words.shut {
                    self.work.ended.push(token);
                }
            }
            // A caller that hangs up takes its command with it.
            Session::Http(session) if session.answering().is_some() => {
                self.close(token, Reason::PeerClosed, Farewell::None)
            }
            _ => self.close(token, Reason::PeerClosed, Farewell::Answered),
        }
    }

    /// FIN or RST while nothing may be read: for a caller that awaits its answer it is a hang-up.
    fn gone_while_waiting(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Some(error) = connection.io.take_error() {
            return self.lose(token, &error);
        }
        if let Session::Http(session) = &connection.session
            && session.answering().is_some()
        {
            self.close(token, Reason::PeerClosed, Farewell::None);
        }
    }

    /// The socket reports an error: the reason is told by its number (SPEC sections 2 and 6).
    pub(super) fn lose(&mut self, token: Token, error: &io::Error) {
        let Some(connection) = self.table.get(token) else { return };
        if matches!(connection.session, Session::LastWords(_)) {
            return self.work.ended.push(token);
        }
        let reason = match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Reason::PeerReset,
            Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH)
                if self.answers_still(connection) =>
            {
                Reason::SlowConsumer
            }
            Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH) => Reason::Keepalive,
            _ => Reason::IoError,
        };
        self.close(token, reason, Farewell::None);
    }

    /// TCP_USER_TIMEOUT cuts a peer that takes nothing as well as one that is gone. The host of the former has answered
    /// our probes: less than the whole timeout ago, because they grow rarer by doubling.
    fn answers_still(&self, connection: &Connection<T>) -> bool {
        let timeout_ms = u64::from(self.listen_settings(connection.class).user_timeout_s) * 1000;
        !connection.out.is_empty()
            && connection.io.info().is_some_and(|info| u64::from(info.last_ack_ms) < timeout_ms * 9 / 10)
    }

    /// Brings the sum of held bytes up to date with one connection.
    pub(super) fn recount_held(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token) {
            let held = connection.held_bytes();
            self.held_bytes = self.held_bytes + held - connection.held;
            connection.held = held;
        }
    }

    /// Over `memory.max_buffered_bytes` the connection that holds most ends: rare, so it may look at all of them.
    pub(super) fn enforce_memory_limit(&mut self) {
        let mut closing_bytes = 0;
        while self.frames.queued_bytes + self.held_bytes > self.settings.max_buffered_bytes + closing_bytes {
            let live = self.table.iter().filter(|(_, connection)| !connection.is_over());
            let largest = live.max_by_key(|(_, connection)| connection.out.queued_bytes() + connection.held);
            let Some((token, connection)) = largest else { return };
            let bytes = connection.out.queued_bytes() + connection.held;
            if bytes == 0 {
                return;
            }
            closing_bytes += bytes;
            let class = connection.class;
            log::warn!(class = class.name(), address:% = connection.peer, bytes = bytes;
                "memory.max_buffered_bytes: the connection that held most ends");
            match class {
                Class::Http => self.close(token, Reason::LimitExceeded, Farewell::None),
                _ => self.close_for_limit(token, "memory.max_buffered_bytes: this connection held most"),
            }
        }
    }

    /// Ends a connection as `limit_exceeded`, in the words of its protocol.
    pub(super) fn close_for_limit(&mut self, token: Token, text: &'static str) {
        let Some(connection) = self.table.get(token) else { return };
        let open = matches!(&connection.session, Session::WebSocket(session) if session.is_open());
        let farewell = match connection.class {
            Class::Router => Farewell::Bye { code: "limit_exceeded", text: text.into() },
            Class::App | Class::Page if open => Farewell::Close { code: 4429, text: text.into() },
            _ => Farewell::Refused(text),
        };
        self.close(token, Reason::LimitExceeded, farewell);
    }
}

/// One `read`. A short one has drained the socket, unless FIN is known to be behind it.
fn receive<T: Transport>(connection: &mut Connection<T>, buffer: &mut [u8]) -> io::Result<usize> {
    match connection.io.read(buffer) {
        Ok(0) => {
            connection.readable = false;
            connection.eof = true;
            Ok(0)
        }
        Ok(received) => {
            connection.readable = received == buffer.len() || connection.read_closed;
            Ok(received)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            connection.readable = false;
            Ok(0)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}
