//! `duet export-images`: test images of a data set as PNG files, to try the other commands on.

use crate::cli::{Cli, ExportImages};
use crate::data::{INDEX, Indexed};
use crate::io::data::Reader;
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::render::Grid;
use crate::recipe::Recipe;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad recipe or data; files that cannot be written.
pub fn run(arguments: &Cli, options: &ExportImages) -> Result<()> {
    let recipe = Recipe::load(&options.recipe)?;
    if recipe.data.kind.is_folder() {
        files::check_apart(&options.out, &recipe.data.path)?;
    }
    files::make_folder(&options.out)?;
    let list = options.out.join(INDEX);
    files::check(&[(Kind::Table, &list)], &[&options.recipe])?;
    let split =
        Reader::of(arguments).load(&recipe.data, recipe.model.in_channels, recipe.model.image_size)?;
    let test = &split.test;
    let grid = Grid { channels: test.channels, size: test.size, scale: 1 };
    let mut index = Vec::new();
    let classes = test.classes()?;
    for row in first_of_each(classes, test.class_names.len(), options.count) {
        let file = format!("{row:05}.png");
        grid.save_one(&options.out.join(&file), &test.images_f32(&[row]))?;
        index.push(Indexed { file, label: test.class_names[classes[row] as usize].clone() });
    }
    let bad = |e: serde_json::Error| Error::Data { path: list.clone(), detail: e.to_string() };
    // A line per image: short, and its differences readable.
    let lines: Vec<String> =
        index.iter().map(|entry| serde_json::to_string(entry).map_err(bad)).collect::<Result<_>>()?;
    Kind::Table.write(&list, format!("[\n{}\n]\n", lines.join(",\n")).as_bytes())?;
    if arguments.json {
        let files: Vec<_> = index.iter().map(|e| options.out.join(&e.file).display().to_string()).collect();
        say!("{}", serde_json::json!({"files": files}));
    } else {
        say!("wrote {} images and {INDEX} to {}", index.len(), options.out.display());
    }
    Ok(())
}

/// `count` rows spread over the classes: the first ones of each class in the data's order, equally many of each; what is left
/// over goes to the classes whose next image comes first. In the order first of each class, second of each class, …
pub(super) fn first_of_each(labels: &[u32], classes: usize, count: usize) -> Vec<usize> {
    let classes = classes.max(1);
    let (each, mut more) = (count / classes, count % classes);
    let mut taken = vec![0usize; classes];
    let mut chosen = Vec::new();
    for (row, label) in labels.iter().enumerate() {
        let nth = &mut taken[*label as usize];
        if *nth < each || (*nth == each && more > 0) {
            more -= usize::from(*nth == each);
            chosen.push((*nth, *label, row));
            *nth += 1;
        }
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|(_, _, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::first_of_each;

    #[test]
    fn the_first_of_each_class_are_taken_and_the_rest_where_it_comes_first() {
        let labels = [2, 2, 0, 1, 2, 1, 0, 0, 1, 2, 0];
        assert_eq!(first_of_each(&labels, 3, 3), [2, 3, 0]);
        assert_eq!(first_of_each(&labels, 3, 5), [2, 3, 0, 5, 1], "row 1 and row 5 are the first seconds");
        assert_eq!(first_of_each(&labels, 3, 6), [2, 3, 0, 6, 5, 1]);
        assert_eq!(first_of_each(&labels, 3, 2), [2, 0]);
        assert_eq!(first_of_each(&labels, 3, 100).len(), labels.len(), "all there are");
        assert!(first_of_each(&labels, 3, 0).is_empty());
    }
}
