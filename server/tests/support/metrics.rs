//! Reading counts, which have to add up whenever they are read.
#![expect(clippy::disallowed_methods, reason = "waits for a time")]

use super::PATIENCE;
use quelea::{
    Handle,
    metrics::{CloseCause, ConnectionState, Limit, RefusalReason, WorkerMetrics},
};
use std::time::{Duration, Instant};

/// What all workers counted until now, which adds up for each of them.
pub(crate) fn counted(handle: &Handle) -> WorkerMetrics {
    while !handle.is_ready() && !handle.is_draining() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let metrics = handle.metrics(PATIENCE);
    for worker in &metrics.workers {
        assert_eq!(worker.unanswered, None);
        let WorkerMetrics { connections: now, closed_by_cause, .. } = &worker.metrics;
        let one = &worker.metrics;
        let handshaking = now[ConnectionState::Handshaking];
        assert_eq!(one.accepted, one.refused.total() + one.unopened + one.opened + handshaking);
        let open = now[ConnectionState::Open] + now[ConnectionState::Closing];
        assert_eq!(one.opened, closed_by_cause.total() + open);
        assert_eq!(closed_by_cause.total(), one.closed_by_code.total());
        let violations =
            closed_by_cause[CloseCause::ProtocolError] + closed_by_cause[CloseCause::Limit];
        assert_eq!(one.violations.total(), violations);
        for (limit, reason) in [
            (Limit::ConnectionsMax, RefusalReason::Full),
            (Limit::HandshakesPendingMax, RefusalReason::Pending),
            (Limit::ConnectionsPerAddressMax, RefusalReason::Address),
            (Limit::HandshakesPerSecondMax, RefusalReason::Rate),
            (Limit::Excess, RefusalReason::Excess),
        ] {
            assert_eq!(one.limits[limit], one.refused[reason]);
        }
        assert_eq!(one.round_trip.count().min(one.pongs_received), one.round_trip.count());
    }
    metrics.total()
}

/// The counts once they are as expected, which they have to be soon.
pub(crate) fn once(handle: &Handle, is_expected: impl Fn(&WorkerMetrics) -> bool) -> WorkerMetrics {
    let start = Instant::now();
    loop {
        let metrics = counted(handle);
        if is_expected(&metrics) {
            return metrics;
        }
        assert!(start.elapsed() < PATIENCE, "{metrics:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
