//! What the members of rooms do: the first of each publishes, all listen.

use super::join::{Join, Protocol};
use crate::{
    load::{
        ClientId, Clients, End, Mode, Outcome, Recorder, Schedule, Sent, Time, Turns,
        nanos_histogram,
    },
    sequence::{Faults, Sequence},
    stamp::{Found, Stamp, Stamps},
};
use hdrhistogram::Histogram;
use quelea_core::{CloseCode, Message};
use std::{collections::VecDeque, time::Duration};

/// What is asked for.
pub(super) struct Plan<'p> {
    pub(super) rooms: usize,
    pub(super) members: usize,
    /// Messages a second in each room.
    pub(super) rate: f64,
    pub(super) size: usize,
    /// The publisher does not get its own messages.
    pub(super) others_only: bool,
    pub(super) protocol: &'p Protocol,
}

/// Later than this, a message counts as held up by the generator.
const LATE_NANOS: u64 = 1_000_000;
/// What is sent in a tick at most, or one message; the rest is sent in the next.
const TICK_BYTES_MAX: usize = 1 << 20;
/// Of so many messages of a room it is known how many members they are still to come to.
const ON_THE_WAY_MAX: usize = 4096;

pub(super) struct Rooms<'p> {
    plan: Plan<'p>,
    stamps: Stamps,
    rooms: Vec<Room>,
    /// How many have begun to connect.
    begun: usize,
    /// Of the rooms, once they publish.
    turns: Option<Turns>,
    measured_from: Time,
    /// When the last message came to anyone.
    delivered: Time,
    is_over: bool,
    message: Vec<u8>,
    /// Bytes that may still be sent in this tick.
    budget: usize,
    pub(super) counts: Counts,
    /// A delivery each.
    pub(super) recorder: Recorder,
    /// From the intended time of a message to its last delivery.
    pub(super) last: Histogram<u64>,
}

/// Since the measurement began.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// Of those, held up by the generator.
    pub(super) late: u64,
    /// Due at the end, and not sent.
    pub(super) unsent: u64,
    pub(super) corrupt: u64,
    pub(super) misdelivered: u64,
    /// Members that are gone.
    pub(super) ended: u64,
}

struct Room {
    name: String,
    /// What a message of it has around its payload.
    before: String,
    behind: String,
    publisher: Option<ClientId>,
    /// How many messages it has published.
    sent: u64,
    /// The first message that is measured, once it is known.
    first: u64,
    /// Its publisher's socket took no more: what is due waits for the server.
    held: bool,
    /// Messages that are not with all members yet, or that others are before which are not.
    on_the_way: VecDeque<OnTheWay>,
    /// The number of the first of these.
    on_the_way_from: u64,
}

struct OnTheWay {
    missing: usize,
    intended: Time,
}

impl Room {
    /// How many messages it has published that are measured.
    const fn measured(&self) -> u64 {
        self.sent.saturating_sub(self.first)
    }
}

#[derive(Default)]
pub(super) struct State {
    room: usize,
    member: usize,
    /// Of the messages that are measured.
    sequence: Sequence,
    is_closing: bool,
}

impl<'p> Rooms<'p> {
    /// Rooms of a run whose number is not that of one before: what a server still knows of that is
    /// not taken for its own.
    pub(super) fn new(plan: Plan<'p>, run: u32) -> Self {
        let rooms = (0..plan.rooms).map(|room| {
            let (before, behind) = plan.protocol.around(&room_name(run, room), &member_name(0));
            Room {
                name: room_name(run, room),
                before,
                behind,
                publisher: None,
                sent: 0,
                first: u64::MAX,
                held: false,
                on_the_way: VecDeque::new(),
                on_the_way_from: 0,
            }
        });
        Self {
            stamps: Stamps::new(run),
            rooms: rooms.collect(),
            begun: 0,
            turns: None,
            measured_from: Time::NEVER,
            delivered: Time::default(),
            is_over: false,
            message: Vec::new(),
            budget: 0,
            counts: Counts::default(),
            recorder: Recorder::new(Time::NEVER, true),
            last: nanos_histogram(),
            plan,
        }
    }

    /// Begins to publish: all members are connected.
    pub(super) fn start(&mut self, now: Time) {
        let schedule = Schedule::new(now, self.plan.rate * self.plan.rooms as f64);
        self.turns = Some(Turns::new(schedule, self.plan.rooms));
    }

    /// Measures what is published from now on.
    pub(super) fn measure(&mut self, now: Time) {
        self.measured_from = now;
        self.recorder = Recorder::new(now, true);
        self.counts = Counts::default();
        let Some(turns) = &self.turns else { return };
        for index in 0..self.rooms.len() {
            let mut first = self.rooms[index].sent;
            while turns.intended(index, first) < now {
                first += 1;
            }
            self.rooms[index].first = first;
        }
    }

    /// Publishes no more. What was due and not sent, since the server took no more, is counted.
    pub(super) fn stop(&mut self, now: Time) {
        self.is_over = true;
        self.delivered = self.delivered.max(now);
        let Some(turns) = &self.turns else { return };
        let publishing =
            self.rooms.iter().enumerate().filter(|(_, room)| room.publisher.is_some() && room.held);
        let unsent = publishing.map(|(index, room)| turns.unsent(now, index, room.sent));
        self.counts.unsent = unsent.sum();
    }

    /// How many messages that are measured were published.
    pub(super) fn messages(&self) -> u64 {
        self.rooms.iter().map(Room::measured).sum()
    }

    /// Whether all that was published came to all, or nothing came for so long.
    pub(super) fn is_complete(&self, now: Time, patience: Duration) -> bool {
        let is_missing = self.rooms.iter().any(|room| !room.on_the_way.is_empty());
        !is_missing || now > self.delivered + patience
    }

    /// What did not come once and in order, of those members that are still there.
    pub(super) fn faults(&self, clients: &mut Clients<State>) -> Faults {
        let mut faults = Faults::default();
        for id in clients.ids().collect::<Vec<_>>() {
            let Some(state) = clients.state(id) else { continue };
            let room = &self.rooms[state.room];
            if !self.plan.others_only || room.publisher != Some(id) {
                faults += state.sequence.faults(room.measured());
            }
        }
        faults
    }

    /// Begins all closing handshakes.
    pub(super) fn close(&mut self, clients: &mut Clients<State>) {
        for id in clients.ids().collect::<Vec<_>>() {
            if let Some(state) = clients.state(id) {
                state.is_closing = true;
            }
            clients.close(id, CloseCode::NORMAL);
        }
    }

    /// Publishes what of one room is due by now.
    fn publish_due(&mut self, clients: &mut Clients<State>, turns: &Turns, index: usize) -> Sent {
        let now = clients.now();
        let receivers = self.plan.members - usize::from(self.plan.others_only);
        let Some(publisher) = self.rooms[index].publisher else { return Sent::All };
        loop {
            let room = &mut self.rooms[index];
            let intended = turns.intended(index, room.sent);
            if intended > now {
                room.held = false;
                return Sent::All;
            }
            if clients.is_blocked(publisher) {
                room.held = true;
                return Sent::Blocked;
            }
            if self.budget == 0 {
                return Sent::Enough;
            }
            self.message.clear();
            self.message.extend_from_slice(room.before.as_bytes());
            let stamp = Stamp { publisher: index as u32, number: room.sent, intended, sent: now };
            self.stamps.write(&stamp, self.plan.size, &mut self.message);
            self.message.extend_from_slice(room.behind.as_bytes());
            let text = std::str::from_utf8(&self.message).unwrap_or_default();
            if !clients.send(publisher, Message::Text(text)) {
                room.publisher = None;
                return Sent::All;
            }
            if room.sent >= room.first {
                self.counts.sent += 1;
                self.counts.late += u64::from(!room.held && now.since(intended) > LATE_NANOS);
            }
            room.sent += 1;
            self.budget = self.budget.saturating_sub(self.message.len());
            room.on_the_way.push_back(OnTheWay { missing: receivers, intended });
            if room.on_the_way.len() > ON_THE_WAY_MAX {
                room.on_the_way.pop_front();
                room.on_the_way_from += 1;
            }
        }
    }

    /// A message of its room came to a member for the first time.
    fn deliver(&mut self, now: Time, stamp: &Stamp) {
        self.delivered = now;
        self.recorder.record(now, stamp.intended, stamp.sent, 1);
        let room = &mut self.rooms[stamp.publisher as usize];
        let Some(index) = stamp.number.checked_sub(room.on_the_way_from) else { return };
        let Some(entry) = room.on_the_way.get_mut(index as usize) else { return };
        entry.missing = entry.missing.saturating_sub(1);
        if entry.missing == 0 && entry.intended >= self.measured_from {
            self.last.saturating_record(now.since(entry.intended));
        }
        while room.on_the_way.front().is_some_and(|entry| entry.missing == 0) {
            room.on_the_way.pop_front();
            room.on_the_way_from += 1;
        }
    }
}

fn room_name(run: u32, room: usize) -> String {
    format!("perf-{run:08x}-{room}")
}

fn member_name(member: usize) -> String {
    format!("m{member}")
}

impl Mode for Rooms<'_> {
    type State = State;

    fn on_begin(&mut self, state: &mut State, _now: Time) -> Option<String> {
        (state.room, state.member) =
            (self.begun / self.plan.members, self.begun % self.plan.members);
        self.begun += 1;
        let room = self.rooms.get(state.room)?;
        match self.plan.protocol.join(&room.name, &member_name(state.member)) {
            Join::Path(path) => Some(path),
            Join::Message(_) | Join::Already => None,
        }
    }

    fn on_open(&mut self, clients: &mut Clients<State>, id: ClientId) -> Outcome {
        let Some(state) = clients.state(id) else { return Ok(()) };
        let member = state.member;
        let room = &mut self.rooms[state.room];
        if member == 0 {
            room.publisher = Some(id);
        }
        if let Join::Message(text) = self.plan.protocol.join(&room.name, &member_name(member)) {
            clients.send(id, Message::Text(&text));
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        clients: &mut Clients<State>,
        id: ClientId,
        message: Message<'_>,
    ) -> Outcome {
        let now = clients.now();
        let stamp = match self.stamps.find(message.as_bytes()) {
            Found::Stamp(stamp) => stamp,
            Found::Corrupt => {
                self.counts.corrupt += 1;
                return Ok(());
            }
            Found::Other => return Ok(()),
        };
        let Some(state) = clients.state(id) else { return Ok(()) };
        if stamp.publisher as usize != state.room {
            self.counts.misdelivered += 1;
            return Ok(());
        }
        let first = self.rooms[state.room].first;
        let is_new = match stamp.number.checked_sub(first) {
            Some(number) => state.sequence.take(number),
            None => true,
        };
        if is_new {
            self.deliver(now, &stamp);
        }
        Ok(())
    }

    fn on_end(
        &mut self,
        clients: &mut Clients<State>,
        _id: ClientId,
        state: State,
        end: &End,
    ) -> Outcome {
        if state.is_closing {
            return Ok(());
        }
        if !end.was_open() || self.turns.is_none() {
            let (open, wanted) = (clients.open(), self.plan.rooms * self.plan.members);
            return Err(format!("{end} ({open} of {wanted} members were there)").into());
        }
        self.counts.ended += 1;
        if clients.open() == 0 { Err(end.to_string().into()) } else { Ok(()) }
    }

    fn due(&mut self, clients: &mut Clients<State>) -> Outcome<Time> {
        if self.is_over {
            return Ok(Time::NEVER);
        }
        let Some(mut turns) = self.turns.take() else { return Ok(Time::NEVER) };
        self.budget = TICK_BYTES_MAX;
        let next =
            turns.take(clients.now(), |turns, index| self.publish_due(clients, turns, index));
        self.turns = Some(turns);
        Ok(next)
    }
}
