//! The WebAssembly module under the npm package `duet-diffusion`. It is not meant to be called by hand: the TypeScript
//! layer turns pictures into numbers, queues calls and gives errors their types.
//!
//! Images go in and out as `Float32Array`s \[N,C,H,W\] in −1..1, options as JSON text. Errors are plain objects with
//! `code`, `message` and, where they apply, `limit`, `need` and `have`.
#![cfg(target_arch = "wasm32")]

mod check;
mod engine;
mod error;
mod evaluate;
mod explain;
mod heap;
mod inspect;
mod panic;
mod picture;
mod run;
mod train;
