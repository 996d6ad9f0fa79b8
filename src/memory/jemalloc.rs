//! The allocator beneath the tags: what it holds of the system's memory, and how it gives it back.
//!
//! The daemon has one thread, so nobody but the loop can give back: while pages that nobody uses are left, it asks for a
//! slice of them along jemalloc's decay curve every few milliseconds, never for all at once, which takes long.

#![allow(unsafe_code)] // jemalloc's controls without values have no safe wrapper; blocks that are not charged to anybody

use super::{Resident, resident_bytes};
use crate::clock::Time;
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::CStr;
use std::ptr;
use std::time::Duration;
use tikv_jemalloc_ctl::{Access, AsName, epoch, stats};
use tikv_jemallocator::Jemalloc;

/// What is baked into the daemon: one arena, because it has one thread; unused pages go back within `dirty_decay_ms`, at
/// once rather than lazily, so that the resident size says the truth; no arena of its own for what is very large.
pub const OPTIONS: &[u8] = b"narenas:1,dirty_decay_ms:4000,muzzy_decay_ms:0,oversize_threshold:0\0";
/// Between two slices.
const SLICE_EVERY: Duration = Duration::from_millis(5);
/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So much may lie unused: the working set breathes.
const UNUSED_BYTES: usize = 256 << 10;

/// What the allocator asks of the system at once, unless one block needs more.
const PIECE_BYTES: usize = 4 << 20;
/// Blocks of this size stand for what waits in queues: messages in parts, half messages.
const TABLE_BLOCK_BYTES: usize = 48 << 10;
const MOST_TABLED_BYTES: usize = 512 << 20;

/// What is resident, by the system and by the allocator; zeros when there is no telling.
pub fn resident() -> Resident {
    let allocator = epoch::advance().and_then(|_| stats::resident::read()).unwrap_or(0);
    Resident { rss: resident_bytes().unwrap_or(0), allocator: allocator as u64 }
}

/// Resident pages that hold no block, in bytes.
fn unused_bytes() -> usize {
    let read = || -> tikv_jemalloc_ctl::Result<usize> {
        epoch::advance()?;
        Ok(stats::resident::read()?.saturating_sub(stats::active::read()? + stats::metadata::read()?))
    };
    read().unwrap_or(0)
}

/// Gives back in slices.
#[derive(Debug, Default)]
pub struct Decay {
    /// While there is something to give back.
    next_slice: Option<Time>,
    next_look: Time,
}

impl Decay {
    /// When the next slice is due.
    pub fn next(&self) -> Option<Time> {
        self.next_slice
    }

    /// Looks, some time after the last look, whether there is something to give back, and gives back a slice if one is due.
    pub fn tick(&mut self, now: Time) {
        if self.next_look <= now {
            self.next_look = now + LOOK_EVERY;
            if unused_bytes() <= UNUSED_BYTES {
                self.next_slice = None;
            } else {
                // Blocks that the thread keeps for itself hold pages too.
                control(c"thread.tcache.flush");
                self.next_slice.get_or_insert(now);
            }
        }
        if self.next_slice.is_some_and(|at| at <= now) {
            // 4096 stands for all arenas (MALLCTL_ARENAS_ALL).
            control(c"arena.4096.decay");
            self.next_slice = Some(now + SLICE_EVERY);
        }
    }
}

/// What the allocator needs before its first burst: see [`keep_slices_small`] and [`make_tables_for`].
pub fn prepare(bytes: usize) {
    keep_slices_small();
    make_tables_for(bytes);
}

/// Unused pages are given back by whole stretches of memory, and stretches that touch become one, up to all that was asked
/// of the system at once. Asked for piece by piece they stay apart, and no slice is larger than a piece.
fn keep_slices_small() {
    if let Err(error) = b"arena.0.retain_grow_limit\0".name().write(PIECE_BYTES) {
        log::warn!(error:% = error; "the allocator takes no limit: giving back may take longer turns");
    }
}

/// Makes, at start, the tables that jemalloc will need for `bytes` in blocks of [`TABLE_BLOCK_BYTES`], at most for
/// [`MOST_TABLED_BYTES`]. It makes them lazily and never gives them back, about 1 % of the memory they are about; so a first
/// burst would leave the process larger than before. The blocks are not touched: no memory is used but that of the tables.
fn make_tables_for(bytes: usize) {
    let layout = Layout::new::<[u8; TABLE_BLOCK_BYTES]>();
    let count = bytes.min(MOST_TABLED_BYTES) / TABLE_BLOCK_BYTES;
    // SAFETY: the layout has a size; each block is given back with the layout that it was asked for with.
    unsafe {
        let blocks: Vec<*mut u8> = (0..count).map(|_| Jemalloc.alloc(layout)).collect();
        for block in blocks.into_iter().filter(|block| !block.is_null()) {
            Jemalloc.dealloc(block, layout);
        }
    }
    control(c"thread.tcache.flush");
    control(c"arena.0.purge");
}

/// For the planted fault: what is unused stays.
pub fn never_give_back() {
    let _ = b"arena.0.dirty_decay_ms\0".name().write(-1_isize);
}

/// A control that takes and returns nothing. One that this build does not have does nothing.
fn control(name: &CStr) {
    // SAFETY: null for both values and zero for the size is what a control without values takes.
    unsafe {
        tikv_jemalloc_sys::mallctl(
            name.as_ptr().cast(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        );
    }
}
