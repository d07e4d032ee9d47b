//! Inception block by block against PyTorch: `tests/fixtures/features/make.py`, at 91×107 pixels.

use super::{Inception, Network};
use crate::gpu::{Device, DeviceOptions};
use crate::graph::Place;
use crate::tensor::{HostTensor, Tensors, unpad_rows};
use std::collections::BTreeMap;
use std::path::Path;

/// The fixtures' generator, SplitMix64 of a seed and the index, as in the suite's harness.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let value = |i: u64| {
        let mut x = seed
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add((i + 1).wrapping_mul(0xD134_2543_DE82_EF95));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count as u64).map(value).collect()
}

/// Weights as `fill` of make.py: by each name's place in the sorted list.
fn weights(network: Network) -> Tensors {
    let mut state = network.expected().unwrap();
    state.extend(network.auxiliary());
    state.sort();
    let tensor = |(number, (name, shape)): (usize, (String, Vec<usize>))| {
        let mut data = values(1000 + number as u64, shape.iter().product());
        let scale = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
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

/// PyTorch's numbers.
fn fixture() -> BTreeMap<String, Vec<f32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/features/networks.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.tensors().into_iter().map(|(name, view)| (name, floats(view.data()))).collect()
}

/// The largest difference over the largest value.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|v| v.is_finite()));
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / largest
}

#[test]
fn every_block_of_inception_is_pytorchs() {
    let adapter = std::env::var("DUET_ADAPTER").ok();
    let device =
        pollster::block_on(Device::open(&DeviceOptions { adapter, ..DeviceOptions::default() })).unwrap();
    let known = fixture();
    let image = [2, 91, 107, 3];
    let x = crate::tensor::pad_rows(&values(1, image.iter().product()), 3);
    for which in [Inception::Fid, Inception::Torchvision] {
        let network = Network::Inception(which);
        let mut net = super::Net::default();
        let leaf = net.graph.leaf(&image, Place::whole("x"));
        which.build(&mut net, leaf).unwrap();
        let tensors = weights(network);
        network.check(&tensors).unwrap();
        let packed = net.pack(&tensors).unwrap();
        let marks = net.marks.clone();
        for (name, node) in &marks {
            net.graph.place(*node, Place::whole(*name));
        }
        let plan = net.graph.compile().unwrap();
        let given: BTreeMap<&str, &Vec<f32>> =
            packed.iter().map(|(name, data)| (name.as_str(), data)).chain([("x", &x)]).collect();
        let mut buffers = BTreeMap::new();
        for (name, bytes) in plan.externals() {
            let bytes = given.get(name).map_or(bytes, |data| data.len() as u64 * 4);
            let buffer = pollster::block_on(device.buffer(name, bytes)).unwrap();
            if let Some(data) = given.get(name) {
                device.write(&buffer, 0, bytemuck::cast_slice(data)).unwrap();
            }
            buffers.insert(name.to_owned(), buffer);
        }
        pollster::block_on(plan.load(&device, |name| buffers.get(name).cloned())).unwrap().run();
        assert_eq!(marks.len(), 16);
        for (name, node) in marks {
            let channels = *net.graph.shape(node).last().unwrap();
            let buffer = &buffers[name];
            let read = pollster::block_on(device.read_f32(buffer, buffer.bytes() as usize / 4)).unwrap();
            let flat = unpad_rows(&read, channels);
            let some: Vec<f32> = (0..64).map(|i| flat[i * (flat.len() - 1) / 63]).collect();
            let rows = flat.len() / channels;
            let mean = |c: usize| {
                let sum: f64 = flat.iter().skip(c).step_by(channels).map(|v| f64::from(*v)).sum();
                (sum / rows as f64) as f32
            };
            let means: Vec<f32> = (0..channels).map(mean).collect();
            // A hundred layers of f32 on either side.
            for (kind, got) in [("some", some), ("means", means)] {
                let off = apart(&got, &known[&format!("{}/{name}.{kind}", network.name())]);
                assert!(off < 5e-5, "{} {name} {kind}: off by {off}", network.name());
            }
        }
    }
}
