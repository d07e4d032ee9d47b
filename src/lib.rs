//! # Duet
//!
//! Joint diffusion models: one network that generates images, classifies them and explains its decisions by
//! counterfactuals (Deja, Trzcinski, Tomczak: "Learning Data Representations with Joint Diffusion Models",
//! arXiv 2301.13622). The whole computation, forward and backward, is WGSL compute shaders; the same shaders run
//! natively on Vulkan, Metal and DX12 and in a browser through WebGPU.
//!
//! A model is a [`graph`] of [`ops`]; a graph is differentiated as a graph ([`autodiff`]) and compiled once into a plan; a
//! plan is a fixed list of kernels over planned memory that a [`gpu::Device`] runs.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use duet::blocking::Duet;
//! use duet::explain::ExplainOptions;
//! use duet::picture::{Picture, PixelLayout};
//!
//! let mut duet = Duet::load("web/demo/public/model.safetensors")?;
//! let grey = image::open("web/demo/public/images/00009.png")?.into_luma8();
//! let data = grey.as_raw(); // 28 × 28 grey levels
//! let image = duet.image(&Picture { width: 28, height: 28, layout: PixelLayout::Grey, data, orientation: 1 })?;
//! assert_eq!(duet.classify(&image)?[0].name, "Sneaker");
//!
//! // What would have to change for it to be an ankle boot? A fifth of a chain of 25 steps is five steps.
//! let boot = duet.config().find_class("Ankle boot")?;
//! let options = ExplainOptions { respacing: "25".into(), ..ExplainOptions::default() };
//! let made = duet.explain(&image, boot, &options)?;
//! assert!(made.after[boot] > made.before[boot]);
//! # Ok(()) }
//! ```

// Input is never a reason to panic. Where graphs are built and lowered, indices follow from shapes that were checked; of those
// the proof is a table of hostile arguments, `tests/suite/hostile.rs`.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod autodiff;
#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod checkpoint;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod diffusion;
pub mod error;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod evaluation;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod explain;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
mod facade;
pub mod families;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod features;
pub mod gpu;
pub mod graph;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod infer;
pub mod model;
pub mod ops;
pub mod picture;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod recipe;
pub mod rng;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod sampling;
pub mod self_test;
pub mod tensor;
#[cfg(not(target_arch = "wasm32"))]
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod torch;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod train;
pub mod typicality;
#[cfg_attr(not(test), warn(clippy::indexing_slicing))]
pub mod weights;

pub use error::{Error, Result};
pub use facade::{Classification, Duet, LoadOptions, SampleOptions};
/// The version of the GPU API that is in signatures here ([`gpu::Device::adopt`]).
pub use wgpu;
