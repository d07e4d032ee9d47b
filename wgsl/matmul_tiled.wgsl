// Matrix product of rows with a weight, and its gradients, in tiles of workgroup memory: for devices with fast barriers.
//
//   forward      y[m,k]  = b[k] + r[m,k] + sum_c x[m,c] * w[c,k]
//   grad_input   dx[m,c] = r[m,c] + sum_k dy[m,k] * w[c,k]
//   grad_weight  dw[c,k] = sum_m x[m,c] * dy[m,k],  db[k] = sum_m dy[m,k]
// Layouts (P: rounded up to 4): x [M,P(C)], of `forward` and `grad_weight` perhaps two tensors side by side; y, r, dy [M,P(K)]; w [P(C),P(K)]; b [P(K)].
// A workgroup makes 64 x 64 results (`grad_weight`: their sum over one slice of rows, into partial [slices, P(C), P(K)] and
// [slices, P(K)], which reduce_rows.wgsl adds), 16 terms at a time; an invocation 8 rows of two quads. Terms of `left_tile` come in
// quads: [quad of terms][row]; `right_tile` is [term][quad of columns]. Fills read clamped places; terms beyond the end
// are zero in `left_tile`, of `grad_weight` in `right_tile`.

const WG: u32 = 64u;
const STEP_QUADS: u32 = 4u;
const GROUP: u32 = 8u;
const ROWS: u32 = 8u * GROUP;
const QUADS: u32 = 2u * GROUP;

struct Size {
    rows: u32,
    in_quads: u32,
    out_quads: u32,
    has_bias: u32,
    has_residual: u32,
    slices: u32,
    slice_rows: u32,
    // Quads of x's rows that lie in `left`; the others lie in `other`, a tensor of its own.
    first_quads: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias Left = vec4<f32>;
alias Other = vec4<f32>;
alias Right = vec4<f32>;
alias Residual = vec4<f32>;
alias Result = vec4<f32>;
alias Gradient = vec4<f32>;

@group(0) @binding(0) var<storage, read> left: array<Left>;
@group(0) @binding(1) var<storage, read> right: array<Right>;
// forward
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Residual>;
@group(0) @binding(4) var<storage, read> other: array<Other>;
@group(0) @binding(5) var<storage, read_write> result: array<Result>;
@group(0) @binding(6) var<uniform> forward_size: Size;
// grad_input
@group(0) @binding(2) var<storage, read> addend: array<Residual>;
@group(0) @binding(3) var<storage, read_write> gradient: array<Gradient>;
@group(0) @binding(4) var<uniform> gradient_size: Size;
// grad_weight
@group(0) @binding(2) var<storage, read> other_left: array<Other>;
@group(0) @binding(3) var<storage, read_write> weight_gradient: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> bias_gradient: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> weight_size: Size;

// The last index is the invocation's: all its reads are one place and constants.
var<workgroup> left_tile: array<array<array<vec4<f32>, GROUP>, 8>, STEP_QUADS>;
var<workgroup> right_tile: array<array<array<vec4<f32>, GROUP>, 2>, 4u * STEP_QUADS>;

const ZERO = vec4<f32>(0.0);

// An invocation's results: rows `row_group + 8i` of the tile, quads `quad_group` and `quad_group + 8`.
struct Tile {
    a0: vec4<f32>,
    b0: vec4<f32>,
    a1: vec4<f32>,
    b1: vec4<f32>,
    a2: vec4<f32>,
    b2: vec4<f32>,
    a3: vec4<f32>,
    b3: vec4<f32>,
    a4: vec4<f32>,
    b4: vec4<f32>,
    a5: vec4<f32>,
    b5: vec4<f32>,
    a6: vec4<f32>,
    b6: vec4<f32>,
    a7: vec4<f32>,
    b7: vec4<f32>,
}

// Four terms of one row: sum + a * m, in an order that fuses.
fn add(sum: vec4<f32>, a: vec4<f32>, m: mat4x4<f32>) -> vec4<f32> {
    return (((sum + a.x * m[0]) + a.y * m[1]) + a.z * m[2]) + a.w * m[3];
}

fn right_quads(terms: u32, half: u32, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        right_tile[4u * terms][half][quad], right_tile[4u * terms + 1u][half][quad],
        right_tile[4u * terms + 2u][half][quad], right_tile[4u * terms + 3u][half][quad],
    );
}

fn add_terms(sum: Tile, terms: u32, local: u32) -> Tile {
    let row = local / GROUP;
    let quad = local % GROUP;
    var tile = sum;
    let s0 = left_tile[terms][0][row];
    let s1 = left_tile[terms][1][row];
    let s2 = left_tile[terms][2][row];
    let s3 = left_tile[terms][3][row];
    let s4 = left_tile[terms][4][row];
    let s5 = left_tile[terms][5][row];
    let s6 = left_tile[terms][6][row];
    let s7 = left_tile[terms][7][row];
    let a = right_quads(terms, 0u, quad);
    tile.a0 = add(tile.a0, s0, a);
    tile.a1 = add(tile.a1, s1, a);
    tile.a2 = add(tile.a2, s2, a);
    tile.a3 = add(tile.a3, s3, a);
    tile.a4 = add(tile.a4, s4, a);
    tile.a5 = add(tile.a5, s5, a);
    tile.a6 = add(tile.a6, s6, a);
    tile.a7 = add(tile.a7, s7, a);
    let b = right_quads(terms, 1u, quad);
    tile.b0 = add(tile.b0, s0, b);
    tile.b1 = add(tile.b1, s1, b);
    tile.b2 = add(tile.b2, s2, b);
    tile.b3 = add(tile.b3, s3, b);
    tile.b4 = add(tile.b4, s4, b);
    tile.b5 = add(tile.b5, s5, b);
    tile.b6 = add(tile.b6, s6, b);
    tile.b7 = add(tile.b7, s7, b);
    return tile;
}

fn add_step(sum: Tile, local: u32) -> Tile {
    var tile = add_terms(sum, 0u, local);
    tile = add_terms(tile, 1u, local);
    tile = add_terms(tile, 2u, local);
    return add_terms(tile, 3u, local);
}

// Where one workgroup works, none of it beyond the end.
struct Place {
    row: u32,
    quad: u32,
    slice: u32,
}

fn locate(index: u32, row_tiles: u32, quad_tiles: u32) -> Place {
    return Place(index / quad_tiles % row_tiles * ROWS, index % quad_tiles * QUADS, index / quad_tiles / row_tiles);
}

// A quad of terms of 4 rows, given as 4 terms of a quad of rows.
fn fill_left_transposed(terms: u32, half: u32, slot: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
    left_tile[terms][half][slot] = vec4<f32>(v0.x, v1.x, v2.x, v3.x);
    left_tile[terms][half + 2u][slot] = vec4<f32>(v0.y, v1.y, v2.y, v3.y);
    left_tile[terms][half + 4u][slot] = vec4<f32>(v0.z, v1.z, v2.z, v3.z);
    left_tile[terms][half + 6u][slot] = vec4<f32>(v0.w, v1.w, v2.w, v3.w);
}

// Rows of `left` as they are: an invocation fills two quads of terms of two rows.
struct Rows {
    terms: u32,
    slot: u32,
    at0: u32,
    at1: u32,
}

fn left_rows(place: Place, rows: u32, pitch: u32, local: u32) -> Rows {
    let terms = local % 2u;
    let slot = local / 2u;
    let last = rows - 1u;
    return Rows(terms, slot, min(place.row + slot, last) * pitch, min(place.row + slot + 32u, last) * pitch);
}

fn fill_left(rows: Rows, step: u32, pitch: u32) {
    let high = rows.slot / GROUP;
    let low = rows.slot % GROUP;
    let near = step + rows.terms;
    let far = near + 2u;
    let near_at = min(near, pitch - 1u);
    let far_at = min(far, pitch - 1u);
    let v0 = vec4<f32>(left[rows.at0 + near_at]);
    let v1 = vec4<f32>(left[rows.at0 + far_at]);
    let v2 = vec4<f32>(left[rows.at1 + near_at]);
    let v3 = vec4<f32>(left[rows.at1 + far_at]);
    left_tile[rows.terms][high][low] = select(ZERO, v0, near < pitch);
    left_tile[rows.terms + 2u][high][low] = select(ZERO, v1, far < pitch);
    left_tile[rows.terms][high + 4u][low] = select(ZERO, v2, near < pitch);
    left_tile[rows.terms + 2u][high + 4u][low] = select(ZERO, v3, far < pitch);
}

// Rows of x, which may be two tensors: places of two rows in `left`, and in `other` as if `left` were before them.
struct BothRows {
    rows: Rows,
    first0: u32,
    first1: u32,
    other0: u32,
    other1: u32,
}

fn both_rows(place: Place, size: Size, local: u32) -> BothRows {
    // Rows of one vec4 are numbers of rows.
    let rows = left_rows(place, size.rows, 1u, local);
    let width = size.in_quads - size.first_quads;
    return BothRows(
        rows, rows.at0 * size.first_quads, rows.at1 * size.first_quads,
        rows.at0 * width - size.first_quads, rows.at1 * width - size.first_quads,
    );
}

// Fills one quad of terms of both rows.
fn fill_term_of_both(both: BothRows, term: u32, slot_terms: u32, size: Size) {
    let at = min(term, size.in_quads - 1u);
    var v0 = ZERO;
    var v1 = ZERO;
    if (at < size.first_quads) {
        v0 = vec4<f32>(left[both.first0 + at]);
        v1 = vec4<f32>(left[both.first1 + at]);
    } else {
        v0 = vec4<f32>(other[both.other0 + at]);
        v1 = vec4<f32>(other[both.other1 + at]);
    }
    let high = both.rows.slot / GROUP;
    let low = both.rows.slot % GROUP;
    left_tile[slot_terms][high][low] = select(ZERO, v0, term < size.in_quads);
    left_tile[slot_terms][high + 4u][low] = select(ZERO, v1, term < size.in_quads);
}

// Rows of `right` as they are, from flat place `at` on, four rows apart; `last` is the same column of the last row.
fn fill_right(at: u32, last: u32, pitch: u32, local: u32) {
    let term = local / QUADS;
    let half = local % QUADS / GROUP;
    let quad = local % GROUP;
    let v0 = vec4<f32>(right[min(at, last)]);
    let v1 = vec4<f32>(right[min(at + 4u * pitch, last)]);
    let v2 = vec4<f32>(right[min(at + 8u * pitch, last)]);
    let v3 = vec4<f32>(right[min(at + 12u * pitch, last)]);
    right_tile[term][half][quad] = v0;
    right_tile[term + 4u][half][quad] = v1;
    right_tile[term + 8u][half][quad] = v2;
    right_tile[term + 12u][half][quad] = v3;
}

// As `fill_right` of `rows` rows, zeros behind them; the sum of what this invocation fills in.
fn fill_right_rows(at: u32, last: u32, pitch: u32, rows: u32, local: u32) -> vec4<f32> {
    let term = local / QUADS;
    let half = local % QUADS / GROUP;
    let quad = local % GROUP;
    let v0 = select(ZERO, vec4<f32>(right[min(at, last)]), term < rows);
    let v1 = select(ZERO, vec4<f32>(right[min(at + 4u * pitch, last)]), term + 4u < rows);
    let v2 = select(ZERO, vec4<f32>(right[min(at + 8u * pitch, last)]), term + 8u < rows);
    let v3 = select(ZERO, vec4<f32>(right[min(at + 12u * pitch, last)]), term + 12u < rows);
    right_tile[term][half][quad] = v0;
    right_tile[term + 4u][half][quad] = v1;
    right_tile[term + 8u][half][quad] = v2;
    right_tile[term + 12u][half][quad] = v3;
    return (v0 + v1) + (v2 + v3);
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
        gradient[at] = Gradient(sum);
    }
}

fn put_weight(rows: u32, quads: u32, offset: u32, row: u32, quad: u32, value: vec4<f32>) {
    if (row < rows && quad < quads) {
        weight_gradient[offset + row * quads + quad] = value;
    }
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let size = forward_size;
    let quad_tiles = (size.out_quads + QUADS - 1u) / QUADS;
    let row_tiles = (size.rows + ROWS - 1u) / ROWS;
    let place = locate(group.y * groups.x + group.x, row_tiles, quad_tiles);
    let both = both_rows(place, size, local);
    let column = min(place.quad + local % QUADS, size.out_quads - 1u);
    let last = (4u * size.in_quads - 1u) * size.out_quads + column;
    var at = local / QUADS * size.out_quads + column;
    var tile: Tile;
    for (var step = 0u; step < size.in_quads; step += STEP_QUADS) {
        fill_term_of_both(both, step + both.rows.terms, both.rows.terms, size);
        fill_term_of_both(both, step + both.rows.terms + 2u, both.rows.terms + 2u, size);
        fill_right(at, last, size.out_quads, local);
        at += 4u * STEP_QUADS * size.out_quads;
        workgroupBarrier();
        tile = add_step(tile, local);
        workgroupBarrier();
    }
    let row = select(place.row, size.rows, place.slice > 0u) + local / 8u;
    let quad = place.quad + local % 8u;
    put(size, row + 0u, quad, tile.a0);
    put(size, row + 0u, quad + 8u, tile.b0);
    put(size, row + 8u, quad, tile.a1);
    put(size, row + 8u, quad + 8u, tile.b1);
    put(size, row + 16u, quad, tile.a2);
    put(size, row + 16u, quad + 8u, tile.b2);
    put(size, row + 24u, quad, tile.a3);
    put(size, row + 24u, quad + 8u, tile.b3);
    put(size, row + 32u, quad, tile.a4);
    put(size, row + 32u, quad + 8u, tile.b4);
    put(size, row + 40u, quad, tile.a5);
    put(size, row + 40u, quad + 8u, tile.b5);
    put(size, row + 48u, quad, tile.a6);
    put(size, row + 48u, quad + 8u, tile.b6);
    put(size, row + 56u, quad, tile.a7);
    put(size, row + 56u, quad + 8u, tile.b7);
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let size = gradient_size;
    let quad_tiles = (size.in_quads + QUADS - 1u) / QUADS;
    let row_tiles = (size.rows + ROWS - 1u) / ROWS;
    let place = locate(group.y * groups.x + group.x, row_tiles, quad_tiles);
    let rows = left_rows(place, size.rows, size.out_quads, local);
    // A block of four rows of w and one quad of terms.
    let terms = local % 2u + 2u * (local / 32u);
    let half = local / 2u % QUADS / GROUP;
    let slot = local / 2u % GROUP;
    let at = 4u * min(place.quad + half * GROUP + slot, size.in_quads - 1u) * size.out_quads;
    var tile: Tile;
    for (var step = 0u; step < size.out_quads; step += STEP_QUADS) {
        fill_left(rows, step, size.out_quads);
        let from_at = at + min(step + terms, size.out_quads - 1u);
        let v0 = vec4<f32>(right[from_at]);
        let v1 = vec4<f32>(right[from_at + size.out_quads]);
        let v2 = vec4<f32>(right[from_at + 2u * size.out_quads]);
        let v3 = vec4<f32>(right[from_at + 3u * size.out_quads]);
        right_tile[4u * terms][half][slot] = vec4<f32>(v0.x, v1.x, v2.x, v3.x);
        right_tile[4u * terms + 1u][half][slot] = vec4<f32>(v0.y, v1.y, v2.y, v3.y);
        right_tile[4u * terms + 2u][half][slot] = vec4<f32>(v0.z, v1.z, v2.z, v3.z);
        right_tile[4u * terms + 3u][half][slot] = vec4<f32>(v0.w, v1.w, v2.w, v3.w);
        workgroupBarrier();
        tile = add_step(tile, local);
        workgroupBarrier();
    }
    let row = select(place.row, size.rows, place.slice > 0u) + local / 8u;
    let quad = place.quad + local % 8u;
    put_gradient(size, row + 0u, quad, tile.a0);
    put_gradient(size, row + 0u, quad + 8u, tile.b0);
    put_gradient(size, row + 8u, quad, tile.a1);
    put_gradient(size, row + 8u, quad + 8u, tile.b1);
    put_gradient(size, row + 16u, quad, tile.a2);
    put_gradient(size, row + 16u, quad + 8u, tile.b2);
    put_gradient(size, row + 24u, quad, tile.a3);
    put_gradient(size, row + 24u, quad + 8u, tile.b3);
    put_gradient(size, row + 32u, quad, tile.a4);
    put_gradient(size, row + 32u, quad + 8u, tile.b4);
    put_gradient(size, row + 40u, quad, tile.a5);
    put_gradient(size, row + 40u, quad + 8u, tile.b5);
    put_gradient(size, row + 48u, quad, tile.a6);
    put_gradient(size, row + 48u, quad + 8u, tile.b6);
    put_gradient(size, row + 56u, quad, tile.a7);
    put_gradient(size, row + 56u, quad + 8u, tile.b7);
}

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let size = weight_size;
    let quad_tiles = (size.out_quads + QUADS - 1u) / QUADS;
    let row_tiles = (4u * size.in_quads + ROWS - 1u) / ROWS;
    let place = locate(group.y * groups.x + group.x, row_tiles, quad_tiles);
    let first = min(place.slice, size.slices - 1u) * size.slice_rows;
    let end = min(first + size.slice_rows, size.rows);
    let channel = min(place.row / 4u + local % QUADS, size.in_quads - 1u);
    let terms = local / QUADS;
    // Which of the two tensors holds the channel, where in a row, and how long its rows are.
    let is_first = channel < size.first_quads;
    let width = select(size.in_quads - size.first_quads, size.first_quads, is_first);
    let offset_in_row = select(channel - size.first_quads, channel, is_first);
    let last_channel = (size.rows - 1u) * width + offset_in_row;
    let column = min(place.quad + local % QUADS, size.out_quads - 1u);
    let last = (size.rows - 1u) * size.out_quads + column;
    var channel_at = (first + 4u * terms) * width + offset_in_row;
    var at = (first + terms) * size.out_quads + column;
    var bias_sum = ZERO;
    var tile: Tile;
    for (var step = first; step < end; step += 4u * STEP_QUADS) {
        let at0 = min(channel_at, last_channel);
        let at1 = min(channel_at + width, last_channel);
        let at2 = min(channel_at + 2u * width, last_channel);
        let at3 = min(channel_at + 3u * width, last_channel);
        var v0 = ZERO;
        var v1 = ZERO;
        var v2 = ZERO;
        var v3 = ZERO;
        if (is_first) {
            v0 = vec4<f32>(left[at0]);
            v1 = vec4<f32>(left[at1]);
            v2 = vec4<f32>(left[at2]);
            v3 = vec4<f32>(left[at3]);
        } else {
            v0 = vec4<f32>(other_left[at0]);
            v1 = vec4<f32>(other_left[at1]);
            v2 = vec4<f32>(other_left[at2]);
            v3 = vec4<f32>(other_left[at3]);
        }
        fill_left_transposed(terms, local % QUADS / GROUP, local % GROUP, v0, v1, v2, v3);
        bias_sum += fill_right_rows(at, last, size.out_quads, end - step, local);
        channel_at += 4u * STEP_QUADS * width;
        at += 4u * STEP_QUADS * size.out_quads;
        workgroupBarrier();
        tile = add_step(tile, local);
        workgroupBarrier();
    }
    if (place.row == 0u) {
        right_tile[terms][local % QUADS / GROUP][local % GROUP] = bias_sum;
        workgroupBarrier();
        if (local < QUADS && place.quad + local < size.out_quads && place.slice < size.slices) {
            let half = local / GROUP;
            let quad = local % GROUP;
            let low = right_tile[0][half][quad] + right_tile[1][half][quad];
            let high = right_tile[2][half][quad] + right_tile[3][half][quad];
            bias_gradient[place.slice * size.out_quads + place.quad + local] = low + high;
        }
    }
    // The tile's slots hold the first lanes of 16 quads of channels, then the second ones, and so on.
    let rows = select(4u * size.in_quads, 0u, place.slice >= size.slices);
    let offset = place.slice * 4u * size.in_quads * size.out_quads;
    let row = place.row + local / 8u * 4u;
    let quad = place.quad + local % 8u;
    put_weight(rows, size.out_quads, offset, row + 0u, quad, tile.a0);
    put_weight(rows, size.out_quads, offset, row + 0u, quad + 8u, tile.b0);
    put_weight(rows, size.out_quads, offset, row + 32u, quad, tile.a1);
    put_weight(rows, size.out_quads, offset, row + 32u, quad + 8u, tile.b1);
    put_weight(rows, size.out_quads, offset, row + 1u, quad, tile.a2);
    put_weight(rows, size.out_quads, offset, row + 1u, quad + 8u, tile.b2);
    put_weight(rows, size.out_quads, offset, row + 33u, quad, tile.a3);
    put_weight(rows, size.out_quads, offset, row + 33u, quad + 8u, tile.b3);
    put_weight(rows, size.out_quads, offset, row + 2u, quad, tile.a4);
    put_weight(rows, size.out_quads, offset, row + 2u, quad + 8u, tile.b4);
    put_weight(rows, size.out_quads, offset, row + 34u, quad, tile.a5);
    put_weight(rows, size.out_quads, offset, row + 34u, quad + 8u, tile.b5);
    put_weight(rows, size.out_quads, offset, row + 3u, quad, tile.a6);
    put_weight(rows, size.out_quads, offset, row + 3u, quad + 8u, tile.b6);
    put_weight(rows, size.out_quads, offset, row + 35u, quad, tile.a7);
    put_weight(rows, size.out_quads, offset, row + 35u, quad + 8u, tile.b7);
}
