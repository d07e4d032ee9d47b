//! `unet/config.json`: the network's shape.

use super::{Reader, VERSION, whole_number};
use duet::Result;
use duet::model::ModelConfig;
use serde_json::{Map, Value, json};

/// ε of GroupNorm here.
const EPSILON: f64 = 1e-5;

/// A level's blocks by whether it has attention and whether residual blocks resample: going down, and up.
fn blocks(attends: bool, updown: bool) -> [&'static str; 2] {
    match (attends, updown) {
        (true, _) => ["AttnDownBlock2D", "AttnUpBlock2D"],
        (false, false) => ["DownBlock2D", "UpBlock2D"],
        (false, true) => ["ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"],
    }
}

/// The settings of a network, or every reason why diffusers has none that is laid out like it.
pub(super) fn write(model: &ModelConfig) -> Result<std::result::Result<Value, Vec<String>>> {
    let levels = model.levels()?;
    let factors = model.attention_factors();
    let attends: Vec<bool> = (0..levels.len()).map(|level| factors.contains(&(1 << level))).collect();
    let widths: Vec<usize> = levels.iter().map(|mult| mult * model.num_channels).collect();
    let mut reasons = Vec::new();
    if levels.first() != Some(&1) {
        reasons.push(format!(
            "its first level is {} channels wide, its timestep embedding {}, which are one there (channel_mult must begin with 1)",
            widths.first().copied().unwrap_or(0),
            model.num_channels
        ));
    }
    if let Some(narrow) = widths.iter().find(|width| **width < model.num_groups) {
        reasons.push(format!(
            "GroupNorm has {} groups but {narrow} over {narrow} channels, where diffusers has one number for all",
            model.num_groups
        ));
    }
    // Channels of a head, which are one number there: of each level with attention, of the middle, of both directions.
    let mut heads: Vec<usize> = Vec::new();
    for (width, _) in widths.iter().zip(&attends).filter(|(_, attends)| **attends) {
        heads.extend([false, true].map(|decoder| width / model.heads(*width, decoder).max(1)));
    }
    let last = widths.last().copied().unwrap_or(0);
    heads.push(last / model.heads(last, false).max(1));
    heads.sort_unstable();
    heads.dedup();
    if heads.len() > 1 {
        reasons.push(format!(
            "its attention heads have {heads:?} channels at different levels, where diffusers has one number for all \
             (num_head_channels)"
        ));
    }
    if !reasons.is_empty() {
        return Ok(Err(reasons));
    }
    let types = |way: usize| -> Vec<&str> {
        let of =
            attends.iter().filter_map(|attends| blocks(*attends, model.resblock_updown).get(way).copied());
        of.collect()
    };
    let (down, mut up) = (types(0), types(1));
    up.reverse();
    let resampling = if model.resblock_updown { "resnet" } else { "conv" };
    Ok(Ok(json!({
        "_class_name": "UNet2DModel", "_diffusers_version": VERSION,
        "sample_size": model.image_size, "in_channels": model.in_channels, "out_channels": model.out_channels(),
        "center_input_sample": false,
        "time_embedding_type": "positional", "flip_sin_to_cos": true, "freq_shift": 0,
        "down_block_types": down, "up_block_types": up, "mid_block_type": "UNetMidBlock2D",
        "block_out_channels": widths, "layers_per_block": model.num_res_blocks, "mid_block_scale_factor": 1,
        "downsample_padding": 1, "downsample_type": resampling, "upsample_type": resampling,
        "dropout": model.dropout, "act_fn": "silu",
        "attention_head_dim": heads.first(), "add_attention": true,
        // Without its own number the middle's attention has no GroupNorm beside scale_shift.
        "norm_num_groups": model.num_groups, "attn_norm_num_groups": model.num_groups, "norm_eps": EPSILON,
        "resnet_time_scale_shift": if model.use_scale_shift_norm { "scale_shift" } else { "default" },
    })))
}

/// A network of these settings, without classes; or every reason why there is none here. What is not said is as diffusers has it
/// by default.
pub(super) fn read(settings: &Map<String, Value>) -> std::result::Result<ModelConfig, Vec<String>> {
    let mut reader = Reader::new(settings);
    let class = settings.get("_class_name").and_then(Value::as_str);
    if class != Some("UNet2DModel") {
        return Err(vec![format!("its class is {}, must be UNet2DModel", class.unwrap_or("not said"))]);
    }
    let null = Value::Null;
    reader.must("center_input_sample", &false.into(), &[false.into()]);
    reader.must("time_embedding_type", &"positional".into(), &["positional".into()]);
    reader.must("flip_sin_to_cos", &true.into(), &[true.into()]);
    reader.must("freq_shift", &0.into(), &[0.into()]);
    reader.must("mid_block_type", &"UNetMidBlock2D".into(), &["UNetMidBlock2D".into()]);
    reader.must("mid_block_scale_factor", &1.into(), &[1.into()]);
    reader.must("downsample_padding", &1.into(), &[1.into()]);
    reader.must("act_fn", &"silu".into(), &["silu".into(), "swish".into()]);
    reader.must("norm_eps", &EPSILON.into(), &[EPSILON.into()]);
    reader.must("add_attention", &true.into(), &[true.into()]);
    reader.must("class_embed_type", &null, std::slice::from_ref(&null));
    reader.must("num_class_embeds", &null, std::slice::from_ref(&null));
    reader.pass_over(&["num_train_timesteps"]);

    let side = |value: &Value| match value.as_array().map(Vec::as_slice) {
        None => whole_number(value),
        Some([height, width]) if height == width => whole_number(height),
        Some(_) => None,
    };
    let image_size = reader.read("sample_size", 0, "one length, of square images", side);
    if image_size == 0 {
        reader.reasons.push("sample_size says no length".into());
    }
    let lengths = |value: &Value| value.as_array()?.iter().map(whole_number).collect::<Option<Vec<usize>>>();
    let default = vec![224, 448, 672, 896];
    let widths = reader.read("block_out_channels", default, "whole numbers above 0", lengths);
    let num_channels = widths.first().copied().unwrap_or(1);
    let mut model = ModelConfig {
        image_size,
        in_channels: reader.whole("in_channels", 3),
        num_channels,
        num_res_blocks: reader.whole("layers_per_block", 2),
        channel_mult: widths.iter().map(|width| width / num_channels).collect(),
        attention_resolutions: Vec::new(),
        use_new_attention_order: true,
        dropout: reader.number("dropout", 0.0) as f32,
        num_groups: reader.whole("norm_num_groups", 32),
        ..ModelConfig::default()
    };
    if widths.iter().any(|width| !width.is_multiple_of(num_channels)) {
        reader.reasons.push(format!("block_out_channels are {widths:?}, must be multiples of the first"));
    }
    if let Some(narrow) = widths.iter().find(|width| **width < model.num_groups) {
        reader.reasons.push(format!("norm_num_groups is {}, more than a block's {narrow}", model.num_groups));
    }
    let embedding = reader.whole("time_embedding_dim", num_channels.saturating_mul(4));
    if Some(embedding) != num_channels.checked_mul(4) {
        reader.reasons.push(format!("time_embedding_dim is {embedding}, must be four times {num_channels}"));
    }
    let outputs = reader.whole("out_channels", 3);
    model.learn_sigma = Some(outputs) == model.in_channels.checked_mul(2);
    if outputs != model.in_channels && !model.learn_sigma {
        let inputs = model.in_channels;
        reader
            .reasons
            .push(format!("out_channels is {outputs}, must be in_channels, {inputs}, or twice as many"));
    }
    let names = |value: &'_ Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let default = |way: usize| -> Vec<String> {
        // diffusers' own: all levels but the first attend.
        (0..4).map(|level| blocks(level > 0, false)[way].to_owned()).collect()
    };
    let down = reader.read("down_block_types", default(0), "names of blocks", names);
    let mut up =
        reader.read("up_block_types", default(1).into_iter().rev().collect(), "names of blocks", names);
    up.reverse();
    if down.len() != widths.len() || up.len() != widths.len() {
        let (down, up) = (down.len(), up.len());
        reader.reasons.push(format!("there are {} widths for {down} blocks down and {up} up", widths.len()));
    }
    let styles = ["conv", "resnet"].map(Value::from);
    reader.must("downsample_type", &"conv".into(), &styles);
    reader.must("upsample_type", &"conv".into(), &styles);
    let style = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or("conv");
    let in_types = down.iter().chain(&up).any(|name| name.starts_with("Resnet"));
    let in_attention =
        style("downsample_type") == "resnet" && down.iter().any(|name| name == "AttnDownBlock2D");
    model.resblock_updown = in_types || in_attention;
    for (level, (down, up)) in down.iter().zip(&up).enumerate() {
        let wanted = blocks(true, model.resblock_updown);
        let attends = [down.as_str(), up.as_str()] == wanted;
        // The last level does not resample: its two kinds are the same.
        let last = level + 1 == widths.len();
        let plain = [model.resblock_updown, !model.resblock_updown].iter().take(1 + usize::from(last)).any(
            |updown| {
                let [wanted_down, wanted_up] = blocks(false, *updown);
                down == wanted_down && up == wanted_up
            },
        );
        let resampled = !model.resblock_updown
            || (style("downsample_type") == "resnet" && style("upsample_type") == "resnet");
        if attends && !(last || resampled) {
            reader
                .reasons
                .push(format!("level {level} resamples by convolutions, others in residual blocks"));
        }
        if attends {
            model.attention_resolutions.push(image_size >> level);
        } else if !plain {
            reader.reasons.push(format!(
                "level {level} is {down} down and {up} up; levels here are the same both ways, of {}",
                [blocks(true, false), blocks(false, false), blocks(false, true)]
                    .map(|pair| pair.join(" and "))
                    .join(", ")
            ));
        }
    }
    // Null: as many channels as the block, one head.
    match reader.get("attention_head_dim") {
        None if settings.contains_key("attention_head_dim") => model.num_heads = 1,
        None => model.num_head_channels = Some(8),
        Some(value) => match whole_number(value) {
            Some(channels) => model.num_head_channels = Some(channels),
            None => {
                reader.reasons.push(format!("attention_head_dim is {value}, must be a whole number above 0"))
            }
        },
    }
    let shift = reader.read("resnet_time_scale_shift", "default", "a text", Value::as_str);
    model.use_scale_shift_norm = shift == "scale_shift";
    if !["scale_shift", "default"].contains(&shift) {
        reader.reasons.push(format!("resnet_time_scale_shift is {shift}, must be default or scale_shift"));
    }
    let groups =
        reader.whole("attn_norm_num_groups", if model.use_scale_shift_norm { 0 } else { model.num_groups });
    if groups == 0 {
        reader.reasons.push(
            "attn_norm_num_groups is not said, which beside scale_shift means a middle without GroupNorm before attention".into(),
        );
    } else if groups != model.num_groups {
        reader
            .reasons
            .push(format!("attn_norm_num_groups is {groups}, must be norm_num_groups, {}", model.num_groups));
    }
    reader.finish()?;
    model.validate().map_err(|error| vec![error.to_string()])?;
    Ok(model)
}
