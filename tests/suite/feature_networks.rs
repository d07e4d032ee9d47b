//! Networks of features and the operations they are made of, against PyTorch's numbers: `tests/fixtures/features/make.py`.

use crate::golden::Fixture;
use crate::harness::{Harness, assert_close, device, values};
use duet::Error;
use duet::features::{FeatureNetwork, Inception, Lenet, Network};
use duet::graph::{Graph, NodeId};
use duet::ops::conv2d::Window;
use duet::tensor::{HostTensor, Tensors, pitch};
use duet::torch::TorchFile;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/features/networks.safetensors");
    Fixture::load(&path)
}

/// Weights as `fill` of make.py: by each name's place in the sorted list.
pub fn weights(network: Network) -> Tensors {
    let mut state = network.expected().unwrap();
    state.extend(network.auxiliary());
    state.sort();
    let tensor = |(number, (name, shape)): (usize, (String, Vec<usize>))| {
        let mut data = values(1000 + number as u64, shape.iter().product());
        let fan_in = shape[1..].iter().product::<usize>() as f64;
        let scale = (6.0 / fan_in).sqrt() as f32;
        for value in &mut data {
            *value = match name.as_str() {
                name if name.ends_with("running_var") => 1.0 + 0.5 * *value,
                name if name.ends_with("bn.weight") => 1.0 + 0.25 * *value,
                name if name.ends_with(".weight") => scale * *value,
                _ => 0.25 * *value,
            };
        }
        (name, HostTensor { shape, data })
    };
    state.into_iter().enumerate().map(tensor).collect()
}

fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Window {
    Window { kernel, stride, padding }
}

fn three(stride: usize, padding: usize) -> Window {
    window([3, 3], [stride; 2], [padding; 2])
}

/// An operation of `x` \[2,H,W,C\] and a weight, with its gradients.
type Apply = Box<dyn Fn(&mut Graph, &[NodeId]) -> NodeId>;
/// Its name, the input's shape, the sides of a result that differ from it, and what is done.
type Case = (String, [usize; 4], Option<[usize; 2]>, Apply);

#[test]
fn operations_and_their_gradients_are_pytorchs() {
    let fixture = fixture();
    let mut cases: Vec<Case> = Vec::new();
    let resizes = [([7, 5], [13, 11]), ([9, 5], [4, 3]), ([1, 6], [5, 6]), ([6, 7], [1, 30])];
    for (number, ([height, width], made)) in resizes.into_iter().enumerate() {
        let apply: Apply = Box::new(move |g, leaves| g.resize_bilinear(leaves[0], made).unwrap());
        cases.push((format!("resize/{number}"), [2, height, width, 3], None, apply));
    }
    for (number, (stride, padding)) in [(2, 0), (1, 1)].into_iter().enumerate() {
        let window = three(stride, padding);
        let apply: Apply = Box::new(move |g, leaves| g.max_pool2d(leaves[0], window).unwrap());
        cases.push((format!("max/{number}"), [2, 9, 7, 5], None, apply));
    }
    for (number, counted) in [true, false].into_iter().enumerate() {
        let apply: Apply = Box::new(move |g, leaves| g.avg_pool2d(leaves[0], three(1, 1), counted).unwrap());
        cases.push((format!("average/{number}"), [2, 9, 7, 5], None, apply));
    }
    let convolutions = [
        ([5, 9], window([1, 7], [1, 1], [0, 3])),
        ([9, 5], window([7, 1], [1, 1], [3, 0])),
        ([9, 7], three(2, 0)),
        ([7, 9], window([5, 5], [1, 1], [2, 2])),
        ([4, 4], window([4, 4], [1, 1], [0, 0])),
    ];
    for (number, ([height, width], window)) in convolutions.into_iter().enumerate() {
        let apply: Apply = Box::new(move |g, leaves| g.conv2d(leaves[0], leaves[1], window, None).unwrap());
        cases.push((format!("conv/{number}"), [2, height, width, 5], Some(window.kernel), apply));
    }
    let known = |name: &str| fixture.tensors.get(name).unwrap_or_else(|| panic!("{name}")).1.clone();
    for (name, image, kernel, apply) in cases {
        let x = values(1, image.iter().product());
        // PyTorch's [K,C,U,V] of 6 and 5 channels as [U·V,pitch(C),K].
        let taps = kernel.map_or(0, |kernel| kernel[0] * kernel[1]);
        let (rows, weight) = (pitch(5), values(2, 6 * 5 * taps));
        let mut laid = vec![0.0; taps * rows * 6];
        let place = |i: usize| (i % taps * rows + i / taps % 5) * 6 + i / taps / 5;
        weight.iter().enumerate().for_each(|(i, value)| laid[place(i)] = *value);
        let shape = [taps, rows, 6];
        let mut tensors: Vec<(&[usize], &[f32])> = vec![(&image, &x)];
        if kernel.is_some() {
            tensors.push((&shape, &laid));
        }
        let got = Harness::differentiate(&tensors, apply);
        assert_close(&name, &got.y, &known(&format!("{name}.y")), 1e-5);
        assert_close(&format!("{name} dx"), &got.gradients[0], &known(&format!("{name}.dx")), 1e-5);
        if kernel.is_some() {
            let dw: Vec<f32> = (0..weight.len()).map(|i| got.gradients[1][place(i)]).collect();
            assert_close(&format!("{name} dw"), &dw, &known(&format!("{name}.dw0")), 1e-5);
        }
    }
}

fn grey_images() -> Vec<u8> {
    values(1, 3 * 28 * 28).iter().map(|v| ((v + 1.0) * 127.5).round_ties_even() as u8).collect()
}

#[test]
fn lenets_make_pytorchs_features_and_logits() {
    let fixture = fixture();
    let images = grey_images();
    for (which, features, classes) in [(Lenet::Mnist, 84, 10), (Lenet::Omniglot, 128, 47)] {
        let network = Network::Lenet(which);
        // Two of three images at a time: the last batch is not full.
        let mut net = pollster::block_on(FeatureNetwork::new(device(), &weights(network), 2)).unwrap();
        assert_eq!(net.network(), network);
        let got = pollster::block_on(net.extract(&images, [28, 28, 1])).unwrap();
        assert_eq!((got.pooled.len, got.logits.len, &got.spatial), (features, classes, &None));
        let name = network.name();
        assert_close(name, &got.pooled.values, &fixture.tensors[&format!("{name}/pooled")].1, 1e-5);
        assert_close(name, &got.logits.values, &fixture.tensors[&format!("{name}/logits")].1, 1e-5);
        let none = pollster::block_on(net.extract(&[], [28, 28, 1])).unwrap();
        assert_eq!((none.pooled.len, none.pooled.values.len()), (features, 0));
        let twice = pollster::block_on(net.extract(&images, [28, 28, 1])).unwrap();
        assert_eq!(twice, got, "other bits the second time");
    }
}

#[test]
fn weights_that_are_no_networks_and_images_that_it_does_not_read_are_refused() {
    let network = Network::Lenet(Lenet::Mnist);
    let good = weights(network);
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        Network::of(&tensors).unwrap_err().to_string()
    };
    let said = refused(&|t| drop(t.remove("fc2.bias")));
    assert!(said.contains("missing: `fc2.bias` [84]"), "{said}");
    let said = refused(&|t| t.get_mut("fc1.weight").unwrap().shape = vec![256, 120]);
    assert!(said.contains("`fc1.weight` is [256, 120], must be [120, 256]"), "{said}");
    let said = refused(&|t| drop(t.insert("fc4.bias".into(), t["fc3.bias"].clone())));
    assert!(said.contains("unexpected: `fc4.bias` [10]"), "{said}");
    let said = Network::of(&Tensors::new()).unwrap_err().to_string();
    assert!(said.contains("`Conv2d_1a_3x3.bn.bias` [32]") && said.contains("more"), "{said}");
    let new = |batch| pollster::block_on(FeatureNetwork::new(device(), &good, batch));
    assert!(matches!(new(0).map(|_| ()), Err(Error::Config { field, .. }) if field == "batch_size"));
    let mut net = new(2).unwrap();
    for size in [[28, 28, 3], [32, 32, 1], [0, 28, 1]] {
        let said = pollster::block_on(net.extract(&[], size)).unwrap_err().to_string();
        assert!(said.contains("lenet-mnist reads images of 28×28 with 1 channel"), "{said}");
    }
    let part = pollster::block_on(net.extract(&[0; 785], [28, 28, 1]));
    assert!(matches!(part, Err(Error::Shape { op: "features", .. })));
    let mut infinite = good.clone();
    infinite.get_mut("fc2.bias").unwrap().data[3] = f32::INFINITY;
    let mut net = pollster::block_on(FeatureNetwork::new(device(), &infinite, 2)).unwrap();
    let said = pollster::block_on(net.extract(&[0; 3 * 784], [28, 28, 1])).unwrap_err().to_string();
    assert!(said.contains("features of image 0"), "{said}");
}

#[test]
fn inceptions_have_the_names_and_shapes_of_their_files() {
    let counts = [Inception::Fid, Inception::Torchvision].map(|which| {
        let network = Network::Inception(which);
        let state = network.expected().unwrap();
        let values: usize = state.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        (state.len(), values, network.auxiliary().len())
    });
    // 94 convolutions with four vectors of BatchNorm each, and a linear layer: of pytorch-fid's file the 566 entries without
    // its 94 counters.
    assert_eq!(counts, [(472, 23_885_392, 0), (472, 23_869_000, 12)]);
}

/// Images of 32×32 pixels, colours that change slowly with some noise; those of the second half are paler.
fn pictures(count: usize) -> Vec<u8> {
    let numbers = values(7, count * 6);
    let noise = values(8, count * 32 * 32 * 3);
    let level = |i: usize| {
        let (image, pixel, channel) = (i / 3072, i / 3 % 1024, i % 3);
        let [phase, turn, speed] = [0, 1, 2].map(|k| numbers[image * 6 + (k + channel) % 6]);
        let (row, column) = ((pixel / 32) as f32 / 32.0, (pixel % 32) as f32 / 32.0);
        let wave = (6.0 * speed * (row * turn + column * (1.0 - turn)) + 3.0 * phase).sin();
        let contrast = if image < count / 2 { 90.0 } else { 60.0 };
        (127.5 + contrast * wave + 30.0 * noise[i]) as u8
    };
    (0..count * 3072).map(level).collect()
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs make.py with the Python that `DUET_TORCH` names.
fn make(arguments: &[&OsStr]) {
    let python =
        std::env::var_os("DUET_TORCH").expect("DUET_TORCH names a Python with torch, torchvision and scipy");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/features/make.py");
    let status = std::process::Command::new(python).arg(script).args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

/// Writes images as numpy does: a header of 128 bytes says what follows.
fn write_npy(path: &Path, images: &[u8], shape: [usize; 4]) {
    let [count, height, width, channels] = shape;
    let shape = format!("({count}, {height}, {width}, {channels})");
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    header += &" ".repeat(117 - header.len());
    let head = [b"\x93NUMPY\x01\x00v\x00", header.as_bytes(), b"\n", images].concat();
    std::fs::write(path, head).unwrap();
}

fn floats(path: &Path) -> Vec<f64> {
    let float = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
    std::fs::read(path).unwrap().chunks_exact(4).map(float).collect()
}

/// The reference's own weights, where `DUET_LENET` names its file `lenet_MNIST`.
#[test]
#[ignore = "needs PyTorch and the reference's weights: DUET_TORCH=PYTHON DUET_LENET=FILE"]
fn the_references_lenet_makes_pytorchs_features() {
    let weights = std::env::var_os("DUET_LENET").expect("DUET_LENET names the reference's lenet_MNIST");
    let folder = folder("lenet");
    let [npy, theirs] = ["images.npy", "theirs.f32"].map(|name| folder.join(name));
    let images = grey_images();
    write_npy(&npy, &images, [3, 28, 28, 1]);
    make(&["lenet".as_ref(), &weights, npy.as_ref(), theirs.as_ref()]);
    let path = Path::new(&weights);
    let bytes = std::fs::read(path).unwrap();
    let tensors = TorchFile::read(&bytes, path).unwrap().state_dict(None).unwrap();
    let mut net = pollster::block_on(FeatureNetwork::new(device(), &tensors, 2)).unwrap();
    let got = pollster::block_on(net.extract(&images, [28, 28, 1])).unwrap();
    let ratio = assert_close("pooled", &got.pooled.values, &floats(&theirs), 1e-5);
    println!("features: {ratio:.4} of the bound 1e-5 of the largest");
}

/// What PyTorch makes of a whole Inception, where `DUET_TORCH` names a Python that has it: features, and the Fréchet distance of
/// one half of the images to the other.
#[test]
#[ignore = "takes minutes and needs PyTorch and scipy: DUET_TORCH=PYTHON"]
fn inception_features_of_400_pictures_are_pytorchs() {
    let folder = folder("inception");
    let [npy, theirs, ours, weights] =
        ["images.npy", "theirs.f32", "ours.f32", "inception-fid.safetensors"].map(|name| folder.join(name));
    make(&["weights".as_ref(), folder.as_ref()]);
    let count: usize = std::env::var("DUET_TORCH_IMAGES").map_or(400, |count| count.parse().unwrap());
    let images = pictures(count);
    write_npy(&npy, &images, [count, 32, 32, 3]);
    make(&["features".as_ref(), folder.as_ref(), npy.as_ref(), theirs.as_ref()]);
    let file = duet::checkpoint::StateDict::load(&weights).unwrap();
    let mut net = pollster::block_on(FeatureNetwork::new(device(), &file.tensors, 8)).unwrap();
    // The first batch compiles.
    pollster::block_on(net.extract(&images[..3072], [32, 32, 3])).unwrap();
    let start = std::time::Instant::now();
    let got = pollster::block_on(net.extract(&images, [32, 32, 3])).unwrap();
    println!("{:.2} images a second", count as f64 / start.elapsed().as_secs_f64());
    let bytes: Vec<u8> = got.pooled.values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(&ours, bytes).unwrap();
    let ratio = assert_close("pooled", &got.pooled.values, &floats(&theirs), 1e-4);
    println!("features: {ratio:.4} of the bound 1e-4 of the largest");
    make(&["distances".as_ref(), ours.as_ref(), theirs.as_ref()]);
}
