// The classifier's input: every feature map pooled over its pixels, side by side, then the raw timestep.
//
//   pool_into      f[n, offset + c] = mean (or maximum) over p of x[n, p, c]
//                  with `timestep` x is t [batch] instead: f[n, offset] = t[n], and zeros behind it to the row's end
//   pool_grad      dx[n, p, c] = df[n, offset + c] / pixels; of a maximum: all of it to the first pixel that attains it
// Layouts: x, dx [batch, pixels, quads] of vec4; f, df [batch, pitch]; t [batch].
// An invocation pools one vec4 of channels of one sample, or makes one vec4 of dx. Sums run in a fixed order.

override WG: u32;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    quads: u32,
    pitch: u32,
    offset: u32,
    maximum: u32,
    timestep: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;
alias Dx = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read_write> f: array<f32>;
@group(0) @binding(2) var<uniform> size: Size;

@group(0) @binding(1) var<storage, read> pooled: array<f32>;
@group(0) @binding(2) var<storage, read> df: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(4) var<uniform> grad_size: Size;

@compute @workgroup_size(WG)
fn pool_into(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / size.quads;
    if (n >= size.batch) {
        return;
    }
    if (size.timestep != 0u) {
        f[n * size.pitch + size.offset] = vec4<f32>(x[n / 4u])[n % 4u];
        for (var column = size.offset + 1u; column < size.pitch; column++) {
            f[n * size.pitch + column] = 0.0;
        }
        return;
    }
    let quad = index % size.quads;
    let base_at = n * size.pixels * size.quads + quad;
    var value = vec4<f32>(x[base_at]);
    if (size.maximum != 0u) {
        // A maximum passes over NaN: the largest bits, sign apart, tell whether there was any.
        var bits = bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu);
        for (var p = 1u; p < size.pixels; p++) {
            let next = vec4<f32>(x[base_at + p * size.quads]);
            value = max(value, next);
            bits = max(bits, bitcast<vec4<u32>>(next) & vec4<u32>(0x7fffffffu));
        }
        value = select(value, bitcast<vec4<f32>>(bits), bits > vec4<u32>(0x7f800000u));
    } else {
        for (var p = 1u; p < size.pixels; p++) {
            value += vec4<f32>(x[base_at + p * size.quads]);
        }
        value /= f32(size.pixels);
    }
    for (var lane = 0u; lane < 4u; lane++) {
        if (quad * 4u + lane < size.channels) {
            f[n * size.pitch + size.offset + quad * 4u + lane] = value[lane];
        }
    }
}

@compute @workgroup_size(WG)
fn pool_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let quad = index % grad_size.quads;
    let pixel = index / grad_size.quads;
    let n = pixel / grad_size.pixels;
    if (n >= grad_size.batch) {
        return;
    }
    var value = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        if (quad * 4u + lane < grad_size.channels) {
            value[lane] = df[n * grad_size.pitch + grad_size.offset + quad * 4u + lane];
        }
    }
    if (grad_size.maximum == 0u) {
        dx[index] = Dx(value / f32(grad_size.pixels));
        return;
    }
    // The first pixel with the maximum takes all: any earlier one that attains it shuts this one out.
    let mine = vec4<f32>(x[index]);
    var largest = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        if (quad * 4u + lane < grad_size.channels) {
            largest[lane] = pooled[n * grad_size.pitch + grad_size.offset + quad * 4u + lane];
        }
    }
    var first = mine == largest;
    let base_at = n * grad_size.pixels * grad_size.quads + quad;
    for (var p = 0u; p < pixel % grad_size.pixels; p++) {
        first = first & (vec4<f32>(x[base_at + p * grad_size.quads]) < largest);
    }
    dx[index] = Dx(select(vec4<f32>(0.0), value, first));
}
