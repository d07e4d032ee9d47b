//! The same weights under two names: which block of one network is which of the other, and how attention's projections lie.

use crate::interchange::head::CLASSIFIER;
use duet::model::{JointModel, ModelConfig};
use duet::tensor::{HostTensor, Tensors};
use duet::{Error, Result};
use std::collections::BTreeMap;

/// Weights listed of each kind that does not fit.
const LISTED: usize = 5;

/// How a layer's weight lies in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Alike.
    Same,
    /// A linear layer there, a convolution over pixels of one dimension here.
    Linear,
    /// q, k and v, three linear layers there and one here, of so many heads.
    Qkv { heads: usize },
}

/// A layer, its name here and there.
#[derive(Clone, Debug)]
struct Layer {
    here: String,
    there: String,
    kind: Kind,
}

/// All layers of a network but the classifier.
fn layers(model: &ModelConfig) -> Result<Vec<Layer>> {
    let levels = model.levels()?;
    let factors = model.attention_factors();
    let mut list = List(Vec::new());
    list.same("time_embed.0", "time_embedding.linear_1");
    list.same("time_embed.2", "time_embedding.linear_2");
    list.same("input_blocks.0.0", "conv_in");
    let (mut block, count) = (1, levels.len());
    let last = levels.last().map_or(0, |mult| mult * model.num_channels);
    for (level, mult) in levels.iter().enumerate() {
        let heads = factors.contains(&(1 << level)).then(|| model.heads(mult * model.num_channels, false));
        let there = format!("down_blocks.{level}");
        for number in 0..model.num_res_blocks {
            list.residual(&format!("input_blocks.{block}.0"), &format!("{there}.resnets.{number}"));
            if let Some(heads) = heads {
                list.attention(
                    &format!("input_blocks.{block}.1"),
                    &format!("{there}.attentions.{number}"),
                    heads,
                );
            }
            block += 1;
        }
        if level + 1 < count {
            let (here, there) = (format!("input_blocks.{block}.0"), format!("{there}.downsamplers.0"));
            match model.resblock_updown {
                true => list.residual(&here, &there),
                false => list.same(&format!("{here}.op"), &format!("{there}.conv")),
            }
            block += 1;
        }
    }
    list.residual("middle_block.0", "mid_block.resnets.0");
    list.attention("middle_block.1", "mid_block.attentions.0", model.heads(last, false));
    list.residual("middle_block.2", "mid_block.resnets.1");
    block = 0;
    for (up, (level, mult)) in levels.iter().enumerate().rev().enumerate() {
        let heads = factors.contains(&(1 << level)).then(|| model.heads(mult * model.num_channels, true));
        let there = format!("up_blocks.{up}");
        for number in 0..=model.num_res_blocks {
            let here = format!("output_blocks.{block}");
            list.residual(&format!("{here}.0"), &format!("{there}.resnets.{number}"));
            if let Some(heads) = heads {
                list.attention(&format!("{here}.1"), &format!("{there}.attentions.{number}"), heads);
            }
            if level > 0 && number == model.num_res_blocks {
                let at = 1 + usize::from(heads.is_some());
                let (here, there) = (format!("{here}.{at}"), format!("{there}.upsamplers.0"));
                match model.resblock_updown {
                    true => list.residual(&here, &there),
                    false => list.same(&format!("{here}.conv"), &format!("{there}.conv")),
                }
            }
            block += 1;
        }
    }
    list.same("out.0", "conv_norm_out");
    list.same("out.2", "conv_out");
    Ok(list.0)
}

struct List(Vec<Layer>);

impl List {
    fn push(&mut self, here: String, there: String, kind: Kind) {
        self.0.push(Layer { here, there, kind });
    }

    fn same(&mut self, here: &str, there: &str) {
        self.push(here.to_owned(), there.to_owned(), Kind::Same);
    }

    fn residual(&mut self, here: &str, there: &str) {
        for (ours, theirs) in [
            ("in_layers.0", "norm1"),
            ("in_layers.2", "conv1"),
            ("emb_layers.1", "time_emb_proj"),
            ("out_layers.0", "norm2"),
            ("out_layers.3", "conv2"),
            // Where channels change.
            ("skip_connection", "conv_shortcut"),
        ] {
            self.same(&format!("{here}.{ours}"), &format!("{there}.{theirs}"));
        }
    }

    fn attention(&mut self, here: &str, there: &str, heads: usize) {
        self.same(&format!("{here}.norm"), &format!("{there}.group_norm"));
        self.push(format!("{here}.qkv"), format!("{there}.to_"), Kind::Qkv { heads });
        self.push(format!("{here}.proj_out"), format!("{there}.to_out.0"), Kind::Linear);
    }
}

/// A network's weights in diffusers' names; a classifier's are left out.
pub(super) fn export(model: &ModelConfig, weights: &Tensors) -> Result<BTreeMap<String, HostTensor>> {
    let mut left: BTreeMap<&str, &HostTensor> = weights
        .iter()
        .filter(|(name, _)| !name.starts_with(CLASSIFIER))
        .map(|(name, t)| (name.as_str(), t))
        .collect();
    let mut made = BTreeMap::new();
    for Layer { here, there, kind } in layers(model)? {
        for part in ["weight", "bias"] {
            let Some(tensor) = left.remove(format!("{here}.{part}").as_str()) else { continue };
            match kind {
                Kind::Same => drop(made.insert(format!("{there}.{part}"), tensor.clone())),
                Kind::Linear => drop(made.insert(format!("{there}.{part}"), flat(tensor))),
                Kind::Qkv { heads } => {
                    let parts = split(&flat(tensor), heads, model.use_new_attention_order);
                    let named = ["q", "k", "v"].map(|which| format!("{there}{which}.{part}"));
                    made.extend(named.into_iter().zip(parts));
                }
            }
        }
    }
    match left.keys().next() {
        None => Ok(made),
        Some(name) => Err(Error::config("diffusers", format!("`{name}` has no place in diffusers' network"))),
    }
}

/// diffusers' weights in the reference's names, for a network without a classifier. Old names of attention's layers are known.
pub(super) fn import(model: &ModelConfig, weights: Tensors) -> std::result::Result<Tensors, String> {
    let mut left: Tensors = weights.into_iter().map(|(name, tensor)| (current(&name), tensor)).collect();
    let mut made = Tensors::new();
    let layers = layers(model).map_err(|error| error.to_string())?;
    for Layer { here, there, kind } in &layers {
        for part in ["weight", "bias"] {
            let name = format!("{here}.{part}");
            let tensor = match kind {
                Kind::Same => left.remove(&format!("{there}.{part}")),
                Kind::Linear => left.remove(&format!("{there}.{part}")).map(|tensor| long(tensor, part)),
                Kind::Qkv { .. } => {
                    let parts = ["q", "k", "v"].map(|which| left.remove(&format!("{there}{which}.{part}")));
                    match parts {
                        [Some(q), Some(k), Some(v)] if q.shape == k.shape && q.shape == v.shape => {
                            let mut shape = q.shape;
                            if let Some(rows) = shape.first_mut() {
                                *rows *= 3;
                            }
                            let data = [q.data, k.data, v.data].concat();
                            Some(long(HostTensor { shape, data }, part))
                        }
                        [None, None, None] => None,
                        _ => {
                            return Err(format!(
                                "has only some of `{there}q`, `k` and `v`, or of other shapes"
                            ));
                        }
                    }
                }
            };
            made.extend(tensor.map(|tensor| (name, tensor)));
        }
    }
    complete(model, &layers, &made)?;
    match left.keys().next() {
        None => Ok(made),
        Some(name) => Err(format!("holds `{name}`, which its configuration has no layer for")),
    }
}

/// Checks that a network has all its weights, in their shapes; an error has diffusers' names.
fn complete(model: &ModelConfig, layers: &[Layer], weights: &Tensors) -> std::result::Result<(), String> {
    let theirs = |name: &str| {
        let (front, part) = name.rsplit_once('.').unwrap_or((name, ""));
        let layer = layers.iter().find(|layer| layer.here == front);
        layer.map_or_else(
            || name.to_owned(),
            |layer| match layer.kind {
                Kind::Qkv { .. } => format!("{}q (or k, v).{part}", layer.there),
                _ => format!("{}.{part}", layer.there),
            },
        )
    };
    let (mut missing, mut shaped) = (Vec::new(), Vec::new());
    let expected = JointModel::new(model).map_err(|error| error.to_string())?.params.expected(false);
    for (name, shape) in expected.iter().filter(|(name, _)| !name.starts_with(CLASSIFIER)) {
        match weights.get(name) {
            None => missing.push(format!("`{}` {shape:?}", theirs(name))),
            Some(found) if found.shape != *shape => {
                shaped.push(format!("`{}` is {:?}, must be {shape:?}", theirs(name), found.shape));
            }
            Some(_) => {}
        }
    }
    let lists =
        [("missing", missing), ("of another shape", shaped)].into_iter().filter(|(_, list)| !list.is_empty());
    let lists: Vec<String> = lists
        .map(|(what, list)| {
            let shown = list.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = list.len().saturating_sub(LISTED);
            if more > 0 { format!("{what}: {shown} and {more} more") } else { format!("{what}: {shown}") }
        })
        .collect();
    if lists.is_empty() {
        Ok(())
    } else {
        Err(format!("does not fit its configuration: {}", lists.join("; ")))
    }
}

/// Names of attention's layers as versions before 0.13 had them.
fn current(name: &str) -> String {
    let renamed = [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    for (old, new) in renamed {
        for part in ["weight", "bias"] {
            if let Some(front) = name.strip_suffix(&format!(".{old}.{part}")) {
                return format!("{front}.{new}.{part}");
            }
        }
    }
    name.to_owned()
}

/// Without the lengths of 1 behind its matrix.
fn flat(tensor: &HostTensor) -> HostTensor {
    HostTensor { shape: tensor.shape.iter().take(2).copied().collect(), data: tensor.data.clone() }
}

/// A matrix as a convolution over pixels of one dimension.
fn long(tensor: HostTensor, part: &str) -> HostTensor {
    let mut shape = tensor.shape;
    if part == "weight" && shape.len() == 2 {
        shape.push(1);
    }
    HostTensor { shape, data: tensor.data }
}

/// q, k and v of \[3C, …\]: of consecutive thirds, or of thirds of each head's rows ("legacy").
fn split(qkv: &HostTensor, heads: usize, consecutive: bool) -> [HostTensor; 3] {
    let rows = qkv.shape.first().copied().unwrap_or(0);
    let groups = if consecutive { 1 } else { heads.max(1) };
    let third = qkv.data.len() / groups / 3;
    let mut shape = qkv.shape.clone();
    if let Some(first) = shape.first_mut() {
        *first = rows / 3;
    }
    [0, 1, 2].map(|which| {
        let of_group =
            |group: &[f32]| group.iter().skip(which * third).take(third).copied().collect::<Vec<f32>>();
        let data = qkv.data.chunks(3 * third.max(1)).flat_map(of_group).collect();
        HostTensor { shape: shape.clone(), data }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::rng::Seed;

    fn model(change: fn(&mut ModelConfig)) -> ModelConfig {
        let mut model = ModelConfig {
            image_size: 8,
            num_channels: 8,
            num_res_blocks: 2,
            channel_mult: vec![1, 2, 2],
            attention_resolutions: vec![8, 4],
            num_head_channels: Some(4),
            num_groups: 4,
            ..ModelConfig::default()
        };
        change(&mut model);
        model
    }

    /// All weights different numbers.
    fn numbered(model: &ModelConfig) -> Tensors {
        let mut weights = JointModel::new(model).unwrap().params.initial(Seed(0));
        let mut next = 0.0;
        for value in weights.values_mut().flat_map(|tensor| &mut tensor.data) {
            *value = next;
            next += 1.0;
        }
        weights
    }

    #[test]
    fn every_weight_has_a_place_and_finds_back() {
        let changes: [fn(&mut ModelConfig); 5] = [
            |_| {},
            |m| m.resblock_updown = true,
            |m| m.attention_resolutions = vec![],
            |m| m.use_scale_shift_norm = false,
            |m| m.channel_mult = vec![1],
        ];
        for change in changes {
            let mut model = model(change);
            model.use_new_attention_order = true;
            let weights = numbered(&model);
            let there = export(&model, &weights).unwrap();
            let mut back = import(&model, there.clone().into_iter().collect()).unwrap();
            back.extend(
                weights
                    .iter()
                    .filter(|(n, _)| n.starts_with(CLASSIFIER))
                    .map(|(n, t)| (n.clone(), t.clone())),
            );
            assert_eq!(back, weights);
            let count =
                |tensors: &mut dyn Iterator<Item = &HostTensor>| tensors.map(|t| t.data.len()).sum::<usize>();
            let classifier =
                count(&mut weights.iter().filter(|(n, _)| n.starts_with(CLASSIFIER)).map(|(_, t)| t));
            assert_eq!(count(&mut there.values()) + classifier, count(&mut weights.values()));
        }
    }

    #[test]
    fn heads_are_put_in_order() {
        // Two heads of one channel each: q0 k0 v0 q1 k1 v1.
        let qkv = HostTensor { shape: vec![6], data: vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0] };
        let data = |consecutive| split(&qkv, 2, consecutive).map(|part| part.data);
        assert_eq!(data(false), [[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]);
        assert_eq!(data(true), [[0.0, 1.0], [2.0, 10.0], [11.0, 12.0]]);
    }

    #[test]
    fn names_of_before_are_known_and_others_refused() {
        assert_eq!(current("mid_block.attentions.0.proj_attn.bias"), "mid_block.attentions.0.to_out.0.bias");
        assert_eq!(current("key.more.weight"), "key.more.weight");
        let model = model(|_| {});
        let mut there: Tensors = export(&model, &numbered(&model)).unwrap().into_iter().collect();
        there.insert("class_embedding.weight".into(), HostTensor { shape: vec![1], data: vec![0.0] });
        assert!(import(&model, there.clone()).unwrap_err().contains("`class_embedding.weight`"));
        there.remove("class_embedding.weight");
        there.remove("mid_block.attentions.0.to_k.bias");
        assert!(import(&model, there).unwrap_err().contains("only some of `mid_block.attentions.0.to_q`"));
    }
}
