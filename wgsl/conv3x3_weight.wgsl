// Gradient of the weight of a 3x3 convolution with padding 1, any stride.
//
//   dw[u*3+v, c, k] = sum x[n, i*s+u-1, j*s+v-1, c] * dy[n, i, j, k]
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; dy [N,H',W',P(K)]; partials [slices, 9, P(C), P(K)].
// An invocation sums 3 taps of a row x 4 x 8 weights over one slice of the output's rows, moving a window of three columns
// along: 3 loads for 96 multiply-adds. reduce_rows.wgsl adds the slices, so the sum's order is fixed.

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
alias Upstream = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> weight_size: Size;

const ZERO = vec4<f32>(0.0);

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pairs = (weight_size.out_quads + 1u) / 2u;
    let quad = (index % pairs) * 2u;
    let channel = index / pairs % weight_size.in_quads;
    let u = index / pairs / weight_size.in_quads % 3u;
    let slice = index / pairs / weight_size.in_quads / 3u;
    if (slice >= weight_size.slices) {
        return;
    }
    let next_quad = min(quad + 1u, weight_size.out_quads - 1u);
    let stride = weight_size.stride;
    let width = weight_size.in_width;
    var a000 = ZERO;
    var a001 = ZERO;
    var a010 = ZERO;
    var a011 = ZERO;
    var a020 = ZERO;
    var a021 = ZERO;
    var a030 = ZERO;
    var a031 = ZERO;
    var a100 = ZERO;
    var a101 = ZERO;
    var a110 = ZERO;
    var a111 = ZERO;
    var a120 = ZERO;
    var a121 = ZERO;
    var a130 = ZERO;
    var a131 = ZERO;
    var a200 = ZERO;
    var a201 = ZERO;
    var a210 = ZERO;
    var a211 = ZERO;
    var a220 = ZERO;
    var a221 = ZERO;
    var a230 = ZERO;
    var a231 = ZERO;
    let first = slice * weight_size.slice_rows;
    let end = min(first + weight_size.slice_rows, weight_size.batch * weight_size.out_height);
    for (var line = first; line < end; line++) {
        let row = i32(line % weight_size.out_height * stride + u) - 1;
        if (row < 0 || row >= i32(weight_size.in_height)) {
            continue;
        }
        let n = line / weight_size.out_height;
        let base = (n * weight_size.in_height + u32(row)) * width * weight_size.in_quads + channel;
        let base_at = line * weight_size.out_width * weight_size.out_quads;
        var s0 = ZERO;
        var s1 = ZERO;
        var s2 = vec4<f32>(source[base]);
        if (stride != 1u) {
            s2 = ZERO;
        }
        for (var x = 0u; x < weight_size.out_width; x++) {
            // The window moves: its columns are x * stride - 1, x * stride, x * stride + 1.
            let right = x * stride + 1u;
            let right_value =
                select(ZERO, vec4<f32>(source[base + min(right, width - 1u) * weight_size.in_quads]), right < width);
            if (stride == 1u) {
                s0 = s1;
                s1 = s2;
            } else {
                s0 = s2;
                s1 = vec4<f32>(source[base + (right - 1u) * weight_size.in_quads]);
            }
            s2 = right_value;
            let at = base_at + x * weight_size.out_quads;
            let d0 = vec4<f32>(upstream[at + quad]);
            let d1 = vec4<f32>(upstream[at + next_quad]);
            a000 += s0.x * d0;
            a001 += s0.x * d1;
            a010 += s0.y * d0;
            a011 += s0.y * d1;
            a020 += s0.z * d0;
            a021 += s0.z * d1;
            a030 += s0.w * d0;
            a031 += s0.w * d1;
            a100 += s1.x * d0;
            a101 += s1.x * d1;
            a110 += s1.y * d0;
            a111 += s1.y * d1;
            a120 += s1.z * d0;
            a121 += s1.z * d1;
            a130 += s1.w * d0;
            a131 += s1.w * d1;
            a200 += s2.x * d0;
            a201 += s2.x * d1;
            a210 += s2.y * d0;
            a211 += s2.y * d1;
            a220 += s2.z * d0;
            a221 += s2.z * d1;
            a230 += s2.w * d0;
            a231 += s2.w * d1;
        }
    }
    let has_next = quad + 1u < weight_size.out_quads;
    let to0 = ((slice * 9u + u * 3u + 0u) * weight_size.weight_rows + channel * 4u) * weight_size.weight_quads + quad;
    partials[to0 + 0u * weight_size.weight_quads] = a000;
    partials[to0 + 1u * weight_size.weight_quads] = a010;
    partials[to0 + 2u * weight_size.weight_quads] = a020;
    partials[to0 + 3u * weight_size.weight_quads] = a030;
    let to1 = ((slice * 9u + u * 3u + 1u) * weight_size.weight_rows + channel * 4u) * weight_size.weight_quads + quad;
    partials[to1 + 0u * weight_size.weight_quads] = a100;
    partials[to1 + 1u * weight_size.weight_quads] = a110;
    partials[to1 + 2u * weight_size.weight_quads] = a120;
    partials[to1 + 3u * weight_size.weight_quads] = a130;
    let to2 = ((slice * 9u + u * 3u + 2u) * weight_size.weight_rows + channel * 4u) * weight_size.weight_quads + quad;
    partials[to2 + 0u * weight_size.weight_quads] = a200;
    partials[to2 + 1u * weight_size.weight_quads] = a210;
    partials[to2 + 2u * weight_size.weight_quads] = a220;
    partials[to2 + 3u * weight_size.weight_quads] = a230;
    if (has_next) {
        partials[to0 + 0u * weight_size.weight_quads + 1u] = a001;
        partials[to0 + 1u * weight_size.weight_quads + 1u] = a011;
        partials[to0 + 2u * weight_size.weight_quads + 1u] = a021;
        partials[to0 + 3u * weight_size.weight_quads + 1u] = a031;
        partials[to1 + 0u * weight_size.weight_quads + 1u] = a101;
        partials[to1 + 1u * weight_size.weight_quads + 1u] = a111;
        partials[to1 + 2u * weight_size.weight_quads + 1u] = a121;
        partials[to1 + 3u * weight_size.weight_quads + 1u] = a131;
        partials[to2 + 0u * weight_size.weight_quads + 1u] = a201;
        partials[to2 + 1u * weight_size.weight_quads + 1u] = a211;
        partials[to2 + 2u * weight_size.weight_quads + 1u] = a221;
        partials[to2 + 3u * weight_size.weight_quads + 1u] = a231;
    }
}
