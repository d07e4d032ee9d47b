//! Sums of losses, what is reported of them, and what their gradients begin with: `wgsl/total.wgsl`.
//!
//! A gradient of losses \[N\] is one number for all of them, or few numbers multiplied. Kernels that need it read it as that
//! ([`Dloss`]), so that nothing has to be written and read back for it.

use super::kernel::{WG, invocations, shader};
use super::loss_scale::Seed;
use super::pointwise::Scale;
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::{device_bytes, pitch};

shader!("total");

/// Sums of one launch of [`report`], and tensors that it reads for them.
const SUMS: usize = 8;
const VALUES: usize = 6;

/// What [`Dloss::factor`] is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Nothing.
    One = 0,
    /// The first number of a tensor, in all samples.
    First = 1,
    /// A tensor's number of each sample.
    Each = 2,
}

/// How kernels read the gradient of losses \[N\].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dloss {
    /// A factor of all of it.
    pub factor: f32,
    /// What else.
    pub times: Times,
}

impl Dloss {
    /// The gradient of each sample is the tensor's number.
    pub const EACH: Dloss = Dloss { factor: 1.0, times: Times::Each };

    /// How the gradient `dy` of losses is read, and from where; `None`: nothing is read.
    pub(super) fn of(graph: &Graph, dy: NodeId) -> (Dloss, Option<NodeId>) {
        if let Some(&Fill { value, .. }) = graph.operation(dy) {
            return (Dloss { factor: value, times: Times::One }, None);
        }
        let inputs = &graph.node(dy).inputs;
        if let (Some(&Spread { factor, .. }), &[number]) = (graph.operation(dy), inputs.as_slice()) {
            return (Dloss { factor, times: Times::First }, Some(number));
        }
        match (graph.operation(dy), inputs.as_slice()) {
            (Some(&Scale { factor }), &[each]) => (Dloss { factor, times: Times::Each }, Some(each)),
            _ => (Dloss::EACH, Some(dy)),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    count: u32,
    factors: u32,
    scale: f32,
    pad: u32,
}

fn launch(
    entry: &'static str,
    [count, factors, elements]: [usize; 3],
    scale: f32,
    reads: Vec<Slice>,
    out: Slice,
) -> Vec<Launch> {
    let size = Size { count: count as u32, factors: factors as u32, scale, pad: 0 };
    vec![invocations(kernel(entry, &WG), reads, vec![out], bytemuck::bytes_of(&size), elements)]
}

/// out \[1\] = scale · sum of `losses` \[N\], times weight\[0\] where one is given.
pub fn sum(batch: usize, scale: f32, losses: Slice, weight: Option<Slice>, out: Slice) -> Vec<Launch> {
    let factors = usize::from(weight.is_some());
    launch("sum", [batch, factors, 1], scale, vec![losses, weight.unwrap_or(losses)], out)
}

/// out \[count\] = scale · a\[0\], times b\[0\] where that is given, in each element.
pub fn spread(count: usize, scale: f32, a: Slice, b: Option<Slice>, out: Slice) -> Vec<Launch> {
    let factors = 1 + usize::from(b.is_some());
    launch("spread", [count, factors, pitch(count)], scale, vec![a, b.unwrap_or(a)], out)
}

/// out \[count\] = value in each element.
pub fn fill(count: usize, value: f32, out: Slice) -> Vec<Launch> {
    launch("fill", [count, 0, pitch(count)], value, Vec::new(), out)
}

/// A sum of losses as a launch has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summand<T> {
    /// Losses \[N\].
    pub values: T,
    /// How many.
    pub count: usize,
    /// What their sum is multiplied by.
    pub weight: f32,
    /// A further factor \[1\].
    pub given: Option<T>,
    /// Number of the metric that it is part of, from 1.
    pub metric: Option<usize>,
    /// What it is further multiplied by in the total, metric 0; `None`: it is no part of that.
    pub total: Option<f32>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Report {
    stride: u32,
    slots: u32,
    adds: u32,
    pad: u32,
    sums: [[u32; 4]; SUMS],
    factors: [[f32; 4]; SUMS],
}

/// The summands that one launch takes, and what it reads for them.
#[derive(Clone, Default)]
struct Taken {
    sums: Vec<([u32; 4], [f32; 4])>,
    reads: Vec<Slice>,
}

impl Taken {
    /// Takes one more, where there is room.
    fn take(&mut self, summand: &Summand<Slice>) -> bool {
        let mut reads = self.reads.clone();
        let mut number = |slice: Slice| {
            reads.iter().position(|known| *known == slice).unwrap_or_else(|| {
                reads.push(slice);
                reads.len() - 1
            })
        };
        let values = number(summand.values);
        let given = summand.given.map_or(VALUES, number);
        if reads.len() > VALUES || self.sums.len() == SUMS {
            return false;
        }
        let metric = summand.metric.map_or(u32::MAX, |metric| metric as u32);
        let in_total = if summand.total.is_some() { 1.0 } else { 0.0 };
        let sum = [values as u32, summand.count as u32, given as u32, metric];
        self.sums.push((sum, [summand.weight, summand.total.unwrap_or(0.0), in_total, 0.0]));
        self.reads = reads;
        true
    }

    fn launch(self, adds: bool, slots: usize, stride: usize, first: Slice, metrics: Slice) -> Launch {
        let mut size = Report {
            stride: stride as u32,
            slots: slots as u32,
            adds: u32::from(adds),
            pad: 0,
            sums: [[0, 0, VALUES as u32, u32::MAX]; SUMS],
            factors: [[0.0; 4]; SUMS],
        };
        for ((sum, factors), own) in size.sums.iter_mut().zip(&mut size.factors).zip(self.sums) {
            (*sum, *factors) = own;
        }
        let mut reads = self.reads;
        reads.resize(VALUES, first);
        reads.push(first);
        invocations(kernel("report", &WG), reads, vec![metrics], bytemuck::bytes_of(&size), 1)
    }
}

/// Adds the sums to `slots` metrics, a number every `stride`, or replaces what is there where `first` holds 1. As many sums as fit
/// are one launch.
pub fn report(
    summands: &[Summand<Slice>],
    [slots, stride]: [usize; 2],
    first: Slice,
    metrics: Slice,
) -> Vec<Launch> {
    let mut all = vec![Taken::default()];
    for summand in summands {
        if all.last_mut().is_some_and(|last| last.take(summand)) {
            continue;
        }
        let mut next = Taken::default();
        next.take(summand);
        all.push(next);
    }
    let numbered = all.into_iter().enumerate();
    numbered.map(|(number, taken)| taken.launch(number > 0, slots, stride, first, metrics)).collect()
}

/// Every one of `count` elements equals `value`.
#[derive(Debug)]
pub(super) struct Fill {
    count: usize,
    pub value: f32,
}

impl Operation for Fill {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        fill(self.count, self.value, context.output)
    }

    fn storable(&self) -> bool {
        false
    }
}

/// Of one or two numbers: their product times `factor`, in each of `count` elements.
#[derive(Debug, PartialEq)]
struct Spread {
    count: usize,
    factor: f32,
}

impl Operation for Spread {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let second = context.inputs.get(1).copied();
        spread(self.count, self.factor, context.inputs[0], second, context.output)
    }

    fn storable(&self) -> bool {
        false
    }
}

/// Of values \[N\], \[weight \[1\]\]: factor · sum \[1\], times the weight.
#[derive(Debug)]
struct WeightedSum {
    batch: usize,
    factor: f32,
}

impl Operation for WeightedSum {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let weight = context.inputs.get(1).copied();
        sum(self.batch, self.factor, context.inputs[0], weight, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return Ok(None);
        }
        let weights = at.inputs.get(1..).unwrap_or_default();
        Ok(Some(spread_gradient(graph, self.batch, self.factor, at.dy, weights)))
    }
}

/// The gradient \[count\] each of whose elements is factor · `dy` \[1\], times the `weights` \[1\].
pub(super) fn spread_gradient(
    graph: &mut Graph,
    count: usize,
    factor: f32,
    dy: NodeId,
    weights: &[NodeId],
) -> NodeId {
    let inputs = graph.node(dy).inputs.clone();
    let (mut known, mut numbers) = match graph.operation::<Spread>(dy) {
        Some(Spread { factor, .. }) => (*factor, inputs),
        None if graph.operation::<Seed>(dy).is_some() => (1.0, inputs),
        None => match graph.operation::<Fill>(dy) {
            Some(Fill { value, .. }) => (*value, Vec::new()),
            None => (1.0, vec![dy]),
        },
    };
    if numbers.len() + weights.len() > 2 {
        (known, numbers) = (1.0, vec![dy]);
    }
    let factor = factor * known;
    numbers.extend(weights);
    if numbers.is_empty() {
        return graph.fill(count, factor);
    }
    let op = Spread { count, factor };
    graph.find(&op, &numbers).unwrap_or_else(|| graph.push(op, numbers, vec![count]))
}

/// factor · `dy`, which is a number or the same one of each sample where that is known without computing it.
pub(super) fn scaled_gradient(graph: &mut Graph, factor: f32, dy: NodeId) -> NodeId {
    let known = graph.operation::<Fill>(dy).is_some()
        || graph.operation::<Spread>(dy).is_some()
        || graph.operation::<Seed>(dy).is_some();
    match (known, graph.shape(dy)) {
        (true, &[count]) => spread_gradient(graph, count, factor, dy, &[]),
        _ => graph.scale(dy, factor),
    }
}

/// Of the summands' values and weights, then `first`; updates the metrics. Numbers are those of inputs.
#[derive(Debug)]
struct Reported {
    summands: Vec<Summand<usize>>,
    slots: usize,
    stride: usize,
}

impl Operation for Reported {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let of = |summand: &Summand<usize>| Summand {
            values: context.inputs[summand.values],
            given: summand.given.map(|number| context.inputs[number]),
            count: summand.count,
            weight: summand.weight,
            metric: summand.metric,
            total: summand.total,
        };
        let summands: Vec<Summand<Slice>> = self.summands.iter().map(of).collect();
        let first = context.inputs[context.inputs.len() - 1];
        report(&summands, [self.slots, self.stride], first, context.updates[0])
    }
}

impl Graph {
    /// A vector \[count\] with every element `value`.
    pub fn fill(&mut self, count: usize, value: f32) -> NodeId {
        self.push(Fill { count, value }, Vec::new(), vec![count])
    }

    /// weight · sum of `values` \[N\], a scalar \[1\].
    pub fn weighted_sum(&mut self, values: NodeId, weight: f32) -> NodeId {
        let batch = self.shape(values).first().copied().unwrap_or(0);
        self.push(WeightedSum { batch, factor: weight }, vec![values], vec![1])
    }

    /// As [`Graph::weighted_sum`], with a weight \[1\] that is given for each run.
    ///
    /// # Errors
    /// [`Error::Shape`] where the weight is not one number.
    pub fn weighted_sum_by(&mut self, values: NodeId, weight: NodeId) -> Result<NodeId> {
        self.expect("weighted_sum", "weight", weight, &[1])?;
        let batch = self.shape(values).first().copied().unwrap_or(0);
        Ok(self.push(WeightedSum { batch, factor: 1.0 }, vec![values, weight], vec![1]))
    }

    /// Adds sums of losses to `metrics`, a number every `stride`: their total first, then the metrics by their numbers. Where
    /// `first` \[1\] (a u32 word) is 1 they replace what is there.
    ///
    /// # Errors
    /// [`Error::Shape`] where losses are not one for each sample, a weight is not one number or the metrics do not fit.
    pub fn report(
        &mut self,
        summands: &[Summand<NodeId>],
        stride: usize,
        first: NodeId,
        metrics: NodeId,
    ) -> Result<()> {
        self.expect("report", "first", first, &[1])?;
        let slots = 1 + summands.iter().filter_map(|summand| summand.metric).max().unwrap_or(0);
        let room = device_bytes(self.shape(metrics)) as usize / 4;
        if (slots - 1).saturating_mul(stride) >= room || slots > WG[0].1 as usize {
            let detail = format!("{slots} metrics, one every {stride} numbers, in {room}");
            return Err(Error::shape("report", detail));
        }
        let mut inputs = Vec::new();
        let mut numbered = Vec::new();
        for summand in summands {
            self.expect("report", "losses", summand.values, &[summand.count])?;
            let values = inputs.len();
            inputs.push(summand.values);
            let mut given = None;
            if let Some(weight) = summand.given {
                self.expect("report", "weight", weight, &[1])?;
                given = Some(inputs.len());
                inputs.push(weight);
            }
            let Summand { count, weight, metric, total, .. } = *summand;
            numbered.push(Summand { values, count, weight, given, metric, total });
        }
        inputs.push(first);
        let op = Reported { summands: numbered, slots, stride };
        self.push_updating(op, inputs, vec![metrics], Vec::new());
        Ok(())
    }
}
