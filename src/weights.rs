//! A model's weights on a device, and plans loaded beside them.

use crate::error::{Error, Result};
use crate::gpu::{Buffer, Device, Executable};
use crate::graph::Plan;
use crate::model::{JointModel, ParamSet};
use crate::ops::timestep_embedding;
use crate::tensor::Tensors;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model's parameters, averages and running statistics on a device.
///
/// Uploaded once, they serve every plan of the model.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::checkpoint::Checkpoint;
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::infer::ImageClassifier;
/// use duet::model::WeightSet;
/// use duet::weights::Weights;
/// use std::{path::Path, sync::Arc};
///
/// let path = Path::new("web/demo/public/model.safetensors");
/// let checkpoint = Checkpoint::load(path)?;
/// let model = Arc::new(checkpoint.joint_model(path)?);
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let weights = Weights::upload(&device, model, &checkpoint.weights, None).await?;
/// let classifier = ImageClassifier::new(&weights, 1, WeightSet::Raw).await?;
/// assert_eq!(classifier.logits(&[-1.0; 28 * 28]).await?.len(), 10);
/// # Ok(()) }) }
/// ```
#[derive(Clone)]
pub struct Weights {
    device: Device,
    model: Arc<JointModel>,
    shared: BTreeMap<String, Buffer>,
    timestep_variance: f32,
}

/// Running variance of the classifier's timestep feature, the last of them.
pub(crate) fn timestep_variance(weights: &Tensors) -> f32 {
    let variances = weights.get("clasifier.bn_1.running_var");
    variances.and_then(|t| t.data.last()).copied().unwrap_or(0.0)
}

impl Weights {
    /// Uploads `weights` (reference names and layouts) and, where given, their average.
    ///
    /// # Errors
    /// Missing names or wrong shapes; device errors.
    pub async fn upload(
        device: &Device,
        model: Arc<JointModel>,
        weights: &Tensors,
        ema: Option<&Tensors>,
    ) -> Result<Weights> {
        let timestep_variance = timestep_variance(weights);
        let shared = BTreeMap::new();
        let mut this = Weights { device: device.clone(), model, shared, timestep_variance };
        let running = this.model.params.pack(weights, None)?;
        this.put("running", &running).await?;
        let frequencies = timestep_embedding::frequencies(this.model.config.num_channels);
        this.put("frequencies", &frequencies).await?;
        this.upload_set(ParamSet::Weights, weights).await?;
        if let Some(ema) = ema {
            this.upload_set(ParamSet::Average, ema).await?;
        }
        Ok(this)
    }

    /// Uploads a set of the trainable parameters' values.
    ///
    /// # Errors
    /// As [`Weights::upload`].
    pub async fn upload_set(&mut self, set: ParamSet, tensors: &Tensors) -> Result<()> {
        for chunk in 0..self.model.params.chunk_bytes().len() {
            let data = self.model.params.pack(tensors, Some(chunk))?;
            self.put(&set.buffer(chunk), &data).await?;
        }
        Ok(())
    }

    /// Allocates a zeroed set.
    ///
    /// # Errors
    /// Device errors.
    pub async fn zero_set(&mut self, set: ParamSet) -> Result<()> {
        for (chunk, bytes) in self.model.params.chunk_bytes().to_vec().into_iter().enumerate() {
            let name = set.buffer(chunk);
            let buffer = self.device.buffer(&name, bytes).await?;
            self.shared.insert(name, buffer);
        }
        Ok(())
    }

    async fn put(&mut self, name: &str, data: &[f32]) -> Result<()> {
        let buffer = self.device.buffer(name, data.len() as u64 * 4).await?;
        self.device.write(&buffer, 0, bytemuck::cast_slice(data))?;
        self.shared.insert(name.to_owned(), buffer);
        Ok(())
    }

    /// Reads a set back into the reference's names and layouts; with `running` also the running statistics.
    ///
    /// # Errors
    /// Device errors; [`Error::Config`] for a set that is not there.
    pub async fn download(&self, set: ParamSet, running: bool) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        let layout = &self.model.params;
        for (chunk, bytes) in layout.chunk_bytes().iter().enumerate() {
            let data = self.read(&set.buffer(chunk), *bytes).await?;
            layout.unpack(&data, Some(chunk), &mut tensors)?;
        }
        if running {
            let data = self.read("running", layout.running_bytes()).await?;
            layout.unpack(&data, None, &mut tensors)?;
        }
        Ok(tensors)
    }

    async fn read(&self, name: &str, bytes: u64) -> Result<Vec<f32>> {
        let buffer = self.shared.get(name).ok_or_else(|| missing(name))?;
        self.device.read_f32(buffer, bytes as usize / 4).await
    }

    /// Running variance of the classifier's timestep feature when the weights were uploaded: next to nothing where the
    /// classifier was trained on clean images only.
    pub fn timestep_variance(&self) -> f32 {
        self.timestep_variance
    }

    /// Bytes of all sets on the device.
    pub fn bytes(&self) -> u64 {
        self.shared.values().map(Buffer::bytes).sum()
    }

    /// The model.
    pub fn model(&self) -> &JointModel {
        &self.model
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The buffer of one chunk of a set; `None`: it is not there.
    pub fn buffer(&self, set: impl Into<ParamSet>, chunk: usize) -> Option<&Buffer> {
        self.shared.get(&set.into().buffer(chunk))
    }

    /// The buffer of the running statistics.
    ///
    /// # Errors
    /// [`Error::Config`] where there is none.
    pub fn running(&self) -> Result<&Buffer> {
        self.shared.get("running").ok_or_else(|| missing("running"))
    }

    /// Whether a set is there.
    pub fn has(&self, set: impl Into<ParamSet>) -> bool {
        self.shared.contains_key(&set.into().buffer(0))
    }

    /// Makes sure that a set is there.
    ///
    /// # Errors
    /// [`Error::Config`] naming it.
    pub fn require(&self, set: impl Into<ParamSet>) -> Result<()> {
        let set = set.into();
        if self.has(set) { Ok(()) } else { Err(missing(&set.buffer(0))) }
    }

    /// Loads a plan: buffers of the weights are shared, all others are the plan's own, zeroed.
    ///
    /// # Errors
    /// [`Error::Config`] where the plan reads a set of weights that is not there; device errors.
    pub async fn load(&self, plan: &Plan) -> Result<Loaded> {
        self.load_beside(plan, &[]).await
    }

    /// As [`Weights::load`]; the buffers of `given` are the plan's own too, under these names: what one plan leaves in
    /// them another one finds.
    ///
    /// # Errors
    /// As [`Weights::load`]; [`Error::Shape`] where a given buffer is too small.
    pub async fn load_beside(&self, plan: &Plan, given: &[(&str, &Buffer)]) -> Result<Loaded> {
        let mut own = BTreeMap::new();
        let chunks = self.model.params.chunk_bytes().len();
        for (name, bytes) in plan.externals() {
            if !self.shared.contains_key(name) {
                // Zeros in the place of weights would give answers, and none would be right.
                if ParamSet::ALL.iter().any(|set| (0..chunks).any(|chunk| set.buffer(chunk) == name)) {
                    return Err(missing(name));
                }
                let known = given.iter().find(|(known, _)| *known == name);
                let buffer = match known {
                    Some((_, buffer)) => (*buffer).clone(),
                    None => self.device.buffer(name, bytes).await?,
                };
                own.insert(name.to_owned(), buffer);
            }
        }
        let find = |name: &str| self.shared.get(name).or_else(|| own.get(name)).cloned();
        let executable = plan.load(&self.device, find).await?;
        Ok(Loaded { executable, own })
    }
}

impl Weights {
    /// Loads the plan that `plan` makes for `batch` images, or for as many at a time as the device can hold; how many that
    /// are comes with it. Their results are the same: images of a plan that is loaded so do not know of each other.
    ///
    /// # Errors
    /// As [`Weights::load`], where one image is too large.
    pub async fn load_fitting(
        &self,
        batch: usize,
        plan: impl Fn(usize) -> Result<Plan>,
    ) -> Result<(usize, Loaded)> {
        let mut size = batch;
        loop {
            match self.load(&plan(size)?).await {
                Ok(loaded) => return Ok((size, loaded)),
                Err(error) => size = error.smaller_batch(size).ok_or(error)?,
            }
        }
    }
}

/// The error of a buffer of weights that was never uploaded.
fn missing(name: &str) -> Error {
    let set = ParamSet::ALL.into_iter().find(|set| name.split('.').next() == set.buffer(0).split('.').next());
    let what = set.map_or("such buffer", ParamSet::description);
    Error::config("weights", format!("there is no {what} on the device"))
}

/// A plan on a device with the buffers that are its own.
pub struct Loaded {
    executable: Executable,
    own: BTreeMap<String, Buffer>,
}

impl Loaded {
    /// One of the plan's own buffers; `None`: the plan does not use it.
    pub fn buffer(&self, name: &str) -> Option<&Buffer> {
        self.own.get(name)
    }

    /// As [`Loaded::buffer`] of one that must be there.
    ///
    /// # Errors
    /// [`Error::Shape`] where it is not.
    pub fn require(&self, name: &str) -> Result<&Buffer> {
        self.own.get(name).ok_or_else(|| Error::shape("read", format!("the plan has no buffer {name:?}")))
    }

    /// Writes a buffer from its beginning; a name the plan does not use is no error (nothing there would read it).
    ///
    /// # Errors
    /// [`Error::Shape`] where it does not fit.
    pub fn write(&self, name: &str, data: &[u8]) -> Result<()> {
        match self.own.get(name) {
            Some(buffer) => self.executable.device().write(buffer, 0, data),
            None => Ok(()),
        }
    }

    /// Reads a whole buffer.
    ///
    /// # Errors
    /// [`Error::Shape`] for an unknown name; device errors.
    pub async fn read(&self, name: &str) -> Result<Vec<f32>> {
        let buffer = self.require(name)?;
        self.executable.device().read_f32(buffer, buffer.bytes() as usize / 4).await
    }

    /// Submits one run.
    pub fn run(&self) {
        self.executable.run();
    }

    /// The loaded program.
    pub fn executable(&self) -> &Executable {
        &self.executable
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.executable.device()
    }
}
