//! What needs a device to be asked.

use super::{HUGE, LEN, Table};
use crate::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::DiffusionConfig;
use duet::explain::{ExplainOptions, Explainer, Local, Method, Paper, Request};
use duet::infer::{DenoisingError, ImageClassifier, ImageFeatures, NoisePredictor};
use duet::model::{Head, JointModel, Labels, ModelConfig, UNLABELLED, WeightSet};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Finish, Guidance, Sampler, StepSpec, Watch};
use duet::train::{Batch, ClassifierInput, StepInput, TrainOptions, Trainer, training_step};
use duet::weights::Weights;
use duet::{Duet, LoadOptions, SampleOptions};
use pollster::block_on;
use std::sync::Arc;

fn model(head: Head) -> (Arc<JointModel>, Weights) {
    let model = Arc::new(JointModel::new(&ModelConfig { head, ..tiny_config() }).unwrap());
    let mut tensors = model.params.initial(Seed(2));
    as_trained_on_noise(&mut tensors);
    let weights = block_on(Weights::upload(device(), Arc::clone(&model), &tensors, None)).unwrap();
    (model, weights)
}

#[test]
fn what_runs_on_a_device() {
    let mut table = Table::default();
    let (model, weights) = model(Head::Multiclass);
    let diffusion = DiffusionConfig::default();
    let images = values(1, 2 * LEN);
    for batch in [0, HUGE] {
        table.refuses("classifier", || block_on(ImageClassifier::new(&weights, batch, WeightSet::Raw)));
        table.refuses("features", || block_on(ImageFeatures::new(&weights, batch, WeightSet::Raw)));
        let new = || block_on(NoisePredictor::new(&weights, &diffusion, batch, WeightSet::Raw));
        table.refuses("predictor", new);
        let new = || block_on(DenoisingError::new(&weights, &diffusion, batch, WeightSet::Raw));
        table.refuses("error", new);
        let spec = StepSpec::new(batch);
        table.refuses("sampler", || block_on(Sampler::new(&weights, &diffusion, "5", spec, WeightSet::Raw)));
        let options = ExplainOptions { respacing: "5".into(), ..ExplainOptions::default() };
        let new = || block_on(Explainer::new(&weights, &diffusion, batch, &options, WeightSet::Raw));
        table.refuses("explainer", new);
    }
    let classifier = block_on(ImageClassifier::new(&weights, 2, WeightSet::Raw)).unwrap();
    table.refuses("part of an image", || block_on(classifier.probabilities(&images[1..])));
    table.survives("no image", || block_on(classifier.probabilities(&[])));
    let predictor = block_on(NoisePredictor::new(&weights, &diffusion, 2, WeightSet::Raw)).unwrap();
    for steps in [&[0][..], &[0, 1000], &[HUGE, 0], &[0, 0, 0]] {
        table.refuses("noise", || block_on(predictor.predict(&images, steps)));
    }
    let error = block_on(DenoisingError::new(&weights, &diffusion, 2, WeightSet::Raw)).unwrap();
    for (images, steps) in [(&images[..], &[0, 1000][..]), (&images[1..], &[0, 1]), (&images, &[0])] {
        table.refuses("error", || block_on(error.measure(images, steps, Seed(u64::MAX), u32::MAX)));
    }
    for guidance in [Guidance::None, Guidance::Representation] {
        let spec = StepSpec { guidance, ..StepSpec::new(2) };
        let sampler = block_on(Sampler::new(&weights, &diffusion, "5", spec, WeightSet::Raw)).unwrap();
        let wild = Labels::Classes(vec![99, 99]);
        let chain = ChainOptions { seed: Seed(u64::MAX), first_row: u32::MAX, labels: wild, alpha: 1.0 };
        table.refuses("steps", || block_on(sampler.run(6, &chain, Watch::None)));
        table.refuses("steps", || block_on(sampler.run(HUGE, &chain, Watch::None)));
        for indices in [&[5, 0][..], &[0], &[HUGE, HUGE], &[]] {
            table.refuses("prepare", || sampler.prepare(indices, f32::NAN));
        }
        table.refuses("coefficients", || sampler.coefficients(0, Some(HUGE), 1.0));
        table.refuses("trace", || block_on(sampler.trace(HUGE)));
        table.refuses("images", || sampler.set_images(&images[1..]));
        let run = block_on(sampler.run(5, &chain, Watch::None));
        if guidance == Guidance::None {
            run.expect("what does not guide is not looked at");
        } else {
            table.refuses("labels", || run);
            let nobody = block_on(Finish::new(
                &weights,
                &sampler,
                block_on(ImageClassifier::new(&weights, 3, WeightSet::Raw)).unwrap(),
            ));
            table.refuses("a finish of another size", || nobody);
        }
    }
    for guidance in [Guidance::None, Guidance::Representation, Guidance::Gradient] {
        let methods = [
            Method::Paper(Paper { guidance, ..Paper::default() }),
            Method::Local(Local { guidance, ..Local::default() }),
        ];
        for method in methods {
            let options = ExplainOptions { method, respacing: "5".into(), ..ExplainOptions::default() };
            let mut explainer =
                block_on(Explainer::new(&weights, &diffusion, 2, &options, WeightSet::Raw)).unwrap();
            let request = |image, class: usize| Request { image, target: class.into(), seed: Seed(u64::MAX) };
            let wild = [request(0, 3), request(0, HUGE), request(HUGE, 0), request(2, 0)];
            for bad in wild {
                table.refuses(&format!("{guidance:?} of {bad:?}"), || {
                    block_on(explainer.explain(&images, &[request(1, 1), bad], u32::MAX, Watch::None))
                });
            }
            table.refuses("part of an image", || {
                block_on(explainer.explain(&images[1..], &[request(0, 0)], 0, Watch::None))
            });
            table.refuses("variants", || {
                let one = &images[..images.len() / 2];
                block_on(explainer.variants(one, 0.into(), HUGE, Watch::None))
            });
            let nothing = block_on(explainer.explain(&images, &[], u32::MAX, Watch::None));
            assert!(nothing.expect("nothing is asked").is_empty());
            block_on(explainer.explain(&images, &[request(1, 0)], u32::MAX, Watch::None)).expect("rows wrap");
        }
    }
    let input = StepInput {
        x_start: images.clone(),
        noise: images.clone(),
        timesteps: vec![0, 999],
        labels: Labels::Classes(vec![0, 1]),
        classifier_input: ClassifierInput::Both,
        classifier_loss_scaling: 0.1,
    };
    let tensors = model.params.initial(Seed(2));
    let changes: [fn(&mut StepInput); 6] = [
        |i| i.timesteps.clear(),
        |i| i.timesteps[1] = 1000,
        |i| i.timesteps[1] = HUGE,
        |i| i.x_start.truncate(5),
        |i| i.noise.clear(),
        |i| i.labels = Labels::Classes(vec![0, 3]),
    ];
    for change in changes {
        let mut input = input.clone();
        change(&mut input);
        let step = training_step(device(), &model, &diffusion, &tensors, &input);
        table.refuses("a step seen from outside", || block_on(step));
    }
    let options = TrainOptions { batch_size: 2, ..TrainOptions::default() };
    let mut trainer = block_on(Trainer::new(device(), Arc::clone(&model), &diffusion, &options)).unwrap();
    let labels = [vec![0, 3], vec![0], vec![], vec![0, 1, 2], vec![UNLABELLED - 1, 0]];
    for labels in labels.map(Labels::Classes).into_iter().chain([Labels::MultiLabel(vec![0.0; 6])]) {
        let batch = Batch { images: images.clone(), labels };
        table.refuses("a batch", || trainer.train_step(&batch, f64::NAN));
    }
    let batch = Batch { images: images[1..].to_vec(), labels: Labels::Classes(vec![0, 1]) };
    table.refuses("part of an image", || trainer.train_step(&batch, 1e-3));
    table.refuses("no batch", || trainer.train_step_of(&[], 1e-3));
    assert_eq!(trainer.step(), 0, "what is refused is no step");
    table.judge(60);
}

#[test]
fn the_facade() {
    let mut table = Table::default();
    for head in [Head::Multiclass, Head::MultiLabel] {
        let (joint, _) = model(head);
        let mut weights = joint.params.initial(Seed(2));
        as_trained_on_noise(&mut weights);
        let checkpoint = Checkpoint::new(joint.config.clone(), DiffusionConfig::default(), weights);
        let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
        let mut duet = block_on(Duet::of(Arc::new(checkpoint), joint, &options)).unwrap();
        let image = values(1, LEN);
        table.refuses("classify", || block_on(duet.classify(&image[1..])));
        table.refuses("noise", || block_on(duet.predict_noise(&image, &[1000])));
        table.refuses("noise", || block_on(duet.predict_noise(&image, &[HUGE, 0])));
        for class in [3, HUGE] {
            table.refuses("labels", || duet.labels(class, 1));
            let options = ExplainOptions { respacing: "5".into(), ..ExplainOptions::default() };
            table.refuses("explain", || block_on(duet.explain(&image, class, &options)));
        }
        for count in [HUGE, HUGE / 2, 1 << 40] {
            table.refuses("labels of many", || duet.labels(0, count));
            let few = SampleOptions { respacing: "2".into(), ..SampleOptions::default() };
            table.refuses("many samples", || block_on(duet.sample(None, count, &few)));
        }
        let one = duet.labels(0, 1).unwrap();
        let few = SampleOptions { respacing: "2".into(), ..SampleOptions::default() };
        table.refuses("more samples than labels", || block_on(duet.sample(Some(&one), 2, &few)));
        table.survives("no samples", || block_on(duet.sample(None, 0, &few)));
        table.survives("export", || duet.to_bytes(Dtype::F16));
        for noise in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            let options = ExplainOptions { noise, respacing: "5".into(), ..ExplainOptions::default() };
            table.refuses("noise", || block_on(duet.explain(&image, 0, &options)));
        }
        for mask in [vec![], vec![0.5; LEN + 1], vec![f32::NAN; LEN], vec![-1.0; LEN]] {
            let options =
                ExplainOptions { mask: Some(mask), respacing: "5".into(), ..ExplainOptions::default() };
            table.refuses("mask", || block_on(duet.explain(&image, 0, &options)));
        }
    }
    table.judge(40);
}
