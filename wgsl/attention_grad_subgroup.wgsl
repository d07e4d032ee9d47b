// Gradient of attention, for CPUs that play a GPU; names are those of attention_subgroup.wgsl.
//
// dp_ij = dout_i . v_j, delta_i = dout_i . out_i, ds_ij = p_ij * (dp_ij - delta_i);
// dq_i = d^-1/2 * sum_j ds_ij * k_j, dk_j = d^-1/2 * sum_i ds_ij * q_i, dv_j = sum_i p_ij * dout_i.
// qkv, dqkv: [N, T, 3C]; out, dout: [N, T, C]; lse, delta: [N, heads, T]. A head's q, k and v each take d columns.
// HEAD_QUADS: ceil(d / 4); ALIGNED: d is a multiple of 4; WIDE: two blocks.
// One invocation computes one or two blocks of four tokens of one head, in its own 4 * CHUNK columns. It streams over
// all tokens; dot products also stream the head's other columns.
// A 4x4 tile is a matrix whose columns are tokens: the products of own tokens A and streamed ones B are transpose(A) * B, a column per
// streamed token. Of four tokens one is loaded after the other, in loops: loads are most of what some drivers have to compile.
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

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
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

// The same of one token.
struct Token {
    c0: vec4<f32>,
    c1: vec4<f32>,
    c2: vec4<f32>,
    c3: vec4<f32>,
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

// A strip with the token in the place of its `number`.
fn with_token(strip: Strip, number: u32, token: Token) -> Strip {
    var next = strip;
    next.c0 = with_column(strip.c0, number, token.c0);
    if HEAD_QUADS > 1u { next.c1 = with_column(strip.c1, number, token.c1); }
    if HEAD_QUADS > 2u { next.c2 = with_column(strip.c2, number, token.c2); }
    if HEAD_QUADS > 3u { next.c3 = with_column(strip.c3, number, token.c3); }
    return next;
}

fn qkv_token(row: u32, column: u32, depth: u32) -> Token {
    var token: Token;
    token.c0 = qkv_quad(row, column, depth);
    if HEAD_QUADS > 1u { token.c1 = qkv_quad(row, column + 4u, depth); }
    if HEAD_QUADS > 2u { token.c2 = qkv_quad(row, column + 8u, depth); }
    if HEAD_QUADS > 3u { token.c3 = qkv_quad(row, column + 12u, depth); }
    return token;
}

// The tokens from `first` on that exist, of rows of `pitch` from `base` on.
fn qkv_strip(base: u32, first: u32, tokens: u32, pitch: u32, column: u32, depth: u32) -> Strip {
    var strip: Strip;
    let end = min(first + 4u, tokens);
    for (var token = first; token < end; token += 1u) {
        strip = with_token(strip, token - first, qkv_token(base + token * pitch, column, depth));
    }
    return strip;
}

fn dout_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        dout_quad(rows.x, column, depth), dout_quad(rows.y, column, depth),
        dout_quad(rows.z, column, depth), dout_quad(rows.w, column, depth),
    );
}

fn dout_token(row: u32, column: u32, depth: u32) -> Token {
    var token: Token;
    token.c0 = dout_quad(row, column, depth);
    if HEAD_QUADS > 1u { token.c1 = dout_quad(row, column + 4u, depth); }
    if HEAD_QUADS > 2u { token.c2 = dout_quad(row, column + 8u, depth); }
    if HEAD_QUADS > 3u { token.c3 = dout_quad(row, column + 12u, depth); }
    return token;
}

fn dout_strip(base: u32, first: u32, tokens: u32, pitch: u32, column: u32, depth: u32) -> Strip {
    var strip: Strip;
    let end = min(first + 4u, tokens);
    for (var token = first; token < end; token += 1u) {
        strip = with_token(strip, token - first, dout_token(base + token * pitch, column, depth));
    }
    return strip;
}

// The own tokens' dot products with a streamed one, over the own columns.
fn dots(streamed: Token, own: Strip) -> vec4<f32> {
    var sum = streamed.c0 * own.c0;
    if HEAD_QUADS > 1u { sum += streamed.c1 * own.c1; }
    if HEAD_QUADS > 2u { sum += streamed.c2 * own.c2; }
    if HEAD_QUADS > 3u { sum += streamed.c3 * own.c3; }
    return sum;
}

fn add_outer(sum: mat4x4<f32>, v: vec4<f32>, w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sum[0] + v * w.x, sum[1] + v * w.y, sum[2] + v * w.z, sum[3] + v * w.w);
}

// Adds a streamed token to each token of `sum`, by its weight.
fn add_weighted(sum: Strip, streamed: Token, weights: vec4<f32>) -> Strip {
    var strip = sum;
    strip.c0 = add_outer(sum.c0, streamed.c0, weights);
    if HEAD_QUADS > 1u { strip.c1 = add_outer(sum.c1, streamed.c1, weights); }
    if HEAD_QUADS > 2u { strip.c2 = add_outer(sum.c2, streamed.c2, weights); }
    if HEAD_QUADS > 3u { strip.c3 = add_outer(sum.c3, streamed.c3, weights); }
    return strip;
}

fn with_column(m: mat4x4<f32>, number: u32, column: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        select(m[0], column, number == 0u), select(m[1], column, number == 1u),
        select(m[2], column, number == 2u), select(m[3], column, number == 3u),
    );
}

fn pick(i: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, i == 1u), select(c, d, i == 3u), i >= 2u);
}

fn column_of(m: mat4x4<f32>, number: u32) -> vec4<f32> {
    return pick(number, m[0], m[1], m[2], m[3]);
}

fn token_of(strip: Strip, number: u32) -> Token {
    return Token(
        column_of(strip.c0, number), column_of(strip.c1, number),
        column_of(strip.c2, number), column_of(strip.c3, number),
    );
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

// Stores the tokens from `first` on that exist, in rows of `pitch` from `base` on.
fn store_strip(place: Place, base: u32, first: u32, tokens: u32, pitch: u32, depth: u32, strip: Strip) {
    let end = min(first + 4u, tokens);
    let last_column = min(place.column + 4u * CHUNK, depth);
    for (var token = first; token < end; token += 1u) {
        let own = token_of(strip, token - first);
        for (var column = place.column; column < last_column; column += 1u) {
            let number = column - place.column;
            dqkv[base + token * pitch + column] = pick(number / 4u, own.c0, own.c1, own.c2, own.c3)[number % 4u];
        }
    }
}

// Scores over the other columns of a head: those of four streamed tokens, whose rows are given, with the own tokens.
fn other_scores(size: Size, place: Place, rows: vec4<u32>, own_rows: vec4<u32>) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    for (var quad = CHUNK; quad < CHUNK * CHUNKS; quad += 1u) {
        let column = other_column(place.column, quad);
        s += transpose(qkv_tile(own_rows, column, size.depth)) * qkv_tile(rows, column, size.depth);
    }
    return s;
}

// Four queries of the gradient, and dq so far.
struct Queries {
    q: Strip,
    d: Strip,
    lse: vec4<f32>,
    delta: vec4<f32>,
    sum: Strip,
    // Over the other columns, of the four keys at hand.
    s: mat4x4<f32>,
    dp: mat4x4<f32>,
}

fn load_queries(size: Size, place: Place, token: u32) -> Queries {
    var own: Queries;
    own.q = qkv_strip(place.qkv, token, size.tokens, size.qkv_pitch, place.column, size.depth);
    own.d = dout_strip(place.out, token, size.tokens, size.out_pitch, place.column, size.depth);
    own.lse = lse[(place.row + min(token, size.lse_pitch - 4u)) / 4u];
    // delta = dout . out over the whole head.
    let end = min(token + 4u, size.tokens);
    for (var one = token; one < end; one += 1u) {
        let row = place.out + one * size.out_pitch;
        var sum = 0.0;
        for (var at = row; at < row + size.depth; at += 4u) {
            sum += dot(dout_quad(row, at - row, size.depth), out_quad(row, at - row, size.depth));
        }
        own.delta = select(own.delta, vec4<f32>(sum), LANES == vec4<u32>(one - token));
    }
    return own;
}

// What the other columns of four keys add to the products.
fn with_other_columns(size: Size, place: Place, own: Queries, token: u32, key: u32) -> Queries {
    var next = own;
    let rows = place.qkv + size.part_step + rows_from(key, size.tokens, size.qkv_pitch);
    let own_rows = place.qkv + rows_from(token, size.tokens, size.qkv_pitch);
    let out_rows = place.out + rows_from(token, size.tokens, size.out_pitch);
    next.s = other_scores(size, place, rows, own_rows);
    next.dp = mat4x4<f32>();
    for (var quad = CHUNK; quad < CHUNK * CHUNKS; quad += 1u) {
        let column = other_column(place.column, quad);
        let other_v = qkv_tile(rows + size.part_step, column, size.depth);
        next.dp += transpose(dout_tile(out_rows, column, size.depth)) * other_v;
    }
    return next;
}

// Adds a key's part to the sum: ds * k.
fn add_key(size: Size, own: Queries, number: u32, k: Token, v: Token) -> Queries {
    var s = dots(k, own.q);
    var dp = dots(v, own.d);
    if CHUNKS > 1u {
        s += column_of(own.s, number);
        dp += column_of(own.dp, number);
    }
    var next = own;
    next.sum = add_weighted(own.sum, k, exp(s * size.scale - own.lse) * (dp - own.delta));
    return next;
}

fn store_query_gradient(size: Size, place: Place, own: Queries, token: u32) {
    let dq = scale_strip(own.sum, vec4<f32>(size.scale));
    store_strip(place, place.qkv, token, size.tokens, size.qkv_pitch, size.depth, dq);
    if place.column == 0u && token < size.tokens {
        for (var i = 0u; i < 4u; i += 1u) {
            row_dots[place.row + token + i] = own.delta[i];
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
    let token = place.token;
    var a = load_queries(size, place, token);
    var b: Queries;
    if WIDE { b = load_queries(size, place, token + 4u); }
    for (var key = 0u; key < size.tokens; key += 4u) {
        if CHUNKS > 1u {
            a = with_other_columns(size, place, a, token, key);
            if WIDE { b = with_other_columns(size, place, b, token + 4u, key); }
        }
        let end = min(key + 4u, size.tokens);
        for (var one = key; one < end; one += 1u) {
            let row = place.qkv + size.part_step + one * size.qkv_pitch;
            let k = qkv_token(row, place.column, size.depth);
            let v = qkv_token(row + size.part_step, place.column, size.depth);
            a = add_key(size, a, one - key, k, v);
            if WIDE { b = add_key(size, b, one - key, k, v); }
        }
    }
    store_query_gradient(size, place, a, token);
    if WIDE { store_query_gradient(size, place, b, token + 4u); }
}

// Four keys and their gradients so far.
struct KeyGradient {
    k: Strip,
    v: Strip,
    sum_k: Strip,
    sum_v: Strip,
    // Over the other columns, of the four queries at hand.
    s: mat4x4<f32>,
    dp: mat4x4<f32>,
}

fn load_keys(size: Size, place: Place, token: u32) -> KeyGradient {
    var own: KeyGradient;
    let base = place.qkv + size.part_step;
    own.k = qkv_strip(base, token, size.tokens, size.qkv_pitch, place.column, size.depth);
    own.v = qkv_strip(base + size.part_step, token, size.tokens, size.qkv_pitch, place.column, size.depth);
    return own;
}

// What the other columns of four queries add to the products.
fn with_other_queries(size: Size, place: Place, own: KeyGradient, token: u32, query: u32) -> KeyGradient {
    var next = own;
    let rows = place.qkv + rows_from(query, size.tokens, size.qkv_pitch);
    let out_rows = place.out + rows_from(query, size.tokens, size.out_pitch);
    let own_rows = place.qkv + size.part_step + rows_from(token, size.tokens, size.qkv_pitch);
    next.s = other_scores(size, place, rows, own_rows);
    next.dp = mat4x4<f32>();
    for (var quad = CHUNK; quad < CHUNK * CHUNKS; quad += 1u) {
        let column = other_column(place.column, quad);
        let own_v = qkv_tile(own_rows + size.part_step, column, size.depth);
        next.dp += transpose(own_v) * dout_tile(out_rows, column, size.depth);
    }
    return next;
}

// Adds a query's part: its lse and delta are given.
fn add_query(size: Size, own: KeyGradient, number: u32, q: Token, d: Token, log_sum: f32, row_dot: f32) -> KeyGradient {
    var s = dots(q, own.k);
    var dp = dots(d, own.v);
    if CHUNKS > 1u {
        s += column_of(own.s, number);
        dp += column_of(own.dp, number);
    }
    let p = exp(s * size.scale - log_sum);
    var next = own;
    next.sum_k = add_weighted(own.sum_k, q, p * (dp - row_dot));
    next.sum_v = add_weighted(own.sum_v, d, p);
    return next;
}

fn store_key_gradient(size: Size, place: Place, own: KeyGradient, first: u32) {
    let base = place.qkv + size.part_step;
    let dk = scale_strip(own.sum_k, vec4<f32>(size.scale));
    store_strip(place, base, first, size.tokens, size.qkv_pitch, size.depth, dk);
    store_strip(place, base + size.part_step, first, size.tokens, size.qkv_pitch, size.depth, own.sum_v);
    // The last head also zeroes the pad lanes of its tokens' rows: its v ends where they begin.
    if place.column == 0u && place.head + 1u == size.heads {
        let end = min(first + 4u, size.tokens);
        let pads = size.qkv_pitch - 3u * size.heads * size.depth;
        for (var token = first; token < end; token += 1u) {
            for (var c = 0u; c < pads; c += 1u) {
                dqkv[base + token * size.qkv_pitch + size.part_step + size.depth + c] = 0.0;
            }
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
    let token = place.token;
    var a = load_keys(size, place, token);
    var b: KeyGradient;
    if WIDE { b = load_keys(size, place, token + 4u); }
    for (var query = 0u; query < size.tokens; query += 4u) {
        if CHUNKS > 1u {
            a = with_other_queries(size, place, a, token, query);
            if WIDE { b = with_other_queries(size, place, b, token + 4u, query); }
        }
        let log_sums_here = lse[(place.row + query) / 4u];
        let row_dots_here = delta[(place.row + query) / 4u];
        let end = min(query + 4u, size.tokens);
        for (var one = query; one < end; one += 1u) {
            let number = one - query;
            let q = qkv_token(place.qkv + one * size.qkv_pitch, place.column, size.depth);
            let d = dout_token(place.out + one * size.out_pitch, place.column, size.depth);
            a = add_query(size, a, number, q, d, log_sums_here[number], row_dots_here[number]);
            if WIDE { b = add_query(size, b, number, q, d, log_sums_here[number], row_dots_here[number]); }
        }
    }
    store_key_gradient(size, place, a, token);
    if WIDE { store_key_gradient(size, place, b, token + 4u); }
}
