// Multi-head softmax attention over all pairs of tokens, without a tokens x tokens matrix, for CPUs that play a GPU;
// attention_grad_subgroup.wgsl is its gradient.
//
// s_ij = d^-1/2 * q_i . k_j, lse_i = log sum_j exp s_ij, p_ij = exp(s_ij - lse_i), out_i = sum_j p_ij * v_j.
// qkv: [N, T, 3C]; out: [N, T, C]; lse: [N, heads, T]. A head's q, k and v each take d columns.
// HEAD_QUADS: ceil(d / 4); ALIGNED: d is a multiple of 4; WIDE: two blocks.
// One invocation computes one or two blocks of four tokens of one head, in its own 4 * CHUNK columns. It streams over
// all tokens, four at a time, the maximum subtracted as it goes; dot products also stream the head's other columns.
// A 4x4 tile is a matrix whose columns are tokens: the scores of keys K and queries Q are transpose(Q) * K, a column per key. Of
// four tokens one is loaded after the other, in loops: loads are most of what some drivers have to compile.
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
const NO_SCORES: mat4x4<f32> = mat4x4<f32>(
    LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST,
    LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST,
);

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> attended: array<f32>;
@group(0) @binding(2) var<storage, read_write> log_sums: array<f32>;
@group(0) @binding(3) var<uniform> forward_size: Size;

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

// Four queries and what they have gathered so far: sum over the keys of exp(s - largest) times v, and its total.
struct Gathered {
    q: Strip,
    sum: Strip,
    largest: vec4<f32>,
    total: vec4<f32>,
    // Of the four keys at hand: scores, then shares; scores over the other columns.
    s: mat4x4<f32>,
    other: mat4x4<f32>,
}

fn open(size: Size, place: Place, token: u32) -> Gathered {
    var own: Gathered;
    own.q = qkv_strip(place.qkv, token, size.tokens, size.qkv_pitch, place.column, size.depth);
    own.largest = vec4<f32>(LOWEST);
    return own;
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

// A key's scores, the first `number` of four already known; those that are not, of keys that do not exist, vanish.
fn with_key(size: Size, own: Gathered, number: u32, k: Token) -> Gathered {
    var score = dots(k, own.q);
    if CHUNKS > 1u { score += column_of(own.other, number); }
    var next = own;
    next.s = with_column(own.s, number, score * size.scale);
    return next;
}

// What was gathered, scaled down to the largest score now, and the four keys' shares by it.
fn shared_out(own: Gathered) -> Gathered {
    let s = own.s;
    var next = own;
    next.largest = max(own.largest, max(max(s[0], s[1]), max(s[2], s[3])));
    let keep = exp(own.largest - next.largest);
    let l = next.largest;
    next.s = mat4x4<f32>(exp(s[0] - l), exp(s[1] - l), exp(s[2] - l), exp(s[3] - l));
    next.total = own.total * keep + next.s * vec4<f32>(1.0);
    next.sum = scale_strip(own.sum, keep);
    return next;
}

fn close(size: Size, place: Place, own: Gathered, first: u32) {
    let sum = scale_strip(own.sum, 1.0 / own.total);
    let end = min(first + 4u, size.tokens);
    let last_column = min(place.column + 4u * CHUNK, size.depth);
    for (var token = first; token < end; token += 1u) {
        let row = place.out + token * size.out_pitch;
        let out_token = token_of(sum, token - first);
        for (var column = place.column; column < last_column; column += 1u) {
            let number = column - place.column;
            let quad = pick(number / 4u, out_token.c0, out_token.c1, out_token.c2, out_token.c3);
            attended[row + column] = quad[number % 4u];
        }
        // The last head also zeroes the pad lanes of its tokens' rows.
        if place.column == 0u && place.head + 1u == size.heads {
            for (var c = size.depth; c < size.out_pitch - place.head * size.depth; c += 1u) {
                attended[row + c] = 0.0;
            }
        }
    }
    if place.column == 0u && first < size.tokens {
        let log_sum = select(vec4<f32>(0.0), own.largest + log(own.total), exists(first, size.tokens));
        for (var i = 0u; i < 4u; i += 1u) {
            log_sums[place.row + first + i] = log_sum[i];
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
    let token = place.token;
    var a = open(size, place, token);
    var b: Gathered;
    if WIDE { b = open(size, place, token + 4u); }
    for (var key = 0u; key < size.tokens; key += 4u) {
        let base = place.qkv + size.part_step;
        if CHUNKS > 1u {
            let rows = base + rows_from(key, size.tokens, size.qkv_pitch);
            a.other = other_scores(size, place, rows, place.qkv + rows_from(token, size.tokens, size.qkv_pitch));
            if WIDE {
                b.other = other_scores(size, place, rows, place.qkv + rows_from(token + 4u, size.tokens, size.qkv_pitch));
            }
        }
        a.s = NO_SCORES;
        b.s = NO_SCORES;
        let end = min(key + 4u, size.tokens);
        for (var one = key; one < end; one += 1u) {
            let k = qkv_token(base + one * size.qkv_pitch, place.column, size.depth);
            a = with_key(size, a, one - key, k);
            if WIDE { b = with_key(size, b, one - key, k); }
        }
        a = shared_out(a);
        if WIDE { b = shared_out(b); }
        for (var one = key; one < end; one += 1u) {
            let v = qkv_token(base + size.part_step + one * size.qkv_pitch, place.column, size.depth);
            a.sum = add_weighted(a.sum, v, column_of(a.s, one - key));
            if WIDE { b.sum = add_weighted(b.sum, v, column_of(b.s, one - key)); }
        }
    }
    close(size, place, a, token);
    if WIDE { close(size, place, b, token + 4u); }
}
