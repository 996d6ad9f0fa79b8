//! How long a stream waits: for its router to come back, and for a row.

use super::Ending;
use crate::clock::Time;
use crate::core::wheel::Due;
use crate::net::transport::Transport;
use crate::reactor::Engine;

impl<T: Transport> Engine<T> {
    /// The timer of a stream has fired; its deadline may have moved meanwhile.
    pub(in crate::reactor) fn stream_due(&mut self, key: u32) {
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
    pub(in crate::reactor) fn stream_deadline(&self, key: u32) -> Time {
        let (now, settings) = (self.now.time, &self.settings.stream);
        let stream = self.streams.get(key);
        if stream.session.is_none() {
            return stream.moved_at + settings.resume;
        }
        let is_open = stream.gatherer().is_some_and(|gatherer| gatherer.is_open(stream.opening.window));
        let waits_for_router = stream.is_asked && is_open;
        if waits_for_router { stream.moved_at + settings.idle } else { now + settings.idle }
    }

    pub(super) fn set_stream_timer(&mut self, key: u32, at: Time) {
        self.wheel.cancel(self.streams.get(key).timer);
        let due = Due::Stream(self.streams.token(key));
        self.streams.get_mut(key).timer = self.wheel.set(at, due);
    }
}
