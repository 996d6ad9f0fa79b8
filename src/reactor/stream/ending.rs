//! The end of a stream: everything that it held is given back, and its consumer is told.

use super::router_session;
use crate::api::Refusal;
use crate::fault::{Fault as Planted, planted};
use crate::id::{Reason, Token};
use crate::net::transport::Transport;
use crate::reactor::Engine;
use crate::session::http::Task;
use std::borrow::Cow;

pub(super) const BARREN: &str = "the router sent no new row, however often the stream was opened again";

/// How a stream ends, when it is not given up by its consumer.
#[derive(Debug)]
pub(in crate::reactor) enum Ending {
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
    /// Ends a stream: all that it held is gone, and its consumer is told how it ended. `cancel`: the router still sends.
    pub(in crate::reactor) fn finish_stream(&mut self, key: u32, ending: Ending, cancel: bool) {
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
    pub(in crate::reactor) fn abandon_stream(&mut self, key: u32) {
        let (_, _, session) = self.remove_stream(key, true);
        if let Some(session) = session {
            self.drain_further(session);
        }
    }

    /// Takes a stream out of every table: its consumer, whether its answer has begun, and the session that it was on.
    pub(super) fn remove_stream(&mut self, key: u32, cancel: bool) -> (Token, bool, Option<Token>) {
        self.drop_gatherer(key, cancel);
        let session = self.streams.get(key).session;
        let list = session.and_then(|session| router_session(&mut self.table, session));
        let stream = self.streams.remove(key, list.map(|session| &mut session.streams));
        if !planted(Planted::KeepStreamTimer) {
            self.wheel.cancel(stream.timer);
        }
        let consumer = self.table.get_mut(stream.consumer).and_then(|connection| connection.session.http());
        if let Some(session) = consumer {
            session.task = Task::None;
        }
        (stream.consumer, stream.format.is_some(), session)
    }

    /// Streams that wait for routers which cannot come back, because the daemon drains; at its end, all of them.
    pub(in crate::reactor) fn end_streams(&mut self, all: bool) {
        let waiting = if all {
            self.streams.entries().iter().map(|(key, _)| key as u32).collect()
        } else {
            self.streams.adrift()
        };
        for key in waiting {
            self.finish_stream(key, Ending::Draining, true);
        }
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
