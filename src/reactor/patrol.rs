//! The patrol looks through the tables a slice at a time, for what should not be there any more: an entry past its deadline,
//! or one whose owner is gone. It is the audit's walk in steps too small to be felt; what it finds goes into the verdict.

use super::engine::Engine;
use super::round::Beat;
use crate::clock::Time;
use crate::core::wheel::Due;
use crate::id::Token;
use crate::limits::PATROL_PAGES;
use crate::memory::Holder;
use crate::net::transport::Transport;
use std::time::Duration;

/// What is due may be late by a turn of the loop, or by a peer that is written to in slices; not by this.
const GRACE: Duration = Duration::from_secs(10);
impl<T: Transport> Engine<T> {
    /// Looks through the next pages; behind the last page of the last table the round is complete.
    pub(super) fn patrol(&mut self) {
        for _ in 0..PATROL_PAGES {
            let (beat, page) = self.round.place();
            let mut found = self.round.found;
            self.look_at(beat, page, &mut |holder| found[holder as usize] += 1);
            self.round.found = found;
            if self.round.advance(self.pages(beat)) {
                return;
            }
        }
    }

    fn pages(&self, beat: Beat) -> usize {
        match beat {
            Beat::Connections => self.table.pages(),
            Beat::Commands => self.commands.entries().pages(),
            Beat::Streams => self.streams.entries().pages(),
            Beat::Subscriptions => self.hub.subscriptions().pages(),
            Beat::Channels => self.hub.channels().pages(),
            Beat::Timers => self.wheel.pages(),
            Beat::Shadows => self.shadows.entries().pages(),
        }
    }

    /// Names the class of everything on a page that should not be there any more.
    fn look_at(&self, beat: Beat, page: usize, found: &mut dyn FnMut(Holder)) {
        let is_late = |due: Time| due + GRACE < self.now.time;
        let mut judge = |holder: Holder, is_stray: bool| {
            if is_stray {
                found(holder);
            }
        };
        match beat {
            Beat::Connections => {
                for (_, connection) in self.table.iter_page(page) {
                    judge(Holder::from(connection.class), is_late(self.deadline(connection)));
                }
            }
            Beat::Commands => {
                for (_, command) in self.commands.entries().iter_page(page) {
                    let orphan = self.is_gone(command.router) || self.is_gone(command.caller.connection);
                    judge(Holder::PendingCommand, orphan || is_late(command.deadline));
                }
            }
            Beat::Streams => {
                for (key, stream) in self.streams.entries().iter_page(page) {
                    let orphan =
                        self.is_gone(stream.consumer) || stream.session.is_some_and(|on| self.is_gone(on));
                    judge(Holder::Stream, orphan || is_late(self.stream_deadline(key as u32)));
                }
            }
            Beat::Subscriptions => {
                for (_, subscription) in self.hub.subscriptions().iter_page(page) {
                    let client = self.table.get(subscription.client);
                    let is_there = client.is_some_and(|client| client.subscriptions().is_some());
                    judge(Holder::Subscription, !is_there);
                }
            }
            Beat::Channels => {
                for (_, channel) in self.hub.channels().iter_page(page) {
                    judge(Holder::Subscription, channel.is_deserted());
                }
            }
            Beat::Timers => {
                for due in self.wheel.iter_page(page) {
                    let gone = match due {
                        Due::Connection(token) => self.is_gone(token),
                        Due::Command(token) => self.commands.by_token(token).is_none(),
                        Due::Stream(token) => self.streams.by_token(token).is_none(),
                    };
                    judge(Holder::Timer, gone);
                }
            }
            Beat::Shadows => {
                for (_, shadow) in self.shadows.entries().iter_page(page) {
                    let is_stray = match shadow.bound {
                        Some(token) => self.is_gone(token),
                        None => is_late(shadow.gone_at + self.settings.shadow.keep),
                    };
                    judge(Holder::Shadow, is_stray);
                }
            }
        }
    }

    fn is_gone(&self, token: Token) -> bool {
        self.table.get(token).is_none()
    }
}
