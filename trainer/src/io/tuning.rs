//! Where tuning tables are kept: `--tuning FILE`, else every table in the user's folder.

use crate::cli::Cli;
use duet::families::Tuning;
use duet::{Error, Result};
use std::path::PathBuf;

/// The user's tables, `$XDG_CONFIG_HOME/duet/tuning` or `~/.config/duet/tuning`; `None` where there is no home.
pub fn folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").filter(|base| !base.is_empty()).map(PathBuf::from);
    base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|base| base.join("duet").join("tuning"))
}

/// File of an adapter's table in the user's folder: its name in letters, digits and hyphens.
pub fn file_name(adapter: &str) -> String {
    let mut name = String::new();
    for c in adapter.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    format!("{}.json", name.trim_matches('-'))
}

/// The tables that the device is to be opened with.
///
/// # Errors
/// A bad table, naming file and field.
pub fn tables(arguments: &Cli) -> Result<Vec<Tuning>> {
    if let Some(path) = &arguments.tuning {
        return Ok(vec![Tuning::read(path)?]);
    }
    let Some(entries) = folder().and_then(|folder| std::fs::read_dir(folder).ok()) else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    paths.iter().map(|path| Tuning::read(path)).collect()
}

/// Refuses a table given by `--tuning` that is of another adapter.
///
/// # Errors
/// [`Error::Config`] naming the file and both adapters.
pub fn check(arguments: &Cli, tables: &[Tuning], adapter: &str) -> Result<()> {
    match (&arguments.tuning, tables) {
        (Some(path), [table]) if !table.fits(adapter) => {
            let detail = format!(
                "adapter: the table is of {:?}, this is {adapter:?}; measure here with `duet tune`",
                table.adapter
            );
            Err(Error::config(format!("tuning table {}", path.display()), detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn file_names_are_plain() {
        assert_eq!(
            super::file_name("llvmpipe (LLVM 15.0.6, 256 bits)"),
            "llvmpipe-llvm-15-0-6-256-bits.json"
        );
        assert_eq!(super::file_name("../é"), ".json");
    }
}
