//! `duet export`: the averaged weights alone, in 16-bit floats, for shipping.

use crate::cli::{Cli, Export, WeightSet};
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::session::load_checkpoint;
use duet::Result;
use duet::checkpoint::Dtype;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint; values beyond the range of 16-bit floats; a file that cannot be written.
pub fn run(arguments: &Cli, options: &Export) -> Result<()> {
    files::check(&[(Kind::Model, &options.out)], &[&options.model.model])?;
    let (checkpoint, model) = load_checkpoint(&options.model.model)?;
    let ema = match options.model.weights {
        WeightSet::Auto => checkpoint.ema.is_some(),
        WeightSet::Ema => true,
        WeightSet::Raw => false,
    };
    let dtype = if options.f32 { Dtype::F32 } else { Dtype::F16 };
    let bytes = checkpoint.export(dtype, ema)?;
    Kind::Model.write(&options.out, &bytes)?;
    let (path, count) = (options.out.display().to_string(), model.params.parameter_count());
    if arguments.json {
        say!("{}", serde_json::json!({"file": path, "bytes": bytes.len(), "parameters": count}));
    } else {
        say!("wrote {path}: {count} parameters in {}", crate::io::output::bytes(bytes.len() as u64));
    }
    Ok(())
}
