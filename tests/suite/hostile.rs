//! Arguments out of every range, thrown at what takes numbers: an error comes back, never a panic.

mod device;

use super::harness::tiny_config;
use duet::diffusion::{
    Coefficients, DiffusionConfig, NoiseSchedule, Prediction, Schedule, Solver, StepAt, respaced_steps,
};
use duet::explain::{LocalStep, inversion_plan, local_step_plan};
use duet::graph::{Graph, Lifetime, NodeId, Place, plan_memory};
use duet::infer::{classify_plan, denoise_plan, predict_plan};
use duet::model::{Head, JointModel, Labels, ModelConfig, UNLABELLED, WeightSet, argmax};
use duet::ops::conv2d::Window;
use duet::ops::{Activation, Pooling};
use duet::rng::{Seed, Stream, normal_fill, uniform_u32_below};
use duet::sampling::{Guidance, StepSpec, step_plan};
use duet::tensor::{Images, device_bytes, pad_rows, pitch, unpad_rows};
use duet::train::{
    BatchOrder, Examples, Pixels, TrainOptions, TrainSpec, apply_plan, backward_plan, train_plan,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    table.survives("words", || Coefficients { noise: f64::NAN, ..Coefficients::default() }.words());
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
        table.refuses("toward", || head.toward(&[0.1, 0.9], &[2.into()], 2));
        table.refuses("toward of no classes", || head.toward(&[], &[0.into()], 0));
    }
    table.refuses("toward of other images", || Head::MultiLabel.toward(&[0.1], &[0.into(), 1.into()], 2));
    table.refuses("toward of many classes", || Head::MultiLabel.toward(&[0.1], &[0.into(), 1.into()], HUGE));
    table.refuses("toward a class of many", || Head::Multiclass.toward(&[], &[(HUGE - 1).into()], HUGE));
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
    let calls: [(&str, Add); 26] = [
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
        ("layer", |g, [_, row, w, v]| Ok(g.linear_group(row, &[[w, v]], true)?[0])),
        ("layer", |g, [x, row, _, v]| Ok(g.linear_group(x, &[[row, v]], false)?[0])),
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
        run(&mut table, "resize", &|g, [x, ..]| g.resize_bilinear(x, [window.kernel[0], HUGE]));
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
    let kind = LocalStep { guidance: Guidance::Gradient, normalize: true, masked: true };
    for rows in [[HUGE, 1], [1, HUGE], [HUGE; 2]] {
        table.refuses("rows of paths", || local_step_plan(&model, kind, 2, rows, WeightSet::Raw));
    }
    table.refuses("inversions", || inversion_plan(&model, HUGE, WeightSet::Raw));
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
