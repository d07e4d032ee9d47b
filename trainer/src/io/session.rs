//! What commands share: the device, a loaded model, interruption.

use crate::cli::{self, ChainArgs, Cli, Data, Model};
use crate::data::{Cache, DataSpec, Split};
use crate::io::data::Reader;
use crate::io::output::tell;
use crate::io::{terminal, tuning};
use crate::recipe::Recipe;
use duet::checkpoint::Checkpoint;
use duet::diffusion::Solver;
use duet::families::Choices;
use duet::gpu::{Device, DeviceOptions};
use duet::infer::NoiseProfiles;
use duet::model::{JointModel, ModelConfig, WeightSet};
use duet::picture::Pictures;
use duet::sampling::Guidance;
use duet::typicality::{Reference, Typicality};
use duet::weights::Weights;
use duet::{Error, Result};
use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Images whose likeness to the training data is measured together.
const PROFILE_BATCH: usize = 8;

/// Where compiled pipelines and decoded pictures are kept between runs; `None` where there is no home.
pub fn cache_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|base| !base.is_empty()).map(PathBuf::from);
    base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|base| base.join("duet"))
}

/// Opens the device the command line asks for, with its tuning table where there is one.
///
/// # Errors
/// No adapter, and what to install; a bad table.
pub fn open_device(arguments: &Cli) -> Result<Device> {
    open_device_of(arguments, arguments.number)
}

/// As [`open_device`], for the process of this number among those of the machine: where several adapters are as good, each has its
/// own.
///
/// # Errors
/// As [`open_device`].
pub fn open_device_of(arguments: &Cli, number: usize) -> Result<Device> {
    let tables = tuning::tables(arguments)?;
    let device = open_numbered(arguments, number)?;
    tuning::check(arguments, &tables, &device.info().name)?;
    Choices::install(&device, &tables);
    Ok(device)
}

/// Opens the device the command line asks for, whatever tables there are.
///
/// # Errors
/// No adapter, and what to install.
pub fn open_untuned(arguments: &Cli) -> Result<Device> {
    open_numbered(arguments, 0)
}

fn open_numbered(arguments: &Cli, number: usize) -> Result<Device> {
    let options = DeviceOptions {
        adapter: arguments.gpu.clone(),
        number,
        pipeline_cache: cache_folder(),
        matmul_precision: arguments.matmul_precision.into(),
        ..DeviceOptions::default()
    };
    let device = pollster::block_on(Device::open(&options))?;
    tracing::debug!(info = ?device.info(), "device");
    Ok(device)
}

/// A trained model on the device.
pub struct Session {
    /// Its weights.
    pub weights: Weights,
    /// The file's contents.
    pub checkpoint: Checkpoint,
    /// Which weights to use.
    pub set: WeightSet,
    /// What measures how like the training data images are, made at its first use.
    profiles: OnceCell<NoiseProfiles>,
    /// Reads its data.
    reader: Reader,
}

impl Session {
    /// Reads and uploads a checkpoint.
    ///
    /// # Errors
    /// A bad file; device errors.
    pub fn open(arguments: &Cli, options: &Model) -> Result<Session> {
        let (checkpoint, model) = load_checkpoint(&options.model)?;
        let averaged = averaged(&checkpoint, options.weights, &options.model)?;
        let set = if averaged { WeightSet::Averaged } else { WeightSet::Raw };
        Self::with(arguments, checkpoint, model, set)
    }

    /// Uploads the weights of a checkpoint without an average.
    ///
    /// # Errors
    /// A checkpoint that does not fit its configuration; device errors.
    pub fn of(arguments: &Cli, checkpoint: Checkpoint, path: &Path) -> Result<Session> {
        let model = Arc::new(checkpoint.joint_model(path)?);
        Self::with(arguments, checkpoint, model, WeightSet::Raw)
    }

    fn with(
        arguments: &Cli,
        checkpoint: Checkpoint,
        model: Arc<JointModel>,
        set: WeightSet,
    ) -> Result<Session> {
        let device = open_device(arguments)?;
        let weights = upload(&device, model, &checkpoint)?;
        Ok(Session { weights, checkpoint, set, profiles: OnceCell::new(), reader: Reader::of(arguments) })
    }

    /// Another model on the same device, and which of its weights to use: the average where it has one.
    ///
    /// # Errors
    /// A checkpoint that does not fit its configuration; device errors.
    pub fn beside(&self, checkpoint: &Checkpoint, path: &Path) -> Result<(Weights, WeightSet)> {
        let model = Arc::new(checkpoint.joint_model(path)?);
        let set = if checkpoint.ema.is_some() { WeightSet::Averaged } else { WeightSet::Raw };
        Ok((upload(self.weights.device(), model, checkpoint)?, set))
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.checkpoint.model
    }

    /// Which data the command line names, or the model was trained on.
    ///
    /// # Errors
    /// A checkpoint that does not say; bad recipes.
    pub fn data_spec(&self, options: &Data) -> Result<DataSpec> {
        data_spec(&self.checkpoint, options)
    }

    /// These data, with the model's classes: matched by name.
    ///
    /// # Errors
    /// As [`Session::data_spec`]; bad data; classes that the model does not have.
    pub fn data(&self, options: &Data) -> Result<Split> {
        data(&self.reader, &self.checkpoint, options)
    }

    /// Where what was computed of data is kept between runs; `None`: nowhere.
    pub fn cache_folder(&self) -> Option<&Path> {
        self.reader.cache.as_ref().map(Cache::folder)
    }

    /// The statistics of the training data under the weights in use, where the file has them.
    pub fn reference(&self) -> Option<&Reference> {
        self.checkpoint.typicality_of(self.set == WeightSet::Averaged)
    }

    /// How like the training data each of any number of images \[N,C,H,W\] is, which are some of `all`; `None` where the file does not
    /// say.
    ///
    /// # Errors
    /// Device errors.
    pub fn typicality(&self, images: &[f32], all: usize) -> Result<Option<Vec<Typicality>>> {
        let Some(reference) = self.reference() else {
            return Ok(None);
        };
        let (diffusion, protocol) = (&self.checkpoint.diffusion, reference.protocol());
        let profiles = match self.profiles.get() {
            Some(profiles) => profiles,
            None => {
                // By all of them: a part of the images has the plan of all.
                let batch = all.clamp(1, PROFILE_BATCH);
                let new = NoiseProfiles::new(&self.weights, diffusion, protocol, batch, self.set);
                let new = pollster::block_on(new)?;
                self.profiles.get_or_init(|| new)
            }
        };
        let rows = pollster::block_on(profiles.get(images))?;
        rows.iter().map(|row| reference.typicality(row)).collect::<Result<_>>().map(Some)
    }

    /// Keeps compiled pipelines for the next run.
    pub fn close(&self) {
        self.weights.device().save_pipeline_cache();
    }
}

/// Which data the command line names, or the model was trained on.
///
/// # Errors
/// A checkpoint that does not say; bad recipes.
pub fn data_spec(checkpoint: &Checkpoint, options: &Data) -> Result<DataSpec> {
    let mut spec: DataSpec = match &options.recipe {
        Some(path) => Recipe::load_on(path, options.data.as_deref())?.data,
        None => {
            let text = checkpoint.info.get("data").ok_or_else(|| {
                Error::config("recipe", "the checkpoint does not say what it was trained on: give --recipe")
            })?;
            let mut spec: DataSpec = serde_json::from_str(text)
                .map_err(|e| Error::config("recipe", format!("the checkpoint's data: {e}")))?;
            spec.set_path(&spec.path.clone());
            spec
        }
    };
    if let Some(folder) = &options.data {
        spec.set_path(folder);
    }
    // The model reads pictures its own way, whatever a recipe says.
    let Pictures { ground, fit, resize, resize_to } = checkpoint.pictures;
    // An earlier version's file does not tell to what size pictures were padded, but its recipe does.
    let pad_to = spec.pad_to.filter(|_| resize_to.is_none());
    Ok(DataSpec { ground, fit, resize, resize_to, pad_to, ..spec })
}

/// The data of a checkpoint, as [`Session::data`] without a device.
///
/// # Errors
/// As [`Session::data`].
pub fn data(reader: &Reader, checkpoint: &Checkpoint, options: &Data) -> Result<Split> {
    let spec = data_spec(checkpoint, options)?;
    let config = &checkpoint.model;
    let split = reader.load(&spec, config.in_channels, config.image_size)?;
    // Standard output is the command's answer.
    if reader.json() {
        tell!("{}", split.summary.text(true));
    } else {
        tell!("duet: {}", split.summary.text(false));
        split.summary.warnings.iter().for_each(|warning| tell!("duet: warning: {warning}"));
    }
    split.for_model(config, &spec.path)
}

fn upload(device: &Device, model: Arc<JointModel>, checkpoint: &Checkpoint) -> Result<Weights> {
    pollster::block_on(Weights::upload(device, model, &checkpoint.weights, checkpoint.ema.as_ref()))
}

/// Reads a checkpoint and checks it against its own configuration.
///
/// # Errors
/// [`Error::Checkpoint`] naming what is wrong.
pub fn load_checkpoint(path: &Path) -> Result<(Checkpoint, Arc<JointModel>)> {
    let checkpoint = Checkpoint::load(path)?;
    let model = checkpoint.joint_model(path)?;
    Ok((checkpoint, Arc::new(model)))
}

/// Whether the command line asks for the moving average of a checkpoint's weights.
///
/// # Errors
/// [`Error::Checkpoint`] for one that has none.
pub fn averaged(checkpoint: &Checkpoint, weights: cli::WeightSet, path: &Path) -> Result<bool> {
    match (weights, checkpoint.ema.is_some()) {
        (cli::WeightSet::Ema, false) => {
            let detail = "holds no moving average (weights exported for shipping are the average already)";
            Err(Error::Checkpoint { path: path.to_owned(), detail: detail.into() })
        }
        (cli::WeightSet::Raw, _) => Ok(false),
        (_, there) => Ok(there),
    }
}

/// The solver that the command line asks for.
///
/// # Errors
/// [`Error::Config`] for a bad η.
pub fn solver(arguments: &ChainArgs) -> Result<Solver> {
    Solver::named(&arguments.sampler, arguments.eta)
}

/// The guidance that the command line asks for.
pub fn guidance(arguments: &ChainArgs) -> Guidance {
    arguments.guidance.guidance()
}

/// When the program was first asked to stop: by Ctrl-C, a polite kill or a terminal that was closed.
static ASKED: OnceLock<Instant> = OnceLock::new();

/// Requests within this time are one: closing a terminal, or the whole system, sends several signals.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// Begins to watch for Ctrl-C, a polite kill (SIGTERM) and a terminal that is closed (SIGHUP, unless the program was started
/// to ignore it, as by `nohup`), and for a scheduler's warning (SIGUSR1). Another request ends the program at once. A second call changes nothing.
///
/// # Errors
/// [`Error::Config`] where the system refuses a handler.
pub fn watch_interrupts() -> Result<()> {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    // The handler takes the place of what was there.
    let stays = ignore_hangup();
    ignore_full_files();
    ctrlc::set_handler(ask_to_stop).map_err(|e| Error::config("signals", e.to_string()))?;
    if stays {
        ignore_hangup();
    }
    watch_warning()
}

/// Whether a scheduler warned that the time is nearly over.
static WARNED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Takes SIGUSR1, by which schedulers warn of the end of a job's time, for a request to stop.
#[cfg(unix)]
fn watch_warning() -> Result<()> {
    let warned = Arc::clone(WARNED.get_or_init(Arc::default));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, warned)
        .map(drop)
        .map_err(|e| Error::config("signals", e.to_string()))
}

#[cfg(not(unix))]
fn watch_warning() -> Result<()> {
    Ok(())
}

/// Asks the command to stop in order, and where it was asked before ends the program at once.
pub fn ask_to_stop() {
    match ASKED.get() {
        None => {
            ASKED.get_or_init(Instant::now);
            tell!("\nduet: stopping after this step (again: at once, losing steps since the last save)");
        }
        Some(first) if first.elapsed() > ONE_REQUEST => {
            terminal::leave();
            std::process::exit(130);
        }
        Some(_) => {}
    }
}

/// Ignores hang-ups; gives whether they were ignored before.
#[cfg(unix)]
fn ignore_hangup() -> bool {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no code of ours is called by a signal that is ignored.
    unsafe { matches!(signal(Signal::SIGHUP, SigHandler::SigIgn), Ok(SigHandler::SigIgn)) }
}

#[cfg(not(unix))]
fn ignore_hangup() -> bool {
    false
}

/// A file that must not grow any more is an error of its writing, as a full disk is, and does not end the process.
#[cfg(unix)]
pub fn ignore_full_files() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no code of ours is called by a signal that is ignored. Where it cannot be, it stays as it was.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// There is no such signal.
#[cfg(not(unix))]
pub fn ignore_full_files() {}

/// What a chain hears at each step: to go on, until Ctrl-C.
pub fn go_on() -> ControlFlow<()> {
    if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Whether Ctrl-C was pressed, or the program was asked to stop otherwise.
pub fn interrupted() -> bool {
    ASKED.get().is_some() || WARNED.get().is_some_and(|warned| warned.load(Ordering::Relaxed))
}
