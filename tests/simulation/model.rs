//! What the simulator knows by itself: every command asked, every event sent, who must be bound. It judges the answers.

use crate::random::Random;
use crate::socket::{Link, LinkRef, Shared};
use crate::streams::ledger::Streams;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use berth::clock::Time;
use berth::id::{Class, Reason};
use berth::limits::Settings;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Bytes of commands that fit into every queue to a router in every schedule.
const LITTLE: usize = 2_000;

/// What an actor works with.
pub struct Context<'w> {
    pub random: &'w mut Random,
    pub model: &'w mut Model,
    pub network: &'w mut Network,
    pub settings: &'w Settings,
    pub now: Time,
    /// No new requests and no mischief: what is under way comes to its end.
    pub is_calm: bool,
}

/// Connections that wait to be accepted, and all that were made.
pub struct Network {
    pub backlog: Vec<LinkRef>,
    pub links: Vec<LinkRef>,
    /// Only HTTP listens.
    pub is_draining: bool,
    pub shared: Rc<Shared>,
    serial: u64,
}

impl Network {
    pub fn new(shared: Rc<Shared>) -> Self {
        Self { backlog: Vec::new(), links: Vec::new(), is_draining: false, shared, serial: 0 }
    }

    pub fn connect(&mut self, class: Class, random: &mut Random) -> Option<LinkRef> {
        if self.is_draining && class != Class::Http {
            return None;
        }
        self.serial += 1;
        let host = IpAddr::V4(Ipv4Addr::new(127, 0, 0, random.between(1, 3) as u8));
        let peer = SocketAddr::new(host, 1000 + self.serial as u16);
        let link = Link::new(self.serial, class, peer, random, &self.shared);
        self.links.push(link.clone());
        self.backlog.push(link.clone());
        Some(link)
    }
}

pub struct Reply {
    pub error: bool,
    pub json: bool,
    pub body: Vec<u8>,
}

/// What a router says to ids that an earlier session in its slot may have been asked.
pub const STALE: &[u8] = b"stale";
/// In place of the answer to a call that has none.
pub const NOTIFICATION: &str = "notification";

/// A command that somebody awaits.
pub struct Asked {
    pub router: String,
    pub caller: LinkRef,
    pub timeout: Duration,
    pub at: Time,
    /// The caller's own commands without an answer when it was asked.
    pub own_pending: usize,
    /// A router has received a part of it; all of it.
    pub begun: bool,
    pub received: bool,
    pub replies: Vec<Reply>,
    /// The code of its answer, `ok` for a reply.
    pub answer: Option<String>,
    answered_at: Time,
    said_unsent: bool,
}

pub struct OneWay {
    pub router: String,
    pub caller: u64,
    pub received: bool,
}

/// An event that a router has begun to send.
pub struct Event {
    pub router: String,
    pub topic: String,
    pub link: LinkRef,
    pub is_sent: bool,
    /// The router had its WELCOME before.
    pub welcomed: bool,
    pub body: Vec<u8>,
    pub json: bool,
}

/// A session as its router knows it.
pub struct Binding {
    pub router: String,
    pub link: LinkRef,
    pub since: Time,
    pub session: String,
}

/// The body of an answer, as its protocol carries it.
pub enum Body {
    None,
    Http { json: bool, bytes: Vec<u8> },
    Json(Value),
    Base64(Vec<u8>),
}

#[derive(Default)]
pub struct Model {
    pub failures: Vec<String>,
    /// The sum limit is small: any session may be ended for it, and its peer is told behind what it does not read.
    pub tight_memory: bool,
    pub commands: BTreeMap<u64, Asked>,
    /// The same payload went to many: by the number in it and the router, the command of its own that this stands for.
    pub fleets: BTreeMap<(u64, String), u64>,
    pub one_ways: BTreeMap<u64, OneWay>,
    pub events: Vec<Event>,
    /// Events as backends were told of them, by the daemon's number.
    pub sighted: BTreeMap<u64, Value>,
    pub bindings: Vec<Binding>,
    /// Links on which a router said HELLO, and its id.
    pub hellos: Vec<(u64, String)>,
    /// Routers that somebody asked to be kicked; any client was.
    pub kicked: BTreeSet<String>,
    pub kicked_clients: bool,
    /// Shadows that somebody asked to be forgotten.
    pub forgotten: bool,
    pub draining: bool,
    pub streams: Streams,
    /// Routers that sent [`STALE`] replies.
    pub stale_replies: BTreeSet<String>,
    /// How often each answer and each reason came, for the report.
    pub seen: BTreeMap<String, usize>,
    /// Bytes of all commands to each router.
    bytes: BTreeMap<String, usize>,
    nonce: u64,
}

impl Model {
    pub fn fail(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }

    /// A backend was told of the daemon's event `number`: whoever is told of it is told the same.
    pub fn sight(&mut self, number: u64, data: Value) {
        if let Some(problem) = self.judge_event(&data) {
            self.fail(format!("event {number}: {problem}"));
        }
        if let Some(before) = self.sighted.get(&number).filter(|before| **before != data) {
            let problem = format!("event {number} is {before} to one and {data} to another");
            self.fail(problem);
        }
        self.sighted.insert(number, data);
    }

    /// What is wrong with what is told of an event, if it is one of those that were sent.
    fn judge_event(&self, data: &Value) -> Option<String> {
        let bytes = BASE64_STANDARD.decode(data["body_base64"].as_str().unwrap_or("")).unwrap_or_default();
        let Some(number) = event_number(data, &bytes) else {
            let clears = bytes.is_empty() && data.get("body").is_none();
            return (!clears).then(|| format!("nobody sent {data}"));
        };
        let Some(event) = self.events.get(number) else { return Some(format!("nobody sent {data}")) };
        let same_body = match data.get("body") {
            Some(body) => serde_json::from_slice::<Value>(&event.body).is_ok_and(|sent| sent == *body),
            None => event.body == bytes && !event.json,
        };
        let same = data["router"] == *event.router && data["topic"] == *event.topic && same_body;
        (!same).then(|| format!("{data} came with other words"))
    }

    pub fn nonce(&mut self) -> u64 {
        self.nonce += 1;
        self.nonce
    }

    pub fn count(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    pub fn ask(
        &mut self,
        nonce: u64,
        router: &str,
        caller: &LinkRef,
        timeout: Duration,
        bytes: usize,
        at: Time,
    ) {
        let open = || self.commands.values().filter(|asked| is_open(&asked.answer));
        let own_pending = open().filter(|asked| Rc::ptr_eq(&asked.caller, caller)).count();
        self.add_bytes(router, bytes);
        let asked = Asked {
            router: router.to_owned(),
            caller: caller.clone(),
            timeout,
            at,
            own_pending,
            begun: false,
            received: false,
            replies: Vec::new(),
            answer: None,
            answered_at: at,
            said_unsent: false,
        };
        self.commands.insert(nonce, asked);
    }

    /// The number of the command that reached `router` with this number in its payload.
    pub fn own_nonce(&self, nonce: u64, router: &str) -> u64 {
        self.fleets.get(&(nonce, router.to_owned())).copied().unwrap_or(nonce)
    }

    /// Counts what was ever sent to a router.
    fn add_bytes(&mut self, router: &str, bytes: usize) {
        *self.bytes.entry(router.to_owned()).or_default() += bytes + 100;
    }

    /// There were others to the same router meanwhile, or so many bytes went there that its queue may have been full.
    fn may_be_busy(&self, nonce: u64) -> bool {
        let Some(asked) = self.commands.get(&nonce) else { return false };
        let other = |(other, command): (&u64, &Asked)| {
            *other != nonce
                && command.router == asked.router
                && (command.at >= asked.at || is_open(&command.answer) || command.answered_at >= asked.at)
        };
        self.commands.iter().any(other) || self.was_sent_much(&asked.router)
    }

    /// A router may have hit a command of its session with a reply that it meant for none.
    fn is_stale_reply(&self, nonce: u64, body: &Body) -> bool {
        let router = self.commands.get(&nonce).map(|asked| &asked.router);
        let is_stale = match body {
            Body::Http { json: false, bytes } | Body::Base64(bytes) => bytes == STALE,
            _ => false,
        };
        is_stale && router.is_some_and(|router| self.stale_replies.contains(router))
    }

    /// Its queue may have been full.
    pub fn was_sent_much(&self, router: &str) -> bool {
        self.bytes.get(router).is_some_and(|bytes| *bytes > LITTLE)
    }

    pub fn tell(&mut self, nonce: u64, router: &str, caller: u64, bytes: usize) {
        self.add_bytes(router, bytes);
        self.one_ways.insert(nonce, OneWay { router: router.to_owned(), caller, received: false });
    }

    /// The first part of an awaited command reached `router`.
    pub fn command_begins(&mut self, nonce: u64, router: &str) {
        let problem = match self.commands.get_mut(&nonce) {
            None => Some(format!("command {nonce} that nobody asked")),
            Some(asked) => {
                let again = std::mem::replace(&mut asked.begun, true);
                if asked.router != router {
                    Some(format!("command {nonce} for {} went to {router}", asked.router))
                } else if again {
                    Some(format!("command {nonce} was delivered twice"))
                } else {
                    asked
                        .said_unsent
                        .then(|| format!("command {nonce} was sent though its answer said that it was not"))
                }
            }
        };
        self.failures.extend(problem);
    }

    /// An answer came to the caller that waits on `link`.
    pub fn answer(
        &mut self,
        nonce: u64,
        link: &LinkRef,
        code: &str,
        sent: Option<bool>,
        body: Body,
        now: Time,
    ) {
        self.count(code);
        let surely_bound =
            self.commands.get(&nonce).is_some_and(|asked| self.is_surely_bound(&asked.router, asked.at))
                && !self.tight_memory;
        let (draining, may_be_busy) = (self.draining, self.may_be_busy(nonce));
        let is_stale = self.is_stale_reply(nonce, &body);
        let Some(asked) = self.commands.get_mut(&nonce) else {
            return self.fail(format!("an answer to {nonce}, which nobody asked"));
        };
        asked.answered_at = now;
        let mut problem = None;
        if !Rc::ptr_eq(&asked.caller, link) {
            problem = Some("went to another caller".to_owned());
        }
        if let Some(before) = asked.answer.replace(code.to_owned()) {
            problem = Some(format!("came twice: {before}, {code}"));
        }
        let waited = now.since(asked.at);
        let bad = match code {
            "ok" if is_stale => false,
            "ok" | "router_error" => {
                !asked.replies.iter().any(|reply| is_reply(reply, code == "router_error", &body))
            }
            "deadline_exceeded" => waited < asked.timeout,
            "router_offline" | "router_lost" => surely_bound,
            "router_busy" => !may_be_busy && surely_bound,
            "draining" => !draining,
            "limit_exceeded" => false, // the client's own limit: judged by the client
            "reply_over_limit" => asked.replies.is_empty(),
            _ => true,
        };
        if bad {
            problem =
                Some(format!("is wrong: {code} of {} after {waited:?} of {:?}", asked.router, asked.timeout));
        }
        match (code, sent) {
            ("ok", None) | ("router_error", None | Some(true)) => {}
            ("router_offline" | "router_busy" | "limit_exceeded", Some(false)) => {}
            ("reply_over_limit", Some(true)) => {}
            ("deadline_exceeded" | "router_lost" | "draining", Some(sent)) => {
                asked.said_unsent = !sent;
                if !sent && asked.begun {
                    problem = Some(format!("{code} says that it was not sent, but it was"));
                }
            }
            _ => problem = Some(format!("{code} has sent: {sent:?}")),
        }
        if let Some(problem) = problem {
            self.fail(format!("the answer to command {nonce} {problem}"));
        }
    }

    /// Whether `router` has been bound all the time since `since`, as far as can be told for sure: a session that it was
    /// welcomed to before then, that nobody ended, and whose socket would have shown by now that the server did.
    pub fn is_surely_bound(&self, router: &str, since: Time) -> bool {
        self.bindings.iter().any(|binding| {
            binding.router == router && binding.since <= since && is_healthy(&binding.link.borrow())
        })
    }
}

/// The number that an event carries in its body.
pub fn event_number(data: &Value, bytes: &[u8]) -> Option<usize> {
    let of_bytes = || std::str::from_utf8(bytes).ok()?.split(':').next()?.parse().ok();
    data["body"]["n"].as_u64().map(|number| number as usize).or_else(of_bytes)
}

/// Nothing that the peer did ends this connection, and the server has not ended it.
pub fn is_healthy(link: &Link) -> bool {
    let did = link.did;
    let ended = did.fin || did.bye || did.reset || did.timed_out || did.dead || did.broke_rules;
    !ended && !link.blocked && !link.has_edge() && !link.fin_from_server && !link.closed && link.end.is_none()
}

/// Whether a command may still be pending.
fn is_open(answer: &Option<String>) -> bool {
    answer.as_deref().is_none_or(|answer| answer == NOTIFICATION)
}

/// The same, and nothing is on its way in either direction.
pub fn is_settled(link: &Link) -> bool {
    is_healthy(link) && link.unread() == 0 && link.untaken() == 0
}

fn is_reply(reply: &Reply, error: bool, body: &Body) -> bool {
    let same = match body {
        Body::None => reply.body.is_empty() && !reply.json,
        Body::Http { json, bytes } => *json == reply.json && *bytes == reply.body,
        Body::Json(value) => {
            reply.json && serde_json::from_slice::<Value>(&reply.body).is_ok_and(|sent| sent == *value)
        }
        Body::Base64(bytes) => !reply.json && *bytes == reply.body,
    };
    reply.error == error && same
}

/// Whether something that happened justifies the reason that the server gives for the end of a connection.
pub fn justifies(link: &Link, reason: Reason, model: &Model, settings: &Settings, now: Time) -> bool {
    let did = link.did;
    let age = now.since(link.opened_at);
    let heartbeat = match link.class {
        Class::Router => Some(settings.router.heartbeat),
        Class::App => Some(settings.app.heartbeat),
        Class::Page => Some(settings.page.heartbeat),
        Class::Http => None,
    };
    if link.class == Class::Http && !model.streams.justifies(link.serial, reason) {
        return false;
    }
    match reason {
        Reason::PeerClosed => did.fin || did.bye,
        Reason::PeerReset => did.reset || did.fin,
        Reason::Keepalive => did.timed_out,
        Reason::HeartbeatTimeout => heartbeat.is_some_and(|heartbeat| {
            now.since(link.last_arrival) >= heartbeat.interval + heartbeat.timeout
                || (link.unread() > 0 && now.since(link.last_read) >= heartbeat.interval + heartbeat.timeout)
        }),
        Reason::HelloTimeout => link.class == Class::Router && age >= settings.router.hello_timeout,
        Reason::HeaderTimeout => match link.class {
            Class::Router => false,
            Class::Http => age >= settings.http.header_timeout,
            Class::App => age >= settings.app.handshake_timeout,
            Class::Page => age >= settings.page.handshake_timeout,
        },
        Reason::IdleTimeout => {
            link.class == Class::Http && age >= settings.http.idle_timeout.min(settings.http.body_timeout)
        }
        Reason::Takeover => {
            let of_id = |id| model.hellos.iter().any(|(serial, other)| other == id && *serial != link.serial);
            model.hellos.iter().any(|(serial, id)| *serial == link.serial && of_id(id))
        }
        Reason::Kicked => match link.class {
            Class::Router => !model.kicked.is_empty(),
            Class::App | Class::Page => model.kicked_clients,
            Class::Http => false,
        },
        Reason::Draining => model.draining,
        Reason::Done => link.class != Class::Router && (did.asked_close || did.broke_rules || model.draining),
        Reason::SlowConsumer => did.stalled || did.slow || did.timed_out || link.class != Class::Http,
        Reason::LimitExceeded => true,
        // A refused request may have asked for the end as well; in a drain every answer is the last.
        Reason::ProtocolError => {
            did.broke_rules || link.class == Class::Http && (did.asked_close || model.draining)
        }
        Reason::TooLarge => did.broke_rules,
        Reason::RouterLost => link.class == Class::Http,
        Reason::Unauthorized | Reason::IoError => false,
    }
}
