//! More workgroups than a dispatch has in one dimension: their rows are folded (`spread`). Random networks run folded in any
//! case (`graphs`); here are launches that really are too long, of the families in tiles.

use crate::harness::{Harness, values};
use duet::families::Family;
use duet::ops::attention::{self, Attention};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::ops::matmul::{self, MatMul};

/// One workgroup more than two rows of 32,768: the last row ends with one that has nothing to do.
const WORKGROUPS: usize = 65_537;

fn is_folded(workgroups: [u32; 3]) {
    assert_eq!(workgroups, [32_769, 2, 1]);
}

/// Images of one pixel that are one workgroup of 128 too many for a row: in memory the largest tensor that every device binds.
const PIXELS: usize = 128 * 65_536;

#[test]
fn attention_in_tiles() {
    // A workgroup an image of one token, whose answer is its value.
    let size = Attention { batch: WORKGROUPS, tokens: 1, channels: 1, heads: 1, new_order: true };
    let (qkv, dout) = (values(1, 3 * WORKGROUPS), values(2, WORKGROUPS));
    let mut h = Harness::new();
    let given = h.input(&[WORKGROUPS, 3], &qkv).slice;
    let upstream = h.input(&[WORKGROUPS, 1], &dout).slice;
    let (out, dqkv) = (h.output(&[WORKGROUPS, 1]), h.output(&[WORKGROUPS, 3]));
    let lse = h.scratch(attention::lse_bytes(&size));
    let scratch = h.scratch(attention::grad_scratch(&size));
    let forward = attention::forward(Family::Tiled, &size, given, out.slice, lse);
    let backward =
        attention::grad(Family::Tiled, &size, [given, out.slice, lse, upstream], scratch, dqkv.slice);
    for launch in forward.iter().chain(&backward).filter(|launch| launch.kernel.file == "attention_tiled") {
        is_folded(launch.workgroups);
    }
    h.run(forward.into_iter().chain(backward).collect());
    let (out, dqkv) = (h.read(&out), h.read(&dqkv));
    for n in 0..WORKGROUPS {
        assert!(
            (out[n] - qkv[3 * n + 2]).abs() < 1e-6,
            "image {n}: {} instead of {}",
            out[n],
            qkv[3 * n + 2]
        );
        let got = &dqkv[3 * n..3 * n + 3];
        let right = got[0].abs() < 1e-6 && got[1].abs() < 1e-6 && (got[2] - dout[n]).abs() < 1e-6;
        assert!(right, "image {n}: gradient {got:?} instead of 0, 0, {}", dout[n]);
    }
}

#[test]
#[ignore = "takes a quarter of a minute and 200 MB on a software device: make slow-test"]
fn products_in_tiles() {
    // One row, and columns enough: the outer product of a number and a row.
    let columns = 64 * WORKGROUPS - 63;
    let size = MatMul { rows: 1, in_features: 1, out_features: columns };
    let weight = values(1, columns);
    let mut padded = weight.clone();
    padded.resize(4 * columns, 0.0);
    let mut h = Harness::new();
    let x = h.input(&[1, 1], &[0.5]).slice;
    let w = h.input(&[4, columns], &padded).slice;
    let y = h.output(&[1, columns]);
    let launches = matmul::forward(Family::Tiled, &size, x, w, None, None, y.slice);
    is_folded(launches[0].workgroups);
    h.run(launches);
    let got = h.read(&y);
    let wrong = (0..columns).find(|i| got[*i] != 0.5 * weight[*i]);
    assert!(wrong.is_none(), "column {wrong:?}");
    // The same row as the gradient of a long input.
    let size = MatMul { rows: 1, in_features: columns, out_features: 1 };
    let mut h = Harness::new();
    let dy = h.input(&[1, 1], &[0.5]).slice;
    let mut rows = weight.clone();
    rows.resize(columns.next_multiple_of(4), 0.0);
    let w = h.input(&[rows.len(), 1], &rows).slice;
    let dx = h.output(&[1, columns]);
    let launches = matmul::grad_input(Family::Tiled, &size, dy, w, None, dx.slice);
    is_folded(launches[0].workgroups);
    h.run(launches);
    let got = h.read(&dx);
    let wrong = (0..columns).find(|i| got[*i] != 0.5 * weight[*i]);
    assert!(wrong.is_none(), "column {wrong:?}");
}

#[test]
#[ignore = "takes a minute and 300 MB on a software device: make slow-test"]
fn convolutions_in_tiles() {
    // Images of one pixel, of which a convolution sees only the middle of its kernel.
    let batch = PIXELS;
    let size = Conv3x3 { batch, height: 1, width: 1, in_channels: 1, out_channels: 1, stride: 1 };
    let x = values(1, batch);
    let mut weight = vec![9.0; 9 * 4];
    (0..9).for_each(|tap| weight[4 * tap + 1..4 * tap + 4].fill(0.0));
    weight[16] = 0.5;
    let mut h = Harness::new();
    let given = h.input(&[batch, 1, 1, 1], &x).slice;
    let w = h.input(&[9, 4, 1], &weight).slice;
    let y = h.output(&[batch, 1, 1, 1]);
    for launches in [
        conv3x3::forward(Family::Tiled, &size, given, w, None, None, y.slice),
        conv3x3::grad_input(Family::Tiled, &size, given, w, None, y.slice),
    ] {
        assert_eq!(launches[0].workgroups, [32_768, 2, 1]);
        h.run(launches);
        let got = h.read(&y);
        let wrong = (0..batch).find(|i| got[*i] != 0.5 * x[*i]);
        assert!(wrong.is_none(), "image {wrong:?}");
    }
}
