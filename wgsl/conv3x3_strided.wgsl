// 3x3 convolution with padding 1 and any stride, and its gradient for the input, tap by tap.
//
//   size.transposed 0  y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, i*s+u-1, j*s+v-1, c] * w[u*3+v, c, k]
//   size.transposed 1  dx[n,i,j,c] = sum dy[n, (i+1-u)/s, (j+1-v)/s, k] * w[u*3+v, c, k]   (whole quotients only)
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H',W',P(K)]; w [9,P(C),P(K)]; b [P(K)].
// An invocation makes 4 pixels of 8 channels.

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

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> size: Size;

const ZERO = vec4<f32>(0.0);

fn put(at: u32, has_next: bool, value0: vec4<f32>, value1: vec4<f32>, bias0: vec4<f32>, bias1: vec4<f32>) {
    var v0 = value0 + bias0;
    var v1 = value1 + bias1;
    if (size.has_residual != 0u) {
        v0 += residual[at];
        if (has_next) {
            v1 += residual[at + 1u];
        }
    }
    result[at] = v0;
    if (has_next) {
        result[at + 1u] = v1;
    }
}

/// Where a tap reads along one axis, and whether anything is there. Forward: place * stride + tap - 1; transposed: the
/// whole quotient (place + 1 - tap) / stride.
fn reach(place: u32, tap: u32, limit: u32) -> vec2<u32> {
    var at = i32(place * size.stride + tap) - 1;
    var inside = true;
    if (size.transposed != 0u) {
        let numerator = i32(place) + 1 - i32(tap);
        inside = numerator >= 0 && numerator % i32(size.stride) == 0;
        at = numerator / i32(size.stride);
    }
    inside = inside && at >= 0 && at < i32(limit);
    return vec2<u32>(u32(clamp(at, 0, i32(limit) - 1)), u32(inside));
}

fn product(m: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    if (size.transposed != 0u) {
        return v * m;
    }
    return m * v;
}

@compute @workgroup_size(WG)
fn strided(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pairs = (size.out_quads + 1u) / 2u;
    let tiles_x = (size.out_width + 3u) / 4u;
    let quad = (index % pairs) * 2u;
    let tile = index / pairs;
    let x0 = (tile % tiles_x) * 4u;
    let y = tile / tiles_x % size.out_height;
    let n = tile / tiles_x / size.out_height;
    if (n >= size.batch) {
        return;
    }
    let next_quad = min(quad + 1u, size.out_quads - 1u);
    var a00 = ZERO;
    var a01 = ZERO;
    var a10 = ZERO;
    var a11 = ZERO;
    var a20 = ZERO;
    var a21 = ZERO;
    var a30 = ZERO;
    var a31 = ZERO;
    for (var tap = 0u; tap < 9u; tap++) {
        let row = reach(y, tap / 3u, size.in_height);
        let line = (n * size.in_height + row.x) * size.in_width;
        let column0 = reach(x0 + 0u, tap % 3u, size.in_width);
        let at0 = (line + column0.x) * size.in_quads;
        let inside0 = (row.y & column0.y) != 0u;
        let column1 = reach(x0 + 1u, tap % 3u, size.in_width);
        let at1 = (line + column1.x) * size.in_quads;
        let inside1 = (row.y & column1.y) != 0u;
        let column2 = reach(x0 + 2u, tap % 3u, size.in_width);
        let at2 = (line + column2.x) * size.in_quads;
        let inside2 = (row.y & column2.y) != 0u;
        let column3 = reach(x0 + 3u, tap % 3u, size.in_width);
        let at3 = (line + column3.x) * size.in_quads;
        let inside3 = (row.y & column3.y) != 0u;
        for (var channel = 0u; channel < size.in_quads; channel++) {
            // Rows of four consecutive input channels; transposed: of four consecutive output channels.
            var row0 = tap * size.weight_rows + channel * 4u;
            var row1 = row0;
            var column0 = quad;
            var column1 = next_quad;
            if (size.transposed != 0u) {
                row0 = tap * size.weight_rows + quad * 4u;
                row1 = tap * size.weight_rows + next_quad * 4u;
                column0 = channel;
                column1 = channel;
            }
            let m0 = mat4x4<f32>(
                weight[(row0 + 0u) * size.weight_quads + column0],
                weight[(row0 + 1u) * size.weight_quads + column0],
                weight[(row0 + 2u) * size.weight_quads + column0],
                weight[(row0 + 3u) * size.weight_quads + column0],
            );
            let m1 = mat4x4<f32>(
                weight[(row1 + 0u) * size.weight_quads + column1],
                weight[(row1 + 1u) * size.weight_quads + column1],
                weight[(row1 + 2u) * size.weight_quads + column1],
                weight[(row1 + 3u) * size.weight_quads + column1],
            );
            let s0 = select(ZERO, source[at0 + channel], inside0);
            let s1 = select(ZERO, source[at1 + channel], inside1);
            let s2 = select(ZERO, source[at2 + channel], inside2);
            let s3 = select(ZERO, source[at3 + channel], inside3);
            a00 += product(m0, s0);
            a01 += product(m1, s0);
            a10 += product(m0, s1);
            a11 += product(m1, s1);
            a20 += product(m0, s2);
            a21 += product(m1, s2);
            a30 += product(m0, s3);
            a31 += product(m1, s3);
        }
    }
    let has_next = quad + 1u < size.out_quads;
    var bias0 = ZERO;
    var bias1 = ZERO;
    if (size.has_bias != 0u) {
        bias0 = bias[quad];
        bias1 = bias[next_quad];
    }
    let line = (n * size.out_height + y) * size.out_width;
    if (x0 + 0u < size.out_width) {
        put((line + x0 + 0u) * size.out_quads + quad, has_next, a00, a01, bias0, bias1);
    }
    if (x0 + 1u < size.out_width) {
        put((line + x0 + 1u) * size.out_quads + quad, has_next, a10, a11, bias0, bias1);
    }
    if (x0 + 2u < size.out_width) {
        put((line + x0 + 2u) * size.out_quads + quad, has_next, a20, a21, bias0, bias1);
    }
    if (x0 + 3u < size.out_width) {
        put((line + x0 + 3u) * size.out_quads + quad, has_next, a30, a31, bias0, bias1);
    }
}
