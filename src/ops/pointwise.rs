//! Element-wise operations: `wgsl/pointwise.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::total::{self, Dloss, Times};
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Place, Upstream};
use crate::tensor::device_bytes;

shader!("pointwise");

/// Element-wise activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// x where positive, else slope · x.
    LeakyRelu {
        /// Slope of the negative half.
        slope: f32,
    },
    /// x where positive, else 0; the derivative at 0 is 0.
    Relu,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    quads: u32,
    operation: u32,
    factor: f32,
    pad: u32,
}

fn launch(
    entry: &'static str,
    quads: usize,
    operation: u32,
    factor: f32,
    reads: Vec<Slice>,
    y: Slice,
) -> Launch {
    let uniform = Size { quads: quads as u32, operation, factor, pad: 0 };
    invocations(kernel(entry, &WG), reads, vec![y], bytemuck::bytes_of(&uniform), quads)
}

/// y of x, both of `quads` vec4.
pub fn activate(activation: Activation, quads: usize, x: Slice, y: Slice) -> Vec<Launch> {
    let (entry, number, slope) = match activation {
        Activation::Silu => ("forward", 0, 0.0),
        Activation::LeakyRelu { slope } => ("forward", 1, slope),
        Activation::Relu => ("bounded", 0, 0.0),
    };
    vec![launch(entry, quads, number, slope, vec![x, x], y)]
}

/// dx of x and dy, all of `quads` vec4.
pub fn activate_grad(activation: Activation, quads: usize, x: Slice, dy: Slice, dx: Slice) -> Vec<Launch> {
    let (entry, number, slope) = match activation {
        Activation::Silu => ("forward", 4, 0.0),
        Activation::LeakyRelu { slope } => ("forward", 5, slope),
        Activation::Relu => ("bounded", 1, 0.0),
    };
    vec![launch(entry, quads, number, slope, vec![x, dy], dx)]
}

/// y = factor · x.
pub fn scale(factor: f32, quads: usize, x: Slice, y: Slice) -> Vec<Launch> {
    vec![launch("forward", quads, 2, factor, vec![x, x], y)]
}

/// y = x between −bound and bound; what is not finite stays.
pub fn clamp(bound: f32, quads: usize, x: Slice, y: Slice) -> Vec<Launch> {
    vec![launch("bounded", quads, 2, bound, vec![x, x], y)]
}

/// y = a + b.
pub fn add(quads: usize, a: Slice, b: Slice, y: Slice) -> Vec<Launch> {
    vec![launch("forward", quads, 3, 0.0, vec![a, b], y).stored(&["A", "B", "Y"])]
}

/// y = a · b.
pub fn multiply(quads: usize, a: Slice, b: Slice, y: Slice) -> Vec<Launch> {
    vec![launch("multiply", quads, 0, 0.0, vec![a, b], y)]
}

/// x = mask · x + (1 − mask) · known.
pub fn blend(quads: usize, mask: Slice, known: Slice, x: Slice) -> Vec<Launch> {
    vec![launch("blend", quads, 0, 0.0, vec![mask, known], x)]
}

#[derive(Debug)]
pub(super) struct Activate(pub Activation);

impl Operation for Activate {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        activate(self.0, context.quads(), context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(graph.push_like(at.target(), ActivateGrad(self.0), vec![at.target(), at.dy])))
    }

    fn recomputable(&self) -> bool {
        true
    }
}

/// Of x, dy.
#[derive(Debug)]
struct ActivateGrad(Activation);

impl Operation for ActivateGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        activate_grad(self.0, context.quads(), context.inputs[0], context.inputs[1], context.output)
    }
}

#[derive(Debug)]
struct Add;

impl Operation for Add {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        add(context.quads(), context.inputs[0], context.inputs[1], context.output)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reads_half(&self, _position: usize) -> bool {
        true
    }

    fn writes_half(&self) -> bool {
        true
    }

    fn vjp(&self, _graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(at.dy))
    }
}

#[derive(Debug)]
pub(super) struct Scale {
    pub factor: f32,
}

impl Operation for Scale {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        scale(self.factor, context.quads(), context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(total::scaled_gradient(graph, self.factor, at.dy)))
    }
}

#[derive(Debug)]
struct Clamp {
    bound: f32,
}

impl Operation for Clamp {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        clamp(self.bound, context.quads(), context.inputs[0], context.output)
    }
}

/// Of x, weights: x as it is, whose gradient is weighed.
#[derive(Debug)]
struct WeighGradient;

impl Operation for WeighGradient {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        scale(1.0, context.quads(), context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        match at.position {
            0 => Ok(Some(graph.push_like(at.target(), Multiply, vec![at.dy, at.inputs[1]]))),
            _ => self.no_gradient(at),
        }
    }
}

/// Of a, b.
#[derive(Debug)]
struct Multiply;

impl Operation for Multiply {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [a, b] = context.first();
        multiply(context.quads(), a, b, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        // What is multiplied by is given.
        if at.position > 0 {
            return self.no_gradient(at);
        }
        let factors = at.inputs[1];
        Ok(Some(match Dloss::of(graph, at.dy).0 {
            Dloss { factor, times: Times::One } => graph.scale(factors, factor),
            _ => graph.multiply(at.dy, factors)?,
        }))
    }
}

/// Of mask, known; updates x.
#[derive(Debug)]
struct Blend {
    quads: usize,
}

impl Operation for Blend {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        blend(self.quads, context.inputs[0], context.inputs[1], context.updates[0])
    }
}

impl Graph {
    /// Element-wise activation.
    pub fn activate(&mut self, x: NodeId, activation: Activation) -> NodeId {
        self.push_like(x, Activate(activation), vec![x])
    }

    /// SiLU.
    pub fn silu(&mut self, x: NodeId) -> NodeId {
        self.activate(x, Activation::Silu)
    }

    /// a + b.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> Result<NodeId> {
        self.expect("add", "b", b, self.shape(a))?;
        Ok(self.push_like(a, Add, vec![a, b]))
    }

    /// factor · x.
    pub fn scale(&mut self, x: NodeId, factor: f32) -> NodeId {
        self.push_like(x, Scale { factor }, vec![x])
    }

    /// `x` held between −`bound` and `bound`; what is not finite stays.
    pub fn clamp(&mut self, x: NodeId, bound: f32) -> NodeId {
        self.push_like(x, Clamp { bound }, vec![x])
    }

    /// Makes the result of `node` lie at `place` and so survive the run; where it has another place already, or is
    /// nobody's own result, a copy is added.
    pub fn place(&mut self, node: NodeId, place: Place) -> NodeId {
        let fixed = self.node(node).place.is_some() || self.node(node).op.view().is_some();
        let placed = if fixed { self.scale(node, 1.0) } else { node };
        self.nodes[placed.index()].place = Some(place);
        placed
    }

    /// `x` times `factors` of its shape, element by element; the factors have no gradient.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the shapes differ.
    pub fn multiply(&mut self, x: NodeId, factors: NodeId) -> Result<NodeId> {
        self.expect("multiply", "factors", factors, self.shape(x))?;
        Ok(self.push_like(x, Multiply, vec![x, factors]))
    }

    /// `x` as it is, but its gradient is multiplied by `weights` of its shape, element by element: a sum of losses weighed
    /// where each reads its own element.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the shapes differ.
    pub fn weigh_gradient(&mut self, x: NodeId, weights: NodeId) -> Result<NodeId> {
        self.expect("weigh_gradient", "weights", weights, self.shape(x))?;
        Ok(self.push_like(x, WeighGradient, vec![x, weights]))
    }

    /// Changes `x` to mask · x + (1 − mask) · known, all of one shape.
    pub fn blend(&mut self, mask: NodeId, known: NodeId, x: NodeId) -> Result<()> {
        self.expect("blend", "mask", mask, self.shape(x))?;
        self.expect("blend", "known", known, self.shape(x))?;
        let quads = device_bytes(self.shape(x)) as usize / 16;
        self.push_updating(Blend { quads }, vec![mask, known], vec![x], Vec::new());
        Ok(())
    }
}
