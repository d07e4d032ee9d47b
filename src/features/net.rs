//! What networks of features are built of: layers by their names in PyTorch's `state_dict`, and where their weights lie.

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Place};
use crate::ops::conv2d::Window;
use crate::tensor::{HostTensor, Tensors, device_bytes, pitch};
use std::path::Path;

/// Most bytes of one buffer of weights; a larger tensor has its own.
const CHUNK_BYTES: u64 = 64 << 20;
/// Where a binding may begin.
const ALIGNMENT: u64 = 256;
/// What BatchNorm adds to variances in torchvision's Inception.
const EPSILON: f64 = 1e-3;

/// What stands beside a layer's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// BatchNorm with running statistics, which becomes part of the weight and its bias: names `NAME.conv.weight`,
    /// `NAME.bn.…`.
    Norm,
    /// A bias.
    Bias,
    /// A bias that is not used.
    UnusedBias,
}

/// A convolution or a linear layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub name: String,
    pub in_channels: usize,
    pub out_channels: usize,
    /// What of the input a value of the output sees, \[height, width\].
    pub kernel: [usize; 2],
    /// Whether it is linear: its weight is stored without the kernel's dimensions.
    pub linear: bool,
    pub beside: Beside,
}

impl Layer {
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Names and shapes in the `state_dict`, the weight first.
    pub fn state(&self) -> Vec<(String, Vec<usize>)> {
        let Layer { name, in_channels, out_channels, kernel, .. } = self;
        let shape = match self.linear {
            true => vec![*out_channels, in_channels * self.taps()],
            false => vec![*out_channels, *in_channels, kernel[0], kernel[1]],
        };
        match self.beside {
            Beside::Norm => {
                let parts = ["weight", "bias", "running_mean", "running_var"];
                let beside = parts.map(|part| (format!("{name}.bn.{part}"), vec![*out_channels]));
                [(format!("{name}.conv.weight"), shape)].into_iter().chain(beside).collect()
            }
            Beside::Bias | Beside::UnusedBias => {
                vec![(format!("{name}.weight"), shape), (format!("{name}.bias"), vec![*out_channels])]
            }
        }
    }

    /// The weight's values, the factor of each output, and its bias.
    fn values<'t>(&self, tensors: &'t Tensors) -> Result<(&'t [f32], Vec<f32>, Vec<f32>)> {
        let mut found = Vec::new();
        for (name, shape) in self.state() {
            let full = |t: &&HostTensor| t.shape == shape && t.data.len() == shape.iter().product::<usize>();
            let tensor = tensors.get(&name).filter(full).ok_or_else(|| {
                let detail = format!("`{name}` must be there and {shape:?}");
                Error::Checkpoint { path: Path::new("(in memory)").into(), detail }
            })?;
            found.push(tensor.data.as_slice());
        }
        let ones = vec![1.0; self.out_channels];
        Ok(match *found.as_slice() {
            [weight, gamma, beta, mean, variance] => {
                let norm = gamma.iter().zip(beta).zip(mean).zip(variance);
                let (factors, biases) = norm
                    .map(|(((gamma, beta), mean), variance)| {
                        let factor = f64::from(*gamma) / (f64::from(*variance) + EPSILON).sqrt();
                        (factor as f32, (f64::from(*beta) - f64::from(*mean) * factor) as f32)
                    })
                    .unzip();
                (weight, factors, biases)
            }
            [weight, bias] if self.beside == Beside::Bias => (weight, ones, bias.to_vec()),
            [weight, ..] => (weight, ones, vec![0.0; self.out_channels]),
            [] => return Err(Error::shape("features", "a layer without a weight")),
        })
    }
}

/// A layer and where its weight \[taps, pitch(C), K\] and its bias \[K\] lie.
#[derive(Clone, Debug)]
struct Placed {
    layer: Layer,
    weight: Place,
    bias: Place,
}

/// A graph of layers.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub graph: Graph,
    layers: Vec<Placed>,
    /// Bytes used of each buffer of weights.
    chunks: Vec<u64>,
    /// Tensors that have a name: between blocks, and the results.
    pub marks: Vec<(&'static str, NodeId)>,
}

impl Net {
    /// Layers so far.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().map(|placed| &placed.layer)
    }

    /// Gives a tensor a name.
    pub fn mark(&mut self, name: &'static str, node: NodeId) {
        self.marks.push((name, node));
    }

    /// The tensor of that name.
    pub fn marked(&self, name: &str) -> Option<NodeId> {
        self.marks.iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
    }

    /// Memory for weights of such a shape.
    fn reserve(&mut self, shape: &[usize]) -> Place {
        let bytes = device_bytes(shape).next_multiple_of(ALIGNMENT);
        if self.chunks.last().is_none_or(|used| used + bytes > CHUNK_BYTES) {
            self.chunks.push(0);
        }
        let number = self.chunks.len().saturating_sub(1);
        let mut offset = 0;
        if let Some(used) = self.chunks.last_mut() {
            offset = *used;
            *used += bytes;
        }
        Place { buffer: chunk_name(number), offset }
    }

    /// Adds a layer over `x` at every position of `window`, with the kernel for such windows that is fastest.
    pub fn layer(&mut self, x: NodeId, layer: Layer, window: Window) -> Result<NodeId> {
        let (rows, columns) = (pitch(layer.in_channels), layer.out_channels);
        let Window { stride, padding, .. } = window;
        // Of a pixel alone a convolution is a matrix product.
        let product = layer.taps() == 1 && stride == [1, 1] && padding == [0, 0];
        let shape = if product { vec![rows, columns] } else { vec![layer.taps(), rows, columns] };
        let (weight_place, bias_place) = (self.reserve(&shape), self.reserve(&[columns]));
        let weight = self.graph.leaf(&shape, weight_place.clone());
        let bias = match layer.beside {
            Beside::UnusedBias => None,
            _ => Some(self.graph.leaf(&[columns], bias_place.clone())),
        };
        let square = layer.kernel == [3, 3] && stride == [1, 1] && padding == [1, 1];
        let y = match (product, square) {
            (true, _) => self.graph.matmul(x, weight, bias, None)?,
            (_, true) => self.graph.conv3x3(x, weight, 1, bias, None)?,
            _ => self.graph.conv2d(x, weight, window, bias)?,
        };
        self.layers.push(Placed { layer, weight: weight_place, bias: bias_place });
        Ok(y)
    }

    /// The contents of the buffers of weights, by their names, in the device's layout.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a tensor that is missing or of another shape.
    pub fn pack(&self, tensors: &Tensors) -> Result<Vec<(String, Vec<f32>)>> {
        let mut chunks: Vec<(String, Vec<f32>)> = self
            .chunks
            .iter()
            .enumerate()
            .map(|(number, bytes)| (chunk_name(number), vec![0.0; *bytes as usize / 4]))
            .collect();
        for Placed { layer, weight, bias } in &self.layers {
            let (values, factors, biases) = layer.values(tensors)?;
            let memory = |chunks: &mut Vec<(String, Vec<f32>)>,
                          place: &Place,
                          put: &mut dyn FnMut(&mut [f32])| {
                let found = chunks.iter_mut().find(|(name, _)| *name == place.buffer);
                if let Some(slice) = found.and_then(|(_, data)| data.get_mut(place.offset as usize / 4..)) {
                    put(slice);
                }
            };
            memory(&mut chunks, weight, &mut |memory| lay(layer, values, &factors, memory));
            memory(&mut chunks, bias, &mut |memory| {
                memory.iter_mut().zip(&biases).for_each(|(slot, value)| *slot = *value);
            });
        }
        Ok(chunks)
    }
}

/// Name of a buffer of weights.
fn chunk_name(number: usize) -> String {
    format!("features.{number}")
}

/// Writes a weight \[K,C,kernel\], each output's times its factor, as \[taps, pitch(C), pitch(K)\].
fn lay(layer: &Layer, values: &[f32], factors: &[f32], memory: &mut [f32]) {
    let (taps, rows, columns) = (layer.taps(), pitch(layer.in_channels), pitch(layer.out_channels));
    let outputs = values.chunks_exact((layer.in_channels * taps).max(1)).zip(factors);
    for (k, (output, factor)) in outputs.enumerate() {
        for (c, input) in output.chunks_exact(taps.max(1)).enumerate() {
            for (tap, value) in input.iter().enumerate() {
                if let Some(slot) = memory.get_mut((tap * rows + c) * columns + k) {
                    *slot = value * factor;
                }
            }
        }
    }
}
