//! Kernels of matrices that a GPU's subgroups multiply themselves, where no device has such matrices: their text with loads, products
//! and stores of matrices written out in plain WGSL runs here, against the direct family on the same factors of f16.
//!
//! Loads and stores take the same places and pitches of workgroup memory as the text names, counted from the block's first element on as a
//! device does, and a subgroup's invocations share out the elements of each sum.

use crate::harness::{Harness, assert_close, device, pad, values, wide};
use duet::families::{Choices, Family, KeyKind};
use duet::gpu::{Device, DeviceOptions, Launch, MatmulPrecision, Slice, Traits, with_matrices_of_eight};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::ops::matmul::{self, MatMul};
use duet::tensor::pitch;
use half::f16;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What stands in for cooperative matrices. A factor is where it was loaded from, for nothing writes there before the product; of a sum
/// each invocation of a subgroup has its share of the elements.
const EMULATION: &str = "
const SIDE_LENGTH: u32 = 16u;
const LANES: u32 = 32u;
const SHARE: u32 = SIDE_LENGTH * SIDE_LENGTH / LANES;
var<private> own_lane: u32;

struct Factor {
    block: u32,
    at: u32,
    stride: u32,
    by_rows: bool,
}

struct Share {
    values: array<f32, SHARE>,
}

fn emulated_load_left_tile(block: u32, row: u32, quad: u32, lane: u32, stride: u32, by_rows: bool) -> Factor {
    return Factor(block, (row * FACTOR_PITCH + quad) * 4u + lane, stride, by_rows);
}

fn emulated_load_right_tile(block: u32, row: u32, quad: u32, lane: u32, stride: u32, by_rows: bool) -> Factor {
    return Factor(block, (row * FACTOR_PITCH + quad) * 4u + lane, stride, by_rows);
}

fn element_of_left(left: Factor, row: u32, column: u32) -> f32 {
    let at = left.at + select(column * left.stride + row, row * left.stride + column, left.by_rows);
    return f32(left_tile[left.block][at / (4u * FACTOR_PITCH)][at / 4u % FACTOR_PITCH][at % 4u]);
}

fn element_of_right(right: Factor, row: u32, column: u32) -> f32 {
    let at = right.at + select(column * right.stride + row, row * right.stride + column, right.by_rows);
    return f32(right_tile[right.block][at / (4u * FACTOR_PITCH)][at / 4u % FACTOR_PITCH][at % 4u]);
}

fn emulated_multiply_add(left: Factor, right: Factor, sum: Share) -> Share {
    var share = sum;
    for (var i = 0u; i < SHARE; i++) {
        let row = (own_lane + i * LANES) / SIDE_LENGTH;
        let column = (own_lane + i * LANES) % SIDE_LENGTH;
        var value = share.values[i];
        for (var k = 0u; k < SIDE_LENGTH; k++) {
            value += element_of_left(left, row, k) * element_of_right(right, k, column);
        }
        share.values[i] = value;
    }
    return share;
}

fn emulated_store_sum_tile(sum: Share, block: u32, row: u32, quad: u32, lane: u32, stride: u32) {
    var share = sum;
    for (var i = 0u; i < SHARE; i++) {
        let element = own_lane + i * LANES;
        let at = (row * SUM_PITCH + quad) * 4u + lane + element / SIDE_LENGTH * stride + element % SIDE_LENGTH;
        sum_tile[block][at / (4u * SUM_PITCH)][at / 4u % SUM_PITCH][at % 4u] = share.values[i];
    }
}
";

/// A device that is emulated: invocations of its subgroups, and rows of its matrices.
#[derive(Clone, Copy, Debug)]
struct Emulated {
    lanes: usize,
    side: usize,
}

/// Two subgroups of a workgroup, each with a band of its own.
const USUAL: Emulated = Emulated { lanes: 32, side: 16 };
/// One subgroup, and smaller matrices. What differs is in all kernels the same, and software takes seconds to compile each: one is run.
const OTHERS: [Emulated; 2] = [Emulated { lanes: 64, side: 16 }, Emulated { lanes: 32, side: 8 }];

/// A line with a load or store of a matrix, written out.
fn written_out(line: &str) -> String {
    // `(&TILE[a][b][c][d], PITCH)`: the tile, its four indices, the pitch.
    let (before, place) = line.split_once('&').unwrap();
    let (place, after) = place.rsplit_once(')').unwrap();
    let (place, stride) = place.rsplit_once(", ").unwrap();
    let (tile, indices) = place.split_once('[').unwrap();
    let indices = indices.trim_end_matches(']').replace("][", ", ");
    match before.split_once("coopStoreT(") {
        Some((before, sum)) => format!("{before}emulated_store_{tile}({sum}{indices}, {stride}){after}"),
        None => {
            let (before, kind) = before.split_once("coopLoad").unwrap();
            format!("{before}emulated_load_{tile}({indices}, {stride}, {}){after}", kind.starts_with('T'))
        }
    }
}

/// The text for a device that has subgroups, but no cooperative matrices, and no f16 where `device()` has none: the factors are numbers
/// that f16 has.
fn emulated(source: &str, device_like: Emulated) -> String {
    let Emulated { lanes, side } = device_like;
    let source = if side == 8 { with_matrices_of_eight(source) } else { source.into() };
    let mut text = String::new();
    for line in source.lines() {
        let told = ["enable wgpu_cooperative_matrix", "@builtin(subgroup_id)", "@builtin(num_subgroups)"];
        if told.iter().any(|told| line.contains(told)) {
            continue;
        }
        text += &if line.starts_with("alias ") && line.contains(&format!("= coop_mat{side}x{side}<")) {
            let kind = if line.contains(", C>") { "Share" } else { "Factor" };
            format!("{} = {kind};", line.split_once(" = ").unwrap().0)
        } else if line == ") {" {
            format!(
                "{line}\n    own_lane = local % LANES;\n    let subgroup = local / LANES;\n    let subgroups = WG / LANES;"
            )
        } else if line.contains("coopLoad") || line.contains("coopStoreT(") {
            written_out(line)
        } else {
            line.replace("coopMultiplyAdd(", "emulated_multiply_add(")
        };
        text.push('\n');
    }
    let sizes = [("SIDE_LENGTH: u32 = 16u", "SIDE_LENGTH", side), ("LANES: u32 = 32u", "LANES", lanes)];
    text += &sizes.iter().fold(EMULATION.to_owned(), |text, (old, name, size)| {
        assert!(text.contains(old));
        text.replace(old, &format!("{name}: u32 = {size}u"))
    });
    let left =
        ["coop_mat", "coopLoad", "coopStore", "coopMultiply"].into_iter().find(|word| text.contains(word));
    assert!(left.is_none(), "{left:?} is not written out: {text}");
    if device().has_f16() { text } else { text.replace("enable f16;\n", "").replace("f16", "f32") }
}

/// The launches with the emulated text of their kernels, changed by `change`; `name` tells texts apart.
fn emulate(
    name: &str,
    launches: Vec<Launch>,
    like: Emulated,
    change: impl Fn(&str) -> String,
) -> Vec<Launch> {
    /// Names and texts of kernels live as long as the program.
    static TEXTS: Mutex<Option<HashMap<String, (&'static str, &'static str)>>> = Mutex::new(None);
    let mut found = 0;
    let launches = launches.into_iter().map(|mut launch| {
        if launch.kernel.file.ends_with("_cooperative") {
            found += 1;
            let key = format!("{} {name} {like:?}", launch.kernel.file);
            let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
            let (file, source) = *texts.get_or_insert_default().entry(key.clone()).or_insert_with(|| {
                let text = change(&emulated(launch.kernel.source, like));
                (&*key.leak(), &*text.leak())
            });
            (launch.kernel.file, launch.kernel.source) = (file, source);
        }
        launch
    });
    let launches: Vec<Launch> = launches.collect();
    assert!(found > 0, "{name}: nothing runs by matrices");
    launches
}

/// Numbers that f16 has.
fn rounded(seed: u64, count: usize) -> Vec<f32> {
    values(seed, count).into_iter().map(|v| f16::from_f32(v).to_f32()).collect()
}

/// A tensor in memory, as f16 where `half`.
fn stored(h: &mut Harness, shape: &[usize], data: &[f32], half: bool) -> Slice {
    if !half {
        return h.input(shape, data).slice;
    }
    let halves: Vec<f16> = pad(shape, data).iter().map(|v| f16::from_f32(*v)).collect();
    let bytes = halves.len() as u64 * 2;
    Slice { bytes, half: true, ..h.words(&bytemuck::pod_collect_to_vec(&halves)) }
}

/// What a family makes of the same factors: results with and without what is added, and, where there is f16, gradients.
type Outputs = Vec<(&'static str, Vec<f32>)>;

fn product(
    on: Option<&'static Device>,
    size: &MatMul,
    family: Family,
    half: bool,
    change: impl Fn(Vec<Launch>) -> Vec<Launch>,
) -> Outputs {
    let (x_shape, y_shape) = ([size.rows, size.in_features], [size.rows, size.out_features]);
    let weight_shape = [pitch(size.in_features), size.out_features];
    let mut h = on.map_or_else(Harness::new, Harness::on);
    let x = stored(&mut h, &x_shape, &rounded(1, size.rows * size.in_features), half);
    let mut weight = rounded(2, size.in_features * size.out_features);
    weight.resize(pitch(size.in_features) * size.out_features, 0.0);
    let weight = h.input(&weight_shape, &weight).slice;
    let bias = h.input(&[size.out_features], &values(3, size.out_features)).slice;
    let residual = h.input(&y_shape, &values(4, size.rows * size.out_features)).slice;
    let addend = h.input(&x_shape, &values(6, size.rows * size.in_features)).slice;
    let (plain, full) = (h.output(&y_shape), h.output(&y_shape));
    let mut launches = change(matmul::forward(family, size, x, weight, None, None, plain.slice));
    launches.extend(change(matmul::forward(family, size, x, weight, Some(bias), Some(residual), full.slice)));
    let mut outputs = vec![("y", plain), ("y with bias and residual", full)];
    if half {
        let dy = stored(&mut h, &y_shape, &rounded(5, size.rows * size.out_features), true);
        let (dx, sum) = (h.output(&x_shape), h.output(&x_shape));
        let (dw, db) = (h.output(&weight_shape), h.output(&[size.out_features]));
        let scratch = h.scratch(matmul::grad_weight_scratch(family, size));
        launches.extend(change(matmul::grad_input(family, size, dy, weight, None, dx.slice)));
        launches.extend(change(matmul::grad_input(family, size, dy, weight, Some(addend), sum.slice)));
        launches.extend(change(matmul::grad_weight(family, size, x, dy, scratch, dw.slice, Some(db.slice))));
        outputs.extend([("dx", dx), ("dx and addend", sum), ("dw", dw), ("db", db)]);
    }
    h.run(launches);
    outputs.into_iter().map(|(name, tensor)| (name, h.read(&tensor))).collect()
}

fn convolution(
    on: Option<&'static Device>,
    size: &Conv3x3,
    family: Family,
    half: bool,
    change: impl Fn(Vec<Launch>) -> Vec<Launch>,
) -> Outputs {
    let x_shape = [size.batch, size.height, size.width, size.in_channels];
    let y_shape = [size.batch, size.out_height(), size.out_width(), size.out_channels];
    let [xs, ys] = [x_shape, y_shape].map(|shape| shape.iter().product::<usize>());
    let weight_shape = [9, pitch(size.in_channels), size.out_channels];
    let mut h = on.map_or_else(Harness::new, Harness::on);
    let x = stored(&mut h, &x_shape, &rounded(1, xs), half);
    let mut weight = Vec::new();
    for tap in 0..9 {
        weight.extend(rounded(20 + tap, size.in_channels * size.out_channels));
        weight.resize((tap as usize + 1) * pitch(size.in_channels) * size.out_channels, 0.0);
    }
    let weight = h.input(&weight_shape, &weight).slice;
    let bias = h.input(&[size.out_channels], &values(3, size.out_channels)).slice;
    let residual = h.input(&y_shape, &values(4, ys)).slice;
    let addend = h.input(&x_shape, &values(6, xs)).slice;
    let (plain, full) = (h.output(&y_shape), h.output(&y_shape));
    let mut launches = change(conv3x3::forward(family, size, x, weight, None, None, plain.slice));
    launches.extend(change(conv3x3::forward(
        family,
        size,
        x,
        weight,
        Some(bias),
        Some(residual),
        full.slice,
    )));
    let mut outputs = vec![("y", plain), ("y with bias and residual", full)];
    if half && size.stride == 1 {
        let dy = stored(&mut h, &y_shape, &rounded(5, ys), true);
        let (dx, sum) = (h.output(&x_shape), h.output(&x_shape));
        launches.extend(change(conv3x3::grad_input(family, size, dy, weight, None, dx.slice)));
        launches.extend(change(conv3x3::grad_input(family, size, dy, weight, Some(addend), sum.slice)));
        outputs.extend([("dx", dx), ("dx and addend", sum)]);
    }
    h.run(launches);
    outputs.into_iter().map(|(name, tensor)| (name, h.read(&tensor))).collect()
}

/// One row and one feature, features that are no multiple of four, sizes at, below and beyond blocks, bands and tiles, enough rows for
/// several slices.
const PRODUCTS: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (3, 5, 6),
    (32, 16, 64),
    (33, 17, 65),
    (65, 21, 13),
    (63, 130, 61),
    (129, 66, 133),
    (530, 6, 35),
];

fn convolutions() -> Vec<Conv3x3> {
    let size = |[batch, height, width, in_channels, out_channels, stride]: [usize; 6]| Conv3x3 {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        stride,
    };
    let sizes = [
        [1, 1, 1, 1, 1, 1],
        [3, 7, 5, 5, 6, 1],
        [2, 4, 4, 16, 64, 1],
        [1, 8, 9, 21, 10, 1],
        [2, 7, 7, 34, 66, 1],
        [3, 7, 7, 6, 5, 2],
        [2, 6, 31, 9, 17, 2],
    ];
    sizes.map(size).to_vec()
}

/// The sums differ from the direct family's by their order alone.
fn assert_same(what: &str, got: &Outputs, want: &Outputs) {
    for ((name, got), (_, want)) in got.iter().zip(want) {
        assert_close(&format!("{what}: {name}"), got, &wide(want), 1e-5);
    }
}

#[test]
fn products_by_matrices_are_those_of_the_direct_family() {
    let half = device().has_f16();
    for (rows, in_features, out_features) in PRODUCTS {
        let size = MatMul { rows, in_features, out_features };
        let want = product(None, &size, Family::Direct, half, |launches| launches);
        let change = |launches| emulate("", launches, USUAL, str::to_owned);
        let got = product(None, &size, Family::Cooperative, half, change);
        assert_eq!(got.len(), if half { 6 } else { 2 });
        assert_same(&format!("{size:?}"), &got, &want);
        for like in OTHERS {
            let change = |launches| emulate("", launches, like, str::to_owned);
            let got = product(None, &size, Family::Cooperative, false, change);
            assert_same(&format!("{size:?}, {like:?}"), &got, &want);
        }
    }
}

#[test]
fn convolutions_by_matrices_are_those_of_the_direct_family() {
    let half = device().has_f16();
    for size in convolutions() {
        let want = convolution(None, &size, Family::Direct, half, |launches| launches);
        let change = |launches| emulate("", launches, USUAL, str::to_owned);
        let got = convolution(None, &size, Family::Cooperative, half, change);
        assert_eq!(got.len(), if half && size.stride == 1 { 4 } else { 2 });
        assert_same(&format!("{size:?}"), &got, &want);
    }
}

/// Factors that f16 has not are rounded to it, neither more nor less.
#[test]
fn factors_are_rounded_to_f16() {
    let size = MatMul { rows: 1, in_features: 1, out_features: 1 };
    let run = |x: f32, weight: f32| {
        let mut h = Harness::new();
        let x = h.input(&[1, 1], &[x]).slice;
        let weight = h.input(&[4, 1], &[weight, 0.0, 0.0, 0.0]).slice;
        let y = h.output(&[1, 1]);
        let launches = matmul::forward(Family::Cooperative, &size, x, weight, None, None, y.slice);
        h.run(emulate("", launches, USUAL, str::to_owned));
        h.read(&y)[0]
    };
    if device().has_f16() {
        // Between two numbers of f16, of which WGSL lets a device take either.
        assert!([1.0, 1.0 + 2f32.powi(-10)].contains(&run(1.0 + 2f32.powi(-12), 1.0)));
        assert_eq!(
            run(0.5, 1.0 + 2f32.powi(-10)),
            0.5 + 2f32.powi(-11),
            "the product of two numbers of f16 is exact"
        );
    }
}

/// The comparison notices a text that is wrong.
#[test]
fn a_wrong_index_shows() {
    // Whole vec4s: what is read back has no pads to look at.
    let size = MatMul { rows: 63, in_features: 37, out_features: 60 };
    let want = product(None, &size, Family::Direct, false, |launches| launches);
    for (number, (old, new)) in [
        // Loads and stores of matrices: by rows or columns, at another pitch.
        ("0, 0, 0, 4u * FACTOR_PITCH, true", "0, 0, 0, 4u * FACTOR_PITCH, false"),
        ("0, quad, 0, 4u * SUM_PITCH", "0, quad, 0, 32u"),
        // Which block, which factor, what is transposed.
        ("band + 1u)", "band)"),
        ("add_product(sum12, left1, right2)", "add_product(sum12, left0, right2)"),
        ("columns[1], inside", "columns[2], inside"),
    ]
    .into_iter()
    .enumerate()
    {
        let change = |launches| {
            emulate(&format!("wrong {number}"), launches, USUAL, |text| {
                assert!(text.contains(old), "{old} is not in the text");
                text.replacen(old, new, 1)
            })
        };
        let got = product(None, &size, Family::Cooperative, false, change);
        let off = |got: &[f32], want: &[f32]| {
            let scale = want.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            got.iter().zip(want).any(|(g, w)| (g - w).is_nan() || (g - w).abs() > 1e-3 * scale)
        };
        assert!(off(&got[0].1, &want[0].1), "{old} may as well be {new}");
    }
}

/// Where there are such matrices, they themselves; elsewhere a device that is asked for them is as any other.
#[test]
fn a_device_that_is_asked_for_matrices_has_them_or_computes_in_f32() {
    let adapter = std::env::var("DUET_ADAPTER").ok();
    let options =
        DeviceOptions { adapter, matmul_precision: MatmulPrecision::F16, ..DeviceOptions::default() };
    let asked: &'static Device = Box::leak(Box::new(pollster::block_on(Device::open(&options)).unwrap()));
    let matrices = asked.traits().matrices;
    assert_eq!(Family::Cooperative.runs_on(asked), matrices);
    assert_eq!(asked.traits(), Traits { matrices, ..device().traits() });
    if !matrices {
        println!("{} multiplies no matrices", asked.info().name);
        return;
    }
    for (rows, in_features, out_features) in PRODUCTS {
        let size = MatMul { rows, in_features, out_features };
        let [want, got] = [(None, Family::Direct), (Some(asked), Family::Cooperative)]
            .map(|(on, family)| product(on, &size, family, true, |launches| launches));
        assert_same(&format!("{size:?}"), &got, &want);
    }
    for size in convolutions() {
        let [want, got] = [(None, Family::Direct), (Some(asked), Family::Cooperative)]
            .map(|(on, family)| convolution(on, &size, family, true, |launches| launches));
        assert_same(&format!("{size:?}"), &got, &want);
    }
}

#[test]
fn matrices_run_where_they_are_wanted_and_there() {
    let gpu = Traits { software: false, invocations: 256, workgroup_bytes: 16384, lanes: 32, matrices: true };
    let conv = |stride, channels| Conv3x3 {
        batch: 8,
        height: 28,
        width: 28,
        in_channels: channels,
        out_channels: 32,
        stride,
    };
    let product = MatMul { rows: 512, in_features: 64, out_features: 64 };
    let choices = Choices::of("Some GPU", gpu, &[]);
    assert!(choices.is_gpu());
    for (key, family) in [
        (conv(1, 32).key(KeyKind::ConvForward), Family::Cooperative),
        (conv(2, 32).key(KeyKind::ConvForward), Family::Cooperative),
        (conv(1, 3).key(KeyKind::ConvForward), Family::Direct),
        (conv(1, 32).key(KeyKind::ConvGradInput), Family::Cooperative),
        (conv(2, 32).key(KeyKind::ConvGradInput), Family::Direct),
        (conv(1, 32).key(KeyKind::ConvGradWeight), Family::Tiled),
        (product.key(KeyKind::MatmulGradWeight), Family::Cooperative),
        (
            duet::families::Key { operation: KeyKind::AttentionForward, shape: vec![8, 196, 64, 4] },
            Family::Tiled,
        ),
    ] {
        assert_eq!(choices.family(&key), family, "{key}");
    }
    for other in [Traits { matrices: false, ..gpu }, Traits { workgroup_bytes: 10_000, ..gpu }] {
        let family = Choices::of("Some GPU", other, &[]).family(&product.key(KeyKind::MatmulForward));
        assert_ne!(family, Family::Cooperative, "{other:?}");
    }
    // Nobody asked for it here.
    assert!(!device().traits().matrices);
}

/// Gradients that are f32 are not rounded: the loss's scale does not keep those in range.
#[test]
fn gradients_of_f32_run_in_tiles() {
    let slice = |half| Slice { buffer: duet::gpu::BufferId(0), offset: 0, bytes: 1 << 20, half };
    let [full, half] = [false, true].map(slice);
    let size = MatMul { rows: 64, in_features: 64, out_features: 64 };
    let conv = Conv3x3 { batch: 1, height: 8, width: 8, in_channels: 64, out_channels: 64, stride: 1 };
    let family = Family::Cooperative;
    let file = |launches: Vec<Launch>| launches[0].kernel.file;
    assert_eq!(file(matmul::forward(family, &size, full, full, None, None, full)), "matmul_cooperative");
    for (dy, of_matmul, of_conv) in
        [(full, "matmul_tiled", "conv3x3_tiled"), (half, "matmul_cooperative", "conv3x3_cooperative")]
    {
        assert_eq!(file(matmul::grad_input(family, &size, dy, full, None, full)), of_matmul);
        assert_eq!(file(matmul::grad_weight(family, &size, full, dy, full, full, None)), of_matmul);
        assert_eq!(file(conv3x3::grad_input(family, &conv, dy, full, None, full)), of_conv);
    }
}
