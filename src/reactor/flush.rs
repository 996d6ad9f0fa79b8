//! Writing: what a turn produced for a connection goes out in one call; what the kernel does not take waits for the next
//! event that says it has room.

use super::connection::{LastWords, Session};
use super::engine::{Engine, mark};
use crate::core::frames::Payload;
use crate::id::{Reason, Token};
use crate::limits::MAX_SYSTEM_LANE_BYTES;
use crate::net::transport::Transport;
use std::io;

/// Writes of one connection in one turn, so that a fast reader of a long queue does not hold up the others.
const WRITES_PER_TURN: usize = 4;

impl<T: Transport> Engine<T> {
    pub(super) fn flush_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.work.dirty);
        let mut later = Vec::new();
        for token in dirty.drain(..) {
            if let Some(connection) = self.table.get_mut(token) {
                connection.in_dirty = false;
                if self.flush(token) {
                    later.push(token);
                }
                self.charge(token);
            }
        }
        if self.work.dirty.is_empty() {
            self.work.dirty = dirty;
        }
        for token in later {
            if let Some(connection) = self.table.get_mut(token) {
                // Not dirty in this turn any more: the ready list brings it back in the next.
                mark(&mut connection.in_ready, &mut self.work.ready, token);
            }
        }
    }

    /// Writes until the queue is empty, the kernel is full, or the turn's share is used up: then true.
    pub(super) fn flush(&mut self, token: Token) -> bool {
        let mut taken = 0;
        for _ in 0..WRITES_PER_TURN {
            let Some(connection) = self.table.get_mut(token) else { return false };
            if !connection.writable || connection.out.is_empty() {
                break;
            }
            let plan = &mut self.scratch.plan;
            connection.out.plan(&self.frames, &self.commands, plan);
            let io = &mut connection.io;
            match plan.with_slices(&self.frames, &self.commands, |slices| io.write(slices)) {
                Ok(written) => {
                    connection.writable = written == plan.bytes();
                    connection.traffic.bytes_out += written as u64;
                    connection.last_taken = if written > 0 { self.now.time } else { connection.last_taken };
                    connection.out.commit(&mut self.frames, &mut self.commands, plan, written);
                    taken += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lose(token, &error);
                    return false;
                }
            }
        }
        self.after_flush(token, taken)
    }

    fn after_flush(&mut self, token: Token, taken: usize) -> bool {
        let Some(connection) = self.table.get_mut(token) else { return false };
        if connection.out.is_empty() {
            self.queue_drained(token);
        } else if connection.out.system_bytes() > MAX_SYSTEM_LANE_BYTES {
            self.close_slow(token, "it does not read what it asks for");
            return false;
        }
        if taken > 0 {
            self.resume_reading(token);
            self.resume_replay(token);
        }
        let Some(connection) = self.table.get(token) else { return false };
        connection.writable && !connection.out.is_empty()
    }

    /// The last byte of last words is with the kernel: FIN goes behind it.
    fn queue_drained(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Session::LastWords(words) = &mut connection.session else { return };
        if words.shut {
            return;
        }
        words.shut = true;
        words.until = if words.reason == Reason::HeartbeatTimeout {
            self.now.time // nobody is there to wait for
        } else {
            self.now.time + self.settings.close_grace
        };
        if connection.io.shutdown_write().is_err() || connection.eof || words.until == self.now.time {
            self.work.ended.push(token);
        }
        self.advance_timer(token);
    }

    /// Writes what is queued before its time in the turn, because the queue is full.
    pub(super) fn flush_early(&mut self, token: Token) {
        if self.table.get(token).is_some_and(|connection| connection.writable)
            && self.flush(token)
            && let Some(connection) = self.table.get_mut(token)
        {
            mark(&mut connection.in_dirty, &mut self.work.dirty, token);
        }
    }

    /// Queues a frame of the system lane.
    pub(super) fn send_system(&mut self, token: Token, payload: Payload) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.out.push_system(&mut self.frames, payload);
        mark(&mut connection.in_dirty, &mut self.work.dirty, token);
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
        connection.traffic.messages_out += 1;
        mark(&mut connection.in_dirty, &mut self.work.dirty, token);
        if !was_backed_up {
            self.watch_backlog(token);
        }
    }

    /// When a queue has just become over half full, its soft limit begins to run.
    pub(super) fn watch_backlog(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if connection.is_backed_up(&self.settings) {
            connection.last_taken = self.now.time;
            self.advance_timer(token);
        }
    }
}

impl LastWords {
    pub fn new(reason: Reason, until: crate::clock::Time) -> Self {
        Self { reason, shut: false, discarded: 0, until }
    }
}
