//! Measures the UNet in burn on its wgpu backend: `peers-burn forward|train|late FOLDER REPEATS` prints JSON. The folder
//! holds `model.safetensors` and `case.safetensors`, written by `torch_peer.py`.
//!
//! `train` reads the loss before it asks for gradients. `late` reads it after the optimizer's step, as one would: burn
//! 0.22.1 then has the whole step in one queue of operations to be fused, and computes another loss and other gradients.

mod unet;

use burn::module::Module;
use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, DeviceKind, Tensor};
use safetensors::SafeTensors;
use std::time::Instant;
use unet::{File, UNet};

/// Images a call.
const BATCH: usize = 8;
const SIDE: usize = 28;
const LEARNING_RATE: f64 = 1e-4;

/// Seconds of processor time of this process so far: fields 14 and 15 of its stat, in hundredths.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Wall and processor time of the first call, then of `repeats` calls after one more that is not counted.
fn measure(repeats: usize, mut call: impl FnMut()) -> serde_json::Value {
    let start = Instant::now();
    call();
    let first = start.elapsed().as_secs_f64();
    call();
    let before = processor_seconds();
    let timed = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    let seconds: Vec<f64> = (0..repeats).map(timed).collect();
    let processor = (processor_seconds() - before) / repeats as f64;
    serde_json::json!({ "first": first, "seconds": seconds, "processor": processor })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [_, mode @ ("forward" | "train" | "late"), folder, repeats] = words.as_slice() else {
        eprintln!("usage: peers-burn forward|train|late FOLDER REPEATS");
        std::process::exit(2);
    };
    let repeats: usize = repeats.parse().expect("a number of repeats");
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).expect(name);
    let (model, case) = (read("model.safetensors"), read("case.safetensors"));
    let model = SafeTensors::deserialize(&model).expect("model.safetensors");
    let case = SafeTensors::deserialize(&case).expect("case.safetensors");
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let device = if *mode == "forward" { device } else { device.autodiff() };
    let case = File { file: &case, device: &device };
    let x: Tensor<4> = case.tensor("x_t", [BATCH, 1, SIDE, SIDE]);
    let noise: Tensor<4> = case.tensor("noise", [BATCH, 1, SIDE, SIDE]);
    let t: Tensor<1> = case.tensor("t", [BATCH]);
    let mut unet = UNet::new(&File { file: &model, device: &device });
    let mut report = serde_json::json!({ "parameters": unet.num_params() });
    if *mode != "forward" {
        let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).with_epsilon(1e-8).init();
        let mut losses = Vec::new();
        let times = measure(repeats, || {
            let eps = unet.forward(x.clone(), t.clone());
            let loss = MseLoss::new().forward(eps, noise.clone(), Reduction::Mean);
            if *mode == "train" {
                losses.push(loss.clone().into_scalar::<f32>());
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &unet);
            unet = optimizer.step(LEARNING_RATE, unet.clone(), gradients);
            if *mode != "train" {
                losses.push(loss.into_scalar::<f32>());
            }
            device.sync().expect("the device");
        });
        report["times"] = times;
        report["losses"] = losses.into();
    } else {
        let mut out = Vec::new();
        let times = measure(repeats, || {
            out = unet.forward(x.clone(), t.clone()).try_into_vec_as::<f32>().expect("f32");
        });
        let want = case.values("eps");
        let apart = out.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        report["times"] = times;
        report["max_deviation"] = apart.into();
    }
    println!("{report}");
}
