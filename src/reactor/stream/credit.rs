//! Credit: what the consumer has taken is acknowledged, so that the router may send more.

use super::router_session;
use crate::core::frames::Payload;
use crate::fault::{Fault as Planted, planted};
use crate::id::Token;
use crate::limits::MAX_ACK_LANE_BYTES;
use crate::net::transport::Transport;
use crate::proto::router::{Kind, header};
use crate::reactor::Engine;
use crate::session::http::Task;

impl<T: Transport> Engine<T> {
    /// The consumer has taken something: rows are acknowledged, or the stream is opened again.
    pub(in crate::reactor) fn advance_stream(&mut self, consumer: Token) {
        let Some(connection) = self.table.get_mut(consumer) else { return };
        let waiting = if planted(Planted::EarlyAck) { 0 } else { connection.out.queued_bytes() };
        let Some(Task::Stream(key)) = connection.session.http().map(|session| &session.task) else { return };
        let key = *key;
        if self.streams.get(key).gatherer().is_none() {
            return self.reopen(key);
        }
        if self.streams.take_off(key, waiting)
            && let Some(router) = self.streams.get(key).session
        {
            if let Some(session) = router_session(&mut self.table, router) {
                self.streams.push_ack(key, &mut session.acks);
            }
            if let Some(connection) = self.table.get_mut(router) {
                self.work.dirty.mark(&mut connection.in_dirty, router);
            }
        }
    }

    /// Queues the ACKs that are due, as far as the system lane has room: each says all that is known by now, so one that waits
    /// loses nothing.
    pub(in crate::reactor) fn queue_acks(&mut self, token: Token) {
        while let Some(connection) = self.table.get_mut(token)
            && connection.out.system_bytes() < MAX_ACK_LANE_BYTES
            && let Some(session) = connection.session.router()
            && let Some((key, id, taken)) = self.streams.pop_ack(&mut session.acks)
        {
            if planted(Planted::NoAck) {
                continue;
            }
            let frame = [&header(Kind::Ack, 0, id, 0, 8)[..], &taken.to_be_bytes()];
            connection.out.push_system(&mut self.frames, Payload::concat(&frame));
            self.streams.get_mut(key).moved_at = self.now.time; // the window has opened: the router has its time again
        }
    }
}
