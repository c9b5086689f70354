//! What a server counts, and what each count means exactly.
//!
//! Each worker counts by plain additions to numbers of its own. [`Handle::metrics`] asks all workers for
//! theirs. The feature `metrics` adds a listener that answers Prometheus and health checks.
//!
//! These hold for each worker, whenever it is asked, unless its handler has panicked. (One that ever had more
//! than 65,536 connections at once looks at what it has now over several ticks, and then the first two may
//! be off by what happened in them.)
//!
//! - `accepted = refused.total() + unopened + opened + connections[Handshaking]`
//! - `opened = closed_by_cause.total() + connections[Open] + connections[Closing]`
//! - `closed_by_cause.total() = closed_by_code.total()`
//! - `closed_by_cause[ProtocolError] + closed_by_cause[Limit] = violations.total()`
//! - `limits` counts what was refused at a limit as `refused` does, reason by reason
//! - `messages_received`, `messages_sent` and `deliveries` are what the peers sent and received, once all
//!   was read, and `deliveries + drops.total()` is what was published for subscribers that stay
//!
//! [`Handle::metrics`]: crate::Handle::metrics

mod histogram;
mod label;
mod report;

use crate::config::Overflow;
use quelea_core::{CloseCode, Violation};
use std::{ops::AddAssign, time::Duration};

pub use histogram::Histogram;
pub use label::{By, CloseCause, ConnectionState, Label, Limit, RefusalReason};
pub(crate) use report::{Report, until};

macro_rules! summed {
    (
        $(#[$doc:meta])+
        pub struct $name:ident { $($(#[$field_doc:meta])+ pub $field:ident: $type:ty,)+ }
    ) => {
        $(#[$doc])+
        pub struct $name { $($(#[$field_doc])+ pub $field: $type,)+ }

        impl AddAssign<&Self> for $name {
            fn add_assign(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

summed! {
    /// What one worker counted since its start, and what it has now.
    ///
    /// All bytes of messages are those of payloads, without headers.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[non_exhaustive]
    // The first eight are written for nearly every message: they share a cache line.
    #[repr(C, align(64))]
    pub struct WorkerMetrics {
        /// Times that bytes were received, from connections in any state.
        pub receives: u64,
        /// All bytes that were received: heads, headers, and what nobody wanted any more.
        pub bytes_received: u64,
        /// Whole messages that [`Handler::on_message`](crate::Handler::on_message) was called for.
        pub messages_received: u64,
        /// Their payload.
        pub message_bytes_received: u64,
        /// Messages that were accepted for a connection of this worker, whoever sent them; not
        /// what was published.
        pub messages_sent: u64,
        /// Their payload.
        pub message_bytes_sent: u64,
        /// Published messages that a subscriber of this worker was given to send: one that is sent to
        /// a thousand subscribers counts a thousand times.
        pub deliveries: u64,
        /// Times that the worker sent, waited, and took what came.
        pub ticks: u64,

        /// All bytes that the system took.
        pub bytes_sent: u64,
        /// Messages to a connection of this worker that were dropped, because
        /// [`Config::outbox_bytes_max`](crate::Config::outbox_bytes_max) was reached; and those from here
        /// to connections of other workers because
        /// [`Config::mailbox_bytes_max`](crate::Config::mailbox_bytes_max) was.
        pub messages_dropped: u64,
        /// Pings that [`Handler::on_ping`](crate::Handler::on_ping) was called for.
        pub pings_received: u64,
        /// Pongs that [`Handler::on_pong`](crate::Handler::on_pong) or
        /// [`Handler::on_round_trip`](crate::Handler::on_round_trip) was called for.
        pub pongs_received: u64,
        /// Pings that were accepted to be sent, by handlers and as heartbeats.
        pub pings_sent: u64,

        /// Publishes by connections of this worker that were accepted.
        pub publishes: u64,
        /// Publishes by connections of this worker that were dropped as a whole: nobody gets them.
        pub publishes_dropped: u64,
        /// Publishes that came from other workers and from handles. One of a handle counts
        /// once in each worker.
        pub publishes_mailed: u64,
        /// Published messages that one subscriber did not get because it was too slow, by the policy of
        /// their topic. With [`Overflow::KeepLatest`] those count that a later one took the place of. One
        /// whose connection ends has what it was not given yet counted nowhere.
        pub drops: By<Overflow>,

        /// Connections that came.
        pub accepted: u64,
        /// Times that accepting failed for want of descriptors or memory.
        pub accept_failures: u64,
        /// Connections that were refused, each once. What [`Handle::adopt`](crate::Handle::adopt)
        /// gives back never came: who called it is told, and it is counted nowhere.
        pub refused: By<RefusalReason>,
        /// Connections that ended and were neither refused nor WebSockets: they left, asked
        /// nothing in time, or only made plain requests.
        pub unopened: u64,
        /// Connections that became WebSockets.
        pub opened: u64,
        /// Plain requests that [`Handler::on_request`](crate::Handler::on_request) was called for.
        pub requests: u64,
        /// WebSockets that ended, by the cause that
        /// [`Handler::on_close`](crate::Handler::on_close) was told.
        pub closed_by_cause: By<CloseCause>,
        /// The same by code. 3000 stands for 3000-3999, and 4000 for 4000-4999.
        pub closed_by_code: By<CloseCode>,
        /// What peers broke RFC 6455 or a limit by. Each ended its WebSocket.
        pub violations: By<Violation>,
        /// Limits that were reached.
        pub limits: By<Limit>,

        /// Connections now.
        pub connections: By<ConnectionState>,
        /// Connections now that are backlogged, and not read from until they are less so.
        pub backlogged: u64,
        /// Bytes now that wait for peers to take them, as in [`Conn::queued`](crate::Conn::queued).
        pub queued_bytes: u64,
        /// Sockets of connections now that the system has not closed yet; also of those that have left the
        /// counts above, or have not come to them yet.
        pub sockets: u64,
        /// Bytes now that were received of connections before these were paused, and are handled when they
        /// go on: with [`DriverKind::Uring`](crate::DriverKind::Uring), whose kernel receives ahead.
        pub held_bytes: u64,
        /// Receive buffers now that neither the system nor the worker has: if there are any, that is a
        /// fault of this library.
        pub receive_buffers_lost: u64,
        /// Batches of mail now that wait for the worker. What another worker sends in one
        /// tick is one, and so is each call of a handle.
        pub mailbox_batches: u64,
        /// Their bytes, as [`Config::mailbox_bytes_max`](crate::Config::mailbox_bytes_max) counts them.
        pub mailbox_bytes: u64,

        /// How long a tick took to handle what came, without the system calls that send; of every
        /// sixteenth tick, since that needs the clock.
        pub tick_duration: Histogram,
        /// How late deadlines were handled: those of the server, and timers of handlers. One is
        /// due at a tick of 8 ms. Late is what waited for other work.
        pub timer_lag: Histogram,
        /// The round trips that [`Handler::on_round_trip`](crate::Handler::on_round_trip) was told.
        pub round_trip: Histogram,
    }
}

/// What all workers of a server counted.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// By [`Worker::index`](crate::Worker::index); empty until the server runs.
    pub workers: Vec<WorkerReport>,
    /// What handles sent and published that was dropped because the mailbox of a worker was full.
    pub handle_mail_dropped: u64,
}

/// What one worker said when it was asked.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WorkerReport {
    /// What it counted. Of one that did not answer, when it last did; but what is in its mailbox is
    /// of now.
    pub metrics: WorkerMetrics,
    /// How long it has not answered; `None` if it did. It is in a call of its handler.
    pub unanswered: Option<Duration>,
}

impl Metrics {
    /// The sum of all workers.
    pub fn total(&self) -> WorkerMetrics {
        let mut total = WorkerMetrics::default();
        for worker in &self.workers {
            total += &worker.metrics;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_each_message_is_one_cache_line() {
        assert_eq!(align_of::<WorkerMetrics>(), 64);
        assert_eq!(std::mem::offset_of!(WorkerMetrics, receives), 0);
        assert_eq!(std::mem::offset_of!(WorkerMetrics, ticks), 56);
    }

    #[test]
    fn a_total_is_the_sum_of_every_field() {
        let mut metrics = WorkerMetrics { accepted: 1, queued_bytes: 2, ..Default::default() };
        metrics.refused[RefusalReason::Full] = 3;
        metrics.round_trip.record(Duration::from_millis(4));
        let worker = WorkerReport { metrics, unanswered: None };
        let total =
            Metrics { workers: vec![worker.clone(), worker], handle_mail_dropped: 0 }.total();
        assert_eq!((total.accepted, total.queued_bytes), (2, 4));
        assert_eq!(total.refused[RefusalReason::Full], 6);
        assert_eq!(total.round_trip.sum(), Duration::from_millis(8));
    }
}
