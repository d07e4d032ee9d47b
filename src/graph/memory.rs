//! Memory planning: whole-buffer slots reused by lifetime.
//!
//! WebGPU refuses one buffer bound both for reading and for writing in a dispatch, even at disjoint ranges, so tensors
//! share memory only as whole slots, one after the other.

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

/// Which slot each tensor lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Slot of each tensor.
    pub slot: Vec<usize>,
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

/// Assigns slots: largest tensors first, each into the slot that fits it best among those free during its life.
/// With `reuse` off every tensor has its own slot.
pub fn plan_memory(tensors: &[Lifetime], reuse: bool) -> MemoryPlan {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(tensors[i].bytes), tensors[i].first, i));
    let mut plan = MemoryPlan { slot: vec![0; tensors.len()], ..MemoryPlan::default() };
    let mut busy: Vec<Vec<(usize, usize)>> = Vec::new();
    for i in order {
        let Lifetime { bytes, first, last } = tensors[i];
        let free = |spans: &Vec<(usize, usize)>| spans.iter().all(|(from, to)| last < *from || *to < first);
        // Sizes fall, so every slot is large enough: the one whose neighbours in time are nearest wastes least.
        let idle = |spans: &Vec<(usize, usize)>| {
            let before = spans.iter().filter(|s| s.1 < first).map(|s| first - s.1).min();
            let after = spans.iter().filter(|s| s.0 > last).map(|s| s.0 - last).min();
            before.into_iter().chain(after).min().unwrap_or(usize::MAX)
        };
        let found = (0..busy.len()).filter(|&s| reuse && free(&busy[s])).min_by_key(|&s| idle(&busy[s]));
        let slot = found.unwrap_or_else(|| {
            busy.push(Vec::new());
            plan.slots.push(bytes);
            busy.len() - 1
        });
        busy[slot].push((first, last));
        plan.slot[i] = slot;
    }
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
    plan.lower_bound = peak as u64;
    plan.unshared = tensors.iter().map(|t| t.bytes).sum();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_live_tensors_share_a_slot() {
        let mut state = 7u64;
        let mut next = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let tensors: Vec<Lifetime> = (0..40)
                .map(|_| {
                    let first = next(60) as usize;
                    Lifetime { bytes: 16 * (1 + next(50)), first, last: first + next(12) as usize }
                })
                .collect();
            let plan = plan_memory(&tensors, true);
            for (i, a) in tensors.iter().enumerate() {
                assert!(plan.slots[plan.slot[i]] >= a.bytes);
                for (j, b) in tensors.iter().enumerate().skip(i + 1) {
                    let overlap = a.first <= b.last && b.first <= a.last;
                    assert!(
                        !overlap || plan.slot[i] != plan.slot[j],
                        "{i} and {j} share a slot while both live"
                    );
                }
            }
            assert!(plan.lower_bound <= plan.bytes() && plan.bytes() <= plan.unshared);
            assert_eq!(plan_memory(&tensors, false).bytes(), plan.unshared);
        }
    }
}
