//! Several ranks have the bits of one process with the same micro-batches: here they are threads on one device.

use crate::harness::{device, tiny_config, values};
use duet::autodiff::Precision;
use duet::checkpoint::Checkpoint;
use duet::diffusion::DiffusionConfig;
use duet::model::{JointModel, Labels, ModelConfig, UNLABELLED};
use duet::train::terms::{Feed, Terms, joint, semi_supervised};
use duet::train::{
    Augment, Batch, Buckets, ClassifierInput, Link, Metrics, MixUp, Ranks, Threads, TimestepSampler,
    TrainOptions, TrainSpec, Trainer, Transport,
};
use std::sync::Arc;

/// Small enough that even this network has many.
const SMALL: Buckets = Buckets { first: 1 << 10, others: 8 << 10 };

fn config() -> ModelConfig {
    ModelConfig { dropout: 0.1, classifier_dropout: 0.2, ..tiny_config() }
}

fn options() -> TrainOptions {
    TrainOptions {
        batch_size: 12,
        micro_batches: 4,
        learning_rate: 2e-3,
        ema_rate: 0.9,
        classifier_loss_scaling: 0.5,
        classifier_input: ClassifierInput::Both,
        clip_grad_norm: Some(0.5),
        min_snr_gamma: Some(5.0),
        seed: 5,
        ..TrainOptions::default()
    }
}

/// The batch of a step, whose third image has no label; of every third step none has any.
fn batch(step: u64, count: usize) -> Batch {
    let unlabelled = |n: u64| n == 2 || step % 3 == 2;
    let label = |n: u64| if unlabelled(n) { UNLABELLED } else { ((n + step) % 3) as u32 };
    Batch {
        images: values(step, count * 64),
        labels: Labels::Classes((0..count as u64).map(label).collect()),
    }
}

/// What is trained: the joint loss, or a classifier that learns from other images, where there are enough.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Joint,
    Few,
}

fn terms(model: &JointModel, options: &TrainOptions) -> (Terms, Terms) {
    let (diffusion, spec) = (DiffusionConfig::default(), TrainSpec::of(options));
    let quiet = TrainOptions { classifier_input: ClassifierInput::None, ..options.clone() };
    let labelled = Feed { prefix: "labelled.".into(), batch: spec.batch };
    let all = semi_supervised(model, &diffusion, &spec, &labelled).unwrap();
    (all, joint(model, &diffusion, &TrainSpec::of(&quiet)).unwrap())
}

fn trainer(kind: Kind, options: &TrainOptions, from: Option<&Checkpoint>) -> Trainer {
    let model = Arc::new(JointModel::new(&config()).unwrap());
    let diffusion = DiffusionConfig::default();
    pollster::block_on(async {
        match (kind, from) {
            (Kind::Joint, Some(from)) => Trainer::resume(device(), from, options).await,
            (Kind::Joint, None) => Trainer::new(device(), model, &diffusion, options).await,
            (Kind::Few, from) => {
                let (terms, quiet) = terms(&model, options);
                let mut trainer = match from {
                    Some(from) => Trainer::resume_of(device(), from, options, &terms).await?,
                    None => Trainer::new_of(device(), model, &diffusion, options, &terms).await?,
                };
                trainer.allow_steps_of(&quiet).await?;
                Ok(trainer)
            }
        }
    })
    .unwrap()
}

/// What comes of some steps: the checkpoint, and what was told of each two of them.
#[derive(PartialEq)]
struct Outcome {
    saved: Checkpoint,
    told: Vec<Metrics>,
}

fn steps(mut trainer: Trainer, kind: Kind, steps: std::ops::Range<u64>) -> Outcome {
    let mut told = Vec::new();
    for step in steps {
        let mut all = batch(step, 12);
        if trainer.ranks().is_some_and(|ranks| ranks.ranks() == 2) {
            // Of those that it doesn't compute it needs no images.
            let rows = trainer.own_rows(12);
            assert!(rows.len() < 12);
            all.images = rows.iter().flat_map(|row| &all.images[64 * row..64 * (row + 1)]).copied().collect();
        }
        match kind {
            Kind::Joint => trainer.train_step(&all, 2e-3).unwrap(),
            Kind::Few => {
                let few = if step % 2 == 0 { batch(step + 9, 12) } else { batch(0, 0) };
                trainer.train_step_of(&[&all, &few], 2e-3).unwrap();
            }
        }
        if step % 2 == 1 {
            told.push(pollster::block_on(trainer.metrics()).unwrap());
        }
    }
    Outcome { saved: pollster::block_on(trainer.checkpoint()).unwrap(), told }
}

fn alone(
    kind: Kind,
    options: &TrainOptions,
    from: Option<&Checkpoint>,
    range: std::ops::Range<u64>,
) -> Outcome {
    steps(trainer(kind, options, from), kind, range)
}

/// The outcome of each of `ranks` threads.
fn among(
    ranks: usize,
    kind: Kind,
    options: &TrainOptions,
    from: Option<&Checkpoint>,
    range: std::ops::Range<u64>,
) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let start = |place: Threads| {
            let range = range.clone();
            scope.spawn(move || {
                let mut trainer = trainer(kind, options, from);
                let ranks = Ranks::start(|| Ok(place), None, Some(SMALL)).unwrap();
                pollster::block_on(trainer.train_among(ranks)).unwrap();
                steps(trainer, kind, range)
            })
        };
        let threads: Vec<_> = Threads::group(ranks).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Of three ranks and four micro-batches two have nothing to do in a second round.
fn equal_one_process(kind: Kind, options: &TrainOptions, counts: &[usize]) {
    let want = alone(kind, options, None, 0..6);
    assert!(want.told.iter().all(|told| told.loss > 0.0 && told.steps == 2));
    for &ranks in counts {
        for (rank, got) in among(ranks, kind, options, None, 0..6).into_iter().enumerate() {
            assert_eq!(got.told, want.told, "rank {rank} of {ranks}");
            assert!(got.saved == want.saved, "rank {rank} of {ranks} has other bits");
        }
    }
}

#[test]
fn ranks_have_the_bits_of_one_process() {
    equal_one_process(Kind::Joint, &options(), &[2, 3, 4]);
}

#[test]
fn ranks_share_the_losses_by_which_timesteps_are_drawn() {
    let timestep_sampler = TimestepSampler::LossSecondMoment;
    let augment = Augment { mixup: Some(MixUp::default()), ..Augment::default() };
    equal_one_process(
        Kind::Joint,
        &TrainOptions { timestep_sampler, augment, micro_batches: 3, ..options() },
        &[2],
    );
}

#[test]
fn ranks_learn_from_few_labels_as_one_process_does() {
    equal_one_process(Kind::Few, &TrainOptions { clip_grad_norm: None, ..options() }, &[2, 3]);
}

#[test]
fn ranks_scale_the_loss_of_f16_alike() {
    if device().has_f16() {
        equal_one_process(Kind::Joint, &TrainOptions { precision: Precision::F16, ..options() }, &[2]);
    }
}

#[test]
fn a_run_goes_on_with_any_number_of_ranks() {
    let options = options();
    let want = alone(Kind::Joint, &options, None, 0..6);
    let four = among(4, Kind::Joint, &options, None, 0..2).remove(3).saved;
    let two = among(2, Kind::Joint, &options, Some(&four), 2..4).remove(0).saved;
    let one = alone(Kind::Joint, &options, Some(&two), 4..6).saved;
    assert!(one == want.saved);
    // More ranks than micro-batches.
    let five = among(5, Kind::Joint, &options, Some(&two), 4..6).remove(4).saved;
    assert!(five == want.saved);
}

/// Fails at a call.
struct Broken(Threads, usize);

impl Transport for Broken {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn ranks(&self) -> usize {
        self.0.ranks()
    }

    fn all_to_all(&mut self, own: &[u8], received: &mut [u8]) -> duet::Result<()> {
        self.1 = self.1.wrapping_sub(1);
        if self.1 == 0 {
            return Err(duet::Error::config("link", "the cable is out"));
        }
        self.0.all_to_all(own, received)
    }

    fn all_gather(&mut self, own: &[u8], received: &mut [u8]) -> duet::Result<()> {
        self.0.all_gather(own, received)
    }

    fn broadcast(&mut self, data: &mut [u8]) -> duet::Result<()> {
        self.0.broadcast(data)
    }
}

#[test]
fn what_fails_on_one_rank_is_no_step_on_it_and_ends_the_others() {
    let one = |ranks: Ranks| {
        let mut trainer = trainer(Kind::Joint, &options(), None);
        pollster::block_on(trainer.train_among(ranks)).unwrap();
        let before = pollster::block_on(trainer.checkpoint()).unwrap();
        let error = trainer.train_step(&batch(0, 12), 2e-3).unwrap_err().to_string();
        assert!(pollster::block_on(trainer.checkpoint()).unwrap() == before);
        error
    };
    let mut places = Threads::group(2);
    let (second, first) = (places.remove(1), places.remove(0));
    let [broken, other] = std::thread::scope(|scope| {
        let broken = scope.spawn(|| one(Ranks::start(|| Ok(Broken(first, 3)), None, Some(SMALL)).unwrap()));
        let other = scope.spawn(|| one(Ranks::start(|| Ok(second), None, Some(SMALL)).unwrap()));
        [broken, other].map(|thread| thread.join().unwrap())
    });
    assert!(broken.contains("the cable is out"), "{broken}");
    assert!(other.contains("rank 0"), "{other}");
}

#[test]
fn ranks_that_would_not_train_alike_are_refused() {
    let errors: Vec<String> = std::thread::scope(|scope| {
        let start = |place: Threads| {
            let seed = place.rank() as u64;
            scope.spawn(move || {
                let mut trainer = trainer(Kind::Joint, &TrainOptions { seed, ..options() }, None);
                pollster::block_on(trainer.train_among(Ranks::new(place).unwrap())).unwrap_err().to_string()
            })
        };
        let threads: Vec<_> = Threads::group(2).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(errors.iter().all(|error| error.contains("rank 1 would train otherwise")), "{errors:?}");
    let mut alone = trainer(Kind::Joint, &options(), None);
    let images = batch(0, 12).images[..6 * 64].to_vec();
    let few = Batch { images, ..batch(0, 12) };
    assert!(alone.train_step(&few, 2e-3).unwrap_err().to_string().contains("need 768"));
    assert_eq!(alone.own_rows(12), (0..12).collect::<Vec<_>>());
}

#[test]
fn what_is_exchanged_is_measured_and_begins_before_the_backward_pass_ends() {
    let link = Some(Link { latency: 1e-3, bandwidth: 1e9 });
    let traffic = std::thread::scope(|scope| {
        let start = |place: Threads| {
            scope.spawn(move || {
                let mut trainer = trainer(Kind::Joint, &options(), None);
                let ranks = Ranks::start(|| Ok(place), link, Some(SMALL)).unwrap();
                pollster::block_on(trainer.train_among(ranks.clone())).unwrap();
                ranks.traffic();
                trainer.train_step(&batch(0, 12), 2e-3).unwrap();
                let bytes = trainer.weights().model().params.bytes();
                (ranks.traffic(), bytes)
            })
        };
        let threads: Vec<_> = Threads::group(2).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (told, bytes) in traffic {
        println!("{told:?} of {bytes} bytes: {:.2} hidden", told.overlap());
        // Half of the gradients in each of two rounds, and half of their sums; beside it little.
        let least = bytes / 2 * 3;
        assert!(told.bytes >= least * 9 / 10 && told.bytes <= least * 3 / 2, "{told:?} {bytes}");
        assert!(told.seconds >= 1e-3 * told.calls as f64 && told.calls > 20, "{told:?}");
    }
    assert_eq!(duet::train::Traffic::default().overlap(), 1.0);
}
