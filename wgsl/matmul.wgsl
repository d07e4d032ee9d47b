// Matrix product of rows with a weight, and its gradients: linear layers and 1x1 convolutions. Register tiles, no
// barriers.
//
//   forward      y[m,k]  = b[k] + r[m,k] + sum_c x[m,c] * w[c,k]
//   grad_input   dx[m,c] = r[m,c] + sum_k dy[m,k] * w[c,k]
//   grad_weight  dw[c,k] = sum_m x[m,c] * dy[m,k]
// Layouts (P: rounded up to 4): x [M,P(C)]; y, r, dy [M,P(K)]; w [P(C),P(K)]; b [P(K)].
// An invocation of `forward` and `grad_input` makes 8 rows of 8 columns: 16 loads for 256 multiply-adds. One of
// `grad_weight` sums 8 x 8 weights over one slice of rows into partial [slices, P(C), P(K)]; reduce_rows.wgsl adds the
// slices.

override WG: u32;

struct Size {
    rows: u32,
    in_quads: u32,
    out_quads: u32,
    has_bias: u32,
    has_residual: u32,
    slices: u32,
    slice_rows: u32,
    pad0: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias Source = vec4<f32>;
alias Residual = vec4<f32>;
alias Result = vec4<f32>;
alias Gradient = vec4<f32>;
alias Upstream = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read_write> result: array<Result>;
@group(0) @binding(5) var<uniform> size: Size;

@group(0) @binding(2) var<storage, read> addend: array<Residual>;
@group(0) @binding(3) var<storage, read_write> gradient: array<Gradient>;
@group(0) @binding(4) var<uniform> gradient_size: Size;

@group(0) @binding(1) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> weight_size: Size;

const ZERO = vec4<f32>(0.0);

fn put(row: u32, quad: u32, has_next: bool, value0: vec4<f32>, value1: vec4<f32>, bias0: vec4<f32>, bias1: vec4<f32>) {
    if (row >= size.rows) {
        return;
    }
    let at = row * size.out_quads + quad;
    var v0 = value0 + bias0;
    var v1 = value1 + bias1;
    if (size.has_residual != 0u) {
        v0 += vec4<f32>(residual[at]);
        if (has_next) {
            v1 += vec4<f32>(residual[at + 1u]);
        }
    }
    result[at] = Result(v0);
    if (has_next) {
        result[at + 1u] = Result(v1);
    }
}

fn put_gradient(row: u32, quad: u32, has_next: bool, value0: vec4<f32>, value1: vec4<f32>) {
    if (row >= gradient_size.rows) {
        return;
    }
    let at = row * gradient_size.in_quads + quad;
    var v0 = value0;
    var v1 = value1;
    if (gradient_size.has_residual != 0u) {
        v0 += vec4<f32>(addend[at]);
        if (has_next) {
            v1 += vec4<f32>(addend[at + 1u]);
        }
    }
    gradient[at] = Gradient(v0);
    if (has_next) {
        gradient[at + 1u] = Gradient(v1);
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
    let row = index / pairs * 8u;
    if (row >= size.rows) {
        return;
    }
    let next_quad = min(quad + 1u, size.out_quads - 1u);
    let last = size.rows - 1u;
    let from0 = min(row + 0u, last) * size.in_quads;
    let from1 = min(row + 1u, last) * size.in_quads;
    let from2 = min(row + 2u, last) * size.in_quads;
    let from3 = min(row + 3u, last) * size.in_quads;
    let from4 = min(row + 4u, last) * size.in_quads;
    let from5 = min(row + 5u, last) * size.in_quads;
    let from6 = min(row + 6u, last) * size.in_quads;
    let from7 = min(row + 7u, last) * size.in_quads;
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
    for (var channel = 0u; channel < size.in_quads; channel++) {
        let m0 = mat4x4<f32>(
            weight[(channel * 4u + 0u) * size.out_quads + quad],
            weight[(channel * 4u + 1u) * size.out_quads + quad],
            weight[(channel * 4u + 2u) * size.out_quads + quad],
            weight[(channel * 4u + 3u) * size.out_quads + quad],
        );
        let m1 = mat4x4<f32>(
            weight[(channel * 4u + 0u) * size.out_quads + next_quad],
            weight[(channel * 4u + 1u) * size.out_quads + next_quad],
            weight[(channel * 4u + 2u) * size.out_quads + next_quad],
            weight[(channel * 4u + 3u) * size.out_quads + next_quad],
        );
        let s0 = vec4<f32>(source[from0 + channel]);
        let s1 = vec4<f32>(source[from1 + channel]);
        let s2 = vec4<f32>(source[from2 + channel]);
        let s3 = vec4<f32>(source[from3 + channel]);
        let s4 = vec4<f32>(source[from4 + channel]);
        let s5 = vec4<f32>(source[from5 + channel]);
        let s6 = vec4<f32>(source[from6 + channel]);
        let s7 = vec4<f32>(source[from7 + channel]);
        a00 += m0 * s0;
        a01 += m1 * s0;
        a10 += m0 * s1;
        a11 += m1 * s1;
        a20 += m0 * s2;
        a21 += m1 * s2;
        a30 += m0 * s3;
        a31 += m1 * s3;
        a40 += m0 * s4;
        a41 += m1 * s4;
        a50 += m0 * s5;
        a51 += m1 * s5;
        a60 += m0 * s6;
        a61 += m1 * s6;
        a70 += m0 * s7;
        a71 += m1 * s7;
    }
    let has_next = quad + 1u < size.out_quads;
    var bias0 = ZERO;
    var bias1 = ZERO;
    if (size.has_bias != 0u) {
        bias0 = bias[quad];
        bias1 = bias[next_quad];
    }
    put(row + 0u, quad, has_next, a00, a01, bias0, bias1);
    put(row + 1u, quad, has_next, a10, a11, bias0, bias1);
    put(row + 2u, quad, has_next, a20, a21, bias0, bias1);
    put(row + 3u, quad, has_next, a30, a31, bias0, bias1);
    put(row + 4u, quad, has_next, a40, a41, bias0, bias1);
    put(row + 5u, quad, has_next, a50, a51, bias0, bias1);
    put(row + 6u, quad, has_next, a60, a61, bias0, bias1);
    put(row + 7u, quad, has_next, a70, a71, bias0, bias1);
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
    let row = index / pairs * 8u;
    if (row >= gradient_size.rows) {
        return;
    }
    let next_quad = min(quad + 1u, gradient_size.in_quads - 1u);
    let last = gradient_size.rows - 1u;
    let from0 = min(row + 0u, last) * gradient_size.out_quads;
    let from1 = min(row + 1u, last) * gradient_size.out_quads;
    let from2 = min(row + 2u, last) * gradient_size.out_quads;
    let from3 = min(row + 3u, last) * gradient_size.out_quads;
    let from4 = min(row + 4u, last) * gradient_size.out_quads;
    let from5 = min(row + 5u, last) * gradient_size.out_quads;
    let from6 = min(row + 6u, last) * gradient_size.out_quads;
    let from7 = min(row + 7u, last) * gradient_size.out_quads;
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
    for (var channel = 0u; channel < gradient_size.out_quads; channel++) {
        let m0 = mat4x4<f32>(
            weight[(quad * 4u + 0u) * gradient_size.out_quads + channel],
            weight[(quad * 4u + 1u) * gradient_size.out_quads + channel],
            weight[(quad * 4u + 2u) * gradient_size.out_quads + channel],
            weight[(quad * 4u + 3u) * gradient_size.out_quads + channel],
        );
        let m1 = mat4x4<f32>(
            weight[(next_quad * 4u + 0u) * gradient_size.out_quads + channel],
            weight[(next_quad * 4u + 1u) * gradient_size.out_quads + channel],
            weight[(next_quad * 4u + 2u) * gradient_size.out_quads + channel],
            weight[(next_quad * 4u + 3u) * gradient_size.out_quads + channel],
        );
        let s0 = vec4<f32>(source[from0 + channel]);
        let s1 = vec4<f32>(source[from1 + channel]);
        let s2 = vec4<f32>(source[from2 + channel]);
        let s3 = vec4<f32>(source[from3 + channel]);
        let s4 = vec4<f32>(source[from4 + channel]);
        let s5 = vec4<f32>(source[from5 + channel]);
        let s6 = vec4<f32>(source[from6 + channel]);
        let s7 = vec4<f32>(source[from7 + channel]);
        a00 += s0 * m0;
        a01 += s0 * m1;
        a10 += s1 * m0;
        a11 += s1 * m1;
        a20 += s2 * m0;
        a21 += s2 * m1;
        a30 += s3 * m0;
        a31 += s3 * m1;
        a40 += s4 * m0;
        a41 += s4 * m1;
        a50 += s5 * m0;
        a51 += s5 * m1;
        a60 += s6 * m0;
        a61 += s6 * m1;
        a70 += s7 * m0;
        a71 += s7 * m1;
    }
    let has_next = quad + 1u < gradient_size.in_quads;
    put_gradient(row + 0u, quad, has_next, a00, a01);
    put_gradient(row + 1u, quad, has_next, a10, a11);
    put_gradient(row + 2u, quad, has_next, a20, a21);
    put_gradient(row + 3u, quad, has_next, a30, a31);
    put_gradient(row + 4u, quad, has_next, a40, a41);
    put_gradient(row + 5u, quad, has_next, a50, a51);
    put_gradient(row + 6u, quad, has_next, a60, a61);
    put_gradient(row + 7u, quad, has_next, a70, a71);
}

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let column_pairs = (weight_size.out_quads + 1u) / 2u;
    let row_pairs = (weight_size.in_quads + 1u) / 2u;
    let quad = (index % column_pairs) * 2u;
    let channel = (index / column_pairs % row_pairs) * 2u;
    let slice = index / column_pairs / row_pairs;
    if (slice >= weight_size.slices) {
        return;
    }
    let next_quad = min(quad + 1u, weight_size.out_quads - 1u);
    let next_channel = min(channel + 1u, weight_size.in_quads - 1u);
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
    let first = slice * weight_size.slice_rows;
    let end = min(first + weight_size.slice_rows, weight_size.rows);
    for (var row = first; row < end; row++) {
        let s0 = vec4<f32>(source[row * weight_size.in_quads + channel]);
        let s1 = vec4<f32>(source[row * weight_size.in_quads + next_channel]);
        let d0 = vec4<f32>(upstream[row * weight_size.out_quads + quad]);
        let d1 = vec4<f32>(upstream[row * weight_size.out_quads + next_quad]);
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
    let has_next = quad + 1u < weight_size.out_quads;
    let has_next_channel = channel + 1u < weight_size.in_quads;
    let to = (slice * weight_size.in_quads + channel) * 4u * weight_size.out_quads + quad;
    partials[to + 0u * weight_size.out_quads] = a00;
    partials[to + 1u * weight_size.out_quads] = a10;
    partials[to + 2u * weight_size.out_quads] = a20;
    partials[to + 3u * weight_size.out_quads] = a30;
    if (has_next) {
        partials[to + 0u * weight_size.out_quads + 1u] = a01;
        partials[to + 1u * weight_size.out_quads + 1u] = a11;
        partials[to + 2u * weight_size.out_quads + 1u] = a21;
        partials[to + 3u * weight_size.out_quads + 1u] = a31;
    }
    if (has_next_channel) {
        partials[to + 4u * weight_size.out_quads] = a40;
        partials[to + 5u * weight_size.out_quads] = a50;
        partials[to + 6u * weight_size.out_quads] = a60;
        partials[to + 7u * weight_size.out_quads] = a70;
    }
    if (has_next && has_next_channel) {
        partials[to + 4u * weight_size.out_quads + 1u] = a41;
        partials[to + 5u * weight_size.out_quads + 1u] = a51;
        partials[to + 6u * weight_size.out_quads + 1u] = a61;
        partials[to + 7u * weight_size.out_quads + 1u] = a71;
    }
}
