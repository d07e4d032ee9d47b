// Each sample divided by the root mean square of its elements: y[n] = x[n] / (sqrt(sum x[n]^2 / count) + 1e-12).
//
//   squares    parts: [samples, parts] sums of squares, part p of the vec4s p, p + parts, ...
//   normalize  y of x and the parts
// Layouts: x, y [samples, quads] vec4; pads are zero and do not count. Sums have a fixed order.
// An invocation makes one part, or one vec4.

override WG: u32;
override PARTS: u32 = 32u;

struct Size {
    samples: u32,
    quads: u32,
    // 1 divided by the elements of a sample.
    share: f32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<uniform> size: Size;

@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> whole: Size;

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / PARTS;
    if (n >= size.samples) {
        return;
    }
    let begin = n * size.quads;
    let end = begin + size.quads;
    var sum = vec4<f32>(0.0);
    for (var at = begin + index % PARTS; at < end; at += PARTS) {
        let v = x[at];
        sum += v * v;
    }
    parts[index] = (sum.x + sum.y) + (sum.z + sum.w);
}

@compute @workgroup_size(WG)
fn normalize_samples(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / whole.quads;
    if (n >= whole.samples) {
        return;
    }
    var sum = 0.0;
    for (var part = 0u; part < PARTS; part++) {
        sum += sums[n * PARTS + part];
    }
    y[index] = x[index] / (sqrt(sum * whole.share) + 1e-12);
}
