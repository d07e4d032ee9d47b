//! Several processes, or threads, that train one model together: each computes some of a step's micro-batches.
//!
//! One process adds the gradients of its micro-batches in their order, g0 + g1 + g2 … Floating-point sums depend on the order, so ranks
//! keep it: in each round rank r computes the next micro-batch but r, and the round's gradients are added to the running sum in order of
//! rank. Each rank does so for a part of the parameters, which is what a reduce-scatter does whose order is fixed; at the end of
//! the step each gets all sums. The result has the bits of one process with the same micro-batches, whatever the number of ranks.

mod arithmetic;
pub(super) mod buckets;
mod courier;
mod threads;

pub(crate) use arithmetic::Arithmetic;
pub(crate) use courier::Pending;
pub use courier::{Link, Traffic};
pub use threads::Threads;

use super::step::PARTS;
use crate::error::Result;
use courier::Courier;
use std::ops::Range;

/// How ranks reach each other. All of them make the same calls in the same order, each from one thread; a call returns when its own
/// part is done.
pub trait Transport {
    /// This one's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Sends the r-th of `ranks` equal parts of `own` to rank r. What comes from each lies in `received`, as long as `own`, in order
    /// of rank.
    ///
    /// # Errors
    /// Whatever keeps it from arriving; the ranks cannot go on then.
    fn all_to_all(&mut self, own: &[u8], received: &mut [u8]) -> Result<()>;

    /// Sends `own`, of the same length everywhere, to all; theirs lie in `received` in order of rank.
    ///
    /// # Errors
    /// As [`Transport::all_to_all`].
    fn all_gather(&mut self, own: &[u8], received: &mut [u8]) -> Result<()>;

    /// Replaces `data`, of the same length everywhere, by that of rank 0.
    ///
    /// # Errors
    /// As [`Transport::all_to_all`].
    fn broadcast(&mut self, data: &mut [u8]) -> Result<()>;
}

/// How gradients are packed that are exchanged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Bytes from which on the first one is full: small, so that the exchange begins early.
    pub first: u64,
    /// The same of all others.
    pub others: u64,
}

/// Bytes of messages that are worth their latency on links of 100 Gbit/s: of one bucket each rank sends one to every other.
const MESSAGE: u64 = 64 << 10;

impl Buckets {
    /// What suits `ranks` ranks and `bytes` bytes of gradients: an eighth of these, at most the 25 MiB of PyTorch's
    /// `DistributedDataParallel` and at least 64 KiB a rank; the first one at most 1 MiB.
    pub fn of(bytes: u64, ranks: usize) -> Buckets {
        let others = (bytes / PARTS).min(25 << 20).max(MESSAGE.saturating_mul(ranks as u64));
        Buckets { first: others.min(1 << 20), others }
    }
}

/// A rank's place among those that train one model together. Clones are the same place; what is asked of them must be asked in
/// the same order on all ranks.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::train::{Ranks, Threads};
///
/// // Two threads of this process; a program of several processes has a [`duet::train::Transport`] of its own.
/// let told: Vec<_> = Threads::group(2)
///     .into_iter()
///     .map(|thread| {
///         std::thread::spawn(move || {
///             let ranks = Ranks::new(thread)?;
///             ranks.gather(format!("rank {}", ranks.rank()).into_bytes())
///         })
///     })
///     .collect();
/// for thread in told {
///     assert_eq!(thread.join().expect("no panic")?, [b"rank 0", b"rank 1"]);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Ranks {
    courier: Courier,
    rank: usize,
    ranks: usize,
    buckets: Option<Buckets>,
}

impl std::fmt::Debug for Ranks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranks").field("rank", &self.rank).field("ranks", &self.ranks).finish_non_exhaustive()
    }
}

impl Ranks {
    /// Of a transport, which lives in a thread of its own from now on: what is exchanged goes on while the caller computes.
    ///
    /// # Errors
    /// [`crate::Error::Config`] where there is no such thread.
    pub fn new(transport: impl Transport + Send + 'static) -> Result<Ranks> {
        Self::start(|| Ok(transport), None, None)
    }

    /// As [`Ranks::new`] of a transport that `make` makes in that thread, with buckets of other sizes than [`Buckets::of`], and over a
    /// `link` that is slower than it is, to see what that does.
    ///
    /// # Errors
    /// What `make` reports; as [`Ranks::new`].
    pub fn start<T: Transport>(
        make: impl FnOnce() -> Result<T> + Send + 'static,
        link: Option<Link>,
        buckets: Option<Buckets>,
    ) -> Result<Ranks> {
        let (courier, [rank, ranks]) = Courier::start(make, link)?;
        Ok(Ranks { courier, rank, ranks, buckets })
    }

    /// This one's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Whether it is the one that saves and tells.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// How `bytes` bytes of gradients are packed.
    pub(crate) fn buckets(&self, bytes: u64) -> Buckets {
        self.buckets.unwrap_or_else(|| Buckets::of(bytes, self.ranks))
    }

    /// What was exchanged since the last call.
    pub fn traffic(&self) -> Traffic {
        self.courier.traffic()
    }

    /// What each rank gives, of any length, in order of rank.
    ///
    /// # Errors
    /// As [`Transport::all_to_all`].
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let ranks = self.ranks;
        let gathered = self.post(move |transport| {
            let mut lengths = vec![0; 8 * ranks];
            transport.all_gather(&(own.len() as u64).to_le_bytes(), &mut lengths)?;
            let lengths: Vec<usize> =
                bytemuck::pod_collect_to_vec::<u8, u64>(&lengths).into_iter().map(|n| n as usize).collect();
            let longest = lengths.iter().copied().max().unwrap_or(0);
            if longest == 0 {
                return Ok(vec![Vec::new(); ranks]);
            }
            let mut own = own;
            own.resize(longest, 0);
            let mut all = vec![0; longest * ranks];
            transport.all_gather(&own, &mut all)?;
            let parts = all.chunks_exact(longest).zip(lengths);
            Ok(parts.map(|(part, length)| part.get(..length).unwrap_or(part).to_vec()).collect())
        });
        gathered.wait()
    }

    /// What rank 0 gives, whatever the others do.
    ///
    /// # Errors
    /// As [`Transport::all_to_all`].
    pub fn from_first(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        let sent = self.post(move |transport| {
            let mut length = (own.len() as u64).to_le_bytes();
            transport.broadcast(&mut length)?;
            let mut own = own;
            own.resize(u64::from_le_bytes(length) as usize, 0);
            transport.broadcast(&mut own)?;
            Ok(own)
        });
        sent.wait()
    }

    /// Ends the transport in order, when all that was posted is done: of MPI all processes have to. Nothing can be exchanged afterwards.
    ///
    /// # Errors
    /// As [`Transport::all_to_all`].
    pub fn leave(&self) -> Result<()> {
        self.courier.end().wait()
    }

    /// As [`Ranks::gather`] of values of the same length everywhere, one behind the other.
    ///
    /// # Errors
    /// As [`Transport::all_to_all`].
    pub fn gather_equal(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        let ranks = self.ranks;
        let gathered = self.post(move |transport| {
            let mut all = vec![0; own.len() * ranks];
            transport.all_gather(&own, &mut all)?;
            Ok(all)
        });
        gathered.wait()
    }

    /// Has `work` done on the transport, behind all that was posted before.
    pub(crate) fn post<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Transport) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.courier.post(work)
    }
}

/// Which of a step's micro-batches a rank computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub rank: usize,
    pub ranks: usize,
    pub micro_batches: usize,
}

impl Share {
    /// Rounds of a step.
    pub(crate) fn rounds(&self) -> usize {
        self.micro_batches.div_ceil(self.ranks)
    }

    /// Ranks that compute a micro-batch in a round: the first ones.
    pub(crate) fn active(&self, round: usize) -> usize {
        self.micro_batches.saturating_sub(round * self.ranks).min(self.ranks)
    }

    /// This rank's micro-batch of a round; `None`: it has none.
    pub(crate) fn micro_batch(&self, round: usize) -> Option<usize> {
        (self.rank < self.active(round)).then_some(round * self.ranks + self.rank)
    }

    /// Rows of its micro-batches in a batch of micro-batches of `each` rows.
    pub(crate) fn rows(&self, each: usize) -> Vec<Range<usize>> {
        let numbers = (0..self.rounds()).filter_map(|round| self.micro_batch(round));
        numbers.map(|number| number * each..(number + 1) * each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_are_dealt_in_turn_and_each_is_computed_once() {
        for ranks in 1..6 {
            for micro_batches in 1..9 {
                let share = |rank| Share { rank, ranks, micro_batches };
                let mut in_order = Vec::new();
                for round in 0..share(0).rounds() {
                    let numbers = (0..ranks).filter_map(|rank| share(rank).micro_batch(round));
                    in_order.extend(numbers);
                }
                assert!(in_order.iter().copied().eq(0..micro_batches), "{ranks}: {in_order:?}");
                let mut rows: Vec<_> = (0..ranks).flat_map(|rank| share(rank).rows(3)).flatten().collect();
                rows.sort_unstable();
                assert!(rows.into_iter().eq(0..3 * micro_batches));
            }
        }
    }
}
