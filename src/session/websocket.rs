//! A WebSocket client's session: the handshake, then JSON-RPC messages.

use crate::api::{Refusal, upgrade};
use crate::clock::Time;
use crate::core::commands::OfCaller;
use crate::core::hub::OfClient;
use crate::id::{Class, SessionId};
use crate::limits::{Settings, WebSocketSettings};
use crate::proto::http::{BodyLength, parse_head};
use crate::proto::websocket::{Decoder, Fault, Limits, Message};
use crate::session::heartbeat::Heartbeat;
use crate::session::reading::Reading;
use slab::Slab;
use std::collections::VecDeque;

/// The settings of apps or pages.
pub fn settings_of(settings: &Settings, class: Class) -> &WebSocketSettings {
    if class == Class::Page { &settings.page } else { &settings.app }
}

/// The largest head of a handshake, in bytes; the HTTP listener's is configurable, this needs no more.
const MAX_HANDSHAKE_BYTES: usize = 16_384;

#[derive(Debug)]
pub struct WebSocketSession {
    pub client: SessionId,
    pub heartbeat: Heartbeat,
    decoder: Decoder,
    /// While the handshake is under way: how far its head was searched.
    handshake: Option<usize>,
    /// Commands that the client awaits.
    pub commands: OfCaller,
    pub subscriptions: OfClient,
    last_subscription: u64,
    /// The last event that was queued: an event comes once, however many subscriptions match.
    pub last_event: u64,
    /// Only while there is something to replay or a batch to complete. Histories go first: live events wait for them.
    pub replays: Option<Box<VecDeque<Replay>>>,
    pub batches: Option<Box<Slab<Batch>>>,
}

/// What is still to be sent out of shadows.
#[derive(Debug)]
pub enum Replay {
    /// The retained values that a new subscription matches.
    Values { subscription: u32, after: After },
    /// The history of a router.
    History(Reading),
}

/// Router and topic of the last value that was looked at.
pub type After = Option<(Box<str>, Option<Box<str>>)>;

/// A JSON-RPC batch whose answer is not complete.
#[derive(Debug)]
pub struct Batch {
    pub parts: Vec<Part>,
    pub waiting: usize,
}

#[derive(Debug)]
pub enum Part {
    /// A notification has no answer.
    Nothing,
    Answer(Vec<u8>),
    Waiting,
    /// Carried out when the rest is answered, so that it begins behind the batch's answer: id and parameters as sent.
    Subscribe {
        id: Option<Box<str>>,
        params: Option<Box<str>>,
    },
}

impl Batch {
    fn held_bytes(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Answer(answer) => answer.capacity(),
            Part::Subscribe { params, .. } => params.as_ref().map_or(0, |params| params.len()),
            _ => 0,
        };
        self.parts.iter().map(part).sum()
    }
}

/// What the handshake came to.
#[derive(Debug)]
pub enum Handshake {
    Incomplete,
    Accepted { accept: String },
    Refused(Refusal),
}

impl WebSocketSession {
    pub fn new(now: Time, client: SessionId) -> Self {
        Self {
            client,
            heartbeat: Heartbeat::new(now),
            decoder: Decoder::default(),
            handshake: Some(0),
            commands: OfCaller::default(),
            subscriptions: OfClient::default(),
            last_subscription: 0,
            last_event: 0,
            replays: None,
            batches: None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.handshake.is_none()
    }

    /// Reads the handshake's head off the front of `input`.
    pub fn handshake(&mut self, input: &mut &mut [u8], class: Class, origins: &[String]) -> Handshake {
        let Some(scanned) = &mut self.handshake else { return Handshake::Incomplete };
        let (result, used) = match parse_head(input, scanned, MAX_HANDSHAKE_BYTES) {
            Ok(None) => return Handshake::Incomplete,
            Ok(Some((head, used))) => {
                let has_body = !matches!(head.body, BodyLength::None | BodyLength::Exactly(0));
                let checked = upgrade::check(&head, class, origins);
                let refusal = || Refusal::bad_request("a handshake has no body");
                (checked.and_then(|accept| if has_body { Err(refusal()) } else { Ok(accept) }), used)
            }
            Err(error) => (Err(error.into()), 0),
        };
        *input = &mut std::mem::take(input)[used..];
        match result {
            Ok(accept) => {
                self.handshake = None;
                Handshake::Accepted { accept }
            }
            Err(refusal) => Handshake::Refused(refusal),
        }
    }

    /// The next message or control frame.
    pub fn next<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        settings: &WebSocketSettings,
    ) -> Result<Option<Message<'i>>, Fault> {
        let limits = Limits {
            max_message_bytes: settings.max_message_bytes,
            binary: cfg!(feature = "websocket-echo"),
        };
        self.decoder.next(input, &limits)
    }

    /// The histories that are read to it.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.replays.iter().flat_map(|replays| replays.iter()).filter_map(|replay| match replay {
            Replay::History(reading) => Some(reading),
            Replay::Values { .. } => None,
        })
    }

    /// Whether the events of a router wait in its history until the client has read that far.
    pub fn reads(&self, router: &str) -> bool {
        self.readings().any(|reading| &*reading.router == router)
    }

    /// Whether so much waits to be replayed that the history of a router is not read for one more subscription: subscriptions
    /// that ended meanwhile are remembered too.
    pub fn reads_much(&self, router: &str, max_subscriptions: usize) -> bool {
        match self.readings().find(|reading| &*reading.router == router) {
            Some(reading) => reading.remembered() > max_subscriptions,
            None => self.readings().count() >= max_subscriptions,
        }
    }

    /// Numbers count up from 1 within the connection.
    pub fn next_subscription(&mut self) -> u64 {
        self.last_subscription += 1;
        self.last_subscription
    }

    /// Half a message, and answers that wait for their batch.
    pub fn held_bytes(&self) -> usize {
        let batches =
            self.batches.as_ref().map_or(0, |batches| batches.iter().map(|(_, b)| b.held_bytes()).sum());
        self.decoder.half_bytes() + batches
    }

    pub fn deadline(&self, opened_at: Time, settings: &WebSocketSettings) -> Time {
        if self.is_open() {
            self.heartbeat.deadline(&settings.heartbeat)
        } else {
            opened_at + settings.handshake_timeout
        }
    }
}
