// Several linear layers of one input, and their gradients: of few rows, such as timestep embeddings, and many weights.
//
//   forward       y_l[m,k]  = b_l[k] + sum_c f(x[m,c]) * w_l[c,k]
//   grad_input    dx[m,c]   = a[m,c] + f'(x[m,c]) * sum_l sum_k dy_l[m,k] * w_l[c,k]
//   grad_weights  dw_l[c,k] = sum_m f(x[m,c]) * dy_l[m,k],  db_l[k] = sum_m dy_l[m,k]
// f is SiLU or nothing, a may be absent. READING says what x is: the tensor `source`, or what stands before the layers and is made
// here: the embedding of timesteps [M] as in timestep_embedding.wgsl, or the BatchNorm of `source` by its running statistics as
// in batchnorm.wgsl (dx then is the gradient of `source`; f is nothing, a absent). Layouts (P: rounded up to 4): x, dx, a
// [M,P(C)]; y_l, dy_l [M,P(K_l)]; w_l, dw_l [P(C),P(K_l)]; b_l, db_l [P(K_l)]. Each binding holds those of all layers, which
// begin where the table says.
// A workgroup of `forward` makes 8 rows of 4 pairs of vec4s of a layer, each sum shared by 8 invocations; one of
// `grad_input` 8 rows of a vec4, whose sums all share. An invocation of `grad_weights` makes 8 x 8 weights or 8 biases.

override READING: u32;

const EMBEDDING = 1u;
const BATCH_NORM = 2u;
// Invocations that share a sum of `forward`, as many as a workgroup has rows.
const LANES = 8u;
const PAIRS = 4u;
const WG = LANES * PAIRS;
const ENTRIES = 128u;
const MOST = 0x7fffffffu;

struct Size {
    rows: u32,
    in_quads: u32,
    entries: u32,
    // Workgroups of the largest entry of `forward` and `grad_weights`; smaller ones leave some idle.
    tiles: u32,
    silu: u32,
    has_addend: u32,
    // Of timesteps how many frequencies; of a BatchNorm the slope of the LeakyReLU before it, 1 where there is none.
    half: u32,
    slope: f32,
    // In vec4s: columns of the layer, where its weight or the gradient that is made begins, where its y or dy begins. Last of
    // `forward` where its bias begins, of `grad_weights` whether the gradient is the bias's.
    table: array<vec4<u32>, ENTRIES>,
}

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
// Of timesteps the frequencies [half]; of a BatchNorm the running statistics [2, P(C)].
@group(0) @binding(1) var<storage, read> known: array<vec4<f32>>;
// forward
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> biases: array<vec4<f32>>;
// Of a BatchNorm what it multiplies by and adds.
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> offset: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> size: Size;
// grad_input
@group(0) @binding(3) var<storage, read> upstream: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> addend: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> input_size: Size;
// grad_weights
@group(0) @binding(2) var<storage, read> layer_upstream: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> layer_gradients: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> weight_size: Size;

var<workgroup> sums: array<array<vec4<f32>, WG>, 16>;

const ZERO = vec4<f32>(0.0);
const EPS: f32 = 1e-5;

fn frequency(number: u32) -> f32 {
    return known[number / 4u][number % 4u];
}

/// Vec4 `quad` of the embedding of a timestep: cosines, then sines, then zeros. All four at once and without branches, for a kernel
/// has it many times, and some drivers' compilers take minutes over as many branches.
fn waves(t: f32, half: u32, quad: u32) -> vec4<f32> {
    let k = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
    let number = k % vec4<u32>(half);
    let frequencies =
        vec4<f32>(frequency(number.x), frequency(number.y), frequency(number.z), frequency(number.w));
    let a = t * frequencies;
    let quarter = select(vec4<u32>(1u), vec4<u32>(0u), k >= vec4<u32>(half));
    // As `sine` of timestep_embedding.wgsl.
    let turns = round(a * 0.6366197723675814);
    let r = ((a - turns * 1.5703125) - turns * 4.8375129699707031e-4) - turns * 7.5495994770293705e-8;
    let s = r * r;
    let odd = r + r * s * (-1.6666654611e-1 + s * (8.3321608736e-3 - s * 1.9515295891e-4));
    let even = 1.0 - 0.5 * s + s * s * (4.166664568298827e-2 + s * (-1.388731625493765e-3 + s * 2.443315711809948e-5));
    let q = (vec4<u32>(vec4<i32>(turns)) + quarter) & vec4<u32>(3u);
    let value = select(odd, even, (q & vec4<u32>(1u)) == vec4<u32>(1u));
    let signed = select(value, -value, q >= vec4<u32>(2u));
    return select(signed, ZERO, k >= vec4<u32>(2u * half));
}

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    // Bounded so that the exponential stays finite.
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

fn read_input(silu: u32, v: vec4<f32>) -> vec4<f32> {
    if (silu == 0u) {
        return v;
    }
    return v * sigmoid(v);
}

/// What the layers see of a row's vec4, which lies at `at` where it lies anywhere.
fn read_row(silu: u32, half: u32, row: u32, at: u32, quad: u32) -> vec4<f32> {
    if (READING == EMBEDDING) {
        return waves(source[row / 4u][row % 4u], half, quad);
    }
    return read_input(silu, source[at]);
}

/// The same of `forward`, which reads a BatchNorm too.
fn read_known(row: u32, quad: u32) -> vec4<f32> {
    let v = read_row(size.silu, size.half, row, row * size.in_quads + quad, quad);
    if (READING == BATCH_NORM) {
        let rstd = 1.0 / sqrt(known[size.in_quads + quad] + EPS);
        let activated = select(size.slope * v, v, v > ZERO);
        return (activated - known[quad]) * rstd * gain[quad] + offset[quad];
    }
    return v;
}

fn four_rows(at: u32, pitch: u32) -> mat4x4<f32> {
    return mat4x4<f32>(weights[at], weights[at + pitch], weights[at + 2u * pitch], weights[at + 3u * pitch]);
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.y * groups.x + group.x;
    let number = index / size.tiles;
    if (number >= size.entries) {
        return;
    }
    let entry = size.table[min(number, ENTRIES - 1u)];
    let quads = entry.x;
    let pair_tiles = ((quads + 1u) / 2u + PAIRS - 1u) / PAIRS;
    let tile = index % size.tiles;
    let row = tile / pair_tiles * LANES;
    if (row >= size.rows) {
        return;
    }
    let lane = local / PAIRS;
    let quad = (tile % pair_tiles * PAIRS + local % PAIRS) * 2u;
    let at0 = min(quad, quads - 1u);
    let at1 = min(quad + 1u, quads - 1u);
    let last = size.rows - 1u;
    let row0 = min(row + 0u, last);
    let row1 = min(row + 1u, last);
    let row2 = min(row + 2u, last);
    let row3 = min(row + 3u, last);
    let row4 = min(row + 4u, last);
    let row5 = min(row + 5u, last);
    let row6 = min(row + 6u, last);
    let row7 = min(row + 7u, last);
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
    for (var channel = lane; channel < size.in_quads; channel += LANES) {
        let at = entry.y + channel * 4u * quads;
        let m0 = four_rows(at + at0, quads);
        let m1 = four_rows(at + at1, quads);
        let s0 = read_known(row0, channel);
        let s1 = read_known(row1, channel);
        let s2 = read_known(row2, channel);
        let s3 = read_known(row3, channel);
        let s4 = read_known(row4, channel);
        let s5 = read_known(row5, channel);
        let s6 = read_known(row6, channel);
        let s7 = read_known(row7, channel);
        a00 += m0 * s0;
        a01 += m1 * s0;
        a10 += m0 * s1;
        a11 += m1 * s1;
        a20 += m0 * s2;
        a21 += m1 * s2;
        a30 += m0 * s3;
        a31 += m1 * s3;
        a40 += m0 * s4;
        a41 += m1 * s4;
        a50 += m0 * s5;
        a51 += m1 * s5;
        a60 += m0 * s6;
        a61 += m1 * s6;
        a70 += m0 * s7;
        a71 += m1 * s7;
    }
    sums[0][local] = a00;
    sums[1][local] = a10;
    sums[2][local] = a20;
    sums[3][local] = a30;
    sums[4][local] = a40;
    sums[5][local] = a50;
    sums[6][local] = a60;
    sums[7][local] = a70;
    sums[8][local] = a01;
    sums[9][local] = a11;
    sums[10][local] = a21;
    sums[11][local] = a31;
    sums[12][local] = a41;
    sums[13][local] = a51;
    sums[14][local] = a61;
    sums[15][local] = a71;
    workgroupBarrier();
    // An invocation adds up one row of its pair.
    var v0 = ZERO;
    var v1 = ZERO;
    for (var share = 0u; share < LANES; share++) {
        v0 += sums[lane][share * PAIRS + local % PAIRS];
        v1 += sums[lane + LANES][share * PAIRS + local % PAIRS];
    }
    let to = entry.z + (row + lane) * quads + quad;
    if (row + lane <= last && quad < quads) {
        result[to] = v0 + biases[entry.w + at0];
        if (quad + 1u < quads) {
            result[to + 1u] = v1 + biases[entry.w + at1];
        }
    }
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.y * groups.x + group.x;
    let quad = index % input_size.in_quads;
    let row = index / input_size.in_quads * 8u;
    if (row >= input_size.rows) {
        return;
    }
    let last = input_size.rows - 1u;
    let row1 = min(row + 1u, last);
    let row2 = min(row + 2u, last);
    let row3 = min(row + 3u, last);
    let row4 = min(row + 4u, last);
    let row5 = min(row + 5u, last);
    let row6 = min(row + 6u, last);
    let row7 = min(row + 7u, last);
    var a0 = ZERO;
    var a1 = ZERO;
    var a2 = ZERO;
    var a3 = ZERO;
    var a4 = ZERO;
    var a5 = ZERO;
    var a6 = ZERO;
    var a7 = ZERO;
    let entries = min(input_size.entries, ENTRIES);
    for (var number = 0u; number < entries; number++) {
        let entry = input_size.table[number];
        let quads = entry.x;
        let at = entry.y + quad * 4u * quads;
        for (var column = local; column < quads; column += WG) {
            let m = four_rows(at + column, quads);
            let begin = entry.z + column;
            a0 += upstream[begin + row * quads] * m;
            a1 += upstream[begin + row1 * quads] * m;
            a2 += upstream[begin + row2 * quads] * m;
            a3 += upstream[begin + row3 * quads] * m;
            a4 += upstream[begin + row4 * quads] * m;
            a5 += upstream[begin + row5 * quads] * m;
            a6 += upstream[begin + row6 * quads] * m;
            a7 += upstream[begin + row7 * quads] * m;
        }
    }
    sums[0][local] = a0;
    sums[1][local] = a1;
    sums[2][local] = a2;
    sums[3][local] = a3;
    sums[4][local] = a4;
    sums[5][local] = a5;
    sums[6][local] = a6;
    sums[7][local] = a7;
    workgroupBarrier();
    // Four invocations add up one row, eight of its sums each.
    let mine = local / PAIRS;
    let share = local % PAIRS;
    var sum = ZERO;
    for (var step = 0u; step < LANES; step++) {
        sum += sums[mine][share + step * PAIRS];
    }
    sums[mine + LANES][share] = sum;
    workgroupBarrier();
    if (share == 0u && row + mine <= last) {
        let parts = sums[mine + LANES][0] + sums[mine + LANES][1];
        sum = parts + sums[mine + LANES][2] + sums[mine + LANES][3];
        let to = (row + mine) * input_size.in_quads + quad;
        if (READING == BATCH_NORM) {
            sum *= gain[quad] * (1.0 / sqrt(known[input_size.in_quads + quad] + EPS));
            // Without an activation the source is something else.
            if (input_size.slope != 1.0) {
                sum = select(input_size.slope * sum, sum, source[to] > ZERO);
            }
        } else if (input_size.silu != 0u) {
            let v = source[to];
            let s = sigmoid(v);
            sum *= s * (1.0 + v * (1.0 - s));
        }
        if (input_size.has_addend != 0u) {
            sum += addend[to];
        }
        gradient[to] = sum;
    }
}

@compute @workgroup_size(WG)
fn grad_weights(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.y * groups.x + group.x;
    let number = index / weight_size.tiles;
    if (number >= weight_size.entries) {
        return;
    }
    let entry = weight_size.table[min(number, ENTRIES - 1u)];
    let quads = entry.x;
    let pairs = (quads + 1u) / 2u;
    let tile = index % weight_size.tiles * WG + local;
    let quad = tile % pairs * 2u;
    let channel = tile / pairs * 2u;
    // A bias is the only row of a weight that multiplies one.
    let is_bias = entry.w != 0u;
    let channels = select(weight_size.in_quads, 1u, is_bias);
    if (channel >= channels) {
        return;
    }
    let next_quad = min(quad + 1u, quads - 1u);
    let next_channel = min(channel + 1u, weight_size.in_quads - 1u);
    let silu = weight_size.silu;
    let half = weight_size.half;
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
    var s0 = vec4<f32>(1.0, 0.0, 0.0, 0.0);
    var s1 = ZERO;
    let rows = min(weight_size.rows, MOST);
    // In steps, for some devices end a loop after 65,535 rounds.
    for (var first = 0u; first < rows; first += 4096u) {
        let end = min(first + 4096u, rows);
        for (var row = first; row < end; row++) {
            if (!is_bias) {
                let begin = row * weight_size.in_quads;
                s0 = read_row(silu, half, row, begin + channel, channel);
                s1 = read_row(silu, half, row, begin + next_channel, next_channel);
            }
            let d0 = layer_upstream[entry.z + row * quads + quad];
            let d1 = layer_upstream[entry.z + row * quads + next_quad];
            a00 += s0.x * d0;
            a01 += s0.x * d1;
            a10 += s0.y * d0;
            a11 += s0.y * d1;
            a20 += s0.z * d0;
            a21 += s0.z * d1;
            a30 += s0.w * d0;
            a31 += s0.w * d1;
            a40 += s1.x * d0;
            a41 += s1.x * d1;
            a50 += s1.y * d0;
            a51 += s1.y * d1;
            a60 += s1.z * d0;
            a61 += s1.z * d1;
            a70 += s1.w * d0;
            a71 += s1.w * d1;
        }
    }
    let to = entry.y + channel * 4u * quads + quad;
    let has_next = quad + 1u < quads;
    layer_gradients[to] = a00;
    if (has_next) {
        layer_gradients[to + 1u] = a01;
    }
    if (is_bias) {
        return;
    }
    layer_gradients[to + quads] = a10;
    layer_gradients[to + 2u * quads] = a20;
    layer_gradients[to + 3u * quads] = a30;
    if (has_next) {
        layer_gradients[to + quads + 1u] = a11;
        layer_gradients[to + 2u * quads + 1u] = a21;
        layer_gradients[to + 3u * quads + 1u] = a31;
    }
    if (channel + 1u >= channels) {
        return;
    }
    layer_gradients[to + 4u * quads] = a40;
    layer_gradients[to + 5u * quads] = a50;
    layer_gradients[to + 6u * quads] = a60;
    layer_gradients[to + 7u * quads] = a70;
    if (has_next) {
        layer_gradients[to + 4u * quads + 1u] = a41;
        layer_gradients[to + 5u * quads + 1u] = a51;
        layer_gradients[to + 6u * quads + 1u] = a61;
        layer_gradients[to + 7u * quads + 1u] = a71;
    }
}
