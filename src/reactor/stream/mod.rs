//! Streams applied (SPEC section 1, Streams): from a request to OPEN, and again to OPEN after a gap or an absence.
//! `docs/streams.md` draws the frames.

mod absence;
mod credit;
mod deadline;
mod ending;
mod rows;

pub(super) use ending::Ending;

use super::command::Denied;
use super::connection::Session;
use super::engine::Engine;
use super::table::Table;
use crate::api::Refusal;
use crate::api::routes::StreamCall;
use crate::core::frames::Payload;
use crate::core::streams::{NewStream, Opening};
use crate::core::wheel::Due;
use crate::fault::{Fault as Planted, planted};
use crate::id::Token;
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::session::http::{Exchange, Task};
use crate::session::router::RouterSession;

impl<T: Transport> Engine<T> {
    /// Begins a stream. Its answer begins with the first row or END.
    pub(super) fn open_stream(&mut self, token: Token, exchange: Exchange, asked: &StreamCall<'_>) {
        let (router, opening) = {
            let _charge = charge(Holder::Stream);
            (asked.router.as_ref().into(), Opening::new(&asked.name, asked.window, &asked.query))
        };
        match self.admit_stream(&asked.router, &opening) {
            Err(denied) if planted(denied.skipped_answer()) => {}
            Err(denied) => self.refuse(token, exchange, &Refusal { sent: None, ..denied.refusal() }),
            Ok(session) => {
                let (from, chunked) = (asked.from, exchange.chunked);
                self.insert_stream(NewStream { consumer: token, router, session, opening, from, chunked });
            }
        }
    }

    /// The session that a stream is opened on, if it may be.
    fn admit_stream(&mut self, router: &str, opening: &Opening) -> Result<Token, Denied> {
        if self.draining.is_some() {
            return Err(Denied::Draining);
        }
        let session = self.admit_frame(router, opening.wire_bytes())?;
        let streams = router_session(&mut self.table, session).map_or(0, |session| session.streams.len());
        if streams >= self.settings.router.max_streams {
            return Err(Denied::Busy("router.max_streams: too many streams are under way"));
        }
        Ok(session)
    }

    fn insert_stream(&mut self, new: NewStream) {
        let (now, consumer, session) = (self.now.time, new.consumer, new.session);
        let token = self.streams.next_token();
        let timer = self.wheel.set(now + self.settings.stream.idle, Due::Stream(token));
        let Some(session) = router_session(&mut self.table, session) else { return self.wheel.cancel(timer) };
        let key = self.streams.insert(token, new, now, timer, &mut session.streams);
        if let Some(session) = self.table.get_mut(consumer).and_then(|connection| connection.session.http()) {
            session.task = Task::Stream(key);
        }
        self.open(key);
    }

    /// Queues OPEN under a new id, from the first row that has not come.
    fn open(&mut self, key: u32) {
        let Some(token) = self.streams.get(key).session else { return };
        let Some(connection) = self.table.get_mut(token) else { return };
        let was_backed_up = connection.is_backed_up(&self.settings);
        let Some(session) = connection.session.router() else { return };
        let streams = &self.streams;
        let id = session.next_stream(|id| streams.find(token, id).is_some());
        self.streams.begin(key, token, id);
        let stream = self.streams.get_mut(key);
        stream.moved_at = self.now.time;
        let frame = {
            let _charge = charge(Holder::QueuedFrame);
            stream.opening.frame(id, stream.next())
        };
        connection.out.push_open(&mut self.frames, Payload::Owned(frame));
        self.queued(token, was_backed_up);
    }

    /// Something was written to a router that OPENs waited for: those that went are asked from now on.
    pub(super) fn mark_asked(&mut self, token: Token) {
        let Some(connection) = self.table.get(token) else { return };
        let Session::Router(session) = &connection.session else { return };
        let waits = |id| connection.out.has_open(&self.frames, id);
        self.streams.mark_asked(&session.streams, waits, self.now.time);
    }

    /// Opens a stream anew that has met a gap or lost its session, when its consumer has taken every row that came before.
    fn reopen(&mut self, key: u32) {
        let stream = self.streams.get(key);
        let has_taken_all =
            self.table.get(stream.consumer).is_some_and(|connection| connection.out.is_empty());
        let is_there = stream.session.is_some_and(|session| self.is_open(session));
        let may_ask = has_taken_all || planted(Planted::GrantTwice);
        if stream.gatherer().is_none() && may_ask && is_there {
            self.streams.get_mut(key).barren += 1;
            self.open(key);
        }
    }
}

/// A router's session, with the heads of its lists of streams, apart from the streams themselves.
fn router_session<T>(table: &mut Table<T>, token: Token) -> Option<&mut RouterSession> {
    table.get_mut(token)?.session.router()
}
