// Matrix product of rows with a weight, and its gradients, where subgroups are of exactly eight invocations: the vec4s of
// the rows that eight lanes load pass from lane to lane instead of being loaded by each. A workgroup is one subgroup.
//
//   forward      y[m,k]  = b[k] + r[m,k] + sum_c x[m,c] * w[c,k]
//   grad_input   dx[m,c] = r[m,c] + sum_k dy[m,k] * w[c,k]
//   grad_weight  dw[c,k] = sum_m x[m,c] * dy[m,k]
// Layouts (P: rounded up to 4): x [M,P(C)]; y, r, dy [M,P(K)]; w [P(C),P(K)]; b [P(K)]. TRANSPOSED = 1 is grad_input:
// source is dy, result is dx.
// `product` makes 32 rows of 32 columns, a lane four of the columns: 8 loads for 512 multiply-adds. `grad_weight` sums
// 32 x 32 weights over one slice of rows into partials [slices, P(C), P(K)]: 16 loads for 1,024 multiply-adds.
// reduce_rows.wgsl adds the slices.

override TRANSPOSED: u32 = 0u;

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
alias Upstream = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read_write> result: array<Result>;
@group(0) @binding(5) var<uniform> size: Size;

@group(0) @binding(1) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> weight_size: Size;

const ZERO = vec4<f32>(0.0);
const LANES = 8u;

// The weights from four read columns to the lane's four written ones.
fn weights(column: u32, quad: u32) -> mat4x4<f32> {
    if (TRANSPOSED == 1u) {
        let at = quad * 4u * size.out_quads + column;
        return transpose(mat4x4<f32>(
            weight[at],
            weight[at + size.out_quads],
            weight[at + 2u * size.out_quads],
            weight[at + 3u * size.out_quads],
        ));
    }
    let at = column * 4u * size.out_quads + quad;
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

fn put(row: u32, quad: u32, quads: u32, sum: vec4<f32>) {
    if (row >= size.rows) {
        return;
    }
    let at = row * quads + quad;
    var value = sum;
    if (size.has_residual != 0u) {
        value += vec4<f32>(residual[at]);
    }
    result[at] = Result(value);
}

@compute @workgroup_size(LANES)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let read_quads = select(size.in_quads, size.out_quads, TRANSPOSED == 1u);
    let quads = select(size.out_quads, size.in_quads, TRANSPOSED == 1u);
    let eights = (quads + LANES - 1u) / LANES;
    let own = (index % eights) * LANES + lane;
    let quad = min(own, quads - 1u);
    let row = index / eights * 32u;
    if (row >= size.rows) {
        return;
    }
    let last = size.rows - 1u;
    let from0 = min(row + 0u + lane, last) * read_quads;
    let from1 = min(row + 8u + lane, last) * read_quads;
    let from2 = min(row + 16u + lane, last) * read_quads;
    let from3 = min(row + 24u + lane, last) * read_quads;
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
    for (var column = 0u; column < read_quads; column++) {
        let s0 = vec4<f32>(source[from0 + column]);
        let s1 = vec4<f32>(source[from1 + column]);
        let s2 = vec4<f32>(source[from2 + column]);
        let s3 = vec4<f32>(source[from3 + column]);
        let m = weights(column, quad);
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
    if (own >= quads) {
        return;
    }
    var b = ZERO;
    if (size.has_bias != 0u) {
        b = bias[quad];
    }
    put(row + 0u, quad, quads, a0 + b);
    put(row + 1u, quad, quads, a1 + b);
    put(row + 2u, quad, quads, a2 + b);
    put(row + 3u, quad, quads, a3 + b);
    put(row + 4u, quad, quads, a4 + b);
    put(row + 5u, quad, quads, a5 + b);
    put(row + 6u, quad, quads, a6 + b);
    put(row + 7u, quad, quads, a7 + b);
    put(row + 8u, quad, quads, a8 + b);
    put(row + 9u, quad, quads, a9 + b);
    put(row + 10u, quad, quads, a10 + b);
    put(row + 11u, quad, quads, a11 + b);
    put(row + 12u, quad, quads, a12 + b);
    put(row + 13u, quad, quads, a13 + b);
    put(row + 14u, quad, quads, a14 + b);
    put(row + 15u, quad, quads, a15 + b);
    put(row + 16u, quad, quads, a16 + b);
    put(row + 17u, quad, quads, a17 + b);
    put(row + 18u, quad, quads, a18 + b);
    put(row + 19u, quad, quads, a19 + b);
    put(row + 20u, quad, quads, a20 + b);
    put(row + 21u, quad, quads, a21 + b);
    put(row + 22u, quad, quads, a22 + b);
    put(row + 23u, quad, quads, a23 + b);
    put(row + 24u, quad, quads, a24 + b);
    put(row + 25u, quad, quads, a25 + b);
    put(row + 26u, quad, quads, a26 + b);
    put(row + 27u, quad, quads, a27 + b);
    put(row + 28u, quad, quads, a28 + b);
    put(row + 29u, quad, quads, a29 + b);
    put(row + 30u, quad, quads, a30 + b);
    put(row + 31u, quad, quads, a31 + b);
}

// Adds the products of four columns of x and the lane's four of dy.
fn outer(sum: mat4x4<f32>, x: vec4<f32>, dy: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        fma(x.xxxx, dy, sum[0]),
        fma(x.yyyy, dy, sum[1]),
        fma(x.zzzz, dy, sum[2]),
        fma(x.wwww, dy, sum[3]),
    );
}

fn put_weights(slice: u32, row: u32, quad: u32, sum: mat4x4<f32>) {
    if (row >= weight_size.in_quads) {
        return;
    }
    let at = (slice * weight_size.in_quads + row) * 4u * weight_size.out_quads + quad;
    partials[at] = sum[0];
    partials[at + weight_size.out_quads] = sum[1];
    partials[at + 2u * weight_size.out_quads] = sum[2];
    partials[at + 3u * weight_size.out_quads] = sum[3];
}

@compute @workgroup_size(LANES)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let eights = (weight_size.out_quads + LANES - 1u) / LANES;
    let down = (weight_size.in_quads + LANES - 1u) / LANES;
    let own = (index % eights) * LANES + lane;
    let quad = min(own, weight_size.out_quads - 1u);
    let column = index / eights % down * LANES;
    let slice = index / eights / down;
    if (slice >= weight_size.slices) {
        return;
    }
    // The lane's quad of x.
    let own_x = min(column + lane, weight_size.in_quads - 1u);
    let end = min((slice + 1u) * weight_size.slice_rows, weight_size.rows);
    var a0 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a1 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a2 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a3 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a4 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a5 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a6 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a7 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    for (var row = slice * weight_size.slice_rows; row < end; row += 8u) {
        let last = end - row - 1u;
        let x0 = vec4<f32>(source[row * weight_size.in_quads + own_x]);
        let x1 = select(ZERO, vec4<f32>(source[(row + min(1u, last)) * weight_size.in_quads + own_x]), last >= 1u);
        let x2 = select(ZERO, vec4<f32>(source[(row + min(2u, last)) * weight_size.in_quads + own_x]), last >= 2u);
        let x3 = select(ZERO, vec4<f32>(source[(row + min(3u, last)) * weight_size.in_quads + own_x]), last >= 3u);
        let x4 = select(ZERO, vec4<f32>(source[(row + min(4u, last)) * weight_size.in_quads + own_x]), last >= 4u);
        let x5 = select(ZERO, vec4<f32>(source[(row + min(5u, last)) * weight_size.in_quads + own_x]), last >= 5u);
        let x6 = select(ZERO, vec4<f32>(source[(row + min(6u, last)) * weight_size.in_quads + own_x]), last >= 6u);
        let x7 = select(ZERO, vec4<f32>(source[(row + min(7u, last)) * weight_size.in_quads + own_x]), last >= 7u);
        let d0 = vec4<f32>(upstream[(row + min(0u, last)) * weight_size.out_quads + quad]);
        let d1 = vec4<f32>(upstream[(row + min(1u, last)) * weight_size.out_quads + quad]);
        let d2 = vec4<f32>(upstream[(row + min(2u, last)) * weight_size.out_quads + quad]);
        let d3 = vec4<f32>(upstream[(row + min(3u, last)) * weight_size.out_quads + quad]);
        let d4 = vec4<f32>(upstream[(row + min(4u, last)) * weight_size.out_quads + quad]);
        let d5 = vec4<f32>(upstream[(row + min(5u, last)) * weight_size.out_quads + quad]);
        let d6 = vec4<f32>(upstream[(row + min(6u, last)) * weight_size.out_quads + quad]);
        let d7 = vec4<f32>(upstream[(row + min(7u, last)) * weight_size.out_quads + quad]);
        a0 = outer(a0, subgroupBroadcast(x0, 0u), d0);
        a0 = outer(a0, subgroupBroadcast(x1, 0u), d1);
        a0 = outer(a0, subgroupBroadcast(x2, 0u), d2);
        a0 = outer(a0, subgroupBroadcast(x3, 0u), d3);
        a0 = outer(a0, subgroupBroadcast(x4, 0u), d4);
        a0 = outer(a0, subgroupBroadcast(x5, 0u), d5);
        a0 = outer(a0, subgroupBroadcast(x6, 0u), d6);
        a0 = outer(a0, subgroupBroadcast(x7, 0u), d7);
        a1 = outer(a1, subgroupBroadcast(x0, 1u), d0);
        a1 = outer(a1, subgroupBroadcast(x1, 1u), d1);
        a1 = outer(a1, subgroupBroadcast(x2, 1u), d2);
        a1 = outer(a1, subgroupBroadcast(x3, 1u), d3);
        a1 = outer(a1, subgroupBroadcast(x4, 1u), d4);
        a1 = outer(a1, subgroupBroadcast(x5, 1u), d5);
        a1 = outer(a1, subgroupBroadcast(x6, 1u), d6);
        a1 = outer(a1, subgroupBroadcast(x7, 1u), d7);
        a2 = outer(a2, subgroupBroadcast(x0, 2u), d0);
        a2 = outer(a2, subgroupBroadcast(x1, 2u), d1);
        a2 = outer(a2, subgroupBroadcast(x2, 2u), d2);
        a2 = outer(a2, subgroupBroadcast(x3, 2u), d3);
        a2 = outer(a2, subgroupBroadcast(x4, 2u), d4);
        a2 = outer(a2, subgroupBroadcast(x5, 2u), d5);
        a2 = outer(a2, subgroupBroadcast(x6, 2u), d6);
        a2 = outer(a2, subgroupBroadcast(x7, 2u), d7);
        a3 = outer(a3, subgroupBroadcast(x0, 3u), d0);
        a3 = outer(a3, subgroupBroadcast(x1, 3u), d1);
        a3 = outer(a3, subgroupBroadcast(x2, 3u), d2);
        a3 = outer(a3, subgroupBroadcast(x3, 3u), d3);
        a3 = outer(a3, subgroupBroadcast(x4, 3u), d4);
        a3 = outer(a3, subgroupBroadcast(x5, 3u), d5);
        a3 = outer(a3, subgroupBroadcast(x6, 3u), d6);
        a3 = outer(a3, subgroupBroadcast(x7, 3u), d7);
        a4 = outer(a4, subgroupBroadcast(x0, 4u), d0);
        a4 = outer(a4, subgroupBroadcast(x1, 4u), d1);
        a4 = outer(a4, subgroupBroadcast(x2, 4u), d2);
        a4 = outer(a4, subgroupBroadcast(x3, 4u), d3);
        a4 = outer(a4, subgroupBroadcast(x4, 4u), d4);
        a4 = outer(a4, subgroupBroadcast(x5, 4u), d5);
        a4 = outer(a4, subgroupBroadcast(x6, 4u), d6);
        a4 = outer(a4, subgroupBroadcast(x7, 4u), d7);
        a5 = outer(a5, subgroupBroadcast(x0, 5u), d0);
        a5 = outer(a5, subgroupBroadcast(x1, 5u), d1);
        a5 = outer(a5, subgroupBroadcast(x2, 5u), d2);
        a5 = outer(a5, subgroupBroadcast(x3, 5u), d3);
        a5 = outer(a5, subgroupBroadcast(x4, 5u), d4);
        a5 = outer(a5, subgroupBroadcast(x5, 5u), d5);
        a5 = outer(a5, subgroupBroadcast(x6, 5u), d6);
        a5 = outer(a5, subgroupBroadcast(x7, 5u), d7);
        a6 = outer(a6, subgroupBroadcast(x0, 6u), d0);
        a6 = outer(a6, subgroupBroadcast(x1, 6u), d1);
        a6 = outer(a6, subgroupBroadcast(x2, 6u), d2);
        a6 = outer(a6, subgroupBroadcast(x3, 6u), d3);
        a6 = outer(a6, subgroupBroadcast(x4, 6u), d4);
        a6 = outer(a6, subgroupBroadcast(x5, 6u), d5);
        a6 = outer(a6, subgroupBroadcast(x6, 6u), d6);
        a6 = outer(a6, subgroupBroadcast(x7, 6u), d7);
        a7 = outer(a7, subgroupBroadcast(x0, 7u), d0);
        a7 = outer(a7, subgroupBroadcast(x1, 7u), d1);
        a7 = outer(a7, subgroupBroadcast(x2, 7u), d2);
        a7 = outer(a7, subgroupBroadcast(x3, 7u), d3);
        a7 = outer(a7, subgroupBroadcast(x4, 7u), d4);
        a7 = outer(a7, subgroupBroadcast(x5, 7u), d5);
        a7 = outer(a7, subgroupBroadcast(x6, 7u), d6);
        a7 = outer(a7, subgroupBroadcast(x7, 7u), d7);
    }
    if (own >= weight_size.out_quads) {
        return;
    }
    put_weights(slice, column + 0u, quad, a0);
    put_weights(slice, column + 1u, quad, a1);
    put_weights(slice, column + 2u, quad, a2);
    put_weights(slice, column + 3u, quad, a3);
    put_weights(slice, column + 4u, quad, a4);
    put_weights(slice, column + 5u, quad, a5);
    put_weights(slice, column + 6u, quad, a6);
    put_weights(slice, column + 7u, quad, a7);
}
