// Element-wise operations over vec4 arrays.
//
//   forward  operation 0: silu(a)          1: leaky_relu(a)        2: factor * a      3: a + b
//            operation 4: silu'(a) * b     5: leaky_relu'(a) * b
//   bounded  operation 0: relu(a)          1: relu'(a) * b         2: clamp(a, -factor, factor), NaN and infinity stay
//   multiply y = a * b
//   blend    y = a * y + (1 - a) * b, a mask over what is known
// silu(v) = v * sigmoid(v); leaky_relu(v) = v > 0 ? v : factor * v;
// relu(v) = v <= 0 ? 0 : v, with derivative 0 at 0. All maps send 0 to 0 where b is 0, so pads stay zero.
// a, b, y: [quads] vec4; an invocation makes one.

override WG: u32;

struct Size {
    quads: u32,
    operation: u32,
    factor: f32,
    pad0: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias A = vec4<f32>;
alias B = vec4<f32>;
alias Y = vec4<f32>;

@group(0) @binding(0) var<storage, read> a: array<A>;
@group(0) @binding(1) var<storage, read> b: array<B>;
@group(0) @binding(2) var<storage, read_write> y: array<Y>;
@group(0) @binding(3) var<uniform> size: Size;

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    // Bounded so that the exponential stays finite.
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= size.quads) {
        return;
    }
    let v = vec4<f32>(a[index]);
    var result = v;
    switch size.operation {
        case 0u: {
            result = v * sigmoid(v);
        }
        case 1u: {
            result = select(size.factor * v, v, v > vec4<f32>(0.0));
        }
        case 2u: {
            result = size.factor * v;
        }
        case 3u: {
            result = v + vec4<f32>(b[index]);
        }
        case 4u: {
            let s = sigmoid(v);
            result = vec4<f32>(b[index]) * s * (1.0 + v * (1.0 - s));
        }
        default: {
            let d = vec4<f32>(b[index]);
            result = select(size.factor * d, d, v > vec4<f32>(0.0));
        }
    }
    y[index] = Y(result);
}

// Apart from `forward`: every branch of a switch costs time where all of them run under a mask.
@compute @workgroup_size(WG)
fn bounded(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= size.quads) {
        return;
    }
    let v = vec4<f32>(a[index]);
    var result = v;
    switch size.operation {
        case 0u: {
            result = select(v, vec4<f32>(0.0), v <= vec4<f32>(0.0));
        }
        case 1u: {
            result = select(vec4<f32>(b[index]), vec4<f32>(0.0), v <= vec4<f32>(0.0));
        }
        default: {
            // By its bits: a compiler may take for granted that numbers are finite.
            let not_finite = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
            result = select(clamp(v, vec4<f32>(-size.factor), vec4<f32>(size.factor)), v, not_finite);
        }
    }
    y[index] = Y(result);
}

@compute @workgroup_size(WG)
fn blend(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= size.quads) {
        return;
    }
    y[index] = Y(mix(vec4<f32>(b[index]), vec4<f32>(y[index]), vec4<f32>(a[index])));
}

@compute @workgroup_size(WG)
fn multiply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index >= size.quads) {
        return;
    }
    y[index] = Y(vec4<f32>(a[index]) * vec4<f32>(b[index]));
}
