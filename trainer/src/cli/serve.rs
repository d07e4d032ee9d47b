//! Options of `duet serve`.

use super::{Data, WeightSet};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// `duet serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Folder of a training run, or a checkpoint (.safetensors). Without it the page shows its own model.
    pub model: Option<PathBuf>,
    /// Weights to use.
    #[arg(long, value_enum, default_value_t)]
    pub weights: WeightSet,
    /// Data whose test images the page offers; without them it takes those the visitor brings.
    #[command(flatten)]
    pub data: Data,
    /// Test images of each class that the page offers; 0: none.
    #[arg(long, short = 'n', default_value_t = 6)]
    pub samples: usize,
    /// Port; 0 takes any that is free.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Address to listen on. Browsers give WebGPU to pages of their own machine, or over https, alone.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Folder of the built page (web/demo/dist), in place of the one inside the program.
    #[arg(long, value_name = "FOLDER")]
    pub page: Option<PathBuf>,
}
