//! What touches the world outside: the terminal, pictures, the device, checkpoints and tuning tables.

pub mod given;
pub mod output;
pub mod render;
pub mod session;
pub mod text;
pub mod tuning;
