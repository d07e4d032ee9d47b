//! What people give for a model that is none: pointers, web pages, models of other programs. Each is named by its first
//! bytes, with what to do instead.

/// What helps against a file that ends early.
pub(super) const AGAIN: &str = "copy or download it again";

/// As many bytes decide.
const HEAD: usize = 1024;

const ZIPPED: &str = "is a zip archive, as PyTorch saves models (.pt, .pth): `duet import FILE --out model.safetensors` makes a \
                      model of it, executing nothing; or unpack the archive if it only wraps a model";
const PICKLE: &str = "is a Python pickle, as PyTorch saved models (.pt, .pth, .bin): `duet import FILE --out model.safetensors` \
                      makes a model of it, executing nothing";
const PICTURE: &str =
    "is a picture, not a model; give the model's .safetensors file here and the picture as an image";

/// Beginnings of files of other kinds, and what to say of them.
const KINDS: [(&[u8], &str); 14] = [
    (
        b"version https://git-lfs.github.com/spec/",
        "is a Git LFS pointer, which only names the model; fetch the model itself with `git lfs pull`, or download the file",
    ),
    (b"PK\x03\x04", ZIPPED),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (
        b"GGUF",
        "is a GGUF file, a model of llama.cpp and its kin; give a .safetensors file that this program wrote",
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        "is an HDF5 file, a model of Keras or data; give a .safetensors file that this program wrote",
    ),
    (b"\x93NUMPY", "is a NumPy array, not a model; give a .safetensors file that this program wrote"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"\x89PNG\r\n\x1a\n", PICTURE),
    (b"\xff\xd8\xff", PICTURE),
    (b"GIF8", PICTURE),
    (b"%PDF-", "is a PDF document, not a model; give a .safetensors file that this program wrote"),
];

/// What a file is that begins so, if it is no safetensors file, and what to do; `None` where it may be one.
pub(super) fn recognise(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some(format!("is truncated to nothing: it is empty; {AGAIN}"));
    }
    // A safetensors file's header begins after its length, which may look like anything.
    if bytes.get(8) == Some(&b'{') {
        return None;
    }
    let head = bytes.get(..HEAD).unwrap_or(bytes);
    if let Some((_, what)) = KINDS.iter().find(|(beginning, _)| head.starts_with(beginning)) {
        return Some((*what).to_owned());
    }
    if is_onnx(head) {
        let what =
            "is an ONNX file, a model of other programs; give a .safetensors file that this program wrote";
        return Some(what.to_owned());
    }
    text(head)
}

/// ONNX files are protocol buffers: the format's version (field 1, a small number), then the producer's name (field 2, text)
/// or the graph (field 7).
fn is_onnx(head: &[u8]) -> bool {
    match head {
        [0x08, 1..=20, 0x12, length, rest @ ..] => {
            let name = rest.get(..usize::from(*length));
            name.is_some_and(|name| name.iter().all(u8::is_ascii_graphic))
        }
        // The graph's length is a number of several bytes.
        [0x08, 1..=20, 0x3a, 0x80..=0xff, ..] => true,
        _ => false,
    }
}

/// Web pages and other text.
fn text(head: &[u8]) -> Option<String> {
    // The last character may be cut.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() + 4 > head.len() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || c.is_whitespace();
    // So few bytes may be a model's that is cut in the number that it begins with.
    if text.len() <= 8 || !text.chars().all(printable) {
        return None;
    }
    let begins = text.trim_start_matches('\u{feff}').trim_start().to_lowercase();
    if ["<!doctype html", "<html", "<head", "<?xml", "<!--"].iter().any(|tag| begins.starts_with(tag)) {
        return Some(
            "is a web page (HTML or XML), not a model; download the file itself (on GitHub \"Download raw file\", on Hugging \
             Face \"resolve\" instead of \"blob\" in the address), and see the page for an error that a server may have sent"
                .to_owned(),
        );
    }
    Some("is a text file, not a model; give a .safetensors file that this program wrote".to_owned())
}

/// The bytes of the file at `path`, unless its first ones say that it is something else.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    if path.is_dir() {
        let inside = ["checkpoint.safetensors", "model.safetensors"].map(|name| path.join(name));
        let found = inside.iter().find(|file| file.is_file());
        return Err(match found {
            Some(file) => format!("is a folder; give the file in it: {}", file.display()),
            None => "is a folder; give a model's .safetensors file".to_owned(),
        });
    }
    // A pipe would be waited for without end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is no file but a pipe or a device".to_owned());
    }
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut bytes).map_err(failed)?;
    if let Some(detail) = recognise(&bytes) {
        return Err(detail);
    }
    // Room for all of it at once; the file may be longer in the end, or shorter.
    let length = file.metadata().map_or(0, |found| found.len());
    bytes.reserve_exact(usize::try_from(length).unwrap_or(0).saturating_sub(bytes.len()));
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_files_are_named_with_what_to_do() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1361000\n";
        let known: [(&[u8], &[&str]); 17] = [
            (b"", &["empty", "again"]),
            (pointer, &["Git LFS pointer", "git lfs pull"]),
            (b"<!DOCTYPE html>\n<html lang=\"en\">", &["web page", "download"]),
            (b"\xef\xbb\xbf\n <HTML><body>404", &["web page"]),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", &["web page"]),
            (b"PK\x03\x04\0\0\x08\x08archive/data.pkl", &["PyTorch", "duet import"]),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", &["pickle", "PyTorch", "duet import"]),
            (b"\x80\x04\x95\0\0", &["pickle"]),
            (b"GGUF\x03\0\0\0", &["GGUF"]),
            (b"\x08\x07\x12\x07pytorch\x1a\x051.9.0", &["ONNX"]),
            (b"\x08\x08\x3a\x94\x0e\x0a\x10", &["ONNX"]),
            (b"\x1f\x8b\x08\0", &["gzip", "unpack"]),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &["picture"]),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", &["picture"]),
            ("[data]\nkind = \"idx\" # größer".as_bytes(), &["text file"]),
            (b"{\"error\": \"Repository not found\"}", &["text file"]),
            (b"Not found", &["text file"]),
        ];
        for (bytes, words) in known {
            let said = recognise(bytes).unwrap_or_default();
            assert!(
                words.iter().all(|word| said.contains(word)),
                "{:?}: {said}",
                String::from_utf8_lossy(bytes)
            );
        }
        // A text that is cut inside a letter.
        let long = "ä".repeat(HEAD);
        assert!(recognise(&long.as_bytes()[1..]).is_none() && recognise(long.as_bytes()).is_some());
        assert!(recognise([b"x", long.as_bytes()].concat().as_slice()).unwrap().contains("text file"));
    }

    #[test]
    fn what_may_be_a_model_is_not_taken_for_something_else() {
        // Lengths of headers whose bytes look like another kind's beginning.
        for length in [0x8b1fu64, 0x280, 0x0012_0708, 0x0d0a_4d50, 0x4b50] {
            let bytes = [&length.to_le_bytes()[..], b"{\"__metadata__\":{}}"].concat();
            assert_eq!(recognise(&bytes), None, "{length:x}");
        }
        assert_eq!(recognise(&[0xff; 64]), None);
        assert_eq!(recognise(b"x"), None, "a length that is cut");
        assert_eq!(recognise(&[0; 64]), None);
    }
}
