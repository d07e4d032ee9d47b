//! Runs ONNX files in plain loops of f64: the operators as their documentation has them, as many as the program writes.

use super::reader::{Attribute, Constant, Length, Model, Node};
use std::collections::BTreeMap;

/// A tensor; numbers of any type as f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// The index of each element along each dimension, first to last.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product()).map(move |mut flat: usize| {
        let mut index = vec![0; shape.len()];
        for (axis, length) in shape.iter().enumerate().rev() {
            index[axis] = flat % length;
            flat /= length;
        }
        index
    })
}

impl Array {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Array {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{shape:?}");
        Array { shape: shape.to_vec(), data }
    }

    fn made(shape: Vec<usize>, value: impl FnMut(Vec<usize>) -> f64) -> Array {
        let data = indices(&shape).map(value).collect();
        Array { shape, data }
    }

    fn at(&self, index: &[usize]) -> f64 {
        let flat = index.iter().zip(&self.shape).fold(0, |flat, (i, n)| {
            assert!(i < n, "{index:?} of {:?}", self.shape);
            flat * n + i
        });
        self.data[flat]
    }

    /// The element which broadcasting puts at `index`.
    fn repeated(&self, index: &[usize]) -> f64 {
        let own = &index[index.len() - self.shape.len()..];
        let own: Vec<usize> =
            own.iter().zip(&self.shape).map(|(i, n)| if *n == 1 { 0 } else { *i }).collect();
        self.at(&own)
    }

    fn lengths(&self) -> Vec<usize> {
        self.data.iter().map(|v| *v as usize).collect()
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|v| f(*v)).collect() }
    }
}

fn broadcast(shapes: &[&[usize]]) -> Vec<usize> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap();
    (0..rank)
        .map(|axis| {
            let lengths = shapes.iter().filter_map(|s| (axis + s.len()).checked_sub(rank).map(|i| s[i]));
            let lengths: Vec<usize> = lengths.filter(|length| *length != 1).collect();
            assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{shapes:?}");
            lengths.first().copied().unwrap_or(1)
        })
        .collect()
}

fn binary(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
    Array::made(broadcast(&[&a.shape, &b.shape]), |i| f(a.repeated(&i), b.repeated(&i)))
}

/// Folds over `axes`.
fn reduce(x: &Array, axes: &[usize], keep: bool, from: f64, f: impl Fn(f64, f64) -> f64) -> Array {
    let ones: Vec<usize> =
        x.shape.iter().enumerate().map(|(a, n)| if axes.contains(&a) { 1 } else { *n }).collect();
    let mut made = Array::made(ones.clone(), |_| from);
    for (index, value) in indices(&x.shape).zip(&x.data) {
        let flat = index.iter().zip(&ones).fold(0, |flat, (i, n)| flat * n + if *n == 1 { 0 } else { *i });
        made.data[flat] = f(made.data[flat], *value);
    }
    if !keep {
        let shape = x.shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
        made.shape = shape.map(|(_, n)| *n).collect();
    }
    made
}

/// y[n, k, o] = Σ x[n, c, s·o + u − pad]·w[k, c, u], or scattered the other way round.
fn convolution(x: &Array, w: &Array, bias: Option<&Array>, node: &Node, back: bool) -> Array {
    let (strides, pads) = (&node.attributes["strides"].ints, &node.attributes["pads"].ints);
    let spatial = x.shape.len() - 2;
    let kernel = &w.shape[2..];
    let sizes: Vec<usize> = (0..spatial)
        .map(|a| {
            let (n, s, p, k) = (x.shape[2 + a], strides[a], pads[a] + pads[spatial + a], kernel[a]);
            match back {
                true => s * (n - 1) + node.attributes["output_padding"].ints[a] + k - p,
                false => (n + p - k) / s + 1,
            }
        })
        .collect();
    let channels = w.shape[usize::from(back)];
    let mut shape = vec![x.shape[0], channels];
    shape.extend(&sizes);
    let mut y = Array::made(shape.clone(), |i| bias.map_or(0.0, |bias| bias.data[i[1]]));
    // Whichever way, pairs of a place `small` in the tensor that stride made smaller and `large` in the other one.
    let (small, large) = if back { (&x.shape, &shape) } else { (&shape, &x.shape) };
    let (outer, inner) = (w.shape[0], w.shape[1]);
    for place in indices(&small[2..]) {
        for tap in indices(kernel) {
            let there: Option<Vec<usize>> = (0..spatial)
                .map(|a| (place[a] * strides[a] + tap[a]).checked_sub(pads[a]).filter(|i| *i < large[2 + a]))
                .collect();
            let Some(there) = there else { continue };
            let flat =
                |index: &[usize], sizes: &[usize]| index.iter().zip(sizes).fold(0, |f, (i, n)| f * n + i);
            let (here, there) = (flat(&place, &small[2..]), flat(&there, &large[2..]));
            let areas = [small[2..].iter().product::<usize>(), large[2..].iter().product()];
            let (taps, tap) = (kernel.iter().product::<usize>(), flat(&tap, kernel));
            for n in 0..x.shape[0] {
                for k in 0..outer {
                    for c in 0..inner {
                        let weight = w.data[(k * inner + c) * taps + tap];
                        let at = [(n * outer + k) * areas[0] + here, (n * inner + c) * areas[1] + there];
                        let [to, from] = if back { [at[1], at[0]] } else { at };
                        y.data[to] += weight * x.data[from];
                    }
                }
            }
        }
    }
    y
}

fn matmul(a: &Array, b: &Array) -> Array {
    let rank = a.shape.len();
    let mut shape = a.shape.clone();
    shape[rank - 1] = b.shape[rank - 1];
    Array::made(shape, |index| {
        let (mut left, mut right) = (index.clone(), index);
        (0..a.shape[rank - 1])
            .map(|k| {
                left[rank - 1] = k;
                right[rank - 2] = k;
                a.at(&left) * b.at(&right)
            })
            .sum()
    })
}

fn normalized(x: &Array, mean: &Array, variance: &Array, epsilon: f32) -> Array {
    Array::made(x.shape.clone(), |i| {
        (x.at(&i) - mean.repeated(&i)) / (variance.repeated(&i) + f64::from(epsilon)).sqrt()
    })
}

fn run(node: &Node, inputs: &[Option<&Array>]) -> Vec<Array> {
    let input = |position: usize| inputs[position].unwrap();
    let attribute = |name: &str| node.attributes.get(name).cloned().unwrap_or_else(Attribute::default);
    let (axis, x) = (attribute("axis").int as usize, input(0));
    let column = |a: &Array| Array::new(&[a.data.len(), 1], a.data.clone());
    let one = match node.operator.as_str() {
        "Conv" => convolution(x, input(1), inputs.get(2).copied().flatten(), node, false),
        "ConvTranspose" => convolution(x, input(1), None, node, true),
        "Gemm" => {
            let order = |w: &Array| Array::made(vec![w.shape[1], w.shape[0]], |i| w.at(&[i[1], i[0]]));
            let product = match attribute("transB").int {
                1 => matmul(x, &order(input(1))),
                _ => matmul(x, input(1)),
            };
            match inputs.get(2) {
                Some(bias) => binary(&product, bias.unwrap(), |a, b| a + b),
                None => product,
            }
        }
        "MatMul" => matmul(x, input(1)),
        "Add" => binary(x, input(1), |a, b| a + b),
        "Sub" => binary(x, input(1), |a, b| a - b),
        "Mul" => binary(x, input(1), |a, b| a * b),
        "Div" => binary(x, input(1), |a, b| a / b),
        "Equal" => binary(x, input(1), |a, b| f64::from(u8::from(a == b))),
        "Greater" => binary(x, input(1), |a, b| f64::from(u8::from(a > b))),
        "Where" => Array::made(broadcast(&[&x.shape, &input(1).shape, &input(2).shape]), |i| {
            if x.repeated(&i) != 0.0 { input(1).repeated(&i) } else { input(2).repeated(&i) }
        }),
        "Sqrt" => x.map(f64::sqrt),
        "Reciprocal" => x.map(f64::recip),
        "Sigmoid" => x.map(|v| 1.0 / (1.0 + (-v).exp())),
        "Cos" => x.map(f64::cos),
        "Sin" => x.map(f64::sin),
        "Clip" => x.map(|v| v.max(input(1).data[0]).min(input(2).data[0])),
        "LeakyRelu" => x.map(|v| if v < 0.0 { f64::from(attribute("alpha").float) * v } else { v }),
        "Cast" => x.clone(),
        "Softmax" => {
            let largest = reduce(x, &[axis], true, f64::MIN, f64::max);
            let powers = binary(x, &largest, |a, b| (a - b).exp());
            binary(&powers, &reduce(&powers, &[axis], true, 0.0, |a, b| a + b), |a, b| a / b)
        }
        "InstanceNormalization" => {
            let axes: Vec<usize> = (2..x.shape.len()).collect();
            let count = x.shape[2..].iter().product::<usize>() as f64;
            let mean = reduce(x, &axes, true, 0.0, |a, b| a + b).map(|sum| sum / count);
            let squares = binary(x, &mean, |a, b| (a - b) * (a - b));
            let variance = reduce(&squares, &axes, true, 0.0, |a, b| a + b).map(|sum| sum / count);
            let y = normalized(x, &mean, &variance, attribute("epsilon").float);
            let y = binary(&y, &column(input(1)), |a, b| a * b);
            binary(&y, &column(input(2)), |a, b| a + b)
        }
        "BatchNormalization" => {
            let y = normalized(x, input(3), input(4), attribute("epsilon").float);
            binary(&binary(&y, input(1), |a, b| a * b), input(2), |a, b| a + b)
        }
        "Reshape" => {
            let shape = input(1).lengths();
            let shape: Vec<usize> =
                shape.iter().enumerate().map(|(i, n)| if *n == 0 { x.shape[i] } else { *n }).collect();
            Array::new(&shape, x.data.clone())
        }
        "Transpose" => {
            let order = attribute("perm").ints;
            Array::made(order.iter().map(|a| x.shape[*a]).collect(), |index| {
                let mut from = vec![0; order.len()];
                order.iter().zip(index).for_each(|(axis, i)| from[*axis] = i);
                x.at(&from)
            })
        }
        "Concat" => {
            let mut shape = x.shape.clone();
            shape[axis] = (0..inputs.len()).map(|part| input(part).shape[axis]).sum();
            Array::made(shape, |mut index| {
                let mut part = 0;
                while index[axis] >= input(part).shape[axis] {
                    index[axis] -= input(part).shape[axis];
                    part += 1;
                }
                input(part).at(&index)
            })
        }
        "Split" => {
            let mut start = 0;
            let parts = input(1).lengths().into_iter().map(|length| {
                let mut shape = x.shape.clone();
                shape[axis] = length;
                let part = Array::made(shape, |mut index| {
                    index[axis] += start;
                    x.at(&index)
                });
                start += length;
                part
            });
            return parts.collect();
        }
        "ReduceMean" => {
            let axes = attribute("axes").ints;
            let count = axes.iter().map(|axis| x.shape[*axis]).product::<usize>() as f64;
            reduce(x, &axes, attribute("keepdims").int == 1, 0.0, |a, b| a + b).map(|sum| sum / count)
        }
        "ReduceMax" => reduce(x, &attribute("axes").ints, attribute("keepdims").int == 1, f64::MIN, f64::max),
        "ReduceSum" => reduce(x, &input(1).lengths(), attribute("keepdims").int == 1, 0.0, |a, b| a + b),
        "ArgMax" => {
            assert!(axis == x.shape.len() - 1 && attribute("keepdims").int == 1);
            let rows = x.data.chunks(x.shape[axis]).map(|row| {
                (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as f64
            });
            let mut shape = x.shape.clone();
            shape[axis] = 1;
            Array::new(&shape, rows.collect())
        }
        "AveragePool" => {
            assert_eq!([attribute("kernel_shape").ints, attribute("strides").ints], [[2, 2], [2, 2]]);
            let shape = vec![x.shape[0], x.shape[1], x.shape[2] / 2, x.shape[3] / 2];
            Array::made(shape, |i| {
                let at = |u, v| x.at(&[i[0], i[1], 2 * i[2] + u, 2 * i[3] + v]);
                (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0
            })
        }
        "Resize" => {
            let how =
                ["mode", "coordinate_transformation_mode", "nearest_mode"].map(|name| attribute(name).text);
            assert_eq!(how, ["nearest", "asymmetric", "floor"]);
            let scales = input(2).lengths();
            let shape = x.shape.iter().zip(&scales).map(|(n, scale)| n * scale).collect();
            Array::made(shape, |i| {
                let from: Vec<usize> = i.iter().zip(&scales).map(|(i, scale)| i / scale).collect();
                x.at(&from)
            })
        }
        "Shape" => {
            let [start, end] = ["start", "end"].map(|name| attribute(name).int as usize);
            let lengths = x.shape[start..end].iter().map(|n| *n as f64);
            Array::new(&[end - start], lengths.collect())
        }
        "Expand" => Array::made(broadcast(&[&x.shape, &input(1).lengths()]), |i| x.repeated(&i)),
        other => panic!("unknown operator {other}"),
    };
    vec![one]
}

/// The outputs of a file by name. What it says of every tensor's shape must be so.
pub fn evaluate(model: &Model, inputs: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let constant = |(name, c): (&String, &Constant)| (name.clone(), Array::new(&c.shape, c.data.clone()));
    let mut values: BTreeMap<String, Array> = model.constants.iter().map(constant).collect();
    let batch = inputs.values().next().unwrap().shape[0];
    let names: Vec<&String> = model.inputs.iter().map(|(name, _)| name).collect();
    assert_eq!(inputs.len(), names.len(), "{names:?}");
    for name in names {
        values.insert(name.clone(), inputs[name].clone());
    }
    for node in &model.nodes {
        let operands: Vec<Option<&Array>> = node
            .inputs
            .iter()
            .map(|name| {
                (!name.is_empty()).then(|| values.get(name).unwrap_or_else(|| panic!("{name} comes later")))
            })
            .collect();
        let made = run(node, &operands);
        assert_eq!(made.len(), node.outputs.len(), "{node:?}");
        for (name, array) in node.outputs.iter().zip(made) {
            assert!(values.insert(name.clone(), array).is_none(), "{name} is made twice");
        }
    }
    let ports = model.inputs.iter().chain(&model.outputs).map(|(name, declared)| (name, declared));
    for (name, declared) in ports.chain(&model.inner) {
        let length = |length: &Length| match length {
            Length::Fixed(length) => *length,
            Length::Named(name) => {
                assert_eq!(name, "N");
                batch
            }
        };
        let shape: Vec<usize> = declared.shape.iter().map(length).collect();
        assert_eq!(values[name].shape, shape, "{name}");
    }
    model.outputs.iter().map(|(name, _)| (name.clone(), values[name].clone())).collect()
}
