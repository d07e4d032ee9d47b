// Two images mixed with factors of each sample: out[n] = u[n] * a[n] + v[n] * b[n].
//
//   mode 0  u, v = scale * factors[stride n], -scale * factors[stride n]: the gradient of a squared error
//   mode 1  u, v = factors[stride n], factors[stride n + 1]: forward diffusion with sqrt(alphas_cumprod),
//           sqrt(1 - alphas_cumprod) (Ho et al. 2020, Eq. 4), and the x_start that a prediction means
//   mode 2  u, v = 0, factors[stride n], and
//   mode 3  u, v = 0, factors[stride n + 1]: the gradients of mode 1 on a and b; `a` is not read
//   mode 4  u, v = scale, -scale; factors are not read
// Layouts: a, out [batch, pixels, pitch]; b [batch, pixels, other_pitch]; out is zero from column `channels` on.
// An invocation makes one element.

override WG: u32;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    mode: u32,
    scale: f32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn mix_samples(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let pixel = index / size.pitch;
    let n = pixel / size.pixels;
    if (n >= size.batch) {
        return;
    }
    let c = index % size.pitch;
    var value = 0.0;
    if (c < size.channels) {
        let other = b[pixel * size.other_pitch + c];
        if (size.mode == 0u) {
            value = size.scale * factors[size.stride * n] * (a[index] - other);
        } else if (size.mode == 4u) {
            value = size.scale * (a[index] - other);
        } else if (size.mode == 1u) {
            value = factors[size.stride * n] * a[index] + factors[size.stride * n + 1u] * other;
        } else {
            value = factors[size.stride * n + size.mode - 2u] * other;
        }
    }
    out[index] = value;
}
