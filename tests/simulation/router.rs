//! A router: says HELLO, answers commands whole or in parts, late, twice, with ERROR or never, and sends events; now and
//! then it misbehaves, stalls, dies or comes again under the id of another.

use crate::model::{Binding, Context, Event, Reply, STALE, is_settled};
use crate::socket::LinkRef;
use crate::streams::sender::Sender;
use crate::wire::{Frame, flag, frame, kind, parts, take_frame};
use berth::id::Class;
use std::collections::{BTreeMap, VecDeque};

pub const IDS: [&str; 4] = ["r-1", "r-2", "r-3", "hub:4"];
pub const TOPICS: [&str; 4] = ["t", "a/b", "state", "x/y/z"];

#[derive(Default)]
pub struct RouterPeer {
    session: Option<Session>,
}

struct Session {
    link: LinkRef,
    router: String,
    input: Vec<u8>,
    is_welcomed: bool,
    said_hello: bool,
    is_over: bool,
    /// Half commands by id; 0 is the one-way one.
    halves: BTreeMap<u32, Half>,
    todo: Vec<Todo>,
    pings: Vec<Frame>,
    /// Its own ones without their PONG.
    own_pings: usize,
    /// The parts of an event that are not sent yet, and its number.
    event: Option<(usize, VecDeque<Vec<u8>>)>,
    last_id: u32,
    /// The last one-way command of each caller.
    one_ways: BTreeMap<u64, u64>,
    is_mute: bool,
    is_stalled: bool,
    streams: Sender,
}

struct Half {
    name: String,
    flags: u8,
    body: Vec<u8>,
}

/// A command to be answered: the parts of the answer that are not sent yet, once it is decided.
struct Todo {
    id: u32,
    nonce: u64,
    answer: Option<(Reply, VecDeque<Vec<u8>>)>,
}

impl RouterPeer {
    pub fn act(&mut self, context: &mut Context<'_>) {
        let is_over = self.session.as_mut().is_some_and(|session| session.act(context));
        if is_over {
            self.session = None;
        } else if self.session.is_none() && !context.is_calm && context.random.chance(60) {
            self.session = Session::begin(context);
        }
    }

    /// When everything is calm: no command was left half sent, and every PING has its PONG.
    pub fn check_calm(&self, context: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        let link = session.link.borrow();
        if is_settled(&link) && session.is_welcomed && (!session.halves.is_empty() || session.own_pings > 0) {
            let (halves, pings) = (session.halves.len(), session.own_pings);
            context
                .model
                .fail(format!("{halves} half commands and {pings} pings are left on link {}", link.serial));
        }
    }

    /// Goes away, in one way or another.
    pub fn leave(&mut self, context: &mut Context<'_>) {
        if let Some(session) = self.session.take() {
            crate::world::leave(&session.link, context.random);
        }
    }
}

impl Session {
    fn begin(context: &mut Context<'_>) -> Option<Self> {
        let link = context.network.connect(Class::Router, context.random)?;
        let router = context.random.pick(&IDS).to_string();
        let session = Self {
            link,
            router,
            input: Vec::new(),
            is_welcomed: false,
            said_hello: false,
            is_over: false,
            halves: BTreeMap::new(),
            todo: Vec::new(),
            pings: Vec::new(),
            own_pings: 0,
            event: None,
            last_id: 0,
            one_ways: BTreeMap::new(),
            is_mute: context.random.chance(15),
            is_stalled: false,
            streams: Sender::default(),
        };
        Some(session)
    }

    /// True when this connection is over for the router.
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
            return self.introduce(context);
        }
        if !self.is_stalled && (context.is_calm || context.random.chance(60)) {
            self.streams.act(&self.link, context);
        }
        if context.is_calm {
            self.is_stalled = false;
            self.pong(context, 100);
            self.send_event_part(context);
            for _ in 0..4 {
                self.answer(context);
            }
            return false;
        }
        self.pong(context, 70);
        match context.random.below(100) {
            0..35 => self.answer(context),
            35..60 => self.emit(context),
            60..66 => {
                let body = vec![7; context.random.below(65)];
                self.own_pings += 1;
                self.send(&frame(kind::PING, 0, 9, "", &body));
            }
            66..70 => self.late_reply(context),
            70..73 => self.is_stalled = !self.is_stalled,
            73 => return self.misbehave(context),
            74 if context.random.chance(60) => {
                self.link.borrow_mut().did.bye = true;
                self.send(&frame(kind::BYE, 0, 0, "going", b"home"));
            }
            75 => {
                crate::world::leave(&self.link, context.random);
                return true;
            }
            _ => {}
        }
        false
    }

    fn introduce(&mut self, context: &mut Context<'_>) -> bool {
        if context.is_calm || !context.random.chance(60) {
            return false;
        }
        self.said_hello = true;
        if context.random.chance(3) {
            return self.misbehave(context);
        }
        self.send(&frame(kind::HELLO, 0, 1, &self.router.clone(), b"credential"));
        context.model.hellos.push((self.link.borrow().serial, self.router.clone()));
        if context.random.chance(10) {
            // Nothing was asked in this session yet; perhaps in the one that had its slot before.
            context.model.stale_replies.insert(self.router.clone());
            for id in 1..4 {
                self.send(&frame(kind::REPLY, 0, id, "", STALE));
            }
        }
        if context.random.chance(30) {
            self.emit(context); // it need not wait for WELCOME
        }
        false
    }

    fn send(&mut self, bytes: &[u8]) {
        self.link.borrow_mut().send(bytes);
    }

    fn receive(&mut self, context: &mut Context<'_>) {
        self.link.borrow_mut().did.stalled |= self.is_stalled;
        if self.is_stalled && !context.is_calm {
            return;
        }
        let most =
            if context.is_calm || context.random.chance(80) { usize::MAX } else { context.random.below(300) };
        let taken = self.link.borrow_mut().take(most);
        self.input.extend(taken);
        while let Some(frame) = take_frame(&mut self.input) {
            if self.is_over {
                context.model.fail("a frame behind BYE");
            }
            self.take_in(frame, context);
        }
    }

    fn take_in(&mut self, frame: Frame, context: &mut Context<'_>) {
        match frame.kind {
            kind::WELCOME if !self.is_welcomed => {
                self.is_welcomed = true;
                let binding = Binding {
                    router: self.router.clone(),
                    link: self.link.clone(),
                    since: context.now,
                    session: frame.name,
                };
                context.model.bindings.push(binding);
            }
            kind::PING => self.pings.push(frame),
            kind::PONG if frame.id == 9 && self.own_pings > 0 => self.own_pings -= 1,
            kind::BYE => {
                context.model.count(&format!("bye {}", frame.name));
                self.is_over = true;
            }
            kind::OPEN | kind::ACK | kind::CANCEL if self.is_welcomed => self.streams.take_in(frame, context),
            kind::COMMAND if self.is_welcomed => self.command_part(frame, context),
            _ => context.model.fail(format!("a router got {frame:?}")),
        }
    }

    fn command_part(&mut self, part: Frame, context: &mut Context<'_>) {
        if part.flags & flag::ERROR != 0 {
            if self.halves.remove(&part.id).is_none() || !part.body.is_empty() || part.id == 0 {
                context.model.fail(format!("an abort of {}, which was not begun", part.id));
            }
            return context.model.count("abort");
        }
        let constant = part.flags & !flag::MORE;
        let half = match self.halves.remove(&part.id) {
            Some(mut half) => {
                if !part.name.is_empty() || half.flags != constant {
                    return context.model.fail(format!("a later part of a command is {part:?}"));
                }
                half.body.extend(&part.body);
                half
            }
            None => {
                if part.name.is_empty() || part.id != 0 && part.id <= self.last_id {
                    // One that was withdrawn before its turn leaves a gap; none comes again.
                    return context
                        .model
                        .fail(format!("a command begins with {} behind {}", part.id, self.last_id));
                }
                self.last_id = self.last_id.max(part.id);
                if part.id != 0 {
                    let nonce = context.model.own_nonce(nonce_of(constant, &part.body), &self.router);
                    context.model.command_begins(nonce, &self.router);
                }
                Half { name: part.name, flags: constant, body: part.body }
            }
        };
        if part.flags & flag::MORE != 0 {
            self.halves.insert(part.id, half);
            return;
        }
        let nonce = context.model.own_nonce(nonce_of(half.flags, &half.body), &self.router);
        if half.name != "do"
            || half.body[half.body.len().min(18)..].iter().any(|byte| !matches!(*byte, b'x' | b'"'))
        {
            context.model.fail(format!("command {nonce} came broken"));
        }
        if part.id == 0 {
            return self.one_way(nonce, context);
        }
        if let Some(asked) = context.model.commands.get_mut(&nonce) {
            asked.received = true;
        }
        if !self.is_mute {
            self.todo.push(Todo { id: part.id, nonce, answer: None });
        }
    }

    fn one_way(&mut self, nonce: u64, context: &mut Context<'_>) {
        let Some(told) = context.model.one_ways.get_mut(&nonce) else {
            return context.model.fail(format!("a one-way command {nonce} that nobody asked"));
        };
        let again = std::mem::replace(&mut told.received, true);
        let before = self.one_ways.insert(told.caller, nonce);
        if again || told.router != self.router || before.is_some_and(|before| before >= nonce) {
            context.model.fail(format!("one-way command {nonce} came again, elsewhere or out of order"));
        }
        context.model.count("one-way");
    }

    fn pong(&mut self, context: &mut Context<'_>, percent: usize) {
        if !self.pings.is_empty() && !self.is_stalled && context.random.chance(percent) {
            for ping in std::mem::take(&mut self.pings) {
                self.send(&frame(kind::PONG, 0, ping.id, "", &ping.body));
            }
        }
    }

    /// Sends a part of an answer to some command.
    fn answer(&mut self, context: &mut Context<'_>) {
        if self.todo.is_empty() {
            return;
        }
        let index = context.random.below(self.todo.len());
        let link = self.link.clone();
        let todo = &mut self.todo[index];
        let nonce = todo.nonce;
        let (_, queue) = todo.answer.get_or_insert_with(|| {
            let reply =
                Reply { error: context.random.chance(20), json: context.random.chance(50), body: Vec::new() };
            let pad = "y".repeat(context.random.length());
            let body = if reply.json {
                format!("{{\"nonce\":{nonce},\"pad\":\"{pad}\"}}")
            } else {
                format!("{nonce}:{pad}")
            };
            let part = *context.random.pick(&[16_384, 16_384, 1_000, 7_000]);
            let flags = if reply.error { flag::ERROR } else { 0 } | if reply.json { flag::JSON } else { 0 };
            let frames = parts(kind::REPLY, flags, todo.id, "", body.as_bytes(), part);
            (Reply { body: body.into_bytes(), ..reply }, frames.into())
        });
        let burst = if context.random.chance(50) { usize::MAX } else { 1 };
        for _ in 0..burst {
            let Some(part) = queue.pop_front() else { break };
            link.borrow_mut().send(&part);
        }
        if !queue.is_empty() {
            return;
        }
        let todo = self.todo.swap_remove(index);
        if let Some((reply, _)) = todo.answer {
            if context.random.chance(10) {
                link.borrow_mut().send(&frame(kind::REPLY, 0, todo.id, "", b"again"));
            }
            if let Some(asked) = context.model.commands.get_mut(&nonce) {
                asked.replies.push(reply);
            }
        }
    }

    /// A reply to an id that is not awaited: nobody is at fault.
    fn late_reply(&mut self, context: &mut Context<'_>) {
        let id = self.last_id + 1000 + context.random.below(9) as u32;
        self.send(&frame(kind::REPLY, *context.random.pick(&[0, flag::MORE, flag::ERROR]), id, "", b"late"));
    }

    fn emit(&mut self, context: &mut Context<'_>) {
        if self.event.is_some() {
            return self.send_event_part(context);
        }
        let number = context.model.events.len();
        let topic = context.random.pick(&TOPICS).to_string();
        let json = context.random.chance(60);
        let retain = context.random.chance(40);
        let clears = retain && context.random.chance(15);
        let pad = "z".repeat(context.random.length() / 2);
        let body = match json {
            _ if clears => String::new(),
            true => format!("{{\"n\":{number},\"pad\":\"{pad}\"}}"),
            false => format!("{number}:{pad}"),
        };
        let flags = if json { flag::JSON } else { 0 } | if retain { flag::RETAIN } else { 0 };
        let part = *context.random.pick(&[16_384, 16_384, 500]);
        let frames = parts(kind::EVENT, flags, 0, &topic, body.as_bytes(), part);
        context.model.events.push(Event {
            router: self.router.clone(),
            topic,
            link: self.link.clone(),
            is_sent: false,
            welcomed: self.is_welcomed,
            body: body.into_bytes(),
            json,
        });
        self.event = Some((number, frames.into()));
        let bursts = context.random.between(1, 4);
        for _ in 0..bursts {
            self.send_event_part(context);
        }
    }

    fn send_event_part(&mut self, context: &mut Context<'_>) {
        let Some((number, queue)) = &mut self.event else { return };
        if let Some(part) = queue.pop_front() {
            self.link.borrow_mut().send(&part);
        }
        if queue.is_empty() {
            context.model.events[*number].is_sent = true;
            self.event = None;
        }
    }

    fn misbehave(&mut self, context: &mut Context<'_>) -> bool {
        self.link.borrow_mut().did.broke_rules = true;
        context.model.hellos.push((self.link.borrow().serial, self.router.clone())); // one of them begins well
        let bad = match context.random.below(8) {
            0 => frame(0x7f, 0, 0, "", b""),
            1 => frame(kind::COMMAND, 0, 1, "do", b""),
            2 => frame(kind::REPLY, 0, 0, "", b""),
            3 => frame(kind::HELLO, 0, 1, &self.router, b"x").repeat(2),
            4 => frame(kind::EVENT, 0, 0, "$presence", b"x"),
            5 => vec![kind::EVENT, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            6 => frame(kind::PING, 0, 0, "", &[0; 65]),
            _ => frame(kind::HELLO, 0, 2, "r-1", b""),
        };
        self.send(&bad);
        false
    }
}

/// The number with which every command's payload begins.
fn nonce_of(flags: u8, body: &[u8]) -> u64 {
    let begin = usize::from(flags & flag::JSON != 0);
    let digits = body.get(begin..begin + 16).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(u64::MAX)
}

/// What [`nonce_of`] reads.
pub fn payload(nonce: u64, json: bool, pad: usize) -> String {
    let text = format!("{nonce:016x}{}", "x".repeat(pad));
    if json { format!("\"{text}\"") } else { text }
}
