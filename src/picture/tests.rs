//! Orientations, grounds, fits and inversion on pictures of a few pixels.

use super::*;

fn picture(layout: PixelLayout, width: usize, data: &[u8]) -> Picture<'_> {
    let height = data.len() / layout.bytes() / width;
    Picture { width, height, layout, data, orientation: 1 }
}

#[test]
fn a_picture_of_the_right_size_keeps_its_levels() {
    let data: Vec<u8> = (0..=255).collect();
    let grey = picture(PixelLayout::Grey, 16, &data);
    assert_eq!(Preparation::new(1, 16).levels(&grey).unwrap(), data);
    let colour = Preparation::new(3, 16).levels(&grey).unwrap();
    assert!(colour.chunks(256).all(|plane| plane == data), "channel after channel");
    assert_eq!([value(0), value(255)], [-1.0, 1.0]);
}

#[test]
fn eight_orientations_of_one_picture_are_one() {
    // Four pixels by three, all different; stored as each orientation says.
    let upright: Vec<u8> = (0..12).map(|i| 20 * i).collect();
    let pixel = |x: usize, y: usize| upright[4 * y + x];
    for orientation in 1..=8u8 {
        // Where the stored picture's column and row go, from EXIF's words for row 0 and column 0.
        let (width, height) = if orientation < 5 { (4, 3) } else { (3, 4) };
        let mut data = Vec::new();
        for row in 0..height {
            for column in 0..width {
                data.push(match orientation {
                    1 => pixel(column, row),
                    2 => pixel(3 - column, row),
                    3 => pixel(3 - column, 2 - row),
                    4 => pixel(column, 2 - row),
                    5 => pixel(row, column),
                    6 => pixel(3 - row, column),
                    7 => pixel(3 - row, 2 - column),
                    _ => pixel(row, 2 - column),
                });
            }
        }
        let turned = Picture { orientation, ..picture(PixelLayout::Grey, width, &data) };
        let levels = Preparation::new(1, 3).levels(&turned).unwrap();
        assert_eq!(levels, [0, 20, 40, 80, 100, 120, 160, 180, 200], "orientation {orientation}");
    }
}

#[test]
fn what_is_transparent_shows_the_ground_and_grey_is_rec_601() {
    let data = [200, 10, 10, 0, 255, 255, 255, 128, 255, 0, 0, 255, 0, 0, 255, 255];
    let rgba = picture(PixelLayout::Rgba, 2, &data);
    assert_eq!(Preparation::new(1, 2).levels(&rgba).unwrap(), [0, 128, 76, 29]);
    let white = Preparation { ground: 255, ..Preparation::new(1, 2) };
    assert_eq!(white.levels(&rgba).unwrap(), [255, 255, 76, 29]);
    let grey = picture(PixelLayout::GreyAlpha, 2, &[100, 255, 100, 0, 9, 9, 255, 51]);
    assert_eq!(Preparation::new(1, 2).levels(&grey).unwrap(), [100, 0, 0, 51]);
    // Rounded, not cut off: 201 · 100 / 255 is 78.8, and green's share of one level 0.587.
    let half = picture(PixelLayout::GreyAlpha, 1, &[201, 100]);
    assert_eq!(Preparation::new(1, 1).levels(&half).unwrap(), [79]);
    let green = picture(PixelLayout::Rgb, 1, &[0, 1, 0]);
    assert_eq!(Preparation::new(1, 1).levels(&green).unwrap(), [1]);
}

#[test]
fn the_middle_is_cut_out_and_shrinking_averages() {
    let mut data = vec![7u8; 40 * 20];
    for (i, level) in data.iter_mut().enumerate() {
        if (10..30).contains(&(i % 40)) {
            // Stripes finer than the result's pixels.
            *level = if i % 2 == 0 { 0 } else { 255 };
        }
    }
    let small = Preparation::new(1, 2).levels(&picture(PixelLayout::Grey, 40, &data)).unwrap();
    assert!(small.iter().all(|v| (118..=137).contains(v)), "{small:?}");
}

/// A bar across the middle of a wide picture, and the same turned for a tall one.
fn wide(width: usize, height: usize) -> Vec<u8> {
    (0..width * height).map(|i| if (i % width) * 2 < width { 200 } else { 50 }).collect()
}

#[test]
fn padding_keeps_all_on_the_ground_and_stretching_fills_the_square() {
    let options = |fit, ground| Preparation { fit, ground, ..Preparation::new(1, 8) };
    // Twice as wide as high, already as wide as the model's: exact levels between two bars of ground.
    let data = wide(8, 4);
    let across = picture(PixelLayout::Grey, 8, &data);
    let padded = options(Fit::Pad, 9).levels(&across).unwrap();
    let row = [200, 200, 200, 200, 50, 50, 50, 50];
    let expected: Vec<u8> = (0..8).flat_map(|y| if (2..6).contains(&y) { row } else { [9; 8] }).collect();
    assert_eq!(padded, expected);
    // Turned a quarter, the result is the turned one.
    let turned = Picture { orientation: 6, ..across };
    let upright = options(Fit::Pad, 9).levels(&turned).unwrap();
    let transposed: Vec<u8> = (0..64).map(|i| expected[(i % 8) * 8 + i / 8]).collect();
    assert_eq!(upright, transposed);
    // Stretched, every row is the row, and every column of the turned one.
    let stretched = options(Fit::Stretch, 9).levels(&across).unwrap();
    assert!(stretched.chunks(8).all(|found| found == row), "{stretched:?}");
    let upright = options(Fit::Stretch, 9).levels(&turned).unwrap();
    assert!((0..64).all(|i| upright[i] == row[i / 8]), "{upright:?}");
    // Larger ones are the same but at the edges that the filter rings at.
    let data = wide(80, 40);
    let large = picture(PixelLayout::Grey, 80, &data);
    for (fit, small) in [(Fit::Pad, &padded), (Fit::Stretch, &stretched)] {
        let found = options(fit, 9).levels(&large).unwrap();
        let far = found.iter().zip(small).filter(|(a, b)| a.abs_diff(**b) > 12).count();
        assert_eq!(far, 0, "{fit:?} {found:?}");
    }
    // A line keeps a pixel, and a square is a square whatever the fit.
    let line = vec![255; 3000];
    let padded = options(Fit::Pad, 0).levels(&picture(PixelLayout::Grey, 3000, &line)).unwrap();
    assert_eq!(padded.iter().filter(|v| **v == 255).count(), 8);
    let square = wide(8, 8);
    for fit in Fit::ALL {
        assert_eq!(options(fit, 9).levels(&picture(PixelLayout::Grey, 8, &square)).unwrap(), square);
        assert_eq!(Fit::named(fit.name()).unwrap(), fit);
        assert_eq!(serde_json::to_string(&fit).unwrap(), format!("{:?}", fit.name()));
    }
    assert!(Fit::named("squeeze").unwrap_err().to_string().contains("crop, pad, stretch"));
}

#[test]
fn what_a_crop_loses_is_told() {
    let data = wide(40, 30);
    let across = picture(PixelLayout::Grey, 40, &data);
    let cut = |fit, picture: &Picture<'_>| Preparation { fit, ..Preparation::new(1, 8) }.cut_off(picture);
    assert_eq!(cut(Fit::Crop, &across), 0.25);
    assert_eq!(cut(Fit::Crop, &Picture { orientation: 6, ..across }), 0.25);
    assert_eq!((cut(Fit::Pad, &across), cut(Fit::Stretch, &across)), (0.0, 0.0));
    assert_eq!(cut(Fit::Crop, &picture(PixelLayout::Grey, 30, &data[..900])), 0.0);
}

#[test]
fn inverting_leaves_the_ground_alone() {
    let invert = Preparation { invert: true, ..Preparation::new(1, 2) };
    // Dark strokes on nothing become light strokes on black; half a stroke is half as light.
    let strokes = picture(PixelLayout::GreyAlpha, 2, &[0, 255, 0, 0, 77, 0, 0, 128]);
    assert_eq!(invert.levels(&strokes).unwrap(), [255, 0, 0, 128]);
    let on_white = Preparation { ground: 255, ..invert };
    assert_eq!(on_white.levels(&strokes).unwrap(), [255; 4], "light strokes on white are not seen");
    // Padding is ground too.
    let pad = Preparation { fit: Fit::Pad, ..invert };
    assert_eq!(pad.levels(&picture(PixelLayout::Grey, 2, &[255, 0])).unwrap(), [0, 255, 0, 0]);
    let colour = Preparation { invert: true, ..Preparation::new(3, 1) };
    assert_eq!(colour.levels(&picture(PixelLayout::Rgb, 1, &[0, 100, 255])).unwrap(), [255, 155, 0]);
}

#[test]
fn a_plain_ground_opposite_to_the_model_s_is_seen() {
    let black = Preparation::new(1, 16);
    let white = Preparation { ground: 255, ..black };
    let grey = Preparation { ground: 128, ..black };
    // A thing on a ground; what is in the middle does not matter.
    let on = |level: u8| -> Vec<u8> {
        let thing = |i: usize| (3..13).contains(&(i % 16)) && (3..13).contains(&(i / 16));
        (0..256).map(|i| if thing(i) { 255 - level } else { level }).collect()
    };
    assert!(black.opposite_ground(&on(255)) && black.opposite_ground(&on(190)));
    assert!(!black.opposite_ground(&on(0)) && !black.opposite_ground(&on(100)));
    assert!(white.opposite_ground(&on(0)) && !white.opposite_ground(&on(255)));
    assert!(![0, 90, 160].iter().any(|level| grey.opposite_ground(&on(*level))));
    // Light corners that differ, or one dark corner, are no ground.
    let slope: Vec<u8> = (0..256).map(|i| 140 + (i % 16 * 7) as u8).collect();
    let mut corner = on(250);
    corner[255] = 0;
    assert!(!black.opposite_ground(&slope) && !black.opposite_ground(&corner));
    let colour = Preparation::new(3, 16);
    assert!(colour.opposite_ground(&[on(250), on(240), on(230)].concat()));
    assert!(!colour.opposite_ground(&[on(250), on(0), on(0)].concat()), "red");
}

#[test]
fn bad_pictures_are_refused() {
    let options = Preparation::new(1, 4);
    let short = Picture { height: 9, ..picture(PixelLayout::Rgb, 2, &[0; 24]) };
    let empty = Picture { width: 0, ..picture(PixelLayout::Grey, 2, &[0; 4]) };
    let huge = Picture { width: usize::MAX, ..picture(PixelLayout::Rgba, 2, &[0; 8]) };
    for bad in [short, empty, huge] {
        assert!(options.levels(&bad).unwrap_err().to_string().contains("picture"));
    }
    assert!(Preparation::new(2, 4).levels(&picture(PixelLayout::Grey, 2, &[0; 4])).is_err());
}

#[test]
fn a_smaller_picture_lies_in_the_middle_of_the_ground() {
    let data: Vec<u8> = (1..=9).collect();
    let own = picture(PixelLayout::Grey, 3, &data);
    let inside = |size| Preparation { resize_to: Some(3), ground: 99, ..Preparation::new(1, size) };
    // A pixel more below and to the right, where the ground cannot be the same at both sides.
    for (size, before) in [(3, 0), (4, 0), (5, 1), (8, 2)] {
        let levels = inside(size).levels(&own).unwrap();
        for (i, level) in levels.iter().enumerate() {
            let at = [i / size, i % size].map(|at| at.checked_sub(before).filter(|at| *at < 3));
            let want = if let [Some(y), Some(x)] = at { data[3 * y + x] } else { 99 };
            assert_eq!(*level, want, "pixel {i} of {size}×{size}");
        }
        assert_eq!(inside(size).inside(), [3, before]);
    }
    // A larger one is resized to that first; each fit in that square.
    let bar = wide(60, 30);
    let bar = picture(PixelLayout::Grey, 60, &bar);
    for fit in Fit::ALL {
        let whole = Preparation { fit, ..Preparation::new(1, 6) }.levels(&bar).unwrap();
        let inner = Preparation { fit, resize_to: Some(6), ..Preparation::new(1, 10) }.levels(&bar).unwrap();
        let middle: Vec<u8> = (0..6).flat_map(|y| inner[10 * (y + 2) + 2..][..6].to_vec()).collect();
        assert_eq!(middle, whole, "{fit:?}");
        assert!(inner[..20].iter().chain(&inner[80..]).all(|level| *level == 0), "{inner:?}");
    }
    for bad in [0, 9] {
        let error = Preparation { resize_to: Some(bad), ..Preparation::new(1, 8) }.levels(&own);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("resize_to") && error.contains("from 1 to the model's 8"), "{error}");
    }
    // Its own corners are looked at, not those of the ground around it.
    let white = [255; 9];
    let levels = inside(8).levels(&picture(PixelLayout::Grey, 3, &white)).unwrap();
    assert!(Preparation { ground: 0, ..inside(8) }.opposite_ground(&levels));
    assert!(!Preparation { ground: 0, resize_to: None, ..inside(8) }.opposite_ground(&levels));
}

#[test]
fn filters_are_those_of_their_names() {
    // Four pixels to two by a triangle that reaches two pixels to each side of their middle, and beyond the border: 3/7, 3/7, 1/7.
    let data = [0, 70, 140, 210].repeat(4);
    let ramp = picture(PixelLayout::Grey, 4, &data);
    let small = |resize| Preparation { resize, ..Preparation::new(1, 2) }.levels(&ramp).unwrap();
    assert_eq!(small(Resize::Bilinear), [50, 160, 50, 160]);
    assert_ne!(small(Resize::Lanczos), small(Resize::Bilinear));
    for resize in Resize::ALL {
        assert_eq!(Resize::named(resize.name()).unwrap(), resize);
        assert_eq!(serde_json::to_string(&resize).unwrap(), format!("{:?}", resize.name()));
    }
    assert!(Resize::named("nearest").unwrap_err().to_string().contains("lanczos, bilinear"));
}

#[test]
fn what_says_nothing_is_not_written() {
    let old = r#"{"ground":255,"fit":"pad"}"#;
    let pictures: Pictures = serde_json::from_str(old).unwrap();
    assert_eq!(serde_json::to_string(&pictures).unwrap(), old);
    let all = Pictures { resize: Resize::Bilinear, resize_to: Some(28), ..pictures };
    let text = r#"{"ground":255,"fit":"pad","resize":"bilinear","resize_to":28}"#;
    assert_eq!(serde_json::to_string(&all).unwrap(), text);
    assert_eq!(serde_json::from_str::<Pictures>(text).unwrap(), all);
}
