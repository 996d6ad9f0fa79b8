//! Events to their watchers: encoded once, whatever their number.

use super::connection::Session;
use super::engine::Engine;
use crate::core::frames::{Frames, Payload};
use crate::core::shadows::Event;
use crate::id::{EventId, PRESENCE, Reason, Token};
use crate::memory::{Holder, charge};
use crate::net::transport::Transport;
use crate::proto::jsonrpc::{Body, EventParams, Origin, body_of, write_event};
use crate::proto::sse::Block;
use crate::proto::websocket::TextFrame;
use bytes::Bytes;

impl<T: Transport> Engine<T> {
    /// Counts an event of the shadow's router, keeps it if it is to be retained, and shows it to its watchers.
    pub(super) fn publish(&mut self, shadow: u32, topic: &str, bytes: &[u8], json: bool, retain: bool) {
        self.hub.shown += 1;
        let router = self.shadows.get(shadow).id.clone();
        let mut watchers = std::mem::take(&mut self.scratch.watchers);
        self.find_watchers(&router, topic, &mut watchers);
        let event = Event { topic, body: bytes, json, retain };
        let seq = self.shadows.publish(shadow, &event, &self.settings.shadow);
        if !watchers.is_empty() {
            let body = body_of(bytes, json);
            let params = EventParams { router: &router, topic, seq: Some(seq), body, origin: Origin::Live };
            self.show(&watchers, &params, Some(self.shadows.published()));
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
        self.hub.shown += 1;
        let mut watchers = std::mem::take(&mut self.scratch.watchers);
        self.find_watchers(router, PRESENCE, &mut watchers);
        if !watchers.is_empty() {
            let body = presence_body(online, Some(session), reason);
            self.show(&watchers, &presence(router, &body, Origin::Live), None);
        }
        watchers.clear();
        self.scratch.watchers = watchers;
    }

    fn find_watchers(&self, router: &str, topic: &str, watchers: &mut Vec<Token>) {
        let _charge = charge(Holder::Other); // the list is the loop's
        self.hub.watchers(router, topic, watchers);
    }

    /// Queues an event for each watcher, once. It is encoded when the first one needs it, for all.
    fn show(&mut self, watchers: &[Token], params: &EventParams<'_>, number: Option<u64>) {
        let (mut frame, mut block) = (None, None);
        for token in watchers {
            let Some(connection) = self.table.get_mut(*token) else { continue };
            let payload = match &mut connection.session {
                Session::WebSocket(session) => {
                    if number.is_some() && session.reads(params.router) {
                        continue; // it comes to it in the history
                    }
                    if std::mem::replace(&mut session.last_event, self.hub.shown) == self.hub.shown {
                        continue; // it has it by another subscription
                    }
                    let frame = frame.get_or_insert_with(|| share(&mut self.frames, encode(params)));
                    Payload::shared(frame)
                }
                Session::Http(session) => {
                    let Some((watch, exchange)) = session.watch() else { continue };
                    if watch.reading.is_some() {
                        continue;
                    }
                    watch.told_at = self.now.time;
                    let block = block.get_or_insert_with(|| {
                        let block =
                            encode_block(params, number.map(|number| EventId { run: self.run, number }));
                        Block { chunk: share(&mut self.frames, block.chunk), ..block }
                    });
                    match exchange.chunked {
                        true => Payload::shared(&block.chunk),
                        false => Payload::part(&block.chunk, block.plain.clone()),
                    }
                }
                Session::Router(_) | Session::LastWords(_) => continue,
            };
            self.send_user(*token, payload);
        }
        for shared in frame.iter().chain(block.as_ref().map(|block| &block.chunk)) {
            self.frames.unshare(shared);
        }
    }
}

fn share(frames: &mut Frames, encoded: Bytes) -> Bytes {
    frames.share(&encoded);
    encoded
}

/// The notification as a text frame, ready for any number of queues.
pub(super) fn encode(params: &EventParams<'_>) -> Bytes {
    let _charge = charge(Holder::QueuedFrame);
    let mut frame = TextFrame::begin(params.notification_len());
    write_event(frame.payload(), params);
    frame.finish()
}

/// The same for callers over HTTP.
pub(super) fn encode_block(params: &EventParams<'_>, id: Option<EventId>) -> Block {
    let _charge = charge(Holder::QueuedFrame);
    Block::event(params, id)
}

/// What topic `$presence` carries (SPEC section 4).
pub(super) fn presence_body(online: bool, session: Option<&str>, reason: Option<Reason>) -> String {
    let session = session.map_or("null".to_owned(), |session| format!("\"{session}\""));
    let reason = reason.map_or(String::new(), |reason| format!(",\"reason\":\"{}\"", reason.name()));
    format!("{{\"online\":{online},\"session\":{session}{reason}}}")
}

pub(super) fn presence<'a>(router: &'a str, body: &'a str, origin: Origin) -> EventParams<'a> {
    EventParams { router, topic: PRESENCE, seq: None, body: Body::Json(body.as_bytes()), origin }
}
