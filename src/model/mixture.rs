//! Labels of images that are mixtures of two.

use super::head::{AcrossLabels, Head, Labels, UNLABELLED};
use crate::error::Result;
use crate::graph::{Graph, NodeId, Place};
use crate::tensor::pad_rows;

impl Labels {
    /// Whether image `row` has a label.
    pub fn is_labelled(&self, row: usize) -> bool {
        match self {
            Labels::Classes(list) => list.get(row).is_some_and(|class| *class != UNLABELLED),
            Labels::MultiLabel(_) => true,
        }
    }

    /// Shares of the classes \[N,K\] of images of which each is `mixed[n]` parts of its neighbour (n xor 1) and otherwise
    /// itself; zeros of an image without a label.
    ///
    /// ```
    /// use duet::model::Labels;
    ///
    /// let labels = Labels::Classes(vec![0, 2]);
    /// assert_eq!(labels.mixed(&[0.25, 0.0], 3), [0.75, 0.0, 0.25, 0.0, 0.0, 1.0]);
    /// ```
    pub fn mixed(&self, mixed: &[f32], classes: usize) -> Vec<f32> {
        let shares = |row: usize| -> Vec<f32> {
            match self {
                Labels::Classes(list) => {
                    let class = list.get(row).copied().unwrap_or(UNLABELLED) as usize;
                    (0..classes).map(|k| if k == class { 1.0 } else { 0.0 }).collect()
                }
                Labels::MultiLabel(list) => {
                    list.chunks(classes.max(1)).nth(row).map(<[f32]>::to_vec).unwrap_or_default()
                }
            }
        };
        let mut rows = Vec::with_capacity(mixed.len() * classes);
        for (row, share) in mixed.iter().enumerate() {
            if *share == 0.0 {
                rows.extend(shares(row));
            } else {
                let both = shares(row).into_iter().zip(shares(row ^ 1));
                rows.extend(both.map(|(own, other)| (1.0 - share) * own + share * other));
            }
        }
        rows
    }
}

impl Head {
    /// The leaf of the shares \[N,K\] of [`Labels::mixed`] in the buffer `name`.
    pub fn mixed_labels(self, graph: &mut Graph, name: &str, batch: usize, classes: usize) -> NodeId {
        graph.leaf(&[batch, classes], Place::whole(name))
    }

    /// Loss \[N\] of logits \[N,K\] against [`Head::mixed_labels`]: (1 − λ) times that of an image's own label and λ times that of
    /// its neighbour's.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the two do not fit.
    pub fn mixed_loss(
        self,
        graph: &mut Graph,
        logits: NodeId,
        shares: NodeId,
        across: AcrossLabels,
    ) -> Result<NodeId> {
        match self {
            Head::Multiclass => graph.soft_cross_entropy(logits, shares),
            Head::MultiLabel => graph.bce(logits, shares, across == AcrossLabels::Mean),
        }
    }

    /// The bytes of [`Head::mixed_labels`]' buffer.
    pub fn pack_mixed(self, labels: &Labels, mixed: &[f32], classes: usize) -> Vec<u8> {
        bytemuck::cast_slice(&pad_rows(&labels.mixed(mixed, classes), classes)).to_vec()
    }
}
