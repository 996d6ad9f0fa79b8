//! Queueing: what is said to a connection, and what becomes of one that does not take it.

use super::engine::Engine;
use crate::core::frames::Payload;
use crate::fault::{Fault, planted};
use crate::id::Token;
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;

impl<T: Transport> Engine<T> {
    /// Writes what is queued before its time in the turn, because the queue is full.
    pub(super) fn flush_early(&mut self, token: Token) {
        if self.table.get(token).is_some_and(|connection| connection.writable) && self.flush(token) {
            self.write_on_next_turn(token);
        }
    }

    /// Queues a frame of the system lane.
    pub(super) fn send_system(&mut self, token: Token, payload: Payload) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if planted(Fault::StarveHeartbeats) {
            connection.out.push_user(&mut self.frames, payload);
        } else {
            connection.out.push_system(&mut self.frames, payload);
        }
        self.work.dirty.mark(&mut connection.in_dirty, token);
    }

    /// Queues an answer or a notification. One that a queue which is not empty has no room for ends the connection: the
    /// consumer is too slow. An empty queue takes one of any size.
    pub(super) fn send_user(&mut self, token: Token, payload: Payload) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.is_over() {
            return;
        }
        if !connection.has_room(payload.len(), &self.settings) {
            // One turn may bring more than a queue holds to a peer that reads at once: let it try first.
            self.flush_early(token);
            match self.table.get(token) {
                Some(connection) if connection.is_over() => return,
                Some(connection) if connection.has_room(payload.len(), &self.settings) => {}
                _ => {
                    return self
                        .close_slow(token, "max_queued_bytes: it does not read what it subscribed to");
                }
            }
        }
        let Some(connection) = self.table.get_mut(token) else { return };
        let was_backed_up = connection.is_backed_up(&self.settings);
        connection.out.push_user(&mut self.frames, payload);
        self.queued(token, was_backed_up);
    }

    /// A message has been queued. When that has just made the queue over half full, its soft limit begins to run.
    pub(super) fn queued(&mut self, token: Token, was_backed_up: bool) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.traffic.messages_out += 1;
        self.has_grown(token, was_backed_up);
    }

    /// Queues a piece of a long answer. Whoever makes it looks after the queue's limit.
    pub(super) fn send_piece(&mut self, token: Token, pieces: &[&[u8]]) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.is_over() {
            return;
        }
        let was_backed_up = connection.is_backed_up(&self.settings);
        connection.out.append_user(&mut self.frames, pieces);
        self.has_grown(token, was_backed_up);
    }

    fn has_grown(&mut self, token: Token, was_backed_up: bool) {
        let Some(connection) = self.table.get_mut(token) else { return };
        self.work.dirty.mark(&mut connection.in_dirty, token);
        if !was_backed_up && connection.is_backed_up(&self.settings) {
            connection.last_taken = self.now.time;
            self.advance_timer(token);
        }
    }
}

/// The bytes of a frame or answer that will be queued, charged as such whoever made them necessary.
pub(super) fn queued_bytes(room: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let _charge = charge(Holder::QueuedFrame);
    let mut out = Vec::with_capacity(room);
    write(&mut out);
    out
}
