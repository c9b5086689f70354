//! What came of an echo, of one process or of several.

use super::mode::Echo;
use crate::{
    load::{CORE_MAX, Outcome, Recorder, Stats, Used, judge},
    report::{Report, Unit},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// How long it was measured.
    pub(crate) length: Duration,
    /// Came back in that time.
    pub(crate) messages: u64,
    pub(super) goodput: u64,
    pub(crate) recorder: Recorder,
    stats: Stats,
    /// Of each process.
    generator: Vec<Used>,
    /// Sent by the clock, and of these, held up by the generator.
    sent: u64,
    late: u64,
    /// Due when it was over, but never sent, since the server took no more.
    unsent: u64,
    /// Connections that ended.
    pub(crate) lost: u64,
    /// Messages that never came back.
    pub(crate) missing: u64,
}

/// The part of messages that a generator may send late.
const LATE_MAX: f64 = 0.01;
/// The part of messages that may still wait to be sent at the end.
const UNSENT_MAX: f64 = 0.01;

impl Measured {
    pub(super) fn new(echo: &Echo, stats: Stats, used: Used, length: Duration) -> Self {
        Self {
            length,
            messages: echo.recorder.messages(),
            goodput: echo.goodput,
            recorder: echo.recorder.clone(),
            stats,
            generator: vec![used],
            sent: echo.sent,
            late: echo.late,
            unsent: 0,
            lost: 0,
            missing: 0,
        }
    }

    /// What was not known before all had time to come back.
    pub(super) fn end(&mut self, echo: &Echo, stats: &Stats) {
        if echo.is_open_loop() {
            // What a stall at the end held up counts as well.
            self.recorder = echo.recorder.clone();
        }
        self.stats.closes = stats.closes.clone();
        self.stats.errors = stats.errors.clone();
        (self.lost, self.missing, self.unsent) = (echo.lost, echo.in_flight, echo.unsent);
    }

    /// What all processes measured.
    pub(crate) fn sum(all: Vec<Self>) -> Outcome<Self> {
        let mut all = all.into_iter();
        let mut sum = all.next().ok_or("no process measured anything")?;
        for one in all {
            sum.length = sum.length.max(one.length);
            sum.messages += one.messages;
            sum.goodput += one.goodput;
            sum.recorder.merge(&one.recorder)?;
            sum.stats.merge(&one.stats)?;
            sum.generator.extend(one.generator);
            sum.sent += one.sent;
            sum.late += one.late;
            sum.unsent += one.unsent;
            sum.lost += one.lost;
            sum.missing += one.missing;
        }
        Ok(sum)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.length.as_secs_f64()
    }

    /// Which part of the messages the generator sent late.
    pub(super) fn late_share(&self) -> f64 {
        self.late as f64 / self.sent.max(1) as f64
    }

    /// Why the figures do not tell of the server alone: the generator was not up to it.
    pub(crate) fn generator_fault(&self, server: Option<&Used>) -> Option<String> {
        let late = self.late_share();
        if late > LATE_MAX {
            return Some(format!(
                "the generator lagged behind its schedule: it sent {:.1} % of the messages more than \
                 1 ms late",
                late * 100.0
            ));
        }
        judge(&self.generator, server)
    }

    /// Why the figures are not those of the load that was asked for.
    pub(crate) fn server_fault(&self) -> Option<String> {
        if self.lost > 0 {
            return Some(format!("{} connections ended before the run did", self.lost));
        }
        let missing = || format!("{} messages did not come back", self.missing);
        (self.missing > 0).then(missing)
    }

    /// Why latencies are too good: those that would be longest were never measured.
    fn rate_fault(&self) -> Option<String> {
        let unsent = self.unsent as f64 / (self.sent + self.unsent).max(1) as f64;
        (unsent > UNSENT_MAX).then(|| {
            format!(
                "the server did not keep up with the rate: {} messages were due and never sent, as it \
                 had as many in flight as --depth allows, so latencies are longer than they seem",
                self.unsent
            )
        })
    }

    /// Tells what compression was agreed on.
    pub(crate) fn report_deflate(&self, report: &mut Report) {
        self.stats.report_deflate(report);
    }

    /// Tells all of it.
    pub(crate) fn report(&self, server: Option<&Used>, report: &mut Report) {
        let seconds = self.length.as_secs_f64();
        let each = |cpu: Duration| cpu.as_nanos() as f64 / self.messages as f64;
        let own: Duration = self.generator.iter().map(|used| used.cpu).sum();
        let per_message = Unit::NanosecondsPerMessage;
        report
            .figure("messages", "messages", self.messages as f64, Unit::Count)
            .figure("messages_per_second", "throughput", self.per_second(), Unit::PerSecond)
            .figure("generator_cpu_ns_per_message", "generator CPU", each(own), per_message);
        if let Some(server) = server {
            report
                .figure("server_cpu_ns_per_message", "server CPU", each(server.cpu), per_message)
                .figure(
                    "messages_per_server_cpu_second",
                    "per server CPU",
                    self.messages as f64 / server.cpu.as_secs_f64(),
                    Unit::PerCpuSecond,
                )
                .figure("server_user_share", "of it in user", server.user_share(), Unit::Share)
                .figure("server_core_share", "server's core", server.of_core(), Unit::Share);
        }
        let busiest = self.generator.iter().map(Used::of_core).fold(0.0, f64::max);
        let rate = |bytes: u64| bytes as f64 / seconds;
        report
            .figure("generator_core_share", "generator's core", busiest, Unit::Share)
            .figure("goodput", "goodput", rate(self.goodput), Unit::BytesPerSecond)
            .figure("wire_sent", "sent", rate(self.stats.bytes_sent), Unit::BytesPerSecond)
            .figure(
                "wire_received",
                "received",
                rate(self.stats.bytes_received),
                Unit::BytesPerSecond,
            );
        let each = |bytes: u64| bytes as f64 / self.messages as f64;
        let (sent, received) = (each(self.stats.bytes_sent), each(self.stats.bytes_received));
        report.figure("wire_sent_per_message", "sent", sent, Unit::BytesPerMessage).figure(
            "wire_received_per_message",
            "received",
            received,
            Unit::BytesPerMessage,
        );
        self.recorder.report(self.length, report);
        self.stats.report(report);
        if server.is_none() && busiest > CORE_MAX {
            report.note(
                "the generator used its whole core: --server-pid tells if the server did, too",
            );
        }
    }

    /// Tells why the figures are not what was asked for, if they are not.
    pub(crate) fn judge(&self, server: Option<&Used>, report: &mut Report) {
        let faults = [self.generator_fault(server), self.server_fault(), self.rate_fault()];
        for fault in faults.into_iter().flatten() {
            report.invalid(fault);
        }
        if self.messages == 0 {
            report.invalid("no message came back in the time that was measured");
        }
    }
}
