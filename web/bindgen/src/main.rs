//! `duet-bindgen MODULE.wasm FOLDER`: writes the module and its JavaScript glue, an ES module for every program.

use std::path::Path;
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

/// What the glue has of the package in place of the globals of that name: tasks whose failures are heard of, and the classes of
/// errors of a WebGPU that shows them to nobody.
const OWN: &str = "import { GPUOutOfMemoryError, GPUValidationError, queueMicrotask } from '../glue.js';\n";

/// Puts the package's own in front of the glue.
fn own(glue: &Path) -> std::io::Result<()> {
    let text = std::fs::read_to_string(glue)?;
    std::fs::write(glue, format!("{OWN}{text}"))
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(module), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: duet-bindgen MODULE.wasm FOLDER");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    let outcome = bindgen
        .input_path(&module)
        .web(true)
        // The package finds the module by itself.
        .map(|b| b.typescript(true).omit_default_module_path(true).out_name("duet_web"))
        .and_then(|b| b.generate(&folder))
        .and_then(|()| Ok(own(&Path::new(&folder).join("duet_web.js"))?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duet-bindgen: {module}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
