// 3x3 convolution with stride 1 and padding 1, and its gradient for the input. Direct register tiles, no barriers.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, i+u-1, j+v-1, c] * w[u*3+v, c, k]
//   grad_input  dx[n,i,j,c] = r[n,i,j,c] + sum dy[n, i+1-u, j+1-v, k] * w[u*3+v, c, k]
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H',W',P(K)]; w [9,P(C),P(K)]; b [P(K)].
// An invocation makes 2 x 7 pixels of 8 channels: 42 loads for 1,344 multiply-adds per tap row and input vec4. Widths 7,
// 14 and 28 divide by 7. The tiles are spelled out: arrays indexed in loops would live in memory, not in registers.

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

    let column0 = i32(x0) - 1;
    let inside0 = column0 >= 0 && column0 < i32(size.in_width);
    let at0 = u32(clamp(column0, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column1 = i32(x0) + 0;
    let inside1 = column1 >= 0 && column1 < i32(size.in_width);
    let at1 = u32(clamp(column1, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column2 = i32(x0) + 1;
    let inside2 = column2 >= 0 && column2 < i32(size.in_width);
    let at2 = u32(clamp(column2, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column3 = i32(x0) + 2;
    let inside3 = column3 >= 0 && column3 < i32(size.in_width);
    let at3 = u32(clamp(column3, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column4 = i32(x0) + 3;
    let inside4 = column4 >= 0 && column4 < i32(size.in_width);
    let at4 = u32(clamp(column4, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column5 = i32(x0) + 4;
    let inside5 = column5 >= 0 && column5 < i32(size.in_width);
    let at5 = u32(clamp(column5, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column6 = i32(x0) + 5;
    let inside6 = column6 >= 0 && column6 < i32(size.in_width);
    let at6 = u32(clamp(column6, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column7 = i32(x0) + 6;
    let inside7 = column7 >= 0 && column7 < i32(size.in_width);
    let at7 = u32(clamp(column7, 0, i32(size.in_width) - 1)) * size.in_quads;
    let column8 = i32(x0) + 7;
    let inside8 = column8 >= 0 && column8 < i32(size.in_width);
    let at8 = u32(clamp(column8, 0, i32(size.in_width) - 1)) * size.in_quads;
    var a000 = ZERO;
    var a001 = ZERO;
    var a010 = ZERO;
    var a011 = ZERO;
    var a020 = ZERO;
    var a021 = ZERO;
    var a030 = ZERO;
    var a031 = ZERO;
    var a040 = ZERO;
    var a041 = ZERO;
    var a050 = ZERO;
    var a051 = ZERO;
    var a060 = ZERO;
    var a061 = ZERO;
    var a100 = ZERO;
    var a101 = ZERO;
    var a110 = ZERO;
    var a111 = ZERO;
    var a120 = ZERO;
    var a121 = ZERO;
    var a130 = ZERO;
    var a131 = ZERO;
    var a140 = ZERO;
    var a141 = ZERO;
    var a150 = ZERO;
    var a151 = ZERO;
    var a160 = ZERO;
    var a161 = ZERO;

    for (var u = 0u; u < 3u; u++) {
        let row0 = i32(y0 + u) - 1;
        let row1 = row0 + 1;
        let inside_row0 = row0 >= 0 && row0 < i32(size.in_height);
        let inside_row1 = row1 < i32(size.in_height);
        let last = i32(size.in_height) - 1;
        let base0 = (n * size.in_height + u32(clamp(row0, 0, last))) * size.in_width * size.in_quads;
        let base1 = (n * size.in_height + u32(clamp(row1, 0, last))) * size.in_width * size.in_quads;
        for (var channel = 0u; channel < size.in_quads; channel++) {
            let s00 = select(ZERO, vec4<f32>(source[base0 + at0 + channel]), inside0 && inside_row0);
            let s01 = select(ZERO, vec4<f32>(source[base0 + at1 + channel]), inside1 && inside_row0);
            let s02 = select(ZERO, vec4<f32>(source[base0 + at2 + channel]), inside2 && inside_row0);
            let s03 = select(ZERO, vec4<f32>(source[base0 + at3 + channel]), inside3 && inside_row0);
            let s04 = select(ZERO, vec4<f32>(source[base0 + at4 + channel]), inside4 && inside_row0);
            let s05 = select(ZERO, vec4<f32>(source[base0 + at5 + channel]), inside5 && inside_row0);
            let s06 = select(ZERO, vec4<f32>(source[base0 + at6 + channel]), inside6 && inside_row0);
            let s07 = select(ZERO, vec4<f32>(source[base0 + at7 + channel]), inside7 && inside_row0);
            let s08 = select(ZERO, vec4<f32>(source[base0 + at8 + channel]), inside8 && inside_row0);
            let s10 = select(ZERO, vec4<f32>(source[base1 + at0 + channel]), inside0 && inside_row1);
            let s11 = select(ZERO, vec4<f32>(source[base1 + at1 + channel]), inside1 && inside_row1);
            let s12 = select(ZERO, vec4<f32>(source[base1 + at2 + channel]), inside2 && inside_row1);
            let s13 = select(ZERO, vec4<f32>(source[base1 + at3 + channel]), inside3 && inside_row1);
            let s14 = select(ZERO, vec4<f32>(source[base1 + at4 + channel]), inside4 && inside_row1);
            let s15 = select(ZERO, vec4<f32>(source[base1 + at5 + channel]), inside5 && inside_row1);
            let s16 = select(ZERO, vec4<f32>(source[base1 + at6 + channel]), inside6 && inside_row1);
            let s17 = select(ZERO, vec4<f32>(source[base1 + at7 + channel]), inside7 && inside_row1);
            let s18 = select(ZERO, vec4<f32>(source[base1 + at8 + channel]), inside8 && inside_row1);
            let w0 = ((u * 3u + 0u) * size.weight_rows + channel * 4u) * size.weight_quads;
            let m00 = mat4x4<f32>(
                weight[w0 + 0u * size.weight_quads + quad],
                weight[w0 + 1u * size.weight_quads + quad],
                weight[w0 + 2u * size.weight_quads + quad],
                weight[w0 + 3u * size.weight_quads + quad],
            );
            let m01 = mat4x4<f32>(
                weight[w0 + 0u * size.weight_quads + next_quad],
                weight[w0 + 1u * size.weight_quads + next_quad],
                weight[w0 + 2u * size.weight_quads + next_quad],
                weight[w0 + 3u * size.weight_quads + next_quad],
            );
            let w1 = ((u * 3u + 1u) * size.weight_rows + channel * 4u) * size.weight_quads;
            let m10 = mat4x4<f32>(
                weight[w1 + 0u * size.weight_quads + quad],
                weight[w1 + 1u * size.weight_quads + quad],
                weight[w1 + 2u * size.weight_quads + quad],
                weight[w1 + 3u * size.weight_quads + quad],
            );
            let m11 = mat4x4<f32>(
                weight[w1 + 0u * size.weight_quads + next_quad],
                weight[w1 + 1u * size.weight_quads + next_quad],
                weight[w1 + 2u * size.weight_quads + next_quad],
                weight[w1 + 3u * size.weight_quads + next_quad],
            );
            let w2 = ((u * 3u + 2u) * size.weight_rows + channel * 4u) * size.weight_quads;
            let m20 = mat4x4<f32>(
                weight[w2 + 0u * size.weight_quads + quad],
                weight[w2 + 1u * size.weight_quads + quad],
                weight[w2 + 2u * size.weight_quads + quad],
                weight[w2 + 3u * size.weight_quads + quad],
            );
            let m21 = mat4x4<f32>(
                weight[w2 + 0u * size.weight_quads + next_quad],
                weight[w2 + 1u * size.weight_quads + next_quad],
                weight[w2 + 2u * size.weight_quads + next_quad],
                weight[w2 + 3u * size.weight_quads + next_quad],
            );
            a000 += m00 * s00 + m10 * s01 + m20 * s02;
            a001 += m01 * s00 + m11 * s01 + m21 * s02;
            a010 += m00 * s01 + m10 * s02 + m20 * s03;
            a011 += m01 * s01 + m11 * s02 + m21 * s03;
            a020 += m00 * s02 + m10 * s03 + m20 * s04;
            a021 += m01 * s02 + m11 * s03 + m21 * s04;
            a030 += m00 * s03 + m10 * s04 + m20 * s05;
            a031 += m01 * s03 + m11 * s04 + m21 * s05;
            a040 += m00 * s04 + m10 * s05 + m20 * s06;
            a041 += m01 * s04 + m11 * s05 + m21 * s06;
            a050 += m00 * s05 + m10 * s06 + m20 * s07;
            a051 += m01 * s05 + m11 * s06 + m21 * s07;
            a060 += m00 * s06 + m10 * s07 + m20 * s08;
            a061 += m01 * s06 + m11 * s07 + m21 * s08;
            a100 += m00 * s10 + m10 * s11 + m20 * s12;
            a101 += m01 * s10 + m11 * s11 + m21 * s12;
            a110 += m00 * s11 + m10 * s12 + m20 * s13;
            a111 += m01 * s11 + m11 * s12 + m21 * s13;
            a120 += m00 * s12 + m10 * s13 + m20 * s14;
            a121 += m01 * s12 + m11 * s13 + m21 * s14;
            a130 += m00 * s13 + m10 * s14 + m20 * s15;
            a131 += m01 * s13 + m11 * s14 + m21 * s15;
            a140 += m00 * s14 + m10 * s15 + m20 * s16;
            a141 += m01 * s14 + m11 * s15 + m21 * s16;
            a150 += m00 * s15 + m10 * s16 + m20 * s17;
            a151 += m01 * s15 + m11 * s16 + m21 * s17;
            a160 += m00 * s16 + m10 * s17 + m20 * s18;
            a161 += m01 * s16 + m11 * s17 + m21 * s18;
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
        let line = (n * size.out_height + y0 + 0u) * size.out_width;
        if (x0 + 0u < size.out_width) { put((line + x0 + 0u) * size.out_quads + quad, has_next, a000, a001, bias0, bias1); }
        if (x0 + 1u < size.out_width) { put((line + x0 + 1u) * size.out_quads + quad, has_next, a010, a011, bias0, bias1); }
        if (x0 + 2u < size.out_width) { put((line + x0 + 2u) * size.out_quads + quad, has_next, a020, a021, bias0, bias1); }
        if (x0 + 3u < size.out_width) { put((line + x0 + 3u) * size.out_quads + quad, has_next, a030, a031, bias0, bias1); }
        if (x0 + 4u < size.out_width) { put((line + x0 + 4u) * size.out_quads + quad, has_next, a040, a041, bias0, bias1); }
        if (x0 + 5u < size.out_width) { put((line + x0 + 5u) * size.out_quads + quad, has_next, a050, a051, bias0, bias1); }
        if (x0 + 6u < size.out_width) { put((line + x0 + 6u) * size.out_quads + quad, has_next, a060, a061, bias0, bias1); }
    }
    if (y0 + 1u < size.out_height) {
        let line = (n * size.out_height + y0 + 1u) * size.out_width;
        if (x0 + 0u < size.out_width) { put((line + x0 + 0u) * size.out_quads + quad, has_next, a100, a101, bias0, bias1); }
        if (x0 + 1u < size.out_width) { put((line + x0 + 1u) * size.out_quads + quad, has_next, a110, a111, bias0, bias1); }
        if (x0 + 2u < size.out_width) { put((line + x0 + 2u) * size.out_quads + quad, has_next, a120, a121, bias0, bias1); }
        if (x0 + 3u < size.out_width) { put((line + x0 + 3u) * size.out_quads + quad, has_next, a130, a131, bias0, bias1); }
        if (x0 + 4u < size.out_width) { put((line + x0 + 4u) * size.out_quads + quad, has_next, a140, a141, bias0, bias1); }
        if (x0 + 5u < size.out_width) { put((line + x0 + 5u) * size.out_quads + quad, has_next, a150, a151, bias0, bias1); }
        if (x0 + 6u < size.out_width) { put((line + x0 + 6u) * size.out_quads + quad, has_next, a160, a161, bias0, bias1); }
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
    let tiles_x = (gradient_size.out_width + 6u) / 7u;
    let tiles_y = (gradient_size.out_height + 1u) / 2u;
    let quad = (index % pairs) * 2u;
    let tile = index / pairs;
    let x0 = (tile % tiles_x) * 7u;
    let y0 = (tile / tiles_x % tiles_y) * 2u;
    let n = tile / tiles_x / tiles_y;
    if (n >= gradient_size.batch) {
        return;
    }
    let next_quad = min(quad + 1u, gradient_size.out_quads - 1u);

    let column0 = i32(x0) - 1;
    let inside0 = column0 >= 0 && column0 < i32(gradient_size.in_width);
    let at0 = u32(clamp(column0, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column1 = i32(x0) + 0;
    let inside1 = column1 >= 0 && column1 < i32(gradient_size.in_width);
    let at1 = u32(clamp(column1, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column2 = i32(x0) + 1;
    let inside2 = column2 >= 0 && column2 < i32(gradient_size.in_width);
    let at2 = u32(clamp(column2, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column3 = i32(x0) + 2;
    let inside3 = column3 >= 0 && column3 < i32(gradient_size.in_width);
    let at3 = u32(clamp(column3, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column4 = i32(x0) + 3;
    let inside4 = column4 >= 0 && column4 < i32(gradient_size.in_width);
    let at4 = u32(clamp(column4, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column5 = i32(x0) + 4;
    let inside5 = column5 >= 0 && column5 < i32(gradient_size.in_width);
    let at5 = u32(clamp(column5, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column6 = i32(x0) + 5;
    let inside6 = column6 >= 0 && column6 < i32(gradient_size.in_width);
    let at6 = u32(clamp(column6, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column7 = i32(x0) + 6;
    let inside7 = column7 >= 0 && column7 < i32(gradient_size.in_width);
    let at7 = u32(clamp(column7, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    let column8 = i32(x0) + 7;
    let inside8 = column8 >= 0 && column8 < i32(gradient_size.in_width);
    let at8 = u32(clamp(column8, 0, i32(gradient_size.in_width) - 1)) * gradient_size.in_quads;
    var a000 = ZERO;
    var a001 = ZERO;
    var a010 = ZERO;
    var a011 = ZERO;
    var a020 = ZERO;
    var a021 = ZERO;
    var a030 = ZERO;
    var a031 = ZERO;
    var a040 = ZERO;
    var a041 = ZERO;
    var a050 = ZERO;
    var a051 = ZERO;
    var a060 = ZERO;
    var a061 = ZERO;
    var a100 = ZERO;
    var a101 = ZERO;
    var a110 = ZERO;
    var a111 = ZERO;
    var a120 = ZERO;
    var a121 = ZERO;
    var a130 = ZERO;
    var a131 = ZERO;
    var a140 = ZERO;
    var a141 = ZERO;
    var a150 = ZERO;
    var a151 = ZERO;
    var a160 = ZERO;
    var a161 = ZERO;

    for (var u = 0u; u < 3u; u++) {
        let row0 = i32(y0 + u) - 1;
        let row1 = row0 + 1;
        let inside_row0 = row0 >= 0 && row0 < i32(gradient_size.in_height);
        let inside_row1 = row1 < i32(gradient_size.in_height);
        let last = i32(gradient_size.in_height) - 1;
        let base0 = (n * gradient_size.in_height + u32(clamp(row0, 0, last))) * gradient_size.in_width * gradient_size.in_quads;
        let base1 = (n * gradient_size.in_height + u32(clamp(row1, 0, last))) * gradient_size.in_width * gradient_size.in_quads;
        for (var channel = 0u; channel < gradient_size.in_quads; channel++) {
            let s00 = select(ZERO, vec4<f32>(source[base0 + at0 + channel]), inside0 && inside_row0);
            let s01 = select(ZERO, vec4<f32>(source[base0 + at1 + channel]), inside1 && inside_row0);
            let s02 = select(ZERO, vec4<f32>(source[base0 + at2 + channel]), inside2 && inside_row0);
            let s03 = select(ZERO, vec4<f32>(source[base0 + at3 + channel]), inside3 && inside_row0);
            let s04 = select(ZERO, vec4<f32>(source[base0 + at4 + channel]), inside4 && inside_row0);
            let s05 = select(ZERO, vec4<f32>(source[base0 + at5 + channel]), inside5 && inside_row0);
            let s06 = select(ZERO, vec4<f32>(source[base0 + at6 + channel]), inside6 && inside_row0);
            let s07 = select(ZERO, vec4<f32>(source[base0 + at7 + channel]), inside7 && inside_row0);
            let s08 = select(ZERO, vec4<f32>(source[base0 + at8 + channel]), inside8 && inside_row0);
            let s10 = select(ZERO, vec4<f32>(source[base1 + at0 + channel]), inside0 && inside_row1);
            let s11 = select(ZERO, vec4<f32>(source[base1 + at1 + channel]), inside1 && inside_row1);
            let s12 = select(ZERO, vec4<f32>(source[base1 + at2 + channel]), inside2 && inside_row1);
            let s13 = select(ZERO, vec4<f32>(source[base1 + at3 + channel]), inside3 && inside_row1);
            let s14 = select(ZERO, vec4<f32>(source[base1 + at4 + channel]), inside4 && inside_row1);
            let s15 = select(ZERO, vec4<f32>(source[base1 + at5 + channel]), inside5 && inside_row1);
            let s16 = select(ZERO, vec4<f32>(source[base1 + at6 + channel]), inside6 && inside_row1);
            let s17 = select(ZERO, vec4<f32>(source[base1 + at7 + channel]), inside7 && inside_row1);
            let s18 = select(ZERO, vec4<f32>(source[base1 + at8 + channel]), inside8 && inside_row1);
            let w0 = (8u - (u * 3u + 0u)) * gradient_size.weight_rows;
            let m00 = mat4x4<f32>(
                weight[(w0 + quad * 4u + 0u) * gradient_size.weight_quads + channel],
                weight[(w0 + quad * 4u + 1u) * gradient_size.weight_quads + channel],
                weight[(w0 + quad * 4u + 2u) * gradient_size.weight_quads + channel],
                weight[(w0 + quad * 4u + 3u) * gradient_size.weight_quads + channel],
            );
            let m01 = mat4x4<f32>(
                weight[(w0 + next_quad * 4u + 0u) * gradient_size.weight_quads + channel],
                weight[(w0 + next_quad * 4u + 1u) * gradient_size.weight_quads + channel],
                weight[(w0 + next_quad * 4u + 2u) * gradient_size.weight_quads + channel],
                weight[(w0 + next_quad * 4u + 3u) * gradient_size.weight_quads + channel],
            );
            let w1 = (8u - (u * 3u + 1u)) * gradient_size.weight_rows;
            let m10 = mat4x4<f32>(
                weight[(w1 + quad * 4u + 0u) * gradient_size.weight_quads + channel],
                weight[(w1 + quad * 4u + 1u) * gradient_size.weight_quads + channel],
                weight[(w1 + quad * 4u + 2u) * gradient_size.weight_quads + channel],
                weight[(w1 + quad * 4u + 3u) * gradient_size.weight_quads + channel],
            );
            let m11 = mat4x4<f32>(
                weight[(w1 + next_quad * 4u + 0u) * gradient_size.weight_quads + channel],
                weight[(w1 + next_quad * 4u + 1u) * gradient_size.weight_quads + channel],
                weight[(w1 + next_quad * 4u + 2u) * gradient_size.weight_quads + channel],
                weight[(w1 + next_quad * 4u + 3u) * gradient_size.weight_quads + channel],
            );
            let w2 = (8u - (u * 3u + 2u)) * gradient_size.weight_rows;
            let m20 = mat4x4<f32>(
                weight[(w2 + quad * 4u + 0u) * gradient_size.weight_quads + channel],
                weight[(w2 + quad * 4u + 1u) * gradient_size.weight_quads + channel],
                weight[(w2 + quad * 4u + 2u) * gradient_size.weight_quads + channel],
                weight[(w2 + quad * 4u + 3u) * gradient_size.weight_quads + channel],
            );
            let m21 = mat4x4<f32>(
                weight[(w2 + next_quad * 4u + 0u) * gradient_size.weight_quads + channel],
                weight[(w2 + next_quad * 4u + 1u) * gradient_size.weight_quads + channel],
                weight[(w2 + next_quad * 4u + 2u) * gradient_size.weight_quads + channel],
                weight[(w2 + next_quad * 4u + 3u) * gradient_size.weight_quads + channel],
            );
            a000 += s00 * m00 + s01 * m10 + s02 * m20;
            a001 += s00 * m01 + s01 * m11 + s02 * m21;
            a010 += s01 * m00 + s02 * m10 + s03 * m20;
            a011 += s01 * m01 + s02 * m11 + s03 * m21;
            a020 += s02 * m00 + s03 * m10 + s04 * m20;
            a021 += s02 * m01 + s03 * m11 + s04 * m21;
            a030 += s03 * m00 + s04 * m10 + s05 * m20;
            a031 += s03 * m01 + s04 * m11 + s05 * m21;
            a040 += s04 * m00 + s05 * m10 + s06 * m20;
            a041 += s04 * m01 + s05 * m11 + s06 * m21;
            a050 += s05 * m00 + s06 * m10 + s07 * m20;
            a051 += s05 * m01 + s06 * m11 + s07 * m21;
            a060 += s06 * m00 + s07 * m10 + s08 * m20;
            a061 += s06 * m01 + s07 * m11 + s08 * m21;
            a100 += s10 * m00 + s11 * m10 + s12 * m20;
            a101 += s10 * m01 + s11 * m11 + s12 * m21;
            a110 += s11 * m00 + s12 * m10 + s13 * m20;
            a111 += s11 * m01 + s12 * m11 + s13 * m21;
            a120 += s12 * m00 + s13 * m10 + s14 * m20;
            a121 += s12 * m01 + s13 * m11 + s14 * m21;
            a130 += s13 * m00 + s14 * m10 + s15 * m20;
            a131 += s13 * m01 + s14 * m11 + s15 * m21;
            a140 += s14 * m00 + s15 * m10 + s16 * m20;
            a141 += s14 * m01 + s15 * m11 + s16 * m21;
            a150 += s15 * m00 + s16 * m10 + s17 * m20;
            a151 += s15 * m01 + s16 * m11 + s17 * m21;
            a160 += s16 * m00 + s17 * m10 + s18 * m20;
            a161 += s16 * m01 + s17 * m11 + s18 * m21;
        }
    }
    let has_next = quad + 1u < gradient_size.out_quads;
    if (y0 + 0u < gradient_size.out_height) {
        let line = (n * gradient_size.out_height + y0 + 0u) * gradient_size.out_width;
        if (x0 + 0u < gradient_size.out_width) { put_gradient((line + x0 + 0u) * gradient_size.out_quads + quad, has_next, a000, a001); }
        if (x0 + 1u < gradient_size.out_width) { put_gradient((line + x0 + 1u) * gradient_size.out_quads + quad, has_next, a010, a011); }
        if (x0 + 2u < gradient_size.out_width) { put_gradient((line + x0 + 2u) * gradient_size.out_quads + quad, has_next, a020, a021); }
        if (x0 + 3u < gradient_size.out_width) { put_gradient((line + x0 + 3u) * gradient_size.out_quads + quad, has_next, a030, a031); }
        if (x0 + 4u < gradient_size.out_width) { put_gradient((line + x0 + 4u) * gradient_size.out_quads + quad, has_next, a040, a041); }
        if (x0 + 5u < gradient_size.out_width) { put_gradient((line + x0 + 5u) * gradient_size.out_quads + quad, has_next, a050, a051); }
        if (x0 + 6u < gradient_size.out_width) { put_gradient((line + x0 + 6u) * gradient_size.out_quads + quad, has_next, a060, a061); }
    }
    if (y0 + 1u < gradient_size.out_height) {
        let line = (n * gradient_size.out_height + y0 + 1u) * gradient_size.out_width;
        if (x0 + 0u < gradient_size.out_width) { put_gradient((line + x0 + 0u) * gradient_size.out_quads + quad, has_next, a100, a101); }
        if (x0 + 1u < gradient_size.out_width) { put_gradient((line + x0 + 1u) * gradient_size.out_quads + quad, has_next, a110, a111); }
        if (x0 + 2u < gradient_size.out_width) { put_gradient((line + x0 + 2u) * gradient_size.out_quads + quad, has_next, a120, a121); }
        if (x0 + 3u < gradient_size.out_width) { put_gradient((line + x0 + 3u) * gradient_size.out_quads + quad, has_next, a130, a131); }
        if (x0 + 4u < gradient_size.out_width) { put_gradient((line + x0 + 4u) * gradient_size.out_quads + quad, has_next, a140, a141); }
        if (x0 + 5u < gradient_size.out_width) { put_gradient((line + x0 + 5u) * gradient_size.out_quads + quad, has_next, a150, a151); }
        if (x0 + 6u < gradient_size.out_width) { put_gradient((line + x0 + 6u) * gradient_size.out_quads + quad, has_next, a160, a161); }
    }
}
