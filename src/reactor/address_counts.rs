//! How many connections each address has, where `max_per_ip` is on.

use crate::core::pool::is_worth_shrinking;
use crate::id::Class;
use crate::memory::{Holder, charge};
use std::collections::HashMap;
use std::net::IpAddr;

#[derive(Debug, Default)]
pub struct AddressCounts(HashMap<(Class, IpAddr), usize>);

impl AddressCounts {
    /// Counts a connection; how many its address has now.
    pub fn add(&mut self, class: Class, address: IpAddr) -> usize {
        let _charge = charge(Holder::Other);
        let count = self.0.entry((class, address)).or_default();
        *count += 1;
        *count
    }

    pub fn remove(&mut self, class: Class, address: IpAddr) {
        if let Some(count) = self.0.get_mut(&(class, address)) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&(class, address));
            }
        }
    }

    /// Gives back what a burst made the table grow.
    pub fn give_back(&mut self) {
        if is_worth_shrinking(self.0.len(), self.0.capacity()) {
            let _charge = charge(Holder::Other);
            self.0.shrink_to_fit();
        }
    }

    /// The most that the table takes, in bytes: its entries with a tag each, at the load at which it grows.
    pub fn capacity_bytes(&self) -> usize {
        self.0.capacity() * 8 / 7 * (size_of::<((Class, IpAddr), usize)>() + 1) + 64
    }

    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}
