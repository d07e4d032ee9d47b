//! Augmentation of images, each sample by numbers of its own: `wgsl/augment.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::loss;
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::pitch;

shader!("augment");

/// Parts that the grey levels of one sample are summed in.
const PARTS: usize = 32;

/// Numbers of a sample: of the map from a place in the result to one in the image (columns before rows) m\[0\], m\[1\], m\[2\]
/// and whether it is used, m\[3\], m\[4\], m\[5\] and the share of the neighbour (sample n xor 1); factors of contrast and
/// sharpness (1: none), twice what is added for brightness (0: nothing), 0; the kinds of jitter in their order (1 brightness,
/// 2 contrast, 3 saturation, 4 hue; 0: none); the jitters' factors of brightness, contrast and saturation, and the turns of hue.
pub const NUMBERS: usize = 20;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    border: [f32; 4],
    samples: u32,
    height: u32,
    width: u32,
    quads: u32,
    channels: u32,
    jitter: u32,
    pad: [u32; 2],
}

/// Images \[N,H,W,C\] and what may be done to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmented {
    /// N, H, W, C.
    pub shape: [usize; 4],
    /// What lies outside an image, by channel modulo 4.
    pub border: [f32; 4],
    /// Whether numbers of color jitter count; it takes images of three channels.
    pub jitter: bool,
}

impl Augmented {
    fn uniform(&self) -> Size {
        let [samples, height, width, channels] = self.shape.map(|length| length as u32);
        let quads = (pitch(self.shape[3]) / 4) as u32;
        let jitter = u32::from(self.jitter);
        Size { border: self.border, samples, height, width, quads, channels, jitter, pad: [0; 2] }
    }

    fn pixels(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// Vec4s of all images.
    fn quads(&self) -> usize {
        self.shape[0] * self.pixels() * pitch(self.shape[3]) / 4
    }
}

/// Bytes of each of the three buffers of scratch that [`augment`] needs: warped images, parts of grey levels, their means.
pub fn scratch(size: &Augmented) -> [u64; 3] {
    let [samples, ..] = size.shape;
    [size.quads() * 16, samples * PARTS * 4, pitch(samples) * 4].map(|bytes| bytes as u64)
}

/// y of x \[N,H,W,C\] and numbers \[N, [`NUMBERS`]\]: two launches, with jitter four.
pub fn augment(size: &Augmented, [x, numbers]: [Slice; 2], scratch: [Slice; 3], y: Slice) -> Vec<Launch> {
    let [warped, parts, means] = scratch;
    let uniform = size.uniform();
    let uniform = bytemuck::bytes_of(&uniform);
    let [grey, warp, finish] = ["grey", "warp", "finish"].map(|entry| kernel(entry, &WG));
    let samples = size.shape[0];
    let mut launches = Vec::new();
    if size.jitter {
        launches.push(invocations(grey, vec![x, numbers], vec![parts], uniform, samples * PARTS));
        launches.push(loss::sum_parts(samples, PARTS, 1.0 / size.pixels() as f32, parts, means));
    }
    // Without jitter nothing reads the means.
    let means = if size.jitter { means } else { numbers };
    launches.push(invocations(warp, vec![x, numbers, means], vec![warped], uniform, size.quads()));
    launches.push(invocations(finish, vec![warped, numbers], vec![y], uniform, size.quads()));
    launches
}

/// Of x, numbers. Images have no gradient.
#[derive(Debug)]
struct Augment(Augmented);

impl Operation for Augment {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [warped, parts, means] = scratch(&self.0);
        let warped = context.scratch(warped);
        let (parts, means) =
            if self.0.jitter { (context.scratch(parts), context.scratch(means)) } else { (warped, warped) };
        augment(&self.0, context.first(), [warped, parts, means], context.output)
    }
}

impl Graph {
    /// Images \[N,H,W,C\] augmented by `numbers` \[N, [`NUMBERS`]\]; `border` is the value of each channel outside of them, by
    /// channel modulo 4. Without `jitter` its numbers do not count.
    ///
    /// # Errors
    /// [`Error::Shape`] where shapes do not fit, and for jitter of images that have not three channels.
    pub fn augment(&mut self, x: NodeId, numbers: NodeId, border: [f32; 4], jitter: bool) -> Result<NodeId> {
        let shape = self.image_shape("augment", x)?;
        self.expect("augment", "numbers", numbers, &[shape[0], NUMBERS])?;
        if jitter && shape[3] != 3 {
            return Err(Error::shape("augment", format!("color jitter of {} channels, not 3", shape[3])));
        }
        Ok(self.push_like(x, Augment(Augmented { shape, border, jitter }), vec![x, numbers]))
    }
}
