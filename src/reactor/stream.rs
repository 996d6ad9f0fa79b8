//! Streams applied: rows from routers to their consumers, acknowledgements back, and what becomes of a stream that meets a gap
//! or loses its router (SPEC section 1, Streams). `docs/streams.md` draws the frames.

use super::command::Denied;
use super::engine::Engine;
use crate::api::Refusal;
use crate::api::routes::StreamCall;
use crate::clock::Time;
use crate::core::frames::Payload;
use crate::core::streams::{Acks, Format, Misfit, NewStream, OfRouter, Opening};
use crate::core::wheel::Due;
use crate::fault::{Fault as Planted, planted};
use crate::id::{Reason, Token};
use crate::limits::{MAX_ACK_LANE_BYTES, MAX_BARREN_REOPENINGS};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::flat_lines;
use crate::proto::router::{Fault, Kind, header};
use crate::session::http::{Exchange, Task};
use std::borrow::Cow;

const BARREN: &str = "the router sent no new row, however often the stream was opened again";

/// How a stream ends, when it is not given up by its consumer.
#[derive(Debug)]
pub(super) enum Ending {
    /// END came with the right number.
    Done,
    /// END came with ERROR.
    RouterError(String),
    /// No row for too long, or after too many reopenings.
    NoProgress(&'static str),
    /// The router did not come back, or its session ended by its own fault.
    Lost,
    Draining,
}

impl<T: Transport> Engine<T> {
    /// Begins a stream. Its answer begins with the first row or END.
    pub(super) fn open_stream(&mut self, token: Token, exchange: Exchange, asked: &StreamCall<'_>) {
        let _charge = charge(Holder::Stream);
        let opening = Opening::new(&asked.name, asked.window, &asked.query);
        match self.admit_stream(&asked.router, &opening) {
            Err(denied) if planted(denied.skipped_answer()) => {}
            Err(denied) => self.refuse(token, exchange, &Refusal { sent: None, ..denied.refusal() }),
            Ok(session) => {
                let (router, chunked) = (asked.router.as_ref().into(), exchange.chunked);
                let from = asked.from;
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
        let streams = self.of_router(session).map_or(0, |streams| streams.len());
        if streams >= self.settings.router.max_streams {
            return Err(Denied::Busy("router.max_streams: too many streams are under way"));
        }
        Ok(session)
    }

    fn insert_stream(&mut self, new: NewStream) {
        let (now, consumer, session) = (self.now.time, new.consumer, new.session);
        let token = self.streams.next_token();
        let timer = self.wheel.set(now + self.settings.stream.idle, Due::Stream(token));
        let mut list = self.of_router(session).copied().unwrap_or_default();
        let key = self.streams.insert(token, new, now, timer, &mut list);
        self.put_list(session, list);
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

    /// OPENs have been written to a router: its time to answer them begins.
    pub(super) fn opens_written(&mut self, token: Token) {
        let (now, Some(streams)) = (self.now.time, self.of_router(token).copied()) else { return };
        let Some(connection) = self.table.get(token) else { return };
        let mut next = streams.front();
        while let Some(key) = next {
            next = streams.next(self.streams.entries(), key);
            let waits = |id| connection.out.has_open(&self.frames, id);
            let stream = self.streams.get(key);
            if !stream.is_asked && stream.gatherer().is_some_and(|gatherer| !waits(gatherer.id)) {
                let stream = self.streams.get_mut(key);
                (stream.is_asked, stream.moved_at) = (true, now);
            }
        }
    }

    /// Opens a stream anew that has met a gap or lost its session, when its consumer has taken every row that came before.
    fn reopen(&mut self, key: u32) {
        let stream = self.streams.get(key);
        let has_taken_all =
            self.table.get(stream.consumer).is_some_and(|connection| connection.out.is_empty());
        let is_there = stream.session.is_some_and(|session| self.is_open(session));
        if stream.gatherer().is_none() && has_taken_all && is_there {
            self.streams.get_mut(key).barren += 1;
            self.open(key);
        }
    }

    /// A row has come. One of a stream that is not open falls on nothing.
    pub(super) fn item(&mut self, token: Token, id: u32, json: bool, seq: u64, row: &[u8]) {
        let Some(key) = self.find_stream(token, id) else { return };
        match self.streams.take_in(key, seq, row.len()) {
            Ok(()) => {}
            Err(Misfit::Gap) => return self.gap(key),
            Err(Misfit::Overrun) => {
                return self.close_at_fault(token, Fault::Protocol("an ITEM over the window of its stream"));
            }
        }
        if let Some(connection) = self.table.get_mut(token) {
            connection.traffic.messages_in += 1;
        }
        let now = self.now.time;
        let stream = self.streams.get_mut(key);
        (stream.moved_at, stream.barren) = (now, 0);
        let format = Format::of(json);
        match stream.format {
            None => self.begin_rows(key, format),
            Some(fixed) if fixed == format => {}
            Some(_) => {
                return self.close_at_fault(token, Fault::Protocol("an ITEM whose JSON flag differs"));
            }
        }
        self.give_row(key, format, row);
    }

    /// The first row fixes the form of the answer.
    fn begin_rows(&mut self, key: u32, format: Format) {
        let consumer = self.streams.get(key).consumer;
        let bytes = self.begin_long_answer(consumer, format.content_type(), &[]);
        self.streams.add_head(key, bytes, format);
    }

    fn give_row(&mut self, key: u32, format: Format, row: &[u8]) {
        let consumer = self.streams.get(key).consumer;
        if self.exchange(consumer).is_some_and(|exchange| exchange.head_only) {
            return self.finish_stream(key, Ending::Done, true); // the head is all that was asked for
        }
        let bytes = match format {
            Format::Ndjson => self.continue_long_answer(consumer, &flat_lines(row), b"\n"),
            Format::Octets => self.continue_long_answer(consumer, &(row.len() as u32).to_be_bytes(), row),
        };
        self.streams.add_row(key, bytes);
    }

    /// END has come, with the number behind the last row.
    pub(super) fn end(&mut self, token: Token, id: u32, next: u64) {
        let Some(key) = self.find_stream(token, id) else { return };
        let stream = self.streams.get(key);
        if stream.next() != next {
            return self.gap(key);
        }
        if stream.format.is_none() {
            self.begin_rows(key, Format::Ndjson);
        }
        self.finish_stream(key, Ending::Done, false);
    }

    /// END has come with ERROR.
    pub(super) fn stream_error(&mut self, token: Token, id: u32, text: &str) {
        if let Some(key) = self.find_stream(token, id) {
            self.finish_stream(key, Ending::RouterError(text.to_owned()), false);
        }
    }

    /// The stream that a router means by `id`: not one whose OPEN it cannot have seen yet.
    fn find_stream(&mut self, token: Token, id: u32) -> Option<u32> {
        let found = self.streams.find(token, id).filter(|key| self.streams.get(*key).is_asked);
        self.census.dropped.late_stream_frames += u64::from(found.is_none());
        found
    }

    /// What came is not what was expected: the gathering state is thrown away.
    fn gap(&mut self, key: u32) {
        self.drop_gatherer(key, true);
        if self.streams.get(key).barren >= MAX_BARREN_REOPENINGS {
            return self.finish_stream(key, Ending::NoProgress(BARREN), false);
        }
        self.reopen(key);
    }

    /// Throws the gathering state away; the router is told to stop, or its OPEN is never sent.
    fn drop_gatherer(&mut self, key: u32, cancel: bool) {
        let Some(token) = self.streams.get(key).session else { return };
        let mut acks = self.acks(token).copied().unwrap_or_default();
        let gatherer = self.streams.drop_gatherer(key, &mut acks);
        if let Some(list) = self.acks(token) {
            *list = acks;
        }
        let (Some(gatherer), Some(connection)) = (gatherer, self.table.get_mut(token)) else { return };
        let was_waiting = connection.out.withdraw_open(&mut self.frames, gatherer.id);
        if cancel && !was_waiting && !connection.is_over() && !planted(Planted::NoCancel) {
            let frame = header(Kind::Cancel, 0, gatherer.id, 0, 0);
            self.send_system(token, Payload::copy(&frame));
        }
        self.resume_reading(token); // its queue may be below half again
    }

    /// The consumer has taken something: rows are acknowledged, or the stream is opened again.
    pub(super) fn advance_stream(&mut self, consumer: Token) {
        let Some(connection) = self.table.get_mut(consumer) else { return };
        let waiting = connection.out.queued_bytes();
        let Some(Task::Stream(key)) = connection.session.http().map(|session| &session.task) else { return };
        let key = *key;
        if self.streams.get(key).gatherer().is_none() {
            return self.reopen(key);
        }
        if self.streams.take_off(key, waiting)
            && let Some(router) = self.streams.get(key).session
        {
            let mut acks = self.acks(router).copied().unwrap_or_default();
            self.streams.push_ack(key, &mut acks);
            if let Some(list) = self.acks(router) {
                *list = acks;
            }
            if let Some(connection) = self.table.get_mut(router) {
                self.work.dirty.mark(&mut connection.in_dirty, router);
            }
        }
    }

    /// Queues the ACKs that are due, as far as the system lane has room: each says all that is known by now, so one that waits
    /// loses nothing.
    pub(super) fn queue_acks(&mut self, token: Token) {
        while let Some(connection) = self.table.get_mut(token)
            && connection.out.system_bytes() < MAX_ACK_LANE_BYTES
            && let Some(session) = connection.session.router()
            && let Some((key, id, taken)) = self.streams.pop_ack(&mut session.acks)
        {
            let frame = [&header(Kind::Ack, 0, id, 0, 8)[..], &taken.to_be_bytes()];
            connection.out.push_system(&mut self.frames, Payload::concat(&frame));
            self.streams.get_mut(key).moved_at = self.now.time; // the window has opened: the router has its time again
        }
    }

    /// Ends a stream: all that it held is gone, and its consumer is told how it ended. `cancel`: the router still sends.
    pub(super) fn finish_stream(&mut self, key: u32, ending: Ending, cancel: bool) {
        let (consumer, has_begun, session) = self.remove_stream(key, cancel);
        if self.table.get(consumer).is_some_and(|connection| !connection.is_over())
            && !planted(ending.skipped_answer())
        {
            match ending.refusal() {
                None => self.end_long_answer(consumer),
                Some(_) if has_begun => {
                    let is_drain = matches!(ending, Ending::Draining);
                    let reason = if is_drain { Reason::Draining } else { Reason::RouterLost };
                    self.cut_long_answer(consumer, reason);
                }
                Some(refusal) => {
                    if let Some(exchange) = self.exchange(consumer) {
                        self.refuse(consumer, exchange, &refusal);
                    }
                }
            }
        }
        if let Some(session) = session {
            self.drain_further(session);
        }
    }

    /// Drops a stream whose consumer is gone.
    pub(super) fn abandon_stream(&mut self, key: u32) {
        let (_, _, session) = self.remove_stream(key, true);
        if let Some(session) = session {
            self.drain_further(session);
        }
    }

    /// Takes a stream out of every table: its consumer, whether its answer has begun, and the session that it was on.
    fn remove_stream(&mut self, key: u32, cancel: bool) -> (Token, bool, Option<Token>) {
        self.drop_gatherer(key, cancel);
        let session = self.streams.get(key).session;
        let mut list = session.and_then(|session| self.of_router(session).copied()).unwrap_or_default();
        let stream = self.streams.remove(key, &mut list);
        if let Some(session) = session {
            self.put_list(session, list);
        }
        if !planted(Planted::KeepStreamTimer) {
            self.wheel.cancel(stream.timer);
        }
        let consumer = self.table.get_mut(stream.consumer).and_then(|connection| connection.session.http());
        if let Some(session) = consumer {
            session.task = Task::None;
        }
        (stream.consumer, stream.format.is_some(), session)
    }

    /// A router's session has ended: its streams go on when it comes back, unless it was at fault or there is no coming back.
    pub(super) fn release_streams_of_router(&mut self, token: Token, reason: Reason) {
        if planted(Planted::KeepStreamsOfRouter) {
            return;
        }
        while let Some(key) = self.of_router(token).and_then(|streams| streams.front()) {
            self.drop_gatherer(key, false);
            match reason {
                _ if self.streams.get(key).barren >= MAX_BARREN_REOPENINGS => {
                    self.finish_stream(key, Ending::NoProgress(BARREN), false);
                }
                Reason::ProtocolError | Reason::TooLarge => self.finish_stream(key, Ending::Lost, false),
                _ if self.draining.is_some() => self.finish_stream(key, Ending::Draining, false),
                _ => self.set_adrift(key, token),
            }
        }
    }

    fn set_adrift(&mut self, key: u32, token: Token) {
        let now = self.now.time;
        let mut list = self.of_router(token).copied().unwrap_or_default();
        self.streams.set_adrift(key, &mut list, now);
        self.put_list(token, list);
        self.set_stream_timer(key, now + self.settings.stream.resume);
        // A router that was taken over by itself is back already.
        if let Some(session) = self.shadows.bound(&self.streams.get(key).router)
            && session != token
        {
            self.moor(key, session);
        }
    }

    /// A router is bound: the streams that waited for it go on.
    pub(super) fn resume_streams(&mut self, router: &str, session: Token) {
        while let Some(key) = self.streams.first_adrift(router)
            && self.moor(key, session)
        {}
    }

    /// False if that session is over.
    fn moor(&mut self, key: u32, session: Token) -> bool {
        let Some(mut list) = self.of_router(session).copied() else { return false };
        self.streams.moor(key, session, &mut list, self.now.time);
        self.put_list(session, list);
        self.set_stream_timer(key, self.now.time + self.settings.stream.idle);
        self.reopen(key);
        true
    }

    /// The timer of a stream has fired; its deadline may have moved meanwhile.
    pub(super) fn stream_due(&mut self, key: u32) {
        let due = Due::Stream(self.streams.token(key));
        let at = self.stream_deadline(key).max(self.now.time);
        let is_due = at == self.now.time;
        self.streams.get_mut(key).timer = self.wheel.set(at, due);
        if !is_due {
            return;
        }
        if self.streams.get(key).session.is_none() {
            self.finish_stream(key, Ending::Lost, false);
        } else {
            let text = "stream.idle_s: the router sent neither a row nor END";
            self.finish_stream(key, Ending::NoProgress(text), true);
        }
    }

    /// When a stream ends if nothing happens; one that waits for its consumer is looked at again later.
    pub(super) fn stream_deadline(&self, key: u32) -> Time {
        let (now, settings) = (self.now.time, &self.settings.stream);
        let stream = self.streams.get(key);
        if stream.session.is_none() {
            return stream.moved_at + settings.resume;
        }
        let is_open = stream.gatherer().is_some_and(|gatherer| gatherer.is_open(stream.opening.window));
        let waits_for_router = stream.is_asked && is_open;
        if waits_for_router { stream.moved_at + settings.idle } else { now + settings.idle }
    }

    fn set_stream_timer(&mut self, key: u32, at: Time) {
        self.wheel.cancel(self.streams.get(key).timer);
        let due = Due::Stream(self.streams.token(key));
        self.streams.get_mut(key).timer = self.wheel.set(at, due);
    }

    /// Streams that wait for routers which cannot come back, because the daemon drains; at its end, all of them.
    pub(super) fn end_streams(&mut self, all: bool) {
        let waiting = if all {
            self.streams.entries().iter().map(|(key, _)| key as u32).collect()
        } else {
            self.streams.adrift()
        };
        for key in waiting {
            self.finish_stream(key, Ending::Draining, true);
        }
    }

    fn of_router(&mut self, token: Token) -> Option<&mut OfRouter> {
        Some(&mut self.table.get_mut(token)?.session.router()?.streams)
    }

    fn put_list(&mut self, token: Token, streams: OfRouter) {
        if let Some(list) = self.of_router(token) {
            *list = streams;
        }
    }

    fn acks(&mut self, token: Token) -> Option<&mut Acks> {
        Some(&mut self.table.get_mut(token)?.session.router()?.acks)
    }
}

impl Ending {
    /// What the consumer is told if its answer has not begun; nothing went wrong: none.
    fn refusal(&self) -> Option<Refusal> {
        let (status, code, detail): (_, _, Cow<'static, str>) = match self {
            Ending::Done => return None,
            Ending::RouterError(text) if text.is_empty() => {
                (502, "router_error", "the router ended the stream with an error, and without a word".into())
            }
            Ending::RouterError(text) => (502, "router_error", text.clone().into()),
            Ending::NoProgress(text) => (502, "router_error", (*text).into()),
            Ending::Lost => {
                (503, "router_lost", "the router's session ended and it did not come back".into())
            }
            Ending::Draining => (503, "draining", "the daemon stopped before the stream began".into()),
        };
        Some(Refusal::new(status, code, detail))
    }

    /// The planted fault that leaves the answer out.
    fn skipped_answer(&self) -> Planted {
        match self {
            Ending::Done => Planted::NoStreamEnd,
            Ending::RouterError(_) | Ending::NoProgress(_) => Planted::NoStreamError,
            Ending::Lost => Planted::NoStreamLost,
            Ending::Draining => Planted::NoDrained,
        }
    }
}
