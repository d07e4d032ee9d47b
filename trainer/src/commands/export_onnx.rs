//! `duet export --onnx`: a model as a file for other programs.

use crate::cli::{Cli, Export, OnnxKind};
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::session::{averaged, load_checkpoint};
use crate::onnx;
use duet::checkpoint::{Checkpoint, Dtype};
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, or one that was not trained to do what is asked for; options that do not go together; a file that cannot be
/// written.
pub fn run(arguments: &Cli, options: &Export, kind: OnnxKind) -> Result<()> {
    let model = &options.model.model;
    let out = options.out.as_ref().ok_or_else(|| Error::config("out", "names the .onnx file to write"))?;
    files::must_end("out", out, &["onnx"])?;
    files::check(&[(Kind::Model, out)], &[model])?;
    let (checkpoint, network) = load_checkpoint(model)?;
    let ema = averaged(&checkpoint, options.model.weights, model)?;
    // The weights to use, rounded as they will be stored.
    let dtype = if options.onnx.f16 { Dtype::F16 } else { Dtype::F32 };
    let chosen = Checkpoint::from_bytes(&checkpoint.export(dtype, ema)?, model)?;
    let bytes = onnx::export(&chosen, kind, &options.onnx)?;
    Kind::Model.write(out, &bytes)?;
    let (path, count) = (out.display().to_string(), network.params.parameter_count());
    if arguments.json {
        say!("{}", serde_json::json!({ "file": path, "bytes": bytes.len(), "parameters": count }));
    } else {
        let size = crate::io::output::bytes(bytes.len() as u64);
        say!("wrote {path}: {size} of ONNX (opset 17), from a model of {count} parameters");
    }
    Ok(())
}
