// Gradients of the weight and the bias of a 3x3 convolution with padding 1, any stride, as a product over tiles in workgroup
// memory, for GPUs.
//
//   dw[u*3+v, c, k] = sum x[n, i*s+u-1, j*s+v-1, c] * dy[n, i, j, k],  db[k] = sum dy[n, i, j, k]
// Layouts (P: rounded up to 4): x [N,H,W,P(C)]; dy [N,H',W',P(K)]; partials [slices, 9, P(C), P(K)]; bias_partials
// [slices, P(K)], which the workgroups of the first rows add up of what they load.
// Rows of the product are (tap, c), columns k, and the sum runs over the pixels of one slice, four in a row of the image
// at a time; the last four of a row may reach past it, where x counts as zero. A workgroup makes 8*WG_Y rows x 8*WG_X
// columns, an invocation 8 x 8 of them. A step of the sum is STEP times four pixels: every invocation loads four of one
// quad of rows, whose tap never changes, and up to four of dy, then does 256 multiply-adds per 16 vec4 of workgroup
// memory. The host sets STEP = WG_X / 2, so that every invocation loads x once.
// reduce_rows.wgsl adds the slices, so the sum's order is fixed.

override WG_X: u32;
override WG_Y: u32;
// Groups of four pixels per step.
override STEP: u32;
// Whether x is twice as high and wide as the source: x[n, i, j, c] is source[n, i/2, j/2, c].
override EXPANDED: bool;

struct Size {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    // Fours of pixels in a row, and how far STEP of them reach: whole images, rows, and fours.
    fours: u32,
    step_images: u32,
    step_rows: u32,
    step_fours: u32,
    stride: u32,
    slices: u32,
    // Fours of a slice, a multiple of STEP.
    slice_fours: u32,
    pad0: u32,
    pad1: u32,
}

// How tensors are stored; the program for f16 replaces these lines. Arithmetic is f32.
alias Source = vec4<f32>;
alias Upstream = vec4<f32>;

@group(0) @binding(0) var<storage, read> source: array<Source>;
@group(0) @binding(1) var<storage, read> upstream: array<Upstream>;
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias_partials: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> size: Size;

// Pixel 4g + p of a step, quad y of the tile's rows: rows_p[g*2*WG_Y + y].
var<workgroup> rows0: array<vec4<f32>, 2u * STEP * WG_Y>;
var<workgroup> rows1: array<vec4<f32>, 2u * STEP * WG_Y>;
var<workgroup> rows2: array<vec4<f32>, 2u * STEP * WG_Y>;
var<workgroup> rows3: array<vec4<f32>, 2u * STEP * WG_Y>;
// The same pixel, quad x of the columns: columns_p[g*2*WG_X + x].
var<workgroup> columns0: array<vec4<f32>, 2u * STEP * WG_X>;
var<workgroup> columns1: array<vec4<f32>, 2u * STEP * WG_X>;
var<workgroup> columns2: array<vec4<f32>, 2u * STEP * WG_X>;
var<workgroup> columns3: array<vec4<f32>, 2u * STEP * WG_X>;

const ZERO = vec4<f32>(0.0);

/// A vec4 of the source, zero where it is outside.
fn seen(place: u32, inside: bool) -> vec4<f32> {
    return select(ZERO, vec4<f32>(source[select(0u, place, inside)]), inside);
}

fn put(slice: u32, row: u32, quad: u32, value0: vec4<f32>, value1: vec4<f32>, value2: vec4<f32>, value3: vec4<f32>) {
    if (row < 9u * size.in_quads && quad < size.out_quads) {
        let at = (slice * 9u * size.in_quads + row) * 4u * size.out_quads + quad;
        partials[at] = value0;
        partials[at + size.out_quads] = value1;
        partials[at + 2u * size.out_quads] = value2;
        partials[at + 3u * size.out_quads] = value3;
    }
}

@compute @workgroup_size(WG_X, WG_Y)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(local_invocation_id) place: vec3<u32>,
) {
    let tiles_x = (size.out_quads + 2u * WG_X - 1u) / (2u * WG_X);
    let tiles_y = (9u * size.in_quads + 2u * WG_Y - 1u) / (2u * WG_Y);
    let index = group.y * groups.x + group.x;
    let quad0 = (index % tiles_x) * 2u * WG_X;
    let row0 = (index / tiles_x % tiles_y) * 2u * WG_Y;
    let slice = index / tiles_x / tiles_y;
    let lines = size.batch * size.out_height;
    let first = min(slice * size.slice_fours, lines * size.fours);
    let end = min(first + size.slice_fours, lines * size.fours);
    // What this invocation loads of x: four pixels of a quad of rows, so always the same tap and channels.
    let row = min(row0 + local % (2u * WG_Y), 9u * size.in_quads - 1u);
    let tap = row / size.in_quads;
    let channel = row % size.in_quads;
    let four_x = first + local / (2u * WG_Y);
    var at_four = four_x % size.fours;
    var at_row = four_x / size.fours % size.out_height;
    var at_image = four_x / size.fours / size.out_height;
    // Columns of the source that a pixel of the output's row sees end here.
    let factor = select(1u, 2u, EXPANDED);
    let limit = min(factor * size.in_width, size.out_width * size.stride + tap % 3u - 1u);
    let beside = size.stride * size.in_quads;
    // And of dy.
    let fills_columns = local < 2u * STEP * WG_X;
    let quad = min(quad0 + local % (2u * WG_X), size.out_quads - 1u);
    let four_y = first + local / (2u * WG_X);
    var up_four = four_y % size.fours;
    var up_line = four_y / size.fours;
    let last = lines * size.out_width - 1u;

    var bias = ZERO;
    var a000 = ZERO;
    var a001 = ZERO;
    var a010 = ZERO;
    var a011 = ZERO;
    var a020 = ZERO;
    var a021 = ZERO;
    var a030 = ZERO;
    var a031 = ZERO;
    var a100 = ZERO;
    var a101 = ZERO;
    var a110 = ZERO;
    var a111 = ZERO;
    var a120 = ZERO;
    var a121 = ZERO;
    var a130 = ZERO;
    var a131 = ZERO;
    for (var four = first; four < end; four += STEP) {
        let source_row = at_row * size.stride + tap / 3u - 1u;
        let most = select(0u, limit, source_row < factor * size.in_height && at_image < size.batch);
        let column = at_four * 4u * size.stride + tap % 3u - 1u;
        let line = (at_image * size.in_height + source_row / factor) * size.in_width;
        var from0 = (line + column) * size.in_quads + channel;
        var from1 = from0 + beside;
        var from2 = from1 + beside;
        var from3 = from2 + beside;
        if (EXPANDED) {
            from0 = (line + (column + 0u * size.stride) / 2u) * size.in_quads + channel;
            from1 = (line + (column + 1u * size.stride) / 2u) * size.in_quads + channel;
            from2 = (line + (column + 2u * size.stride) / 2u) * size.in_quads + channel;
            from3 = (line + (column + 3u * size.stride) / 2u) * size.in_quads + channel;
        }
        let s0 = seen(from0, column + 0u * size.stride < most);
        let s1 = seen(from1, column + 1u * size.stride < most);
        let s2 = seen(from2, column + 2u * size.stride < most);
        let s3 = seen(from3, column + 3u * size.stride < most);
        at_four += size.step_fours;
        at_row += size.step_rows;
        at_image += size.step_images;
        if (at_four >= size.fours) {
            at_four -= size.fours;
            at_row += 1u;
        }
        if (at_row >= size.out_height) {
            at_row -= size.out_height;
            at_image += 1u;
        }
        var d0 = ZERO;
        var d1 = ZERO;
        var d2 = ZERO;
        var d3 = ZERO;
        if (fills_columns) {
            let start = up_line * size.out_width + up_four * 4u;
            d0 = vec4<f32>(upstream[min(start + 0u, last) * size.out_quads + quad]);
            d1 = vec4<f32>(upstream[min(start + 1u, last) * size.out_quads + quad]);
            d2 = vec4<f32>(upstream[min(start + 2u, last) * size.out_quads + quad]);
            d3 = vec4<f32>(upstream[min(start + 3u, last) * size.out_quads + quad]);
            if (row0 == 0u) {
                // Pixels of the row that are left from here on; none behind the last row.
                let left = select(0u, size.out_width - up_four * 4u, up_line < lines);
                bias += select(ZERO, d0, left > 0u) + select(ZERO, d1, left > 1u);
                bias += select(ZERO, d2, left > 2u) + select(ZERO, d3, left > 3u);
            }
        }
        up_four += size.step_fours;
        up_line += size.step_images * size.out_height + size.step_rows;
        if (up_four >= size.fours) {
            up_four -= size.fours;
            up_line += 1u;
        }
        workgroupBarrier();
        rows0[local] = s0;
        rows1[local] = s1;
        rows2[local] = s2;
        rows3[local] = s3;
        if (fills_columns) {
            columns0[local] = d0;
            columns1[local] = d1;
            columns2[local] = d2;
            columns3[local] = d3;
        }
        workgroupBarrier();
        for (var g = 0u; g < STEP; g++) {
            let low = g * 2u * WG_Y + place.y;
            let high = low + WG_Y;
            let left = g * 2u * WG_X + place.x;
            let right = left + WG_X;
            let x00 = rows0[low];
            let x01 = rows0[high];
            let y00 = columns0[left];
            let y01 = columns0[right];
            a000 += x00.x * y00;
            a001 += x00.x * y01;
            a010 += x00.y * y00;
            a011 += x00.y * y01;
            a020 += x00.z * y00;
            a021 += x00.z * y01;
            a030 += x00.w * y00;
            a031 += x00.w * y01;
            a100 += x01.x * y00;
            a101 += x01.x * y01;
            a110 += x01.y * y00;
            a111 += x01.y * y01;
            a120 += x01.z * y00;
            a121 += x01.z * y01;
            a130 += x01.w * y00;
            a131 += x01.w * y01;
            let x10 = rows1[low];
            let x11 = rows1[high];
            let y10 = columns1[left];
            let y11 = columns1[right];
            a000 += x10.x * y10;
            a001 += x10.x * y11;
            a010 += x10.y * y10;
            a011 += x10.y * y11;
            a020 += x10.z * y10;
            a021 += x10.z * y11;
            a030 += x10.w * y10;
            a031 += x10.w * y11;
            a100 += x11.x * y10;
            a101 += x11.x * y11;
            a110 += x11.y * y10;
            a111 += x11.y * y11;
            a120 += x11.z * y10;
            a121 += x11.z * y11;
            a130 += x11.w * y10;
            a131 += x11.w * y11;
            let x20 = rows2[low];
            let x21 = rows2[high];
            let y20 = columns2[left];
            let y21 = columns2[right];
            a000 += x20.x * y20;
            a001 += x20.x * y21;
            a010 += x20.y * y20;
            a011 += x20.y * y21;
            a020 += x20.z * y20;
            a021 += x20.z * y21;
            a030 += x20.w * y20;
            a031 += x20.w * y21;
            a100 += x21.x * y20;
            a101 += x21.x * y21;
            a110 += x21.y * y20;
            a111 += x21.y * y21;
            a120 += x21.z * y20;
            a121 += x21.z * y21;
            a130 += x21.w * y20;
            a131 += x21.w * y21;
            let x30 = rows3[low];
            let x31 = rows3[high];
            let y30 = columns3[left];
            let y31 = columns3[right];
            a000 += x30.x * y30;
            a001 += x30.x * y31;
            a010 += x30.y * y30;
            a011 += x30.y * y31;
            a020 += x30.z * y30;
            a021 += x30.z * y31;
            a030 += x30.w * y30;
            a031 += x30.w * y31;
            a100 += x31.x * y30;
            a101 += x31.x * y31;
            a110 += x31.y * y30;
            a111 += x31.y * y31;
            a120 += x31.z * y30;
            a121 += x31.z * y31;
            a130 += x31.w * y30;
            a131 += x31.w * y31;
        }
    }
    if (row0 == 0u) {
        workgroupBarrier();
        if (fills_columns) {
            columns0[local] = bias;
        }
        workgroupBarrier();
        if (local < 2u * WG_X && quad0 + local < size.out_quads && slice < size.slices) {
            var sum = columns0[local];
            for (var g = 1u; g < STEP; g++) {
                sum += columns0[g * 2u * WG_X + local];
            }
            bias_partials[slice * size.out_quads + quad0 + local] = sum;
        }
    }
    if (slice < size.slices) {
        put(slice, row0 + place.y + 0u * WG_Y, quad0 + place.x + 0u * WG_X, a000, a010, a020, a030);
        put(slice, row0 + place.y + 0u * WG_Y, quad0 + place.x + 1u * WG_X, a001, a011, a021, a031);
        put(slice, row0 + place.y + 1u * WG_Y, quad0 + place.x + 0u * WG_X, a100, a110, a120, a130);
        put(slice, row0 + place.y + 1u * WG_Y, quad0 + place.x + 1u * WG_X, a101, a111, a121, a131);
    }
}
