// 3x3 convolution and its gradients, one output value per invocation: the baseline that benchmarks compare with, and a
// second opinion in tests. Equations and layouts as in conv3x3.wgsl, but every tensor is read as scalars.

override WG: u32;

struct Size {
    batch: u32,
    height: u32,
    width: u32,
    in_channels: u32,
    in_pitch: u32,
    out_height: u32,
    out_width: u32,
    out_channels: u32,
    out_pitch: u32,
    stride: u32,
    has_bias: u32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> size: Size;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> gradient_size: Size;

@group(0) @binding(1) var<storage, read> upstream: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
@group(0) @binding(3) var<uniform> weight_size: Size;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let k = index % size.out_pitch;
    let pixel = index / size.out_pitch;
    let j = pixel % size.out_width;
    let i = pixel / size.out_width % size.out_height;
    let n = pixel / size.out_width / size.out_height;
    if (n >= size.batch) {
        return;
    }
    var sum = 0.0;
    if (size.has_bias != 0u) {
        sum = bias[k];
    }
    for (var tap = 0u; tap < 9u; tap++) {
        let row = i32(i * size.stride + tap / 3u) - 1;
        let column = i32(j * size.stride + tap % 3u) - 1;
        if (row < 0 || row >= i32(size.height) || column < 0 || column >= i32(size.width)) {
            continue;
        }
        let at = ((n * size.height + u32(row)) * size.width + u32(column)) * size.in_pitch;
        for (var c = 0u; c < size.in_channels; c++) {
            sum += x[at + c] * weight[(tap * size.in_pitch + c) * size.out_pitch + k];
        }
    }
    y[index] = sum;
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let c = index % gradient_size.in_pitch;
    let pixel = index / gradient_size.in_pitch;
    let j = pixel % gradient_size.width;
    let i = pixel / gradient_size.width % gradient_size.height;
    let n = pixel / gradient_size.width / gradient_size.height;
    if (n >= gradient_size.batch) {
        return;
    }
    let stride = i32(gradient_size.stride);
    var sum = 0.0;
    for (var tap = 0u; tap < 9u; tap++) {
        let above = i32(i) + 1 - i32(tap / 3u);
        let left = i32(j) + 1 - i32(tap % 3u);
        if (above < 0 || left < 0 || above % stride != 0 || left % stride != 0) {
            continue;
        }
        let row = above / stride;
        let column = left / stride;
        if (row >= i32(gradient_size.out_height) || column >= i32(gradient_size.out_width)) {
            continue;
        }
        let line = (n * gradient_size.out_height + u32(row)) * gradient_size.out_width;
        let at = (line + u32(column)) * gradient_size.out_pitch;
        for (var k = 0u; k < gradient_size.out_channels; k++) {
            sum += dy[at + k] * weight[(tap * gradient_size.in_pitch + c) * gradient_size.out_pitch + k];
        }
    }
    dx[index] = sum;
}

@compute @workgroup_size(WG)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let k = index % weight_size.out_pitch;
    let c = index / weight_size.out_pitch % weight_size.in_pitch;
    let tap = index / weight_size.out_pitch / weight_size.in_pitch;
    if (tap >= 9u) {
        return;
    }
    var sum = 0.0;
    for (var n = 0u; n < weight_size.batch; n++) {
        for (var i = 0u; i < weight_size.out_height; i++) {
            let row = i32(i * weight_size.stride + tap / 3u) - 1;
            if (row < 0 || row >= i32(weight_size.height)) {
                continue;
            }
            for (var j = 0u; j < weight_size.out_width; j++) {
                let column = i32(j * weight_size.stride + tap % 3u) - 1;
                if (column < 0 || column >= i32(weight_size.width)) {
                    continue;
                }
                let base_at = ((n * weight_size.height + u32(row)) * weight_size.width + u32(column)) * weight_size.in_pitch;
                let at = ((n * weight_size.out_height + i) * weight_size.out_width + j) * weight_size.out_pitch;
                sum += x[base_at + c] * upstream[at + k];
            }
        }
    }
    dw[index] = sum;
}
