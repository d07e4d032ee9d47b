//! Memory planning: tensors share a few buffers by lifetime, size and use.
//!
//! WebGPU refuses one buffer bound both for reading and for writing in a dispatch, even at disjoint ranges. So tensors
//! are packed at offsets into several buffers ("slots") such that what a launch reads is never in a slot it writes.

use std::cmp::Reverse;

/// Offsets are multiples of this (WebGPU's `minStorageBufferOffsetAlignment`).
pub(super) const ALIGNMENT: u64 = 256;
/// How often the order of placing is changed in search of a smaller plan, times the number of tensors: packing takes
/// time that grows with its square.
const MOVES: usize = 400_000;

/// A tensor's size and the launches during which it must exist, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Size in bytes.
    pub bytes: u64,
    /// Launch that first writes it.
    pub first: usize,
    /// Launch that last uses it.
    pub last: usize,
}

impl Lifetime {
    fn meets(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where each tensor lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Slot of each tensor.
    pub slot: Vec<usize>,
    /// First byte of each tensor inside its slot, a multiple of 256.
    pub offset: Vec<u64>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Most bytes alive at once: no plan can need less.
    pub lower_bound: u64,
    /// Bytes without any reuse.
    pub unshared: u64,
}

impl MemoryPlan {
    /// Bytes of all slots.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().sum()
    }
}

/// Packs `tensors` into slots of at most `max_slot` bytes (a larger tensor gets one of its own). `conflicts` lists pairs
/// of tensors that a launch reads and writes, which must not share a slot. With `reuse` off every tensor has its own.
pub fn plan_memory(
    tensors: &[Lifetime],
    conflicts: &[(usize, usize)],
    max_slot: u64,
    reuse: bool,
) -> MemoryPlan {
    let mut enemies = vec![Vec::new(); tensors.len()];
    // Tensors that are not there are in nobody's way.
    for &(a, b) in conflicts.iter().filter(|(a, b)| a.max(b) < &tensors.len()) {
        enemies[a].push(b);
        enemies[b].push(a);
    }
    let mut plan = if reuse {
        best_packing(tensors, &enemies, max_slot)
    } else {
        MemoryPlan {
            slot: (0..tensors.len()).collect(),
            offset: vec![0; tensors.len()],
            slots: tensors.iter().map(|t| t.bytes).collect(),
            ..MemoryPlan::default()
        }
    };
    plan.lower_bound = peak(tensors);
    plan.unshared = tensors.iter().map(|t| t.bytes).sum();
    plan
}

/// Most bytes alive at once.
fn peak(tensors: &[Lifetime]) -> u64 {
    let mut events: Vec<(usize, i64)> = Vec::new();
    for t in tensors {
        events.push((2 * t.first, t.bytes as i64));
        events.push((2 * t.last + 1, -(t.bytes as i64)));
    }
    events.sort_unstable();
    let (mut live, mut peak) = (0i64, 0i64);
    for (_, change) in events {
        live += change;
        peak = peak.max(live);
    }
    peak as u64
}

/// Greedy packing in several orders, then of the best order with single tensors moved; the smallest result.
fn best_packing(tensors: &[Lifetime], enemies: &[Vec<usize>], max_slot: u64) -> MemoryPlan {
    let span = |i: usize| tensors[i].last.saturating_sub(tensors[i].first) as u64 + 1;
    let sorted = |key: &dyn Fn(usize) -> u64| {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| (Reverse(key(i)), tensors[i].first, i));
        order
    };
    let sizes = sorted(&|i| tensors[i].bytes);
    let areas = sorted(&|i| tensors[i].bytes.saturating_mul(span(i)));
    let spans = sorted(&span);
    let mut best: Option<(MemoryPlan, Vec<usize>)> = None;
    for order in [sizes, areas, spans] {
        // Of equals the first stays.
        let limit = best.as_ref().map_or(u64::MAX, |(known, _)| known.bytes().saturating_sub(1));
        if let Some(plan) = pack(tensors, enemies, max_slot, &order, limit) {
            best = Some((plan, order));
        }
    }
    let Some((mut plan, mut order)) = best else { return MemoryPlan::default() };
    let enough = peak(tensors) / 100 * 103;
    // A generator that gives the same plan everywhere.
    let mut state = 1u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..MOVES / tensors.len().max(100) {
        if plan.bytes() <= enough || order.len() < 2 {
            break;
        }
        let mut other = order.clone();
        for _ in 0..1 + below(3) {
            let moved = other.remove(below(order.len()));
            other.insert(below(order.len()), moved);
        }
        if let Some(packed) = pack(tensors, enemies, max_slot, &other, plan.bytes()) {
            (plan, order) = (packed, other);
        }
    }
    plan
}

/// Places the tensors in `order`, each where the slots grow least, then where the gap is tightest; `None` as soon as the
/// slots exceed `limit` bytes together, which they never fall below again.
fn pack(
    tensors: &[Lifetime],
    enemies: &[Vec<usize>],
    max_slot: u64,
    order: &[usize],
    limit: u64,
) -> Option<MemoryPlan> {
    let mut total = 0;
    let mut plan = MemoryPlan {
        slot: vec![usize::MAX; tensors.len()],
        offset: vec![0; tensors.len()],
        ..MemoryPlan::default()
    };
    let mut members: Vec<Vec<usize>> = Vec::new();
    for &i in order {
        let bytes = tensors[i].bytes.next_multiple_of(ALIGNMENT);
        // (growth, bytes of the gap, slot, offset); a slot of its own costs its size.
        let mut best = (bytes, u64::MAX, plan.slots.len(), 0);
        for (slot, inside) in members.iter().enumerate() {
            if enemies[i].iter().any(|e| plan.slot[*e] == slot) {
                continue;
            }
            let mut busy: Vec<(u64, u64)> = inside
                .iter()
                .filter(|&&m| tensors[m].meets(&tensors[i]))
                .map(|&m| (plan.offset[m], plan.offset[m] + tensors[m].bytes.next_multiple_of(ALIGNMENT)))
                .collect();
            busy.sort_unstable();
            let end = plan.slots[slot];
            busy.push((u64::MAX, u64::MAX));
            let mut at = 0;
            for (from, to) in busy {
                let last = from == u64::MAX;
                let gap = if last { end.saturating_sub(at) } else { from.saturating_sub(at) };
                let growth = if last { bytes.saturating_sub(gap) } else { 0 };
                if (gap >= bytes || last) && at + bytes <= max_slot {
                    best = best.min((growth, gap, slot, at));
                }
                at = at.max(to);
            }
        }
        let (growth, _, slot, offset) = best;
        if slot == members.len() {
            members.push(Vec::new());
            plan.slots.push(0);
        }
        plan.slots[slot] += growth;
        total += growth;
        if total > limit {
            return None;
        }
        members[slot].push(i);
        plan.slot[i] = slot;
        plan.offset[i] = offset;
    }
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_tensors_are_disjoint_and_readers_apart_from_writers() {
        let mut state = 7u64;
        let mut next = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..60 {
            let tensors: Vec<Lifetime> = (0..40)
                .map(|_| {
                    let first = next(60) as usize;
                    Lifetime { bytes: 16 * (1 + next(500)), first, last: first + next(12) as usize }
                })
                .collect();
            let conflicts: Vec<(usize, usize)> =
                (0..60).map(|_| (next(40) as usize, next(40) as usize)).filter(|(a, b)| a != b).collect();
            let max_slot = 16_000;
            let plan = plan_memory(&tensors, &conflicts, max_slot, true);
            for (i, a) in tensors.iter().enumerate() {
                let end = plan.offset[i] + a.bytes;
                assert!(end <= plan.slots[plan.slot[i]] && plan.slots[plan.slot[i]] <= max_slot);
                assert_eq!(plan.offset[i] % ALIGNMENT, 0);
                for (j, b) in tensors.iter().enumerate().skip(i + 1) {
                    let apart = plan.slot[i] != plan.slot[j]
                        || end <= plan.offset[j]
                        || plan.offset[j] + b.bytes <= plan.offset[i];
                    assert!(!a.meets(b) || apart, "{i} and {j} overlap while both live");
                }
            }
            assert!(conflicts.iter().all(|(a, b)| plan.slot[*a] != plan.slot[*b]));
            assert!(plan.lower_bound <= plan.bytes());
            assert_eq!(plan_memory(&tensors, &conflicts, max_slot, false).bytes(), plan.unshared);
        }
    }

    #[test]
    fn two_small_tensors_share_what_a_large_one_left() {
        let large = Lifetime { bytes: 1024, first: 0, last: 1 };
        let small = |first| Lifetime { bytes: 512, first, last: 3 };
        let plan = plan_memory(&[large, small(2), small(2)], &[], u64::MAX, true);
        assert_eq!((plan.bytes(), plan.lower_bound), (1024, 1024));
        // A launch that reads one and writes the other needs them in two buffers.
        let plan = plan_memory(&[large, small(2), small(2)], &[(1, 2)], u64::MAX, true);
        assert_eq!(plan.bytes(), 1536);
    }
}
