//! Files that are not what their name says: what came instead of the download.

/// What the Git LFS specification has a pointer begin with.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// Names what a file is that stands where a picture, data or a model should be, from its first bytes (512 are enough) and with
/// what to do about it: a Git LFS pointer, an HTML page. `None` where it is neither.
///
/// The words follow a file's name, as in "a.png: is a Git LFS pointer …".
pub fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if text.starts_with(LFS_POINTER) {
        return Some("is a Git LFS pointer, not the file itself: run `git lfs pull`");
    }
    // Comments may come before the document's type; nothing else that is read here begins so.
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") || begins(b"<!--") {
        return Some("is an HTML page, not the file itself: a download gave a web page; fetch the file anew");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::foreign;

    #[test]
    fn pointers_and_pages_are_named_and_nothing_else() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(foreign(pointer).is_some_and(|word| word.contains("git lfs pull")));
        for page in [
            "<!DOCTYPE html><html>",
            "\u{feff}\n <!doctype HTML>",
            "<html lang=\"en\">",
            "<!-- x -->\n<html>",
        ] {
            assert!(foreign(page.as_bytes()).is_some_and(|word| word.contains("HTML")), "{page}");
        }
        for other in [&b"\x89PNG\r\n\x1a\n"[..], b"", b"<svg xmlns=", b"<?xml version", b"version 2", b"<"] {
            assert_eq!(foreign(other), None, "{other:?}");
        }
    }
}
