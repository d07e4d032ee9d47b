//! Ranks that are threads of one process: several devices of one machine, and tests.

use super::Transport;
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A thread among others.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Threads {
    /// The places of `ranks` threads, one for each.
    pub fn group(ranks: usize) -> Vec<Threads> {
        let mut group: Vec<Threads> =
            (0..ranks).map(|rank| Threads { rank, to: Vec::new(), from: Vec::new() }).collect();
        for sender in 0..ranks {
            let mut to = Vec::with_capacity(ranks);
            for receiver in &mut group {
                let (send, receive) = channel();
                to.push(send);
                receiver.from.push(receive);
            }
            if let Some(sender) = group.get_mut(sender) {
                sender.to = to;
            }
        }
        group
    }

    fn send(&self, rank: usize, data: &[u8]) -> Result<()> {
        let to = self.to.get(rank).ok_or_else(|| gone(rank))?;
        to.send(data.to_vec()).map_err(|_| gone(rank))
    }

    fn receive(&self, rank: usize, into: &mut [u8]) -> Result<()> {
        let from = self.from.get(rank).ok_or_else(|| gone(rank))?;
        let data = from.recv().map_err(|_| gone(rank))?;
        if data.len() != into.len() {
            let detail = format!("rank {rank} sent {} bytes, {} were expected", data.len(), into.len());
            return Err(Error::config("ranks", detail));
        }
        into.copy_from_slice(&data);
        Ok(())
    }

    /// Bytes of each rank's part; all have some.
    fn part(&self, bytes: usize) -> usize {
        (bytes / self.to.len()).max(1)
    }
}

fn gone(rank: usize) -> Error {
    Error::config("ranks", format!("rank {rank} is gone"))
}

impl Transport for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn all_to_all(&mut self, own: &[u8], received: &mut [u8]) -> Result<()> {
        let part = self.part(own.len());
        for (rank, data) in own.chunks_exact(part).enumerate() {
            self.send(rank, data)?;
        }
        received.chunks_exact_mut(part).enumerate().try_for_each(|(rank, into)| self.receive(rank, into))
    }

    fn all_gather(&mut self, own: &[u8], received: &mut [u8]) -> Result<()> {
        (0..self.to.len()).try_for_each(|rank| self.send(rank, own))?;
        let part = self.part(received.len());
        received.chunks_exact_mut(part).enumerate().try_for_each(|(rank, into)| self.receive(rank, into))
    }

    fn broadcast(&mut self, data: &mut [u8]) -> Result<()> {
        if self.rank == 0 {
            return (1..self.to.len()).try_for_each(|rank| self.send(rank, data));
        }
        self.receive(0, data)
    }
}
