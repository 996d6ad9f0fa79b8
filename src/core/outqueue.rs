//! What waits to be written to one connection: two lanes, and on the router link turns between commands.
//!
//! A write is planned (which bytes, in which order), handed to the socket in one call, and committed for as many bytes as
//! the socket took. Only a frame of which some bytes are written is *begun*; everything behind it can still be overtaken
//! by the system lane, so a PING waits behind at most one user fragment (SPEC section 1, Lanes).

use crate::core::commands::{Commands, Turns};
use crate::core::frames::{Fifo, Frames, Payload};
use crate::core::message::Outline;
use crate::limits::WRITE_CHUNK_BYTES;
use crate::proto::router::Kind;
use std::io::IoSlice;

/// The most frames in one write; each is at most two slices, and the kernel takes 1024.
const MAX_ITEMS: usize = 256;
/// Most writes are of few frames: they do without a table of slices for the most.
const FEW_ITEMS: usize = 8;

#[derive(Debug, Default)]
pub struct OutQueue {
    system: Fifo,
    /// Answers and notifications in order; on the router link the one-way commands.
    user: Fifo,
    /// Awaited commands that still have something to send, the next one first.
    turns: Turns,
    /// OPENs of streams, which take turns with them: all that wait go when it is their turn.
    opens: Fifo,
    /// Fragments of awaited commands since the last OPEN.
    since_open: u32,
    /// Fragments of awaited commands since the last one-way fragment: the one-way queue takes its turn as one of them.
    since_one_way: u32,
    /// A frame that the socket took a part of, and how many bytes.
    begun: Option<(u32, usize)>,
    /// All bytes that wait here.
    queued: usize,
    /// Of these, values and events being replayed.
    replay: usize,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Begun { key: u32, written: usize },
    System { key: u32 },
    User { key: u32 },
    Open { key: u32 },
    Turn { command: u32, ahead: usize, header: [u8; 12] },
}

/// One write: reused from one to the next, with room for the longest from the start, so that planning allocates nothing.
#[derive(Debug)]
pub struct Plan {
    items: Vec<Item>,
    bytes: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { items: Vec::with_capacity(MAX_ITEMS), bytes: 0 }
    }
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_full(&self) -> bool {
        self.items.len() == MAX_ITEMS || self.bytes >= WRITE_CHUNK_BYTES
    }

    fn push(&mut self, item: Item, bytes: usize) {
        self.items.push(item);
        self.bytes += bytes;
    }

    /// Hands the planned slices to `write`.
    pub fn with_slices<R>(
        &self,
        frames: &Frames,
        commands: &Commands,
        write: impl FnOnce(&[IoSlice<'_>]) -> R,
    ) -> R {
        if self.items.len() <= FEW_ITEMS {
            self.fill(&mut [IoSlice::new(&[]); 2 * FEW_ITEMS], frames, commands, write)
        } else {
            self.fill(&mut [IoSlice::new(&[]); 2 * MAX_ITEMS], frames, commands, write)
        }
    }

    fn fill<'s, R>(
        &'s self,
        slices: &mut [IoSlice<'s>],
        frames: &'s Frames,
        commands: &'s Commands,
        write: impl FnOnce(&[IoSlice<'_>]) -> R,
    ) -> R {
        let mut count = 0;
        let mut add = |slice| {
            slices[count] = IoSlice::new(slice);
            count += 1;
        };
        for item in &self.items {
            let [first, second] = match item {
                Item::Begun { key, written } => [&frames.payload(*key).bytes()[*written..], &[]],
                Item::System { key } | Item::User { key } | Item::Open { key } => {
                    [frames.payload(*key).bytes(), &[]]
                }
                Item::Turn { command, ahead, header } => {
                    let command = commands.get(*command);
                    let (_, bytes) =
                        command.message.fragment(command.id, *ahead).expect("the plan is of this turn");
                    [header, bytes]
                }
            };
            add(first);
            if !second.is_empty() {
                add(second);
            }
        }
        write(&slices[..count])
    }
}

impl OutQueue {
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// What is held for this queue: what waits in it, and what has been sent already of messages that are held whole until
    /// their last fragment has gone.
    pub fn holding_bytes(&self, frames: &Frames, commands: &Commands) -> usize {
        let first = self.begun.map(|(key, _)| key).or(self.user.front());
        let sent = first.map_or(0, |key| frames.payload(key).sent_before());
        let commands_sent: usize =
            self.turns.iter(commands.entries()).map(|key| commands.get(key).message.sent_bytes()).sum();
        self.queued + sent + commands_sent
    }

    /// What counts against the limits of a client: replayed values never do.
    pub fn counted_bytes(&self) -> usize {
        self.queued - self.replay
    }

    pub fn replay_bytes(&self) -> usize {
        self.replay
    }

    pub fn system_bytes(&self) -> usize {
        self.system.bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    pub fn push_system(&mut self, frames: &mut Frames, payload: Payload) {
        self.queued += payload.len();
        self.system.push(frames, payload, false);
    }

    pub fn push_user(&mut self, frames: &mut Frames, payload: Payload) {
        self.queued += payload.len();
        self.user.push(frames, payload, false);
    }

    /// A piece of a long answer.
    pub fn append_user(&mut self, frames: &mut Frames, pieces: &[&[u8]]) {
        let before = self.user.bytes();
        self.user.append(frames, pieces);
        self.queued += self.user.bytes() - before;
    }

    /// A command that nobody awaits. The fragments of a long one refer to one buffer.
    pub fn push_one_way(&mut self, frames: &mut Frames, name: &str, payload: &[u8], json: bool) {
        let outline = Outline::new(name, payload, json);
        if outline.fragments() == 1 {
            let header = outline.header(0, 0);
            return self.push_user(frames, Payload::concat(&[&header, name.as_bytes(), payload]));
        }
        let message = outline.encode(0, name, payload);
        frames.share(&message);
        for range in outline.encoded_ranges() {
            self.push_user(frames, Payload::part(&message, range));
        }
        frames.unshare(&message);
    }

    pub fn push_replay(&mut self, frames: &mut Frames, payload: Payload) {
        self.queued += payload.len();
        self.replay += payload.len();
        self.user.push(frames, payload, true);
    }

    /// Lets an awaited command take turns.
    pub fn push_command(&mut self, commands: &mut Commands, command: u32) {
        self.queued += commands.get(command).message.unsent_bytes();
        self.turns.push_back(commands.entries_mut(), command);
    }

    /// Lets an OPEN take turns.
    pub fn push_open(&mut self, frames: &mut Frames, payload: Payload) {
        self.queued += payload.len();
        self.opens.push(frames, payload, false);
    }

    /// Takes out the OPEN of a stream, if it was not begun.
    pub fn withdraw_open(&mut self, frames: &mut Frames, stream: u32) -> bool {
        let Some(key) = self.opens.take_where(frames, |frame| has_id(frame, Kind::Open, stream)) else {
            return false;
        };
        self.queued -= frames.remove(key).len();
        true
    }

    /// Takes out the ACKs of a stream that were not begun.
    pub fn withdraw_acks(&mut self, frames: &mut Frames, stream: u32) {
        let is_its = |frame: &Payload| has_id(frame, Kind::Ack, stream);
        while let Some(key) = self.system.take_where(frames, is_its) {
            self.queued -= frames.remove(key).len();
        }
    }

    /// Whether OPENs may wait here.
    pub fn has_opens(&self) -> bool {
        !self.opens.is_empty() || self.begun.is_some()
    }

    /// Whether the OPEN of a stream is not wholly written.
    pub fn has_open(&self, frames: &Frames, stream: u32) -> bool {
        let is_its = |key| has_id(frames.payload(key), Kind::Open, stream);
        self.begun.is_some_and(|(key, _)| is_its(key)) || self.opens.iter(frames).any(is_its)
    }

    /// Takes out what was not begun of a command that is answered, late or given up. Its begun fragment goes on.
    pub fn withdraw(&mut self, commands: &mut Commands, command: u32) {
        let unsent = commands.get(command).message.unsent_bytes();
        if unsent > 0 {
            self.turns.remove(commands.entries_mut(), command);
            self.queued -= unsent;
        }
    }

    /// Drops everything that was not begun.
    pub fn clear(&mut self, frames: &mut Frames) {
        self.queued -= self.system.clear(frames);
        self.clear_user(frames);
    }

    /// Drops what was not begun of the user lane, to make way for last words. No command may have a turn left.
    pub fn clear_user(&mut self, frames: &mut Frames) {
        debug_assert!(self.turns.is_empty());
        self.queued -= self.user.clear(frames) + self.opens.clear(frames);
        self.replay = 0;
        if let Some((key, written)) = self.begun {
            frames.detach(key);
            if frames.is_replay(key) {
                self.replay = frames.payload(key).len() - written;
            }
        }
    }

    /// Gives back everything, at the end.
    pub fn release(&mut self, frames: &mut Frames) {
        if let Some((key, written)) = self.begun.take() {
            self.queued -= frames.remove(key).len() - written;
        }
        self.clear(frames);
        debug_assert_eq!(self.queued, 0);
    }

    /// Plans the next write: what was begun, then the system lane, then users in turn.
    pub fn plan(&self, frames: &Frames, commands: &Commands, plan: &mut Plan) {
        plan.items.clear();
        plan.bytes = 0;
        if let Some((key, written)) = self.begun {
            plan.push(Item::Begun { key, written }, frames.payload(key).len() - written);
        }
        for key in self.system.iter(frames) {
            if plan.is_full() {
                return;
            }
            plan.push(Item::System { key }, frames.payload(key).len());
        }
        if self.turns.is_empty() {
            for key in self.opens.iter(frames) {
                if plan.is_full() {
                    return;
                }
                plan.push(Item::Open { key }, frames.payload(key).len());
            }
            for key in self.user.iter(frames) {
                if plan.is_full() {
                    return;
                }
                plan.push(Item::User { key }, frames.payload(key).len());
            }
        } else {
            self.plan_turns(frames, commands, plan);
        }
    }

    /// One fragment of each awaited command, every OPEN, and one fragment of the one-way queue, round after round.
    fn plan_turns(&self, frames: &Frames, commands: &Commands, plan: &mut Plan) {
        let mut opens = self.opens.iter(frames).peekable();
        let mut since_open = self.since_open;
        let mut one_way = self.user.iter(frames).peekable();
        let mut since_one_way = self.since_one_way;
        for ahead in 0.. {
            let mut any = false;
            for command in self.turns.iter(commands.entries()) {
                if since_open as usize >= self.turns.len() {
                    for key in opens.by_ref() {
                        if plan.is_full() {
                            return;
                        }
                        since_open = 0;
                        plan.push(Item::Open { key }, frames.payload(key).len());
                    }
                }
                if plan.is_full() {
                    return;
                }
                if since_one_way as usize >= self.turns.len()
                    && let Some(key) = one_way.next()
                {
                    since_one_way = 0;
                    plan.push(Item::User { key }, frames.payload(key).len());
                    if plan.is_full() {
                        return;
                    }
                }
                let entry = commands.get(command);
                if let Some((header, bytes)) = entry.message.fragment(entry.id, ahead) {
                    plan.push(Item::Turn { command, ahead, header }, header.len() + bytes.len());
                    since_open = since_open.saturating_add(1);
                    since_one_way = since_one_way.saturating_add(1);
                    any = true;
                }
            }
            if !any {
                break;
            }
        }
        for key in opens {
            if plan.is_full() {
                return;
            }
            plan.push(Item::Open { key }, frames.payload(key).len());
        }
        for key in one_way {
            if plan.is_full() {
                return;
            }
            plan.push(Item::User { key }, frames.payload(key).len());
        }
    }

    /// Takes `written` bytes of the plan off the queue.
    pub fn commit(&mut self, frames: &mut Frames, commands: &mut Commands, plan: &Plan, written: usize) {
        let mut left = written;
        for item in &plan.items {
            if left == 0 {
                break;
            }
            let (key, before) = match *item {
                Item::Begun { key, written } => (key, written),
                Item::System { .. } => (self.system.take_first(frames).expect("planned"), 0),
                Item::User { .. } => {
                    self.since_one_way = 0;
                    (self.user.take_first(frames).expect("planned"), 0)
                }
                Item::Open { .. } => {
                    self.since_open = 0;
                    (self.opens.take_first(frames).expect("planned"), 0)
                }
                Item::Turn { command, header, .. } => {
                    let entry = commands.get(command);
                    let fragment = entry.message.fragment(entry.id, 0).map_or(0, |(_, bytes)| bytes.len());
                    let whole = left >= header.len() + fragment;
                    match self.begin_turn(commands, command, !whole) {
                        Some(frame) => (frames.insert(frame, false), 0),
                        None => {
                            left -= header.len() + fragment;
                            continue;
                        }
                    }
                }
            };
            let rest = frames.payload(key).len() - before;
            let taken = left.min(rest);
            left -= taken;
            if frames.is_replay(key) {
                self.replay -= taken;
            }
            if taken < rest {
                self.begun = Some((key, before + taken));
            } else {
                self.begun = None;
                frames.remove(key);
            }
        }
        self.queued -= written;
    }

    /// Begins the next fragment of a command; as a frame, if it was written in part. The next turn is another's.
    fn begin_turn(&mut self, commands: &mut Commands, command: u32, in_part: bool) -> Option<Payload> {
        let fragment = commands.begin_fragment(command, in_part);
        let finished = commands.get(command).message.is_finished();
        self.since_open = self.since_open.saturating_add(1);
        self.since_one_way = self.since_one_way.saturating_add(1);
        self.turns.remove(commands.entries_mut(), command);
        if !finished {
            self.turns.push_back(commands.entries_mut(), command);
        }
        fragment
    }

    /// For the audit: frames in the pool that are this queue's, and the bytes that all of it sums up to.
    pub fn recount(&self, frames: &Frames, commands: &Commands) -> (usize, usize) {
        let begun = self.begun.map_or(0, |(key, written)| frames.payload(key).len() - written);
        let turns: usize =
            self.turns.iter(commands.entries()).map(|key| commands.get(key).message.unsent_bytes()).sum();
        let lanes = [&self.system, &self.user, &self.opens];
        let count = lanes.iter().map(|lane| lane.len()).sum::<usize>() + usize::from(self.begun.is_some());
        (count, begun + turns + lanes.iter().map(|lane| lane.bytes()).sum::<usize>())
    }
}

/// Whether a frame is of a kind, and has an id in its header.
fn has_id(frame: &Payload, kind: Kind, id: u32) -> bool {
    let bytes = frame.bytes();
    bytes.first() == Some(&(kind as u8)) && bytes.get(4..8) == Some(&id.to_be_bytes())
}

#[cfg(test)]
#[path = "outqueue_tests.rs"]
mod tests;
