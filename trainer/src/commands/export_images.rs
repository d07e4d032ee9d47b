//! `duet export-images`: test images of a data set as PNG files, to try the other commands on.

use crate::cli::{Cli, ExportImages};
use crate::data::load;
use crate::recipe::Recipe;
use crate::render::Grid;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad recipe or data; files that cannot be written.
pub fn run(arguments: &Cli, options: &ExportImages) -> Result<()> {
    let recipe = Recipe::load(&options.recipe)?;
    let split = load(&recipe.data, recipe.model.in_channels, recipe.model.image_size)?;
    let test = &split.test;
    std::fs::create_dir_all(&options.out)
        .map_err(|e| Error::Data { path: options.out.clone(), detail: format!("cannot be created: {e}") })?;
    let grid = Grid { channels: test.channels, size: test.size, scale: 1 };
    let mut files = Vec::new();
    let mut taken = vec![0usize; test.class_names.len()];
    for (row, label) in test.labels.iter().enumerate() {
        // As evenly over the classes as the count allows.
        let count = &mut taken[*label as usize];
        if *count * test.class_names.len() >= options.count || files.len() >= options.count {
            continue;
        }
        *count += 1;
        let name = test.class_names[*label as usize].to_lowercase();
        let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let path = options.out.join(format!("{row:05}_{name}.png"));
        grid.save_one(&path, &test.images_f32(&[row]))?;
        files.push(path.display().to_string());
    }
    if arguments.json {
        println!("{}", serde_json::json!({"files": files}));
    } else {
        println!("wrote {} images to {}", files.len(), options.out.display());
    }
    Ok(())
}
