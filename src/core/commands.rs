//! Awaited commands: one entry each, with its deadline, that holds all that the command needs and is dropped whole.
//! A one-way command has no entry: it is frames in a queue and nothing else.

use crate::census::Count;
use crate::clock::Time;
use crate::core::frames::Payload;
use crate::core::list::{Link, Linked, List};
use crate::core::message::{Message, SharedMessage};
use crate::core::pool::{PAGE_ENTRIES, Pool, is_worth_shrinking};
use crate::core::wheel::TimerKey;
use crate::fault::{Fault, planted};
use crate::id::{Generations, Token};
use crate::memory::{Holder, charge};
use hashbrown::HashMap;
use std::collections::HashSet;
use std::hash::RandomState;

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
    /// One router of the fleet call that an HTTP connection has under way: its place among those named.
    Fleet { index: u32 },
}

impl Request {
    /// A JSON-RPC call; the id is copied.
    pub fn rpc(id: Option<&str>, batch: Option<BatchPlace>) -> Self {
        let _charge = charge(Holder::PendingCommand);
        Request::Rpc { id: id.map(Into::into), batch }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Request::Rpc { id: Some(id), .. } => id.len(),
            _ => 0,
        }
    }
}

/// A call's place in a batch of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    pub batch: u32,
    pub index: u32,
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
    reply: Vec<u8>,
    reply_flags: Option<u8>,
    pub deadline: Time,
    pub timer: TimerKey,
    by_router: Link,
    by_caller: Link,
    turn: Link,
}

impl Command {
    /// How much has come of the reply, in bytes.
    pub fn reply_bytes(&self) -> usize {
        self.reply.len()
    }

    /// The flags of the reply's first part, once that has come.
    pub fn reply_flags(&self) -> Option<u8> {
        self.reply_flags
    }

    /// What it holds besides its place in the table, in bytes of heap.
    fn held_bytes(&self) -> usize {
        self.message.held_bytes() + self.caller.request.held_bytes() + self.reply.capacity()
    }
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
pub struct Commands {
    entries: Pool<Command>,
    /// By the router's slot and the correlation id.
    by_id: HashMap<(u32, u32), u32, RandomState>,
    generations: Generations,
    /// What the messages that are not wholly sent hold, in bytes.
    message_bytes: usize,
    /// What all entries hold besides their places, in bytes of heap.
    entry_bytes: usize,
    count: Count,
}

impl Default for Commands {
    fn default() -> Self {
        let _charge = charge(Holder::PendingCommand);
        Self {
            entries: Pool::new(Holder::PendingCommand),
            by_id: HashMap::with_capacity_and_hasher(PAGE_ENTRIES, RandomState::new()),
            generations: Generations::default(),
            message_bytes: 0,
            entry_bytes: 0,
            count: Count::default(),
        }
    }
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
        let _charge = charge(Holder::PendingCommand); // the index may grow
        let command = Command {
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
        };
        self.message_bytes += command.message.held_bytes();
        self.entry_bytes += command.held_bytes();
        let key = self.entries.insert(command) as u32;
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

    /// The entry that a timer meant, if it is still the same.
    pub fn by_token(&self, token: Token) -> Option<u32> {
        let entry = self.entries.get(token.slot as usize)?;
        (entry.generation == token.generation).then_some(token.slot)
    }

    /// Begins the next fragment of a command. If it was written in part only, and so must live on, it is returned as a frame.
    pub fn begin_fragment(&mut self, key: u32, in_part: bool) -> Option<Payload> {
        let Command { id, message, .. } = &mut self.entries[key as usize];
        let before = message.held_bytes();
        let frame = if in_part {
            message.begin_fragment(*id)
        } else {
            message.skip_fragment();
            None
        };
        let dropped = before - message.held_bytes();
        self.message_bytes -= dropped;
        self.entry_bytes -= dropped;
        frame
    }

    /// Appends a part to the reply that is gathered; the flags of the first one stay.
    pub fn extend_reply(&mut self, key: u32, flags: u8, part: &[u8]) {
        let _charge = charge(Holder::PendingCommand);
        let command = &mut self.entries[key as usize];
        command.reply_flags.get_or_insert(flags);
        let before = command.reply.capacity();
        command.reply.extend_from_slice(part);
        self.entry_bytes += command.reply.capacity() - before;
    }

    /// Takes what has been gathered, when it is whole.
    pub fn take_reply(&mut self, key: u32) -> Vec<u8> {
        let reply = std::mem::take(&mut self.entries[key as usize].reply);
        self.entry_bytes -= reply.capacity();
        reply
    }

    pub fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// What the commands explain of the heap, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.entries.capacity_bytes() + self.by_id.allocation_size() + self.entry_bytes
    }

    /// Counts a message that many commands will refer to. Whoever made it calls [`Self::unshare`] when all are asked.
    pub fn share(&mut self, message: &SharedMessage) {
        self.message_bytes += message.held_bytes();
        self.entry_bytes += message.held_bytes();
    }

    /// One holder of a shared message lets go: the last one takes it off the count.
    pub fn unshare(&mut self, message: SharedMessage) {
        self.message_bytes -= message.held_bytes();
        self.entry_bytes -= message.held_bytes();
    }

    /// For the audit: the bytes, counted again. `kept` are the shared messages that somebody else refers to.
    pub fn recount<'m>(&'m self, kept: impl IntoIterator<Item = &'m SharedMessage>) -> Result<(), String> {
        let mut sums = (0, 0);
        let mut shared: Vec<&SharedMessage> = kept.into_iter().collect();
        for (_, command) in self.entries.iter() {
            let (own, others) = command.message.parts();
            sums.0 += own;
            sums.1 += own + command.caller.request.held_bytes() + command.reply.capacity();
            shared.extend(others);
        }
        let mut seen = HashSet::new();
        shared.retain(|message| seen.insert(message.address()));
        let shared: usize = shared.iter().map(|message| message.heap_bytes()).sum();
        sums = (sums.0 + shared, sums.1 + shared);
        if sums != (self.message_bytes, self.entry_bytes) {
            let counted = (self.message_bytes, self.entry_bytes);
            return Err(format!(
                "commands: bytes of messages and of entries are {sums:?}, {counted:?} counted"
            ));
        }
        Ok(())
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        if is_worth_shrinking(self.by_id.len(), self.by_id.capacity()) {
            let _charge = charge(Holder::PendingCommand);
            self.by_id.shrink_to(PAGE_ENTRIES);
        }
        self.entries.give_back()
    }

    /// Entries of the index that stand for no command, or commands without one: none, ever.
    pub fn mismatch(&self) -> u64 {
        self.by_id.len().abs_diff(self.entries.len()) as u64
    }

    /// Takes an entry out of the table and out of its router's list. Its caller's list is unlinked by [`Self::leave_caller`]
    /// before, its turn by the out-queue.
    pub fn remove(&mut self, key: u32, of_router: &mut OfRouter) -> Command {
        of_router.remove(&mut self.entries, key);
        let mut command = self.entries.remove(key as usize);
        self.message_bytes -= command.message.held_bytes();
        self.entry_bytes -= command.held_bytes();
        command.message.let_go(); // while it is what was counted: a shared one may be another's alone from here on
        if !planted(Fault::KeepCommandIndex) {
            self.by_id.remove(&(command.router.slot, command.id));
        }
        if planted(Fault::KeepCommandEntry) {
            self.keep_entry_of(&command);
        } else {
            self.count.unbound += 1;
        }
        command
    }

    /// For the planted fault: an entry that nobody will remove.
    fn keep_entry_of(&mut self, command: &Command) {
        let Command { generation, router, id, deadline, timer, .. } = *command;
        let caller = Caller { connection: command.caller.connection, request: Request::Http };
        let message = Message::new("", b"", false);
        let (reply, reply_flags) = (Vec::new(), None);
        let (by_router, by_caller, turn) = Default::default();
        self.entries.insert(Command {
            generation,
            router,
            caller,
            id,
            message,
            reply,
            reply_flags,
            deadline,
            timer,
            by_router,
            by_caller,
            turn,
        });
    }

    pub fn leave_caller(&mut self, key: u32, of_caller: &mut OfCaller) {
        if !planted(Fault::KeepCallerEntry) {
            of_caller.remove(&mut self.entries, key);
        }
    }

    pub fn entries(&self) -> &Pool<Command> {
        &self.entries
    }

    pub fn entries_mut(&mut self) -> &mut Pool<Command> {
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
