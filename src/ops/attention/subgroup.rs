//! [`attention`](super) for CPUs that play a GPU of eight lanes: as the direct family, but one token is loaded after the other, which
//! such devices compile several times faster. `wgsl/attention_subgroup.wgsl` and, of the gradient,
//! `wgsl/attention_grad_subgroup.wgsl`.

use super::{Attention, direct};
use crate::gpu::{Launch, Slice};
use crate::ops::kernel::shader;

shader!("attention_subgroup");

mod gradient {
    crate::ops::kernel::shader!("attention_grad_subgroup");
}

/// One pass; `products` products of all pairs of tokens.
pub(super) fn launch(
    size: &Attention,
    entry: &'static str,
    reads: Vec<Slice>,
    writes: Vec<Slice>,
    products: usize,
) -> Launch {
    let kernel = if entry == "forward" { kernel } else { gradient::kernel };
    direct::blocks(kernel, size, entry, reads, writes, products)
}
