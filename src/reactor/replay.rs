//! Retained values to a new subscription, read from the shadow as the client takes them: never more than 256 KiB ahead,
//! and never counted as slowness (SPEC section 4, Shadow).
//!
//! A client's subscriptions are replayed one after another. A value is skipped when the client has had it or a later event
//! of its topic: live, because it subscribed before that event, or through an earlier subscription that covers it.

use super::engine::Engine;
use super::publish::{encode, presence, presence_body};
use crate::core::frames::Payload;
use crate::id::{PRESENCE, Token};
use crate::limits::MAX_REPLAY_AHEAD_BYTES;
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{Body, EventParams};
use crate::session::websocket::Replay;
use bytes::Bytes;

/// Values looked at for one client in one turn, sent or not.
const STEPS_PER_TURN: usize = 512;

/// What the next step of a replay came to.
enum Step {
    Send(Bytes),
    Skip,
    Done,
}

impl<T: Transport> Engine<T> {
    pub(super) fn begin_replay(&mut self, token: Token, subscription: u32) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        session.replays.get_or_insert_default().push_back(Replay { subscription, after: None });
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
            && connection.session.websocket().is_some_and(|session| session.replays.is_some())
        {
            self.work.replaying.mark(&mut connection.in_replaying, token);
        }
    }

    pub(super) fn replay_all(&mut self) {
        let mut replaying = self.work.replaying.take();
        for token in replaying.drain(..) {
            if let Some(connection) = self.table.get_mut(token) {
                connection.in_replaying = false;
                let _charge = self.charge_to(token); // how far it has come
                self.replay(token);
            }
        }
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
            let before = replay.after.clone();
            let step = self.replay_step(token, &mut replay);
            let Some(connection) = self.table.get_mut(token) else { return };
            let ahead = connection.out.replay_bytes();
            let is_too_far = matches!(&step, Step::Send(frame) if ahead > 0 && ahead + frame.len() > MAX_REPLAY_AHEAD_BYTES);
            if is_too_far {
                replay.after = before; // the same value again, when something has been taken
            }
            if !matches!(step, Step::Done)
                && let Some(replays) =
                    connection.session.websocket().and_then(|session| session.replays.as_mut())
            {
                replays.push_front(replay);
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

    fn replay_step(&mut self, token: Token, replay: &mut Replay) -> Step {
        let channel = self.hub.channel(replay.subscription);
        let wants_presence = channel.topic.as_deref() == Some(PRESENCE);
        match (channel.router.as_deref(), wants_presence) {
            (Some(router), true) => self.presence_of(router, replay),
            (None, true) => self.next_presence(replay),
            (Some(_), false) => self.next_value_of_named(token, replay),
            (None, false) => self.next_value(token, replay),
        }
    }

    /// For a named router, bound or not: what it is now.
    fn presence_of(&self, router: &str, replay: &mut Replay) -> Step {
        if replay.after.is_some() {
            return Step::Done;
        }
        let frame = self.presence_frame(router);
        replay.after = Some((router.into(), None));
        Step::Send(frame)
    }

    fn presence_frame(&self, router: &str) -> Bytes {
        let connection = self.shadows.bound(router).and_then(|token| self.table.get(token));
        let session = connection.and_then(|connection| match &connection.session {
            super::connection::Session::Router(session) => {
                session.bound.map(|bound| bound.session.to_string())
            }
            _ => None,
        });
        let body = presence_body(session.is_some(), session.as_deref(), None);
        encode(&presence(router, &body, true))
    }

    /// For `*`: the bound ones, in id order.
    fn next_presence(&self, replay: &mut Replay) -> Step {
        let after = replay.after.as_ref().map(|(router, _)| &**router);
        let Some(key) = self.shadows.next_after(after) else { return Step::Done };
        let shadow = self.shadows.get(key);
        replay.after = Some(((*shadow.id).into(), None));
        if shadow.bound.is_some() { Step::Send(self.presence_frame(&shadow.id)) } else { Step::Skip }
    }

    fn next_value_of_named(&self, token: Token, replay: &mut Replay) -> Step {
        let channel = self.hub.channel(replay.subscription);
        let Some(router) = channel.router.as_deref() else { return Step::Done };
        let Some(key) = self.shadows.find(router) else { return Step::Done };
        self.value_after(token, replay, key).unwrap_or(Step::Done)
    }

    /// For `*`: the rest of the router that is under way, then the next one.
    fn next_value(&self, token: Token, replay: &mut Replay) -> Step {
        if let Some((router, Some(_))) = &replay.after
            && let Some(key) = self.shadows.find(router)
            && let Some(step) = self.value_after(token, replay, key)
        {
            return step;
        }
        let after = replay.after.as_ref().map(|(router, _)| &**router);
        let Some(key) = self.shadows.next_after(after) else { return Step::Done };
        replay.after = Some(((*self.shadows.get(key).id).into(), None));
        self.value_after(token, replay, key).unwrap_or(Step::Skip)
    }

    /// The next value of one shadow that the subscription matches; `None` when there is none left.
    fn value_after(&self, token: Token, replay: &mut Replay, key: u32) -> Option<Step> {
        let shadow = self.shadows.get(key);
        let channel = self.hub.channel(replay.subscription);
        let topic = replay.after.as_ref().and_then(|(_, topic)| topic.as_deref());
        let value = match channel.topic.as_deref() {
            Some(_) if topic.is_some() => None,
            Some(wanted) => shadow.value(wanted),
            None => shadow.value_after(topic),
        }?;
        replay.after = Some(((*shadow.id).into(), Some(value.topic.clone())));
        let seen_live = value.last_event > self.hub.get(replay.subscription).since;
        if seen_live || self.is_covered(token, replay.subscription, &shadow.id, &value.topic) {
            return Some(Step::Skip);
        }
        let body = if value.json { Body::Json(&value.body) } else { Body::Base64(&value.body) };
        let (router, topic, seq) = (&*shadow.id, &*value.topic, Some(value.seq));
        Some(Step::Send(encode(&EventParams { router, topic, seq, body, retained: true })))
    }

    fn is_covered(&self, token: Token, subscription: u32, router: &str, topic: &str) -> bool {
        self.table.get(token).is_some_and(|connection| match &connection.session {
            super::connection::Session::WebSocket(session) => {
                self.hub.is_covered(&session.subscriptions, subscription, router, topic)
            }
            _ => false,
        })
    }
}
