// Random numbers by Philox4x32-10 counters: standard normal noise, and dropout.
//
// philox(counter = (block, row, step, stream), key = seed) gives four words; they serve four consecutive elements of a
// row. Normal numbers by Box and Muller: sqrt(-2 ln u1) * (cos, sin)(2 pi u2), u1 in (0, 1), u2 in [0, 1), 24 bits each.
//   run:  [4] seed low, seed high, step, first row
//   normal   y: [rows, pixels, pitch(channels)], element = channel * pixels + pixel whatever the layout; of kind 2 the run is
//            [rows, 4], and the last word of each is its row
//   dropout  y: [rows, row_quads] = x * scale where the element's word >= threshold, else 0
// An invocation writes one vec4.
// Every number equals that of src/rng.rs bit for bit (Salmon et al. 2011 for the integers), so that noise is the same wherever it is
// drawn. WGSL lets drivers' own logarithm, sine, cosine and root be off by 1e-6: they are written out here. It also lets drivers round
// a product and the sum it goes into once instead of twice, and sum in another order: `rounded` stands in between.

override WG: u32;

struct Size {
    // Rows of `row_quads` vec4: samples.
    rows: u32,
    row_quads: u32,
    stream: u32,
    // normal: 0, or 2 with a run of each row, with pixels and channels; dropout: 1, with threshold and scale.
    kind: u32,
    threshold: u32,
    scale: f32,
    pixels: u32,
    channels: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;
alias Y = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> run: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Y>;
@group(0) @binding(3) var<uniform> size: Size;

/// Low and high word of a * b, from 16-bit halves: WGSL has no 64-bit integers.
fn mul_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let carry = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (middle >> 16u) + (carry >> 16u));
}

fn philox4x32(start: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var counter = start;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let a = mul_wide(counter.x, 0xD2511F53u);
        let b = mul_wide(counter.z, 0xCD9E8D57u);
        counter = vec4<u32>(b.y ^ counter.y ^ key.x, b.x, a.y ^ counter.w ^ key.y, a.x);
        key = vec2<u32>(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
    return counter;
}

fn unit(word: u32) -> f32 {
    return f32(word >> 8u) * 5.9604644775390625e-8;
}

/// The value as it was rounded. `kind` is below 4, which no compiler knows: this is where it stops to rearrange.
fn rounded(value: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(value) ^ (size.kind >> 2u));
}

/// ln u of a normal number u above zero: u = m * 2^e with m from sqrt(1/2) to sqrt(2), and a polynomial in m - 1 (Cephes' logf).
fn natural_log(u: f32) -> f32 {
    let exponent = (bitcast<i32>(u) - 0x3f3504f3i) >> 23u;
    let e = f32(exponent);
    let f = rounded(bitcast<f32>(bitcast<i32>(u) - (exponent << 23u)) - 1.0);
    let z = rounded(f * f);
    var p = rounded(7.0376836292e-2 * f) - 1.1514610310e-1;
    p = rounded(p * f) + 1.1676998740e-1;
    p = rounded(p * f) - 1.2420140846e-1;
    p = rounded(p * f) + 1.4249322787e-1;
    p = rounded(p * f) - 1.6668057665e-1;
    p = rounded(p * f) + 2.0000714765e-1;
    p = rounded(p * f) - 2.4999993993e-1;
    p = rounded(p * f) + 3.3333331174e-1;
    let rest = rounded(rounded(rounded(p * f) * z) - rounded(2.12194440e-4 * e));
    return rounded(f + rounded(rest - 0.5 * z)) + 0.693359375 * e;
}

/// Cosine and sine of 2 pi turns, turns in [0, 1): of the nearest quarter turn, and polynomials of what is left (Cephes' cosf, sinf).
fn on_circle(turns: f32) -> vec2<f32> {
    let quarters = floor(4.0 * turns + 0.5);
    let x = rounded(1.57079632679 * rounded(4.0 * turns - quarters));
    let z = rounded(x * x);
    var c = rounded(2.443315711809948e-5 * z) - 1.388731625493765e-3;
    c = rounded(c * z) + 4.166664568298827e-2;
    c = rounded(rounded(rounded(c * z) * z) - 0.5 * z) + 1.0;
    var s = rounded(-1.9515295891e-4 * z) + 8.3321608736e-3;
    s = rounded(s * z) - 1.6666654611e-1;
    s = rounded(rounded(s * z) * x) + x;
    let quarter = u32(quarters) & 3u;
    let turned = select(vec2<f32>(c, s), vec2<f32>(-s, c), (quarter & 1u) == 1u);
    return select(turned, -turned, quarter >= 2u);
}

/// The root of zero or a normal number, rounded to the nearest: the driver's, put right in whole numbers.
fn root(number: f32) -> f32 {
    // number = whole * 4^half with 47 or 48 bits of `whole`, its root near * 2^half with 24. The last 32 bits say how far near * near is
    // from it.
    let bits = bitcast<u32>(number);
    let odd = (bits >> 23u) & 1u;
    let half = (((bits >> 23u) + odd) >> 1u) - 87u;
    let whole = ((bits & 0x7fffffu) | 0x800000u) << (24u - odd);
    let inverse = inverseSqrt(number);
    let near = u32(number * inverse * bitcast<f32>((127u - half) << 23u));
    let apart = bitcast<i32>(whole - near * near);
    let step = i32(floor(f32(apart) * (inverse * bitcast<f32>((126u + half) << 23u)) + 0.5));
    let nearer = i32(near) + step;
    let rest = apart - step * (i32(2u * near) + step);
    let nearest = nearer + select(0, 1, rest > nearer) - select(0, 1, rest <= -nearer);
    return select(f32(nearest) * bitcast<f32>((127u + half) << 23u), number, number == 0.0);
}

/// One of the four normal numbers of a block.
fn normal_of(words: vec4<u32>, lane: u32) -> f32 {
    let first = select(words.z, words.x, lane < 2u);
    let second = select(words.w, words.y, lane < 2u);
    let radius = root(-2.0 * natural_log(unit(first) + 2.98023223876953125e-8));
    let place = on_circle(unit(second));
    return radius * select(place.y, place.x, (lane & 1u) == 0u);
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let row = index / size.row_quads;
    if (row >= size.rows) {
        return;
    }
    let place = index - row * size.row_quads;
    let at = select(0u, 4u * row, size.kind == 2u);
    let seed = vec2<u32>(run[at], run[at + 1u]);
    let step = run[at + 2u];
    let sample = run[at + 3u] + select(row, 0u, size.kind == 2u);
    if (size.kind == 1u) {
        let counter = vec4<u32>(place, sample, step, size.stream);
        let kept = philox4x32(counter, seed) >= vec4<u32>(size.threshold);
        y[index] = Y(select(vec4<f32>(0.0), vec4<f32>(x[index]) * size.scale, kept));
        return;
    }
    let quads = (size.channels + 3u) / 4u;
    let pixel = place / quads;
    let first = 4u * (place - pixel * quads);
    var value = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        let channel = first + lane;
        if (channel < size.channels) {
            let element = channel * size.pixels + pixel;
            let counter = vec4<u32>(element / 4u, sample, step, size.stream);
            value[lane] = normal_of(philox4x32(counter, seed), element & 3u);
        }
    }
    y[index] = Y(value);
}
