// One denoising step of an image in place: ancestral (Ho et al. 2020) or DDIM (Song et al. 2021), with optional guidance
// by the gradient g of the classifier's log probability on x_t (paper Eq. 12; Dhariwal and Nichol 2021).
//
// x0 = c0 * x - c1 * eps (or the network's output itself), clipped to -1..1 if asked for. Then
//   ancestral  mean = c2 * x0 + c3 * x (+ exp(log_var) * c8 * g);  x = mean + c7 * exp(log_var / 2) * z
//              log_var = c4, or learned: f * c6 + (1 - f) * c5 with f = (v + 1) / 2
//   ddim       e = (c0 * x - x0) / c1 (then e -= c8 * g and x0 = c0 * x - c1 * e, not clipped again);
//              x = c2 * x0 + c3 * e + c7 * c4 * z
// Layouts: x, z, g, pred_xstart [batch, pixels, pitch]; model_out [batch, pixels, model_pitch] eps | v; coefficients
// [batch, 12], see src/kernels/sampler.rs. An invocation makes one element; pads become zero.

override WG: u32;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    model_pitch: u32,
    ddim: u32,
    clip: u32,
    predict_xstart: u32,
    learned_variance: u32,
    guided: u32,
    pad0: u32,
    pad1: u32,
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
    let c = index % size.pitch;
    if (c >= size.channels) {
        x[index] = 0.0;
        pred_xstart[index] = 0.0;
        return;
    }
    let k = n * 12u;
    let noised = x[index];
    let predicted = model_out[pixel * size.model_pitch + c];
    var x0 = coefficients[k] * noised - coefficients[k + 1u] * predicted;
    if (size.predict_xstart != 0u) {
        x0 = predicted;
    }
    if (size.clip != 0u) {
        x0 = clamp(x0, -1.0, 1.0);
    }
    var next = 0.0;
    if (size.ddim != 0u) {
        var eps = (coefficients[k] * noised - x0) / coefficients[k + 1u];
        if (size.guided != 0u) {
            eps -= coefficients[k + 8u] * g[index];
            x0 = coefficients[k] * noised - coefficients[k + 1u] * eps;
        }
        next = coefficients[k + 2u] * x0 + coefficients[k + 3u] * eps;
        next += coefficients[k + 7u] * coefficients[k + 4u] * z[index];
    } else {
        var log_var = coefficients[k + 4u];
        if (size.learned_variance != 0u) {
            let f = 0.5 * (model_out[pixel * size.model_pitch + size.channels + c] + 1.0);
            log_var = f * coefficients[k + 6u] + (1.0 - f) * coefficients[k + 5u];
        }
        next = coefficients[k + 2u] * x0 + coefficients[k + 3u] * noised;
        if (size.guided != 0u) {
            next += exp(log_var) * coefficients[k + 8u] * g[index];
        }
        next += coefficients[k + 7u] * exp(0.5 * log_var) * z[index];
    }
    x[index] = next;
    pred_xstart[index] = x0;
}
