// Dynamic scaling of the loss, so that gradients stored as f16 neither vanish nor overflow unnoticed (Micikevicius et al. 2018,
// "Mixed Precision Training", section 3.2; numbers and order as PyTorch's GradScaler).
//
//   seed    the gradient of the scaled loss with respect to the loss: the scale
//   unscale norm = s / scale * sqrt(x[0]) of the sum of squares x of all scaled gradients; unscaled = hyper with
//           s / scale * min(1, max_norm / norm). Where x is NaN or infinite both are 0: the step is skipped
//   update  after a step: scale / 2 where x is NaN or infinite, 2 * scale after INTERVAL good steps since it last changed
// state: scale, good steps since it last changed, skipped steps in all, 0. All of these numbers are exact in f32.
// hyper: the numbers of optimizer.wgsl, s at 8. Scales are powers of two: nothing is rounded by dividing.

override WG: u32;

const INTERVAL: f32 = 2000.0;
// Beyond it a scale helps no number of f16, and squares of gradients could leave f32.
const LARGEST: f32 = 16777216.0;

struct Limit {
    max_norm: f32,
    pad_0: u32,
    pad_1: u32,
    pad_2: u32,
}

@group(0) @binding(0) var<storage, read> scaling: array<f32>;
@group(0) @binding(1) var<storage, read_write> seed_gradient: array<vec4<f32>>;

@group(0) @binding(0) var<storage, read> squares: array<f32>;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> state: array<f32>;
@group(0) @binding(3) var<storage, read_write> norm: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> unscaled: array<f32>;
@group(0) @binding(5) var<uniform> limit: Limit;

@group(0) @binding(1) var<storage, read_write> changed: array<vec4<f32>>;

// By bits: compilers may take numbers for finite.
fn overflows(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}

@compute @workgroup_size(WG)
fn seed(@builtin(local_invocation_index) local: u32) {
    if (local == 0u) {
        seed_gradient[0] = vec4<f32>(scaling[0], 0.0, 0.0, 0.0);
    }
}

@compute @workgroup_size(WG)
fn unscale(@builtin(local_invocation_index) local: u32) {
    if (local >= 12u) {
        return;
    }
    let skipped = overflows(squares[0]);
    let factor = hyper[8] / state[0];
    let total = factor * sqrt(squares[0]);
    var value = hyper[local];
    if (local == 8u) {
        value = factor;
        if (total > limit.max_norm) {
            value *= limit.max_norm / total;
        }
        value = select(value, 0.0, skipped);
    }
    unscaled[local] = value;
    if (local == 0u) {
        norm[0] = vec4<f32>(select(total, 0.0, skipped), 0.0, 0.0, 0.0);
    }
}

@compute @workgroup_size(WG)
fn update(@builtin(local_invocation_index) local: u32) {
    if (local > 0u) {
        return;
    }
    let known = changed[0];
    if (overflows(squares[0])) {
        changed[0] = vec4<f32>(known.x * 0.5, 0.0, known.z + 1.0, 0.0);
    } else if (known.y + 1.0 >= INTERVAL) {
        changed[0] = vec4<f32>(min(known.x * 2.0, max(known.x, LARGEST)), 0.0, known.z, 0.0);
    } else {
        changed[0] = vec4<f32>(known.x, known.y + 1.0, known.z, 0.0);
    }
}
