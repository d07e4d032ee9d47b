// 3x3 convolution with padding 1 and its gradient for the input as products over tiles in workgroup memory, for GPUs.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, i*s+u-1, j*s+v-1, c] * w[u*3+v, c, k]
//   PASSING     as forward, with r[n,i,j,k] = e[k] + sum p[n,i,j,c] * m[c,k], p perhaps two tensors side by side
//   EXPANDED    as forward, of an x of half the size: x[n, i, j, c] is source[n, i/2, j/2, c]
//   TRANSPOSED  dx[n,i,j,c] = sum dy[n, i+1-u, j+1-v, k] * w[u*3+v, c, k]                          (stride 1 only)
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H',W',P(K)]; w [9,P(C),P(K)]; b, e [P(K)]; p [N,H',W',P(D)]; m [P(D),P(K)].
// A workgroup makes 8*WG_Y pixels (of all images in a row) x 8*WG_X channels, an invocation 8 x 8 of them. A step of the
// sum is one tap of 4*STEP channels: every invocation loads 4 vec4 of pixels and up to 4 x 4 of the weight (transposed
// here where need be), then does 256 multiply-adds per 16 vec4 of workgroup memory. The host sets STEP = WG_X / 2, so
// that 4 loads per invocation fill the pixels' tile exactly. What an invocation loads is spread over variables of their
// own so that one index, clamped once, reads them all, and neighbours touch neighbouring vec4s. What passes by the
// window (p) is summed as a tenth and an eleventh tap.

override WG_X: u32;
override WG_Y: u32;
// Quads of channels per step.
override STEP: u32;
override TRANSPOSED: bool;
override PASSING: bool;
override EXPANDED: bool;

struct Size {
    batch: u32,
    // Of the tensor that is read (forward: x; transposed: dy) and of the one that is written.
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
    // Where PASSING, whether e is there.
    has_residual: u32,
    // Quads of p's rows in each of its tensors; of the second one perhaps none.
    first_quads: u32,
    other_quads: u32,
    pad0: u32,
    pad1: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias Source = vec4<f32>;
alias Residual = vec4<f32>;
alias Other = vec4<f32>;
alias Result = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
// r, or of p the first tensor.
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read> other: array<Other>;
@group(0) @binding(5) var<storage, read> passing_weight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> passing_bias: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> result: array<Result>;
@group(0) @binding(8) var<uniform> size: Size;

// Pixels (2p + half)*WG_Y + y of a tile: tile_p[(half*STEP + q)*WG_Y + y].
var<workgroup> pixels0: array<vec4<f32>, 2u * STEP * WG_Y>;
var<workgroup> pixels1: array<vec4<f32>, 2u * STEP * WG_Y>;
var<workgroup> pixels2: array<vec4<f32>, 2u * STEP * WG_Y>;
var<workgroup> pixels3: array<vec4<f32>, 2u * STEP * WG_Y>;
// Rows 4q + r of the weight, columns of quad x: rows_r[q*2*WG_X + x].
var<workgroup> weights0: array<vec4<f32>, 2u * STEP * WG_X>;
var<workgroup> weights1: array<vec4<f32>, 2u * STEP * WG_X>;
var<workgroup> weights2: array<vec4<f32>, 2u * STEP * WG_X>;
var<workgroup> weights3: array<vec4<f32>, 2u * STEP * WG_X>;

const ZERO = vec4<f32>(0.0);
const TAPS = 9u;

/// A bit for each of three places in a row that is inside.
fn inside(first: i32, limit: u32) -> u32 {
    return select(0u, 1u, u32(first) < limit) | select(0u, 2u, u32(first + 1) < limit)
        | select(0u, 4u, u32(first + 2) < limit);
}

/// Where the first tap of a pixel lies in the source, in vec4s (it may be outside: the number wraps), and a bit for each
/// tap that is inside. Where the source is half as large two more say that the first tap's column and row are the second of
/// the two that a vec4 of the source stands for.
fn reach(pixel: u32) -> vec2<u32> {
    let factor = select(1u, 2u, EXPANDED);
    var column = i32(pixel % size.out_width * size.stride) - 1;
    let line = pixel / size.out_width;
    var row = i32(line % size.out_height * size.stride) - 1;
    let n = line / size.out_height;
    let rows = inside(row, factor * size.in_height);
    let columns = inside(column, factor * size.in_width);
    var taps = columns * ((rows & 1u) | ((rows & 2u) << 2u) | ((rows & 4u) << 4u));
    taps = select(0u, taps, n < size.batch);
    if (EXPANDED) {
        taps |= (u32(column & 1) << TAPS) | (u32(row & 1) << (TAPS + 1u));
        column >>= 1u;
        row >>= 1u;
    }
    let first = ((i32(n * size.in_height) + row) * i32(size.in_width) + column) * i32(size.in_quads);
    return vec2<u32>(u32(first), taps);
}

/// How far behind a pixel's first tap another one lies, of which `reach` gave the bits.
fn shift(tap: u32, bits: u32) -> u32 {
    var row = tap / 3u;
    var column = tap % 3u;
    if (EXPANDED) {
        row = (row + ((bits >> (TAPS + 1u)) & 1u)) >> 1u;
        column = (column + ((bits >> TAPS) & 1u)) >> 1u;
    }
    return (row * size.in_width + column) * size.in_quads;
}

/// A vec4 of what passes by the window, zero beyond the last pixel and channel.
fn passing(tap: u32, pixel: u32, quads: u32, quad: u32) -> vec4<f32> {
    let is_inside = quad < quads && pixel < size.batch * size.out_height * size.out_width;
    let at = select(0u, pixel * quads + quad, is_inside);
    var value = ZERO;
    if (tap == TAPS) {
        value = vec4<f32>(residual[at]);
    } else {
        value = vec4<f32>(other[at]);
    }
    return select(ZERO, value, is_inside);
}

fn put(pixel: u32, quad: u32, value: vec4<f32>, added: vec4<f32>) {
    if (pixel < size.batch * size.out_height * size.out_width && quad < size.out_quads) {
        let at = pixel * size.out_quads + quad;
        var v = value + added;
        if (!PASSING && size.has_residual != 0u) {
            v += vec4<f32>(residual[at]);
        }
        result[at] = Result(v);
    }
}

@compute @workgroup_size(WG_X, WG_Y)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(local_invocation_id) place: vec3<u32>,
) {
    let tiles = (size.out_quads + 2u * WG_X - 1u) / (2u * WG_X);
    let index = group.y * groups.x + group.x;
    let quad0 = (index % tiles) * 2u * WG_X;
    let pixel0 = (index / tiles) * 8u * WG_Y;
    // What this invocation loads: quad `fill_quad` of a step, pixels in four places of the tile.
    let fill_quad = local % STEP;
    let fill_pixel = local / STEP;
    let fill_to = (fill_pixel / WG_Y * STEP + fill_quad) * WG_Y + fill_pixel % WG_Y;
    let reach0 = reach(pixel0 + 0u * WG_Y + fill_pixel);
    let reach1 = reach(pixel0 + 2u * WG_Y + fill_pixel);
    let reach2 = reach(pixel0 + 4u * WG_Y + fill_pixel);
    let reach3 = reach(pixel0 + 6u * WG_Y + fill_pixel);
    // Two pixels' bits in a word: fewer registers.
    let bits01 = reach0.y | (reach1.y << 16u);
    let bits23 = reach2.y | (reach3.y << 16u);
    // A block of 4 x 4 of the weight: output quad and quad of the step; neighbours read neighbouring memory.
    let fills_weight = local < 2u * STEP * WG_X;
    let block_quad = select(local / (2u * WG_X), local % STEP, TRANSPOSED);
    let block_column = select(local % (2u * WG_X), local / STEP, TRANSPOSED);
    let block_to = block_quad * 2u * WG_X + block_column;
    let column = min(quad0 + block_column, size.out_quads - 1u);

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
    let taps = TAPS + select(0u, select(1u, 2u, size.other_quads > 0u), PASSING);
    for (var tap = 0u; tap < taps; tap++) {
        let passes = PASSING && tap >= TAPS;
        var quads = size.in_quads;
        // Rows of the weight that is read: where the tap begins.
        var row = tap * size.weight_rows;
        if (passes) {
            quads = select(size.other_quads, size.first_quads, tap == TAPS);
            row = select(size.first_quads * 4u, 0u, tap == TAPS);
        }
        // The transposed product reads the taps the other way round.
        let seen = select(tap, TAPS - 1u - tap, TRANSPOSED);
        for (var first = 0u; first < quads; first += STEP) {
            let quad = first + fill_quad;
            var s0 = ZERO;
            var s1 = ZERO;
            var s2 = ZERO;
            var s3 = ZERO;
            if (passes) {
                s0 = passing(tap, pixel0 + 0u * WG_Y + fill_pixel, quads, quad);
                s1 = passing(tap, pixel0 + 2u * WG_Y + fill_pixel, quads, quad);
                s2 = passing(tap, pixel0 + 4u * WG_Y + fill_pixel, quads, quad);
                s3 = passing(tap, pixel0 + 6u * WG_Y + fill_pixel, quads, quad);
            } else {
                let bit = select(0u, 1u << seen, quad < size.in_quads);
                let inside0 = (bits01 & bit) != 0u;
                s0 = select(ZERO, vec4<f32>(source[select(0u, reach0.x + shift(seen, bits01) + quad, inside0)]), inside0);
                let inside1 = (bits01 & (bit << 16u)) != 0u;
                s1 = select(ZERO, vec4<f32>(source[select(0u, reach1.x + shift(seen, bits01 >> 16u) + quad, inside1)]), inside1);
                let inside2 = (bits23 & bit) != 0u;
                s2 = select(ZERO, vec4<f32>(source[select(0u, reach2.x + shift(seen, bits23) + quad, inside2)]), inside2);
                let inside3 = (bits23 & (bit << 16u)) != 0u;
                s3 = select(ZERO, vec4<f32>(source[select(0u, reach3.x + shift(seen, bits23 >> 16u) + quad, inside3)]), inside3);
            }
            let channel = min(first + block_quad, quads - 1u);
            var start = (row + channel * 4u) * size.weight_quads + column;
            if (TRANSPOSED) {
                start = (row + column * 4u) * size.weight_quads + channel;
            }
            var block = mat4x4<f32>();
            if (fills_weight) {
                if (passes) {
                    block = mat4x4<f32>(
                        passing_weight[start],
                        passing_weight[start + size.weight_quads],
                        passing_weight[start + 2u * size.weight_quads],
                        passing_weight[start + 3u * size.weight_quads],
                    );
                } else {
                    block = mat4x4<f32>(
                        weight[start],
                        weight[start + size.weight_quads],
                        weight[start + 2u * size.weight_quads],
                        weight[start + 3u * size.weight_quads],
                    );
                }
            }
            if (TRANSPOSED) {
                block = transpose(block);
            }
            workgroupBarrier();
            pixels0[fill_to] = s0;
            pixels1[fill_to] = s1;
            pixels2[fill_to] = s2;
            pixels3[fill_to] = s3;
            if (fills_weight) {
                weights0[block_to] = block[0];
                weights1[block_to] = block[1];
                weights2[block_to] = block[2];
                weights3[block_to] = block[3];
            }
            workgroupBarrier();
            for (var q = 0u; q < STEP; q++) {
                let low = q * WG_Y + place.y;
                let high = low + STEP * WG_Y;
                let left = q * 2u * WG_X + place.x;
                let right = left + WG_X;
                let p0 = pixels0[low];
                let p1 = pixels0[high];
                let p2 = pixels1[low];
                let p3 = pixels1[high];
                let p4 = pixels2[low];
                let p5 = pixels2[high];
                let p6 = pixels3[low];
                let p7 = pixels3[high];
                let w00 = weights0[left];
                let w01 = weights0[right];
                a00 += p0.x * w00;
                a01 += p0.x * w01;
                a10 += p1.x * w00;
                a11 += p1.x * w01;
                a20 += p2.x * w00;
                a21 += p2.x * w01;
                a30 += p3.x * w00;
                a31 += p3.x * w01;
                a40 += p4.x * w00;
                a41 += p4.x * w01;
                a50 += p5.x * w00;
                a51 += p5.x * w01;
                a60 += p6.x * w00;
                a61 += p6.x * w01;
                a70 += p7.x * w00;
                a71 += p7.x * w01;
                let w10 = weights1[left];
                let w11 = weights1[right];
                a00 += p0.y * w10;
                a01 += p0.y * w11;
                a10 += p1.y * w10;
                a11 += p1.y * w11;
                a20 += p2.y * w10;
                a21 += p2.y * w11;
                a30 += p3.y * w10;
                a31 += p3.y * w11;
                a40 += p4.y * w10;
                a41 += p4.y * w11;
                a50 += p5.y * w10;
                a51 += p5.y * w11;
                a60 += p6.y * w10;
                a61 += p6.y * w11;
                a70 += p7.y * w10;
                a71 += p7.y * w11;
                let w20 = weights2[left];
                let w21 = weights2[right];
                a00 += p0.z * w20;
                a01 += p0.z * w21;
                a10 += p1.z * w20;
                a11 += p1.z * w21;
                a20 += p2.z * w20;
                a21 += p2.z * w21;
                a30 += p3.z * w20;
                a31 += p3.z * w21;
                a40 += p4.z * w20;
                a41 += p4.z * w21;
                a50 += p5.z * w20;
                a51 += p5.z * w21;
                a60 += p6.z * w20;
                a61 += p6.z * w21;
                a70 += p7.z * w20;
                a71 += p7.z * w21;
                let w30 = weights3[left];
                let w31 = weights3[right];
                a00 += p0.w * w30;
                a01 += p0.w * w31;
                a10 += p1.w * w30;
                a11 += p1.w * w31;
                a20 += p2.w * w30;
                a21 += p2.w * w31;
                a30 += p3.w * w30;
                a31 += p3.w * w31;
                a40 += p4.w * w30;
                a41 += p4.w * w31;
                a50 += p5.w * w30;
                a51 += p5.w * w31;
                a60 += p6.w * w30;
                a61 += p6.w * w31;
                a70 += p7.w * w30;
                a71 += p7.w * w31;
            }
        }
    }
    let quad_left = quad0 + place.x;
    let quad_right = quad_left + WG_X;
    var bias0 = ZERO;
    var bias1 = ZERO;
    if (size.has_bias != 0u) {
        bias0 = bias[min(quad_left, size.out_quads - 1u)];
        bias1 = bias[min(quad_right, size.out_quads - 1u)];
    }
    if (PASSING && size.has_residual != 0u) {
        bias0 += passing_bias[min(quad_left, size.out_quads - 1u)];
        bias1 += passing_bias[min(quad_right, size.out_quads - 1u)];
    }
    let pixel = pixel0 + place.y;
    put(pixel + 0u * WG_Y, quad_left, a00, bias0);
    put(pixel + 0u * WG_Y, quad_right, a01, bias1);
    put(pixel + 1u * WG_Y, quad_left, a10, bias0);
    put(pixel + 1u * WG_Y, quad_right, a11, bias1);
    put(pixel + 2u * WG_Y, quad_left, a20, bias0);
    put(pixel + 2u * WG_Y, quad_right, a21, bias1);
    put(pixel + 3u * WG_Y, quad_left, a30, bias0);
    put(pixel + 3u * WG_Y, quad_right, a31, bias1);
    put(pixel + 4u * WG_Y, quad_left, a40, bias0);
    put(pixel + 4u * WG_Y, quad_right, a41, bias1);
    put(pixel + 5u * WG_Y, quad_left, a50, bias0);
    put(pixel + 5u * WG_Y, quad_right, a51, bias1);
    put(pixel + 6u * WG_Y, quad_left, a60, bias0);
    put(pixel + 6u * WG_Y, quad_right, a61, bias1);
    put(pixel + 7u * WG_Y, quad_left, a70, bias0);
    put(pixel + 7u * WG_Y, quad_right, a71, bias1);
}
