//! Events to their watchers: encoded once, whatever their number.

use super::engine::Engine;
use crate::core::frames::Payload;
use crate::core::shadows::Event;
use crate::id::{PRESENCE, Reason, Token};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{Body, EventParams, body_of, write_event};
use crate::proto::websocket::TextFrame;
use bytes::Bytes;

impl<T: Transport> Engine<T> {
    /// Counts an event of the shadow's router, keeps it if it is to be retained, and shows it to its watchers.
    pub(super) fn publish(&mut self, shadow: u32, topic: &str, bytes: &[u8], json: bool, retain: bool) {
        self.hub.events += 1;
        let router = self.shadows.get(shadow).id.clone();
        let mut watchers = std::mem::take(&mut self.scratch.watchers);
        self.find_watchers(&router, topic, &mut watchers);
        // Whether it is JSON matters only if somebody will see it.
        let body = if watchers.is_empty() && !retain { Body::Base64(bytes) } else { body_of(bytes, json) };
        let is_json = matches!(body, Body::Json(_));
        let event = Event { topic, body: bytes, json: is_json, retain, number: self.hub.events };
        let seq = self.shadows.publish(shadow, &event, &self.settings.shadow);
        if !watchers.is_empty() {
            let params = EventParams { router: &router, topic, seq: Some(seq), body, retained: false };
            self.show(&watchers, &encode(&params));
        }
        watchers.clear();
        self.scratch.watchers = watchers;
    }

    /// Tells those who asked for it who came or went.
    pub(super) fn publish_presence(
        &mut self,
        router: &str,
        online: bool,
        session: &str,
        reason: Option<Reason>,
    ) {
        self.hub.events += 1;
        let mut watchers = std::mem::take(&mut self.scratch.watchers);
        self.find_watchers(router, PRESENCE, &mut watchers);
        if !watchers.is_empty() {
            let body = presence_body(online, Some(session), reason);
            self.show(&watchers, &encode(&presence(router, &body, false)));
        }
        watchers.clear();
        self.scratch.watchers = watchers;
    }

    fn find_watchers(&self, router: &str, topic: &str, watchers: &mut Vec<Token>) {
        let _charge = charge(Holder::Other); // the list is the loop's
        self.hub.watchers(router, topic, watchers);
    }

    /// Queues one encoded event for each watcher, once.
    fn show(&mut self, watchers: &[Token], frame: &Bytes) {
        let event = self.hub.events;
        self.frames.share(frame);
        for token in watchers {
            let Some(connection) = self.table.get_mut(*token) else { continue };
            let Some(session) = connection.session.websocket() else { continue };
            if std::mem::replace(&mut session.last_event, event) != event {
                self.send_user(*token, Payload::shared(frame));
            }
        }
        self.frames.unshare(frame);
    }
}

/// The notification as a text frame, ready for any number of queues.
pub(super) fn encode(params: &EventParams<'_>) -> Bytes {
    let _charge = charge(Holder::QueuedFrame);
    let mut frame = TextFrame::begin(params.notification_len());
    write_event(frame.payload(), params);
    frame.finish()
}

/// What topic `$presence` carries (SPEC section 4).
pub(super) fn presence_body(online: bool, session: Option<&str>, reason: Option<Reason>) -> String {
    let session = session.map_or("null".to_owned(), |session| format!("\"{session}\""));
    let reason = reason.map_or(String::new(), |reason| format!(",\"reason\":\"{}\"", reason.name()));
    format!("{{\"online\":{online},\"session\":{session}{reason}}}")
}

pub(super) fn presence<'a>(router: &'a str, body: &'a str, retained: bool) -> EventParams<'a> {
    EventParams { router, topic: PRESENCE, seq: None, body: Body::Json(body.as_bytes()), retained }
}
