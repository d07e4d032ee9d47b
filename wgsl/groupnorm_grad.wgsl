// Gradients of group normalisation with optional scale-shift and SiLU; names are those of groupnorm.wgsl.
// dv = dy * dy/dv, A = sum over pixels of dv, B = sum of dv * xhat, gain = gamma * factor:
// dx = rstd * (gain * dv - mean of gain * dv - xhat * mean of gain * dv * xhat), means over the group.
// dy: [N, pixels, C]; the gradient of the scale-shift: [N, 2C], gamma * B + beta * A, then A.
// x: [N, pixels, C]; of two tensors it is the first x_quads vec4s of each pixel, and `second` is the others. Where x is all
// that is normalised, or all that a gradient is for, `second` is of its shape and added to dx, by `grad_first` to the addend.
// stats: [N, 2 or 4, C] mean, rstd and, with a scale-shift, factor and shift; then gamma and beta.
// sums: [N, 2, C] factor * A and factor * B, whose sums over the images are the gradients of beta and gamma; means: [N, 2, C].
// `grad_input`: an invocation has four channels of BLOCK pixels. The others: a workgroup has a run, whole vec4s of an
// image that hold whole groups; its invocations share out the vec4s, then each vec4's pixels, and end in one tree.

override WG: u32;
override BLOCK: u32;
// Whether the normalised tensor is two.
override TWO: bool;

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
    // 0 or 1; the last: how much is added to dx, of `grad_first` 2 where `second` is too.
    silu: u32,
    scale_shift: u32,
    has_addend: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;
alias Second = vec4<f32>;
alias Dy = vec4<f32>;
alias Addend = vec4<f32>;
alias Dx = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> second: array<Second>;
@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dy: array<Dy>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(6) var<uniform> dx_size: Size;
@group(0) @binding(5) var<storage, read_write> new_means: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> means_size: Size;
@group(0) @binding(6) var<storage, read_write> modulation_gradient: array<f32>;
@group(0) @binding(7) var<uniform> modulated_size: Size;
@group(0) @binding(4) var<storage, read> addend: array<Addend>;
@group(0) @binding(5) var<storage, read_write> sums_of_two: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx_of_two: array<Dx>;
@group(0) @binding(7) var<storage, read_write> means_of_two: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> two_size: Size;
@group(0) @binding(4) var<storage, read> means: array<vec4<f32>>;

var<workgroup> tree_a: array<vec4<f32>, WG>;
var<workgroup> tree_b: array<vec4<f32>, WG>;
// Means of gain * A and gain * B over each of the run's groups.
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

fn load_map(size: Size, image: u32, quad: u32) -> Map {
    let base = image * stat_rows(size) * size.quads + quad;
    let affine = Pair(stats[gamma_at(size, quad)], stats[gamma_at(size, quad) + size.quads]);
    var change = Pair(vec4<f32>(1.0), vec4<f32>(0.0));
    if size.scale_shift != 0u {
        change = Pair(stats[base + 2u * size.quads], stats[base + 3u * size.quads]);
    }
    return map_of(stats[base], stats[base + size.quads], affine, change);
}

// dy/dv times dy.
fn gradient_at(size: Size, v: vec4<f32>, gradient: vec4<f32>) -> vec4<f32> {
    let s = sigmoid(v);
    return gradient * select(vec4<f32>(1.0), s * (1.0 + v * (1.0 - s)), size.silu != 0u);
}

// dx at a place of x by the map and the group's two means.
fn input_gradient(size: Size, map: Map, group: Pair, index: u32, dy_index: u32) -> vec4<f32> {
    let xhat = (vec4<f32>(x[index]) - map.mean) * map.rstd;
    let dv = gradient_at(size, xhat * map.gain + map.bias, vec4<f32>(dy[dy_index]));
    return map.rstd * (map.gain * dv - group.a - xhat * group.b);
}

// What is added to it there, where x is all that the gradient is for.
fn added(size: Size, index: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(second[index]), size.has_addend != 0u);
}

// A and B of a chunk's channels, at the vec4's place in the chunk.
fn gradient_sums(size: Size, run: Run, chunk: Chunk, invocation: u32) {
    let lane = lane_of(size, run, chunk, invocation);
    let map = load_map(size, run.image, lane.quad);
    var sum_a = vec4<f32>(0.0);
    var sum_b = vec4<f32>(0.0);
    var index = lane.at;
    var dy_index = (run.image * size.pixels + lane.pixel) * size.quads + lane.quad;
    for (var done = 0u; done < lane.count; done += 1u) {
        let xhat = (value_at(index, lane.in_second) - map.mean) * map.rstd;
        let dv = gradient_at(size, xhat * map.gain + map.bias, vec4<f32>(dy[dy_index]));
        sum_a += dv;
        sum_b += dv * xhat;
        index += lane.step * lane.pitch;
        dy_index += lane.step * size.quads;
    }
    // Joining, as in groupnorm.wgsl.
    tree_a[invocation] = sum_a;
    tree_b[invocation] = sum_b;
    for (var level = chunk.log; level > 0u; level -= 1u) {
        workgroupBarrier();
        let half = chunk.width << (level - 1u);
        if invocation < half {
            tree_a[invocation] += tree_a[invocation + half];
            tree_b[invocation] += tree_b[invocation + half];
        }
    }
}

// Whether an invocation stores what a vec4 of the chunk has one of: the one at the vec4's place, which has the sums.
fn stores_one(run: Run, chunk: Chunk, invocation: u32) -> bool {
    return invocation < chunk.width && run.stores;
}

// What the gradients of beta and gamma are summed of.
fn scaled_sums(size: Size, run: Run, chunk: Chunk, invocation: u32) -> Pair {
    var factor = vec4<f32>(1.0);
    if size.scale_shift != 0u {
        factor = stats[(run.image * stat_rows(size) + 2u) * size.quads + run.first + chunk.begin + invocation];
    }
    return Pair(tree_a[invocation] * factor, tree_b[invocation] * factor);
}

fn store_sums(size: Size, run: Run, chunk: Chunk, invocation: u32) {
    if stores_one(run, chunk, invocation) {
        let pair = scaled_sums(size, run, chunk, invocation);
        let base = run.image * 2u * size.quads + run.first + chunk.begin + invocation;
        sums[base] = pair.a;
        sums[base + size.quads] = pair.b;
    }
}

// Stores the gradient of scale and shift: gamma * B + beta * A, then A.
fn store_modulation_gradient(size: Size, run: Run, chunk: Chunk, invocation: u32) {
    if stores_one(run, chunk, invocation) {
        let quad = run.first + chunk.begin + invocation;
        let at = gamma_at(size, quad);
        let a = tree_a[invocation];
        let b = stats[at] * tree_b[invocation] + stats[at + size.quads] * a;
        let row = run.image * 4u * ((size.channels + 1u) / 2u);
        for (var k = 0u; k < 4u; k += 1u) {
            let channel = 4u * quad + k;
            if channel < size.channels {
                modulation_gradient[row + channel] = b[k];
                modulation_gradient[row + size.channels + channel] = a[k];
            }
        }
        // An odd C leaves two pad lanes.
        if quad + 1u == size.quads && size.channels % 2u == 1u {
            modulation_gradient[row + 2u * size.channels] = 0.0;
            modulation_gradient[row + 2u * size.channels + 1u] = 0.0;
        }
    }
}

// `before` and the sums of gain * A and gain * B over what a chunk has of an invocation's group; the groups' means by these.
fn group_means(size: Size, run: Run, chunk: Chunk, invocation: u32, before: vec2<f32>) -> vec2<f32> {
    if invocation < chunk.width {
        let map = load_map(size, run.image, run.first + chunk.begin + invocation);
        tree_a[invocation] *= map.gain;
        tree_b[invocation] *= map.gain;
    }
    workgroupBarrier();
    var sum = before;
    if invocation < run.groups {
        let first = invocation * size.per_group;
        let end = min(first + size.per_group, 4u * (chunk.begin + chunk.width));
        for (var c = max(first, 4u * chunk.begin); c < end; c += 1u) {
            let quad = c / 4u - chunk.begin;
            sum += vec2<f32>(tree_a[quad][c % 4u], tree_b[quad][c % 4u]);
        }
        groups[invocation] = sum / f32(size.per_group * size.pixels);
    }
    workgroupBarrier();
    return sum;
}

// dx of the run by its groups' means.
fn store_dx(size: Size, run: Run, invocation: u32) {
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let lane = lane_of(size, run, chunk_of(run, begin), invocation);
        let map = load_map(size, run.image, lane.quad);
        let group = of_groups(size, run, lane.place);
        let count = select(0u, lane.count, run.stores);
        var index = lane.at;
        for (var done = 0u; done < count; done += 1u) {
            dx[index] = Dx(input_gradient(size, map, group, index, index) + added(size, index));
            index += lane.step * lane.pitch;
        }
    }
}

// The run's means for `grad_input`.
fn store_means(size: Size, run: Run, invocation: u32) {
    for (var begin = 0u; begin < run.quads; begin += WG) {
        if stores_one(run, chunk_of(run, begin), invocation) {
            let group = of_groups(size, run, begin + invocation);
            let base = run.image * 2u * size.quads + run.first + begin + invocation;
            new_means[base] = group.a;
            new_means[base + size.quads] = group.b;
        }
    }
}

// dx of a norm of one tensor, and the sums.
@compute @workgroup_size(WG)
fn grad_whole(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = dx_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    var sum = vec2<f32>(0.0);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let chunk = chunk_of(run, begin);
        gradient_sums(size, run, chunk, invocation);
        store_sums(size, run, chunk, invocation);
        sum = group_means(size, run, chunk, invocation, sum);
    }
    store_dx(size, run, invocation);
}

// The same and the gradient of the scale-shift.
@compute @workgroup_size(WG)
fn grad_whole_modulated(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = modulated_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    var sum = vec2<f32>(0.0);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let chunk = chunk_of(run, begin);
        gradient_sums(size, run, chunk, invocation);
        store_sums(size, run, chunk, invocation);
        store_modulation_gradient(size, run, chunk, invocation);
        sum = group_means(size, run, chunk, invocation, sum);
    }
    store_dx(size, run, invocation);
}

// Of a norm of two tensors dx of the first, the sums, and the means for the other's `grad_input`; or of one tensor, with two addends.
@compute @workgroup_size(WG)
fn grad_first(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = two_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    var sum = vec2<f32>(0.0);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let chunk = chunk_of(run, begin);
        gradient_sums(size, run, chunk, invocation);
        if stores_one(run, chunk, invocation) {
            let pair = scaled_sums(size, run, chunk, invocation);
            let base = run.image * 2u * size.quads + run.first + chunk.begin + invocation;
            sums_of_two[base] = pair.a;
            sums_of_two[base + size.quads] = pair.b;
        }
        sum = group_means(size, run, chunk, invocation, sum);
    }
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let lane = lane_of(size, run, chunk_of(run, begin), invocation);
        let map = load_map(size, run.image, lane.quad);
        let group = of_groups(size, run, lane.place);
        if lane.pixel == 0u && run.stores {
            let base = run.image * 2u * size.quads + lane.quad;
            means_of_two[base] = group.a;
            means_of_two[base + size.quads] = group.b;
        }
        let count = select(0u, lane.count, run.stores && !lane.in_second);
        var index = lane.at;
        var dy_index = (run.image * size.pixels + lane.pixel) * size.quads + lane.quad;
        for (var done = 0u; done < count; done += 1u) {
            let one = select(vec4<f32>(0.0), vec4<f32>(addend[index]), size.has_addend != 0u);
            let more = one + select(vec4<f32>(0.0), vec4<f32>(second[index]), !TWO && size.has_addend == 2u);
            dx_of_two[index] = Dx(input_gradient(size, map, group, index, dy_index) + more);
            index += lane.step * lane.pitch;
            dy_index += lane.step * size.quads;
        }
    }
}

// The sums and means.
@compute @workgroup_size(WG)
fn grad_sums(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = means_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    var sum = vec2<f32>(0.0);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let chunk = chunk_of(run, begin);
        gradient_sums(size, run, chunk, invocation);
        store_sums(size, run, chunk, invocation);
        sum = group_means(size, run, chunk, invocation, sum);
    }
    store_means(size, run, invocation);
}

// The same and the gradient of the scale-shift.
@compute @workgroup_size(WG)
fn grad_sums_modulated(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = modulated_size;
    let run = run_of(size, workgroup_id.y * num_workgroups.x + workgroup_id.x);
    var sum = vec2<f32>(0.0);
    for (var begin = 0u; begin < run.quads; begin += WG) {
        let chunk = chunk_of(run, begin);
        gradient_sums(size, run, chunk, invocation);
        store_sums(size, run, chunk, invocation);
        store_modulation_gradient(size, run, chunk, invocation);
        sum = group_means(size, run, chunk, invocation, sum);
    }
    store_means(size, run, invocation);
}

// dx by the means.
@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let size = dx_size;
    let index = (workgroup_id.y * num_workgroups.x + workgroup_id.x) * WG + invocation;
    let blocks = (size.pixels + BLOCK - 1u) / BLOCK;
    let x_quad = index % size.x_quads;
    let quad = size.first_quad + x_quad;
    let block = index / size.x_quads % blocks;
    let image = index / size.x_quads / blocks;
    if image >= size.batch {
        return;
    }
    let map = load_map(size, image, quad);
    let base = image * 2u * size.quads + quad;
    var group: Pair;
    group.a = means[base];
    group.b = means[base + size.quads];
    let end = min((block + 1u) * BLOCK, size.pixels);
    for (var pixel = block * BLOCK; pixel < end; pixel += 1u) {
        let row = image * size.pixels + pixel;
        let at = row * size.x_quads + x_quad;
        dx[at] = Dx(input_gradient(size, map, group, at, row * size.quads + quad) + added(size, at));
    }
}
