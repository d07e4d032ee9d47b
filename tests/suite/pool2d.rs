//! Maxima and means over windows of any size, stride and padding: against f64 twins and finite differences of them.

use crate::harness::{Differentiated, Harness, assert_close, assert_gradient, dot, values, wide};
use duet::Error;
use duet::families::Choices;
use duet::graph::{Graph, Place};
use duet::ops::conv2d::Window;

/// Image and window.
type Case = ([usize; 4], Window);

/// Every kind of kernel, even ones too, strides and paddings of each axis apart, channels that are no whole vec4s, one pixel,
/// kernels larger than the image, pixels that no window sees.
fn cases() -> Vec<Case> {
    let case = |image, kernel, stride, padding| (image, Window { kernel, stride, padding });
    vec![
        case([1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
        case([3, 7, 7, 5], [2, 2], [2, 2], [0, 0]),
        case([1, 14, 14, 3], [3, 3], [2, 2], [1, 1]),
        case([3, 5, 9, 34], [1, 7], [1, 1], [0, 3]),
        case([1, 5, 9, 3], [7, 1], [1, 1], [3, 0]),
        case([3, 5, 9, 1], [5, 4], [2, 3], [2, 1]),
        case([1, 2, 3, 5], [5, 7], [1, 1], [2, 3]),
        case([3, 7, 7, 3], [3, 2], [4, 5], [0, 1]),
        case([1, 7, 7, 4], [7, 7], [1, 1], [0, 0]),
    ]
}

/// The pixels of each window that lie in the image, row by row, as places in \[H·W\].
fn windows((image, window): &Case) -> Vec<Vec<usize>> {
    let ([_, height, width, _], Window { kernel, stride, padding }) = (*image, *window);
    let out = |side: usize, axis: usize| (side + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1;
    let inside = |output: usize, axis: usize, side: usize| {
        let shifted = (0..kernel[axis]).map(move |k| (output * stride[axis] + k).wrapping_sub(padding[axis]));
        shifted.filter(move |at| *at < side).collect::<Vec<_>>()
    };
    let mut list = Vec::new();
    for i in 0..out(height, 0) {
        for j in 0..out(width, 1) {
            let columns = inside(j, 1, width);
            let row = |row: usize| columns.iter().map(move |column| row * width + column).collect::<Vec<_>>();
            list.push(inside(i, 0, height).into_iter().flat_map(row).collect());
        }
    }
    list
}

/// What `pool` makes of the values of each window, \[N,H',W',C\]; it also gets their places in x.
fn pooled(case: &Case, x: &[f64], mut pool: impl FnMut(&[f64], &[usize]) -> f64) -> Vec<f64> {
    let [batch, height, width, channels] = case.0;
    let mut y = Vec::new();
    for n in 0..batch {
        for window in windows(case) {
            for c in 0..channels {
                let place = |pixel: &usize| (n * height * width + pixel) * channels + c;
                let places: Vec<usize> = window.iter().map(place).collect();
                let inside: Vec<f64> = places.iter().map(|at| x[*at]).collect();
                y.push(pool(&inside, &places));
            }
        }
    }
    y
}

fn run((image, window): &Case, x: &[f32], average: Option<bool>) -> Differentiated {
    Harness::differentiate(&[(image, x)], |graph, leaves| match average {
        Some(count_include_pad) => graph.avg_pool2d(leaves[0], *window, count_include_pad).unwrap(),
        None => graph.max_pool2d(leaves[0], *window).unwrap(),
    })
}

/// The largest of `values`, and where it is first.
fn largest(values: &[f64]) -> (usize, f64) {
    let later = |best: (usize, f64), (i, v): (usize, &f64)| if *v > best.1 { (i, *v) } else { best };
    values.iter().enumerate().fold((0, values[0]), later)
}

/// Compares with maxima, and the gradient with what the first maximum of each window gets.
fn check_maximum(case: &Case, x: &[f32]) -> Differentiated {
    let name = format!("maximum {case:?}");
    let got = run(case, x, None);
    let (x, dy) = (wide(x), wide(&got.upstream));
    assert_eq!(wide(&got.y), pooled(case, &x, |inside, _| largest(inside).1), "{name}");
    let (mut dx, mut dy) = (vec![0.0; x.len()], dy.into_iter());
    pooled(case, &x, |inside, places| {
        dx[places[largest(inside).0]] += dy.next().unwrap();
        0.0
    });
    assert_close(&format!("{name} dx"), &got.gradients[0], &dx, 1e-6);
    got
}

#[test]
fn maxima_and_their_gradients_match() {
    for case in cases() {
        let x = values(1, case.0.iter().product());
        let got = check_maximum(&case, &x);
        let dy = wide(&got.upstream);
        let loss = |x: &[f64]| dot(&pooled(&case, x, |inside, _| largest(inside).1), &dy);
        assert_gradient(&format!("maximum {case:?} dx"), &got.gradients[0], &wide(&x), loss);
    }
}

#[test]
fn of_equal_maxima_the_first_gets_the_gradient() {
    for case in cases() {
        let count = case.0.iter().product();
        // Below zero, so that padding that counted as zeros would win.
        check_maximum(&case, &vec![-2.0; count]);
        let coarse: Vec<f32> = values(2, count).iter().map(|v| (2.0 * v).round() - 5.0).collect();
        check_maximum(&case, &coarse);
    }
}

#[test]
fn means_and_their_gradients_match() {
    for case in cases() {
        let x = values(3, case.0.iter().product());
        let whole = case.1.kernel.iter().product::<usize>();
        for count_include_pad in [true, false] {
            let name = format!("mean {case:?}, padding counts: {count_include_pad}");
            let got = run(&case, &x, Some(count_include_pad));
            let twin = |x: &[f64]| {
                pooled(&case, x, |inside, _| {
                    let count = if count_include_pad { whole } else { inside.len() };
                    inside.iter().sum::<f64>() / count as f64
                })
            };
            assert_close(&name, &got.y, &twin(&wide(&x)), 1e-6);
            let loss = |x: &[f64]| dot(&twin(x), &wide(&got.upstream));
            assert_gradient(&format!("{name} dx"), &got.gradients[0], &wide(&x), loss);
        }
    }
}

#[test]
fn the_gradient_alone_still_finds_the_maxima() {
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let mut graph = Graph::new();
    let [x, dy] = [[1, 4, 4, 3], [1, 2, 2, 3]].map(|shape| graph.leaf(&shape, Place::whole("t")));
    let y = graph.max_pool2d(x, window).unwrap();
    let dx = graph.grad_from(y, dy, &[x]).unwrap()[0];
    graph.place(dx, Place::whole("dx"));
    assert_eq!(graph.compile().unwrap().stats().dispatches, 2);
}

#[test]
fn more_workgroups_than_one_dimension_holds() {
    let pixels = 65_536 * 64 + 5;
    let case = ([1, 1, pixels, 1], Window { kernel: [1, 2], stride: [1, 1], padding: [0, 0] });
    let x: Vec<f32> = (0..pixels).map(|i| (i % 5) as f32).collect();
    let got = run(&case, &x, None);
    assert!(got.plan.program().launches.iter().all(|launch| launch.workgroups[1] > 1));
    assert!(got.y.iter().zip(x.windows(2)).all(|(y, pair)| *y == pair[0].max(pair[1])));
    let gets = |i: usize| {
        let before = i > 0 && x[i] > x[i - 1];
        let after = i + 1 < pixels && x[i] >= x[i + 1];
        let from = |wins: bool, j: usize| if wins { got.upstream[j] } else { 0.0 };
        from(before, i.max(1) - 1) + from(after, i.min(pixels - 2))
    };
    assert!((0..pixels).all(|i| got.gradients[0][i] == gets(i)));
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let good = Window { kernel: [3, 2], stride: [1, 2], padding: [1, 1] };
    let refused = |image: &[usize], window: Window| {
        let mut graph = Graph::new();
        let x = graph.leaf(image, Place::whole("x"));
        let [most, mean] = [graph.max_pool2d(x, window), graph.avg_pool2d(x, window, true)];
        let most = matches!(most, Err(Error::Shape { op: "max_pool2d", .. }));
        assert_eq!(most, matches!(mean, Err(Error::Shape { op: "avg_pool2d", .. })));
        most
    };
    let image = [2, 5, 6, 3];
    assert!(!refused(&image, good));
    assert!(refused(&[5, 6, 3], good), "no image");
    assert!(refused(&[2, 5, 0, 3], good), "no columns");
    assert!(refused(&[0, 5, 6, 3], good), "no samples");
    assert!(refused(&image, Window { padding: [2, 1], ..good }), "a window outside of the image");
    assert!(refused(&image, Window { padding: [1, usize::MAX], ..good }));
    assert!(refused(&image, Window { kernel: [8, 2], ..good }), "larger than the padded image");
    assert!(refused(&image, Window { kernel: [0, 2], ..good }));
    assert!(refused(&image, Window { stride: [1, 0], ..good }));
}

/// A gradient whose forward result nobody asks for still needs what the forward pass noted beside it: the places of the maxima.
#[test]
fn a_gradient_alone_has_its_maxima() {
    let mut graph = Graph::new();
    let x = graph.leaf(&[1, 2, 2, 1], Place::whole("x"));
    let dy = graph.leaf(&[1, 1, 1, 1], Place::whole("dy"));
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let y = graph.max_pool2d(x, window).unwrap();
    let gradient = graph.grad_from(y, dy, &[x]).unwrap()[0];
    graph.place(gradient, Place::whole("dx"));
    let choices = Choices::default();
    let (plan, apart) = (graph.compile_for(&choices).unwrap(), graph.compile_unshared(&choices).unwrap());
    assert_eq!(plan.program().launches.len(), 2, "the maxima, then the gradient");
    crate::graphs::memory::check(plan.program(), apart.program());
}
