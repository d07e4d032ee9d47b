//! Reverse-mode differentiation of a graph of ONNX operators. ONNX has none of its own: the way back is nodes as well.

use super::graph::{EPSILON, Graph, Node, Value};
use super::operator::{Element, Operator};
use duet::{Error, Result};
use std::collections::{HashMap, HashSet};

impl Graph {
    /// Total derivatives with respect to `targets` of a number whose gradient with respect to `y` is `dy`. Only what these
    /// targets need is added.
    ///
    /// # Errors
    /// Where a target does not influence `y`, or an operator on the way has no gradient here.
    pub fn gradients(&mut self, y: Value, dy: Value, targets: &[Value]) -> Result<Vec<Value>> {
        let scope = std::mem::take(&mut self.scope);
        let mut wanted: HashSet<Value> = targets.iter().copied().collect();
        for node in &self.nodes {
            if node.inputs.iter().flatten().any(|input| wanted.contains(input)) {
                wanted.extend(&node.outputs);
            }
        }
        let mut gradients = HashMap::from([(y, dy)]);
        for node in self.nodes.clone().into_iter().rev() {
            let upstream: Option<Vec<Value>> =
                node.outputs.iter().map(|output| gradients.get(output).copied()).collect();
            let Some(upstream) = upstream else { continue };
            self.scope = format!("gradient/{}", self.tensor(node.outputs[0]).name);
            for (input, part) in self.pull_back(&node, &upstream, &wanted)? {
                let total = match gradients.get(&input) {
                    Some(sum) => self.add(*sum, part),
                    None => part,
                };
                gradients.insert(input, total);
            }
        }
        self.scope = scope;
        let found = |target: &Value| {
            gradients.get(target).copied().ok_or_else(|| {
                let name = &self.tensor(*target).name;
                Error::shape("onnx", format!("{name} does not influence what is differentiated"))
            })
        };
        targets.iter().map(found).collect()
    }

    /// The parts that flow to the wanted operands of a node, given the gradients of its results.
    fn pull_back(
        &mut self,
        node: &Node,
        upstream: &[Value],
        wanted: &HashSet<Value>,
    ) -> Result<Vec<(Value, Value)>> {
        let inputs: Vec<Value> = node.inputs.iter().flatten().copied().collect();
        let (y, dy) = (node.outputs[0], upstream[0]);
        // The pieces of a concatenation are cut in one go.
        if let Operator::Concat { axis } = node.operator {
            let lengths: Vec<usize> = inputs.iter().map(|input| self.shape(*input)[axis]).collect();
            let parts = self.split(dy, axis, &lengths);
            return Ok(inputs.into_iter().zip(parts).filter(|(input, _)| wanted.contains(input)).collect());
        }
        let mut list = Vec::new();
        for (position, x) in inputs.iter().copied().enumerate().filter(|(_, input)| wanted.contains(input)) {
            let other = |at: usize| inputs[at];
            let part = match (&node.operator, position) {
                (Operator::Add, _) | (Operator::Sub, 0) => dy,
                (Operator::Mul, _) => self.mul(dy, other(1 - position)),
                (Operator::Sigmoid, _) => {
                    let rest = self.one_minus(y);
                    let slope = self.mul(y, rest);
                    self.mul(dy, slope)
                }
                (Operator::LeakyRelu { slope }, _) => {
                    let zero = self.number(0.0);
                    let (positive, less) = (self.greater(x, zero), self.scale(dy, *slope));
                    self.select(positive, dy, less)
                }
                (Operator::Softmax { .. }, _) => {
                    let weighed = self.mul(dy, y);
                    let sum = self.sum(weighed);
                    let centred = self.sub(dy, sum);
                    self.mul(y, centred)
                }
                (Operator::InstanceNormalization { .. }, 0) => self.normalization_gradient(x, y, dy),
                (Operator::BatchNormalization { epsilon }, 0) => {
                    let epsilon = self.number(*epsilon);
                    let variance = self.add(other(4), epsilon);
                    let deviation = self.sqrt(variance);
                    let slope = self.div(other(1), deviation);
                    self.mul(dy, slope)
                }
                (Operator::Conv { stride, pad }, 0) => {
                    let shape = self.shape(x).to_vec();
                    self.conv_transpose(dy, other(1), *stride, *pad, &shape)
                }
                (Operator::Gemm { transposed }, 0) => self.gemm(dy, other(1), None, !transposed),
                (Operator::MatMul, 0) => {
                    let flipped = self.flip(other(1));
                    self.matmul(dy, flipped)
                }
                (Operator::MatMul, _) => {
                    let flipped = self.flip(other(0));
                    self.matmul(flipped, dy)
                }
                (Operator::Reshape, 0) => {
                    let shape = self.shape(x).to_vec();
                    self.reshape(dy, &shape)
                }
                (Operator::Transpose { order }, _) => {
                    let mut back = vec![0; order.len()];
                    order.iter().enumerate().for_each(|(to, from)| back[*from] = to);
                    self.transpose(dy, &back)
                }
                (Operator::Split { axis }, 0) => self.concat(upstream, *axis),
                (Operator::AveragePool, _) => {
                    let quarter = self.scale(dy, 0.25);
                    self.upsample(quarter)
                }
                (Operator::ReduceMean { axes, keep: false }, _) if axes == &[2, 3] => {
                    self.mean_gradient(x, dy)
                }
                (Operator::ReduceMax { axes }, _) if axes == &[2, 3] => self.max_gradient(x, dy),
                (operator, _) => {
                    let detail = format!("{operator:?} has no gradient for its operand {position}");
                    return Err(Error::shape("onnx", detail));
                }
            };
            if self.shape(part) != self.shape(x) {
                let shapes = [self.shape(part), self.shape(x)];
                let detail =
                    format!("the gradient of {:?} repeats what is broadcast: {shapes:?}", node.operator);
                return Err(Error::shape("onnx", detail));
            }
            list.push((x, part));
        }
        Ok(list)
    }

    /// Of x \[N,G,D\] normalised to y: (dy − mean of dy − y · mean of dy·y) / √(variance + ε).
    fn normalization_gradient(&mut self, x: Value, y: Value, dy: Value) -> Value {
        let mean = self.mean(x, &[2], true);
        let centred = self.sub(x, mean);
        let squares = self.mul(centred, centred);
        let variance = self.mean(squares, &[2], true);
        let epsilon = self.number(EPSILON);
        let variance = self.add(variance, epsilon);
        let deviation = self.sqrt(variance);
        let slope = self.reciprocal(deviation);
        let projected = self.mul(dy, y);
        let (along, level) = (self.mean(projected, &[2], true), self.mean(dy, &[2], true));
        let along = self.mul(y, along);
        let rest = self.sub(dy, level);
        let rest = self.sub(rest, along);
        self.mul(rest, slope)
    }

    /// Of the mean over all pixels of x \[N,C,H,W\]: to every pixel its share of dy \[N,C\].
    fn mean_gradient(&mut self, x: Value, dy: Value) -> Value {
        let [n, c, h, w] = self.image(x);
        let dy = self.reshape(dy, &[n, c, 1, 1]);
        let share = self.floats(&[1, 1, h, w], &vec![1.0 / (h * w) as f32; h * w]);
        self.mul(dy, share)
    }

    /// Of the maximum over all pixels: all of it to the first pixel that attains it.
    fn max_gradient(&mut self, x: Value, dy: Value) -> Value {
        let [n, c, h, w] = self.image(x);
        let flat = self.reshape(x, &[n, c, h * w]);
        let (first, pixels) = (self.arg_max(flat), self.counting(&[1, 1, h * w]));
        let here = self.equal(pixels, first);
        let here = self.cast(here, Element::F32);
        let dy = self.reshape(dy, &[n, c, 1]);
        let spread = self.mul(here, dy);
        self.reshape(spread, &[n, c, h, w])
    }

    /// The lengths of \[N,C,H,W\].
    pub fn image(&self, x: Value) -> [usize; 4] {
        std::array::from_fn(|axis| self.shape(x)[axis])
    }
}
