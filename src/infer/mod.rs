//! Classification, representations, noise prediction and denoising error of images, batch after batch.

mod likelihood;
mod noise;
mod noised;
mod representations;

pub use likelihood::LikelihoodBound;
pub(crate) use noise::target;
pub use noise::{DenoisingError, NoisePredictor, NoiseProfiles, denoise_plan, predict_plan};
pub use noised::{NoisedClassifier, NoisedFeatures};
pub use representations::{ImageRepresentations, Represented};

use crate::error::{Error, Result};
use crate::gpu::Staging;
use crate::graph::{NodeId, Place, Plan};
use crate::model::{Builder, Encoded, JointModel, ModelConfig, WeightSet};
use crate::tensor::{Images, check_batch, unpad_rows};
use crate::weights::{Loaded, Weights};

/// The features \[N,F+1\] of the `batch` clean images `x`, the last one the timestep 0, and what they are pooled of.
fn clean_features(
    b: &mut Builder<'_>,
    model: &JointModel,
    x: NodeId,
    batch: usize,
) -> Result<(NodeId, Encoded)> {
    let t = b.graph.fill(batch, 0.0);
    let encoded = model.unet.encode(b, x, t)?;
    Ok((model.classifier.features(b, &encoded, t)?, encoded))
}

/// The features of `batch` clean images in the buffer "x".
fn features_of_images(b: &mut Builder<'_>, model: &JointModel, batch: usize) -> Result<NodeId> {
    check_batch(batch)?;
    let x = b.graph.leaf(&model.config.image_shape(batch), Place::whole("x"));
    Ok(clean_features(b, model, x, batch)?.0)
}

/// The plan that classifies `batch` clean images: buffers "x" and "logits".
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn classify_plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    let mut b = Builder::new(&model.params, set, false);
    let features = features_of_images(&mut b, model, batch)?;
    let logits = model.classifier.logits(&mut b, features)?;
    b.graph.place(logits, Place::whole("logits"));
    b.graph.compile()
}

/// The plan of the representations that the classifier reads, of `batch` clean images: buffers "x" and "features".
fn features_plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    let mut b = Builder::new(&model.params, set, false);
    let features = features_of_images(&mut b, model, batch)?;
    b.graph.place(features, Place::whole("features"));
    b.graph.compile()
}

/// Refuses answers that are no numbers, as weights and images that overflow give; `columns` of them are one image's.
fn finite(rows: &[f32], columns: usize, what: &str) -> Result<()> {
    let Some(place) = rows.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let image = place / columns.max(1);
    let detail = format!("the {what} of image {image} (counted from 0) became NaN or infinite");
    Err(Error::NotFinite { detail })
}

/// Features \[N,F\] of rows \[N,`columns`\] that end with the timestep.
fn without_timestep(rows: &[f32], columns: usize) -> Vec<f32> {
    let features = columns.saturating_sub(1);
    rows.chunks_exact(columns.max(1)).flat_map(|row| row.iter().take(features).copied()).collect()
}

/// What a plan makes of an image: rows of numbers in a buffer.
#[derive(Clone, Copy)]
struct RowsIn {
    name: &'static str,
    /// Rows of an image, and numbers of one.
    rows: usize,
    columns: usize,
}

/// A plan that makes rows of numbers of each image in its buffer "x", loaded.
struct RowsOf<const RESULTS: usize> {
    loaded: Loaded,
    images: Images,
    results: [RowsIn; RESULTS],
}

impl<const RESULTS: usize> RowsOf<RESULTS> {
    /// The rows of any number of images \[N,C,H,W\], a batch at a time; the last one is filled up with zeros. They are read through
    /// `staging` where that is there already. `what` names them in errors.
    async fn get(
        &self,
        what: &'static str,
        images: &[f32],
        staging: Option<&Staging>,
    ) -> Result<[Vec<f32>; RESULTS]> {
        let mut all = [const { Vec::new() }; RESULTS];
        let len = self.images.image_len();
        if len == 0 || !images.len().is_multiple_of(len) {
            let detail = format!("{} values are no whole number of images of {len}", images.len());
            return Err(Error::shape(what, detail));
        }
        for part in images.chunks(self.images.len().max(1)) {
            let count = part.len() / len;
            let mut padded = part.to_vec();
            padded.resize(self.images.len(), 0.0);
            self.loaded.write("x", bytemuck::cast_slice(&self.images.to_device(&padded)?))?;
            self.loaded.run();
            for (RowsIn { name, rows, columns }, all) in self.results.iter().zip(&mut all) {
                let read = match staging {
                    Some(staging) => {
                        let buffer = self.loaded.require(name)?;
                        let [read] = staging.read_parts([(buffer, 0, buffer.bytes())]).await?;
                        read
                    }
                    None => self.loaded.read(name).await?,
                };
                all.extend(unpad_rows(&read, *columns).into_iter().take(count * rows * columns));
            }
        }
        for (RowsIn { name, rows, columns }, all) in self.results.iter().zip(&all) {
            finite(all, rows * columns, name)?;
        }
        Ok(all)
    }
}

/// Classifies any number of images, `batch` at a time.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::ImageClassifier;
/// use duet::model::WeightSet;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let classifier = ImageClassifier::new(duet.weights(), 4, WeightSet::Raw).await?;
/// // Six images [N,C,H,W] in two batches of four: probabilities [N,K].
/// let images = vec![-1.0; 6 * duet.image_len()];
/// let rows = classifier.probabilities(&images).await?;
/// assert_eq!(rows.len(), 6 * 10);
/// assert!(rows.chunks(10).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
/// # Ok(()) }) }
/// ```
pub struct ImageClassifier {
    rows: RowsOf<1>,
    config: ModelConfig,
}

impl ImageClassifier {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold, with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(weights: &Weights, batch: usize, set: WeightSet) -> Result<ImageClassifier> {
        let plan = |batch| classify_plan(weights.model(), batch, set);
        let (batch, loaded) = weights.load_fitting(batch, plan).await?;
        let config = weights.model().config.clone();
        let images = config.images(batch);
        let results = [RowsIn { name: "logits", rows: 1, columns: config.num_classes }];
        let rows = RowsOf { loaded, images, results };
        Ok(ImageClassifier { rows, config })
    }

    /// The loaded plan of one batch: its buffers "x" and "logits".
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.rows.loaded
    }

    /// Logits \[N,K\] of `images` \[N,C,H,W\] in −1..1.
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image; [`Error::NotFinite`] naming the image whose answer is no number; device errors.
    pub async fn logits(&self, images: &[f32]) -> Result<Vec<f32>> {
        let [logits] = self.rows.get("logits", images, None).await?;
        Ok(logits)
    }

    /// As [`ImageClassifier::probabilities`], read through `staging`: nothing is allocated.
    pub(crate) async fn probabilities_through(&self, images: &[f32], staging: &Staging) -> Result<Vec<f32>> {
        let [logits] = self.rows.get("logits", images, Some(staging)).await?;
        self.config.head.probabilities(&logits, self.config.num_classes)
    }

    /// Probabilities \[N,K\].
    ///
    /// # Errors
    /// As [`ImageClassifier::logits`].
    pub async fn probabilities(&self, images: &[f32]) -> Result<Vec<f32>> {
        self.config.head.probabilities(&self.logits(images).await?, self.config.num_classes)
    }
}

/// The representations the classifier reads: every encoder level and the bottleneck of clean images (t = 0), average-pooled.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::ImageFeatures;
/// use duet::model::WeightSet;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let features = ImageFeatures::new(duet.weights(), 2, WeightSet::Raw).await?;
/// // A black and a grey image [N,C,H,W] as rows [N,F], to compare or to train another classifier on.
/// let images = [vec![-1.0; duet.image_len()], vec![0.0; duet.image_len()]].concat();
/// let rows = features.get(&images).await?;
/// let (black, grey) = rows.split_at(features.columns());
/// assert!(black.len() == grey.len() && black != grey);
/// # Ok(()) }) }
/// ```
pub struct ImageFeatures {
    rows: RowsOf<1>,
    /// Numbers of an image's row, the timestep among them.
    columns: usize,
}

impl ImageFeatures {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold, with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(weights: &Weights, batch: usize, set: WeightSet) -> Result<ImageFeatures> {
        let model = weights.model();
        let mut one = Builder::new(&model.params, set, false);
        let features = features_of_images(&mut one, model, 1)?;
        let columns = one.graph.shape(features).last().copied().unwrap_or(0);
        let (batch, loaded) = weights.load_fitting(batch, |batch| features_plan(model, batch, set)).await?;
        let images = model.config.images(batch);
        let results = [RowsIn { name: "features", rows: 1, columns }];
        Ok(ImageFeatures { rows: RowsOf { loaded, images, results }, columns })
    }

    /// Numbers per image.
    pub fn columns(&self) -> usize {
        self.columns.saturating_sub(1)
    }

    /// Representations \[N,F\] of `images` \[N,C,H,W\] in −1..1.
    ///
    /// # Errors
    /// As [`ImageClassifier::logits`].
    pub async fn get(&self, images: &[f32]) -> Result<Vec<f32>> {
        let [rows] = self.rows.get("features", images, None).await?;
        Ok(without_timestep(&rows, self.columns))
    }
}
