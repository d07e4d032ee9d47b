// One denoising step relative to a reference path whose every state is known: what guidance changed, where it changed it.
//
//   x_start  x0 = from_x * x + from_out * out + guide * g, clipped to -1..1 if asked for and finite: guided before the clip.
//            g is the gradient of the classifier's log probability on x
//   advance  x' = kept_before + m * (a * (x - kept) + b * (x0 - x0_kept)), where kept and kept_before are the reference's states at this
//            step and the next one towards the image, x0_kept its x_start, and m = (mean over the box of the largest |x0 -
//            x0_kept| over channels) > locality, times what the caller's mask allows
// Where x and x0 are the reference's, x' is the reference's bit for bit: neither noise nor a remainder is ever added.
// The box is (2 RADIUS + 1) pixels wide; outside the image nothing differs.
// Layouts: x, x0, out, g [batch, pixels, quads] vec4; kept, x0_kept rows of such images; coefficients [batch, 8] from_x,
// from_out, guide, a, b, locality, row of kept, row of x0_kept (kept_before is the row before kept); allowed [pixels].
// An invocation makes one vec4 of x0, or one pixel of x'. Pads become zero.

override WG: u32;
override RADIUS: i32 = 1;

struct Size {
    batch: u32,
    height: u32,
    width: u32,
    quads: u32,
    channels: u32,
    out_quads: u32,
    clip: u32,
    // x_start: whether there is a gradient; advance: whether there is a mask.
    given: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> model_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read_write> predicted: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> size: Size;

@group(0) @binding(0) var<storage, read> x0: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> kept: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x0_kept: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> allowed: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> step_size: Size;

/// 1 in the lanes of a pixel's vec4 `quad` that hold channels.
fn lanes(quad: u32, channels: u32) -> vec4<f32> {
    let channel = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad;
    return select(vec4<f32>(0.0), vec4<f32>(1.0), channel < vec4<u32>(channels));
}

/// Which numbers are NaN or infinite, by their bits: compilers may take numbers for finite.
fn not_finite(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
}

@compute @workgroup_size(WG)
fn x_start(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pixel = index / size.quads;
    let n = pixel / (size.height * size.width);
    if (n >= size.batch) {
        return;
    }
    let quad = index % size.quads;
    let k = n * 8u;
    var value = coefficients[k] * x[index] + coefficients[k + 1u] * model_out[pixel * size.out_quads + quad];
    if (size.given != 0u) {
        value += coefficients[k + 2u] * g[index];
    }
    if (size.clip != 0u) {
        value = select(clamp(value, vec4<f32>(-1.0), vec4<f32>(1.0)), value, not_finite(value));
    }
    // A learned variance lies behind the channels.
    predicted[index] = select(vec4<f32>(0.0), value, lanes(quad, size.channels) > vec4<f32>(0.0));
}

@compute @workgroup_size(WG)
fn advance(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let pixel = (group.y * groups.x + group.x) * WG + local;
    let pixels = step_size.height * step_size.width;
    let n = pixel / pixels;
    if (n >= step_size.batch) {
        return;
    }
    let k = n * 8u;
    let place = pixel % pixels;
    let image = n * pixels;
    let row = u32(coefficients[k + 6u]) * pixels;
    let x0_row = u32(coefficients[k + 7u]) * pixels;
    let quads = step_size.quads;
    let y = i32(place / step_size.width);
    let at_x = i32(place % step_size.width);
    var sum = 0.0;
    var bad = false;
    for (var dy = -RADIUS; dy <= RADIUS; dy++) {
        for (var dx = -RADIUS; dx <= RADIUS; dx++) {
            let other_y = y + dy;
            let other_x = at_x + dx;
            let inside = other_y >= 0 && other_x >= 0 && other_y < i32(step_size.height) && other_x < i32(step_size.width);
            if (inside) {
                let other = u32(other_y) * step_size.width + u32(other_x);
                let begin = (image + other) * quads;
                let shift = (x0_row + other) * quads - begin;
                let end = begin + quads;
                var largest = 0.0;
                for (var at = begin; at < end; at++) {
                    let now = x0[at];
                    let change = abs(now - x0_kept[at + shift]);
                    largest = max(largest, max(max(change.x, change.y), max(change.z, change.w)));
                    bad = bad || any(not_finite(now));
                }
                sum += largest;
            }
        }
    }
    let side = f32(2 * RADIUS + 1);
    // What is no number is not put back: whoever reads the image has to see it.
    var share = select(0.0, 1.0, bad || sum > coefficients[k + 5u] * side * side);
    if (step_size.given != 0u && !bad) {
        share *= allowed[place];
    }
    let begin = pixel * quads;
    let end = begin + quads;
    let kept_shift = (row + place) * quads - begin;
    let x0_shift = (x0_row + place) * quads - begin;
    for (var at = begin; at < end; at++) {
        var next = kept[at + kept_shift - pixels * quads];
        if (share != 0.0) {
            let moved = coefficients[k + 3u] * (state[at] - kept[at + kept_shift]);
            next += share * (moved + coefficients[k + 4u] * (x0[at] - x0_kept[at + x0_shift]));
        }
        state[at] = next;
    }
}
