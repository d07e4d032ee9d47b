//! Parameter groups: what is frozen keeps its bits, the rest learns at rates of its own.

use crate::harness::{device, tiny_config};
use crate::training::{batch, options, run, saved, start};
use duet::checkpoint::Checkpoint;
use duet::diffusion::DiffusionConfig;
use duet::infer::classify_plan;
use duet::model::{JointModel, ModelConfig, ParamSet, Part, WeightSet};
use duet::train::{
    ClassifierInput, Groups, Rate, TrainOptions, TrainSpec, Trainer, apply_plan, backward_plan,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn with(part: Part, rate: Rate) -> Groups {
    let mut groups = Groups::default();
    match part {
        Part::Encoder => groups.encoder = rate,
        Part::Decoder => groups.decoder = rate,
        Part::Classifier => groups.classifier = rate,
    }
    groups
}

/// The part of each tensor of the tiny model, running statistics included.
fn parts() -> BTreeMap<String, Part> {
    let model = JointModel::new(&tiny_config()).unwrap();
    let names = model.params.specs().iter().flat_map(|s| s.reference().into_iter().map(|(n, _)| (n, s.part)));
    names.collect()
}

/// The tensors of `part` in all that a checkpoint keeps of the parameters.
pub fn tensors(checkpoint: &Checkpoint, part: Part) -> Vec<(String, Vec<u32>)> {
    let parts = parts();
    let training = checkpoint.training.as_ref().unwrap();
    let sets = [&checkpoint.weights, checkpoint.ema.as_ref().unwrap(), &training.adam_m, &training.adam_v];
    let of_part = sets.into_iter().flatten().filter(|(name, _)| parts[*name] == part);
    of_part.map(|(name, t)| (name.clone(), t.data.iter().map(|v| v.to_bits()).collect())).collect()
}

#[test]
fn parts_are_the_reference_s_modules() {
    for (name, part) in parts() {
        let want = match name.split('.').next().unwrap() {
            "time_embed" | "input_blocks" | "middle_block" => Part::Encoder,
            "output_blocks" | "out" => Part::Decoder,
            "clasifier" => Part::Classifier,
            other => panic!("{other}"),
        };
        assert_eq!(part, want, "{name}");
    }
}

#[test]
fn frozen_parts_keep_every_bit() {
    // Moments and averages that differ from zeros and weights, so that a change would show.
    let mut warm = start(&options());
    run(&mut warm, 0..2, 6);
    let before = saved(&warm);
    for (frozen, micro_batches) in Part::ALL.into_iter().zip([1, 3, 1]) {
        let options = TrainOptions {
            micro_batches,
            groups: with(frozen, Rate::Frozen),
            weight_decay: 0.1,
            ..options()
        };
        let mut trainer = pollster::block_on(Trainer::resume(device(), &before, &options)).unwrap();
        run(&mut trainer, 2..5, 6);
        let after = saved(&trainer);
        for part in Part::ALL {
            let pairs = tensors(&before, part).into_iter().zip(tensors(&after, part));
            for ((name, old), (_, new)) in pairs {
                if part == frozen {
                    assert!(old == new, "{frozen:?} is frozen, {name} changed");
                } else {
                    assert!(old != new, "{frozen:?} is frozen, {name} did not change");
                }
            }
        }
        let gradients = pollster::block_on(trainer.weights().download(ParamSet::Gradient, false)).unwrap();
        for (name, part) in parts().into_iter().filter(|(name, _)| gradients.contains_key(name)) {
            let zero = gradients[&name].data.iter().all(|g| *g == 0.0);
            assert_eq!(zero, part == frozen, "gradient of {name}, {frozen:?} frozen");
        }
    }
}

#[test]
fn gradients_of_what_is_frozen_are_not_computed() {
    let model = JointModel::new(&tiny_config()).unwrap();
    let products = |groups: Groups| {
        let options = TrainOptions { groups, ..options() };
        let plan = backward_plan(&model, &DiffusionConfig::default(), &TrainSpec::of(&options)).unwrap();
        let launches = plan.program().launches.iter();
        let of_weights = ["grad_weight", "train_grad"];
        let count = launches.filter(|launch| of_weights.contains(&launch.kernel.entry)).count();
        (count, plan.stats().multiply_adds)
    };
    let all = products(Groups::default());
    for part in Part::ALL {
        let less = products(with(part, Rate::Frozen));
        assert!(less.0 < all.0 && less.1 < all.1, "{part:?}: {less:?} of {all:?}");
    }
    let head = Groups { encoder: Rate::Frozen, decoder: Rate::Frozen, ..Groups::default() };
    // Two linear layers and two norms, for clean and noised images.
    assert_eq!(products(head).0, 8);
}

#[test]
fn a_frozen_classifier_answers_as_in_inference() {
    let config = ModelConfig { classifier_dropout: 0.5, ..tiny_config() };
    let groups = with(Part::Classifier, Rate::Frozen);
    let clean = ClassifierInput::Clean;
    // A batch of one, over which BatchNorm could not be trained.
    let options = TrainOptions { batch_size: 1, classifier_input: clean, groups, ..options() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let diffusion = DiffusionConfig::default();
    let new = Trainer::new(device(), Arc::clone(&model), &diffusion, &options);
    let mut trainer = pollster::block_on(new).unwrap();
    let image = batch(0, 1);
    trainer.train_step(&image, 0.0).unwrap();
    let got = pollster::block_on(trainer.plans()[0].read("logits")).unwrap();
    let plan = classify_plan(&model, 1, WeightSet::Raw).unwrap();
    let classify = pollster::block_on(trainer.weights().load(&plan)).unwrap();
    let x = config.images(1).to_device(&image.images).unwrap();
    classify.write("x", bytemuck::cast_slice(&x)).unwrap();
    classify.run();
    assert_eq!(got, pollster::block_on(classify.read("logits")).unwrap());
}

#[test]
fn frozen_encoders_and_decoders_run_without_dropout() {
    let head = Groups { encoder: Rate::Frozen, decoder: Rate::Frozen, ..Groups::default() };
    let decoder = Groups { classifier: Rate::Frozen, ..with(Part::Encoder, Rate::Frozen) };
    let encoder = Groups { classifier: Rate::Frozen, ..with(Part::Decoder, Rate::Frozen) };
    let output = |dropout: f32, groups: &Groups| {
        let config = ModelConfig { dropout, ..tiny_config() };
        let options = TrainOptions { groups: groups.clone(), ..options() };
        let model = Arc::new(JointModel::new(&config).unwrap());
        let diffusion = DiffusionConfig::default();
        let new = Trainer::new(device(), model, &diffusion, &options);
        let mut trainer = pollster::block_on(new).unwrap();
        // What follows dropout begins at zero.
        let mut filled = saved(&trainer);
        let zeros = filled.weights.iter_mut().filter(|(name, _)| !name.contains("running_"));
        for (_, tensor) in zeros.filter(|(_, tensor)| tensor.data.iter().all(|w| *w == 0.0)) {
            tensor.data.iter_mut().enumerate().for_each(|(i, w)| *w = 0.1 * ((i % 5) as f32 - 2.0));
        }
        trainer = pollster::block_on(Trainer::resume(device(), &filled, &options)).unwrap();
        trainer.train_step(&batch(0, 6), 0.0).unwrap();
        ["model_out", "logits"].map(|name| pollster::block_on(trainer.plans()[0].read(name)).unwrap())
    };
    let [still, dropped] = [0.0, 0.5].map(|dropout| output(dropout, &head));
    // The head itself is trained, with a dropout of its own.
    assert!(still[0] == dropped[0] && still[0].iter().any(|v| *v != 0.0));
    for groups in [decoder, encoder] {
        let [still, dropped] = [0.0, 0.5].map(|dropout| output(dropout, &groups));
        assert!(still[0] != dropped[0], "what is trained keeps its dropout: {groups:?}");
    }
}

#[test]
fn each_group_has_its_own_rate() {
    let step = |groups: Groups, rate: f64| {
        let mut trainer = start(&TrainOptions { groups, ..options() });
        trainer.train_step(&batch(0, 6), rate).unwrap();
        saved(&trainer)
    };
    let (whole, half) = (step(Groups::default(), 2e-3), step(Groups::default(), 1e-3));
    let mixed =
        step(Groups { encoder: Rate::Factor(0.5), ..with(Part::Classifier, Rate::Factor(0.5)) }, 2e-3);
    for (part, like) in [(Part::Encoder, &half), (Part::Decoder, &whole), (Part::Classifier, &half)] {
        assert!(tensors(&mixed, part) == tensors(like, part), "{part:?}");
    }
    assert!(tensors(&half, Part::Decoder) != tensors(&whole, Part::Decoder));
}

#[test]
fn neighbours_of_one_rate_are_one_launch() {
    let launches = |config: &ModelConfig, groups: Groups| {
        let model = JointModel::new(config).unwrap();
        let ranges: u64 = groups.ranges(&model.params).iter().map(|(range, _)| range.bytes).sum();
        let options = TrainOptions { groups, ..TrainOptions::default() };
        let plan = apply_plan(&model, &TrainSpec::of(&options)).unwrap();
        (plan.stats().dispatches, ranges, model.params.chunk_bytes().to_vec())
    };
    let tenth = Rate::Factor(0.1);
    let tiny = tiny_config();
    assert_eq!(launches(&tiny, Groups::default()).0, 1);
    assert_eq!(launches(&tiny, with(Part::Classifier, tenth)).0, 2);
    assert_eq!(launches(&tiny, with(Part::Encoder, tenth)).0, 2);
    assert_eq!(launches(&tiny, with(Part::Decoder, Rate::Frozen)).0, 2);
    assert_eq!(launches(&tiny, Groups { encoder: tenth, decoder: tenth, classifier: tenth }).0, 1);
    // Groups that cross the buffers' ends.
    let large = ModelConfig { image_size: 64, in_channels: 3, num_channels: 128, ..ModelConfig::default() };
    let (count, bytes, chunks) = launches(&large, Groups::default());
    assert!(chunks.len() > 1 && count == chunks.len());
    assert_eq!(bytes, chunks.iter().sum::<u64>());
    let (more, same, _) = launches(&large, with(Part::Decoder, tenth));
    assert_eq!((more, same), (count + 2, bytes), "each border of the decoder cuts a buffer");
    let parts = [Part::Encoder, Part::Decoder, Part::Classifier].map(|kept| {
        let rate = |part| if part == kept { Rate::Factor(1.0) } else { Rate::Frozen };
        let [encoder, decoder, classifier] = Part::ALL.map(rate);
        launches(&large, Groups { encoder, decoder, classifier }).1
    });
    assert_eq!(parts.iter().sum::<u64>(), bytes);
}

#[test]
fn rates_are_numbers_or_frozen_and_old_options_read_as_before() {
    let read = |text: &str| serde_json::from_str::<Groups>(text);
    assert_eq!(read("{}").unwrap(), Groups::default());
    let groups = read(r#"{"decoder": "frozen", "encoder": 0.5, "classifier": 0}"#).unwrap();
    let factors = [groups.encoder, groups.decoder, groups.classifier].map(Rate::factor);
    assert_eq!(factors, [Some(0.5), None, None]);
    let text = serde_json::to_string(&groups).unwrap();
    assert_eq!(text, r#"{"encoder":0.5,"decoder":"frozen","classifier":"frozen"}"#);
    assert!(read(r#"{"decoder": "cold"}"#).unwrap_err().to_string().contains("frozen"));
    assert_eq!(serde_json::from_str::<TrainOptions>("{}").unwrap(), TrainOptions::default());
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        let bad = TrainOptions { groups: with(Part::Decoder, Rate::Factor(rate)), ..options() };
        assert!(bad.validate().unwrap_err().to_string().contains("groups.decoder"));
    }
    let all = Groups { encoder: Rate::Frozen, decoder: Rate::Frozen, classifier: Rate::Factor(0.0) };
    let bad = TrainOptions { groups: all.clone(), ..options() };
    assert!(bad.validate().unwrap_err().to_string().contains("nothing is trained"));
    let unseen = Groups { classifier: Rate::Factor(1.0), ..all };
    let bad = TrainOptions { groups: unseen, classifier_input: ClassifierInput::None, ..options() };
    assert!(bad.validate().unwrap_err().to_string().contains("nothing is trained"));
}
