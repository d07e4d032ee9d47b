//! Times of one operation in each of its families on a device, for tuning tables.

use super::attention::{self, Attention};
use super::conv2d::{self, Conv2d};
use super::conv3x3::{self, Conv3x3};
use super::matmul::{self, MatMul};
use crate::error::{Error, Result};
use crate::families::{Family, Key, KeyKind, Measured};
use crate::gpu::{BufferId, BufferSpec, Device, Executable, Launch, Program, Slice};
use crate::tensor::pitch;

/// A read-back ends every measurement; runs are repeated within one until they take so many seconds.
const LEAST_SECONDS: f64 = 0.02;
/// Runs of one measurement at most.
const MOST_RUNS: f64 = 64.0;

/// Seconds per run in each family that has a kernel and runs on the device; the direct one is the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Vec<(Family, f64)>);

impl Times {
    /// Seconds per run; `None`: there is no such kernel here.
    pub fn of(&self, family: Family) -> Option<f64> {
        self.0.iter().find(|(f, _)| *f == family).map(|(_, seconds)| *seconds)
    }

    /// The fastest family and its seconds per run.
    pub fn best(&self) -> (Family, f64) {
        let faster = |a: (Family, f64), b: &(Family, f64)| if b.1 < a.1 { *b } else { a };
        self.0.iter().fold((Family::Direct, f64::INFINITY), faster)
    }

    /// The row of a tuning table.
    pub fn row(&self, key: &Key) -> Measured {
        let milliseconds = |family| self.of(family).map(|seconds| (seconds * 1e6).round() / 1e3);
        Measured {
            key: key.clone(),
            family: self.best().0,
            direct_ms: milliseconds(Family::Direct),
            tiled_ms: milliseconds(Family::Tiled),
            subgroup_ms: milliseconds(Family::Subgroup),
            cooperative_ms: milliseconds(Family::Cooperative),
        }
    }
}

fn slices(sizes: &[u64]) -> Vec<Slice> {
    let slice = |(i, bytes): (usize, &u64)| Slice {
        buffer: BufferId(i as u32),
        offset: 0,
        bytes: *bytes,
        half: false,
    };
    sizes.iter().enumerate().map(slice).collect()
}

/// The gradient as `family` reads it: those of matrices read f16, at half the bytes.
fn upstream(family: Family, dy: Slice) -> Slice {
    let half = family == Family::Cooperative;
    Slice { half, bytes: if half { (dy.bytes / 2).max(16) } else { dy.bytes }, ..dy }
}

fn floats(rows: usize, columns: usize) -> u64 {
    (rows * pitch(columns) * 4).max(16) as u64
}

fn convolution(size: &Conv3x3, operation: KeyKind, family: Family) -> (Vec<u64>, Vec<Launch>) {
    let sizes = vec![
        floats(size.batch * size.height * size.width, size.in_channels),
        floats(9 * pitch(size.in_channels), size.out_channels),
        floats(size.batch * size.out_height() * size.out_width(), size.out_channels),
        conv3x3::grad_weight_scratch(family, size).max(16),
        floats(1, size.out_channels),
    ];
    let s = slices(&sizes);
    let dy = upstream(family, s[2]);
    let launches = match operation {
        KeyKind::ConvGradInput => conv3x3::grad_input(family, size, dy, s[1], None, s[0]),
        KeyKind::ConvGradWeight => conv3x3::grad_weight(family, size, s[0], dy, s[3], s[1], None),
        _ => conv3x3::forward(family, size, s[0], s[1], Some(s[4]), None, s[2]),
    };
    (sizes, launches)
}

fn convolution_of_any_window(size: &Conv2d, operation: KeyKind, family: Family) -> (Vec<u64>, Vec<Launch>) {
    let [x, weight, y] = size.operands().map(|[rows, columns]| floats(rows, columns));
    let sizes = vec![x, weight, y];
    let s = slices(&sizes);
    let launches = match operation {
        KeyKind::Conv2dGradInput => conv2d::grad_input(family, size, s[2], s[1], s[0]),
        _ => conv2d::forward(family, size, s[0], s[1], None, s[2]),
    };
    (sizes, launches)
}

fn product(size: &MatMul, operation: KeyKind, family: Family) -> (Vec<u64>, Vec<Launch>) {
    let sizes = vec![
        floats(size.rows, size.in_features),
        floats(pitch(size.in_features), size.out_features),
        floats(size.rows, size.out_features),
        matmul::grad_weight_scratch(family, size).max(16),
        floats(1, size.out_features),
    ];
    let s = slices(&sizes);
    let dy = upstream(family, s[2]);
    let launches = match operation {
        KeyKind::MatmulGradInput => matmul::grad_input(family, size, dy, s[1], None, s[0]),
        KeyKind::MatmulGradWeight => matmul::grad_weight(family, size, s[0], dy, s[3], s[1], None),
        _ => matmul::forward(family, size, s[0], s[1], Some(s[4]), None, s[2]),
    };
    (sizes, launches)
}

fn attention(size: &Attention, operation: KeyKind, family: Family) -> (Vec<u64>, Vec<Launch>) {
    let tokens = size.batch * size.tokens;
    let sizes = vec![
        floats(tokens, 3 * size.channels),
        floats(tokens, size.channels),
        attention::lse_bytes(size).max(16),
        floats(tokens, size.channels),
        attention::grad_scratch(size).max(16),
        floats(tokens, 3 * size.channels),
    ];
    let s = slices(&sizes);
    let launches = match operation {
        KeyKind::AttentionGrad => attention::grad(family, size, [s[0], s[1], s[2], s[3]], s[4], s[5]),
        _ => attention::forward(family, size, s[0], s[1], s[2]),
    };
    (sizes, launches)
}

/// The operation alone, over buffers of its own.
///
/// # Errors
/// [`Error::Shape`] where the key's shape has the wrong length.
pub fn program(key: &Key, family: Family) -> Result<Program> {
    let conv = Conv3x3::of_key(key).map(|size| convolution(&size, key.operation, family));
    let any = || Conv2d::of_key(key).map(|size| convolution_of_any_window(&size, key.operation, family));
    let made = conv
        .or_else(any)
        .or_else(|| MatMul::of_key(key).map(|size| product(&size, key.operation, family)))
        .or_else(|| Attention::of_key(key).map(|size| attention(&size, key.operation, family)));
    let (sizes, launches) = made.ok_or_else(|| Error::shape("measure", key.to_string()))?;
    let buffers = sizes.into_iter().map(|bytes| BufferSpec::Slot { bytes }).collect();
    Ok(Program { buffers, launches })
}

/// Loads a program and fills its buffers with numbers between -0.5 and 0.5.
async fn load(device: &Device, program: &Program) -> Result<Executable> {
    let executable = device.load(program, |_| None).await?;
    for (i, buffer) in program.buffers.iter().enumerate() {
        let values: Vec<f32> = (0..buffer.bytes() / 4).map(|v| (v % 251) as f32 / 251.0 - 0.5).collect();
        device.write(executable.buffer(BufferId(i as u32)), 0, bytemuck::cast_slice(&values))?;
    }
    Ok(executable)
}

/// Seconds per run of `runs` runs.
async fn timed(executable: &Executable, runs: u32, now: &impl Fn() -> f64) -> Result<f64> {
    let start = now();
    for _ in 0..runs {
        executable.run();
    }
    executable.device().read(executable.buffer(BufferId(0)), 0, 16).await?;
    Ok((now() - start) / f64::from(runs))
}

/// The families that have a kernel for it and run on the device.
pub fn families_of(device: &Device, key: &Key) -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| family.has(key) && family.runs_on(device)).collect()
}

/// Times an operation in its families, in turns for at least `seconds` seconds and three turns; the shortest counts.
/// `now` gives seconds from any beginning.
///
/// # Errors
/// As [`program`]; device errors.
pub async fn times(device: &Device, key: &Key, seconds: f64, now: impl Fn() -> f64) -> Result<Times> {
    let families = families_of(device, key);
    let mut list = Vec::new();
    for family in &families {
        list.push(load(device, &program(key, *family)?).await?);
    }
    let mut runs = Vec::new();
    for executable in &list {
        // The first run compiles, the second says how long one takes.
        timed(executable, 1, &now).await?;
        let one = timed(executable, 1, &now).await?;
        runs.push((LEAST_SECONDS / one.max(1e-9)).clamp(1.0, MOST_RUNS) as u32);
    }
    let mut best = vec![f64::INFINITY; list.len()];
    let (begin, mut turns) = (now(), 0);
    while turns < 3 || now() - begin < seconds {
        for ((executable, runs), best) in list.iter().zip(&runs).zip(&mut best) {
            *best = best.min(timed(executable, *runs, &now).await?);
        }
        turns += 1;
    }
    Ok(Times(families.into_iter().zip(best).collect()))
}
