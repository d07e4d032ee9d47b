//! What a run was trained on, in a short text.

use crate::model::Labels;

/// What fingerprints begin with: the function that made them.
pub const HASH: &str = "blake3:";

/// A text that differs for other data, so that a run is not continued on them by mistake: a hash of how many images of how many
/// channels and pixels a side there are, and classes; then of the grey levels \[C,H,W\] of each image, and of all labels.
///
/// ```
/// use duet::model::Labels;
/// use duet::recipe::fingerprint;
///
/// let images = [[0u8, 10], [20, 30]]; // two images of two channels and a pixel
/// let of = |classes: [u32; 2]| {
///     fingerprint([2, 2, 1, 10], images.iter().map(|image| &image[..]), &Labels::Classes(classes.to_vec()))
/// };
/// assert!(of([0, 1]).starts_with("blake3:") && of([0, 1]) == of([0, 1]));
/// assert_ne!(of([0, 1]), of([1, 0]));
/// ```
pub fn fingerprint<'a>(
    [images, channels, size, classes]: [usize; 4],
    levels: impl IntoIterator<Item = &'a [u8]>,
    labels: &Labels,
) -> String {
    let mut hasher = blake3::Hasher::new();
    for number in [images, channels, size, classes] {
        hasher.update(&(number as u64).to_le_bytes());
    }
    for image in levels {
        hasher.update(image);
    }
    match labels {
        Labels::Classes(list) => list.iter().for_each(|class| {
            hasher.update(&class.to_le_bytes());
        }),
        Labels::MultiLabel(list) => list.iter().for_each(|target| {
            hasher.update(&target.to_le_bytes());
        }),
    }
    format!("{HASH}{}", hasher.finalize().to_hex())
}
