//! What the clients of an echo do.

use super::in_flight::InFlight;
use crate::load::{ClientId, Clients, End, FrameId, Mode, Outcome, Recorder, Schedule, Time};
use quelea_core::Message;

/// How messages are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loop {
    /// So many in flight on each connection: the next when one comes back.
    Closed { depth: u32 },
    /// By the clock, so many a second in all.
    Open { per_second: f64 },
}

/// Later than this, a message of an open loop is counted as held up by the generator.
const LATE_NANOS: u64 = 1_000_000;
/// So many messages of one connection are in flight at most; what is due beyond that waits, and its
/// latency grows.
const IN_FLIGHT_MAX: u32 = 1024;
/// The same of all connections.
const IN_FLIGHT_SUM_MAX: usize = 4 << 20;

pub(super) struct Echo {
    frames: Vec<FrameId>,
    looping: Loop,
    ids: Vec<ClientId>,
    schedule: Option<Schedule>,
    /// The number of the message that is due next.
    due: u64,
    /// No more is sent.
    is_over: bool,
    in_flight_max: u32,
    pub(super) in_flight: u64,
    pub(super) recorder: Recorder,
    /// How many were sent by the clock, and how many of them the generator itself sent late.
    pub(super) sent: u64,
    pub(super) late: u64,
    pub(super) lost: u64,
}

#[derive(Default)]
pub(super) struct State {
    in_flight: InFlight,
    /// Which of the connections it is.
    number: u64,
    /// How many messages it has sent.
    sent: u64,
    /// It has as many in flight as it may: what is due waits for the server.
    held: bool,
}

impl Echo {
    pub(super) fn new(frames: Vec<FrameId>, looping: Loop) -> Self {
        let recorder = Recorder::new(Time::NEVER, matches!(looping, Loop::Open { .. }));
        Self {
            frames,
            looping,
            ids: Vec::new(),
            schedule: None,
            due: 0,
            is_over: false,
            in_flight_max: IN_FLIGHT_MAX,
            in_flight: 0,
            recorder,
            sent: 0,
            late: 0,
            lost: 0,
        }
    }

    /// Begins to send, on all connections that are open.
    pub(super) fn start(&mut self, clients: &mut Clients<State>, now: Time) -> Outcome {
        let each = IN_FLIGHT_SUM_MAX / self.ids.len().max(1);
        self.in_flight_max = (each as u32).clamp(16, IN_FLIGHT_MAX);
        match self.looping {
            Loop::Open { per_second } => {
                self.schedule = Some(Schedule::new(now, per_second));
                self.due = 0;
            }
            Loop::Closed { depth } => {
                for id in self.ids.clone() {
                    self.send(clients, id, depth);
                }
            }
        }
        Ok(())
    }

    /// Measures what is to be sent from now on.
    pub(super) fn measure(&mut self, now: Time) {
        self.recorder = Recorder::new(now, matches!(self.looping, Loop::Open { .. }));
        (self.sent, self.late) = (0, 0);
    }

    /// Sends no more.
    pub(super) const fn stop(&mut self) {
        self.is_over = true;
    }

    fn frame_of(&self, state: &State) -> FrameId {
        match &*self.frames {
            [frame] => *frame,
            frames => frames[((state.number + state.sent) % frames.len() as u64) as usize],
        }
    }

    /// Sends so many more.
    #[inline]
    fn send(&mut self, clients: &mut Clients<State>, id: ClientId, count: u32) {
        if let [frame] = *self.frames {
            self.send_frames(clients, id, frame, count, None);
            return;
        }
        for _ in 0..count {
            let Some(state) = clients.state(id) else { return };
            let frame = self.frame_of(state);
            self.send_frames(clients, id, frame, 1, None);
        }
    }

    #[inline]
    fn send_frames(
        &mut self,
        clients: &mut Clients<State>,
        id: ClientId,
        frame: FrameId,
        count: u32,
        intended: Option<Time>,
    ) {
        if !clients.send_prepared(id, frame, count) {
            return;
        }
        if let Some(state) = clients.state(id) {
            state.in_flight.push(frame, count, intended);
            state.sent += u64::from(count);
            self.in_flight += u64::from(count);
        }
    }

    /// Sends what of one connection is due by now: each has its share of the schedule.
    fn send_due(&mut self, clients: &mut Clients<State>, id: ClientId, now: Time) {
        let Some(schedule) = self.schedule else { return };
        let connections = self.ids.len() as u64;
        loop {
            let is_blocked = clients.is_blocked(id);
            let Some(state) = clients.state(id) else { return };
            let intended = schedule.at(state.number + state.sent * connections);
            if intended > now {
                state.held = false;
                return;
            }
            if is_blocked || state.in_flight.len() >= self.in_flight_max {
                state.held = true;
                return;
            }
            self.sent += 1;
            self.late += u64::from(!state.held && now.since(intended) > LATE_NANOS);
            let frame = self.frame_of(state);
            let before = self.in_flight;
            self.send_frames(clients, id, frame, 1, Some(intended));
            if self.in_flight == before {
                return;
            }
        }
    }

    /// Messages came back that were sent alike.
    #[inline]
    fn take(&mut self, clients: &mut Clients<State>, id: ClientId, count: u32) -> Outcome {
        let now = clients.now();
        let Some(state) = clients.state(id) else { return Ok(()) };
        let run = state.in_flight.pop(count).ok_or("more came back than was sent")?;
        let is_held = state.held;
        self.in_flight -= u64::from(run.count);
        self.recorder.record(now, run.intended(), run.sent(), run.count);
        if self.is_over {
            return Ok(());
        }
        match self.looping {
            Loop::Closed { .. } => self.send(clients, id, run.count),
            Loop::Open { .. } if is_held => self.send_due(clients, id, now),
            Loop::Open { .. } => {}
        }
        Ok(())
    }
}

impl Mode for Echo {
    type State = State;

    fn on_open(&mut self, clients: &mut Clients<State>, id: ClientId) -> Outcome {
        if let Some(state) = clients.state(id) {
            state.number = self.ids.len() as u64;
            self.ids.push(id);
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        clients: &mut Clients<State>,
        id: ClientId,
        message: Message<'_>,
    ) -> Outcome {
        let first = clients.state(id).and_then(|state| state.in_flight.first().copied());
        let run = first.ok_or("the server sent a message that nobody asked for")?;
        if clients.payload(run.frame) != (message.kind(), message.as_bytes()) {
            return Err("the server sent back something else: it does not echo".into());
        }
        self.take(clients, id, 1)
    }

    fn on_end(
        &mut self,
        clients: &mut Clients<State>,
        _id: ClientId,
        state: State,
        end: &End,
    ) -> Outcome {
        self.in_flight -= u64::from(state.in_flight.len());
        if self.is_over {
            return Ok(());
        }
        if !end.was_open() {
            let (open, wanted) = (clients.open(), clients.open() + clients.connecting() + 1);
            return Err(format!("{end} ({open} of {wanted} connections were open)").into());
        }
        self.lost += 1;
        if clients.open() == 0 { Err(end.to_string().into()) } else { Ok(()) }
    }

    fn due(&mut self, clients: &mut Clients<State>) -> Outcome<Time> {
        let Some(schedule) = self.schedule.filter(|_| !self.is_over) else {
            return Ok(Time::NEVER);
        };
        let now = clients.now();
        // Each connection sends all that is due of it at once: one turn is enough.
        let connections = self.ids.len() as u64;
        let mut turn = 0;
        loop {
            let next = schedule.at(self.due);
            if next > now {
                return Ok(next);
            }
            if turn < connections {
                let id = self.ids[(self.due % connections) as usize];
                self.send_due(clients, id, now);
                turn += 1;
            }
            self.due += 1;
        }
    }

    #[inline]
    fn on_sent(&mut self, state: &mut State, now: Time) {
        state.in_flight.set_sent(now);
    }

    #[inline]
    fn expected(&self, state: &State) -> Option<(FrameId, u32)> {
        state.in_flight.first().map(|run| (run.frame, run.count))
    }

    #[inline]
    fn on_expected(&mut self, clients: &mut Clients<State>, id: ClientId, count: u32) -> Outcome {
        self.take(clients, id, count)
    }
}
