//! The operations, one room each, named as its shader in `wgsl/`: the method of [`Graph`](crate::graph::Graph) that checks
//! shapes and adds the operation, its gradient, its launches and which family of kernels makes them.

pub mod attention;
pub mod augment;
pub mod batchnorm;
pub mod channels;
mod concat;
pub mod conv2d;
pub mod conv3x3;
pub mod counterfactual;
pub mod diffuse;
pub mod features;
pub mod groupnorm;
pub mod half;
mod kernel;
pub mod linear_group;
pub mod loss;
pub mod loss_scale;
pub mod matmul;
pub mod measure;
pub mod normalize;
pub mod optimizer;
pub mod pointwise;
pub mod pool2d;
pub mod probe;
pub mod random;
pub mod reduce_rows;
pub mod resample;
pub mod resize;
pub mod solver;
pub mod timestep_embedding;
pub mod total;
pub mod variational;

pub use counterfactual::Reference;
pub use features::Pooling;
pub use pointwise::Activation;
pub use solver::{SolverInputs, Sources};
