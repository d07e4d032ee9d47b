// 3x3 convolution with stride 1 and padding 1, and its gradient for the input, where subgroups are of exactly eight
// invocations: the vec4s that eight lanes load pass from lane to lane instead of being loaded by each. A workgroup is one
// subgroup.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, i+u-1, j+v-1, c] * w[u*3+v, c, k]
//   grad_input  dx[n,i,j,c] = sum dy[n, i+1-u, j+1-v, k] * w[u*3+v, c, k]
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H,W,P(K)]; w [9,P(C),P(K)]; b [P(K)]. TRANSPOSED = 1 is the
// gradient: source is dy, result is dx.
// A subgroup makes 4 x 8 pixels of 32 channels, a lane four of the channels. Per row of taps and input vec4 each lane
// loads 5 of the 4 x 10 pixels and 12 vec4s of weights: 17 loads for 1,536 multiply-adds.

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

// The weights of a tap from four read channels (columns) to the lane's four written ones.
fn weights(tap: u32, channel: u32, quad: u32) -> mat4x4<f32> {
    if (TRANSPOSED == 1u) {
        let at = ((8u - tap) * size.weight_rows + quad * 4u) * size.weight_quads + channel;
        return transpose(mat4x4<f32>(
            weight[at],
            weight[at + size.weight_quads],
            weight[at + 2u * size.weight_quads],
            weight[at + 3u * size.weight_quads],
        ));
    }
    let at = (tap * size.weight_rows + channel * 4u) * size.weight_quads + quad;
    return mat4x4<f32>(
        weight[at],
        weight[at + size.weight_quads],
        weight[at + 2u * size.weight_quads],
        weight[at + 3u * size.weight_quads],
    );
}

fn add(sum: vec4<f32>, m: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return fma(m[0], v.xxxx, fma(m[1], v.yyyy, fma(m[2], v.zzzz, fma(m[3], v.wwww, sum))));
}

// One of four. An array that is indexed would do, but must be memory, which some drivers are slow to compile.
fn pick(i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, i == 1u), select(c, d, i == 3u), i >= 2u);
}

fn put(at: u32, sum: vec4<f32>) {
    var value = sum;
    if (size.has_residual != 0u) {
        value += vec4<f32>(residual[at]);
    }
    result[at] = Result(value);
}

@compute @workgroup_size(LANES)
fn convolve(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let eights = (size.out_quads + LANES - 1u) / LANES;
    let tiles_x = (size.out_width + 7u) / 8u;
    let tiles_y = (size.out_height + 3u) / 4u;
    let own = (index % eights) * LANES + lane;
    let quad = min(own, size.out_quads - 1u);
    let tile = index / eights;
    let x0 = (tile % tiles_x) * 8u;
    let y0 = (tile / tiles_x % tiles_y) * 4u;
    let n = tile / tiles_x / tiles_y;
    if (n >= size.batch) {
        return;
    }
    let last_row = i32(size.in_height) - 1;
    let last_column = i32(size.in_width) - 1;
    let column0 = i32(x0 + (0u + lane) % 10u) - 1;
    let row0 = i32(y0 + (0u + lane) / 10u) - 1;
    let inside0 = column0 >= 0 && column0 <= last_column;
    let at0 = u32(clamp(column0, 0, last_column)) * size.in_quads;
    let column1 = i32(x0 + (8u + lane) % 10u) - 1;
    let row1 = i32(y0 + (8u + lane) / 10u) - 1;
    let inside1 = column1 >= 0 && column1 <= last_column;
    let at1 = u32(clamp(column1, 0, last_column)) * size.in_quads;
    let column2 = i32(x0 + (16u + lane) % 10u) - 1;
    let row2 = i32(y0 + (16u + lane) / 10u) - 1;
    let inside2 = column2 >= 0 && column2 <= last_column;
    let at2 = u32(clamp(column2, 0, last_column)) * size.in_quads;
    let column3 = i32(x0 + (24u + lane) % 10u) - 1;
    let row3 = i32(y0 + (24u + lane) / 10u) - 1;
    let inside3 = column3 >= 0 && column3 <= last_column;
    let at3 = u32(clamp(column3, 0, last_column)) * size.in_quads;
    let column4 = i32(x0 + (32u + lane) % 10u) - 1;
    let row4 = i32(y0 + (32u + lane) / 10u) - 1;
    let inside4 = column4 >= 0 && column4 <= last_column;
    let at4 = u32(clamp(column4, 0, last_column)) * size.in_quads;
    var a00 = ZERO;
    var a01 = ZERO;
    var a02 = ZERO;
    var a03 = ZERO;
    var a04 = ZERO;
    var a05 = ZERO;
    var a06 = ZERO;
    var a07 = ZERO;
    var a10 = ZERO;
    var a11 = ZERO;
    var a12 = ZERO;
    var a13 = ZERO;
    var a14 = ZERO;
    var a15 = ZERO;
    var a16 = ZERO;
    var a17 = ZERO;
    var a20 = ZERO;
    var a21 = ZERO;
    var a22 = ZERO;
    var a23 = ZERO;
    var a24 = ZERO;
    var a25 = ZERO;
    var a26 = ZERO;
    var a27 = ZERO;
    var a30 = ZERO;
    var a31 = ZERO;
    var a32 = ZERO;
    var a33 = ZERO;
    var a34 = ZERO;
    var a35 = ZERO;
    var a36 = ZERO;
    var a37 = ZERO;

    for (var u = 0u; u < 3u; u++) {
        let from_row0 = row0 + i32(u);
        let inside_row0 = inside0 && from_row0 >= 0 && from_row0 <= last_row;
        let from0 = (n * size.in_height + u32(clamp(from_row0, 0, last_row))) * size.in_width * size.in_quads + at0;
        let from_row1 = row1 + i32(u);
        let inside_row1 = inside1 && from_row1 >= 0 && from_row1 <= last_row;
        let from1 = (n * size.in_height + u32(clamp(from_row1, 0, last_row))) * size.in_width * size.in_quads + at1;
        let from_row2 = row2 + i32(u);
        let inside_row2 = inside2 && from_row2 >= 0 && from_row2 <= last_row;
        let from2 = (n * size.in_height + u32(clamp(from_row2, 0, last_row))) * size.in_width * size.in_quads + at2;
        let from_row3 = row3 + i32(u);
        let inside_row3 = inside3 && from_row3 >= 0 && from_row3 <= last_row;
        let from3 = (n * size.in_height + u32(clamp(from_row3, 0, last_row))) * size.in_width * size.in_quads + at3;
        let from_row4 = row4 + i32(u);
        let inside_row4 = inside4 && from_row4 >= 0 && from_row4 <= last_row;
        let from4 = (n * size.in_height + u32(clamp(from_row4, 0, last_row))) * size.in_width * size.in_quads + at4;
        for (var channel = 0u; channel < size.in_quads; channel++) {
            let s0 = select(ZERO, vec4<f32>(source[from0 + channel]), inside_row0);
            let s1 = select(ZERO, vec4<f32>(source[from1 + channel]), inside_row1);
            let s2 = select(ZERO, vec4<f32>(source[from2 + channel]), inside_row2);
            let s3 = select(ZERO, vec4<f32>(source[from3 + channel]), inside_row3);
            let s4 = select(ZERO, vec4<f32>(source[from4 + channel]), inside_row4);
            let m0 = weights(u * 3u + 0u, channel, quad);
            let m1 = weights(u * 3u + 1u, channel, quad);
            let m2 = weights(u * 3u + 2u, channel, quad);
            let b00 = subgroupBroadcast(s0, 0u);
            let b01 = subgroupBroadcast(s0, 1u);
            let b02 = subgroupBroadcast(s0, 2u);
            let b03 = subgroupBroadcast(s0, 3u);
            let b04 = subgroupBroadcast(s0, 4u);
            let b05 = subgroupBroadcast(s0, 5u);
            let b06 = subgroupBroadcast(s0, 6u);
            let b07 = subgroupBroadcast(s0, 7u);
            let b08 = subgroupBroadcast(s1, 0u);
            let b09 = subgroupBroadcast(s1, 1u);
            a00 = add(add(add(a00, m0, b00), m1, b01), m2, b02);
            a01 = add(add(add(a01, m0, b01), m1, b02), m2, b03);
            a02 = add(add(add(a02, m0, b02), m1, b03), m2, b04);
            a03 = add(add(add(a03, m0, b03), m1, b04), m2, b05);
            a04 = add(add(add(a04, m0, b04), m1, b05), m2, b06);
            a05 = add(add(add(a05, m0, b05), m1, b06), m2, b07);
            a06 = add(add(add(a06, m0, b06), m1, b07), m2, b08);
            a07 = add(add(add(a07, m0, b07), m1, b08), m2, b09);
            let b10 = subgroupBroadcast(s1, 2u);
            let b11 = subgroupBroadcast(s1, 3u);
            let b12 = subgroupBroadcast(s1, 4u);
            let b13 = subgroupBroadcast(s1, 5u);
            let b14 = subgroupBroadcast(s1, 6u);
            let b15 = subgroupBroadcast(s1, 7u);
            let b16 = subgroupBroadcast(s2, 0u);
            let b17 = subgroupBroadcast(s2, 1u);
            let b18 = subgroupBroadcast(s2, 2u);
            let b19 = subgroupBroadcast(s2, 3u);
            a10 = add(add(add(a10, m0, b10), m1, b11), m2, b12);
            a11 = add(add(add(a11, m0, b11), m1, b12), m2, b13);
            a12 = add(add(add(a12, m0, b12), m1, b13), m2, b14);
            a13 = add(add(add(a13, m0, b13), m1, b14), m2, b15);
            a14 = add(add(add(a14, m0, b14), m1, b15), m2, b16);
            a15 = add(add(add(a15, m0, b15), m1, b16), m2, b17);
            a16 = add(add(add(a16, m0, b16), m1, b17), m2, b18);
            a17 = add(add(add(a17, m0, b17), m1, b18), m2, b19);
            let b20 = subgroupBroadcast(s2, 4u);
            let b21 = subgroupBroadcast(s2, 5u);
            let b22 = subgroupBroadcast(s2, 6u);
            let b23 = subgroupBroadcast(s2, 7u);
            let b24 = subgroupBroadcast(s3, 0u);
            let b25 = subgroupBroadcast(s3, 1u);
            let b26 = subgroupBroadcast(s3, 2u);
            let b27 = subgroupBroadcast(s3, 3u);
            let b28 = subgroupBroadcast(s3, 4u);
            let b29 = subgroupBroadcast(s3, 5u);
            a20 = add(add(add(a20, m0, b20), m1, b21), m2, b22);
            a21 = add(add(add(a21, m0, b21), m1, b22), m2, b23);
            a22 = add(add(add(a22, m0, b22), m1, b23), m2, b24);
            a23 = add(add(add(a23, m0, b23), m1, b24), m2, b25);
            a24 = add(add(add(a24, m0, b24), m1, b25), m2, b26);
            a25 = add(add(add(a25, m0, b25), m1, b26), m2, b27);
            a26 = add(add(add(a26, m0, b26), m1, b27), m2, b28);
            a27 = add(add(add(a27, m0, b27), m1, b28), m2, b29);
            let b30 = subgroupBroadcast(s3, 6u);
            let b31 = subgroupBroadcast(s3, 7u);
            let b32 = subgroupBroadcast(s4, 0u);
            let b33 = subgroupBroadcast(s4, 1u);
            let b34 = subgroupBroadcast(s4, 2u);
            let b35 = subgroupBroadcast(s4, 3u);
            let b36 = subgroupBroadcast(s4, 4u);
            let b37 = subgroupBroadcast(s4, 5u);
            let b38 = subgroupBroadcast(s4, 6u);
            let b39 = subgroupBroadcast(s4, 7u);
            a30 = add(add(add(a30, m0, b30), m1, b31), m2, b32);
            a31 = add(add(add(a31, m0, b31), m1, b32), m2, b33);
            a32 = add(add(add(a32, m0, b32), m1, b33), m2, b34);
            a33 = add(add(add(a33, m0, b33), m1, b34), m2, b35);
            a34 = add(add(add(a34, m0, b34), m1, b35), m2, b36);
            a35 = add(add(add(a35, m0, b35), m1, b36), m2, b37);
            a36 = add(add(add(a36, m0, b36), m1, b37), m2, b38);
            a37 = add(add(add(a37, m0, b37), m1, b38), m2, b39);
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
    let bottom = min(y0 + 4u, size.out_height);
    let right = min(x0 + 8u, size.out_width);
    for (var y = y0; y < bottom; y++) {
        let row = y - y0;
        let s0 = pick(row, a00, a10, a20, a30) + b;
        let s1 = pick(row, a01, a11, a21, a31) + b;
        let s2 = pick(row, a02, a12, a22, a32) + b;
        let s3 = pick(row, a03, a13, a23, a33) + b;
        let s4 = pick(row, a04, a14, a24, a34) + b;
        let s5 = pick(row, a05, a15, a25, a35) + b;
        let s6 = pick(row, a06, a16, a26, a36) + b;
        let s7 = pick(row, a07, a17, a27, a37) + b;
        for (var x = x0; x < right; x++) {
            let column = x - x0;
            let low = pick(column, s0, s1, s2, s3);
            let high = pick(column - 4u, s4, s5, s6, s7);
            put(((n * size.out_height + y) * size.out_width + x) * size.out_quads + quad, select(low, high, column >= 4u));
        }
    }
}
