// Resampling by two, both directions, and the gradients of both.
//
//   expand  y[n, i, j] = scale * x[n, i/2, j/2] where that lies inside x, else 0
//   pool    y[n, i, j] = scale * (x[n, 2i, 2j] + x[n, 2i, 2j+1] + x[n, 2i+1, 2j] + x[n, 2i+1, 2j+1])
// Nearest upsampling is expand with scale 1, its gradient pool with scale 1; the 2x2 mean is pool with scale 1/4, its
// gradient expand with scale 1/4 (an odd last row or column of x gets 0).
// Layouts: [batch, height, width, quads] of vec4. An invocation makes one vec4.

override WG: u32;

struct Size {
    batch: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    quads: u32,
    scale: f32,
    average: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias X = vec4<f32>;
alias Y = vec4<f32>;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read_write> y: array<Y>;
@group(0) @binding(2) var<uniform> size: Size;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let j = pixel % size.out_width;
    let i = pixel / size.out_width % size.out_height;
    let n = pixel / size.out_width / size.out_height;
    if (n >= size.batch) {
        return;
    }
    var value = vec4<f32>(0.0);
    if (size.average != 0u) {
        let at = ((n * size.height + 2u * i) * size.width + 2u * j) * size.quads + quad;
        let below = at + size.width * size.quads;
        value = vec4<f32>(x[at]) + vec4<f32>(x[at + size.quads]) + vec4<f32>(x[below]) + vec4<f32>(x[below + size.quads]);
    } else if (i / 2u < size.height && j / 2u < size.width) {
        value = vec4<f32>(x[((n * size.height + i / 2u) * size.width + j / 2u) * size.quads + quad]);
    }
    y[index] = Y(size.scale * value);
}
