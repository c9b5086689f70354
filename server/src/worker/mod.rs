//! One worker: a thread, its reactor, and the connections it owns.

mod connections;
mod http;
mod websocket;

use crate::{
    config::{Config, EXCESS_MAX},
    driver::{Completion, Driver, Listener, ListenerId},
    error::Result,
    handle::Handle,
    handler::{Cause, Handler},
    parts::slots::SlotId,
    table::{Ending, Stage},
};
use connections::Connections;
use std::time::{Duration, Instant};

/// Output of a tick beyond which it is sent before more completions are taken: larger, it would
/// fall out of the cache.
const TICK_OUTPUT_BYTES: usize = 1 << 20;
/// How long nothing has to come before memory that is kept for reuse is given back.
const QUIET: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(crate) struct Worker<H: Handler, D> {
    driver: D,
    connections: Connections<H>,
    handle: Handle,
    listeners: Vec<ListenerId>,
    connections_max: usize,
    close_timeout: Duration,
    accept_paused: bool,
    /// Set once the server stops: when to stop waiting for the peers.
    stop_at: Option<Instant>,
    /// Nothing came since memory was given back.
    trimmed: bool,
}

impl<H: Handler, D: Driver> Worker<H, D> {
    pub(crate) fn new(id: u8, handler: H, driver: D, config: &Config, handle: &Handle) -> Self {
        handle.add(driver.waker());
        let connections = Connections::new(id, handler, config, driver.now());
        Self {
            driver,
            connections,
            handle: handle.clone(),
            listeners: Vec::new(),
            connections_max: config.connections_max,
            close_timeout: config.close_timeout,
            accept_paused: false,
            stop_at: None,
            trimmed: true,
        }
    }

    pub(crate) fn listen(&mut self, listener: Listener) -> Result<()> {
        self.listeners.push(self.driver.listen(listener)?);
        Ok(())
    }

    /// Serves until the server is stopped and all connections are gone.
    pub(crate) fn run(mut self) -> Result<()> {
        if self.handle.is_stopped() {
            self.stop();
        }
        while !self.is_finished() {
            self.tick()?;
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.stop_at.is_some_and(|at| self.connections.table.len() == 0 || at <= self.driver.now())
    }

    /// Sends what the last tick wrote, waits, and handles what came.
    fn tick(&mut self) -> Result<()> {
        self.connections.table.settle();
        let until = self.wait_until();
        self.driver.wait(self.connections.table.sends(), until)?;
        self.connections.table.set_now(self.driver.now());
        self.finish_sends();
        let mut is_quiet = true;
        while let Some(completion) = self.driver.next() {
            is_quiet = false;
            let id = match completion {
                Completion::Received { id, bytes } => {
                    self.connections.handle_received(id, bytes);
                    id
                }
                Completion::ReceiveEnded { id, error } => {
                    self.connections.handle_receive_ended(id, error);
                    id
                }
                Completion::Writable { id } => {
                    self.connections.table.handle_writable(id);
                    id
                }
                Completion::Closed { id } => {
                    self.handle_closed(id);
                    continue;
                }
                Completion::Accepted { socket, peer } => {
                    let is_excess = self.connections.table.len() >= self.connections_max;
                    if let Some(id) = self.connections.accept(peer, is_excess)
                        && let Err(error) = self.driver.open(id, socket)
                    {
                        tracing::warn!(%error, "a connection could not be opened");
                        self.connections.table.remove(id);
                    }
                    self.limit_accept();
                    continue;
                }
                Completion::AcceptFailed { error } => {
                    tracing::warn!(%error, "accept failed; trying again in a moment");
                    continue;
                }
                Completion::Woken => {
                    if self.handle.is_stopped() {
                        self.stop();
                    }
                    continue;
                }
            };
            self.pace(id);
            if self.connections.table.output_bytes() > TICK_OUTPUT_BYTES {
                break;
            }
        }
        self.connections.handle_deadlines();
        self.give_back(is_quiet);
        Ok(())
    }

    fn finish_sends(&mut self) {
        while let Some((id, sent)) = self.driver.next_short() {
            self.connections.table.send_short(id, sent);
        }
        self.connections.table.finish_sends();
        while let Some(id) = self.connections.table.next_drained() {
            self.pace(id);
            self.connections.handle_drained(id);
        }
        while let Some((id, ending)) = self.connections.table.next_ending() {
            match ending {
                Ending::Linger => self.driver.shutdown(id),
                Ending::FinSent => {}
                Ending::Clean | Ending::Abort => self.driver.close(id),
            }
        }
    }

    /// Stops reading from a peer that does not read, until it does.
    fn pace(&mut self, id: SlotId) {
        match self.connections.table.next_pause(id) {
            Some(true) => self.driver.pause_receive(id),
            Some(false) => self.driver.resume_receive(id),
            None => {}
        }
    }

    fn handle_closed(&mut self, id: SlotId) {
        self.connections.remove(id);
        self.limit_accept();
    }

    /// Leaves new connections to the kernel's queue while even those to refuse are too many.
    fn limit_accept(&mut self) {
        let is_full = self.connections.table.len() >= self.connections_max + EXCESS_MAX;
        let pause = is_full || self.stop_at.is_some();
        if pause == self.accept_paused {
            return;
        }
        self.accept_paused = pause;
        for &listener in &self.listeners {
            if pause {
                self.driver.pause_accept(listener);
            } else {
                self.driver.resume_accept(listener);
            }
        }
    }

    fn stop(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        let now = self.driver.now();
        self.stop_at = Some(now + self.close_timeout);
        self.limit_accept();
        tracing::info!(connections = self.connections.table.len(), "stopping");
        for id in self.connections.table.ids() {
            match self.connections.table.stage(id) {
                Some(Stage::WebSocket(_)) => self.connections.table.shut_down(id),
                Some(Stage::Http(_)) => self.connections.table.end(id, Ending::Clean),
                _ => {}
            }
        }
    }

    fn wait_until(&self) -> Option<Instant> {
        if self.connections.table.has_work_after_sends() {
            return Some(self.driver.now());
        }
        let quiet = (!self.trimmed).then(|| self.driver.now() + QUIET);
        let deadline = self.connections.table.next_deadline();
        deadline.into_iter().chain(quiet).chain(self.stop_at).min()
    }

    fn give_back(&mut self, is_quiet: bool) {
        if is_quiet && !self.trimmed {
            self.connections.table.trim();
        }
        self.trimmed = is_quiet;
    }
}

impl<H: Handler, D> Drop for Worker<H, D> {
    /// Every open connection has its `on_close`, also when the worker ends before its peers do;
    /// but a handler that panics is not called again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for id in self.connections.table.ids() {
            if self.connections.table.is_websocket(id) {
                self.connections.close_abnormally(id, Cause::Shutdown);
            }
        }
    }
}
