//! Matrix products: all families against f64 twins and finite differences, and against each other.

use crate::harness::{self, Harness, assert_close, assert_gradient, dot, values, wide};
use duet::families::Family;
use duet::ops::matmul::{self, MatMul};
use duet::ops::reduce_rows;
use duet::tensor::pitch;

/// Rows, input features, output features: one and three rows, features that are no multiple of four, sizes at, below and
/// beyond whole tiles of all families, and enough rows for several slices.
const SIZES: [(usize, usize, usize); 13] = [
    (1, 1, 1),
    (3, 5, 6),
    (8, 8, 8),
    (9, 21, 13),
    (49, 32, 12),
    (130, 7, 3),
    (5, 85, 42),
    (1000, 4, 5),
    (64, 16, 64),
    (65, 17, 66),
    (63, 130, 61),
    (129, 66, 133),
    (3, 12, 260),
];

/// Inputs of one product; the weight's rows are padded to whole vec4s.
struct Inputs {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
}

impl Inputs {
    fn of(size: &MatMul) -> Self {
        let mut weight = values(2, size.in_features * size.out_features);
        weight.resize(pitch(size.in_features) * size.out_features, 0.0);
        Self {
            x: values(1, size.rows * size.in_features),
            weight,
            bias: values(3, size.out_features),
            residual: values(4, size.rows * size.out_features),
            dy: values(5, size.rows * size.out_features),
        }
    }
}

/// What one family makes of them.
#[derive(PartialEq)]
struct Outputs {
    plain: Vec<f32>,
    full: Vec<f32>,
    dx: Vec<f32>,
    /// With x added.
    dx_and_x: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

fn run(family: Family, size: &MatMul, inputs: &Inputs) -> Outputs {
    let (x_shape, y_shape) = ([size.rows, size.in_features], [size.rows, size.out_features]);
    let weight_shape = [pitch(size.in_features), size.out_features];
    let mut h = Harness::new();
    let x = h.input(&x_shape, &inputs.x).slice;
    let weight = h.input(&weight_shape, &inputs.weight).slice;
    let bias = h.input(&[size.out_features], &inputs.bias).slice;
    let residual = h.input(&y_shape, &inputs.residual).slice;
    let dy = h.input(&y_shape, &inputs.dy).slice;
    let (plain, full) = (h.output(&y_shape), h.output(&y_shape));
    let (dx, dx_and_x) = (h.output(&x_shape), h.output(&x_shape));
    let (dw, db) = (h.output(&weight_shape), h.output(&[size.out_features]));
    let scratch = h.scratch(matmul::grad_weight_scratch(family, size));
    let mut launches = matmul::forward(family, size, x, weight, None, None, plain.slice);
    launches.extend(matmul::forward(family, size, x, weight, Some(bias), Some(residual), full.slice));
    launches.extend(matmul::grad_input(family, size, dy, weight, None, dx.slice));
    launches.extend(matmul::grad_input(family, size, dy, weight, Some(x), dx_and_x.slice));
    launches.extend(matmul::grad_weight(family, size, x, dy, scratch, dw.slice, Some(db.slice)));
    h.run(launches);
    let [plain, full, dx, dx_and_x, dw, db] =
        [plain, full, dx, dx_and_x, dw, db].map(|tensor| h.read(&tensor));
    Outputs { plain, full, dx, dx_and_x, dw, db }
}

fn product(size: &MatMul, x: &[f64], weight: &[f64], bias: &[f64], residual: &[f64]) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(size.in_features) {
        for k in 0..size.out_features {
            let sum: f64 = row.iter().enumerate().map(|(c, v)| v * weight[c * size.out_features + k]).sum();
            let bias = bias.get(k).copied().unwrap_or(0.0);
            y.push(sum + bias + residual.get(y.len()).copied().unwrap_or(0.0));
        }
    }
    y
}

#[test]
fn matrix_products_and_their_gradients_match() {
    for (rows, in_features, out_features) in SIZES {
        let size = MatMul { rows, in_features, out_features };
        let inputs = Inputs::of(&size);
        let whole = in_features * out_features;
        let (x, dy) = (wide(&inputs.x), wide(&inputs.dy));
        let weight = wide(&inputs.weight[..whole]);
        let (bias, residual) = (wide(&inputs.bias), wide(&inputs.residual));
        let loss = |x: &[f64], w: &[f64]| dot(&product(&size, x, w, &[], &[]), &dy);
        for family in harness::families() {
            let name = format!("{family} {size:?}");
            let got = run(family, &size, &inputs);
            assert_close(&name, &got.plain, &product(&size, &x, &weight, &[], &[]), 1e-5);
            let want = product(&size, &x, &weight, &bias, &residual);
            assert_close(&format!("{name} with bias and residual"), &got.full, &want, 1e-5);
            assert_gradient(&format!("{name} dx"), &got.dx, &x, |x| loss(x, &weight));
            let want: Vec<f64> = wide(&got.dx).iter().zip(&x).map(|(dx, x)| dx + x).collect();
            assert_close(&format!("{name} dx and x"), &got.dx_and_x, &want, 1e-6);
            let (dw, pads) = got.dw.split_at(whole);
            assert!(pads.iter().all(|v| *v == 0.0), "{name}: padded rows have a gradient");
            assert_gradient(&format!("{name} dw"), dw, &weight, |w| loss(&x, w));
            let of_column = |k: usize| dy.iter().skip(k).step_by(out_features).sum();
            let want: Vec<f64> = (0..out_features).map(of_column).collect();
            assert_close(&format!("{name} db"), &got.db, &want, 1e-5);
        }
    }
}

#[test]
fn families_agree_and_repeat_their_bits() {
    for (rows, in_features, out_features) in SIZES {
        let size = MatMul { rows, in_features, out_features };
        let inputs = Inputs::of(&size);
        let direct = run(Family::Direct, &size, &inputs);
        for family in harness::families() {
            let [got, again] = [0, 1].map(|_| run(family, &size, &inputs));
            assert!(got == again, "{family} {size:?}: other bits the second time");
            for (what, a, b) in
                [("y", &got.full, &direct.full), ("dx", &got.dx, &direct.dx), ("dw", &got.dw, &direct.dw)]
            {
                assert_close(&format!("{family} {what} of {size:?}"), a, &wide(b), 1e-5);
            }
        }
    }
}

#[test]
fn sums_of_rows_match() {
    for (rows, columns) in [(1, 1), (3, 6), (65, 13), (1000, 5)] {
        let dy = values(5, rows * columns);
        let mut h = Harness::new();
        let x = h.input(&[rows, columns], &dy).slice;
        let y = h.output(&[columns]);
        let scratch = h.scratch(reduce_rows::scratch(rows, columns));
        h.run(reduce_rows::launches(rows, columns, x, scratch, y.slice));
        let column = |c: usize| dy.iter().skip(c).step_by(columns).map(|v| f64::from(*v)).sum();
        let want: Vec<f64> = (0..columns).map(column).collect();
        assert_close(&format!("{rows} rows of {columns}"), &h.read(&y), &want, 1e-5);
    }
}
