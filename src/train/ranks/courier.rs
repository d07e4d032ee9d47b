//! The thread that exchanges while others compute, and what it measures.

use super::Transport;
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What is to be done; `None`: that was all.
type Job = Option<Box<dyn FnOnce(&mut dyn Transport) + Send>>;

/// A link that is made slower on purpose, to see on one machine what another network would do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds before each exchange.
    pub latency: f64,
    /// Bytes a second of what a rank sends; infinite: as fast as it is.
    pub bandwidth: f64,
}

/// What was exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes that this rank sent.
    pub bytes: u64,
    /// Calls of the transport.
    pub calls: u64,
    /// Seconds that the exchange took, from the first to the last of what was sent; waiting for slower ranks is in it.
    pub seconds: f64,
    /// Seconds of these in which nothing else was done.
    pub waited: f64,
}

impl Traffic {
    /// Share of the exchange that was hidden behind computation; 1 where there was none.
    pub fn overlap(&self) -> f64 {
        if self.seconds > 0.0 { (1.0 - self.waited / self.seconds).clamp(0.0, 1.0) } else { 1.0 }
    }
}

fn lock(traffic: &Mutex<Traffic>) -> MutexGuard<'_, Traffic> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what is posted, one after the other. It ends with its last clone.
#[derive(Clone)]
pub(super) struct Courier {
    jobs: Sender<Job>,
    traffic: Arc<Mutex<Traffic>>,
}

/// What becomes of something that was posted.
#[must_use]
pub(crate) struct Pending<T> {
    outcome: Receiver<Result<T>>,
    traffic: Arc<Mutex<Traffic>>,
}

impl<T> Pending<T> {
    /// Waits for it.
    ///
    /// # Errors
    /// What was reported; [`Error::Config`] where the thread is gone.
    pub(crate) fn wait(self) -> Result<T> {
        let begin = Instant::now();
        let outcome = self.outcome.recv();
        lock(&self.traffic).waited += begin.elapsed().as_secs_f64();
        outcome.unwrap_or_else(|_| Err(Error::config("ranks", "the exchange between them has ended")))
    }
}

impl Courier {
    /// Of what `make` makes, in the thread that uses it; with its rank and how many ranks there are.
    pub(super) fn start<T: Transport>(
        make: impl FnOnce() -> Result<T> + Send + 'static,
        link: Option<Link>,
    ) -> Result<(Courier, [usize; 2])> {
        let (jobs, posted) = channel::<Job>();
        let (tell, made) = channel();
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let counted = Arc::clone(&traffic);
        thread::spawn(move || {
            let transport = match make() {
                Ok(transport) => transport,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let place = [transport.rank(), transport.ranks().max(1)];
            let mut measured = Measured { transport: Ok(transport), place, link, traffic: counted };
            drop(tell.send(Ok(place)));
            for job in posted {
                match job {
                    Some(job) => job(&mut measured),
                    None => measured.transport = Err("they have left each other".into()),
                }
            }
        });
        let place = made.recv().unwrap_or_else(|_| Err(Error::config("ranks", "their thread has ended")))?;
        Ok((Courier { jobs, traffic }, place))
    }

    pub(super) fn post<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Transport) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (tell, outcome) = channel();
        // Where the thread or who waits is gone there is nobody to tell.
        let _ = self.jobs.send(Some(Box::new(move |transport| drop(tell.send(work(transport))))));
        Pending { outcome, traffic: Arc::clone(&self.traffic) }
    }

    /// Drops the transport behind all that was posted.
    pub(super) fn end(&self) -> Pending<()> {
        let _ = self.jobs.send(None);
        let (tell, outcome) = channel();
        let _ = self.jobs.send(Some(Box::new(move |_| drop(tell.send(Ok(()))))));
        Pending { outcome, traffic: Arc::clone(&self.traffic) }
    }

    pub(super) fn traffic(&self) -> Traffic {
        std::mem::take(&mut *lock(&self.traffic))
    }
}

/// A transport whose calls are counted, over a link. It is dropped where one fails, which the others notice: what came behind would be
/// taken for something else.
struct Measured<T> {
    transport: std::result::Result<T, String>,
    /// Its rank, and how many there are.
    place: [usize; 2],
    link: Option<Link>,
    traffic: Arc<Mutex<Traffic>>,
}

impl<T: Transport> Measured<T> {
    fn measure(&mut self, bytes: usize, call: impl FnOnce(&mut T) -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        if let Some(Link { latency, bandwidth }) = self.link {
            let seconds = latency + bytes as f64 / bandwidth;
            thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        }
        let outcome = match &mut self.transport {
            Ok(transport) => call(transport),
            Err(before) => return Err(Error::config("ranks", before.clone())),
        };
        if let Err(error) = &outcome {
            self.transport = Err(error.to_string());
        }
        let mut traffic = lock(&self.traffic);
        traffic.bytes += bytes as u64;
        traffic.calls += 1;
        traffic.seconds += begin.elapsed().as_secs_f64();
        outcome
    }

    fn others(&self) -> usize {
        self.place[1].saturating_sub(1)
    }
}

impl<T: Transport> Transport for Measured<T> {
    fn rank(&self) -> usize {
        self.place[0]
    }

    fn ranks(&self) -> usize {
        self.place[1]
    }

    fn all_to_all(&mut self, own: &[u8], received: &mut [u8]) -> Result<()> {
        let bytes = own.len() / self.place[1] * self.others();
        self.measure(bytes, |transport| transport.all_to_all(own, received))
    }

    fn all_gather(&mut self, own: &[u8], received: &mut [u8]) -> Result<()> {
        // Each part goes through each rank once.
        let bytes = own.len() * self.others();
        self.measure(bytes, |transport| transport.all_gather(own, received))
    }

    fn broadcast(&mut self, data: &mut [u8]) -> Result<()> {
        let bytes = if self.others() > 0 { data.len() } else { 0 };
        self.measure(bytes, |transport| transport.broadcast(data))
    }
}
