// 3x3 convolution with stride 1 and padding 1, and its gradient for the input, where subgroups are of exactly eight
// invocations: the vec4s that eight lanes load pass from lane to lane instead of being loaded by each. A workgroup is one
// subgroup.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, i+u-1, j+v-1, c] * w[u*3+v, c, k]
//   grad_input  dx[n,i,j,c] = sum dy[n, i+1-u, j+1-v, k] * w[u*3+v, c, k]
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H,W,P(K)]; w [9,P(C),P(K)]; b [P(K)]. TRANSPOSED = 1 is the
// gradient: source is dy, result is dx.
// A subgroup makes two tiles of 4 x 8 pixels (a and b below) of 32 channels, a lane four of the channels. Per row of taps and
// input vec4 each lane loads 5 of the 4 x 10 pixels of each tile and 12 vec4s of weights: 22 loads for 3,072 multiply-adds.
// Tiles are numbered through rows, columns and images, so that the two may be of different images; of an odd number the last is
// alone, and its fellow's sums are not stored.

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

fn within(row: i32, column: i32) -> bool {
    return row >= 0 && row < i32(size.in_height) && column >= 0 && column < i32(size.in_width);
}

// The first vec4 of the pixel, or of the nearest inside.
fn first(n: u32, row: i32, column: i32) -> u32 {
    let i = u32(clamp(row, 0, i32(size.in_height) - 1));
    let j = u32(clamp(column, 0, i32(size.in_width) - 1));
    return ((n * size.in_height + i) * size.in_width + j) * size.in_quads;
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
    let tiles = tiles_x * tiles_y * size.batch;
    let tile_a = index / eights * 2u;
    if (tile_a >= tiles) {
        return;
    }
    let tile_b = min(tile_a + 1u, tiles - 1u);
    let x_a = (tile_a % tiles_x) * 8u;
    let y_a = (tile_a / tiles_x % tiles_y) * 4u;
    let n_a = tile_a / tiles_x / tiles_y;
    let x_b = (tile_b % tiles_x) * 8u;
    let y_b = (tile_b / tiles_x % tiles_y) * 4u;
    let n_b = tile_b / tiles_x / tiles_y;
    let row0 = i32((0u + lane) / 10u) - 1;
    let column0 = i32((0u + lane) % 10u) - 1;
    let row1 = i32((8u + lane) / 10u) - 1;
    let column1 = i32((8u + lane) % 10u) - 1;
    let row2 = i32((16u + lane) / 10u) - 1;
    let column2 = i32((16u + lane) % 10u) - 1;
    let row3 = i32((24u + lane) / 10u) - 1;
    let column3 = i32((24u + lane) % 10u) - 1;
    let row4 = i32((32u + lane) / 10u) - 1;
    let column4 = i32((32u + lane) % 10u) - 1;
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
    var b00 = ZERO;
    var b01 = ZERO;
    var b02 = ZERO;
    var b03 = ZERO;
    var b04 = ZERO;
    var b05 = ZERO;
    var b06 = ZERO;
    var b07 = ZERO;
    var b10 = ZERO;
    var b11 = ZERO;
    var b12 = ZERO;
    var b13 = ZERO;
    var b14 = ZERO;
    var b15 = ZERO;
    var b16 = ZERO;
    var b17 = ZERO;
    var b20 = ZERO;
    var b21 = ZERO;
    var b22 = ZERO;
    var b23 = ZERO;
    var b24 = ZERO;
    var b25 = ZERO;
    var b26 = ZERO;
    var b27 = ZERO;
    var b30 = ZERO;
    var b31 = ZERO;
    var b32 = ZERO;
    var b33 = ZERO;
    var b34 = ZERO;
    var b35 = ZERO;
    var b36 = ZERO;
    var b37 = ZERO;

    for (var u = 0u; u < 3u; u++) {
        let top_a = i32(y_a + u);
        let left_a = i32(x_a);
        let inside_a0 = within(top_a + row0, left_a + column0);
        let from_a0 = first(n_a, top_a + row0, left_a + column0);
        let inside_a1 = within(top_a + row1, left_a + column1);
        let from_a1 = first(n_a, top_a + row1, left_a + column1);
        let inside_a2 = within(top_a + row2, left_a + column2);
        let from_a2 = first(n_a, top_a + row2, left_a + column2);
        let inside_a3 = within(top_a + row3, left_a + column3);
        let from_a3 = first(n_a, top_a + row3, left_a + column3);
        let inside_a4 = within(top_a + row4, left_a + column4);
        let from_a4 = first(n_a, top_a + row4, left_a + column4);
        let top_b = i32(y_b + u);
        let left_b = i32(x_b);
        let inside_b0 = within(top_b + row0, left_b + column0);
        let from_b0 = first(n_b, top_b + row0, left_b + column0);
        let inside_b1 = within(top_b + row1, left_b + column1);
        let from_b1 = first(n_b, top_b + row1, left_b + column1);
        let inside_b2 = within(top_b + row2, left_b + column2);
        let from_b2 = first(n_b, top_b + row2, left_b + column2);
        let inside_b3 = within(top_b + row3, left_b + column3);
        let from_b3 = first(n_b, top_b + row3, left_b + column3);
        let inside_b4 = within(top_b + row4, left_b + column4);
        let from_b4 = first(n_b, top_b + row4, left_b + column4);
        for (var channel = 0u; channel < size.in_quads; channel++) {
            let m0 = weights(u * 3u + 0u, channel, quad);
            let m1 = weights(u * 3u + 1u, channel, quad);
            let m2 = weights(u * 3u + 2u, channel, quad);
            let as0 = select(ZERO, vec4<f32>(source[from_a0 + channel]), inside_a0);
            let as1 = select(ZERO, vec4<f32>(source[from_a1 + channel]), inside_a1);
            let as2 = select(ZERO, vec4<f32>(source[from_a2 + channel]), inside_a2);
            let as3 = select(ZERO, vec4<f32>(source[from_a3 + channel]), inside_a3);
            let as4 = select(ZERO, vec4<f32>(source[from_a4 + channel]), inside_a4);
            let ap00 = subgroupBroadcast(as0, 0u);
            let ap01 = subgroupBroadcast(as0, 1u);
            let ap02 = subgroupBroadcast(as0, 2u);
            let ap03 = subgroupBroadcast(as0, 3u);
            let ap04 = subgroupBroadcast(as0, 4u);
            let ap05 = subgroupBroadcast(as0, 5u);
            let ap06 = subgroupBroadcast(as0, 6u);
            let ap07 = subgroupBroadcast(as0, 7u);
            let ap08 = subgroupBroadcast(as1, 0u);
            let ap09 = subgroupBroadcast(as1, 1u);
            a00 = add(add(add(a00, m0, ap00), m1, ap01), m2, ap02);
            a01 = add(add(add(a01, m0, ap01), m1, ap02), m2, ap03);
            a02 = add(add(add(a02, m0, ap02), m1, ap03), m2, ap04);
            a03 = add(add(add(a03, m0, ap03), m1, ap04), m2, ap05);
            a04 = add(add(add(a04, m0, ap04), m1, ap05), m2, ap06);
            a05 = add(add(add(a05, m0, ap05), m1, ap06), m2, ap07);
            a06 = add(add(add(a06, m0, ap06), m1, ap07), m2, ap08);
            a07 = add(add(add(a07, m0, ap07), m1, ap08), m2, ap09);
            let ap10 = subgroupBroadcast(as1, 2u);
            let ap11 = subgroupBroadcast(as1, 3u);
            let ap12 = subgroupBroadcast(as1, 4u);
            let ap13 = subgroupBroadcast(as1, 5u);
            let ap14 = subgroupBroadcast(as1, 6u);
            let ap15 = subgroupBroadcast(as1, 7u);
            let ap16 = subgroupBroadcast(as2, 0u);
            let ap17 = subgroupBroadcast(as2, 1u);
            let ap18 = subgroupBroadcast(as2, 2u);
            let ap19 = subgroupBroadcast(as2, 3u);
            a10 = add(add(add(a10, m0, ap10), m1, ap11), m2, ap12);
            a11 = add(add(add(a11, m0, ap11), m1, ap12), m2, ap13);
            a12 = add(add(add(a12, m0, ap12), m1, ap13), m2, ap14);
            a13 = add(add(add(a13, m0, ap13), m1, ap14), m2, ap15);
            a14 = add(add(add(a14, m0, ap14), m1, ap15), m2, ap16);
            a15 = add(add(add(a15, m0, ap15), m1, ap16), m2, ap17);
            a16 = add(add(add(a16, m0, ap16), m1, ap17), m2, ap18);
            a17 = add(add(add(a17, m0, ap17), m1, ap18), m2, ap19);
            let ap20 = subgroupBroadcast(as2, 4u);
            let ap21 = subgroupBroadcast(as2, 5u);
            let ap22 = subgroupBroadcast(as2, 6u);
            let ap23 = subgroupBroadcast(as2, 7u);
            let ap24 = subgroupBroadcast(as3, 0u);
            let ap25 = subgroupBroadcast(as3, 1u);
            let ap26 = subgroupBroadcast(as3, 2u);
            let ap27 = subgroupBroadcast(as3, 3u);
            let ap28 = subgroupBroadcast(as3, 4u);
            let ap29 = subgroupBroadcast(as3, 5u);
            a20 = add(add(add(a20, m0, ap20), m1, ap21), m2, ap22);
            a21 = add(add(add(a21, m0, ap21), m1, ap22), m2, ap23);
            a22 = add(add(add(a22, m0, ap22), m1, ap23), m2, ap24);
            a23 = add(add(add(a23, m0, ap23), m1, ap24), m2, ap25);
            a24 = add(add(add(a24, m0, ap24), m1, ap25), m2, ap26);
            a25 = add(add(add(a25, m0, ap25), m1, ap26), m2, ap27);
            a26 = add(add(add(a26, m0, ap26), m1, ap27), m2, ap28);
            a27 = add(add(add(a27, m0, ap27), m1, ap28), m2, ap29);
            let ap30 = subgroupBroadcast(as3, 6u);
            let ap31 = subgroupBroadcast(as3, 7u);
            let ap32 = subgroupBroadcast(as4, 0u);
            let ap33 = subgroupBroadcast(as4, 1u);
            let ap34 = subgroupBroadcast(as4, 2u);
            let ap35 = subgroupBroadcast(as4, 3u);
            let ap36 = subgroupBroadcast(as4, 4u);
            let ap37 = subgroupBroadcast(as4, 5u);
            let ap38 = subgroupBroadcast(as4, 6u);
            let ap39 = subgroupBroadcast(as4, 7u);
            a30 = add(add(add(a30, m0, ap30), m1, ap31), m2, ap32);
            a31 = add(add(add(a31, m0, ap31), m1, ap32), m2, ap33);
            a32 = add(add(add(a32, m0, ap32), m1, ap33), m2, ap34);
            a33 = add(add(add(a33, m0, ap33), m1, ap34), m2, ap35);
            a34 = add(add(add(a34, m0, ap34), m1, ap35), m2, ap36);
            a35 = add(add(add(a35, m0, ap35), m1, ap36), m2, ap37);
            a36 = add(add(add(a36, m0, ap36), m1, ap37), m2, ap38);
            a37 = add(add(add(a37, m0, ap37), m1, ap38), m2, ap39);
            let bs0 = select(ZERO, vec4<f32>(source[from_b0 + channel]), inside_b0);
            let bs1 = select(ZERO, vec4<f32>(source[from_b1 + channel]), inside_b1);
            let bs2 = select(ZERO, vec4<f32>(source[from_b2 + channel]), inside_b2);
            let bs3 = select(ZERO, vec4<f32>(source[from_b3 + channel]), inside_b3);
            let bs4 = select(ZERO, vec4<f32>(source[from_b4 + channel]), inside_b4);
            let bp00 = subgroupBroadcast(bs0, 0u);
            let bp01 = subgroupBroadcast(bs0, 1u);
            let bp02 = subgroupBroadcast(bs0, 2u);
            let bp03 = subgroupBroadcast(bs0, 3u);
            let bp04 = subgroupBroadcast(bs0, 4u);
            let bp05 = subgroupBroadcast(bs0, 5u);
            let bp06 = subgroupBroadcast(bs0, 6u);
            let bp07 = subgroupBroadcast(bs0, 7u);
            let bp08 = subgroupBroadcast(bs1, 0u);
            let bp09 = subgroupBroadcast(bs1, 1u);
            b00 = add(add(add(b00, m0, bp00), m1, bp01), m2, bp02);
            b01 = add(add(add(b01, m0, bp01), m1, bp02), m2, bp03);
            b02 = add(add(add(b02, m0, bp02), m1, bp03), m2, bp04);
            b03 = add(add(add(b03, m0, bp03), m1, bp04), m2, bp05);
            b04 = add(add(add(b04, m0, bp04), m1, bp05), m2, bp06);
            b05 = add(add(add(b05, m0, bp05), m1, bp06), m2, bp07);
            b06 = add(add(add(b06, m0, bp06), m1, bp07), m2, bp08);
            b07 = add(add(add(b07, m0, bp07), m1, bp08), m2, bp09);
            let bp10 = subgroupBroadcast(bs1, 2u);
            let bp11 = subgroupBroadcast(bs1, 3u);
            let bp12 = subgroupBroadcast(bs1, 4u);
            let bp13 = subgroupBroadcast(bs1, 5u);
            let bp14 = subgroupBroadcast(bs1, 6u);
            let bp15 = subgroupBroadcast(bs1, 7u);
            let bp16 = subgroupBroadcast(bs2, 0u);
            let bp17 = subgroupBroadcast(bs2, 1u);
            let bp18 = subgroupBroadcast(bs2, 2u);
            let bp19 = subgroupBroadcast(bs2, 3u);
            b10 = add(add(add(b10, m0, bp10), m1, bp11), m2, bp12);
            b11 = add(add(add(b11, m0, bp11), m1, bp12), m2, bp13);
            b12 = add(add(add(b12, m0, bp12), m1, bp13), m2, bp14);
            b13 = add(add(add(b13, m0, bp13), m1, bp14), m2, bp15);
            b14 = add(add(add(b14, m0, bp14), m1, bp15), m2, bp16);
            b15 = add(add(add(b15, m0, bp15), m1, bp16), m2, bp17);
            b16 = add(add(add(b16, m0, bp16), m1, bp17), m2, bp18);
            b17 = add(add(add(b17, m0, bp17), m1, bp18), m2, bp19);
            let bp20 = subgroupBroadcast(bs2, 4u);
            let bp21 = subgroupBroadcast(bs2, 5u);
            let bp22 = subgroupBroadcast(bs2, 6u);
            let bp23 = subgroupBroadcast(bs2, 7u);
            let bp24 = subgroupBroadcast(bs3, 0u);
            let bp25 = subgroupBroadcast(bs3, 1u);
            let bp26 = subgroupBroadcast(bs3, 2u);
            let bp27 = subgroupBroadcast(bs3, 3u);
            let bp28 = subgroupBroadcast(bs3, 4u);
            let bp29 = subgroupBroadcast(bs3, 5u);
            b20 = add(add(add(b20, m0, bp20), m1, bp21), m2, bp22);
            b21 = add(add(add(b21, m0, bp21), m1, bp22), m2, bp23);
            b22 = add(add(add(b22, m0, bp22), m1, bp23), m2, bp24);
            b23 = add(add(add(b23, m0, bp23), m1, bp24), m2, bp25);
            b24 = add(add(add(b24, m0, bp24), m1, bp25), m2, bp26);
            b25 = add(add(add(b25, m0, bp25), m1, bp26), m2, bp27);
            b26 = add(add(add(b26, m0, bp26), m1, bp27), m2, bp28);
            b27 = add(add(add(b27, m0, bp27), m1, bp28), m2, bp29);
            let bp30 = subgroupBroadcast(bs3, 6u);
            let bp31 = subgroupBroadcast(bs3, 7u);
            let bp32 = subgroupBroadcast(bs4, 0u);
            let bp33 = subgroupBroadcast(bs4, 1u);
            let bp34 = subgroupBroadcast(bs4, 2u);
            let bp35 = subgroupBroadcast(bs4, 3u);
            let bp36 = subgroupBroadcast(bs4, 4u);
            let bp37 = subgroupBroadcast(bs4, 5u);
            let bp38 = subgroupBroadcast(bs4, 6u);
            let bp39 = subgroupBroadcast(bs4, 7u);
            b30 = add(add(add(b30, m0, bp30), m1, bp31), m2, bp32);
            b31 = add(add(add(b31, m0, bp31), m1, bp32), m2, bp33);
            b32 = add(add(add(b32, m0, bp32), m1, bp33), m2, bp34);
            b33 = add(add(add(b33, m0, bp33), m1, bp34), m2, bp35);
            b34 = add(add(add(b34, m0, bp34), m1, bp35), m2, bp36);
            b35 = add(add(add(b35, m0, bp35), m1, bp36), m2, bp37);
            b36 = add(add(add(b36, m0, bp36), m1, bp37), m2, bp38);
            b37 = add(add(add(b37, m0, bp37), m1, bp38), m2, bp39);
        }
    }
    if (own >= size.out_quads) {
        return;
    }
    var bias_of = ZERO;
    if (size.has_bias != 0u) {
        bias_of = bias[quad];
    }
    // Stores in loops: spelled out they would be most of what a driver has to compile.
    let last_tile = select(2u, 1u, tile_a + 1u >= tiles);
    for (var tile = 0u; tile < last_tile; tile++) {
        let is_b = tile == 1u;
        let n = select(n_a, n_b, is_b);
        let x0 = select(x_a, x_b, is_b);
        let y0 = select(y_a, y_b, is_b);
        let bottom = min(y0 + 4u, size.out_height);
        let right = min(x0 + 8u, size.out_width);
        for (var y = y0; y < bottom; y++) {
            let row = y - y0;
            let s0 = select(pick(row, a00, a10, a20, a30), pick(row, b00, b10, b20, b30), is_b) + bias_of;
            let s1 = select(pick(row, a01, a11, a21, a31), pick(row, b01, b11, b21, b31), is_b) + bias_of;
            let s2 = select(pick(row, a02, a12, a22, a32), pick(row, b02, b12, b22, b32), is_b) + bias_of;
            let s3 = select(pick(row, a03, a13, a23, a33), pick(row, b03, b13, b23, b33), is_b) + bias_of;
            let s4 = select(pick(row, a04, a14, a24, a34), pick(row, b04, b14, b24, b34), is_b) + bias_of;
            let s5 = select(pick(row, a05, a15, a25, a35), pick(row, b05, b15, b25, b35), is_b) + bias_of;
            let s6 = select(pick(row, a06, a16, a26, a36), pick(row, b06, b16, b26, b36), is_b) + bias_of;
            let s7 = select(pick(row, a07, a17, a27, a37), pick(row, b07, b17, b27, b37), is_b) + bias_of;
            for (var x = x0; x < right; x++) {
                let column = x - x0;
                let low = pick(column, s0, s1, s2, s3);
                let high = pick(column - 4u, s4, s5, s6, s7);
                put(((n * size.out_height + y) * size.out_width + x) * size.out_quads + quad, select(low, high, column >= 4u));
            }
        }
    }
}
