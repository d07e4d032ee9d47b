//! What the pictures of a folder are before they are resized, by their headers.

use super::{DataSpec, file, picture, tree};
use duet::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The least, the middle and the most of some numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub least: u32,
    /// The middle one of all in their order (of an even number the upper of two).
    pub median: u32,
    /// The most.
    pub most: u32,
}

/// What pictures are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Pictures whose header can be read.
    pub pictures: usize,
    /// Pictures whose header cannot be.
    pub unreadable: usize,
    /// Pixels from left to right, as they are seen.
    pub width: Range,
    /// Pixels from top to bottom.
    pub height: Range,
    /// Pictures as wide as high.
    pub square: usize,
    /// Pictures whose files hold colours, grey ones among them or not.
    pub colour: usize,
    /// Pictures by the ending of their names.
    pub endings: BTreeMap<String, usize>,
}

/// Looks at all pictures of a folder, on all cores; `None` of data that are no folder of pictures.
///
/// # Errors
/// A folder that cannot be listed or holds no picture.
pub fn looks(spec: &DataSpec) -> Result<Option<Looks>> {
    if !spec.kind.is_folder() {
        return Ok(None);
    }
    let (paths, _) = tree::pictures_in(&spec.path)?;
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let each = paths.len().div_ceil(threads).max(1);
    let headers = |paths: &[PathBuf]| paths.iter().map(|path| picture::header(path).ok()).collect::<Vec<_>>();
    let found: Vec<Option<picture::Header>> = std::thread::scope(|scope| {
        let work: Vec<_> = paths.chunks(each).map(|paths| scope.spawn(move || headers(paths))).collect();
        let joined = work.into_iter().map(|part| match part.join() {
            Ok(headers) => headers,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    });
    let mut looks = Looks::default();
    for (path, header) in paths.iter().zip(&found) {
        let Some(header) = header else {
            looks.unreadable += 1;
            continue;
        };
        looks.pictures += 1;
        looks.square += usize::from(header.width == header.height);
        looks.colour += usize::from(header.colour);
        *looks.endings.entry(file::ending(path)).or_default() += 1;
    }
    looks.width = range(found.iter().flatten().map(|header| header.width).collect());
    looks.height = range(found.iter().flatten().map(|header| header.height).collect());
    Ok(Some(looks))
}

fn range(mut numbers: Vec<u32>) -> Range {
    numbers.sort_unstable();
    let at = |place: usize| numbers.get(place).copied().unwrap_or_default();
    Range { least: at(0), median: at(numbers.len() / 2), most: at(numbers.len().saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_sizes_and_colours() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("a")).unwrap();
        let at = |name: &str| home.path().join("a").join(name);
        image::GrayImage::new(4, 4).save(at("1.png")).unwrap();
        image::RgbImage::new(6, 2).save(at("2.png")).unwrap();
        image::RgbImage::new(30, 20).save(at("3.jpg")).unwrap();
        std::fs::write(at("4.png"), "broken").unwrap();
        std::fs::write(at("notes.txt"), "none").unwrap();
        let found = looks(&DataSpec::of("folder", home.path())).unwrap().unwrap();
        let want = Looks {
            pictures: 3,
            unreadable: 1,
            width: Range { least: 4, median: 6, most: 30 },
            height: Range { least: 2, median: 4, most: 20 },
            square: 1,
            colour: 2,
            endings: BTreeMap::from([("jpg".into(), 1), ("png".into(), 2)]),
        };
        assert_eq!(found, want);
        assert_eq!(looks(&DataSpec::of("idx", home.path())).unwrap(), None);
    }
}
