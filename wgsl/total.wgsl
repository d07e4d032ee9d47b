// Sums of losses, what is reported of them, and what their gradients begin with.
//
//   sum     out[0] = scale * sum over n of losses[n], times weight[0] where `factors` is 1; zeros behind
//   spread  out[n] = scale * losses[0], times weight[0] where `factors` is 2; zeros behind n = count
//   fill    out[n] = scale; zeros behind n = count
//   report  a number every `stride` of metrics: the sums of up to 8 losses, each times its weight, that belong to it; the first
//           one is the total, of each sum times its factor. They are added to what is there, or replace it where first[0] is 1.
// Layouts: losses, out [pitch(count)]; weight [1]; values_0, ... losses or weights.
// `spread` and `fill`: an invocation makes one value. `sum` and `report` are one workgroup, whose lanes stride over the losses;
// sums have a fixed order.

override WG: u32;

struct Size {
    count: u32,
    factors: u32,
    scale: f32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> losses: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> size: Size;

@group(0) @binding(0) var<storage, read_write> filled: array<f32>;
@group(0) @binding(1) var<uniform> fill_size: Size;

struct Report {
    stride: u32,
    // How many metrics there are, the total among them.
    slots: u32,
    // 1: whatever `first` says, this launch adds.
    adds: u32,
    pad0: u32,
    // Of each sum: which of the values it is of and how many they are, which of them is its weight, which metric it belongs to.
    sums: array<vec4<u32>, 8>,
    // Of each sum: what it is multiplied by, and further in the total; whether it is part of the total.
    factors: array<vec4<f32>, 8>,
}

const SUMS: u32 = 8u;
// Which value is no weight.
const VALUES: u32 = 6u;

@group(0) @binding(0) var<storage, read> values_0: array<f32>;
@group(0) @binding(1) var<storage, read> values_1: array<f32>;
@group(0) @binding(2) var<storage, read> values_2: array<f32>;
@group(0) @binding(3) var<storage, read> values_3: array<f32>;
@group(0) @binding(4) var<storage, read> values_4: array<f32>;
@group(0) @binding(5) var<storage, read> values_5: array<f32>;
@group(0) @binding(6) var<storage, read> first: array<u32>;
@group(0) @binding(7) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(8) var<uniform> report_size: Report;

var<workgroup> parts: array<f32, WG>;

@compute @workgroup_size(WG)
fn sum(@builtin(local_invocation_index) lane: u32) {
    var part = 0.0;
    for (var n = 0u; n + lane < size.count; n += WG) {
        part += losses[n + lane];
    }
    parts[lane] = part;
    workgroupBarrier();
    if (lane < 4u) {
        var total = 0.0;
        if (lane == 0u) {
            for (var other = 0u; other < WG; other++) {
                total += parts[other];
            }
            total *= size.scale;
            if (size.factors == 1u) {
                total *= weight[0];
            }
        }
        out[lane] = total;
    }
}

@compute @workgroup_size(WG)
fn spread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n >= (size.count + 3u) / 4u * 4u) {
        return;
    }
    var value = size.scale * losses[0];
    if (size.factors == 2u) {
        value *= weight[0];
    }
    out[n] = select(0.0, value, n < size.count);
}

@compute @workgroup_size(WG)
fn fill(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let n = (group.y * groups.x + group.x) * WG + local;
    if (n < (fill_size.count + 3u) / 4u * 4u) {
        filled[n] = select(0.0, fill_size.scale, n < fill_size.count);
    }
}

fn value_of(which: u32, n: u32) -> f32 {
    if (which == 0u) {
        return values_0[n];
    }
    if (which == 1u) {
        return values_1[n];
    }
    if (which == 2u) {
        return values_2[n];
    }
    if (which == 3u) {
        return values_3[n];
    }
    if (which == 4u) {
        return values_4[n];
    }
    return values_5[n];
}

// As many lanes work on each sum as there are.
@compute @workgroup_size(WG)
fn report(@builtin(local_invocation_index) local: u32) {
    let lanes = WG / SUMS;
    let own = report_size.sums[local / lanes];
    var part = 0.0;
    for (var n = local % lanes; n < own.y; n += lanes) {
        part += value_of(own.x, n);
    }
    parts[local] = part;
    workgroupBarrier();
    if (local < report_size.slots) {
        var value = 0.0;
        for (var other = 0u; other < SUMS; other++) {
            let which = report_size.sums[other];
            let factors = report_size.factors[other];
            if (which.w == local || (local == 0u && factors.z != 0.0)) {
                var whole = 0.0;
                for (var lane = 0u; lane < lanes; lane++) {
                    whole += parts[other * lanes + lane];
                }
                whole *= factors.x;
                if (which.z < VALUES) {
                    whole *= value_of(which.z, 0u);
                }
                // No product with a factor of 0, which would make NaN of infinity.
                if (local == 0u) {
                    whole *= factors.y;
                }
                value += whole;
            }
        }
        if (first[0] == 0u || report_size.adds == 1u) {
            value += metrics[local * report_size.stride];
        }
        metrics[local * report_size.stride] = value;
    }
}
