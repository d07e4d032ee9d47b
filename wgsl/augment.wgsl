// Augmentation of images in -1..1, each sample by numbers of its own; the formulas are those of images v in 0..1.
//
//   grey    parts [samples, PARTS]: sums of the grey levels that jitter's contrast turns about, after the jitters before it
//   warp    y(p) = jitter(x)(m p), bilinear; where x ends its border's colour
//   finish  contrast v * f, sharpness d + (v - d) * f of the mean d of 3 x 3 pixels (the middle one counts 5 of 13; an
//           image's outermost pixels stay), brightness v + f - 1, all held to 0..1; then y = (1 - share) * y[n] + share * y[n ^ 1]
// numbers [samples, 5] vec4: m's first row, warped; m's second row, share; contrast f, sharpness f, 2 * (brightness f - 1);
// kinds of jitter in their order; factors of brightness, contrast, saturation, and hue in turns.
// Layouts: x, y [samples, height, width, quads] vec4; pads stay zero. Numbers that change nothing leave the bits.
// An invocation makes one part, or one vec4.

override WG: u32;
override PARTS: u32 = 32u;

struct Size {
    border: vec4<f32>,
    samples: u32,
    height: u32,
    width: u32,
    quads: u32,
    channels: u32,
    // 1 where the sums of grey levels are there.
    jitter: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> numbers: array<vec4<f32>>;

@group(0) @binding(2) var<storage, read_write> parts: array<f32>;
@group(0) @binding(3) var<uniform> size: Size;

@group(0) @binding(2) var<storage, read> means: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> warp_size: Size;

@group(0) @binding(2) var<storage, read_write> finished: array<vec4<f32>>;

const NUMBERS: u32 = 5u;
const BRIGHTNESS: u32 = 1u;
const CONTRAST: u32 = 2u;
const SATURATION: u32 = 3u;
const HUE: u32 = 4u;

fn grey_level(color: vec3<f32>) -> f32 {
    return dot(color, vec3<f32>(0.299, 0.587, 0.114));
}

/// The colour with its hue turned, by way of HSV.
fn turn_hue(color: vec3<f32>, turns: f32) -> vec3<f32> {
    let largest = max(color.x, max(color.y, color.z));
    let chroma = largest - min(color.x, min(color.y, color.z));
    if (chroma <= 0.0) {
        return color;
    }
    var hue = 4.0 + (color.x - color.y) / chroma;
    if (largest == color.x) {
        hue = (color.y - color.z) / chroma;
    } else if (largest == color.y) {
        hue = 2.0 + (color.z - color.x) / chroma;
    }
    let at = vec3<f32>(5.0, 3.0, 1.0) + vec3<f32>(hue + 6.0 * turns);
    let k = at - 6.0 * floor(at / 6.0);
    return vec3<f32>(largest) - chroma * clamp(min(k, 4.0 - k), vec3<f32>(0.0), vec3<f32>(1.0));
}

/// The jitters of sample `n`, in 0..1: all, or those before contrast.
fn jittered(n: u32, start: vec3<f32>, mean: f32, all: bool) -> vec3<f32> {
    var order = numbers[n * NUMBERS + 3u];
    let factors = numbers[n * NUMBERS + 4u];
    var color = start;
    for (var i = 0u; i < 4u; i++) {
        let kind = u32(order[i]);
        if (kind == CONTRAST && !all) {
            break;
        }
        if (kind == BRIGHTNESS) {
            color = color * factors.x;
        } else if (kind == CONTRAST) {
            color = mean + (color - mean) * factors.y;
        } else if (kind == SATURATION) {
            let grey = grey_level(color);
            color = grey + (color - grey) * factors.z;
        } else if (kind == HUE) {
            color = turn_hue(color, factors.w);
        }
        color = clamp(color, vec3<f32>(0.0), vec3<f32>(1.0));
    }
    return color;
}

/// Whether each lane of a vec4 is a channel.
fn is_channel(quad: u32, channels: u32) -> vec4<bool> {
    return vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(channels);
}

@compute @workgroup_size(WG)
fn grey(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / PARTS;
    if (n >= size.samples) {
        return;
    }
    var sum = 0.0;
    if (numbers[n * NUMBERS + 3u].x != 0.0) {
        let pixels = size.height * size.width;
        let end = (n + 1u) * pixels;
        for (var at = n * pixels + index % PARTS; at < end; at += PARTS) {
            sum += grey_level(jittered(n, 0.5 * x[at].xyz + vec3<f32>(0.5), 0.0, false));
        }
    }
    parts[index] = sum;
}

/// x of sample `n` at a row and column, with jitter; beyond its edges the border.
fn tap(n: u32, row: i32, column: i32, quad: u32) -> vec4<f32> {
    let inside = row >= 0 && column >= 0 && row < i32(warp_size.height) && column < i32(warp_size.width);
    if (!inside) {
        return warp_size.border;
    }
    let pixel = (n * warp_size.height + u32(row)) * warp_size.width + u32(column);
    let value = x[pixel * warp_size.quads + quad];
    // Of both at once: what is behind a bare value of the uniform, drivers compile anew for each value.
    if (f32(warp_size.jitter) * numbers[n * NUMBERS + 3u].x == 0.0) {
        return value;
    }
    let color = jittered(n, 0.5 * value.xyz + vec3<f32>(0.5), means[n], true);
    return vec4<f32>(2.0 * color - vec3<f32>(1.0), 0.0);
}

@compute @workgroup_size(WG)
fn warp(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pixel = index / warp_size.quads;
    let row = pixel / warp_size.width;
    let n = row / warp_size.height;
    if (n >= warp_size.samples) {
        return;
    }
    let quad = index % warp_size.quads;
    let at = vec3<f32>(f32(pixel % warp_size.width), f32(row % warp_size.height), 1.0);
    let first = numbers[n * NUMBERS];
    var value = vec4<f32>(0.0);
    if (first.w == 0.0) {
        value = tap(n, i32(row % warp_size.height), i32(pixel % warp_size.width), quad);
    } else {
        let from_x = dot(first.xyz, at);
        let from_y = dot(numbers[n * NUMBERS + 1u].xyz, at);
        let left = floor(from_x);
        let top = floor(from_y);
        let right_share = from_x - left;
        let lower_share = from_y - top;
        let x0 = i32(left);
        let y0 = i32(top);
        let upper = mix(tap(n, y0, x0, quad), tap(n, y0, x0 + 1, quad), right_share);
        let lower = mix(tap(n, y0 + 1, x0, quad), tap(n, y0 + 1, x0 + 1, quad), right_share);
        value = mix(upper, lower, lower_share);
    }
    y[index] = select(vec4<f32>(0.0), value, is_channel(quad, warp_size.channels));
}

fn held(value: vec4<f32>) -> vec4<f32> {
    return clamp(value, vec4<f32>(-1.0), vec4<f32>(1.0));
}

/// What `warp` left at vec4 `at`, with the contrast of its sample.
fn contrasted(at: u32, factor: f32) -> vec4<f32> {
    let value = x[at];
    if (factor == 1.0) {
        return value;
    }
    return held((value + vec4<f32>(1.0)) * factor - vec4<f32>(1.0));
}

/// Sample `n` at a place among its vec4s before it is mixed.
fn pointwise(n: u32, place: u32) -> vec4<f32> {
    let tone = numbers[n * NUMBERS + 2u];
    let row_quads = size.width * size.quads;
    let at = n * size.height * row_quads + place;
    var value = contrasted(at, tone.x);
    if (tone.y != 1.0) {
        let row = place / row_quads;
        let column = place % row_quads / size.quads;
        if (row > 0u && column > 0u && row + 1u < size.height && column + 1u < size.width) {
            var sum = 4.0 * value;
            let corner = at - row_quads - size.quads;
            for (var i = 0u; i < 9u; i++) {
                sum += contrasted(corner + i / 3u * row_quads + i % 3u * size.quads, tone.x);
            }
            let smooth_value = sum / 13.0;
            value = held(smooth_value + (value - smooth_value) * tone.y);
        }
    }
    if (tone.z != 0.0) {
        value = held(value + vec4<f32>(tone.z));
    }
    return value;
}

@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let sample_quads = size.height * size.width * size.quads;
    let n = index / sample_quads;
    if (n >= size.samples) {
        return;
    }
    let place = index % sample_quads;
    var value = pointwise(n, place);
    let share = numbers[n * NUMBERS + 1u].w;
    if (share != 0.0) {
        value = (1.0 - share) * value + share * pointwise(min(n ^ 1u, size.samples - 1u), place);
    }
    finished[index] = select(vec4<f32>(0.0), value, is_channel(index % size.quads, size.channels));
}
