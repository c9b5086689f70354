//! What the workers of a server share: their mailboxes, and what they count.

mod adoptions;

use crate::{
    admission::Admission,
    config::Config,
    driver::Wake,
    id::ConnId,
    mail::{Batch, Inbox, Mail},
    metrics::{self, Metrics, Report},
    parts::mailbox::Push,
    table::SendStatus,
};
use adoptions::Adoptions;
use quelea_core::frame::HEADER_BYTES_MAX;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// See the [module](self).
pub(crate) struct Hub {
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    wakers: Vec<Arc<dyn Wake>>,
    pub(crate) counters: Vec<Counters>,
    pub(crate) reports: Vec<Report>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) adoptions: Vec<Adoptions>,
    /// Which of the workers is next, where several have equally few connections.
    adopt_turn: AtomicUsize,
    /// Mail of handles that a mailbox had no room for.
    refused_mail: AtomicU64,
    /// A worker could not be woken, which was logged.
    has_wake_failed: AtomicBool,
    topic_bytes_max: usize,
    outbox_bytes_max: usize,
}

/// What one worker writes once a tick, and others read when they like. Each has a cache line of its
/// own, so that nobody waits for another's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) open: AtomicUsize,
    pub(crate) dropped_publishes: AtomicU64,
    pub(crate) refused_mail: AtomicU64,
    /// It keeps nothing for reuse, and moves little.
    pub(crate) is_quiet: AtomicBool,
}

/// What a server has, and has lost, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// WebSockets that are open or closing.
    pub connections: usize,
    /// Publishes that one subscriber did not get because it is too slow, once for each such
    /// subscriber, and those that were dropped as a whole. Those of
    /// [`Overflow::KeepLatest`](crate::Overflow::KeepLatest) do not count.
    pub dropped_publishes: u64,
    /// What was [dropped](SendStatus::Dropped) because the mailbox of a worker was full.
    pub refused_mail: u64,
}

impl Hub {
    pub(crate) fn new(config: &Config, wakers: Vec<Arc<dyn Wake>>) -> Self {
        let inbox = |_: &Arc<dyn Wake>| Arc::new(Inbox::new(config.mailbox_bytes_max));
        Self {
            inboxes: wakers.iter().map(inbox).collect(),
            counters: wakers.iter().map(|_| Counters::default()).collect(),
            adoptions: wakers.iter().map(|_| Adoptions::new(config.mailbox_bytes_max)).collect(),
            adopt_turn: AtomicUsize::new(0),
            reports: wakers.iter().map(|_| Report::default()).collect(),
            has_wake_failed: AtomicBool::new(false),
            wakers,
            admission: Arc::new(Admission::new(config)),
            refused_mail: AtomicU64::new(0),
            topic_bytes_max: config.topic_bytes_max,
            outbox_bytes_max: config.outbox_bytes_max,
        }
    }

    pub(crate) fn wake(&self, worker: usize) {
        if let Some(waker) = self.wakers.get(worker)
            && let Err(error) = waker.wake()
            && !self.has_wake_failed.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, worker, "a worker could not be woken");
        }
    }

    pub(crate) fn wake_all(&self) {
        (0..self.wakers.len()).for_each(|worker| self.wake(worker));
    }

    /// Takes nothing more for any worker, and drops what waits.
    pub(crate) fn close(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.close());
        self.adoptions.iter().for_each(Adoptions::close);
    }

    /// Sends mail to one worker or to all.
    pub(crate) fn post(&self, to: Option<ConnId>, mail: Mail<'_>) -> SendStatus {
        match mail {
            Mail::Publish { topic, .. } if !(1..=self.topic_bytes_max).contains(&topic.len()) => {
                return SendStatus::Invalid;
            }
            Mail::Close { code, .. } if !code.is_allowed_on_wire() => return SendStatus::Invalid,
            Mail::Publish { message, .. } | Mail::Send { message, .. }
                if HEADER_BYTES_MAX + message.len() > self.outbox_bytes_max =>
            {
                return SendStatus::Dropped;
            }
            _ => {}
        }
        let mut batch = Batch::default();
        batch.push(mail);
        let bytes = batch.bytes();
        let batch = Arc::new(batch);
        let mut status = SendStatus::Closed;
        for (worker, inbox) in self.inboxes.iter().enumerate() {
            if to.is_some_and(|to| usize::from(to.worker()) != worker) {
                continue;
            }
            let push = inbox.push(batch.clone(), bytes);
            if push == Push::First {
                self.wake(worker);
            }
            status = match (push, status) {
                (Push::Full, _) | (_, SendStatus::Dropped) => SendStatus::Dropped,
                (Push::Closed, status) => status,
                (Push::First | Push::Behind, _) => SendStatus::Queued,
            };
        }
        if status == SendStatus::Dropped {
            self.refused_mail.fetch_add(1, Ordering::Relaxed);
        }
        status
    }

    /// Asks all workers for what they counted, and waits for those that answer in time.
    pub(crate) fn metrics(&self, patience: Duration) -> Metrics {
        let questions: Vec<_> = self.reports.iter().map(Report::ask).collect();
        self.wake_all();
        let until = metrics::until(patience);
        let answers = self.reports.iter().zip(&questions).zip(&self.inboxes);
        let workers = answers.map(|((report, question), inbox)| {
            let mut answer = report.wait(question, until);
            if answer.unanswered.is_some() {
                let (batches, bytes) = inbox.depth();
                answer.metrics.mailbox_batches = batches as u64;
                answer.metrics.mailbox_bytes = bytes as u64;
            }
            answer
        });
        let workers = workers.collect();
        let handle_mail_dropped = self.refused_mail.load(Ordering::Relaxed);
        Metrics { workers, handle_mail_dropped }
    }

    /// Whether all workers serve.
    pub(crate) fn is_serving(&self) -> bool {
        self.reports.iter().all(Report::is_serving)
    }

    pub(crate) fn counts(&self) -> Counts {
        let start =
            Counts { refused_mail: self.refused_mail.load(Ordering::Relaxed), ..Counts::default() };
        self.counters.iter().fold(start, |sum, one| Counts {
            connections: sum.connections + one.open.load(Ordering::Relaxed),
            dropped_publishes: sum.dropped_publishes
                + one.dropped_publishes.load(Ordering::Relaxed),
            refused_mail: sum.refused_mail + one.refused_mail.load(Ordering::Relaxed),
        })
    }
}
