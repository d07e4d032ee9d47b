//! Hand-made files: pickles instruction by instruction, archives and the older format around them.

use std::io::{Cursor, Write as _};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// BINUNICODE.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// GLOBAL.
pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// BININT.
pub fn whole(value: i32) -> Vec<u8> {
    [b"J".as_slice(), &value.to_le_bytes()].concat()
}

/// MARK, the items, TUPLE.
pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
}

/// A reference to a storage of f32.
pub fn storage(key: &str, numel: i32) -> Vec<u8> {
    let parts = [text("storage"), global("torch", "FloatStorage"), text(key), text("cpu"), whole(numel)];
    [tuple(&parts), b"Q".to_vec()].concat()
}

/// A tensor over a storage.
pub fn tensor(storage: Vec<u8>, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let sizes = |sizes: &[i32]| tuple(&sizes.iter().map(|size| whole(*size)).collect::<Vec<_>>());
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = [storage, whole(offset), sizes(shape), sizes(strides), vec![0x89], hooks];
    [global("torch._utils", "_rebuild_tensor_v2"), tuple(&arguments), b"R".to_vec()].concat()
}

/// A dictionary of the protocol's beginning and end: PROTO 2, EMPTY_DICT, MARK, keys and values, SETITEMS, STOP.
pub fn dictionary(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    pickle(&[b"}(".to_vec(), items, b"u".to_vec()].concat())
}

/// Instructions between PROTO 2 and STOP.
pub fn pickle(instructions: &[u8]) -> Vec<u8> {
    [b"\x80\x02", instructions, b"."].concat()
}

/// Little-endian bytes.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A stored archive of these files, in the folder `a`.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    packed(files, CompressionMethod::Stored)
}

pub fn packed(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method).large_file(false);
    for (name, data) in files {
        zip.start_file(format!("a/{name}"), options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An archive of a pickle and the storage "0".
pub fn zipped(pickle: &[u8], storage: &[f32]) -> Vec<u8> {
    archive(&[
        ("data.pkl", pickle),
        ("byteorder", b"little"),
        ("data/0", &bytes(storage)),
        ("version", b"3\n"),
    ])
}

/// The pickle before zip that says which machine wrote the file.
pub fn machine(little: bool) -> Vec<u8> {
    let little = vec![if little { 0x88 } else { 0x89 }];
    dictionary(&[("protocol_version", whole(1001)), ("little_endian", little)])
}

/// The format before zip, of a pickle and its storages.
pub fn legacy(pickled: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let keys: Vec<u8> = storages.iter().flat_map(|(key, _)| text(key)).collect();
    let keys = pickle(&[b"](".to_vec(), keys, b"e".to_vec()].concat());
    let mut file = legacy_head(true);
    file.extend([pickled, &keys].concat());
    for (_, values) in storages {
        file.extend((values.len() as i64).to_le_bytes());
        file.extend(bytes(values));
    }
    file
}

/// What such a file begins with.
pub fn legacy_head(little: bool) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    [magic.as_slice(), &pickle(b"M\xe9\x03"), &machine(little)].concat()
}
