//! The library's tests: kernels against f64 twins and finite differences, golden data of the reference, end to end.

mod attention;
mod checkpoint;
mod convolution;
mod golden;
mod groupnorm;
mod harness;
mod loss;
mod optimizer;
mod philox;
mod plans;
mod pointwise;
mod sampler;
mod schedules;
mod shaders;
mod training;
mod variational;
