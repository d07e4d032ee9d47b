//! Steps relative to a reference path against f64 twins at odd sizes.

use super::harness::{Harness, assert_close, values};
use duet::ops::Reference;
use duet::ops::counterfactual::{self, COEFFICIENTS, StepSize};

/// Samples, height, width, channels.
const IMAGES: [[usize; 4]; 4] = [[1, 1, 1, 1], [3, 7, 5, 1], [2, 5, 9, 3], [2, 4, 3, 5]];

#[test]
fn an_x_start_is_guided_before_it_is_clipped() {
    for shape in IMAGES {
        let [n, height, width, channels] = shape;
        let (pixels, len) = (height * width, height * width * channels);
        for (model_channels, guided, clip) in
            [(channels, false, true), (channels, true, true), (2 * channels, true, false)]
        {
            let size = StepSize { shape, model_channels, clip };
            let (x, g) = (values(1, n * len), values(2, n * len));
            let out = values(3, n * pixels * model_channels);
            let coefficients: Vec<f32> = (0..n)
                .flat_map(|n| [1.2 + n as f32, -0.8, 0.5 + n as f32, 0.0, 0.0, 0.0, 0.0, 0.0])
                .collect();
            let mut h = Harness::new();
            let (tx, tg) = (h.input(&shape, &x), h.input(&shape, &g));
            let out_shape = [n, height, width, model_channels];
            let (tout, y) = (h.input(&out_shape, &out), h.output(&shape));
            let k = h.input(&[n * COEFFICIENTS], &coefficients);
            let reads = [tx.slice, tout.slice, k.slice];
            h.run(counterfactual::x_start(&size, reads, guided.then_some(tg.slice), y.slice));
            let want: Vec<f64> = (0..n * len)
                .map(|i| {
                    let (pixel, c) = (i / channels, i % channels);
                    let k = &coefficients[i / len * COEFFICIENTS..];
                    let [x, out, g] = [x[i], out[pixel * model_channels + c], g[i]].map(f64::from);
                    let [from_x, from_out, guide] = [k[0], k[1], k[2]].map(f64::from);
                    let value = from_x * x + from_out * out + if guided { guide * g } else { 0.0 };
                    if clip { value.clamp(-1.0, 1.0) } else { value }
                })
                .collect();
            assert_close("x_start", &h.read(&y), &want, 1e-5);
        }
    }
}

#[test]
fn a_step_changes_the_reference_where_the_box_says_so() {
    for (shape, radius, masked) in
        IMAGES.into_iter().flat_map(|s| [(s, 1, false), (s, 1, true), (s, 2, false), (s, 0, true)])
    {
        let [n, height, width, channels] = shape;
        let (pixels, len) = (height * width, height * width * channels);
        let size = StepSize { shape, model_channels: channels, clip: false };
        let rows = 5;
        let (x, x0) = (values(1, n * len), values(2, n * len));
        let (states, mut x0s) = (values(3, rows * len), values(4, rows * len));
        // Some pixels do not differ at all.
        for i in (0..len).filter(|i| i / channels % 3 != 0) {
            x0s[(rows - 1) * len + i] = x0[i];
        }
        let allowed: Vec<f32> = (0..pixels).map(|p| [1.0, 0.0, 0.25][p % 3]).collect();
        // Each sample reads rows of its own; the state of a step lies behind the next one's.
        let place = |n: usize| [1 + (n + 2) % (rows - 1), (rows - 1) - n % rows];
        let locality = 0.35f32;
        let coefficients: Vec<f32> = (0..n)
            .flat_map(|n| {
                let [state, x0] = place(n).map(|row| row as f32);
                [0.0, 0.0, 0.0, 0.7 + n as f32, 0.4, locality, state, x0]
            })
            .collect();
        let mut h = Harness::new();
        let tx = h.input(&shape, &x);
        let tx0 = h.input(&shape, &x0);
        let all = [rows, height, width, channels];
        let (tstates, tx0s) = (h.input(&all, &states), h.input(&all, &x0s));
        let k = h.input(&[n * COEFFICIENTS], &coefficients);
        let mask = h.input(&[pixels], &allowed);
        let reference = Reference { states: tstates.slice, x_starts: tx0s.slice };
        let mask = masked.then_some(mask.slice);
        h.run(counterfactual::advance(&size, radius, tx0.slice, reference, k.slice, mask, tx.slice));
        let got = h.read(&tx);
        let (mut changed, mut kept) = (0, 0);
        let mut want = vec![0.0; n * len];
        for n in 0..n {
            let [state, x0_row] = place(n);
            let difference = |p: usize| {
                let of = |c: usize| {
                    let i = p * channels + c;
                    (f64::from(x0[n * len + i]) - f64::from(x0s[x0_row * len + i])).abs()
                };
                (0..channels).map(of).fold(0.0, f64::max)
            };
            for (p, allowed) in allowed.iter().enumerate() {
                let (y, at_x, r) = ((p / width) as isize, (p % width) as isize, radius as isize);
                let mut sum = 0.0;
                for (dy, dx) in (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dy, dx))) {
                    let (oy, ox) = (y + dy, at_x + dx);
                    if (0..height as isize).contains(&oy) && (0..width as isize).contains(&ox) {
                        sum += difference(oy as usize * width + ox as usize);
                    }
                }
                let mean = sum / ((2 * radius + 1) * (2 * radius + 1)) as f64;
                let mut share = f64::from(u8::from(mean > f64::from(locality)));
                if masked {
                    share *= f64::from(*allowed);
                }
                for c in 0..channels {
                    let i = p * channels + c;
                    let [x, x0] = [x[n * len + i], x0[n * len + i]].map(f64::from);
                    let [now, next] = [states[state * len + i], states[(state - 1) * len + i]].map(f64::from);
                    let moved = (0.7 + n as f64) * (x - now) + 0.4 * (x0 - f64::from(x0s[x0_row * len + i]));
                    want[n * len + i] = next + share * moved;
                    if share == 0.0 {
                        kept += 1;
                        assert_eq!(got[n * len + i], states[(state - 1) * len + i], "bit for bit");
                    } else {
                        changed += 1;
                    }
                }
            }
        }
        assert_close("advance", &got, &want, 1e-5);
        assert!(pixels < 10 || (changed > 0 && kept > 0), "{shape:?} {radius}: {changed}, {kept}");
    }
}

#[test]
fn what_is_no_number_is_not_put_back() {
    let shape = [1, 3, 3, 1];
    let size = StepSize { shape, model_channels: 1, clip: true };
    for bad in [f32::NAN, f32::INFINITY] {
        let mut out = vec![0.1; 9];
        out[4] = bad;
        let mut h = Harness::new();
        let (x, tout, x0) = (h.input(&shape, &[0.2; 9]), h.input(&shape, &out), h.output(&shape));
        let k = h.input(&[COEFFICIENTS], &[1.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 0.0]);
        let (states, x0s) = (h.input(&[2, 3, 3, 1], &[0.0; 18]), h.input(&shape, &[0.0; 9]));
        let mask = h.input(&[9], &[0.0; 9]);
        let mut launches = counterfactual::x_start(&size, [x.slice, tout.slice, k.slice], None, x0.slice);
        let reference = Reference { states: states.slice, x_starts: x0s.slice };
        launches.extend(counterfactual::advance(
            &size,
            1,
            x0.slice,
            reference,
            k.slice,
            Some(mask.slice),
            x.slice,
        ));
        h.run(launches);
        assert!(!h.read(&x0)[4].is_finite() && !h.read(&x)[4].is_finite());
    }
}
