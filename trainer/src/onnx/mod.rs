//! A model as an ONNX file, which other programs run: the classifier, the encoder's features, the network that tells the
//! noise, or a step of Algorithm 1 with its gradient written out.

mod file;
mod gradient;
mod graph;
mod network;
mod operator;
mod step;

use crate::cli::{OnnxArgs, OnnxKind};
use duet::checkpoint::Checkpoint;
use duet::diffusion::{Prediction, Schedule};
use duet::model::Head;
use duet::{Error, Result};
use file::Description;
use graph::{BATCH, Graph, Value};
use network::Network;
use operator::Element;

/// What a message of Protocol Buffers can be long at most, and so an ONNX file in one piece.
const MOST_BYTES: usize = (1 << 31) - 1;

/// The file's bytes, of the weights of `checkpoint` as they are (not their average).
///
/// # Errors
/// [`Error::Config`] for options that do not go with `kind`, for what the checkpoint was not trained to do, and for more than
/// 2 GiB.
pub fn export(checkpoint: &Checkpoint, kind: OnnxKind, options: &OnnxArgs) -> Result<Vec<u8>> {
    check(checkpoint, kind, options)?;
    let mut network = Network::new(&checkpoint.model, &checkpoint.weights, options.f16);
    match kind {
        OnnxKind::Classifier | OnnxKind::Features => classify(&mut network, kind, options)?,
        OnnxKind::Eps => denoise(&mut network, checkpoint)?,
        OnnxKind::GuidedStep => guided_step(&mut network, checkpoint, options)?,
    }
    let graph = network.graph;
    let bytes = if graph.constant_bytes() < MOST_BYTES {
        file::encode(&graph, &describe(checkpoint, kind, options)?)
    } else {
        Vec::new()
    };
    if bytes.is_empty() || bytes.len() > MOST_BYTES {
        let detail = format!(
            "{} bytes of weights are more than an ONNX file holds (2 GiB): --f16 stores them in half as many",
            graph.constant_bytes()
        );
        return Err(Error::config("onnx", detail));
    }
    Ok(bytes)
}

fn check(checkpoint: &Checkpoint, kind: OnnxKind, options: &OnnxArgs) -> Result<()> {
    let images = matches!(kind, OnnxKind::Classifier | OnnxKind::Features);
    let guided = kind == OnnxKind::GuidedStep;
    let misplaced = [
        ("uint8", options.uint8 && !images, "classifier and features"),
        (
            "noised",
            options.noised && !images,
            "classifier and features (the others take the timestep anyway)",
        ),
        ("no-clip", options.no_clip && !guided, "guided-step"),
        ("force", options.force && !guided, "guided-step"),
    ];
    if let Some((option, _, those)) = misplaced.into_iter().find(|(_, misplaced, _)| *misplaced) {
        return Err(Error::config(option, format!("is an option of --onnx {those}")));
    }
    if !images {
        checkpoint.require_denoising()?;
    }
    if guided && !options.force && !duet::sampling::guidable_by(&checkpoint.weights) {
        let detail = "the classifier was trained on clean images only (t = 0), so its gradient at t > 0 is meaningless: \
                      train it on noised images too, or give --force";
        return Err(Error::config("guidance", detail));
    }
    Ok(())
}

/// The input of timesteps.
fn timesteps(graph: &mut Graph) -> Value {
    let doc = "timestep of each image, from 0 (clean) up, times the property timestep_scale";
    graph.input("t", Element::F32, &[BATCH], doc)
}

fn classify(network: &mut Network<'_>, kind: OnnxKind, options: &OnnxArgs) -> Result<()> {
    let config = network.config();
    let (channels, size) = (config.in_channels, config.image_size);
    let g = &mut network.graph;
    g.scope = "image".to_owned();
    let image = if options.uint8 {
        let doc = "pixels from 0 to 255, rows from top to bottom, channels last";
        let pixels = g.input("image", Element::U8, &[BATCH, size, size, channels], doc);
        let pixels = g.cast(pixels, Element::F32);
        let pixels = g.transpose(pixels, &[0, 3, 1, 2]);
        let (half, one) = (g.number(127.5), g.number(1.0));
        let pixels = g.div(pixels, half);
        g.sub(pixels, one)
    } else {
        let doc = "pixels from -1 (level 0) to 1 (level 255): level / 127.5 - 1, channels first";
        g.input("image", Element::F32, &[BATCH, channels, size, size], doc)
    };
    let t = if options.noised { timesteps(g) } else { g.for_each_image(0.0, image) };
    let encoded = network.encode(image, t)?;
    let features = network.features(&encoded);
    if kind == OnnxKind::Features {
        let doc =
            "what the encoder knows of the image: each feature map's mean, bottleneck first, then the skips";
        network.graph.output(features, "features", doc);
        return Ok(());
    }
    let logits = network.logits(features, t)?;
    answers(network, logits);
    Ok(())
}

/// Logits and probabilities as outputs.
fn answers(network: &mut Network<'_>, logits: Value) {
    let head = network.config().head;
    let probabilities = step::probabilities(&mut network.graph, logits, head);
    network.graph.output(logits, "logits", "the classifier's logits, in the order of the property classes");
    network.graph.output(
        probabilities,
        "probabilities",
        match head {
            Head::Multiclass => "softmax of the logits",
            Head::MultiLabel => "sigmoid of each logit: every label for itself",
        },
    );
}

/// The images that a denoising network reads.
fn noised_image(network: &mut Network<'_>) -> [Value; 2] {
    let config = network.config();
    let shape = [BATCH, config.in_channels, config.image_size, config.image_size];
    let x = network.graph.input("x_t", Element::F32, &shape, "images noised to timestep t, channels first");
    [x, timesteps(&mut network.graph)]
}

/// The output for a learned variance.
fn variance(graph: &mut Graph, value: Option<Value>) {
    if let Some(value) = value {
        let doc = "v of the learned variance: its log is f·log β + (1 − f)·log β̃ with f = (v + 1) / 2";
        graph.output(value, "variance_values", doc);
    }
}

fn denoise(network: &mut Network<'_>, checkpoint: &Checkpoint) -> Result<()> {
    let [x, t] = noised_image(network);
    let encoded = network.encode(x, t)?;
    let out = network.decode(&encoded)?;
    let (out, values) = step::predicted(network, out);
    let (name, doc) = match checkpoint.diffusion.prediction {
        Prediction::Eps => ("eps", "the noise in x_t"),
        Prediction::XStart => ("x_start", "the image behind x_t"),
        Prediction::V => ("v", "√ᾱ·noise − √(1 − ᾱ)·image"),
    };
    network.graph.output(out, name, doc);
    variance(&mut network.graph, values);
    Ok(())
}

fn guided_step(network: &mut Network<'_>, checkpoint: &Checkpoint, options: &OnnxArgs) -> Result<()> {
    let [x, t] = noised_image(network);
    let (head, classes) = (network.config().head, network.config().num_classes);
    let g = &mut network.graph;
    let labels = g.input(
        "labels",
        Element::F32,
        &[BATCH, classes],
        match head {
            Head::Multiclass => {
                "what each image is to become: one-hot, or shares of several classes; zeros: it is not guided"
            }
            Head::MultiLabel => {
                "what each image is to become: 1 for each label it is to have, 0 for each it is not"
            }
        },
    );
    let alpha = g.input(
        "alpha",
        Element::F32,
        &[BATCH],
        "step size of Algorithm 1 of each image; 0: it is not guided",
    );
    let ddim = step::Ddim::new(g, x);
    let encoded = network.encode(x, t)?;
    let features = network.features(&encoded);
    let logits = network.logits(features, t)?;
    let guided = step::guide(network, encoded, logits, labels, alpha)?;
    let out = network.decode(&guided)?;
    let (out, values) = step::predicted(network, out);
    ddim.finish(&mut network.graph, checkpoint.diffusion.prediction, out, !options.no_clip);
    answers(network, logits);
    variance(&mut network.graph, values);
    Ok(())
}

/// What people and programs are told of the file.
fn describe(checkpoint: &Checkpoint, kind: OnnxKind, options: &OnnxArgs) -> Result<Description> {
    let (name, doc) = match kind {
        OnnxKind::Classifier => {
            ("classifier", "The classifier of a joint diffusion model (arXiv 2301.13622).")
        }
        OnnxKind::Features => {
            ("features", "The encoder of a joint diffusion model (arXiv 2301.13622), its maps pooled.")
        }
        OnnxKind::Eps => ("eps", "The denoising network of a joint diffusion model (arXiv 2301.13622)."),
        OnnxKind::GuidedStep => (
            "guided-step",
            "A step of DDIM of a joint diffusion model, guided by its own classifier (arXiv 2301.13622, Algorithm 1): \
             bottleneck and skips move by alpha along the gradient of the cross-entropy, then the decoder runs.",
        ),
    };
    let text = |value: serde_json::Result<String>| {
        value.map_err(|error| Error::config("onnx", format!("its description cannot be written: {error}")))
    };
    let (config, diffusion) = (&checkpoint.model, &checkpoint.diffusion);
    let classes: Vec<String> = (0..config.num_classes).map(|class| config.class_name(class)).collect();
    let pictures = checkpoint.preparation();
    let preparation = serde_json::json!({
        "channels": pictures.channels, "size": pictures.size, "ground": pictures.ground, "fit": pictures.fit,
        "resize": pictures.resize, "resize_to": pictures.resize_to,
    });
    let mut properties = vec![
        ("kind", name.to_owned()),
        ("classes", text(serde_json::to_string(&classes))?),
        ("preparation", preparation.to_string()),
        ("model", text(serde_json::to_string(config))?),
        ("diffusion", text(serde_json::to_string(diffusion))?),
        ("info", text(serde_json::to_string(&checkpoint.info))?),
    ];
    if options.noised || matches!(kind, OnnxKind::Eps | OnnxKind::GuidedStep) {
        let steps = diffusion.diffusion_steps as f64;
        let scale = if diffusion.rescale_timesteps { 1000.0 / steps } else { 1.0 };
        let levels = Schedule::new(diffusion)?.alphas_cumprod;
        properties.push(("timestep_scale", scale.to_string()));
        properties.push(("alphas_cumprod", text(serde_json::to_string(&levels))?));
    }
    Ok(Description { name: name.to_owned(), doc: doc.to_owned(), properties })
}
