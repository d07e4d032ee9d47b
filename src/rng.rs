//! Random numbers by counters: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), the
//! same integers here and in `wgsl/random.wgsl`.
//!
//! Nothing is drawn in sequence: every number is a function of (seed, stream, step, row, element), so that a resumed
//! run goes on with the same bits and image `i` has the same noise whatever batch it is in. The key is the seed (low,
//! high); the counter is (block, row, step, stream), where a block of four numbers serves four consecutive elements of
//! a row. Elements of images count in channel, row, column order, whatever the layout on the device.

/// Seed of a run.
///
/// Numbers are looked up, not drawn: asked for again, in any order, they are the same.
///
/// ```
/// use duet::rng::{Seed, Stream, normal_fill};
///
/// // Noise of image 3 at step 10: one value for each of its 28 × 28 pixels, mean 0, variance 1.
/// let [mut noise, mut other, mut again] = [[0.0; 784]; 3];
/// normal_fill(Seed(7), Stream::InitialNoise, 10, 3, &mut noise);
/// normal_fill(Seed(7), Stream::InitialNoise, 10, 4, &mut other);
/// normal_fill(Seed(7), Stream::InitialNoise, 10, 3, &mut again);
/// assert!(noise == again && noise != other);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// What random numbers are for; numbers of different streams are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// x_T, or the noise an image is noised with before it is explained.
    InitialNoise = 1,
    /// The noise of sampling steps.
    SamplerNoise = 2,
    /// The noise of training.
    TrainNoise = 3,
    /// Timesteps of training.
    Timestep = 4,
    /// Order of the data.
    Shuffle = 5,
    /// Fresh weights.
    Init = 6,
    /// The noise of the kept part of a masked counterfactual.
    KeptNoise = 7,
    /// The noise of an inversion: of each step its own.
    Inversion = 8,
    /// What happens to images before the classifier sees them.
    Augment = 9,
    /// Dropout of layer 0; layer `l` uses this number plus `l`.
    Dropout = 0x100,
}

/// Ten rounds of Philox on a counter of four words with a key of two.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// The four words of one block.
pub fn block(seed: Seed, stream: u32, step: u32, row: u32, block: u32) -> [u32; 4] {
    philox4x32([block, row, step, stream], [seed.0 as u32, (seed.0 >> 32) as u32])
}

/// Uniform in 0..1 with 24 bits.
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Fills a row with uniform numbers in 0..1.
pub fn uniform(seed: Seed, stream: Stream, step: u32, row: u32, out: &mut [f32]) {
    uniform_from(seed, stream, step, row, 0, out);
}

/// As [`uniform`], from block `first` of the row on: four numbers a block.
pub fn uniform_from(seed: Seed, stream: Stream, step: u32, row: u32, first: u32, out: &mut [f32]) {
    for (number, part) in out.chunks_mut(4).enumerate() {
        let words = block(seed, stream as u32, step, row, first.wrapping_add(number as u32));
        for (value, word) in part.iter_mut().zip(words) {
            *value = unit(word);
        }
    }
}

/// ln u of a normal number u above zero, operation by operation as `wgsl/random.wgsl` computes it.
#[expect(clippy::excessive_precision, reason = "as they are published, and stand in the shader")]
fn natural_log(u: f32) -> f32 {
    let exponent = (u.to_bits() as i32 - 0x3f35_04f3) >> 23;
    let e = exponent as f32;
    let f = f32::from_bits((u.to_bits() as i32 - (exponent << 23)) as u32) - 1.0;
    let z = f * f;
    let polynomial = [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    let p = polynomial.into_iter().fold(0.0, |p, c| p * f + c);
    let rest = p * f * z - 2.12194440e-4 * e - 0.5 * z;
    f + rest + 0.693359375 * e
}

/// Cosine and sine of 2π turns, turns in \[0, 1), as the shader computes them.
#[expect(clippy::excessive_precision, reason = "as they are published, and stand in the shader")]
fn on_circle(turns: f32) -> [f32; 2] {
    let quarters = (4.0 * turns + 0.5).floor();
    let x = std::f32::consts::FRAC_PI_2 * (4.0 * turns - quarters);
    let z = x * x;
    let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z
        + 1.0;
    let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x;
    match quarters as u32 & 3 {
        0 => [c, s],
        1 => [-s, c],
        2 => [-c, -s],
        _ => [s, -c],
    }
}

/// Fills a row with standard normal numbers (Box and Muller, two per pair of words).
pub fn normal_fill(seed: Seed, stream: Stream, step: u32, row: u32, out: &mut [f32]) {
    for (number, part) in out.chunks_mut(4).enumerate() {
        let words = block(seed, stream as u32, step, row, number as u32);
        let mut values = [0.0f32; 4];
        for pair in 0..2 {
            // Half a unit above zero: the logarithm stays finite.
            let radius = (-2.0 * natural_log(unit(words[2 * pair]) + 0.5 / 16_777_216.0)).sqrt();
            let [cosine, sine] = on_circle(unit(words[2 * pair + 1]));
            values[2 * pair] = radius * cosine;
            values[2 * pair + 1] = radius * sine;
        }
        part.copy_from_slice(&values[..part.len()]);
    }
}

/// A whole number below `bound` (its bias is below bound / 2³²).
pub fn uniform_u32_below(bound: u32, seed: Seed, stream: Stream, step: u32, row: u32) -> u32 {
    let word = block(seed, stream as u32, step, row, 0)[0];
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

/// Shuffles by Fisher and Yates; the order depends on the seed and the epoch alone.
pub fn shuffle(seed: Seed, epoch: u32, items: &mut [u32]) {
    for i in (1..items.len()).rev() {
        let j = uniform_u32_below(i as u32 + 1, seed, Stream::Shuffle, epoch, i as u32) as usize;
        items.swap(i, j);
    }
}
