//! The library's tests: kernels against f64 twins and finite differences, golden data of the reference, end to end.

mod harness;
