// 3x3 convolution with padding 1 and its gradient for the input by matrices that the subgroups of a GPU multiply themselves.
//
//   forward     y[n,i,j,k]  = b[k] + r[n,i,j,k] + sum x[n, i*s+u-1, j*s+v-1, c] * w[u*3+v, c, k]
//   TRANSPOSED  dx[n,i,j,c] = r[n,i,j,c] + sum dy[n, i+1-u, j+1-v, k] * w[u*3+v, c, k]              (stride 1 only)
// Factors are rounded to f16, sums are f32. Layouts (P: rounded up to 4): x [N,H,W,P(C)]; y, r, dy [N,H',W',P(K)]; w [9,P(C),P(K)];
// b [P(K)]. A product of pixels x channels summed over (tap, channel), in tiles as those of matmul_cooperative.wgsl: a subgroup makes
// 32 pixels x 64 channels, 16 terms of one tap at a time. Taps outside the image and terms beyond the end are zero.

enable f16;
enable wgpu_cooperative_matrix;

override TRANSPOSED: bool;

const WG: u32 = 64u;
const SIDE: u32 = 16u;
const BANDS: u32 = 2u;
// Quads of terms in a step, and of columns of a workgroup.
const STEP: u32 = 4u;
const QUADS: u32 = 16u;

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

// Blocks of 16 x 16, their rows at a pitch that keeps neighbouring rows in different banks.
alias Quad = array<f16, 4>;
const FACTOR_PITCH: u32 = 6u;
const SUM_PITCH: u32 = 9u;
var<workgroup> left_tile: array<array<array<Quad, FACTOR_PITCH>, SIDE>, 4>;
var<workgroup> right_tile: array<array<array<Quad, FACTOR_PITCH>, SIDE>, 4>;
// 16 lines of 32 columns of each band.
var<workgroup> sum_tile: array<array<array<array<f32, 4>, SUM_PITCH>, SIDE>, BANDS>;

// Matrices, each held by a subgroup together; devices that have them 8 x 8 get another text, of four for one.
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

fn zero() -> Sum {
    return Sum();
}

fn load_left(block: u32) -> Left {
    return coopLoadT<Left>(&left_tile[block][0][0][0], 4u * FACTOR_PITCH);
}

fn load_right(block: u32) -> Right {
    return coopLoad<Right>(&right_tile[block][0][0][0], 4u * FACTOR_PITCH);
}

fn add_product(sum: Sum, left: Left, right: Right) -> Sum {
    return coopMultiplyAdd(left, right, sum);
}

fn keep(sum: Sum, band: u32, quad: u32) {
    coopStoreT(sum, &sum_tile[band][0][quad][0], 4u * SUM_PITCH);
}
// End of matrices.

fn as_factors(value: vec4<f32>, inside: bool) -> Quad {
    let v = select(vec4<f32>(), value, inside);
    return Quad(f16(v.x), f16(v.y), f16(v.z), f16(v.w));
}

// A quad of terms of a column of a block.
fn fill_column(block: u32, at: u32, inside: bool, local: u32) {
    right_tile[block][local / STEP][local % STEP] = as_factors(weight[at], inside);
}

// Quads of terms `local % 4` of 64 columns: 4 x 4 an invocation, given as four terms of its quad of columns.
fn fill_right_transposed(local: u32, terms: mat4x4<f32>, inside: bool) {
    let columns = transpose(terms);
    let first = local / STEP % 4u * 4u;
    right_tile[local / 16u][first][local % STEP] = as_factors(columns[0], inside);
    right_tile[local / 16u][first + 1u][local % STEP] = as_factors(columns[1], inside);
    right_tile[local / 16u][first + 2u][local % STEP] = as_factors(columns[2], inside);
    right_tile[local / 16u][first + 3u][local % STEP] = as_factors(columns[3], inside);
}

// A quad of what `keep` left there.
fn kept(band: u32, row: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(
        sum_tile[band][row][quad][0], sum_tile[band][row][quad][1],
        sum_tile[band][row][quad][2], sum_tile[band][row][quad][3],
    );
}

// A bit for each of three places in a row that is inside.
fn inside_bits(first: i32, limit: u32) -> u32 {
    return select(0u, 1u, u32(first) < limit) | select(0u, 2u, u32(first + 1) < limit)
        | select(0u, 4u, u32(first + 2) < limit);
}

// Where the first tap of a pixel lies in the source, in vec4s (it may be outside: the number wraps), and a bit for each
// tap that is inside.
fn first_tap(pixel: u32) -> vec2<u32> {
    let column = i32(pixel % size.out_width * size.stride) - 1;
    let line = pixel / size.out_width;
    let row = i32(line % size.out_height * size.stride) - 1;
    let n = line / size.out_height;
    let rows = inside_bits(row, size.in_height);
    let taps = inside_bits(column, size.in_width) * ((rows & 1u) | ((rows & 2u) << 2u) | ((rows & 4u) << 4u));
    let first = ((i32(n * size.in_height) + row) * i32(size.in_width) + column) * i32(size.in_quads);
    return vec2<u32>(u32(first), select(0u, taps, n < size.batch));
}

fn put(pixel: u32, quad: u32, value: vec4<f32>) {
    if (pixel < size.batch * size.out_height * size.out_width && quad < size.out_quads) {
        let at = pixel * size.out_quads + quad;
        var v = value;
        if (size.has_bias != 0u) {
            v += bias[quad];
        }
        if (size.has_residual != 0u) {
            v += vec4<f32>(residual[at]);
        }
        result[at] = Result(v);
    }
}

fn fill_block(block: u32, at: vec2<u32>, offset: u32, bit: u32, local: u32) {
    let inside = (at.y & bit) != 0u;
    let value = vec4<f32>(source[select(0u, at.x + offset, inside)]);
    left_tile[block][local / STEP][local % STEP] = as_factors(value, inside);
}

@compute @workgroup_size(WG)
fn cooperative(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let bands = clamp(subgroups, 1u, BANDS);
    let band = subgroup % bands;
    let tiles = (size.out_quads + QUADS - 1u) / QUADS;
    let index = group.y * groups.x + group.x;
    let quad0 = index % tiles * QUADS;
    let pixel0 = index / tiles * 2u * SIDE * bands;
    // Fewer workgroups than there are have something to do where they have several bands.
    let taps = select(0u, 9u, pixel0 < size.batch * size.out_height * size.out_width);
    // The four pixels whose quads this invocation loads.
    let reach0 = first_tap(pixel0 + local / STEP);
    let reach1 = first_tap(pixel0 + SIDE + local / STEP);
    let reach2 = first_tap(pixel0 + 2u * SIDE + local / STEP);
    let reach3 = first_tap(pixel0 + 3u * SIDE + local / STEP);
    let column = min(quad0 + local / STEP, size.out_quads - 1u);
    let first = 4u * quad0 + local / STEP;
    let columns = min(first + vec4<u32>(0u, SIDE, 2u * SIDE, 3u * SIDE), vec4<u32>(4u * size.out_quads - 1u));
    var sum00 = zero();
    var sum01 = zero();
    var sum02 = zero();
    var sum03 = zero();
    var sum10 = zero();
    var sum11 = zero();
    var sum12 = zero();
    var sum13 = zero();
    for (var tap = 0u; tap < taps; tap++) {
        // The transposed product reads the taps the other way round.
        let seen = select(tap, 8u - tap, TRANSPOSED);
        let shift = (seen / 3u * size.in_width + seen % 3u) * size.in_quads;
        let rows_at = tap * size.weight_rows;
        for (var step = 0u; step < size.in_quads; step += STEP) {
            let term = step + local % STEP;
            let bit = select(0u, 1u << seen, term < size.in_quads);
            fill_block(0u, reach0, shift + term, bit, local);
            fill_block(1u, reach1, shift + term, bit, local);
            fill_block(2u, reach2, shift + term, bit, local);
            fill_block(3u, reach3, shift + term, bit, local);
            if (TRANSPOSED) {
                let at = min(term, size.in_quads - 1u);
                fill_column(0u, (rows_at + columns[0]) * size.weight_quads + at, term < size.in_quads, local);
                fill_column(1u, (rows_at + columns[1]) * size.weight_quads + at, term < size.in_quads, local);
                fill_column(2u, (rows_at + columns[2]) * size.weight_quads + at, term < size.in_quads, local);
                fill_column(3u, (rows_at + columns[3]) * size.weight_quads + at, term < size.in_quads, local);
            } else {
                let at = (rows_at + 4u * min(term, size.in_quads - 1u)) * size.weight_quads + column;
                let terms = mat4x4<f32>(
                    weight[at],
                    weight[at + size.weight_quads],
                    weight[at + 2u * size.weight_quads],
                    weight[at + 3u * size.weight_quads],
                );
                fill_right_transposed(local, terms, term < size.in_quads);
            }
            workgroupBarrier();
            let left0 = load_left(2u * band);
            let left1 = load_left(2u * band + 1u);
            let right0 = load_right(0u);
            let right1 = load_right(1u);
            let right2 = load_right(2u);
            let right3 = load_right(3u);
            sum00 = add_product(sum00, left0, right0);
            sum10 = add_product(sum10, left1, right0);
            sum01 = add_product(sum01, left0, right1);
            sum11 = add_product(sum11, left1, right1);
            sum02 = add_product(sum02, left0, right2);
            sum12 = add_product(sum12, left1, right2);
            sum03 = add_product(sum03, left0, right3);
            sum13 = add_product(sum13, left1, right3);
            workgroupBarrier();
        }
    }
    // Half the columns of one row of blocks at a time: line `local / 8`, and 8 further on, of quad `local % 8`.
    let row = local / 8u;
    let quad = local % 8u;
    keep(sum00, band, 0u);
    keep(sum01, band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < bands; band++) {
        let line = pixel0 + (2u * band + 0u) * SIDE + row;
        put(line, quad0 + 0u + quad, kept(band, row, quad));
        put(line + 8u, quad0 + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum02, band, 0u);
    keep(sum03, band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < bands; band++) {
        let line = pixel0 + (2u * band + 0u) * SIDE + row;
        put(line, quad0 + 8u + quad, kept(band, row, quad));
        put(line + 8u, quad0 + 8u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum10, band, 0u);
    keep(sum11, band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < bands; band++) {
        let line = pixel0 + (2u * band + 1u) * SIDE + row;
        put(line, quad0 + 0u + quad, kept(band, row, quad));
        put(line + 8u, quad0 + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum12, band, 0u);
    keep(sum13, band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < bands; band++) {
        let line = pixel0 + (2u * band + 1u) * SIDE + row;
        put(line, quad0 + 8u + quad, kept(band, row, quad));
        put(line + 8u, quad0 + 8u + quad, kept(band, row + 8u, quad));
    }
}
