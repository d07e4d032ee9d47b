//! `duet bench`: kernels and whole steps on this device, in the families it chooses. Compare ratios of one run, not figures of two machines.

use crate::cli::{Bench, Cli};
use crate::output::short;
use crate::session::open_device;
use duet::diffusion::{DiffusionConfig, Guidance, StepSpec, step_plan};
use duet::gpu::{BufferId, BufferSpec, Device, Launch, Program, Slice};
use duet::graph::Plan;
use duet::infer::classify_plan;
use duet::kernels::{conv3x3, conv3x3::Conv3x3, families, matmul::MatMul, pitch};
use duet::model::{JointModel, ModelConfig};
use duet::rng::Seed;
use duet::runtime::Weights;
use duet::train::{Batch, ClassifierInput, Targets, TrainOptions, Trainer};
use duet::variants::Operation;
use duet::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One measured line.
struct Line {
    name: String,
    seconds: f64,
    multiply_adds: u64,
    images: usize,
    ratio: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// Device errors.
pub fn run(arguments: &Cli, options: &Bench) -> Result<()> {
    if options.batch < 2 {
        return Err(Error::config("batch", "must be at least 2: a training step needs it"));
    }
    let start = Instant::now();
    let device = open_device(arguments)?;
    let opened = start.elapsed();
    let mut lines = Vec::new();
    kernels(&device, options, &mut lines)?;
    let start_up = steps(&device, options, &mut lines)?;
    device.save_pipeline_cache();
    report(arguments, &device, opened, start_up, &lines);
    Ok(())
}

fn wanted(options: &Bench, name: &str) -> bool {
    options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
}

/// Shortest time of one call, over at least `seconds` and three calls.
fn best(seconds: f64, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    let (begin, mut best, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        call()?;
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    Ok(best)
}

/// Time of launches over fresh memory of the given sizes in bytes, per run.
fn time(device: &Device, sizes: &[u64], launches: Vec<Launch>, seconds: f64) -> Result<f64> {
    let buffers = sizes.iter().map(|bytes| BufferSpec::Slot { bytes: *bytes }).collect();
    let program = Program { buffers, launches };
    let executable = pollster::block_on(device.load(&program, |_| None))?;
    for (i, bytes) in sizes.iter().enumerate() {
        let values: Vec<f32> = (0..bytes / 4).map(|v| (v % 251) as f32 / 251.0 - 0.5).collect();
        device.write(executable.buffer(BufferId(i as u32)), 0, bytemuck::cast_slice(&values))?;
    }
    best(seconds, || {
        executable.run();
        device.wait()
    })
}

fn slices(sizes: &[u64]) -> Vec<Slice> {
    let slice = |(i, bytes): (usize, &u64)| Slice { buffer: BufferId(i as u32), offset: 0, bytes: *bytes };
    sizes.iter().enumerate().map(slice).collect()
}

fn conv_lines(device: &Device, options: &Bench, size: &Conv3x3, lines: &mut Vec<Line>) -> Result<()> {
    let family = |operation| device.choices().family(&size.key(operation));
    let [forward, grad_input, grad_weight] =
        [Operation::ConvForward, Operation::ConvGradInput, Operation::ConvGradWeight].map(family);
    let image = |h: usize, w: usize, c: usize| (size.batch * h * w * pitch(c) * 4) as u64;
    let sizes = [
        image(size.height, size.width, size.in_channels),
        (9 * pitch(size.in_channels) * pitch(size.out_channels) * 4) as u64,
        image(size.out_height(), size.out_width(), size.out_channels),
        families::conv_grad_weight_scratch(grad_weight, size).max(16),
        (pitch(size.out_channels) * 4) as u64,
    ];
    let s = slices(&sizes);
    let title = format!(
        "conv3x3 {}->{} {}x{} s{} b{}",
        size.in_channels, size.out_channels, size.height, size.width, size.stride, size.batch
    );
    let pairs = [
        (
            "forward",
            families::conv_forward(forward, size, s[0], s[1], Some(s[4]), None, s[2]),
            conv3x3::naive::forward(size, s[0], s[1], Some(s[4]), s[2]),
        ),
        (
            "grad_input",
            families::conv_grad_input(grad_input, size, s[2], s[1], s[0]),
            conv3x3::naive::grad_input(size, s[2], s[1], s[0]),
        ),
        (
            "grad_weight",
            families::conv_grad_weight(grad_weight, size, s[0], s[2], s[3], s[1]),
            conv3x3::naive::grad_weight(size, s[0], s[2], s[1]),
        ),
    ];
    for (kind, ours, naive) in pairs {
        let name = format!("{title} {kind}");
        if !wanted(options, &name) {
            continue;
        }
        let multiply_adds = ours.iter().map(|l| l.multiply_adds).sum();
        let seconds = time(device, &sizes, ours, options.seconds)?;
        let baseline = time(device, &sizes, naive, options.seconds)?;
        lines.push(Line { name, seconds, multiply_adds, images: 0, ratio: Some(baseline / seconds) });
    }
    Ok(())
}

fn kernels(device: &Device, options: &Bench, lines: &mut Vec<Line>) -> Result<()> {
    let conv = |batch, side, in_channels, out_channels, stride| Conv3x3 {
        batch,
        height: side,
        width: side,
        in_channels,
        out_channels,
        stride,
    };
    let b = options.batch;
    let convolutions = [
        conv(4, 32, 64, 64, 1),
        conv(b, 28, 32, 32, 1),
        conv(b, 28, 96, 32, 1),
        conv(b, 28, 1, 32, 1),
        conv(b, 28, 32, 1, 1),
        conv(b, 28, 32, 32, 2),
        conv(b, 14, 64, 64, 1),
        conv(b, 7, 64, 64, 1),
        conv(b, 32, 128, 128, 1),
    ];
    for size in &convolutions {
        conv_lines(device, options, size, lines)?;
    }
    for (rows, in_features, out_features) in [(b * 784, 96, 32), (b * 49, 64, 192), (b, 673, 336)] {
        let size = MatMul { rows, in_features, out_features };
        let family = |operation| device.choices().family(&size.key(operation));
        let [forward, grad_input, grad_weight] =
            [Operation::MatmulForward, Operation::MatmulGradInput, Operation::MatmulGradWeight].map(family);
        let sizes = [
            (rows * pitch(in_features) * 4) as u64,
            (pitch(in_features) * pitch(out_features) * 4) as u64,
            (rows * pitch(out_features) * 4) as u64,
            families::matmul_grad_weight_scratch(grad_weight, &size).max(16),
        ];
        let s = slices(&sizes);
        let kinds = [
            ("forward", families::matmul_forward(forward, &size, s[0], s[1], None, None, s[2])),
            ("grad_input", families::matmul_grad_input(grad_input, &size, s[2], s[1], s[0])),
            ("grad_weight", families::matmul_grad_weight(grad_weight, &size, s[0], s[2], s[3], s[1])),
        ];
        for (kind, launches) in kinds {
            let name = format!("matmul {rows}x{in_features}x{out_features} {kind}");
            if wanted(options, &name) {
                let multiply_adds = launches.iter().map(|l| l.multiply_adds).sum();
                let seconds = time(device, &sizes, launches, options.seconds)?;
                lines.push(Line { name, seconds, multiply_adds, images: 0, ratio: None });
            }
        }
    }
    Ok(())
}

/// The 28×28, 32-channel model with one residual block per level; returns the time until its first training step is done.
fn steps(device: &Device, options: &Bench, lines: &mut Vec<Line>) -> Result<Option<Duration>> {
    let config = ModelConfig {
        num_channels: 32,
        num_res_blocks: 1,
        channel_mult: vec![1, 2, 2],
        attention_resolutions: Vec::new(),
        ..ModelConfig::default()
    };
    let model = Arc::new(JointModel::new(&config)?);
    let diffusion = DiffusionConfig::default();
    let batch = options.batch;
    let tensors = model.params.initial(Seed(1));
    let upload = Weights::upload(device, Arc::clone(&model), &tensors, None);
    let weights = pollster::block_on(upload)?;
    let step = |guidance| StepSpec { guidance, ..StepSpec::new(batch) };
    let plans: [(&str, Plan); 3] = [
        ("classify", classify_plan(&model, batch, "params")?),
        ("denoising step", step_plan(&model, &diffusion, &step(Guidance::None), "params")?),
        ("guided step", step_plan(&model, &diffusion, &step(Guidance::Representation), "params")?),
    ];
    for (kind, plan) in plans {
        let name = format!("{kind} 28x28 c32 b{batch}");
        if !wanted(options, &name) {
            continue;
        }
        let loaded = pollster::block_on(weights.load(&plan))?;
        let seconds = best(options.seconds, || {
            loaded.run();
            device.wait()
        })?;
        let multiply_adds = plan.stats().multiply_adds;
        lines.push(Line { name, seconds, multiply_adds, images: batch, ratio: None });
    }
    let inputs = [("noised", ClassifierInput::Noised), ("clean", ClassifierInput::Clean)];
    let mut start_up = None;
    for (kind, classifier_input) in inputs {
        let name = format!("training step ({kind} classifier) 28x28 c32 b{batch}");
        if !wanted(options, &name) {
            continue;
        }
        let train = TrainOptions { batch_size: batch, classifier_input, ..TrainOptions::default() };
        let start = Instant::now();
        let new = Trainer::new(device, Arc::clone(&model), &diffusion, &train);
        let mut trainer = pollster::block_on(new)?;
        let images = vec![0.1f32; batch * 784];
        let targets = Targets::Classes((0..batch as u32).map(|i| i % 10).collect());
        let data = Batch { images, targets };
        // Some drivers compile a pipeline at its first dispatch.
        trainer.train_step(&data, 1e-4)?;
        device.wait()?;
        start_up.get_or_insert(start.elapsed());
        let seconds = best(options.seconds, || {
            trainer.train_step(&data, 1e-4)?;
            device.wait()
        })?;
        let plan = duet::train::train_plan(&model, &diffusion, &duet::train::TrainSpec::of(&train))?;
        let multiply_adds = plan.stats().multiply_adds;
        lines.push(Line { name, seconds, multiply_adds, images: batch, ratio: None });
    }
    Ok(start_up)
}

fn report(arguments: &Cli, device: &Device, opened: Duration, start_up: Option<Duration>, lines: &[Line]) {
    let info = device.info();
    let gflops = |line: &Line| 2.0 * line.multiply_adds as f64 / line.seconds / 1e9;
    if arguments.json {
        let rows: Vec<_> = lines
            .iter()
            .map(|l| {
                serde_json::json!({
                    "name": l.name, "seconds": l.seconds, "multiply_adds": l.multiply_adds,
                    "gflops": gflops(l), "times_naive": l.ratio,
                    "images_per_second": (l.images > 0).then(|| l.images as f64 / l.seconds),
                })
            })
            .collect();
        let report = serde_json::json!({
            "device": info.name, "driver": info.driver, "backend": info.backend, "software": info.software,
            "open_seconds": opened.as_secs_f64(),
            "training_start_up_seconds": start_up.map(|s| s.as_secs_f64()),
            "pipelines": device.counters().pipelines, "lines": rows,
        });
        println!("{report}");
        return;
    }
    println!("{} ({}, {})", info.name, info.backend, info.driver);
    println!("{:<60} {:>10} {:>9} {:>9}  remark", "", "time", "MACs", "GFLOP/s");
    for line in lines {
        let remark = match (line.ratio, line.images) {
            (Some(ratio), _) => format!("{ratio:.1} x naive"),
            (None, 0) => String::new(),
            (None, images) => format!("{:.1} images/s", images as f64 / line.seconds),
        };
        let time = if line.seconds < 1.0 {
            format!("{:.2} ms", 1e3 * line.seconds)
        } else {
            format!("{:.2} s", line.seconds)
        };
        let macs = short(line.multiply_adds as f64);
        println!("{:<60} {time:>10} {macs:>9} {:>9.2}  {remark}", line.name, gflops(line));
    }
    println!("device opened in {:.2} s", opened.as_secs_f64());
    if let Some(start_up) = start_up {
        println!(
            "first training step done (weights, buffers, pipelines, one step) after {:.2} s",
            start_up.as_secs_f64()
        );
    }
}
