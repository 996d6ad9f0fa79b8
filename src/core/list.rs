//! Doubly linked lists through the entries of a pool: no allocation of their own, and removal from the middle by key.
//!
//! An entry that is in several lists (by router, by caller) has a [`Link`] for each, told apart by the constant `L`.

use crate::core::pool::Pool;

const NONE: u32 = u32::MAX;

/// An entry's place in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    prev: u32,
    next: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { prev: NONE, next: NONE }
    }
}

pub trait Linked<const L: usize> {
    fn link(&mut self) -> &mut Link;
    fn peek(&self) -> &Link;
}

/// First and last key of a list, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<const L: usize> {
    head: u32,
    tail: u32,
    len: u32,
}

impl<const L: usize> Default for List<L> {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl<const L: usize> List<L> {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub fn next<T: Linked<L>>(&self, pool: &Pool<T>, key: u32) -> Option<u32> {
        let next = pool[key as usize].peek().next;
        (next != NONE).then_some(next)
    }

    pub fn iter<'s, T: Linked<L>>(&self, pool: &'s Pool<T>) -> impl Iterator<Item = u32> + 's {
        let list = *self;
        std::iter::successors(self.front(), move |key| list.next(pool, *key))
    }

    pub fn push_back<T: Linked<L>>(&mut self, pool: &mut Pool<T>, key: u32) {
        *pool[key as usize].link() = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = key,
            tail => pool[tail as usize].link().next = key,
        }
        self.tail = key;
        self.len += 1;
    }

    /// Takes `key`, which must be in this list, out of it.
    pub fn remove<T: Linked<L>>(&mut self, pool: &mut Pool<T>, key: u32) {
        let Link { prev, next } = std::mem::take(pool[key as usize].link());
        match prev {
            NONE => self.head = next,
            prev => pool[prev as usize].link().next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => pool[next as usize].link().prev = prev,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Holder;
    use std::collections::VecDeque;

    #[derive(Default)]
    struct Entry(Link);

    impl Linked<0> for Entry {
        fn link(&mut self) -> &mut Link {
            &mut self.0
        }
        fn peek(&self) -> &Link {
            &self.0
        }
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_deque(steps in proptest::collection::vec((0u8..3, 0usize..8), 0..200)) {
            let (mut pool, mut list, mut model) = (Pool::new(Holder::Other), List::<0>::default(), VecDeque::new());
            for (what, index) in steps {
                match what {
                    0 => {
                        let key = pool.insert(Entry::default()) as u32;
                        list.push_back(&mut pool, key);
                        model.push_back(key);
                    }
                    1 => {
                        let first = list.front();
                        assert_eq!(first, model.pop_front());
                        if let Some(key) = first {
                            list.remove(&mut pool, key);
                            pool.remove(key as usize);
                        }
                    }
                    _ => if index < model.len() {
                        let key = model.remove(index).unwrap();
                        list.remove(&mut pool, key);
                        pool.remove(key as usize);
                    }
                }
                assert!(list.iter(&pool).eq(model.iter().copied()));
                assert_eq!(list.len(), model.len());
            }
        }
    }
}
