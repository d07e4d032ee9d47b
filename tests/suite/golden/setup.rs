//! From a fixture's configuration to a model, and small graphs run on given inputs.

use super::fixture::{Fixture, weights};
use crate::harness::device;
use duet::diffusion::{DiffusionConfig, NoiseSchedule, Prediction};
use duet::graph::{NodeId, Place};
use duet::model::{Builder, Head, JointModel, Labels, ModelConfig, WeightSet};
use duet::ops::Pooling;
use duet::tensor::{Images, pad_rows, unpad_rows};
use duet::train::ClassifierInput;
use duet::weights::{Loaded, Weights};
use std::sync::Arc;

/// What a model fixture is about.
pub struct Setup {
    pub model: Arc<JointModel>,
    pub diffusion: DiffusionConfig,
    pub prefix: String,
    pub respacing: String,
    pub classifier_input: ClassifierInput,
    pub classifier_loss_scaling: f32,
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(',').filter(|s| !s.trim().is_empty()).map(|s| s.trim().parse().unwrap()).collect()
}

impl Setup {
    /// Reads the reference's hyper-parameters; an unknown one is an error.
    pub fn of(fixture: &Fixture) -> Setup {
        let mut model = ModelConfig { dropout: 0.0, classifier_dropout: 0.0, ..ModelConfig::default() };
        let mut diffusion = DiffusionConfig::default();
        let (mut prefix, mut respacing) = (String::new(), String::new());
        let mut classifier_input = ClassifierInput::Clean;
        let mut classifier_loss_scaling = 0.001;
        for (key, value) in fixture.config.as_object().expect("a configuration") {
            let int = || value.as_i64().unwrap_or_else(|| panic!("{key} is {value}"));
            let flag = || value.as_bool().unwrap_or_else(|| panic!("{key} is {value}"));
            let text = || value.as_str().unwrap_or_else(|| panic!("{key} is {value}"));
            let positive = || usize::try_from(int()).ok().filter(|v| *v > 0);
            match key.as_str() {
                "num_channels" => model.num_channels = int() as usize,
                "num_res_blocks" => model.num_res_blocks = int() as usize,
                "num_heads" => model.num_heads = int() as usize,
                "num_heads_upsample" => model.num_heads_upsample = positive(),
                "num_head_channels" => model.num_head_channels = positive(),
                "attention_resolutions" => model.attention_resolutions = numbers(text()),
                "channel_mult" => model.channel_mult = numbers(text()),
                "use_scale_shift_norm" => model.use_scale_shift_norm = flag(),
                "resblock_updown" => model.resblock_updown = flag(),
                "use_new_attention_order" => model.use_new_attention_order = flag(),
                "image_size" => model.image_size = int() as usize,
                "in_channels" => model.in_channels = int() as usize,
                "num_classes" => model.num_classes = int() as usize,
                "learn_sigma" => model.learn_sigma = flag(),
                "multi_label_classifier" if flag() => model.head = Head::MultiLabel,
                "max_pooling" if flag() => model.pooling = Pooling::Max,
                "train_noised_classifier" if flag() => classifier_input = ClassifierInput::Noised,
                "classifier_loss_scaling" => classifier_loss_scaling = value.as_f64().unwrap() as f32,
                "diffusion_steps" => diffusion.diffusion_steps = int() as usize,
                "noise_schedule" => {
                    diffusion.noise_schedule = match text() {
                        "linear" => NoiseSchedule::Linear,
                        "cosine" => NoiseSchedule::Cosine,
                        other => panic!("unknown schedule {other}"),
                    };
                }
                "timestep_respacing" => respacing = text().to_owned(),
                "predict_xstart" if flag() => diffusion.prediction = Prediction::XStart,
                "rescale_timesteps" => diffusion.rescale_timesteps = flag(),
                "rescale_learned_sigmas" => diffusion.rescale_learned_sigmas = flag(),
                "name_prefix" => prefix = text().to_owned(),
                "predict_xstart" => {}
                // What these switch on does not exist here, so they must be off.
                "use_fp16"
                | "noise_marg_reg"
                | "train_only_classifier"
                | "skip_classifier_loss"
                | "use_kl"
                | "predict_xprevious"
                | "classifier_augmentation" => assert!(!flag(), "{key} is on"),
                "multi_label_classifier" | "max_pooling" | "train_noised_classifier" => {}
                // Without influence on the numbers of a fixture: dropout is 0 or off in all of them.
                "dropout"
                | "class_cond"
                | "use_checkpoint"
                | "model_name"
                | "train_with_classifier"
                | "late_classifier_step"
                | "labelled_data_share"
                | "batch"
                | "input_prefix"
                | "all_dropout_p"
                | "augmentation"
                | "mode"
                | "timesteps"
                | "sampling_lr"
                | "steps"
                | "lr"
                | "weight_decay"
                | "network_sees" => {}
                other => panic!("{}: unknown hyper-parameter {other}", fixture.name),
            }
        }
        let model = Arc::new(JointModel::new(&model).expect("a valid configuration"));
        Setup { model, diffusion, prefix, respacing, classifier_input, classifier_loss_scaling }
    }

    /// The fixture's weights on the device.
    pub fn upload(&self) -> Weights {
        let tensors = weights(&self.model, &self.prefix);
        let model = Arc::clone(&self.model);
        pollster::block_on(Weights::upload(device(), model, &tensors, Some(&tensors))).unwrap()
    }

    pub fn images(&self, batch: usize) -> Images {
        self.model.config.images(batch)
    }
}

/// A graph whose results are read back by name.
pub struct Probe<'a> {
    pub builder: Builder<'a>,
    results: Vec<(String, Vec<usize>)>,
}

impl<'a> Probe<'a> {
    pub fn new(setup: &'a Setup, train: bool) -> Probe<'a> {
        Probe { builder: Builder::new(&setup.model.params, WeightSet::Raw, train), results: Vec::new() }
    }

    pub fn leaf(&mut self, name: &str, shape: &[usize]) -> NodeId {
        self.builder.graph.leaf(shape, Place::whole(name))
    }

    pub fn result(&mut self, name: &str, node: NodeId) {
        let shape = self.builder.graph.shape(node).to_vec();
        // A copy, so that the place is the result's alone.
        let copy = self.builder.graph.scale(node, 1.0);
        self.builder.graph.place(copy, Place::whole(format!("result {name}")));
        self.results.push((name.to_owned(), shape));
    }

    pub fn load(self, weights: &Weights) -> Running {
        let plan = self.builder.graph.compile().unwrap();
        let loaded = pollster::block_on(weights.load(&plan)).unwrap();
        Running { loaded, results: self.results }
    }
}

/// A loaded probe.
pub struct Running {
    pub loaded: Loaded,
    results: Vec<(String, Vec<usize>)>,
}

impl Running {
    /// Writes a tensor whose last dimension is `columns`.
    pub fn write(&self, name: &str, columns: usize, data: &[f32]) {
        self.loaded.write(name, bytemuck::cast_slice(&pad_rows(data, columns))).unwrap();
    }

    pub fn write_images(&self, name: &str, images: &Images, data: &[f32]) {
        self.loaded.write(name, bytemuck::cast_slice(&images.to_device(data).unwrap())).unwrap();
    }

    pub fn run(&self) {
        self.loaded.run();
        self.loaded.device().wait().unwrap();
    }

    /// A result in the reference's layout: images \[N,C,H,W\], matrices row by row.
    pub fn read(&self, name: &str) -> Vec<f32> {
        let (_, shape) = self.results.iter().find(|(n, _)| n == name).expect("a result");
        let data = pollster::block_on(self.loaded.read(&format!("result {name}"))).unwrap();
        match *shape.as_slice() {
            [batch, height, width, channels] => {
                Images { batch, channels, pixels: height * width }.to_host(&data).unwrap()
            }
            _ => {
                let mut rows = unpad_rows(&data, *shape.last().unwrap());
                rows.truncate(shape.iter().product());
                rows
            }
        }
    }
}

/// Labels of a fixture as the kernels want them: class numbers, or padded rows of targets.
pub fn write_labels(running: &Loaded, setup: &Setup, labels: &[f64]) {
    let config = &setup.model.config;
    let (labels, count) = match config.head {
        Head::Multiclass => (Labels::Classes(labels.iter().map(|v| *v as u32).collect()), labels.len()),
        Head::MultiLabel => {
            let count = labels.len() / config.num_classes;
            (Labels::MultiLabel(labels.iter().map(|v| *v as f32).collect()), count)
        }
    };
    running.write("labels", &config.head.pack(&labels, count, config.num_classes).unwrap()).unwrap();
    // Of a training step: what one image counts, all being labelled.
    running.write("label_weight", bytemuck::bytes_of(&[1.0 / count as f32, 0.0, 0.0, 0.0])).unwrap();
}
