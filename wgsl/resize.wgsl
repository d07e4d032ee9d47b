// Bilinear resizing of images to any size, and its gradient: half-pixel centres, no antialiasing, as PyTorch's
// `interpolate(mode="bilinear", align_corners=False)`.
//
//   forward  y[n,i,j,c]  = sum over rows a, columns b of weight(i,a) * weight(j,b) * x[n,a,b,c]
//   grad     dx[n,a,b,c] = sum over i, j of weight(i,a) * weight(j,b) * dy[n,i,j,c]
// Along an axis of `side` pixels made into `made`, with scale = side / made, output i lies at s = max((i + 1/2) * scale - 1/2,
// 0) and weighs the pixels floor(s) and, inside the image, floor(s) + 1 by their distance from s.
// Layouts: x, dx [batch, height, width, quads] of vec4; y, dy [batch, out_height, out_width, quads].
// An invocation makes one vec4.

override WG: u32;

struct Size {
    batch: u32,
    height: u32,
    width: u32,
    quads: u32,
    out_height: u32,
    out_width: u32,
    scale_height: f32,
    scale_width: f32,
}

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> size: Size;

// Where along one axis an output lies: the first of its two pixels, the second one, and the second one's weight.
struct Between {
    first: u32,
    second: u32,
    share: f32,
}

fn between(output: u32, scale: f32, side: u32) -> Between {
    let at = max((f32(output) + 0.5) * scale - 0.5, 0.0);
    let first = min(u32(at), side - 1u);
    return Between(first, min(first + 1u, side - 1u), at - f32(first));
}

// The weight of a pixel in an output. At the last pixel both are the same one.
fn weight_of(output: u32, pixel: u32, scale: f32, side: u32) -> f32 {
    let at = between(output, scale, side);
    return select(0.0, 1.0 - at.share, at.first == pixel) + select(0.0, at.share, at.second == pixel);
}

// The outputs that may weigh a pixel along one axis, and some that do not: first one and the one behind the last.
fn reached(pixel: u32, scale: f32, made: u32) -> vec2<u32> {
    let first = max((f32(pixel) - 0.5) / scale - 1.5, 0.0);
    let end = max((f32(pixel) + 1.5) / scale + 1.5, 0.0);
    return vec2<u32>(min(u32(first), made), min(u32(end), made - 1u) + 1u);
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let line = pixel / size.out_width;
    let image = line / size.out_height;
    if (image >= size.batch) {
        return;
    }
    let row = between(line % size.out_height, size.scale_height, size.height);
    let column = between(pixel % size.out_width, size.scale_width, size.width);
    let upper = (image * size.height + row.first) * size.width;
    let lower = (image * size.height + row.second) * size.width;
    let above = (1.0 - column.share) * source[(upper + column.first) * size.quads + quad]
        + column.share * source[(upper + column.second) * size.quads + quad];
    let below = (1.0 - column.share) * source[(lower + column.first) * size.quads + quad]
        + column.share * source[(lower + column.second) * size.quads + quad];
    result[index] = (1.0 - row.share) * above + row.share * below;
}

@compute @workgroup_size(WG)
fn grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let line = pixel / size.width;
    let image = line / size.height;
    if (image >= size.batch) {
        return;
    }
    let row = line % size.height;
    let column = pixel % size.width;
    let rows = reached(row, size.scale_height, size.out_height);
    let columns = reached(column, size.scale_width, size.out_width);
    var sum = vec4<f32>(0.0);
    for (var i = rows.x; i < rows.y; i += 1u) {
        let weight = weight_of(i, row, size.scale_height, size.height);
        let base = (image * size.out_height + i) * size.out_width;
        var line_sum = vec4<f32>(0.0);
        for (var j = columns.x; j < columns.y; j += 1u) {
            line_sum += weight_of(j, column, size.scale_width, size.width) * source[(base + j) * size.quads + quad];
        }
        sum += weight * line_sum;
    }
    result[index] = sum;
}
