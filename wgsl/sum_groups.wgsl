// Many sums of rows in one launch, where the gradients of a training step end: of each result e
//   y[e] (+)= sum over its parts p of (sum over the rows r of p of x[first_p + r * stride_p + j])
// in the order of parts and rows, each part summed by itself first, as reduce_rows.wgsl and an addition would.
//
// x, y: vec4s of one buffer each; the table says where in them. A workgroup makes WG vec4s of one result, an invocation one.

override WG: u32;

const RESULTS: u32 = 128u;
const PARTS: u32 = 256u;
// Of a result's third number: whether it is added to what is there.
const ONTO: u32 = 0x80000000u;

struct Table {
    count: u32,
    workgroups: u32,
    pad0: u32,
    pad1: u32,
    // First workgroup, first vec4 of y, vec4s and ONTO, first part; one more ends the list.
    results: array<vec4<u32>, RESULTS + 1u>,
    // First vec4 of x, vec4s from row to row, rows, and the bits of what the sum begins with: 0, or -0 where it is a copy.
    parts: array<vec4<u32>, PARTS>,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> table: Table;

// The rows of one part at column `quad`, one after the other; four are on their way at a time.
fn sum_part(part: vec4<u32>, quad: u32) -> vec4<f32> {
    let stride = part.y;
    var at = part.x + quad;
    let end = at + part.z * stride;
    let fours = at + (part.z & ~3u) * stride;
    var sum = vec4<f32>(bitcast<f32>(part.w));
    for (; at < fours; at += 4u * stride) {
        let x0 = x[at];
        let x1 = x[at + stride];
        let x2 = x[at + 2u * stride];
        let x3 = x[at + 3u * stride];
        sum = (((sum + x0) + x1) + x2) + x3;
    }
    for (; at < end; at += stride) {
        sum += x[at];
    }
    return sum;
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.y * groups.x + group.x;
    if (index >= table.workgroups) {
        return;
    }
    // The last result that begins at this workgroup or before it.
    var number = 0u;
    for (var half = RESULTS / 2u; half > 0u; half /= 2u) {
        let middle = number + half;
        if (middle < table.count && table.results[middle].x <= index) {
            number = middle;
        }
    }
    let result = table.results[number];
    let quad = (index - result.x) * WG + local;
    if (quad >= (result.z & ~ONTO)) {
        return;
    }
    let at = result.y + quad;
    let first = result.w;
    let end = min(table.results[number + 1u].w, PARTS);
    let onto = (result.z & ONTO) != 0u;
    var total = y[at];
    for (var part = first; part < end; part++) {
        let sum = sum_part(table.parts[part], quad);
        total = select(sum, total + sum, onto || part > first);
    }
    y[at] = total;
}
