//! MPI: the transport of ranks that are processes.

use super::Processes;
use duet::train::{Buckets, Link, Ranks, Transport};
use duet::{Error, Result};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _, Root as _};
use std::thread;
use std::time::Duration;

/// Where a link is asked for that is slower than it is, to see what that does: seconds before each exchange, and bytes a second.
const LINK: &str = "DUET_SIMULATED_LINK";
/// Where other sizes of buckets are asked for: MiB of the first one and of the others.
const BUCKETS: &str = "DUET_BUCKETS_MIB";
/// Most bytes of one message: MPI counts in 31 bits.
const MOST: usize = 1 << 30;
/// Looks at a message that is on its way before the processor is left to others, and before this one sleeps.
const SPINS: u32 = 200;
const YIELDS: u32 = 2_000;
/// How long it sleeps at first and at most.
const SLEEP: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// All processes that were started together.
struct Mpi {
    world: SimpleCommunicator,
    /// Its end is MPI's.
    _universe: Universe,
}

/// Begins to be one of several processes.
///
/// # Errors
/// [`Error::Config`] for an MPI whose calls must stay in the first thread, or sizes that are none.
pub(super) fn join() -> Result<Processes> {
    let (link, buckets) = (link(std::env::var(LINK).ok())?, buckets(std::env::var(BUCKETS).ok())?);
    let (tell, told) = std::sync::mpsc::channel();
    let make = move || {
        let none = || Error::config("mpi", "was begun already");
        // All calls come from the thread that this is.
        let (universe, threading) = mpi::initialize_with_threading(Threading::Funneled).ok_or_else(none)?;
        if threading < Threading::Funneled {
            let detail = "this MPI allows no program with other threads (MPI_THREAD_FUNNELED)";
            return Err(Error::config("mpi", detail));
        }
        let world = universe.world();
        let local = usize::try_from(world.split_shared(world.rank()).rank()).unwrap_or(0);
        drop(tell.send((local, mpi::environment::processor_name().unwrap_or_default())));
        Ok(Mpi { world, _universe: universe })
    };
    let ranks = Ranks::start(make, link, buckets)?;
    let (local, host) = told.recv().unwrap_or_default();
    Ok(Processes::of(ranks, local, host))
}

/// A link as "SECONDS BYTES": before each exchange, and a second.
fn link(text: Option<String>) -> Result<Option<Link>> {
    let Some(text) = text else { return Ok(None) };
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        &[latency, bandwidth] if latency >= 0.0 && bandwidth > 0.0 => Ok(Some(Link { latency, bandwidth })),
        _ => Err(Error::config(
            LINK,
            format!(
                "is two numbers, as \"5e-6 25e9\": seconds before each exchange and bytes a second, not {text:?}"
            ),
        )),
    }
}

/// Sizes as "FIRST OTHERS", in MiB.
fn buckets(text: Option<String>) -> Result<Option<Buckets>> {
    let Some(text) = text else { return Ok(None) };
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        &[first, others] if first > 0.0 && others > 0.0 => {
            let bytes = |mib: f64| (mib * f64::from(1 << 20)) as u64;
            Ok(Some(Buckets { first: bytes(first), others: bytes(others) }))
        }
        _ => Err(Error::config(
            BUCKETS,
            format!("is two numbers, as \"1 25\": MiB of the first bucket and of the others, not {text:?}"),
        )),
    }
}

/// Waits without keeping a processor busy for long: another process may need it, or the device that computes on it.
fn wait<'a, D: ?Sized, S: Scope<'a>>(request: Request<'a, D, S>) {
    let (mut request, mut turn, [mut sleep, most]) = (request, 0u32, SLEEP);
    loop {
        request = match request.test() {
            Ok(_) => return,
            Err(request) => request,
        };
        turn = turn.saturating_add(1);
        if turn > YIELDS {
            thread::sleep(sleep);
            sleep = (2 * sleep).min(most);
        } else if turn > SPINS {
            thread::yield_now();
        }
    }
}

fn check(bytes: usize) -> Result<()> {
    if bytes <= MOST {
        return Ok(());
    }
    Err(Error::config("mpi", format!("a message of {bytes} bytes is more than {MOST}")))
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or(0)
    }

    fn ranks(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    fn all_to_all(&mut self, own: &[u8], received: &mut [u8]) -> Result<()> {
        check(own.len())?;
        scope(|scope| wait(self.world.immediate_all_to_all_into(scope, own, received)));
        Ok(())
    }

    fn all_gather(&mut self, own: &[u8], received: &mut [u8]) -> Result<()> {
        check(received.len())?;
        scope(|scope| wait(self.world.immediate_all_gather_into(scope, own, received)));
        Ok(())
    }

    fn broadcast(&mut self, data: &mut [u8]) -> Result<()> {
        for part in data.chunks_mut(MOST) {
            scope(|scope| wait(self.world.process_at_rank(0).immediate_broadcast_into(scope, part)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_buckets_are_two_numbers() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(link(None).unwrap(), None);
        assert_eq!(link(text("0.001 1e9")).unwrap(), Some(Link { latency: 1e-3, bandwidth: 1e9 }));
        assert_eq!(buckets(None).unwrap(), None);
        assert_eq!(buckets(text("0.5 4")).unwrap(), Some(Buckets { first: 1 << 19, others: 4 << 20 }));
        for bad in ["", "1", "a b", "1 2 3", "-1 2", "1 0"] {
            assert!(link(text(bad)).is_err() && buckets(text(bad)).is_err(), "{bad}");
        }
    }
}
