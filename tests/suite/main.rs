//! The library's tests: kernels against f64 twins and finite differences, golden data of the reference, end to end.

mod attention;
mod channels;
mod checkpoint;
mod convolution;
mod explain;
mod features;
mod golden;
mod groupnorm;
mod harness;
mod loss;
mod noise;
mod optimizer;
mod philox;
mod plans;
mod pointwise;
mod resample;
mod sampler;
mod schedules;
mod self_test;
mod shaders;
mod timesteps;
mod training;
mod variational;
mod web_fixtures;
