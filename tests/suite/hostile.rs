//! Arguments out of every range, thrown at what takes numbers: an error comes back, never a panic.

use super::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::{
    Coefficients, DiffusionConfig, NoiseSchedule, Prediction, Schedule, Solver, StepAt, respaced_steps,
};
use duet::explain::{ExplainOptions, Explainer};
use duet::graph::{Graph, Lifetime, NodeId, Place, plan_memory};
use duet::infer::{
    DenoisingError, ImageClassifier, ImageFeatures, NoisePredictor, classify_plan, denoise_plan, predict_plan,
};
use duet::model::{Head, JointModel, Labels, ModelConfig, UNLABELLED, WeightSet, argmax};
use duet::ops::conv2d::Window;
use duet::ops::{Activation, Pooling};
use duet::rng::{Seed, Stream, normal_fill, uniform_u32_below};
use duet::sampling::{ChainOptions, Finish, Guidance, NoiseSource, Sampler, StepSpec, Watch, step_plan};
use duet::tensor::{Images, device_bytes, pad_rows, pitch, unpad_rows};
use duet::train::{
    Batch, BatchOrder, ClassifierInput, Examples, Pixels, StepInput, TrainOptions, TrainSpec, Trainer,
    apply_plan, backward_plan, train_plan, training_step,
};
use duet::weights::Weights;
use duet::{Duet, LoadOptions, SampleOptions};
use pollster::block_on;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const HUGE: usize = usize::MAX;
const LEN: usize = 64;

/// What went wrong in a table of calls.
#[derive(Default)]
struct Table {
    calls: usize,
    faults: Vec<String>,
}

impl Table {
    /// Must give an error.
    fn refuses<T>(&mut self, name: &str, call: impl FnOnce() -> duet::Result<T>) {
        self.calls += 1;
        match catch_unwind(AssertUnwindSafe(|| call().err().map(|error| error.to_string()))) {
            Ok(Some(text)) if !text.is_empty() => {}
            Ok(_) => self.faults.push(format!("{name}: no error")),
            Err(_) => self.faults.push(format!("{name}: panics")),
        }
    }

    /// Must end.
    fn survives<T>(&mut self, name: &str, call: impl FnOnce() -> T) {
        self.calls += 1;
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.faults.push(format!("{name}: panics"));
        }
    }

    fn judge(self, least: usize) {
        assert!(self.faults.is_empty(), "of {} calls:\n{}", self.calls, self.faults.join("\n"));
        assert!(self.calls >= least, "{} calls", self.calls);
    }
}

fn model(head: Head) -> (Arc<JointModel>, Weights) {
    let model = Arc::new(JointModel::new(&ModelConfig { head, ..tiny_config() }).unwrap());
    let mut tensors = model.params.initial(Seed(2));
    as_trained_on_noise(&mut tensors);
    let weights = block_on(Weights::upload(device(), Arc::clone(&model), &tensors, None)).unwrap();
    (model, weights)
}

#[test]
fn numbers_of_the_process() {
    let mut table = Table::default();
    let specs = [
        "0",
        "ddim0",
        "ddim",
        "ddim-1",
        "99999999999999999999",
        "ddim99999999999999999999",
        ",,",
        ",",
        "1,",
        "-1",
        "1e3",
        "0x10",
        "1001",
        "500,600",
        "1,0,1",
        "ddim1001",
        "ddim 5,5",
        "²",
        "1;2",
        "nan",
        "∞",
        "\u{0}",
    ];
    for spec in specs {
        table.refuses(&format!("respacing {spec:?}"), || respaced_steps(1000, spec));
    }
    let long = "1,".repeat(100_000) + "1";
    table.refuses("respacing of many sections", || respaced_steps(1000, &long));
    for steps in [0, 1_000_001, HUGE] {
        for spec in ["", "1", "ddim1", "ddim2"] {
            table.refuses(&format!("{steps} steps, {spec:?}"), || respaced_steps(steps, spec));
        }
        for noise_schedule in [NoiseSchedule::Linear, NoiseSchedule::Cosine] {
            let config =
                DiffusionConfig { diffusion_steps: steps, noise_schedule, ..DiffusionConfig::default() };
            table.refuses("a chain", || Schedule::new(&config));
        }
    }
    for value in [0.0, -1.0, 1.0, f64::NAN, f64::INFINITY, 1e300] {
        let (start, end) = (DiffusionConfig::default(), DiffusionConfig::default());
        table.refuses("start", || Schedule::new(&DiffusionConfig { linear_start: value, ..start }));
        table.refuses("end", || Schedule::new(&DiffusionConfig { linear_end: value, ..end }));
    }
    let schedule = Schedule::respaced(&DiffusionConfig::default(), "50").unwrap();
    for index in [50, 999, HUGE] {
        table.refuses("model_timestep", || schedule.model_timestep(index));
        table.refuses("model_timesteps", || schedule.model_timesteps(&[0, index]));
        table.refuses("q_sample", || schedule.q_sample_coefficients(index));
        table.refuses("vb", || schedule.vb_coefficients(index));
        for method in Solver::methods() {
            for (index, before) in [(index, None), (3, Some(index))] {
                let at = StepAt {
                    schedule: &schedule,
                    index,
                    before,
                    prediction: Prediction::V,
                    learned_variance: true,
                    scale: f64::NAN,
                };
                let solver = Solver::named(method.name, 0.5).unwrap();
                table.refuses(method.name, || solver.coefficients(&at));
            }
        }
    }
    for eta in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        table.refuses("eta", || Solver::ddim(eta).check());
        table.refuses("eta by name", || Solver::named("ddim", eta));
    }
    table.refuses("solver", || Solver::named("", 0.0));
    table.survives("words", || Coefficients { row: HUGE, ..Coefficients::default() }.words());
    table.survives("eps", || Prediction::XStart.eps(f32::NAN, f32::INFINITY, [0.0, 0.0]));
    table.survives("x_start", || Prediction::Eps.x_start(0.0));
    for seed in [0, u64::MAX] {
        table.survives("noise", || normal_fill(Seed(seed), Stream::Init, u32::MAX, u32::MAX, &mut [0.0; 7]));
        table.survives("below", || uniform_u32_below(0, Seed(seed), Stream::Init, u32::MAX, u32::MAX));
    }
    table.judge(95);
}

#[test]
fn answers_and_labels() {
    let mut table = Table::default();
    let heads = [Head::Multiclass, Head::MultiLabel];
    for columns in [0, 2, 4, HUGE] {
        table.refuses(&format!("argmax {columns}"), || argmax(&[0.1, 0.2, 0.3], columns));
        for head in heads {
            let labels = match head {
                Head::Multiclass => Labels::Classes(vec![0]),
                Head::MultiLabel => Labels::MultiLabel(vec![1.0; 3]),
            };
            let row = [0.1, 0.2, 0.3];
            table.refuses(&format!("probabilities {columns}"), || head.probabilities(&row, columns));
            table.refuses(&format!("agreement {columns}"), || head.agreement(&row, &labels, columns));
        }
    }
    for head in heads {
        table.survives("none", || head.probabilities(&[], 3));
        let wanted = [Labels::Classes(vec![3]), Labels::Classes(vec![]), Labels::Classes(vec![0, 1])];
        let several = [Labels::MultiLabel(vec![1.0; 2]), Labels::MultiLabel(vec![2.0; 3])];
        for labels in wanted.into_iter().chain(several) {
            table.refuses(&format!("{head:?} {labels:?}"), || head.agreement(&[0.1, 0.2, 0.7], &labels, 3));
            table.refuses(&format!("{head:?} pack {labels:?}"), || head.pack(&labels, 1, 3));
        }
        for (count, classes) in [(HUGE, 3), (3, HUGE), (HUGE, HUGE), (2, 0), (0, 2)] {
            table.refuses("pack", || head.pack(&Labels::Classes(vec![0]), count, classes));
            table.refuses("pack", || head.pack(&Labels::MultiLabel(vec![0.0]), count, classes));
        }
        table.refuses("toward", || head.toward(&[0.1, 0.9], &[2], 2));
        table.refuses("toward of no classes", || head.toward(&[], &[0], 0));
    }
    table.refuses("toward of other images", || Head::MultiLabel.toward(&[0.1], &[0, 1], 2));
    table.refuses("toward of many classes", || Head::MultiLabel.toward(&[0.1], &[0, 1], HUGE));
    table.refuses("toward a class of many", || Head::Multiclass.toward(&[], &[HUGE - 1], HUGE));
    for labels in [Labels::Classes(vec![0, UNLABELLED]), Labels::MultiLabel(vec![0.0; 6])] {
        for rows in [vec![2], vec![0, HUGE], vec![HUGE - 1]] {
            table.refuses(&format!("pick {rows:?}"), || labels.pick(&rows, 3));
        }
        #[expect(clippy::reversed_empty_ranges, reason = "that is the question")]
        for range in [1..3, 2..1, 0..HUGE, HUGE - 1..HUGE, HUGE..0] {
            table.refuses(&format!("rows {range:?}"), || labels.rows(range.clone(), 3));
        }
        table
            .survives("len", || (labels.len(0), labels.len(HUGE), labels.labelled(0), labels.labelled(HUGE)));
    }
    table.refuses("rows of many classes", || Labels::MultiLabel(vec![0.0; 6]).rows(1..2, HUGE));
    table.judge(60);
}

#[test]
fn layouts_and_batches() {
    let mut table = Table::default();
    for images in [
        Images { batch: HUGE, channels: HUGE, pixels: HUGE },
        Images { batch: 1, channels: HUGE, pixels: 2 },
        Images { batch: HUGE, channels: 1, pixels: 2 },
        Images { batch: 2, channels: 1, pixels: 2 },
    ] {
        table.survives("len", || (images.len(), images.is_empty()));
        table.refuses(&format!("{images:?} to device"), || images.to_device(&[0.0; 3]));
        table.refuses(&format!("{images:?} to host"), || images.to_host(&[0.0; 3]));
    }
    for images in [[0, 1, 1], [1, 0, 1], [1, 1, 0]] {
        let images = Images { batch: images[0], channels: images[1], pixels: images[2] };
        table.survives("nothing", || (images.to_device(&[]), images.to_host(&[])));
        table.refuses("of nothing", || images.to_device(&[1.0]));
    }
    for columns in [0, 1, 5, HUGE] {
        table.survives("pad", || {
            (pad_rows(&[1.0; 7], columns), unpad_rows(&[1.0; 7], columns), pitch(columns))
        });
        table.survives("bytes", || device_bytes(&[columns, HUGE, columns]));
    }
    let labels = Labels::Classes(vec![0; 4]);
    let config = tiny_config();
    for (size, count) in [(8, 3), (0, 4), (HUGE, 4), (9, 4)] {
        let config = ModelConfig { image_size: size, ..config.clone() };
        let data = vec![0.0; count * LEN];
        table.refuses("examples", || Examples::new(&config, Pixels::Values(&data), &labels));
        table.refuses("examples", || Examples::new(&config, Pixels::Levels(&[0; 3]), &labels));
    }
    let none = Labels::Classes(Vec::new());
    table.refuses("no examples", || Examples::new(&config, Pixels::Values(&[]), &none));
    let data = vec![0.0; 4 * LEN];
    let examples = Examples::new(&config, Pixels::Values(&data), &labels).unwrap();
    table.refuses("batch", || examples.batch(&[4]));
    table.refuses("batch", || examples.batch(&[0, HUGE]));
    table.refuses("next", || examples.next(&mut BatchOrder::new(5, 0), 0, 5, true));
    table.refuses("next of too many", || examples.next(&mut BatchOrder::new(4, 0), 0, HUGE, true));
    for step in [0, u64::MAX] {
        let mut order = BatchOrder::new(4, u64::MAX);
        table.survives("order", || (order.indices(step, 0), order.indices(step, 9)));
        table.survives("flip", || order.flip(step, HUGE, &mut [0.0; 5], 0));
        table.survives("no order", || BatchOrder::new(0, 0).indices(step, 3));
    }
    let span = |first, last| Lifetime { bytes: 1 << 40, first, last };
    table
        .survives("memory", || plan_memory(&[span(5, 2), span(0, HUGE)], &[(0, 7), (9, 9), (0, 1)], 0, true));
    table.judge(40);
}

/// Adds an operation to a graph of leaves: an image \[1,4,4,8\], a row \[2,8\], a weight \[8,3\], a vector \[8\].
type Add = fn(&mut Graph, [NodeId; 4]) -> duet::Result<NodeId>;

#[test]
fn operations_of_a_graph() {
    let window = |kernel, stride, padding| Window { kernel, stride, padding };
    let windows = [
        window([0, 3], [1, 1], [0, 0]),
        window([3, 3], [0, 1], [1, 1]),
        window([9, 9], [1, 1], [0, 0]),
        window([HUGE, HUGE], [HUGE, HUGE], [HUGE, HUGE]),
    ];
    let mut table = Table::default();
    let run =
        |table: &mut Table, name: &str, add: &dyn Fn(&mut Graph, [NodeId; 4]) -> duet::Result<NodeId>| {
            let mut graph = Graph::new();
            let leaf = |graph: &mut Graph, name: &str, shape: &[usize]| graph.leaf(shape, Place::whole(name));
            let leaves = [("x", &[1, 4, 4, 8][..]), ("row", &[2, 8]), ("weight", &[8, 3]), ("vector", &[8])];
            let leaves = leaves.map(|(name, shape)| leaf(&mut graph, name, shape));
            table.refuses(name, || {
                let node = add(&mut graph, leaves)?;
                graph.place(node, Place::whole("y"));
                graph.compile()
            });
        };
    let calls: [(&str, Add); 24] = [
        ("groups", |g, [x, _, _, v]| g.group_norm(x, v, v, 0, None, true)),
        ("groups", |g, [x, _, _, v]| g.group_norm(x, v, v, HUGE, None, true)),
        ("norm of a row", |g, [_, row, _, v]| g.group_norm(row, v, v, 2, None, true)),
        ("heads", |g, [x, ..]| g.attention(x, 0, false)),
        ("heads", |g, [x, ..]| g.attention(x, HUGE, true)),
        ("heads of a row", |g, [_, row, ..]| g.attention(row, 1, true)),
        ("stride", |g, [x, _, w, _]| g.conv3x3(x, w, 0, None, None)),
        ("stride", |g, [x, _, w, _]| g.conv3x3(x, w, HUGE, None, None)),
        ("weight", |g, [x, _, w, _]| g.conv3x3(x, w, 1, None, None)),
        ("product", |g, [x, _, _, v]| g.matmul(x, v, None, None)),
        ("bias", |g, [_, row, w, v]| g.matmul(row, w, Some(v), None)),
        ("slice", |g, [x, ..]| g.slice_channels(x, 5, 4)),
        ("slice", |g, [x, ..]| g.slice_channels(x, HUGE, HUGE)),
        ("empty slice", |g, [x, ..]| g.slice_channels(x, 0, 0)),
        ("concat", |g, [x, row, ..]| g.concat(x, row)),
        ("row-wise", |g, [x, row, ..]| g.add_rowwise(x, row)),
        ("no fill", |g, _| Ok(g.fill(0, 1.0))),
        ("a large fill", |g, _| Ok(g.fill(HUGE, 1.0))),
        ("noise", |g, [_, _, _, v]| Ok(g.normal(v, [0, 1, 1, 1], 0))),
        ("noise", |g, [_, _, _, v]| Ok(g.normal(v, [HUGE, HUGE, 1, 1], 0))),
        ("features", |g, [x, row, ..]| g.features(&[x], row, Pooling::Max)),
        ("features of a row", |g, [_, row, _, v]| g.features(&[row], v, Pooling::Average)),
        ("sum", |g, [x, row, ..]| g.weighted_sum_by(x, row)),
        ("learning", |g, [_, row, _, v]| g.batch_norm(row, v, v, row, Some(v))),
    ];
    for (name, add) in calls {
        run(&mut table, name, &add);
    }
    for window in windows {
        run(&mut table, "conv2d", &|g, [x, _, w, _]| g.conv2d(x, w, window, None));
        run(&mut table, "max", &|g, [x, ..]| g.max_pool2d(x, window));
        run(&mut table, "average", &|g, [x, ..]| g.avg_pool2d(x, window, true));
        table.refuses("window", || window.output("test", [4, HUGE]));
    }
    for shape in
        [&[][..], &[0], &[4, 0], &[HUGE], &[HUGE, HUGE], &[1 << 20, 1 << 20], &[0, 4, 4, 8], &[3, 0, 4, 8]]
    {
        table.refuses(&format!("a tensor of {shape:?}"), || {
            let mut graph = Graph::new();
            let x = graph.leaf(shape, Place::whole("x"));
            let y = graph.activate(x, Activation::Relu);
            graph.place(y, Place::whole("y"));
            graph.compile()
        });
    }
    for probability in [0.0, 1.0, 2.0, -1.0, f32::NAN] {
        table.survives("dropout", || {
            let mut graph = Graph::new();
            let [x, run] = ["x", "run"].map(|name| graph.leaf(&[4], Place::whole(name)));
            let y = graph.dropout(x, run, probability);
            graph.place(y, Place::whole("y"));
            graph.compile()
        });
    }
    table.judge(45);
}

#[test]
fn plans_and_specifications() {
    let mut table = Table::default();
    let model = JointModel::new(&tiny_config()).unwrap();
    let diffusion = DiffusionConfig::default();
    for batch in [0, (1 << 20) + 1, HUGE] {
        table.refuses("classify", || classify_plan(&model, batch, WeightSet::Raw));
        table.refuses("predict", || predict_plan(&model, batch, WeightSet::Raw));
        table.refuses("denoise", || denoise_plan(&model, &diffusion, batch, WeightSet::Raw));
        for guidance in [Guidance::None, Guidance::Representation, Guidance::Gradient] {
            let spec = StepSpec { guidance, masked: true, ..StepSpec::new(batch) };
            table.refuses("step", || step_plan(&model, &spec, WeightSet::Raw));
        }
        let base = TrainSpec::of(&TrainOptions::default());
        let sizes = [(batch, 1), (2, batch)];
        for (batch, micro_batches) in sizes {
            let spec = TrainSpec { batch, micro_batches, ..base.clone() };
            table.refuses("backward", || backward_plan(&model, &diffusion, &spec));
            table.refuses("train", || train_plan(&model, &diffusion, &spec));
            table.survives("apply", || apply_plan(&model, &spec));
        }
    }
    let rows = StepSpec { noise: NoiseSource::Stored { steps: HUGE }, ..StepSpec::new(2) };
    table.refuses("rows of noise", || step_plan(&model, &rows, WeightSet::Raw));
    let sizes: [fn(&mut ModelConfig, usize); 7] = [
        |c, n| c.image_size = n,
        |c, n| c.in_channels = n,
        |c, n| c.num_channels = n,
        |c, n| c.num_res_blocks = n,
        |c, n| c.num_heads = n,
        |c, n| c.num_groups = n,
        |c, n| c.num_classes = n,
    ];
    for change in sizes {
        for size in [0, HUGE] {
            let mut config = tiny_config();
            change(&mut config, size);
            table.refuses(&format!("{config:?}"), || JointModel::new(&config));
            table.survives("sizes", || {
                (config.images(HUGE).len(), config.out_channels(), config.heads(7, true))
            });
        }
    }
    for mult in [vec![0], vec![65], vec![1; 9], vec![HUGE, HUGE]] {
        table.refuses("levels", || {
            JointModel::new(&ModelConfig { channel_mult: mult.clone(), ..tiny_config() })
        });
    }
    table.refuses("chunk", || model.params.pack(&model.params.initial(Seed(0)), Some(HUGE)));
    for chunk in [None, Some(0)] {
        table.refuses("short memory", || model.params.unpack(&[0.0; 3], chunk, &mut BTreeMap::new()));
    }
    let good = TrainOptions::default();
    let bad: [fn(&mut TrainOptions); 9] = [
        |o| o.batch_size = 0,
        |o| o.batch_size = HUGE,
        |o| o.micro_batches = 0,
        |o| o.micro_batches = HUGE,
        |o| o.learning_rate = f64::NAN,
        |o| o.weight_decay = -1.0,
        |o| o.beta1 = 1.0,
        |o| o.clip_grad_norm = Some(1e300),
        |o| o.classifier_loss_scaling = f32::INFINITY,
    ];
    for change in bad {
        let mut options = good.clone();
        change(&mut options);
        table.refuses("training options", || options.validate());
    }
    table.judge(80);
}

#[test]
fn what_runs_on_a_device() {
    let mut table = Table::default();
    let (model, weights) = model(Head::Multiclass);
    let diffusion = DiffusionConfig::default();
    let images = values(1, 2 * LEN);
    for batch in [0, HUGE] {
        table.refuses("classifier", || block_on(ImageClassifier::new(&weights, batch, WeightSet::Raw)));
        table.refuses("features", || block_on(ImageFeatures::new(&weights, batch, WeightSet::Raw)));
        let new = || block_on(NoisePredictor::new(&weights, &diffusion, batch, WeightSet::Raw));
        table.refuses("predictor", new);
        let new = || block_on(DenoisingError::new(&weights, &diffusion, batch, WeightSet::Raw));
        table.refuses("error", new);
        let spec = StepSpec::new(batch);
        table.refuses("sampler", || block_on(Sampler::new(&weights, &diffusion, "5", spec, WeightSet::Raw)));
        let options = ExplainOptions { respacing: "5".into(), ..ExplainOptions::default() };
        let new = || block_on(Explainer::new(&weights, &diffusion, batch, &options, WeightSet::Raw));
        table.refuses("explainer", new);
    }
    let classifier = block_on(ImageClassifier::new(&weights, 2, WeightSet::Raw)).unwrap();
    table.refuses("part of an image", || block_on(classifier.probabilities(&images[1..])));
    table.survives("no image", || block_on(classifier.probabilities(&[])));
    let predictor = block_on(NoisePredictor::new(&weights, &diffusion, 2, WeightSet::Raw)).unwrap();
    for steps in [&[0][..], &[0, 1000], &[HUGE, 0], &[0, 0, 0]] {
        table.refuses("noise", || block_on(predictor.predict(&images, steps)));
    }
    let error = block_on(DenoisingError::new(&weights, &diffusion, 2, WeightSet::Raw)).unwrap();
    for (images, steps) in [(&images[..], &[0, 1000][..]), (&images[1..], &[0, 1]), (&images, &[0])] {
        table.refuses("error", || block_on(error.measure(images, steps, Seed(u64::MAX), u32::MAX)));
    }
    for guidance in [Guidance::None, Guidance::Representation] {
        let spec = StepSpec { guidance, ..StepSpec::new(2) };
        let sampler = block_on(Sampler::new(&weights, &diffusion, "5", spec, WeightSet::Raw)).unwrap();
        let wild = Labels::Classes(vec![99, 99]);
        let chain = ChainOptions { seed: Seed(u64::MAX), first_row: u32::MAX, labels: wild, alpha: 1.0 };
        table.refuses("steps", || block_on(sampler.run(6, &chain, Watch::None)));
        table.refuses("steps", || block_on(sampler.run(HUGE, &chain, Watch::None)));
        for indices in [&[5, 0][..], &[0], &[HUGE, HUGE], &[]] {
            table.refuses("prepare", || sampler.prepare(indices, f32::NAN));
        }
        table.refuses("coefficients", || sampler.coefficients(0, Some(HUGE), 1.0));
        table.refuses("trace", || block_on(sampler.trace(HUGE)));
        table.refuses("images", || sampler.set_images(&images[1..]));
        let run = block_on(sampler.run(5, &chain, Watch::None));
        if guidance == Guidance::None {
            run.expect("what does not guide is not looked at");
        } else {
            table.refuses("labels", || run);
            let nobody = block_on(Finish::new(
                &weights,
                &sampler,
                block_on(ImageClassifier::new(&weights, 3, WeightSet::Raw)).unwrap(),
            ));
            table.refuses("a finish of another size", || nobody);
        }
    }
    for guidance in [Guidance::None, Guidance::Representation, Guidance::Gradient] {
        let options = ExplainOptions { guidance, respacing: "5".into(), ..ExplainOptions::default() };
        let explainer = block_on(Explainer::new(&weights, &diffusion, 2, &options, WeightSet::Raw)).unwrap();
        let wild = [
            Labels::Classes(vec![0, 3]),
            Labels::Classes(vec![]),
            Labels::Classes(vec![0; 3]),
            Labels::MultiLabel(vec![0.0; 6]),
        ];
        for targets in wild {
            table.refuses(&format!("{guidance:?} to {targets:?}"), || {
                block_on(explainer.explain(&images, &targets, u32::MAX, Watch::None))
            });
        }
        let fine = Labels::Classes(vec![0, 1]);
        table
            .refuses("part of an image", || block_on(explainer.explain(&images[1..], &fine, 0, Watch::None)));
        table.refuses("targets", || block_on(explainer.targets(&images, &[0, HUGE])));
    }
    let input = StepInput {
        x_start: images.clone(),
        noise: images.clone(),
        timesteps: vec![0, 999],
        labels: Labels::Classes(vec![0, 1]),
        classifier_input: ClassifierInput::Both,
        classifier_loss_scaling: 0.1,
    };
    let tensors = model.params.initial(Seed(2));
    let changes: [fn(&mut StepInput); 6] = [
        |i| i.timesteps.clear(),
        |i| i.timesteps[1] = 1000,
        |i| i.timesteps[1] = HUGE,
        |i| i.x_start.truncate(5),
        |i| i.noise.clear(),
        |i| i.labels = Labels::Classes(vec![0, 3]),
    ];
    for change in changes {
        let mut input = input.clone();
        change(&mut input);
        let step = training_step(device(), &model, &diffusion, &tensors, &input);
        table.refuses("a step seen from outside", || block_on(step));
    }
    let options = TrainOptions { batch_size: 2, ..TrainOptions::default() };
    let mut trainer = block_on(Trainer::new(device(), Arc::clone(&model), &diffusion, &options)).unwrap();
    let labels = [vec![0, 3], vec![0], vec![], vec![0, 1, 2], vec![UNLABELLED - 1, 0]];
    for labels in labels.map(Labels::Classes).into_iter().chain([Labels::MultiLabel(vec![0.0; 6])]) {
        let batch = Batch { images: images.clone(), labels };
        table.refuses("a batch", || trainer.train_step(&batch, f64::NAN));
    }
    let batch = Batch { images: images[1..].to_vec(), labels: Labels::Classes(vec![0, 1]) };
    table.refuses("part of an image", || trainer.train_step(&batch, 1e-3));
    table.refuses("no batch", || trainer.train_step_of(&[], 1e-3));
    assert_eq!(trainer.step(), 0, "what is refused is no step");
    table.judge(60);
}

#[test]
fn the_facade() {
    let mut table = Table::default();
    for head in [Head::Multiclass, Head::MultiLabel] {
        let (joint, _) = model(head);
        let mut weights = joint.params.initial(Seed(2));
        as_trained_on_noise(&mut weights);
        let checkpoint = Checkpoint {
            model: joint.config.clone(),
            diffusion: DiffusionConfig::default(),
            weights,
            ema: None,
            training: None,
            info: BTreeMap::new(),
            pictures: Default::default(),
            typicality: None,
        };
        let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
        let mut duet = block_on(Duet::of(Arc::new(checkpoint), joint, &options)).unwrap();
        let image = values(1, LEN);
        table.refuses("classify", || block_on(duet.classify(&image[1..])));
        table.refuses("noise", || block_on(duet.predict_noise(&image, &[1000])));
        table.refuses("noise", || block_on(duet.predict_noise(&image, &[HUGE, 0])));
        for class in [3, HUGE] {
            table.refuses("labels", || duet.labels(class, 1));
            let options = ExplainOptions { respacing: "5".into(), ..ExplainOptions::default() };
            table.refuses("explain", || block_on(duet.explain(&image, class, &options)));
        }
        for count in [HUGE, HUGE / 2, 1 << 40] {
            table.refuses("labels of many", || duet.labels(0, count));
            let few = SampleOptions { respacing: "2".into(), ..SampleOptions::default() };
            table.refuses("many samples", || block_on(duet.sample(None, count, &few)));
        }
        let one = duet.labels(0, 1).unwrap();
        let few = SampleOptions { respacing: "2".into(), ..SampleOptions::default() };
        table.refuses("more samples than labels", || block_on(duet.sample(Some(&one), 2, &few)));
        table.survives("no samples", || block_on(duet.sample(None, 0, &few)));
        table.survives("export", || duet.to_bytes(Dtype::F16));
        for noise in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            let options = ExplainOptions { noise, respacing: "5".into(), ..ExplainOptions::default() };
            table.refuses("noise", || block_on(duet.explain(&image, 0, &options)));
        }
        for mask in [vec![], vec![0.5; LEN + 1], vec![f32::NAN; LEN], vec![-1.0; LEN]] {
            let options =
                ExplainOptions { mask: Some(mask), respacing: "5".into(), ..ExplainOptions::default() };
            table.refuses("mask", || block_on(duet.explain(&image, 0, &options)));
        }
    }
    table.judge(40);
}
