//! Every reader of files against some thousand damaged ones: those of `tests/fuzz/corpus` as they are, then changed at random,
//! the same way in every run. What libFuzzer finds with more time (`make fuzz`) is kept there and runs here ever after.

#[path = "../../tests/fuzz/src/budget.rs"]
mod budget;
#[path = "../../tests/fuzz/src/readers.rs"]
mod readers;

use flate2::{Compression, Crc, write::GzEncoder};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

/// Damaged files of each reader.
const FILES: usize = 3000;

/// Numbers that are said to be too large, or just not.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "65537",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "1e999",
    "0.5",
    "NaN",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        let most = (length - from).min(if self.below(4) == 0 { length } else { 16 });
        from..from + self.below(most + 1)
    }
}

/// Changes a file at one place.
fn damage(data: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len() + 1);
    match random.below(9) {
        0 if at < data.len() => data[at] ^= 1 << random.below(8),
        1 if at < data.len() => {
            data[at] = *b"\x00\x01\x7f\x80\xff\"[{}]:,.-9 \n".get(random.below(17)).unwrap_or(&0)
        }
        2 => {
            // A number of two, four or eight bytes.
            let width = 2 << random.below(3);
            let value = [0, 1, u64::MAX, 1 << 31, 1 << 16, 0x7fff_ffff_ffff_ffff][random.below(6)];
            let bytes = if random.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
            let bytes = &bytes[..width];
            data.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        }
        3 => {
            data.drain(random.range(data.len()));
        }
        4 => {
            let piece = data[random.range(data.len())].to_vec();
            data.splice(at..at, piece);
        }
        5 => {
            let other = &others[random.below(others.len())];
            let piece = other[random.range(other.len())].to_vec();
            let to = random.range(data.len());
            data.splice(to, piece);
        }
        6 => data.truncate(at),
        7 => {
            // One of the numbers written in digits.
            let starts: Vec<usize> = (0..data.len())
                .filter(|i| data[*i].is_ascii_digit() && (*i == 0 || !data[i - 1].is_ascii_digit()))
                .collect();
            if !starts.is_empty() {
                let from = starts[random.below(starts.len())];
                let digits = data[from..].iter().take_while(|b| b.is_ascii_digit()).count();
                data.splice(from..from + digits, NUMBERS[random.below(NUMBERS.len())].bytes());
            }
        }
        _ => {
            // Nesting, and many of one thing.
            let piece =
                [&b"["[..], b"{\"a\":", b"a = ", b",", b"\0"][random.below(5)].repeat(1 + random.below(400));
            data.splice(at..at, piece);
        }
    }
}

/// The length of a safetensors header set to where the header now ends.
fn mend_length(data: &mut [u8], random: &mut Random) {
    let text = data.get(8..).unwrap_or_default();
    let end = text.iter().rposition(|b| *b == b'}').map_or(text.len(), |at| at + 1);
    if let Some(length) = data.first_chunk_mut() {
        *length = if random.below(8) == 0 { random.next() } else { end as u64 }.to_le_bytes();
    }
}

/// The checksums of a PNG's chunks, as far as their lengths lead.
fn mend_checksums(data: &mut [u8], _: &mut Random) {
    let mut at = 8;
    while let Some(length) = data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes) {
        let end = at.saturating_add(8).saturating_add(length as usize);
        let Some(body) = data.get(at + 4..end) else { return };
        let mut crc = Crc::new();
        crc.update(body);
        if let Some(sum) = data.get_mut(end..end + 4) {
            sum.copy_from_slice(&crc.sum().to_be_bytes());
        }
        at = end + 4;
    }
}

/// An idx set's images packed as gzip; its labels stay.
fn pack(data: &mut Vec<u8>) {
    let labels = 1 + data.first().map_or(0, |length| usize::from(*length));
    if let Some(images) = data.get(labels..) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(images).unwrap();
        let packed = encoder.finish().unwrap();
        data.truncate(labels);
        data.extend(packed);
    }
}

/// The checksum of decoded pictures in the cache, where the file is as long as it says.
fn mend_checksum(data: &mut [u8], _: &mut Random) {
    let number = |at: usize, bytes: usize| -> Option<usize> {
        data.get(at..at + bytes)?
            .iter()
            .rev()
            .try_fold(0usize, |sum, byte| Some(sum.checked_mul(256)? + usize::from(*byte)))
    };
    let read = || Some([number(48, 8)?, number(56, 4)?, number(60, 4)?, number(64, 8)?]);
    let Some([pictures, channels, size, list]) = read() else { return };
    let len = channels.saturating_mul(size).saturating_mul(size);
    let end = len.saturating_mul(pictures).saturating_add(128);
    if len == 0 || end.saturating_add(list) != data.len() {
        return;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&data[..72]).update(&data[end..]);
    for picture in data[128..end].chunks_exact(len) {
        hasher.update(blake3::hash(picture).as_bytes());
    }
    data[72..104].copy_from_slice(hasher.finalize().as_bytes());
}

/// Allocations are counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs the files of `name`, then damaged ones; `mend` makes some of those plausible again.
fn hammer(name: &str, read: fn(&[u8]), mend: impl Fn(&mut Vec<u8>, &mut Random)) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 2, "{} has {} files", folder.display(), paths.len());
    let mut files = Vec::new();
    for path in paths {
        println!("{}", path.display());
        let data = std::fs::read(&path).unwrap();
        read(&data);
        files.push(data);
    }
    for number in 0..FILES {
        let mut random = Random(number as u64);
        let mut data = files[random.below(files.len())].clone();
        for _ in 0..=random.below(4) {
            damage(&mut data, &files, &mut random);
        }
        if random.below(2) == 0 {
            mend(&mut data, &mut random);
        }
        let outcome = std::panic::catch_unwind(|| read(&data));
        if let Err(panic) = outcome {
            let kept = std::env::temp_dir().join(format!("duet-{name}-{number}"));
            std::fs::write(&kept, &data).unwrap();
            println!("damaged file {number} is kept as {}", kept.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn checkpoints() {
    hammer("checkpoint", readers::checkpoint, |data, random| mend_length(data, random));
}

#[test]
fn files_of_pytorch() {
    hammer("torch", readers::torch, |_, _| {});
}

#[test]
fn recipes() {
    hammer("recipe", readers::recipe, |_, _| {});
}

#[test]
fn idx_files() {
    hammer("idx", readers::idx, |data, _| pack(data));
}

/// What follows the first byte packed as gzip, as USPS is published.
fn pack_rest(data: &mut Vec<u8>) {
    if data.len() > 1 {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&data[1..]).unwrap();
        data.truncate(1);
        data.extend(encoder.finish().unwrap());
    }
}

#[test]
fn text_of_usps() {
    hammer("usps", readers::usps, |data, _| pack_rest(data));
}

#[test]
fn records_of_cifar() {
    // To a whole number of records of either set.
    hammer("cifar", readers::cifar, |data, _| {
        let record = 3073 + usize::from(data.first().is_some_and(|set| set % 2 == 1));
        data.resize(1 + data.len().div_ceil(record).min(4) * record, 0);
    });
}

#[test]
fn arrays_of_svhn() {
    hammer("svhn", readers::svhn, |_, _| {});
}

#[test]
fn arrays_of_numpy() {
    hammer("npz", readers::npz, |_, _| {});
}

#[test]
fn tables_of_slides() {
    hammer("malaria", readers::malaria, |_, _| {});
}

#[test]
fn tables_of_labels() {
    hammer("labels_csv", readers::labels_csv, |_, _| {});
}

#[test]
fn decoded_pictures() {
    hammer("cache", readers::cache, |data, random| mend_checksum(data, random));
}

#[test]
fn tables_of_celeba() {
    hammer("celeba", readers::celeba, |_, _| {});
}

#[test]
fn tuning_tables() {
    hammer("tuning", readers::tuning, |_, _| {});
}

#[test]
fn results_of_the_benchmark() {
    hammer("bench", readers::bench, |_, _| {});
}

#[test]
fn earlier_measurements() {
    hammer("earlier", readers::earlier, |_, _| {});
}

#[test]
fn lists_of_images() {
    hammer("index", readers::index, |_, _| {});
}

#[test]
fn respacings() {
    hammer("respacing", readers::respacing, |_, _| {});
}

#[test]
fn pictures() {
    hammer("picture", readers::picture, |data, random| mend_checksums(data, random));
}

/// The budget notices what it is there for.
#[test]
fn excess_is_noticed() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let budget = budget::Budget { factor: 2, constant: 1000 };
    budget.check("modest", 500, || vec![0u8; 1500]);
    let excess = std::panic::catch_unwind(|| budget.check("greedy", 500, || vec![0u8; 200_000_000]));
    assert!(excess.is_err());
}
