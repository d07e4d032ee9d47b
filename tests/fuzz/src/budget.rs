//! What reading a file may cost: memory as a multiple of the file's size, and time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Longest time for one input. The largest that are tried have some hundred kilobytes; a slow machine under load takes a
/// hundredth of this for them.
const LONGEST: Duration = Duration::from_secs(10);

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, its bytes counted.
pub struct Counting;

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both exist while one is copied into the other.
        grow(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What a reader may allocate: `factor` times the file's size, and `constant` bytes for a file of any size.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Multiple of the file's size.
    pub factor: usize,
    /// Bytes beside it.
    pub constant: usize,
}

impl Budget {
    /// Runs `read`, which reads a file of `size` bytes; panics where it exceeds the budget or takes longer than a human
    /// waits. One call at a time: what other threads allocate meanwhile is counted too.
    pub fn check<T>(self, what: &str, size: usize, read: impl FnOnce() -> T) -> T {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let start = Instant::now();
        let result = read();
        let (took, used) = (start.elapsed(), PEAK.load(Relaxed).saturating_sub(before));
        let most = self.factor * size + self.constant;
        assert!(used <= most, "{what}: {used} bytes allocated for {size} bytes; {most} are allowed");
        assert!(took <= LONGEST, "{what}: {took:?} for {size} bytes");
        result
    }
}
