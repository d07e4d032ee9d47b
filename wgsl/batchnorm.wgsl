// BatchNorm over the samples of [batch, features], and its gradients. eps 1e-5, momentum 0.1.
//
//   stats       mean, biased variance, and what rounding took from the mean: over two samples x - mean cancels
//               and running = 0.9 * running + 0.1 * (mean, unbiased variance); of a single sample the biased one;
//               where learn[0] is 0, running stays
//   forward     y = (x - mean) / sqrt(variance + eps) * weight + bias
//   grad_input  batch statistics: dx = weight * rstd * (dy - mean(dy) - xhat * mean(dy * xhat)); running ones: weight *
//               rstd * dy
//   grad_weight dw = sum dy * xhat
// Layouts: x, y, dy, dx [batch, quads] of vec4; stats [3, quads], running [2, quads]; weight, bias [quads]. Pads of the
// statistics are zero, and weight's are too. `train`: the statistics are the batch's. An invocation handles one vec4 of features; `forward`, of one sample.

override WG: u32;

struct Size {
    batch: u32,
    quads: u32,
    train: u32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> learn: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats_out: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> running: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> size: Size;

@group(0) @binding(1) var<storage, read> stats_in: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> forward_size: Size;

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_stats: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> grad_scale: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

@group(0) @binding(3) var<storage, read_write> dw: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> weight_size: Size;

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

@compute @workgroup_size(WG)
fn stats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quad = (group.y * groups.x + group.x) * WG + local;
    if (quad >= size.quads) {
        return;
    }
    let end = quad + size.batch * size.quads;
    var mean = vec4<f32>(0.0);
    for (var at = quad; at < end; at += size.quads) {
        mean += x[at];
    }
    mean /= f32(size.batch);
    var rest = vec4<f32>(0.0);
    for (var at = quad; at < end; at += size.quads) {
        rest += x[at] - mean;
    }
    rest /= f32(size.batch);
    var variance = vec4<f32>(0.0);
    for (var at = quad; at < end; at += size.quads) {
        let d = (x[at] - mean) - rest;
        variance += d * d;
    }
    variance /= f32(size.batch);
    stats_out[quad] = mean;
    stats_out[size.quads + quad] = variance;
    stats_out[2u * size.quads + quad] = rest;
    if (learn[0] == 0.0) {
        return;
    }
    let unbiased = f32(size.batch) / f32(max(size.batch, 2u) - 1u);
    let second = size.quads + quad;
    running[quad] = (1.0 - MOMENTUM) * running[quad] + MOMENTUM * mean;
    running[second] = (1.0 - MOMENTUM) * running[second] + MOMENTUM * unbiased * variance;
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= forward_size.batch * forward_size.quads) {
        return;
    }
    let quad = index % forward_size.quads;
    let rstd = 1.0 / sqrt(stats_in[forward_size.quads + quad] + EPS);
    var rest = vec4<f32>(0.0);
    if (forward_size.train != 0u) {
        rest = stats_in[2u * forward_size.quads + quad];
    }
    y[index] = ((x[index] - stats_in[quad]) - rest) * rstd * weight[quad] + bias[quad];
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quad = (group.y * groups.x + group.x) * WG + local;
    if (quad >= forward_size.quads) {
        return;
    }
    let quads = forward_size.quads;
    let mean = grad_stats[quad];
    let rstd = 1.0 / sqrt(grad_stats[quads + quad] + EPS);
    let scale = grad_scale[quad] * rstd;
    var rest = vec4<f32>(0.0);
    var mean_dy = vec4<f32>(0.0);
    var mean_dot = vec4<f32>(0.0);
    let end = quad + forward_size.batch * quads;
    if (forward_size.train != 0u) {
        rest = grad_stats[2u * quads + quad];
        for (var at = quad; at < end; at += quads) {
            let d = dy[at];
            mean_dy += d;
            mean_dot += d * ((x[at] - mean) - rest) * rstd;
        }
        mean_dy /= f32(forward_size.batch);
        mean_dot /= f32(forward_size.batch);
    }
    for (var at = quad; at < end; at += quads) {
        let xhat = ((x[at] - mean) - rest) * rstd;
        dx[at] = scale * (dy[at] - mean_dy - xhat * mean_dot);
    }
}

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quad = (group.y * groups.x + group.x) * WG + local;
    if (quad >= weight_size.quads) {
        return;
    }
    let quads = weight_size.quads;
    let mean = grad_stats[quad];
    let rstd = 1.0 / sqrt(grad_stats[quads + quad] + EPS);
    var rest = vec4<f32>(0.0);
    if (weight_size.train != 0u) {
        rest = grad_stats[2u * quads + quad];
    }
    var sum = vec4<f32>(0.0);
    let end = quad + weight_size.batch * quads;
    for (var at = quad; at < end; at += quads) {
        sum += dy[at] * ((x[at] - mean) - rest) * rstd;
    }
    dw[quad] = sum;
}
