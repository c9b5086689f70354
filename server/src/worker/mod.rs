//! One worker: a thread, its reactor, and the connections it owns.

mod adopt;
mod connections;
mod drain;
mod http;
mod quiet;
mod refused;
#[cfg(feature = "sim")]
mod residue;
mod websocket;

use crate::{
    config::{Config, Overflow},
    driver::{Completion, Driver, Later, ListenerId},
    error::Result,
    handle::{Handle, Phase},
    handler::{Cause, Handler},
    hub::Hub,
    listen::SocketFile,
    mail::Batch,
    metrics::{By, Limit, Report, WorkerMetrics},
    parts::{
        heap,
        mutant::{Mutant, is_planted},
        slots::SlotId,
    },
    table::{Closing, Ending, Stage, Walk},
};
use adopt::Adoptions;
use connections::Connections;
use drain::Draining;
use quiet::Quiet;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Output of a tick beyond which it is sent before more completions are taken: larger, it would
/// fall out of the cache.
const TICK_OUTPUT_BYTES: usize = 1 << 20;
/// Ticks in a row that may leave deadlines for later, because what came from the peers meanwhile is
/// not all read: reading all takes that many ticks with 65,536 connections.
const LATE_TICKS_MAX: u32 = 64;
/// How often in a row more is sent to those that take all at once: so often that a tick can send one peer as
/// much as it can write for it, or else it would fall behind for no fault of its own.
const SENDS_MAX: u32 = 64;
/// How long to wait before trying again to hand mail to a worker whose mailbox is full.
const MAIL_RETRY: Duration = Duration::from_millis(1);

/// The tick of so many whose duration is taken: to read the clock would cost a small one about a
/// hundredth of its time.
const TICKS_PER_SAMPLE: u64 = 16;
/// Slots that are looked at in one tick for who asks for metrics: 0.2 ms.
const SLOTS_PER_TICK: usize = 1 << 16;

/// A worker among the others of its server.
pub(crate) struct Member {
    pub(crate) id: u8,
    pub(crate) hub: Arc<Hub>,
    pub(crate) handle: Handle,
}

/// See the [module](self).
pub(crate) struct Worker<H: Handler, D: Driver> {
    /// Removed before the listeners of the driver are closed: then no file of a server that took
    /// their place is removed.
    files: Vec<SocketFile>,
    driver: D,
    connections: Connections<H>,
    member: Member,
    listeners: Vec<ListenerId>,
    close_timeout: Duration,
    tick_output_bytes: usize,
    /// The last phase that was taken note of.
    phase: Phase,
    /// The handle is at a later one.
    is_behind_handle: bool,
    /// Set once the server drains or stops: when to stop waiting for the peers.
    stop_at: Option<Instant>,
    draining: Option<Draining>,
    /// What others ask for, and how much of the first batch is done.
    mail: VecDeque<Arc<Batch>>,
    mail_done: usize,
    /// There is more in the mailbox: taken only once this is done, so that its bound holds.
    has_more_mail: bool,
    /// What is taken from the mailbox before it is put into `mail`.
    taken: Vec<Arc<Batch>>,
    adoptions: Adoptions,
    /// Ticks in a row that left deadlines for later.
    late_ticks: u32,
    quiet: Quiet,
    /// Somebody asked for metrics: what was looked at so far.
    walk: Option<Walk>,
}

impl<H: Handler, D: Driver> Worker<H, D> {
    pub(crate) fn new(member: Member, handler: H, driver: D, config: &Config) -> Self {
        Self {
            connections: Connections::new(&member, handler, config, driver.now()),
            member,
            listeners: Vec::new(),
            close_timeout: config.close_timeout,
            // What drains, completions, mail and deadlines each add to it, and what is received at
            // once, is to have room in one topic.
            tick_output_bytes: TICK_OUTPUT_BYTES.min(config.outbox_bytes_max / 8),
            phase: Phase::Serving,
            // Perhaps it was used before the server ran.
            is_behind_handle: true,
            stop_at: None,
            draining: None,
            mail: VecDeque::new(),
            mail_done: 0,
            has_more_mail: false,
            taken: Vec::new(),
            adoptions: Adoptions::default(),
            late_ticks: 0,
            quiet: Quiet::new(driver.now()),
            walk: None,
            files: Vec::new(),
            driver,
        }
    }

    pub(crate) fn listen(&mut self, listener: D::Listener) -> Result<()> {
        self.listeners.push(self.driver.listen(listener)?);
        Ok(())
    }

    /// Keeps files as long as the worker runs.
    pub(crate) fn keep(&mut self, files: Vec<SocketFile>) {
        self.files = files;
    }

    /// Serves until the server is drained or stopped and all connections are gone.
    pub(crate) fn run(mut self) -> Result<()> {
        if let Some(report) = self.member.hub.reports.get(usize::from(self.member.id)) {
            report.start();
        }
        loop {
            self.tick()?;
            if self.is_finished() {
                self.report_drained();
                return Ok(());
            }
        }
    }

    /// Whether nothing is left to wait for; to be asked after a tick. The one that learns of the end
    /// still accepts those that wait.
    pub(crate) fn is_finished(&mut self) -> bool {
        let table = &mut self.connections.table;
        let is_done =
            table.len() == 0 && !table.outgoing().is_held_up() && !self.adoptions.is_ready();
        self.stop_at.is_some_and(|at| is_done || at <= self.driver.now())
    }

    fn follow_handle(&mut self) {
        self.phase = self.member.handle.phase();
        match self.phase {
            Phase::Serving => {}
            Phase::Draining => self.begin_drain(),
            Phase::Stopping => self.stop(),
            Phase::Aborting => self.stop_at = Some(self.driver.now()),
        }
    }

    /// Does what the handle asks for, sends what the last tick wrote, waits, and handles what came.
    pub(crate) fn tick(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_behind_handle) {
            self.follow_handle();
        }
        self.send_and_wait()?;
        self.finish_sends();
        // What there was no room for in the last tick is first in this one: behind completions it
        // might never find any.
        self.handle_mail();
        let limit = self.output_limit();
        while self.connections.table.output_bytes() <= limit
            && let Some(completion) = self.driver.next()
        {
            let id = match completion {
                Completion::Received { id, bytes, direct } => {
                    self.quiet.add(bytes.len());
                    let mut rest = self.adoptions.take_rest_of(id);
                    if let Some(rest) = &mut rest {
                        self.connections.handle_received(id, rest.unread(), direct);
                    }
                    self.connections.handle_received(id, bytes, direct);
                    if let Some(rest) = rest {
                        if !self.connections.table.is_paused(id) {
                            self.driver.resume_receive(id);
                        }
                        if rest.is_late {
                            self.drain_late(id);
                        }
                    }
                    id
                }
                Completion::ReceiveEnded { id, error } => {
                    if let Some(mut rest) = self.adoptions.take_rest_of(id) {
                        self.connections.handle_received(id, rest.unread(), &mut Later);
                    }
                    self.connections.handle_receive_ended(id, error);
                    id
                }
                Completion::Writable { id } => {
                    self.connections.table.handle_writable(id);
                    id
                }
                Completion::Closed { id } => {
                    self.adoptions.take_rest_of(id);
                    self.connections.remove(id);
                    continue;
                }
                Completion::Accepted { socket, peer } => {
                    if self.phase < Phase::Stopping
                        && let Some(id) = self.connections.accept(peer)
                        && let Err(error) = self.driver.open(id, socket)
                    {
                        self.connections.handle_open_failed(id, &error);
                    }
                    continue;
                }
                Completion::AcceptFailed { error } => {
                    self.connections.handle_accept_failed(&error);
                    continue;
                }
                Completion::Woken => {
                    self.handle_woken();
                    continue;
                }
            };
            self.pace(id);
        }
        let is_cut_short = self.connections.table.output_bytes() > limit;
        let is_behind = is_cut_short || self.driver.is_behind();
        if self.mail.is_empty() {
            self.take_mail();
            self.handle_mail();
        }
        // A server that ends does so before it takes over more.
        if !self.is_behind_handle {
            self.handle_adoptions();
        }
        self.handle_deadlines(is_behind);
        self.drain_some()?;
        while let Some(id) = self.connections.table.next_touched() {
            self.pace(id);
        }
        self.quiet.add(self.connections.table.output_bytes());
        // What lies free between what is kept goes back to the system only if that is asked.
        self.quiet.add(self.connections.table.take_freed_bytes());
        match self.quiet.turn(self.driver.now()) {
            Some(true) => self.give_back(),
            Some(false) => self.connections.table.trim_unused(),
            None => {}
        }
        self.report();
        Ok(())
    }

    /// The output of this tick that ends the next part of it. Each part has as much of its own, so
    /// that none of them starves the others.
    fn output_limit(&self) -> usize {
        self.connections.table.output_bytes() + self.tick_output_bytes
    }

    fn send_and_wait(&mut self) -> Result<()> {
        let Self { connections, member, .. } = self;
        let hub = &member.hub;
        connections.table.outgoing().flush(&hub.inboxes, |worker| hub.wake(worker));
        let mut sends = 0;
        loop {
            let is_settled = self.connections.table.settle();
            let until = if is_settled { self.wait_until() } else { Some(self.driver.now()) };
            self.publish_counts();
            self.count_tick();
            self.driver.wait(self.connections.table.sends(), until)?;
            self.connections.table.set_now(self.driver.now());
            while let Some((id, sent)) = self.driver.next_short() {
                self.connections.table.send_short(id, sent);
            }
            self.connections.table.finish_sends();
            sends += u32::from(is_settled);
            if is_settled && (sends == SENDS_MAX || !self.connections.table.has_sends()) {
                return Ok(());
            }
        }
    }

    fn finish_sends(&mut self) {
        let limit = self.output_limit();
        while self.connections.table.output_bytes() <= limit
            && let Some(id) = self.connections.table.next_drained()
        {
            self.connections.handle_drained(id);
            self.pace(id);
        }
        while let Some((id, ending)) = self.connections.table.next_ending() {
            match ending {
                Ending::Linger => self.driver.shutdown(id),
                Ending::FinSent => {}
                Ending::Clean | Ending::Abort => self.driver.close(id),
            }
        }
    }

    /// Counts what happened since the last wait.
    fn count_tick(&mut self) {
        let metrics = &mut self.connections.table.metrics;
        metrics.ticks += 1;
        if metrics.ticks.is_multiple_of(TICKS_PER_SAMPLE) {
            let now = self.driver.read_clock();
            metrics.tick_duration.record(now.saturating_duration_since(self.driver.now()));
        }
    }

    fn handle_woken(&mut self) {
        self.is_behind_handle = self.member.handle.phase() > self.phase;
        self.has_more_mail = true;
        self.adoptions.has_more = true;
        let report = self.member.hub.reports.get(usize::from(self.member.id));
        if report.is_some_and(Report::is_asked) {
            self.walk.get_or_insert_default();
        }
    }

    /// Answers who asked for metrics, once all slots were looked at.
    fn report(&mut self) {
        let Some(mut walk) = self.walk.take() else { return };
        if !self.connections.table.walk(&mut walk, SLOTS_PER_TICK) {
            self.walk = Some(walk);
        } else if let Some(report) = self.member.hub.reports.get(usize::from(self.member.id)) {
            report.answer(self.metrics_with(&walk));
        }
    }

    /// All that was counted until now. It looks at each slot.
    pub(crate) fn metrics(&self) -> WorkerMetrics {
        let mut walk = Walk::default();
        self.connections.table.walk(&mut walk, usize::MAX);
        self.metrics_with(&walk)
    }

    fn metrics_with(&self, walk: &Walk) -> WorkerMetrics {
        let inbox = self.member.hub.inboxes.get(usize::from(self.member.id));
        let (batches, bytes) = inbox.map_or((0, 0), |inbox| inbox.depth());
        let holdings = self.driver.holdings();
        let taken: usize = self.mail.iter().map(|batch| batch.bytes()).sum();
        WorkerMetrics {
            bytes_sent: self.driver.bytes_sent(),
            connections: walk.connections,
            backlogged: walk.backlogged,
            queued_bytes: walk.queued_bytes,
            sockets: holdings.sockets as u64,
            held_bytes: holdings.held_bytes as u64,
            receive_buffers_lost: holdings.buffers_lost as u64,
            mailbox_batches: (batches + self.mail.len()) as u64,
            mailbox_bytes: (bytes + taken) as u64,
            ..self.connections.table.metrics.clone()
        }
    }

    /// Takes what came, also since the wait began: it goes out with this tick.
    fn take_mail(&mut self) {
        if let Some(inbox) = self.member.hub.inboxes.get(usize::from(self.member.id))
            && (std::mem::take(&mut self.has_more_mail) || inbox.is_filled())
        {
            inbox.take(&mut self.taken);
            if is_planted(Mutant::ShuffleMail) {
                self.taken.reverse();
            }
            self.mail.extend(self.taken.drain(..));
        }
    }

    fn handle_mail(&mut self) {
        let limit = self.output_limit();
        while let Some(batch) = self.mail.front() {
            let stopped = self.connections.handle_mail(batch, self.mail_done, limit);
            self.mail_done = stopped.unwrap_or(0);
            if stopped.is_some() {
                return;
            }
            self.mail.pop_front();
            if let Some(draining) = &mut self.draining {
                draining.mail_before = draining.mail_before.saturating_sub(1);
            }
        }
    }

    fn handle_deadlines(&mut self, is_behind: bool) {
        // What a peer sent in time may wait in the kernel.
        if is_behind && self.late_ticks < LATE_TICKS_MAX {
            self.late_ticks += 1;
            return;
        }
        self.late_ticks = 0;
        self.connections.handle_deadlines(self.output_limit());
    }

    fn publish_counts(&self) {
        let Some(counters) = self.member.hub.counters.get(usize::from(self.member.id)) else {
            return;
        };
        let table = &self.connections.table;
        // Plain stores: nobody else writes them.
        counters.open.store(self.connections.open, Ordering::Relaxed);
        let WorkerMetrics { publishes_dropped, drops, limits, .. } = &table.metrics;
        let dropped = publishes_dropped + drops[Overflow::Drop] + drops[Overflow::Close];
        counters.dropped_publishes.store(dropped, Ordering::Relaxed);
        counters.refused_mail.store(limits[Limit::MailboxBytesMax], Ordering::Relaxed);
        counters.is_quiet.store(self.quiet.is_trimmed(), Ordering::Relaxed);
    }

    /// Stops reading from a peer that does not read, until it does.
    #[inline]
    fn pace(&mut self, id: SlotId) {
        match self.connections.table.next_pause(id) {
            Some(true) => self.driver.pause_receive(id),
            // What was read before it was adopted comes first.
            Some(false) if self.adoptions.resume(id) => {}
            Some(false) => self.driver.resume_receive(id),
            None => {}
        }
    }

    fn stop(&mut self) {
        // A drain may end before that.
        let deadline = self.driver.now() + self.close_timeout;
        self.stop_at = Some(self.stop_at.map_or(deadline, |at| at.min(deadline)));
        for &listener in &self.listeners {
            self.driver.stop_accept(listener);
        }
        tracing::info!(connections = self.connections.table.len(), "stopping");
        for id in self.connections.table.ids() {
            match self.connections.table.stage(id) {
                Some(Stage::WebSocket(_)) => {
                    self.connections.table.shut_down(id, Closing::Shutdown);
                    self.pace(id);
                }
                Some(Stage::Http(_)) => self.connections.end_unopened(id, Ending::Clean),
                _ => {}
            }
        }
    }

    fn wait_until(&mut self) -> Option<Instant> {
        let now = self.driver.now();
        let is_finished = self.is_finished();
        let table = &mut self.connections.table;
        let has_more = !self.mail.is_empty() || self.has_more_mail || self.walk.is_some();
        let has_work = table.has_work_after_sends() || self.adoptions.is_ready();
        if is_finished || has_more || has_work {
            return Some(now);
        }
        let retry = table.outgoing().is_held_up().then(|| now + MAIL_RETRY);
        let deadline = table.next_deadline();
        let own = [deadline, self.quiet.next(), self.stop_at, self.next_drain(), retry];
        own.into_iter().flatten().min()
    }

    /// Gives back what is kept for reuse.
    fn give_back(&mut self) {
        self.connections.table.trim();
        self.mail.shrink_to_fit();
        self.taken.shrink_to_fit();
        self.adoptions.trim();
        self.driver.trim();
        // It holds up all threads that allocate: so the last worker to be quiet does it for all.
        self.publish_counts();
        if self.member.hub.counters.iter().all(|one| one.is_quiet.load(Ordering::Relaxed)) {
            heap::give_back();
        }
    }
}

impl<H: Handler, D: Driver> Drop for Worker<H, D> {
    /// Every open connection has its `on_close`, also when the worker ends before its peers do;
    /// but a handler that panics is not called again.
    fn drop(&mut self) {
        if let Some(inbox) = self.member.hub.inboxes.get(usize::from(self.member.id)) {
            inbox.close();
        }
        if let Some(adoptions) = self.member.hub.adoptions.get(usize::from(self.member.id)) {
            adoptions.close();
        }
        if let Some(counters) = self.member.hub.counters.get(usize::from(self.member.id)) {
            counters.open.store(0, Ordering::Relaxed);
        }
        self.files.clear();
        if !std::thread::panicking() {
            for id in self.connections.table.ids() {
                if self.connections.table.is_websocket(id) {
                    self.connections.close_abnormally(id, Cause::Shutdown);
                } else if self.connections.is_handshaking(id) {
                    self.connections.end_unopened(id, Ending::Abort);
                }
            }
        }
        if let Some(report) = self.member.hub.reports.get(usize::from(self.member.id)) {
            // What was counted stays; what it has now is about to be gone.
            report.end(WorkerMetrics {
                connections: By::default(),
                backlogged: 0,
                queued_bytes: 0,
                sockets: 0,
                held_bytes: 0,
                receive_buffers_lost: 0,
                mailbox_batches: 0,
                mailbox_bytes: 0,
                ..self.metrics()
            });
        }
    }
}
