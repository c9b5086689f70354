//! What the clients of a churn do: open, send if asked to, end.

use super::How;
use crate::load::{ClientId, Clients, End, FrameId, Mode, Outcome, Recorder, Schedule, Time};
use quelea_core::{CloseCode, Message};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// When connections begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// By the clock.
    Open { per_second: f64, in_progress_max: usize },
    /// When one has ended.
    Closed { in_progress: usize },
}

impl Pace {
    pub(super) const fn in_progress_max(self) -> usize {
        match self {
            Self::Open { in_progress_max, .. } => in_progress_max,
            Self::Closed { in_progress } => in_progress,
        }
    }
}

/// Later than this, a connection counts as held up by the generator.
const LATE_NANOS: u64 = 1_000_000;
/// A server that lets nobody in any more is gone.
const FAILED_IN_A_ROW_MAX: u64 = 10_000;

pub(super) struct Churn {
    how: How,
    pace: Pace,
    frame: FrameId,
    messages: u32,
    patience: Duration,
    schedule: Option<Schedule>,
    /// The number of the connection that is due next.
    due: u64,
    /// As many were in progress as may be: what is due waits for the server.
    held: bool,
    /// Those that are to begin, in their order.
    begins: VecDeque<Begin>,
    /// Those that wait for messages, and until when, the earliest first.
    answers: VecDeque<(Time, ClientId)>,
    in_progress: usize,
    is_over: bool,
    has_opened: bool,
    failed_in_a_row: u64,
    pub(super) counts: Counts,
    pub(super) recorder: Recorder,
}

#[derive(Clone, Copy, Debug)]
struct Begin {
    intended: Time,
    /// It waited for the server.
    was_held: bool,
}

/// Since the measurement began.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) begun: u64,
    /// Of those, held up by the generator.
    pub(super) late: u64,
    pub(super) opened: u64,
    aborted: u64,
    unanswered: u64,
    /// Those that did not open, or that the server ended by itself.
    failed: u64,
}

impl Counts {
    /// Connections that did not go as they should have gone.
    pub(super) const fn failures(&self) -> u64 {
        self.failed + self.unanswered
    }

    /// Ends that the generator chose, apart from closing handshakes.
    pub(super) fn aborts(&self) -> BTreeMap<String, u64> {
        let counts = [("as asked for", self.aborted), ("messages not answered", self.unanswered)];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        counts.map(|(kind, count)| (kind.to_owned(), count)).collect()
    }
}

#[derive(Default)]
pub(super) struct State {
    intended: Time,
    begun: Time,
    /// Messages that it waits for.
    missing: u32,
}

impl Churn {
    pub(super) fn new(
        how: How,
        pace: Pace,
        frame: FrameId,
        messages: u32,
        patience: Duration,
        start: Time,
    ) -> Self {
        let schedule = match pace {
            Pace::Open { per_second, .. } => Some(Schedule::new(start, per_second)),
            Pace::Closed { .. } => None,
        };
        Self {
            how,
            pace,
            frame,
            messages,
            patience,
            schedule,
            due: 0,
            held: false,
            begins: VecDeque::new(),
            answers: VecDeque::new(),
            in_progress: 0,
            is_over: false,
            has_opened: false,
            failed_in_a_row: 0,
            counts: Counts::default(),
            recorder: Recorder::new(Time::NEVER, schedule.is_some()),
        }
    }

    /// Measures from now on.
    pub(super) fn measure(&mut self, now: Time) {
        self.counts = Counts::default();
        self.recorder = Recorder::new(now, self.schedule.is_some());
    }

    /// How many were due by now, and have not begun: as many were in progress as may be.
    pub(super) fn unbegun(&self, now: Time) -> u64 {
        let Some(schedule) = self.schedule else { return 0 };
        (self.due..).take_while(|number| schedule.at(*number) <= now).count() as u64
    }

    /// Begins no more.
    pub(super) const fn stop(&mut self) {
        self.is_over = true;
    }

    pub(super) const fn in_progress(&self) -> usize {
        self.in_progress
    }

    fn begin(&mut self, clients: &mut Clients<State>, begin: Begin) {
        self.begins.push_back(begin);
        self.in_progress += 1;
        clients.connect(1);
    }

    /// Begins what is due; when the next one is.
    fn begin_due(&mut self, clients: &mut Clients<State>) -> Time {
        let now = clients.now();
        let most = self.pace.in_progress_max();
        let Some(schedule) = self.schedule else {
            while self.in_progress < most {
                self.begin(clients, Begin { intended: now, was_held: false });
            }
            return Time::NEVER;
        };
        loop {
            let intended = schedule.at(self.due);
            if intended > now {
                self.held = false;
                return intended;
            }
            if self.in_progress >= most {
                self.held = true;
                return Time::NEVER;
            }
            self.begin(clients, Begin { intended, was_held: self.held });
            self.due += 1;
        }
    }

    fn end(&mut self, clients: &mut Clients<State>, id: ClientId) {
        match self.how {
            How::Clean => clients.close(id, CloseCode::NORMAL),
            How::Fin | How::Reset => {
                self.counts.aborted += 1;
                clients.abort(id);
            }
        }
    }

    /// Ends those that have waited for messages for long enough; when the next ones have.
    fn expire(&mut self, clients: &mut Clients<State>) -> Time {
        let now = clients.now();
        while let Some((until, id)) = self.answers.front().copied() {
            if clients.state(id).is_some_and(|state| state.missing > 0) {
                if until > now {
                    return until;
                }
                self.counts.unanswered += 1;
                clients.abort(id);
            }
            self.answers.pop_front();
        }
        Time::NEVER
    }
}

impl Mode for Churn {
    type State = State;

    fn on_begin(&mut self, state: &mut State, now: Time) -> Option<String> {
        let begin = self.begins.pop_front()?;
        (state.intended, state.begun) = (begin.intended, now);
        self.counts.begun += 1;
        let is_late = !begin.was_held && now.since(begin.intended) > LATE_NANOS;
        self.counts.late += u64::from(is_late && self.schedule.is_some());
        None
    }

    fn on_open(&mut self, clients: &mut Clients<State>, id: ClientId) -> Outcome {
        let now = clients.now();
        self.has_opened = true;
        self.failed_in_a_row = 0;
        self.counts.opened += 1;
        let Some(state) = clients.state(id) else { return Ok(()) };
        self.recorder.record(now, state.intended, state.begun, 1);
        if self.messages == 0 {
            self.end(clients, id);
            return Ok(());
        }
        state.missing = self.messages;
        self.answers.push_back((now + self.patience, id));
        clients.send_prepared(id, self.frame, self.messages);
        Ok(())
    }

    fn on_message(
        &mut self,
        clients: &mut Clients<State>,
        id: ClientId,
        _message: Message<'_>,
    ) -> Outcome {
        let Some(state) = clients.state(id).filter(|state| state.missing > 0) else {
            return Ok(());
        };
        state.missing -= 1;
        if state.missing == 0 {
            self.end(clients, id);
        }
        Ok(())
    }

    fn on_end(
        &mut self,
        _clients: &mut Clients<State>,
        _id: ClientId,
        _state: State,
        end: &End,
    ) -> Outcome {
        self.in_progress -= 1;
        let is_right = matches!(end, End::Aborted | End::Closed { by_server: false, .. });
        self.counts.failed += u64::from(!is_right);
        if end.was_open() || self.is_over {
            return Ok(());
        }
        self.failed_in_a_row += 1;
        if !self.has_opened || self.failed_in_a_row >= FAILED_IN_A_ROW_MAX {
            return Err(end.to_string().into());
        }
        Ok(())
    }

    fn due(&mut self, clients: &mut Clients<State>) -> Outcome<Time> {
        let answers = self.expire(clients);
        let begins = if self.is_over { Time::NEVER } else { self.begin_due(clients) };
        Ok(answers.min(begins))
    }
}
