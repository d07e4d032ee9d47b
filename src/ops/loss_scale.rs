//! Dynamic scaling of the loss where gradients are stored as f16: `wgsl/loss_scale.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::optimizer::HYPERS;
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};

shader!("loss_scale");

/// Numbers of the state: scale, good steps since it last changed, skipped steps in all, 0.
pub const STATE: usize = 4;
/// The scale that a run begins with, as PyTorch's `GradScaler`.
pub const FIRST_SCALE: f32 = 65_536.0;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Limit {
    max_norm: f32,
    pad: [u32; 3],
}

/// Of the state: `seed` \[1\], the scale.
pub fn seed(state: Slice, seed: Slice) -> Vec<Launch> {
    vec![invocations(kernel("seed", &WG), vec![state], vec![seed], &[], 1)]
}

/// Of the sum of squares \[1\] of scaled gradients, the optimizer's numbers and the state: `norm` \[1\] of the gradients
/// themselves, and the numbers with a factor that unscales them and clips that norm to `max_norm`; both 0 where the sum is NaN
/// or infinite.
pub fn unscale(max_norm: f32, reads: [Slice; 3], norm: Slice, unscaled: Slice) -> Vec<Launch> {
    let limit = Limit { max_norm, pad: [0; 3] };
    let writes = vec![norm, unscaled];
    vec![invocations(kernel("unscale", &WG), reads.to_vec(), writes, bytemuck::bytes_of(&limit), HYPERS)]
}

/// Changes the state after a step whose scaled gradients have this sum of squares \[1\].
pub fn update(squares: Slice, state: Slice) -> Vec<Launch> {
    vec![invocations(kernel("update", &WG), vec![squares], vec![state], &[], 1)]
}

/// Of the state.
#[derive(Debug)]
pub(super) struct Seed;

impl Operation for Seed {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        seed(context.inputs[0], context.output)
    }

    fn storable(&self) -> bool {
        false
    }
}

/// Of a sum of squares, hyper, state; updates the norm and gives the numbers with another factor.
#[derive(Debug)]
struct Unscale {
    max_norm: f32,
}

impl Operation for Unscale {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        unscale(self.max_norm, context.first(), context.updates[0], context.output)
    }
}

/// Of a sum of squares; updates the state.
#[derive(Debug)]
struct Update;

impl Operation for Update {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        update(context.inputs[0], context.updates[0])
    }
}

impl Graph {
    /// The gradient of the scaled loss with respect to the loss \[1\]: the scale of `state` \[[`STATE`]\].
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the state has another shape.
    pub fn loss_scale(&mut self, state: NodeId) -> Result<NodeId> {
        self.expect("loss_scale", "state", state, &[STATE])?;
        Ok(self.push(Seed, vec![state], vec![1]))
    }

    /// The global norm \[1\] of gradients, and the optimizer's numbers `hyper` with a factor that unscales scaled gradients,
    /// whose sum of squares \[1\] is given, and clips this norm to `max_norm`. Where the sum is NaN or infinite both are 0,
    /// and [`Graph::adamw_unless_skipped`] changes nothing.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where an input has another shape.
    pub fn unscale(
        &mut self,
        squares: NodeId,
        hyper: NodeId,
        state: NodeId,
        max_norm: f32,
    ) -> Result<[NodeId; 2]> {
        self.expect("unscale", "sum of squares", squares, &[1])?;
        self.expect("unscale", "hyper", hyper, &[HYPERS])?;
        self.expect("unscale", "state", state, &[STATE])?;
        let norm = self.reserve(&[1]);
        let inputs = vec![squares, hyper, state];
        let unscaled = self.push_updating(Unscale { max_norm }, inputs, vec![norm], vec![HYPERS]);
        Ok([norm, unscaled])
    }

    /// The state after a step whose scaled gradients have this sum of squares \[1\].
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where an input has another shape.
    pub fn update_loss_scale(&mut self, squares: NodeId, state: NodeId) -> Result<()> {
        self.expect("update_loss_scale", "sum of squares", squares, &[1])?;
        self.expect("update_loss_scale", "state", state, &[STATE])?;
        self.push_updating(Update, vec![squares], vec![state], Vec::new());
        Ok(())
    }
}
