//! An HTTP connection: one request after another, the next parsed when the answer before has been queued.

use crate::api::Refusal;
use crate::api::routes::{Call, route};
use crate::clock::Time;
use crate::core::commands::OfCaller;
use crate::core::fleet::Fleet;
use crate::limits::{COMMENT_EVERY, HttpSettings};
use crate::proto::http::{BodyLength, BodyReader, Head, Method, Version, parse_head};
use crate::session::watch::Watch;
use std::borrow::Cow;

#[derive(Debug)]
pub struct HttpSession {
    state: State,
    /// How far the head was searched for its end.
    scanned: usize,
    /// When the wait began that the state is in.
    since: Time,
    /// The commands that the request under way awaits: one, but for a fleet call.
    pub commands: OfCaller,
    /// What makes the answer under way, where that is more than one command.
    pub task: Task,
}

/// What an answer that takes long is made by, and what the connection owns for it.
#[derive(Debug, Default)]
pub enum Task {
    #[default]
    None,
    /// The key of a stream whose rows are the answer.
    Stream(u32),
    /// Events, without an end.
    Watch(Box<Watch>),
    /// A fleet call, a line of the answer for each of its routers.
    Fleet(Box<Fleet>),
}

#[derive(Debug)]
enum State {
    /// Before the first byte of a request; the first request of a connection must come within the header timeout.
    Idle {
        first: bool,
    },
    Head,
    Body(Box<Receiving>),
    /// A request is being carried out; nothing more is parsed.
    Answering(Exchange),
}

#[derive(Debug)]
struct Receiving {
    call: Result<Call<'static>, Refusal>,
    exchange: Exchange,
    reader: BodyReader,
    body: Vec<u8>,
}

/// What the answer must know of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    pub head_only: bool,
    pub close: bool,
    /// An answer of unknown length may be chunked: not in HTTP/1.0.
    pub chunked: bool,
}

/// What came of the bytes.
#[derive(Debug)]
pub enum FromCaller<'i> {
    Request {
        call: Call<'i>,
        body: Cow<'i, [u8]>,
        exchange: Exchange,
    },
    Refused {
        refusal: Refusal,
        exchange: Exchange,
    },
    /// The caller waits for 100 before it sends the body.
    Continue,
}

impl HttpSession {
    pub fn new(now: Time) -> Self {
        Self {
            state: State::Idle { first: true },
            scanned: 0,
            since: now,
            commands: OfCaller::default(),
            task: Task::None,
        }
    }

    /// The next request, taken off the front of `input`; `None` when more bytes are needed or an answer is under way.
    /// After a request or a refusal the session waits for [`HttpSession::answered`].
    pub fn next<'i>(
        &mut self,
        input: &mut &'i [u8],
        now: Time,
        settings: &HttpSettings,
    ) -> Option<FromCaller<'i>> {
        match &mut self.state {
            State::Answering(_) => None,
            State::Body(_) => self.body(input, settings),
            State::Idle { .. } | State::Head => self.head(input, now, settings),
        }
    }

    fn head<'i>(
        &mut self,
        input: &mut &'i [u8],
        now: Time,
        settings: &HttpSettings,
    ) -> Option<FromCaller<'i>> {
        let (head, used) = match parse_head(input, &mut self.scanned, settings.max_header_bytes) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => {
                if let State::Idle { first } = self.state
                    && !input.is_empty()
                {
                    self.state = State::Head;
                    self.since = if first { self.since } else { now };
                }
                return None;
            }
            Err(error) => {
                return Some(self.refuse(error.into(), Exchange { close: true, ..Exchange::default() }));
            }
        };
        *input = &input[used..];
        let exchange = Exchange {
            head_only: head.method == Method::Head,
            close: !head.keep_alive,
            chunked: head.version == Version::Http11,
        };
        let call = route(&head);
        if head.body == BodyLength::None {
            return Some(self.whole(call, Cow::Borrowed(&[]), exchange));
        }
        self.begin_body(&head, call, exchange, input, now, settings)
    }

    fn begin_body<'i>(
        &mut self,
        head: &Head<'i>,
        call: Result<Call<'i>, Refusal>,
        exchange: Exchange,
        input: &mut &'i [u8],
        now: Time,
        settings: &HttpSettings,
    ) -> Option<FromCaller<'i>> {
        // The common case: the whole body came with the head, and is not copied.
        if let BodyLength::Exactly(length) = head.body
            && length <= settings.max_body_bytes as u64
            && let Some((body, rest)) = input.split_at_checked(length as usize)
        {
            *input = rest;
            return Some(self.whole(call, Cow::Borrowed(body), exchange));
        }
        if head.expect_continue
            && let Err(refusal) = call
        {
            // The body will not be asked for, and whether it comes all the same cannot be known.
            return Some(self.refuse(refusal, Exchange { close: true, ..exchange }));
        }
        let reader = BodyReader::new(head.body);
        self.state = State::Body(Box::new(Receiving {
            call: call.map(Call::into_owned),
            exchange,
            reader,
            body: Vec::new(),
        }));
        self.since = now;
        let waits = head.expect_continue && input.is_empty();
        let received = self.body(input, settings);
        if received.is_none() && waits { Some(FromCaller::Continue) } else { received }
    }

    fn body<'i>(&mut self, input: &mut &'i [u8], settings: &HttpSettings) -> Option<FromCaller<'i>> {
        let State::Body(receiving) = &mut self.state else { return None };
        match receiving.reader.read(input, &mut receiving.body, settings.max_body_bytes) {
            Ok(false) => None,
            Ok(true) => {
                let State::Body(receiving) = std::mem::replace(&mut self.state, State::Idle { first: false })
                else {
                    unreachable!("it was matched above");
                };
                let Receiving { call, exchange, body, .. } = *receiving;
                Some(self.whole(call, Cow::Owned(body), exchange))
            }
            Err(error) => {
                let exchange = Exchange { close: true, ..receiving.exchange };
                let is_command =
                    matches!(receiving.call, Ok(Call::Command { .. } | Call::FleetCommand { .. }));
                let refusal = Refusal { sent: is_command.then_some(false), ..error.into() };
                Some(self.refuse(refusal, exchange))
            }
        }
    }

    fn whole<'i>(
        &mut self,
        call: Result<Call<'i>, Refusal>,
        body: Cow<'i, [u8]>,
        exchange: Exchange,
    ) -> FromCaller<'i> {
        match call {
            Ok(call) => {
                self.state = State::Answering(exchange);
                FromCaller::Request { call, body, exchange }
            }
            Err(refusal) => self.refuse(refusal, exchange),
        }
    }

    fn refuse<'i>(&mut self, refusal: Refusal, exchange: Exchange) -> FromCaller<'i> {
        self.state = State::Answering(exchange);
        FromCaller::Refused { refusal, exchange }
    }

    /// The answer has been queued: the next request may be parsed.
    pub fn answered(&mut self, now: Time) {
        debug_assert!(matches!(self.task, Task::None), "the answer is whole and something still makes it");
        self.state = State::Idle { first: false };
        self.since = now;
    }

    /// The head of the answer under way says that the connection closes behind it.
    pub fn announce_close(&mut self) {
        if let State::Answering(exchange) = &mut self.state {
            exchange.close = true;
        }
    }

    /// The request that waits for its answer.
    pub fn answering(&self) -> Option<Exchange> {
        match self.state {
            State::Answering(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// The watch that is the answer, and what it must know of its request.
    pub fn watch(&mut self) -> Option<(&mut Watch, Exchange)> {
        let exchange = self.answering()?;
        match &mut self.task {
            Task::Watch(watch) => Some((watch, exchange)),
            _ => None,
        }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. })
    }

    /// Bytes of a body that has not come wholly, and what a fleet call keeps of its body.
    pub fn held_bytes(&self) -> usize {
        match (&self.state, &self.task) {
            (State::Body(receiving), _) => receiving.body.len(),
            (_, Task::Fleet(fleet)) => fleet.held_bytes(),
            _ => 0,
        }
    }

    /// What it waits for, and until when; `None` while an answer is under way that is not a watch.
    pub fn deadline(&self, settings: &HttpSettings) -> Option<(Time, Waiting)> {
        Some(match self.state {
            State::Idle { first: true } => (self.since + settings.header_timeout, Waiting::FirstByte),
            State::Idle { first: false } => (self.since + settings.idle_timeout, Waiting::NextRequest),
            State::Head => (self.since + settings.header_timeout, Waiting::Head),
            State::Body(_) => (self.since + settings.body_timeout, Waiting::Body),
            State::Answering(_) => match &self.task {
                Task::Watch(watch) => (watch.told_at + COMMENT_EVERY, Waiting::Silence),
                _ => return None,
            },
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    FirstByte,
    NextRequest,
    Head,
    Body,
    /// A watcher, until it must be told that the connection lives.
    Silence,
}
