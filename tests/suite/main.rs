//! The library's tests: kernels against f64 twins and finite differences, golden data of the reference, end to end.

mod activations;
mod attention;
mod channels;
mod checkpoint;
mod conv2d;
mod convolution;
mod explain;
mod families;
mod features;
mod golden;
mod groupnorm;
mod harness;
mod layers;
mod loss;
mod matmul;
mod noise;
mod optimizer;
mod philox;
mod plans;
mod pointwise;
mod pool2d;
mod profile;
mod programs;
mod resample;
mod resume;
mod sampling;
mod schedules;
mod self_test;
mod shaders;
mod solver;
mod solvers;
mod timesteps;
mod training;

mod variational;
mod web_fixtures;
