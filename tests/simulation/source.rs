//! A backend that watches events over HTTP: stalls, hangs up, comes back with the id of the last event that it had, or with
//! what cannot be one. Ids count every event of the daemon, so whoever watches everything knows what is missing.

use crate::model::{Context, is_settled};
use crate::random::Random;
use crate::router::{IDS, TOPICS};
use crate::socket::LinkRef;
use crate::watcher::PRESENCE;
use crate::wire::take_chunk;
use berth::clock::Time;
use berth::id::Class;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A watcher that hears nothing for so long is told that its connection lives, and a little later it is late.
const COMMENT_AFTER: Duration = Duration::from_secs(16);

pub struct SourcePeer {
    router: &'static str,
    topic: &'static str,
    session: Option<Session>,
    /// The id of the last event that it had.
    last_id: Option<String>,
    /// The numbers of all events that it had, and behind which one it must have had all that match.
    seen: BTreeSet<u64>,
    complete_behind: Option<u64>,
    /// Up to here it was told that events may be missing.
    may_miss_until: u64,
}

struct Session {
    link: LinkRef,
    input: Vec<u8>,
    text: Vec<u8>,
    has_asked: bool,
    is_open: bool,
    is_over: bool,
    is_stalled: bool,
    heard_at: Time,
    /// What it must be told before anything else.
    awaits_gap: bool,
}

impl SourcePeer {
    pub fn new(random: &mut Random) -> Self {
        Self {
            router: *random.pick(&["*", "*", "*", "*", "*", IDS[0], IDS[1], IDS[2]]),
            topic: *random.pick(&["*", "*", "*", "*", PRESENCE, TOPICS[0], TOPICS[1]]),
            session: None,
            last_id: None,
            seen: BTreeSet::new(),
            complete_behind: None,
            may_miss_until: 0,
        }
    }

    pub fn act(&mut self, context: &mut Context<'_>) {
        if self.session.is_none() && !context.is_calm && context.random.chance(40) {
            let Some(link) = context.network.connect(Class::Http, context.random) else { return };
            self.session = Some(Session {
                link,
                input: Vec::new(),
                text: Vec::new(),
                has_asked: false,
                is_open: false,
                is_over: false,
                is_stalled: false,
                heard_at: context.now,
                awaits_gap: false,
            });
        }
        let Some(mut session) = self.session.take() else { return };
        self.receive(&mut session, context);
        if session.link.borrow().at_end() {
            if context.random.chance(80) {
                session.link.borrow_mut().finish();
            }
            return;
        }
        if !session.has_asked {
            if context.random.chance(60) {
                self.ask(&mut session, context);
            }
        } else if context.is_calm {
            session.is_stalled = false;
        } else {
            match context.random.below(100) {
                0..3 => session.is_stalled = !session.is_stalled,
                3..6 => return crate::world::leave(&session.link, context.random),
                _ => {}
            }
        }
        let is_silent = session.is_open && !session.is_stalled && is_settled(&session.link.borrow());
        if is_silent && context.now > session.heard_at + COMMENT_AFTER {
            context.model.fail("a watcher was told nothing for too long");
        }
        self.session = Some(session);
    }

    pub fn leave(&mut self, context: &mut Context<'_>) {
        if let Some(session) = self.session.take() {
            crate::world::leave(&session.link, context.random);
        }
    }

    fn ask(&mut self, session: &mut Session, context: &mut Context<'_>) {
        session.has_asked = true;
        let (router, topic) = (self.router, self.topic);
        let mut head =
            format!("GET /v1/events?router={router}&topic={topic} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        match &self.last_id {
            _ if context.random.chance(5) => {
                let other = *context.random.pick(&["0123456789abcdef-1", "nonsense"]);
                head += &format!("Last-Event-ID: {other}\r\n");
                session.awaits_gap = topic != PRESENCE;
            }
            Some(id) if context.random.chance(90) => {
                context.model.count("resumed watch");
                head += &format!("Last-Event-ID: {id}\r\n");
            }
            _ => self.complete_behind = None,
        }
        session.link.borrow_mut().send(format!("{head}\r\n").as_bytes());
    }

    fn receive(&mut self, session: &mut Session, context: &mut Context<'_>) {
        session.link.borrow_mut().did.stalled |= session.is_stalled;
        if session.is_stalled && !context.is_calm {
            return;
        }
        let most =
            if context.is_calm || context.random.chance(80) { usize::MAX } else { context.random.below(200) };
        let taken = session.link.borrow_mut().take(most);
        if !taken.is_empty() {
            session.heard_at = context.now;
        }
        session.input.extend(taken);
        if !session.is_open && !session.is_over {
            self.take_head(session, context);
        }
        while session.is_open && !session.is_over {
            match take_chunk(&mut session.input) {
                Err(problem) => return context.model.fail(problem),
                Ok(None) => break,
                Ok(Some(chunk)) if chunk.is_empty() => {
                    session.is_over = true;
                    if !context.model.draining {
                        context.model.fail("a watch came to its end");
                    }
                }
                Ok(Some(chunk)) => session.text.extend(chunk),
            }
        }
        while let Some(end) = session.text.windows(2).position(|bytes| bytes == b"\n\n") {
            let block: Vec<u8> = session.text.drain(..end + 2).collect();
            self.block(&String::from_utf8_lossy(&block[..end]), session, context);
        }
    }

    fn take_head(&mut self, session: &mut Session, context: &mut Context<'_>) {
        let Some(end) = session.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return };
        let head: Vec<u8> = session.input.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        match head.get(9..12) {
            Some("200") if head.contains("text/event-stream") => session.is_open = true,
            Some("503") if context.model.draining => session.is_over = true,
            Some("408" | "429") => session.is_over = true,
            _ => context.model.fail(format!("a watch is answered {head:?}")),
        }
    }

    fn block(&mut self, block: &str, session: &mut Session, context: &mut Context<'_>) {
        if block == ":" {
            return context.model.count("comment");
        }
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let (event, id) = (field("event: ").unwrap_or_default(), field("id: "));
        let data: Value =
            field("data: ").and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        if event == "berth.gap" {
            return self.gap(&data, id, session, context);
        }
        if std::mem::take(&mut session.awaits_gap) || data["topic"] != event {
            return context.model.fail(format!("a watcher was told {block:?}"));
        }
        if event == PRESENCE {
            if id.is_some() || self.topic != PRESENCE {
                context.model.fail(format!("presence was told as {block:?}"));
            }
            return;
        }
        let matches = |wanted: &str, value: &Value| wanted == "*" || value == wanted;
        if !matches(self.router, &data["router"]) || !matches(self.topic, &data["topic"]) {
            return context
                .model
                .fail(format!("a watcher of {} {} was told {block:?}", self.router, self.topic));
        }
        context.model.count("event to a backend");
        let Some(number) = id.and_then(number_of) else {
            return context.model.fail(format!("an event without an id: {block:?}"));
        };
        let before = self.seen.last().copied().unwrap_or(0);
        if number <= before {
            context.model.fail(format!("event {number} came to a watcher behind event {before}"));
        }
        self.last_id = id.map(str::to_owned);
        self.seen.insert(number);
        self.complete_behind.get_or_insert(number);
        context.model.sight(number, data);
    }

    fn gap(&mut self, data: &Value, id: Option<&str>, session: &mut Session, context: &mut Context<'_>) {
        context.model.count("gap");
        let until = data["until"].as_str().and_then(number_of);
        let (Some(until), Some(number), true) = (until, id.and_then(number_of), data["gap"] == true) else {
            return context.model.fail(format!("a gap that says {data} at {id:?}"));
        };
        if std::mem::take(&mut session.awaits_gap) {
            // What was missed cannot be known.
            self.complete_behind = Some(number);
            self.seen.clear();
        }
        self.last_id = id.map(str::to_owned);
        self.may_miss_until = self.may_miss_until.max(until);
    }

    /// When everything is calm: it has had every event that anybody has had and that it asked for, or was told of a gap.
    pub fn check_calm(&self, context: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        let is_well = session.is_open && !session.is_over && is_settled(&session.link.borrow());
        let (true, Some(behind)) = (is_well && self.topic != PRESENCE, self.complete_behind) else { return };
        let matches = |wanted: &str, value: &Value| wanted == "*" || value == wanted;
        let missed = context.model.sighted.iter().find(|(number, data)| {
            **number > behind.max(self.may_miss_until)
                && matches(self.router, &data["router"])
                && matches(self.topic, &data["topic"])
                && !self.seen.contains(number)
        });
        let missed = missed.map(|(number, _)| *number).or_else(|| self.hole(behind.max(self.may_miss_until)));
        if let Some(number) = missed {
            context
                .model
                .fail(format!("event {number} was missed by a watcher on {}", session.link.borrow().serial));
        }
    }

    /// The first number behind `behind` that one who watches everything has not had, but a later one.
    fn hole(&self, behind: u64) -> Option<u64> {
        let last = *self.seen.last()?;
        let watches_all = self.router == "*" && self.topic == "*";
        (behind + 1..last).find(|number| watches_all && !self.seen.contains(number))
    }
}

fn number_of(id: &str) -> Option<u64> {
    id.split_once('-')?.1.parse().ok()
}
