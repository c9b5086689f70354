//! What the clients of an audit do: they send numbered messages, and follow those that come.

use super::{
    Kind,
    faults::{Faulty, Plan as FaultPlan, Step},
};
use crate::{
    load::{ClientId, Clients, End, Mode, Outcome, Schedule, Time},
    rooms::join::{Join, Protocol},
    sequence::{Faults, Sequence},
    stamp::{Found, Stamp, Stamps},
};
use quelea_core::{CloseCode, Message};
use std::{collections::VecDeque, time::Duration};

/// What is asked for.
pub(super) struct Plan<'p> {
    pub(super) kind: Kind,
    pub(super) connections: usize,
    /// How many of them send.
    pub(super) publishers: usize,
    pub(super) others_only: bool,
    /// Messages a second of all.
    pub(super) rate: f64,
    pub(super) sizes: Vec<usize>,
    pub(super) protocol: &'p Protocol,
    pub(super) faults: FaultPlan,
}

pub(super) struct Audit<'p> {
    plan: Plan<'p>,
    stamps: Stamps,
    room: String,
    /// Those that are audited, then those that misbehave.
    members: Vec<Member>,
    pub(super) faulty: Faulty,
    /// Who connects next, in this order.
    begins: VecDeque<usize>,
    schedule: Option<Schedule>,
    /// The number of the message that is due next.
    due: u64,
    /// When the last message came.
    received: Time,
    /// How many are still to come to those that are audited.
    missing: u64,
    is_over: bool,
    is_closing: bool,
    message: Vec<u8>,
    /// Bytes that may still be sent in this tick.
    budget: usize,
    pub(super) counts: Counts,
}

/// What is sent in a tick at most, or one message; the rest is sent in the next.
const TICK_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// By those that are audited, for the first time.
    pub(super) received: u64,
    pub(super) corrupt: u64,
    pub(super) misdelivered: u64,
    /// Connections that are audited and were ended by the server.
    pub(super) ended: u64,
    /// Messages without a stamp of this run.
    pub(super) others: u64,
    /// Messages that were due while the server took no more.
    pub(super) not_sent: u64,
}

#[derive(Default)]
struct Member {
    id: Option<ClientId>,
    before: String,
    behind: String,
    sent: u64,
    /// Of each publisher, or with an echo server of its own messages; none of those that misbehave.
    sequences: Vec<Sequence>,
}

impl<'p> Audit<'p> {
    pub(super) fn new(plan: Plan<'p>, run: u32) -> Self {
        let room = format!("perf-{run:08x}");
        let streams = match plan.kind {
            Kind::Echo => 1,
            Kind::Broadcast => plan.publishers,
        };
        let member = |index: usize| {
            let (before, behind) = plan.protocol.around(&room, &member_name(index));
            let streams = if index < plan.connections { streams } else { 0 };
            let sequences = (0..streams).map(|_| Sequence::default()).collect();
            Member { before, behind, sequences, ..Member::default() }
        };
        let members = (0..plan.connections + plan.faults.clients).map(member).collect();
        Self {
            stamps: Stamps::new(run),
            room,
            members,
            faulty: Faulty::new(plan.faults.clone()),
            begins: VecDeque::new(),
            schedule: None,
            due: 0,
            received: Time::default(),
            missing: 0,
            is_over: false,
            is_closing: false,
            message: Vec::new(),
            budget: 0,
            counts: Counts::default(),
            plan,
        }
    }

    /// Connects all.
    pub(super) fn connect(&mut self, clients: &mut Clients<usize>) {
        self.begins.extend(0..self.members.len());
        clients.connect(self.members.len());
    }

    /// Begins to send.
    pub(super) fn start(&mut self, now: Time) {
        self.schedule = Some(Schedule::new(now, self.plan.rate));
    }

    /// Sends no more; those that misbehave stop as well.
    pub(super) fn stop(&mut self, now: Time) {
        self.is_over = true;
        self.received = self.received.max(now);
        self.faulty.stop();
    }

    /// Whether all that was sent came, or nothing came for so long.
    pub(super) fn is_complete(&self, now: Time, patience: Duration) -> bool {
        self.missing == 0 || now > self.received + patience
    }

    /// Begins all closing handshakes.
    pub(super) fn close(&mut self, clients: &mut Clients<usize>) {
        self.is_closing = true;
        for id in clients.ids().collect::<Vec<_>>() {
            clients.pause(id, false);
            clients.close(id, CloseCode::NORMAL);
        }
    }

    /// What each that is audited has of each that sends: to whom, from whom.
    pub(super) fn streams(&self) -> impl Iterator<Item = (usize, usize, Faults)> + '_ {
        let audited = self.members.iter().take(self.plan.connections).enumerate();
        audited.flat_map(move |(to, member)| {
            member.sequences.iter().enumerate().filter_map(move |(index, sequence)| {
                let from = if self.plan.kind == Kind::Echo { to } else { index };
                let is_for = self.is_for(from, to);
                is_for.then(|| (to, from, sequence.faults(self.members[from].sent)))
            })
        })
    }

    /// What was not right with all of these.
    pub(super) fn faults(&self) -> Faults {
        self.streams().fold(Faults::default(), |mut sum, (_, _, faults)| {
            sum += faults;
            sum
        })
    }

    /// Whether a message of one is for the other.
    fn is_for(&self, from: usize, to: usize) -> bool {
        match self.plan.kind {
            Kind::Echo => from == to,
            Kind::Broadcast => {
                from < self.plan.publishers && (from != to || !self.plan.others_only)
            }
        }
    }

    /// Those that send: with an echo server all, and those that misbehave too.
    const fn senders(&self) -> usize {
        match self.plan.kind {
            Kind::Echo => self.members.len(),
            Kind::Broadcast => self.plan.publishers,
        }
    }

    fn send(&mut self, clients: &mut Clients<usize>, index: usize, intended: Time) {
        let size = self.plan.sizes[(self.due % self.plan.sizes.len() as u64) as usize];
        let member = &mut self.members[index];
        let is_audited = index < self.plan.connections;
        let Some(id) = member.id.filter(|id| !clients.is_blocked(*id)) else {
            self.counts.not_sent += u64::from(is_audited);
            return;
        };
        let stamp =
            Stamp { publisher: index as u32, number: member.sent, intended, sent: clients.now() };
        self.message.clear();
        self.message.extend_from_slice(member.before.as_bytes());
        self.stamps.write(&stamp, size, &mut self.message);
        self.message.extend_from_slice(member.behind.as_bytes());
        let text = std::str::from_utf8(&self.message).unwrap_or_default();
        if clients.send(id, Message::Text(text)) {
            member.sent += 1;
            self.budget = self.budget.saturating_sub(self.message.len());
            if is_audited {
                self.counts.sent += 1;
                self.missing += match self.plan.kind {
                    Kind::Echo => 1,
                    Kind::Broadcast => {
                        (self.plan.connections - usize::from(self.plan.others_only)) as u64
                    }
                };
            }
        }
    }

    fn send_due(&mut self, clients: &mut Clients<usize>) -> Time {
        let Some(schedule) = self.schedule.filter(|_| !self.is_over) else {
            return Time::NEVER;
        };
        self.budget = TICK_BYTES_MAX;
        loop {
            let intended = schedule.at(self.due);
            if intended > clients.now() || self.budget == 0 {
                return intended;
            }
            let index = (self.due % self.senders() as u64) as usize;
            self.send(clients, index, intended);
            self.due += 1;
        }
    }

    /// Lets those misbehave whose time has come.
    fn misbehave(&mut self, clients: &mut Clients<usize>) -> Time {
        let now = clients.now();
        while let Some((client, step)) = self.faulty.next(now) {
            let index = self.plan.connections + client;
            let id = self.members[index].id;
            match (step, id) {
                (Step::Connect, _) => {
                    self.begins.push_back(index);
                    clients.connect(1);
                }
                (Step::Reset, Some(id)) => {
                    self.faulty.count_reset();
                    clients.abort(id);
                }
                (Step::Stall, Some(id)) => {
                    clients.pause(id, true);
                    self.faulty.stall(client, now, clients.random());
                }
                (Step::GoOn, Some(id)) => {
                    clients.pause(id, false);
                    self.faulty.plan_next(client, now, clients.random());
                }
                // The server has ended it, and it is not back yet.
                (Step::Reset | Step::Stall | Step::GoOn, None) => {}
            }
        }
        self.faulty.next_time()
    }

    /// A message came to one that is audited.
    fn take(&mut self, now: Time, to: usize, stamp: &Stamp) {
        let from = stamp.publisher as usize;
        if from >= self.members.len() || !self.is_for(from, to) {
            self.counts.misdelivered += 1;
            return;
        }
        let index = if self.plan.kind == Kind::Echo { 0 } else { from };
        if self.members[to].sequences[index].take(stamp.number) {
            self.received = now;
            self.counts.received += 1;
            self.missing = self.missing.saturating_sub(1);
        }
    }
}

fn member_name(member: usize) -> String {
    format!("m{member}")
}

impl Mode for Audit<'_> {
    /// Which member it is.
    type State = usize;

    fn on_begin(&mut self, member: &mut usize, _now: Time) -> Option<String> {
        *member = self.begins.pop_front()?;
        match self.plan.protocol.join(&self.room, &member_name(*member)) {
            Join::Path(path) => Some(path),
            Join::Message(_) | Join::Already => None,
        }
    }

    fn on_open(&mut self, clients: &mut Clients<usize>, id: ClientId) -> Outcome {
        let now = clients.now();
        let Some(index) = clients.state(id).copied() else { return Ok(()) };
        self.members[index].id = Some(id);
        let join = self.plan.protocol.join(&self.room, &member_name(index));
        if let Join::Message(text) = join {
            clients.send(id, Message::Text(&text));
        }
        if self.is_closing {
            clients.close(id, CloseCode::NORMAL);
        } else if let Some(client) = index.checked_sub(self.plan.connections)
            && !self.is_over
        {
            self.faulty.begin(client, now, clients.random());
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        clients: &mut Clients<usize>,
        id: ClientId,
        message: Message<'_>,
    ) -> Outcome {
        let now = clients.now();
        let Some(index) = clients.state(id).copied() else { return Ok(()) };
        match self.stamps.find(message.as_bytes()) {
            Found::Stamp(stamp) if index < self.plan.connections => self.take(now, index, &stamp),
            Found::Stamp(_) => {}
            Found::Corrupt => self.counts.corrupt += 1,
            Found::Other => self.counts.others += 1,
        }
        Ok(())
    }

    fn on_end(
        &mut self,
        clients: &mut Clients<usize>,
        _id: ClientId,
        index: usize,
        end: &End,
    ) -> Outcome {
        let was_there = self.members[index].id.take().is_some();
        if self.is_closing {
            return Ok(());
        }
        if self.schedule.is_none() {
            let (open, all) = (clients.open(), self.members.len());
            return Err(format!("{end} ({open} of {all} connections were open)").into());
        }
        match index.checked_sub(self.plan.connections) {
            None => self.counts.ended += 1,
            Some(_) if self.is_over => {}
            Some(_) if was_there => {
                self.begins.push_back(index);
                clients.connect(1);
            }
            Some(client) => self.faulty.refuse(client, clients.now()),
        }
        Ok(())
    }

    fn due(&mut self, clients: &mut Clients<usize>) -> Outcome<Time> {
        let sends = self.send_due(clients);
        if self.schedule.is_none() || self.is_over {
            return Ok(sends);
        }
        Ok(self.misbehave(clients).min(sends))
    }
}
