//! How much of the module's memory is in use. The memory itself only grows, and does so by leaps when a block fits into no
//! gap between others: its size alone cannot tell a leak from an unlucky order of calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counted;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Bytes that blocks alive hold.
pub fn bytes_in_use() -> usize {
    IN_USE.load(Relaxed)
}

fn count(block: *mut u8, size: usize) -> *mut u8 {
    if !block.is_null() {
        IN_USE.fetch_add(size, Relaxed);
    }
    block
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no block.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system's.
        count(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        count(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) };
        IN_USE.fetch_sub(layout.size(), Relaxed);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            IN_USE.fetch_sub(layout.size(), Relaxed);
        }
        count(moved, size)
    }
}
