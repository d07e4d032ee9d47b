//! Local counterfactuals of any number of images: inversions are made once, chains are kept full, and only who has not reached
//! the target goes on to the next rung.

use super::chain::{Chain, Hear, Job, LocalStep, Numbers, Outcome};
use super::explainer::{Asked, Ears};
use super::explanation::{Explanation, Passes};
use super::inversion::{Inversion, Origin, Pool, noised};
use super::options::{ExplainOptions, Local};
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::model::WeightSet;
use crate::sampling::Guidance;
use crate::weights::Weights;
use std::collections::{BTreeMap, VecDeque};

/// A request on its way up the ladder.
struct Climb {
    /// Which of the requests.
    request: usize,
    slot: usize,
    rung: usize,
    /// The best answer so far, and how probable the target is of it.
    best: Option<(f32, Explanation)>,
    passes: Passes,
}

/// Plans and memory of local counterfactuals.
pub(super) struct LocalEngine {
    weights: Weights,
    diffusion: DiffusionConfig,
    set: WeightSet,
    pool: Pool,
    inversion: Inversion,
    /// By images at once.
    chains: BTreeMap<usize, Chain>,
    /// Most images at once.
    widest: usize,
    kind: LocalStep,
    schedule: Schedule,
    steps: usize,
    chain: (f64, String),
}

fn kind(options: &ExplainOptions, local: &Local) -> LocalStep {
    LocalStep { guidance: local.guidance, normalize: local.normalize, masked: options.mask.is_some() }
}

impl LocalEngine {
    /// Loads what inverts images; chains are loaded when they are needed.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        options: &ExplainOptions,
        local: &Local,
        set: WeightSet,
    ) -> Result<LocalEngine> {
        let (schedule, steps) = options.chain(diffusion)?;
        // While a chain runs full, the next images can be inverted beside those that climb.
        let pool = Pool::new(weights, 2 * batch, steps).await?;
        let inversion = Inversion::new(weights, batch, steps, set).await?;
        Ok(LocalEngine {
            weights: weights.clone(),
            diffusion: diffusion.clone(),
            set,
            pool,
            inversion,
            chains: BTreeMap::new(),
            widest: batch,
            kind: kind(options, local),
            schedule,
            steps,
            chain: (options.noise, options.respacing.clone()),
        })
    }

    /// Images that are explained at once.
    pub fn batch(&self) -> usize {
        self.widest
    }

    /// Steps of one chain, and of the whole one.
    pub fn steps(&self) -> [usize; 2] {
        [self.steps, self.schedule.len()]
    }

    /// Takes other options; `false`: they need other plans or more memory.
    pub fn change(&mut self, options: &ExplainOptions, local: &Local) -> Result<bool> {
        let (schedule, steps) = options.chain(&self.diffusion)?;
        if kind(options, local) != self.kind || steps > self.pool.capacity() {
            return Ok(false);
        }
        let chain = (options.noise, options.respacing.clone());
        if chain != self.chain {
            self.pool.clear();
            (self.schedule, self.steps, self.chain) = (schedule, steps, chain);
        }
        Ok(true)
    }

    /// The chain that takes `jobs` images with the least waste: of the whole batch, a quarter of it, or one.
    async fn chain(&mut self, jobs: usize) -> Result<usize> {
        loop {
            let widths = [1, self.widest.div_ceil(4), self.widest];
            let width = widths.into_iter().find(|width| *width >= jobs).unwrap_or(self.widest);
            if self.chains.contains_key(&width) {
                return Ok(width);
            }
            let steps = self.pool.capacity();
            match Chain::new(&self.weights, &self.pool, self.kind, width, steps, self.set).await {
                Ok(chain) => {
                    self.chains.insert(width, chain);
                    return Ok(width);
                }
                // Less memory than images: they come in smaller parts.
                Err(error) => self.widest = error.smaller_batch(width).ok_or(error)?,
            }
        }
    }

    /// Inverts `origins`, as far as there is room, and loads the chain of one image: what a question is answered by.
    pub async fn invert(&mut self, origins: Vec<Origin>, ears: &mut Ears<'_, '_>) -> Result<()> {
        self.pool.begin();
        let (mut wanted, mut fresh) = (Vec::new(), Vec::new());
        for origin in origins {
            let Some((slot, new)) = self.pool.want(origin) else { break };
            wanted.push(slot);
            if new {
                fresh.push(slot);
            }
        }
        ears.expect(self.inversion.runs(fresh.len(), self.steps));
        self.inversion_of(&fresh, ears).await?;
        wanted.into_iter().for_each(|slot| self.pool.release(slot));
        self.chain(1).await?;
        Ok(())
    }

    async fn inversion_of(&self, slots: &[usize], ears: &mut Ears<'_, '_>) -> Result<()> {
        let Self { inversion, pool, schedule, diffusion, steps, .. } = self;
        inversion.run(pool, slots, schedule, diffusion, *steps, &mut || ears.step()).await
    }

    /// Explains everything that is asked.
    pub async fn explain(
        &mut self,
        asked: &Asked<'_>,
        local: &Local,
        mask: Option<&[f32]>,
        ears: &mut Ears<'_, '_>,
    ) -> Result<Vec<Explanation>> {
        self.pool.begin();
        let mut waiting: VecDeque<usize> = (0..asked.requests.len()).collect();
        let mut ready: VecDeque<Climb> = VecDeque::new();
        let mut done: Vec<Option<Explanation>> = asked.requests.iter().map(|_| None).collect();
        while !(waiting.is_empty() && ready.is_empty()) {
            if ready.len() < self.widest && !waiting.is_empty() {
                self.fill(asked, &mut waiting, &mut ready, ears).await?;
            }
            let width = self.chain(ready.len().min(self.widest)).await?;
            let climbs: Vec<Climb> = ready.drain(..ready.len().min(width)).collect();
            let batches = (ready.len() + waiting.len()).div_ceil(self.widest.max(1));
            ears.expect(self.steps * (1 + batches));
            let outcomes = self.run(width, asked, local, mask, &climbs, ears).await?;
            for (climb, outcome) in climbs.into_iter().zip(outcomes) {
                self.judge(climb, outcome, asked, local, &mut ready, &mut done)?;
            }
        }
        let lost = || Error::shape("explain", "a request was lost");
        done.into_iter().map(|answer| answer.ok_or_else(lost)).collect()
    }

    /// Makes waiting requests ready until a chain is full: their images are inverted, as far as there is room.
    async fn fill(
        &mut self,
        asked: &Asked<'_>,
        waiting: &mut VecDeque<usize>,
        ready: &mut VecDeque<Climb>,
        ears: &mut Ears<'_, '_>,
    ) -> Result<()> {
        let mut fresh = Vec::new();
        while ready.len() < self.widest {
            let Some(&request) = waiting.front() else { break };
            let origin = asked.origin(request)?;
            let mut passes = Passes::default();
            let Some((slot, new)) = self.pool.want(origin) else { break };
            if new {
                fresh.push(slot);
                passes = Passes { encoder: self.steps, decoder: self.steps, backward: 0 };
            }
            waiting.pop_front();
            ready.push_back(Climb { request, slot, rung: 0, best: None, passes });
        }
        let more = waiting.len() + ready.len();
        let chains = more.div_ceil(self.widest.max(1));
        ears.expect(self.inversion.runs(fresh.len(), self.steps) + self.steps * chains);
        self.inversion_of(&fresh, ears).await
    }

    async fn run(
        &self,
        width: usize,
        asked: &Asked<'_>,
        local: &Local,
        mask: Option<&[f32]>,
        climbs: &[Climb],
        ears: &mut Ears<'_, '_>,
    ) -> Result<Vec<Outcome>> {
        let numbers = Numbers {
            pool: &self.pool,
            schedule: &self.schedule,
            diffusion: &self.diffusion,
            steps: self.steps,
            options: local,
            mask,
        };
        let job = |climb: &Climb| {
            let (request, labels) = asked.request(climb.request)?;
            let strength = local.ladder.get(climb.rung).copied().unwrap_or(0.0);
            Ok(Job { slot: climb.slot, target: request.target, labels, strength })
        };
        let jobs = climbs.iter().map(job).collect::<Result<Vec<_>>>()?;
        let chain = self.chains.get(&width).ok_or_else(|| Error::shape("explain", "no chain is loaded"))?;
        let mut curve = Vec::new();
        if ears.curve() {
            let mut tell = |step| {
                curve.push(step);
                ears.step_with(&curve)
            };
            return chain.run(&jobs, &numbers, Hear::Curve(&mut tell)).await;
        }
        if ears.any() {
            return chain.run(&jobs, &numbers, Hear::Steps(&mut || ears.step())).await;
        }
        chain.run(&jobs, &numbers, Hear::Nobody).await
    }

    /// Whoever reached the target, or tried the last rung, is done; the others go on first.
    fn judge(
        &mut self,
        mut climb: Climb,
        outcome: Outcome,
        asked: &Asked<'_>,
        local: &Local,
        ready: &mut VecDeque<Climb>,
        done: &mut [Option<Explanation>],
    ) -> Result<()> {
        let (request, labels) = asked.request(climb.request)?;
        let before = asked.before(request.image)?;
        let (head, classes) = (asked.head, before.len());
        let (reached, moved) = head.reached(before, &outcome.after, request.target)?;
        let agreement = head.agreement(&outcome.after, &labels, classes)?.first().copied().unwrap_or(0.0);
        let guided = usize::from(local.guidance != Guidance::None);
        climb.passes +=
            Passes { encoder: self.steps + 1, decoder: self.steps, backward: self.steps * guided };
        let better = climb.best.as_ref().is_none_or(|(best, _)| agreement > *best);
        if reached || better {
            let pairs = outcome.counterfactual.iter().zip(asked.image(request.image)?);
            let answer = Explanation {
                target: request.target,
                seed: request.seed,
                // Of the answer that stays.
                noised: Vec::new(),
                difference: pairs.map(|(c, x)| c - x).collect(),
                counterfactual: outcome.counterfactual,
                before: before.to_vec(),
                after: outcome.after,
                curve: outcome.curve,
                reached,
                moved,
                rung: climb.rung,
                strength: local.ladder.get(climb.rung).copied().unwrap_or(0.0),
                chains: 0,
                passes: Passes::default(),
            };
            climb.best = Some((agreement, answer));
        }
        climb.rung += 1;
        if !reached && climb.rung < local.ladder.len() {
            ready.push_front(climb);
            return Ok(());
        }
        self.pool.release(climb.slot);
        if let (Some((_, answer)), Some(place)) = (climb.best, done.get_mut(climb.request)) {
            let noised = noised(&self.schedule, self.steps, &asked.origin(climb.request)?)?;
            *place = Some(Explanation { noised, chains: climb.rung, passes: climb.passes, ..answer });
        }
        Ok(())
    }
}
