//! Which family of kernels runs an operation.
//!
//! Convolutions, matrix products and attention exist in several families: register tiles without barriers, which run
//! anywhere; tiles in workgroup memory for GPUs; matrices that a GPU's subgroups multiply themselves, where the user lets factors be
//! rounded to f16; and tiles of a subgroup, for CPUs that pose as GPUs with vectors of eight.
//! [`Choices`] say which one runs: a stored measurement ([`Tuning`]) where there is one for the shape, else a rule.
//! Nothing is ever measured while a model runs.

mod table;

pub use table::{FORMAT, Measured, Tuning};

use crate::gpu::{Device, Traits};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How a kernel works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Each invocation loads what it needs into registers; no barriers.
    Direct,
    /// Workgroups share tiles in workgroup memory.
    Tiled,
    /// Subgroups of exactly eight invocations share what each of them loads.
    Subgroup,
    /// Subgroups multiply matrices of f16 themselves (tensor cores); sums are f32.
    Cooperative,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 4] = [Family::Direct, Family::Tiled, Family::Subgroup, Family::Cooperative];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Family::Direct => "direct",
            Family::Tiled => "tiled",
            Family::Subgroup => "subgroup",
            Family::Cooperative => "cooperative",
        }
    }

    /// Whether the family has a kernel for it. The direct one has all; the tiled one lacks the gradient for a convolution's
    /// input at strides other than 1 and convolutions of any window; that of subgroups lacks the gradient for the weight of 3×3
    /// convolutions at stride 2; that of matrices has 3×3 convolutions, forward and at stride 1 for the input, and products.
    pub fn has(self, key: &Key) -> bool {
        let stride = || key.shape.get(5) == Some(&1);
        match (self, key.operation) {
            (Family::Direct, _) => true,
            (Family::Tiled, KeyKind::Conv2dForward | KeyKind::Conv2dGradInput) => false,
            (Family::Tiled, KeyKind::ConvGradInput) => stride(),
            (Family::Tiled, _) => true,
            (Family::Subgroup, KeyKind::ConvGradWeight) => stride(),
            (Family::Subgroup, _) => true,
            (Family::Cooperative, KeyKind::ConvGradInput) => stride(),
            (
                Family::Cooperative,
                KeyKind::ConvForward
                | KeyKind::MatmulForward
                | KeyKind::MatmulGradInput
                | KeyKind::MatmulGradWeight,
            ) => true,
            (Family::Cooperative, _) => false,
        }
    }

    /// The family, or what runs where it has no kernel for `key`: the direct one, or before it, of GPUs, the tiled one.
    pub fn or_direct(self, key: &Key) -> Family {
        match self {
            family if family.has(key) => family,
            Family::Cooperative => Family::Tiled.or_direct(key),
            _ => Family::Direct,
        }
    }

    /// Whether a device can run the family.
    pub fn runs_on(self, device: &Device) -> bool {
        self.runs_with(device.traits())
    }

    fn runs_with(self, traits: Traits) -> bool {
        match self {
            Family::Direct => true,
            Family::Tiled => traits.invocations >= NEEDS.0 && traits.workgroup_bytes >= NEEDS.1,
            Family::Subgroup => traits.lanes == LANES,
            Family::Cooperative => {
                let memory = traits.workgroup_bytes >= MATRICES_NEED;
                traits.matrices && memory && Family::Tiled.runs_with(traits)
            }
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Operations that may have several families: what a key of a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// 3×3 convolution.
    ConvForward,
    /// Its gradient for the input.
    ConvGradInput,
    /// Its gradient for the weight.
    ConvGradWeight,
    /// Convolution with any window.
    Conv2dForward,
    /// Its gradient for the input.
    Conv2dGradInput,
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

impl KeyKind {
    /// All of them.
    pub const ALL: [KeyKind; 10] = [
        KeyKind::ConvForward,
        KeyKind::ConvGradInput,
        KeyKind::ConvGradWeight,
        KeyKind::Conv2dForward,
        KeyKind::Conv2dGradInput,
        KeyKind::MatmulForward,
        KeyKind::MatmulGradInput,
        KeyKind::MatmulGradWeight,
        KeyKind::AttentionForward,
        KeyKind::AttentionGrad,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::ConvForward => "conv_forward",
            KeyKind::ConvGradInput => "conv_grad_input",
            KeyKind::ConvGradWeight => "conv_grad_weight",
            KeyKind::Conv2dForward => "conv2d_forward",
            KeyKind::Conv2dGradInput => "conv2d_grad_input",
            KeyKind::MatmulForward => "matmul_forward",
            KeyKind::MatmulGradInput => "matmul_grad_input",
            KeyKind::MatmulGradWeight => "matmul_grad_weight",
            KeyKind::AttentionForward => "attention_forward",
            KeyKind::AttentionGrad => "attention_grad",
        }
    }

    /// What the numbers of a shape mean.
    pub fn dimensions(self) -> &'static [&'static str] {
        match self {
            KeyKind::ConvForward | KeyKind::ConvGradInput | KeyKind::ConvGradWeight => {
                &["batch", "height", "width", "in_channels", "out_channels", "stride"]
            }
            KeyKind::Conv2dForward | KeyKind::Conv2dGradInput => &[
                "batch",
                "height",
                "width",
                "in_channels",
                "out_channels",
                "kernel_height",
                "kernel_width",
                "stride_height",
                "stride_width",
                "padding_height",
                "padding_width",
            ],
            KeyKind::MatmulForward | KeyKind::MatmulGradInput | KeyKind::MatmulGradWeight => {
                &["rows", "in_features", "out_features"]
            }
            KeyKind::AttentionForward | KeyKind::AttentionGrad => &["batch", "tokens", "channels", "heads"],
        }
    }
}

/// An operation on tensors of one shape. Made by the operations' sizes, such as `Conv3x3::key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The operation.
    pub operation: KeyKind,
    /// Its sizes, in the order of [`KeyKind::dimensions`].
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

/// What runs where no table says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The family wherever it has a kernel.
    Always(Family),
    /// The family where a shape fills its tiles.
    ByShape(Family),
}

/// Which family runs each operation on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    rule: Rule,
    table: BTreeMap<Key, Family>,
}

/// Invocations and bytes of workgroup memory that the tiled kernels need.
const NEEDS: (u32, u32) = (64, 8192);
/// The same of those of matrices, which run where the tiled ones do.
const MATRICES_NEED: u32 = 10_752;
/// Fewest channels, read or written, of which half a tile and a step of the sum are full.
const LEAST_CHANNELS: usize = 16;
/// Fewest rows of a product (pixels, samples): the smaller of the two tiles' heights.
const LEAST_ROWS: usize = 64;
/// Size of the subgroups that kernels are written for.
const LANES: u32 = 8;
/// Of a convolution's weight: channels that a subgroup reads, and that it writes, four a lane.
const SUBGROUP_READS: usize = 16;
const SUBGROUP_CHANNELS: usize = 32;

impl Default for Choices {
    fn default() -> Choices {
        Choices::all(Family::Direct)
    }
}

impl Choices {
    /// One family for everything that exists in it.
    pub fn all(family: Family) -> Choices {
        Choices { rule: Rule::Always(family), table: BTreeMap::new() }
    }

    /// The choices for the adapter `name`: of the table of `tuning` that names it most closely where it has the shape, then
    /// of the table shipped for such adapters, then by rule: wherever the shape fills their tiles, on a GPU those of matrices where
    /// it has them and the tiled kernels elsewhere, on software with subgroups of eight theirs; else the direct ones.
    pub fn of(name: &str, traits: Traits, tuning: &[Tuning]) -> Choices {
        let gpu = if traits.matrices { Family::Cooperative } else { Family::Tiled };
        let best = if traits.software { Family::Subgroup } else { gpu };
        let rule = if best.runs_with(traits) { Rule::ByShape(best) } else { Rule::Always(Family::Direct) };
        let mut choices = Choices { rule, table: BTreeMap::new() };
        let shipped = Tuning::shipped(name);
        let own = tuning.iter().filter(|t| t.fits(name)).max_by_key(|t| t.adapter.len());
        for table in shipped.iter().chain(own) {
            if let Some(family) = table.otherwise.filter(|f| f.runs_with(traits)) {
                choices.rule = Rule::Always(family);
            }
            let able = table.choices.iter().filter(|m| m.family.runs_with(traits));
            choices.table.extend(able.map(|m| (m.key.clone(), m.family)));
        }
        choices
    }

    /// The choices for a device: those of [`Choices::install`], else the shipped table and the rule.
    pub fn of_device(device: &Device) -> Arc<Choices> {
        device.attached(|| Choices::of(&device.info().name, device.traits(), &[]))
    }

    /// Makes every plan that is loaded on the device from now on follow these tables of measurements too.
    pub fn install(device: &Device, tuning: &[Tuning]) {
        device.attach(Choices::of(&device.info().name, device.traits(), tuning));
    }

    /// Whether nothing but the direct family is ever chosen.
    pub fn is_direct(&self) -> bool {
        self.rule == Rule::Always(Family::Direct) && self.table.values().all(|f| *f == Family::Direct)
    }

    /// Whether what runs by rule is made for a GPU, whose workgroups are several waves wide; else it is for a CPU.
    pub fn is_gpu(&self) -> bool {
        let (Rule::Always(family) | Rule::ByShape(family)) = self.rule;
        matches!(family, Family::Tiled | Family::Cooperative)
    }

    /// The family that runs `key`.
    pub fn family(&self, key: &Key) -> Family {
        let by_rule = || match self.rule {
            Rule::Always(family) => family,
            Rule::ByShape(gpu @ (Family::Tiled | Family::Cooperative)) if fills_tiles(key) => gpu,
            Rule::ByShape(Family::Subgroup) if fills_subgroups(key) => Family::Subgroup,
            Rule::ByShape(_) => Family::Direct,
        };
        self.table.get(key).copied().unwrap_or_else(by_rule).or_direct(key)
    }
}

/// The rule for subgroups: everything they have but gradients of convolutions' weights of which a quarter of the tile would
/// be empty. (Few written channels waste lanes elsewhere too, but such convolutions are rare and small, and one kernel more
/// costs a CPU half a second to compile.)
fn fills_subgroups(key: &Key) -> bool {
    match (key.operation, key.shape.as_slice()) {
        (KeyKind::ConvGradWeight, &[.., read, written, _]) => {
            let tile = read.next_multiple_of(SUBGROUP_READS) * written.next_multiple_of(SUBGROUP_CHANNELS);
            4 * read * written > 3 * tile
        }
        _ => true,
    }
}

/// The rule for GPUs: below these sizes most of a tile would be empty.
fn fills_tiles(key: &Key) -> bool {
    match (key.operation, key.shape.as_slice()) {
        (
            KeyKind::ConvForward | KeyKind::ConvGradInput | KeyKind::ConvGradWeight,
            &[batch, height, width, read, written, stride],
        ) => {
            let pixels = batch * height.div_ceil(stride.max(1)) * width.div_ceil(stride.max(1));
            pixels >= LEAST_ROWS && read.min(written) >= LEAST_CHANNELS
        }
        (
            KeyKind::MatmulForward | KeyKind::MatmulGradInput | KeyKind::MatmulGradWeight,
            &[rows, read, written],
        ) => rows >= LEAST_ROWS && read.min(written) >= LEAST_CHANNELS,
        (KeyKind::AttentionForward | KeyKind::AttentionGrad, &[_, tokens, ..]) => tokens >= LEAST_ROWS,
        _ => false,
    }
}
