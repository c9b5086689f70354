//! The streams that wait to be adopted by a worker.

use super::Hub;
use crate::{
    adopt::{AdoptError, AdoptRefusal, Adoptable, Adoptee, Adoption},
    parts::mailbox::{Mailbox, Push},
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those of one worker. How many there may be in all is
/// [`Config::handshakes_pending_max`](crate::Config::handshakes_pending_max), as they count as not
/// open yet; what they may hold is bounded here.
#[derive(Debug)]
pub(crate) struct Adoptions {
    queue: Mailbox<Adoptee>,
    /// How many were handed over and are not counted as open yet.
    waiting: AtomicUsize,
}

impl Adoptions {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { queue: Mailbox::new(bytes_max), waiting: AtomicUsize::new(0) }
    }

    /// Moves all there are behind `adoptees`, oldest first; each has to be
    /// [settled](Self::settle).
    pub(crate) fn take(&self, adoptees: &mut Vec<Adoptee>) {
        if self.queue.is_filled() {
            self.queue.take(adoptees);
        }
    }

    /// So many are connections of the worker now, or are gone.
    pub(crate) fn settle(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Takes no more, and closes those that wait.
    pub(crate) fn close(&self) {
        self.queue.close();
    }
}

impl Hub {
    /// Hands a stream to the worker that has the fewest connections.
    pub(crate) fn adopt<S: Adoptable>(
        &self,
        stream: S,
        received: Vec<u8>,
        adoption: Option<Adoption>,
    ) -> Result<(), AdoptError<S>> {
        let admitted = match stream.prepare() {
            Ok(peer) => self.admission.enter(peer).map(|()| peer).map_err(AdoptRefusal::from),
            Err(error) => {
                tracing::debug!(%error, "a stream to adopt has no peer");
                Err(AdoptRefusal::NotConnected)
            }
        };
        let peer = match admitted {
            Ok(peer) => peer,
            Err(reason) => return Err(AdoptError::new(reason, stream, received, adoption)),
        };
        let worker = self.least_loaded();
        let adoptions = &self.adoptions[worker];
        let bytes = size_of::<Adoptee>() + received.len();
        let adoptee = Adoptee { socket: stream.into(), received, peer, adoption };
        adoptions.waiting.fetch_add(1, Ordering::Relaxed);
        match adoptions.queue.try_push(adoptee, bytes) {
            Ok(Push::First) => self.wake(worker),
            Ok(_) => {}
            Err((push, Adoptee { socket, received, adoption, .. })) => {
                adoptions.settle(1);
                self.admission.leave(false, self.admission.counted_address(peer));
                let reason = match push {
                    Push::Closed => AdoptRefusal::Stopped,
                    _ => AdoptRefusal::Busy,
                };
                return Err(AdoptError::new(reason, socket.into(), received, adoption));
            }
        }
        Ok(())
    }

    /// The worker with the fewest WebSockets, those included that wait for it; of several, each in its
    /// turn.
    fn least_loaded(&self) -> usize {
        let count = self.counters.len();
        let turn = self.adopt_turn.fetch_add(1, Ordering::Relaxed);
        let load = |worker: &usize| {
            self.counters[*worker].open.load(Ordering::Relaxed)
                + self.adoptions[*worker].waiting.load(Ordering::Relaxed)
        };
        (0..count).map(|at| turn.wrapping_add(at) % count).min_by_key(load).unwrap_or(0)
    }
}
