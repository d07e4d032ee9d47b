// Pooling over windows of any size, stride and padding, and its gradients.
//
//   max_forward      y[n,i,j,c] = max x[n,a,b,c] over the window; at = the first place a * W + b that attains it
//   max_grad         dx[n,a,b,c] = sum dy[n,i,j,c] over the windows whose `at` is a * W + b
//   average_forward  y[n,i,j,c] = sum x[n,a,b,c] over the window / count
//   average_grad     dx[n,a,b,c] = sum dy[n,i,j,c] / count over the windows that contain a, b
// The window of i, j covers the rows from i*s-p to i*s-p+U-1, the columns likewise, as far as they lie in the image; count
// is all of U * V, or with `clipped` what lies in the image.
// Layouts: x, dx [batch, height, width, quads] of vec4; y, dy, at [batch, out_height, out_width, quads].
// An invocation makes one vec4.

override WG: u32;

struct Size {
    batch: u32,
    height: u32,
    width: u32,
    quads: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    clipped: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> places: array<vec4<u32>>;
@group(0) @binding(3) var<uniform> max_size: Size;

@group(0) @binding(1) var<storage, read> attained: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;

@group(0) @binding(2) var<uniform> average_size: Size;

// Where the window of an output lies in the image along one axis: first pixel and the one behind the last.
fn window(output: u32, kernel: u32, stride: u32, padding: u32, side: u32) -> vec2<u32> {
    let reach = output * stride;
    return vec2<u32>(max(reach, padding) - padding, min(reach + kernel - padding, side));
}

// The outputs whose windows contain a pixel along one axis: first one and the one behind the last.
fn outputs(pixel: u32, kernel: u32, stride: u32, padding: u32, side: u32) -> vec2<u32> {
    let reach = pixel + padding;
    let first = select(0u, (max(reach, kernel) - kernel) / stride + 1u, reach >= kernel);
    return vec2<u32>(first, min(reach / stride + 1u, side));
}

@compute @workgroup_size(WG)
fn max_forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let size = max_size;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let line = pixel / size.out_width;
    let image = line / size.out_height;
    if (image >= size.batch) {
        return;
    }
    let rows = window(line % size.out_height, size.kernel_height, size.stride_height, size.padding_height, size.height);
    let columns = window(pixel % size.out_width, size.kernel_width, size.stride_width, size.padding_width, size.width);
    let base = image * size.height * size.width;
    var place = vec4<u32>(rows.x * size.width + columns.x);
    var largest = source[(base + place.x) * size.quads + quad];
    for (var row = rows.x; row < rows.y; row += 1u) {
        for (var column = columns.x; column < columns.y; column += 1u) {
            let at = row * size.width + column;
            let value = source[(base + at) * size.quads + quad];
            let larger = value > largest;
            largest = select(largest, value, larger);
            place = select(place, vec4<u32>(at), larger);
        }
    }
    result[index] = largest;
    places[index] = place;
}

@compute @workgroup_size(WG)
fn max_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let size = max_size;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let line = pixel / size.width;
    let image = line / size.height;
    if (image >= size.batch) {
        return;
    }
    let rows = outputs(line % size.height, size.kernel_height, size.stride_height, size.padding_height, size.out_height);
    let columns = outputs(pixel % size.width, size.kernel_width, size.stride_width, size.padding_width, size.out_width);
    let place = vec4<u32>(pixel % (size.height * size.width));
    var sum = vec4<f32>(0.0);
    for (var i = rows.x; i < rows.y; i += 1u) {
        for (var j = columns.x; j < columns.y; j += 1u) {
            let at = ((image * size.out_height + i) * size.out_width + j) * size.quads + quad;
            sum += select(vec4<f32>(0.0), source[at], attained[at] == place);
        }
    }
    gradient[index] = sum;
}

// Pixels that the sum over the window of an output is divided by.
fn count(i: u32, j: u32) -> f32 {
    let size = average_size;
    if (size.clipped == 0u) {
        return f32(size.kernel_height * size.kernel_width);
    }
    let rows = window(i, size.kernel_height, size.stride_height, size.padding_height, size.height);
    let columns = window(j, size.kernel_width, size.stride_width, size.padding_width, size.width);
    return f32((rows.y - rows.x) * (columns.y - columns.x));
}

@compute @workgroup_size(WG)
fn average_forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let size = average_size;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let line = pixel / size.out_width;
    let image = line / size.out_height;
    if (image >= size.batch) {
        return;
    }
    let i = line % size.out_height;
    let j = pixel % size.out_width;
    let rows = window(i, size.kernel_height, size.stride_height, size.padding_height, size.height);
    let columns = window(j, size.kernel_width, size.stride_width, size.padding_width, size.width);
    var sum = vec4<f32>(0.0);
    for (var row = rows.x; row < rows.y; row += 1u) {
        for (var column = columns.x; column < columns.y; column += 1u) {
            sum += source[((image * size.height + row) * size.width + column) * size.quads + quad];
        }
    }
    result[index] = sum / count(i, j);
}

@compute @workgroup_size(WG)
fn average_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + local;
    let size = average_size;
    let quad = index % size.quads;
    let pixel = index / size.quads;
    let line = pixel / size.width;
    let image = line / size.height;
    if (image >= size.batch) {
        return;
    }
    let rows = outputs(line % size.height, size.kernel_height, size.stride_height, size.padding_height, size.out_height);
    let columns = outputs(pixel % size.width, size.kernel_width, size.stride_width, size.padding_width, size.out_width);
    var sum = vec4<f32>(0.0);
    for (var i = rows.x; i < rows.y; i += 1u) {
        for (var j = columns.x; j < columns.y; j += 1u) {
            let at = ((image * size.out_height + i) * size.out_width + j) * size.quads + quad;
            sum += source[at] / count(i, j);
        }
    }
    result[index] = sum;
}
