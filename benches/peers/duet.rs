//! Measures Duet on the weights and the case of `torch_peer.py`: `peers FOLDER REPEATS` prints JSON.

use duet::Result;
use duet::checkpoint::Checkpoint;
use duet::gpu::{Device, DeviceOptions};
use duet::infer::predict_plan;
use duet::model::{JointModel, ParamSet, WeightSet};
use duet::ops::optimizer::{AdamW, hyper};
use duet::tensor::HostTensor;
use duet::train::{ClassifierInput, TrainOptions, TrainSpec, train_plan};
use duet::weights::Weights;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The same AdamW for all: PyTorch's defaults but for the weight decay. (Duet keeps a moving average besides.)
const OPTIMIZER: AdamW =
    AdamW { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, ema_rate: 0.9999 };

/// Seconds of processor time of this process so far: fields 14 and 15 of its stat, in hundredths.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Wall time of each of `repeats` calls after one that is not counted, and processor time of one.
fn measure(repeats: usize, mut call: impl FnMut() -> Result<()>) -> Result<(Vec<f64>, f64)> {
    call()?;
    let before = processor_seconds();
    let mut seconds = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        call()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok((seconds, (processor_seconds() - before) / repeats as f64))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, repeats] = arguments.as_slice() else {
        return Err("usage: peers FOLDER REPEATS".into());
    };
    let (folder, repeats) = (Path::new(folder), repeats.parse::<usize>()?);
    let checkpoint = Checkpoint::load(&folder.join("model.safetensors"))?;
    let case = case(&folder.join("case.safetensors"))?;
    let get = |name: &str| case.get(name).map(|t: &HostTensor| &t.data).ok_or(format!("no {name}"));
    let t = get("t")?;
    let batch = t.len();
    let images = checkpoint.model.images(batch);
    let model = Arc::new(JointModel::new(&checkpoint.model)?);
    let device = pollster::block_on(Device::open(&DeviceOptions::default()))?;
    let tensors = &checkpoint.weights;
    let upload = Weights::upload(&device, Arc::clone(&model), tensors, Some(tensors));
    let mut weights = pollster::block_on(upload)?;
    for set in [ParamSet::FirstMoment, ParamSet::SecondMoment, ParamSet::Gradient] {
        pollster::block_on(weights.zero_set(set))?;
    }

    let start = Instant::now();
    let plan = predict_plan(&model, batch, WeightSet::Raw)?;
    let loaded = pollster::block_on(weights.load(&plan))?;
    let x = images.to_device(get("x_t")?)?;
    let mut eps = Vec::new();
    let mut first = None;
    let (seconds, processor) = measure(repeats, || {
        loaded.write("x", bytemuck::cast_slice(&x))?;
        loaded.write("t", bytemuck::cast_slice(t))?;
        loaded.run();
        eps = images.to_host(&pollster::block_on(loaded.read("model_out"))?)?;
        first.get_or_insert(start.elapsed().as_secs_f64());
        Ok(())
    })?;
    let apart = eps.iter().zip(get("eps")?).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let forward = json!({
        "times": { "first": first, "seconds": seconds, "processor": processor },
        "max_deviation": apart, "multiply_adds": plan.stats().multiply_adds,
    });

    let start = Instant::now();
    let spec = TrainSpec {
        batch,
        classifier_input: ClassifierInput::None,
        given_noise: true,
        ..TrainSpec::of(&TrainOptions::default())
    };
    let plan = train_plan(&model, &checkpoint.diffusion, &spec)?;
    let loaded = pollster::block_on(weights.load(&plan))?;
    let schedule = duet::diffusion::Schedule::new(&checkpoint.diffusion)?;
    let mix =
        t.iter().map(|t| schedule.q_sample_coefficients(*t as usize)).collect::<Result<Vec<_>>>()?.concat();
    let (x_start, noise) = (images.to_device(get("x_start")?)?, images.to_device(get("noise")?)?);
    let mut losses = Vec::new();
    let mut first = None;
    let (seconds, processor) = measure(repeats, || {
        loaded.write("x_start", bytemuck::cast_slice(&x_start))?;
        loaded.write("noise", bytemuck::cast_slice(&noise))?;
        loaded.write("t", bytemuck::cast_slice(t))?;
        loaded.write("coefficients", bytemuck::cast_slice(&mix))?;
        loaded.write("hyper", bytemuck::cast_slice(&hyper(losses.len() as u64 + 1, &OPTIMIZER, 1.0)))?;
        loaded.write("metrics_first", bytemuck::bytes_of(&[1u32, 0, 0, 0]))?;
        loaded.run();
        losses.push(pollster::block_on(loaded.read("metrics"))?[0]);
        first.get_or_insert(start.elapsed().as_secs_f64());
        Ok(())
    })?;
    let train = json!({
        "times": { "first": first, "seconds": seconds, "processor": processor },
        "losses": losses, "multiply_adds": plan.stats().multiply_adds,
    });
    let (info, version) = (device.info(), env!("CARGO_PKG_VERSION"));
    let device = json!({ "name": info.name, "driver": info.driver, "backend": info.backend });
    println!("{}", json!({ "version": version, "device": device, "forward": forward, "train": train }));
    Ok(())
}

/// Tensors of a plain file of 32-bit floats.
fn case(
    path: &Path,
) -> std::result::Result<std::collections::BTreeMap<String, HostTensor>, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let read = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (name, HostTensor { shape: view.shape().to_vec(), data: data.collect() })
    };
    Ok(safetensors::SafeTensors::deserialize(&bytes)?.tensors().into_iter().map(read).collect())
}
