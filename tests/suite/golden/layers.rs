//! Single layers, forward and backward.

use super::fixture::{Fixture, formula};
use crate::harness::device;
use duet::graph::{Graph, NodeId, Place};
use duet::model::{
    Affine, AttentionBlock, Builder, Classifier, Encoded, ModelConfig, Norm, ParamLayout, ResBlock, Resample,
    WeightSet,
};
use duet::ops::{Pooling, optimizer, timestep_embedding};
use duet::tensor::{Images, Tensors, pad_rows, pitch, unpad_rows};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bar for single layers.
const LAYER: f64 = 1e-5;
/// Below this a gradient is an exact zero blurred by rounding.
const NULL: f64 = 1e-12;

/// Compares every case of a file.
pub fn compare(fixture: &mut Fixture) {
    let cases = fixture.config.as_object().expect("cases").clone();
    for (name, case) in &cases {
        // A case's configuration stays when its tensors are left out to save space.
        if !fixture.tensors.keys().any(|k| k.starts_with(&format!("{name}/"))) {
            continue;
        }
        match case["kind"].as_str().expect("a kind") {
            "loss" => loss(fixture, name),
            "vb pieces" => crate::variational::compare_pieces(fixture, name),
            "adamw" => adamw(fixture, name, case),
            "timestep_embedding" => embedding(fixture, name, case),
            kind => layer(fixture, name, case, kind),
        }
    }
}

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} of {case}")) as usize
}

fn flag(case: &Value, key: &str) -> bool {
    case.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// A module applied to named inputs.
struct Applied {
    out: NodeId,
    inputs: Vec<(String, NodeId)>,
}

/// Shape on the device of a reference tensor \[N,C,H,W\], \[N,C,T\] or \[N,F\].
fn device_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [n, c, h, w] => vec![n, h, w, c],
        [n, c, t] => vec![n, t, 1, c],
        _ => shape.to_vec(),
    }
}

fn to_device(shape: &[usize], data: &[f32]) -> Vec<f32> {
    match *shape {
        [batch, channels, ref rest @ ..] if !rest.is_empty() => {
            Images { batch, channels, pixels: rest.iter().product() }.to_device(data).unwrap()
        }
        _ => pad_rows(data, *shape.last().unwrap()),
    }
}

fn to_host(shape: &[usize], data: &[f32]) -> Vec<f32> {
    match *shape {
        [batch, channels, ref rest @ ..] if !rest.is_empty() => {
            let images = Images { batch, channels, pixels: rest.iter().product() };
            // Buffers end aligned.
            images.to_host(&data[..batch * images.pixels * pitch(channels)]).unwrap()
        }
        _ => {
            let mut rows = unpad_rows(data, *shape.last().unwrap());
            rows.truncate(shape.iter().product());
            rows
        }
    }
}

/// Compares one differentiable layer.
fn layer(fixture: &mut Fixture, name: &str, case: &Value, kind: &str) {
    let train = flag(case, "train");
    let prefix = case["name_prefix"].as_str().unwrap_or("").to_owned();
    let mut params = ParamLayout::default();
    let module = Module::declare(&mut params, case, kind);
    let tensors: Tensors = params
        .expected(false)
        .into_iter()
        .map(|(n, shape)| (n.clone(), formula(&prefix, &n, &shape)))
        .collect();
    let mut b = Builder::new(&params, WeightSet::Raw, train);
    let input_names: Vec<String> = fixture
        .tensors
        .keys()
        .filter_map(|k| k.strip_prefix(&format!("{name}/in.")).map(str::to_owned))
        .collect();
    let mut nodes = BTreeMap::new();
    for input in &input_names {
        let shape = device_shape(fixture.shape(&format!("{name}/in.{input}")));
        nodes.insert(input.clone(), b.graph.leaf(&shape, Place::whole(format!("in {input}"))));
    }
    let Applied { out, inputs } = module.apply(&mut b, &nodes);
    let upstream = b.graph.shape(out).to_vec();
    let upstream = b.graph.leaf(&upstream, Place::whole("grad_out"));
    // The loss whose gradient with respect to `out` is the given one.
    let leaves = b.trained();
    let mut targets: Vec<NodeId> = inputs.iter().map(|(_, node)| *node).collect();
    targets.extend(leaves.iter().map(|(_, node)| *node));
    let gradients = b.graph.grad_from(out, upstream, &targets).unwrap();
    let result = |g: &mut Graph, node: NodeId, at: String| {
        let copy = g.scale(node, 1.0);
        g.place(copy, Place::whole(at));
    };
    result(&mut b.graph, out, "result out".into());
    for (i, gradient) in gradients.iter().enumerate() {
        result(&mut b.graph, *gradient, format!("result {i}"));
    }
    let plan = b.graph.compile().unwrap();
    let mut buffers = BTreeMap::new();
    for (buffer, bytes) in plan.externals() {
        // Chunks of parameters end aligned, behind what the plan itself binds.
        let bytes = bytes.next_multiple_of(256);
        buffers.insert(buffer.to_owned(), pollster::block_on(device().buffer(buffer, bytes)).unwrap());
    }
    let write = |buffer: &str, data: &[f32]| {
        if let Some(buffer) = buffers.get(buffer) {
            device().write(buffer, 0, bytemuck::cast_slice(data)).unwrap();
        }
    };
    for chunk in 0..params.chunk_bytes().len() {
        write(&format!("params.{chunk}"), &params.pack(&tensors, Some(chunk)).unwrap());
    }
    write("running", &params.pack(&tensors, None).unwrap());
    for input in &input_names {
        let at = format!("{name}/in.{input}");
        let shape = fixture.shape(&at).to_vec();
        write(&format!("in {input}"), &to_device(&shape, &fixture.take_f32(&at)));
    }
    let out_shape = fixture.shape(&format!("{name}/out")).to_vec();
    write("grad_out", &to_device(&out_shape, &fixture.take_f32(&format!("{name}/grad_out"))));
    let executable = pollster::block_on(plan.load(device(), |n| buffers.get(n).cloned())).unwrap();
    executable.run();
    let read = |buffer: &str| {
        let buffer = &buffers[buffer];
        pollster::block_on(device().read_f32(buffer, buffer.bytes() as usize / 4)).unwrap()
    };
    check(fixture, case, name, "out", &to_host(&out_shape, &read("result out")));
    for (i, (input, _)) in inputs.iter().enumerate() {
        let part = format!("grad_in.{input}");
        let shape = fixture.shape(&format!("{name}/{part}")).to_vec();
        check(fixture, case, name, &part, &to_host(&shape, &read(&format!("result {i}"))));
    }
    for (i, (id, _)) in leaves.iter().enumerate() {
        let spec = params.spec(*id);
        let data = read(&format!("result {}", inputs.len() + i));
        let mut unpacked = Tensors::new();
        params.unpack_one(*id, &data, &mut unpacked).unwrap();
        check(fixture, case, name, &format!("grad_w.{}", spec.name), &unpacked[&spec.name].data);
    }
    if train {
        let mut after = Tensors::new();
        params.unpack(&read("running"), None, &mut after).unwrap();
        for (buffer, tensor) in after {
            check(fixture, case, name, &format!("buffer_after.{buffer}"), &tensor.data);
        }
    }
}

/// Compares within the layer's bar or 20 × the reference's noise.
fn check(fixture: &mut Fixture, case: &Value, name: &str, part: &str, got: &[f32]) {
    let want = fixture.take(&format!("{name}/{part}"));
    let dev = &case["f32_dev"][part];
    let (noise, scale) = (dev[0].as_f64().unwrap_or(0.0), dev[1].as_f64());
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    // Of an exact zero the scale is that of the case's other gradients, whose parts cancel in it.
    let parts = case["f32_dev"].as_object();
    let others = parts.into_iter().flatten().filter(|(part, _)| part.starts_with("grad"));
    let beside = others.filter_map(|(_, dev)| dev[1].as_f64()).fold(0.0, f64::max);
    let scale = if scale.is_some_and(|s| s < NULL) { beside } else { largest };
    let bound = (20.0 * noise).max(LAYER * scale);
    fixture.compare(&format!("{name}/{part}"), got, &want, bound);
}

/// The layers a case can name.
enum Module {
    Conv { conv: Affine, stride: usize, kernel: usize },
    GroupNorm { norm: Norm, silu: bool },
    Res { block: ResBlock },
    Attention { block: AttentionBlock },
    QkvCore { heads: usize, new_order: bool },
    Down { conv: Option<Affine> },
    Up { conv: Option<Affine> },
    Mlp { layers: [Affine; 2] },
    Classifier { classifier: Classifier },
}

impl Module {
    fn declare(p: &mut ParamLayout, case: &Value, kind: &str) -> Module {
        let config = ModelConfig { dropout: 0.0, classifier_dropout: 0.0, ..ModelConfig::default() };
        let channels = || number(case, "channels");
        match kind {
            "conv2d" => {
                let (c_in, c_out) = (number(case, "c_in"), number(case, "c_out"));
                let kernel = number(case, "kernel");
                let conv = match kernel {
                    3 => Affine::conv3x3(p, "", c_in, c_out, false),
                    1 => Affine::linear(p, "", c_in, c_out, 2, false),
                    other => panic!("kernel {other}"),
                };
                Module::Conv { conv, stride: number(case, "stride"), kernel }
            }
            "groupnorm32" | "groupnorm32+silu" => {
                let norm = Norm::new(p, "0", channels(), number(case, "groups").min(channels()));
                Module::GroupNorm { norm, silu: kind.ends_with("silu") }
            }
            "resblock" => {
                let resample = match (flag(case, "up"), flag(case, "down")) {
                    (true, _) => Resample::Up,
                    (_, true) => Resample::Down,
                    _ => Resample::None,
                };
                let scale_shift = flag(case, "use_scale_shift_norm");
                let config = ModelConfig { use_scale_shift_norm: scale_shift, ..config };
                let sizes = [number(case, "c_in"), number(case, "c_out"), number(case, "emb_channels")];
                Module::Res { block: ResBlock::new(p, &config, "", sizes, resample) }
            }
            "attention" => {
                let heads = case.get("num_head_channels").and_then(Value::as_u64);
                let heads = heads.map_or_else(|| number(case, "num_heads"), |w| channels() / w as usize);
                let new_order = flag(case, "use_new_attention_order");
                let config = ModelConfig { use_new_attention_order: new_order, ..config };
                Module::Attention { block: AttentionBlock::new(p, &config, "", channels(), heads) }
            }
            "qkv_attention_core" => {
                let text = case["name_prefix"].as_str().unwrap_or("");
                let heads = text.split('_').find_map(|s| s.strip_prefix('h').and_then(|n| n.parse().ok()));
                Module::QkvCore { heads: heads.expect("heads in the name"), new_order: text.contains("new") }
            }
            "downsample" | "upsample" => {
                let name = if kind == "upsample" { "conv" } else { "op" };
                let conv =
                    flag(case, "use_conv").then(|| Affine::conv3x3(p, name, channels(), channels(), false));
                if kind == "upsample" { Module::Up { conv } } else { Module::Down { conv } }
            }
            "linear-silu-linear" => {
                let shape = |i: usize, d: usize| case["params"][i][1][d].as_u64().unwrap() as usize;
                let first = Affine::linear(p, "0", shape(0, 1), shape(0, 0), 0, false);
                let second = Affine::linear(p, "2", shape(2, 1), shape(2, 0), 0, false);
                Module::Mlp { layers: [first, second] }
            }
            "classifier" => {
                let pooling = if flag(case, "max_pooling") { Pooling::Max } else { Pooling::Average };
                let features = case["params"][0][1][0].as_u64().unwrap() as usize - 1;
                let num_classes = number(case, "n_classes");
                let config = ModelConfig { pooling, num_classes, ..config };
                Module::Classifier { classifier: Classifier::new(p, &config, &[features], "") }
            }
            other => panic!("unknown kind of layer {other}"),
        }
    }

    fn apply(&self, b: &mut Builder<'_>, nodes: &BTreeMap<String, NodeId>) -> Applied {
        let x = nodes.get("x").copied();
        let image = || x.expect("an input x");
        let out = match self {
            Module::Conv { conv, stride, kernel: 3 } => conv.conv(b, image(), *stride, None),
            Module::Conv { conv, .. } => conv.apply(b, image(), None),
            Module::GroupNorm { norm, silu } => norm.group(b, image(), None, *silu),
            Module::Res { block } => {
                let emb = b.linear_group(&[block.emb()], nodes["emb"], true);
                emb.and_then(|emb| block.apply(b, image(), emb[0]))
            }
            Module::Attention { block } => block.apply(b, image()),
            Module::QkvCore { heads, new_order } => b.graph.attention(image(), *heads, *new_order),
            Module::Down { conv: Some(conv) } => conv.conv(b, image(), 2, None),
            Module::Down { conv: None } => b.graph.average_pool(image()),
            Module::Up { conv } => b.graph.upsample(image()).and_then(|wide| match conv {
                Some(conv) => conv.conv(b, wide, 1, None),
                None => Ok(wide),
            }),
            Module::Mlp { layers: [first, second] } => {
                let hidden = b.linear_group(&[*first], image(), false);
                let out = hidden.and_then(|hidden| b.linear_group(&[*second], hidden[0], true));
                out.map(|out| out[0])
            }
            Module::Classifier { classifier } => {
                let mut skips = Vec::new();
                while let Some(skip) = nodes.get(&format!("hs{}", skips.len())) {
                    skips.push(*skip);
                }
                let (bottleneck, t) = (nodes["h"], nodes["t"]);
                let encoded = Encoded { bottleneck, skips, temb: t };
                let features = classifier.features(b, &encoded, t);
                features.and_then(|f| classifier.logits(b, f))
            }
        };
        let inputs = nodes.iter().filter(|(name, _)| *name != "t").map(|(n, id)| (n.clone(), *id)).collect();
        Applied { out: out.unwrap(), inputs }
    }
}

fn loss(fixture: &mut Fixture, name: &str) {
    let at = |part: &str| format!("{name}/{part}");
    let shape = fixture.shape(&at("in.logits")).to_vec();
    let (batch, classes) = (shape[0], shape[1]);
    let binary = fixture.shape(&at("in.target")).len() == 2;
    let mut g = Graph::new();
    let logits = g.leaf(&shape, Place::whole("logits"));
    let values = if binary {
        let target = g.leaf(&shape, Place::whole("target"));
        g.bce(logits, target, true).unwrap()
    } else {
        let target = g.leaf(&[batch], Place::whole("target"));
        g.cross_entropy(logits, target).unwrap()
    };
    let mean = g.weighted_sum(values, 1.0 / batch as f32);
    let gradient = g.grad(mean, &[logits]).unwrap()[0];
    g.place(gradient, Place::whole("gradient"));
    g.place(values, Place::whole("values"));
    g.place(mean, Place::whole("mean"));
    let plan = g.compile().unwrap();
    let mut buffers = BTreeMap::new();
    for (buffer, bytes) in plan.externals() {
        buffers.insert(buffer.to_owned(), pollster::block_on(device().buffer(buffer, bytes)).unwrap());
    }
    let data = fixture.take_f32(&at("in.logits"));
    device().write(&buffers["logits"], 0, bytemuck::cast_slice(&pad_rows(&data, classes))).unwrap();
    let target = fixture.take_f32(&at("in.target"));
    if binary {
        device().write(&buffers["target"], 0, bytemuck::cast_slice(&pad_rows(&target, classes))).unwrap();
    } else {
        let words: Vec<u32> = target.iter().map(|v| *v as u32).collect();
        device().write(&buffers["target"], 0, bytemuck::cast_slice(&words)).unwrap();
    }
    pollster::block_on(plan.load(device(), |n| buffers.get(n).cloned())).unwrap().run();
    let read = |name: &str| {
        let buffer = &buffers[name];
        pollster::block_on(device().read_f32(buffer, buffer.bytes() as usize / 4)).unwrap()
    };
    fixture.check(&at("grad_in.logits"), &unpad_rows(&read("gradient"), classes), LAYER);
    fixture.check(&at("out.mean"), &read("mean")[..1], LAYER);
    let values = read("values");
    if binary {
        let elements = fixture.take(&at("out.per_element"));
        let want: Vec<f64> =
            elements.chunks(classes).map(|row| row.iter().sum::<f64>() / classes as f64).collect();
        let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        fixture.compare(&at("out.per_element"), &values[..batch], &want, LAYER * scale);
    } else {
        fixture.check(&at("out.per_element"), &values[..batch], LAYER);
    }
}

fn adamw(fixture: &mut Fixture, name: &str, case: &Value) {
    let at = |part: &str| format!("{name}/{part}");
    let start = fixture.take_f32(&at("in.p"));
    let gradients = fixture.take_f32(&at("in.grads"));
    let count = start.len();
    let float = |v: &Value| v.as_f64().expect("a number");
    for decay in case["weight_decay"].as_array().expect("weight decays") {
        let settings = optimizer::AdamW {
            learning_rate: float(&case["lr"]),
            beta1: float(&case["betas"][0]),
            beta2: float(&case["betas"][1]),
            eps: float(&case["eps"]),
            weight_decay: float(decay),
            ema_rate: float(&case["ema_rate"]),
        };
        let mut g = Graph::new();
        let gradient = g.leaf(&[count], Place::whole("gradient"));
        let hyper = g.leaf(&[12], Place::whole("hyper"));
        let state = ["p", "m", "v", "ema"].map(|n| g.leaf(&[count], Place::whole(n)));
        g.adamw(gradient, hyper, state).unwrap();
        let plan = g.compile().unwrap();
        let mut buffers = BTreeMap::new();
        for (buffer, bytes) in plan.externals() {
            buffers.insert(buffer.to_owned(), pollster::block_on(device().buffer(buffer, bytes)).unwrap());
        }
        let write =
            |n: &str, data: &[f32]| device().write(&buffers[n], 0, bytemuck::cast_slice(data)).unwrap();
        write("p", &start);
        write("ema", &start);
        let run = pollster::block_on(plan.load(device(), |n| buffers.get(n).cloned())).unwrap();
        let wd = if float(decay) == 0.0 { "0.0".to_owned() } else { decay.to_string() };
        let tables = [("p", format!("out.wd{wd}")), ("ema", format!("out.ema{}.wd{wd}", case["ema_rate"]))];
        let want: Vec<Vec<f64>> = tables.iter().map(|(_, t)| fixture.take(&at(t))).collect();
        for (k, gradient) in gradients.chunks(count).enumerate() {
            write("gradient", gradient);
            write("hyper", &optimizer::hyper(k as u64 + 1, &settings, 1.0));
            run.run();
            for ((buffer, table), want) in tables.iter().zip(&want) {
                let got = pollster::block_on(device().read_f32(&buffers[*buffer], count)).unwrap();
                let row = &want[k * count..(k + 1) * count];
                let scale = row.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                // A few units in the last place, far below one step of 1e-4.
                fixture.compare(&at(table), &got, row, 1e-6 * scale);
            }
        }
    }
}

fn embedding(fixture: &mut Fixture, name: &str, case: &Value) {
    let dim = number(case, "dim");
    assert_eq!(number(case, "max_period"), 10_000);
    let t = fixture.take_f32(&format!("{name}/in.t"));
    let mut g = Graph::new();
    let time = g.leaf(&[t.len()], Place::whole("t"));
    let table = timestep_embedding::frequencies(dim);
    let frequencies = g.leaf(&[table.len()], Place::whole("frequencies"));
    let y = g.timestep_embedding(time, frequencies, dim);
    g.place(y, Place::whole("y"));
    let plan = g.compile().unwrap();
    let mut buffers = BTreeMap::new();
    for (buffer, bytes) in plan.externals() {
        buffers.insert(buffer.to_owned(), pollster::block_on(device().buffer(buffer, bytes)).unwrap());
    }
    device().write(&buffers["t"], 0, bytemuck::cast_slice(&t)).unwrap();
    device().write(&buffers["frequencies"], 0, bytemuck::cast_slice(&table)).unwrap();
    pollster::block_on(plan.load(device(), |n| buffers.get(n).cloned())).unwrap().run();
    let buffer = &buffers["y"];
    let data = pollster::block_on(device().read_f32(buffer, buffer.bytes() as usize / 4)).unwrap();
    // The argument t·f is itself rounded: up to 1,000 rounded to 24 bits is off by 3e-5.
    fixture.check(&format!("{name}/out"), &unpad_rows(&data, dim), 1e-4);
}
