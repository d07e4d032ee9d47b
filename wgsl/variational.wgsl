// The variational term of a learned sigma, per sample, in bits per dimension (Nichol and Dhariwal 2021), and its gradient.
//
// log_var = f * log_beta + (1 - f) * posterior_log_var with f = (v + 1) / 2; x0 = c2 * x_t - c3 * out, not clipped;
// mean = c0 * x0 + c1 * x_t, true mean = c0 * x_start + c1 * x_t.
//   t > 0  KL = (log_var - posterior_log_var - 1 + exp(posterior_log_var - log_var) + (difference)^2 exp(-log_var)) / 2
//   t = 0  -log of the Gaussian's mass in x_start's bin of half width 1/255, by the tanh form of the normal CDF; the
//          outermost bins are open; masses are clamped at 1e-12
// then the mean over pixels and channels over ln 2. Only v receives a gradient: the prediction is cut off.
// Layouts: model_out [batch, pixels, out_pitch] out and v; x_start, x_t [batch, pixels, pitch]; coefficients [batch, 8]:
// c0 c1 c2 c3 posterior_log_var log_beta is_t0 unused; out [rows], rows = pitch(batch), zeros
// behind the samples; dl is read as `times` says: 0 not at all, 1 its first number for all samples, 2 the number of each; all of it
// times scale. `forward`: a workgroup makes one value, its lanes stride over the pixels. `grad`: an invocation makes one element.

override WG: u32;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    out_pitch: u32,
    rows: u32,
    scale: f32,
    times: u32,
}

@group(0) @binding(0) var<storage, read> model_out: array<f32>;
@group(0) @binding(1) var<storage, read> x_start: array<f32>;
@group(0) @binding(2) var<storage, read> x_t: array<f32>;
@group(0) @binding(3) var<storage, read> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> size: Size;

@group(0) @binding(4) var<storage, read> dl: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(6) var<uniform> gradient_size: Size;

const LEAST: f32 = 1e-12;
const HALF_BIN: f32 = 0.00392156862745098;

/// Normal CDF by tanh, as the reference has it, and its derivative. tanh(a) = 1 - 2 / (1 + exp(2a)), so the CDF is a
/// sigmoid of twice the argument.
fn cdf(z: f32) -> vec2<f32> {
    let a = 1.5957691216057308 * (z + 0.044715 * z * z * z);
    let small = exp(-abs(a));
    let mass = select(small, 1.0, a >= 0.0) / (1.0 + small);
    // mass * (1 - mass) in a form that keeps its digits in the tails.
    let slope = small / ((1.0 + small) * (1.0 + small)) * 1.5957691216057308 * (1.0 + 0.134145 * z * z);
    return vec2<f32>(mass, slope);
}

/// -log mass of the bin around x, and its derivative with respect to the log variance.
fn discretised(x: f32, mean: f32, log_var: f32) -> vec2<f32> {
    let inverse = exp(-0.5 * log_var);
    let above = (x - mean + HALF_BIN) * inverse;
    let below = (x - mean - HALF_BIN) * inverse;
    let upper = cdf(above);
    let lower = cdf(below);
    // Complement of the lower CDF without cancellation.
    let rest = cdf(-below);
    var mass = upper.x - lower.x;
    if (below > 0.0) {
        // Both far up: the difference of the complements keeps more digits.
        mass = rest.x - cdf(-above).x;
    }
    // d z / d log_var = -z / 2
    var slope = -0.5 * (upper.y * above - lower.y * below);
    if (x < -0.999) {
        mass = upper.x;
        slope = -0.5 * upper.y * above;
    } else if (x > 0.999) {
        mass = rest.x;
        slope = 0.5 * lower.y * below;
    }
    if (mass < LEAST) {
        return vec2<f32>(-log(LEAST), 0.0);
    }
    return vec2<f32>(-log(mass), -slope / mass);
}

/// The term and its derivative with respect to v, of one element; `row` of coefficients, pixel and channel.
fn term(n: u32, eps: f32, v: f32, start: f32, noised: f32) -> vec2<f32> {
    let k = n * 8u;
    let least = coefficients[k + 4u];
    let width = coefficients[k + 5u] - least;
    let wider = 0.5 * (v + 1.0) * width;
    let log_var = least + wider;
    let x0 = coefficients[k + 2u] * noised - coefficients[k + 3u] * eps;
    let mean = coefficients[k] * x0 + coefficients[k + 1u] * noised;
    var result: vec2<f32>;
    if (coefficients[k + 6u] != 0.0) {
        result = discretised(start, mean, log_var);
    } else {
        let difference = coefficients[k] * (start - x0);
        let square = difference * difference * exp(-log_var);
        // At large t the variances all but agree: 1 - exp(-wider) and what it lacks to `wider` cancel, a series does not.
        var fall = 1.0 - exp(-wider);
        var lack = wider - fall;
        if (abs(wider) < 0.25) {
            let tail = 1.0 - wider / 3.0 * (1.0 - wider / 4.0 * (1.0 - wider / 5.0 * (1.0 - wider / 6.0)));
            lack = 0.5 * wider * wider * tail;
            fall = wider - lack;
        }
        result = vec2<f32>(0.5 * (lack + square), 0.5 * (fall - square));
    }
    return vec2<f32>(result.x, result.y * 0.5 * width);
}

// Lanes of a workgroup of `forward`.
const LANES: u32 = 32u;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.y * groups.x + group.x;
    var sum = 0.0;
    if (n < size.batch) {
        let end = (n + 1u) * size.pixels;
        for (var pixel = n * size.pixels + lane; pixel < end; pixel += LANES) {
            let begin = pixel * size.out_pitch;
            let image = pixel * size.pitch;
            for (var c = begin; c < begin + size.channels; c++) {
                let at = image + c - begin;
                sum += term(n, model_out[c], model_out[c + size.channels], x_start[at], x_t[at]).x;
            }
        }
    }
    partial[lane] = sum;
    workgroupBarrier();
    if (lane == 0u && n < size.rows) {
        var total = 0.0;
        for (var other = 0u; other < LANES; other++) {
            total += partial[other];
        }
        out[n] = size.scale * total;
    }
}

@compute @workgroup_size(WG)
fn grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pixel = index / gradient_size.out_pitch;
    let n = pixel / gradient_size.pixels;
    if (n >= gradient_size.batch) {
        return;
    }
    let column = index % gradient_size.out_pitch;
    var value = 0.0;
    if (column >= gradient_size.channels && column < 2u * gradient_size.channels) {
        let at = pixel * gradient_size.pitch + column - gradient_size.channels;
        let eps = model_out[index - gradient_size.channels];
        var upstream = gradient_size.scale;
        if (gradient_size.times != 0u) {
            upstream *= dl[select(0u, n, gradient_size.times == 2u)];
        }
        value = upstream * term(n, eps, model_out[index], x_start[at], x_t[at]).y;
    }
    gradient[index] = value;
}
