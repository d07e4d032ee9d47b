// Multi-head softmax attention and its gradient in tiles of workgroup memory: for devices with fast barriers.
//
// s_ij = d^-1/2 * q_i . k_j, lse_i = log sum_j exp s_ij, p_ij = exp(s_ij - lse_i), out_i = sum_j p_ij * v_j.
// dp_ij = dout_i . v_j, delta_i = dout_i . out_i, ds_ij = p_ij * (dp_ij - delta_i);
// dq_i = d^-1/2 * sum_j ds_ij * k_j, dk_j = d^-1/2 * sum_i ds_ij * q_i, dv_j = sum_i p_ij * dout_i.
// qkv, dqkv: [N, T, 3C]; out, dout: [N, T, C]; lse, delta: [N, heads, T]. A head's q, k and v each take d columns.
// HEAD_QUADS: ceil(d / 4); ALIGNED: d is a multiple of 4.
// A workgroup computes 64 columns of 32 tokens of one head; it streams over all tokens, 32 at a time, and over the head's
// columns, 32 at a time. An invocation makes a 4 x 4 tile of every product: own tokens `slot + 8i`; scores with streamed
// tokens `group + 8j`, a vec4 per own token; results in the quad `group` of each 32 columns.

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
// Of 32 columns.
override CHUNKS: u32 = (HEAD_QUADS + 7u) / 8u;
override BLOCKS: u32 = (CHUNKS + 1u) / 2u;
const WG: u32 = 64u;
const TILE: u32 = 32u;
const LANES: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);
const STEPS: vec4<u32> = vec4<u32>(0u, 8u, 16u, 24u);
const LOWEST: f32 = -3.4028234663852886e38;

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
// forward
@group(0) @binding(1) var<storage, read_write> attended: array<f32>;
@group(0) @binding(2) var<storage, read_write> log_sums: array<f32>;
@group(0) @binding(3) var<uniform> forward_size: Size;
// grad_query and grad_key_value
@group(0) @binding(1) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<f32>;
// grad_query
@group(0) @binding(3) var<storage, read> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> row_dots: array<f32>;
@group(0) @binding(6) var<uniform> query_size: Size;
// grad_key_value
@group(0) @binding(3) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<uniform> key_size: Size;

// [quad][i][slot] of own tokens, then the weights of streamed tokens: [group][i][slot], a vec4 over j.
var<workgroup> own_tile: array<array<array<array<vec4<f32>, 8>, 4>, 4>, 2>;
// Streamed tokens: for scores [quad][j][group], for results [group][j][quad]; between them, sums over the groups.
var<workgroup> streamed_tile: array<array<array<array<vec4<f32>, 8>, 4>, 4>, 2>;

// What a workgroup computes: its first token and chunk, and where the head's columns begin: of q in the image's first row
// of qkv, in its first row of out, and the head's row of lse.
struct Place {
    image: u32,
    head: u32,
    token: u32,
    chunk: u32,
    qkv: u32,
    out: u32,
    row: u32,
}

fn locate(size: Size, index: u32) -> Place {
    let tiles = (size.tokens + TILE - 1u) / TILE;
    let rest = index / BLOCKS / tiles;
    var place: Place;
    place.image = rest / size.heads;
    place.head = rest % size.heads;
    place.token = index / BLOCKS % tiles * TILE;
    place.chunk = index % BLOCKS * 2u;
    place.qkv = place.image * size.tokens * size.qkv_pitch + place.head * size.head_step;
    place.out = place.image * size.tokens * size.out_pitch + place.head * size.depth;
    place.row = rest * size.lse_pitch;
    return place;
}

// Four tokens eight apart; tokens beyond the last repeat it.
fn tokens_from(token: u32, tokens: u32) -> vec4<u32> {
    return min(STEPS + token, vec4<u32>(tokens - 1u));
}

// Columns from `column` on of a head, zero beyond its depth, out of the two vec4s they straddle where not aligned.
fn in_head(low: vec4<f32>, high: vec4<f32>, word: u32, column: u32, depth: u32) -> vec4<f32> {
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

fn dout_tile(rows: vec4<u32>, column: u32, depth: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        dout_quad(rows.x, column, depth), dout_quad(rows.y, column, depth),
        dout_quad(rows.z, column, depth), dout_quad(rows.w, column, depth),
    );
}

fn fill_own(at: u32, slot: u32, tile: mat4x4<f32>) {
    own_tile[at / 4u][at % 4u][0][slot] = tile[0];
    own_tile[at / 4u][at % 4u][1][slot] = tile[1];
    own_tile[at / 4u][at % 4u][2][slot] = tile[2];
    own_tile[at / 4u][at % 4u][3][slot] = tile[3];
}

fn fill_streamed(at: u32, slot: u32, tile: mat4x4<f32>) {
    streamed_tile[at / 4u][at % 4u][0][slot] = tile[0];
    streamed_tile[at / 4u][at % 4u][1][slot] = tile[1];
    streamed_tile[at / 4u][at % 4u][2][slot] = tile[2];
    streamed_tile[at / 4u][at % 4u][3][slot] = tile[3];
}

// sum + a * m, in an order that fuses.
fn add(sum: vec4<f32>, a: vec4<f32>, m: mat4x4<f32>) -> vec4<f32> {
    return (((sum + a.x * m[0]) + a.y * m[1]) + a.z * m[2]) + a.w * m[3];
}

// Products with one quad of terms, four own tokens times `m`.
fn add_own(sum: mat4x4<f32>, half: u32, at: u32, slot: u32, m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        add(sum[0], own_tile[half][at][0][slot], m), add(sum[1], own_tile[half][at][1][slot], m),
        add(sum[2], own_tile[half][at][2][slot], m), add(sum[3], own_tile[half][at][3][slot], m),
    );
}

fn streamed(half: u32, at: u32, slot: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        streamed_tile[half][at][0][slot], streamed_tile[half][at][1][slot],
        streamed_tile[half][at][2][slot], streamed_tile[half][at][3][slot],
    );
}

// Dot products over one chunk, half of it spelled out: each turn of a loop costs a counter and clamps.
fn add_scores(sum: mat4x4<f32>, local: u32) -> mat4x4<f32> {
    let slot = local % 8u;
    let group = local / 8u;
    var s = sum;
    for (var half = 0u; half < select(1u, 2u, HEAD_QUADS > 4u); half += 1u) {
        s = add_own(s, half, 0u, slot, transpose(streamed(half, 0u, group)));
        if HEAD_QUADS > 1u { s = add_own(s, half, 1u, slot, transpose(streamed(half, 1u, group))); }
        if HEAD_QUADS > 2u { s = add_own(s, half, 2u, slot, transpose(streamed(half, 2u, group))); }
        if HEAD_QUADS > 3u { s = add_own(s, half, 3u, slot, transpose(streamed(half, 3u, group))); }
    }
    return s;
}

// Adds the streamed tokens' quads by their weights; ends with the tiles free again.
fn add_weighted(sum: mat4x4<f32>, quads: mat4x4<f32>, local: u32) -> mat4x4<f32> {
    let slot = local % 8u;
    let group = local / 8u;
    fill_streamed(group, slot, quads);
    workgroupBarrier();
    var s = sum;
    for (var half = 0u; half < 2u; half += 1u) {
        s = add_own(s, half, 0u, slot, streamed(half, 0u, group));
        s = add_own(s, half, 1u, slot, streamed(half, 1u, group));
        s = add_own(s, half, 2u, slot, streamed(half, 2u, group));
        s = add_own(s, half, 3u, slot, streamed(half, 3u, group));
    }
    workgroupBarrier();
    return s;
}

// q . k of own and streamed tokens' rows, or k . q; ends with the tiles free again.
fn scores(own: vec4<u32>, other: vec4<u32>, depth: u32, local: u32) -> mat4x4<f32> {
    var s: mat4x4<f32>;
    for (var chunk = 0u; chunk < CHUNKS; chunk += 1u) {
        let column = chunk * TILE + local / 8u * 4u;
        fill_own(local / 8u, local % 8u, qkv_tile(own, column, depth));
        fill_streamed(local / 8u, local % 8u, qkv_tile(other, column, depth));
        workgroupBarrier();
        s = add_scores(s, local);
        workgroupBarrier();
    }
    return s;
}

// Scaled scores; those with streamed tokens that do not exist vanish from every maximum and sum.
fn masked(s: mat4x4<f32>, scale: f32, token: u32, tokens: u32) -> mat4x4<f32> {
    let valid = STEPS + token < vec4<u32>(tokens);
    let low = vec4<f32>(LOWEST);
    return mat4x4<f32>(
        select(low, s[0] * scale, valid), select(low, s[1] * scale, valid),
        select(low, s[2] * scale, valid), select(low, s[3] * scale, valid),
    );
}

// exp(s - shift), one shift per own token.
fn exp_own(s: mat4x4<f32>, shift: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(exp(s[0] - shift.x), exp(s[1] - shift.y), exp(s[2] - shift.z), exp(s[3] - shift.w));
}

fn scaled(m: mat4x4<f32>, f: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(m[0] * f.x, m[1] * f.y, m[2] * f.z, m[3] * f.w);
}

// Lets the eight groups see each other's figures of four own tokens.
fn share(value: vec4<f32>, local: u32) {
    streamed_tile[local / 32u][local / 8u % 4u][0][local % 8u] = value;
    workgroupBarrier();
}

fn shared_sum(slot: u32) -> vec4<f32> {
    return ((streamed_tile[0][0][0][slot] + streamed_tile[0][1][0][slot])
        + (streamed_tile[0][2][0][slot] + streamed_tile[0][3][0][slot]))
        + ((streamed_tile[1][0][0][slot] + streamed_tile[1][1][0][slot])
        + (streamed_tile[1][2][0][slot] + streamed_tile[1][3][0][slot]));
}

fn shared_max(slot: u32) -> vec4<f32> {
    return max(
        max(max(streamed_tile[0][0][0][slot], streamed_tile[0][1][0][slot]),
            max(streamed_tile[0][2][0][slot], streamed_tile[0][3][0][slot])),
        max(max(streamed_tile[1][0][0][slot], streamed_tile[1][1][0][slot]),
            max(streamed_tile[1][2][0][slot], streamed_tile[1][3][0][slot])),
    );
}

fn store_out(size: Size, place: Place, chunk: u32, local: u32, m: mat4x4<f32>) {
    let column = chunk * TILE + local / 8u * 4u;
    for (var i = 0u; i < 4u; i += 1u) {
        let token = place.token + local % 8u + 8u * i;
        let at = place.out + token * size.out_pitch + column;
        for (var lane = 0u; lane < 4u && token < size.tokens && column + lane < size.depth; lane += 1u) {
            attended[at + lane] = m[i][lane];
        }
        // The last head also zeroes the pad lanes of its tokens' rows.
        let pads = size.out_pitch - size.heads * size.depth;
        for (var c = 0u; c < pads && column == 0u && token < size.tokens && place.head + 1u == size.heads; c += 1u) {
            attended[at + size.depth + c] = 0.0;
        }
    }
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let size = forward_size;
    let place = locate(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    if place.image >= size.batch { return; }
    let slot = local % 8u;
    let group = local / 8u;
    let own = place.qkv + tokens_from(place.token + slot, size.tokens) * size.qkv_pitch;
    let column = place.chunk * TILE + 4u * slot;
    let keys = place.qkv + size.part_step;
    var sum0: mat4x4<f32>;
    var sum1: mat4x4<f32>;
    var largest = vec4<f32>(LOWEST);
    var total = vec4<f32>(0.0);
    for (var key = 0u; key < size.tokens; key += TILE) {
        let rows = keys + tokens_from(key + slot, size.tokens) * size.qkv_pitch;
        let values = keys + size.part_step + tokens_from(key + group, size.tokens) * size.qkv_pitch;
        let s = masked(scores(own, rows, size.depth, local), size.scale, key + group, size.tokens);
        let t = transpose(s);
        share(max(max(t[0], t[1]), max(t[2], t[3])), local);
        let next = max(largest, shared_max(slot));
        let keep = exp(largest - next);
        largest = next;
        let p = exp_own(s, next);
        total = total * keep + vec4<f32>(1.0) * p;
        fill_own(group, slot, p);
        workgroupBarrier();
        sum0 = add_weighted(scaled(sum0, keep), qkv_tile(values, column, size.depth), local);
        if CHUNKS > 1u {
            sum1 = add_weighted(scaled(sum1, keep), qkv_tile(values, column + TILE, size.depth), local);
        }
    }
    share(total, local);
    total = shared_sum(slot);
    store_out(size, place, place.chunk, local, scaled(sum0, 1.0 / total));
    if CHUNKS > 1u { store_out(size, place, place.chunk + 1u, local, scaled(sum1, 1.0 / total)); }
    if group == 0u && place.chunk == 0u {
        let log_sum = largest + log(total);
        for (var i = 0u; i < 4u; i += 1u) {
            let token = place.token + slot + 8u * i;
            if token < size.lse_pitch {
                log_sums[place.row + token] = select(0.0, log_sum[i], token < size.tokens);
            }
        }
    }
}

fn lse_of(row: u32, tokens: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(lse[row + tokens.x], lse[row + tokens.y], lse[row + tokens.z], lse[row + tokens.w]);
}

// Results of four own tokens into the columns from `start` on of their rows of dqkv.
fn store_gradient(size: Size, place: Place, start: u32, chunk: u32, local: u32, m: mat4x4<f32>) {
    let column = chunk * TILE + local / 8u * 4u;
    for (var i = 0u; i < 4u; i += 1u) {
        let token = place.token + local % 8u + 8u * i;
        let at = start + token * size.qkv_pitch + column;
        for (var lane = 0u; lane < 4u && token < size.tokens && column + lane < size.depth; lane += 1u) {
            dqkv[at + lane] = m[i][lane];
        }
    }
}

// dq, and delta for `grad_key_value`, which runs after it.
@compute @workgroup_size(WG)
fn grad_query(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let size = query_size;
    let place = locate(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    if place.image >= size.batch { return; }
    let slot = local % 8u;
    let group = local / 8u;
    let tokens = tokens_from(place.token + slot, size.tokens);
    let own = place.qkv + tokens * size.qkv_pitch;
    let own_out = place.out + tokens * size.out_pitch;
    let own_lse = lse_of(place.row, tokens);
    var own_delta = vec4<f32>(0.0);
    for (var c = 4u * group; c < size.depth; c += TILE) {
        let d = dout_tile(own_out, c, size.depth);
        own_delta += vec4<f32>(
            dot(d[0], out_quad(own_out.x, c, size.depth)), dot(d[1], out_quad(own_out.y, c, size.depth)),
            dot(d[2], out_quad(own_out.z, c, size.depth)), dot(d[3], out_quad(own_out.w, c, size.depth)),
        );
    }
    share(own_delta, local);
    own_delta = shared_sum(slot);
    workgroupBarrier();
    let column = place.chunk * TILE + 4u * slot;
    let keys = place.qkv + size.part_step;
    var sum0: mat4x4<f32>;
    var sum1: mat4x4<f32>;
    for (var key = 0u; key < size.tokens; key += TILE) {
        let rows = keys + tokens_from(key + slot, size.tokens) * size.qkv_pitch;
        let values = keys + tokens_from(key + group, size.tokens) * size.qkv_pitch;
        let s = masked(scores(own, rows, size.depth, local), size.scale, key + group, size.tokens);
        let p = exp_own(s, own_lse);
        // dout . v.
        var dp = mat4x4<f32>();
        for (var chunk = 0u; chunk < CHUNKS; chunk += 1u) {
            let c = chunk * TILE + 4u * group;
            fill_own(group, slot, dout_tile(own_out, c, size.depth));
            fill_streamed(group, slot, qkv_tile(rows + size.part_step, c, size.depth));
            workgroupBarrier();
            dp = add_scores(dp, local);
            workgroupBarrier();
        }
        let ds = mat4x4<f32>(
            p[0] * (dp[0] - own_delta.x), p[1] * (dp[1] - own_delta.y),
            p[2] * (dp[2] - own_delta.z), p[3] * (dp[3] - own_delta.w),
        );
        fill_own(group, slot, ds);
        sum0 = add_weighted(sum0, qkv_tile(values, column, size.depth), local);
        if CHUNKS > 1u { sum1 = add_weighted(sum1, qkv_tile(values, column + TILE, size.depth), local); }
    }
    let scale = vec4<f32>(size.scale);
    store_gradient(size, place, place.qkv, place.chunk, local, scaled(sum0, scale));
    if CHUNKS > 1u { store_gradient(size, place, place.qkv, place.chunk + 1u, local, scaled(sum1, scale)); }
    if group == 0u && place.chunk == 0u {
        for (var i = 0u; i < 4u; i += 1u) {
            let token = place.token + slot + 8u * i;
            if token < size.lse_pitch {
                row_dots[place.row + token] = select(0.0, own_delta[i], token < size.tokens);
            }
        }
    }
}

// dk and dv: the own tokens are keys, the streamed ones queries.
@compute @workgroup_size(WG)
fn grad_key_value(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let size = key_size;
    let place = locate(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    if place.image >= size.batch { return; }
    let slot = local % 8u;
    let group = local / 8u;
    let keys = place.qkv + size.part_step;
    let own = keys + tokens_from(place.token + slot, size.tokens) * size.qkv_pitch;
    let column = place.chunk * TILE + 4u * slot;
    var key0: mat4x4<f32>;
    var key1: mat4x4<f32>;
    var value0: mat4x4<f32>;
    var value1: mat4x4<f32>;
    for (var query = 0u; query < size.tokens; query += TILE) {
        let by_slot = tokens_from(query + slot, size.tokens);
        let by_group = tokens_from(query + group, size.tokens);
        let rows = place.qkv + by_slot * size.qkv_pitch;
        let s = masked(scores(own, rows, size.depth, local), size.scale, query + group, size.tokens);
        let l = lse_of(place.row, by_group);
        let p = mat4x4<f32>(exp(s[0] - l), exp(s[1] - l), exp(s[2] - l), exp(s[3] - l));
        // v . dout.
        var dp = mat4x4<f32>();
        for (var chunk = 0u; chunk < CHUNKS; chunk += 1u) {
            let c = chunk * TILE + 4u * group;
            fill_own(group, slot, qkv_tile(own + size.part_step, c, size.depth));
            fill_streamed(group, slot, dout_tile(place.out + by_slot * size.out_pitch, c, size.depth));
            workgroupBarrier();
            dp = add_scores(dp, local);
            workgroupBarrier();
        }
        let r = place.row + by_group;
        let e = vec4<f32>(delta[r.x], delta[r.y], delta[r.z], delta[r.w]);
        let ds = mat4x4<f32>(p[0] * (dp[0] - e), p[1] * (dp[1] - e), p[2] * (dp[2] - e), p[3] * (dp[3] - e));
        fill_own(group, slot, p);
        let dout_rows = place.out + by_group * size.out_pitch;
        value0 = add_weighted(value0, dout_tile(dout_rows, column, size.depth), local);
        if CHUNKS > 1u { value1 = add_weighted(value1, dout_tile(dout_rows, column + TILE, size.depth), local); }
        fill_own(group, slot, ds);
        let query_rows = place.qkv + by_group * size.qkv_pitch;
        key0 = add_weighted(key0, qkv_tile(query_rows, column, size.depth), local);
        if CHUNKS > 1u { key1 = add_weighted(key1, qkv_tile(query_rows, column + TILE, size.depth), local); }
    }
    let scale = vec4<f32>(size.scale);
    store_gradient(size, place, keys, place.chunk, local, scaled(key0, scale));
    store_gradient(size, place, keys + size.part_step, place.chunk, local, value0);
    if CHUNKS > 1u {
        store_gradient(size, place, keys, place.chunk + 1u, local, scaled(key1, scale));
        store_gradient(size, place, keys + size.part_step, place.chunk + 1u, local, value1);
    }
    // The last head also zeroes the pad lanes of its tokens' rows: its v ends where they begin.
    let pads = size.qkv_pitch - 3u * size.heads * size.depth;
    for (var i = 0u; i < 4u && group == 0u && place.chunk == 0u && place.head + 1u == size.heads; i += 1u) {
        let token = place.token + slot + 8u * i;
        for (var c = 0u; c < pads && token < size.tokens; c += 1u) {
            dqkv[keys + size.part_step + token * size.qkv_pitch + size.depth + c] = 0.0;
        }
    }
}
