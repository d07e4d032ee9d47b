// Group normalisation with optional scale-shift and SiLU, and its gradients.
//
// xhat = (x - mean) * rstd over the pixels and channels of a group, u = xhat * gamma + beta,
// v = u * (1 + scale) + shift (or u), y = v * sigmoid(v) (or v); rstd = 1 / sqrt(variance + 1e-5), biased variance.
// dv = dy * dy/dv, A = sum over pixels of dv, B = sum of dv * xhat, g = gamma * (1 + scale):
// dx = rstd * (g * dv - mean of g * dv - xhat * mean of g * dv * xhat), means over the group.
// y, dy: [N, pixels, C]; gamma, beta: [C]; scale_shift: [N, 2C], scale in columns 0..C, shift in C..2C.
// x, dx: [N, pixels, P], P consecutive channels of the C: where x is two tensors, each has launches of its own.
// stats: [N, 2, C] mean and rstd of the channel's group; sums: [N, 6, C] A, B, the group's two means, and the gain
// gamma * (1 + scale) and bias that make v of xhat.
// Variances are combined from blocks (Chan, Golub and LeVeque 1979): no cancellation at large means.
// `moments`, `grad_sums`: one workgroup per image and four channels, its lanes stride over the pixels, one tree.
// `combine`, `group_means`: one invocation per image and group. `forward`, `grad_input`: one invocation per four
// channels of BLOCK pixels. `grad_affine`: per value.

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    groups: u32,
    // Length of a row of C, and of 2C, in vec4s.
    quads: u32,
    modulation_quads: u32,
    // 0 or 1.
    silu: u32,
    scale_shift: u32,
    // `grad_affine`: which gradient.
    row: u32,
    // First vec4 of x's channels, and how many x has.
    first_quad: u32,
    part_quads: u32,
    // `grad_input`: whether `addend` is added.
    has_addend: u32,
}

const WG: u32 = 32u;
const BLOCK: u32 = 16u;
const EPS: f32 = 1e-5;

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;
alias Y = vec4<f32>;
alias Dy = vec4<f32>;
alias Upstream = vec4<f32>;
alias Addend = vec4<f32>;
alias Dx = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;

@group(0) @binding(1) var<storage, read_write> channel_moments: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> moments_size: Size;

@group(0) @binding(0) var<storage, read_write> group_stats: array<f32>;
@group(0) @binding(1) var<uniform> combine_size: Size;

@group(0) @binding(1) var<storage, read> stats: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> scale_shift: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Y>;
@group(0) @binding(6) var<uniform> forward_size: Size;

@group(0) @binding(5) var<storage, read> dy: array<Dy>;
@group(0) @binding(6) var<storage, read_write> channel_sums: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> sums_size: Size;

@group(0) @binding(0) var<storage, read_write> group_sums: array<f32>;
@group(0) @binding(1) var<uniform> means_size: Size;

@group(0) @binding(2) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(3) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> addend: array<Addend>;
@group(0) @binding(5) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(6) var<uniform> input_size: Size;

@group(0) @binding(0) var<storage, read> affine_sums: array<f32>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<f32>;
@group(0) @binding(3) var<storage, read_write> affine_gradient: array<f32>;
@group(0) @binding(4) var<uniform> affine_size: Size;

var<workgroup> tree_a: array<vec4<f32>, WG>;
var<workgroup> tree_b: array<vec4<f32>, WG>;

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    // Bounded so that the exponential stays finite.
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

// Affine map of one image's four channels: v = (x - mean) * rstd * gain + bias. Pad lanes are all zero.
struct Map {
    mean: vec4<f32>,
    rstd: vec4<f32>,
    gain: vec4<f32>,
    bias: vec4<f32>,
}

fn load_map(size: Size, image: u32, quad: u32) -> Map {
    var map: Map;
    map.mean = stats[image * 2u * size.quads + quad];
    map.rstd = stats[(image * 2u + 1u) * size.quads + quad];
    map.gain = gamma[quad];
    map.bias = beta[quad];
    // Bound to gamma where absent: the indices then stay inside it and the values are not used.
    let row = select(0u, image * size.modulation_quads, size.scale_shift != 0u);
    let first = select(quad, row + size.channels / 4u + quad, size.scale_shift != 0u);
    let last = select(size.quads, size.batch * size.modulation_quads, size.scale_shift != 0u) - 1u;
    let scale = scale_shift[row + quad];
    // The shift begins inside a vec4 where C is no multiple of four.
    let low = scale_shift[min(first, last)];
    let high = scale_shift[min(first + 1u, last)];
    var shift = low;
    switch size.channels % 4u {
        case 1u: { shift = vec4<f32>(low.yzw, high.x); }
        case 2u: { shift = vec4<f32>(low.zw, high.xy); }
        case 3u: { shift = vec4<f32>(low.w, high.xyz); }
        default: {}
    }
    let lanes = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad;
    let used = (lanes < vec4<u32>(size.channels)) & vec4<bool>(size.scale_shift != 0u);
    map.bias = select(map.bias, map.bias * (1.0 + scale) + shift, used);
    map.gain = select(map.gain, map.gain * (1.0 + scale), used);
    return map;
}

// dy/dv times dy.
fn gradient_at(size: Size, v: vec4<f32>, gradient: vec4<f32>) -> vec4<f32> {
    let s = sigmoid(v);
    return gradient * select(vec4<f32>(1.0), s * (1.0 + v * (1.0 - s)), size.silu != 0u);
}

// How many of first, first + stride, ... are below `pixels`; first < stride.
fn count_strided(pixels: u32, first: u32, stride: u32) -> u32 {
    return (pixels + stride - 1u - first) / stride;
}

@compute @workgroup_size(WG)
fn moments(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = moments_size;
    let column = workgroup_id.y * num_workgroups.x + workgroup_id.x;
    let image = column / size.part_quads;
    let part_quad = column % size.part_quads;
    let quad = size.first_quad + part_quad;
    // Workgroups beyond the last image read the last one's pixels and store nothing.
    let base = min(image, size.batch - 1u) * size.pixels * size.part_quads + part_quad;
    let step = WG * size.part_quads;
    let count = count_strided(size.pixels, lane, WG);
    var mean = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    var index = base + lane * size.part_quads;
    var done = 0u;
    for (; done + 4u <= count; done += 4u) {
        let x0 = vec4<f32>(x[index]);
        let x1 = vec4<f32>(x[index + step]);
        let x2 = vec4<f32>(x[index + 2u * step]);
        let x3 = vec4<f32>(x[index + 3u * step]);
        index += 4u * step;
        let block_mean = ((x0 + x1) + (x2 + x3)) * 0.25;
        let d0 = x0 - block_mean;
        let d1 = x1 - block_mean;
        let d2 = x2 - block_mean;
        let d3 = x3 - block_mean;
        let delta = block_mean - mean;
        let share = 4.0 / f32(done + 4u);
        mean += delta * share;
        squares += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3) + delta * delta * (share * f32(done));
    }
    for (; done < count; done += 1u) {
        let value = vec4<f32>(x[index]);
        index += step;
        let delta = value - mean;
        mean += delta / f32(done + 1u);
        squares += delta * (value - mean);
    }
    tree_a[lane] = mean;
    tree_b[lane] = squares;
    // Before each level, node i stands for the pixels i, i + 2 half, i + 4 half, ...
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let count_a = count_strided(size.pixels, lane, 2u * half);
            let count_b = count_strided(size.pixels, lane + half, 2u * half);
            let delta = tree_a[lane + half] - tree_a[lane];
            let share = f32(count_b) / f32(max(count_a + count_b, 1u));
            tree_a[lane] += delta * share;
            tree_b[lane] += tree_b[lane + half] + delta * delta * (share * f32(count_a));
        }
    }
    if lane == 0u && image < size.batch {
        channel_moments[image * 2u * size.quads + quad] = tree_a[0];
        channel_moments[(image * 2u + 1u) * size.quads + quad] = tree_b[0];
    }
}

@compute @workgroup_size(WG)
fn combine(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = combine_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane;
    if index >= size.batch * size.groups {
        return;
    }
    let per_group = size.channels / size.groups;
    let row = 4u * size.quads;
    let first = index / size.groups * 2u * row + index % size.groups * per_group;
    var mean = 0.0;
    for (var i = first; i < first + per_group; i += 1u) {
        mean += group_stats[i];
    }
    mean /= f32(per_group);
    var squares = 0.0;
    for (var i = first; i < first + per_group; i += 1u) {
        let delta = group_stats[i] - mean;
        squares += group_stats[i + row] + delta * delta * f32(size.pixels);
    }
    var rstd = 1.0 / sqrt(squares / f32(per_group * size.pixels) + EPS);
    // Squares that overflow would make zeros of every value, and hide it. By bits: compilers may take numbers for finite.
    let bits = bitcast<u32>(squares);
    if (bits & 0x7f800000u) == 0x7f800000u {
        rstd = bitcast<f32>(bits | 0x7fc00000u);
    }
    for (var i = first; i < first + per_group; i += 1u) {
        group_stats[i] = mean;
        group_stats[i + row] = rstd;
    }
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = forward_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane;
    let blocks = (size.pixels + BLOCK - 1u) / BLOCK;
    let part_quad = index % size.part_quads;
    let quad = size.first_quad + part_quad;
    let block = index / size.part_quads % blocks;
    let image = index / size.part_quads / blocks;
    if image >= size.batch {
        return;
    }
    let map = load_map(size, image, quad);
    let end = min((block + 1u) * BLOCK, size.pixels);
    for (var pixel = block * BLOCK; pixel < end; pixel += 1u) {
        let row = image * size.pixels + pixel;
        let v = (vec4<f32>(x[row * size.part_quads + part_quad]) - map.mean) * map.rstd * map.gain + map.bias;
        y[row * size.quads + quad] = Y(v * select(vec4<f32>(1.0), sigmoid(v), size.silu != 0u));
    }
}

@compute @workgroup_size(WG)
fn grad_sums(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = sums_size;
    let column = workgroup_id.y * num_workgroups.x + workgroup_id.x;
    let part_quad = column % size.part_quads;
    let quad = size.first_quad + part_quad;
    // Workgroups beyond the last image read the last one's pixels and store nothing.
    let image = min(column / size.part_quads, size.batch - 1u);
    let map = load_map(size, image, quad);
    var sum_a = vec4<f32>(0.0);
    var sum_b = vec4<f32>(0.0);
    for (var pixel = lane; pixel < size.pixels; pixel += WG) {
        let row = image * size.pixels + pixel;
        let xhat = (vec4<f32>(x[row * size.part_quads + part_quad]) - map.mean) * map.rstd;
        let dv = gradient_at(size, xhat * map.gain + map.bias, vec4<f32>(dy[row * size.quads + quad]));
        sum_a += dv;
        sum_b += dv * xhat;
    }
    tree_a[lane] = sum_a;
    tree_b[lane] = sum_b;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            tree_a[lane] += tree_a[lane + half];
            tree_b[lane] += tree_b[lane + half];
        }
    }
    if lane == 0u && column < size.batch * size.part_quads {
        let base = image * 6u * size.quads + quad;
        channel_sums[base] = tree_a[0];
        channel_sums[base + size.quads] = tree_b[0];
        channel_sums[base + 4u * size.quads] = map.gain;
        channel_sums[base + 5u * size.quads] = map.bias;
    }
}

@compute @workgroup_size(WG)
fn group_means(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = means_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane;
    if index >= size.batch * size.groups {
        return;
    }
    let image = index / size.groups;
    let group = index % size.groups;
    let per_group = size.channels / size.groups;
    let row = 4u * size.quads;
    let base = image * 6u * row;
    var mean_a = 0.0;
    var mean_b = 0.0;
    for (var c = group * per_group; c < (group + 1u) * per_group; c += 1u) {
        let gain = group_sums[base + 4u * row + c];
        mean_a += gain * group_sums[base + c];
        mean_b += gain * group_sums[base + row + c];
    }
    let count = f32(per_group * size.pixels);
    // The last group also zeroes the pad lanes.
    let end = select((group + 1u) * per_group, row, group + 1u == size.groups);
    for (var c = group * per_group; c < end; c += 1u) {
        group_sums[base + 2u * row + c] = select(0.0, mean_a / count, c < size.channels);
        group_sums[base + 3u * row + c] = select(0.0, mean_b / count, c < size.channels);
    }
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = input_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane;
    let blocks = (size.pixels + BLOCK - 1u) / BLOCK;
    let part_quad = index % size.part_quads;
    let quad = size.first_quad + part_quad;
    let block = index / size.part_quads % blocks;
    let image = index / size.part_quads / blocks;
    if image >= size.batch {
        return;
    }
    let mean = stats[image * 2u * size.quads + quad];
    let rstd = stats[(image * 2u + 1u) * size.quads + quad];
    let base = image * 6u * size.quads + quad;
    let mean_a = sums[base + 2u * size.quads];
    let mean_b = sums[base + 3u * size.quads];
    let gain = sums[base + 4u * size.quads];
    let bias = sums[base + 5u * size.quads];
    let end = min((block + 1u) * BLOCK, size.pixels);
    for (var pixel = block * BLOCK; pixel < end; pixel += 1u) {
        let row = image * size.pixels + pixel;
        let at = row * size.part_quads + part_quad;
        let xhat = (vec4<f32>(x[at]) - mean) * rstd;
        let dv = gradient_at(size, xhat * gain + bias, vec4<f32>(upstream[row * size.quads + quad]));
        let value = rstd * (gain * dv - mean_a - xhat * mean_b);
        dx[at] = Dx(value + select(vec4<f32>(0.0), vec4<f32>(addend[at]), size.has_addend != 0u));
    }
}

// Gradients of what is affine, a value an invocation. `row` 0 or 1: of beta or gamma [C], the sum over the images of
// (1 + scale) * sums[row], `factors` being the scale and shift. `row` 2: of scale and shift [N, 2C], with `factors` gamma and
// `offsets` beta: gamma * sums[1] + beta * sums[0], then sums[0].
@compute @workgroup_size(WG)
fn grad_affine(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = affine_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane;
    let pitch = 4u * size.quads;
    var value = 0.0;
    if size.row == 2u {
        let columns = 4u * size.modulation_quads;
        if index >= size.batch * columns {
            return;
        }
        let column = index % columns;
        let channel = column % size.channels;
        let base = index / columns * 6u * pitch + channel;
        let sum_a = affine_sums[base];
        let scale_gradient = factors[channel] * affine_sums[base + pitch] + offsets[channel] * sum_a;
        value = select(sum_a, scale_gradient, column < size.channels);
        value = select(0.0, value, column < 2u * size.channels);
    } else {
        if index >= pitch {
            return;
        }
        for (var image = 0u; image < size.batch; image += 1u) {
            let at = select(0u, image * 4u * size.modulation_quads, size.scale_shift != 0u) + index;
            let scale = select(0.0, factors[at], size.scale_shift != 0u);
            value += affine_sums[(image * 6u + size.row) * pitch + index] * (1.0 + scale);
        }
    }
    affine_gradient[index] = value;
}
