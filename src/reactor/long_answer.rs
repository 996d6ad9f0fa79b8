//! Answers that are made piece by piece: the rows of a stream, the lines of a fleet call, events. The body is chunked; in
//! HTTP/1.0 it ends with the connection. One that is cut ends without its last chunk (SPEC section 1, Status).

use super::connection::Farewell;
use super::engine::Engine;
use super::send::queued_bytes;
use crate::core::frames::Payload;
use crate::fault::{Fault, planted};
use crate::id::{Reason, Token};
use crate::net::transport::Transport;
use crate::proto::http::{Answer, BodyEnd, LAST_CHUNK, SizeLine, chunk_bytes, write_head};
use crate::session::http::{Exchange, Task};

impl<T: Transport> Engine<T> {
    /// Queues the head; how many bytes that is. `extra` are further fields.
    pub(super) fn begin_long_answer(
        &mut self,
        token: Token,
        content_type: &str,
        extra: &[(&str, &str)],
    ) -> usize {
        let Some(exchange) = self.exchange(token) else { return 0 };
        let close = self.closing_when_draining(exchange).close;
        if close
            && let Some(session) = self.table.get_mut(token).and_then(|connection| connection.session.http())
        {
            session.announce_close();
        }
        let answer = Answer { status: 200, content_type: Some(content_type), extra, close, head_only: false };
        let end = if exchange.chunked { BodyEnd::LastChunk } else { BodyEnd::Close };
        let date = self.scratch.date.text(self.now.unix_ms);
        let head = queued_bytes(256, |out| write_head(out, &answer, date, Some(end)));
        let bytes = head.len();
        self.send_user(token, Payload::Owned(head));
        bytes
    }

    /// Queues a piece of the body, in two parts of at least one byte together; what it takes on the wire, in bytes.
    pub(super) fn continue_long_answer(&mut self, token: Token, first: &[u8], second: &[u8]) -> usize {
        let Some(exchange) = self.exchange(token) else { return 0 };
        let bytes = first.len() + second.len();
        if exchange.chunked {
            let size = SizeLine::new(bytes);
            self.send_piece(token, &[size.as_bytes(), first, second, b"\r\n"]);
            chunk_bytes(bytes)
        } else {
            self.send_piece(token, &[first, second]);
            bytes
        }
    }

    /// The body is whole.
    pub(super) fn end_long_answer(&mut self, token: Token) {
        let Some(exchange) = self.exchange(token) else { return };
        if exchange.chunked && !exchange.head_only {
            self.send_piece(token, &[LAST_CHUNK]);
        }
        // A head from before the drain has not announced that the connection closes: a request behind it is answered, and
        // that answer closes.
        let has_more =
            self.table.get(token).is_some_and(|caller| caller.readable || !caller.input.is_empty());
        let exchange = if has_more { exchange } else { self.closing_when_draining(exchange) };
        self.conclude(token, exchange, Reason::Done);
    }

    /// The body ends before its time: what is queued still goes out.
    pub(super) fn cut_long_answer(&mut self, token: Token, reason: Reason) {
        self.close(token, reason, Farewell::Queued);
    }

    /// Its connection ends: what makes the answer is dropped.
    pub(super) fn release_task(&mut self, token: Token) {
        if planted(Fault::KeepTask) {
            return;
        }
        let session = self.table.get_mut(token).and_then(|connection| connection.session.http());
        match session.map(|session| std::mem::take(&mut session.task)) {
            None | Some(Task::None) => {}
            Some(Task::Stream(stream)) => self.abandon_stream(stream),
            Some(Task::Watch(watch)) => self.release_watch(*watch),
            Some(Task::Fleet(fleet)) => self.release_fleet(*fleet),
        }
    }

    /// The request that waits for its answer, or for the rest of it.
    pub(super) fn exchange(&mut self, token: Token) -> Option<Exchange> {
        self.table.get_mut(token)?.session.http()?.answering()
    }
}
