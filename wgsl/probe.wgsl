// What a device can do at most, for rooflines: bytes moved and multiply-adds done by kernels that do nothing else.
//
//   stream    y[i] = x[i], [quads] vec4: each read and written once, neighbours by neighbours
//   multiply  y[i] = three independent chains of STEPS multiply-adds of vec4s that begin at x[i]: 12 STEPS of them an invocation.
//             So many are under way at once in a processor's two pipes for vectors, and fit into sixteen registers.
// Both leave what later launches read, so none can be left out.

override WG: u32;

const STEPS: u32 = 512u;

struct Size {
    quads: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn stream(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    if (index < size.quads) {
        y[index] = x[index];
    }
}

// Four steps of a chain.
fn four(a: vec4<f32>, factor: f32) -> vec4<f32> {
    let f = vec4<f32>(factor);
    let offset = vec4<f32>(0.25);
    return fma(fma(fma(fma(a, f, offset), f, offset), f, offset), f, offset);
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
    let start = x[index];
    // Chains that stay between 0 and 2 for whatever they begin with.
    let factor = 0.5 + min(abs(start.x), 1.0) * 0.125;
    var a = start;
    var b = start.yzwx + 0.125;
    var c = start.zwxy + 0.25;
    for (var step = 0u; step < STEPS; step += 8u) {
        a = four(four(a, factor), factor);
        b = four(four(b, factor), factor);
        c = four(four(c, factor), factor);
    }
    y[index] = a + b + c;
}
