//! The few large buffers that hold what many gathered sums read ([`super::gather`]).

use super::memory::ALIGNMENT;
use crate::gpu::{BufferId, Slice};
use std::collections::HashMap;

/// Bytes from which on an arena counts as full: on a GPU, where a launch costs more than memory does, and elsewhere.
const ARENA_BYTES: [u64; 2] = [32 << 20, 2 << 20];

/// How large an arena may be where a launch may bind `most` bytes.
pub(super) fn arena_bytes(gpu: bool, most: u64) -> u64 {
    ARENA_BYTES[usize::from(!gpu)].min(most)
}

/// Where buffers lie that sums read.
#[derive(Default)]
pub(super) struct Arenas {
    places: HashMap<BufferId, (BufferId, u64)>,
    current: Option<BufferId>,
}

impl Arenas {
    /// Gives a buffer a place, in a new arena where the last one is full: then true.
    pub(super) fn admit(&mut self, buffer: BufferId, bytes: &mut Vec<u64>, most: u64) -> bool {
        if self.places.contains_key(&buffer) {
            return false;
        }
        let size = bytes[buffer.0 as usize];
        let room = |arena: &BufferId| {
            let used = bytes[arena.0 as usize];
            used + size <= most || used == 0
        };
        let known = self.current.filter(room);
        let arena = known.unwrap_or(BufferId(bytes.len() as u32));
        if known.is_none() {
            bytes.push(0);
        }
        let offset = bytes[arena.0 as usize];
        bytes[arena.0 as usize] = (offset + size).next_multiple_of(ALIGNMENT);
        self.places.insert(buffer, (arena, offset));
        self.current.replace(arena).is_some() && known.is_none()
    }

    pub(super) fn move_to(&self, slice: &mut Slice) {
        if let Some((arena, offset)) = self.places.get(&slice.buffer) {
            slice.buffer = *arena;
            slice.offset += offset;
        }
    }
}
