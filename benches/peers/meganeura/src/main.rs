//! Measures the UNet in meganeura: `peers-meganeura forward|train FOLDER REPEATS` prints JSON. The folder holds
//! `model.safetensors` and `case.safetensors`, written by `torch_peer.py`.

mod unet;

use meganeura::{Session, build_inference_session, build_session};
use safetensors::SafeTensors;
use std::time::Instant;
use unet::{Network, values, waves};

/// Images a call.
const BATCH: usize = 8;
const SIDE: usize = 28;
const LEARNING_RATE: f32 = 1e-4;

/// Seconds of processor time of this process so far: fields 14 and 15 of its stat, in hundredths.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Wall and processor time of `repeats` calls after two that are not counted, and of the first since `start`.
fn measure(start: Instant, repeats: usize, mut call: impl FnMut()) -> serde_json::Value {
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

fn set_parameters(session: &mut Session, parameters: &[(String, Vec<f32>)]) {
    for (name, values) in parameters {
        session.set_parameter(name, values);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [_, mode @ ("forward" | "train"), folder, repeats] = words.as_slice() else {
        eprintln!("usage: peers-meganeura forward|train FOLDER REPEATS");
        std::process::exit(2);
    };
    let repeats: usize = repeats.parse().expect("a number of repeats");
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).expect(name);
    let (model, case) = (read("model.safetensors"), read("case.safetensors"));
    let model = SafeTensors::deserialize(&model).expect("model.safetensors");
    let case = SafeTensors::deserialize(&case).expect("case.safetensors");
    let (x, noise, t) = (values(&case, "x_t"), values(&case, "noise"), values(&case, "t"));

    // The first call counts from here: graph, compilation and pipelines are part of it.
    let start = Instant::now();
    let mut net = Network::new(&model, BATCH, SIDE);
    let count: usize = net.parameters.iter().map(|(_, values)| values.len()).sum();
    let mut report = serde_json::json!({ "parameters": count });
    let device = if *mode == "train" {
        let target = net.graph.input("noise", &[noise.len()]);
        let loss = net.graph.mse_loss(net.eps, target);
        net.graph.set_outputs(vec![loss]);
        let mut session = build_session(&net.graph);
        set_parameters(&mut session, &net.parameters);
        let mut losses = Vec::new();
        let times = measure(start, repeats, || {
            session.set_input("x", &x);
            session.set_input("waves", &waves(&t));
            session.set_input("noise", &noise);
            // AdamW without decay is Adam.
            session.set_adam(LEARNING_RATE, 0.9, 0.999, 1e-8);
            session.step();
            session.wait();
            losses.push(session.read_loss());
        });
        report["times"] = times;
        report["losses"] = losses.into();
        session.device_information().clone()
    } else {
        net.graph.set_outputs(vec![net.eps]);
        let mut session = build_inference_session(&net.graph);
        set_parameters(&mut session, &net.parameters);
        let mut out = Vec::new();
        let times = measure(start, repeats, || {
            session.set_input("x", &x);
            session.set_input("waves", &waves(&t));
            session.step();
            session.wait();
            out = session.read_output(x.len());
        });
        let want = values(&case, "eps");
        let apart = out.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        report["times"] = times;
        report["max_deviation"] = apart.into();
        session.device_information().clone()
    };
    report["device"] = serde_json::json!({ "name": device.device_name, "driver": device.driver_info });
    println!("{report}");
}
