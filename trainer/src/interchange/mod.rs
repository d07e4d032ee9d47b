//! Models of other programs, read and written: the reference's `state_dict` (as PyTorch or safetensors files), diffusers'
//! `UNet2DModel`.

pub mod diffusers;
pub mod head;
pub mod settings;
pub mod shapes;
pub mod source;
