// Losses per sample and their gradients.
//
//   mse            l[n] = mean over pixels and channels of (a - b)^2; a may have more channels per pixel than b
//                  (its gradient is in diffuse.wgsl)
//   cross_entropy  l[n] = log sum_k exp z[n,k] - z[n, label], in the max-subtracted form; no label (0xffffffff): 0
//   cross_entropy_grad  dz = (softmax(z) - onehot) * dl[n]
//   soft (kind 2)  l[n] = sum_k y[n,k] (log sum_j exp z[n,j] - z[n,k]);  dz = (softmax(z) sum_k y - y) * dl[n]
//   bce            l[n] = scale * sum_k max(z, 0) - z y + log(1 + exp(-|z|));  bce_grad  dz = scale * (sigmoid(z) - y) * dl
//   finish         l[n] = scale * sum over the parts of [batch, parts]
// `dl` is read as `times` says: 0 not at all, 1 its first number for all samples, 2 the number of each; all of it times scale.
// Layouts: images [batch, pixels, pitch]; z, y [batch, pitch]; l, dl [rows], rows = pitch(batch); pads are written as zero.
// `mse`: a workgroup makes one value, its lanes stride over the pixels. An invocation of `finish` makes one value, of the
// logits' losses and gradients one sample.

override WG: u32;

struct Images {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    rows: u32,
    scale: f32,
    pad0: u32,
}

struct Logits {
    batch: u32,
    classes: u32,
    pitch: u32,
    rows: u32,
    kind: u32,
    times: u32,
    scale: f32,
    pad0: u32,
}

struct Parts {
    batch: u32,
    rows: u32,
    parts: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> images: Images;

@group(0) @binding(3) var<uniform> logits: Logits;

@group(0) @binding(2) var<storage, read> dl: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<uniform> gradient_size: Logits;

@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> result_size: Parts;

const UNLABELLED: u32 = 0xffffffffu;

// Lanes of a workgroup of `mse`.
const LANES: u32 = 32u;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn mse(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.y * groups.x + group.x;
    var sum = 0.0;
    if (n < images.batch) {
        let end = (n + 1u) * images.pixels;
        for (var pixel = n * images.pixels + lane; pixel < end; pixel += LANES) {
            let begin = pixel * images.pitch;
            let other = pixel * images.other_pitch;
            for (var c = begin; c < begin + images.channels; c++) {
                let d = a[c] - b[other + c - begin];
                sum += d * d;
            }
        }
    }
    partial[lane] = sum;
    workgroupBarrier();
    if (lane == 0u && n < images.rows) {
        var total = 0.0;
        for (var other = 0u; other < LANES; other++) {
            total += partial[other];
        }
        out[n] = images.scale * total;
    }
}

@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= result_size.rows) {
        return;
    }
    var sum = 0.0;
    if (n < result_size.batch) {
        for (var part = 0u; part < result_size.parts; part++) {
            sum += a[n * result_size.parts + part];
        }
    }
    result[n] = result_size.scale * sum;
}

@compute @workgroup_size(WG)
fn logits_loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= logits.rows) {
        return;
    }
    var loss = 0.0;
    let base_at = n * logits.pitch;
    if (n < logits.batch && logits.kind != 1u) {
        var largest = a[base_at];
        for (var k = 1u; k < logits.classes; k++) {
            largest = max(largest, a[base_at + k]);
        }
        var sum = 0.0;
        for (var k = 0u; k < logits.classes; k++) {
            sum += exp(a[base_at + k] - largest);
        }
        // The logits' difference first: adding their common offset to the logarithm would cost its digits.
        if (logits.kind == 2u) {
            for (var k = 0u; k < logits.classes; k++) {
                loss += b[base_at + k] * (log(sum) + (largest - a[base_at + k]));
            }
        } else if (bitcast<u32>(b[n]) != UNLABELLED) {
            loss = log(sum) + (largest - a[base_at + min(bitcast<u32>(b[n]), logits.classes - 1u)]);
        }
    } else if (n < logits.batch) {
        for (var k = 0u; k < logits.classes; k++) {
            let z = a[base_at + k];
            loss += max(z, 0.0) - z * b[base_at + k] + log(1.0 + exp(-abs(z)));
        }
        loss *= logits.scale;
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
    var upstream = gradient_size.scale;
    if (gradient_size.times != 0u) {
        upstream *= dl[select(0u, n, gradient_size.times == 2u)];
    }
    if (gradient_size.kind != 1u) {
        var largest = a[base_at];
        for (var k = 1u; k < gradient_size.classes; k++) {
            largest = max(largest, a[base_at + k]);
        }
        var sum = 0.0;
        var whole = 0.0;
        for (var k = 0u; k < gradient_size.classes; k++) {
            sum += exp(a[base_at + k] - largest);
            if (gradient_size.kind == 2u) {
                whole += b[base_at + k];
            }
        }
        let label = bitcast<u32>(b[n]);
        let weight = select(upstream, 0.0, label == UNLABELLED);
        for (var k = 0u; k < gradient_size.classes; k++) {
            let share = exp(a[base_at + k] - largest) / sum;
            if (gradient_size.kind == 2u) {
                gradient[base_at + k] = upstream * (whole * share - b[base_at + k]);
            } else {
                gradient[base_at + k] = weight * select(share, share - 1.0, k == label);
            }
        }
    } else {
        for (var k = 0u; k < gradient_size.classes; k++) {
            let z = a[base_at + k];
            let small = exp(-abs(z));
            let sigmoid = select(small, 1.0, z >= 0.0) / (1.0 + small);
            gradient[base_at + k] = upstream * (sigmoid - b[base_at + k]);
        }
    }
    for (var k = gradient_size.classes; k < gradient_size.pitch; k++) {
        gradient[base_at + k] = 0.0;
    }
}
