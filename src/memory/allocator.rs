//! The global allocator of `berthd`: whatever allocator is beneath, with the tag of whoever asked in front of each block.
//! The 16 bytes of a tag are ours and not counted as live.

#![allow(unsafe_code)] // a global allocator is unsafe by its trait; this file is nothing else

use super::books::book;
use super::tag::{Tag, current};
use std::alloc::{GlobalAlloc, Layout};

/// Room for the tag, in bytes; more where the alignment asks for more.
const HEADER: usize = 16;

/// Charges every block of `A` to the tag in force when it was allocated.
pub struct Charging<A>(pub A);

/// The layout of a block with its header, and where in it the block begins.
fn with_header(layout: Layout) -> Option<(Layout, usize)> {
    let align = layout.align().max(HEADER);
    let size = layout.size().checked_add(align)?;
    Some((Layout::from_size_align(size, align).ok()?, align))
}

// SAFETY: every block comes from `A` with a layout that has room for the caller's block behind a header of `align` bytes,
// a multiple of the caller's alignment, so that the block is aligned as asked. The header is inside the block of `A`, in
// front of the caller's, and is written before the caller sees it. `dealloc` and `realloc` compute the same layout from
// the same arguments, as the trait promises them, and so give back to `A` what came from it.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Charging<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the whole implementation.
        unsafe { self.charged(layout, |inner| self.0.alloc(inner)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the whole implementation.
        unsafe { self.charged(layout, |inner| self.0.alloc_zeroed(inner)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((inner, offset)) = with_header(layout) else { return };
        // SAFETY: as for the whole implementation.
        unsafe {
            book(read_tag(block), -(layout.size() as i64), -1);
            self.0.dealloc(block.sub(offset), inner);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some((inner, offset)) = with_header(layout) else { return std::ptr::null_mut() };
        let grown = Layout::from_size_align(new_size, layout.align()).ok().and_then(with_header);
        let Some((grown, _)) = grown else { return std::ptr::null_mut() };
        // SAFETY: as for the whole implementation; the header moves with the block, and so the block keeps its tag.
        unsafe {
            let tag = read_tag(block);
            let moved = self.0.realloc(block.sub(offset), inner, grown.size());
            if moved.is_null() {
                return moved;
            }
            book(tag, new_size as i64 - layout.size() as i64, 0);
            moved.add(offset)
        }
    }
}

impl<A: GlobalAlloc> Charging<A> {
    /// # Safety
    /// `allocate` returns null or a block of the layout that it is given.
    unsafe fn charged(&self, layout: Layout, allocate: impl FnOnce(Layout) -> *mut u8) -> *mut u8 {
        let Some((inner, offset)) = with_header(layout) else { return std::ptr::null_mut() };
        let start = allocate(inner);
        if start.is_null() {
            return start;
        }
        let tag = current();
        book(tag, layout.size() as i64, 1);
        // SAFETY: the block has `offset` bytes in front of the caller's part, at least 16.
        unsafe {
            let block = start.add(offset);
            block.sub(HEADER).cast::<u64>().write(tag.0);
            block
        }
    }
}

/// # Safety
/// `block` came from [`Charging::charged`].
unsafe fn read_tag(block: *mut u8) -> Tag {
    // SAFETY: the tag was written there.
    Tag(unsafe { block.sub(HEADER).cast::<u64>().read() })
}
