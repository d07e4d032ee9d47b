//! Terms that read batches of their own.

use crate::harness::{device, tiny_config};
use crate::training::{batch, options};
use duet::diffusion::{DiffusionConfig, Prediction};
use duet::model::{JointModel, ModelConfig, ParamSet};
use duet::tensor::Tensors;
use duet::train::terms::{ClassifierLoss, Feed, Loss, NoiseError, Pass, Seen, Term, Terms};
use duet::train::{TrainOptions, TrainSpec, Trainer, backward_plan_of};
use std::sync::Arc;

const OWN: usize = 4;

fn noise_error(feed: Feed) -> NoiseError {
    NoiseError { feed, prediction: Prediction::Eps }
}

fn classifier(feed: Feed, seen: Seen) -> ClassifierLoss {
    ClassifierLoss { feed, seen, scaling: 0.5 }
}

/// The feed of labelled images.
fn labelled() -> Feed {
    Feed { prefix: "labelled.".into(), batch: OWN }
}

/// Without dropout, whose masks are numbered through the whole graph.
fn model() -> Arc<JointModel> {
    let config = ModelConfig { dropout: 0.0, classifier_dropout: 0.0, ..tiny_config() };
    Arc::new(JointModel::new(&config).unwrap())
}

fn start(terms: Terms, micro_batches: usize) -> Trainer {
    let model = model();
    let first = terms[0].feed().batch;
    let options = TrainOptions { batch_size: first * micro_batches, micro_batches, ..options() };
    let diffusion = DiffusionConfig::default();
    pollster::block_on(Trainer::new_of(device(), model, &diffusion, &options, &terms)).unwrap()
}

fn both() -> Terms {
    vec![Box::new(noise_error(Feed::first(6))), Box::new(classifier(labelled(), Seen::Clean))]
}

fn gradients(trainer: &Trainer, set: ParamSet) -> Tensors {
    pollster::block_on(trainer.weights().download(set, false)).unwrap()
}

#[test]
fn a_classifier_on_its_own_feed_has_the_gradient_it_has_alone() {
    let (images, own) = (batch(0, 6), batch(1, OWN));
    let mut together = start(both(), 1);
    together.train_step_of(&[&images, &own], 1e-3).unwrap();
    let mut noise = start(vec![Box::new(noise_error(Feed::first(6)))], 1);
    noise.train_step(&images, 1e-3).unwrap();
    let mut alone = start(vec![Box::new(classifier(Feed::first(OWN), Seen::Clean))], 1);
    alone.train_step(&own, 1e-3).unwrap();
    let [sum, a, b] = [&together, &noise, &alone].map(|trainer| gradients(trainer, ParamSet::Gradient));
    for (name, tensor) in &sum {
        let (a, b) = (&a[name].data, &b[name].data);
        let norm = tensor.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (i, got) in tensor.data.iter().enumerate() {
            let want = a[i] + b[i];
            assert!((got - want).abs() <= 1e-5 * norm + 1e-9, "{name}[{i}]: {got} instead of {want}");
        }
        if name.starts_with("clasifier") {
            assert!(tensor.data == *b && a.iter().all(|g| *g == 0.0), "{name}: the classifier's alone");
            assert!(norm > 0.0, "{name} has no gradient");
        }
        if name.starts_with("out") {
            assert!(tensor.data == *a && b.iter().all(|g| *g == 0.0), "{name}: the noise error's alone");
        }
    }
    let metrics = [&mut together, &mut noise, &mut alone].map(|t| pollster::block_on(t.metrics()).unwrap());
    assert_eq!(metrics[0].mse, metrics[1].mse);
    assert_eq!(metrics[0].classifier_loss, metrics[2].classifier_loss);
}

#[test]
fn terms_on_two_feeds_train_in_micro_batches() {
    let mut trainer = start(both(), 2);
    let means = |trainer: &mut Trainer, steps: std::ops::Range<u64>| {
        for step in steps {
            trainer.train_step_of(&[&batch(step, 12), &batch(step + 1000, 2 * OWN)], 2e-3).unwrap();
        }
        pollster::block_on(trainer.metrics()).unwrap()
    };
    let early = means(&mut trainer, 0..10);
    means(&mut trainer, 10..60);
    let late = means(&mut trainer, 60..70);
    assert!(late.mse < 0.9 * early.mse, "{early:?}, {late:?}");
    assert!(late.classifier_loss < 0.7 * early.classifier_loss, "{early:?}, {late:?}");
}

#[test]
fn feeds_have_timesteps_of_their_own() {
    let terms: Terms =
        vec![Box::new(noise_error(Feed::first(OWN))), Box::new(classifier(labelled(), Seen::Noised))];
    let mut trainer = start(terms, 1);
    trainer.train_step_of(&[&batch(0, OWN), &batch(0, OWN)], 1e-3).unwrap();
    let read = |name: &str| pollster::block_on(trainer.plans()[0].read(name)).unwrap();
    assert_eq!(read("x_start"), read("labelled.x_start"));
    assert_ne!(read("t"), read("labelled.t"));
    assert_ne!(read("run")[3].to_bits(), read("labelled.run")[3].to_bits(), "noise of other rows");
}

#[test]
fn batches_must_fit_their_feeds() {
    let mut trainer = start(both(), 1);
    let (images, own) = (batch(0, 6), batch(1, OWN));
    let error = trainer.train_step(&images, 1e-3).unwrap_err().to_string();
    assert!(error.contains("1 batches for 2 feeds"), "{error}");
    assert!(trainer.train_step_of(&[&own, &images], 1e-3).is_err());
    trainer.train_step_of(&[&images, &own], 1e-3).unwrap();
    let same = |terms: &Terms| duet::train::terms::feeds(terms).map(|feeds| feeds.len());
    let clash: Terms =
        vec![Box::new(noise_error(Feed::first(6))), Box::new(classifier(Feed::first(4), Seen::Clean))];
    assert!(same(&clash).unwrap_err().to_string().contains("two terms read"));
    assert!(same(&Vec::new()).unwrap_err().to_string().contains("no term"));
    assert_eq!(same(&both()).unwrap(), 2);
}

/// The noise error, scaled in the total.
#[derive(Debug)]
struct Scaled(NoiseError, f32);

impl Term for Scaled {
    fn feed(&self) -> &Feed {
        self.0.feed()
    }

    fn forward(&self, pass: &mut Pass<'_, '_>) -> duet::Result<Loss> {
        Ok(Loss { scale: Some(self.1), ..self.0.forward(pass)? })
    }
}

#[test]
fn any_number_of_terms_is_summed_and_reported() {
    let (images, own) = (batch(0, 6), batch(1, OWN));
    let scales = [0.5, -0.25, 2.0];
    let many = || {
        let mut terms = both();
        for scale in scales {
            terms.push(Box::new(Scaled(noise_error(Feed::first(6)), scale)));
        }
        terms.push(Box::new(classifier(Feed::first(6), Seen::Noised)));
        terms
    };
    // Six losses and the weights of two feeds are more than one launch reads.
    for (terms, launches) in [(both(), 1), (many(), 2)] {
        let spec = TrainSpec::of(&TrainOptions { batch_size: 6, ..options() });
        let plan = backward_plan_of(&model(), &spec, &terms).unwrap();
        let all = plan.program().launches.iter();
        assert_eq!(all.filter(|launch| launch.kernel.entry == "report").count(), launches);
    }
    let [(few, few_gradients), (all, all_gradients)] = [both(), many()].map(|terms| {
        let mut trainer = start(terms, 1);
        trainer.train_step_of(&[&images, &own], 1e-3).unwrap();
        let gradients = gradients(&trainer, ParamSet::Gradient);
        (pollster::block_on(trainer.metrics()).unwrap(), gradients)
    });
    let near = |got: f32, want: f32| assert!((got - want).abs() <= 1e-5 * want.abs(), "{got} not {want}");
    near(all.mse, 4.0 * few.mse);
    let noised = all.classifier_loss - few.classifier_loss;
    assert!(noised > 0.0, "{all:?}, {few:?}");
    near(all.loss, few.loss + scales.iter().sum::<f32>() * few.mse + 0.5 * noised);
    for (name, tensor) in few_gradients.iter().filter(|(name, _)| name.starts_with("out")) {
        let norm = tensor.data.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        for (got, few) in all_gradients[name].data.iter().zip(&tensor.data) {
            let want = few * (1.0 + scales.iter().sum::<f32>());
            assert!((got - want).abs() <= 1e-5 * norm, "{name}: {got} instead of {want}");
        }
    }
}
