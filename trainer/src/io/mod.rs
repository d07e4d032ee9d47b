//! What touches the world outside: the terminal, files, pictures, the device, checkpoints and tuning tables.

pub mod data;
pub mod files;
pub mod given;
pub mod outlined;
pub mod output;
pub mod pictures;
pub mod proto;
pub mod render;
pub mod session;
pub mod strips;
pub mod terminal;
pub mod text;
pub mod tuning;
