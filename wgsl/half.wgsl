// Tensors kept as f16 while they wait: values are rounded to the nearest f16, beyond the largest finite one to that.
//
// x, y: quads vec4s of f32; halves: a word holds two values, a vec4 of words two vec4s of x. An invocation makes a vec4
// of words (`store`) or two vec4s of values (`load`). Needs no f16 feature: the packing built-ins are in every WebGPU.

override WG: u32;

struct Size {
    quads: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

const LARGEST = vec4<f32>(65504.0);

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<u32>>;

@group(0) @binding(0) var<storage, read> halves: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@group(0) @binding(2) var<uniform> size: Size;

fn bounded(value: vec4<f32>) -> vec4<f32> {
    return clamp(value, -LARGEST, LARGEST);
}

@compute @workgroup_size(WG)
fn store(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (2u * index >= size.quads) {
        return;
    }
    let a = bounded(x[2u * index]);
    let b = bounded(x[min(2u * index + 1u, size.quads - 1u)]);
    packed[index] = vec4<u32>(
        pack2x16float(a.xy),
        pack2x16float(a.zw),
        pack2x16float(b.xy),
        pack2x16float(b.zw),
    );
}

@compute @workgroup_size(WG)
fn load(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (2u * index >= size.quads) {
        return;
    }
    let words = halves[index];
    y[2u * index] = vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
    if (2u * index + 1u < size.quads) {
        y[2u * index + 1u] = vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w));
    }
}
