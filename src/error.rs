//! The one error type of the library.

use std::path::PathBuf;

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. Library code never panics on input: it returns one of these.
///
/// An error says which option is wrong and what would be right, for people; programs match on its kind.
///
/// ```
/// use duet::Error;
/// use duet::diffusion::respaced_steps;
///
/// let error = respaced_steps(1000, "fast").unwrap_err();
/// assert!(error.to_string().contains("write \"100\", \"10,10,5\" or \"ddim25\""));
/// assert!(matches!(error, Error::Config { field, .. } if field == "respacing"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No GPU adapter could be opened.
    #[error("no GPU adapter: {reason}")]
    NoAdapter {
        /// Why, and what to install or enable.
        reason: String,
    },
    /// The adapter's limit is below what the plan needs.
    #[error("the GPU's limit {limit} is too small: need {need}, have {have}")]
    LimitTooSmall {
        /// WebGPU's name of the limit.
        limit: &'static str,
        /// What the plan needs.
        need: u64,
        /// What the adapter offers.
        have: u64,
    },
    /// The device could not allocate.
    #[error("out of GPU memory: needed {need} bytes")]
    OutOfMemory {
        /// Bytes alive on the device together with those that were asked for.
        need: u64,
    },
    /// The device is gone; everything on it must be made anew.
    #[error("the GPU device was lost: {reason}")]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// A shader or a dispatch was refused by the GPU API, or a self-test gave wrong numbers.
    #[error("GPU: {detail}")]
    Gpu {
        /// The API's words.
        detail: String,
    },
    /// Tensor shapes that do not fit an operation.
    #[error("{op}: {detail}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What was expected and what was given.
        detail: String,
    },
    /// A configuration or argument out of range.
    #[error("{field}: {detail}")]
    Config {
        /// Name of the field or option.
        field: String,
        /// What is wrong and what would be right.
        detail: String,
    },
    /// A checkpoint that cannot be read, or holds what cannot be stored.
    #[error("checkpoint {}: {detail}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A data set or image that cannot be read.
    #[error("data {}: {detail}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file that cannot be written. What stood at its place before still does.
    #[error("{what} {}: cannot be written: {detail}", path.display())]
    Write {
        /// What the file is to hold: "checkpoint", "picture", "report", or just "file".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words, or what else stands in the way.
        detail: String,
    },
    /// The loss or a weight became NaN or infinite.
    #[error("not finite: {detail}")]
    NotFinite {
        /// What and when.
        detail: String,
    },
    /// The caller asked to stop.
    #[error("aborted")]
    Aborted,
}

impl Error {
    /// A shape error of the operation `op`.
    pub fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        Error::Shape { op, detail: detail.into() }
    }

    /// A smaller batch that may fit where this error came of one of `batch` images, for what a device must hold grows with
    /// the batch. `None`: it is another error, or one image is too much already.
    ///
    /// ```
    /// use duet::Error;
    ///
    /// let limit = "maxStorageBufferBindingSize";
    /// let error = Error::LimitTooSmall { limit, need: 300 << 20, have: 128 << 20 };
    /// // Three equal parts of 64 images.
    /// assert_eq!(error.smaller_batch(64), Some(22));
    /// assert_eq!(error.smaller_batch(1), None);
    /// assert_eq!(Error::Aborted.smaller_batch(64), None);
    /// ```
    pub fn smaller_batch(&self, batch: usize) -> Option<usize> {
        let parts = match *self {
            Error::LimitTooSmall { need, have, .. } if have > 0 => need.div_ceil(have).max(2),
            Error::OutOfMemory { .. } => 2,
            _ => return None,
        };
        let parts = usize::try_from(parts).unwrap_or(usize::MAX).min(batch);
        (batch > 1).then(|| batch.div_ceil(parts))
    }

    /// A configuration error of the field `field`.
    pub fn config(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Config { field: field.into(), detail: detail.into() }
    }
}
