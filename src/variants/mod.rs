//! Which family of kernels runs an operation.
//!
//! Convolutions, matrix products and attention may exist in two families: register tiles without barriers, best where
//! the "GPU" is a CPU, and tiles in workgroup memory for GPUs. [`Choices`] say which one runs: a stored measurement
//! ([`Tuning`]) where there is one for the shape, else a rule. Nothing is ever measured while a model runs.

mod table;

pub use table::{FORMAT, Measured, Tuning};

use std::collections::BTreeMap;
use std::fmt;

/// How a kernel works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Each invocation loads what it needs into registers; no barriers.
    Direct,
    /// Workgroups share tiles in workgroup memory.
    Tiled,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Direct => "direct",
            Family::Tiled => "tiled",
        })
    }
}

/// An operation that may have several families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// 3×3 convolution.
    ConvForward,
    /// Its gradient for the input.
    ConvGradInput,
    /// Its gradient for the weight.
    ConvGradWeight,
    /// Matrix product.
    MatmulForward,
    /// Its gradient for the left side.
    MatmulGradInput,
    /// Its gradient for the weight.
    MatmulGradWeight,
    /// Attention.
    AttentionForward,
    /// Its gradient.
    AttentionGrad,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 8] = [
        Operation::ConvForward,
        Operation::ConvGradInput,
        Operation::ConvGradWeight,
        Operation::MatmulForward,
        Operation::MatmulGradInput,
        Operation::MatmulGradWeight,
        Operation::AttentionForward,
        Operation::AttentionGrad,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Operation::ConvForward => "conv_forward",
            Operation::ConvGradInput => "conv_grad_input",
            Operation::ConvGradWeight => "conv_grad_weight",
            Operation::MatmulForward => "matmul_forward",
            Operation::MatmulGradInput => "matmul_grad_input",
            Operation::MatmulGradWeight => "matmul_grad_weight",
            Operation::AttentionForward => "attention_forward",
            Operation::AttentionGrad => "attention_grad",
        }
    }

    /// What the numbers of a shape mean.
    pub fn dimensions(self) -> &'static [&'static str] {
        match self {
            Operation::ConvForward | Operation::ConvGradInput | Operation::ConvGradWeight => {
                &["batch", "height", "width", "in_channels", "out_channels", "stride"]
            }
            Operation::MatmulForward | Operation::MatmulGradInput | Operation::MatmulGradWeight => {
                &["rows", "in_features", "out_features"]
            }
            Operation::AttentionForward | Operation::AttentionGrad => {
                &["batch", "tokens", "channels", "heads"]
            }
        }
    }
}

/// An operation on tensors of one shape. Made by the kernels' sizes, such as
/// [`Conv3x3::key`](crate::kernels::conv3x3::Conv3x3::key).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The operation.
    pub operation: Operation,
    /// Its sizes, in the order of [`Operation::dimensions`].
    pub shape: Vec<usize>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation.name())?;
        for (name, value) in self.operation.dimensions().iter().zip(&self.shape) {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// What an adapter is, as far as the rules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Invocations of a workgroup at most.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
}

/// What runs where no table says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    Direct,
    /// Tiled wherever the family exists.
    Tiled,
    /// Tiled where a shape fills tiles.
    ByShape,
}

/// Which family runs each operation on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    rule: Rule,
    table: BTreeMap<Key, Family>,
}

/// Invocations and bytes of workgroup memory that the tiled kernels need.
const NEEDS: (u32, u32) = (64, 8192);
/// Fewest channels, read or written, of which half a tile and a step of the sum are full.
const LEAST_CHANNELS: usize = 16;
/// Fewest rows of a product (pixels, samples): the smaller of the two tiles' heights.
const LEAST_ROWS: usize = 64;

impl Choices {
    /// One family for everything that exists in it.
    pub fn all(family: Family) -> Choices {
        let rule = match family {
            Family::Direct => Rule::Direct,
            Family::Tiled => Rule::Tiled,
        };
        Choices { rule, table: BTreeMap::new() }
    }

    /// The choices for the adapter `name`: of the table of `tuning` that names it most closely where it has the shape, then
    /// of the table shipped for such adapters, then by rule: direct on software; on a GPU tiled wherever the shape fills
    /// tiles.
    pub fn of(name: &str, traits: Traits, tuning: &[Tuning]) -> Choices {
        let able = traits.invocations >= NEEDS.0 && traits.workgroup_bytes >= NEEDS.1;
        let rule = if able && !traits.software { Rule::ByShape } else { Rule::Direct };
        let mut choices = Choices { rule, table: BTreeMap::new() };
        let shipped = Tuning::shipped(name);
        let own = tuning.iter().filter(|t| t.fits(name)).max_by_key(|t| t.adapter.len());
        for table in shipped.iter().chain(own) {
            if let Some(family) = table.otherwise {
                choices.rule = Choices::all(family).rule;
            }
            choices.table.extend(table.choices.iter().map(|m| (m.key.clone(), m.family)));
        }
        if !able {
            choices = Choices::default();
        }
        choices
    }

    /// Whether nothing but the direct family is ever chosen.
    pub fn is_direct(&self) -> bool {
        self.rule == Rule::Direct && self.table.values().all(|f| *f == Family::Direct)
    }

    /// The family that runs `key`.
    pub fn family(&self, key: &Key) -> Family {
        if !has_tiled(key) {
            return Family::Direct;
        }
        if let Some(family) = self.table.get(key) {
            return *family;
        }
        match self.rule {
            Rule::Direct => Family::Direct,
            Rule::Tiled => Family::Tiled,
            Rule::ByShape if fills_tiles(key) => Family::Tiled,
            Rule::ByShape => Family::Direct,
        }
    }
}

/// Whether the tiled family has a kernel for it: all have, but for the gradient for a convolution's input at strides
/// other than 1.
pub fn has_tiled(key: &Key) -> bool {
    key.operation != Operation::ConvGradInput || key.shape.get(5) == Some(&1)
}

/// The rule for GPUs: below these sizes most of a tile would be empty.
fn fills_tiles(key: &Key) -> bool {
    match (key.operation, key.shape.as_slice()) {
        (
            Operation::ConvForward | Operation::ConvGradInput | Operation::ConvGradWeight,
            &[batch, height, width, read, written, stride],
        ) => {
            let pixels = batch * height.div_ceil(stride.max(1)) * width.div_ceil(stride.max(1));
            pixels >= LEAST_ROWS && read.min(written) >= LEAST_CHANNELS
        }
        (
            Operation::MatmulForward | Operation::MatmulGradInput | Operation::MatmulGradWeight,
            &[rows, read, written],
        ) => rows >= LEAST_ROWS && read.min(written) >= LEAST_CHANNELS,
        (Operation::AttentionForward | Operation::AttentionGrad, &[_, tokens, ..]) => tokens >= LEAST_ROWS,
        _ => false,
    }
}
