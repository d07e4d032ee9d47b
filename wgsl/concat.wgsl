// Concatenation of two tensors along the channels where both are whole vec4s: y[r] = (a[r], b[r]).
//
// Layouts: a [rows, a_quads], b [rows, b_quads], y [rows, a_quads + b_quads], of vec4. An invocation makes one vec4.
// Channel counts that are no multiple of four go through channels.wgsl.

override WG: u32;

struct Size {
    rows: u32,
    a_quads: u32,
    b_quads: u32,
    // First quad of a row of `a` that is read; rows of `a` have a_pitch quads.
    a_from: u32,
    a_pitch: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let quads = size.a_quads + size.b_quads;
    let row = index / quads;
    if (row >= size.rows) {
        return;
    }
    let column = index % quads;
    if (column < size.a_quads) {
        y[index] = a[row * size.a_pitch + size.a_from + column];
    } else {
        y[index] = b[row * size.b_quads + column - size.a_quads];
    }
}
