//! Imports flow one way: what ARCHITECTURE.md's table says a room may import is what its sources import, nothing more and
//! nothing less, and every room stands above those it imports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Words in backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The room of a path below `folder`: its first part without the ending.
fn room(path: &str, folder: &str) -> Option<String> {
    let rest = path.strip_prefix(folder)?.split('/').next()?;
    Some(rest.trim_end_matches(".rs").to_owned()).filter(|name| !name.is_empty())
}

/// The rows of the table for the sources in `folder`, from the ground up: each room with what it may import.
fn table(folder: &str) -> Vec<(String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let allowed: BTreeSet<String> = code(cells[cells.len() - 1]).into_iter().map(str::to_owned).collect();
        for path in code(cells[0]) {
            rows.extend(room(path, folder).map(|name| (name, allowed.clone())));
        }
    }
    rows
}

fn sources(folder: &Path, list: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, list);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            list.push(path);
        }
    }
}

/// The names that follow `crate::` in code, those of a group one by one.
fn named(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.collect::<Vec<_>>().join("\n");
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let (mut depth, mut at) = (1, 0);
        for (i, c) in group.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 || (depth == 1 && c == ',') {
                names.insert(word(group[at..i].trim_start()));
                at = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.remove("");
    names
}

/// What each room of a folder imports.
fn imports(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(&root().join(folder), &mut files);
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        assert!(!text.contains("super::super::"), "{relative}: says `crate::` instead of `super::super::`");
        let Some(name) = room(&relative, folder) else { continue };
        if name != "lib" && name != "main" {
            rooms.entry(name).or_default().extend(named(&text));
        }
    }
    let known: BTreeSet<String> = rooms.keys().cloned().collect();
    for (name, used) in &mut rooms {
        used.retain(|other| known.contains(other) && other != name);
    }
    rooms
}

fn check(folder: &str) {
    let (table, imports) = (table(folder), imports(folder));
    assert!(imports.len() > 4, "{folder}: only {} rooms found", imports.len());
    let listed: Vec<&String> = table.iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = imports.keys().filter(|name| !listed.contains(name)).collect();
    let gone: Vec<_> = listed.iter().filter(|name| !imports.contains_key(**name)).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "{folder}: not in the table {missing:?}, not there {gone:?}"
    );
    let mut below = BTreeSet::new();
    for (name, allowed) in &table {
        let used = &imports[name];
        let more: Vec<_> = used.difference(allowed).collect();
        let less: Vec<_> = allowed.difference(used).collect();
        assert!(more.is_empty(), "{folder}{name} imports {more:?}, which the table does not allow");
        assert!(less.is_empty(), "{folder}{name} does not import {less:?}, which the table allows");
        let above: Vec<_> = used.difference(&below).collect();
        assert!(above.is_empty(), "{folder}{name} imports {above:?}, which stand above it in the table");
        below.insert(name.clone());
    }
}

#[test]
fn the_library_imports_what_the_table_says() {
    check("src/");
}

#[test]
fn the_command_imports_what_the_table_says() {
    check("trainer/src/");
}

#[test]
fn only_the_gpu_room_names_the_gpu_api() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    for path in files.iter().filter(|path| !path.starts_with(root().join("src/gpu"))) {
        let text = std::fs::read_to_string(path).unwrap();
        // The crate's root passes the version in signatures on.
        let found = text.lines().find(|line| line.contains("wgpu::") && !line.trim_start().starts_with("//"));
        assert!(found.is_none(), "{}: {found:?}", path.display());
    }
}

#[test]
fn names_are_found_in_every_form() {
    let text =
        "use crate::a::B;\n// crate::no\nuse crate::{c, d::{E, F}, g};\nlet x = crate::h::i();\n$crate::j::K";
    let want = ["a", "c", "d", "g", "h", "j"].map(str::to_owned);
    assert_eq!(named(text), BTreeSet::from(want));
}
