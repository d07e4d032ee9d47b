//! Writing PyTorch's zip format: a pickle of protocol 2 and storages of f32, one a tensor, as `torch.save` lays them.

use crate::error::Result;
use crate::tensor::HostTensor;
use std::collections::BTreeSet;
use std::io::{Cursor, Write as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The archive's folder.
const FOLDER: &str = "archive";
/// Storages begin at multiples of this many bytes of the file.
const ALIGNMENT: u16 = 64;

/// Numbers under which the pickle keeps names that it needs again.
const ORDERED_DICT: u8 = 0;
const REBUILD: u8 = 1;
const STORAGE: u8 = 2;

/// The bytes of a file that `torch.load(path, weights_only=True)` reads as an `OrderedDict` of f32 tensors, in the order given;
/// equal tensors give equal bytes.
///
/// # Errors
/// [`crate::Error::Checkpoint`] for a tensor whose values do not fill its shape, and for a name that is there twice.
pub fn to_bytes<'t>(tensors: impl IntoIterator<Item = (&'t str, &'t HostTensor)>) -> Result<Vec<u8>> {
    let tensors: Vec<(&str, &HostTensor)> = tensors.into_iter().collect();
    let encode = || {
        let pickle = pickle(&tensors)?;
        archive(&pickle, &tensors).map_err(|error| error.to_string())
    };
    encode().map_err(|detail| super::failed(Path::new("(in memory)"), detail))
}

fn pickle(tensors: &[(&str, &HostTensor)]) -> std::result::Result<Vec<u8>, String> {
    let mut out = vec![0x80, 2];
    global(&mut out, "collections", "OrderedDict", ORDERED_DICT);
    // Called without arguments, then filled from the mark on.
    out.extend(b")R(");
    let mut names = BTreeSet::new();
    for (number, (name, HostTensor { shape, data })) in tensors.iter().enumerate() {
        let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
        if count != Some(data.len()) {
            return Err(format!("`{name}` has {} values, which do not fill its shape {shape:?}", data.len()));
        }
        if !names.insert(*name) {
            return Err(format!("`{name}` is there twice"));
        }
        text(&mut out, name)?;
        again(&mut out, number, "torch._utils", "_rebuild_tensor_v2", REBUILD);
        // ((storage's reference), offset, size, stride, requires_grad, hooks)
        out.extend(b"((");
        text(&mut out, "storage")?;
        again(&mut out, number, "torch", "FloatStorage", STORAGE);
        text(&mut out, &number.to_string())?;
        text(&mut out, "cpu")?;
        whole(&mut out, data.len())?;
        out.extend(b"tQK\0");
        let mut strides = vec![1usize; shape.len()];
        let mut next = 1usize;
        for (stride, length) in strides.iter_mut().zip(shape).rev() {
            *stride = next;
            next = next.saturating_mul(*length).max(1);
        }
        for lengths in [shape, &strides] {
            out.push(b'(');
            lengths.iter().try_for_each(|length| whole(&mut out, *length))?;
            out.push(b't');
        }
        // False, OrderedDict(), the tuple's end, the call.
        out.extend([0x89, b'h', ORDERED_DICT, b')', b'R', b't', b'R']);
    }
    out.extend(b"u.");
    Ok(out)
}

/// GLOBAL, kept under `number`.
fn global(out: &mut Vec<u8>, module: &str, name: &str, number: u8) {
    out.push(b'c');
    out.extend(format!("{module}\n{name}\n").bytes());
    out.extend([b'q', number]);
}

/// The same name for the tensor `index`: said with the first one, recalled for the others.
fn again(out: &mut Vec<u8>, index: usize, module: &str, name: &str, number: u8) {
    if index == 0 { global(out, module, name, number) } else { out.extend([b'h', number]) }
}

/// BINUNICODE.
fn text(out: &mut Vec<u8>, text: &str) -> std::result::Result<(), String> {
    let length = u32::try_from(text.len()).map_err(|_| "a name is too long".to_owned())?;
    out.push(b'X');
    out.extend(length.to_le_bytes());
    out.extend(text.bytes());
    Ok(())
}

/// BININT1, BININT2, BININT or LONG1: the shortest that holds it.
fn whole(out: &mut Vec<u8>, value: usize) -> std::result::Result<(), String> {
    if let Ok(value) = u8::try_from(value) {
        out.extend([b'K', value]);
    } else if let Ok(value) = u16::try_from(value) {
        out.push(b'M');
        out.extend(value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(b'J');
        out.extend(value.to_le_bytes());
    } else {
        let value = i64::try_from(value).map_err(|error| error.to_string())?;
        out.extend([0x8a, 8]);
        out.extend(value.to_le_bytes());
    }
    Ok(())
}

fn archive(pickle: &[u8], tensors: &[(&str, &HostTensor)]) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // One moment for all files, so that equal tensors give equal bytes.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    let mut write = |name: &str, data: &[u8]| {
        let options = options.large_file(u32::try_from(data.len()).is_err());
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        zip.write_all(data).map_err(zip::result::ZipError::from)
    };
    write("data.pkl", pickle)?;
    write("byteorder", b"little")?;
    for (number, (_, tensor)) in tensors.iter().enumerate() {
        let data: Vec<u8> = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
        write(&format!("data/{number}"), &data)?;
    }
    write("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}
