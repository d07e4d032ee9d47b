// Group normalisation with optional scale-shift and SiLU; its gradients are in groupnorm_grad.wgsl.
//
// xhat = (x - mean) * rstd over the pixels and channels of a group, u = xhat * gamma + beta,
// v = u * factor + shift with factor = 1 + scale (or u), y = v * sigmoid(v) (or v); rstd = 1 / sqrt(variance + 1e-5), biased.
// y: [N, pixels, C]; gamma, beta: [C]; scale_shift: [N, 2C], scale in columns 0..C, shift in C..2C.
// x: [N, pixels, C]; of two tensors it is the first x_quads vec4s of each pixel, and `second` is the others.
// stats: [N, 2 or 4, C] mean and rstd of the channel's group and, with a scale-shift, factor and shift; then gamma and beta:
// all that the gradients need in one buffer.
// Variances are combined from blocks (Chan, Golub and LeVeque 1979): no cancellation at large means.
// `forward`: an invocation has four channels of BLOCK pixels. The others: a workgroup has a run, whole vec4s of an image
// that hold whole groups; its invocations share out the vec4s, then each vec4's pixels, and end in one tree.

override WG: u32;
override BLOCK: u32;
// Whether the normalised tensor is two.
override TWO: bool;

const EPS: f32 = 1e-5;
// Groups of a run at most.
const GROUPS: u32 = 16u;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    per_group: u32,
    // Length of a row of C and of x in vec4s; `grad_input`: the first of C that is x's.
    quads: u32,
    x_quads: u32,
    first_quad: u32,
    // Length of a run in vec4s (the last may be shorter), and runs of an image.
    run_quads: u32,
    runs: u32,
    // 0 or 1; the last: whether `second` is added to dx.
    silu: u32,
    scale_shift: u32,
    has_addend: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;
alias Second = vec4<f32>;
alias Y = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> second: array<Second>;

@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> scale_shift: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> new_stats: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> whole_y: array<Y>;
@group(0) @binding(7) var<uniform> whole_size: Size;

@group(0) @binding(6) var<uniform> statistics_size: Size;

@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;
@group(0) @binding(4) var<uniform> forward_size: Size;

var<workgroup> tree_a: array<vec4<f32>, WG>;
var<workgroup> tree_b: array<vec4<f32>, WG>;
// Mean and rstd of each of the run's groups.
var<workgroup> groups: array<vec2<f32>, GROUPS>;

struct Pair {
    a: vec4<f32>,
    b: vec4<f32>,
}

// What a workgroup has: of an image the vec4s from `first` on. The same in all its invocations.
struct Run {
    image: u32,
    first: u32,
    quads: u32,
    groups: u32,
    // Workgroups beyond the last image read the last one's pixels and store nothing.
    stores: bool,
}

// A workgroup has room for the pixels of WG vec4s at a time: those of a run from `begin` on. 2^log invocations share the
// pixels of each of them.
struct Chunk {
    begin: u32,
    width: u32,
    log: u32,
}

// What an invocation has: of one vec4 every step-th pixel.
struct Lane {
    // Number of the vec4 in the run and in the tensor.
    place: u32,
    quad: u32,
    pixel: u32,
    step: u32,
    count: u32,
    // Where its first pixel lies in the tensor that has the vec4, and from pixel to pixel there.
    in_second: bool,
    at: u32,
    pitch: u32,
}

// Affine map of one image's four channels: v = (x - mean) * rstd * gain + bias. Pad lanes are all zero.
struct Map {
    mean: vec4<f32>,
    rstd: vec4<f32>,
    gain: vec4<f32>,
    bias: vec4<f32>,
}

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    // Bounded so that the exponential stays finite.
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

// How many of first, first + 2^log, ... are below `pixels`; first < 2^log.
fn count_strided(pixels: u32, first: u32, log: u32) -> u32 {
    return (pixels + (1u << log) - 1u - first) >> log;
}

// a / b where that is below 2^20. Devices are slow to divide integers, a CPU does so lane by lane.
fn quotients(a: vec4<u32>, b: u32) -> vec4<u32> {
    let near = vec4<u32>(vec4<f32>(a) / f32(b));
    let low = near - select(vec4<u32>(0u), vec4<u32>(1u), near * b > a);
    return low + select(vec4<u32>(0u), vec4<u32>(1u), a - low * b >= vec4<u32>(b));
}

fn value_at(index: u32, in_second: bool) -> vec4<f32> {
    if TWO {
        if in_second {
            return vec4<f32>(second[index]);
        }
    }
    return vec4<f32>(x[index]);
}

fn run_of(size: Size, workgroup: u32) -> Run {
    let image = workgroup / size.runs;
    var run: Run;
    run.image = min(image, size.batch - 1u);
    run.first = (workgroup - image * size.runs) * size.run_quads;
    run.quads = min(size.run_quads, size.quads - run.first);
    let channels = min(4u * run.quads, size.channels - 4u * run.first);
    run.groups = quotients(vec4<u32>(channels), size.per_group).x;
    run.stores = image < size.batch;
    return run;
}

fn chunk_of(run: Run, begin: u32) -> Chunk {
    let width = min(run.quads - begin, WG);
    return Chunk(begin, width, firstLeadingBit(quotients(vec4<u32>(WG), width).x));
}

fn lane_of(size: Size, run: Run, chunk: Chunk, invocation: u32) -> Lane {
    var lane: Lane;
    lane.pixel = quotients(vec4<u32>(invocation), chunk.width).x;
    lane.place = chunk.begin + invocation - lane.pixel * chunk.width;
    lane.quad = run.first + lane.place;
    lane.step = 1u << chunk.log;
    lane.count = select(0u, count_strided(size.pixels, lane.pixel, chunk.log), lane.pixel < lane.step);
    lane.in_second = TWO && lane.quad >= size.x_quads;
    lane.pitch = select(size.x_quads, size.quads - size.x_quads, lane.in_second);
    let row = run.image * size.pixels + lane.pixel;
    lane.at = row * lane.pitch + lane.quad - select(0u, size.x_quads, lane.in_second);
    return lane;
}

// Of each channel of a chunk the mean and the sum of squared deviations, at its vec4's place in the chunk.
fn moments(size: Size, run: Run, chunk: Chunk, invocation: u32) {
    let lane = lane_of(size, run, chunk, invocation);
    let step = lane.step * lane.pitch;
    var mean = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    var index = lane.at;
    var done = 0u;
    for (; done + 4u <= lane.count; done += 4u) {
        let x0 = value_at(index, lane.in_second);
        let x1 = value_at(index + step, lane.in_second);
        let x2 = value_at(index + 2u * step, lane.in_second);
        let x3 = value_at(index + 3u * step, lane.in_second);
        index += 4u * step;
        let block_mean = ((x0 + x1) + (x2 + x3)) * 0.25;
        let d0 = x0 - block_mean;
        let d1 = x1 - block_mean;
        let d2 = x2 - block_mean;
        let d3 = x3 - block_mean;
        let delta = block_mean - mean;
        let share = 4.0 / f32(done + 4u);
        mean += delta * share;
        squares += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3) + delta * delta * (share * f32(done));
    }
    for (; done < lane.count; done += 1u) {
        let value = value_at(index, lane.in_second);
        index += step;
        let delta = value - mean;
        mean += delta / f32(done + 1u);
        squares += delta * (value - mean);
    }
    // Joining, in a tree; GPUs whose subgroups add by themselves get another text where they share one vec4.
    tree_a[invocation] = mean;
    tree_b[invocation] = squares;
    // Before each level, node i of a vec4 stands for the pixels i, i + 2^level, i + 2 * 2^level, ...
    for (var level = chunk.log; level > 0u; level -= 1u) {
        workgroupBarrier();
        let half = 1u << (level - 1u);
        // A node without pixels has nothing to add, not even to what overflows.
        if invocation < half * chunk.width && lane.pixel + half < size.pixels {
            let other = invocation + half * chunk.width;
            let count_a = count_strided(size.pixels, lane.pixel, level);
            let count_b = count_strided(size.pixels, lane.pixel + half, level);
            let delta = tree_a[other] - tree_a[invocation];
            let share = f32(count_b) / f32(count_a + count_b);
            tree_a[invocation] += delta * share;
            tree_b[invocation] += tree_b[other] + delta * delta * (share * f32(count_a));
        }
    }
}

// Mean and rstd of the run's groups.
fn group_moments(size: Size, run: Run, invocation: u32) {
    let first = invocation * size.per_group;
    var mean = 0.0;
    var squares = 0.0;
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let chunk = chunk_of(run, begin);
        moments(size, run, chunk, invocation);
        workgroupBarrier();
        if invocation < run.groups {
            let end = min(first + size.per_group, 4u * (begin + chunk.width));
            for (var c = max(first, 4u * begin); c < end; c += 1u) {
                let quad = c / 4u - begin;
                let value = tree_a[quad][c % 4u];
                let delta = value - mean;
                mean += delta / f32(c - first + 1u);
                squares += tree_b[quad][c % 4u] + delta * (value - mean) * f32(size.pixels);
            }
            var rstd = 1.0 / sqrt(squares / f32(size.per_group * size.pixels) + EPS);
            // Squares that overflow would make zeros of every value, and hide it. By bits: compilers may take numbers for
            // finite.
            let bits = bitcast<u32>(squares);
            if (bits & 0x7f800000u) == 0x7f800000u {
                rstd = bitcast<f32>(bits | 0x7fc00000u);
            }
            groups[invocation] = vec2<f32>(mean, rstd);
        }
        workgroupBarrier();
    }
}

// The groups' numbers in the channels of one of the run's vec4s; zeros in pad lanes.
fn of_groups(size: Size, run: Run, place: u32) -> Pair {
    let channels = vec4<u32>(0u, 1u, 2u, 3u) + 4u * place;
    let group = min(quotients(channels, size.per_group), vec4<u32>(run.groups - 1u));
    let g0 = groups[group.x];
    let g1 = groups[group.y];
    let g2 = groups[group.z];
    let g3 = groups[group.w];
    let used = channels + 4u * run.first < vec4<u32>(size.channels);
    var pair: Pair;
    pair.a = select(vec4<f32>(0.0), vec4<f32>(g0.x, g1.x, g2.x, g3.x), used);
    pair.b = select(vec4<f32>(0.0), vec4<f32>(g0.y, g1.y, g2.y, g3.y), used);
    return pair;
}

// Factor and shift of an image's four channels, 1 and 0 without a scale-shift and in pad lanes.
fn modulation(size: Size, image: u32, quad: u32) -> Pair {
    var pair = Pair(vec4<f32>(1.0), vec4<f32>(0.0));
    if size.scale_shift == 0u {
        return pair;
    }
    let row_quads = (size.channels + 1u) / 2u;
    let row = image * row_quads;
    let first = row + size.channels / 4u + quad;
    let last = size.batch * row_quads - 1u;
    let scale = scale_shift[row + quad];
    // The shift begins inside a vec4 where C is no multiple of four.
    let low = scale_shift[min(first, last)];
    let high = scale_shift[min(first + 1u, last)];
    let inside = size.channels % 4u;
    var shift = select(low, vec4<f32>(low.yzw, high.x), inside == 1u);
    shift = select(shift, vec4<f32>(low.zw, high.xy), inside == 2u);
    shift = select(shift, vec4<f32>(low.w, high.xyz), inside == 3u);
    let lanes = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad;
    let used = lanes < vec4<u32>(size.channels);
    pair.a = select(pair.a, 1.0 + scale, used);
    pair.b = select(pair.b, shift, used);
    return pair;
}

// Rows of an image's statistics.
fn stat_rows(size: Size) -> u32 {
    return select(2u, 4u, size.scale_shift != 0u);
}

// Where gamma lies behind the statistics of all images, and beta a row further.
fn gamma_at(size: Size, quad: u32) -> u32 {
    return size.batch * stat_rows(size) * size.quads + quad;
}

fn map_of(mean: vec4<f32>, rstd: vec4<f32>, affine: Pair, change: Pair) -> Map {
    return Map(mean, rstd, affine.a * change.a, affine.b * change.a + change.b);
}

// The map of an invocation's vec4 by the groups' moments; one of those that share the vec4 stores what makes it.
fn new_map(size: Size, run: Run, lane: Lane) -> Map {
    let group = of_groups(size, run, lane.place);
    let change = modulation(size, run.image, lane.quad);
    let affine = Pair(gamma[lane.quad], beta[lane.quad]);
    if lane.pixel == 0u && run.stores {
        let base = run.image * stat_rows(size) * size.quads + lane.quad;
        new_stats[base] = group.a;
        new_stats[base + size.quads] = group.b;
        if size.scale_shift != 0u {
            new_stats[base + 2u * size.quads] = change.a;
            new_stats[base + 3u * size.quads] = change.b;
        }
        if run.image == 0u {
            new_stats[gamma_at(size, lane.quad)] = affine.a;
            new_stats[gamma_at(size, lane.quad) + size.quads] = affine.b;
        }
    }
    return map_of(group.a, group.b, affine, change);
}

fn load_map(size: Size, image: u32, quad: u32) -> Map {
    let base = image * stat_rows(size) * size.quads + quad;
    let affine = Pair(stats[gamma_at(size, quad)], stats[gamma_at(size, quad) + size.quads]);
    var change = Pair(vec4<f32>(1.0), vec4<f32>(0.0));
    if size.scale_shift != 0u {
        change = Pair(stats[base + 2u * size.quads], stats[base + 3u * size.quads]);
    }
    return map_of(stats[base], stats[base + size.quads], affine, change);
}

fn activated(size: Size, map: Map, value: vec4<f32>) -> vec4<f32> {
    let v = (value - map.mean) * map.rstd * map.gain + map.bias;
    return v * select(vec4<f32>(1.0), sigmoid(v), size.silu != 0u);
}

// Statistics and result in one.
@compute @workgroup_size(WG)
fn forward_whole(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = whole_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    group_moments(size, run, invocation);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let lane = lane_of(size, run, chunk_of(run, begin), invocation);
        let map = new_map(size, run, lane);
        let count = select(0u, lane.count, run.stores);
        var index = lane.at;
        var y_index = (run.image * size.pixels + lane.pixel) * size.quads + lane.quad;
        for (var done = 0u; done < count; done += 1u) {
            whole_y[y_index] = Y(activated(size, map, value_at(index, lane.in_second)));
            index += lane.step * lane.pitch;
            y_index += lane.step * size.quads;
        }
    }
}

@compute @workgroup_size(WG)
fn statistics(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = statistics_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    group_moments(size, run, invocation);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let map = new_map(size, run, lane_of(size, run, chunk_of(run, begin), invocation));
    }
}

// The result by kept statistics.
@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = forward_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + invocation;
    let blocks = (size.pixels + BLOCK - 1u) / BLOCK;
    let quad = index % size.quads;
    let block = index / size.quads % blocks;
    let image = index / size.quads / blocks;
    if image >= size.batch {
        return;
    }
    let map = load_map(size, image, quad);
    let in_second = TWO && quad >= size.x_quads;
    let pitch = select(size.x_quads, size.quads - size.x_quads, in_second);
    let x_quad = quad - select(0u, size.x_quads, in_second);
    let end = min((block + 1u) * BLOCK, size.pixels);
    for (var pixel = block * BLOCK; pixel < end; pixel += 1u) {
        let row = image * size.pixels + pixel;
        y[row * size.quads + quad] = Y(activated(size, map, value_at(row * pitch + x_quad, in_second)));
    }
}
