//! Lists of connections with something to do; a connection is at most once on each.

use super::connection::Connection;
use crate::id::Token;
use crate::memory::{Holder, charge};

/// What is to be done, and for whom.
#[derive(Default)]
pub(super) struct Work {
    /// To be read, and those of them that bring much at a time: they go last.
    pub ready: WorkList,
    pub bulky: WorkList,
    pub dirty: WorkList,
    pub replaying: WorkList,
    pub closing: WorkList,
    pub ended: WorkList,
    /// Frames that had been queued when this turn began to read.
    pub frames_at_turn: u64,
    /// Bytes that this turn has read.
    pub read_in_turn: usize,
}

impl Work {
    pub fn capacity_bytes(&self) -> usize {
        let Self { ready, bulky, dirty, replaying, closing, ended, frames_at_turn: _, read_in_turn: _ } =
            self;
        [ready, bulky, dirty, replaying, closing, ended].map(WorkList::capacity_bytes).iter().sum()
    }

    pub fn give_back(&mut self) {
        let Self { ready, bulky, dirty, replaying, closing, ended, frames_at_turn: _, read_in_turn: _ } =
            self;
        for list in [ready, bulky, dirty, replaying, closing, ended] {
            list.give_back();
        }
    }

    /// A connection is to be looked at in the reading phase.
    pub fn mark_ready<T>(&mut self, connection: &mut Connection<T>, token: Token) {
        let list = if connection.is_bulky { &mut self.bulky } else { &mut self.ready };
        list.mark(&mut connection.in_ready, token);
    }
}

/// Room that every list has from the start and keeps.
const ROOM: usize = 1024;

/// Tokens in the order in which they came.
pub(super) struct WorkList {
    tokens: Vec<Token>,
    /// What [`Self::take`] puts in place of the list it hands out.
    spare: Vec<Token>,
}

impl Default for WorkList {
    fn default() -> Self {
        Self { tokens: Vec::with_capacity(ROOM), spare: Vec::with_capacity(ROOM) }
    }
}

impl WorkList {
    pub fn push(&mut self, token: Token) {
        if self.tokens.len() == self.tokens.capacity() {
            // It grows for all, whoever happens to be the one too many.
            let _charge = charge(Holder::Other);
            self.tokens.reserve(1);
        }
        self.tokens.push(token);
    }

    /// Puts `token` on the list unless it is there, as its own mark says.
    pub fn mark(&mut self, is_on: &mut bool, token: Token) {
        if !std::mem::replace(is_on, true) {
            self.push(token);
        }
    }

    pub fn pop(&mut self) -> Option<Token> {
        self.tokens.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Hands out the list as it is, to be walked while new ones come; it comes back with [`Self::put_back`].
    pub fn take(&mut self) -> Vec<Token> {
        std::mem::replace(&mut self.tokens, std::mem::take(&mut self.spare))
    }

    /// What is left of `old` goes before those that came meanwhile.
    pub fn put_back(&mut self, mut old: Vec<Token>) {
        let _charge = charge(Holder::Other);
        if !old.is_empty() {
            old.append(&mut self.tokens);
            std::mem::swap(&mut old, &mut self.tokens);
        }
        self.spare = old;
    }

    /// What is kept for all connections, in bytes.
    pub fn capacity_bytes(&self) -> usize {
        (self.tokens.capacity() + self.spare.capacity()) * size_of::<Token>()
    }

    /// Gives back what a burst made it grow.
    pub fn give_back(&mut self) {
        let _charge = charge(Holder::Other);
        for list in [&mut self.tokens, &mut self.spare] {
            shrink(list, ROOM);
        }
    }
}

/// Shrinks a list to what it would have grown to for its present length, but not below the room that it began with.
pub(super) fn shrink<E>(list: &mut Vec<E>, room: usize) {
    let wanted = list.len().next_power_of_two().max(room);
    if list.capacity() > wanted {
        list.shrink_to(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(slot: u32) -> Token {
        Token { slot, generation: 1 }
    }

    #[test]
    fn what_is_left_goes_before_what_came_meanwhile() {
        let mut list = WorkList::default();
        (0..4).for_each(|slot| list.push(token(slot)));
        let mut taken = list.take();
        list.push(token(9));
        taken.drain(..2);
        list.put_back(taken);
        let slots: Vec<u32> = list.take().iter().map(|token| token.slot).collect();
        assert_eq!(slots, [2, 3, 9]);
    }

    #[test]
    fn a_mark_puts_it_on_once() {
        let (mut list, mut is_on) = (WorkList::default(), false);
        list.mark(&mut is_on, token(1));
        list.mark(&mut is_on, token(1));
        assert_eq!(list.take().len(), 1);
    }

    #[test]
    fn a_burst_is_given_back() {
        let mut list = WorkList::default();
        let before = list.capacity_bytes();
        (0..100_000).for_each(|slot| list.push(token(slot)));
        let mut taken = list.take();
        taken.clear();
        list.put_back(taken);
        list.give_back();
        assert_eq!(list.capacity_bytes(), before);
    }
}
