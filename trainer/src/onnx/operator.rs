//! ONNX's operators (opset 17), as many as the network needs, with their attributes.

use crate::io::proto::Message;

/// The version of the operators' set.
pub const OPSET: i64 = 17;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: weights as they are stored.
    F16,
    /// 64-bit whole numbers: shapes and indices.
    I64,
    /// Bytes: pixels.
    U8,
    /// Yes or no.
    Bool,
}

impl Element {
    /// Its number in files.
    pub fn number(self) -> i64 {
        match self {
            Element::F32 => 1,
            Element::U8 => 2,
            Element::I64 => 7,
            Element::Bool => 9,
            Element::F16 => 10,
        }
    }
}

/// What a node computes. Operands are the node's inputs; those that are sizes come as constants, where ONNX has it so.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// x, weight, \[bias\]; the same stride and padding in every direction.
    Conv {
        stride: usize,
        pad: usize,
    },
    /// dy, weight: the gradient of a convolution; rows and columns at the end that the stride left out are zero.
    ConvTranspose {
        stride: usize,
        pad: usize,
        output_padding: Vec<usize>,
    },
    /// x, weight, \[bias\]; `transposed`: y = x·weightᵀ.
    Gemm {
        transposed: bool,
    },
    /// Of the last two dimensions.
    MatMul,
    Add,
    Sub,
    Mul,
    Div,
    Sqrt,
    Reciprocal,
    Sigmoid,
    Cos,
    Sin,
    /// x, least, largest.
    Clip,
    Softmax {
        axis: usize,
    },
    LeakyRelu {
        slope: f32,
    },
    /// x, scale, bias.
    InstanceNormalization {
        epsilon: f32,
    },
    /// x, scale, bias, mean, variance.
    BatchNormalization {
        epsilon: f32,
    },
    /// x, shape.
    Reshape,
    Transpose {
        order: Vec<usize>,
    },
    Concat {
        axis: usize,
    },
    /// x, lengths.
    Split {
        axis: usize,
    },
    /// Of the dimensions `axes`, which stay as ones where `keep` says so.
    ReduceMean {
        axes: Vec<usize>,
        keep: bool,
    },
    ReduceMax {
        axes: Vec<usize>,
    },
    /// x, axes, which stay as ones.
    ReduceSum,
    /// Index of the first largest value along `axis`, which stays as one.
    ArgMax {
        axis: usize,
    },
    Equal,
    Greater,
    /// condition, where it holds, where not.
    Where,
    Cast {
        to: Element,
    },
    /// Means of 2×2 pixels.
    AveragePool,
    /// x, none, scales: nearest.
    Resize,
    /// The batch N as \[1\].
    Shape,
    /// x, shape.
    Expand,
}

/// Types of attributes in files.
const FLOAT: i64 = 1;
const INT: i64 = 2;
const STRING: i64 = 3;
const INTS: i64 = 7;

/// The attributes of one node.
struct Attributes(Vec<Message>);

impl Attributes {
    fn push(&mut self, name: &str, kind: i64, value: impl FnOnce(&mut Message)) {
        let mut attribute = Message::default();
        attribute.text(1, name);
        value(&mut attribute);
        attribute.number(20, kind);
        self.0.push(attribute);
    }

    fn int(&mut self, name: &str, value: i64) {
        self.push(name, INT, |m| m.number(3, value));
    }

    fn float(&mut self, name: &str, value: f32) {
        self.push(name, FLOAT, |m| m.float(2, value));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.push(name, STRING, |m| m.text(4, value));
    }

    fn ints(&mut self, name: &str, values: &[usize]) {
        self.push(name, INTS, |m| values.iter().for_each(|value| m.number(8, *value as i64)));
    }
}

impl Operator {
    /// Its name in files.
    pub fn name(&self) -> &'static str {
        match self {
            Operator::Conv { .. } => "Conv",
            Operator::ConvTranspose { .. } => "ConvTranspose",
            Operator::Gemm { .. } => "Gemm",
            Operator::MatMul => "MatMul",
            Operator::Add => "Add",
            Operator::Sub => "Sub",
            Operator::Mul => "Mul",
            Operator::Div => "Div",
            Operator::Sqrt => "Sqrt",
            Operator::Reciprocal => "Reciprocal",
            Operator::Sigmoid => "Sigmoid",
            Operator::Cos => "Cos",
            Operator::Sin => "Sin",
            Operator::Clip => "Clip",
            Operator::Softmax { .. } => "Softmax",
            Operator::LeakyRelu { .. } => "LeakyRelu",
            Operator::InstanceNormalization { .. } => "InstanceNormalization",
            Operator::BatchNormalization { .. } => "BatchNormalization",
            Operator::Reshape => "Reshape",
            Operator::Transpose { .. } => "Transpose",
            Operator::Concat { .. } => "Concat",
            Operator::Split { .. } => "Split",
            Operator::ReduceMean { .. } => "ReduceMean",
            Operator::ReduceMax { .. } => "ReduceMax",
            Operator::ReduceSum => "ReduceSum",
            Operator::ArgMax { .. } => "ArgMax",
            Operator::Equal => "Equal",
            Operator::Greater => "Greater",
            Operator::Where => "Where",
            Operator::Cast { .. } => "Cast",
            Operator::AveragePool => "AveragePool",
            Operator::Resize => "Resize",
            Operator::Shape => "Shape",
            Operator::Expand => "Expand",
        }
    }

    /// Its attributes as messages, of a node whose first operand has `rank` dimensions.
    pub fn attributes(&self, rank: usize) -> Vec<Message> {
        let mut list = Attributes(Vec::new());
        let spatial = rank.saturating_sub(2);
        match self {
            Operator::Conv { stride, pad } => {
                list.ints("strides", &vec![*stride; spatial]);
                list.ints("pads", &vec![*pad; 2 * spatial]);
            }
            Operator::ConvTranspose { stride, pad, output_padding } => {
                list.ints("strides", &vec![*stride; spatial]);
                list.ints("pads", &vec![*pad; 2 * spatial]);
                list.ints("output_padding", output_padding);
            }
            Operator::Gemm { transposed } => list.int("transB", i64::from(*transposed)),
            Operator::Softmax { axis } | Operator::Concat { axis } | Operator::Split { axis } => {
                list.int("axis", *axis as i64);
            }
            Operator::LeakyRelu { slope } => list.float("alpha", *slope),
            Operator::InstanceNormalization { epsilon } | Operator::BatchNormalization { epsilon } => {
                list.float("epsilon", *epsilon);
            }
            Operator::Transpose { order } => list.ints("perm", order),
            Operator::ReduceMean { axes, keep } => {
                list.ints("axes", axes);
                list.int("keepdims", i64::from(*keep));
            }
            Operator::ReduceMax { axes } => {
                list.ints("axes", axes);
                list.int("keepdims", 0);
            }
            Operator::ReduceSum => list.int("keepdims", 1),
            Operator::ArgMax { axis } => {
                list.int("axis", *axis as i64);
                list.int("keepdims", 1);
            }
            Operator::Cast { to } => list.int("to", to.number()),
            Operator::AveragePool => {
                list.ints("kernel_shape", &[2, 2]);
                list.ints("strides", &[2, 2]);
            }
            Operator::Resize => {
                list.text("mode", "nearest");
                list.text("coordinate_transformation_mode", "asymmetric");
                list.text("nearest_mode", "floor");
            }
            Operator::Shape => {
                list.int("start", 0);
                list.int("end", 1);
            }
            _ => {}
        }
        list.0
    }
}
