//! `duet import inception` and `duet import lenet`: weights of networks that features are measured with.

use crate::cli::{Cli, ImportNetwork, NetworkFile};
use crate::eval::features::Weights;
use crate::io::files::{self, Kind};
use crate::io::output::{bytes, say};
use duet::features::Network;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A file that cannot be read, or is of another network: what is missing, unexpected or of another shape; a file that cannot be
/// written.
pub fn run(arguments: &Cli, what: &ImportNetwork) -> Result<()> {
    let (ImportNetwork::Inception(options) | ImportNetwork::Lenet(options)) = what;
    let NetworkFile { file, out } = options;
    files::must_end("out", out, &["safetensors"])?;
    files::check(&[(Kind::Model, out)], &[file])?;
    let weights = Weights::read(file)?;
    let other = match (what, weights.network) {
        (ImportNetwork::Inception(_), Network::Lenet(_)) => Some("lenet"),
        (ImportNetwork::Lenet(_), Network::Inception(_)) => Some("inception"),
        _ => None,
    };
    if let Some(other) = other {
        let detail = format!("holds {}: `duet import {other}` reads it", weights.network.name());
        return Err(Error::Checkpoint { path: file.clone(), detail });
    }
    let written = weights.to_bytes(out)?;
    Kind::Model.write(out, &written)?;
    let parameters: usize = weights.tensors.values().map(|tensor| tensor.data.len()).sum();
    let (name, standard) = (weights.name(), weights.standard());
    if arguments.json {
        let row = serde_json::json!({
            "file": out.display().to_string(), "bytes": written.len(), "network": weights.network.name(),
            "tensors": weights.tensors.len(), "values": parameters, "features": name, "standard": standard,
            "sha256": weights.origin.sha256, "contents": weights.origin.contents,
        });
        say!("{row}");
        return Ok(());
    }
    let (count, size) = (weights.tensors.len(), bytes(written.len() as u64));
    say!(
        "wrote {}: {}, {count} tensors of {parameters} values, {size}",
        out.display(),
        weights.network.name()
    );
    match (standard, weights.network) {
        (true, _) => {
            say!("these are the weights that published FIDs are measured with: figures go by the name FID")
        }
        (false, Network::Inception(_)) => say!(
            "these are not known to be the weights that published FIDs are measured with (pytorch-fid's \
             pt_inception-2015-12-05-6726825d.pth, as it was downloaded): figures are named \"{name}-feature FID\""
        ),
        (false, Network::Lenet(_)) => say!("figures are named \"{name}-feature FID\""),
    }
    Ok(())
}
