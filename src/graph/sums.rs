//! Sums of rows in a fixed order, by which the gradients of parameters end: `wgsl/reduce_rows.wgsl`, and many of them in one launch
//! `wgsl/sum_groups.wgsl`. They are the compiler's own kernels, for it decides when such sums are made ([`super::gather`]).

use crate::gpu::{Kernel, Launch, Slice, spread};
use bytemuck::{Pod, Zeroable};

/// Invocations of a workgroup of `reduce_rows`.
const WORKGROUP: u64 = 32;
/// Vec4s that a workgroup of `sum_groups` makes.
const GROUPED: usize = 64;
/// Most results and parts of one launch, `RESULTS` and `PARTS` in the shader.
const RESULTS: usize = 128;
const PARTS: usize = 256;
/// Marks a result that is added to what is there, `ONTO` in the shader.
const ONTO: u32 = 1 << 31;

const ROWS_FILE: &str = "reduce_rows";
const GROUPS_FILE: &str = "sum_groups";

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Rows {
    rows: u32,
    quads: u32,
    slices: u32,
    slice_rows: u32,
    stride: u32,
    first: u32,
    pad: [u32; 2],
}

/// A sum over rows of `quads` vec4s: y = Σ x\[first + r · stride ..\] over `rows` rows r, all but the slices in vec4s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub rows: usize,
    pub quads: usize,
    pub stride: usize,
    pub first: usize,
    pub x: Slice,
    pub y: Slice,
    /// Whether it begins with −0, so that one row is copied with its signs of zeros; sums begin with 0.
    pub copies: bool,
}

impl Sum {
    /// The copy of `x` to `y`.
    pub(super) fn copy(x: Slice, y: Slice) -> Sum {
        Sum { rows: 1, quads: y.quads(), stride: y.quads(), first: 0, x, y, copies: true }
    }

    /// The sum, cut into `slices` sums of as many consecutive rows each, which lie one after the other in y.
    pub(crate) fn launch(&self, slices: usize) -> Launch {
        let uniform = Rows {
            rows: self.rows as u32,
            quads: self.quads as u32,
            slices: slices as u32,
            slice_rows: self.rows.div_ceil(slices) as u32,
            stride: self.stride as u32,
            first: self.first as u32,
            pad: [0; 2],
        };
        Launch {
            kernel: Kernel {
                file: ROWS_FILE,
                source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/reduce_rows.wgsl")),
                entry: "forward",
                constants: vec![("WG", WORKGROUP as f64)],
                halves: Vec::new(),
            },
            reads: vec![self.x],
            writes: vec![self.y],
            uniform: bytemuck::bytes_of(&uniform).to_vec(),
            workgroups: spread(((slices * self.quads) as u64).div_ceil(WORKGROUP)),
            multiply_adds: 0,
            spare: 0,
        }
        .stored(&["X"])
    }

    /// The whole sum of f32 that a launch is; `None`: it is something else.
    pub(super) fn of(launch: &Launch) -> Option<Sum> {
        let (&[x], &[y]) = (launch.reads.as_slice(), launch.writes.as_slice()) else { return None };
        if launch.kernel.file != ROWS_FILE || x.half {
            return None;
        }
        let size: Rows = *bytemuck::try_from_bytes(&launch.uniform).ok()?;
        let [rows, quads, stride, first] =
            [size.rows, size.quads, size.stride, size.first].map(|number| number as usize);
        (size.slices == 1).then_some(Sum { rows, quads, stride, first, x, y, copies: false })
    }
}

/// A result of [`grouped`]: sums whose total is `y`, or is added to what is there.
#[derive(Clone, Debug)]
pub(super) struct Total {
    pub y: Slice,
    pub parts: Vec<Sum>,
    pub onto: bool,
}

/// The first bytes that all slices lie in, as one slice.
fn around(slices: impl Iterator<Item = Slice> + Clone) -> Option<Slice> {
    let first = slices.clone().next()?;
    let offset = slices.clone().map(|slice| slice.offset).min()?;
    let end = slices.map(|slice| slice.offset + slice.bytes).max()?;
    Some(Slice { offset, bytes: end - offset, ..first })
}

/// The launches that make `totals`, whose sums read one buffer and whose results lie in one other; none binds more than
/// `most` bytes of either, unless a single result does.
pub(super) fn grouped(totals: &[Total], most: u64) -> Vec<Launch> {
    let mut launches = Vec::new();
    let mut from = 0;
    while from < totals.len() {
        let fits = |end: usize| {
            let some = &totals[from..end];
            let bytes = |range: Option<Slice>| range.map_or(0, |slice| slice.bytes);
            some.len() <= RESULTS
                && some.iter().map(|total| total.parts.len()).sum::<usize>() <= PARTS
                && bytes(around(some.iter().map(|total| total.y))) <= most
                && bytes(around(some.iter().flat_map(|total| &total.parts).map(|part| part.x))) <= most
        };
        let mut end = from + 1;
        while end < totals.len() && fits(end + 1) {
            end += 1;
        }
        launches.extend(one_launch(&totals[from..end]));
        from = end;
    }
    launches
}

fn one_launch(totals: &[Total]) -> Option<Launch> {
    if let [Total { y, parts, onto: false }] = totals
        && let [sum @ Sum { copies: false, .. }] = parts.as_slice()
    {
        return Some(Sum { y: *y, ..*sum }.launch(1));
    }
    let x = around(totals.iter().flat_map(|total| &total.parts).map(|part| part.x))?;
    let y = around(totals.iter().map(|total| total.y))?;
    let mut results = vec![[0u32; 4]; RESULTS + 1];
    let mut table = vec![[0u32; 4]; PARTS];
    let (mut workgroups, mut part) = (0, 0);
    for (total, result) in totals.iter().zip(&mut results) {
        let quads = total.parts.first().map_or(0, |sum| sum.quads);
        let onto = if total.onto { ONTO } else { 0 };
        *result = [workgroups, ((total.y.offset - y.offset) / 16) as u32, quads as u32 | onto, part as u32];
        for (sum, entry) in total.parts.iter().zip(&mut table[part..]) {
            let first = (sum.x.offset - x.offset) / 16 + sum.first as u64;
            let begin = if sum.copies { -0.0f32 } else { 0.0 };
            *entry = [first as u32, sum.stride as u32, sum.rows as u32, begin.to_bits()];
        }
        workgroups += quads.div_ceil(GROUPED) as u32;
        part += total.parts.len();
    }
    results[totals.len()] = [workgroups, 0, 0, part as u32];
    // Of the ranges around them: every row of every part, and the results.
    let rows = totals.iter().flat_map(|total| &total.parts).map(|sum| sum.rows * sum.quads).sum::<usize>();
    let touched = 16 * rows as u64 + totals.iter().map(|total| total.y.bytes).sum::<u64>();
    let mut uniform = bytemuck::bytes_of(&[totals.len() as u32, workgroups, 0, 0]).to_vec();
    uniform.extend_from_slice(bytemuck::cast_slice(&results));
    uniform.extend_from_slice(bytemuck::cast_slice(&table));
    let launch = Launch {
        kernel: Kernel {
            file: GROUPS_FILE,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/sum_groups.wgsl")),
            entry: "forward",
            constants: vec![("WG", GROUPED as f64)],
            halves: Vec::new(),
        },
        reads: vec![x],
        writes: vec![y],
        uniform,
        workgroups: spread(u64::from(workgroups)),
        multiply_adds: 0,
        spare: 0,
    };
    Some(launch.spanning(&[x, y], touched))
}

/// Where the results of a launch of many sums lie, one by one; `None`: it is something else.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn results(launch: &Launch) -> Option<Vec<Slice>> {
    if launch.kernel.file != GROUPS_FILE {
        return None;
    }
    let y = *launch.writes.first()?;
    let rows: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(&launch.uniform);
    let count = rows.first()?[0] as usize;
    let of = |row: &[u32; 4]| {
        let [_, first, quads, _] = row.map(u64::from);
        Slice { offset: y.offset + 16 * first, bytes: 16 * (quads & !u64::from(ONTO)), ..y }
    };
    Some(rows.get(1..=count)?.iter().map(of).collect())
}
