//! Events to callers over HTTP, as server-sent events: live ones, and those that they missed in a short break, out of the
//! histories (`docs/events.md`).

use super::engine::Engine;
use super::publish::encode_block;
use super::replay::{EVENTS_PER_STEP, STEPS_PER_TURN};
use crate::api::Refusal;
use crate::api::events::{Publication, Resume, WatchCall};
use crate::core::frames::Payload;
use crate::core::shadows::{Cursor, Read};
use crate::fault::{Fault, planted};
use crate::id::{EventId, PRESENCE, Token};
use crate::limits::MAX_REPLAY_AHEAD_BYTES;
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{EventParams, Origin, body_of};
use crate::proto::sse::{Block, COMMENT, COMMENT_CHUNK};
use crate::session::http::{Exchange, Task};
use crate::session::watch::Watch;

/// What the next step through the histories came to.
enum Step {
    Tell(Block),
    Skip,
    End,
}

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
        let mut watch =
            Box::new(Watch { subscriptions: Default::default(), reading: None, told_at: self.now.time });
        let key = self.hub.subscribe(token, 1, router, topic, last, &mut watch.subscriptions);
        session.task = Task::Watch(watch);
        match asked.resume {
            _ if topic == Some(PRESENCE) => {} // it has no ids
            Resume::Now => {}
            Resume::Behind(id) if id.run == self.run && id.number <= last => {
                self.hub.detach(key, id.number);
                self.begin_reading(token, Cursor::behind(id.number));
            }
            // Another run of the daemon, or what none has given out.
            Resume::Behind(_) | Resume::Unreadable => {
                let now = EventId { run: self.run, number: last };
                self.send_user(token, payload(gap(now, now), exchange));
            }
        }
    }

    fn begin_reading(&mut self, token: Token, cursor: Cursor) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Some(Task::Watch(watch)) = connection.session.http().map(|session| &mut session.task) {
            watch.reading = Some(cursor);
            self.work.replaying.mark(&mut connection.in_replaying, token);
        }
    }

    /// Goes on through the histories, as far as the caller takes what is read to it.
    pub(super) fn read_histories(&mut self, token: Token) {
        for _ in 0..STEPS_PER_TURN {
            let Some(connection) = self.table.get_mut(token) else { return };
            let ahead = connection.out.replay_bytes();
            if connection.is_over() || ahead >= MAX_REPLAY_AHEAD_BYTES {
                return; // goes on when it has taken something
            }
            let Some((watch, exchange)) = connection.session.http().and_then(|session| session.watch())
            else {
                return;
            };
            let (Some(before), Some(key)) = (watch.reading, watch.subscriptions.front()) else { return };
            let mut cursor = before;
            let step = self.read_step(key, &mut cursor);
            if matches!(&step, Step::Tell(block) if ahead > 0 && ahead + block.chunk.len() > MAX_REPLAY_AHEAD_BYTES)
            {
                return;
            }
            let reading = match &step {
                Step::End => None,
                Step::Tell(_) | Step::Skip => Some(cursor),
            };
            self.keep_place(token, reading);
            match step {
                Step::End => return self.hub.attach(key),
                Step::Skip => {}
                Step::Tell(block) => self.replay_block(token, payload(block, exchange)),
            }
        }
        // Its share of this turn is used up: the next turn goes on.
        if let Some(connection) = self.table.get_mut(token) {
            self.work.replaying.mark(&mut connection.in_replaying, token);
        }
    }

    fn read_step(&self, key: u32, cursor: &mut Cursor) -> Step {
        let channel = self.hub.channel(key);
        for _ in 0..EVENTS_PER_STEP {
            let id = |number| EventId { run: self.run, number };
            match self.shadows.read(channel.router.as_deref(), cursor) {
                Read::End => return Step::End,
                // Who goes on from there is told again, and given what is still there.
                Read::Gap(until) => return Step::Tell(gap(id(cursor.after), id(until))),
                Read::Event(shadow, event) if channel.takes(&shadow.id, event.message.topic()) => {
                    let params = EventParams {
                        router: &shadow.id,
                        topic: event.message.topic(),
                        seq: Some(event.seq),
                        body: body_of(event.message.body(), event.json),
                        origin: Origin::Live, // with its id it is what it was when it was live
                    };
                    return Step::Tell(encode_block(&params, Some(id(event.number))));
                }
                Read::Event(..) => {}
            }
        }
        Step::Skip
    }

    fn keep_place(&mut self, token: Token, reading: Option<Cursor>) {
        let session = self.table.get_mut(token).and_then(|connection| connection.session.http());
        if let Some(Task::Watch(watch)) = session.map(|session| &mut session.task) {
            (watch.reading, watch.told_at) = (reading, self.now.time);
        }
    }

    fn replay_block(&mut self, token: Token, payload: Payload) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.out.push_replay(&mut self.frames, payload);
        connection.traffic.messages_out += 1;
        self.work.dirty.mark(&mut connection.in_dirty, token);
    }

    /// Nothing was queued for a while: a comment shows that the connection lives, unless something still waits.
    pub(super) fn comment(&mut self, token: Token) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let is_empty = connection.out.is_empty();
        let Some((watch, exchange)) = connection.session.http().and_then(|session| session.watch()) else {
            return;
        };
        watch.told_at = self.now.time;
        if is_empty {
            self.send_user(token, Payload::Static(if exchange.chunked { COMMENT_CHUNK } else { COMMENT }));
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

fn gap(id: EventId, until: EventId) -> Block {
    let _charge = charge(Holder::QueuedFrame);
    Block::gap(id, until)
}

/// A block for one answer alone.
fn payload(block: Block, exchange: Exchange) -> Payload {
    if exchange.chunked { Payload::Encoded(block.chunk) } else { Payload::copy(block.plain()) }
}
