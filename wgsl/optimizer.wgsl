// AdamW (Loshchilov and Hutter 2019) and an exponential moving average in one pass over flat memory; sums of gradients.
//
//   adamw_ema   g = s * gradient; p -= lr * wd * p; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2;
//               p -= lr * c1 * m / (sqrt(v) * c2 + eps); ema = r * ema + (1 - r) * p
//               with c1 = 1 / (1 - b1^k), c2 = 1 / sqrt(1 - b2^k), and (1 - b1), (1 - b2), (1 - r) given by the host
//   accumulate  sum = gradient where first[0] is 1, else sum + gradient
//   clip        norm = s * sqrt(x[0]) of a sum of squares x; clipped = hyper with s * min(1, max_norm / norm), NaN where norm is
//   squares     sums of squares of `slices` parts of x; run again over its own result (`power` 1) it gives one sum
// All arrays are [quads] vec4, or parts of them; an invocation handles one vec4, of `squares` one part.

override WG: u32;
// Of `adamw_ema`: 1 where a scale s of 0 asks for a step that changes nothing.
override SKIPS: u32 = 0u;

struct Size {
    quads: u32,
    slices: u32,
    slice_quads: u32,
    power: u32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> first_moment: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> second_moment: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> adam_size: Size;

@group(0) @binding(1) var<storage, read> first: array<u32>;
@group(0) @binding(2) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> sum_size: Size;

struct Clip {
    max_norm: f32,
    pad_0: u32,
    pad_1: u32,
    pad_2: u32,
}

@group(0) @binding(2) var<storage, read_write> norm: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> clipped: array<f32>;
@group(0) @binding(4) var<uniform> limit: Clip;

@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<uniform> square_size: Size;

@compute @workgroup_size(WG)
fn adamw_ema(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= adam_size.quads) {
        return;
    }
    if (SKIPS != 0u && hyper[8] == 0.0) {
        return;
    }
    // hyper: lr, b1, b2, eps, lr * wd, c1, c2, r, s, 1 - b1, 1 - b2, 1 - r
    let g = hyper[8] * gradient[index];
    let m = hyper[1] * first_moment[index] + hyper[9] * g;
    let v = hyper[2] * second_moment[index] + hyper[10] * g * g;
    var p = params[index];
    p -= hyper[4] * p;
    p -= hyper[0] * hyper[5] * m / (sqrt(v) * hyper[6] + hyper[3]);
    first_moment[index] = m;
    second_moment[index] = v;
    params[index] = p;
    average[index] = hyper[7] * average[index] + hyper[11] * p;
}

@compute @workgroup_size(WG)
fn accumulate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= sum_size.quads) {
        return;
    }
    var value = gradient[index];
    if (first[0] == 0u) {
        value += sum[index];
    }
    sum[index] = value;
}

@compute @workgroup_size(WG)
fn clip(@builtin(local_invocation_index) local: u32) {
    if (local >= 12u) {
        return;
    }
    // hyper[8] is the gradients' scale.
    let total = hyper[8] * sqrt(gradient[0].x);
    var value = hyper[local];
    // Not `total > max_norm`: a norm that is NaN must give a scale that is NaN.
    if (local == 8u && !(total <= limit.max_norm)) {
        value *= limit.max_norm / total;
    }
    clipped[local] = value;
    if (local == 0u) {
        norm[0] = vec4<f32>(total, 0.0, 0.0, 0.0);
    }
}

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= square_size.slices) {
        return;
    }
    let base_at = index * square_size.slice_quads;
    let end = min(base_at + square_size.slice_quads, square_size.quads);
    var total = vec4<f32>(0.0);
    for (var i = base_at; i < end; i++) {
        let v = gradient[i];
        total += select(v, v * v, square_size.power == 2u);
    }
    partials[index] = total.x + total.y + total.z + total.w;
}
