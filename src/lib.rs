//! # Duet
//!
//! Joint diffusion models: one network that generates images, classifies them and explains its decisions by
//! counterfactuals (Deja, Trzcinski, Tomczak: "Learning Data Representations with Joint Diffusion Models",
//! arXiv 2301.13622). The whole computation, forward and backward, is WGSL compute shaders; the same shaders run
//! natively on Vulkan, Metal and DX12 and in a browser through WebGPU.
//!
//! A model is a [`graph`] of [`ops`]; a graph is differentiated as a graph ([`autodiff`]) and compiled once into a plan; a
//! plan is a fixed list of kernels over planned memory that a [`gpu::Device`] runs.

pub mod autodiff;
#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
pub mod checkpoint;
pub mod diffusion;
pub mod error;
pub mod explain;
mod facade;
pub mod families;
pub mod gpu;
pub mod graph;
pub mod infer;
pub mod model;
pub mod ops;
pub mod picture;
pub mod rng;
pub mod sampling;
pub mod self_test;
pub mod tensor;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
pub use facade::{Classification, Duet, LoadOptions, SampleOptions};
/// The version of the GPU API that is in signatures here ([`gpu::Device::adopt`]).
pub use wgpu;
