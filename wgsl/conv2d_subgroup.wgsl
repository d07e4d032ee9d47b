// Convolution with any kernel, stride and padding, and its gradient for the input, where subgroups are of exactly eight
// invocations: the vec4s of the pixels that eight lanes load pass from lane to lane instead of being loaded by each. A
// workgroup is one subgroup. An implicit matrix product: pixels times channels, summed over taps and channels.
//
//   forward     y[n,i,j,k]  = b[k] + sum x[n, i*s+u-p, j*t+v-q, c] * w[u*V+v, c, k]
//   grad_input  dx[n,a,b,c] = sum dy[n,i,j,k] * w[u*V+v, c, k] over i*s+u-p = a, j*t+v-q = b
// for kernels of U x V, strides s, t and paddings p, q. Layouts (P: rounded up to 4): x, dx [N,H,W,P(C)]; y, dy
// [N,H',W',P(K)]; w [U*V,P(C),P(K)]; b [P(K)]. TRANSPOSED = 1 is the gradient: source is dy, result is dx.
// A subgroup makes 32 consecutive pixels of 32 channels, a lane four of the channels: 8 loads for 512 multiply-adds.

override TRANSPOSED: u32;

struct Size {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    has_bias: u32,
    slices: u32,
    slice_pixels: u32,
}

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> size: Size;

const ZERO = vec4<f32>(0.0);
const LANES = 8u;

// The weights of the tap that begins at `tap`, from four read channels (a column) to the lane's four written ones.
fn weights(tap: u32, column: u32, quad: u32) -> mat4x4<f32> {
    if (TRANSPOSED == 1u) {
        let at = tap + quad * 4u * size.out_quads + column;
        return transpose(mat4x4<f32>(
            weight[at],
            weight[at + size.out_quads],
            weight[at + 2u * size.out_quads],
            weight[at + 3u * size.out_quads],
        ));
    }
    let at = tap + column * 4u * size.out_quads + quad;
    return mat4x4<f32>(
        weight[at],
        weight[at + size.out_quads],
        weight[at + 2u * size.out_quads],
        weight[at + 3u * size.out_quads],
    );
}

fn add(sum: vec4<f32>, m: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return fma(m[0], v.xxxx, fma(m[1], v.yyyy, fma(m[2], v.zzzz, fma(m[3], v.wwww, sum))));
}

// Where along one axis a tap reads for each of four written pixels: positions, -1 outside of what is read.
fn places(written: vec4<u32>, tap: u32, stride: u32, padding: u32, side: u32) -> vec4<i32> {
    if (TRANSPOSED == 1u) {
        let reach = vec4<i32>(written + padding) - i32(tap);
        let at = max(reach, vec4<i32>(0)) / i32(stride);
        let inside = (at * i32(stride) == reach) & (at < vec4<i32>(i32(side)));
        return select(vec4<i32>(-1), at, inside);
    }
    let at = vec4<i32>(written * stride + tap) - i32(padding);
    return select(vec4<i32>(-1), at, at < vec4<i32>(i32(side)));
}

// One of four. An array that is indexed would do, but must be memory, which some drivers are slow to compile.
fn pick(i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, i == 1u), select(c, d, i == 3u), i >= 2u);
}

@compute @workgroup_size(LANES)
fn convolve(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let transposed = TRANSPOSED == 1u;
    let read_height = select(size.in_height, size.out_height, transposed);
    let read_width = select(size.in_width, size.out_width, transposed);
    let read_quads = select(size.in_quads, size.out_quads, transposed);
    let height = select(size.out_height, size.in_height, transposed);
    let width = select(size.out_width, size.in_width, transposed);
    let quads = select(size.out_quads, size.in_quads, transposed);
    let eights = (quads + LANES - 1u) / LANES;
    let block = (index % eights) * LANES;
    let quad = min(block + lane, quads - 1u);
    let first = index / eights * 32u;
    let pixels = size.batch * height * width;
    if (first >= pixels) {
        return;
    }
    // The lane's four pixels.
    let pixel = min(first + lane + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(pixels - 1u));
    let line = pixel / width;
    let image = vec4<i32>(line / height * read_height);
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
    // From the first of the subgroup's weights, so that no driver compiles the loop for each number of taps.
    let step = 4u * size.in_quads * size.out_quads;
    let end = block + size.kernel_height * size.kernel_width * step;
    var u = 0u;
    var v = 0u;
    for (var tap = block; tap < end; tap += step) {
        let y = places(row, u, size.stride_height, size.padding_height, read_height);
        let x = places(column, v, size.stride_width, size.padding_width, read_width);
        v += 1u;
        if (v == size.kernel_width) {
            v = 0u;
            u += 1u;
        }
        let inside = (y >= vec4<i32>(0)) & (x >= vec4<i32>(0));
        let at = vec4<u32>((image + y) * i32(read_width) + x) * read_quads;
        let base = select(vec4<u32>(0u), at, inside);
        for (var channel = 0u; channel < read_quads; channel++) {
            let s0 = select(ZERO, source[base.x + channel], inside.x);
            let s1 = select(ZERO, source[base.y + channel], inside.y);
            let s2 = select(ZERO, source[base.z + channel], inside.z);
            let s3 = select(ZERO, source[base.w + channel], inside.w);
            let m = weights(tap - block, channel, quad);
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
    if (block + lane >= quads) {
        return;
    }
    var b = ZERO;
    if (size.has_bias != 0u) {
        b = bias[quad];
    }
    // Stores in a loop: spelled out they would be most of what a driver has to compile.
    let end_pixel = min(first + 32u, pixels);
    for (var eight = first; eight < end_pixel; eight += 8u) {
        let part = (eight - first) / 8u;
        let s0 = pick(part, a0, a8, a16, a24);
        let s1 = pick(part, a1, a9, a17, a25);
        let s2 = pick(part, a2, a10, a18, a26);
        let s3 = pick(part, a3, a11, a19, a27);
        let s4 = pick(part, a4, a12, a20, a28);
        let s5 = pick(part, a5, a13, a21, a29);
        let s6 = pick(part, a6, a14, a22, a30);
        let s7 = pick(part, a7, a15, a23, a31);
        let eight_end = min(eight + 8u, end_pixel);
        for (var p = eight; p < eight_end; p++) {
            let i = p - eight;
            let low = pick(i, s0, s1, s2, s3);
            let high = pick(i - 4u, s4, s5, s6, s7);
            result[p * quads + quad] = select(low, high, i >= 4u) + b;
        }
    }
}
