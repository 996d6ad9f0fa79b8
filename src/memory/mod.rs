//! Who holds memory (SPEC section 6): every live byte is charged to a class, and what a connection alone owns to that
//! connection too. `docs/memory.md` tells the whole story.
//!
//! A connection's tag covers only what it alone owns: tables, queued frames and remembered values are charged to their own
//! class, whoever made them grow. Without the [`Charging`](allocator::Charging) allocator every balance is zero.

pub mod allocator;
mod books;
mod evidence;
mod history;
mod holder;
pub mod jemalloc;
mod leaks;
mod resident;
mod sample;
mod tag;
mod verdict;
pub mod words;

pub use books::{close_account, holdings, make_accounts_for, open_account, owned_by};
pub use history::History;
pub use holder::Holder;
pub use resident::{Resident, resident_bytes};
pub use sample::{ClassSample, Load, SAMPLE_EVERY, Sample};
pub use tag::{Charge, charge, charge_connection};
pub use verdict::{State, Verdict};

/// What a class holds: bytes as they were asked for, blocks, and the bytes that are on the accounts of live connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub bytes: i64,
    pub blocks: i64,
    pub owned: i64,
}

/// What every class holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings(pub(crate) [Balance; Holder::ALL.len()]);

impl Holdings {
    pub fn of(&self, holder: Holder) -> Balance {
        self.0[holder as usize]
    }

    /// All live bytes; the classes make it exactly.
    pub fn live_bytes(&self) -> i64 {
        self.0.iter().map(|balance| balance.bytes).sum()
    }

    pub fn live_allocations(&self) -> i64 {
        self.0.iter().map(|balance| balance.blocks).sum()
    }

    /// Bytes charged to connections that are no longer there: nothing, unless something was not given back.
    pub fn orphaned(&self, holder: Holder) -> i64 {
        let balance = self.of(holder);
        if holder.is_connection() { balance.bytes - balance.owned } else { 0 }
    }
}
