// Gradient of the weight of a 3x3 convolution with stride 1 and padding 1, where subgroups are of exactly eight
// invocations: the vec4s of x that eight lanes load pass from lane to lane instead of being loaded by each. A workgroup is
// one subgroup.
//
//   dw[u*3+v, c, k] = sum x[n, i+u-1, j+v-1, c] * dy[n, i, j, k]
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; dy [N,H,W,P(K)]; partials [slices, 9, P(C), P(K)].
// A subgroup sums 3 taps of a row x 16 x 32 weights over one slice of the output's rows, a lane four of the 32 columns.
// Per 8 pixels of a row each lane loads 5 of the 4 x 10 vec4s of x and 8 of dy: 13 loads for 1,536 multiply-adds.
// reduce_rows.wgsl adds the slices, so the sum's order is fixed.

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
alias Upstream = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> size: Size;

const ZERO = vec4<f32>(0.0);
const LANES = 8u;

// Adds the products of four channels of x and the lane's four of dy.
fn add(sum: mat4x4<f32>, x: vec4<f32>, dy: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        fma(x.xxxx, dy, sum[0]),
        fma(x.yyyy, dy, sum[1]),
        fma(x.zzzz, dy, sum[2]),
        fma(x.wwww, dy, sum[3]),
    );
}

fn put(at: u32, sum: mat4x4<f32>) {
    partials[at] = sum[0];
    partials[at + size.weight_quads] = sum[1];
    partials[at + 2u * size.weight_quads] = sum[2];
    partials[at + 3u * size.weight_quads] = sum[3];
}

// One of four. An array that is indexed would do, but must be memory, which some drivers are slow to compile.
fn pick(i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, i == 1u), select(c, d, i == 3u), i >= 2u);
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
    let eights = (size.out_quads + LANES - 1u) / LANES;
    let fours = (size.in_quads + 3u) / 4u;
    let own = (index % eights) * LANES + lane;
    let quad = min(own, size.out_quads - 1u);
    let channel = index / eights % fours * 4u;
    let u = index / eights / fours % 3u;
    let slice = index / eights / fours / 3u;
    if (slice >= size.slices) {
        return;
    }
    let last_row = i32(size.in_height) - 1;
    let last_column = i32(size.in_width) - 1;
    let end = min((slice + 1u) * size.slice_rows, size.batch * size.out_height);
    let column0 = i32((0u + lane) % 10u) - 1;
    let from0 = min(channel + (0u + lane) / 10u, size.in_quads - 1u);
    let column1 = i32((8u + lane) % 10u) - 1;
    let from1 = min(channel + (8u + lane) / 10u, size.in_quads - 1u);
    let column2 = i32((16u + lane) % 10u) - 1;
    let from2 = min(channel + (16u + lane) / 10u, size.in_quads - 1u);
    let column3 = i32((24u + lane) % 10u) - 1;
    let from3 = min(channel + (24u + lane) / 10u, size.in_quads - 1u);
    let column4 = i32((32u + lane) % 10u) - 1;
    let from4 = min(channel + (32u + lane) / 10u, size.in_quads - 1u);
    var a00 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a01 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a02 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a03 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a10 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a11 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a12 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a13 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a20 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a21 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a22 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);
    var a23 = mat4x4<f32>(ZERO, ZERO, ZERO, ZERO);

    for (var line = slice * size.slice_rows; line < end; line++) {
        let n = line / size.out_height;
        let row = i32(line % size.out_height + u) - 1;
        let inside_row = row >= 0 && row <= last_row;
        let from_row = (n * size.in_height + u32(clamp(row, 0, last_row))) * size.in_width;
        for (var x0 = 0u; x0 < size.out_width; x0 += 8u) {
            let j0 = column0 + i32(x0);
            let inside0 = inside_row && j0 >= 0 && j0 <= last_column;
            let s0 = select(ZERO, vec4<f32>(source[(from_row + u32(clamp(j0, 0, last_column))) * size.in_quads + from0]), inside0);
            let j1 = column1 + i32(x0);
            let inside1 = inside_row && j1 >= 0 && j1 <= last_column;
            let s1 = select(ZERO, vec4<f32>(source[(from_row + u32(clamp(j1, 0, last_column))) * size.in_quads + from1]), inside1);
            let j2 = column2 + i32(x0);
            let inside2 = inside_row && j2 >= 0 && j2 <= last_column;
            let s2 = select(ZERO, vec4<f32>(source[(from_row + u32(clamp(j2, 0, last_column))) * size.in_quads + from2]), inside2);
            let j3 = column3 + i32(x0);
            let inside3 = inside_row && j3 >= 0 && j3 <= last_column;
            let s3 = select(ZERO, vec4<f32>(source[(from_row + u32(clamp(j3, 0, last_column))) * size.in_quads + from3]), inside3);
            let j4 = column4 + i32(x0);
            let inside4 = inside_row && j4 >= 0 && j4 <= last_column;
            let s4 = select(ZERO, vec4<f32>(source[(from_row + u32(clamp(j4, 0, last_column))) * size.in_quads + from4]), inside4);
            let last = size.out_width - x0 - 1u;
            let to = (line * size.out_width + x0) * size.out_quads + quad;
            let d0 = vec4<f32>(upstream[to]);
            let d1 = select(ZERO, vec4<f32>(upstream[to + min(1u, last) * size.out_quads]), last >= 1u);
            let d2 = select(ZERO, vec4<f32>(upstream[to + min(2u, last) * size.out_quads]), last >= 2u);
            let d3 = select(ZERO, vec4<f32>(upstream[to + min(3u, last) * size.out_quads]), last >= 3u);
            let d4 = select(ZERO, vec4<f32>(upstream[to + min(4u, last) * size.out_quads]), last >= 4u);
            let d5 = select(ZERO, vec4<f32>(upstream[to + min(5u, last) * size.out_quads]), last >= 5u);
            let d6 = select(ZERO, vec4<f32>(upstream[to + min(6u, last) * size.out_quads]), last >= 6u);
            let d7 = select(ZERO, vec4<f32>(upstream[to + min(7u, last) * size.out_quads]), last >= 7u);
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
            a00 = add(a00, b00, d0);
            a00 = add(a00, b01, d1);
            a00 = add(a00, b02, d2);
            a00 = add(a00, b03, d3);
            a00 = add(a00, b04, d4);
            a00 = add(a00, b05, d5);
            a00 = add(a00, b06, d6);
            a00 = add(a00, b07, d7);
            a10 = add(a10, b01, d0);
            a10 = add(a10, b02, d1);
            a10 = add(a10, b03, d2);
            a10 = add(a10, b04, d3);
            a10 = add(a10, b05, d4);
            a10 = add(a10, b06, d5);
            a10 = add(a10, b07, d6);
            a10 = add(a10, b08, d7);
            a20 = add(a20, b02, d0);
            a20 = add(a20, b03, d1);
            a20 = add(a20, b04, d2);
            a20 = add(a20, b05, d3);
            a20 = add(a20, b06, d4);
            a20 = add(a20, b07, d5);
            a20 = add(a20, b08, d6);
            a20 = add(a20, b09, d7);
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
            a01 = add(a01, b10, d0);
            a01 = add(a01, b11, d1);
            a01 = add(a01, b12, d2);
            a01 = add(a01, b13, d3);
            a01 = add(a01, b14, d4);
            a01 = add(a01, b15, d5);
            a01 = add(a01, b16, d6);
            a01 = add(a01, b17, d7);
            a11 = add(a11, b11, d0);
            a11 = add(a11, b12, d1);
            a11 = add(a11, b13, d2);
            a11 = add(a11, b14, d3);
            a11 = add(a11, b15, d4);
            a11 = add(a11, b16, d5);
            a11 = add(a11, b17, d6);
            a11 = add(a11, b18, d7);
            a21 = add(a21, b12, d0);
            a21 = add(a21, b13, d1);
            a21 = add(a21, b14, d2);
            a21 = add(a21, b15, d3);
            a21 = add(a21, b16, d4);
            a21 = add(a21, b17, d5);
            a21 = add(a21, b18, d6);
            a21 = add(a21, b19, d7);
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
            a02 = add(a02, b20, d0);
            a02 = add(a02, b21, d1);
            a02 = add(a02, b22, d2);
            a02 = add(a02, b23, d3);
            a02 = add(a02, b24, d4);
            a02 = add(a02, b25, d5);
            a02 = add(a02, b26, d6);
            a02 = add(a02, b27, d7);
            a12 = add(a12, b21, d0);
            a12 = add(a12, b22, d1);
            a12 = add(a12, b23, d2);
            a12 = add(a12, b24, d3);
            a12 = add(a12, b25, d4);
            a12 = add(a12, b26, d5);
            a12 = add(a12, b27, d6);
            a12 = add(a12, b28, d7);
            a22 = add(a22, b22, d0);
            a22 = add(a22, b23, d1);
            a22 = add(a22, b24, d2);
            a22 = add(a22, b25, d3);
            a22 = add(a22, b26, d4);
            a22 = add(a22, b27, d5);
            a22 = add(a22, b28, d6);
            a22 = add(a22, b29, d7);
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
            a03 = add(a03, b30, d0);
            a03 = add(a03, b31, d1);
            a03 = add(a03, b32, d2);
            a03 = add(a03, b33, d3);
            a03 = add(a03, b34, d4);
            a03 = add(a03, b35, d5);
            a03 = add(a03, b36, d6);
            a03 = add(a03, b37, d7);
            a13 = add(a13, b31, d0);
            a13 = add(a13, b32, d1);
            a13 = add(a13, b33, d2);
            a13 = add(a13, b34, d3);
            a13 = add(a13, b35, d4);
            a13 = add(a13, b36, d5);
            a13 = add(a13, b37, d6);
            a13 = add(a13, b38, d7);
            a23 = add(a23, b32, d0);
            a23 = add(a23, b33, d1);
            a23 = add(a23, b34, d2);
            a23 = add(a23, b35, d3);
            a23 = add(a23, b36, d4);
            a23 = add(a23, b37, d5);
            a23 = add(a23, b38, d6);
            a23 = add(a23, b39, d7);
        }
    }
    if (own >= size.out_quads) {
        return;
    }
    // Stores in a loop: spelled out they would be most of what a driver has to compile.
    let end_channel = min(channel + 4u, size.in_quads);
    for (var c = channel; c < end_channel; c++) {
        let s0 = pick_matrix(c - channel, a00, a01, a02, a03);
        let s1 = pick_matrix(c - channel, a10, a11, a12, a13);
        let s2 = pick_matrix(c - channel, a20, a21, a22, a23);
        let first = slice * 9u + u * 3u;
        for (var tap = first; tap < first + 3u; tap++) {
            put((tap * size.weight_rows + c * 4u) * size.weight_quads + quad, pick_matrix(tap - first, s0, s1, s2, s2));
        }
    }
}
