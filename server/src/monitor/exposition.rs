//! Metrics as OpenMetrics text: names, units and what each means in a line.

use crate::metrics::{By, Histogram, Label, Metrics, WorkerMetrics};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{fmt, time::Duration};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of all workers. Most are sums: with 256 workers, a series of each for everything would be
/// tens of thousands.
pub(super) fn encode(metrics: Metrics) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("quelea");
    registry.register_collector(Box::new(Exposition { total: metrics.total(), metrics }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposition {
    total: WorkerMetrics,
    metrics: Metrics,
}

/// A number that has no labels, or only that of its worker.
struct Scalar {
    name: &'static str,
    help: &'static str,
    is_in_bytes: bool,
    /// Whether each worker has its own.
    is_of_worker: bool,
    read: fn(&WorkerMetrics) -> u64,
}

const fn sum(name: &'static str, help: &'static str, read: fn(&WorkerMetrics) -> u64) -> Scalar {
    Scalar { name, help, is_in_bytes: false, is_of_worker: false, read }
}

impl Scalar {
    const fn in_bytes(self) -> Self {
        Self { is_in_bytes: true, ..self }
    }

    const fn of_worker(self) -> Self {
        Self { is_of_worker: true, ..self }
    }
}

const COUNTERS: &[Scalar] = &[
    sum("ticks", "Times a worker sent, waited and took what came.", |m| m.ticks).of_worker(),
    sum("messages_received", "Messages that handlers were called for.", |m| m.messages_received)
        .of_worker(),
    sum("messages_received", "Bytes of payload in messages that handlers were called for.", |m| {
        m.message_bytes_received
    })
    .in_bytes(),
    sum("messages_sent", "Messages that were accepted for a connection, without publishes.", |m| {
        m.messages_sent
    }),
    sum("messages_sent", "Bytes of payload in messages that were accepted.", |m| {
        m.message_bytes_sent
    })
    .in_bytes(),
    sum("messages_dropped", "Messages to one connection that found no room.", |m| {
        m.messages_dropped
    }),
    sum("pings_received", "Pings that handlers were called for.", |m| m.pings_received),
    sum("pongs_received", "Pongs that handlers were called for.", |m| m.pongs_received),
    sum("pings_sent", "Pings that were accepted to be sent, heartbeats included.", |m| {
        m.pings_sent
    }),
    sum("receives", "Times bytes were received.", |m| m.receives),
    sum("received", "All bytes that were received.", |m| m.bytes_received).in_bytes(),
    sum("sent", "All bytes that the system took.", |m| m.bytes_sent).in_bytes(),
    sum("publishes", "Publishes by connections that were accepted.", |m| m.publishes),
    sum("publishes_dropped", "Publishes by connections that nobody gets.", |m| m.publishes_dropped),
    sum("publishes_mailed", "Publishes a worker had from other workers and handles.", |m| {
        m.publishes_mailed
    }),
    sum("deliveries", "Published messages, once for each subscriber that was given one.", |m| {
        m.deliveries
    }),
    sum("connections_accepted", "Connections that came.", |m| m.accepted),
    sum("connections_unopened", "Connections that ended, not refused and never WebSockets.", |m| {
        m.unopened
    }),
    sum("connections_opened", "Connections that became WebSockets.", |m| m.opened),
    sum("accept_failures", "Times accepting failed for want of descriptors or memory.", |m| {
        m.accept_failures
    }),
    sum("requests", "Plain HTTP requests that handlers were called for.", |m| m.requests),
];

const GAUGES: &[Scalar] = &[
    sum("connections_backlogged", "Connections not read from, as too much waits for them.", |m| {
        m.backlogged
    }),
    sum("queued", "Bytes that wait for peers to take them.", |m| m.queued_bytes).in_bytes(),
    sum("sockets", "Sockets of connections that the system has not closed yet.", |m| m.sockets)
        .of_worker(),
    sum("held", "Bytes that were received of connections before they were paused.", |m| {
        m.held_bytes
    })
    .in_bytes(),
    sum("receive_buffers_lost", "Receive buffers that nobody has: not 0 is a fault.", |m| {
        m.receive_buffers_lost
    }),
    sum("mailbox_batches", "Batches of mail that wait for a worker.", |m| m.mailbox_batches)
        .of_worker(),
    sum("mailbox", "Bytes of mail that wait for a worker.", |m| m.mailbox_bytes)
        .in_bytes()
        .of_worker(),
];

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { total, metrics } = self;
        let encoder = &mut encoder;
        for scalar in COUNTERS {
            self.encode_scalar(encoder, scalar, MetricType::Counter)?;
        }
        let help = "What handles sent and published that found a mailbox full.";
        let counter = MetricType::Counter;
        let family = encoder.encode_descriptor("handle_mail_dropped", help, None, counter)?;
        ConstCounter::new(metrics.handle_mail_dropped).encode(family)?;
        let help =
            "Published messages that a slow subscriber missed, by the policy of their topic.";
        encode_by(encoder, "deliveries_dropped", help, "policy", &total.drops)?;
        let help = "Connections that were refused, by reason.";
        encode_by(encoder, "connections_refused", help, "reason", &total.refused)?;
        let help = "WebSockets that ended, by local cause.";
        encode_by(encoder, "connections_closed", help, "cause", &total.closed_by_cause)?;
        let help = "WebSockets that ended, by close code.";
        encode_by(encoder, "connections_closed_by_code", help, "code", &total.closed_by_code)?;
        let help = "What peers broke RFC 6455 or a limit by.";
        encode_by(encoder, "violations", help, "violation", &total.violations)?;
        let help = "Times that a limit was reached.";
        encode_by(encoder, "limits_reached", help, "limit", &total.limits)?;
        for scalar in GAUGES {
            self.encode_scalar(encoder, scalar, MetricType::Gauge)?;
        }
        self.encode_states(encoder)?;
        self.encode_unanswered(encoder)?;
        let help = "Time to handle what came in a tick, of every sixteenth.";
        encode_histogram(encoder, "tick_duration", help, &total.tick_duration)?;
        let help = "How late deadlines were handled.";
        encode_histogram(encoder, "timer_lag", help, &total.timer_lag)?;
        let help = "Round trips of heartbeats.";
        encode_histogram(encoder, "round_trip", help, &total.round_trip)
    }
}

impl Exposition {
    fn encode_scalar(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        scalar: &Scalar,
        kind: MetricType,
    ) -> fmt::Result {
        let unit = scalar.is_in_bytes.then_some(&Unit::Bytes);
        let mut family = encoder.encode_descriptor(scalar.name, scalar.help, unit, kind)?;
        if !scalar.is_of_worker {
            return encode_value(family, kind, (scalar.read)(&self.total));
        }
        for (worker, report) in self.metrics.workers.iter().enumerate() {
            let labels = [("worker", worker.to_string())];
            let value = (scalar.read)(&report.metrics);
            encode_value(family.encode_family(&labels)?, kind, value)?;
        }
        Ok(())
    }

    fn encode_states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connections now, by state.";
        let mut family = encoder.encode_descriptor("connections", help, None, MetricType::Gauge)?;
        for (worker, report) in self.metrics.workers.iter().enumerate() {
            let worker = worker.to_string();
            for (state, count) in report.metrics.connections.iter() {
                let labels = [("worker", worker.as_str()), ("state", state.as_str())];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_unanswered(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long a worker has not answered; 0 if it does.";
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Gauge);
        let mut family = encoder.encode_descriptor("worker_unanswered", help, unit, kind)?;
        for (worker, report) in self.metrics.workers.iter().enumerate() {
            let time = report.unanswered.unwrap_or_default().as_secs_f64();
            let labels = [("worker", worker.to_string())];
            ConstGauge::new(time).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn encode_value(encoder: MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(value).encode(encoder),
    }
}

fn encode_by<L: Label>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    label_name: &'static str,
    counts: &By<L>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (label, count) in counts.iter() {
        let labels = [(label_name, label.as_str())];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    histogram: &Histogram,
) -> fmt::Result {
    let seconds =
        |bound: Option<Duration>| bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
    let buckets: Vec<_> =
        histogram.buckets().map(|(bound, count)| (seconds(bound), count)).collect();
    let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
    encoder
        .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
