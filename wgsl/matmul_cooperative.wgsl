// Matrix product of rows with a weight, and its gradients, by matrices that the subgroups of a GPU multiply themselves.
//
//   forward      y[m,k]  = b[k] + r[m,k] + sum_c x[m,c] * w[c,k]
//   grad_input   dx[m,c] = r[m,c] + sum_k dy[m,k] * w[c,k]
//   grad_weight  dw[c,k] = sum_m x[m,c] * dy[m,k]
// Factors are rounded to f16, sums are f32. Layouts (P: rounded up to 4): x [M,P(C)]; y, r, dy [M,P(K)]; w [P(C),P(K)]; b [P(K)].
// A subgroup makes 32 lines x 64 columns of results, 16 terms at a time; a workgroup as many such bands as it has subgroups, two at
// most (further subgroups repeat them). `grad_weight` sums one slice of rows, into partial [slices, P(C), P(K)], which
// reduce_rows.wgsl adds. Tiles are [line][term] and [column][term], in blocks of 16 x 16; what lies the other way in memory is
// transposed on its way, 4 x 4 an invocation. Fills read clamped places; terms beyond the end are zero in both tiles.

enable f16;
enable wgpu_cooperative_matrix;

const WG: u32 = 64u;
const SIDE: u32 = 16u;
const BANDS: u32 = 2u;
// Quads of terms in a step, and of columns of a workgroup.
const STEP: u32 = 4u;
const QUADS: u32 = 16u;

struct Size {
    rows: u32,
    in_quads: u32,
    out_quads: u32,
    has_bias: u32,
    has_residual: u32,
    slices: u32,
    slice_rows: u32,
    first_quads: u32,
}

// How tensors are stored; the program for f16 replaces these lines.
alias Source = vec4<f32>;
alias Upstream = vec4<f32>;
alias Residual = vec4<f32>;
alias Result = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
// forward
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read_write> result: array<Result>;
@group(0) @binding(5) var<uniform> forward_size: Size;
// grad_input
@group(0) @binding(2) var<storage, read> addend: array<Residual>;
@group(0) @binding(3) var<storage, read_write> gradient: array<Result>;
@group(0) @binding(4) var<uniform> gradient_size: Size;
// grad_weight
@group(0) @binding(1) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(2) var<storage, read_write> weight_gradient: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> weight_size: Size;

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

// A quad of terms of a line of a block, and of a column.
fn fill_line(block: u32, at: u32, inside: bool, local: u32) {
    left_tile[block][local / STEP][local % STEP] = as_factors(vec4<f32>(source[at]), inside);
}

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

// Quads of terms `local % 4` of 64 lines: 4 x 4 an invocation, given as four terms of its quad of lines.
fn fill_lines_transposed(local: u32, terms: mat4x4<f32>, inside: bool) {
    let lines = transpose(terms);
    let first = local / STEP % 4u * 4u;
    left_tile[local / 16u][first][local % STEP] = as_factors(lines[0], inside);
    left_tile[local / 16u][first + 1u][local % STEP] = as_factors(lines[1], inside);
    left_tile[local / 16u][first + 2u][local % STEP] = as_factors(lines[2], inside);
    left_tile[local / 16u][first + 3u][local % STEP] = as_factors(lines[3], inside);
}

// Where a workgroup and one of its subgroups work.
struct Place {
    line: u32,
    quad: u32,
    slice: u32,
    bands: u32,
    band: u32,
}

fn locate(index: u32, lines: u32, quads: u32, subgroup: u32, subgroups: u32) -> Place {
    let bands = clamp(subgroups, 1u, BANDS);
    let tiles = (quads + QUADS - 1u) / QUADS;
    let height = 2u * SIDE * bands;
    let high = (lines + height - 1u) / height;
    return Place(index / tiles % high * height, index % tiles * QUADS, index / tiles / high, bands, subgroup % bands);
}

fn put(size: Size, row: u32, quad: u32, value: vec4<f32>) {
    if (row < size.rows && quad < size.out_quads) {
        let at = row * size.out_quads + quad;
        var sum = value;
        if (size.has_bias != 0u) {
            sum += bias[quad];
        }
        if (size.has_residual != 0u) {
            sum += vec4<f32>(residual[at]);
        }
        result[at] = Result(sum);
    }
}

fn put_gradient(size: Size, row: u32, quad: u32, value: vec4<f32>) {
    if (row < size.rows && quad < size.in_quads) {
        let at = row * size.in_quads + quad;
        var sum = value;
        if (size.has_residual != 0u) {
            sum += vec4<f32>(addend[at]);
        }
        gradient[at] = Result(sum);
    }
}

fn put_slice(size: Size, slice: u32, row: u32, quad: u32, value: vec4<f32>) {
    if (row < 4u * size.in_quads && quad < size.out_quads && slice < size.slices) {
        weight_gradient[(slice * 4u * size.in_quads + row) * size.out_quads + quad] = value;
    }
}

// A quad of what `keep` left there.
fn kept(band: u32, row: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(
        sum_tile[band][row][quad][0], sum_tile[band][row][quad][1],
        sum_tile[band][row][quad][2], sum_tile[band][row][quad][3],
    );
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let size = forward_size;
    let index = group.y * groups.x + group.x;
    var place = locate(index, size.rows, size.out_quads, subgroup, subgroups);
    // Fewer workgroups than there are have something to do where they have several bands.
    place.line = select(place.line, size.rows, place.slice > 0u);
    let end = select(0u, size.in_quads, place.slice == 0u);
    let lines = min(place.line + local / STEP + vec4<u32>(0u, SIDE, 2u * SIDE, 3u * SIDE), vec4<u32>(size.rows - 1u));
    let column = min(place.quad + local / STEP, size.out_quads - 1u);
    var sum00 = zero();
    var sum01 = zero();
    var sum02 = zero();
    var sum03 = zero();
    var sum10 = zero();
    var sum11 = zero();
    var sum12 = zero();
    var sum13 = zero();
    for (var step = 0u; step < end; step += STEP) {
        let term = step + local % STEP;
        let term_at = min(term, size.in_quads - 1u);
        fill_line(0u, lines[0] * size.in_quads + term_at, term < size.in_quads, local);
        fill_line(1u, lines[1] * size.in_quads + term_at, term < size.in_quads, local);
        fill_line(2u, lines[2] * size.in_quads + term_at, term < size.in_quads, local);
        fill_line(3u, lines[3] * size.in_quads + term_at, term < size.in_quads, local);
        let at = 4u * term_at * size.out_quads + column;
        let terms = mat4x4<f32>(
            weight[at],
            weight[at + size.out_quads],
            weight[at + 2u * size.out_quads],
            weight[at + 3u * size.out_quads],
        );
        fill_right_transposed(local, terms, term < size.in_quads);
        workgroupBarrier();
        let left0 = load_left(2u * place.band);
        let left1 = load_left(2u * place.band + 1u);
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
    // Half the columns of one row of blocks at a time: line `local / 8`, and 8 further on, of quad `local % 8`.
    let row = local / 8u;
    let quad = local % 8u;
    keep(sum00, place.band, 0u);
    keep(sum01, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 0u) * SIDE + row;
        put(size, line, place.quad + 0u + quad, kept(band, row, quad));
        put(size, line + 8u, place.quad + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum02, place.band, 0u);
    keep(sum03, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 0u) * SIDE + row;
        put(size, line, place.quad + 8u + quad, kept(band, row, quad));
        put(size, line + 8u, place.quad + 8u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum10, place.band, 0u);
    keep(sum11, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 1u) * SIDE + row;
        put(size, line, place.quad + 0u + quad, kept(band, row, quad));
        put(size, line + 8u, place.quad + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum12, place.band, 0u);
    keep(sum13, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 1u) * SIDE + row;
        put(size, line, place.quad + 8u + quad, kept(band, row, quad));
        put(size, line + 8u, place.quad + 8u + quad, kept(band, row + 8u, quad));
    }
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let size = gradient_size;
    let index = group.y * groups.x + group.x;
    var place = locate(index, size.rows, size.in_quads, subgroup, subgroups);
    // Fewer workgroups than there are have something to do where they have several bands.
    place.line = select(place.line, size.rows, place.slice > 0u);
    let end = select(0u, size.out_quads, place.slice == 0u);
    let lines = min(place.line + local / STEP + vec4<u32>(0u, SIDE, 2u * SIDE, 3u * SIDE), vec4<u32>(size.rows - 1u));
    let first = 4u * place.quad + local / STEP;
    let columns = min(first + vec4<u32>(0u, SIDE, 2u * SIDE, 3u * SIDE), vec4<u32>(4u * size.in_quads - 1u));
    var sum00 = zero();
    var sum01 = zero();
    var sum02 = zero();
    var sum03 = zero();
    var sum10 = zero();
    var sum11 = zero();
    var sum12 = zero();
    var sum13 = zero();
    for (var step = 0u; step < end; step += STEP) {
        let term = step + local % STEP;
        let term_at = min(term, size.out_quads - 1u);
        fill_line(0u, lines[0] * size.out_quads + term_at, term < size.out_quads, local);
        fill_line(1u, lines[1] * size.out_quads + term_at, term < size.out_quads, local);
        fill_line(2u, lines[2] * size.out_quads + term_at, term < size.out_quads, local);
        fill_line(3u, lines[3] * size.out_quads + term_at, term < size.out_quads, local);
        fill_column(0u, columns[0] * size.out_quads + term_at, term < size.out_quads, local);
        fill_column(1u, columns[1] * size.out_quads + term_at, term < size.out_quads, local);
        fill_column(2u, columns[2] * size.out_quads + term_at, term < size.out_quads, local);
        fill_column(3u, columns[3] * size.out_quads + term_at, term < size.out_quads, local);
        workgroupBarrier();
        let left0 = load_left(2u * place.band);
        let left1 = load_left(2u * place.band + 1u);
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
    // Half the columns of one row of blocks at a time: line `local / 8`, and 8 further on, of quad `local % 8`.
    let row = local / 8u;
    let quad = local % 8u;
    keep(sum00, place.band, 0u);
    keep(sum01, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 0u) * SIDE + row;
        put_gradient(size, line, place.quad + 0u + quad, kept(band, row, quad));
        put_gradient(size, line + 8u, place.quad + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum02, place.band, 0u);
    keep(sum03, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 0u) * SIDE + row;
        put_gradient(size, line, place.quad + 8u + quad, kept(band, row, quad));
        put_gradient(size, line + 8u, place.quad + 8u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum10, place.band, 0u);
    keep(sum11, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 1u) * SIDE + row;
        put_gradient(size, line, place.quad + 0u + quad, kept(band, row, quad));
        put_gradient(size, line + 8u, place.quad + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum12, place.band, 0u);
    keep(sum13, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 1u) * SIDE + row;
        put_gradient(size, line, place.quad + 8u + quad, kept(band, row, quad));
        put_gradient(size, line + 8u, place.quad + 8u + quad, kept(band, row + 8u, quad));
    }
}

// Four rows of x, zeros from row `end` on.
fn source_rows(row: u32, end: u32, quads: u32, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        select(vec4<f32>(), vec4<f32>(source[min(row, end - 1u) * quads + quad]), row < end),
        select(vec4<f32>(), vec4<f32>(source[min(row + 1u, end - 1u) * quads + quad]), row + 1u < end),
        select(vec4<f32>(), vec4<f32>(source[min(row + 2u, end - 1u) * quads + quad]), row + 2u < end),
        select(vec4<f32>(), vec4<f32>(source[min(row + 3u, end - 1u) * quads + quad]), row + 3u < end),
    );
}

fn upstream_rows(row: u32, end: u32, quads: u32, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        select(vec4<f32>(), vec4<f32>(upstream[min(row, end - 1u) * quads + quad]), row < end),
        select(vec4<f32>(), vec4<f32>(upstream[min(row + 1u, end - 1u) * quads + quad]), row + 1u < end),
        select(vec4<f32>(), vec4<f32>(upstream[min(row + 2u, end - 1u) * quads + quad]), row + 2u < end),
        select(vec4<f32>(), vec4<f32>(upstream[min(row + 3u, end - 1u) * quads + quad]), row + 3u < end),
    );
}

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let size = weight_size;
    let index = group.y * groups.x + group.x;
    let place = locate(index, 4u * size.in_quads, size.out_quads, subgroup, subgroups);
    let first = min(place.slice * size.slice_rows, size.rows);
    let end = select(first, min(first + size.slice_rows, size.rows), place.slice < size.slices);
    let line = min(place.line / 4u + local / STEP, size.in_quads - 1u);
    let column = min(place.quad + local / STEP, size.out_quads - 1u);
    var sum00 = zero();
    var sum01 = zero();
    var sum02 = zero();
    var sum03 = zero();
    var sum10 = zero();
    var sum11 = zero();
    var sum12 = zero();
    var sum13 = zero();
    for (var step = first; step < end; step += 4u * STEP) {
        let row = step + 4u * (local % STEP);
        fill_lines_transposed(local, source_rows(row, end, size.in_quads, line), true);
        fill_right_transposed(local, upstream_rows(row, end, size.out_quads, column), true);
        workgroupBarrier();
        let left0 = load_left(2u * place.band);
        let left1 = load_left(2u * place.band + 1u);
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
    // Half the columns of one row of blocks at a time: line `local / 8`, and 8 further on, of quad `local % 8`.
    let row = local / 8u;
    let quad = local % 8u;
    keep(sum00, place.band, 0u);
    keep(sum01, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 0u) * SIDE + row;
        put_slice(size, place.slice, line, place.quad + 0u + quad, kept(band, row, quad));
        put_slice(size, place.slice, line + 8u, place.quad + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum02, place.band, 0u);
    keep(sum03, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 0u) * SIDE + row;
        put_slice(size, place.slice, line, place.quad + 8u + quad, kept(band, row, quad));
        put_slice(size, place.slice, line + 8u, place.quad + 8u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum10, place.band, 0u);
    keep(sum11, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 1u) * SIDE + row;
        put_slice(size, place.slice, line, place.quad + 0u + quad, kept(band, row, quad));
        put_slice(size, place.slice, line + 8u, place.quad + 0u + quad, kept(band, row + 8u, quad));
    }
    workgroupBarrier();
    keep(sum12, place.band, 0u);
    keep(sum13, place.band, 4u);
    workgroupBarrier();
    for (var band = 0u; band < place.bands; band++) {
        let line = place.line + (2u * band + 1u) * SIDE + row;
        put_slice(size, place.slice, line, place.quad + 8u + quad, kept(band, row, quad));
        put_slice(size, place.slice, line + 8u, place.quad + 8u + quad, kept(band, row + 8u, quad));
    }
}
