//! Whom a block is charged to. A tag is in force from [`charge`] to the end of its guard; what is allocated meanwhile
//! carries it for life, through every `realloc`, until it is freed.

use super::Holder;
use crate::id::{Class, Token};
use std::cell::Cell;
use std::marker::PhantomData;

/// Slots of connections that have an account of their own; those beyond are charged to `other`, so that a class of
/// connections never holds what is on no account.
pub(super) const ACCOUNTS: usize = 1 << 20;

/// A class, and perhaps one connection. Packed as generation, slot (24 bits), class (8 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(pub u64);

impl Tag {
    const OTHER: Tag = Tag(Holder::Other as u64);

    fn of_connection(class: Class, token: Token) -> Self {
        let class = Holder::from(class) as u64;
        match (token.slot as usize) < ACCOUNTS {
            true => Self(u64::from(token.generation) << 32 | u64::from(token.slot) << 8 | class),
            false => Self::OTHER,
        }
    }

    pub fn holder(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// The account, as slot and generation, if a connection is charged: generation 0 is nobody's.
    pub fn account(self) -> Option<(usize, u32)> {
        let generation = (self.0 >> 32) as u32;
        (generation != 0).then_some(((self.0 >> 8 & 0xff_ffff) as usize, generation))
    }
}

thread_local! {
    static CURRENT: Cell<Tag> = const { Cell::new(Tag::OTHER) };
}

/// Ends the charge, and puts back the one before.
#[must_use = "the charge ends with the guard"]
pub struct Charge {
    before: Tag,
    /// The tag is the thread's: the guard stays on it.
    _here: PhantomData<*const ()>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Charges what is allocated from here on to a class.
pub fn charge(holder: Holder) -> Charge {
    Charge { before: CURRENT.replace(Tag(holder as u64)), _here: PhantomData }
}

/// Charges what is allocated from here on to a connection and its class.
pub fn charge_connection(class: Class, token: Token) -> Charge {
    Charge { before: CURRENT.replace(Tag::of_connection(class, token)), _here: PhantomData }
}

pub(super) fn current() -> Tag {
    CURRENT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_class_and_its_connection() {
        let token = Token { slot: 77, generation: u32::MAX };
        let tag = Tag::of_connection(Class::Page, token);
        assert_eq!((tag.holder(), tag.account()), (Holder::Page as usize, Some((77, u32::MAX))));
        let beyond = Tag::of_connection(Class::App, Token { slot: ACCOUNTS as u32, generation: 1 });
        assert_eq!((beyond.holder(), beyond.account()), (Holder::Other as usize, None));
    }

    #[test]
    fn guards_nest() {
        let outer = charge(Holder::Shadow);
        {
            let _inner = charge_connection(Class::Router, Token { slot: 1, generation: 2 });
            assert_eq!(current().account(), Some((1, 2)));
        }
        assert_eq!(current(), Tag(Holder::Shadow as u64));
        drop(outer);
        assert_eq!(current(), Tag::OTHER);
    }
}
