//! Who runs when: workers, and what is to go wrong, in the order of the virtual clock.

use super::{ClientId, Simulation, TIME_MAX};
use crate::{
    driver::sim::{Event, Owner, Sleep},
    handler::Handler,
    sim::{ClientEvent, Fault},
};
use std::time::{Duration, Instant};

/// What a timer of the network stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Tick(u32),
    Reset(u32),
    Vanish(u32),
    Stall(u32),
    Resume(u32),
    Weather,
    DescriptorsAreBack(u32),
}

impl Timer {
    pub(super) const fn key(self) -> u64 {
        let (kind, number) = match self {
            Self::Tick(worker) => (0, worker),
            Self::Reset(client) => (1, client),
            Self::Vanish(client) => (2, client),
            Self::Stall(client) => (3, client),
            Self::Resume(client) => (4, client),
            Self::Weather => (5, 0),
            Self::DescriptorsAreBack(worker) => (6, worker),
        };
        kind << 32 | number as u64
    }

    const fn of(key: u64) -> Self {
        let number = key as u32;
        match key >> 32 {
            0 => Self::Tick(number),
            1 => Self::Reset(number),
            2 => Self::Vanish(number),
            3 => Self::Stall(number),
            4 => Self::Resume(number),
            5 => Self::Weather,
            _ => Self::DescriptorsAreBack(number),
        }
    }
}

impl<H: Handler> Simulation<H> {
    /// Lets time pass, at most 100 days, and all that happens in it happen.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.network.borrow().now() + time.min(TIME_MAX);
        self.notice_wakes();
        loop {
            let mut network = self.network.borrow_mut();
            if network.next_at().is_none_or(|at| at > end) {
                return network.pass_until(end);
            }
            let event = network.advance();
            drop(network);
            match event {
                Some(Event::Worker(worker)) => self.plan_soon(worker),
                Some(Event::Client(Owner::Client(client), _)) => self.read(ClientId(client)),
                Some(Event::Client(Owner::Crowd { is_open }, wire)) => {
                    self.read_crowd(wire, is_open);
                }
                Some(Event::Timer(key)) => self.handle_timer(Timer::of(key)),
                Some(Event::Other) | None => {}
            }
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Tick(worker) => {
                let now = self.network.borrow().now();
                let host = &mut self.hosts[worker as usize];
                // One that was planned again is not to run twice.
                if host.due.is_some_and(|due| due <= now) {
                    host.due = None;
                    self.tick(worker as usize);
                }
            }
            Timer::Reset(client) => self.strike(client, Fault::Resets, Self::reset),
            Timer::Vanish(client) => self.strike(client, Fault::HalfOpen, Self::vanish),
            Timer::Stall(client) => {
                self.strike(client, Fault::Stalls, Self::stall);
                let mut network = self.network.borrow_mut();
                if network.random().u32(0..4) > 0 {
                    let pause = Duration::from_micros(network.random().u64(0..20_000_000));
                    let at = network.now() + pause;
                    network.set_timer(at, Timer::Resume(client).key());
                }
            }
            Timer::Resume(client) => self.resume(ClientId(client)),
            Timer::Weather => self.change_weather(),
            Timer::DescriptorsAreBack(worker) => {
                self.set_out_of_descriptors(worker as usize, false);
            }
        }
    }

    /// Something happens to a client, if it is still there and faults still happen.
    fn strike(&mut self, client: u32, fault: Fault, then: impl FnOnce(&mut Self, ClientId)) {
        let id = ClientId(client);
        if self.is_over(id) || !self.network.borrow().faults().has(fault) {
            return;
        }
        let at = self.elapsed();
        then(self, id);
        self.clients[id.index()].tell(at, ClientEvent::Fault(fault));
    }

    fn change_weather(&mut self) {
        let mut network = self.network.borrow_mut();
        if network.happens(Fault::Descriptors, 8) {
            let worker = network.random().usize(0..self.hosts.len());
            network.set_out_of_descriptors(worker, true);
            let at = network.now() + Duration::from_millis(network.random().u64(1..2000));
            network.set_timer(at, Timer::DescriptorsAreBack(worker as u32).key());
        }
        if network.happens(Fault::ClockJumps, 20) {
            let jump = Duration::from_millis(1 << network.random().u32(0..22));
            let to = network.now() + jump;
            network.pass_until(to);
        }
        let at = network.now() + Duration::from_millis(network.random().u64(100..2000));
        network.set_timer(at, Timer::Weather.key());
    }

    fn tick(&mut self, index: usize) {
        let Some(worker) = &mut self.hosts[index].worker else { return };
        let result = worker.tick();
        if let Err(error) = &result {
            tracing::error!(%error, worker = index, "a simulated worker failed");
        }
        if result.is_err() || worker.is_finished() {
            self.hosts[index].worker = None;
        }
        let mut network = self.network.borrow_mut();
        let now = network.now();
        let next = match network.sleep(index) {
            Sleep::Awake => {
                let busy = match network.happens(Fault::Pauses, 400) {
                    true => Duration::from_micros(1 << network.random().u32(8..22)),
                    false => Duration::from_nanos(network.random().u64(1_000..50_000)),
                };
                self.hosts[index].busy_until = now + busy;
                Some(now + busy)
            }
            Sleep::Until(until) => until,
        };
        drop(network);
        if let Some(at) = next {
            self.plan(index, at);
        }
        self.notice_wakes();
    }

    fn notice_wakes(&mut self) {
        for worker in 0..self.hosts.len() {
            let is_woken = self.network.borrow().is_woken(worker);
            if is_woken {
                self.plan_soon(worker);
            }
        }
    }

    fn plan_soon(&mut self, worker: usize) {
        let mut network = self.network.borrow_mut();
        let at = network.now() + Duration::from_nanos(network.random().u64(500..5_000));
        drop(network);
        self.plan(worker, at);
    }

    /// Lets a worker run at a time, unless it does before.
    pub(super) fn plan(&mut self, worker: usize, at: Instant) {
        let host = &mut self.hosts[worker];
        let at = at.max(host.busy_until);
        if host.worker.is_some() && host.due.is_none_or(|due| at < due) {
            host.due = Some(at);
            self.network.borrow_mut().set_timer(at, Timer::Tick(worker as u32).key());
        }
    }
}
