//! What the names and shapes of the reference's `state_dict` say of the network.

use duet::tensor::Tensors;
use std::collections::BTreeSet;

/// The network as far as its tensors tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Channels of images.
    pub in_channels: usize,
    /// Base width.
    pub num_channels: usize,
    /// Residual blocks of a level.
    pub num_res_blocks: usize,
    /// Width multiplier of each level.
    pub channel_mult: Vec<usize>,
    /// Whether each level has attention.
    pub attention: Vec<bool>,
    /// GroupNorms are scaled and shifted by the timestep embedding.
    pub use_scale_shift_norm: bool,
    /// Resampling happens in residual blocks.
    pub resblock_updown: bool,
    /// Variances are predicted too.
    pub learn_sigma: bool,
    /// Classes; `None` where there is no classifier.
    pub num_classes: Option<usize>,
}

/// Levels that are marked.
pub(super) fn places(levels: &[bool]) -> Vec<usize> {
    levels.iter().enumerate().filter(|(_, there)| **there).map(|(level, _)| level).collect()
}

/// A `state_dict`, asked by name.
struct Shapes<'t>(&'t Tensors);

impl Shapes<'_> {
    fn get(&self, name: &str) -> Result<&[usize], String> {
        match self.0.get(name) {
            Some(tensor) => Ok(&tensor.shape),
            None => Err(format!("has no `{name}`")),
        }
    }

    /// The length of one dimension, which is not 0.
    fn length(&self, name: &str, dimension: usize) -> Result<usize, String> {
        let shape = self.get(name)?;
        let length = shape.get(dimension).copied().filter(|length| *length > 0);
        length.ok_or_else(|| format!("has `{name}` {shape:?}, which is no such layer's"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The numbers that follow `prefix` in names.
    fn blocks(&self, prefix: &str) -> BTreeSet<usize> {
        let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse().ok();
        self.0.keys().filter_map(number).collect()
    }
}

impl Facts {
    /// Reads them from names and shapes.
    ///
    /// # Errors
    /// What of it is not as the reference's networks are.
    pub fn of(tensors: &Tensors) -> Result<Facts, String> {
        let shapes = Shapes(tensors);
        if !shapes.has("input_blocks.0.0.weight") || !shapes.has("time_embed.0.weight") {
            let some: Vec<&str> = tensors.keys().take(3).map(String::as_str).collect();
            let instead = if shapes.has("conv_in.weight") {
                "; these are diffusers' names: give the folder with its config.json"
            } else {
                "; its networks have `input_blocks.0.0.weight` and `time_embed.0.weight`"
            };
            return Err(format!(
                "is no state_dict of the reference's UNet: it holds {}, …{instead}",
                some.join(", ")
            ));
        }
        if shapes.has("label_emb.weight") {
            return Err(
                "is a network that is told the class (`label_emb.weight`), which this one never is".into()
            );
        }
        let in_channels = shapes.length("input_blocks.0.0.weight", 1)?;
        let num_channels = shapes.length("time_embed.0.weight", 1)?;
        let (blocks, decoder) = (shapes.blocks("input_blocks."), shapes.blocks("output_blocks."));
        let count = blocks.len();
        let whole = |numbers: &BTreeSet<usize>| numbers.iter().copied().eq(0..count);
        if !whole(&blocks) || !whole(&decoder) {
            return Err(format!(
                "has {count} input blocks and {} output blocks, or some are missing",
                decoder.len()
            ));
        }
        // Every level but the last one ends in an output block that doubles the size.
        let in_block = |block: usize, part: &str| {
            (1..=2).any(|layer| shapes.has(&format!("output_blocks.{block}.{layer}.{part}")))
        };
        let ups = (0..count).filter(|block| in_block(*block, "conv.weight")).count();
        let ups_in_blocks = (0..count).filter(|block| in_block(*block, "in_layers.2.weight")).count();
        if ups > 0 && ups_in_blocks > 0 {
            return Err("resamples both in residual blocks and by convolutions".into());
        }
        let levels = ups + ups_in_blocks + 1;
        if !count.is_multiple_of(levels) || count / levels < 2 {
            return Err(format!("has {count} input blocks for {levels} levels, which do not divide"));
        }
        let per_level = count / levels;
        let mut channel_mult = Vec::new();
        let mut attention = Vec::new();
        let mut width = 0;
        for level in 0..levels {
            let block = 1 + level * per_level;
            width = shapes.length(&format!("input_blocks.{block}.0.in_layers.2.weight"), 0)?;
            if !width.is_multiple_of(num_channels) {
                return Err(format!(
                    "has {width} channels at level {level}, no multiple of its {num_channels}"
                ));
            }
            channel_mult.push(width / num_channels);
            attention.push(shapes.has(&format!("input_blocks.{block}.1.qkv.weight")));
        }
        let emb = shapes.length("middle_block.0.emb_layers.1.weight", 0)?;
        let outputs = shapes.length("out.2.weight", 0)?;
        Ok(Facts {
            in_channels,
            num_channels,
            num_res_blocks: per_level - 1,
            channel_mult,
            attention,
            use_scale_shift_norm: match emb {
                emb if emb == 2 * width => true,
                emb if emb == width => false,
                _ => return Err(format!("embeds timesteps in {emb} channels for blocks of {width}")),
            },
            resblock_updown: ups_in_blocks > 0,
            learn_sigma: match outputs {
                outputs if outputs == in_channels => false,
                outputs if outputs == 2 * in_channels => true,
                _ => return Err(format!("puts out {outputs} channels for {in_channels} of its input")),
            },
            num_classes: match shapes.has("clasifier.fc_2.weight") {
                true => Some(shapes.length("clasifier.fc_2.weight", 0)?),
                false => None,
            },
        })
    }

    /// In words.
    pub fn line(&self) -> String {
        let at: Vec<String> = places(&self.attention).iter().map(usize::to_string).collect();
        let attention = match at.len() {
            0 => "attention in the middle alone".to_owned(),
            1 => format!("attention at level {}", at.join("")),
            _ => format!("attention at levels {}", at.join(", ")),
        };
        let classes = match self.num_classes {
            Some(classes) => format!("{classes} classes"),
            None => "no classifier".to_owned(),
        };
        format!(
            "{} channel(s), width {}, multipliers {:?}, {} block(s) a level, {attention}, {classes}{}{}{}",
            self.in_channels,
            self.num_channels,
            self.channel_mult,
            self.num_res_blocks,
            if self.use_scale_shift_norm { ", scale and shift by the timestep" } else { "" },
            if self.resblock_updown { ", resampling in residual blocks" } else { "" },
            if self.learn_sigma { ", a learned sigma" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::model::{JointModel, ModelConfig};
    use duet::rng::Seed;

    fn fresh(config: &ModelConfig) -> Tensors {
        JointModel::new(config).unwrap().params.initial(Seed(1))
    }

    fn small() -> ModelConfig {
        ModelConfig {
            image_size: 16,
            num_channels: 8,
            num_res_blocks: 2,
            channel_mult: vec![1, 2, 3],
            attention_resolutions: vec![8],
            num_groups: 4,
            num_heads: 2,
            num_classes: 5,
            ..ModelConfig::default()
        }
    }

    #[test]
    fn shapes_tell_all_that_shapes_depend_on() {
        let changes: [fn(&mut ModelConfig); 13] = [
            |_| {},
            |c| c.in_channels = 3,
            |c| c.num_channels = 12,
            |c| c.num_res_blocks = 1,
            |c| c.channel_mult = vec![2, 1, 2],
            |c| c.channel_mult = vec![3],
            |c| c.attention_resolutions = vec![16, 4],
            |c| c.attention_resolutions = vec![],
            |c| c.use_scale_shift_norm = false,
            |c| c.resblock_updown = true,
            |c| (c.resblock_updown, c.attention_resolutions) = (true, vec![16, 8, 4]),
            |c| c.learn_sigma = true,
            |c| c.num_classes = 1,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut config = small();
            change(&mut config);
            let facts = Facts::of(&fresh(&config)).unwrap();
            let levels = config.levels().unwrap();
            let factors = config.attention_factors();
            let wanted = Facts {
                in_channels: config.in_channels,
                num_channels: config.num_channels,
                num_res_blocks: config.num_res_blocks,
                attention: (0..levels.len()).map(|level| factors.contains(&(1 << level))).collect(),
                channel_mult: levels,
                use_scale_shift_norm: config.use_scale_shift_norm,
                resblock_updown: config.resblock_updown,
                learn_sigma: config.learn_sigma,
                num_classes: Some(config.num_classes),
            };
            assert_eq!(facts, wanted, "change {number}");
        }
    }

    #[test]
    fn what_is_no_such_network_is_told() {
        let change = |change: &dyn Fn(&mut Tensors)| {
            let mut tensors = fresh(&small());
            change(&mut tensors);
            Facts::of(&tensors)
        };
        let without = change(&|tensors| tensors.retain(|name, _| !name.starts_with("clasifier.")));
        assert_eq!(without.unwrap().num_classes, None);
        let shaped = |name: &'static str, shape: &'static [usize]| {
            move |tensors: &mut Tensors| tensors.get_mut(name).unwrap().shape = shape.to_vec()
        };
        type Change<'c> = &'c dyn Fn(&mut Tensors);
        let cases: [(Change<'_>, &str); 9] = [
            (&|t| t.clear(), "no state_dict"),
            (&|t| drop(t.insert("label_emb.weight".into(), t["out.2.bias"].clone())), "told the class"),
            (&|t| t.retain(|name, _| !name.starts_with("output_blocks.8.")), "9 input blocks and 8"),
            (&|t| t.retain(|name, _| !name.ends_with("1.conv.weight")), "for 2 levels"),
            (&shaped("out.2.weight", &[3, 8, 3, 3]), "3 channels for 1"),
            (&shaped("out.2.weight", &[0, 8, 3, 3]), "no such layer's"),
            (&shaped("input_blocks.4.0.in_layers.2.weight", &[17, 8, 3, 3]), "17 channels at level 1"),
            (&shaped("middle_block.0.emb_layers.1.weight", &[25, 32]), "25 channels"),
            (&|t| drop(t.remove("middle_block.0.emb_layers.1.weight")), "has no `middle_block.0"),
        ];
        for (number, (make, words)) in cases.into_iter().enumerate() {
            let said = change(make).unwrap_err();
            assert!(said.contains(words), "{number}: {said}");
        }
        let diffusers = |t: &mut Tensors| {
            let any = t["out.2.bias"].clone();
            t.clear();
            t.insert("conv_in.weight".into(), any);
        };
        assert!(change(&diffusers).unwrap_err().contains("config.json"));
    }
}
