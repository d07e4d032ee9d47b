//! How far a host may run ahead of its device.

use crate::error::Result;
use crate::gpu::{Device, Mark};
use std::collections::VecDeque;

/// Runs that were submitted and not waited for: a few, so that the device never idles and a caller who stops is heard soon
/// ([`Device::runs_ahead`]).
pub(crate) struct Pace<'d> {
    device: &'d Device,
    submitted: VecDeque<Mark>,
}

impl<'d> Pace<'d> {
    pub fn new(device: &'d Device) -> Pace<'d> {
        Pace { device, submitted: VecDeque::new() }
    }

    /// Takes note of one more run, and waits for the first one where too many are under way; whether it did.
    ///
    /// # Errors
    /// As [`Device::reached`].
    pub async fn submitted(&mut self, mark: Mark) -> Result<bool> {
        self.submitted.push_back(mark);
        if self.submitted.len() > self.device.runs_ahead() { self.next().await } else { Ok(false) }
    }

    /// Waits for the first run that is under way; whether there was one.
    ///
    /// # Errors
    /// As [`Device::reached`].
    pub async fn next(&mut self) -> Result<bool> {
        match self.submitted.pop_front() {
            Some(mark) => self.device.reached(mark).await.map(|()| true),
            None => Ok(false),
        }
    }
}
