//! Steps whose micro-batches are computed by several ranks: what each leaves is exchanged bucket by bucket while the rest of its
//! backward pass runs, and added up in the order in which one process would have added it.

use super::Trainer;
use super::upload::{LOSSES, Place};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Cut, Mark, Staging, Transfer};
use crate::model::ParamSet;
use crate::rng::Seed;
use crate::train::batch::Batch;
use crate::train::ranks::buckets::{Bucket, Moments, buckets, moments};
use crate::train::ranks::{Arithmetic, Pending, Ranks, Share};
use crate::train::step::{METRIC_STRIDE, TrainSpec};
use crate::train::timesteps::{Chances, TimestepLosses, draw};
use crate::weights::Loaded;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

/// What running statistics keep of themselves at each move, as `wgsl/batchnorm.wgsl` has it.
const KEEP: f32 = 1.0 - 0.1;

/// What a trainer has that is one of several.
pub(super) struct Among {
    pub(super) ranks: Ranks,
    arithmetic: Arithmetic,
    /// By the number of the alternative, the run's own pass as `None`.
    passes: BTreeMap<Option<usize>, Pass>,
    /// Sums of the losses since they were last read, as "metrics" of one process has them.
    pub(super) sums: Vec<f32>,
    /// The running statistics behind the last step.
    running: Vec<f32>,
}

/// What is read back of a backward pass, and where through.
struct Pass {
    buckets: Vec<(Bucket, Staging)>,
    moments: Vec<Moments>,
    /// As many zeros as there are running statistics.
    zeros: Buffer,
    /// Moments, then the sums of losses, then each image's losses of the noise.
    notes: Staging,
    notes_bytes: u64,
    losses: Vec<Buffer>,
}

/// A part of a sum that grows from round to round; the courier's alone while a step runs.
type Growing = Arc<Mutex<Vec<f32>>>;

/// What one step is made of.
struct Task<'a> {
    batches: &'a [&'a Batch],
    alternative: Option<usize>,
    /// Buffers that say of a classifier that it doesn't learn in this step.
    idle: &'a [String],
    chances: Option<Chances>,
    share: Share,
}

/// What comes of a step when all ranks have given their part.
struct Awaited {
    /// Sums that grow; what is wrong with one of them.
    grown: Vec<Pending<()>>,
    gradients: Vec<Pending<Vec<f32>>>,
    running: Vec<(u64, Pending<Vec<f32>>)>,
    /// Of each round.
    notes: Vec<Pending<Vec<f32>>>,
}

impl Trainer {
    /// From now on each step's micro-batches are shared among `ranks`, all of which make the same steps with the same options and
    /// learning rates. A step has the bits that it has in one process with as many micro-batches, whatever the number of ranks; where
    /// that is no divisor, some have nothing to do in the last round. BatchNorm's statistics are those of a micro-batch, as in one
    /// process; running ones move in the order of micro-batches on all ranks.
    ///
    /// Metrics are those of the whole batch on all ranks. Checkpoints are the same on all: the first one saves.
    ///
    /// (On a compiler that fuses multiplications and additions the last bit of running statistics may be another one than in one
    /// process. No step depends on them.)
    ///
    /// # Errors
    /// [`Error::Config`] where ranks would not train alike, or together with [`Trainer::exchange_by`]; device errors.
    pub async fn train_among(&mut self, ranks: Ranks) -> Result<()> {
        if self.exchange.is_some() {
            let detail = "gradients go through an exchange already, or through ranks: not through both";
            return Err(Error::config("ranks", detail));
        }
        let mut hasher = DefaultHasher::new();
        let model = self.weights.model();
        format!("{:?} {:?} {:?} {:?}", self.options, model.config, self.diffusion, self.feeds)
            .hash(&mut hasher);
        (self.step, ranks.ranks()).hash(&mut hasher);
        let all = ranks.gather(hasher.finish().to_le_bytes().to_vec())?;
        if let Some(other) = all.iter().position(|one| Some(one) != all.first()) {
            let detail = format!(
                "rank {other} would train otherwise than rank 0: another model, other options or another step"
            );
            return Err(Error::config("ranks", detail));
        }
        let device = self.weights.device();
        let arithmetic = Arithmetic::of(device).await?;
        let count = model.params.running_bytes() as usize / 4;
        let running = device.read_f32(self.weights.running()?, count).await?;
        let slots = self.backward.require("metrics")?.bytes() / METRIC_STRIDE + 1;
        let (passes, sums) = (BTreeMap::new(), vec![0.0; slots as usize]);
        self.among = Some(Among { ranks, arithmetic, passes, sums, running });
        Ok(())
    }

    /// The ranks that train with this one; `None`: it trains alone.
    pub fn ranks(&self) -> Option<&Ranks> {
        self.among.as_ref().map(|among| &among.ranks)
    }

    fn share(&self) -> Share {
        let (rank, ranks) = self.ranks().map_or((0, 1), |ranks| (ranks.rank(), ranks.ranks()));
        Share { rank, ranks, micro_batches: self.options.micro_batches.max(1) }
    }

    /// Rows that this rank computes of a step's batch of `count` images. A batch may have these images alone, one after the other,
    /// beside the labels of all.
    pub fn own_rows(&self, count: usize) -> Vec<usize> {
        let share = self.share();
        share.rows(count / share.micro_batches).into_iter().flatten().collect()
    }

    /// As [`Trainer::try_gather`], among ranks.
    pub(super) fn gather_among(
        &mut self,
        batches: &[&Batch],
        alternative: Option<usize>,
        idle: &[String],
        fresh: bool,
    ) -> Result<()> {
        let Some(mut among) = self.among.take() else { return Ok(()) };
        if fresh {
            among.sums.fill(0.0);
        }
        let chances = self.losses.as_ref().and_then(TimestepLosses::chances);
        let task = Task { batches, alternative, idle, chances, share: self.share_of(&among.ranks) };
        let outcome = self.rounds(&mut among, &task);
        if outcome.is_err()
            && let Ok(running) = self.weights.running()
        {
            let _ = self.weights.device().write(running, 0, bytemuck::cast_slice(&among.running));
        }
        self.among = Some(among);
        outcome
    }

    fn share_of(&self, ranks: &Ranks) -> Share {
        Share { rank: ranks.rank(), ranks: ranks.ranks(), micro_batches: self.options.micro_batches.max(1) }
    }

    fn rounds(&mut self, among: &mut Among, task: &Task<'_>) -> Result<()> {
        if !among.passes.contains_key(&task.alternative) {
            let made = pollster::block_on(self.pass_among(&among.ranks, task.alternative))?;
            among.passes.insert(task.alternative, made);
        }
        let Some(pass) = among.passes.get(&task.alternative) else { return Ok(()) };
        let sums: Vec<Growing> = pass.buckets.iter().map(|_| Growing::default()).collect();
        let groups = groups(&pass.moments);
        let begin = |(offset, bytes): &(u64, u64)| {
            let whole = among.running.get(words(*offset, *bytes)).unwrap_or_default();
            Arc::new(Mutex::new(part(whole, task.share)))
        };
        let running: Vec<Growing> = groups.iter().map(begin).collect();
        let mut awaited =
            Awaited { grown: Vec::new(), gradients: Vec::new(), running: Vec::new(), notes: Vec::new() };
        for round in 0..task.share.rounds() {
            let last = round + 1 == task.share.rounds();
            let mut marks = self.submit(pass, task, round)?.into_iter();
            for ((bucket, staging), sum) in pass.buckets.iter().zip(&sums) {
                let own = fetched(staging, marks.next(), bucket.bytes())?;
                awaited.grown.push(add(among, own, task.share.active(round), sum));
                if last {
                    awaited.gradients.push(share_out(&among.ranks, sum, bucket.bytes() as usize / 4));
                }
            }
            let notes = fetched(&pass.notes, marks.next(), pass.notes_bytes)?;
            for (group, growing) in groups.iter().zip(&running) {
                let mut rows = Vec::new();
                let mut at = 0;
                for one in &pass.moments {
                    let learns = one.learn.as_ref().is_none_or(|name| !task.idle.contains(name));
                    if (one.offset, one.bytes) == *group && learns {
                        rows.push(notes.get(words(at, one.bytes)).unwrap_or_default());
                    }
                    at += one.bytes;
                }
                awaited.grown.push(move_by(among, &rows, task.share.active(round), growing));
                if last {
                    let whole = share_out(&among.ranks, growing, group.1 as usize / 4);
                    awaited.running.push((group.0, whole));
                }
            }
            awaited.notes.push(self.tell(among, pass, &notes));
        }
        self.arrive(among, task, awaited)
    }

    /// What is read back of the pass of a step.
    async fn pass_among(&self, ranks: &Ranks, alternative: Option<usize>) -> Result<Pass> {
        let (device, layout) = (self.weights.device(), &self.weights.model().params);
        let (backward, _) = self.pass(alternative);
        let plan = self.plan(alternative);
        let mut list = Vec::new();
        let sizes = ranks.buckets(layout.bytes());
        for bucket in buckets(plan, layout, sizes) {
            let staging = device.staging(bucket.bytes()).await?;
            list.push((bucket, staging));
        }
        let moments = moments(plan);
        let mut losses = Vec::new();
        if self.losses.is_some() {
            losses.extend(LOSSES.iter().filter_map(|name| backward.buffer(name).cloned()));
        }
        let told: u64 = losses.iter().map(Buffer::bytes).sum();
        let notes_bytes =
            moments.iter().map(|one| one.bytes).sum::<u64>() + backward.require("metrics")?.bytes() + told;
        Ok(Pass {
            buckets: list,
            moments,
            zeros: device.buffer("zeros", layout.running_bytes()).await?,
            notes: device.staging(notes_bytes).await?,
            notes_bytes,
            losses,
        })
    }

    /// Submits this rank's backward pass of a round, with copies of what it leaves; the marks of those. None where it has nothing to
    /// do.
    fn submit(&self, pass: &Pass, task: &Task<'_>, round: usize) -> Result<Vec<Mark>> {
        let Some(number) = task.share.micro_batch(round) else { return Ok(Vec::new()) };
        let (backward, feeds) = self.pass(task.alternative);
        let config = &self.weights.model().config;
        let mut first_row = 0;
        for ((own, feed), batch) in self.feeds.iter().zip(&feeds).zip(task.batches) {
            if let Some(feed) = feed {
                let from = number * feed.batch;
                let whole = config.images(feed.batch * task.share.micro_batches).len();
                // Where it has this rank's images alone they are those of its micro-batches one after the other.
                let image = if batch.images.len() == whole { from } else { round * feed.batch };
                let place = Place { from, image, first_row };
                self.write_batch(backward, feed, batch, place, task.chances.as_ref())?;
            }
            first_row += own.batch * task.share.micro_batches;
        }
        let metrics = backward.require("metrics")?;
        backward.write("metrics", &vec![0; metrics.bytes() as usize])?;
        for name in ["first", "metrics_first"] {
            backward.write(name, bytemuck::bytes_of(&[1u32, 0, 0, 0]))?;
        }
        let running = self.weights.running()?;
        if !pass.moments.is_empty() {
            let zeros = vec![0; self.weights.model().params.running_bytes() as usize];
            self.weights.device().write(running, 0, &zeros)?;
        }
        backward.executable().run_in_parts(&self.cuts(pass, backward, running)?)
    }

    fn cuts<'a>(&'a self, pass: &'a Pass, backward: &'a Loaded, running: &'a Buffer) -> Result<Vec<Cut<'a>>> {
        let mut cuts = Vec::new();
        let mut at = 0;
        for one in &pass.moments {
            let copies = vec![
                pass.notes.copy_of((running, one.offset), at, one.bytes),
                Transfer { from: (&pass.zeros, 0), to: (running, one.offset), bytes: one.bytes },
            ];
            at += one.bytes;
            cuts.push(Cut { after: one.after, copies, marks: false });
        }
        for (bucket, staging) in &pass.buckets {
            let (mut copies, mut at) = (Vec::new(), 0);
            for range in &bucket.ranges {
                let gradients = self.gradients_of(ParamSet::Gradient, range.chunk)?;
                copies.push(staging.copy_of((gradients, range.offset), at, range.bytes));
                at += range.bytes;
            }
            cuts.push(Cut { after: bucket.after, copies, marks: true });
        }
        cuts.sort_by_key(|cut| cut.after);
        let mut copies = Vec::new();
        for told in [backward.require("metrics")?].into_iter().chain(&pass.losses) {
            copies.push(pass.notes.copy_of((told, 0), at, told.bytes()));
            at += told.bytes();
        }
        cuts.push(Cut { after: usize::MAX, copies, marks: true });
        Ok(cuts)
    }

    /// Where the whole step's gradients lie.
    fn sum_set(&self) -> ParamSet {
        TrainSpec::of(&self.options).gradients()
    }

    fn gradients_of(&self, set: ParamSet, chunk: usize) -> Result<&Buffer> {
        let missing = || Error::shape("exchange", format!("there is no {}", set.buffer(chunk)));
        self.weights.buffer(set, chunk).ok_or_else(missing)
    }

    /// Sends the losses of a micro-batch to all: what its notes hold behind the moments.
    fn tell(&self, among: &Among, pass: &Pass, notes: &[f32]) -> Pending<Vec<f32>> {
        let moments = pass.moments.iter().map(|one| one.bytes as usize / 4).sum();
        let losses: usize = pass.losses.iter().map(|losses| losses.bytes() as usize / 4).sum();
        let told = notes.get(moments..).unwrap_or_default();
        let (metrics, losses) = told.split_at(told.len().saturating_sub(losses));
        let stride = METRIC_STRIDE as usize / 4;
        let slots = (0..among.sums.len()).map(|slot| metrics.get(slot * stride).copied().unwrap_or(0.0));
        let own: Vec<f32> = slots.chain(losses.iter().copied()).collect();
        among.ranks.post(move |transport| {
            let mut all = vec![0.0; own.len() * transport.ranks()];
            transport.all_gather(bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut all))?;
            Ok(all)
        })
    }

    /// Waits for the sums, and leaves them where one process would have.
    fn arrive(&mut self, among: &mut Among, task: &Task<'_>, awaited: Awaited) -> Result<()> {
        let device = self.weights.device();
        let Some(pass) = among.passes.get(&task.alternative) else { return Ok(()) };
        for ((bucket, _), sums) in pass.buckets.iter().zip(awaited.gradients) {
            let (sums, mut at) = (sums.wait()?, 0);
            for range in &bucket.ranges {
                let data = sums.get(words(at, range.bytes)).unwrap_or_default();
                let to = self.gradients_of(self.sum_set(), range.chunk)?;
                device.write(to, range.offset, bytemuck::cast_slice(data))?;
                at += range.bytes;
            }
        }
        awaited.grown.into_iter().try_for_each(Pending::wait)?;
        for (offset, running) in awaited.running {
            let running = running.wait()?;
            let to = words(offset, 4 * running.len() as u64);
            if let Some(kept) = among.running.get_mut(to) {
                kept.copy_from_slice(&running);
            }
        }
        if !pass.moments.is_empty() {
            device.write(self.weights.running()?, 0, bytemuck::cast_slice(&among.running))?;
        }
        let (slots, ranks) = (among.sums.len(), among.ranks.ranks());
        let (mut table, feeds) = (self.losses.take(), self.feeds.clone());
        let mut outcome = Ok(());
        for (round, told) in awaited.notes.into_iter().enumerate() {
            let told = told.wait()?;
            let each = told.len() / ranks;
            for (rank, one) in told.chunks_exact(each.max(1)).enumerate().take(task.share.active(round)) {
                let (sums, losses) = one.split_at(slots.min(one.len()));
                among.arithmetic.accumulate(&mut among.sums, sums);
                let Some(table) = &mut table else { continue };
                let Some(feed) = feeds.iter().find(|feed| feed.prefix.is_empty()) else { continue };
                let first = (round * ranks + rank) * feed.batch;
                let drawn: Vec<usize> = (first..first + feed.batch)
                    .map(|row| {
                        let (seed, step) = (Seed(self.options.seed), self.step as u32);
                        draw(task.chances.as_ref(), self.schedule.len(), seed, step, row as u32).0
                    })
                    .collect();
                let (errors, bits) = losses.split_at(losses.len() / pass.losses.len().max(1));
                outcome = outcome.and_then(|()| self.add_losses(table, &drawn, errors, bits));
            }
        }
        self.losses = table;
        outcome
    }
}

/// Places of values, of bytes.
fn words(offset: u64, bytes: u64) -> std::ops::Range<usize> {
    offset as usize / 4..(offset + bytes) as usize / 4
}

/// The different ranges of running statistics that are moved, in order of appearance.
fn groups(moments: &[Moments]) -> Vec<(u64, u64)> {
    let mut groups = Vec::new();
    for one in moments {
        if !groups.contains(&(one.offset, one.bytes)) {
            groups.push((one.offset, one.bytes));
        }
    }
    groups
}

/// What a mark was set behind; nothing where there is none.
fn fetched(staging: &Staging, mark: Option<Mark>, bytes: u64) -> Result<Vec<f32>> {
    let Some(mark) = mark else { return Ok(vec![0.0; bytes as usize / 4]) };
    let data = pollster::block_on(staging.fetch(mark, bytes))?;
    Ok(bytemuck::pod_collect_to_vec(&data))
}

/// Values of each rank's part of `count`.
fn part_len(count: usize, ranks: usize) -> usize {
    count.div_ceil(ranks)
}

/// This rank's part of `whole`, with zeros behind its end.
fn part(whole: &[f32], share: Share) -> Vec<f32> {
    let len = part_len(whole.len(), share.ranks);
    let mut part: Vec<f32> = whole.iter().skip(share.rank * len).take(len).copied().collect();
    part.resize(len, 0.0);
    part
}

/// Adds the first `active` ranks' `own` to this rank's part of the sum, in order of rank.
fn add(among: &Among, mut own: Vec<f32>, active: usize, sum: &Growing) -> Pending<()> {
    let (ranks, sum, arithmetic) = (among.ranks.ranks(), Arc::clone(sum), among.arithmetic);
    let len = part_len(own.len(), ranks);
    own.resize(len * ranks, 0.0);
    among.ranks.post(move |transport| {
        let mut all = vec![0.0; own.len()];
        transport.all_to_all(bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut all))?;
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        for values in all.chunks_exact(len.max(1)).take(active) {
            if sum.is_empty() {
                *sum = values.to_vec();
            } else {
                arithmetic.accumulate(&mut sum, values);
            }
        }
        Ok(())
    })
}

/// Moves this rank's part of running statistics by the first `active` ranks' `rows`, in order of rank and row.
fn move_by(among: &Among, rows: &[&[f32]], active: usize, kept: &Growing) -> Pending<()> {
    let (ranks, kept, arithmetic) = (among.ranks.ranks(), Arc::clone(kept), among.arithmetic);
    let len = rows.first().map_or(0, |row| part_len(row.len(), ranks));
    let mut own = Vec::with_capacity(ranks * rows.len() * len);
    for rank in 0..ranks {
        for row in rows {
            own.extend(part(row, Share { rank, ranks, micro_batches: 1 }));
        }
    }
    among.ranks.post(move |transport| {
        let mut all = vec![0.0; own.len()];
        transport.all_to_all(bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut all))?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        for values in all.chunks_exact((all.len() / ranks).max(1)).take(active) {
            for row in values.chunks_exact(len.max(1)) {
                arithmetic.decay(&mut kept, KEEP, row);
            }
        }
        Ok(())
    })
}

/// The first `count` values of all ranks' parts.
fn share_out(ranks: &Ranks, part: &Growing, count: usize) -> Pending<Vec<f32>> {
    let part = Arc::clone(part);
    ranks.post(move |transport| {
        let part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = vec![0.0; part.len() * transport.ranks()];
        transport.all_gather(bytemuck::cast_slice(&part), bytemuck::cast_slice_mut(&mut all))?;
        all.truncate(count);
        Ok(all)
    })
}
