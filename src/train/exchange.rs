//! What may happen between a step's two halves: gradients exchanged with other processes.

use crate::error::Result;
use crate::gpu::{Buffer, Device};

/// Part of the gradients' memory: f32 values, pads zero.
#[derive(Clone)]
pub struct GradientRange {
    /// The buffer.
    pub buffer: Buffer,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Changes the gradients of a step as a whole: exchanges them in a way of one's own, say, with processes that train the same weights on
/// other images. Processes that share the micro-batches of one batch, to its bits, are [`super::Ranks`].
pub trait Exchange: Send {
    /// Called once a step, after its last backward pass was submitted and before anything is clipped or applied:
    /// replaces the gradients of what is trained, summed over micro-batches, by those of all processes together.
    ///
    /// # Errors
    /// Whatever prevents it; the weights are then as before the step, and the means of the losses begin anew. The backward
    /// pass has run all the same: BatchNorm has seen its images, so go on from a checkpoint.
    fn exchange(&mut self, device: &Device, gradients: &[GradientRange]) -> Result<()>;
}
