//! A graph of ONNX operators under construction: each method adds a node and knows its shape.

use super::operator::{Element, Operator};
use duet::tensor::HostTensor;
use std::collections::HashMap;

/// A length that is the batch's, "N"; a constant shape says it as ONNX's Reshape does, which keeps the operand's length there.
pub const BATCH: usize = 0;

/// Of GroupNorm and BatchNorm.
pub const EPSILON: f32 = 1e-5;

/// A tensor of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(usize);

/// What is known of a tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape; [`BATCH`] stands for the batch.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub element: Element,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub operator: Operator,
    /// Of what; `None`: an operand that may be missing is.
    pub inputs: Vec<Option<Value>>,
    /// What it gives.
    pub outputs: Vec<Value>,
}

/// A tensor that the file holds.
#[derive(Debug)]
pub struct Constant {
    /// Which.
    pub value: Value,
    /// Its elements, row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// An input or output of the whole graph.
#[derive(Debug)]
pub struct Port {
    /// Which tensor.
    pub value: Value,
    /// What it is, for people.
    pub doc: String,
}

/// Operations in the order in which they run.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) tensors: Vec<Tensor>,
    pub(super) nodes: Vec<Node>,
    pub(super) constants: Vec<Constant>,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// Which part of the network what is added belongs to: the first part of its name.
    pub(super) scope: String,
    /// Whether weights are stored as 16-bit floats.
    half: bool,
    /// Small constants by contents.
    known: HashMap<(Element, Vec<usize>, Vec<u8>), Value>,
    /// How often a name was wanted.
    names: HashMap<String, usize>,
}

impl Graph {
    /// An empty graph; with `half` matrices and kernels are stored as 16-bit floats, and computed with as 32-bit ones.
    pub fn new(half: bool) -> Graph {
        Graph { half, ..Graph::default() }
    }

    /// What is known of a tensor.
    pub fn tensor(&self, value: Value) -> &Tensor {
        &self.tensors[value.0]
    }

    /// The shape of a tensor.
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.tensor(value).shape
    }

    /// Bytes of all constants.
    pub fn constant_bytes(&self) -> usize {
        self.constants.iter().map(|constant| constant.bytes.len()).sum()
    }

    fn declare(&mut self, name: &str, element: Element, shape: Vec<usize>) -> Value {
        let count = self.names.entry(name.to_owned()).or_default();
        *count += 1;
        let name = if *count == 1 { name.to_owned() } else { format!("{name}_{count}") };
        self.tensors.push(Tensor { name, shape, element });
        Value(self.tensors.len() - 1)
    }

    /// An input of the graph.
    pub fn input(&mut self, name: &str, element: Element, shape: &[usize], doc: &str) -> Value {
        let value = self.declare(name, element, shape.to_vec());
        self.inputs.push(Port { value, doc: doc.to_owned() });
        value
    }

    /// Makes a tensor that a node gives an output of the graph.
    pub fn output(&mut self, value: Value, name: &str, doc: &str) {
        self.tensors[value.0].name = name.to_owned();
        self.outputs.push(Port { value, doc: doc.to_owned() });
    }

    fn constant(&mut self, name: &str, element: Element, shape: &[usize], bytes: Vec<u8>) -> Value {
        let value = self.declare(name, element, shape.to_vec());
        self.constants.push(Constant { value, bytes });
        value
    }

    /// A parameter of the network, in another shape of as many numbers where one is given.
    pub fn parameter(&mut self, name: &str, tensor: &HostTensor, shape: Option<&[usize]>) -> Value {
        let shape = shape.unwrap_or(&tensor.shape);
        // Vectors are few numbers.
        if !self.half || tensor.shape.len() < 2 {
            return self.constant(name, Element::F32, shape, bytemuck::cast_slice(&tensor.data).to_vec());
        }
        let bytes = tensor.data.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        let stored = self.constant(name, Element::F16, shape, bytes);
        self.scope = name.to_owned();
        self.add_node(Operator::Cast { to: Element::F32 }, &[stored], Element::F32, shape.to_vec())
    }

    fn shared(&mut self, element: Element, shape: &[usize], bytes: Vec<u8>) -> Value {
        let key = (element, shape.to_vec(), bytes);
        if let Some(value) = self.known.get(&key) {
            return *value;
        }
        let value = self.constant("constant", element, shape, key.2.clone());
        self.known.insert(key, value);
        value
    }

    /// A small constant, which all places that need it share.
    pub fn floats(&mut self, shape: &[usize], data: &[f32]) -> Value {
        self.shared(Element::F32, shape, bytemuck::cast_slice(data).to_vec())
    }

    /// One number.
    pub fn number(&mut self, value: f32) -> Value {
        self.floats(&[], &[value])
    }

    /// Whole numbers of the shape \[their count\]: lengths, axes.
    pub fn lengths(&mut self, data: &[usize]) -> Value {
        let bytes = data.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect();
        self.shared(Element::I64, &[data.len()], bytes)
    }

    /// Whole numbers from 0 of any shape.
    pub fn counting(&mut self, shape: &[usize]) -> Value {
        let count = shape.iter().product::<usize>() as i64;
        self.shared(Element::I64, shape, (0..count).flat_map(i64::to_le_bytes).collect())
    }

    fn add_named(
        &mut self,
        operator: Operator,
        inputs: Vec<Option<Value>>,
        outputs: Vec<(Element, Vec<usize>)>,
    ) -> Vec<Value> {
        let name = format!("{}/{}", self.scope, operator.name());
        let outputs: Vec<Value> =
            outputs.into_iter().map(|(element, shape)| self.declare(&name, element, shape)).collect();
        self.nodes.push(Node { operator, inputs, outputs: outputs.clone() });
        outputs
    }

    fn add_node(
        &mut self,
        operator: Operator,
        inputs: &[Value],
        element: Element,
        shape: Vec<usize>,
    ) -> Value {
        let inputs = inputs.iter().copied().map(Some).collect();
        self.add_named(operator, inputs, vec![(element, shape)])[0]
    }

    /// A node whose result is of the shape and type of its first operand.
    fn like(&mut self, operator: Operator, inputs: &[Value]) -> Value {
        let Tensor { shape, element, .. } = self.tensor(inputs[0]).clone();
        self.add_node(operator, inputs, element, shape)
    }

    /// Element by element, lengths of one repeated as often as the other operand is long.
    fn broadcast(&mut self, operator: Operator, a: Value, b: Value) -> Value {
        let shape = broadcast(self.shape(a), self.shape(b));
        let element = match operator {
            Operator::Equal | Operator::Greater => Element::Bool,
            _ => self.tensor(a).element,
        };
        self.add_node(operator, &[a, b], element, shape)
    }

    /// a + b.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.broadcast(Operator::Add, a, b)
    }

    /// a − b.
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.broadcast(Operator::Sub, a, b)
    }

    /// a · b.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.broadcast(Operator::Mul, a, b)
    }

    /// a / b.
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.broadcast(Operator::Div, a, b)
    }

    /// x · factor.
    pub fn scale(&mut self, x: Value, factor: f32) -> Value {
        let factor = self.number(factor);
        self.mul(x, factor)
    }

    /// 1 − x.
    pub fn one_minus(&mut self, x: Value) -> Value {
        let one = self.number(1.0);
        self.sub(one, x)
    }

    /// Whether a = b.
    pub fn equal(&mut self, a: Value, b: Value) -> Value {
        self.broadcast(Operator::Equal, a, b)
    }

    /// Whether a > b.
    pub fn greater(&mut self, a: Value, b: Value) -> Value {
        self.broadcast(Operator::Greater, a, b)
    }

    /// `yes` where the condition holds, else `no`.
    pub fn select(&mut self, condition: Value, yes: Value, no: Value) -> Value {
        let Tensor { shape, element, .. } = self.tensor(yes).clone();
        self.add_node(Operator::Where, &[condition, yes, no], element, shape)
    }

    /// Elements of another type.
    pub fn cast(&mut self, x: Value, to: Element) -> Value {
        let shape = self.shape(x).to_vec();
        self.add_node(Operator::Cast { to }, &[x], to, shape)
    }

    /// √x.
    pub fn sqrt(&mut self, x: Value) -> Value {
        self.like(Operator::Sqrt, &[x])
    }

    /// 1 / x.
    pub fn reciprocal(&mut self, x: Value) -> Value {
        self.like(Operator::Reciprocal, &[x])
    }

    /// 1 / (1 + e^−x).
    pub fn sigmoid(&mut self, x: Value) -> Value {
        self.like(Operator::Sigmoid, &[x])
    }

    /// x · sigmoid(x).
    pub fn silu(&mut self, x: Value) -> Value {
        let gate = self.sigmoid(x);
        self.mul(x, gate)
    }

    /// Cosine and sine.
    pub fn cos_sin(&mut self, x: Value) -> [Value; 2] {
        [self.like(Operator::Cos, &[x]), self.like(Operator::Sin, &[x])]
    }

    /// x, but at least and at most these.
    pub fn clip(&mut self, x: Value, least: f32, largest: f32) -> Value {
        let bounds = [self.number(least), self.number(largest)];
        self.like(Operator::Clip, &[x, bounds[0], bounds[1]])
    }

    /// Along the last dimension.
    pub fn softmax(&mut self, x: Value) -> Value {
        let axis = self.shape(x).len() - 1;
        self.like(Operator::Softmax { axis }, &[x])
    }

    /// x, or slope · x of negative x.
    pub fn leaky_relu(&mut self, x: Value, slope: f32) -> Value {
        self.like(Operator::LeakyRelu { slope }, &[x])
    }

    /// Each channel of x \[N,G,D\] normalised over D.
    pub fn instance_normalization(&mut self, x: Value) -> Value {
        let groups = self.shape(x)[1];
        let scale = self.floats(&[groups], &vec![1.0; groups]);
        let bias = self.floats(&[groups], &vec![0.0; groups]);
        self.like(Operator::InstanceNormalization { epsilon: EPSILON }, &[x, scale, bias])
    }

    /// x \[N,F\] by running statistics; scale, bias, mean, variance \[F\].
    pub fn batch_normalization(&mut self, x: Value, [scale, bias, mean, variance]: [Value; 4]) -> Value {
        self.like(Operator::BatchNormalization { epsilon: EPSILON }, &[x, scale, bias, mean, variance])
    }

    /// Convolution of x \[N,C,…\] with weight \[K,C,…\] whose kernel's middle is its centre.
    pub fn conv(&mut self, x: Value, weight: Value, bias: Value, stride: usize) -> Value {
        let (input, kernel) = (self.shape(x).to_vec(), self.shape(weight).to_vec());
        let pad = kernel[2] / 2;
        let mut shape = vec![input[0], kernel[0]];
        shape.extend(input[2..].iter().zip(&kernel[2..]).map(|(n, k)| (n + 2 * pad - k) / stride + 1));
        self.add_node(Operator::Conv { stride, pad }, &[x, weight, bias], Element::F32, shape)
    }

    /// The gradient of a convolution's operand of the shape `input` from that of its result.
    pub fn conv_transpose(
        &mut self,
        dy: Value,
        weight: Value,
        stride: usize,
        pad: usize,
        input: &[usize],
    ) -> Value {
        let (output, kernel) = (self.shape(dy)[2..].to_vec(), self.shape(weight)[2..].to_vec());
        let reached = output.iter().zip(&kernel).map(|(n, k)| (n - 1) * stride + k - 2 * pad);
        let output_padding = input[2..].iter().zip(reached).map(|(n, reached)| n - reached).collect();
        let operator = Operator::ConvTranspose { stride, pad, output_padding };
        self.add_node(operator, &[dy, weight], Element::F32, input.to_vec())
    }

    /// x·weightᵀ + bias, or x·weight, of x \[N,F\].
    pub fn gemm(&mut self, x: Value, weight: Value, bias: Option<Value>, transposed: bool) -> Value {
        let columns = self.shape(weight)[usize::from(!transposed)];
        let shape = vec![self.shape(x)[0], columns];
        let inputs: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        self.add_node(Operator::Gemm { transposed }, &inputs, Element::F32, shape)
    }

    /// a·b over the last two dimensions.
    pub fn matmul(&mut self, a: Value, b: Value) -> Value {
        let mut shape = self.shape(a).to_vec();
        let last = shape.len() - 1;
        shape[last] = self.shape(b)[last];
        self.add_node(Operator::MatMul, &[a, b], Element::F32, shape)
    }

    /// Dimensions in another order.
    pub fn transpose(&mut self, x: Value, order: &[usize]) -> Value {
        let Tensor { shape, element, .. } = self.tensor(x).clone();
        let shape = order.iter().map(|axis| shape[*axis]).collect();
        self.add_node(Operator::Transpose { order: order.to_vec() }, &[x], element, shape)
    }

    /// The last two dimensions exchanged.
    pub fn flip(&mut self, x: Value) -> Value {
        let mut order: Vec<usize> = (0..self.shape(x).len()).collect();
        let last = order.len() - 1;
        order.swap(last - 1, last);
        self.transpose(x, &order)
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: Value, shape: &[usize]) -> Value {
        let element = self.tensor(x).element;
        let lengths = self.lengths(shape);
        self.add_node(Operator::Reshape, &[x, lengths], element, shape.to_vec())
    }

    /// Side by side along `axis`.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Value {
        let mut shape = self.shape(parts[0]).to_vec();
        shape[axis] = parts.iter().map(|part| self.shape(*part)[axis]).sum();
        self.add_node(Operator::Concat { axis }, parts, Element::F32, shape)
    }

    /// Parts of these lengths along `axis`.
    pub fn split(&mut self, x: Value, axis: usize, lengths: &[usize]) -> Vec<Value> {
        let shape = self.shape(x).to_vec();
        let outputs = lengths.iter().map(|length| {
            let mut part = shape.clone();
            part[axis] = *length;
            (Element::F32, part)
        });
        let outputs = outputs.collect();
        let lengths = self.lengths(lengths);
        self.add_named(Operator::Split { axis }, vec![Some(x), Some(lengths)], outputs)
    }

    /// Mean over `axes`, which stay as ones where `keep` says so.
    pub fn mean(&mut self, x: Value, axes: &[usize], keep: bool) -> Value {
        let shape = reduced(self.shape(x), axes, keep);
        self.add_node(Operator::ReduceMean { axes: axes.to_vec(), keep }, &[x], Element::F32, shape)
    }

    /// Maximum over `axes`, which go.
    pub fn max(&mut self, x: Value, axes: &[usize]) -> Value {
        let shape = reduced(self.shape(x), axes, false);
        self.add_node(Operator::ReduceMax { axes: axes.to_vec() }, &[x], Element::F32, shape)
    }

    /// Sum over the last dimension, which stays as one.
    pub fn sum(&mut self, x: Value) -> Value {
        let axis = self.shape(x).len() - 1;
        let shape = reduced(self.shape(x), &[axis], true);
        let axes = self.lengths(&[axis]);
        self.add_node(Operator::ReduceSum, &[x, axes], Element::F32, shape)
    }

    /// Where along the last dimension, which stays as one, the first largest value is.
    pub fn arg_max(&mut self, x: Value) -> Value {
        let axis = self.shape(x).len() - 1;
        let shape = reduced(self.shape(x), &[axis], true);
        self.add_node(Operator::ArgMax { axis }, &[x], Element::I64, shape)
    }

    /// Means of 2×2 pixels of x \[N,C,H,W\].
    pub fn average_pool(&mut self, x: Value) -> Value {
        let shape = self.shape(x).iter().enumerate().map(|(i, n)| if i < 2 { *n } else { n / 2 }).collect();
        self.add_node(Operator::AveragePool, &[x], Element::F32, shape)
    }

    /// Every pixel of x \[N,C,H,W\] as 2×2.
    pub fn upsample(&mut self, x: Value) -> Value {
        let shape = self.shape(x).iter().enumerate().map(|(i, n)| if i < 2 { *n } else { n * 2 }).collect();
        let scales = self.floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
        self.add_named(Operator::Resize, vec![Some(x), None, Some(scales)], vec![(Element::F32, shape)])[0]
    }

    /// One number for each image of `like` \[N,…\].
    pub fn for_each_image(&mut self, value: f32, like: Value) -> Value {
        let batch = self.add_node(Operator::Shape, &[like], Element::I64, vec![1]);
        let value = self.floats(&[1], &[value]);
        self.add_node(Operator::Expand, &[value, batch], Element::F32, vec![BATCH])
    }
}

fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let lengths = shape.iter().enumerate();
    if keep {
        return lengths.map(|(axis, n)| if axes.contains(&axis) { 1 } else { *n }).collect();
    }
    lengths.filter(|(axis, _)| !axes.contains(axis)).map(|(_, n)| *n).collect()
}

/// The shape of what is computed element by element.
fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let ones = long.len() - short.len();
    let length = |(i, n): (usize, &usize)| match i.checked_sub(ones).map(|i| short[i]) {
        Some(other) if *n == 1 => other,
        _ => *n,
    };
    long.iter().enumerate().map(length).collect()
}
