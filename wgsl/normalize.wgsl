// Gradients as they are taken, and the steps of Algorithm 1 along them.
//
//   squares    sums of squares of each sample of up to seven gradients g, in 8 parts
//   normalize_samples  y[n] = x[n] / length[n], length[n] = sqrt(sum x[n]^2 / count) + 1e-12
//   along      y[n] = x[n] + alpha[0] * g[n], or alpha[n] * g[n]; where gradients are normalised g[n] / length[n]
//   along_two  the same of two tensors
// Layouts: x, g, y [samples, quads] vec4; pads are zero and do not count; sums [gradients, samples, 2] vec4. Sums have a fixed order.
// `squares`: a workgroup makes one part. `normalize_samples`: an invocation makes one vec4; `along`: BLOCK of them or fewer.

override WG: u32;

const PARTS: u32 = 8u;
const BLOCK: u32 = 8u;

struct Squares {
    samples: u32,
    // Which of all gradients the launch's first one is, and how many the launch has.
    first: u32,
    count: u32,
    pad0: u32,
    // Of each of its gradients vec4s of a sample.
    maps: array<vec4<u32>, 7>,
}

@group(0) @binding(0) var<storage, read> g0: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g1: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> g2: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> g3: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> g4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> g5: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> g6: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> parts: array<f32>;
@group(0) @binding(8) var<uniform> squares_size: Squares;

struct Size {
    samples: u32,
    quads: u32,
    // 1 divided by the elements of a sample.
    share: f32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> whole: Size;

struct Along {
    samples: u32,
    // 0 or 1: whether alpha is one of each sample, and whether gradients are divided by their lengths.
    each: u32,
    normalized: u32,
    // The second tensor's first workgroup.
    second: u32,
    // Of each tensor vec4s of a sample, and where its sums begin in samples.
    maps: array<vec4<u32>, 2>,
    // Of each tensor 1 divided by the elements of a sample.
    shares: vec4<f32>,
}

@group(0) @binding(0) var<storage, read> alpha: array<f32>;
@group(0) @binding(2) var<storage, read> x0: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gradient_0: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> moved: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> along_size: Along;

@group(0) @binding(4) var<storage, read> x1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> gradient_1: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> moved_0: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> moved_1: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> two_size: Along;

// The root mean square of a sample, `at` among all.
fn length_of(at: u32, share: f32) -> f32 {
    let sum = sums[2u * at] + sums[2u * at + 1u];
    return sqrt(((sum.x + sum.y) + (sum.z + sum.w)) * share) + 1e-12;
}

var<workgroup> lanes: array<f32, WG>;

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let all = squares_size.count * squares_size.samples * PARTS;
    // Workgroups beyond the last part make that one again and store nothing.
    let own = min(index, all - 1u);
    let map = own / PARTS / squares_size.samples;
    let n = own / PARTS % squares_size.samples;
    let quads = squares_size.maps[map].x;
    let begin = n * quads + own % PARTS * WG + lane;
    let end = (n + 1u) * quads;
    let step = PARTS * WG;
    var sum = vec4<f32>(0.0);
    if (map == 0u) {
        for (var at = begin; at < end; at += step) {
            let v = g0[at];
            sum += v * v;
        }
    } else if (map == 1u) {
        for (var at = begin; at < end; at += step) {
            let v = g1[at];
            sum += v * v;
        }
    } else if (map == 2u) {
        for (var at = begin; at < end; at += step) {
            let v = g2[at];
            sum += v * v;
        }
    } else if (map == 3u) {
        for (var at = begin; at < end; at += step) {
            let v = g3[at];
            sum += v * v;
        }
    } else if (map == 4u) {
        for (var at = begin; at < end; at += step) {
            let v = g4[at];
            sum += v * v;
        }
    } else if (map == 5u) {
        for (var at = begin; at < end; at += step) {
            let v = g5[at];
            sum += v * v;
        }
    } else {
        for (var at = begin; at < end; at += step) {
            let v = g6[at];
            sum += v * v;
        }
    }
    lanes[lane] = (sum.x + sum.y) + (sum.z + sum.w);
    workgroupBarrier();
    // Each of the first lanes adds up those that are congruent to it, which no other one reads.
    if (lane < 8u) {
        var column = lanes[lane];
        for (var other = lane + 8u; other < WG; other += 8u) {
            column += lanes[other];
        }
        lanes[lane] = column;
    }
    workgroupBarrier();
    if (lane == 0u && index < all) {
        var total = lanes[0];
        for (var other = 1u; other < 8u; other++) {
            total += lanes[other];
        }
        parts[squares_size.first * squares_size.samples * PARTS + index] = total;
    }
}

@compute @workgroup_size(WG)
fn normalize_samples(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / whole.quads;
    if (n < whole.samples) {
        y[index] = x[index] / length_of(n, whole.share);
    }
}

// What an invocation makes of a tensor: vec4s `begin`, `begin + step`, ... below `end`, by this factor and length.
struct Strip {
    begin: u32,
    end: u32,
    step: u32,
    factor: f32,
    length: f32,
}

// The strip `index` of a tensor: `quads` of a sample, sums that begin at `first`. Nothing of strips beyond the last sample.
fn strip_of(index: u32, samples: u32, quads: u32, each: u32) -> Strip {
    var strip: Strip;
    strip.step = (quads + BLOCK - 1u) / BLOCK;
    let n = index / strip.step;
    strip.begin = n * quads + index % strip.step;
    strip.end = select(0u, (n + 1u) * quads, n < samples);
    strip.factor = alpha[select(0u, n, each != 0u && n < samples)];
    strip.length = 1.0;
    return strip;
}

@compute @workgroup_size(WG)
fn along(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    var strip = strip_of(index, along_size.samples, along_size.maps[0].x, along_size.each);
    if (along_size.normalized != 0u && strip.begin < strip.end) {
        strip.length = length_of(along_size.maps[0].y + index / strip.step, along_size.shares.x);
    }
    for (var at = strip.begin; at < strip.end; at += strip.step) {
        moved[at] = x0[at] + strip.factor * (gradient_0[at] / strip.length);
    }
}

@compute @workgroup_size(WG)
fn along_two(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let number = group.y * groups.x + group.x;
    let second = number >= two_size.second;
    let index = (number - select(0u, two_size.second, second)) * WG + local;
    let own = two_size.maps[select(0u, 1u, second)];
    var strip = strip_of(index, two_size.samples, own.x, two_size.each);
    if (two_size.normalized != 0u && strip.begin < strip.end) {
        let share = select(two_size.shares.x, two_size.shares.y, second);
        strip.length = length_of(own.y + index / strip.step, share);
    }
    if (second) {
        for (var at = strip.begin; at < strip.end; at += strip.step) {
            moved_1[at] = x1[at] + strip.factor * (gradient_1[at] / strip.length);
        }
    } else {
        for (var at = strip.begin; at < strip.end; at += strip.step) {
            moved_0[at] = x0[at] + strip.factor * (gradient_0[at] / strip.length);
        }
    }
}
