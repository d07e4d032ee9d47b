// 3x3 convolution with stride 2 and padding 1, and its gradient for the input. Direct register tiles, no barriers.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, 2i+u-1, 2j+v-1, c] * w[u*3+v, c, k]
//   grad_input  dx[n,i,j,c] = r[n,i,j,c] + sum dy[n, (i+1-u)/2, (j+1-v)/2, k] * w[u*3+v, c, k]   (whole quotients only)
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H',W',P(K)]; w [9,P(C),P(K)]; b [P(K)].
// An invocation of `forward` makes 2 x 7 pixels of 8 channels: 54 loads for 1,344 multiply-adds per tap row and input
// vec4. One of `grad_input` makes 14 pixels of two rows of one parity: even rows have one tap row, odd ones two, even
// columns one tap and odd ones two, so nothing is multiplied in vain; 40 loads for 1,344 multiply-adds.

override WG: u32;

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
alias Gradient = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read_write> result: array<Result>;
@group(0) @binding(5) var<uniform> size: Size;

@group(0) @binding(2) var<storage, read> addend: array<Residual>;
@group(0) @binding(3) var<storage, read_write> gradient: array<Gradient>;
@group(0) @binding(4) var<uniform> gradient_size: Size;

const ZERO = vec4<f32>(0.0);

// Four rows of one quad of columns.
fn rows_of_weight(at: u32, pitch: u32) -> mat4x4<f32> {
    return mat4x4<f32>(weight[at], weight[at + pitch], weight[at + 2u * pitch], weight[at + 3u * pitch]);
}

fn put(at: u32, has_next: bool, value0: vec4<f32>, value1: vec4<f32>, bias0: vec4<f32>, bias1: vec4<f32>) {
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

fn put_gradient(at: u32, has_next: bool, value0: vec4<f32>, value1: vec4<f32>) {
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
    let tiles_x = (size.out_width + 6u) / 7u;
    let tiles_y = (size.out_height + 1u) / 2u;
    let quad = (index % pairs) * 2u;
    let tile = index / pairs;
    let x0 = (tile % tiles_x) * 7u;
    let y0 = (tile / tiles_x % tiles_y) * 2u;
    let n = tile / tiles_x / tiles_y;
    if (n >= size.batch) {
        return;
    }
    let next_quad = min(quad + 1u, size.out_quads - 1u);
    // Columns of the input, the first one left of the image at the left edge.
    let right = i32(size.in_width) - 1;
    let column = i32(x0) * 2 - 1;
    let inside0 = column + 0 >= 0 && column + 0 <= right;
    let at0 = u32(clamp(column + 0, 0, right)) * size.in_quads;
    let inside1 = column + 1 >= 0 && column + 1 <= right;
    let at1 = u32(clamp(column + 1, 0, right)) * size.in_quads;
    let inside2 = column + 2 >= 0 && column + 2 <= right;
    let at2 = u32(clamp(column + 2, 0, right)) * size.in_quads;
    let inside3 = column + 3 >= 0 && column + 3 <= right;
    let at3 = u32(clamp(column + 3, 0, right)) * size.in_quads;
    let inside4 = column + 4 >= 0 && column + 4 <= right;
    let at4 = u32(clamp(column + 4, 0, right)) * size.in_quads;
    let inside5 = column + 5 >= 0 && column + 5 <= right;
    let at5 = u32(clamp(column + 5, 0, right)) * size.in_quads;
    let inside6 = column + 6 >= 0 && column + 6 <= right;
    let at6 = u32(clamp(column + 6, 0, right)) * size.in_quads;
    let inside7 = column + 7 >= 0 && column + 7 <= right;
    let at7 = u32(clamp(column + 7, 0, right)) * size.in_quads;
    let inside8 = column + 8 >= 0 && column + 8 <= right;
    let at8 = u32(clamp(column + 8, 0, right)) * size.in_quads;
    let inside9 = column + 9 >= 0 && column + 9 <= right;
    let at9 = u32(clamp(column + 9, 0, right)) * size.in_quads;
    let inside10 = column + 10 >= 0 && column + 10 <= right;
    let at10 = u32(clamp(column + 10, 0, right)) * size.in_quads;
    let inside11 = column + 11 >= 0 && column + 11 <= right;
    let at11 = u32(clamp(column + 11, 0, right)) * size.in_quads;
    let inside12 = column + 12 >= 0 && column + 12 <= right;
    let at12 = u32(clamp(column + 12, 0, right)) * size.in_quads;
    let inside13 = column + 13 >= 0 && column + 13 <= right;
    let at13 = u32(clamp(column + 13, 0, right)) * size.in_quads;
    let inside14 = column + 14 >= 0 && column + 14 <= right;
    let at14 = u32(clamp(column + 14, 0, right)) * size.in_quads;
    var a000 = ZERO; var a001 = ZERO;
    var a010 = ZERO; var a011 = ZERO;
    var a020 = ZERO; var a021 = ZERO;
    var a030 = ZERO; var a031 = ZERO;
    var a040 = ZERO; var a041 = ZERO;
    var a050 = ZERO; var a051 = ZERO;
    var a060 = ZERO; var a061 = ZERO;
    var a100 = ZERO; var a101 = ZERO;
    var a110 = ZERO; var a111 = ZERO;
    var a120 = ZERO; var a121 = ZERO;
    var a130 = ZERO; var a131 = ZERO;
    var a140 = ZERO; var a141 = ZERO;
    var a150 = ZERO; var a151 = ZERO;
    var a160 = ZERO; var a161 = ZERO;
    for (var u = 0u; u < 3u; u++) {
        let last = i32(size.in_height) - 1;
        let row0 = i32((y0 + 0u) * 2u + u) - 1;
        let has0 = row0 >= 0 && row0 <= last;
        let base0 = (n * size.in_height + u32(clamp(row0, 0, last))) * size.in_width * size.in_quads;
        let row1 = i32((y0 + 1u) * 2u + u) - 1;
        let has1 = row1 >= 0 && row1 <= last;
        let base1 = (n * size.in_height + u32(clamp(row1, 0, last))) * size.in_width * size.in_quads;
        for (var channel = 0u; channel < size.in_quads; channel++) {
            let w0 = ((u * 3u + 0u) * size.weight_rows + channel * 4u) * size.weight_quads;
            let m00 = rows_of_weight(w0 + quad, size.weight_quads);
            let m01 = rows_of_weight(w0 + next_quad, size.weight_quads);
            let w1 = ((u * 3u + 1u) * size.weight_rows + channel * 4u) * size.weight_quads;
            let m10 = rows_of_weight(w1 + quad, size.weight_quads);
            let m11 = rows_of_weight(w1 + next_quad, size.weight_quads);
            let w2 = ((u * 3u + 2u) * size.weight_rows + channel * 4u) * size.weight_quads;
            let m20 = rows_of_weight(w2 + quad, size.weight_quads);
            let m21 = rows_of_weight(w2 + next_quad, size.weight_quads);
            let s0_0 = select(ZERO, vec4<f32>(source[base0 + at0 + channel]), has0 && inside0);
            let s0_1 = select(ZERO, vec4<f32>(source[base0 + at1 + channel]), has0 && inside1);
            let s0_2 = select(ZERO, vec4<f32>(source[base0 + at2 + channel]), has0 && inside2);
            let s0_3 = select(ZERO, vec4<f32>(source[base0 + at3 + channel]), has0 && inside3);
            let s0_4 = select(ZERO, vec4<f32>(source[base0 + at4 + channel]), has0 && inside4);
            let s0_5 = select(ZERO, vec4<f32>(source[base0 + at5 + channel]), has0 && inside5);
            let s0_6 = select(ZERO, vec4<f32>(source[base0 + at6 + channel]), has0 && inside6);
            let s0_7 = select(ZERO, vec4<f32>(source[base0 + at7 + channel]), has0 && inside7);
            let s0_8 = select(ZERO, vec4<f32>(source[base0 + at8 + channel]), has0 && inside8);
            let s0_9 = select(ZERO, vec4<f32>(source[base0 + at9 + channel]), has0 && inside9);
            let s0_10 = select(ZERO, vec4<f32>(source[base0 + at10 + channel]), has0 && inside10);
            let s0_11 = select(ZERO, vec4<f32>(source[base0 + at11 + channel]), has0 && inside11);
            let s0_12 = select(ZERO, vec4<f32>(source[base0 + at12 + channel]), has0 && inside12);
            let s0_13 = select(ZERO, vec4<f32>(source[base0 + at13 + channel]), has0 && inside13);
            let s0_14 = select(ZERO, vec4<f32>(source[base0 + at14 + channel]), has0 && inside14);
            a000 += m00 * s0_0 + m10 * s0_1 + m20 * s0_2;
            a001 += m01 * s0_0 + m11 * s0_1 + m21 * s0_2;
            a010 += m00 * s0_2 + m10 * s0_3 + m20 * s0_4;
            a011 += m01 * s0_2 + m11 * s0_3 + m21 * s0_4;
            a020 += m00 * s0_4 + m10 * s0_5 + m20 * s0_6;
            a021 += m01 * s0_4 + m11 * s0_5 + m21 * s0_6;
            a030 += m00 * s0_6 + m10 * s0_7 + m20 * s0_8;
            a031 += m01 * s0_6 + m11 * s0_7 + m21 * s0_8;
            a040 += m00 * s0_8 + m10 * s0_9 + m20 * s0_10;
            a041 += m01 * s0_8 + m11 * s0_9 + m21 * s0_10;
            a050 += m00 * s0_10 + m10 * s0_11 + m20 * s0_12;
            a051 += m01 * s0_10 + m11 * s0_11 + m21 * s0_12;
            a060 += m00 * s0_12 + m10 * s0_13 + m20 * s0_14;
            a061 += m01 * s0_12 + m11 * s0_13 + m21 * s0_14;
            let s1_0 = select(ZERO, vec4<f32>(source[base1 + at0 + channel]), has1 && inside0);
            let s1_1 = select(ZERO, vec4<f32>(source[base1 + at1 + channel]), has1 && inside1);
            let s1_2 = select(ZERO, vec4<f32>(source[base1 + at2 + channel]), has1 && inside2);
            let s1_3 = select(ZERO, vec4<f32>(source[base1 + at3 + channel]), has1 && inside3);
            let s1_4 = select(ZERO, vec4<f32>(source[base1 + at4 + channel]), has1 && inside4);
            let s1_5 = select(ZERO, vec4<f32>(source[base1 + at5 + channel]), has1 && inside5);
            let s1_6 = select(ZERO, vec4<f32>(source[base1 + at6 + channel]), has1 && inside6);
            let s1_7 = select(ZERO, vec4<f32>(source[base1 + at7 + channel]), has1 && inside7);
            let s1_8 = select(ZERO, vec4<f32>(source[base1 + at8 + channel]), has1 && inside8);
            let s1_9 = select(ZERO, vec4<f32>(source[base1 + at9 + channel]), has1 && inside9);
            let s1_10 = select(ZERO, vec4<f32>(source[base1 + at10 + channel]), has1 && inside10);
            let s1_11 = select(ZERO, vec4<f32>(source[base1 + at11 + channel]), has1 && inside11);
            let s1_12 = select(ZERO, vec4<f32>(source[base1 + at12 + channel]), has1 && inside12);
            let s1_13 = select(ZERO, vec4<f32>(source[base1 + at13 + channel]), has1 && inside13);
            let s1_14 = select(ZERO, vec4<f32>(source[base1 + at14 + channel]), has1 && inside14);
            a100 += m00 * s1_0 + m10 * s1_1 + m20 * s1_2;
            a101 += m01 * s1_0 + m11 * s1_1 + m21 * s1_2;
            a110 += m00 * s1_2 + m10 * s1_3 + m20 * s1_4;
            a111 += m01 * s1_2 + m11 * s1_3 + m21 * s1_4;
            a120 += m00 * s1_4 + m10 * s1_5 + m20 * s1_6;
            a121 += m01 * s1_4 + m11 * s1_5 + m21 * s1_6;
            a130 += m00 * s1_6 + m10 * s1_7 + m20 * s1_8;
            a131 += m01 * s1_6 + m11 * s1_7 + m21 * s1_8;
            a140 += m00 * s1_8 + m10 * s1_9 + m20 * s1_10;
            a141 += m01 * s1_8 + m11 * s1_9 + m21 * s1_10;
            a150 += m00 * s1_10 + m10 * s1_11 + m20 * s1_12;
            a151 += m01 * s1_10 + m11 * s1_11 + m21 * s1_12;
            a160 += m00 * s1_12 + m10 * s1_13 + m20 * s1_14;
            a161 += m01 * s1_12 + m11 * s1_13 + m21 * s1_14;
        }
    }
    let has_next = quad + 1u < size.out_quads;
    var bias0 = ZERO;
    var bias1 = ZERO;
    if (size.has_bias != 0u) {
        bias0 = bias[quad];
        bias1 = bias[next_quad];
    }
    if (y0 + 0u < size.out_height) {
        let line = (n * size.out_height + y0 + 0u) * size.out_width + x0;
        if (x0 + 0u < size.out_width) { put((line + 0u) * size.out_quads + quad, has_next, a000, a001, bias0, bias1); }
        if (x0 + 1u < size.out_width) { put((line + 1u) * size.out_quads + quad, has_next, a010, a011, bias0, bias1); }
        if (x0 + 2u < size.out_width) { put((line + 2u) * size.out_quads + quad, has_next, a020, a021, bias0, bias1); }
        if (x0 + 3u < size.out_width) { put((line + 3u) * size.out_quads + quad, has_next, a030, a031, bias0, bias1); }
        if (x0 + 4u < size.out_width) { put((line + 4u) * size.out_quads + quad, has_next, a040, a041, bias0, bias1); }
        if (x0 + 5u < size.out_width) { put((line + 5u) * size.out_quads + quad, has_next, a050, a051, bias0, bias1); }
        if (x0 + 6u < size.out_width) { put((line + 6u) * size.out_quads + quad, has_next, a060, a061, bias0, bias1); }
    }
    if (y0 + 1u < size.out_height) {
        let line = (n * size.out_height + y0 + 1u) * size.out_width + x0;
        if (x0 + 0u < size.out_width) { put((line + 0u) * size.out_quads + quad, has_next, a100, a101, bias0, bias1); }
        if (x0 + 1u < size.out_width) { put((line + 1u) * size.out_quads + quad, has_next, a110, a111, bias0, bias1); }
        if (x0 + 2u < size.out_width) { put((line + 2u) * size.out_quads + quad, has_next, a120, a121, bias0, bias1); }
        if (x0 + 3u < size.out_width) { put((line + 3u) * size.out_quads + quad, has_next, a130, a131, bias0, bias1); }
        if (x0 + 4u < size.out_width) { put((line + 4u) * size.out_quads + quad, has_next, a140, a141, bias0, bias1); }
        if (x0 + 5u < size.out_width) { put((line + 5u) * size.out_quads + quad, has_next, a150, a151, bias0, bias1); }
        if (x0 + 6u < size.out_width) { put((line + 6u) * size.out_quads + quad, has_next, a160, a161, bias0, bias1); }
    }
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pairs = (gradient_size.out_quads + 1u) / 2u;
    // A block is 2 x 2 pixels, one of each parity; a tile 2 x 7 blocks. Tiles of odd rows come first.
    let tiles_x = (gradient_size.out_width + 13u) / 14u;
    let tiles_y = (gradient_size.out_height + 3u) / 4u;
    let quad = (index % pairs) * 2u;
    let tile = index / pairs;
    let x0 = (tile % tiles_x) * 7u;
    let y0 = (tile / tiles_x % tiles_y) * 2u;
    let image = tile / tiles_x / tiles_y;
    if (image >= 2u * gradient_size.batch) {
        return;
    }
    let n = image % gradient_size.batch;
    let odd = 1u - image / gradient_size.batch;
    let next_quad = min(quad + 1u, gradient_size.out_quads - 1u);
    let right = gradient_size.in_width - 1u;
    let inside0 = x0 + 0u <= right;
    let at0 = min(x0 + 0u, right) * gradient_size.in_quads;
    let inside1 = x0 + 1u <= right;
    let at1 = min(x0 + 1u, right) * gradient_size.in_quads;
    let inside2 = x0 + 2u <= right;
    let at2 = min(x0 + 2u, right) * gradient_size.in_quads;
    let inside3 = x0 + 3u <= right;
    let at3 = min(x0 + 3u, right) * gradient_size.in_quads;
    let inside4 = x0 + 4u <= right;
    let at4 = min(x0 + 4u, right) * gradient_size.in_quads;
    let inside5 = x0 + 5u <= right;
    let at5 = min(x0 + 5u, right) * gradient_size.in_quads;
    let inside6 = x0 + 6u <= right;
    let at6 = min(x0 + 6u, right) * gradient_size.in_quads;
    let inside7 = x0 + 7u <= right;
    let at7 = min(x0 + 7u, right) * gradient_size.in_quads;
    var a0_0_0 = ZERO; var a0_0_1 = ZERO;
    var a0_1_0 = ZERO; var a0_1_1 = ZERO;
    var a0_2_0 = ZERO; var a0_2_1 = ZERO;
    var a0_3_0 = ZERO; var a0_3_1 = ZERO;
    var a0_4_0 = ZERO; var a0_4_1 = ZERO;
    var a0_5_0 = ZERO; var a0_5_1 = ZERO;
    var a0_6_0 = ZERO; var a0_6_1 = ZERO;
    var a0_7_0 = ZERO; var a0_7_1 = ZERO;
    var a0_8_0 = ZERO; var a0_8_1 = ZERO;
    var a0_9_0 = ZERO; var a0_9_1 = ZERO;
    var a0_10_0 = ZERO; var a0_10_1 = ZERO;
    var a0_11_0 = ZERO; var a0_11_1 = ZERO;
    var a0_12_0 = ZERO; var a0_12_1 = ZERO;
    var a0_13_0 = ZERO; var a0_13_1 = ZERO;
    var a1_0_0 = ZERO; var a1_0_1 = ZERO;
    var a1_1_0 = ZERO; var a1_1_1 = ZERO;
    var a1_2_0 = ZERO; var a1_2_1 = ZERO;
    var a1_3_0 = ZERO; var a1_3_1 = ZERO;
    var a1_4_0 = ZERO; var a1_4_1 = ZERO;
    var a1_5_0 = ZERO; var a1_5_1 = ZERO;
    var a1_6_0 = ZERO; var a1_6_1 = ZERO;
    var a1_7_0 = ZERO; var a1_7_1 = ZERO;
    var a1_8_0 = ZERO; var a1_8_1 = ZERO;
    var a1_9_0 = ZERO; var a1_9_1 = ZERO;
    var a1_10_0 = ZERO; var a1_10_1 = ZERO;
    var a1_11_0 = ZERO; var a1_11_1 = ZERO;
    var a1_12_0 = ZERO; var a1_12_1 = ZERO;
    var a1_13_0 = ZERO; var a1_13_1 = ZERO;
    // Even rows: tap row 1 at the block's row. Odd rows: tap row 2 there and tap row 0 one below.
    for (var step = 0u; step <= odd; step++) {
        let u = 1u + odd - 2u * step;
        let row0 = y0 + 0u + step;
        let has0 = row0 < gradient_size.in_height;
        let base0 = (n * gradient_size.in_height + min(row0, gradient_size.in_height - 1u)) * gradient_size.in_width * gradient_size.in_quads;
        let row1 = y0 + 1u + step;
        let has1 = row1 < gradient_size.in_height;
        let base1 = (n * gradient_size.in_height + min(row1, gradient_size.in_height - 1u)) * gradient_size.in_width * gradient_size.in_quads;
        for (var channel = 0u; channel < gradient_size.in_quads; channel++) {
            let w0 = (u * 3u + 0u) * gradient_size.weight_rows;
            let m00 = rows_of_weight((w0 + quad * 4u) * gradient_size.weight_quads + channel, gradient_size.weight_quads);
            let m01 = rows_of_weight((w0 + next_quad * 4u) * gradient_size.weight_quads + channel, gradient_size.weight_quads);
            let w1 = (u * 3u + 1u) * gradient_size.weight_rows;
            let m10 = rows_of_weight((w1 + quad * 4u) * gradient_size.weight_quads + channel, gradient_size.weight_quads);
            let m11 = rows_of_weight((w1 + next_quad * 4u) * gradient_size.weight_quads + channel, gradient_size.weight_quads);
            let w2 = (u * 3u + 2u) * gradient_size.weight_rows;
            let m20 = rows_of_weight((w2 + quad * 4u) * gradient_size.weight_quads + channel, gradient_size.weight_quads);
            let m21 = rows_of_weight((w2 + next_quad * 4u) * gradient_size.weight_quads + channel, gradient_size.weight_quads);
            let s0_0 = select(ZERO, vec4<f32>(source[base0 + at0 + channel]), has0 && inside0);
            let s0_1 = select(ZERO, vec4<f32>(source[base0 + at1 + channel]), has0 && inside1);
            let s0_2 = select(ZERO, vec4<f32>(source[base0 + at2 + channel]), has0 && inside2);
            let s0_3 = select(ZERO, vec4<f32>(source[base0 + at3 + channel]), has0 && inside3);
            let s0_4 = select(ZERO, vec4<f32>(source[base0 + at4 + channel]), has0 && inside4);
            let s0_5 = select(ZERO, vec4<f32>(source[base0 + at5 + channel]), has0 && inside5);
            let s0_6 = select(ZERO, vec4<f32>(source[base0 + at6 + channel]), has0 && inside6);
            let s0_7 = select(ZERO, vec4<f32>(source[base0 + at7 + channel]), has0 && inside7);
            a0_0_0 += s0_0 * m10;
            a0_1_0 += s0_1 * m00 + s0_0 * m20;
            a0_0_1 += s0_0 * m11;
            a0_1_1 += s0_1 * m01 + s0_0 * m21;
            a0_2_0 += s0_1 * m10;
            a0_3_0 += s0_2 * m00 + s0_1 * m20;
            a0_2_1 += s0_1 * m11;
            a0_3_1 += s0_2 * m01 + s0_1 * m21;
            a0_4_0 += s0_2 * m10;
            a0_5_0 += s0_3 * m00 + s0_2 * m20;
            a0_4_1 += s0_2 * m11;
            a0_5_1 += s0_3 * m01 + s0_2 * m21;
            a0_6_0 += s0_3 * m10;
            a0_7_0 += s0_4 * m00 + s0_3 * m20;
            a0_6_1 += s0_3 * m11;
            a0_7_1 += s0_4 * m01 + s0_3 * m21;
            a0_8_0 += s0_4 * m10;
            a0_9_0 += s0_5 * m00 + s0_4 * m20;
            a0_8_1 += s0_4 * m11;
            a0_9_1 += s0_5 * m01 + s0_4 * m21;
            a0_10_0 += s0_5 * m10;
            a0_11_0 += s0_6 * m00 + s0_5 * m20;
            a0_10_1 += s0_5 * m11;
            a0_11_1 += s0_6 * m01 + s0_5 * m21;
            a0_12_0 += s0_6 * m10;
            a0_13_0 += s0_7 * m00 + s0_6 * m20;
            a0_12_1 += s0_6 * m11;
            a0_13_1 += s0_7 * m01 + s0_6 * m21;
            let s1_0 = select(ZERO, vec4<f32>(source[base1 + at0 + channel]), has1 && inside0);
            let s1_1 = select(ZERO, vec4<f32>(source[base1 + at1 + channel]), has1 && inside1);
            let s1_2 = select(ZERO, vec4<f32>(source[base1 + at2 + channel]), has1 && inside2);
            let s1_3 = select(ZERO, vec4<f32>(source[base1 + at3 + channel]), has1 && inside3);
            let s1_4 = select(ZERO, vec4<f32>(source[base1 + at4 + channel]), has1 && inside4);
            let s1_5 = select(ZERO, vec4<f32>(source[base1 + at5 + channel]), has1 && inside5);
            let s1_6 = select(ZERO, vec4<f32>(source[base1 + at6 + channel]), has1 && inside6);
            let s1_7 = select(ZERO, vec4<f32>(source[base1 + at7 + channel]), has1 && inside7);
            a1_0_0 += s1_0 * m10;
            a1_1_0 += s1_1 * m00 + s1_0 * m20;
            a1_0_1 += s1_0 * m11;
            a1_1_1 += s1_1 * m01 + s1_0 * m21;
            a1_2_0 += s1_1 * m10;
            a1_3_0 += s1_2 * m00 + s1_1 * m20;
            a1_2_1 += s1_1 * m11;
            a1_3_1 += s1_2 * m01 + s1_1 * m21;
            a1_4_0 += s1_2 * m10;
            a1_5_0 += s1_3 * m00 + s1_2 * m20;
            a1_4_1 += s1_2 * m11;
            a1_5_1 += s1_3 * m01 + s1_2 * m21;
            a1_6_0 += s1_3 * m10;
            a1_7_0 += s1_4 * m00 + s1_3 * m20;
            a1_6_1 += s1_3 * m11;
            a1_7_1 += s1_4 * m01 + s1_3 * m21;
            a1_8_0 += s1_4 * m10;
            a1_9_0 += s1_5 * m00 + s1_4 * m20;
            a1_8_1 += s1_4 * m11;
            a1_9_1 += s1_5 * m01 + s1_4 * m21;
            a1_10_0 += s1_5 * m10;
            a1_11_0 += s1_6 * m00 + s1_5 * m20;
            a1_10_1 += s1_5 * m11;
            a1_11_1 += s1_6 * m01 + s1_5 * m21;
            a1_12_0 += s1_6 * m10;
            a1_13_0 += s1_7 * m00 + s1_6 * m20;
            a1_12_1 += s1_6 * m11;
            a1_13_1 += s1_7 * m01 + s1_6 * m21;
        }
    }
    let has_next = quad + 1u < gradient_size.out_quads;
    let i0 = (y0 + 0u) * 2u + odd;
    if (i0 < gradient_size.out_height) {
        let line = (n * gradient_size.out_height + i0) * gradient_size.out_width;
        if (x0 * 2u + 0u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 0u) * gradient_size.out_quads + quad, has_next, a0_0_0, a0_0_1); }
        if (x0 * 2u + 1u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 1u) * gradient_size.out_quads + quad, has_next, a0_1_0, a0_1_1); }
        if (x0 * 2u + 2u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 2u) * gradient_size.out_quads + quad, has_next, a0_2_0, a0_2_1); }
        if (x0 * 2u + 3u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 3u) * gradient_size.out_quads + quad, has_next, a0_3_0, a0_3_1); }
        if (x0 * 2u + 4u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 4u) * gradient_size.out_quads + quad, has_next, a0_4_0, a0_4_1); }
        if (x0 * 2u + 5u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 5u) * gradient_size.out_quads + quad, has_next, a0_5_0, a0_5_1); }
        if (x0 * 2u + 6u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 6u) * gradient_size.out_quads + quad, has_next, a0_6_0, a0_6_1); }
        if (x0 * 2u + 7u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 7u) * gradient_size.out_quads + quad, has_next, a0_7_0, a0_7_1); }
        if (x0 * 2u + 8u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 8u) * gradient_size.out_quads + quad, has_next, a0_8_0, a0_8_1); }
        if (x0 * 2u + 9u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 9u) * gradient_size.out_quads + quad, has_next, a0_9_0, a0_9_1); }
        if (x0 * 2u + 10u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 10u) * gradient_size.out_quads + quad, has_next, a0_10_0, a0_10_1); }
        if (x0 * 2u + 11u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 11u) * gradient_size.out_quads + quad, has_next, a0_11_0, a0_11_1); }
        if (x0 * 2u + 12u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 12u) * gradient_size.out_quads + quad, has_next, a0_12_0, a0_12_1); }
        if (x0 * 2u + 13u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 13u) * gradient_size.out_quads + quad, has_next, a0_13_0, a0_13_1); }
    }
    let i1 = (y0 + 1u) * 2u + odd;
    if (i1 < gradient_size.out_height) {
        let line = (n * gradient_size.out_height + i1) * gradient_size.out_width;
        if (x0 * 2u + 0u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 0u) * gradient_size.out_quads + quad, has_next, a1_0_0, a1_0_1); }
        if (x0 * 2u + 1u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 1u) * gradient_size.out_quads + quad, has_next, a1_1_0, a1_1_1); }
        if (x0 * 2u + 2u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 2u) * gradient_size.out_quads + quad, has_next, a1_2_0, a1_2_1); }
        if (x0 * 2u + 3u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 3u) * gradient_size.out_quads + quad, has_next, a1_3_0, a1_3_1); }
        if (x0 * 2u + 4u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 4u) * gradient_size.out_quads + quad, has_next, a1_4_0, a1_4_1); }
        if (x0 * 2u + 5u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 5u) * gradient_size.out_quads + quad, has_next, a1_5_0, a1_5_1); }
        if (x0 * 2u + 6u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 6u) * gradient_size.out_quads + quad, has_next, a1_6_0, a1_6_1); }
        if (x0 * 2u + 7u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 7u) * gradient_size.out_quads + quad, has_next, a1_7_0, a1_7_1); }
        if (x0 * 2u + 8u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 8u) * gradient_size.out_quads + quad, has_next, a1_8_0, a1_8_1); }
        if (x0 * 2u + 9u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 9u) * gradient_size.out_quads + quad, has_next, a1_9_0, a1_9_1); }
        if (x0 * 2u + 10u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 10u) * gradient_size.out_quads + quad, has_next, a1_10_0, a1_10_1); }
        if (x0 * 2u + 11u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 11u) * gradient_size.out_quads + quad, has_next, a1_11_0, a1_11_1); }
        if (x0 * 2u + 12u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 12u) * gradient_size.out_quads + quad, has_next, a1_12_0, a1_12_1); }
        if (x0 * 2u + 13u < gradient_size.out_width) { put_gradient((line + x0 * 2u + 13u) * gradient_size.out_quads + quad, has_next, a1_13_0, a1_13_1); }
    }
}
