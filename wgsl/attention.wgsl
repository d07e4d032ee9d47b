// Multi-head softmax attention over all pairs of tokens, and its gradient, without a tokens x tokens matrix.
//
// s_ij = d^-1/2 * q_i . k_j, lse_i = log sum_j exp s_ij, p_ij = exp(s_ij - lse_i), out_i = sum_j p_ij * v_j.
// dp_ij = dout_i . v_j, delta_i = dout_i . out_i, ds_ij = p_ij * (dp_ij - delta_i);
// dq_i = d^-1/2 * sum_j ds_ij * k_j, dk_j = d^-1/2 * sum_i ds_ij * q_i, dv_j = sum_i p_ij * dout_i.
// qkv, dqkv: [N, T, 3C]; out, dout: [N, T, C]; lse, delta: [N, heads, T]. A head's q, k and v each take d columns.
// HEAD_QUADS: ceil(d / 4); ALIGNED: d is a multiple of 4; WIDE: 8 tokens per invocation, else 4.
// One invocation computes 4 or 8 tokens' results of one head in its own 4 * CHUNK columns, and streams over all
// other tokens, four at a time, with the maximum subtracted as it goes; dot products also stream the other columns.
// A 4x4 tile is a matrix whose columns are tokens: scores of keys K and queries Q are transpose(K) * Q.
// Reduction orders are fixed: the same inputs give the same bits.

struct Size {
    batch: u32,
    tokens: u32,
    heads: u32,
    // Columns of a head, d.
    depth: u32,
    // Length of a row of qkv, of out, and of lse, in floats.
    qkv_pitch: u32,
    out_pitch: u32,
    lse_pitch: u32,
    // From one head's columns to the next head's, and from q's columns to k's and from k's to v's.
    head_step: u32,
    part_step: u32,
    // d^-1/2.
    scale: f32,
    pad0: u32,
    pad1: u32,
}

override HEAD_QUADS: u32;
override ALIGNED: bool;
override WIDE: bool;
const CHUNK: u32 = 4u;
const WG: u32 = 32u;
const LOWEST: f32 = -3.4028234663852886e38;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;

@group(0) @binding(1) var<storage, read_write> attended: array<f32>;
@group(0) @binding(2) var<storage, read_write> log_sums: array<f32>;
@group(0) @binding(3) var<uniform> forward_size: Size;

@group(0) @binding(1) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<f32>;

@group(0) @binding(3) var<storage, read> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> row_dots: array<f32>;
@group(0) @binding(6) var<uniform> query_size: Size;

@group(0) @binding(3) var<storage, read> delta: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> key_size: Size;

// Four columns of an invocation's own tokens: the first four tokens, and the next four where WIDE.
struct Tiles {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
}

// An invocation's own columns of its own tokens.
struct Chunk {
    c0: Tiles,
    c1: Tiles,
    c2: Tiles,
    c3: Tiles,
}

// An invocation's own columns of four streamed tokens.
struct Strip {
    c0: mat4x4<f32>,
    c1: mat4x4<f32>,
    c2: mat4x4<f32>,
    c3: mat4x4<f32>,
}

// What one invocation computes: `token` is its first token, `column` its first column within the head.
struct Place {
    image: u32,
    head: u32,
    token: u32,
    column: u32,
}

fn chunks() -> u32 {
    return (HEAD_QUADS + CHUNK - 1u) / CHUNK;
}

fn locate(size: Size, index: u32) -> Place {
    let own_tokens = select(4u, 8u, WIDE);
    let tiles = (size.tokens + own_tokens - 1u) / own_tokens;
    let chunk = index % chunks();
    let tile = index / chunks() % tiles;
    let head = index / chunks() / tiles;
    return Place(head / size.heads, head % size.heads, tile * own_tokens, chunk * CHUNK * 4u);
}

// Offsets of four tokens' rows; tokens beyond the last repeat it.
fn rows_from(token: u32, tokens: u32, pitch: u32) -> vec4<u32> {
    return min(vec4<u32>(0u, 1u, 2u, 3u) + token, vec4<u32>(tokens - 1u)) * pitch;
}

// Which of four tokens exist.
fn exists(token: u32, tokens: u32) -> vec4<bool> {
    return vec4<u32>(0u, 1u, 2u, 3u) + token < vec4<u32>(tokens);
}

// Columns from `column` on of a head, zero beyond its depth, out of the two vec4s they straddle where not aligned.
fn in_head(low: vec4<f32>, high: vec4<f32>, word: u32, column: u32, depth: u32) -> vec4<f32> {
    var value = low;
    switch word % 4u {
        case 1u: { value = vec4<f32>(low.yzw, high.x); }
        case 2u: { value = vec4<f32>(low.zw, high.xy); }
        case 3u: { value = vec4<f32>(low.w, high.xyz); }
        default: {}
    }
    return select(vec4<f32>(0.0), value, vec4<u32>(0u, 1u, 2u, 3u) + column < vec4<u32>(depth));
}

fn qkv_quad(row: u32, column: u32, depth: u32) -> vec4<f32> {
    let word = row + min(column, 4u * HEAD_QUADS - 4u);
    let low = qkv[word / 4u];
    if ALIGNED {
        return select(vec4<f32>(0.0), low, column < depth);
    }
    return in_head(low, qkv[min(word / 4u + 1u, arrayLength(&qkv) - 1u)], word, column, depth);
}

fn dout_quad(row: u32, column: u32, depth: u32) -> vec4<f32> {
    let word = row + min(column, 4u * HEAD_QUADS - 4u);
    let low = dout[word / 4u];
    if ALIGNED {
        return select(vec4<f32>(0.0), low, column < depth);
    }
    return in_head(low, dout[min(word / 4u + 1u, arrayLength(&dout) - 1u)], word, column, depth);
}

fn out_quad(row: u32, column: u32, depth: u32) -> vec4<f32> {
    let word = row + min(column, 4u * HEAD_QUADS - 4u);
    let low = out[word / 4u];
    if ALIGNED {
        return select(vec4<f32>(0.0), low, column < depth);
    }
    return in_head(low, out[min(word / 4u + 1u, arrayLength(&out) - 1u)], word, column, depth);
}

fn qkv_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        qkv_quad(rows.x, column, depth),
        qkv_quad(rows.y, column, depth),
        qkv_quad(rows.z, column, depth),
        qkv_quad(rows.w, column, depth),
    );
}

fn dout_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        dout_quad(rows.x, column, depth),
        dout_quad(rows.y, column, depth),
        dout_quad(rows.z, column, depth),
        dout_quad(rows.w, column, depth),
    );
}

fn qkv_tiles(rows_a: vec4<u32>, rows_b: vec4<u32>, column: u32, depth: u32) -> Tiles {
    var tiles: Tiles;
    tiles.a = qkv_tile(rows_a, column, depth);
    if WIDE {
        tiles.b = qkv_tile(rows_b, column, depth);
    }
    return tiles;
}

fn dout_tiles(rows_a: vec4<u32>, rows_b: vec4<u32>, column: u32, depth: u32) -> Tiles {
    var tiles: Tiles;
    tiles.a = dout_tile(rows_a, column, depth);
    if WIDE {
        tiles.b = dout_tile(rows_b, column, depth);
    }
    return tiles;
}

fn qkv_chunk(rows_a: vec4<u32>, rows_b: vec4<u32>, column: u32, depth: u32) -> Chunk {
    var chunk: Chunk;
    chunk.c0 = qkv_tiles(rows_a, rows_b, column, depth);
    if HEAD_QUADS > 1u {
        chunk.c1 = qkv_tiles(rows_a, rows_b, column + 4u, depth);
    }
    if HEAD_QUADS > 2u {
        chunk.c2 = qkv_tiles(rows_a, rows_b, column + 8u, depth);
    }
    if HEAD_QUADS > 3u {
        chunk.c3 = qkv_tiles(rows_a, rows_b, column + 12u, depth);
    }
    return chunk;
}

fn dout_chunk(rows_a: vec4<u32>, rows_b: vec4<u32>, column: u32, depth: u32) -> Chunk {
    var chunk: Chunk;
    chunk.c0 = dout_tiles(rows_a, rows_b, column, depth);
    if HEAD_QUADS > 1u {
        chunk.c1 = dout_tiles(rows_a, rows_b, column + 4u, depth);
    }
    if HEAD_QUADS > 2u {
        chunk.c2 = dout_tiles(rows_a, rows_b, column + 8u, depth);
    }
    if HEAD_QUADS > 3u {
        chunk.c3 = dout_tiles(rows_a, rows_b, column + 12u, depth);
    }
    return chunk;
}

fn qkv_strip(rows: vec4<u32>, column: u32, depth: u32) -> Strip {
    var strip: Strip;
    strip.c0 = qkv_tile(rows, column, depth);
    if HEAD_QUADS > 1u {
        strip.c1 = qkv_tile(rows, column + 4u, depth);
    }
    if HEAD_QUADS > 2u {
        strip.c2 = qkv_tile(rows, column + 8u, depth);
    }
    if HEAD_QUADS > 3u {
        strip.c3 = qkv_tile(rows, column + 12u, depth);
    }
    return strip;
}

fn dout_strip(rows: vec4<u32>, column: u32, depth: u32) -> Strip {
    var strip: Strip;
    strip.c0 = dout_tile(rows, column, depth);
    if HEAD_QUADS > 1u {
        strip.c1 = dout_tile(rows, column + 4u, depth);
    }
    if HEAD_QUADS > 2u {
        strip.c2 = dout_tile(rows, column + 8u, depth);
    }
    if HEAD_QUADS > 3u {
        strip.c3 = dout_tile(rows, column + 12u, depth);
    }
    return strip;
}

fn accumulate(sum: Tiles, left: mat4x4<f32>, right: Tiles) -> Tiles {
    var tiles = sum;
    tiles.a += left * right.a;
    if WIDE {
        tiles.b += left * right.b;
    }
    return tiles;
}

// Dot products of the streamed with the own tokens over the own columns: a column per own token.
fn dots(strip: Strip, chunk: Chunk) -> Tiles {
    var tiles: Tiles;
    tiles = accumulate(tiles, transpose(strip.c0), chunk.c0);
    if HEAD_QUADS > 1u {
        tiles = accumulate(tiles, transpose(strip.c1), chunk.c1);
    }
    if HEAD_QUADS > 2u {
        tiles = accumulate(tiles, transpose(strip.c2), chunk.c2);
    }
    if HEAD_QUADS > 3u {
        tiles = accumulate(tiles, transpose(strip.c3), chunk.c3);
    }
    return tiles;
}

// Adds the streamed tokens, weighted, to each own token.
fn add_weighted(sum: Chunk, strip: Strip, weights: Tiles) -> Chunk {
    var chunk = sum;
    chunk.c0 = accumulate(chunk.c0, strip.c0, weights);
    if HEAD_QUADS > 1u {
        chunk.c1 = accumulate(chunk.c1, strip.c1, weights);
    }
    if HEAD_QUADS > 2u {
        chunk.c2 = accumulate(chunk.c2, strip.c2, weights);
    }
    if HEAD_QUADS > 3u {
        chunk.c3 = accumulate(chunk.c3, strip.c3, weights);
    }
    return chunk;
}

// The i-th column beyond an invocation's own chunk, round the head.
fn other_column(own: u32, quad: u32) -> u32 {
    return (own + 4u * quad) % (4u * CHUNK * chunks());
}

fn times_columns(m: mat4x4<f32>, f: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(m[0] * f.x, m[1] * f.y, m[2] * f.z, m[3] * f.w);
}

fn scale_columns(tiles: Tiles, a: vec4<f32>, b: vec4<f32>) -> Tiles {
    var scaled: Tiles;
    scaled.a = times_columns(tiles.a, a);
    if WIDE {
        scaled.b = times_columns(tiles.b, b);
    }
    return scaled;
}

fn scale_chunk(chunk: Chunk, a: vec4<f32>, b: vec4<f32>) -> Chunk {
    var scaled: Chunk;
    scaled.c0 = scale_columns(chunk.c0, a, b);
    if HEAD_QUADS > 1u {
        scaled.c1 = scale_columns(chunk.c1, a, b);
    }
    if HEAD_QUADS > 2u {
        scaled.c2 = scale_columns(chunk.c2, a, b);
    }
    if HEAD_QUADS > 3u {
        scaled.c3 = scale_columns(chunk.c3, a, b);
    }
    return scaled;
}

fn column_max(m: mat4x4<f32>) -> vec4<f32> {
    let t = transpose(m);
    return max(max(t[0], t[1]), max(t[2], t[3]));
}

fn column_sum(m: mat4x4<f32>) -> vec4<f32> {
    return vec4<f32>(1.0) * m;
}

// Scaled scores; those of keys that do not exist vanish from every maximum and sum.
fn masked_scores(s: mat4x4<f32>, scale: f32, valid: vec4<bool>) -> mat4x4<f32> {
    let low = vec4<f32>(LOWEST);
    return mat4x4<f32>(
        select(low, s[0] * scale, valid),
        select(low, s[1] * scale, valid),
        select(low, s[2] * scale, valid),
        select(low, s[3] * scale, valid),
    );
}

// exp(s - shift) with one shift per column.
fn exp_columns(s: mat4x4<f32>, shift: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(exp(s[0] - shift.x), exp(s[1] - shift.y), exp(s[2] - shift.z), exp(s[3] - shift.w));
}

fn store_out(row: u32, column: u32, depth: u32, value: vec4<f32>) {
    for (var lane = 0u; lane < min(4u, depth - min(column, depth)); lane += 1u) {
        attended[row + column + lane] = value[lane];
    }
}

fn store_out_tile(rows: vec4<u32>, valid: vec4<bool>, column: u32, depth: u32, tile: mat4x4<f32>) {
    if valid.x { store_out(rows.x, column, depth, tile[0]); }
    if valid.y { store_out(rows.y, column, depth, tile[1]); }
    if valid.z { store_out(rows.z, column, depth, tile[2]); }
    if valid.w { store_out(rows.w, column, depth, tile[3]); }
}

fn store_gradient(row: u32, column: u32, depth: u32, value: vec4<f32>) {
    for (var lane = 0u; lane < min(4u, depth - min(column, depth)); lane += 1u) {
        dqkv[row + column + lane] = value[lane];
    }
}

fn store_gradient_tile(rows: vec4<u32>, valid: vec4<bool>, column: u32, depth: u32, tile: mat4x4<f32>) {
    if valid.x { store_gradient(rows.x, column, depth, tile[0]); }
    if valid.y { store_gradient(rows.y, column, depth, tile[1]); }
    if valid.z { store_gradient(rows.z, column, depth, tile[2]); }
    if valid.w { store_gradient(rows.w, column, depth, tile[3]); }
}

fn store_gradient_chunk(size: Size, place: Place, rows_a: vec4<u32>, rows_b: vec4<u32>, chunk: Chunk) {
    var tiles = chunk.c0;
    for (var quad = 0u; quad < min(CHUNK, HEAD_QUADS); quad += 1u) {
        switch quad {
            case 1u: { tiles = chunk.c1; }
            case 2u: { tiles = chunk.c2; }
            case 3u: { tiles = chunk.c3; }
            default: {}
        }
        let column = place.column + 4u * quad;
        store_gradient_tile(rows_a, exists(place.token, size.tokens), column, size.depth, tiles.a);
        if WIDE {
            store_gradient_tile(rows_b, exists(place.token + 4u, size.tokens), column, size.depth, tiles.b);
        }
    }
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = forward_size;
    let place = locate(size, (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane);
    if place.image >= size.batch {
        return;
    }
    let base = place.image * size.tokens * size.qkv_pitch + place.head * size.head_step;
    let q_a = base + rows_from(place.token, size.tokens, size.qkv_pitch);
    let q_b = base + rows_from(place.token + 4u, size.tokens, size.qkv_pitch);
    let q = qkv_chunk(q_a, q_b, place.column, size.depth);
    var sum: Chunk;
    var max_a = vec4<f32>(LOWEST);
    var max_b = vec4<f32>(LOWEST);
    var total_a = vec4<f32>(0.0);
    var total_b = vec4<f32>(0.0);
    for (var key = 0u; key < size.tokens; key += 4u) {
        let rows = base + size.part_step + rows_from(key, size.tokens, size.qkv_pitch);
        var s = dots(qkv_strip(rows, place.column, size.depth), q);
        for (var quad = CHUNK; quad < CHUNK * chunks(); quad += 1u) {
            let column = other_column(place.column, quad);
            let k = transpose(qkv_tile(rows, column, size.depth));
            s = accumulate(s, k, qkv_tiles(q_a, q_b, column, size.depth));
        }
        let valid = exists(key, size.tokens);
        s.a = masked_scores(s.a, size.scale, valid);
        let new_a = max(max_a, column_max(s.a));
        let keep_a = exp(max_a - new_a);
        max_a = new_a;
        s.a = exp_columns(s.a, max_a);
        total_a = total_a * keep_a + column_sum(s.a);
        var keep_b = keep_a;
        if WIDE {
            s.b = masked_scores(s.b, size.scale, valid);
            let new_b = max(max_b, column_max(s.b));
            keep_b = exp(max_b - new_b);
            max_b = new_b;
            s.b = exp_columns(s.b, max_b);
            total_b = total_b * keep_b + column_sum(s.b);
        }
        let v = qkv_strip(rows + size.part_step, place.column, size.depth);
        sum = add_weighted(scale_chunk(sum, keep_a, keep_b), v, s);
    }
    if !WIDE {
        total_b = vec4<f32>(1.0);
    }
    sum = scale_chunk(sum, 1.0 / total_a, 1.0 / total_b);
    let out_base = place.image * size.tokens * size.out_pitch + place.head * size.depth;
    let out_a = out_base + rows_from(place.token, size.tokens, size.out_pitch);
    let out_b = out_base + rows_from(place.token + 4u, size.tokens, size.out_pitch);
    var tiles = sum.c0;
    for (var quad = 0u; quad < min(CHUNK, HEAD_QUADS); quad += 1u) {
        switch quad {
            case 1u: { tiles = sum.c1; }
            case 2u: { tiles = sum.c2; }
            case 3u: { tiles = sum.c3; }
            default: {}
        }
        let column = place.column + 4u * quad;
        store_out_tile(out_a, exists(place.token, size.tokens), column, size.depth, tiles.a);
        if WIDE {
            store_out_tile(out_b, exists(place.token + 4u, size.tokens), column, size.depth, tiles.b);
        }
    }
    if place.column == 0u {
        let lse_a = max_a + log(total_a);
        let lse_b = max_b + log(total_b);
        let lse_base = (place.image * size.heads + place.head) * size.lse_pitch;
        let end = min(place.token + select(4u, 8u, WIDE), size.lse_pitch);
        for (var token = place.token; token < end; token += 1u) {
            let i = token - place.token;
            let value = select(lse_b[i % 4u], lse_a[i % 4u], i < 4u);
            log_sums[lse_base + token] = select(0.0, value, token < size.tokens);
            // The last head also zeroes the pad lanes of its tokens' rows.
            if token < size.tokens && place.head + 1u == size.heads {
                let row = (place.image * size.tokens + token) * size.out_pitch;
                for (var c = size.heads * size.depth; c < size.out_pitch; c += 1u) {
                    attended[row + c] = 0.0;
                }
            }
        }
    }
}

// dq, and delta for `grad_key_value`, which runs after it.
@compute @workgroup_size(WG)
fn grad_query(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = query_size;
    let place = locate(size, (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane);
    if place.image >= size.batch {
        return;
    }
    let base = place.image * size.tokens * size.qkv_pitch + place.head * size.head_step;
    let q_a = base + rows_from(place.token, size.tokens, size.qkv_pitch);
    let q_b = base + rows_from(place.token + 4u, size.tokens, size.qkv_pitch);
    let out_base = place.image * size.tokens * size.out_pitch + place.head * size.depth;
    let out_a = out_base + rows_from(place.token, size.tokens, size.out_pitch);
    let out_b = out_base + rows_from(place.token + 4u, size.tokens, size.out_pitch);
    let row_base = (place.image * size.heads + place.head) * size.lse_pitch;
    let lse_a = lse[(row_base + place.token) / 4u];
    let lse_b = lse[(row_base + min(place.token + 4u, size.lse_pitch - 4u)) / 4u];
    var delta_a = vec4<f32>(0.0);
    var delta_b = vec4<f32>(0.0);
    for (var column = 0u; column < 4u * HEAD_QUADS; column += 4u) {
        let d = dout_tiles(out_a, out_b, column, size.depth);
        delta_a += vec4<f32>(
            dot(d.a[0], out_quad(out_a.x, column, size.depth)),
            dot(d.a[1], out_quad(out_a.y, column, size.depth)),
            dot(d.a[2], out_quad(out_a.z, column, size.depth)),
            dot(d.a[3], out_quad(out_a.w, column, size.depth)),
        );
        if WIDE {
            delta_b += vec4<f32>(
                dot(d.b[0], out_quad(out_b.x, column, size.depth)),
                dot(d.b[1], out_quad(out_b.y, column, size.depth)),
                dot(d.b[2], out_quad(out_b.z, column, size.depth)),
                dot(d.b[3], out_quad(out_b.w, column, size.depth)),
            );
        }
    }
    let q = qkv_chunk(q_a, q_b, place.column, size.depth);
    let d = dout_chunk(out_a, out_b, place.column, size.depth);
    var sum: Chunk;
    for (var key = 0u; key < size.tokens; key += 4u) {
        let rows = base + size.part_step + rows_from(key, size.tokens, size.qkv_pitch);
        let k = qkv_strip(rows, place.column, size.depth);
        var s = dots(k, q);
        var dp = dots(qkv_strip(rows + size.part_step, place.column, size.depth), d);
        for (var quad = CHUNK; quad < CHUNK * chunks(); quad += 1u) {
            let column = other_column(place.column, quad);
            let other_k = transpose(qkv_tile(rows, column, size.depth));
            s = accumulate(s, other_k, qkv_tiles(q_a, q_b, column, size.depth));
            let other_v = transpose(qkv_tile(rows + size.part_step, column, size.depth));
            dp = accumulate(dp, other_v, dout_tiles(out_a, out_b, column, size.depth));
        }
        let valid = exists(key, size.tokens);
        let p_a = exp_columns(masked_scores(s.a, size.scale, valid), lse_a);
        s.a = mat4x4<f32>(
            p_a[0] * (dp.a[0] - delta_a.x),
            p_a[1] * (dp.a[1] - delta_a.y),
            p_a[2] * (dp.a[2] - delta_a.z),
            p_a[3] * (dp.a[3] - delta_a.w),
        );
        if WIDE {
            let p_b = exp_columns(masked_scores(s.b, size.scale, valid), lse_b);
            s.b = mat4x4<f32>(
                p_b[0] * (dp.b[0] - delta_b.x),
                p_b[1] * (dp.b[1] - delta_b.y),
                p_b[2] * (dp.b[2] - delta_b.z),
                p_b[3] * (dp.b[3] - delta_b.w),
            );
        }
        sum = add_weighted(sum, k, s);
    }
    let scale = vec4<f32>(size.scale);
    store_gradient_chunk(size, place, q_a, q_b, scale_chunk(sum, scale, scale));
    if place.column == 0u {
        let end = min(place.token + select(4u, 8u, WIDE), size.lse_pitch);
        for (var token = place.token; token < end; token += 1u) {
            let i = token - place.token;
            let value = select(delta_b[i % 4u], delta_a[i % 4u], i < 4u);
            row_dots[row_base + token] = select(0.0, value, token < size.tokens);
        }
    }
}

// p = exp(s * scale - lse) of four streamed queries; zero where they do not exist.
fn weights_of_queries(s: mat4x4<f32>, scale: f32, sums: vec4<f32>, valid: vec4<bool>) -> mat4x4<f32> {
    let none = vec4<f32>(0.0);
    return mat4x4<f32>(
        select(none, exp(s[0] * scale - sums), valid),
        select(none, exp(s[1] * scale - sums), valid),
        select(none, exp(s[2] * scale - sums), valid),
        select(none, exp(s[3] * scale - sums), valid),
    );
}

fn score_gradient(p: mat4x4<f32>, dp: mat4x4<f32>, dots: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(p[0] * (dp[0] - dots), p[1] * (dp[1] - dots), p[2] * (dp[2] - dots), p[3] * (dp[3] - dots));
}

// dk and dv: the own tokens are keys, the streamed ones queries.
@compute @workgroup_size(WG)
fn grad_key_value(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = key_size;
    let place = locate(size, (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + lane);
    if place.image >= size.batch {
        return;
    }
    let base = place.image * size.tokens * size.qkv_pitch + place.head * size.head_step;
    let k_a = base + size.part_step + rows_from(place.token, size.tokens, size.qkv_pitch);
    let k_b = base + size.part_step + rows_from(place.token + 4u, size.tokens, size.qkv_pitch);
    let v_a = k_a + size.part_step;
    let v_b = k_b + size.part_step;
    let out_base = place.image * size.tokens * size.out_pitch + place.head * size.depth;
    let row_base = (place.image * size.heads + place.head) * size.lse_pitch;
    let k = qkv_chunk(k_a, k_b, place.column, size.depth);
    let v = qkv_chunk(v_a, v_b, place.column, size.depth);
    var sum_k: Chunk;
    var sum_v: Chunk;
    for (var query = 0u; query < size.tokens; query += 4u) {
        let rows = base + rows_from(query, size.tokens, size.qkv_pitch);
        let out_rows = out_base + rows_from(query, size.tokens, size.out_pitch);
        let q = qkv_strip(rows, place.column, size.depth);
        let d = dout_strip(out_rows, place.column, size.depth);
        var s = dots(q, k);
        var dp = dots(d, v);
        for (var quad = CHUNK; quad < CHUNK * chunks(); quad += 1u) {
            let column = other_column(place.column, quad);
            let other_q = transpose(qkv_tile(rows, column, size.depth));
            s = accumulate(s, other_q, qkv_tiles(k_a, k_b, column, size.depth));
            let other_d = transpose(dout_tile(out_rows, column, size.depth));
            dp = accumulate(dp, other_d, qkv_tiles(v_a, v_b, column, size.depth));
        }
        let valid = exists(query, size.tokens);
        let sums = lse[(row_base + query) / 4u];
        let row_deltas = delta[(row_base + query) / 4u];
        s.a = weights_of_queries(s.a, size.scale, sums, valid);
        dp.a = score_gradient(s.a, dp.a, row_deltas);
        if WIDE {
            s.b = weights_of_queries(s.b, size.scale, sums, valid);
            dp.b = score_gradient(s.b, dp.b, row_deltas);
        }
        sum_v = add_weighted(sum_v, d, s);
        sum_k = add_weighted(sum_k, q, dp);
    }
    let scale = vec4<f32>(size.scale);
    store_gradient_chunk(size, place, k_a, k_b, scale_chunk(sum_k, scale, scale));
    store_gradient_chunk(size, place, v_a, v_b, sum_v);
    // The last head also zeroes the pad lanes of its tokens' rows.
    if place.column == 0u && place.head + 1u == size.heads {
        let end = min(place.token + select(4u, 8u, WIDE), size.tokens);
        for (var token = place.token; token < end; token += 1u) {
            let row = (place.image * size.tokens + token) * size.qkv_pitch;
            for (var c = 3u * size.heads * size.depth; c < size.qkv_pitch; c += 1u) {
                dqkv[row + c] = 0.0;
            }
        }
    }
}
