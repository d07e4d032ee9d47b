// Column sums in a fixed order: y[s, j] = sum of x[i, j] over the rows i of slice s.
//
// Layouts: x rows of `quads` vec4 that begin `stride` apart, the first of them at `first`; y [slices, quads] of vec4. One launch
// with several slices and a second one over its result sum many rows deterministically; the gradients of biases and weights end
// here.
// An invocation makes one vec4.

override WG: u32;

struct Size {
    rows: u32,
    quads: u32,
    slices: u32,
    slice_rows: u32,
    stride: u32,
    first: u32,
    pad0: u32,
    pad1: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let slice = index / size.quads;
    if (slice >= size.slices) {
        return;
    }
    let column = index % size.quads;
    let first = slice * size.slice_rows;
    let end = min(first + size.slice_rows, size.rows);
    var sum = vec4<f32>(0.0);
    for (var row = first; row < end; row++) {
        sum += vec4<f32>(x[size.first + row * size.stride + column]);
    }
    y[index] = sum;
}
