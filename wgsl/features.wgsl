// The classifier's input: every feature map pooled over its pixels, side by side, then the raw timestep.
//
//   pool       f[n, column + c] = mean (or maximum) over p of x[n, p, c], of up to seven maps x; where the launch has it also
//              f[n, last] = t[n], and zeros behind it to the row's end
//   mean_grad  dx[n, p, c] = df[n, column + c] / pixels, of up to seven maps
//   max_grad   of one map that is pooled by its maximum: all of df to the first pixel that attains it
// Layouts: x, dx [batch, pixels, quads] of vec4; f, df [batch, pitch]; t [batch]. Maps that are not there are bound to something
// that is not touched.
// `pool`: a workgroup pools one vec4 of channels of one sample, its lanes stride over the pixels; the last workgroups have the
// timestep. `mean_grad`: an invocation makes BLOCK vec4s or fewer. `max_grad`: one. Sums run in a fixed order.

override WG: u32;

const MAPS: u32 = 7u;
const BLOCK: u32 = 8u;

struct Maps {
    batch: u32,
    pitch: u32,
    // `pool`: vec4s of all maps of a sample.
    quads: u32,
    // Bit m: map m is pooled by its maximum.
    maxima: u32,
    // 0: the timestep is another launch's; 1: it is `timestep`; 2: binding `timestep_at` holds it.
    times: u32,
    timestep_at: u32,
    timestep: f32,
    // The last column.
    last: u32,
    // Of each map pixels, channels, first column, and its first vec4 of `quads`, of `mean_grad` its first workgroup; the highest
    // number where it is not there.
    maps: array<vec4<u32>, 7>,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X0 = vec4<f32>;
alias X1 = vec4<f32>;
alias X2 = vec4<f32>;
alias X3 = vec4<f32>;
alias X4 = vec4<f32>;
alias X5 = vec4<f32>;
alias X6 = vec4<f32>;
alias Dx0 = vec4<f32>;
alias Dx1 = vec4<f32>;
alias Dx2 = vec4<f32>;
alias Dx3 = vec4<f32>;
alias Dx4 = vec4<f32>;
alias Dx5 = vec4<f32>;
alias Dx6 = vec4<f32>;
alias X = vec4<f32>;
alias Dx = vec4<f32>;

@group(0) @binding(0) var<storage, read> x0: array<X0>;
@group(0) @binding(1) var<storage, read> x1: array<X1>;
@group(0) @binding(2) var<storage, read> x2: array<X2>;
@group(0) @binding(3) var<storage, read> x3: array<X3>;
@group(0) @binding(4) var<storage, read> x4: array<X4>;
@group(0) @binding(5) var<storage, read> x5: array<X5>;
@group(0) @binding(6) var<storage, read> x6: array<X6>;
@group(0) @binding(7) var<storage, read_write> f: array<f32>;
@group(0) @binding(8) var<uniform> pool_maps: Maps;

@group(0) @binding(0) var<storage, read> df: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx0: array<Dx0>;
@group(0) @binding(2) var<storage, read_write> dx1: array<Dx1>;
@group(0) @binding(3) var<storage, read_write> dx2: array<Dx2>;
@group(0) @binding(4) var<storage, read_write> dx3: array<Dx3>;
@group(0) @binding(5) var<storage, read_write> dx4: array<Dx4>;
@group(0) @binding(6) var<storage, read_write> dx5: array<Dx5>;
@group(0) @binding(7) var<storage, read_write> dx6: array<Dx6>;
@group(0) @binding(8) var<uniform> grad_maps: Maps;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    quads: u32,
    pitch: u32,
    column: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> maxima: array<f32>;
@group(0) @binding(2) var<storage, read> upstream: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(4) var<uniform> size: Size;

// What a lane has seen of its pixels.
struct Pooled {
    sum: vec4<f32>,
    largest: vec4<f32>,
    // A maximum passes over NaN: the largest bits, sign apart, tell whether there was any.
    bits: vec4<u32>,
    seen: bool,
}

fn taken(pooled: Pooled, next: vec4<f32>) -> Pooled {
    var result: Pooled;
    result.sum = pooled.sum + next;
    result.largest = select(next, max(pooled.largest, next), pooled.seen);
    result.bits = max(pooled.bits, bitcast<vec4<u32>>(next) & vec4<u32>(0x7fffffffu));
    result.seen = true;
    return result;
}

fn timestep_of(which: u32, n: u32) -> f32 {
    if (which == 0u) {
        return vec4<f32>(x0[n / 4u])[n % 4u];
    }
    if (which == 1u) {
        return vec4<f32>(x1[n / 4u])[n % 4u];
    }
    if (which == 2u) {
        return vec4<f32>(x2[n / 4u])[n % 4u];
    }
    if (which == 3u) {
        return vec4<f32>(x3[n / 4u])[n % 4u];
    }
    if (which == 4u) {
        return vec4<f32>(x4[n / 4u])[n % 4u];
    }
    if (which == 5u) {
        return vec4<f32>(x5[n / 4u])[n % 4u];
    }
    return vec4<f32>(x6[n / 4u])[n % 4u];
}

var<workgroup> lanes: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn pool(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    let pools = pool_maps.batch * pool_maps.quads;
    // Workgroups beyond the last sample read its pixels and store nothing.
    let n = min(index, pools - 1u) / pool_maps.quads;
    let place = min(index, pools - 1u) % pool_maps.quads;
    var map = 0u;
    for (var m = 1u; m < MAPS; m++) {
        map += select(0u, 1u, place >= pool_maps.maps[m].w);
    }
    let own = pool_maps.maps[map];
    let quads = (own.y + 3u) / 4u;
    let quad = place - own.w;
    let begin = (n * own.x + lane) * quads + quad;
    let end = (n + 1u) * own.x * quads;
    let step = WG * quads;
    var pooled: Pooled;
    if (map == 0u) {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x0[at]));
        }
    } else if (map == 1u) {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x1[at]));
        }
    } else if (map == 2u) {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x2[at]));
        }
    } else if (map == 3u) {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x3[at]));
        }
    } else if (map == 4u) {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x4[at]));
        }
    } else if (map == 5u) {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x5[at]));
        }
    } else {
        for (var at = begin; at < end; at += step) {
            pooled = taken(pooled, vec4<f32>(x6[at]));
        }
    }
    let by_maximum = ((pool_maps.maxima >> map) & 1u) != 0u;
    let largest = select(pooled.largest, bitcast<vec4<f32>>(pooled.bits), pooled.bits > vec4<u32>(0x7f800000u));
    lanes[lane] = select(pooled.sum, largest, by_maximum);
    workgroupBarrier();
    if (index < pools && lane < 4u && quad * 4u + lane < own.y) {
        var value = lanes[0][lane];
        var bits = bitcast<u32>(value) & 0x7fffffffu;
        // Lanes beyond the pixels have seen none.
        let seeing = min(own.x, WG);
        for (var other = 1u; other < seeing; other++) {
            let next = lanes[other][lane];
            value = select(value + next, max(value, next), by_maximum);
            bits = max(bits, bitcast<u32>(next) & 0x7fffffffu);
        }
        let mean = value / f32(own.x);
        value = select(value, bitcast<f32>(bits), bits > 0x7f800000u);
        f[n * pool_maps.pitch + own.z + quad * 4u + lane] = select(mean, value, by_maximum);
    }
    let sample = (index - pools) * WG + lane;
    if (index >= pools && pool_maps.times != 0u && sample < pool_maps.batch) {
        var t = pool_maps.timestep;
        if (pool_maps.times == 2u) {
            t = timestep_of(pool_maps.timestep_at, sample);
        }
        let row = sample * pool_maps.pitch;
        f[row + pool_maps.last] = t;
        for (var column = row + pool_maps.last + 1u; column < row + pool_maps.pitch; column++) {
            f[column] = 0.0;
        }
    }
}

@compute @workgroup_size(WG)
fn mean_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let number = group.y * groups.x + group.x;
    var map = 0u;
    for (var m = 1u; m < MAPS; m++) {
        map += select(0u, 1u, number >= grad_maps.maps[m].w);
    }
    let own = grad_maps.maps[map];
    let quads = (own.y + 3u) / 4u;
    // Of the pixels p, p + strips, ... the first.
    let strips = (own.x + BLOCK - 1u) / BLOCK;
    let index = (number - own.w) * WG + local;
    let quad = index % quads;
    let strip = index / quads % strips;
    let n = index / (quads * strips);
    if (n >= grad_maps.batch) {
        return;
    }
    var value = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        if (quad * 4u + lane < own.y) {
            value[lane] = df[n * grad_maps.pitch + own.z + quad * 4u + lane];
        }
    }
    value /= f32(own.x);
    let begin = (n * own.x + strip) * quads + quad;
    let end = (n + 1u) * own.x * quads;
    let step = strips * quads;
    if (map == 0u) {
        for (var at = begin; at < end; at += step) {
            dx0[at] = Dx0(value);
        }
    } else if (map == 1u) {
        for (var at = begin; at < end; at += step) {
            dx1[at] = Dx1(value);
        }
    } else if (map == 2u) {
        for (var at = begin; at < end; at += step) {
            dx2[at] = Dx2(value);
        }
    } else if (map == 3u) {
        for (var at = begin; at < end; at += step) {
            dx3[at] = Dx3(value);
        }
    } else if (map == 4u) {
        for (var at = begin; at < end; at += step) {
            dx4[at] = Dx4(value);
        }
    } else if (map == 5u) {
        for (var at = begin; at < end; at += step) {
            dx5[at] = Dx5(value);
        }
    } else {
        for (var at = begin; at < end; at += step) {
            dx6[at] = Dx6(value);
        }
    }
}

@compute @workgroup_size(WG)
fn max_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let n = pixel / size.pixels;
    if (n >= size.batch) {
        return;
    }
    // The first pixel with the maximum takes all: any earlier one that attains it shuts this one out.
    let mine = vec4<f32>(x[index]);
    var value = vec4<f32>(0.0);
    var largest = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        if (quad * 4u + lane < size.channels) {
            let at = n * size.pitch + size.column + quad * 4u + lane;
            value[lane] = upstream[at];
            largest[lane] = maxima[at];
        }
    }
    var first = mine == largest;
    let base_at = n * size.pixels * size.quads + quad;
    for (var p = 0u; p < pixel % size.pixels; p++) {
        first = first & (vec4<f32>(x[base_at + p * size.quads]) < largest);
    }
    dx[index] = Dx(select(vec4<f32>(0.0), value, first));
}
