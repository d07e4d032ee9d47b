//! Parameters: the reference's names and shapes, their layout on the device, and how they begin.

use super::sets::ParamSet;
use crate::error::{Error, Result};
use crate::graph::Place;
use crate::rng::{Seed, Stream, uniform};
use crate::tensor::{HostTensor, Tensors, pitch};
use std::path::Path;

/// Parameters start at multiples of this many bytes, WebGPU's alignment of bindings.
const ALIGNMENT: u64 = 256;
/// Parameters are kept in buffers of at most this many bytes, so that WebGPU's default binding limit suffices.
const CHUNK_BYTES: u64 = 128 << 20;

/// Number of a parameter inside [`ParamLayout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(pub(crate) usize);

/// How a parameter lies in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Reference \[K,C,3,3\]; device \[9, pitch(C), pitch(K)\].
    Conv3x3,
    /// Reference \[K,C\] with any trailing ones; device \[pitch(C), pitch(K)\].
    Matrix,
    /// Reference \[F\]; device \[pitch(F)\].
    Vector,
    /// Reference `running_mean` \[F\] and `running_var` \[F\]; device \[2, pitch(F)\]. Not trained.
    Running,
}

/// How a parameter begins before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±1/√fan_in (PyTorch's default for convolutions and linear layers and their biases).
    FanIn(usize),
    /// All zero.
    Zero,
    /// All one.
    One,
    /// Mean 0, variance 1.
    Running,
}

/// A part of the network that can be trained, or left alone, by itself. In every layout its parameters follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Timestep embedding, input blocks and middle block: the representation.
    #[default]
    Encoder,
    /// Output blocks and the output convolution.
    Decoder,
    /// The classifier.
    Classifier,
}

impl Part {
    /// All of them, in the layout's order.
    pub const ALL: [Part; 3] = [Part::Encoder, Part::Decoder, Part::Classifier];
}

/// Bytes of the parameters' memory, the same in every [`ParamSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamRange {
    /// Buffer number.
    pub chunk: usize,
    /// First byte, a multiple of 256.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl ParamRange {
    /// The range with `next` behind it, where they adjoin.
    pub fn joined(&self, next: &ParamRange) -> Option<ParamRange> {
        let adjoin = self.chunk == next.chunk && self.offset + self.bytes == next.offset;
        adjoin.then_some(ParamRange { bytes: self.bytes + next.bytes, ..*self })
    }

    /// Where it lies in the buffers of `set`.
    pub fn place(&self, set: ParamSet) -> Place {
        Place { buffer: set.buffer(self.chunk), offset: self.offset }
    }
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct ParamSpec {
    /// Name in the reference's state_dict; of running statistics the part before `running_`.
    pub name: String,
    /// Shape in the reference.
    pub shape: Vec<usize>,
    /// Layout on the device.
    pub layout: Layout,
    /// How it begins.
    pub init: Init,
    /// The part of the network it belongs to.
    pub part: Part,
    /// Buffer number; running statistics have a buffer of their own.
    pub chunk: usize,
    /// First byte in its buffer.
    pub offset: u64,
}

impl ParamSpec {
    /// Logical shape on the device (the last dimension is padded there).
    pub fn device_shape(&self) -> Vec<usize> {
        match self.layout {
            Layout::Conv3x3 => vec![9, pitch(self.shape[1]), self.shape[0]],
            Layout::Matrix => vec![pitch(self.shape[1]), self.shape[0]],
            Layout::Vector => vec![self.shape[0]],
            Layout::Running => vec![2, self.shape[0]],
        }
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        crate::tensor::device_bytes(&self.device_shape())
    }

    /// Whether the optimizer changes it.
    pub fn trainable(&self) -> bool {
        self.layout != Layout::Running
    }

    /// Names and shapes in the reference's state_dict.
    pub fn reference(&self) -> Vec<(String, Vec<usize>)> {
        match self.layout {
            Layout::Running => vec![
                (format!("{}running_mean", self.name), self.shape.clone()),
                (format!("{}running_var", self.name), self.shape.clone()),
            ],
            _ => vec![(self.name.clone(), self.shape.clone())],
        }
    }

    /// Place of element `i` of the reference's row-major order in the device's memory.
    fn device_index(&self, i: usize) -> usize {
        match self.layout {
            Layout::Conv3x3 => {
                let (tap, rest) = (i % 9, i / 9);
                let (c, k) = (rest % self.shape[1], rest / self.shape[1]);
                (tap * pitch(self.shape[1]) + c) * pitch(self.shape[0]) + k
            }
            Layout::Matrix => {
                let (c, k) = (i % self.shape[1], i / self.shape[1]);
                c * pitch(self.shape[0]) + k
            }
            Layout::Vector | Layout::Running => i,
        }
    }
}

/// All parameters of a model and where they lie.
#[derive(Clone, Debug, Default)]
pub struct ParamLayout {
    specs: Vec<ParamSpec>,
    /// Bytes used of each chunk.
    chunks: Vec<u64>,
    running: u64,
    /// What is being declared.
    part: Part,
}

impl ParamLayout {
    /// What is added from here on belongs to `part`.
    pub(crate) fn begin(&mut self, part: Part) {
        self.part = part;
    }

    /// Adds a parameter.
    pub(crate) fn add(&mut self, name: String, shape: Vec<usize>, layout: Layout, init: Init) -> ParamId {
        let mut spec = ParamSpec { name, shape, layout, init, part: self.part, chunk: 0, offset: 0 };
        let bytes = spec.bytes().next_multiple_of(ALIGNMENT);
        if layout == Layout::Running {
            spec.offset = self.running;
            self.running += bytes;
        } else {
            if self.chunks.last().is_none_or(|used| used + bytes > CHUNK_BYTES) {
                self.chunks.push(0);
            }
            spec.chunk = self.chunks.len() - 1;
            spec.offset = self.chunks[spec.chunk];
            self.chunks[spec.chunk] += bytes;
        }
        self.specs.push(spec);
        ParamId(self.specs.len() - 1)
    }

    /// Every parameter in the order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// One parameter.
    pub fn spec(&self, id: ParamId) -> &ParamSpec {
        &self.specs[id.0]
    }

    /// Memory of the trainable parameters of `part`, one range a chunk.
    pub fn ranges(&self, part: Part) -> Vec<ParamRange> {
        let mut ranges: Vec<ParamRange> = Vec::new();
        for spec in self.specs.iter().filter(|spec| spec.trainable() && spec.part == part) {
            let bytes = spec.bytes().next_multiple_of(ALIGNMENT);
            push_range(&mut ranges, ParamRange { chunk: spec.chunk, offset: spec.offset, bytes });
        }
        ranges
    }

    /// Bytes of each chunk of trainable parameters.
    pub fn chunk_bytes(&self) -> &[u64] {
        &self.chunks
    }

    /// Bytes of all trainable parameters.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().sum()
    }

    /// Bytes of the running statistics.
    pub fn running_bytes(&self) -> u64 {
        self.running.max(ALIGNMENT)
    }

    /// Number of trainable values, as the reference counts them.
    pub fn parameter_count(&self) -> usize {
        let trainable = self.specs.iter().filter(|s| s.trainable());
        trainable.map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// Where a parameter, or its gradient, moment or average, lies.
    pub fn place(&self, id: ParamId, set: ParamSet) -> Place {
        let spec = &self.specs[id.0];
        let buffer = match spec.layout {
            Layout::Running => "running".to_owned(),
            _ => set.buffer(spec.chunk),
        };
        Place { buffer, offset: spec.offset }
    }

    /// Names and shapes a checkpoint of this model must have.
    pub fn expected(&self, trainable_only: bool) -> Vec<(String, Vec<usize>)> {
        let specs = self.specs.iter().filter(|s| s.trainable() || !trainable_only);
        specs.flat_map(ParamSpec::reference).collect()
    }

    /// Fresh values in the reference's layout.
    pub fn initial(&self, seed: Seed) -> Tensors {
        let mut tensors = Tensors::new();
        for (number, spec) in self.specs.iter().enumerate() {
            let count: usize = spec.shape.iter().product();
            for (part, (name, shape)) in spec.reference().into_iter().enumerate() {
                let data = match spec.init {
                    Init::FanIn(fan_in) => {
                        let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
                        let mut data = vec![0.0f32; count];
                        uniform(seed, Stream::Init, 0, number as u32, &mut data);
                        data.iter().map(|u| (2.0 * u - 1.0) * bound).collect()
                    }
                    Init::Zero => vec![0.0; count],
                    Init::One => vec![1.0; count],
                    Init::Running => vec![part as f32; count],
                };
                tensors.insert(name, HostTensor { shape, data });
            }
        }
        tensors
    }

    /// The contents of one chunk (or, with `None`, of the running statistics), from tensors in the reference's layout.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming what is missing, of another shape or does not fill its shape; [`Error::Shape`] for a chunk
    /// that is not there.
    pub fn pack(&self, tensors: &Tensors, chunk: Option<usize>) -> Result<Vec<f32>> {
        let bytes = match chunk {
            None => self.running_bytes(),
            Some(number) => *self.chunks.get(number).ok_or_else(|| {
                Error::shape("parameters", format!("chunk {number} of {}", self.chunks.len()))
            })?,
        };
        let mut memory = vec![0.0f32; bytes as usize / 4];
        for spec in self.in_chunk(chunk) {
            let base = spec.offset as usize / 4;
            for (row, (name, shape)) in spec.reference().into_iter().enumerate() {
                let tensor = tensors.get(&name).filter(|t| t.shape == shape).ok_or_else(|| {
                    let found = tensors.get(&name).map(|t| format!("{:?}", t.shape));
                    let detail = format!(
                        "{name} must be {shape:?}, {}",
                        found.map_or("is missing".into(), |f| format!("is {f}"))
                    );
                    Error::Checkpoint { path: Path::new("(in memory)").into(), detail }
                })?;
                if tensor.data.len() != shape.iter().product::<usize>() {
                    let detail = format!("{name} has {} values, its shape is {shape:?}", tensor.data.len());
                    return Err(Error::Checkpoint { path: Path::new("(in memory)").into(), detail });
                }
                let row_base = base + row * pitch(spec.shape[0]);
                for (i, value) in tensor.data.iter().enumerate() {
                    memory[row_base + spec.device_index(i)] = *value;
                }
            }
        }
        Ok(memory)
    }

    /// The opposite of [`ParamLayout::pack`].
    ///
    /// # Errors
    /// [`Error::Shape`] for memory that is too short.
    pub fn unpack(&self, memory: &[f32], chunk: Option<usize>, tensors: &mut Tensors) -> Result<()> {
        self.in_chunk(chunk).try_for_each(|spec| {
            unpack_spec(spec, memory.get(spec.offset as usize / 4..).unwrap_or_default(), tensors)
        })
    }

    /// One parameter from memory that begins with it.
    ///
    /// # Errors
    /// As [`ParamLayout::unpack`].
    pub fn unpack_one(&self, id: ParamId, memory: &[f32], tensors: &mut Tensors) -> Result<()> {
        unpack_spec(self.spec(id), memory, tensors)
    }

    fn in_chunk(&self, chunk: Option<usize>) -> impl Iterator<Item = &ParamSpec> {
        self.specs.iter().filter(move |s| match chunk {
            None => !s.trainable(),
            Some(number) => s.trainable() && s.chunk == number,
        })
    }
}

/// Adds a range, to the last one where the two adjoin.
fn push_range(ranges: &mut Vec<ParamRange>, range: ParamRange) {
    match ranges.last_mut().and_then(|last| last.joined(&range).map(|both| (last, both))) {
        Some((last, both)) => *last = both,
        None => ranges.push(range),
    }
}

fn unpack_spec(spec: &ParamSpec, memory: &[f32], tensors: &mut Tensors) -> Result<()> {
    if (memory.len() as u64) < spec.bytes() / 4 {
        let detail = format!("{} values of {} for {}", memory.len(), spec.bytes() / 4, spec.name);
        return Err(Error::shape("parameters", detail));
    }
    for (row, (name, shape)) in spec.reference().into_iter().enumerate() {
        let base = row * pitch(spec.shape[0]);
        let count: usize = shape.iter().product();
        let data = (0..count).map(|i| memory[base + spec.device_index(i)]).collect();
        tensors.insert(name, HostTensor { shape, data });
    }
    Ok(())
}

/// `part` inside the module `prefix` (which may be empty: the module is the root).
pub(crate) fn join(prefix: &str, part: &str) -> String {
    if prefix.is_empty() { part.to_owned() } else { format!("{prefix}.{part}") }
}
