//! A router that goes and comes back: its streams wait for it.

use super::Ending;
use super::ending::BARREN;
use super::router_session;
use crate::fault::{Fault as Planted, planted};
use crate::id::{Reason, Token};
use crate::limits::MAX_BARREN_REOPENINGS;
use crate::net::transport::Transport;
use crate::reactor::Engine;

impl<T: Transport> Engine<T> {
    /// A router's session has ended: its streams go on when it comes back, unless it was at fault or there is no coming back.
    pub(in crate::reactor) fn release_streams_of_router(&mut self, token: Token, reason: Reason) {
        if planted(Planted::KeepStreamsOfRouter) {
            return;
        }
        while let Some(key) =
            router_session(&mut self.table, token).and_then(|session| session.streams.front())
        {
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

    pub(super) fn set_adrift(&mut self, key: u32, token: Token) {
        let now = self.now.time;
        let Some(session) = router_session(&mut self.table, token) else { return };
        self.streams.set_adrift(key, &mut session.streams, now);
        self.set_stream_timer(key, now + self.settings.stream.resume);
        // A router that was taken over by itself is back already.
        if let Some(session) = self.shadows.bound(&self.streams.get(key).router)
            && session != token
        {
            self.moor(key, session);
        }
    }

    /// A router is bound: the streams that waited for it go on.
    pub(in crate::reactor) fn resume_streams(&mut self, router: &str, session: Token) {
        if planted(Planted::NoResume) {
            return;
        }
        while let Some(key) = self.streams.first_adrift(router)
            && self.moor(key, session)
        {}
    }

    /// False if that session is over.
    pub(super) fn moor(&mut self, key: u32, session: Token) -> bool {
        let Some(back) = router_session(&mut self.table, session) else { return false };
        self.streams.moor(key, session, &mut back.streams, self.now.time);
        self.set_stream_timer(key, self.now.time + self.settings.stream.idle);
        self.reopen(key);
        true
    }
}
