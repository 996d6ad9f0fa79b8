//! The balances: one for each class, one for each connection. Nothing here allocates by the global allocator, because that
//! calls it.
//!
//! The books are the thread's: the daemon has one, and tests that run side by side do not see each other.

#![allow(unsafe_code)] // the books themselves come from the system, beneath the allocator that they are about

use super::tag::{ACCOUNTS, Tag};
use super::{Balance, Holder, Holdings};
use crate::id::{Class, Token};
use std::alloc::{GlobalAlloc, Layout, System, handle_alloc_error};
use std::cell::Cell;
use std::ptr;

/// What a class holds.
struct OfClass {
    bytes: Cell<i64>,
    blocks: Cell<i64>,
    /// The part of `bytes` that is on the account of a connection which is live.
    owned: Cell<i64>,
}

/// The account of a slot's present tenant.
struct Account {
    generation: Cell<u32>,
    bytes: Cell<i64>,
}

struct Books {
    classes: [OfClass; Holder::ALL.len()],
    accounts: [Account; ACCOUNTS],
}

thread_local! {
    static BOOKS: Cell<*const Books> = const { Cell::new(ptr::null()) };
}

/// This thread's books, opened at the first use and never closed: blocks may outlive whatever else the thread has.
fn books() -> &'static Books {
    let mut books = BOOKS.get();
    if books.is_null() {
        let layout = Layout::new::<Books>();
        // SAFETY: the layout has a size. Zeroed pages are address space until they are used, not memory.
        books = unsafe { System.alloc_zeroed(layout) }.cast::<Books>();
        if books.is_null() {
            handle_alloc_error(layout);
        }
        BOOKS.set(books);
    }
    // SAFETY: it came from `alloc_zeroed` with the layout of `Books`, all of whose fields are integers, for which zero is a
    // value; it is never freed, and only this thread has it.
    unsafe { &*books }
}

fn add(cell: &Cell<i64>, amount: i64) {
    cell.set(cell.get() + amount);
}

/// Books a block in (positive) or out (negative).
pub(super) fn book(tag: Tag, bytes: i64, blocks: i64) {
    let books = books();
    let class = &books.classes[tag.holder()];
    add(&class.bytes, bytes);
    add(&class.blocks, blocks);
    if let Some((slot, generation)) = tag.account() {
        let account = &books.accounts[slot];
        // A block that outlived its tenant is freed: its class alone is charged.
        if account.generation.get() == generation {
            add(&account.bytes, bytes);
            add(&class.owned, bytes);
        }
    }
}

/// Opens the account of a new connection.
pub fn open_account(token: Token) {
    if let Some(account) = books().accounts.get(token.slot as usize) {
        account.generation.set(token.generation);
        account.bytes.set(0);
    }
}

/// Closes it, and says what is still on it in bytes: nothing, if everything was given back.
pub fn close_account(class: Class, token: Token) -> i64 {
    let books = books();
    match books.accounts.get(token.slot as usize) {
        Some(account) if account.generation.get() == token.generation => {
            let left = account.bytes.get();
            account.generation.set(0);
            add(&books.classes[Holder::from(class) as usize].owned, -left);
            left
        }
        _ => 0,
    }
}

/// Takes, at start, the memory of the accounts of so many connections: 16 bytes each, which are the system's and in no class.
pub fn make_accounts_for(connections: usize) {
    const PER_PAGE: usize = 4096 / size_of::<Account>();
    for account in books().accounts.iter().take(connections).step_by(PER_PAGE) {
        account.bytes.set(0);
    }
}

/// What a live connection alone owns, in bytes.
pub fn owned_by(token: Token) -> i64 {
    match books().accounts.get(token.slot as usize) {
        Some(account) if account.generation.get() == token.generation => account.bytes.get(),
        _ => 0,
    }
}

/// What every class holds, in one snapshot: nothing is allocated between the first and the last.
pub fn holdings() -> Holdings {
    let books = books();
    Holdings(Holder::ALL.map(|holder| {
        let class = &books.classes[holder as usize];
        Balance { bytes: class.bytes.get(), blocks: class.blocks.get(), owned: class.owned.get() }
    }))
}
