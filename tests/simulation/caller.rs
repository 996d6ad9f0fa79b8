//! An HTTP caller: commands awaited and one-way, lists, kicks, pipelining, bad requests, hang-ups while an answer is due.

use crate::fleet::FleetCall;
use crate::model::{Body, Context, Event, is_settled};
use crate::router::{IDS, TOPICS, payload};
use crate::socket::LinkRef;
use crate::wire::{Answer, take_answer};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use berth::id::Class;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// What is sent at once in a flood: more than three reads of the server. And the least length of a body in it.
pub const FLOOD_BYTES: usize = 200_000;
pub const FLOOD_BODY_BYTES: usize = 20_000;

#[derive(Default)]
pub struct CallerPeer {
    session: Option<Session>,
    /// Client ids that a list has shown.
    clients: Vec<String>,
}

struct Session {
    link: LinkRef,
    input: Vec<u8>,
    /// What was asked, in order.
    expected: VecDeque<Expected>,
    is_stalled: bool,
    /// Nothing more is asked on this connection.
    is_last: bool,
    hastes: bool,
    /// What is added to the bodies that it sends now, in bytes.
    bulk: usize,
}

struct Expected {
    what: What,
    is_bare: bool,
    /// No answer was due before it when it was asked.
    is_alone: bool,
}

enum What {
    Command(u64),
    OneWay(u64),
    Fleet(FleetCall),
    Statuses(&'static [u16]),
    /// An event of its own, by its number.
    Publish(usize),
    Clients,
    Audit,
}

impl CallerPeer {
    pub fn act(&mut self, context: &mut Context<'_>) {
        if self.session.is_none() && !context.is_calm && context.random.chance(60) {
            let Some(link) = context.network.connect(Class::Http, context.random) else { return };
            self.session = Some(Session {
                link,
                input: Vec::new(),
                expected: VecDeque::new(),
                is_stalled: false,
                is_last: false,
                hastes: context.random.chance(30),
                bulk: 0,
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
        if context.is_calm {
            session.is_stalled = false;
        } else {
            // Mostly one at a time, sometimes behind requests that are not answered yet.
            let most_due = if session.hastes { 4 } else { 0 };
            let may_ask = session.expected.len() <= most_due && !session.is_last;
            match context.random.below(100) {
                0..50 if may_ask => self.request(&mut session, context),
                55 if context.random.chance(25) => self.flood(&mut session, context),
                50..53 => session.is_stalled = !session.is_stalled,
                53 | 54 => return crate::world::leave(&session.link, context.random),
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

    /// An answer that is due by now must have been written, if the socket has room.
    pub fn check(&self, context: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        let link = session.link.borrow();
        let (1, Some(Expected { what, is_alone: true, .. })) =
            (session.expected.len(), session.expected.front())
        else {
            return;
        };
        let (asked_at, timeout) = match what {
            What::Command(nonce) => match context.model.commands.get(nonce) {
                Some(asked) => (asked.at, asked.timeout),
                None => return,
            },
            What::Fleet(call) => (call.at, call.timeout + Duration::from_millis(10)),
            _ => return,
        };
        let idle = is_settled(&link) && (session.input.is_empty() || matches!(what, What::Fleet(_)));
        let late = link.token.is_some()
            && link.last_read >= asked_at
            && context.now > link.last_read + timeout + Duration::from_millis(2);
        if idle && late {
            context.model.fail(format!("a command of {asked_at:?} is past its deadline and has no answer"));
        }
    }

    /// When everything is calm: nothing that was asked is left without an answer.
    pub fn check_calm(&self, context: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        let link = session.link.borrow();
        if is_settled(&link) && link.token.is_some() && !session.expected.is_empty() {
            context.model.fail(format!(
                "{} HTTP answers are missing on link {}",
                session.expected.len(),
                link.serial
            ));
        }
    }

    fn receive(&mut self, session: &mut Session, context: &mut Context<'_>) {
        session.link.borrow_mut().did.stalled |= session.is_stalled;
        if session.is_stalled && !context.is_calm {
            return;
        }
        let most =
            if context.is_calm || context.random.chance(80) { usize::MAX } else { context.random.below(200) };
        let taken = session.link.borrow_mut().take(most);
        session.input.extend(taken);
        while !session.input.is_empty() {
            let is_bare = session.expected.front().is_some_and(|expected| expected.is_bare);
            match take_answer(&mut session.input, is_bare) {
                Err(problem) => return context.model.fail(problem),
                Ok(None) => return,
                Ok(Some(answer)) if answer.status == 100 => {}
                Ok(Some(answer)) => self.judge(session, answer, context),
            }
        }
    }

    fn judge(&mut self, session: &mut Session, answer: Answer, context: &mut Context<'_>) {
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or("").to_owned();
        if answer.closes {
            session.is_last = true;
        }
        // Such an answer is the connection's and not the request's: it has a body even where the request was a HEAD.
        let is_last_word = answer.closes
            && answer.status != 200
            && (matches!(answer.status, 408 | 429) || matches!(&*code, "limit_exceeded" | "request_timeout"));
        if is_last_word {
            context.model.count(&code);
            session.input.clear();
            session.expected.clear(); // the connection ends before they are answered
            return;
        }
        let Some(expected) = session.expected.pop_front() else {
            return context.model.fail(format!("an answer {} to nothing", answer.status));
        };
        match expected.what {
            What::Command(nonce) => self.judge_command(session, nonce, answer, &problem, &code, context),
            What::OneWay(nonce) => {
                let good = match answer.status {
                    202 => true,
                    404 => code == "router_offline",
                    429 => code == "router_busy",
                    503 => code == "draining" && context.model.draining,
                    _ => false,
                };
                if !good {
                    context
                        .model
                        .fail(format!("the answer to one-way command {nonce} is {} {code}", answer.status));
                }
                if answer.status != 202 {
                    context.model.one_ways.remove(&nonce);
                }
            }
            What::Fleet(call) => call.judge(&session.link, &answer, &problem, context),
            What::Statuses(statuses) => {
                if !statuses.contains(&answer.status) {
                    context.model.fail(format!("{} is none of {statuses:?}", answer.status));
                }
            }
            What::Publish(number) if answer.status == 202 => context.model.events[number].is_sent = true,
            What::Publish(number) => {
                context.model.fail(format!("publishing event {number} is answered {}", answer.status));
            }
            What::Clients => {
                let clients = problem["clients"].as_array().into_iter().flatten();
                self.clients =
                    clients.filter_map(|client| Some(client["client"].as_str()?.to_owned())).collect();
            }
            What::Audit => {
                if problem["audit"]["ok"] != true {
                    context.model.fail(format!("the census says {}", problem["audit"]));
                }
            }
        }
    }

    fn judge_command(
        &mut self,
        session: &Session,
        nonce: u64,
        answer: Answer,
        problem: &Value,
        code: &str,
        context: &mut Context<'_>,
    ) {
        let from_router = |bytes| Body::Http { json: answer.content_type == "application/json", bytes };
        let is_problem = answer.content_type == "application/problem+json";
        let (code, body) = match (answer.status, code) {
            (200, _) => ("ok", from_router(answer.body)),
            (502, _) if !is_problem => ("router_error", from_router(answer.body)),
            (404, "router_offline")
            | (429, "router_busy")
            | (503, "router_lost" | "draining")
            | (504, "deadline_exceeded") => (code, Body::None),
            (status, code) => {
                return context.model.fail(format!("command {nonce} is answered {status} {code}"));
            }
        };
        context.model.answer(
            nonce,
            &session.link,
            code,
            problem["sent"].as_bool().filter(|_| is_problem),
            body,
            context.now,
        );
    }

    /// Pipelines several times what one read takes.
    fn flood(&mut self, session: &mut Session, context: &mut Context<'_>) {
        session.bulk = FLOOD_BODY_BYTES;
        for _ in 0..2 * FLOOD_BYTES / FLOOD_BODY_BYTES {
            if !session.is_last && session.link.borrow().unread() < FLOOD_BYTES {
                self.request(session, context);
            }
        }
        session.bulk = 0;
        context.model.count("flood of requests");
    }

    fn request(&mut self, session: &mut Session, context: &mut Context<'_>) {
        let router = *context.random.pick(&IDS);
        let mut close = context.random.chance(4);
        let mut body = String::new();
        let mut is_bare = false;
        let (line, what) = match context.random.below(100) {
            0..12 => {
                let (call, text) = FleetCall::ask(&session.link, session.bulk, context);
                body = text;
                ("POST /v1/commands/do HTTP/1.1".into(), What::Fleet(call))
            }
            12..62 => {
                let nonce = context.model.nonce();
                let timeout = context.random.timeout_ms();
                let json = context.random.chance(50);
                body = payload(nonce, json, session.bulk + context.random.length());
                context.model.ask(
                    nonce,
                    router,
                    &session.link,
                    Duration::from_millis(timeout),
                    body.len(),
                    context.now,
                );
                let json = if json { "\r\nContent-Type: application/json" } else { "" };
                (
                    format!("POST /v1/routers/{router}/commands/do?timeout_ms={timeout} HTTP/1.1{json}"),
                    What::Command(nonce),
                )
            }
            62..74 => {
                let nonce = context.model.nonce();
                body = payload(nonce, false, session.bulk + context.random.length());
                context.model.tell(nonce, router, session.link.borrow().serial, body.len());
                (format!("POST /v1/routers/{router}/commands/do?oneway=1 HTTP/1.1"), What::OneWay(nonce))
            }
            74..78 => ("GET /v1/routers?limit=2 HTTP/1.1".into(), What::Statuses(&[200])),
            78..80 => {
                is_bare = context.random.chance(50);
                let method = if is_bare { "HEAD" } else { "GET" };
                (format!("{method} /v1/routers/{router} HTTP/1.1"), What::Statuses(&[200, 404]))
            }
            80..84 => ("GET /v1/clients HTTP/1.1".into(), What::Clients),
            84 => {
                context.model.kicked.insert(router.into());
                (format!("DELETE /v1/routers/{router} HTTP/1.1"), What::Statuses(&[204, 404]))
            }
            85 if !self.clients.is_empty() => {
                let client = context.random.pick(&self.clients).clone();
                context.model.kicked_clients = true;
                (format!("DELETE /v1/clients/{client} HTTP/1.1"), What::Statuses(&[204, 404]))
            }
            86 => {
                context.model.forgotten = true;
                (format!("DELETE /v1/routers/{router}/shadow HTTP/1.1"), What::Statuses(&[204]))
            }
            87..90 => ("GET /v1/census?audit=1 HTTP/1.1".into(), What::Audit),
            90 => ("GET /nowhere HTTP/1.1".into(), What::Statuses(&[404])),
            91 => ("GET /v1/routers?limit=0 HTTP/1.1".into(), What::Statuses(&[400])),
            92 => return self.misbehave(session, context),
            94..98 => {
                let (number, text) = publication(router, session, context);
                body = text;
                ("POST /v1/events HTTP/1.1".into(), What::Publish(number))
            }
            93 => {
                close = true;
                ("GET /healthz HTTP/1.0".into(), What::Statuses(&[200]))
            }
            _ => ("GET /readyz HTTP/1.1".into(), What::Statuses(&[200, 503])),
        };
        let mut text = format!("{line}\r\nHost: 127.0.0.1\r\n");
        if close {
            text += "Connection: close\r\n";
            session.is_last = true;
            session.link.borrow_mut().did.asked_close = true;
        }
        if context.random.chance(5) && !body.is_empty() && !line.ends_with("1.0") {
            text += "Expect: 100-continue\r\n";
        }
        if context.random.chance(20) && !body.is_empty() {
            let cut = body.len() / 2;
            let (first, second) = body.split_at(cut);
            text += &format!(
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                cut,
                body.len() - cut
            );
        } else if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        } else {
            text += "\r\n";
        }
        let is_alone = session.expected.is_empty();
        session.expected.push_back(Expected { what, is_bare, is_alone });
        session.link.borrow_mut().send(text.as_bytes());
    }

    /// Something that the contract refuses, or half a request and nothing more.
    fn misbehave(&mut self, session: &mut Session, context: &mut Context<'_>) {
        let bad: &[u8] = match context.random.below(4) {
            0 => b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            1 => b"POST /v1/routers/r-1/commands/do HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            2 => b"POST /v1/routers/r-1/commands/do HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf",
            _ => b"GET /v1/rou",
        };
        session.is_last = true;
        let mut link = session.link.borrow_mut();
        link.did.broke_rules = true;
        link.send(bad);
        drop(link);
        session.expected.push_back(Expected {
            what: What::Statuses(&[400]),
            is_bare: false,
            is_alone: false,
        });
    }
}

/// An event that the caller publishes for a router: its number, and the request's body.
fn publication(router: &str, session: &Session, context: &mut Context<'_>) -> (usize, String) {
    let number = context.model.events.len();
    let topic = *context.random.pick(&TOPICS);
    let (json, retain) = (context.random.chance(60), context.random.chance(40));
    let pad = "z".repeat(context.random.length() / 2);
    let mut event = json!({ "router": router, "topic": topic, "retain": retain });
    let body = match json {
        true => json!({ "n": number, "pad": pad }).to_string(),
        false => format!("{number}:{pad}"),
    };
    match json {
        true => event["body"] = serde_json::from_str(&body).expect("it was JSON"),
        false => event["body_base64"] = BASE64_STANDARD.encode(&body).into(),
    }
    context.model.events.push(Event {
        router: router.into(),
        topic: topic.into(),
        link: session.link.clone(),
        is_sent: false,
        welcomed: true,
        body: body.into_bytes(),
        json,
    });
    (number, event.to_string())
}
