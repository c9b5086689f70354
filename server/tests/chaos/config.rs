//! What the servers of the runs are told.

use super::ledger::overflow_of;
use quelea::Config;
use std::time::Duration;

/// A configuration in which limits bite now and then.
pub(crate) fn config(random: &mut fastrand::Rng, workers: usize) -> Config {
    let mut seconds =
        |from: u64, to: u64| Duration::from_millis(random.u64(from * 1000..to * 1000));
    let timeouts = Config {
        handshake_timeout: seconds(1, 10),
        close_timeout: seconds(1, 5),
        pong_timeout: seconds(1, 10),
        ..Config::default()
    };
    let ping_interval = Some(seconds(1, 20));
    let idle_timeout = Some(seconds(20, 60));
    let lifetime_max = Some(seconds(20, 90));
    let message_bytes_max = [512, 4 << 10, 64 << 10, 1 << 20][random.usize(0..4)];
    let outbox_bytes_max = [4 << 10, 64 << 10, 256 << 10, 4 << 20][random.usize(0..4)];
    let mut sometimes = |once_in: u32| random.u32(0..once_in) == 0;
    let high_water_bytes = sometimes(4).then_some(outbox_bytes_max);
    let low_water_bytes = sometimes(4).then_some(0);
    let connections_max = if sometimes(12) {
        1
    } else if sometimes(6) {
        5
    } else {
        1000
    };
    Config {
        workers: Some(workers),
        message_bytes_max,
        outbox_bytes_max,
        high_water_bytes,
        low_water_bytes,
        mailbox_bytes_max: message_bytes_max.max(if sometimes(2) { 1 << 10 } else { 16 << 20 }),
        ping_interval: ping_interval.filter(|_| !sometimes(5)),
        idle_timeout: idle_timeout.filter(|_| sometimes(5)),
        lifetime_max: lifetime_max.filter(|_| sometimes(5)),
        messages_per_second_max: Some(200).filter(|_| sometimes(5)),
        connections_max,
        connections_per_address_max: Some(2).filter(|_| sometimes(6)),
        handshakes_pending_max: if sometimes(8) { 1 } else { 1000 },
        handshakes_per_second_max: Some(2).filter(|_| sometimes(8)),
        subscriptions_max: if sometimes(6) { 2 } else { 100 },
        topic_overflow: vec![
            ("latest".into(), overflow_of("latest")),
            ("close".into(), overflow_of("close")),
        ],
        ..timeouts
    }
}
