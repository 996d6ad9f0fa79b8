//! An app or a page: handshake, subscriptions, commands, batches, pings; stalls until it is a slow consumer, sends what is
//! refused, goes silent.

use crate::caller::{FLOOD_BODY_BYTES, FLOOD_BYTES};
use crate::model::{Body, Context, NOTIFICATION, is_settled};
use crate::recall::Recall;
use crate::router::{IDS, TOPICS, payload};
use crate::socket::LinkRef;
use crate::watcher::{PRESENCE, Subscription, Watcher};
use crate::wire::{take_answer, take_websocket_frame, websocket_frame};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use berth::id::Class;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub struct ClientPeer {
    class: Class,
    session: Option<Session>,
    recall: Recall,
}

struct Session {
    recall: Recall,
    link: LinkRef,
    input: Vec<u8>,
    said_hello: bool,
    is_open: bool,
    is_over: bool,
    /// The rest of a message that is sent in fragments.
    rest: Option<Vec<u8>>,
    next_id: u64,
    calls: BTreeMap<u64, Call>,
    batches: Vec<BTreeSet<u64>>,
    watcher: Watcher,
    /// The number of its last subscription.
    subscribed: u64,
    is_stalled: bool,
    is_silent: bool,
    /// What is added to the bodies that it sends now, in bytes.
    bulk: usize,
    /// PINGs without their PONG.
    pings: usize,
}

enum Call {
    Command(u64),
    OneWay(u64),
    Subscribe { router: String, topic: String, since: Option<(String, u64)> },
    Unsubscribe,
    Routers,
    Bad,
}

impl ClientPeer {
    pub fn new(class: Class) -> Self {
        Self { class, session: None, recall: Recall::default() }
    }

    pub fn act(&mut self, context: &mut Context<'_>) {
        if self.session.is_none() && !context.is_calm && context.random.chance(40) {
            let link = context.network.connect(self.class, context.random);
            let recall = std::mem::take(&mut self.recall);
            self.session = link.map(|link| Session::new(link, recall, context));
        }
        let Some(mut session) = self.session.take() else { return };
        match session.act(context) {
            true => self.recall = session.recall,
            false => self.session = Some(session),
        }
    }

    pub fn check_calm(&self, context: &mut Context<'_>) {
        if let Some(session) = &self.session {
            session.check_calm(context);
        }
    }

    pub fn leave(&mut self, context: &mut Context<'_>) {
        if let Some(session) = self.session.take() {
            crate::world::leave(&session.link, context.random);
        }
    }
}

impl Session {
    fn new(link: LinkRef, recall: Recall, context: &mut Context<'_>) -> Self {
        Self {
            recall,
            link,
            input: Vec::new(),
            said_hello: false,
            is_open: false,
            is_over: false,
            rest: None,
            next_id: 0,
            calls: BTreeMap::new(),
            batches: Vec::new(),
            watcher: Watcher::default(),
            subscribed: 0,
            is_stalled: false,
            is_silent: context.random.chance(10),
            bulk: 0,
            pings: 0,
        }
    }

    /// True when this connection is over for the client.
    fn act(&mut self, context: &mut Context<'_>) -> bool {
        self.receive(context);
        if self.link.borrow().at_end() {
            if context.random.chance(80) {
                self.link.borrow_mut().finish();
            }
            return true;
        }
        if self.is_over {
            return false;
        }
        if !self.said_hello {
            if !context.is_calm && context.random.chance(60) {
                self.introduce(context);
            }
            return false;
        }
        if let Some(rest) = self.rest.take() {
            self.send(0, true, &rest, context);
        }
        if context.is_calm {
            self.is_stalled = false;
            return false;
        }
        match context.random.below(100) {
            0..40 => self.call(context),
            40..46 => self.batch(context),
            46..50 => {
                self.pings += 1;
                self.send(9, true, b"are you there", context);
            }
            50..54 => self.is_stalled = !self.is_stalled,
            54 => self.change_its_mind(context),
            57 => self.misbehave(context),
            58 if context.random.chance(25) => self.flood(context),
            55 => {
                self.link.borrow_mut().did.bye = true;
                self.send(8, true, &1000u16.to_be_bytes(), context);
            }
            56 => {
                crate::world::leave(&self.link, context.random);
                return true;
            }
            _ => {}
        }
        false
    }

    fn introduce(&mut self, context: &mut Context<'_>) {
        self.said_hello = true;
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let version = if context.random.chance(4) { "12" } else { "13" };
        let mut link = self.link.borrow_mut();
        link.did.broke_rules |= version == "12";
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        link.send(head.as_bytes());
        drop(link);
        if version == "13" && context.random.chance(30) {
            self.call(context); // behind the handshake, without waiting
        }
    }

    fn send(&mut self, opcode: u8, is_last: bool, payload: &[u8], context: &mut Context<'_>) {
        let mask = (context.random.next() as u32).to_be_bytes();
        self.link.borrow_mut().send(&websocket_frame(opcode, is_last, payload, mask));
    }

    fn send_text(&mut self, text: &str, context: &mut Context<'_>) {
        if self.rest.is_some() || !self.said_hello {
            return;
        }
        if context.random.chance(10) {
            let (first, second) = text.as_bytes().split_at(text.len() / 2);
            self.send(1, false, first, context);
            self.rest = Some(second.to_vec());
        } else {
            self.send(1, true, text.as_bytes(), context);
        }
    }

    fn call(&mut self, context: &mut Context<'_>) {
        if self.rest.is_none() {
            let call = self.make_call(context, false);
            self.send_text(&call.to_string(), context);
        }
    }

    /// Sends several times what one read of the server takes, and reads nothing for a while.
    fn flood(&mut self, context: &mut Context<'_>) {
        if !self.is_open {
            return;
        }
        self.is_stalled = true;
        self.bulk = FLOOD_BODY_BYTES;
        for _ in 0..2 * FLOOD_BYTES / FLOOD_BODY_BYTES {
            if self.link.borrow().unread() < FLOOD_BYTES {
                self.call(context);
            }
            if let Some(rest) = self.rest.take() {
                self.send(0, true, &rest, context);
            }
        }
        self.bulk = 0;
        context.model.count("flood of calls");
    }

    fn batch(&mut self, context: &mut Context<'_>) {
        if self.rest.is_some() {
            return;
        }
        let count = context.random.between(1, 5);
        let calls: Vec<Value> = (0..count).map(|_| self.make_call(context, true)).collect();
        let ids: BTreeSet<u64> = calls.iter().filter_map(|call| call["id"].as_u64()).collect();
        if !ids.is_empty() {
            self.batches.push(ids); // one of notifications only has no answer
        }
        self.send_text(&Value::Array(calls).to_string(), context);
    }

    fn make_call(&mut self, context: &mut Context<'_>, in_batch: bool) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let router = context.random.pick(&IDS).to_string();
        let (method, params, call) = match context.random.below(100) {
            0..50 => {
                let nonce = context.model.nonce();
                let timeout = context.random.timeout_ms();
                let pad =
                    if in_batch { context.random.below(50) } else { self.bulk + context.random.length() / 2 };
                let mut params = json!({ "router": router, "name": "do", "timeout_ms": timeout });
                if context.random.chance(50) {
                    params["body"] = payload(nonce, false, pad).into();
                } else {
                    params["body_base64"] = BASE64_STANDARD.encode(payload(nonce, false, pad)).into();
                }
                let timeout = Duration::from_millis(timeout);
                context.model.ask(nonce, &router, &self.link, timeout, 16 + pad, context.now);
                if context.random.chance(5) {
                    // A notification: it is carried out, and nobody is told. The model must not wait for an answer.
                    context.model.commands.get_mut(&nonce).expect("just asked").answer =
                        Some(NOTIFICATION.into());
                    return json!({ "jsonrpc": "2.0", "method": "command", "params": params });
                }
                ("command", params, Call::Command(nonce))
            }
            50..56 => {
                let nonce = context.model.nonce();
                context.model.tell(nonce, &router, self.link.borrow().serial, 25);
                let params = json!({ "router": router, "name": "do", "oneway": true, "body": payload(nonce, false, 9) });
                ("command", params, Call::OneWay(nonce))
            }
            56..84 => {
                let router = if context.random.chance(40) { "*".to_owned() } else { router };
                let topic = *context.random.pick(&["*", "*", PRESENCE, TOPICS[0], TOPICS[1]]);
                let mut params = json!({ "router": router, "topic": topic });
                let since = self.recall.since(&router, context);
                if let Some((epoch, seq)) = &since {
                    (params["epoch"], params["since"]) = (epoch.as_str().into(), (*seq).into());
                }
                ("subscribe", params, Call::Subscribe { router, topic: topic.to_owned(), since })
            }
            84..90 => {
                let known: Vec<u64> = self.watcher.subscriptions.keys().copied().collect();
                let number = if known.is_empty() { 77 } else { *context.random.pick(&known) };
                self.watcher.has_unsubscribed = true;
                self.watcher.subscriptions.remove(&number);
                ("unsubscribe", json!({ "subscription": number }), Call::Unsubscribe)
            }
            90..96 => ("routers", json!({ "limit": 2 }), Call::Routers),
            _ => ("dance", json!({}), Call::Bad),
        };
        self.calls.insert(id, call);
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    }

    /// Subscribes, and ends that before its replay can have begun: numbers count up from 1.
    fn change_its_mind(&mut self, context: &mut Context<'_>) {
        if self.rest.is_some() || !self.is_open {
            return;
        }
        self.watcher.has_unsubscribed = true;
        let number = self.subscribed + 1;
        for (method, params, call) in [
            (
                "subscribe",
                json!({ "router": "*", "topic": "*" }),
                Call::Subscribe { router: "*".into(), topic: "*".into(), since: None },
            ),
            ("unsubscribe", json!({ "subscription": number }), Call::Unsubscribe),
        ] {
            self.next_id += 1;
            self.calls.insert(self.next_id, call);
            let call = json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
            self.send(1, true, call.to_string().as_bytes(), context);
        }
    }

    fn misbehave(&mut self, context: &mut Context<'_>) {
        self.link.borrow_mut().did.broke_rules = true;
        match context.random.below(5) {
            0 => self.send(2, true, b"binary", context),
            1 => self.send(3, true, b"", context),
            2 => self.send(1, true, b"\xff\xfe", context),
            3 => self.send(1, true, &[b' '; 70_000], context),
            _ => self.send(1, true, b"{not json", context),
        }
    }

    fn receive(&mut self, context: &mut Context<'_>) {
        self.link.borrow_mut().did.stalled |= self.is_stalled;
        if self.is_stalled && !context.is_calm {
            return;
        }
        let most =
            if context.is_calm || context.random.chance(80) { usize::MAX } else { context.random.below(200) };
        let taken = self.link.borrow_mut().take(most);
        self.input.extend(taken);
        if !self.is_open && !self.input.is_empty() {
            match take_answer(&mut self.input, false) {
                Err(problem) => return context.model.fail(problem),
                Ok(None) => return,
                Ok(Some(answer)) if answer.status == 101 => self.is_open = true,
                Ok(Some(answer)) => {
                    context.model.count(&format!("handshake {}", answer.status));
                    self.is_over = true;
                    return;
                }
            }
        }
        if self.is_over && !self.is_open {
            return;
        }
        loop {
            match take_websocket_frame(&mut self.input) {
                Err(problem) => return context.model.fail(problem),
                Ok(None) => return,
                Ok(Some(_)) if self.is_over => return context.model.fail("a frame behind the close frame"),
                Ok(Some((8, payload))) => {
                    let code = payload.get(..2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
                    context.model.count(&format!("close {code}"));
                    self.is_over = true;
                }
                Ok(Some((9, payload))) => {
                    if !self.is_silent {
                        self.send(10, true, &payload, context);
                    }
                }
                Ok(Some((10, payload))) if payload == b"are you there" && self.pings > 0 => self.pings -= 1,
                Ok(Some((1, payload))) => match serde_json::from_slice(&payload) {
                    Ok(message) => self.take_in(message, context),
                    Err(error) => return context.model.fail(format!("a message that is no JSON: {error}")),
                },
                Ok(Some((opcode, _))) => return context.model.fail(format!("a frame with opcode {opcode}")),
            }
        }
    }

    fn take_in(&mut self, message: Value, context: &mut Context<'_>) {
        if message["method"] == "event" {
            return self.watcher.event(&message["params"], context);
        }
        let Value::Array(answers) = message else { return self.answer(&message, context) };
        let ids: BTreeSet<u64> = answers.iter().filter_map(|answer| answer["id"].as_u64()).collect();
        let known = self.batches.iter().position(|batch| *batch == ids);
        match known {
            Some(index) if ids.len() == answers.len() => {
                self.batches.swap_remove(index);
            }
            _ => context.model.fail(format!("a batch's answer of {ids:?}")),
        }
        for answer in &answers {
            self.answer(answer, context);
        }
    }

    fn answer(&mut self, answer: &Value, context: &mut Context<'_>) {
        let id = answer["id"].as_u64();
        let code = answer["error"]["data"]["code"].as_str().unwrap_or("ok");
        if id.is_none() && self.link.borrow().did.broke_rules && code == "parse_error" {
            return;
        }
        let Some(call) = id.and_then(|id| self.calls.remove(&id)) else {
            return context.model.fail(format!("an answer to nothing: {answer}"));
        };
        let good = match (call, code) {
            (Call::Command(nonce), _) => {
                self.judge_command(nonce, code, answer, context);
                true
            }
            (Call::OneWay(nonce), _) => {
                if code != "ok" {
                    context.model.one_ways.remove(&nonce);
                }
                matches!(code, "ok" | "router_offline" | "router_busy")
                    || code == "draining" && context.model.draining
            }
            (Call::Subscribe { router, topic, since }, "ok") => {
                let result = &answer["result"];
                let recovered = self.recall.learn(&router, &topic, since.as_ref(), result, context);
                if let (Some(true), Some((_, seq))) = (recovered, since) {
                    self.watcher.recovers(&router, &topic, seq, result["seq"].as_u64().unwrap_or(0));
                }
                let number = result["subscription"].as_u64().unwrap_or(0);
                let from = context.model.events.len();
                self.subscribed = number;
                let subscription = Subscription { router, topic, from };
                number > 0 && self.watcher.subscriptions.insert(number, subscription).is_none()
            }
            (Call::Subscribe { .. }, "limit_exceeded") => true,
            (Call::Unsubscribe, _) => matches!(code, "ok" | "invalid_params"),
            (Call::Routers, "ok") => answer["result"]["routers"].is_array(),
            (Call::Bad, "method_not_found") => true,
            _ => false,
        };
        if !good {
            context.model.fail(format!("a wrong answer: {answer}"));
        }
    }

    fn judge_command(&mut self, nonce: u64, code: &str, answer: &Value, context: &mut Context<'_>) {
        let holder = if code == "ok" { &answer["result"] } else { &answer["error"]["data"] };
        let body = match (code, holder.get("body"), holder.get("body_base64")) {
            ("ok" | "router_error", Some(body), None) => Body::Json(body.clone()),
            ("ok" | "router_error", None, Some(text)) => {
                Body::Base64(BASE64_STANDARD.decode(text.as_str().unwrap_or("!")).unwrap_or_default())
            }
            _ => Body::None,
        };
        let most = match self.link.borrow().class {
            Class::Page => context.settings.page.max_pending,
            _ => context.settings.app.max_pending,
        };
        if code == "limit_exceeded" && context.model.commands[&nonce].own_pending < most {
            context.model.fail(format!("command {nonce}: limit_exceeded, but it was one of few"));
        }
        let sent = answer["error"]["data"]["sent"].as_bool();
        context.model.answer(nonce, &self.link, code, sent, body, context.now);
    }

    /// When everything is calm: whoever was well all the time has everything.
    fn check_calm(&self, context: &mut Context<'_>) {
        let link = self.link.borrow();
        if !self.is_open || !is_settled(&link) {
            return;
        }
        if !self.calls.is_empty() || !self.batches.is_empty() || self.pings > 0 {
            let (calls, pings) = (self.calls.len(), self.pings);
            return context
                .model
                .fail(format!("{calls} calls and {pings} pings of link {} have no answer", link.serial));
        }
        self.watcher.check_calm(link.serial, context);
    }
}
