//! Whether a JPEG's data are all there (ITU-T T.81).
//!
//! Decoders fill what is missing with grey and say nothing, so a file is read before it is decoded: its segments one after the
//! other (a thumbnail inside one is never taken for the picture), and of each scan every code, without computing a pixel.

mod bits;
mod scan;

use bits::Stop;
use scan::{Broken, Frame, Tables};

/// Bytes that may follow the last scan of a file without an end marker: the marker's first half.
const HALF_MARKER: usize = 1;

/// Why a JPEG is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file, or one of its scans, stops before the picture is complete.
    EndsEarly(String),
    /// Its codes are none of its tables'.
    Damaged(String),
}

/// Whether all data of a JPEG are there, up to its first end marker; the end marker itself may be missing. What only a decoder
/// can judge, such as arithmetic coding, passes.
///
/// A progressive picture takes a byte for eight values meanwhile: check its size before.
///
/// # Errors
/// Where and how the data end.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut segments = Segments { bytes, at: 2, end: 2 };
    let mut tables = Tables::default();
    let mut interval = 0;
    let mut frame: Option<Frame> = None;
    let mut scans = 0;
    loop {
        match segments.next() {
            Segment::Part(code @ 0xC0..=0xC2, data) => match (Frame::parse(data, code == 0xC2), &frame) {
                (Some(header), None) => frame = Some(header),
                _ => return Ok(()),
            },
            Segment::Part(0xC4, data) => {
                if tables.define(data).is_none() {
                    return Err(Fault::Damaged("a table of its codes is impossible".into()));
                }
            }
            Segment::Part(0xC3 | 0xC5..=0xCF, _) => return Ok(()),
            Segment::Part(0xDD, &[high, low, ..]) => interval = u16::from_be_bytes([high, low]).into(),
            Segment::Part(0xDA, data) => {
                let Some(frame) = &mut frame else {
                    return Err(Fault::Damaged("data come before the picture's size".into()));
                };
                let Some(scan) = frame.scan(data) else {
                    return Err(Fault::Damaged("a scan is of nothing that the picture has".into()));
                };
                scans += 1;
                match frame.read(&scan, &tables, interval, bytes, segments.at) {
                    Some(Ok(end)) => (segments.at, segments.end) = (end, end),
                    Some(Err(broken)) => return Err(fault(&broken, scans)),
                    // Motion JPEG leaves the standard's own tables out.
                    None => return Ok(()),
                }
            }
            Segment::Part(..) => {}
            end => {
                let ended = matches!(end, Segment::Marked);
                let rest = bytes.len() - segments.end;
                let complete = frame.is_some_and(|frame| frame.is_complete(!ended));
                if complete && (ended || rest <= HALF_MARKER) {
                    return Ok(());
                }
                let detail = match scans {
                    0 => "before the picture begins".to_owned(),
                    _ => format!("after scan {scans}; more must follow"),
                };
                return Err(Fault::EndsEarly(detail));
            }
        }
    }
}

fn fault(broken: &Broken, scan: usize) -> Fault {
    let [done, all] = broken.done;
    match broken.stop {
        Stop::Short => Fault::EndsEarly(format!("in scan {scan}, after {done} of {all} blocks")),
        Stop::Bad => {
            Fault::Damaged(format!("block {done} of {all} of scan {scan} holds no code of its table"))
        }
    }
}

/// Whether a JPEG is progressive, with the number of its components: decoders keep all coefficients of such a one.
pub fn kind(bytes: &[u8]) -> Option<(bool, usize)> {
    let mut segments = Segments { bytes, at: 2, end: 2 };
    loop {
        match segments.next() {
            Segment::Part(code @ 0xC0..=0xC2, data) => {
                return Frame::parse(data, code == 0xC2).map(|f| f.kind());
            }
            Segment::Part(0xDA, _) | Segment::Marked | Segment::Cut => return None,
            Segment::Part(..) => {}
        }
    }
}

/// What comes between scans.
enum Segment<'a> {
    /// A marker and what belongs to it.
    Part(u8, &'a [u8]),
    /// The end marker.
    Marked,
    /// The end of the file.
    Cut,
}

struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the last segment or scan ended.
    end: usize,
}

impl<'a> Segments<'a> {
    fn next(&mut self) -> Segment<'a> {
        loop {
            // What lies between segments is passed over, as decoders do.
            let code = match self.bytes.get(self.at..) {
                None | Some([] | [_]) => return Segment::Cut,
                Some([0xFF, 0xFF, ..]) => None,
                Some(&[0xFF, code, ..]) => Some(code),
                Some(_) => None,
            };
            let Some(code) = code else {
                self.at += 1;
                continue;
            };
            self.at += 2;
            match code {
                0xD9 => return Segment::Marked,
                // Markers that stand alone, and a stuffed byte.
                0x00 | 0x01 | 0xD0..=0xD8 => {}
                _ => {
                    let length = match self.bytes.get(self.at..) {
                        Some(&[high, low, ..]) => usize::from(u16::from_be_bytes([high, low])),
                        _ => return Segment::Cut,
                    };
                    let Some(data) = self.bytes.get(self.at..self.at + length.max(2)) else {
                        return Segment::Cut;
                    };
                    self.at += data.len();
                    self.end = self.at;
                    return Segment::Part(code, &data[2..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn fixtures() -> Vec<(String, Vec<u8>)> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/jpeg");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let read = |path: PathBuf| (path.display().to_string(), std::fs::read(path).unwrap());
        files.into_iter().map(read).collect()
    }

    fn ends_early(bytes: &[u8]) -> bool {
        matches!(check(bytes), Err(Fault::EndsEarly(_)))
    }

    #[test]
    fn whole_files_pass_and_every_shorter_one_ends_early() {
        let files = fixtures();
        assert_eq!(files.len(), 20);
        for (name, whole) in files {
            assert_eq!(check(&whole), Ok(()), "{name}");
            let (data, marker) = whole.split_at(whole.len() - 2);
            assert_eq!(marker, [0xFF, 0xD9], "{name}");
            assert_eq!([check(data), check(&whole[..whole.len() - 1])], [Ok(()), Ok(())], "{name}");
            let start = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
            for length in 2..data.len() {
                let cut = &whole[..length];
                assert!(ends_early(cut), "{name} cut to {length}: {:?}", check(cut));
                // As programs repair them.
                let marked = [cut, &[0xFF, 0xD9]].concat();
                // Between two scans such a file is one of fewer scans.
                let fewer = name.contains("progressive") && check(&marked) == Ok(());
                assert!(length < start || fewer || check(&marked).is_err(), "{name} cut to {length}");
                // As downloads leave them whose place was reserved: zeros may look like codes, but the marker is missing.
                let filled = [cut, &[0; 4096]].concat();
                assert!(length < start || check(&filled).is_err(), "{name} filled up from {length}");
            }
        }
    }

    #[test]
    fn a_mark_after_half_of_a_scan_is_no_end() {
        let files = fixtures();
        for (name, whole) in files.iter().filter(|(name, _)| name.contains("baseline")) {
            for share in 60..99 {
                let cut = [&whole[..whole.len() * share / 100], &[0xFF, 0xD9]].concat();
                assert!(ends_early(&cut), "{name} at {share} %");
            }
        }
    }

    #[test]
    fn thumbnails_and_what_follows_do_not_count() {
        let files = fixtures();
        let (_, small) = &files[files.iter().position(|(name, _)| name.contains("grey-baseline")).unwrap()];
        for (name, whole) in &files {
            let length = (small.len() as u16 + 2).to_be_bytes();
            let with = [&whole[..2], &[0xFF, 0xE1], &length, small, &whole[2..]].concat();
            let followed = [&with[..], b"anything", small].concat();
            assert_eq!([check(&with), check(&followed)], [Ok(()), Ok(())], "{name}");
            for share in [30, 60, 90] {
                assert!(ends_early(&with[..with.len() * share / 100]), "{name} at {share} %");
            }
        }
    }

    /// A file of three components that come one after the other, each in a scan of its own, of a grey one's data.
    fn one_by_one(grey: &[u8]) -> Vec<u8> {
        let mut segments = Segments { bytes: grey, at: 2, end: 2 };
        let mut file = vec![0xFF, 0xD8];
        loop {
            let start = segments.at;
            match segments.next() {
                Segment::Part(0xC0, data) => {
                    file.extend([0xFF, 0xC0, 0, 17, 8]);
                    file.extend(&data[1..5]);
                    file.extend([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
                }
                Segment::Part(0xDA, _) => {
                    for component in 1..=3 {
                        file.extend([0xFF, 0xDA, 0, 8, 1, component, 0, 0, 63, 0]);
                        file.extend(&grey[segments.at..grey.len() - 2]);
                    }
                    file.extend([0xFF, 0xD9]);
                    return file;
                }
                Segment::Part(..) => file.extend(&grey[start..segments.at]),
                _ => unreachable!("a scan comes first"),
            }
        }
    }

    #[test]
    fn every_component_needs_its_scan() {
        let files = fixtures();
        for (name, grey) in files.iter().filter(|(name, _)| name.contains("grey-baseline")) {
            let whole = one_by_one(grey);
            assert_eq!(check(&whole), Ok(()), "{name}");
            assert_eq!(image::load_from_memory(&whole).unwrap().color(), image::ColorType::Rgb8);
            // Two of three scans, with an end marker.
            let third = whole.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap();
            assert!(ends_early(&[&whole[..third], &[0xFF, 0xD9]].concat()), "{name}");
            for length in 2..whole.len() - 2 {
                assert!(ends_early(&whole[..length]), "{name} cut to {length}");
            }
        }
    }

    #[test]
    fn a_restart_that_comes_too_soon_and_impossible_codes_are_seen() {
        let files = fixtures();
        for (name, whole) in files.iter().filter(|(name, _)| name.contains("baseline-restarts")) {
            let second = whole.windows(2).position(|pair| pair == [0xFF, 0xD1]).unwrap();
            let without = [&whole[..second - 6], &whole[second..]].concat();
            assert!(check(&without).is_err(), "{name}");
        }
        let damaged = files.iter().filter(|(_, whole)| {
            let mut changed = whole.clone();
            let scan = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
            // Ones alone are no code of any table.
            changed.splice(scan + 16..scan + 16, [0xFF, 0].repeat(20));
            matches!(check(&changed), Err(Fault::Damaged(_)))
        });
        assert_eq!(damaged.count(), 20);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic() {
        for (_, whole) in fixtures() {
            for place in 2..whole.len() {
                for value in [0, 1, 0x7F, 0xFF, whole[place] ^ 0x10] {
                    let mut changed = whole.clone();
                    changed[place] = value;
                    let _ = (check(&changed), kind(&changed));
                }
            }
        }
    }
}
