// Multi-head softmax attention over all pairs of tokens, and its gradient, without a tokens x tokens matrix.
//
// s_ij = d^-1/2 * q_i . k_j, lse_i = log sum_j exp s_ij, p_ij = exp(s_ij - lse_i), out_i = sum_j p_ij * v_j.
// dp_ij = dout_i . v_j, delta_i = dout_i . out_i, ds_ij = p_ij * (dp_ij - delta_i);
// dq_i = d^-1/2 * sum_j ds_ij * k_j, dk_j = d^-1/2 * sum_i ds_ij * q_i, dv_j = sum_i p_ij * dout_i.
// qkv, dqkv: [N, T, 3C]; out, dout: [N, T, C]; lse, delta: [N, heads, T]. A head's q, k and v each take d columns.
// HEAD_QUADS: ceil(d / 4); ALIGNED: d is a multiple of 4; WIDE: two blocks.
// One invocation computes one or two blocks of four tokens of one head, in its own 4 * CHUNK columns. It streams over
// all tokens, four at a time, the maximum subtracted as it goes; dot products also stream the head's other columns.
// A 4x4 tile is a matrix whose columns are tokens: the scores of keys K and queries Q are transpose(K) * Q.
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
override CHUNKS: u32 = (HEAD_QUADS + CHUNK - 1u) / CHUNK;
const LANES: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);
const WG: u32 = 32u;
const LOWEST: f32 = -3.4028234663852886e38;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
// forward
@group(0) @binding(1) var<storage, read_write> attended: array<f32>;
@group(0) @binding(2) var<storage, read_write> log_sums: array<f32>;
@group(0) @binding(3) var<uniform> forward_size: Size;
// grad_query and grad_key_value
@group(0) @binding(1) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<f32>;
// grad_query
@group(0) @binding(3) var<storage, read> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> row_dots: array<f32>;
@group(0) @binding(6) var<uniform> query_size: Size;
// grad_key_value
@group(0) @binding(3) var<storage, read> delta: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> key_size: Size;

// An invocation's own columns of four tokens: four 4x4 tiles, of which a narrow head leaves the last ones zero.
struct Strip {
    c0: mat4x4<f32>,
    c1: mat4x4<f32>,
    c2: mat4x4<f32>,
    c3: mat4x4<f32>,
}

// What one invocation computes: `token` is its first token, `column` its first column within the head. Offsets of the
// head's first values in the image: `qkv` of q, `out` of out and dout, `row` of lse and delta.
struct Place {
    image: u32,
    head: u32,
    token: u32,
    column: u32,
    qkv: u32,
    out: u32,
    row: u32,
}

fn locate(size: Size, index: u32) -> Place {
    let own_tokens = select(4u, 8u, WIDE);
    let tiles = (size.tokens + own_tokens - 1u) / own_tokens;
    let rest = index / CHUNKS / tiles;
    var place: Place;
    place.image = rest / size.heads;
    place.head = rest % size.heads;
    place.token = index / CHUNKS % tiles * own_tokens;
    place.column = index % CHUNKS * CHUNK * 4u;
    place.qkv = place.image * size.tokens * size.qkv_pitch + place.head * size.head_step;
    place.out = place.image * size.tokens * size.out_pitch + place.head * size.depth;
    place.row = rest * size.lse_pitch;
    return place;
}

// Offsets of four tokens' rows; tokens beyond the last repeat it.
fn rows_from(token: u32, tokens: u32, pitch: u32) -> vec4<u32> {
    return min(LANES + token, vec4<u32>(tokens - 1u)) * pitch;
}

// Which of four tokens exist.
fn exists(token: u32, tokens: u32) -> vec4<bool> {
    return LANES + token < vec4<u32>(tokens);
}

// The i-th column beyond an invocation's own ones, round the head; beyond the head it reads as zero.
fn other_column(own: u32, quad: u32) -> u32 {
    return (own + 4u * quad) % (4u * CHUNK * CHUNKS);
}

// Columns from `column` on of a head, zero beyond its depth, out of the two vec4s they straddle where not aligned.
fn in_head(low: vec4<f32>, high: vec4<f32>, word: u32, column: u32, depth: u32) -> vec4<f32> {
    // Without a branch: it is inlined dozens of times, and compilers choke on as many switches.
    let by_two = (word & 2u) != 0u;
    let first = select(low, vec4<f32>(low.zw, high.xy), by_two);
    let next = select(high, high.zwzw, by_two);
    let value = select(first, vec4<f32>(first.yzw, next.x), (word & 1u) != 0u);
    return select(vec4<f32>(0.0), value, LANES + column < vec4<u32>(depth));
}

fn qkv_quad(row: u32, column: u32, depth: u32) -> vec4<f32> {
    let word = row + min(column, 4u * HEAD_QUADS - 4u);
    let low = qkv[word / 4u];
    if ALIGNED { return select(vec4<f32>(0.0), low, column < depth); }
    return in_head(low, qkv[min(word / 4u + 1u, arrayLength(&qkv) - 1u)], word, column, depth);
}

fn dout_quad(row: u32, column: u32, depth: u32) -> vec4<f32> {
    let word = row + min(column, 4u * HEAD_QUADS - 4u);
    let low = dout[word / 4u];
    if ALIGNED { return select(vec4<f32>(0.0), low, column < depth); }
    return in_head(low, dout[min(word / 4u + 1u, arrayLength(&dout) - 1u)], word, column, depth);
}

fn out_quad(row: u32, column: u32, depth: u32) -> vec4<f32> {
    let word = row + min(column, 4u * HEAD_QUADS - 4u);
    let low = out[word / 4u];
    if ALIGNED { return select(vec4<f32>(0.0), low, column < depth); }
    return in_head(low, out[min(word / 4u + 1u, arrayLength(&out) - 1u)], word, column, depth);
}

fn qkv_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        qkv_quad(rows.x, column, depth), qkv_quad(rows.y, column, depth),
        qkv_quad(rows.z, column, depth), qkv_quad(rows.w, column, depth),
    );
}

fn qkv_strip(rows: vec4<u32>, column: u32, depth: u32) -> Strip {
    var strip: Strip;
    strip.c0 = qkv_tile(rows, column, depth);
    if HEAD_QUADS > 1u { strip.c1 = qkv_tile(rows, column + 4u, depth); }
    if HEAD_QUADS > 2u { strip.c2 = qkv_tile(rows, column + 8u, depth); }
    if HEAD_QUADS > 3u { strip.c3 = qkv_tile(rows, column + 12u, depth); }
    return strip;
}

fn dout_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        dout_quad(rows.x, column, depth), dout_quad(rows.y, column, depth),
        dout_quad(rows.z, column, depth), dout_quad(rows.w, column, depth),
    );
}

fn dout_strip(rows: vec4<u32>, column: u32, depth: u32) -> Strip {
    var strip: Strip;
    strip.c0 = dout_tile(rows, column, depth);
    if HEAD_QUADS > 1u { strip.c1 = dout_tile(rows, column + 4u, depth); }
    if HEAD_QUADS > 2u { strip.c2 = dout_tile(rows, column + 8u, depth); }
    if HEAD_QUADS > 3u { strip.c3 = dout_tile(rows, column + 12u, depth); }
    return strip;
}

fn out_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        out_quad(rows.x, column, depth), out_quad(rows.y, column, depth),
        out_quad(rows.z, column, depth), out_quad(rows.w, column, depth),
    );
}

// Dot products over the own columns: a column per token of `own`, an element per token of `streamed`.
fn dots(streamed: Strip, own: Strip) -> mat4x4<f32> {
    var sum = transpose(streamed.c0) * own.c0;
    if HEAD_QUADS > 1u { sum += transpose(streamed.c1) * own.c1; }
    if HEAD_QUADS > 2u { sum += transpose(streamed.c2) * own.c2; }
    if HEAD_QUADS > 3u { sum += transpose(streamed.c3) * own.c3; }
    return sum;
}

// Adds the streamed tokens to each token of `sum`, weighted by its column.
fn add_weighted(sum: Strip, streamed: Strip, weights: mat4x4<f32>) -> Strip {
    var strip = sum;
    strip.c0 += streamed.c0 * weights;
    if HEAD_QUADS > 1u { strip.c1 += streamed.c1 * weights; }
    if HEAD_QUADS > 2u { strip.c2 += streamed.c2 * weights; }
    if HEAD_QUADS > 3u { strip.c3 += streamed.c3 * weights; }
    return strip;
}

// Multiplies each token by its factor.
fn scale_tile(tile: mat4x4<f32>, f: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(tile[0] * f.x, tile[1] * f.y, tile[2] * f.z, tile[3] * f.w);
}

fn scale_strip(strip: Strip, f: vec4<f32>) -> Strip {
    var scaled: Strip;
    scaled.c0 = scale_tile(strip.c0, f);
    if HEAD_QUADS > 1u { scaled.c1 = scale_tile(strip.c1, f); }
    if HEAD_QUADS > 2u { scaled.c2 = scale_tile(strip.c2, f); }
    if HEAD_QUADS > 3u { scaled.c3 = scale_tile(strip.c3, f); }
    return scaled;
}

fn tile_of(strip: Strip, quad: u32) -> mat4x4<f32> {
    switch quad {
        case 1u: { return strip.c1; }
        case 2u: { return strip.c2; }
        case 3u: { return strip.c3; }
        default: { return strip.c0; }
    }
}

// Scaled scores; those with streamed tokens that do not exist vanish from every maximum and sum.
fn masked_scores(s: mat4x4<f32>, scale: f32, valid: vec4<bool>) -> mat4x4<f32> {
    let low = vec4<f32>(LOWEST);
    return mat4x4<f32>(
        select(low, s[0] * scale, valid), select(low, s[1] * scale, valid),
        select(low, s[2] * scale, valid), select(low, s[3] * scale, valid),
    );
}

// exp(s - shift) with one shift per column.
fn exp_columns(s: mat4x4<f32>, shift: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(exp(s[0] - shift.x), exp(s[1] - shift.y), exp(s[2] - shift.z), exp(s[3] - shift.w));
}

fn store_gradient(row: u32, column: u32, depth: u32, value: vec4<f32>) {
    for (var lane = 0u; lane < 4u && column + lane < depth; lane += 1u) {
        dqkv[row + column + lane] = value[lane];
    }
}

fn store_strip(size: Size, place: Place, token: u32, rows: vec4<u32>, strip: Strip) {
    for (var quad = 0u; quad < min(CHUNK, HEAD_QUADS); quad += 1u) {
        let tile = tile_of(strip, quad);
        let column = place.column + 4u * quad;
        if token < size.tokens { store_gradient(rows.x, column, size.depth, tile[0]); }
        if token + 1u < size.tokens { store_gradient(rows.y, column, size.depth, tile[1]); }
        if token + 2u < size.tokens { store_gradient(rows.z, column, size.depth, tile[2]); }
        if token + 3u < size.tokens { store_gradient(rows.w, column, size.depth, tile[3]); }
    }
}

// Four queries and what they have gathered so far: sum over the keys of exp(s - largest) times v, and its total.
struct Gathered {
    rows: vec4<u32>,
    q: Strip,
    sum: Strip,
    largest: vec4<f32>,
    total: vec4<f32>,
}

fn open(size: Size, place: Place, token: u32) -> Gathered {
    var own: Gathered;
    own.rows = place.qkv + rows_from(token, size.tokens, size.qkv_pitch);
    own.q = qkv_strip(own.rows, place.column, size.depth);
    own.largest = vec4<f32>(LOWEST);
    return own;
}

fn attend(size: Size, place: Place, own: Gathered, key: u32) -> Gathered {
    let rows = place.qkv + size.part_step + rows_from(key, size.tokens, size.qkv_pitch);
    let v = qkv_strip(rows + size.part_step, place.column, size.depth);
    var s = dots(qkv_strip(rows, place.column, size.depth), own.q);
    for (var quad = CHUNK; quad < CHUNK * CHUNKS; quad += 1u) {
        let column = other_column(place.column, quad);
        s += transpose(qkv_tile(rows, column, size.depth)) * qkv_tile(own.rows, column, size.depth);
    }
    s = masked_scores(s, size.scale, exists(key, size.tokens));
    let t = transpose(s);
    var next = own;
    next.largest = max(own.largest, max(max(t[0], t[1]), max(t[2], t[3])));
    let keep = exp(own.largest - next.largest);
    let p = exp_columns(s, next.largest);
    next.total = own.total * keep + vec4<f32>(1.0) * p;
    next.sum = add_weighted(scale_strip(own.sum, keep), v, p);
    return next;
}

fn store_out(row: u32, column: u32, depth: u32, value: vec4<f32>) {
    for (var lane = 0u; lane < 4u && column + lane < depth; lane += 1u) {
        attended[row + column + lane] = value[lane];
    }
}

fn close(size: Size, place: Place, own: Gathered, token: u32) {
    let rows = place.out + rows_from(token, size.tokens, size.out_pitch);
    let sum = scale_strip(own.sum, 1.0 / own.total);
    for (var quad = 0u; quad < min(CHUNK, HEAD_QUADS); quad += 1u) {
        let tile = tile_of(sum, quad);
        let column = place.column + 4u * quad;
        if token < size.tokens { store_out(rows.x, column, size.depth, tile[0]); }
        if token + 1u < size.tokens { store_out(rows.y, column, size.depth, tile[1]); }
        if token + 2u < size.tokens { store_out(rows.z, column, size.depth, tile[2]); }
        if token + 3u < size.tokens { store_out(rows.w, column, size.depth, tile[3]); }
    }
    if place.column == 0u && token < size.tokens {
        let log_sum = select(vec4<f32>(0.0), own.largest + log(own.total), exists(token, size.tokens));
        for (var i = 0u; i < 4u; i += 1u) {
            log_sums[place.row + token + i] = log_sum[i];
        }
        // The last head also zeroes the pad lanes of its tokens' rows.
        for (var i = 0u; i < 4u && place.head + 1u == size.heads; i += 1u) {
            for (var c = size.depth; c < size.out_pitch - place.head * size.depth; c += 1u) {
                attended[rows[i] + c] = 0.0;
            }
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
    if place.image >= size.batch { return; }
    var a = open(size, place, place.token);
    var b: Gathered;
    if WIDE { b = open(size, place, place.token + 4u); }
    for (var key = 0u; key < size.tokens; key += 4u) {
        a = attend(size, place, a, key);
        if WIDE { b = attend(size, place, b, key); }
    }
    close(size, place, a, place.token);
    if WIDE { close(size, place, b, place.token + 4u); }
}

// Four queries of the gradient.
struct Queries {
    rows: vec4<u32>,
    out_rows: vec4<u32>,
    q: Strip,
    d: Strip,
    lse: vec4<f32>,
    delta: vec4<f32>,
}

// All of four queries but delta.
fn load_queries(size: Size, place: Place, token: u32) -> Queries {
    var queries: Queries;
    queries.rows = place.qkv + rows_from(token, size.tokens, size.qkv_pitch);
    queries.out_rows = place.out + rows_from(token, size.tokens, size.out_pitch);
    queries.q = qkv_strip(queries.rows, place.column, size.depth);
    queries.d = dout_strip(queries.out_rows, place.column, size.depth);
    queries.lse = lse[(place.row + min(token, size.lse_pitch - 4u)) / 4u];
    return queries;
}

// delta = dout . out over the whole head.
fn load_own_queries(size: Size, place: Place, token: u32) -> Queries {
    var own = load_queries(size, place, token);
    for (var column = 0u; column < 4u * HEAD_QUADS; column += 4u) {
        let d = dout_tile(own.out_rows, column, size.depth);
        let o = out_tile(own.out_rows, column, size.depth);
        own.delta += vec4<f32>(dot(d[0], o[0]), dot(d[1], o[1]), dot(d[2], o[2]), dot(d[3], o[3]));
    }
    return own;
}

// Adds four keys' part to `sum`: ds * k.
fn add_keys(size: Size, place: Place, own: Queries, sum: Strip, key: u32) -> Strip {
    let rows = place.qkv + size.part_step + rows_from(key, size.tokens, size.qkv_pitch);
    let k = qkv_strip(rows, place.column, size.depth);
    let v = qkv_strip(rows + size.part_step, place.column, size.depth);
    var s = dots(k, own.q);
    var dp = dots(v, own.d);
    for (var quad = CHUNK; quad < CHUNK * CHUNKS; quad += 1u) {
        let column = other_column(place.column, quad);
        s += transpose(qkv_tile(rows, column, size.depth)) * qkv_tile(own.rows, column, size.depth);
        let other_v = qkv_tile(rows + size.part_step, column, size.depth);
        dp += transpose(other_v) * dout_tile(own.out_rows, column, size.depth);
    }
    let p = exp_columns(masked_scores(s, size.scale, exists(key, size.tokens)), own.lse);
    let ds = mat4x4<f32>(
        p[0] * (dp[0] - own.delta.x), p[1] * (dp[1] - own.delta.y),
        p[2] * (dp[2] - own.delta.z), p[3] * (dp[3] - own.delta.w),
    );
    return add_weighted(sum, k, ds);
}

fn store_query_gradient(size: Size, place: Place, own: Queries, sum: Strip, token: u32) {
    let dq = scale_strip(sum, vec4<f32>(size.scale));
    store_strip(size, place, token, own.rows, dq);
    if place.column == 0u && token < size.tokens {
        let row_dot = select(vec4<f32>(0.0), own.delta, exists(token, size.tokens));
        for (var i = 0u; i < 4u; i += 1u) {
            row_dots[place.row + token + i] = row_dot[i];
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
    if place.image >= size.batch { return; }
    let a = load_own_queries(size, place, place.token);
    var b: Queries;
    if WIDE { b = load_own_queries(size, place, place.token + 4u); }
    var sum_a: Strip;
    var sum_b: Strip;
    for (var key = 0u; key < size.tokens; key += 4u) {
        sum_a = add_keys(size, place, a, sum_a, key);
        if WIDE { sum_b = add_keys(size, place, b, sum_b, key); }
    }
    store_query_gradient(size, place, a, sum_a, place.token);
    if WIDE { store_query_gradient(size, place, b, sum_b, place.token + 4u); }
}

// Four keys and their gradients so far.
struct KeyGradient {
    rows: vec4<u32>,
    k: Strip,
    v: Strip,
    sum_k: Strip,
    sum_v: Strip,
}

fn load_keys(size: Size, place: Place, token: u32) -> KeyGradient {
    var own: KeyGradient;
    own.rows = place.qkv + size.part_step + rows_from(token, size.tokens, size.qkv_pitch);
    own.k = qkv_strip(own.rows, place.column, size.depth);
    own.v = qkv_strip(own.rows + size.part_step, place.column, size.depth);
    return own;
}

fn add_queries(size: Size, place: Place, own: KeyGradient, other: Queries, query: u32) -> KeyGradient {
    var s = dots(other.q, own.k);
    var dp = dots(other.d, own.v);
    for (var quad = CHUNK; quad < CHUNK * CHUNKS; quad += 1u) {
        let column = other_column(place.column, quad);
        s += transpose(qkv_tile(other.rows, column, size.depth)) * qkv_tile(own.rows, column, size.depth);
        let own_v = qkv_tile(own.rows + size.part_step, column, size.depth);
        dp += transpose(dout_tile(other.out_rows, column, size.depth)) * own_v;
    }
    s = masked_scores(s, size.scale, exists(query, size.tokens));
    let l = other.lse;
    let p = mat4x4<f32>(exp(s[0] - l), exp(s[1] - l), exp(s[2] - l), exp(s[3] - l));
    let ds = mat4x4<f32>(
        p[0] * (dp[0] - other.delta), p[1] * (dp[1] - other.delta),
        p[2] * (dp[2] - other.delta), p[3] * (dp[3] - other.delta),
    );
    var next = own;
    next.sum_k = add_weighted(own.sum_k, other.q, ds);
    next.sum_v = add_weighted(own.sum_v, other.d, p);
    return next;
}

fn store_key_gradient(size: Size, place: Place, own: KeyGradient, token: u32) {
    let dk = scale_strip(own.sum_k, vec4<f32>(size.scale));
    store_strip(size, place, token, own.rows, dk);
    store_strip(size, place, token, own.rows + size.part_step, own.sum_v);
    // The last head also zeroes the pad lanes of its tokens' rows: its v ends where they begin.
    let pads = size.qkv_pitch - 3u * size.heads * size.depth;
    for (var i = 0u; i < 4u && place.column == 0u && place.head + 1u == size.heads; i += 1u) {
        for (var c = 0u; c < pads; c += 1u) {
            dqkv[own.rows[i] + size.part_step + size.depth + c] = 0.0;
        }
    }
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
    if place.image >= size.batch { return; }
    var a = load_keys(size, place, place.token);
    var b: KeyGradient;
    if WIDE { b = load_keys(size, place, place.token + 4u); }
    for (var query = 0u; query < size.tokens; query += 4u) {
        var other = load_queries(size, place, query);
        other.delta = delta[(place.row + query) / 4u];
        a = add_queries(size, place, a, other, query);
        if WIDE { b = add_queries(size, place, b, other, query); }
    }
    store_key_gradient(size, place, a, place.token);
    if WIDE { store_key_gradient(size, place, b, place.token + 4u); }
}
