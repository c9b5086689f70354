//! What the clients of an echo do.

use super::in_flight::InFlight;
use crate::load::{ClientId, Clients, End, FrameId, Mode, Outcome, Recorder, Schedule, Time};
use quelea_core::{CloseCode, Message};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Loop {
    /// So many in flight on each connection: the next when one comes back.
    Closed { depth: u32 },
    /// By the clock, so many a second in all, of which each connection has at most `depth` in flight,
    /// and `together` are due at once.
    Open { per_second: f64, depth: u32, together: u64 },
}

/// Later than this, a message of an open loop is counted as held up by the generator.
const LATE_NANOS: u64 = 1_000_000;

/// Above this rate what is due is sent in bunches so far apart, unless something comes back in
/// between: to sleep and to wake costs more than several messages.
const BUNCHED_PER_SECOND: f64 = 20_000.0;
const BUNCH: Duration = Duration::from_micros(50);

pub(super) struct Echo {
    frames: Vec<FrameId>,
    looping: Loop,
    /// Those that ever were open, in the order in which they came to be.
    ids: Vec<ClientId>,
    schedule: Option<Schedule>,
    is_bunched: bool,
    /// The number of the message that is due next.
    due: u64,
    /// No more is sent.
    is_over: bool,
    /// All connections are to end.
    is_closing: bool,
    pub(super) in_flight: u64,
    pub(super) recorder: Recorder,
    /// How many were sent by the clock, and how many of them the generator itself sent late.
    pub(super) sent: u64,
    pub(super) late: u64,
    /// How many were due when it was over, and had not been sent.
    pub(super) unsent: u64,
    /// Connections that ended while they were needed.
    pub(super) lost: u64,
    /// Bytes of messages that came back.
    pub(super) goodput: u64,
    returned: u64,
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
    pub(super) fn new(frames: Vec<FrameId>) -> Self {
        Self {
            frames,
            looping: Loop::Closed { depth: 0 },
            ids: Vec::new(),
            schedule: None,
            is_bunched: false,
            due: 0,
            is_over: true,
            is_closing: false,
            in_flight: 0,
            recorder: Recorder::new(Time::NEVER, false),
            sent: 0,
            late: 0,
            unsent: 0,
            lost: 0,
            goodput: 0,
            returned: 0,
        }
    }

    /// Begins to send, on all connections that are open.
    pub(super) fn start(&mut self, clients: &mut Clients<State>, looping: Loop, now: Time) {
        (self.looping, self.is_over, self.due) = (looping, false, 0);
        self.measure(Time::NEVER);
        for id in self.ids.clone() {
            if let Some(state) = clients.state(id) {
                (state.sent, state.held) = (0, false);
            }
            if let Loop::Closed { depth } = looping {
                self.send(clients, id, depth);
            }
        }
        (self.schedule, self.is_bunched) = match looping {
            Loop::Open { per_second, together, .. } => {
                // Several processes that begin at once are not to send at once.
                let period = Duration::from_secs_f64(together as f64 / per_second);
                let start = now + period.mul_f64(clients.random().f64());
                let schedule = Schedule::new(start, per_second).together(together);
                (Some(schedule), per_second > BUNCHED_PER_SECOND)
            }
            Loop::Closed { .. } => (None, false),
        };
    }

    /// Measures what is to be sent from now on.
    pub(super) fn measure(&mut self, now: Time) {
        self.recorder = Recorder::new(now, matches!(self.looping, Loop::Open { .. }));
        (self.sent, self.late, self.goodput) = (0, 0, 0);
    }

    /// Sends no more. What was due and not sent, since the server took no more, is counted.
    pub(super) fn stop(&mut self, clients: &mut Clients<State>) {
        self.is_over = true;
        let connections = self.ids.len() as u64;
        let unsent = |(number, id): (usize, &ClientId)| {
            let due = (self.due + connections - 1).saturating_sub(number as u64) / connections;
            clients.state(*id).map_or(0, |state| due.saturating_sub(state.sent))
        };
        self.unsent = match self.schedule {
            Some(_) => self.ids.iter().enumerate().map(unsent).sum(),
            None => 0,
        };
    }

    /// Ends all connections, as is good manners.
    pub(super) fn close(&mut self, clients: &mut Clients<State>, is_raw: bool) {
        self.is_closing = true;
        for id in &self.ids {
            if is_raw {
                clients.abort(*id);
            } else {
                clients.close(*id, CloseCode::NORMAL);
            }
        }
    }

    pub(super) const fn is_open_loop(&self) -> bool {
        matches!(self.looping, Loop::Open { .. })
    }

    /// Messages that came back since the start.
    pub(super) const fn messages(&self) -> u64 {
        self.returned
    }

    /// Sends one fragment of so many of a message on each of the first connections.
    pub(super) fn send_fragment(
        &mut self,
        clients: &mut Clients<State>,
        count: usize,
        frame: FrameId,
        (fragment, fragments): (usize, usize),
    ) -> Outcome {
        for id in self.ids.get(..count).ok_or("more messages than connections")? {
            if !clients.send_fragment(*id, frame, fragment, fragments) {
                return Err("a connection ended before its message was sent".into());
            }
            let is_last = fragment + 1 == fragments;
            if is_last && let Some(state) = clients.state(*id) {
                state.in_flight.push(frame, 1, None);
                self.in_flight += 1;
            }
        }
        Ok(())
    }

    /// Whether the sockets of the first so many connections took all that was written.
    pub(super) fn is_written(&self, clients: &Clients<State>, count: usize) -> bool {
        self.ids[..count].iter().all(|id| !clients.is_waiting(*id))
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
        let (Some(schedule), Loop::Open { depth, .. }) = (self.schedule, self.looping) else {
            return;
        };
        let connections = self.ids.len() as u64;
        loop {
            let is_blocked = clients.is_blocked(id);
            let Some(state) = clients.state(id) else { return };
            let intended = schedule.at(state.number + state.sent * connections);
            if intended > now {
                state.held = false;
                return;
            }
            if is_blocked || state.in_flight.len() >= depth {
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
        self.returned += u64::from(run.count);
        self.recorder.record(now, run.intended(), run.sent(), run.count);
        // The way of nearly all: the same again. If that cannot be sent, the connection ends with it.
        if let ([frame], Loop::Closed { .. }, false) = (&*self.frames, self.looping, self.is_over) {
            state.in_flight.push(*frame, run.count, None);
            clients.send_prepared(id, *frame, run.count);
            self.goodput += (clients.payload(run.frame).1.len() * run.count as usize) as u64;
            return Ok(());
        }
        self.goodput += (clients.payload(run.frame).1.len() * run.count as usize) as u64;
        self.in_flight -= u64::from(run.count);
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
        if self.is_closing {
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
                return Ok(if self.is_bunched { next.max(now + BUNCH) } else { next });
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
