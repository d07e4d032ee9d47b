//! All that a model knows of clean images, in one pass.

use super::{RowsIn, RowsOf, clean_features, without_timestep};
use crate::error::{Error, Result};
use crate::graph::{NodeId, Place, Plan};
use crate::model::{Builder, JointModel, WeightSet};
use crate::tensor::check_batch;
use crate::weights::Weights;

/// What [`ImageRepresentations`] gives of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Represented {
    /// What the classifier reads \[N,F\], as [`super::ImageFeatures`].
    pub features: Vec<f32>,
    /// The bottleneck, channels last \[N,H,W,C\].
    pub bottleneck: Vec<f32>,
    /// Logits \[N,K\].
    pub logits: Vec<f32>,
}

/// A plan's results.
struct Nodes {
    features: NodeId,
    bottleneck: NodeId,
    logits: NodeId,
}

fn nodes(b: &mut Builder<'_>, model: &JointModel, batch: usize) -> Result<Nodes> {
    check_batch(batch)?;
    let x = b.graph.leaf(&model.config.image_shape(batch), Place::whole("x"));
    let (features, encoded) = clean_features(b, model, x, batch)?;
    Ok(Nodes { features, bottleneck: encoded.bottleneck, logits: model.classifier.logits(b, features)? })
}

/// The plan of the representations of `batch` clean images: buffers "x", "features", "bottleneck", "logits".
fn plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    let mut b = Builder::new(&model.params, set, false);
    let nodes = nodes(&mut b, model, batch)?;
    b.graph.place(nodes.features, Place::whole("features"));
    b.graph.place(nodes.bottleneck, Place::whole("bottleneck"));
    b.graph.place(nodes.logits, Place::whole("logits"));
    b.graph.compile()
}

/// Pooled features, the bottleneck's map and logits of clean images (t = 0), any number of them, a batch at a time.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::{ImageFeatures, ImageRepresentations};
/// use duet::model::WeightSet;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let all = ImageRepresentations::new(duet.weights(), 2, WeightSet::Raw).await?;
/// // Three images [N,C,H,W] in two batches. The bottleneck is 7 × 7 places of 48 channels.
/// let images = vec![0.2; 3 * duet.image_len()];
/// let found = all.get(&images).await?;
/// assert_eq!(all.bottleneck(), [7, 7, 48]);
/// assert_eq!((found.bottleneck.len(), found.logits.len()), (3 * 7 * 7 * 48, 3 * 10));
/// let features = ImageFeatures::new(duet.weights(), 2, WeightSet::Raw).await?;
/// assert_eq!(found.features, features.get(&images).await?);
/// # Ok(()) }) }
/// ```
pub struct ImageRepresentations {
    rows: RowsOf<3>,
    /// Numbers of an image's row of features, the timestep among them.
    columns: usize,
    bottleneck: [usize; 3],
}

impl ImageRepresentations {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold, with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(weights: &Weights, batch: usize, set: WeightSet) -> Result<ImageRepresentations> {
        let model = weights.model();
        let mut one = Builder::new(&model.params, set, false);
        let found = nodes(&mut one, model, 1)?;
        let columns = one.graph.shape(found.features).last().copied().unwrap_or(0);
        let &[_, height, width, channels] = one.graph.shape(found.bottleneck) else {
            return Err(Error::shape("bottleneck", "is no image"));
        };
        let (batch, loaded) = weights.load_fitting(batch, |batch| plan(model, batch, set)).await?;
        let results = [
            RowsIn { name: "features", rows: 1, columns },
            RowsIn { name: "bottleneck", rows: height * width, columns: channels },
            RowsIn { name: "logits", rows: 1, columns: model.config.num_classes },
        ];
        let rows = RowsOf { loaded, images: model.config.images(batch), results };
        Ok(ImageRepresentations { rows, columns, bottleneck: [height, width, channels] })
    }

    /// Numbers of an image's pooled features.
    pub fn columns(&self) -> usize {
        self.columns.saturating_sub(1)
    }

    /// Height, width and channels of an image's bottleneck.
    pub fn bottleneck(&self) -> [usize; 3] {
        self.bottleneck
    }

    /// The representations of `images` \[N,C,H,W\] in −1..1.
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image; [`Error::NotFinite`] naming the image whose representation is no number; device
    /// errors.
    pub async fn get(&self, images: &[f32]) -> Result<Represented> {
        let [rows, bottleneck, logits] = self.rows.get("representations", images, None).await?;
        Ok(Represented { features: without_timestep(&rows, self.columns), bottleneck, logits })
    }
}
