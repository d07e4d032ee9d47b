// Sinusoidal timestep embedding: y[n, k] = cos(t[n] * f[k]) for k < half, then sin(t[n] * f[k - half]), then a zero
// column where the dimension is odd, and zeros in the pads.
//
// Layouts: t [batch]; f [half]; y [batch, pitch]. An invocation makes one value. The product is rounded to f32 as in the
// reference; its cosine and sine are taken after reduction by multiples of pi/2 (in three parts, Cody and Waite), since
// shading languages promise little for large arguments.

override WG: u32;

struct Size {
    batch: u32,
    half: u32,
    pitch: u32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> t: array<f32>;
@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> size: Size;

/// sin of a + quarter * pi/2.
fn sine(a: f32, quarter: u32) -> f32 {
    let turns = round(a * 0.6366197723675814);
    // pi/2 as a sum of three numbers, the first two short enough that their products with `turns` are exact.
    let r = ((a - turns * 1.5703125) - turns * 4.8375129699707031e-4) - turns * 7.5495994770293705e-8;
    let s = r * r;
    let odd = r + r * s * (-1.6666654611e-1 + s * (8.3321608736e-3 - s * 1.9515295891e-4));
    let even = 1.0 - 0.5 * s + s * s * (4.166664568298827e-2 + s * (-1.388731625493765e-3 + s * 2.443315711809948e-5));
    let q = (u32(i32(turns)) + quarter) & 3u;
    let value = select(odd, even, (q & 1u) == 1u);
    return select(value, -value, q >= 2u);
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let n = index / size.pitch;
    if (n >= size.batch) {
        return;
    }
    let k = index % size.pitch;
    var value = 0.0;
    if (k < 2u * size.half) {
        value = sine(t[n] * f[k % size.half], select(1u, 0u, k >= size.half));
    }
    y[index] = value;
}
