//! How many connections each address has, where `max_per_ip` is on.

use crate::id::Class;
use std::collections::HashMap;
use std::net::IpAddr;

#[derive(Debug, Default)]
pub struct AddressCounts(HashMap<(Class, IpAddr), usize>);

impl AddressCounts {
    /// Counts a connection; how many its address has now.
    pub fn add(&mut self, class: Class, address: IpAddr) -> usize {
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
        if self.0.is_empty() {
            self.0 = HashMap::new();
        }
    }

    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}
