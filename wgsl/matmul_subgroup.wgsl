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

// One of four. An array that is indexed would do, but must be memory, which some drivers are slow to compile.
fn pick(i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, i == 1u), select(c, d, i == 3u), i >= 2u);
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
    // Stores in a loop: spelled out they would be most of what a driver has to compile.
    let end = min(row + 32u, size.rows);
    for (var first = row; first < end; first += 8u) {
        let eight = (first - row) / 8u;
        let s0 = pick(eight, a0, a8, a16, a24);
        let s1 = pick(eight, a1, a9, a17, a25);
        let s2 = pick(eight, a2, a10, a18, a26);
        let s3 = pick(eight, a3, a11, a19, a27);
        let s4 = pick(eight, a4, a12, a20, a28);
        let s5 = pick(eight, a5, a13, a21, a29);
        let s6 = pick(eight, a6, a14, a22, a30);
        let s7 = pick(eight, a7, a15, a23, a31);
        let eight_end = min(first + 8u, end);
        for (var r = first; r < eight_end; r++) {
            let i = r - first;
            let low = pick(i, s0, s1, s2, s3);
            let high = pick(i - 4u, s4, s5, s6, s7);
            let at = r * quads + quad;
            var value = select(low, high, i >= 4u) + b;
            if (size.has_residual != 0u) {
                value += vec4<f32>(residual[at]);
            }
            result[at] = Result(value);
        }
    }
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

fn pick_matrix(i: u32, a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        pick(i, a[0], b[0], c[0], d[0]),
        pick(i, a[1], b[1], c[1], d[1]),
        pick(i, a[2], b[2], c[2], d[2]),
        pick(i, a[3], b[3], c[3], d[3]),
    );
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
    let last_row = min(column + 8u, weight_size.in_quads);
    for (var r = column; r < last_row; r++) {
        let i = r - column;
        let low = pick_matrix(i, a0, a1, a2, a3);
        let high = pick_matrix(i - 4u, a4, a5, a6, a7);
        let sum = pick_matrix(i / 4u, low, high, high, high);
        let at = (slice * weight_size.in_quads + r) * 4u * weight_size.out_quads + quad;
        partials[at] = sum[0];
        partials[at + weight_size.out_quads] = sum[1];
        partials[at + 2u * weight_size.out_quads] = sum[2];
        partials[at + 3u * weight_size.out_quads] = sum[3];
    }
}
