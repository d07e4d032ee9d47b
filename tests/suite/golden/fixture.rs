//! Fixtures: files of the reference's own numbers, and the record of what was compared with them.

use duet::model::JointModel;
use duet::tensor::{HostTensor, Tensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One file: its metadata and its tensors, widened to f64.
pub struct Fixture {
    pub name: String,
    pub config: serde_json::Value,
    pub metadata: BTreeMap<String, serde_json::Value>,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    pub report: Report,
}

/// What was compared, how near it came, and what failed.
#[derive(Default)]
pub struct Report {
    seen: BTreeSet<String>,
    compared: usize,
    worst: (f64, String),
    failures: Vec<String>,
}

impl Fixture {
    pub fn load(path: &Path) -> Fixture {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let parse = |(key, text): (&String, &String)| {
            let value = serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
            (key.clone(), value)
        };
        let metadata: BTreeMap<String, serde_json::Value> =
            header.metadata().iter().flatten().map(parse).collect();
        let mut tensors = BTreeMap::new();
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for (name, view) in file.tensors() {
            use safetensors::Dtype;
            let data = view.data();
            let values: Vec<f64> = match view.dtype() {
                Dtype::F64 => data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::F32 => {
                    data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
                }
                Dtype::I64 => {
                    data.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
                }
                Dtype::U8 => data.iter().map(|b| f64::from(*b)).collect(),
                other => panic!("{}: {name} has the unknown type {other:?}", path.display()),
            };
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        let config = metadata.get("config").cloned().unwrap_or_default();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Fixture { name, config, metadata, tensors, report: Report::default() }
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether the name of any tensor fits.
    pub fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.tensors.keys().any(|name| fits(name))
    }

    /// As [`Fixture::check`], where the file has the tensor.
    pub fn check_if_there(&mut self, name: &str, got: &[f32], relative: f64) {
        if self.has(name) {
            self.check(name, got, relative);
        }
    }

    /// Values of a table in double precision where the file has it so.
    pub fn take_wide(&mut self, name: &str) -> Vec<f64> {
        let twin = format!("{name}_f64");
        if self.has(&twin) { self.take(&twin) } else { self.take(name) }
    }

    /// Values of a tensor that is input or expectation; marks it as used.
    pub fn take(&mut self, name: &str) -> Vec<f64> {
        self.report.seen.insert(name.to_owned());
        let found = self.tensors.get(name);
        found.unwrap_or_else(|| panic!("{}: there is no {name}", self.name)).1.clone()
    }

    pub fn take_f32(&mut self, name: &str) -> Vec<f32> {
        self.take(name).iter().map(|v| *v as f32).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].0
    }

    /// The reference's own rounding noise in a tensor.
    pub fn noise(&self, name: &str) -> f64 {
        let dev = self.metadata.get("f32_dev").and_then(|d| d.get(name)).and_then(|d| d.get(0));
        dev.and_then(serde_json::Value::as_f64).unwrap_or(0.0)
    }

    /// Compares a whole tensor within 20 × the reference's noise or `relative` × its largest value, whichever is wider;
    /// its f64 twin is the truth where the file has one.
    pub fn check(&mut self, name: &str, got: &[f32], relative: f64) {
        let twin = format!("{name}_f64");
        let mut want = self.take(name);
        if self.has(&twin) {
            want = self.take(&twin);
        }
        let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let bound = (20.0 * self.noise(name)).max(relative * scale).max(1e-12);
        self.compare(name, got, &want, bound);
    }

    /// Compares with an absolute bound.
    pub fn compare(&mut self, name: &str, got: &[f32], want: &[f64], bound: f64) {
        if got.len() != want.len() {
            self.fail(format!("{name}: {} values instead of {}", got.len(), want.len()));
            return;
        }
        let (mut worst, mut at) = (0.0f64, 0);
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let difference = (f64::from(*g) - w).abs();
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            if difference > worst {
                (worst, at) = (difference, i);
            }
        }
        let detail = format!("{name}[{at}]: {:e} instead of {:e}", got[at], want[at]);
        self.ratio(name, worst / bound, &detail);
    }

    /// Records a comparison by its ratio to the tolerance.
    pub fn ratio(&mut self, name: &str, ratio: f64, detail: &str) {
        let report = &mut self.report;
        report.compared += 1;
        let ratio = if ratio.is_nan() { f64::INFINITY } else { ratio };
        if ratio > report.worst.0 {
            report.worst = (ratio, name.to_owned());
        }
        if ratio > 1.0 {
            report.failures.push(format!("{detail} (ratio to the tolerance {ratio:.2})"));
        }
    }

    pub fn fail(&mut self, detail: String) {
        self.report.failures.push(detail);
    }

    /// Prints the record; every tensor must have been used, and every comparison within its tolerance.
    pub fn finish(mut self) -> Result<(), String> {
        let unknown: Vec<&String> =
            self.tensors.keys().filter(|name| !self.report.seen.contains(*name)).collect();
        if !unknown.is_empty() {
            self.report.failures.push(format!("unknown content, compared with nothing: {unknown:?}"));
        }
        let (ratio, name) = &self.report.worst;
        println!(
            "{}: {} tensors, {} comparisons, worst ratio to the tolerance {ratio:.3} ({name})",
            self.name,
            self.report.seen.len(),
            self.report.compared
        );
        if self.report.compared == 0 {
            self.report.failures.push("nothing was compared".into());
        }
        if self.report.failures.is_empty() {
            return Ok(());
        }
        let shown = self.report.failures.len().min(30);
        Err(format!(
            "{}: {} failures\n  {}",
            self.name,
            self.report.failures.len(),
            self.report.failures[..shown].join("\n  ")
        ))
    }
}

/// SplitMix64 of the name's FNV-1a hash: the fixtures' generator.
struct Generator(u64);

impl Generator {
    fn new(name: &str) -> Generator {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Generator(hash)
    }

    /// Uniform in 0..1 with 24 bits.
    fn u(&self, i: usize) -> f32 {
        let mut x = self.0.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / 16_777_216.0
    }

    fn s(&self, i: usize) -> f32 {
        2.0 * self.u(i) - 1.0
    }
}

/// Symmetric values of a name, without any prefix: the probe vectors.
pub fn probe(name: &str, count: usize) -> Vec<f64> {
    let generator = Generator::new(&format!("probe.{name}"));
    (0..count).map(|i| f64::from(generator.s(i))).collect()
}

/// The value of a parameter by the fixtures' formula.
pub fn formula(prefix: &str, name: &str, shape: &[usize]) -> HostTensor {
    let generator = Generator::new(&format!("{prefix}{name}"));
    let count: usize = shape.iter().product();
    let last = name.rsplit('.').next().unwrap_or(name);
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = (1.0 / (fan_in as f64).sqrt()) as f32;
    let value = |i: usize| match last {
        "running_mean" => 0.1 * generator.s(i),
        "running_var" => 1.0 + 0.5 * generator.u(i),
        "bias" => generator.s(i) * 0.05,
        "weight" if shape.len() == 1 => 1.0 + 0.1 * generator.s(i),
        "weight" => generator.s(i) * bound,
        other => panic!("no formula for {other}"),
    };
    HostTensor { shape: shape.to_vec(), data: (0..count).map(value).collect() }
}

/// All weights of a model by the formula.
pub fn weights(model: &JointModel, prefix: &str) -> Tensors {
    let names = model.params.expected(false);
    names.into_iter().map(|(name, shape)| (name.clone(), formula(prefix, &name, &shape))).collect()
}

/// The 11 numbers the reference keeps of a tensor: L2 norm, sum, dot product with its probe, first 8 values.
pub fn summary(name: &str, data: &[f32]) -> [f64; 11] {
    let wide: Vec<f64> = data.iter().map(|v| f64::from(*v)).collect();
    let dot = wide.iter().zip(probe(name, wide.len())).map(|(a, b)| a * b).sum();
    let mut row = [0.0; 11];
    row[0] = wide.iter().map(|v| v * v).sum::<f64>().sqrt();
    row[1] = wide.iter().sum();
    row[2] = dot;
    for (to, from) in row[3..].iter_mut().zip(&wide) {
        *to = *from;
    }
    row
}

#[test]
fn formula_gives_the_documented_bits() {
    let bits = |t: &HostTensor| t.data[..3].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let weight = formula("", "input_blocks.0.0.weight", &[32, 1, 3, 3]);
    assert_eq!(bits(&weight), [0x3dd2_4750, 0xbe81_05b3, 0xbe08_46d3]);
    let bias = formula("", "input_blocks.0.0.bias", &[32]);
    assert_eq!(bits(&bias), [0xba8e_6e9a, 0x3ce1_f727, 0x3d22_3de7]);
    let norm = formula("", "input_blocks.1.0.in_layers.0.weight", &[32]);
    assert_eq!(bits(&norm), [0x3f82_1f61, 0x3f85_da4e, 0x3f8a_06c4]);
    let mean = formula("", "clasifier.bn_1.running_mean", &[673]);
    assert_eq!(bits(&mean), [0xbd92_b877, 0xbda1_b92f, 0x3d11_5f6d]);
    let var = formula("", "clasifier.bn_1.running_var", &[673]);
    assert_eq!(bits(&var), [0x3fa5_ce4a, 0x3f9b_abea, 0x3fb2_227a]);
}
