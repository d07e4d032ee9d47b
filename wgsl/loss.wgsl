// Losses per sample and their gradients.
//
//   mse            l[n] = mean over pixels and channels of (a - b)^2; a may have more channels per pixel than b
//                  (its gradient is in diffuse.wgsl)
//   cross_entropy  l[n] = log sum_k exp z[n,k] - z[n, label], in the max-subtracted form; no label (0xffffffff): 0
//   cross_entropy_grad  dz = (softmax(z) - onehot) * dl[n]
//   soft (kind 2)  l[n] = sum_k y[n,k] (log sum_j exp z[n,j] - z[n,k]);  dz = (softmax(z) sum_k y - y) * dl[n]
//   bce            l[n] = scale * sum_k max(z, 0) - z y + log(1 + exp(-|z|));  bce_grad  dz = scale * (sigmoid(z) - y) * dl
//   total          out[0] = scale * sum over l, zeros behind; spread: out[n] = scale * dl[0]; constant: out[n] = scale
//   weigh          the first two of these, with b[0] in the place of scale
// Layouts: images [batch, pixels, pitch]; z, y [batch, pitch]; l, dl [pitch(batch)]; pads are written as zero.
// `mse` sums parts in scratch [batch, parts] first, then `finish` adds them in order. An invocation makes one value (of
// mse: one part; of the logits' losses: one sample).

override WG: u32;

struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    parts: u32,
    scale: f32,
    kind: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> size: Size;

@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> result_size: Size;

@group(0) @binding(2) var<storage, read> dl: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<uniform> gradient_size: Size;

const UNLABELLED: u32 = 0xffffffffu;

@compute @workgroup_size(WG)
fn mse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / size.parts;
    if (n >= size.batch) {
        return;
    }
    var sum = 0.0;
    for (var p = index % size.parts; p < size.pixels; p += size.parts) {
        let pixel = n * size.pixels + p;
        for (var c = 0u; c < size.channels; c++) {
            let d = a[pixel * size.pitch + c] - b[pixel * size.other_pitch + c];
            sum += d * d;
        }
    }
    out[index] = sum;
}

@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= result_size.pitch) {
        return;
    }
    var sum = 0.0;
    if (n < result_size.batch) {
        if (result_size.kind == 0u) {
            // Parts of one sample.
            for (var part = 0u; part < result_size.parts; part++) {
                sum += a[n * result_size.parts + part];
            }
        } else if (result_size.kind == 1u) {
            // All samples into the first element.
            for (var i = 0u; i < result_size.parts; i++) {
                sum += a[i];
            }
        } else if (result_size.kind == 2u) {
            sum = a[0];
        } else {
            sum = 1.0;
        }
    }
    result[n] = result_size.scale * sum;
}

@compute @workgroup_size(WG)
fn weigh(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= size.pitch) {
        return;
    }
    var sum = 0.0;
    if (n < size.batch) {
        if (size.kind == 1u) {
            for (var i = 0u; i < size.parts; i++) {
                sum += a[i];
            }
        } else {
            sum = a[0];
        }
    }
    out[n] = b[0] * sum;
}

@compute @workgroup_size(WG)
fn logits_loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= size.parts) {
        return;
    }
    var loss = 0.0;
    let base_at = n * size.pitch;
    if (n < size.batch && size.kind != 1u) {
        var largest = a[base_at];
        for (var k = 1u; k < size.channels; k++) {
            largest = max(largest, a[base_at + k]);
        }
        var sum = 0.0;
        for (var k = 0u; k < size.channels; k++) {
            sum += exp(a[base_at + k] - largest);
        }
        // The logits' difference first: adding their common offset to the logarithm would cost its digits.
        if (size.kind == 2u) {
            for (var k = 0u; k < size.channels; k++) {
                loss += b[base_at + k] * (log(sum) + (largest - a[base_at + k]));
            }
        } else if (bitcast<u32>(b[n]) != UNLABELLED) {
            loss = log(sum) + (largest - a[base_at + min(bitcast<u32>(b[n]), size.channels - 1u)]);
        }
    } else if (n < size.batch) {
        for (var k = 0u; k < size.channels; k++) {
            let z = a[base_at + k];
            loss += max(z, 0.0) - z * b[base_at + k] + log(1.0 + exp(-abs(z)));
        }
        loss *= size.scale;
    }
    out[n] = loss;
}

@compute @workgroup_size(WG)
fn logits_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= gradient_size.batch) {
        return;
    }
    let base_at = n * gradient_size.pitch;
    if (gradient_size.kind != 1u) {
        var largest = a[base_at];
        for (var k = 1u; k < gradient_size.channels; k++) {
            largest = max(largest, a[base_at + k]);
        }
        var sum = 0.0;
        var whole = 0.0;
        for (var k = 0u; k < gradient_size.channels; k++) {
            sum += exp(a[base_at + k] - largest);
            if (gradient_size.kind == 2u) {
                whole += b[base_at + k];
            }
        }
        let label = bitcast<u32>(b[n]);
        let weight = select(dl[n], 0.0, label == UNLABELLED);
        for (var k = 0u; k < gradient_size.channels; k++) {
            let share = exp(a[base_at + k] - largest) / sum;
            if (gradient_size.kind == 2u) {
                gradient[base_at + k] = dl[n] * (whole * share - b[base_at + k]);
            } else {
                gradient[base_at + k] = weight * select(share, share - 1.0, k == label);
            }
        }
    } else {
        for (var k = 0u; k < gradient_size.channels; k++) {
            let z = a[base_at + k];
            let small = exp(-abs(z));
            let sigmoid = select(small, 1.0, z >= 0.0) / (1.0 + small);
            gradient[base_at + k] = gradient_size.scale * dl[n] * (sigmoid - b[base_at + k]);
        }
    }
    for (var k = gradient_size.channels; k < gradient_size.pitch; k++) {
        gradient[base_at + k] = 0.0;
    }
}
