//! Events to callers over HTTP, as server-sent events: live ones, and those that they missed in a short break, out of the
//! histories (`docs/events.md`).

use super::engine::Engine;
use super::publish::encode_block;
use super::replay::{Place, Step};
use crate::api::Refusal;
use crate::api::events::{Publication, Resume, WatchCall};
use crate::core::frames::Payload;
use crate::core::shadows::{Cursor, Read};
use crate::fault::{Fault, planted};
use crate::id::{EventId, PRESENCE, Token};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{EventParams, Origin, body_of};
use crate::proto::sse::Block;
use crate::session::http::{Exchange, HttpSession, Task};
use crate::session::watch::Watch;

impl<T: Transport> Engine<T> {
    /// Begins an answer that goes on until its caller leaves or the daemon drains.
    pub(super) fn watch(&mut self, token: Token, exchange: Exchange, asked: &WatchCall<'_>) {
        if self.draining.is_some() {
            return self.refuse(token, exchange, &Refusal::new(503, "draining", "the daemon is draining"));
        }
        self.begin_long_answer(token, "text/event-stream", &[("Cache-Control", "no-store")]);
        if exchange.head_only {
            return self.end_long_answer(token);
        }
        let (router, topic) = (asked.router.as_deref(), asked.topic.as_deref());
        let last = self.shadows.published();
        let Some(session) = self.table.get_mut(token).and_then(|connection| connection.session.http()) else {
            return;
        };
        let (subscriptions, told_at) = (Default::default(), self.now.time);
        let mut watch = Box::new(Watch { subscriptions, reading: None, told_at });
        self.hub.subscribe(token, 1, router, topic, last, &mut watch.subscriptions);
        session.task = Task::Watch(watch);
        match asked.resume {
            _ if topic == Some(PRESENCE) => {} // it has no ids
            Resume::Now => {}
            Resume::Behind(id) if id.run == self.run && id.number <= last => {
                self.read_histories(token, Cursor::behind(id.number));
            }
            Resume::Behind(id) if id.run != self.run => {
                // What it missed of the other run is lost. Everything of this one is new to it.
                let mut cursor = Cursor::behind(0);
                let until = match self.shadows.read(router, &mut cursor) {
                    Read::Gap(until) => until,
                    Read::Event(..) | Read::End => {
                        cursor = Cursor::behind(0);
                        0
                    }
                };
                let block = self.gap_block(cursor, until);
                self.send_user(token, payload(block, exchange));
                self.read_histories(token, cursor);
            }
            // What has not been, or nobody can tell.
            Resume::Behind(_) | Resume::Unreadable => {
                let block = self.gap_block(Cursor::behind(last), last);
                self.send_user(token, payload(block, exchange));
            }
        }
    }

    /// Live events wait until the histories have been read to their end.
    fn read_histories(&mut self, token: Token, cursor: Cursor) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Some((watch, _)) = connection.session.http().and_then(HttpSession::watch) {
            watch.reading = Some(cursor);
            self.work.replaying.mark(&mut connection.in_replaying, token);
        }
    }

    /// The next thing out of the histories for a watcher that reads them.
    pub(super) fn next_block(&self, session: &HttpSession) -> Option<Step> {
        let (Task::Watch(watch), Some(exchange)) = (&session.task, session.answering()) else { return None };
        let (mut cursor, key) = (watch.reading?, watch.subscriptions.front()?);
        let channel = self.hub.channel(key);
        let block = match self.shadows.read(channel.router.as_deref(), &mut cursor) {
            Read::End => return Some(Step::Done),
            Read::Gap(until) => self.gap_block(cursor, until),
            Read::Event(shadow, event) if channel.takes(&shadow.id, event.message.topic()) => {
                let params = EventParams {
                    router: &shadow.id,
                    topic: event.message.topic(),
                    seq: Some(event.seq),
                    body: body_of(event.message.body(), event.json),
                    origin: Origin::Live, // with its id it is what it was when it was live
                };
                encode_block(&params, Some(EventId { run: self.run, number: event.number }))
            }
            Read::Event(..) => return Some(Step::Skip(Place::History(cursor))),
        };
        Some(Step::Send(payload(block, exchange), Place::History(cursor)))
    }

    /// Keeps how far a watcher has come.
    pub(super) fn move_watch_on(&mut self, token: Token, place: Option<Place>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some((watch, _)) = connection.session.http().and_then(HttpSession::watch) else { return };
        watch.reading = match place {
            Some(Place::History(cursor)) => Some(cursor),
            Some(Place::Values(_)) | None => None,
        };
    }

    /// That events up to `until` may be missing, to who goes on behind the cursor.
    fn gap_block(&self, cursor: Cursor, until: u64) -> Block {
        let id = |number| EventId { run: self.run, number };
        let _charge = charge(Holder::QueuedFrame);
        Block::gap(id(cursor.after), id(until))
    }

    /// Nothing was queued for a while: a comment shows that the connection lives, unless something still waits.
    pub(super) fn comment(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let is_empty = connection.out.is_empty();
        let Some((watch, exchange)) = connection.session.http().and_then(HttpSession::watch) else { return };
        watch.told_at = self.now.time;
        if is_empty {
            let block = {
                let _charge = charge(Holder::QueuedFrame);
                Block::comment()
            };
            self.send_user(token, payload(block, exchange));
        }
    }

    /// Gives back what a watcher's connection owns for it.
    pub(super) fn release_watch(&mut self, mut watch: Watch) {
        if planted(Fault::KeepWatch) {
            return;
        }
        while let Some(subscription) = watch.subscriptions.front() {
            self.hub.unsubscribe(subscription, &mut watch.subscriptions);
        }
    }

    /// The daemon drains: every watcher's answer comes to its end.
    pub(super) fn end_watches(&mut self) {
        let is_watch = |(token, connection): (Token, &super::connection::Connection<T>)| {
            connection.is_watching().then_some(token)
        };
        let watches: Vec<Token> = self.table.iter().filter_map(is_watch).collect();
        for token in watches {
            self.release_task(token);
            self.end_long_answer(token);
        }
    }

    /// Publishes what a backend sends, as if the router had; it need not be bound.
    pub(super) fn publish_for(&mut self, event: &Publication<'_>) {
        let limits = self.settings.shadow;
        let shadow = self.shadows.touch(&event.router, self.now.time, &mut self.mint, &limits);
        self.publish(shadow, &event.topic, &event.body, event.json, event.retain);
        self.shadows.release(shadow, &limits);
    }
}

/// A block for one answer alone.
fn payload(block: Block, exchange: Exchange) -> Payload {
    if exchange.chunked { Payload::Encoded(block.chunk) } else { Payload::copy(block.plain()) }
}
