//! What clients are sent out of shadows, before live events or among them: retained values, or the events that they have missed
//! (`docs/events.md`). It is read as the client takes it: never more than 256 KiB ahead, and never counted as slowness (SPEC
//! section 4, Shadow).
//!
//! All clients together get 256 KiB a turn, in equal shares, so that no PING waits for those who catch up. And they read no
//! further ahead than what is left of a quarter of `memory.max_buffered_bytes`: the more read, the less for each.
//!
//! A client's replays come one after another, histories first. A value is skipped when the client has had it or a later event of
//! its topic. A history is read once for all subscriptions of the client, and live events of its router wait behind it.

use super::connection::Session;
use super::engine::Engine;
use super::publish::{encode, presence, presence_body};
use crate::core::frames::Payload;
use crate::core::hub::OfClient;
use crate::core::shadows::{Cursor, Read, Shadow};
use crate::id::{PRESENCE, Token};
use crate::limits::{
    MAX_REPLAY_AHEAD_BYTES, MIN_REPLAY_SHARE_BYTES, REPLAY_BYTES_PER_TURN, REPLAY_LOOK_BYTES,
};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{EventParams, Origin, body_of, write_gap};
use crate::proto::websocket::TextFrame;
use crate::session::http::Task;
use crate::session::reading::Reading;
use crate::session::websocket::{After, Replay};
use bytes::Bytes;

/// What the next step of a replay came to: one value or event was looked at, and the next one is behind the place.
pub(super) enum Step {
    Send(Payload, Place),
    Skip(Place),
    Done,
}

/// How far a replay has come.
pub(super) enum Place {
    Values(After),
    History(Cursor),
}

impl<T: Transport> Engine<T> {
    /// A subscription of a WebSocket client goes on behind `cursor` in the history of its router.
    pub(super) fn go_on(&mut self, token: Token, subscription: u32, router: &str, cursor: Cursor) {
        self.hub.go_on(subscription, cursor.after);
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        let replays = session.replays.iter_mut().flat_map(|replays| replays.iter_mut());
        let mut readings = replays.filter_map(|replay| match replay {
            Replay::History(reading) => Some(reading),
            Replay::Values { .. } => None,
        });
        let mut new = None;
        let (reading, position) = match readings.find(|reading| &*reading.router == router) {
            Some(reading) => {
                let position = reading.cursor.after;
                (reading, position)
            }
            None => (new.insert(Reading::new(router, cursor)), self.shadows.published()),
        };
        if cursor.after >= position {
            return; // it has missed nothing, or nothing that is not read anyway
        }
        reading.rewind(cursor);
        for key in self.hub.keys(&session.subscriptions).filter(|key| *key != subscription) {
            let (other, channel) = (self.hub.get(key), self.hub.channel(key));
            if other.since < position && channel.router.as_deref().is_none_or(|name| name == router) {
                reading.tell(other.number, channel.topic.as_deref(), other.since, position);
            }
        }
        if let Some(reading) = new {
            self.begin_replay(token, Replay::History(reading));
        }
    }

    pub(super) fn begin_replay(&mut self, token: Token, replay: Replay) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        let replays = session.replays.get_or_insert_default();
        match replay {
            Replay::Values { .. } => replays.push_back(replay),
            Replay::History(_) => {
                let histories = replays.partition_point(|replay| matches!(replay, Replay::History(_)));
                replays.insert(histories, replay);
            }
        }
        self.work.replaying.mark(&mut connection.in_replaying, token);
    }

    /// Forgets what was still to be replayed to a subscription that has ended, and the history that nobody wants now.
    pub(super) fn end_replay(&mut self, token: Token, subscription: u32) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let Some(session) = connection.session.websocket() else { return };
        let Some(replays) = &mut session.replays else { return };
        let (hub, subscriptions) = (&self.hub, &session.subscriptions);
        let is_watched = |router: &str| {
            let mut routers = hub.keys(subscriptions).map(|key| hub.channel(key).router.as_deref());
            routers.any(|name| name.is_none_or(|name| name == router))
        };
        replays.retain(|replay| match replay {
            Replay::Values { subscription: other, .. } => *other != subscription,
            Replay::History(reading) => is_watched(&reading.router),
        });
        if replays.is_empty() {
            session.replays = None;
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

    /// Goes on with the replays, one client after another, until this turn has brought enough: the rest waits for the next one,
    /// and whoever has used up his share goes behind them.
    pub fn replay_all(&mut self) {
        self.restart_stopwatch();
        let mut replaying = self.work.replaying.take();
        let share = (REPLAY_BYTES_PER_TURN / replaying.len().max(1)).max(MIN_REPLAY_SHARE_BYTES);
        let (mut served, mut spent) = (0, 0);
        for token in &replaying {
            if spent >= REPLAY_BYTES_PER_TURN {
                break;
            }
            served += 1;
            let Some(connection) = self.table.get_mut(*token) else { continue };
            connection.in_replaying = false;
            spent += {
                let _charge = self.charge_to(*token); // how far it has come
                self.replay(*token, share)
            };
            self.clock(*token);
        }
        replaying.drain(..served);
        self.work.replaying.put_back(replaying);
    }

    /// Goes on with the replays of a client, as far as it takes them and its share goes; what that has cost, in bytes.
    fn replay(&mut self, token: Token, share: usize) -> usize {
        let mut spent = 0;
        while spent < share {
            spent += REPLAY_LOOK_BYTES;
            let Some(connection) = self.table.get(token) else { return spent };
            let (ahead, most) = (connection.out.replay_bytes(), self.most_ahead());
            if connection.is_over() || ahead > 0 && ahead >= most {
                return spent; // goes on when it has taken something
            }
            let Some(step) = self.next_step(token) else { return spent };
            match step {
                Step::Send(payload, place) => {
                    spent += payload.len();
                    if ahead > 0 && ahead + payload.len() > most {
                        return spent; // the same again, when something has been taken
                    }
                    self.move_on(token, Some(place));
                    self.queue_replay(token, payload);
                }
                Step::Skip(place) => self.move_on(token, Some(place)),
                Step::Done => self.move_on(token, None),
            }
        }
        self.resume_replay(token);
        spent
    }

    /// How far ahead of what a client has taken its replays are read now, in bytes; one piece is read whatever this is.
    fn most_ahead(&self) -> usize {
        let left = (self.settings.max_buffered_bytes / 4).saturating_sub(self.frames.replay_bytes());
        left.min(MAX_REPLAY_AHEAD_BYTES)
    }

    fn queue_replay(&mut self, token: Token, payload: Payload) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.out.push_replay(&mut self.frames, payload);
        connection.traffic.messages_out += 1;
        if let Session::Http(session) = &mut connection.session
            && let Task::Watch(watch) = &mut session.task
        {
            watch.told_at = self.now.time;
        }
        self.work.dirty.mark(&mut connection.in_dirty, token);
    }

    fn next_step(&self, token: Token) -> Option<Step> {
        match &self.table.get(token)?.session {
            Session::Http(session) => self.next_block(session),
            Session::WebSocket(session) => {
                let list = &session.subscriptions;
                Some(match session.replays.as_ref()?.front()? {
                    Replay::Values { subscription, after } => self.next_retained(list, *subscription, after),
                    Replay::History(reading) => self.next_event(list, reading),
                })
            }
            Session::Router(_) | Session::LastWords(_) => None,
        }
    }

    /// Keeps the place of the replay that is under way; `None` if it is through.
    fn move_on(&mut self, token: Token, place: Option<Place>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let session = match &mut connection.session {
            Session::WebSocket(session) => session,
            Session::Http(_) => return self.move_watch_on(token, place),
            Session::Router(_) | Session::LastWords(_) => return,
        };
        let Some(replays) = &mut session.replays else { return };
        match (place, replays.front_mut()) {
            (Some(Place::Values(place)), Some(Replay::Values { after, .. })) => *after = place,
            (Some(Place::History(cursor)), Some(Replay::History(reading))) => reading.cursor = cursor,
            _ => {
                replays.pop_front();
            }
        }
        if replays.is_empty() {
            session.replays = None;
        }
    }

    fn next_retained(&self, list: &OfClient, subscription: u32, after: &After) -> Step {
        let channel = self.hub.channel(subscription);
        let wants_presence = channel.topic.as_deref() == Some(PRESENCE);
        match (channel.router.as_deref(), wants_presence) {
            (Some(router), true) => self.presence_of(router, after),
            (None, true) => self.next_presence(after),
            (Some(router), false) => {
                let value = self.shadows.find(router);
                value.and_then(|key| self.value_after(list, subscription, after, key)).unwrap_or(Step::Done)
            }
            (None, false) => self.next_value(list, subscription, after),
        }
    }

    /// For a named router, bound or not: what it is now.
    fn presence_of(&self, router: &str, after: &After) -> Step {
        match after {
            Some(_) => Step::Done,
            None => send(self.presence_frame(router), Place::Values(Some((router.into(), None)))),
        }
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
    fn next_presence(&self, after: &After) -> Step {
        let router = after.as_ref().map(|(router, _)| &**router);
        let Some(key) = self.shadows.next_after(router) else { return Step::Done };
        let shadow = self.shadows.get(key);
        let place = Place::Values(Some(((*shadow.id).into(), None)));
        if shadow.bound.is_some() { send(self.presence_frame(&shadow.id), place) } else { Step::Skip(place) }
    }

    /// For `*`: the rest of the router that is under way, then the next one.
    fn next_value(&self, list: &OfClient, subscription: u32, after: &After) -> Step {
        if let Some((router, Some(_))) = after
            && let Some(key) = self.shadows.find(router)
            && let Some(step) = self.value_after(list, subscription, after, key)
        {
            return step;
        }
        let router = after.as_ref().map(|(router, _)| &**router);
        let Some(key) = self.shadows.next_after(router) else { return Step::Done };
        let after = Some(((*self.shadows.get(key).id).into(), None));
        let step = self.value_after(list, subscription, &after, key);
        step.unwrap_or_else(|| Step::Skip(Place::Values(after)))
    }

    /// The next value of one shadow that the subscription matches; `None` when there is none left.
    fn value_after(&self, list: &OfClient, subscription: u32, after: &After, key: u32) -> Option<Step> {
        let shadow = self.shadows.get(key);
        let channel = self.hub.channel(subscription);
        let topic = after.as_ref().and_then(|(_, topic)| topic.as_deref());
        let value = match channel.topic.as_deref() {
            Some(_) if topic.is_some() => None,
            Some(wanted) => shadow.value(wanted),
            None => shadow.value_after(topic),
        }?;
        let place = Place::Values(Some(((*shadow.id).into(), Some(value.message.topic().into()))));
        if self.hub.is_covered(list, subscription, &shadow.id, value.message.topic(), value.last_event) {
            return Some(Step::Skip(place));
        }
        let body = body_of(value.message.body(), value.json);
        let (router, topic, seq) = (&*shadow.id, value.message.topic(), Some(value.seq));
        let params = EventParams { router, topic, seq, body, origin: Origin::Retained };
        Some(send(encode(&params), place))
    }

    /// The next event of a history, if the client wants it and has not had it.
    fn next_event(&self, list: &OfClient, reading: &Reading) -> Step {
        let (router, mut cursor) = (&*reading.router, reading.cursor);
        let (shadow, event) = match self.shadows.read(Some(router), &mut cursor) {
            Read::Event(shadow, event) => (shadow, event),
            Read::Gap(_) => return send(self.gap_frame(router), Place::History(cursor)),
            Read::End => return Step::Done,
        };
        let (topic, number, place) = (event.message.topic(), event.number, Place::History(cursor));
        if reading.has_told(topic, number) || !self.hub.wants(list, &shadow.id, topic, number) {
            return Step::Skip(place);
        }
        let (body, seq) = (body_of(event.message.body(), event.json), Some(event.seq));
        send(encode(&EventParams { router, topic, seq, body, origin: Origin::Replayed }), place)
    }

    fn gap_frame(&self, router: &str) -> Bytes {
        let shadow = self.shadows.find(router).map(|key| self.shadows.get(key));
        let (seq, epoch) = (shadow.map_or(0, Shadow::lost_seq), shadow.map(|shadow| shadow.epoch));
        let _charge = charge(Holder::QueuedFrame);
        let mut frame = TextFrame::begin(256);
        write_gap(frame.payload(), router, seq, epoch);
        frame.finish()
    }
}

/// A frame for one client alone.
fn send(frame: Bytes, place: Place) -> Step {
    Step::Send(Payload::Encoded(frame), place)
}
