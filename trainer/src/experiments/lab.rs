//! Where experiments run: their trainings, each once, the data, the models at work, and what tables tell of it all.

use super::plan::{Plan, Scale};
use super::table::{Column, Row, Table};
use super::trainings::{self, Job, State};
use crate::cli::{self, Cli, Experiment};
use crate::data::{Dataset, Split, load};
use crate::eval::accuracy::accuracy;
use crate::io::data::Reader;
use crate::io::files::{self, Kind};
use crate::io::output::time;
use crate::io::session::Session;
use crate::recipe::Recipe;
use crate::training::CHECKPOINT;
use duet::Result;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The folder of tables in that of all experiments.
pub const TABLES: &str = "tables";
/// The recipe of a training, in its folder.
const RECIPE: &str = "recipe.toml";
/// Images at once.
const BATCH: usize = 32;

/// A place for the experiments of one plan at one scale.
pub struct Lab<'a> {
    arguments: &'a Cli,
    options: &'a Experiment,
    /// What is trained.
    pub plan: Plan,
    /// How large.
    pub scale: Scale,
    /// Its trainings lie here.
    folder: PathBuf,
    splits: RefCell<BTreeMap<String, Rc<Split>>>,
    /// The checkpoints that were asked for, and how long their trainings took, whenever that was.
    trained: RefCell<BTreeMap<PathBuf, f64>>,
}

/// A trained model.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Its checkpoint.
    pub checkpoint: PathBuf,
    /// Its recipe.
    pub recipe: Recipe,
    /// That recipe's file.
    pub recipe_file: PathBuf,
}

/// What a training begins with and does otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begin<'a> {
    /// The model whose weights it begins with.
    pub init: Option<&'a Trained>,
    /// Settings beside the plan's.
    pub set: &'a [String],
    /// Added to the name of its folder, where a stage is trained in more than one way.
    pub name: &'a str,
}

/// A training that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The stage.
    pub stage: &'a str,
    /// The data set's name.
    pub data: &'a str,
    /// The seed.
    pub seed: u64,
    /// What it begins with.
    pub begin: Begin<'a>,
}

impl<'a> Lab<'a> {
    /// For the experiments of the plan `name`, whose text is `text`.
    ///
    /// # Errors
    /// A bad plan, a scale that it lacks; a folder that cannot be made.
    pub fn new(arguments: &'a Cli, options: &'a Experiment, name: &str, text: &str) -> Result<Lab<'a>> {
        let plan = Plan::parse(name, text)?;
        let mut scale = plan.scale(&options.scale)?.clone();
        if let Some(count) = options.seeds {
            scale.seeds = (1..=count as u64).collect();
        }
        let folder = options.out.join(format!("{name}-{}", options.scale));
        files::make_folder(&folder)?;
        Ok(Lab {
            arguments,
            options,
            plan,
            scale,
            folder,
            splits: RefCell::default(),
            trained: RefCell::default(),
        })
    }

    /// The seeds.
    pub fn seeds(&self) -> Vec<u64> {
        self.scale.seeds.clone()
    }

    /// Whether no progress is shown.
    pub fn quiet(&self) -> bool {
        self.arguments.json
    }

    /// Puts a picture beside a table: `svg` of what `shows` says, in a file of the table's name and `name`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn picture(&self, table: &mut Table, shows: &str, name: &str, svg: &str) -> Result<()> {
        let write = |path: &Path| Kind::Table.write(path, svg.as_bytes());
        let file = self.drawn(&table.name, &format!("{name}.svg"), write)?;
        table.pictures.push((shows.into(), file));
        Ok(())
    }

    /// Writes a file for the table `table`; its name.
    ///
    /// # Errors
    /// As `draw`.
    pub fn drawn(&self, table: &str, name: &str, draw: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
        let file = format!("{table}-{}-{name}", self.options.scale);
        draw(&self.tables().join(&file))?;
        Ok(file)
    }

    /// Where tables and their pictures lie.
    pub fn tables(&self) -> PathBuf {
        self.options.out.join(TABLES)
    }

    /// The recipe of a stage.
    ///
    /// # Errors
    /// As [`Plan::recipe`].
    pub fn recipe(&self, stage: &str, data: &str, seed: u64, set: &[String]) -> Result<Recipe> {
        let spec = self.plan.data_in(&self.options.data, data)?;
        let seed = format!("train.seed={seed}");
        self.plan.recipe(&self.scale, stage, spec, &[set, &[seed], self.options.set.as_slice()].concat())
    }

    /// Trains a stage on the data set called `data`, or goes on with it, or finds it done.
    ///
    /// # Errors
    /// What the training says is wrong; [`duet::Error::Aborted`] where it was stopped.
    pub fn train(&self, stage: &str, data: &str, seed: u64, begin: Begin<'_>) -> Result<Trained> {
        let (trained, state) = self.look(&Order { stage, data, seed, begin })?;
        let seconds = match state {
            State::Done(seconds) => seconds,
            State::Wanted(job) => self.run(&[job])?,
        };
        self.trained.borrow_mut().insert(trained.checkpoint.clone(), seconds);
        Ok(trained)
    }

    /// Trains stages of every seed that begin with no other, as many at a time as there may be, before [`Lab::train`] finds
    /// them done one by one.
    ///
    /// # Errors
    /// As [`Lab::train`], of the first that fails.
    pub fn ahead(&self, stages: &[(&str, &str)]) -> Result<()> {
        let orders: Vec<Order<'_>> = self
            .scale
            .seeds
            .iter()
            .flat_map(|seed| {
                let order = |(stage, data)| Order { stage, data, seed: *seed, begin: Begin::default() };
                stages.iter().copied().map(order)
            })
            .collect();
        self.train_all(&orders)
    }

    /// Trains all of these that are not done, as many at a time as there may be. None may begin with another of them.
    ///
    /// # Errors
    /// As [`Lab::train`], of the first that fails.
    pub fn train_all(&self, orders: &[Order<'_>]) -> Result<()> {
        let mut jobs = Vec::new();
        for order in orders {
            if let (_, State::Wanted(job)) = self.look(order)?
                && !jobs.iter().any(|known: &Job| known.folder == job.folder)
            {
                jobs.push(job);
            }
        }
        self.run(&jobs).map(drop)
    }

    /// Does trainings; how long they took together, in seconds.
    fn run(&self, jobs: &[Job]) -> Result<f64> {
        trainings::run(self.arguments, jobs, usize::from(self.options.jobs), self.quiet())
    }

    /// How a training stands.
    fn look(&self, order: &Order<'_>) -> Result<(Trained, State)> {
        let Order { stage, data, seed, begin } = *order;
        let recipe = self.recipe(stage, data, seed, begin.set)?;
        let name = if begin.name.is_empty() { stage.to_owned() } else { format!("{stage}-{}", begin.name) };
        let name = format!("{name}-{data}");
        let folder = self.folder.join(format!("seed-{seed}")).join(&name);
        let trained =
            Trained { checkpoint: folder.join(CHECKPOINT), recipe_file: folder.join(RECIPE), recipe };
        let init = begin.init.map(|model| model.checkpoint.clone());
        let state = trainings::state(format!("seed {seed}, {name}"), folder, &trained, init.as_deref())?;
        Ok((trained, state))
    }

    /// A model at work.
    ///
    /// # Errors
    /// Device errors.
    pub fn open(&self, trained: &Trained) -> Result<Session> {
        let model = cli::Model { model: trained.checkpoint.clone(), weights: cli::WeightSet::default() };
        Session::open(self.arguments, &model)
    }

    /// The data set called `data` as a model reads it.
    ///
    /// # Errors
    /// Data that cannot be read, or of other classes.
    pub fn split(&self, session: &Session, data: &str) -> Result<Rc<Split>> {
        let spec = self.plan.data_in(&self.options.data, data)?;
        let config = session.config();
        let key = format!(
            "{} {} {} {:?}",
            serde_json::to_string(&spec).unwrap_or_default(),
            config.in_channels,
            config.image_size,
            config.class_names
        );
        if let Some(known) = self.splits.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let read = Reader::of(self.arguments).load(&spec, config.in_channels, config.image_size);
        let split = read?.for_model(config, &spec.path)?;
        let split = Rc::new(split);
        self.splits.borrow_mut().insert(key, Rc::clone(&split));
        Ok(split)
    }

    /// The share of right answers on the test images of `data`.
    ///
    /// # Errors
    /// As [`Lab::split`]; device errors.
    pub fn accuracy(&self, trained: &Trained, data: &str) -> Result<f64> {
        let session = self.open(trained)?;
        let split = self.split(&session, data)?;
        self.accuracy_of(&session, &split.test, split.test.len())
    }

    /// The share of right answers on `count` images of `test`.
    ///
    /// # Errors
    /// As [`accuracy`].
    pub fn accuracy_of(&self, session: &Session, test: &Dataset, count: usize) -> Result<f64> {
        let count = count.min(test.len());
        Ok(accuracy(&session.weights, session.set, test, count, BATCH, self.quiet())?.share)
    }

    /// The images of `data` in a model's shape, whatever classes they have.
    ///
    /// # Errors
    /// Data that cannot be read.
    pub fn pixels(&self, session: &Session, data: &str) -> Result<Split> {
        let config = session.config();
        let spec = self.plan.data_in(&self.options.data, data)?;
        Reader::of(self.arguments).load(&spec, config.in_channels, config.image_size)
    }

    /// A figure of every seed.
    ///
    /// # Errors
    /// Of the first that fails.
    pub fn of_seeds<T>(&self, mut one: impl FnMut(u64) -> Result<T>) -> Result<Vec<T>> {
        self.scale.seeds.iter().map(|seed| one(*seed)).collect()
    }

    /// A table of this lab, with all that its figures depend on; `data` are the sets that were used. Of a
    /// part of one no figure stands beside the paper's.
    ///
    /// # Errors
    /// Data that cannot be read.
    pub fn table(
        &self,
        name: &str,
        title: &str,
        columns: Vec<Column>,
        mut rows: Vec<Row>,
        data: &[&str],
    ) -> Result<Table> {
        let scale = &self.options.scale;
        let mut facts: Vec<(String, String)> = vec![("scale".into(), scale.clone())];
        for name in data {
            let (amount, whole) = self.amount(name)?;
            facts.push((format!("data, {name}"), amount));
            if !whole {
                rows.iter_mut().flat_map(|row| &mut row.cells).for_each(|cell| cell.paper = None);
            }
        }
        let seeds: Vec<String> = self.scale.seeds.iter().map(u64::to_string).collect();
        let spread = if seeds.len() > 1 { "; mean ± standard deviation over them" } else { "" };
        facts.push(("seeds".into(), format!("{}{spread}", seeds.join(", "))));
        let trained = self.trained.borrow();
        let trainings = format!("{} in {}", trained.len(), time(trained.values().sum()));
        facts.push(("trainings behind it".into(), trainings));
        Ok(Table {
            name: name.into(),
            title: format!("{title} ({})", self.plan.source),
            head: "model".into(),
            columns,
            rows,
            facts,
            notes: self.plan.notes.clone(),
            pictures: Vec::new(),
        })
    }

    /// How many images of a data set there are, and whether that is all of it.
    fn amount(&self, name: &str) -> Result<(String, bool)> {
        let spec = self.plan.data_in(&self.options.data, name)?;
        let splits = self.splits.borrow();
        let text = serde_json::to_string(&spec).unwrap_or_default();
        let known = splits.iter().find(|(key, _)| key.starts_with(&text)).map(|(_, split)| Rc::clone(split));
        let split = match known {
            Some(split) => split,
            None => Rc::new(load(&spec, 1, 8).or_else(|_| load(&spec, 3, 8))?),
        };
        let counts = [split.train.len(), split.test.len()];
        let validation = split.validation.as_ref().map_or(0, |part| part.len());
        let whole = published(spec.kind.name());
        let is_whole = whole == Some([counts[0] + validation, counts[1]]);
        let part = match whole {
            Some(_) if is_whole => ", all of it".to_owned(),
            Some([train, test]) => {
                format!(", a part of {train} and {test}: no figure stands beside the paper's")
            }
            None => String::new(),
        };
        let chosen =
            if validation > 0 { format!(", {validation} to look at on the way") } else { String::new() };
        let amount = format!("{} training images{chosen}, n = {} test images{part}", counts[0], counts[1]);
        Ok((amount, is_whole))
    }
}

/// How many images to train and to test on a published data set has.
fn published(kind: &str) -> Option<[usize; 2]> {
    match kind {
        "mnist" | "fashion-mnist" => Some([60_000, 10_000]),
        "usps" => Some([7_291, 2_007]),
        "cifar10" | "cifar100" => Some([50_000, 10_000]),
        "svhn" => Some([73_257, 26_032]),
        _ => None,
    }
}
