//! `duet explain`: what would have to change for the decision to change?

mod all;
mod pictures;
mod source;
mod targets;

pub use all::merge as merge_all;
pub use pictures::merge;

use crate::cli::how::words;
use crate::cli::{Cli, Explain};
use crate::eval::judge::{Identity as Who, Judge};
use crate::eval::row::Names;
use crate::io::given::load_mask;
use crate::io::session::Session;
use crate::report::page::Settings;
use crate::shard::Identity;
use duet::explain::{ExplainOptions, Explainer, Method};
use duet::picture::Preparation;
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// What parts of it are called, of pictures and of whole data sets.
pub const NAME: &str = "explain";
/// See [`NAME`].
pub const ALL: &str = "explain-all";

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, class, chain or judge; device errors; a file that cannot be written; images that cannot be read, after all
/// others were explained.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    let data = [("recipe", options.data.recipe.is_some()), ("data", options.data.data.is_some())];
    if let Some((name, _)) = data.iter().find(|(_, given)| *given) {
        if !options.all {
            return Err(Error::config(*name, "is read with --all alone: add it, or give images alone"));
        }
        if !options.images.is_empty() {
            return Err(Error::config(*name, "names data beside images: give one or the other"));
        }
    }
    if options.all { all::run(arguments, options) } else { pictures::run(arguments, options) }
}

/// What the library is told.
fn chain(options: &Explain, preparation: &Preparation) -> Result<ExplainOptions> {
    let mask = options.mask.as_deref().map(|path| load_mask(path, preparation)).transpose()?;
    options.how.options(mask)
}

/// Plans for the images at hand.
fn explainer(session: &Session, explain: &ExplainOptions, batch: usize) -> Result<Explainer> {
    let diffusion = &session.checkpoint.diffusion;
    pollster::block_on(Explainer::fitting(&session.weights, diffusion, batch, explain, session.set))
}

/// The judge, where one is asked for.
fn judge(session: &Session, options: &Explain) -> Result<Option<Judge>> {
    let open = |path: &PathBuf| Judge::open(session, &options.model.model, path);
    options.judge.as_ref().map(open).transpose()
}

/// What the explanations of all parts are of, beside the images.
fn identity(arguments: &Cli, options: &Explain, session: &Session, name: &str) -> Result<Identity> {
    Identity::new(name, arguments, options)?
        .with_file("model", Some(&options.model.model))?
        .with("weights", format!("{:?}", session.set))
        .with_file("judge", options.judge.as_deref())?
        .with_file("mask", options.mask.as_deref())
}

/// Whether the noised image tells anything: of the local method it is the original in noise that the chain knows.
fn shows_noised(explain: &ExplainOptions) -> bool {
    matches!(explain.method, Method::Paper(_))
}

/// What the report says of all images.
fn settings(
    session: &Session,
    options: &Explain,
    explain: &ExplainOptions,
    explainer: &Explainer,
    judge: Option<&Judge>,
) -> Settings {
    // A report goes to others, whom folders of this machine do not concern.
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let judged = |judge: &Judge| {
        let file = name(Path::new(&judge.identity.file));
        Who { file, ..judge.identity.clone() }.words()
    };
    Settings {
        command: if options.all { "duet explain --all" } else { "duet explain --report" }.to_owned(),
        model: name(&options.model.model),
        noise: explain.noise,
        steps: [explainer.steps(), explainer.chain_steps()],
        seed: explain.seed.0,
        variants: options.variants,
        method: explain.method.name().to_owned(),
        chain: words(explain),
        device: session.weights.device().info().name.clone(),
        names: Names::of(session.config()),
        judge: judge.map(judged),
    }
}
