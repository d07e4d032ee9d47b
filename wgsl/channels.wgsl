// Moving channels: concatenation, slices, and rows added to or summed over pixels.
//
//   copy        y[r, j] = a[r, a_from + j] for j < a_count, then b[r, j - a_count] for b_count more, zero in the rest;
//               with `y_from` the whole lies further right and zeros stand before it. Layouts [rows, pitch].
//   add_rowwise y[n, p, c] = x[n, p, c] + m[n, c]
//   sum_pixels  y[n, c] = scale * sum_p x[n, p, c], in a fixed order
// An invocation makes one vec4 (of `sum_pixels`: over all pixels of a slice).

override WG: u32;

struct CopySize {
    rows: u32,
    y_quads: u32,
    a_pitch: u32,
    b_pitch: u32,
    a_from: u32,
    a_count: u32,
    b_count: u32,
    y_from: u32,
}

struct PixelSize {
    batch: u32,
    pixels: u32,
    quads: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> size: CopySize;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> add_size: PixelSize;

@group(0) @binding(1) var<storage, read_write> total: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> sum_size: PixelSize;

fn value(row: u32, column: u32) -> f32 {
    if (column < size.y_from) {
        return 0.0;
    }
    let j = column - size.y_from;
    if (j < size.a_count) {
        return a[row * size.a_pitch + size.a_from + j];
    }
    if (j < size.a_count + size.b_count) {
        return b[row * size.b_pitch + j - size.a_count];
    }
    return 0.0;
}

@compute @workgroup_size(WG)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let row = index / size.y_quads;
    if (row >= size.rows) {
        return;
    }
    let column = index % size.y_quads * 4u;
    y[index] =
        vec4<f32>(value(row, column), value(row, column + 1u), value(row, column + 2u), value(row, column + 3u));
}

@compute @workgroup_size(WG)
fn add_rowwise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / add_size.quads / add_size.pixels;
    if (n >= add_size.batch) {
        return;
    }
    sum[index] = x[index] + m[n * add_size.quads + index % add_size.quads];
}

@compute @workgroup_size(WG)
fn sum_pixels(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / sum_size.quads;
    if (n >= sum_size.batch) {
        return;
    }
    let base_at = n * sum_size.pixels * sum_size.quads + index % sum_size.quads;
    var value = vec4<f32>(0.0);
    for (var p = 0u; p < sum_size.pixels; p++) {
        value += x[base_at + p * sum_size.quads];
    }
    total[index] = sum_size.scale * value;
}
