//! An HTTP consumer of streams: fast, slow, stalled for a while or gone; HTTP/1.0, HEAD, requests behind the stream. What it
//! gets is judged where the server writes it.

use super::response::Expected;
use crate::model::Context;
use crate::router::IDS;
use crate::socket::LinkRef;
use berth::id::Class;

#[derive(Default)]
pub struct ConsumerPeer {
    session: Option<Session>,
}

struct Session {
    link: LinkRef,
    is_head: bool,
    is_old: bool,
    is_last: bool,
    is_stalled: bool,
    /// The most that it takes at once, in bytes.
    pace: usize,
}

impl ConsumerPeer {
    pub fn act(&mut self, context: &mut Context<'_>) {
        if self.session.is_none() && !context.is_calm && context.random.chance(60) {
            self.session = Session::begin(context);
        }
        let Some(mut session) = self.session.take() else { return };
        session.receive(context);
        if session.link.borrow().at_end() {
            if context.random.chance(80) {
                session.link.borrow_mut().finish();
            }
            return;
        }
        if context.is_calm {
            session.is_stalled = false;
        } else {
            let due = context.model.streams.answers_due(&session.link);
            match context.random.below(100) {
                0..50 if due == 0 && !session.is_last => session.request(context),
                50..53 if due == 1 && !session.is_last => session.request(context), // a pipelined one
                53..57 => session.is_stalled = !session.is_stalled,
                57 => return crate::world::leave(&session.link, context.random),
                _ => {}
            }
        }
        self.session = Some(session);
    }

    pub fn leave(&mut self, context: &mut Context<'_>) {
        if let Some(session) = self.session.take() {
            crate::world::leave(&session.link, context.random);
        }
    }
}

impl Session {
    fn begin(context: &mut Context<'_>) -> Option<Self> {
        let link = context.network.connect(Class::Http, context.random)?;
        link.borrow_mut().is_tapped = true;
        let (is_head, is_old) = (context.random.chance(6), context.random.chance(10));
        context.model.streams.consumer(&link, is_head, is_old);
        let pace = *context.random.pick(&[usize::MAX, usize::MAX, 4_000, 400]);
        Some(Self { link, is_head, is_old, is_last: false, is_stalled: false, pace })
    }

    fn receive(&mut self, context: &mut Context<'_>) {
        let mut link = self.link.borrow_mut();
        link.did.stalled |= self.is_stalled;
        if !self.is_stalled || context.is_calm {
            link.take(if context.is_calm { usize::MAX } else { self.pace });
        }
    }

    fn request(&mut self, context: &mut Context<'_>) {
        let method = if self.is_head { "HEAD" } else { "GET" };
        let close = context.random.chance(6);
        let (target, expected): (_, &'static [u16]) = match context.random.below(20) {
            0 | 1 => ("/readyz".into(), &[200, 503]),
            2 => ("/v1/routers/r-1/streams/rows?max_messages=0".into(), &[400]),
            _ => (self.stream(context), &[]),
        };
        if !expected.is_empty() {
            context.model.streams.expect(&self.link, Expected::Statuses(expected));
        }
        let version = if self.is_old { "1.0" } else { "1.1" };
        let mut text = format!("{method} {target} HTTP/{version}\r\nHost: 127.0.0.1\r\n");
        if close {
            text += "Connection: close\r\n";
        }
        if close || self.is_old {
            self.is_last = true;
            self.link.borrow_mut().did.asked_close = true;
        }
        self.link.borrow_mut().send((text + "\r\n").as_bytes());
    }

    /// The target of a stream, which the model knows of.
    fn stream(&mut self, context: &mut Context<'_>) -> String {
        let router = *context.random.pick(&IDS);
        let name = *context.random.pick(&["rows", "log:1", "a.b"]);
        let number = context.model.nonce();
        let theirs = [format!("n={number}"), "x".into(), "filter=a%20b&c".into()];
        let theirs = &theirs[..context.random.between(1, 3)];
        let from = match context.random.below(10) {
            0 => i64::MAX as u64,
            1..4 => context.random.below(30) as u64,
            _ => 0,
        };
        let max_messages = *context.random.pick(&[1, 2, 5, 20, 20, 1024]);
        let max_bytes = *context.random.pick(&[16_384, 65_536, 65_536, 1_048_576]);
        let mut pieces = theirs.to_vec();
        let ours = [("from", from, 0), ("max_messages", max_messages, 20), ("max_bytes", max_bytes, 65_536)];
        for (key, value, default) in ours {
            if value != default || context.random.chance(20) {
                // Anywhere among the others, whose order stays.
                let index = context.random.below(pieces.len() + 1);
                pieces.insert(index, format!("{key}={value}"));
            }
        }
        let window = (max_messages as usize, max_bytes as usize);
        let query = theirs.join("&");
        context.model.streams.ask(number, router, name, &query, from, window, &self.link, context.now);
        format!("/v1/routers/{router}/streams/{name}?{}", pieces.join("&"))
    }
}
