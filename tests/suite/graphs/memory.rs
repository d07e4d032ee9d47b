//! Whether memory that is shared is shared soundly: told from the same launches over memory of their own.

use duet::gpu::{BufferId, BufferSpec, Program, Slice};
use std::collections::{BTreeMap, HashSet};

/// A tensor: launches from its first to its last use, and where it lies in the shared memory.
struct Tensor {
    first: usize,
    last: usize,
    buffer: BufferId,
    offset: u64,
    bytes: u64,
}

fn is_slot(program: &Program, slice: &Slice) -> bool {
    matches!(program.buffers[slice.buffer.0 as usize], BufferSpec::Slot { .. })
}

/// Checks the launches of `shared`, which must be those of `apart` over fewer buffers:
/// no launch reads from a buffer that it writes; a tensor is written before it is read; and what another is written over
/// is never used again.
pub fn check(shared: &Program, apart: &Program) {
    assert_eq!(shared.launches.len(), apart.launches.len());
    let mut tensors: BTreeMap<BufferId, Tensor> = BTreeMap::new();
    for (time, (there, own)) in shared.launches.iter().zip(&apart.launches).enumerate() {
        assert_eq!(
            (&there.kernel, &there.uniform, there.workgroups),
            (&own.kernel, &own.uniform, own.workgroups)
        );
        let written: HashSet<BufferId> = there.writes.iter().map(|s| s.buffer).collect();
        let clash = there.reads.iter().find(|s| written.contains(&s.buffer));
        assert!(clash.is_none(), "launch {time}, {}: reads and writes one buffer", there.kernel);
        let reads = there.reads.iter().zip(&own.reads).map(|pair| (pair, false));
        let writes = there.writes.iter().zip(&own.writes).map(|pair| (pair, true));
        let kernel = &there.kernel;
        for ((there, own), writes) in reads.chain(writes) {
            assert_eq!(there.bytes, own.bytes);
            assert_eq!(there.offset % 256, 0, "launch {time}: WebGPU binds at multiples of 256 bytes");
            let room = shared.buffers[there.buffer.0 as usize].bytes();
            assert!(there.offset + there.bytes <= room, "launch {time}: beyond its buffer");
            if !is_slot(apart, own) {
                assert!(!is_slot(shared, there), "launch {time}: a named buffer became a slot");
                continue;
            }
            let bytes = apart.buffers[own.buffer.0 as usize].bytes();
            let offset = there.offset - own.offset;
            let tensor = tensors.entry(own.buffer).or_insert_with(|| {
                assert!(writes, "launch {time}, {}: reads memory that nothing has written", kernel);
                Tensor { first: time, last: time, buffer: there.buffer, offset, bytes }
            });
            assert_eq!(
                (tensor.buffer, tensor.offset),
                (there.buffer, offset),
                "launch {time}: the tensor moved"
            );
            tensor.last = time;
        }
    }
    let tensors: Vec<Tensor> = tensors.into_values().collect();
    for (number, a) in tensors.iter().enumerate() {
        for b in &tensors[number + 1..] {
            let meet = a.first <= b.last && b.first <= a.last;
            let overlap =
                a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
            assert!(
                !(meet && overlap),
                "tensors of launches {}..={} and {}..={} lie over each other",
                a.first,
                a.last,
                b.first,
                b.last
            );
        }
    }
}

#[test]
fn faults_of_sharing_are_found() {
    use duet::gpu::{Kernel, Launch};
    let launch = |reads: &[(u32, u64)], writes: &[(u32, u64)]| {
        let list = |list: &[(u32, u64)]| {
            list.iter()
                .map(|(buffer, offset)| Slice {
                    buffer: BufferId(*buffer),
                    offset: *offset,
                    bytes: 256,
                    half: false,
                })
                .collect()
        };
        let kernel = Kernel { file: "f", source: "", entry: "e", constants: Vec::new(), halves: Vec::new() };
        let (reads, writes) = (list(reads), list(writes));
        Launch {
            kernel,
            reads,
            writes,
            uniform: Vec::new(),
            workgroups: [1, 1, 1],
            multiply_adds: 0,
            spare: 0,
        }
    };
    // a, b of a, c of b, d of a and c.
    let program = |places: [(u32, u64); 4], slots: usize| {
        let [a, b, c, d] = places;
        Program {
            buffers: vec![BufferSpec::Slot { bytes: 512 }; slots],
            launches: vec![launch(&[], &[a]), launch(&[a], &[b]), launch(&[b], &[c]), launch(&[a, c], &[d])],
        }
    };
    let apart = program([(0, 0), (1, 0), (2, 0), (3, 0)], 4);
    let mut own = apart.clone();
    own.buffers = vec![BufferSpec::Slot { bytes: 256 }; 4];
    check(&program([(0, 0), (1, 0), (0, 256), (1, 0)], 2), &own);
    for wrong in [
        // c over a, which is read later.
        program([(0, 0), (1, 0), (0, 0), (1, 0)], 2),
        // b where a is read.
        program([(0, 0), (0, 256), (1, 0), (2, 0)], 3),
        // Beyond the end.
        program([(0, 0), (1, 0), (0, 512), (1, 0)], 2),
        // At no binding's offset.
        program([(0, 0), (1, 0), (2, 16), (3, 0)], 4),
    ] {
        assert!(std::panic::catch_unwind(|| check(&wrong, &own)).is_err());
    }
}
