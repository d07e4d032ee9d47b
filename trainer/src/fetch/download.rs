//! One download by HTTP, that goes on where an earlier one was cut.

use super::checksum::of_file;
use super::{Options, Sums};
use crate::io::output::progress;
use duet::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

/// Redirects that are followed one after the other.
const MOST_REDIRECTS: u32 = 5;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a file whose length is not known, at most.
const MOST_BYTES: u64 = 1 << 32;
/// Bytes read at a time.
const PIECE: usize = 1 << 16;

/// A file to download into a folder.
pub struct Download<'a> {
    /// What is known of it.
    pub file: &'a super::File,
    /// Where it is.
    pub address: &'a str,
    /// Where its parts come to lie.
    pub folder: &'a Path,
    /// How.
    pub options: Options<'a>,
}

/// What a server gives.
enum Answer {
    /// The whole file.
    Whole(Response<Body>),
    /// What follows on what is there.
    Rest(Response<Body>),
    /// There is nothing after what is there.
    Nothing,
}

impl Download<'_> {
    /// Where a file lies until it is whole and right. Readers pass over hidden files.
    fn part(&self) -> PathBuf {
        self.folder.join(format!(".{}.part", self.file.name))
    }

    /// What the server calls the version that the part is of.
    fn version(&self) -> PathBuf {
        self.folder.join(format!(".{}.version", self.file.name))
    }

    /// An error about the file.
    fn bad(&self, detail: impl AsRef<str>) -> Error {
        let detail = format!("from {}: {}", self.address, detail.as_ref());
        Error::Data { path: self.folder.join(self.file.name), detail }
    }

    fn unwritten(&self, error: &std::io::Error) -> Error {
        Error::Write { what: "data", path: self.part(), detail: error.to_string() }
    }

    /// Downloads the file and checks it; where it lies, under a name of its own, and its sums.
    ///
    /// # Errors
    /// [`Error::Data`] where the server does not give it or gives another (then nothing of it stays), or where it is cut or stopped
    /// (then its part stays); [`Error::Write`].
    pub fn run(&self) -> Result<(PathBuf, Sums)> {
        let path = self.part();
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut part = open.map_err(|e| self.unwritten(&e))?;
        let there = part.metadata().map_err(|e| self.unwritten(&e))?.len();
        // Without a checksum only the server can tell whether what follows fits what is there.
        let trusted = self.file.checksum.is_some() || self.version().exists();
        let there = if trusted { there } else { 0 };
        if self.file.bytes != Some(there) || there == 0 {
            let fetched = self.fetch(&mut part, there);
            if fetched.is_err() && part.metadata().is_ok_and(|found| found.len() == 0) {
                // There is nothing to go on with; what went wrong is told below.
                let _ = self.forget();
            }
            fetched?;
        }
        part.sync_all().map_err(|e| self.unwritten(&e))?;
        drop(part);
        let sums = of_file(&path)?;
        if let Some(checksum) = self.file.checksum
            && !checksum.is_of(&sums)
        {
            self.forget()?;
            let words = checksum.difference(&sums);
            return Err(self.bad(format!(
                "is not the published file ({words}), so it was deleted; try again, or another --mirror"
            )));
        }
        Ok((path, sums))
    }

    /// Deletes the part.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn forget(&self) -> Result<()> {
        for path in [self.version(), self.part()] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(self.unwritten(&e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn settle(&self, path: &Path) -> Result<()> {
        fs::rename(self.part(), path).map_err(|e| self.unwritten(&e))?;
        self.forget()
    }

    fn fetch(&self, part: &mut File, there: u64) -> Result<()> {
        let mut there = there;
        let mut response = match self.ask(there)? {
            Answer::Nothing => return Ok(()),
            Answer::Rest(response) => response,
            Answer::Whole(response) => {
                there = 0;
                response
            }
        };
        let length = response.body().content_length();
        let total = length.map(|length| there.saturating_add(length));
        if let (Some(known), Some(total)) = (self.file.bytes, total)
            && known != total
        {
            self.forget()?;
            return Err(self.bad(format!("has {total} bytes instead of {known}: it is another file")));
        }
        part.set_len(there)
            .and_then(|()| part.seek(SeekFrom::Start(there)))
            .map_err(|e| self.unwritten(&e))?;
        // Before the first byte: a part of an unknown version would be gone on with.
        match version_of(&response) {
            Some(version) => fs::write(self.version(), version).map_err(|e| self.unwritten(&e))?,
            None => drop(fs::remove_file(self.version())),
        }
        let most = self.file.bytes.unwrap_or(MOST_BYTES);
        let template = "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let bar = progress(total.unwrap_or(most), there, template, self.options.json);
        bar.set_message(self.file.name.to_owned());
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0u8; PIECE];
        loop {
            let of = total.map_or_else(String::new, |total| format!(" of {total}"));
            if (self.options.stop)() {
                return Err(
                    self.bad(format!("stopped after {there}{of} bytes: the same command goes on from there"))
                );
            }
            let cut = |why: &str| {
                self.bad(format!(
                    "was cut after {there}{of} bytes ({why}): the same command goes on from there"
                ))
            };
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(cut(&e.to_string())),
            };
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                if total.or(self.file.bytes).is_some_and(|total| there < total) {
                    return Err(cut("the server ended it"));
                }
                break;
            };
            there += count as u64;
            if there > most {
                self.forget()?;
                return Err(self.bad(format!("has more than {most} bytes: it is another file")));
            }
            part.write_all(piece).map_err(|e| self.unwritten(&e))?;
            bar.set_position(there);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Asks for the file from a byte on.
    fn ask(&self, there: u64) -> Result<Answer> {
        let response = self.request(there)?;
        let status = response.status();
        match status {
            StatusCode::OK => Ok(Answer::Whole(response)),
            StatusCode::PARTIAL_CONTENT if there > 0 => {
                // What follows elsewhere would make a file of two pieces that do not fit.
                let range = text(&response, header::CONTENT_RANGE);
                let begins = range
                    .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
                if begins == Some(there) { Ok(Answer::Rest(response)) } else { self.anew() }
            }
            StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => {
                let range = text(&response, header::CONTENT_RANGE);
                let total = range.and_then(|range| range.rsplit('/').next()?.parse::<u64>().ok());
                if total == Some(there) { Ok(Answer::Nothing) } else { self.anew() }
            }
            _ => Err(self.refused(status)),
        }
    }

    /// Asks for the whole file.
    fn anew(&self) -> Result<Answer> {
        let response = self.request(0)?;
        match response.status() {
            StatusCode::OK => Ok(Answer::Whole(response)),
            status => Err(self.refused(status)),
        }
    }

    fn refused(&self, status: StatusCode) -> Error {
        let advice = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => "it is no longer there; --mirror names another host",
            status if status.is_server_error() => "the server has trouble: try again later",
            _ => "the server does not give it; --mirror names another host",
        };
        self.bad(format!("HTTP status {status}: {advice}"))
    }

    fn request(&self, from: u64) -> Result<Response<Body>> {
        let mut request = agent(self.address).get(self.address);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Ok(version) = fs::read_to_string(self.version()) {
                // Of another version the server then gives the whole.
                request = request.header(header::IF_RANGE, version);
            }
        }
        request.call().map_err(|error| match error {
            ureq::Error::RequireHttpsOnly(to) => {
                self.bad(format!("leads to {to}, without TLS: refused, for nobody could tell who answers"))
            }
            ureq::Error::TooManyRedirects => {
                self.bad(format!("leads from address to address, more than {MOST_REDIRECTS} times"))
            }
            other => self.bad(format!("{other}; --mirror names another host")),
        })
    }
}

/// Who asks for an address.
fn agent(address: &str) -> Agent {
    let config = Agent::config_builder()
        // What begins safe stays so, redirects included.
        .https_only(address.starts_with("https://"))
        .http_status_as_error(false)
        .max_redirects(MOST_REDIRECTS)
        .user_agent(concat!("duet/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build();
    Agent::new_with_config(config)
}

/// What tells this version of the file from others, as `If-Range` takes it: no weak ones (RFC 9110, 13.1.5).
fn version_of(response: &Response<Body>) -> Option<&str> {
    let tag = text(response, header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(response, header::LAST_MODIFIED))
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_tls_never_goes_on_without() {
        // Redirects go through the same check.
        let error = agent("https://example.org/a").get("http://127.0.0.1:9/a").call().unwrap_err();
        assert!(matches!(error, ureq::Error::RequireHttpsOnly(_)), "{error}");
        assert!(!agent("http://127.0.0.1:9/a").config().https_only());
    }
}
