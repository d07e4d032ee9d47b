// What a device can do at most, for rooflines: bytes moved and multiply-adds done by kernels that do nothing else.
//
//   stream    y[i] = x[i], [quads] vec4: each read and written once, neighbours by neighbours
//   multiply  y[i] = eight independent chains of STEPS multiply-adds of vec4s that begin at x[i]: 32 STEPS of them an invocation
// Both leave what later launches read, so none can be left out.

override WG: u32;

const STEPS: u32 = 256u;

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
    let factor = vec4<f32>(0.5) + min(abs(start), vec4<f32>(1.0)) * 0.125;
    let offset = vec4<f32>(0.25);
    var a0 = start;
    var a1 = start.yzwx;
    var a2 = start.zwxy;
    var a3 = start.wxyz;
    var a4 = start + 0.125;
    var a5 = start.yzwx + 0.125;
    var a6 = start.zwxy + 0.125;
    var a7 = start.wxyz + 0.125;
    for (var step = 0u; step < STEPS; step++) {
        a0 = a0 * factor + offset;
        a1 = a1 * factor + offset;
        a2 = a2 * factor + offset;
        a3 = a3 * factor + offset;
        a4 = a4 * factor + offset;
        a5 = a5 * factor + offset;
        a6 = a6 * factor + offset;
        a7 = a7 * factor + offset;
    }
    y[index] = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
}
