//! Awaited commands: one entry each, with its deadline, that holds all that the command needs and is dropped whole.
//! A one-way command has no entry: it is frames in a queue and nothing else.

use crate::census::Count;
use crate::clock::Time;
use crate::core::list::{Link, Linked, List};
use crate::core::wheel::TimerKey;
use crate::fault::{Fault, planted};
use crate::id::{Generations, Token};
use crate::limits::MAX_FRAGMENT_BYTES;
use crate::proto::router::{HEADER_BYTES, Kind, flags, fragments, header};
use bytes::Bytes;
use slab::Slab;
use std::collections::HashMap;

/// The lists that an entry is in.
pub const BY_ROUTER: usize = 0;
pub const BY_CALLER: usize = 1;
pub const TURNS: usize = 2;

/// Who waits for the answer.
#[derive(Debug)]
pub struct Caller {
    pub connection: Token,
    pub request: Request,
}

#[derive(Debug)]
pub enum Request {
    /// The one request that an HTTP connection has under way.
    Http,
    /// A JSON-RPC call: its id as raw JSON (`None` for a notification), and its place if it stands in a batch.
    Rpc { id: Option<Box<str>>, batch: Option<BatchPlace> },
}

/// A call's place in a batch of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    pub batch: u32,
    pub index: u32,
}

/// A command on its way to a router: its name and payload in one buffer, and how much of it has been begun.
#[derive(Debug)]
pub struct Message {
    /// Name, then payload; empty as soon as all of it was begun.
    bytes: Bytes,
    name_len: usize,
    payload_len: usize,
    json: bool,
    /// Payload bytes in fragments that were begun; `None` before the first.
    begun: Option<usize>,
}

impl Message {
    /// `bytes` is the name (`name_len` bytes) and the payload behind it.
    pub fn new(bytes: Bytes, name_len: usize, json: bool) -> Self {
        let payload_len = bytes.len() - name_len;
        Self { bytes, name_len, payload_len, json, begun: None }
    }

    /// What it holds in memory.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub fn is_finished(&self) -> bool {
        self.begun == Some(self.payload_len)
    }

    /// Bytes on the wire that were not begun yet, headers included.
    pub fn unsent_bytes(&self) -> usize {
        match self.begun {
            None => self.name_len + self.payload_len + HEADER_BYTES * fragments(self.payload_len),
            Some(begun) if begun == self.payload_len => 0,
            Some(begun) => {
                let rest = self.payload_len - begun;
                rest + HEADER_BYTES * fragments(rest)
            }
        }
    }

    /// The fragment that is `ahead` fragments behind the next one, without beginning it.
    pub fn fragment(&self, id: u32, ahead: usize) -> Option<([u8; HEADER_BYTES], &[u8])> {
        let (header, range) = self.plan(id, ahead)?;
        Some((header, &self.bytes[range]))
    }

    fn plan(&self, id: u32, ahead: usize) -> Option<([u8; HEADER_BYTES], std::ops::Range<usize>)> {
        let first = self.begun.is_none() && ahead == 0;
        let begin = self.begun.unwrap_or(0) + ahead * MAX_FRAGMENT_BYTES;
        if !first && begin >= self.payload_len {
            return None;
        }
        let len = (self.payload_len - begin).min(MAX_FRAGMENT_BYTES);
        let more = begin + len < self.payload_len;
        let frame_flags = if self.json { flags::JSON } else { 0 } | if more { flags::MORE } else { 0 };
        let name_len = if first { self.name_len } else { 0 };
        let begin_in_bytes = self.name_len + begin - name_len;
        Some((
            header(Kind::Command, frame_flags, id, name_len, len),
            begin_in_bytes..self.name_len + begin + len,
        ))
    }

    /// Begins the next fragment: its header and its bytes, which live on whatever becomes of the command.
    pub fn begin_fragment(&mut self, id: u32) -> Option<([u8; HEADER_BYTES], Bytes)> {
        let (header, range) = self.plan(id, 0)?;
        let bytes = self.bytes.slice(range.clone());
        self.advance(range.end);
        Some((header, bytes))
    }

    /// Passes over the next fragment, which was written whole.
    pub fn skip_fragment(&mut self, id: u32) {
        if let Some((_, range)) = self.plan(id, 0) {
            self.advance(range.end);
        }
    }

    fn advance(&mut self, end: usize) {
        self.begun = Some(end - self.name_len);
        if self.is_finished() {
            self.bytes = Bytes::new(); // while the reply is awaited nothing of it is needed
        }
    }
}

#[derive(Debug)]
pub struct Command {
    generation: u32,
    pub router: Token,
    pub caller: Caller,
    /// The correlation id in the router's session.
    pub id: u32,
    pub message: Message,
    /// What has come of the reply, and the flags of its first part.
    pub reply: Vec<u8>,
    pub reply_flags: Option<u8>,
    pub deadline: Time,
    pub timer: TimerKey,
    by_router: Link,
    by_caller: Link,
    turn: Link,
}

impl Linked<BY_ROUTER> for Command {
    fn link(&mut self) -> &mut Link {
        &mut self.by_router
    }
    fn peek(&self) -> &Link {
        &self.by_router
    }
}

impl Linked<BY_CALLER> for Command {
    fn link(&mut self) -> &mut Link {
        &mut self.by_caller
    }
    fn peek(&self) -> &Link {
        &self.by_caller
    }
}

impl Linked<TURNS> for Command {
    fn link(&mut self) -> &mut Link {
        &mut self.turn
    }
    fn peek(&self) -> &Link {
        &self.turn
    }
}

/// What a router and a caller keep of their commands: the heads of the lists.
pub type OfRouter = List<BY_ROUTER>;
pub type OfCaller = List<BY_CALLER>;
pub type Turns = List<TURNS>;

/// All awaited commands.
#[derive(Default)]
pub struct Commands {
    entries: Slab<Command>,
    by_id: HashMap<(u32, u32), u32>,
    generations: Generations,
    /// What the messages that are not wholly sent hold, in bytes.
    message_bytes: usize,
    count: Count,
}

/// What an entry is made of.
pub struct NewCommand {
    pub router: Token,
    pub caller: Caller,
    pub id: u32,
    pub message: Message,
    pub deadline: Time,
}

impl Commands {
    /// The token that the next entry will have: its timer needs it before the entry exists.
    pub fn next_token(&mut self) -> Token {
        Token { slot: self.entries.vacant_key() as u32, generation: self.generations.draw() }
    }

    /// Fills the slot that `token` was promised, and links it to its router and its caller.
    pub fn insert(
        &mut self,
        token: Token,
        new: NewCommand,
        timer: TimerKey,
        of_router: &mut OfRouter,
        of_caller: &mut OfCaller,
    ) {
        let NewCommand { router, caller, id, message, deadline } = new;
        self.message_bytes += message.held_bytes();
        let key = self.entries.insert(Command {
            generation: token.generation,
            router,
            caller,
            id,
            message,
            reply: Vec::new(),
            reply_flags: None,
            deadline,
            timer,
            by_router: Link::default(),
            by_caller: Link::default(),
            turn: Link::default(),
        }) as u32;
        debug_assert_eq!(key, token.slot);
        of_router.push_back(&mut self.entries, key);
        of_caller.push_back(&mut self.entries, key);
        self.by_id.insert((router.slot, id), key);
        self.count.opened += 1;
    }

    /// The command of `router` that awaits a reply with `id`.
    pub fn find(&self, router: Token, id: u32) -> Option<u32> {
        let key = *self.by_id.get(&(router.slot, id))?;
        (self.entries[key as usize].router == router).then_some(key)
    }

    pub fn get(&self, key: u32) -> &Command {
        &self.entries[key as usize]
    }

    pub fn get_mut(&mut self, key: u32) -> &mut Command {
        &mut self.entries[key as usize]
    }

    /// The entry that a timer meant, if it is still the same.
    pub fn by_token(&self, token: Token) -> Option<u32> {
        let entry = self.entries.get(token.slot as usize)?;
        (entry.generation == token.generation).then_some(token.slot)
    }

    /// Begins the next fragment of a command: its bytes if it was written in part only, and so must live on.
    pub fn begin_fragment(&mut self, key: u32, in_part: bool) -> Option<Bytes> {
        let Command { id, message, .. } = &mut self.entries[key as usize];
        let before = message.held_bytes();
        let bytes = if in_part {
            message.begin_fragment(*id).map(|(_, bytes)| bytes)
        } else {
            message.skip_fragment(*id);
            None
        };
        self.message_bytes -= before - message.held_bytes();
        bytes
    }

    pub fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// For the audit: the same, counted again.
    pub fn recount(&self) -> usize {
        self.entries.iter().map(|(_, command)| command.message.held_bytes()).sum()
    }

    /// Takes an entry out of the table and out of its router's list. Its caller's list is unlinked by [`Self::leave_caller`]
    /// before, its turn by the out-queue.
    pub fn remove(&mut self, key: u32, of_router: &mut OfRouter) -> Command {
        of_router.remove(&mut self.entries, key);
        let command = self.entries.remove(key as usize);
        self.message_bytes -= command.message.held_bytes();
        if !planted(Fault::KeepCommandIndex) {
            self.by_id.remove(&(command.router.slot, command.id));
        }
        self.count.unbound += 1;
        if self.entries.is_empty() && self.entries.capacity() > 1024 {
            self.entries = Slab::new(); // the peak of a burst is not kept
            self.by_id = HashMap::new();
        }
        command
    }

    pub fn leave_caller(&mut self, key: u32, of_caller: &mut OfCaller) {
        if !planted(Fault::KeepCallerEntry) {
            of_caller.remove(&mut self.entries, key);
        }
    }

    pub fn entries(&self) -> &Slab<Command> {
        &self.entries
    }

    pub fn entries_mut(&mut self) -> &mut Slab<Command> {
        &mut self.entries
    }

    pub fn ids(&self) -> impl Iterator<Item = ((u32, u32), u32)> + '_ {
        self.by_id.iter().map(|(id, key)| (*id, *key))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn count(&self) -> Count {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: usize) -> Message {
        let mut bytes = b"name".to_vec();
        bytes.resize(4 + payload, b'x');
        Message::new(Bytes::from(bytes), 4, true)
    }

    #[test]
    fn a_short_message_is_one_fragment() {
        for payload in [0, 1, MAX_FRAGMENT_BYTES] {
            let mut message = message(payload);
            assert_eq!(message.unsent_bytes(), 12 + 4 + payload);
            let (head, bytes) = message.begin_fragment(3).unwrap();
            assert_eq!(head, header(Kind::Command, flags::JSON, 3, 4, payload));
            assert_eq!(bytes.len(), 4 + payload);
            assert!(message.is_finished() && message.begin_fragment(3).is_none());
            assert_eq!(message.unsent_bytes(), 0);
        }
    }

    proptest::proptest! {
        #[test]
        fn fragments_make_the_message(payload in 0usize..100_000) {
            let mut message = message(payload);
            let planned: Vec<_> = (0..).map_while(|ahead| message.fragment(9, ahead).map(|(h, b)| (h, b.to_vec()))).collect();
            let (mut wire, mut begun) = (0, Vec::new());
            let all = message.unsent_bytes();
            while let Some((head, bytes)) = message.begin_fragment(9) {
                wire += head.len() + bytes.len();
                assert_eq!(message.unsent_bytes() + wire, all);
                begun.push((head, bytes.to_vec()));
            }
            assert_eq!(planned, begun);
            assert_eq!(begun.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), payload + 4);
            let last = begun.len() - 1;
            assert!(begun.iter().enumerate().all(|(index, (head, _))| (head[1] & flags::MORE != 0) == (index < last)));
        }
    }
}
