// BatchNorm over the samples of [batch, features], with what comes before it: LeakyReLU and dropout. eps 1e-5, momentum 0.1.
//
//   train       z = dropout(leaky_relu(x)) (either may be missing); mean, biased variance, and what rounding took from the mean: over
//               two samples z - mean cancels; y = (z - mean) / sqrt(variance + eps) * weight + bias
//               and running = 0.9 * running + 0.1 * (mean, unbiased variance); of a single sample the biased one;
//               where learn[0] is 0, running stays
//   train_grad  dw = sum dy * zhat, db = sum dy; dz = weight * rstd * (dy - mean(dy) - zhat * mean(dy * zhat)), and dx of it
//   forward     y = (leaky_relu(x) - mean) / sqrt(variance + eps) * weight + bias by the running statistics
//   grad_input  dx = weight * rstd * dy * leaky_relu'(x)
//   grad_affine dw = sum dy * zhat, db = sum dy
// leaky_relu(v) = v > 0 ? v : slope * v, a slope of 1 where there is none; dropout as in random.wgsl.
// Layouts: x, z, y, dy, dx [batch, quads] of vec4; running [2, quads]; weight, bias, dw, db [quads]. Pads of the statistics
// are zero, and weight's are too. `train`, `train_grad`: a workgroup handles one vec4 of features, its lanes stride over the samples;
// an invocation of `grad_affine` one vec4 of features, of the others one of one sample. Sums run in a fixed order.

override WG: u32;

struct Size {
    batch: u32,
    quads: u32,
    slope: f32,
    // 0 or 1.
    drops: u32,
    stream: u32,
    threshold: u32,
    scale: f32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> run: array<u32>;
@group(0) @binding(2) var<storage, read> learn: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> z: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> running: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> size: Size;

@group(0) @binding(0) var<storage, read> kept: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dw: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> db: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> grad_size: Size;

@group(0) @binding(1) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> offset: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> normalised: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> forward_size: Size;

@group(0) @binding(1) var<storage, read> upstream: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> known: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> input_size: Size;

@group(0) @binding(3) var<storage, read_write> gain_gradient: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> offset_gradient: array<vec4<f32>>;

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;
// Lanes of a workgroup that has one vec4 of features: as many as a subgroup of the smallest.
const LANES: u32 = 8u;

/// Low and high word of a * b, from 16-bit halves: WGSL has no 64-bit integers.
fn mul_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let carry = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (middle >> 16u) + (carry >> 16u));
}

fn philox4x32(start: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var counter = start;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let a = mul_wide(counter.x, 0xD2511F53u);
        let b = mul_wide(counter.z, 0xCD9E8D57u);
        counter = vec4<u32>(b.y ^ counter.y ^ key.x, b.x, a.y ^ counter.w ^ key.y, a.x);
        key = vec2<u32>(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
    return counter;
}

// Which elements of a row's vec4 dropout keeps.
fn keeps(size: Size, row: u32, quad: u32) -> vec4<bool> {
    let counter = vec4<u32>(quad, run[3] + row, run[2], size.stream);
    return philox4x32(counter, vec2<u32>(run[0], run[1])) >= vec4<u32>(size.threshold);
}

var<workgroup> lanes: array<vec4<f32>, 40>;

// The sum over the lanes; each turn has places of its own, so that none waits for the others to have read.
fn sum_over(turn: u32, lane: u32, value: vec4<f32>) -> vec4<f32> {
    lanes[turn * LANES + lane] = value;
    workgroupBarrier();
    var sum = lanes[turn * LANES];
    for (var other = 1u; other < LANES; other++) {
        sum += lanes[turn * LANES + other];
    }
    return sum;
}

@compute @workgroup_size(LANES)
fn train(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = size.quads;
    // Workgroups beyond the last feature have no samples.
    let index = group.y * groups.x + group.x;
    let quad = min(index, quads - 1u);
    let begin = lane * quads + quad;
    let end = select(0u, size.batch * quads, index < quads);
    let step = LANES * quads;
    let count = f32(size.batch);
    var sum = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        var v = x[at];
        v = select(size.slope * v, v, v > vec4<f32>(0.0));
        if (size.drops != 0u) {
            v = select(vec4<f32>(0.0), v * size.scale, keeps(size, at / quads, quad));
        }
        z[at] = v;
        sum += v;
    }
    let mean = sum_over(0u, lane, sum) / count;
    var rest = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        rest += z[at] - mean;
    }
    rest = sum_over(1u, lane, rest) / count;
    var variance = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        let d = (z[at] - mean) - rest;
        variance += d * d;
    }
    variance = sum_over(2u, lane, variance) / count;
    let rstd = 1.0 / sqrt(variance + EPS);
    for (var at = begin; at < end; at += step) {
        y[at] = ((z[at] - mean) - rest) * rstd * weight[quad] + bias[quad];
    }
    if (lane == 0u && index < quads && learn[0] != 0.0) {
        let unbiased = count / f32(max(size.batch, 2u) - 1u);
        let second = quads + quad;
        running[quad] = (1.0 - MOMENTUM) * running[quad] + MOMENTUM * mean;
        running[second] = (1.0 - MOMENTUM) * running[second] + MOMENTUM * unbiased * variance;
    }
}

@compute @workgroup_size(LANES)
fn train_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = grad_size.quads;
    let index = group.y * groups.x + group.x;
    let quad = min(index, quads - 1u);
    let begin = lane * quads + quad;
    let end = select(0u, grad_size.batch * quads, index < quads);
    let step = LANES * quads;
    let count = f32(grad_size.batch);
    // The statistics as `train` has them.
    var sum = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        sum += kept[at];
    }
    let mean = sum_over(0u, lane, sum) / count;
    var rest = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        rest += kept[at] - mean;
    }
    rest = sum_over(1u, lane, rest) / count;
    var variance = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        let d = (kept[at] - mean) - rest;
        variance += d * d;
    }
    variance = sum_over(2u, lane, variance) / count;
    let rstd = 1.0 / sqrt(variance + EPS);
    var total = vec4<f32>(0.0);
    var total_dot = vec4<f32>(0.0);
    for (var at = begin; at < end; at += step) {
        let d = dy[at];
        total += d;
        total_dot += d * ((kept[at] - mean) - rest) * rstd;
    }
    total = sum_over(3u, lane, total);
    total_dot = sum_over(4u, lane, total_dot);
    let scale = weight[quad] * rstd;
    let mean_dy = total / count;
    let mean_dot = total_dot / count;
    for (var at = begin; at < end; at += step) {
        let v = kept[at];
        let zhat = ((v - mean) - rest) * rstd;
        var d = scale * (dy[at] - mean_dy - zhat * mean_dot);
        if (grad_size.drops != 0u) {
            d = select(vec4<f32>(0.0), d * grad_size.scale, keeps(grad_size, at / quads, quad));
        }
        // What dropout kept has the sign that it had.
        dx[at] = select(grad_size.slope * d, d, v > vec4<f32>(0.0));
    }
    if (lane == 0u && index < quads) {
        dw[quad] = total_dot;
        db[quad] = total;
    }
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
    let rstd = 1.0 / sqrt(statistics[forward_size.quads + quad] + EPS);
    let v = x[index];
    let activated = select(forward_size.slope * v, v, v > vec4<f32>(0.0));
    normalised[index] = (activated - statistics[quad]) * rstd * gain[quad] + offset[quad];
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= input_size.batch * input_size.quads) {
        return;
    }
    let quad = index % input_size.quads;
    let rstd = 1.0 / sqrt(known[input_size.quads + quad] + EPS);
    let d = weight[quad] * rstd * upstream[index];
    // Without an activation x is not looked at.
    let passes = (x[index] > vec4<f32>(0.0)) | vec4<bool>(input_size.slope == 1.0);
    dx[index] = select(input_size.slope * d, d, passes);
}

@compute @workgroup_size(WG)
fn grad_affine(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quad = (group.y * groups.x + group.x) * WG + local;
    let quads = input_size.quads;
    if (quad >= quads) {
        return;
    }
    let mean = known[quad];
    let rstd = 1.0 / sqrt(known[quads + quad] + EPS);
    var total = vec4<f32>(0.0);
    var total_dot = vec4<f32>(0.0);
    let end = quad + input_size.batch * quads;
    for (var at = quad; at < end; at += quads) {
        let v = x[at];
        let activated = select(input_size.slope * v, v, v > vec4<f32>(0.0));
        let d = upstream[at];
        total += d;
        total_dot += d * (activated - mean) * rstd;
    }
    gain_gradient[quad] = total_dot;
    offset_gradient[quad] = total;
}
