//! The clients of an echo in one process.

use super::{
    measured::Measured,
    mode::{Echo, Loop, State},
    payload::Kind,
};
use crate::{
    clock,
    load::{
        Deflate, DriverKind, Engine, FrameId, LoadDriver, Meter, Outcome, Settings, Time,
        processes::{Share, Worker},
    },
    progress::{Progress, Total},
    target::Target,
};
use quelea::driver::Wake;
use quelea_core::MessageKind;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// What a worker needs to know from the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) driver: DriverKind,
    pub(crate) connecting_max: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) fragments: usize,
    /// The bytes and the fragments of what [`Command::Exchange`] sends.
    pub(crate) exchange: Option<(usize, usize)>,
    pub(crate) raw: bool,
    pub(crate) deflate: Deflate,
    pub(crate) seed: u64,
    pub(crate) first_source: u64,
    /// Of how many processes it is the one that shows how far it is; 0 if it is not.
    pub(crate) shown_of: usize,
}

impl Plan {
    /// The same for each of some processes.
    pub(crate) fn share(&self, shares: &[Share]) -> Vec<Self> {
        let one = |(index, share): (usize, &Share)| Self {
            first_source: share.first_source,
            seed: self.seed.wrapping_add(index as u64),
            shown_of: if index == 0 { shares.len() } else { 0 },
            ..self.clone()
        };
        shares.iter().enumerate().map(one).collect()
    }
}

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Connects so many more.
    Connect(usize),
    /// Begins to send, and lets that go on for so long.
    Begin(Loop, Duration),
    /// Measures for so long.
    Measure(Duration),
    /// Sends no more, and waits for what is in flight: tells what was measured.
    End,
    /// Sends a message on so many connections, fragment by fragment, and waits until all came back.
    Exchange(usize),
    /// Fails if a connection has ended.
    Check,
    /// Closes all connections.
    Close,
}

/// How long after the last second what is in flight may take.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the server has for all closing handshakes.
const CLOSE: Duration = Duration::from_secs(5);

/// See the [module](self).
pub(crate) struct EchoWorker<D: LoadDriver> {
    pub(super) engine: Engine<D, State>,
    pub(super) echo: Echo,
    /// What is exchanged, in how many fragments.
    exchanged: Option<(FrameId, usize)>,
    measured: Option<Measured>,
    plan: Plan,
}

impl<D: LoadDriver> EchoWorker<D> {
    fn run(&mut self, phase: &'static str, length: Duration) -> Outcome {
        let end = self.engine.now() + length;
        let mut progress = self.progress(phase, "messages", length.into());
        self.engine.run(&mut self.echo, end, |echo, _| {
            if let Some(progress) = &mut progress {
                progress.set(clock::now(), echo.messages());
            }
            false
        })?;
        Ok(())
    }

    fn progress(&self, phase: &str, counted: &'static str, total: Total) -> Option<Progress> {
        let phase = match self.plan.shown_of {
            0 => return None,
            1 => phase.to_owned(),
            processes => format!("{phase} (the first of {processes} processes)"),
        };
        Some(Progress::new(phase, counted, total, clock::now()))
    }

    fn connect(&mut self, count: usize) -> Outcome {
        let mut progress = self.progress("connect", "connections", (count as u64).into());
        let before = self.engine.clients().open();
        self.engine.clients().connect(count);
        self.engine.run(&mut self.echo, Time::NEVER, |_, clients| {
            if let Some(progress) = &mut progress {
                progress.set(clock::now(), (clients.open() - before.min(clients.open())) as u64);
            }
            clients.connecting() == 0
        })?;
        Ok(())
    }

    fn measure(&mut self, length: Duration) -> Outcome {
        self.engine.clients().restart_stats();
        let begun = self.engine.now();
        self.echo.measure(begun);
        let meter = Meter::of_self()?;
        self.run("measure", length)?;
        let used = meter.stop()?;
        let length = Duration::from_nanos(self.engine.now().since(begun));
        let stats = self.engine.clients().stats().clone();
        self.measured = Some(Measured::new(&self.echo, stats, used, length));
        Ok(())
    }

    /// Waits until what is in flight came back, or nothing comes any more.
    fn drain(&mut self) -> Outcome {
        self.echo.stop(self.engine.clients());
        let end = self.engine.now() + DRAIN;
        self.engine.run(&mut self.echo, end, |echo, _| echo.in_flight == 0)?;
        Ok(())
    }

    fn exchange(&mut self, count: usize) -> Outcome {
        let (frame, fragments) = self.exchanged.ok_or("there is no message to exchange")?;
        for fragment in 0..fragments {
            let part = (fragment, fragments);
            self.echo.send_fragment(self.engine.clients(), count, frame, part)?;
            // All have sent it before the next one is.
            let end = self.engine.now() + DRAIN;
            self.engine
                .run(&mut self.echo, end, |echo, clients| echo.is_written(clients, count))?;
        }
        self.drain()?;
        match self.echo.in_flight {
            0 => Ok(()),
            missing => Err(format!("{missing} messages did not come back").into()),
        }
    }
}

impl<D: LoadDriver> Worker for EchoWorker<D> {
    const KIND: &'static str = D::ECHO_KIND;
    type Plan = Plan;
    type Command = Command;
    type Answer = Option<Measured>;

    fn new(plan: Plan) -> Outcome<Self> {
        let exchanged = plan.exchange.map(|(size, _)| size);
        let longest = plan.sizes.iter().copied().chain(exchanged).max().unwrap_or(0);
        let settings = Settings {
            message_bytes_max: longest,
            connecting_max: plan.connecting_max,
            first_source: plan.first_source,
            raw: plan.raw,
            deflate: plan.deflate.clone(),
            ..Settings::new(plan.target.clone(), plan.seed)
        };
        let mut engine = Engine::new(D::start()?, settings);
        let mut frames = Vec::new();
        for kind in &plan.kinds {
            for size in &plan.sizes {
                for payload in kind.payloads(*size, plan.seed) {
                    let clients = engine.clients();
                    frames.push(if plan.raw {
                        clients.prepare_raw(&payload)
                    } else {
                        clients.prepare(kind.message(), &payload, plan.fragments)
                    });
                }
            }
        }
        let exchanged = plan.exchange.map(|(size, fragments)| {
            let payload = Kind::Binary.payload(size, plan.seed);
            (engine.clients().prepare(MessageKind::Binary, &payload, 1), fragments)
        });
        Ok(Self { engine, echo: Echo::new(frames), exchanged, measured: None, plan })
    }

    fn obey(&mut self, command: Command) -> Outcome<Option<Measured>> {
        match command {
            Command::Connect(count) => self.connect(count)?,
            Command::Begin(looping, warm_up) => {
                let now = self.engine.now();
                self.echo.start(self.engine.clients(), looping, now);
                self.run("warm up", warm_up)?;
            }
            Command::Measure(length) => self.measure(length)?,
            Command::Check => match self.echo.lost {
                0 => {}
                lost => return Err(format!("{lost} connections ended").into()),
            },
            Command::Exchange(count) => self.exchange(count)?,
            Command::Close => {
                let end = self.engine.now() + CLOSE;
                self.echo.close(self.engine.clients(), self.plan.raw);
                self.engine.run(&mut self.echo, end, |_, clients| clients.open() == 0)?;
            }
            Command::End => {
                self.drain()?;
                let mut measured = self.measured.take().ok_or("nothing was measured")?;
                measured.end(&self.echo, self.engine.clients().stats());
                return Ok(Some(measured));
            }
        }
        Ok(None)
    }

    fn idle(&mut self, is_over: &mut dyn FnMut() -> bool) -> Outcome {
        self.engine.run(&mut self.echo, Time::NEVER, |_, _| is_over())?;
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.engine.waker()
    }
}
