//! The connection table: the only place that holds connections, and the only one that removes them.

use super::connection::Connection;
use crate::core::pool::Pool;
use crate::fault::{Fault, planted};
use crate::id::{Class, Generations, Token};
use crate::memory::Holder;

struct Slot<T> {
    generation: u32,
    /// Boxed: the table stays small when it grows and shrinks, and a connection is charged for itself alone.
    connection: Box<Connection<T>>,
}

impl<T> Slot<T> {
    fn is_tenant(&self, token: Token) -> bool {
        self.generation == token.generation || planted(Fault::TrustStaleToken)
    }
}

pub struct Table<T> {
    slots: Pool<Slot<T>>,
    generations: Generations,
    live: [usize; Class::ALL.len()],
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: Pool::new(Holder::Other),
            generations: Generations::default(),
            live: [0; Class::ALL.len()],
        }
    }
}

impl<T> Table<T> {
    /// The token that the next connection will have: its socket is registered under it before it is inserted.
    pub fn next_token(&mut self) -> Token {
        Token { slot: self.slots.vacant_key() as u32, generation: self.generations.draw() }
    }

    pub fn insert(&mut self, token: Token, connection: Box<Connection<T>>) {
        self.live[connection.class as usize] += 1;
        let slot = self.slots.insert(Slot { generation: token.generation, connection });
        debug_assert_eq!(slot as u32, token.slot);
    }

    /// The connection, unless the token is stale.
    pub fn get(&self, token: Token) -> Option<&Connection<T>> {
        let slot = self.slots.get(token.slot as usize)?;
        slot.is_tenant(token).then_some(&*slot.connection)
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut Connection<T>> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        slot.is_tenant(token).then_some(&mut *slot.connection)
    }

    /// The present tenant of a slot, for the planted fault of a check that is skipped.
    pub fn tenant(&self, slot: u32) -> Option<Token> {
        self.slots.get(slot as usize).map(|entry| Token { slot, generation: entry.generation })
    }

    /// Takes a connection out by value. Called by unbind alone.
    pub(super) fn remove(&mut self, token: Token) -> Option<Connection<T>> {
        self.get(token)?;
        let slot = self.slots.remove(token.slot as usize);
        self.live[slot.connection.class as usize] -= 1;
        Some(*slot.connection)
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        self.slots.give_back()
    }

    /// How many there are of a class.
    pub fn live(&self, class: Class) -> usize {
        self.live[class as usize]
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Token, &Connection<T>)> {
        (0..self.pages()).flat_map(|page| self.iter_page(page))
    }

    /// How many pages of connections there are, to be walked one at a time.
    pub fn pages(&self) -> usize {
        self.slots.pages()
    }

    pub fn iter_page(&self, page: usize) -> impl Iterator<Item = (Token, &Connection<T>)> {
        self.slots.iter_page(page).map(|(slot, entry)| {
            (Token { slot: slot as u32, generation: entry.generation }, &*entry.connection)
        })
    }

    /// What the table itself takes, without the connections, in bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.slots.capacity_bytes()
    }
}
