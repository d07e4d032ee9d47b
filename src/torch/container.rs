//! The two ways in which PyTorch's files hold a pickle and the bytes of storages.

use super::pickle::{self, Id, Object, Objects, Pickled, Storage};
use std::collections::HashMap;
use std::io::Cursor;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

/// How a zip archive begins.
pub(super) const ZIP: &[u8] = b"PK\x03\x04";
/// How an entry of its directory begins.
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
/// The first pickle of the format before zip, whole: PROTO 2, the number 0x1950a86a20f9469cfc6c, STOP.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The version in its second pickle, the only one there is.
const LEGACY_VERSION: i64 = 1001;
/// The place of the pickle in an archive, below its one folder.
const PICKLE: &str = "/data.pkl";

/// A file's objects and the bytes of its storages.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub objects: Objects<'a>,
    pub root: Id,
    pub storages: Vec<&'a [u8]>,
}

/// Reads a file of either format.
pub(super) fn read(bytes: &[u8]) -> Result<Contents<'_>, String> {
    if bytes.starts_with(ZIP) {
        return archive(bytes);
    }
    match bytes.strip_prefix(LEGACY) {
        Some(rest) => legacy(rest),
        None if matches!(bytes, [0x80, 2..=5, ..]) => {
            Err("is a Python pickle, but not one that torch.save wrote: it holds no tensors as PyTorch does"
                .to_owned())
        }
        None => Err("is no file that torch.save wrote".to_owned()),
    }
}

/// The archive's folder with `data.pkl`, `byteorder` and `data/KEY`, all stored as they are.
fn archive(bytes: &[u8]) -> Result<Contents<'_>, String> {
    let damaged = |error: zip::result::ZipError| format!("is truncated or damaged: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    // The last one of several entries of a name is kept, where PyTorch takes another.
    let directory = usize::try_from(archive.central_directory_start()).ok().and_then(|at| bytes.get(at..));
    if archive.len() != entries(directory.unwrap_or_default()) {
        return Err("is an archive with several entries of one name".to_owned());
    }
    let mut folders = archive.file_names().filter_map(|name| {
        let folder = name.ok()?.strip_suffix(PICKLE)?.to_owned();
        (!folder.contains('/')).then_some(folder)
    });
    let folder = match (folders.next(), folders.next()) {
        (Some(folder), None) => folder,
        (None, _) => {
            return Err(
                "is a zip archive without a data.pkl: no file that torch.save wrote; unpack it if it only \
                        wraps a model"
                    .to_owned(),
            );
        }
        _ => return Err("is an archive with several data.pkl".to_owned()),
    };
    drop(folders);
    if archive.index_for_name(&format!("{folder}/constants.pkl")).is_some() {
        return Err(
            "is a TorchScript archive, a program; save the state_dict of the model instead".to_owned()
        );
    }
    if let Some(order) = entry(&mut archive, bytes, &format!("{folder}/byteorder"))? {
        check_order(order.trim_ascii() == b"little")?;
    }
    let pickle = entry(&mut archive, bytes, &format!("{folder}{PICKLE}"))?.unwrap_or_default();
    let Pickled { objects, root, rest } = pickle::run(pickle)?;
    if !rest.is_empty() {
        return Err(format!("has {} bytes behind its pickle", rest.len()));
    }
    let mut storages = Vec::with_capacity(objects.storages.len());
    for storage in &objects.storages {
        let name = format!("{folder}/data/{}", storage.key);
        let data = entry(&mut archive, bytes, &name)?;
        let data = data.ok_or_else(|| format!("is truncated: it has no {name}, which its pickle names"))?;
        let need = length(storage)?;
        if data.len() != need {
            return Err(format!("is damaged: {name} has {} bytes, its pickle says {need}", data.len()));
        }
        storages.push(data);
    }
    Ok(Contents { objects, root, storages })
}

/// Entries of a zip archive's directory, whether or not their names differ.
fn entries(mut directory: &[u8]) -> usize {
    let mut count = 0;
    while directory.starts_with(DIRECTORY_ENTRY) {
        // Of the name, of what is beside it, of a comment.
        let lengths = [28, 30, 32].map(|at| {
            let length = directory.get(at..).and_then(|from| from.first_chunk::<2>());
            length.map_or(0, |length| usize::from(u16::from_le_bytes(*length)))
        });
        directory = directory.get(46 + lengths.iter().sum::<usize>()..).unwrap_or_default();
        count += 1;
    }
    count
}

/// The bytes of an entry, where they lie; `None` where there is no such entry.
fn entry<'a>(
    archive: &mut ZipArchive<Cursor<&'a [u8]>>,
    bytes: &'a [u8],
    name: &str,
) -> Result<Option<&'a [u8]>, String> {
    let Some(index) = archive.index_for_name_raw(name.as_bytes()) else { return Ok(None) };
    let damaged = |error: zip::result::ZipError| format!("is damaged at {name}: {error}");
    let mut entry = archive.by_index_raw(index).map_err(damaged)?;
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(format!(
            "has {name} compressed or encrypted, which torch.save does not do; unpack and store it"
        ));
    }
    let place = || {
        let start = usize::try_from(entry.data_start()?).ok()?;
        let length = usize::try_from(entry.size()).ok()?;
        bytes.get(start..start.checked_add(length)?)
    };
    let data = place().filter(|data| data.len() as u64 == entry.compressed_size());
    let data = data.ok_or_else(|| format!("is truncated inside {name}"))?;
    check_sum(&mut entry, data).map_err(|()| format!("is damaged: {name} is not what it was (CRC-32)"))?;
    Ok(Some(data))
}

/// Compares bytes with their checksum; files may be written without any, as 0.
fn check_sum(entry: &mut ZipFile<'_, Cursor<&[u8]>>, data: &[u8]) -> Result<(), ()> {
    let sum = entry.crc32();
    (sum == 0 || crc32fast::hash(data) == sum).then_some(()).ok_or(())
}

/// Five pickles, one behind the other (a number, the version, the machine, the object, the keys of storages), then of each
/// storage its number of values (i64) and its bytes.
fn legacy(bytes: &[u8]) -> Result<Contents<'_>, String> {
    let Pickled { objects, root, rest } = pickle::run(bytes)?;
    match objects.get(root) {
        Some(Object::Whole(LEGACY_VERSION)) => {}
        _ => return Err("is of an unknown version of PyTorch's format before zip".to_owned()),
    }
    let Pickled { objects, root, rest } = pickle::run(rest)?;
    let Some(Object::Dictionary(machine)) = objects.get(root) else {
        return Err("does not say which machine wrote it".to_owned());
    };
    let little = machine.iter().find_map(|(key, value)| match (objects.get(*key)?, objects.get(*value)?) {
        (Object::Text("little_endian"), Object::Bool(little)) => Some(*little),
        _ => None,
    });
    check_order(little == Some(true))?;
    let Pickled { objects, root, rest } = pickle::run(rest)?;
    let Pickled { objects: list, root: keys, mut rest } = pickle::run(rest)?;
    let keys = list.items(keys).ok_or("has no list of its storages".to_owned())?;
    let numbers: HashMap<&str, usize> =
        objects.storages.iter().enumerate().map(|(number, storage)| (storage.key, number)).collect();
    let mut found: Vec<Option<&[u8]>> = vec![None; objects.storages.len()];
    for key in keys {
        let Some(Object::Text(key)) = list.get(*key) else {
            return Err("has a list of storages with something else in it".to_owned());
        };
        let known = numbers.get(key).and_then(|number| Some((objects.storages.get(*number)?, *number)));
        let (storage, number) = known.ok_or_else(|| format!("has a storage {key:?} of no tensor"))?;
        let cut = || format!("is truncated inside the storage {key:?}");
        let (numel, behind) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        if usize::try_from(i64::from_le_bytes(*numel)).ok() != Some(storage.numel) {
            return Err(format!("is damaged: the storage {key:?} has another length than its pickle says"));
        }
        let (data, behind) = behind.split_at_checked(length(storage)?).ok_or_else(cut)?;
        rest = behind;
        let twice = found.get_mut(number).is_none_or(|place| place.replace(data).is_some());
        if twice {
            return Err(format!("has the storage {key:?} twice"));
        }
    }
    if !rest.is_empty() {
        return Err(format!("has {} bytes that belong to nothing", rest.len()));
    }
    let storages = found.into_iter().collect::<Option<Vec<_>>>();
    let storages = storages.ok_or("is truncated: it lacks a storage that its pickle names".to_owned())?;
    Ok(Contents { objects, root, storages })
}

fn check_order(little: bool) -> Result<(), String> {
    let detail = "is of a big-endian machine, or does not say: load and save it again on a usual one";
    little.then_some(()).ok_or_else(|| detail.to_owned())
}

/// Bytes of a storage.
fn length(storage: &Storage<'_>) -> Result<usize, String> {
    let bytes = storage.numel.checked_mul(storage.dtype.bytes());
    bytes.ok_or_else(|| format!("has a storage {:?} of more bytes than there are", storage.key))
}
