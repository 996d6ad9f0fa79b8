//! The memory beneath every table: a slab in pages, so that a table that was once large gives back what it no longer uses.
//!
//! A new entry goes to the lowest page with room. So the high pages run empty when a burst is over, and [`Pool::give_back`]
//! frees them. Removal frees nothing: a table whose length swings over the end of a page allocates nothing for it.

use crate::memory::{Holder, charge};
use slab::Slab;
use std::ops::{Index, IndexMut};

const PAGE_BITS: u32 = 6;
/// Pages that are freed at once: so many take about a millisecond.
const PAGES_AT_ONCE: usize = 512;
/// Entries of a page.
pub const PAGE_ENTRIES: usize = 1 << PAGE_BITS;

/// What an entry of a [`Slab`] is: its own is private, and this has the same size.
#[allow(dead_code)]
enum SlabEntry<T> {
    Vacant(usize),
    Occupied(T),
}

/// Whether a table with so many entries should be made anew for them, though it has room for more. A small one always: that
/// takes microseconds. A larger one when it has shrunk to a quarter, so that one that breathes is left alone; a very large
/// one not until it is smaller, because all its entries are moved in one step.
pub fn is_worth_shrinking(len: usize, capacity: usize) -> bool {
    const SMALL: usize = 4096;
    const LARGE: usize = 65_536;
    len <= SMALL || (len <= LARGE && len < capacity / 4)
}

fn page_of(key: usize) -> (usize, usize) {
    (key >> PAGE_BITS, key % PAGE_ENTRIES)
}

/// Entries by key, like a [`Slab`]. A key is a page and a slot in it.
#[derive(Debug)]
pub struct Pool<T> {
    /// Each is made with room for [`PAGE_ENTRIES`], or has no memory at all. The first one always has.
    pages: Vec<Slab<T>>,
    /// A bit for each page that has room; one that is not made has.
    room: Vec<u64>,
    /// The first word of `room` that is not zero.
    first_room: usize,
    len: usize,
    made: usize,
    /// Pages that are made and empty, without the first.
    spare: usize,
    holder: Holder,
}

impl<T> Pool<T> {
    /// In bytes.
    const PAGE_BYTES: usize = PAGE_ENTRIES * size_of::<SlabEntry<T>>();

    /// `holder` is charged for the pages, whoever makes the pool grow.
    pub fn new(holder: Holder) -> Self {
        let _charge = charge(holder);
        let pages = vec![Slab::with_capacity(PAGE_ENTRIES)];
        Self { pages, room: vec![!0], first_room: 0, len: 0, made: 1, spare: 0, holder }
    }

    /// The key that the next entry will have.
    pub fn vacant_key(&self) -> usize {
        let page = self.lowest_with_room();
        page << PAGE_BITS | self.pages.get(page).map_or(0, Slab::vacant_key)
    }

    pub fn insert(&mut self, value: T) -> usize {
        let index = self.lowest_with_room();
        if self.pages.get(index).is_none_or(|page| page.capacity() == 0) {
            self.make(index);
        }
        let page = &mut self.pages[index];
        if page.is_empty() && index > 0 {
            self.spare -= 1;
        }
        let slot = page.insert(value);
        if page.len() == PAGE_ENTRIES {
            self.fill(index);
        }
        self.len += 1;
        index << PAGE_BITS | slot
    }

    /// Takes an entry out; there must be one.
    pub fn remove(&mut self, key: usize) -> T {
        let (index, slot) = page_of(key);
        let page = &mut self.pages[index];
        let value = page.remove(slot);
        if page.is_empty() && index > 0 {
            self.spare += 1;
        }
        let word = index / u64::BITS as usize;
        self.room[word] |= 1 << (index % u64::BITS as usize);
        self.first_room = self.first_room.min(word);
        self.len -= 1;
        value
    }

    /// Frees pages that are empty, the highest first and [`PAGES_AT_ONCE`] at most, and what the directory no longer needs.
    /// Keys that were foretold are void. True if empty pages are left.
    pub fn give_back(&mut self) -> bool {
        if self.spare == 0 {
            return false;
        }
        let empty = self.pages[1..].iter_mut().rev().filter(|page| page.capacity() > 0 && page.is_empty());
        let mut freed = 0;
        for page in empty.take(PAGES_AT_ONCE) {
            *page = Slab::new();
            freed += 1;
        }
        self.spare -= freed;
        self.made -= freed;
        let needed = self.pages.iter().rposition(|page| page.capacity() > 0).map_or(1, |last| last + 1);
        self.pages.truncate(needed);
        self.pages.shrink_to(needed.next_power_of_two());
        // The bits of pages cut off within the last word are set, as they should be: they were empty.
        let words = needed.div_ceil(u64::BITS as usize);
        self.room.truncate(words);
        self.room.shrink_to(words.next_power_of_two());
        self.first_room = self.first_room.min(words);
        self.spare > 0
    }

    /// What its pages and their directory take, in bytes, exactly as they were asked for.
    pub fn capacity_bytes(&self) -> usize {
        self.made * Self::PAGE_BYTES
            + self.pages.capacity() * size_of::<Slab<T>>()
            + self.room.capacity() * size_of::<u64>()
    }

    pub fn get(&self, key: usize) -> Option<&T> {
        let (page, slot) = page_of(key);
        self.pages.get(page)?.get(slot)
    }

    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        let (page, slot) = page_of(key);
        self.pages.get_mut(page)?.get_mut(slot)
    }

    pub fn contains(&self, key: usize) -> bool {
        self.get(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys and entries, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        (0..self.pages()).flat_map(|page| self.iter_page(page))
    }

    /// How many pages there are, to be walked one at a time with [`Self::iter_page`].
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The entries of one page, in key order; none of a page that is gone.
    pub fn iter_page(&self, page: usize) -> impl Iterator<Item = (usize, &T)> {
        let entries = self.pages.get(page).into_iter().flatten();
        entries.map(move |(slot, value)| (page << PAGE_BITS | slot, value))
    }

    fn lowest_with_room(&self) -> usize {
        let bits = self.room.get(self.first_room).map_or(0, |word| word.trailing_zeros() as usize);
        self.first_room * u64::BITS as usize + bits
    }

    /// Gives a page its memory. The directory grows by doubling, from one.
    fn make(&mut self, index: usize) {
        let _charge = charge(self.holder);
        if index == self.pages.len() {
            push_doubling(&mut self.pages, Slab::new());
            if index / u64::BITS as usize == self.room.len() {
                push_doubling(&mut self.room, !0);
            }
        }
        self.pages[index] = Slab::with_capacity(PAGE_ENTRIES);
        self.made += 1;
        self.spare += usize::from(index > 0);
    }

    /// The lowest page with room has none any more.
    fn fill(&mut self, index: usize) {
        self.room[self.first_room] &= !(1 << (index % u64::BITS as usize));
        while self.room.get(self.first_room) == Some(&0) {
            self.first_room += 1;
        }
    }
}

/// Appends to a vector whose capacity is a power of two, and stays one.
fn push_doubling<V>(vector: &mut Vec<V>, value: V) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact(vector.len());
    }
    vector.push(value);
}

impl<T> Index<usize> for Pool<T> {
    type Output = T;

    fn index(&self, key: usize) -> &T {
        let (page, slot) = page_of(key);
        &self.pages[page][slot]
    }
}

impl<T> IndexMut<usize> for Pool<T> {
    fn index_mut(&mut self, key: usize) -> &mut T {
        let (page, slot) = page_of(key);
        &mut self.pages[page][slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pool() -> Pool<u64> {
        Pool::new(Holder::Other)
    }

    #[test]
    fn a_burst_is_given_back_and_what_is_left_stays_where_it_is() {
        let mut pool = pool();
        let at_start = pool.capacity_bytes();
        for number in 0..10_000 {
            assert_eq!(pool.insert(number), number as usize);
        }
        for key in (0..10_000).filter(|key| *key != 5_000) {
            pool.remove(key);
        }
        let at_peak = pool.capacity_bytes();
        assert!(pool.insert(1) < PAGE_ENTRIES, "the lowest page is filled first");
        pool.give_back();
        assert!(pool.capacity_bytes() < at_peak / 20);
        assert_eq!(pool.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 5_000]);
        assert_eq!(pool.get(5_000), Some(&5_000));
        let left: Vec<usize> = pool.iter().map(|(key, _)| key).collect();
        left.into_iter().for_each(|key| _ = pool.remove(key));
        pool.give_back();
        assert_eq!(pool.capacity_bytes(), at_start);
    }

    #[test]
    fn swinging_over_the_end_of_a_page_changes_nothing() {
        let mut pool = pool();
        (0..=PAGE_ENTRIES as u64).for_each(|number| _ = pool.insert(number));
        let bytes = pool.capacity_bytes();
        for _ in 0..10 {
            pool.remove(PAGE_ENTRIES);
            assert_eq!(pool.insert(0), PAGE_ENTRIES);
            assert_eq!(pool.capacity_bytes(), bytes);
        }
    }

    /// The key that must come next: in the lowest page that is not full.
    fn lowest_page(model: &BTreeMap<usize, u64>) -> usize {
        (0..)
            .find(|page| model.range(page << PAGE_BITS..(page + 1) << PAGE_BITS).count() < PAGE_ENTRIES)
            .unwrap()
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(40))]
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((0u8..4, 1usize..3_000, 1usize..20), 1..12)) {
            let (mut pool, mut model, mut serial) = (pool(), BTreeMap::new(), 0u64);
            let at_start = pool.capacity_bytes();
            for (what, count, stride) in steps {
                match what {
                    0 | 1 => for number in 0..count {
                        serial += 1;
                        let foretold = pool.vacant_key();
                        if number % 97 == 0 {
                            assert_eq!(page_of(foretold).0, lowest_page(&model));
                        }
                        assert_eq!(pool.insert(serial), foretold);
                        assert_eq!(model.insert(foretold, serial), None);
                    },
                    2 => {
                        let some: Vec<usize> = model.keys().rev().step_by(stride).take(count).copied().collect();
                        for key in some {
                            assert_eq!(pool.remove(key), model.remove(&key).unwrap());
                            assert!(pool.get(key).is_none() && !pool.contains(key));
                        }
                    }
                    _ => {
                        let before = pool.capacity_bytes();
                        pool.give_back();
                        assert!(pool.capacity_bytes() <= before);
                    }
                }
                assert_eq!(pool.len(), model.len());
                assert!(pool.iter().eq(model.iter().map(|(key, value)| (*key, value))));
            }
            for (key, value) in &model {
                assert_eq!((pool[*key], pool.get_mut(*key).copied()), (*value, Some(*value)));
                pool.remove(*key);
            }
            pool.give_back();
            assert_eq!((pool.capacity_bytes(), pool.pages(), pool.is_empty()), (at_start, 1, true));
        }
    }
}
