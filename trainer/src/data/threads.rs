//! Work on all cores.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that threads which panicked do not keep from others.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with each item, a thread a core, until one breaks.
pub fn each<T: Send>(
    items: impl Iterator<Item = T> + Send,
    one: impl Fn(T) -> ControlFlow<()> + Sync,
) -> ControlFlow<()> {
    let (items, stopped) = (Mutex::new(items), AtomicBool::new(false));
    let next = || lock(&items).next().filter(|_| !stopped.load(Ordering::Relaxed));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = next() {
                    if one(item).is_break() {
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if stopped.into_inner() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn all_items_are_done_once_and_a_break_ends_them() {
        let sum = AtomicUsize::new(0);
        let add = |item: usize| {
            sum.fetch_add(item, Ordering::Relaxed);
            if item == 200 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(each(0..100, add).is_continue());
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
        assert!(each(200..1_000_000_000, add).is_break());
        assert!(each(0..0, add).is_continue());
    }
}
