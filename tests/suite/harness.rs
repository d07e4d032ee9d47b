//! Runs launches on host arrays: uploads logical tensors into the padded device layout, reads results back, and
//! compares them with f64 twins and finite differences.

use duet::families::{Choices, Family};
use duet::gpu::{Buffer, BufferId, BufferSpec, Device, DeviceOptions, Launch, Program, Slice};
use duet::graph::{Graph, NodeId, Place, Plan};
use duet::model::{JointModel, ModelConfig};
use duet::rng::Seed;
use duet::tensor::{Tensors, pitch};
use duet::weights::Weights;
use std::sync::{Arc, OnceLock};

/// The one device all tests share (pipelines are compiled once).
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let options =
            DeviceOptions { adapter: std::env::var("DUET_ADAPTER").ok(), ..DeviceOptions::default() };
        pollster::block_on(Device::open(&options)).expect("a GPU device (software Vulkan will do)")
    })
}

/// Whether this device can store f16; what a test that needs it asks first, and says where it cannot.
pub fn stores_f16() -> bool {
    let can = device().has_f16();
    if !can {
        println!("skipped: {} has no f16", device().info().name);
    }
    can
}

/// The families of kernels that this device can run: all of them on a software device with subgroups of eight.
pub fn families() -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| family.runs_on(device())).collect()
}

/// A logical tensor on the device: its last dimension is padded there.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub slice: Slice,
    pub shape: Vec<usize>,
}

/// Buffers of one test.
#[derive(Default)]
pub struct Harness {
    buffers: Vec<Buffer>,
    /// Where they are, if not on the device all tests share.
    other: Option<&'static Device>,
}

/// What [`Harness::differentiate`] found.
pub struct Differentiated {
    /// Shape of the result.
    pub shape: Vec<usize>,
    /// The result.
    pub y: Vec<f32>,
    /// Weights of the loss, which is the sum of their products with the result.
    pub upstream: Vec<f32>,
    /// Gradients of the loss with respect to the tensors, in their order.
    pub gradients: Vec<Vec<f32>>,
    /// What ran.
    pub plan: Plan,
}

/// Rows of the last dimension, spread to the device's pitch.
pub fn pad(shape: &[usize], data: &[f32]) -> Vec<f32> {
    let columns = *shape.last().unwrap();
    assert_eq!(data.len(), shape.iter().product::<usize>(), "data do not fill {shape:?}");
    let mut padded = Vec::new();
    for row in data.chunks(columns) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + pitch(columns) - columns, 0.0);
    }
    padded
}

impl Harness {
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Harness::new`], on a device of the test's own.
    pub fn on(device: &'static Device) -> Self {
        Self { other: Some(device), ..Self::default() }
    }

    fn device(&self) -> &'static Device {
        self.other.unwrap_or_else(device)
    }

    fn allocate(&mut self, words: usize) -> Slice {
        let bytes = (words as u64 * 4).max(16);
        let buffer = pollster::block_on(self.device().buffer("test", bytes)).unwrap();
        self.buffers.push(buffer);
        Slice {
            buffer: BufferId(self.buffers.len() as u32 - 1),
            offset: 0,
            bytes: bytes.next_multiple_of(16),
            half: false,
        }
    }

    /// Uploads a logical tensor.
    pub fn input(&mut self, shape: &[usize], data: &[f32]) -> Tensor {
        let padded = pad(shape, data);
        let slice = self.allocate(padded.len());
        self.device()
            .write(&self.buffers[slice.buffer.0 as usize], 0, bytemuck::cast_slice(&padded))
            .unwrap();
        Tensor { slice, shape: shape.to_vec() }
    }

    /// Uploads 32-bit words as they are (run values, labels).
    pub fn words(&mut self, data: &[u32]) -> Slice {
        let slice = self.allocate(data.len());
        self.device().write(&self.buffers[slice.buffer.0 as usize], 0, bytemuck::cast_slice(data)).unwrap();
        slice
    }

    /// A tensor to be written, filled with NaN so that unwritten elements show.
    pub fn output(&mut self, shape: &[usize]) -> Tensor {
        let columns = *shape.last().unwrap();
        let words = shape.iter().product::<usize>() / columns.max(1) * pitch(columns);
        let slice = self.allocate(words);
        let nan = vec![f32::NAN; slice.bytes as usize / 4];
        self.device().write(&self.buffers[slice.buffer.0 as usize], 0, bytemuck::cast_slice(&nan)).unwrap();
        Tensor { slice, shape: shape.to_vec() }
    }

    /// Scratch memory of `bytes` bytes, filled with NaN.
    pub fn scratch(&mut self, bytes: u64) -> Slice {
        self.output(&[(bytes as usize / 4).max(4)]).slice
    }

    /// Runs the launches once.
    pub fn run(&self, launches: Vec<Launch>) {
        let buffers = self
            .buffers
            .iter()
            .enumerate()
            .map(|(i, b)| BufferSpec::External { name: i.to_string(), bytes: b.bytes() })
            .collect();
        let program = Program { buffers, launches };
        let external = |name: &str| name.parse::<usize>().ok().map(|i| self.buffers[i].clone());
        let executable = pollster::block_on(self.device().load(&program, external)).unwrap();
        executable.run();
        self.device().wait().unwrap();
    }

    /// Runs a plan once, whose buffers are named by the numbers of tensors.
    pub fn run_plan(&self, plan: &Plan) {
        self.run_plan_with(plan, &[]);
    }

    /// As [`Harness::run_plan`], with buffers that have names.
    pub fn run_plan_with(&self, plan: &Plan, named: &[(&str, Slice)]) {
        let number = |name: &str| {
            let named = named.iter().find(|(known, _)| *known == name);
            named.map(|(_, slice)| slice.buffer.0 as usize).or_else(|| name.parse().ok())
        };
        let external = |name: &str| number(name).map(|i| self.buffers[i].clone());
        pollster::block_on(plan.load(self.device(), external)).unwrap().run();
        self.device().wait().unwrap();
    }

    /// Runs an operation of the graph and its gradient: `make` applies it to leaves that hold `tensors` (shapes and
    /// values), all of which get a gradient.
    pub fn differentiate(
        tensors: &[(&[usize], &[f32])],
        make: impl FnOnce(&mut Graph, &[NodeId]) -> NodeId,
    ) -> Differentiated {
        Self::differentiate_as(|graph| graph.compile().unwrap(), tensors, make)
    }

    /// As [`Harness::differentiate`], in the kernels of `family`.
    pub fn differentiate_in(
        family: Family,
        tensors: &[(&[usize], &[f32])],
        make: impl FnOnce(&mut Graph, &[NodeId]) -> NodeId,
    ) -> Differentiated {
        Self::differentiate_as(|graph| graph.compile_for(&Choices::all(family)).unwrap(), tensors, make)
    }

    /// As [`Harness::differentiate`], of a plan that `compile` makes.
    pub fn differentiate_as(
        compile: impl FnOnce(&Graph) -> Plan,
        tensors: &[(&[usize], &[f32])],
        make: impl FnOnce(&mut Graph, &[NodeId]) -> NodeId,
    ) -> Differentiated {
        let mut h = Harness::new();
        let mut graph = Graph::new();
        let place = |tensor: &Tensor| Place::whole(tensor.slice.buffer.0.to_string());
        let inputs: Vec<Tensor> = tensors.iter().map(|(shape, data)| h.input(shape, data)).collect();
        let leaves: Vec<NodeId> = inputs.iter().map(|t| graph.leaf(&t.shape, place(t))).collect();
        let y = make(&mut graph, &leaves);
        let shape = graph.shape(y).to_vec();
        let upstream = values(99, shape.iter().product());
        let dy = h.input(&shape, &upstream);
        let dy = graph.leaf(&shape, place(&dy));
        let gradients = graph.grad_from(y, dy, &leaves).unwrap();
        let outputs: Vec<Tensor> = [y]
            .into_iter()
            .chain(gradients)
            .map(|node| {
                let output = h.output(graph.shape(node));
                graph.place(node, place(&output));
                output
            })
            .collect();
        let plan = compile(&graph);
        h.run_plan(&plan);
        let mut results = outputs.iter().map(|output| h.read(output));
        let y = results.next().unwrap();
        Differentiated { shape, y, upstream, gradients: results.collect(), plan }
    }

    /// Reads a tensor's logical values; panics where a pad lane is not zero.
    pub fn read(&self, tensor: &Tensor) -> Vec<f32> {
        let columns = *tensor.shape.last().unwrap();
        let rows = tensor.shape.iter().product::<usize>() / columns.max(1);
        let words = self.read_words(tensor.slice, rows * pitch(columns));
        let words: &[f32] = bytemuck::cast_slice(&words);
        let mut data = Vec::new();
        for row in words.chunks(pitch(columns)) {
            data.extend_from_slice(&row[..columns]);
            assert!(row[columns..].iter().all(|v| *v == 0.0), "pad lanes hold {:?}", &row[columns..]);
        }
        data
    }

    /// Reads raw 32-bit words.
    pub fn read_words(&self, slice: Slice, count: usize) -> Vec<u32> {
        let buffer = &self.buffers[slice.buffer.0 as usize];
        let bytes = pollster::block_on(self.device().read(buffer, slice.offset, count as u64 * 4)).unwrap();
        bytemuck::pod_collect_to_vec(&bytes)
    }
}

/// Repeatable values in [-1, 1): SplitMix64 of `seed` and the index.
pub fn values(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64)
        .map(|i| {
            let mut x = seed
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add((i + 1).wrapping_mul(0xD134_2543_DE82_EF95));
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x ^ (x >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Widens to f64.
pub fn wide(data: &[f32]) -> Vec<f64> {
    data.iter().map(|v| f64::from(*v)).collect()
}

/// Panics unless max |got - want| <= bound * max |want| (and nothing is NaN); returns the ratio to the bound.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], bound: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-30);
    let (mut worst, mut at) = (0.0f64, 0);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let difference = (f64::from(*g) - w).abs();
        // NaN must not pass: it compares false with everything.
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        if difference > worst {
            (worst, at) = (difference, i);
        }
    }
    let ratio = worst / scale / bound;
    assert!(
        ratio <= 1.0,
        "{what}: element {at} is {} instead of {} (ratio to the bound {ratio:.2})",
        got[at],
        want[at]
    );
    ratio
}

/// Central differences in f64 of `loss` at `x` along each of the `indices`.
pub fn finite_differences(x: &[f64], indices: &[usize], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut probe = x.to_vec();
    indices
        .iter()
        .map(|&i| {
            probe[i] = x[i] + STEP;
            let above = loss(&probe);
            probe[i] = x[i] - STEP;
            let below = loss(&probe);
            probe[i] = x[i];
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// Up to `count` indices spread over `0..len`, the first and the last among them.
pub fn spread_indices(len: usize, count: usize) -> Vec<usize> {
    if len <= count {
        return (0..len).collect();
    }
    (0..count).map(|i| i * (len - 1) / (count - 1)).collect()
}

/// Checks a GPU gradient against finite differences of the f64 twin's `loss`, at up to 40 elements.
pub fn assert_gradient(what: &str, got: &[f32], x: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(got.len(), x.len(), "{what}: lengths");
    let indices = spread_indices(x.len(), 40);
    let want = finite_differences(x, &indices, loss);
    let picked: Vec<f32> = indices.iter().map(|&i| got[i]).collect();
    assert_close(what, &picked, &want, 2e-5);
}

/// Sum of the products: the scalar loss whose gradient with respect to `y` is `weights`.
pub fn dot(y: &[f64], weights: &[f64]) -> f64 {
    y.iter().zip(weights).map(|(a, b)| a * b).sum()
}

/// A model small enough to run in milliseconds.
pub fn tiny_config() -> ModelConfig {
    ModelConfig {
        image_size: 8,
        num_channels: 8,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        num_groups: 4,
        num_heads: 2,
        num_classes: 3,
        ..ModelConfig::default()
    }
}

/// Gives fresh weights the running statistics that training on noised images leaves: the timestep feature, the last one,
/// is spread over the chain.
pub fn as_trained_on_noise(weights: &mut Tensors) {
    for (name, value) in [("clasifier.bn_1.running_var", 83_000.0), ("clasifier.bn_1.running_mean", 500.0)] {
        *weights.get_mut(name).unwrap().data.last_mut().unwrap() = value;
    }
}

/// Fresh weights as trained on noise, on a device, none of whose layers is silent: what the reference begins at zero is small.
pub fn outspoken_weights(device: &Device, config: &ModelConfig) -> Weights {
    let model = Arc::new(JointModel::new(config).unwrap());
    let mut tensors = model.params.initial(Seed(2));
    as_trained_on_noise(&mut tensors);
    for (number, (name, tensor)) in tensors.iter_mut().enumerate() {
        if tensor.data.iter().all(|v| *v == 0.0) && !name.contains("running") {
            tensor.data = values(number as u64, tensor.data.len()).iter().map(|v| 0.1 * v).collect();
        }
    }
    pollster::block_on(Weights::upload(device, model, &tensors, None)).unwrap()
}
