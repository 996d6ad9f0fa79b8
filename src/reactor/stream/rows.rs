//! What a router sends: rows to their consumer, the end, and the gap between them.

use super::Ending;
use super::ending::BARREN;
use super::router_session;
use crate::core::frames::Payload;
use crate::core::streams::{Format, Misfit};
use crate::fault::{Fault as Planted, planted};
use crate::id::Token;
use crate::limits::MAX_BARREN_REOPENINGS;
use crate::net::transport::Transport;
use crate::proto::jsonrpc::flat_lines;
use crate::proto::router::{Fault, Kind, header};
use crate::reactor::Engine;

impl<T: Transport> Engine<T> {
    /// A row has come. One of a stream that is not open falls on nothing.
    pub(in crate::reactor) fn item(&mut self, token: Token, id: u32, json: bool, seq: u64, row: &[u8]) {
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
            Some(fixed) if fixed == format || planted(Planted::TrustFormat) => {}
            Some(_) => {
                return self.close_at_fault(token, Fault::Protocol("an ITEM whose JSON flag differs"));
            }
        }
        self.give_row(key, format, row);
    }

    /// The first row fixes the form of the answer.
    pub(super) fn begin_rows(&mut self, key: u32, format: Format) {
        let consumer = self.streams.get(key).consumer;
        let bytes = self.begin_long_answer(consumer, format.content_type(), &[]);
        self.streams.add_head(key, bytes, format);
    }

    pub(super) fn give_row(&mut self, key: u32, format: Format, row: &[u8]) {
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
    pub(in crate::reactor) fn end(&mut self, token: Token, id: u32, next: u64) {
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
    pub(in crate::reactor) fn stream_error(&mut self, token: Token, id: u32, text: &str) {
        if let Some(key) = self.find_stream(token, id) {
            self.finish_stream(key, Ending::RouterError(text.to_owned()), false);
        }
    }

    /// The stream that a router means by `id`: not one whose OPEN it cannot have seen yet.
    pub(super) fn find_stream(&mut self, token: Token, id: u32) -> Option<u32> {
        let found = self.streams.find(token, id).filter(|key| self.streams.get(*key).is_asked);
        self.census.dropped.late_stream_frames += u64::from(found.is_none());
        found
    }

    /// What came is not what was expected: the gathering state is thrown away.
    pub(super) fn gap(&mut self, key: u32) {
        self.drop_gatherer(key, true);
        if self.streams.get(key).barren >= MAX_BARREN_REOPENINGS {
            return self.finish_stream(key, Ending::NoProgress(BARREN), false);
        }
        self.reopen(key);
    }

    /// Throws the gathering state away; the router is told to stop, or its OPEN is never sent. One that has ended by itself is
    /// told nothing more.
    pub(super) fn drop_gatherer(&mut self, key: u32, cancel: bool) {
        let Some(token) = self.streams.get(key).session else { return };
        let Some(session) = router_session(&mut self.table, token) else { return };
        let Some(gatherer) = self.streams.drop_gatherer(key, &mut session.acks) else { return };
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.out.withdraw_acks(&mut self.frames, gatherer.id);
        let was_waiting = connection.out.withdraw_open(&mut self.frames, gatherer.id);
        if cancel && !was_waiting && !connection.is_over() && !planted(Planted::NoCancel) {
            let frame = header(Kind::Cancel, 0, gatherer.id, 0, 0);
            self.send_system(token, Payload::copy(&frame));
        }
        self.resume_reading(token); // its queue may be below half again
    }
}
