// Random numbers by Philox4x32-10 counters: standard normal noise, and dropout.
//
// philox(counter = (block, row, step, stream), key = seed) gives four words; they serve four consecutive elements of a
// row. Normal numbers by Box and Muller: sqrt(-2 ln u1) * (cos, sin)(2 pi u2), u1 in (0, 1), u2 in [0, 1), 24 bits each.
//   run:  [4] seed low, seed high, step, first row
//   normal   y: [rows, pixels, pitch(channels)], element = channel * pixels + pixel whatever the layout; of kind 2 the run is
//            [rows, 4], and the last word of each is its row
//   dropout  y: [rows, row_quads] = x * scale where the element's word >= threshold, else 0
// An invocation writes one vec4.
// The integers equal those of src/rng.rs bit for bit (Salmon et al. 2011).

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

/// One of the four normal numbers of a block.
fn normal_of(words: vec4<u32>, lane: u32) -> f32 {
    let first = select(words.z, words.x, lane < 2u);
    let second = select(words.w, words.y, lane < 2u);
    let radius = sqrt(-2.0 * log(unit(first) + 2.98023223876953125e-8));
    let angle = 6.283185307179586 * unit(second);
    return radius * select(sin(angle), cos(angle), (lane & 1u) == 0u);
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
    let place = index % size.row_quads;
    let at = select(0u, 4u * row, size.kind == 2u);
    let seed = vec2<u32>(run[at], run[at + 1u]);
    let step = run[at + 2u];
    let sample = run[at + 3u] + select(row, 0u, size.kind == 2u);
    if (size.kind == 1u) {
        let counter = vec4<u32>(place, sample, step, size.stream);
        let keep = philox4x32(counter, seed) >= vec4<u32>(size.threshold);
        y[index] = Y(select(vec4<f32>(0.0), vec4<f32>(x[index]) * size.scale, keep));
        return;
    }
    let quads = size.row_quads / size.pixels;
    let pixel = place / quads;
    var value = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        let channel = place % quads * 4u + lane;
        if (channel < size.channels) {
            let element = channel * size.pixels + pixel;
            let counter = vec4<u32>(element / 4u, sample, step, size.stream);
            value[lane] = normal_of(philox4x32(counter, seed), element & 3u);
        }
    }
    y[index] = Y(value);
}
