// 3x3 convolution with stride 2 and padding 1, and its gradient for the input, where subgroups are of exactly eight
// invocations: the vec4s that eight lanes load pass from lane to lane instead of being loaded by each. A workgroup is one
// subgroup. An implicit matrix product: pixels times channels, summed over taps and channels.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, 2i+u-1, 2j+v-1, c] * w[u*3+v, c, k]
//   grad_input  dx[n,i,j,c] = r[n,i,j,c] + sum dy[n, (i+1-u)/2, (j+1-v)/2, k] * w[u*3+v, c, k]   (whole quotients only)
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H',W',P(K)]; w [9,P(C),P(K)]; b [P(K)]. TRANSPOSED = 1 is the
// gradient: source is dy, result is dx.
// A subgroup makes 32 pixels of 32 channels, a lane four of the channels: 8 loads for 512 multiply-adds. Pixels of the
// gradient are those of one parity of rows and columns: even ones have one tap along an axis and odd ones two, so nothing is
// multiplied in vain.

override TRANSPOSED: u32;

struct Size {
    batch: u32,
    // Of the tensor that is read (forward: x; gradients: dy) and of the one that is written.
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    // Quads of w's rows, P(K)/4, and rows per tap, P(C).
    weight_quads: u32,
    weight_rows: u32,
    stride: u32,
    has_bias: u32,
    has_residual: u32,
    slices: u32,
    slice_rows: u32,
    transposed: u32,
    pad0: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias Source = vec4<f32>;
alias Residual = vec4<f32>;
alias Result = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read_write> result: array<Result>;
@group(0) @binding(5) var<uniform> size: Size;

const ZERO = vec4<f32>(0.0);
const LANES = 8u;

// The weights of a tap from four read channels (a column) to the lane's four written ones.
fn weights(tap: u32, column: u32, quad: u32) -> mat4x4<f32> {
    let row = select(column, quad, TRANSPOSED == 1u);
    let across = select(quad, column, TRANSPOSED == 1u);
    let at = (tap * size.weight_rows + row * 4u) * size.weight_quads + across;
    let m = mat4x4<f32>(
        weight[at],
        weight[at + size.weight_quads],
        weight[at + 2u * size.weight_quads],
        weight[at + 3u * size.weight_quads],
    );
    if (TRANSPOSED == 1u) {
        return transpose(m);
    }
    return m;
}

fn add(sum: vec4<f32>, m: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return fma(m[0], v.xxxx, fma(m[1], v.yyyy, fma(m[2], v.zzzz, fma(m[3], v.wwww, sum))));
}

// One of four. An array that is indexed would do, but must be memory, which some drivers are slow to compile.
fn pick(i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, i == 1u), select(c, d, i == 3u), i >= 2u);
}

// What a tap reads along an axis for each of four pixels; of the gradient for those of one parity, in halves.
fn places(pixel: vec4<u32>, tap: u32) -> vec4<i32> {
    if (TRANSPOSED == 1u) {
        return vec4<i32>(pixel + select(0u, 1u, tap == 0u));
    }
    return vec4<i32>(2u * pixel + tap) - 1;
}

@compute @workgroup_size(LANES)
fn convolve(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let flat = group.y * groups.x + group.x;
    // Of each axis the first pixel that is written, and from one to the next.
    let step = 1u + TRANSPOSED;
    let parity = select(vec2<u32>(0u), vec2<u32>(flat & 1u, (flat >> 1u) & 1u), TRANSPOSED == 1u);
    let index = select(flat, flat >> 2u, TRANSPOSED == 1u);
    let height = (size.out_height + step - 1u - parity.y) / step;
    let width = (size.out_width + step - 1u - parity.x) / step;
    let eights = (size.out_quads + LANES - 1u) / LANES;
    let own = (index % eights) * LANES + lane;
    let quad = min(own, size.out_quads - 1u);
    let first = index / eights * 32u;
    let pixels = size.batch * height * width;
    if (first >= pixels) {
        return;
    }
    // The lane's four pixels.
    let pixel = min(first + lane + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(pixels - 1u));
    let line = pixel / width;
    let image = vec4<i32>(line / height * size.in_height);
    let row = line % height;
    let column = pixel % width;
    var a0 = ZERO;
    var a1 = ZERO;
    var a2 = ZERO;
    var a3 = ZERO;
    var a4 = ZERO;
    var a5 = ZERO;
    var a6 = ZERO;
    var a7 = ZERO;
    var a8 = ZERO;
    var a9 = ZERO;
    var a10 = ZERO;
    var a11 = ZERO;
    var a12 = ZERO;
    var a13 = ZERO;
    var a14 = ZERO;
    var a15 = ZERO;
    var a16 = ZERO;
    var a17 = ZERO;
    var a18 = ZERO;
    var a19 = ZERO;
    var a20 = ZERO;
    var a21 = ZERO;
    var a22 = ZERO;
    var a23 = ZERO;
    var a24 = ZERO;
    var a25 = ZERO;
    var a26 = ZERO;
    var a27 = ZERO;
    var a28 = ZERO;
    var a29 = ZERO;
    var a30 = ZERO;
    var a31 = ZERO;
    // Forward takes every tap; of the gradient even pixels the middle one, odd ones the others.
    let taps = select(vec2<u32>(3u), 1u + parity, TRANSPOSED == 1u);
    let begin = select(vec2<u32>(0u), 1u - parity, TRANSPOSED == 1u);
    for (var u = begin.y; u < begin.y + taps.y * step; u += step) {
        let y = places(row, u);
        let inside_y = (y >= vec4<i32>(0)) & (y < vec4<i32>(i32(size.in_height)));
        for (var v = begin.x; v < begin.x + taps.x * step; v += step) {
            let x = places(column, v);
            let inside = inside_y & (x >= vec4<i32>(0)) & (x < vec4<i32>(i32(size.in_width)));
            let at = vec4<u32>((image + y) * i32(size.in_width) + x) * size.in_quads;
            let base = select(vec4<u32>(0u), at, inside);
            for (var channel = 0u; channel < size.in_quads; channel++) {
                let s0 = select(ZERO, vec4<f32>(source[base.x + channel]), inside.x);
                let s1 = select(ZERO, vec4<f32>(source[base.y + channel]), inside.y);
                let s2 = select(ZERO, vec4<f32>(source[base.z + channel]), inside.z);
                let s3 = select(ZERO, vec4<f32>(source[base.w + channel]), inside.w);
                let m = weights(u * 3u + v, channel, quad);
                a0 = add(a0, m, subgroupBroadcast(s0, 0u));
                a1 = add(a1, m, subgroupBroadcast(s0, 1u));
                a2 = add(a2, m, subgroupBroadcast(s0, 2u));
                a3 = add(a3, m, subgroupBroadcast(s0, 3u));
                a4 = add(a4, m, subgroupBroadcast(s0, 4u));
                a5 = add(a5, m, subgroupBroadcast(s0, 5u));
                a6 = add(a6, m, subgroupBroadcast(s0, 6u));
                a7 = add(a7, m, subgroupBroadcast(s0, 7u));
                a8 = add(a8, m, subgroupBroadcast(s1, 0u));
                a9 = add(a9, m, subgroupBroadcast(s1, 1u));
                a10 = add(a10, m, subgroupBroadcast(s1, 2u));
                a11 = add(a11, m, subgroupBroadcast(s1, 3u));
                a12 = add(a12, m, subgroupBroadcast(s1, 4u));
                a13 = add(a13, m, subgroupBroadcast(s1, 5u));
                a14 = add(a14, m, subgroupBroadcast(s1, 6u));
                a15 = add(a15, m, subgroupBroadcast(s1, 7u));
                a16 = add(a16, m, subgroupBroadcast(s2, 0u));
                a17 = add(a17, m, subgroupBroadcast(s2, 1u));
                a18 = add(a18, m, subgroupBroadcast(s2, 2u));
                a19 = add(a19, m, subgroupBroadcast(s2, 3u));
                a20 = add(a20, m, subgroupBroadcast(s2, 4u));
                a21 = add(a21, m, subgroupBroadcast(s2, 5u));
                a22 = add(a22, m, subgroupBroadcast(s2, 6u));
                a23 = add(a23, m, subgroupBroadcast(s2, 7u));
                a24 = add(a24, m, subgroupBroadcast(s3, 0u));
                a25 = add(a25, m, subgroupBroadcast(s3, 1u));
                a26 = add(a26, m, subgroupBroadcast(s3, 2u));
                a27 = add(a27, m, subgroupBroadcast(s3, 3u));
                a28 = add(a28, m, subgroupBroadcast(s3, 4u));
                a29 = add(a29, m, subgroupBroadcast(s3, 5u));
                a30 = add(a30, m, subgroupBroadcast(s3, 6u));
                a31 = add(a31, m, subgroupBroadcast(s3, 7u));
            }
        }
    }
    if (own >= size.out_quads) {
        return;
    }
    var b = ZERO;
    if (size.has_bias != 0u) {
        b = bias[quad];
    }
    // Stores in a loop: spelled out they would be most of what a driver has to compile.
    let end = min(first + 32u, pixels);
    for (var eight = first; eight < end; eight += 8u) {
        let part = (eight - first) / 8u;
        let s0 = pick(part, a0, a8, a16, a24);
        let s1 = pick(part, a1, a9, a17, a25);
        let s2 = pick(part, a2, a10, a18, a26);
        let s3 = pick(part, a3, a11, a19, a27);
        let s4 = pick(part, a4, a12, a20, a28);
        let s5 = pick(part, a5, a13, a21, a29);
        let s6 = pick(part, a6, a14, a22, a30);
        let s7 = pick(part, a7, a15, a23, a31);
        let eight_end = min(eight + 8u, end);
        for (var p = eight; p < eight_end; p++) {
            let i = p - eight;
            let low = pick(i, s0, s1, s2, s3);
            let high = pick(i - 4u, s4, s5, s6, s7);
            let written_row = p / width;
            let written_column = (p % width) * step + parity.x;
            let image_row = written_row / height * size.out_height + (written_row % height) * step + parity.y;
            let to = (image_row * size.out_width + written_column) * size.out_quads + quad;
            var value = select(low, high, i >= 4u) + b;
            if (size.has_residual != 0u) {
                value += vec4<f32>(residual[to]);
            }
            result[to] = Result(value);
        }
    }
}
