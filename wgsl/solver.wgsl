// One denoising step of an image in place, whatever the solver: the numbers of src/diffusion/solver.rs.
//
//   x0 = from_x * x + from_out * out, clipped to -1..1 if asked for and finite, + guide_x_start * g
//   x' = a * x + b * x0 + c * (pred_xstart as it was) + d * s * z + guide_x * s * s * g
// where g is the gradient of the classifier's log probability on x (paper Eq. 12; Dhariwal and Nichol 2021) and s = 1, or of
// a learned variance s * s = exp(f * largest + (1 - f) * least) with f = (v + 1) / 2. What a zero multiplies is not read.
// Layouts: x, z, g, pred_xstart [batch, pixels, pitch]; model_out [batch, pixels, model_pitch] out | v; coefficients [batch, 10]
// from_x, from_out, a, b, c, d, guide_x_start, guide_x, least, largest. An invocation makes one element; pads become zero.

override WG: u32;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    model_pitch: u32,
    clip: u32,
    learned_variance: u32,
    guided: u32,
}

@group(0) @binding(0) var<storage, read> model_out: array<f32>;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> pred_xstart: array<f32>;
@group(0) @binding(6) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pixel = index / size.pitch;
    let n = pixel / size.pixels;
    if (n >= size.batch) {
        return;
    }
    let channel = index % size.pitch;
    if (channel >= size.channels) {
        x[index] = 0.0;
        pred_xstart[index] = 0.0;
        return;
    }
    let k = n * 10u;
    let noised = x[index];
    var x0 = coefficients[k] * noised + coefficients[k + 1u] * model_out[pixel * size.model_pitch + channel];
    // What is not finite stays so: a clip would make an image of it. By its bits, for compilers may take numbers for finite.
    if (size.clip != 0u && (bitcast<u32>(x0) & 0x7f800000u) != 0x7f800000u) {
        x0 = clamp(x0, -1.0, 1.0);
    }
    var spread = 1.0;
    if (size.learned_variance != 0u) {
        let f = 0.5 * (model_out[pixel * size.model_pitch + size.channels + channel] + 1.0);
        spread = exp(0.5 * (f * coefficients[k + 9u] + (1.0 - f) * coefficients[k + 8u]));
    }
    var moved = 0.0;
    if (size.guided != 0u) {
        let gradient = g[index];
        x0 += coefficients[k + 6u] * gradient;
        moved = coefficients[k + 7u] * spread * spread * gradient;
    }
    var next = coefficients[k + 2u] * noised + coefficients[k + 3u] * x0 + moved;
    // Memory of before the chain's first step may hold anything, NaN too.
    if (coefficients[k + 4u] != 0.0) {
        next += coefficients[k + 4u] * pred_xstart[index];
    }
    if (coefficients[k + 5u] != 0.0) {
        next += coefficients[k + 5u] * spread * z[index];
    }
    x[index] = next;
    pred_xstart[index] = x0;
}
