//! `duet-bindgen MODULE.wasm FOLDER`: writes the module and its JavaScript glue, for browsers.

use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

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
        .map(|b| b.typescript(true).omit_default_module_path(false).out_name("duet_web"))
        .and_then(|b| b.generate(&folder));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duet-bindgen: {module}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
