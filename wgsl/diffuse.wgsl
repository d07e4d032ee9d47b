// Forward diffusion: x_t = coefficients[2n] * x_start + coefficients[2n + 1] * noise (Ho et al. 2020, Eq. 4).
//
// Layouts: images [batch, image_quads] of vec4; coefficients [batch * 2]: sqrt(alphas_cumprod[t]) and
// sqrt(1 - alphas_cumprod[t]) of each sample. An invocation makes one vec4.

override WG: u32;

struct Size {
    batch: u32,
    image_quads: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> x_start: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> noise: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> coefficients: array<f32>;
@group(0) @binding(3) var<storage, read_write> x_t: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn q_sample(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / size.image_quads;
    if (n >= size.batch) {
        return;
    }
    x_t[index] = coefficients[2u * n] * x_start[index] + coefficients[2u * n + 1u] * noise[index];
}
