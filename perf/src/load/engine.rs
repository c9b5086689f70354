//! The reactor of the generator: one thread, one driver.

use super::{
    ClientId, Clients, End, Mode, Outcome, Settings, Time, deflate, opening::Opening,
    receive::receive, sources::Sources, time::Clock,
};
use clap::ValueEnum;
use quelea::driver::{Completion, Driver, Poll, Wake};
use quelea_core::{Context, Limits};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, io, os::fd::OwnedFd, sync::Arc, time::Duration};

/// How the generator speaks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DriverKind {
    /// Readiness: epoll, and a system call for each receive and send.
    Poll,
    /// Completions: io_uring, and a system call for many of both (Linux 6.0).
    #[cfg(target_os = "linux")]
    Uring,
}

/// A driver that a generator can run on.
pub(crate) trait LoadDriver: Driver + Sized {
    /// What processes that echo by it are called among themselves.
    const ECHO_KIND: &'static str;

    /// One whose waits end to the microsecond.
    fn start() -> io::Result<Self>;
}

impl LoadDriver for Poll {
    const ECHO_KIND: &'static str = "echo by poll";

    fn start() -> io::Result<Self> {
        Self::precise()
    }
}

#[cfg(target_os = "linux")]
impl LoadDriver for quelea::driver::Uring {
    const ECHO_KIND: &'static str = "echo by uring";

    fn start() -> io::Result<Self> {
        Ok(Self::new(usize::MAX)?)
    }
}

/// Completions of a tick; then what was written leaves, so that the server has work meanwhile.
const COMPLETIONS_MAX: usize = 128;
/// Connections that begin in a tick: each takes tens of microseconds, and others have messages due.
const CONNECTS_MAX: usize = 16;
/// The longest wait, so that what ends a run is looked at.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Runs clients that do what a [`Mode`] says.
pub(crate) struct Engine<D: Driver, S> {
    driver: D,
    clock: Clock,
    settings: Settings,
    sources: Sources,
    clients: Clients<S>,
    /// When each has been waited for long enough, the earliest first: all waits are as long.
    deadlines: VecDeque<(Time, ClientId)>,
    next_ping: Time,
    ping_place: usize,
}

impl<D: Driver, S: Default> Engine<D, S> {
    pub(crate) fn new(driver: D, settings: Settings) -> Self {
        let mut random = fastrand::Rng::with_seed(settings.seed);
        let mut seed = [0; 32];
        random.fill(&mut seed);
        let limits = Limits { message_bytes_max: settings.message_bytes_max, ..Limits::default() };
        Self {
            driver,
            clock: Clock::start(),
            sources: Sources::new(settings.first_source, settings.abort_by_reset),
            clients: Clients::new(
                Context::new(limits, seed).with_deflate(deflate::settings()),
                random,
            ),
            deadlines: VecDeque::new(),
            next_ping: Time::default(),
            ping_place: 0,
            settings,
        }
    }

    pub(crate) const fn clients(&mut self) -> &mut Clients<S> {
        &mut self.clients
    }

    /// What lets another thread end a wait, after which [`Engine::run`] asks whether it is over.
    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        self.driver.waker()
    }

    /// The time by now.
    pub(crate) fn now(&self) -> Time {
        self.clock.read()
    }

    /// Runs until `end`, or until `is_over` says so, which is asked once a tick; whether it did.
    pub(crate) fn run<M: Mode<State = S>>(
        &mut self,
        mode: &mut M,
        end: Time,
        mut is_over: impl FnMut(&M, &Clients<S>) -> bool,
    ) -> Outcome<bool> {
        loop {
            if is_over(mode, &self.clients) {
                return Ok(true);
            }
            let now = self.clock.read();
            if now >= end {
                return Ok(false);
            }
            self.tick(mode, now, end)?;
        }
    }

    fn tick<M: Mode<State = S>>(&mut self, mode: &mut M, now: Time, end: Time) -> Outcome {
        self.clients.now = now;
        self.expire(now);
        let next = self.ping(now).min(end).min(mode.due(&mut self.clients)?);
        let next = if self.begin_connects(mode)? { now } else { next };
        let next = self.deadlines.front().map_or(next, |(deadline, _)| next.min(*deadline));
        self.flush(mode, now, next)?;
        self.complete(mode)
    }

    /// Sends what was written, and waits.
    fn flush<M: Mode<State = S>>(&mut self, mode: &mut M, now: Time, next: Time) -> Outcome {
        let Self { driver, clock, clients, .. } = self;
        // What ends has its completion at once.
        let until = if clients.doomed.is_empty() { next.min(now + WAIT_MAX) } else { now };
        for id in clients.output.owners() {
            if let Some(client) = clients.slots.get_mut(id.index()) {
                mode.on_sent(&mut client.state, now);
            }
        }
        let before = driver.bytes_sent();
        let Clients { slots, output, frames, .. } = &*clients;
        let sends = output.sends(frames, |id| slots.get(id.index()).map(|client| &client.queue));
        driver.wait(sends, clock.instant(until))?;
        clients.stats.bytes_sent += driver.bytes_sent() - before;
        while let Some((id, sent)) = driver.next_short() {
            let Clients { slots, output, .. } = &mut *clients;
            if let Some(client) = slots.get_mut(id.index()).filter(|client| client.id == id) {
                output.keep_rest(&mut client.queue, sent);
            }
        }
        let Clients { slots, output, .. } = &mut *clients;
        output.clear(|id| {
            if let Some(client) = slots.get_mut(id.index()) {
                client.queue.release();
            }
        });
        for (id, is_paused) in clients.pauses.drain(..) {
            if is_paused {
                driver.pause_receive(id);
            } else {
                driver.resume_receive(id);
            }
        }
        for id in clients.doomed.drain(..) {
            driver.close(id);
        }
        Ok(())
    }

    fn complete<M: Mode<State = S>>(&mut self, mode: &mut M) -> Outcome {
        let Self { driver, clock, settings, clients, deadlines, .. } = self;
        for _ in 0..COMPLETIONS_MAX {
            match driver.next() {
                Some(Completion::Received { id, bytes, .. }) => {
                    clients.now = clock.read();
                    receive(clients, mode, settings, id, bytes)?;
                }
                Some(Completion::Writable { id }) => {
                    let now = clock.read();
                    let Clients { slots, output, stats, .. } = &mut *clients;
                    if let Some(client) = slots.get_mut(id.index()).filter(|client| client.id == id)
                    {
                        if let Some(opening) = client.opening.as_deref_mut() {
                            opening.connect_at(now, stats);
                        }
                        output.unblock(id, &mut client.queue);
                    }
                }
                Some(Completion::ReceiveEnded { id, error }) => {
                    clients.now = clock.read();
                    if let Some(end) = clients.client(id).map(|client| client.end_by(error)) {
                        clients.doom(id, end);
                    }
                }
                Some(Completion::Closed { id }) => remove(clients, mode, id)?,
                Some(
                    Completion::Accepted { .. }
                    | Completion::AcceptFailed { .. }
                    | Completion::Woken,
                ) => {}
                None => break,
            }
            if clients.output.is_full() {
                break;
            }
        }
        for id in std::mem::take(&mut clients.closing) {
            let now = clients.now;
            if let Some(client) = clients.client(id).filter(|client| client.closing.is_none()) {
                client.closing = Some(now);
                deadlines.push_back((now + settings.patience, id));
            }
        }
        Ok(())
    }

    /// Connects as many as may be on their way, some of them in this tick; whether there is a reason not
    /// to wait: one failed at once, or more may connect.
    fn begin_connects<M: Mode<State = S>>(&mut self, mode: &mut M) -> Outcome<bool> {
        let mut has_failed = false;
        let mut begun = 0;
        while self.clients.wanted > 0 && self.clients.opening < self.settings.connecting_max {
            if begun == CONNECTS_MAX {
                return Ok(true);
            }
            begun += 1;
            self.clients.wanted -= 1;
            let mut nonce = [0; 16];
            self.clients.random().fill(&mut nonce);
            let now = self.clock.read();
            let mut state = S::default();
            let path = mode.on_begin(&mut state, now);
            let id = self.clients.insert(Opening::new(nonce, now), state);
            self.deadlines.push_back((now + self.settings.patience, id));
            match self.begin_connect(id, path.as_deref()) {
                Ok(()) if self.settings.raw => {
                    self.clients.now = now;
                    self.clients.set_open(id);
                    mode.on_open(&mut self.clients, id)?;
                }
                Ok(()) => {}
                Err(end) => {
                    has_failed = true;
                    if let Some(client) = self.clients.client(id) {
                        client.end = Some(Box::new(end));
                    }
                    remove(&mut self.clients, mode, id)?;
                }
            }
        }
        Ok(has_failed)
    }

    /// Fails only as long as the driver does not know the client.
    fn begin_connect(&mut self, id: ClientId, path: Option<&str>) -> Result<(), End> {
        let Self { driver, clock, settings, sources, clients, .. } = self;
        let connecting = sources.connect(settings.target.address).map_err(End::Connect)?;
        let Clients { slots, output, frames, stats, .. } = clients;
        let Some(client) = slots.get_mut(id.index()) else { return Ok(()) };
        let Some(opening) = client.opening.as_deref_mut() else { return Ok(()) };
        if connecting.is_connected {
            opening.connect_at(clock.read(), stats);
        }
        let socket = driver.adopt(OwnedFd::from(connecting.socket)).map_err(End::Connect)?;
        driver.open(id, socket).map_err(End::Connect)?;
        if settings.raw {
            return Ok(());
        }
        // A socket that is not connected yet takes nothing: when there is room, it is.
        let path = path.unwrap_or(&settings.target.path);
        let out = output.buffer(id, &mut client.queue, frames);
        if let Err(end) = opening.write_request(settings, path, out) {
            clients.doom(id, end);
        }
        Ok(())
    }

    /// Ends those that were waited for long enough.
    fn expire(&mut self, now: Time) {
        while let Some((_, id)) = self.deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_front();
            let Some(client) = self.clients.client(id) else { continue };
            let is_due = |since: Time| since + self.settings.patience <= now;
            let end = match (&client.opening, client.closing) {
                (Some(opening), _) if opening.connected.is_none() => End::ConnectTimeout,
                (Some(_), _) => End::UpgradeTimeout,
                (None, Some(since)) if is_due(since) => End::CloseTimeout,
                _ => continue,
            };
            self.clients.doom(id, end);
        }
    }

    /// Pings one if it is time; when the next one is due.
    fn ping(&mut self, now: Time) -> Time {
        let Some(every) = self.settings.ping_every.filter(|_| !self.settings.raw) else {
            return Time::NEVER;
        };
        if now >= self.next_ping {
            self.next_ping = now + every;
            if let Some(id) = self.clients.next_open(&mut self.ping_place) {
                self.clients.ping(id, &now.nanos().to_be_bytes());
            }
        }
        self.next_ping
    }
}

/// Forgets a client that the driver has closed.
fn remove<M: Mode>(clients: &mut Clients<M::State>, mode: &mut M, id: ClientId) -> Outcome {
    let Some(client) = clients.client(id) else { return Ok(()) };
    let end = client.end.take().map_or(End::Lost, |end| *end);
    let client = clients.slots.remove(id.index());
    if client.opening.is_some() {
        clients.opening -= 1;
    } else {
        clients.open -= 1;
    }
    clients.stats.record_end(&end);
    mode.on_end(clients, id, client.state, &end)
}
