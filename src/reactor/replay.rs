//! What a new subscription is to get before live events, or among them: retained values, or with `since` the events that the
//! client has missed. It is read from the shadow as the client takes it: never more than 256 KiB ahead, and never counted as
//! slowness (SPEC section 4, Shadow).
//!
//! A client's subscriptions are replayed one after another. A value is skipped when the client has had it or a later event
//! of its topic: live, because it subscribed before that event, or through an earlier subscription that covers it. An event
//! is skipped when another subscription has brought it.

use super::connection::Session;
use super::engine::Engine;
use super::publish::{encode, presence, presence_body};
use crate::core::frames::Payload;
use crate::core::hub::OfClient;
use crate::core::shadows::{Cursor, Read, Remembered, Shadow};
use crate::id::{PRESENCE, Token};
use crate::limits::{MAX_REPLAY_AHEAD_BYTES, REPLAY_BYTES_PER_TURN};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{EventParams, Origin, body_of, write_gap};
use crate::proto::websocket::TextFrame;
use crate::session::websocket::{Place, Replay};
use bytes::Bytes;

/// Values looked at for one client in one turn, sent or not.
pub(super) const STEPS_PER_TURN: usize = 512;
/// Events that one step looks at, for the first that is to be sent.
pub(super) const EVENTS_PER_STEP: usize = 8;

/// Router and topic of the last value that was looked at.
type After = Option<(Box<str>, Option<Box<str>>)>;

/// What the next step of a replay came to.
enum Step {
    Send(Bytes),
    Skip,
    Done,
}

impl<T: Transport> Engine<T> {
    pub(super) fn begin_replay(&mut self, token: Token, replay: Replay) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        session.replays.get_or_insert_default().push_back(replay);
        self.work.replaying.mark(&mut connection.in_replaying, token);
    }

    /// Forgets what was still to be replayed to a subscription that ends.
    pub(super) fn end_replay(&mut self, token: Token, subscription: u32) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        if let Some(replays) = &mut session.replays {
            replays.retain(|replay| replay.subscription != subscription);
        }
    }

    /// The client has taken something: more may follow.
    pub(super) fn resume_replay(&mut self, token: Token) {
        if let Some(connection) = self.table.get_mut(token)
            && connection.is_being_replayed_to()
        {
            self.work.replaying.mark(&mut connection.in_replaying, token);
        }
    }

    /// Goes on with every replay that can go on, until this turn has read enough: when all come back at once, what is read to
    /// the first is written before more is read to the last.
    pub(super) fn replay_all(&mut self) {
        let mut replaying = self.work.replaying.take();
        let most = self.frames.bytes() + REPLAY_BYTES_PER_TURN;
        let mut looked_at = 0;
        while let Some(token) = replaying.get(looked_at).copied()
            && self.frames.bytes() < most
        {
            looked_at += 1;
            let Some(connection) = self.table.get_mut(token) else { continue };
            connection.in_replaying = false;
            let is_http = matches!(connection.session, Session::Http(_));
            let _charge = self.charge_to(token); // how far it has come
            match is_http {
                true => self.read_histories(token),
                false => self.replay(token),
            }
        }
        replaying.drain(..looked_at);
        self.work.replaying.put_back(replaying);
    }

    fn replay(&mut self, token: Token) {
        for _ in 0..STEPS_PER_TURN {
            let Some(connection) = self.table.get_mut(token) else { return };
            if connection.is_over() || connection.out.replay_bytes() >= MAX_REPLAY_AHEAD_BYTES {
                return; // goes on when it has taken something
            }
            let Some(session) = connection.session.websocket() else { return };
            let Some(mut replay) = session.replays.as_mut().and_then(|replays| replays.pop_front()) else {
                session.replays = None;
                return;
            };
            let before = replay.place.clone();
            let step = self.replay_step(token, &mut replay);
            let Some(connection) = self.table.get_mut(token) else { return };
            let ahead = connection.out.replay_bytes();
            let is_too_far = matches!(&step, Step::Send(frame) if ahead > 0 && ahead + frame.len() > MAX_REPLAY_AHEAD_BYTES);
            if is_too_far {
                replay.place = before; // the same again, when something has been taken
            }
            match (&step, &replay.place) {
                (Step::Done, Place::History(_)) => self.hub.attach(replay.subscription),
                (Step::Done, Place::Values(_)) => {}
                _ => {
                    let session = connection.session.websocket();
                    if let Some(replays) = session.and_then(|session| session.replays.as_mut()) {
                        replays.push_front(replay);
                    }
                }
            }
            if is_too_far {
                return;
            }
            if let Step::Send(frame) = step {
                connection.out.push_replay(&mut self.frames, Payload::Encoded(frame));
                connection.traffic.messages_out += 1;
                self.work.dirty.mark(&mut connection.in_dirty, token);
            }
        }
        // Its share of this turn is used up: the next turn goes on.
        if let Some(connection) = self.table.get_mut(token) {
            self.work.mark_ready(connection, token);
        }
    }

    fn replay_step(&self, token: Token, replay: &mut Replay) -> Step {
        let after = match &mut replay.place {
            Place::History(cursor) => return self.next_event(token, replay.subscription, cursor),
            Place::Values(after) => after,
        };
        let channel = self.hub.channel(replay.subscription);
        let wants_presence = channel.topic.as_deref() == Some(PRESENCE);
        match (channel.router.as_deref(), wants_presence) {
            (Some(router), true) => self.presence_of(router, after),
            (None, true) => self.next_presence(after),
            (Some(_), false) => self.next_value_of_named(token, replay.subscription, after),
            (None, false) => self.next_value(token, replay.subscription, after),
        }
    }

    /// For a named router, bound or not: what it is now.
    fn presence_of(&self, router: &str, after: &mut After) -> Step {
        if after.is_some() {
            return Step::Done;
        }
        let frame = self.presence_frame(router);
        *after = Some((router.into(), None));
        Step::Send(frame)
    }

    fn presence_frame(&self, router: &str) -> Bytes {
        let connection = self.shadows.bound(router).and_then(|token| self.table.get(token));
        let session = connection.and_then(|connection| match &connection.session {
            Session::Router(session) => session.bound.map(|bound| bound.session.to_string()),
            _ => None,
        });
        let body = presence_body(session.is_some(), session.as_deref(), None);
        encode(&presence(router, &body, Origin::Retained))
    }

    /// For `*`: the bound ones, in id order.
    fn next_presence(&self, after: &mut After) -> Step {
        let router = after.as_ref().map(|(router, _)| &**router);
        let Some(key) = self.shadows.next_after(router) else { return Step::Done };
        let shadow = self.shadows.get(key);
        *after = Some(((*shadow.id).into(), None));
        if shadow.bound.is_some() { Step::Send(self.presence_frame(&shadow.id)) } else { Step::Skip }
    }

    fn next_value_of_named(&self, token: Token, subscription: u32, after: &mut After) -> Step {
        let channel = self.hub.channel(subscription);
        let Some(router) = channel.router.as_deref() else { return Step::Done };
        let Some(key) = self.shadows.find(router) else { return Step::Done };
        self.value_after(token, subscription, after, key).unwrap_or(Step::Done)
    }

    /// For `*`: the rest of the router that is under way, then the next one.
    fn next_value(&self, token: Token, subscription: u32, after: &mut After) -> Step {
        if let Some((router, Some(_))) = &*after
            && let Some(key) = self.shadows.find(router)
            && let Some(step) = self.value_after(token, subscription, after, key)
        {
            return step;
        }
        let router = after.as_ref().map(|(router, _)| &**router);
        let Some(key) = self.shadows.next_after(router) else { return Step::Done };
        *after = Some(((*self.shadows.get(key).id).into(), None));
        self.value_after(token, subscription, after, key).unwrap_or(Step::Skip)
    }

    /// The next value of one shadow that the subscription matches; `None` when there is none left.
    fn value_after(&self, token: Token, subscription: u32, after: &mut After, key: u32) -> Option<Step> {
        let shadow = self.shadows.get(key);
        let channel = self.hub.channel(subscription);
        let topic = after.as_ref().and_then(|(_, topic)| topic.as_deref());
        let value = match channel.topic.as_deref() {
            Some(_) if topic.is_some() => None,
            Some(wanted) => shadow.value(wanted),
            None => shadow.value_after(topic),
        }?;
        *after = Some(((*shadow.id).into(), Some(value.message.topic().into())));
        let seen_live = value.last_event > self.hub.get(subscription).since;
        if seen_live || self.is_covered(token, subscription, &shadow.id, value.message.topic()) {
            return Some(Step::Skip);
        }
        let body = body_of(value.message.body(), value.json);
        let (router, topic, seq) = (&*shadow.id, value.message.topic(), Some(value.seq));
        Some(Step::Send(encode(&EventParams { router, topic, seq, body, origin: Origin::Retained })))
    }

    /// The next event of the history that the subscription matches and no other has brought.
    fn next_event(&self, token: Token, subscription: u32, cursor: &mut Cursor) -> Step {
        let channel = self.hub.channel(subscription);
        for _ in 0..EVENTS_PER_STEP {
            let (shadow, event) = match self.shadows.read(channel.router.as_deref(), cursor) {
                Read::Event(shadow, event) => (shadow, event),
                Read::Gap(_) => return Step::Send(self.gap_frame(channel.router.as_deref().unwrap_or("*"))),
                Read::End => return Step::Done,
            };
            let topic = event.message.topic();
            if channel.takes(&shadow.id, topic) && !self.is_brought(token, subscription, shadow, event) {
                let (body, seq) = (body_of(event.message.body(), event.json), Some(event.seq));
                let params = EventParams { router: &shadow.id, topic, seq, body, origin: Origin::Replayed };
                return Step::Send(encode(&params));
            }
        }
        Step::Skip
    }

    fn gap_frame(&self, router: &str) -> Bytes {
        let shadow = self.shadows.find(router).map(|key| self.shadows.get(key));
        let (seq, epoch) = (shadow.map_or(0, Shadow::lost_seq), shadow.map(|shadow| shadow.epoch));
        let _charge = charge(Holder::QueuedFrame);
        let mut frame = TextFrame::begin(256);
        write_gap(frame.payload(), router, seq, epoch);
        frame.finish()
    }

    fn is_covered(&self, token: Token, subscription: u32, router: &str, topic: &str) -> bool {
        let client = self.subscriptions_of(token);
        client.is_some_and(|client| self.hub.is_covered(client, subscription, router, topic))
    }

    fn is_brought(&self, token: Token, subscription: u32, shadow: &Shadow, event: &Remembered) -> bool {
        let client = self.subscriptions_of(token);
        client.is_some_and(|client| {
            self.hub.is_brought(client, subscription, &shadow.id, event.message.topic(), event.number)
        })
    }

    fn subscriptions_of(&self, token: Token) -> Option<&OfClient> {
        match &self.table.get(token)?.session {
            Session::WebSocket(session) => Some(&session.subscriptions),
            _ => None,
        }
    }
}
