//! Reading: one `read` a connection and turn, into the one buffer of the loop; what was not carried out is kept.

use super::connection::{Connection, Farewell, Session};
use super::engine::Engine;
use super::fleet::FLEET_TURNS;
use crate::id::{Reason, Token};
use crate::limits::{
    BULKY_BYTES_PER_TURN, BULKY_READ_BYTES, MAX_LAST_WORDS_BYTES, READ_BYTES_PER_TURN, READ_CHUNK_BYTES,
};
use crate::net::transport::Transport;
use std::io;

impl<T: Transport> Engine<T> {
    /// Reads every connection that is ready, until the turn has brought enough: the rest waits for the next one.
    pub fn read_ready(&mut self) {
        self.begin_share();
        self.restart_stopwatch();
        let mut ready = self.work.ready.take();
        let served = self.read_some(&ready, READ_BYTES_PER_TURN);
        ready.drain(..served);
        self.work.ready.put_back(ready);
        let mut bulky = self.work.bulky.take();
        let served = self.read_some(&bulky, self.work.read_in_turn + BULKY_BYTES_PER_TURN);
        bulky.drain(..served);
        self.work.bulky.put_back(bulky);
    }

    /// Reads one after another until this turn has read `most` bytes; how many had their turn.
    fn read_some(&mut self, tokens: &[Token], most: usize) -> usize {
        for (served, token) in tokens.iter().enumerate() {
            if self.is_share_spent() || self.work.read_in_turn >= most {
                return served;
            }
            let Some(connection) = self.table.get_mut(*token) else { continue };
            connection.in_ready = false;
            if connection.writable && !connection.out.is_empty() {
                self.work.dirty.mark(&mut connection.in_dirty, *token); // its share of the last turn was used up
            }
            {
                let _charge = self.charge_to(*token);
                self.read(*token);
            }
            self.resume_replay(*token);
            self.advance_fleet(*token, FLEET_TURNS);
            self.clock(*token);
        }
        tokens.len()
    }

    fn read(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.closing.is_some() {
            return;
        }
        if !connection.may_read(&self.settings) {
            // Its bytes wait in the kernel. That it is gone must be seen all the same.
            if connection.read_closed {
                self.gone_while_waiting(token);
            }
            return;
        }
        let mut buffer = std::mem::take(&mut self.scratch.read);
        let kept = connection.input.len();
        // Behind whole requests that wait for their turn nothing more is read: what is kept stays bounded.
        let result = if connection.readable && !connection.unparsed {
            receive(connection, &mut buffer[kept..kept + READ_CHUNK_BYTES])
        } else {
            Ok(0)
        };
        match result {
            Ok(received) => {
                buffer[..kept].copy_from_slice(&connection.input);
                connection.input = Vec::new();
                connection.traffic.bytes_in += received as u64;
                // What was kept costs as much as what comes anew.
                let brought = if connection.unparsed { kept } else { received };
                self.work.read_in_turn += brought;
                connection.is_bulky = brought >= BULKY_READ_BYTES;
                self.consume(token, &mut buffer[..kept + received], received);
            }
            Err(error) => self.lose(token, &error),
        }
        self.scratch.read = buffer;
        self.after_read(token);
    }

    /// Carries out what has come. Parsing may stop before the end (an answer is under way, the queue is full, the turn's
    /// share is used up): then whole frames may be among what is kept.
    fn consume(&mut self, token: Token, bytes: &mut [u8], received: usize) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if received > 0 {
            connection.heard(self.now.time);
        }
        let (rest, stopped): (&[u8], bool) = match &mut connection.session {
            Session::Router(_) => {
                let mut input = &*bytes;
                let stopped = self.consume_router(token, &mut input);
                (input, stopped)
            }
            Session::Http(_) => {
                let mut input = &*bytes;
                let stopped = self.consume_http(token, &mut input);
                (input, stopped)
            }
            Session::WebSocket(_) => {
                let mut input = bytes;
                let stopped = self.consume_websocket(token, &mut input);
                (input, stopped)
            }
            Session::LastWords(words) => {
                words.discarded += received as u64;
                if words.discarded > MAX_LAST_WORDS_BYTES {
                    self.work.ended.push(token);
                }
                (&[], false)
            }
        };
        if let Some(connection) = self.table.get_mut(token)
            && connection.closing.is_none()
        {
            connection.input = rest.to_vec();
            connection.unparsed = stopped && !rest.is_empty();
        }
    }

    fn after_read(&mut self, token: Token) {
        self.recount_held(token);
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.closing.is_some() {
            return;
        }
        let may_read = connection.may_read(&self.settings);
        if connection.is_answering() && connection.read_closed {
            self.gone_while_waiting(token);
        } else if connection.eof && !connection.unparsed {
            self.peer_finished(token);
        } else if may_read && (connection.readable || connection.unparsed) {
            self.work.mark_ready(connection, token);
        }
        self.advance_timer(token);
        self.drain_further(token);
    }

    /// FIN has been read, and every whole frame before it has been carried out.
    fn peer_finished(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        match &connection.session {
            Session::LastWords(words) => {
                if words.shut {
                    self.work.ended.push(token);
                }
            }
            _ => self.close(token, Reason::PeerClosed, Farewell::Queued),
        }
    }

    /// FIN or RST while nothing may be read: for a caller that awaits its answer it is a hang-up, and takes the command
    /// with it.
    fn gone_while_waiting(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Some(error) = connection.io.take_error() {
            return self.lose(token, &error);
        }
        if connection.is_answering() {
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
}

/// One `read`. A short one has drained the socket, unless FIN is known to be behind it.
fn receive<T: Transport>(connection: &mut Connection<T>, buffer: &mut [u8]) -> io::Result<usize> {
    match connection.io.read(buffer) {
        Ok(0) => {
            connection.readable = false;
            (connection.eof, connection.read_closed) = (true, true);
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
