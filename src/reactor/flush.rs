//! Writing: what a turn produced for a connection goes out in one call; what the kernel does not take waits for the next
//! event that says it has room.

use super::connection::Session;
use super::engine::Engine;
use crate::id::{Reason, Token};
use crate::limits::{MAX_SYSTEM_LANE_BYTES, WRITE_CHUNK_BYTES};
use crate::net::transport::Transport;
use std::io;

/// What one connection may be written in one turn, so that a fast reader of a long queue does not hold up the others.
const BYTES_PER_TURN: usize = 4 * WRITE_CHUNK_BYTES;

impl<T: Transport> Engine<T> {
    pub(super) fn flush_all(&mut self) {
        self.restart_stopwatch();
        let mut dirty = self.work.dirty.take();
        for token in dirty.drain(..) {
            if let Some(connection) = self.table.get_mut(token) {
                connection.in_dirty = false;
                if self.flush(token) {
                    self.write_on_next_turn(token);
                }
                self.clock(token);
            }
        }
        self.work.dirty.put_back(dirty);
    }

    /// Its share of this turn is used up: the ready list brings it back in the next.
    pub(super) fn write_on_next_turn(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token) {
            self.work.mark_ready(connection, token);
        }
    }

    /// Writes until the queue is empty, the kernel is full, or the turn's share is used up: then true.
    pub(super) fn flush(&mut self, token: Token) -> bool {
        let mut taken = 0;
        let had_opens = self.table.get(token).is_some_and(|connection| connection.out.has_opens());
        while taken < BYTES_PER_TURN {
            self.queue_acks(token);
            let Some(connection) = self.table.get_mut(token) else { return false };
            if !connection.writable || connection.out.is_empty() {
                break;
            }
            let waited = connection.waits;
            let plan = &mut self.scratch.plan;
            connection.out.plan(&self.frames, &self.commands, plan);
            let io = &mut connection.io;
            match plan.with_slices(&self.frames, &self.commands, |slices| io.write(slices)) {
                Ok(written) => {
                    connection.writable = written == plan.bytes();
                    connection.traffic.bytes_out += written as u64;
                    connection.waits = !connection.writable;
                    if written > 0 {
                        connection.last_taken = self.now.time;
                        if waited || connection.waits {
                            connection.trickled_at = Some(self.now.time);
                        }
                    }
                    connection.out.commit(&mut self.frames, &mut self.commands, plan, written);
                    taken += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (connection.writable, connection.waits) = (false, true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lose(token, &error);
                    return false;
                }
            }
        }
        if had_opens && taken > 0 {
            self.mark_asked(token);
        }
        self.after_flush(token, taken)
    }

    fn after_flush(&mut self, token: Token, taken: usize) -> bool {
        let Some(connection) = self.table.get_mut(token) else { return false };
        if connection.out.is_empty() {
            self.queue_drained(token);
        } else if !connection.writable && connection.out.system_bytes() > MAX_SYSTEM_LANE_BYTES {
            self.close_slow(token, "it does not read what it asks for");
            return false;
        }
        if taken > 0 {
            self.resume_reading(token);
            self.resume_replay(token);
            self.advance_stream(token);
            self.resume_fleet(token);
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
}
