//! TensorBoard's event files: records of protocol buffers, each with the sums that tell whether it is whole.
//!
//! A record is its length (u64), a checksum of that, an `Event`, a checksum of that; all little-endian. The messages are those
//! of TensorFlow's `event.proto` and `summary.proto`, of which few fields are needed.

use crate::io::proto::Message;
use duet::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the first record says it is.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`: readers forget what an earlier file says of this step and later ones.
const START: i64 = 1;

/// Fields of `Event`.
mod event {
    pub const WALL_TIME: u64 = 1;
    pub const STEP: u64 = 2;
    pub const FILE_VERSION: u64 = 3;
    pub const SUMMARY: u64 = 5;
    pub const SESSION_LOG: u64 = 7;
}

/// The open file.
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole records.
    length: u64,
}

impl EventFile {
    /// A new file in `folder` of a run that goes on after `step`.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<EventFile> {
        let (seconds, pid) = (now() as u64, std::process::id());
        let path = folder.join(format!("events.out.tfevents.{seconds}.{}.{pid}.0", host()));
        let open = OpenOptions::new().append(true).create(true).open(&path);
        let file = open.map_err(|error| unwritable(&path, &error))?;
        let length = file.metadata().map_err(|error| unwritable(&path, &error))?.len();
        let mut events = EventFile { path, file, length };
        let mut version = Message::default();
        version.double(event::WALL_TIME, now());
        version.bytes(event::FILE_VERSION, VERSION.as_bytes());
        events.add(&version.into_bytes())?;
        if step > 0 {
            let mut start = Message::default();
            start.number(1, START);
            events.event(step + 1, event::SESSION_LOG, &start)?;
        }
        Ok(events)
    }

    /// Adds numbers by their tags.
    ///
    /// # Errors
    /// [`Error::Write`] where they cannot be written; what is there stays whole.
    pub fn scalars(&mut self, step: u64, values: &BTreeMap<String, f64>) -> Result<()> {
        let mut summary = Message::default();
        for (name, number) in values {
            let mut value = Message::default();
            value.bytes(1, tag(name).as_bytes());
            value.float(2, *number as f32);
            summary.message(1, &value);
        }
        self.event(step, event::SUMMARY, &summary)
    }

    /// Adds a picture, the bytes of a PNG file of RGB pixels.
    ///
    /// # Errors
    /// As [`EventFile::scalars`].
    pub fn picture(&mut self, step: u64, tag: &str, [width, height]: [u32; 2], png: &[u8]) -> Result<()> {
        let mut image = Message::default();
        image.number(1, height.into());
        image.number(2, width.into());
        image.number(3, 3);
        image.bytes(4, png);
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.message(4, &image);
        let mut summary = Message::default();
        summary.message(1, &value);
        self.event(step, event::SUMMARY, &summary)
    }

    fn event(&mut self, step: u64, field: u64, what: &Message) -> Result<()> {
        let mut made = Message::default();
        made.double(event::WALL_TIME, now());
        made.number(event::STEP, step as i64);
        made.message(field, what);
        self.add(&made.into_bytes())
    }

    /// Adds a record as a whole, or nothing of it.
    fn add(&mut self, data: &[u8]) -> Result<()> {
        let record = record(data);
        if let Err(error) = self.file.write_all(&record) {
            return match self.file.set_len(self.length) {
                Ok(()) => Err(unwritable(&self.path, &error)),
                Err(error) => Err(unwritable(&self.path, &error)),
            };
        }
        self.length += record.len() as u64;
        Ok(())
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::Write { what: "event file", path: path.to_owned(), detail: error.to_string() }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The machine's name as part of a file's, where it has one.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    let plain: String =
        name.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if plain.is_empty() { "host".into() } else { plain }
}

/// Where TensorBoard shows a figure: what is measured of a part of the data together, the rest by what it tells of.
fn tag(name: &str) -> String {
    for part in ["test", "validation"] {
        if let Some(figure) = name.strip_prefix(part).and_then(|rest| rest.strip_prefix('_')) {
            return format!("{part}/{figure}");
        }
    }
    match name {
        "seconds" | "images_per_second" | "data_share" => format!("speed/{name}"),
        _ => format!("train/{name}"),
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
}

/// The checksum that records carry: a CRC of what holds CRCs would be weak.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli).
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message's fields: number, and its bytes or number.
    fn fields(mut data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(data: &mut &[u8]) -> u64 {
            let end = data.iter().position(|byte| *byte < 0x80).unwrap();
            let (number, rest) = data.split_at(end + 1);
            *data = rest;
            number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        }
        let mut list = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let value = match key & 7 {
                0 => varint(&mut data).to_le_bytes().to_vec(),
                kind => {
                    let length = match kind {
                        1 => 8,
                        2 => varint(&mut data) as usize,
                        5 => 4,
                        other => panic!("wire type {other}"),
                    };
                    let (value, rest) = data.split_at(length);
                    data = rest;
                    value.to_vec()
                }
            };
            list.push((key >> 3, value));
        }
        list
    }

    fn number(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// By a table, unlike what writes.
    fn checksum(data: &[u8]) -> u32 {
        let table: Vec<u32> = (0..256u32)
            .map(|i| (0..8).fold(i, |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 }))
            .collect();
        let crc = data.iter().fold(!0u32, |c, b| table[((c ^ u32::from(*b)) & 0xff) as usize] ^ (c >> 8));
        let crc = !crc;
        crc.rotate_right(15).wrapping_add(0xa282_ead8)
    }

    /// The events of a file whose checksums are right.
    fn events(mut data: &[u8]) -> Vec<Vec<(u64, Vec<u8>)>> {
        let mut list = Vec::new();
        while !data.is_empty() {
            let length = number(&data[..8]) as usize;
            let sum = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
            assert_eq!(sum(8), checksum(&data[..8]));
            assert_eq!(sum(12 + length), checksum(&data[12..12 + length]));
            list.push(fields(&data[12..12 + length]));
            data = &data[16 + length..];
        }
        list
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn files_are_records_of_events() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 40).unwrap();
        let values = [("loss", 0.5), ("test_accuracy", 0.75), ("images_per_second", 300.0)];
        file.scalars(300, &values.map(|(name, value)| (name.to_owned(), value)).into()).unwrap();
        file.picture(301, "samples", [7, 5], b"png").unwrap();
        let name = file.path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name.starts_with("events.out.tfevents.") && name.ends_with(&format!(".{}.0", std::process::id()))
        );
        let events = events(&std::fs::read(&file.path).unwrap());
        let [version, start, scalars, picture] = &events[..] else { panic!("{events:?}") };
        assert_eq!(version[1], (3, b"brain.Event:2".to_vec()));
        let time = f64::from_le_bytes(version[0].1[..].try_into().unwrap());
        assert!(version[0].0 == 1 && (time - now()).abs() < 60.0);
        assert_eq!((start[1].0, number(&start[1].1), start[2].0), (2, 41, 7));
        assert_eq!(fields(&start[2].1), [(1, 1u64.to_le_bytes().to_vec())]);
        assert_eq!((number(&scalars[1].1), scalars[2].0), (300, 5));
        let read: Vec<(String, f32)> = fields(&scalars[2].1)
            .iter()
            .map(|(_, value)| {
                let value = fields(value);
                let number = f32::from_le_bytes(value[1].1[..].try_into().unwrap());
                assert_eq!((value[0].0, value[1].0), (1, 2));
                (String::from_utf8(value[0].1.clone()).unwrap(), number)
            })
            .collect();
        let want = [("speed/images_per_second", 300.0), ("train/loss", 0.5), ("test/accuracy", 0.75)];
        assert_eq!(read, want.map(|(tag, value)| (tag.to_owned(), value)));
        let value = fields(&fields(&picture[2].1)[0].1);
        assert_eq!((value[0].clone(), value[1].0), ((1, b"samples".to_vec()), 4));
        let image = fields(&value[1].1);
        assert_eq!([number(&image[0].1), number(&image[1].1), number(&image[2].1)], [5, 7, 3]);
        assert_eq!(image[3], (4, b"png".to_vec()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_record_that_cannot_be_written_leaves_no_half() {
        let folder = tempfile::tempdir().unwrap();
        assert!(EventFile::create(&folder.path().join("none"), 0).is_err());
        let whole = EventFile::create(folder.path(), 0).unwrap();
        let before = std::fs::read(&whole.path).unwrap();
        let file = File::open(&whole.path).unwrap();
        let mut broken = EventFile { file, ..whole };
        let error = broken.scalars(1, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.starts_with("event file ") && error.contains("tfevents"), "{error}");
        assert_eq!(std::fs::read(&broken.path).unwrap(), before);
    }
}
