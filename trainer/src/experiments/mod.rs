//! The paper's experiments and what its readers ask, each a plan (`trainer/experiments/`), its trainings and a table at its end.
//! One more is a file here, a line in [`EXPERIMENTS`] and, where no plan's models serve it, a plan.

mod adaptation;
mod cells;
mod few_labels;
mod joint;
mod lab;
mod labels;
mod measured;
mod noised;
mod page;
mod plan;
mod probed;
mod process;
mod samples;
pub mod table;
mod trainings;

use crate::cli::{Cli, Experiment};
use crate::io::files::{self, Kind};
use duet::{Error, Result};
use lab::{Lab, TABLES};
use plan::Plan;
use std::path::{Path, PathBuf};
use table::Table;

/// The page of all tables.
const REPORT: &str = "report.html";

/// An experiment.
pub struct Entry {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// The plan's name and text. Those of one plan share its trainings.
    plan: (&'static str, &'static str),
    /// The plan's names of the data sets that it reads.
    data: &'static [&'static str],
    run: fn(&Lab<'_>) -> Result<Vec<Table>>,
}

macro_rules! plan {
    ($name:literal) => {
        ($name, include_str!(concat!("../../experiments/", $name, ".toml")))
    };
}

/// All there are, in the order in which "all" runs them.
pub static EXPERIMENTS: [Entry; 16] = [
    Entry {
        name: "table1",
        about: "joint model, classifier alone, diffusion alone, a head on its frozen features; three seeds",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: joint::run,
    },
    Entry {
        name: "table2",
        about: "what these models generate: likeness to real images, with and without guidance",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: samples::table2,
    },
    Entry {
        name: "alpha",
        about: "the step size of Algorithm 1, and the probability of the class along the chain (Figures 4 to 6)",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: samples::alpha,
    },
    Entry {
        name: "noised",
        about: "a classifier that sees clean images, noised ones or both (Eq. 5 to 10)",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: noised::run,
    },
    Entry {
        name: "fig2b",
        about: "what representations of noised images hold, by timestep: logistic probes by class",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: measured::probed,
    },
    Entry {
        name: "robustness",
        about: "joint model and classifier alone on noisy, faint and turned images",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: measured::robustness,
    },
    Entry {
        name: "calibration",
        about: "whether their probabilities are what they say",
        plan: plan!("fashion"),
        data: &["fashion-mnist"],
        run: measured::calibration,
    },
    Entry {
        name: "unlike",
        about: "images unlike the training data, by noise error and by free energy",
        plan: plan!("fashion"),
        data: &["fashion-mnist", "mnist"],
        run: measured::unlike,
    },
    Entry {
        name: "table5",
        about: "few labels: joint model against a classifier with the same labels and steps",
        plan: plan!("few-labels"),
        data: &["fashion-mnist"],
        run: few_labels::run,
    },
    Entry {
        name: "table6",
        about: "another domain without its labels: USPS and MNIST, both ways",
        plan: plan!("adaptation"),
        data: &["usps", "mnist"],
        run: |lab| adaptation::run(lab, "table6", &adaptation::PAPER),
    },
    Entry {
        name: "table6-digits",
        about: "the same from 1,797 digits of 8×8 pixels to MNIST",
        plan: plan!("adaptation"),
        data: &["digits", "mnist"],
        run: |lab| adaptation::run(lab, "table6-digits", &adaptation::DIGITS),
    },
    Entry {
        name: "table6-svhn",
        about: "the same from house numbers in colour to MNIST",
        plan: plan!("adaptation-svhn"),
        data: &["svhn", "mnist"],
        run: |lab| adaptation::run(lab, "table6-svhn", &adaptation::SVHN),
    },
    Entry {
        name: "labels",
        about: "any number of labels per image: told one by one, guided to, added and removed; probes by label",
        plan: plan!("blood-cells"),
        data: &["blood-cells"],
        run: |lab| labels::run(lab, "labels", "blood-cells"),
    },
    Entry {
        name: "celeba",
        about: "the same of the 40 attributes of CelebA's faces (Figures 2b and 10)",
        plan: plan!("celeba"),
        data: &["celeba"],
        run: |lab| labels::run(lab, "celeba", "celeba"),
    },
    Entry {
        name: "counterfactuals",
        about: "what would have to change for a cell to be called infected, or not (Figure 7)",
        plan: plan!("malaria"),
        data: &["by-patient"],
        run: cells::counterfactuals,
    },
    Entry {
        name: "leakage",
        about: "cells held out against whole patients held out",
        plan: plan!("malaria"),
        data: &["by-patient"],
        run: cells::leakage,
    },
];

/// The experiments that names ask for, each once.
///
/// # Errors
/// [`Error::Config`] listing the names there are.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Entry>> {
    let mut entries: Vec<&Entry> = Vec::new();
    for name in names {
        let found: Vec<&Entry> =
            EXPERIMENTS.iter().filter(|entry| name == "all" || entry.name == name).collect();
        if found.is_empty() {
            let known: Vec<&str> = EXPERIMENTS.iter().map(|entry| entry.name).collect();
            let detail = format!("there is no {name:?}; there are {}, and \"all\"", known.join(", "));
            return Err(Error::config("experiment", detail));
        }
        for entry in found {
            if !entries.iter().any(|known| known.name == entry.name) {
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

/// Places of data that an experiment needs and that are not there.
///
/// # Errors
/// A bad plan.
pub fn missing(options: &Experiment, entry: &Entry) -> Result<Vec<PathBuf>> {
    let plan = Plan::parse(entry.plan.0, entry.plan.1)?;
    let places = entry.data.iter().map(|name| Ok(plan.data_in(&options.data, name)?.path));
    Ok(places.collect::<Result<Vec<PathBuf>>>()?.into_iter().filter(|path| !path.exists()).collect())
}

/// Runs an experiment and writes its tables, as JSON and as Markdown.
///
/// # Errors
/// Bad settings or data; what a training says is wrong; [`Error::Aborted`]; files that cannot be written.
pub fn run(arguments: &Cli, options: &Experiment, entry: &Entry) -> Result<Vec<Table>> {
    let folder = options.out.join(TABLES);
    files::make_folder(&folder)?;
    let lab = Lab::new(arguments, options, entry.plan.0, entry.plan.1)?;
    let tables = (entry.run)(&lab)?;
    for table in &tables {
        let file = |ending: &str| folder.join(format!("{}-{}.{ending}", table.name, options.scale));
        let json = serde_json::to_vec_pretty(table).map_err(|e| Error::config("table", e.to_string()))?;
        Kind::Table.write(&file("json"), &json)?;
        Kind::Table.write(&file("md"), table.markdown().as_bytes())?;
    }
    Ok(tables)
}

/// One page of every table that is there, in the order of the experiments; where it is.
///
/// # Errors
/// No tables, ones that cannot be read; a page that cannot be written.
pub fn report(out: &Path) -> Result<PathBuf> {
    let mut tables = tables(out)?;
    let place = |table: &Table| {
        let of =
            |entry: &Entry| table.name == entry.name || table.name.starts_with(&format!("{}-", entry.name));
        EXPERIMENTS.iter().position(of).unwrap_or(EXPERIMENTS.len())
    };
    tables.sort_by_key(|table| (place(table), table.name.len()));
    let picture = |name: &str| {
        // A table names files beside it, and no others.
        let plain = Path::new(name).file_name()? == name;
        plain.then(|| files::whole(&out.join(TABLES).join(name)).ok()).flatten()
    };
    let path = out.join(REPORT);
    Kind::Report.write(&path, page::page(&tables, picture).as_bytes())?;
    Ok(path)
}

/// Every table that experiments left in a folder.
///
/// # Errors
/// A folder that cannot be read, or has none.
fn tables(out: &Path) -> Result<Vec<Table>> {
    let folder = out.join(TABLES);
    let failed = |error: std::io::Error| Error::Data {
        path: folder.clone(),
        detail: format!("cannot be read: {error}"),
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    let mut tables = Vec::new();
    for path in paths {
        let wrong = |detail: String| Error::Data { path: path.clone(), detail };
        let bytes = files::whole(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        tables.push(serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is no table: {error}")))?);
    }
    if tables.is_empty() {
        return Err(Error::Data { path: folder, detail: "holds no tables: run an experiment first".into() });
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_has_three_scales_with_whole_recipes() {
        for entry in &EXPERIMENTS {
            let plan = Plan::parse(entry.plan.0, entry.plan.1).unwrap();
            for name in ["tiny", "small", "paper"] {
                let scale = plan.scale(name).unwrap();
                assert!(!scale.seeds.is_empty(), "{}: {name}", entry.name);
                assert!(entry.data.iter().all(|name| plan.data.contains_key(*name)), "{}", entry.name);
                for (stage, data) in
                    plan.stages().flat_map(|stage| plan.data.keys().map(move |data| (stage, data)))
                {
                    let spec = plan.data_in(Path::new("data"), data).unwrap();
                    plan.recipe(scale, stage, spec, &[])
                        .unwrap_or_else(|e| panic!("{}, {stage}: {e}", entry.name));
                }
            }
        }
    }

    #[test]
    fn data_that_are_not_there_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mnist")).unwrap();
        let options = Experiment {
            names: vec!["all".into()],
            data: folder.path().to_owned(),
            scale: "tiny".into(),
            seeds: None,
            jobs: 1,
            set: Vec::new(),
            out: folder.path().join("out"),
        };
        let lacks = |name: &str| {
            let entry = EXPERIMENTS.iter().find(|entry| entry.name == name).unwrap();
            missing(&options, entry).unwrap()
        };
        assert_eq!(lacks("table6"), [folder.path().join("usps")]);
        assert_eq!(lacks("table6-svhn"), [folder.path().join("svhn")]);
        std::fs::create_dir(folder.path().join("usps")).unwrap();
        assert!(lacks("table6").is_empty());
    }

    #[test]
    fn names_are_found_once_and_unknown_ones_list_all() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = chosen(&names(&["table5", "all"])).unwrap();
        assert_eq!((all.len(), all[0].name), (EXPERIMENTS.len(), "table5"));
        let error = chosen(&names(&["table9"])).err().unwrap().to_string();
        assert!(error.contains("table9") && error.contains("table1, "), "{error}");
    }
}
