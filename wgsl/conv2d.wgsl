// Convolution with any kernel, stride and padding, and its gradients. Direct register tiles, no barriers.
//
//   forward      y[n,i,j,k]  = b[k] + sum x[n, i*s+u-p, j*t+v-q, c] * w[u*V+v, c, k]
//   grad_input   dx[n,a,b,c] = sum dy[n,i,j,k] * w[u*V+v, c, k] over i*s+u-p = a, j*t+v-q = b
//   grad_weight  dw[u*V+v, c, k] = sum x[n, i*s+u-p, j*t+v-q, c] * dy[n,i,j,k]
// for kernels of U x V, strides s, t and paddings p, q. Layouts (P: rounded up to 4): x, dx [N,H,W,P(C)]; y, dy
// [N,H',W',P(K)]; w [U*V,P(C),P(K)]; b [P(K)]; partials [slices, U*V,P(C),P(K)], added by reduce_rows.wgsl.
// An invocation makes 4 consecutive pixels of 8 channels, 12 loads for 128 multiply-adds; of the weight's gradient one
// tap of 8 x 8 channels over a slice of the pixels, 4 loads for 64.

override WG: u32;

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

@group(0) @binding(1) var<storage, read> upstream: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> gradient_size: Size;

const ZERO = vec4<f32>(0.0);
const FOUR = vec4<u32>(0u, 1u, 2u, 3u);

// `second` is 0 where there is no second quad, else 1.
fn put_result(pixel: u32, quad: u32, second: u32, value0: vec4<f32>, value1: vec4<f32>) {
    let at = pixel * size.out_quads + quad;
    result[at] = value0;
    if (second != 0u) {
        result[at + 1u] = value1;
    }
}

fn put_input(pixel: u32, quad: u32, second: u32, value0: vec4<f32>, value1: vec4<f32>) {
    let at = pixel * gradient_size.in_quads + quad;
    gradient[at] = value0;
    if (second != 0u) {
        gradient[at + 1u] = value1;
    }
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pairs = (size.out_quads + 1u) / 2u;
    let quad = (index % pairs) * 2u;
    let first = (index / pairs) * 4u;
    let pixels = size.batch * size.out_height * size.out_width;
    if (first >= pixels) {
        return;
    }
    let second = min(quad + 1u, size.out_quads - 1u) - quad;
    let pixel = min(first + FOUR, vec4<u32>(pixels - 1u));
    let line = pixel / size.out_width;
    let image = line / size.out_height * size.in_height;
    let top = vec4<i32>(line % size.out_height * size.stride_height) - i32(size.padding_height);
    let left = vec4<i32>(pixel % size.out_width * size.stride_width) - i32(size.padding_width);
    var a00 = ZERO;
    var a01 = ZERO;
    var a10 = ZERO;
    var a11 = ZERO;
    var a20 = ZERO;
    var a21 = ZERO;
    var a30 = ZERO;
    var a31 = ZERO;
    // Weights of a tap. Both loops end at values of the invocation, so that no driver compiles one for each size.
    let step = 4u * size.in_quads * size.out_quads;
    let end = quad + size.kernel_height * size.kernel_width * step;
    var u = 0;
    var v = 0;
    for (var tap = quad; tap < end; tap += step) {
        let row = top + u;
        let column = left + v;
        v += 1;
        if (v == i32(size.kernel_width)) {
            v = 0;
            u += 1;
        }
        let inside = (row >= vec4<i32>(0)) & (row < vec4<i32>(i32(size.in_height)))
            & (column >= vec4<i32>(0)) & (column < vec4<i32>(i32(size.in_width)));
        if (!any(inside)) {
            continue;
        }
        let at = ((image + vec4<u32>(row)) * size.in_width + vec4<u32>(column)) * size.in_quads;
        let base = select(vec4<u32>(0u), at, inside);
        var channel = 0u;
        for (var from_row = tap; from_row < tap + step; from_row += 4u * size.out_quads) {
            let row1 = from_row + size.out_quads;
            let row2 = row1 + size.out_quads;
            let row3 = row2 + size.out_quads;
            let w0 = mat4x4<f32>(weight[from_row], weight[row1], weight[row2], weight[row3]);
            let w1 = mat4x4<f32>(
                weight[from_row + second],
                weight[row1 + second],
                weight[row2 + second],
                weight[row3 + second],
            );
            let s0 = select(ZERO, source[base.x + channel], inside.x);
            let s1 = select(ZERO, source[base.y + channel], inside.y);
            let s2 = select(ZERO, source[base.z + channel], inside.z);
            let s3 = select(ZERO, source[base.w + channel], inside.w);
            a00 += w0 * s0;
            a01 += w1 * s0;
            a10 += w0 * s1;
            a11 += w1 * s1;
            a20 += w0 * s2;
            a21 += w1 * s2;
            a30 += w0 * s3;
            a31 += w1 * s3;
            channel += 1u;
        }
    }
    if (size.has_bias != 0u) {
        let b0 = bias[quad];
        let b1 = bias[quad + second];
        a00 += b0;
        a01 += b1;
        a10 += b0;
        a11 += b1;
        a20 += b0;
        a21 += b1;
        a30 += b0;
        a31 += b1;
    }
    put_result(first, quad, second, a00, a01);
    if (first + 1u < pixels) {
        put_result(first + 1u, quad, second, a10, a11);
    }
    if (first + 2u < pixels) {
        put_result(first + 2u, quad, second, a20, a21);
    }
    if (first + 3u < pixels) {
        put_result(first + 3u, quad, second, a30, a31);
    }
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pairs = (gradient_size.in_quads + 1u) / 2u;
    let quad = (index % pairs) * 2u;
    let first = (index / pairs) * 4u;
    let pixels = gradient_size.batch * gradient_size.in_height * gradient_size.in_width;
    if (first >= pixels) {
        return;
    }
    let second = min(quad + 1u, gradient_size.in_quads - 1u) - quad;
    let pixel = min(first + FOUR, vec4<u32>(pixels - 1u));
    let line = pixel / gradient_size.in_width;
    let image = line / gradient_size.in_height * gradient_size.out_height;
    let bottom = vec4<i32>(line % gradient_size.in_height + gradient_size.padding_height);
    let right = vec4<i32>(pixel % gradient_size.in_width + gradient_size.padding_width);
    let stride_height = vec4<i32>(i32(gradient_size.stride_height));
    let stride_width = vec4<i32>(i32(gradient_size.stride_width));
    var a00 = ZERO;
    var a01 = ZERO;
    var a10 = ZERO;
    var a11 = ZERO;
    var a20 = ZERO;
    var a21 = ZERO;
    var a30 = ZERO;
    var a31 = ZERO;
    // Weights of a tap, and of four of its rows.
    let step = 4u * gradient_size.in_quads * gradient_size.out_quads;
    let rows = 4u * gradient_size.out_quads;
    let begin = quad * rows;
    let end = begin + gradient_size.kernel_height * gradient_size.kernel_width * step;
    var u = 0;
    var v = 0;
    for (var tap = begin; tap < end; tap += step) {
        let row = bottom - u;
        let column = right - v;
        v += 1;
        if (v == i32(gradient_size.kernel_width)) {
            v = 0;
            u += 1;
        }
        let i = row / stride_height;
        let j = column / stride_width;
        let inside = (row >= vec4<i32>(0)) & (i < vec4<i32>(i32(gradient_size.out_height)))
            & (i * stride_height == row)
            & (column >= vec4<i32>(0)) & (j < vec4<i32>(i32(gradient_size.out_width)))
            & (j * stride_width == column);
        if (!any(inside)) {
            continue;
        }
        let at = ((image + vec4<u32>(i)) * gradient_size.out_width + vec4<u32>(j)) * gradient_size.out_quads;
        let base = select(vec4<u32>(0u), at, inside);
        var channel = 0u;
        for (var row0 = tap; row0 < tap + gradient_size.out_quads; row0 += 1u) {
            let row1 = row0 + gradient_size.out_quads;
            let row2 = row1 + gradient_size.out_quads;
            let row3 = row2 + gradient_size.out_quads;
            let w0 = mat4x4<f32>(weight[row0], weight[row1], weight[row2], weight[row3]);
            let next = second * rows;
            let w1 = mat4x4<f32>(
                weight[row0 + next],
                weight[row1 + next],
                weight[row2 + next],
                weight[row3 + next],
            );
            let s0 = select(ZERO, source[base.x + channel], inside.x);
            let s1 = select(ZERO, source[base.y + channel], inside.y);
            let s2 = select(ZERO, source[base.z + channel], inside.z);
            let s3 = select(ZERO, source[base.w + channel], inside.w);
            a00 += s0 * w0;
            a01 += s0 * w1;
            a10 += s1 * w0;
            a11 += s1 * w1;
            a20 += s2 * w0;
            a21 += s2 * w1;
            a30 += s3 * w0;
            a31 += s3 * w1;
            channel += 1u;
        }
    }
    put_input(first, quad, second, a00, a01);
    if (first + 1u < pixels) {
        put_input(first + 1u, quad, second, a10, a11);
    }
    if (first + 2u < pixels) {
        put_input(first + 2u, quad, second, a20, a21);
    }
    if (first + 3u < pixels) {
        put_input(first + 3u, quad, second, a30, a31);
    }
}

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pairs = (gradient_size.out_quads + 1u) / 2u;
    let in_pairs = (gradient_size.in_quads + 1u) / 2u;
    let taps = gradient_size.kernel_height * gradient_size.kernel_width;
    let quad = (index % pairs) * 2u;
    let channel = (index / pairs % in_pairs) * 2u;
    let tap = index / pairs / in_pairs % taps;
    let slice = index / pairs / in_pairs / taps;
    if (slice >= gradient_size.slices) {
        return;
    }
    let second = min(quad + 1u, gradient_size.out_quads - 1u) - quad;
    let next_channel = min(channel + 1u, gradient_size.in_quads - 1u) - channel;
    let down = i32(tap / gradient_size.kernel_width) - i32(gradient_size.padding_height);
    let along = i32(tap % gradient_size.kernel_width) - i32(gradient_size.padding_width);
    let pixels = gradient_size.batch * gradient_size.out_height * gradient_size.out_width;
    let first = slice * gradient_size.slice_pixels;
    let end = min(first + gradient_size.slice_pixels, pixels);
    let line = first / gradient_size.out_width;
    var image = line / gradient_size.out_height * gradient_size.in_height;
    var i = line % gradient_size.out_height;
    var j = first % gradient_size.out_width;
    var a00 = ZERO;
    var a01 = ZERO;
    var a10 = ZERO;
    var a11 = ZERO;
    var a20 = ZERO;
    var a21 = ZERO;
    var a30 = ZERO;
    var a31 = ZERO;
    var a40 = ZERO;
    var a41 = ZERO;
    var a50 = ZERO;
    var a51 = ZERO;
    var a60 = ZERO;
    var a61 = ZERO;
    var a70 = ZERO;
    var a71 = ZERO;
    for (var pixel = first; pixel < end; pixel += 1u) {
        let row = i32(i * gradient_size.stride_height) + down;
        let column = i32(j * gradient_size.stride_width) + along;
        if (row >= 0 && row < i32(gradient_size.in_height) && column >= 0 && column < i32(gradient_size.in_width)) {
            let at = (image + u32(row)) * gradient_size.in_width + u32(column);
            let base = at * gradient_size.in_quads + channel;
            let s0 = source[base];
            let s1 = source[base + next_channel];
            let d0 = upstream[pixel * gradient_size.out_quads + quad];
            let d1 = upstream[pixel * gradient_size.out_quads + quad + second];
            a00 += s0.x * d0;
            a01 += s0.x * d1;
            a10 += s0.y * d0;
            a11 += s0.y * d1;
            a20 += s0.z * d0;
            a21 += s0.z * d1;
            a30 += s0.w * d0;
            a31 += s0.w * d1;
            a40 += s1.x * d0;
            a41 += s1.x * d1;
            a50 += s1.y * d0;
            a51 += s1.y * d1;
            a60 += s1.z * d0;
            a61 += s1.z * d1;
            a70 += s1.w * d0;
            a71 += s1.w * d1;
        }
        j += 1u;
        if (j == gradient_size.out_width) {
            j = 0u;
            i += 1u;
            if (i == gradient_size.out_height) {
                i = 0u;
                image += gradient_size.in_height;
            }
        }
    }
    let row = (slice * taps + tap) * gradient_size.in_quads * 4u + channel * 4u;
    let to0 = row * gradient_size.out_quads + quad;
    gradient[to0 + 0u * gradient_size.out_quads] = a00;
    gradient[to0 + 1u * gradient_size.out_quads] = a10;
    gradient[to0 + 2u * gradient_size.out_quads] = a20;
    gradient[to0 + 3u * gradient_size.out_quads] = a30;
    if (second != 0u) {
        gradient[to0 + 0u * gradient_size.out_quads + 1u] = a01;
        gradient[to0 + 1u * gradient_size.out_quads + 1u] = a11;
        gradient[to0 + 2u * gradient_size.out_quads + 1u] = a21;
        gradient[to0 + 3u * gradient_size.out_quads + 1u] = a31;
    }
    if (next_channel != 0u) {
        let to4 = to0 + 4u * gradient_size.out_quads;
        gradient[to4 + 0u * gradient_size.out_quads] = a40;
        gradient[to4 + 1u * gradient_size.out_quads] = a50;
        gradient[to4 + 2u * gradient_size.out_quads] = a60;
        gradient[to4 + 3u * gradient_size.out_quads] = a70;
        if (second != 0u) {
            gradient[to4 + 0u * gradient_size.out_quads + 1u] = a41;
            gradient[to4 + 1u * gradient_size.out_quads + 1u] = a51;
            gradient[to4 + 2u * gradient_size.out_quads + 1u] = a61;
            gradient[to4 + 3u * gradient_size.out_quads + 1u] = a71;
        }
    }
}
