//! What the clients of a storm do: some stay and have messages echoed, the others are dropped and come
//! back.

use super::seats::{BackOff, Seats};
use crate::{
    load::{ClientId, Clients, End, Mode, Outcome, Schedule, Sent, Time, Turns, nanos_histogram},
    stamp::{Found, STAMP_BYTES, Stamp, Stamps},
};
use hdrhistogram::Histogram;
use quelea_core::{CloseCode, Message, http::Status};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

/// What is asked for.
pub(super) struct Plan {
    pub(super) connections: usize,
    pub(super) staying: usize,
    /// Messages a second of all that stay.
    pub(super) rate: f64,
    pub(super) back_off: BackOff,
}

/// Later than this, a message counts as held up by the generator.
const LATE_NANOS: u64 = 1_000_000;
/// Messages that are sent in a tick; the rest is sent in the next.
const SENDS_MAX: usize = 1 << 12;
/// Connections that are dropped in a tick, so that those that stay are not held up.
const DROPS_MAX: usize = 16;

pub(super) struct Storm {
    plan: Plan,
    stamps: Stamps,
    pub(super) seats: Seats,
    /// Who connects next, in this order.
    begins: VecDeque<Role>,
    /// Who waits until it tries again.
    waits: BinaryHeap<Reverse<(Time, Role)>>,
    /// All are to be dropped, and who of them still is.
    is_to_drop: bool,
    drops: Option<Vec<ClientId>>,
    staying: Vec<Staying>,
    /// Of those that stay, once they send.
    turns: Option<Turns>,
    /// All were open once.
    has_started: bool,
    begun: Option<Time>,
    is_closing: bool,
    is_over: bool,
    message: Vec<u8>,
    /// Messages that may still be sent in this tick.
    budget: usize,
    pub(super) counts: Counts,
    /// Of the messages before the storm, the part that the generator held up.
    pub(super) late_before: f64,
    /// Echoes of those that stay, from the intended time.
    pub(super) before: Histogram<u64>,
    pub(super) during: Histogram<u64>,
}

/// One that stays.
#[derive(Clone, Copy, Debug, Default)]
struct Staying {
    id: Option<ClientId>,
    sent: u64,
    received: u64,
    /// Its socket took no more: what is due waits for the server.
    held: bool,
}

/// Since the storm began.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) attempts: u64,
    pub(super) lost_again: u64,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) staying_ended: u64,
    /// Messages of those that stay.
    pub(super) sent: u64,
    /// Of those, held up by the generator.
    pub(super) late: u64,
    /// Due at the end, and not sent.
    pub(super) unsent: u64,
}

impl Counts {
    /// Which part of the messages the generator held up.
    pub(super) fn late_share(&self) -> f64 {
        self.late as f64 / self.sent.max(1) as f64
    }
}

/// Who a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    #[default]
    Nobody,
    Staying(usize),
    Seat(usize),
}

impl Storm {
    pub(super) fn new(plan: Plan, run: u32) -> Self {
        Self {
            stamps: Stamps::new(run),
            seats: Seats::new(plan.connections),
            begins: VecDeque::new(),
            waits: BinaryHeap::new(),
            is_to_drop: false,
            drops: None,
            staying: vec![Staying::default(); plan.staying],
            turns: None,
            has_started: false,
            begun: None,
            is_closing: false,
            is_over: false,
            message: Vec::new(),
            budget: 0,
            counts: Counts::default(),
            late_before: 0.0,
            before: nanos_histogram(),
            during: nanos_histogram(),
            plan,
        }
    }

    /// Connects all.
    pub(super) fn connect(&mut self, clients: &mut Clients<Role>) {
        self.begins.extend((0..self.plan.staying).map(Role::Staying));
        self.begins.extend((0..self.plan.connections).map(Role::Seat));
        clients.connect(self.begins.len());
    }

    /// Whether all are open.
    pub(super) fn is_whole(&self) -> bool {
        self.is_back() && self.staying.iter().all(|staying| staying.id.is_some())
    }

    /// Whether all that were dropped are open.
    pub(super) const fn is_back(&self) -> bool {
        let all = self.plan.connections;
        !self.is_to_drop && self.seats.open() == all && self.seats.back() == all
    }

    pub(super) const fn has_staying(&self) -> bool {
        self.plan.staying > 0
    }

    /// Those that stay begin to send.
    pub(super) fn start(&mut self, now: Time) {
        self.has_started = true;
        let schedule = Schedule::new(now, self.plan.rate);
        self.turns = self.has_staying().then(|| Turns::new(schedule, self.staying.len()));
    }

    /// The storm begins.
    pub(super) fn begin(&mut self, now: Time) {
        self.begun = Some(now);
        self.seats.begin();
        self.late_before = self.counts.late_share();
        self.counts = Counts::default();
    }

    /// Drops all but those that stay.
    pub(super) const fn drop_all(&mut self) {
        self.is_to_drop = true;
    }

    /// The storm is over: nothing more is sent, and nobody connects again. What was due and not sent, since the server
    /// took no more, is counted.
    pub(super) fn stop(&mut self, now: Time) {
        self.is_over = true;
        self.waits.clear();
        let Some(turns) = &self.turns else { return };
        let there = self
            .staying
            .iter()
            .enumerate()
            .filter(|(_, staying)| staying.id.is_some() && staying.held);
        let unsent = there.map(|(index, staying)| turns.unsent(now, index, staying.sent));
        self.counts.unsent = unsent.sum();
    }

    /// Messages of those that stay, and are still there, which have not come back.
    pub(super) fn in_flight(&self) -> u64 {
        let there = self.staying.iter().filter(|staying| staying.id.is_some());
        there.map(|staying| staying.sent - staying.received).sum()
    }

    /// Begins all closing handshakes.
    pub(super) fn close(&mut self, clients: &mut Clients<Role>) {
        self.is_closing = true;
        for id in clients.ids().collect::<Vec<_>>() {
            clients.close(id, CloseCode::NORMAL);
        }
    }

    fn begin_at(&mut self, clients: &mut Clients<Role>, role: Role, at: Time) {
        if at > clients.now() {
            self.waits.push(Reverse((at, role)));
        } else {
            self.begins.push_back(role);
            clients.connect(1);
        }
    }

    /// Connects those that have waited for long enough; when the next has.
    fn begin_due(&mut self, clients: &mut Clients<Role>) -> Time {
        let now = clients.now();
        while let Some(Reverse((at, role))) = self.waits.peek().copied() {
            if at > now {
                return at;
            }
            self.waits.pop();
            self.begin_at(clients, role, now);
        }
        Time::NEVER
    }

    /// Drops some of those that are to be; when to go on.
    fn drop_some(&mut self, clients: &mut Clients<Role>) -> Time {
        if !self.is_to_drop {
            return Time::NEVER;
        }
        let mut drops = self.drops.take().unwrap_or_else(|| clients.ids().collect());
        for _ in 0..DROPS_MAX {
            match drops.pop() {
                Some(id) if matches!(clients.state(id), Some(Role::Seat(_))) => clients.abort(id),
                Some(_) => {}
                None => {
                    self.is_to_drop = false;
                    return Time::NEVER;
                }
            }
        }
        self.drops = Some(drops);
        clients.now()
    }

    /// Sends what of one that stays is due by now.
    fn send_due(&mut self, clients: &mut Clients<Role>, turns: &Turns, index: usize) -> Sent {
        let now = clients.now();
        let staying = &mut self.staying[index];
        let Some(id) = staying.id else { return Sent::All };
        loop {
            let intended = turns.intended(index, staying.sent);
            if intended > now {
                staying.held = false;
                return Sent::All;
            }
            if clients.is_blocked(id) {
                staying.held = true;
                return Sent::Blocked;
            }
            if self.budget == 0 {
                return Sent::Enough;
            }
            let stamp =
                Stamp { publisher: index as u32, number: staying.sent, intended, sent: now };
            self.message.clear();
            self.stamps.write(&stamp, STAMP_BYTES, &mut self.message);
            let text = std::str::from_utf8(&self.message).unwrap_or_default();
            if !clients.send(id, Message::Text(text)) {
                return Sent::All;
            }
            staying.sent += 1;
            self.budget -= 1;
            self.counts.sent += 1;
            self.counts.late += u64::from(!staying.held && now.since(intended) > LATE_NANOS);
        }
    }

    fn send_all_due(&mut self, clients: &mut Clients<Role>) -> Time {
        if self.is_over {
            return Time::NEVER;
        }
        let Some(mut turns) = self.turns.take() else { return Time::NEVER };
        self.budget = SENDS_MAX;
        let next = turns.take(clients.now(), |turns, index| self.send_due(clients, turns, index));
        self.turns = Some(turns);
        next
    }

    /// How long a client is to wait that is gone for this reason.
    fn wait(
        &mut self,
        clients: &mut Clients<Role>,
        end: &End,
        was_back: bool,
        attempts: u32,
    ) -> Duration {
        if end.was_open() && !was_back {
            // It was dropped.
            return Duration::ZERO;
        }
        let retry_after = match end {
            End::Refused { retry_after, .. } => *retry_after,
            _ => None,
        };
        self.plan.back_off.wait(attempts, retry_after, clients.random())
    }
}

/// Whether there is no use in trying again.
fn is_final(end: &End) -> bool {
    match end {
        End::Refused { status, .. } => {
            !matches!(*status, Status::SERVICE_UNAVAILABLE | Status::TOO_MANY_REQUESTS)
        }
        End::Connect(_) | End::Upgrade(_) | End::UpgradeHead(_) => true,
        _ => false,
    }
}

impl Mode for Storm {
    type State = Role;

    fn on_begin(&mut self, role: &mut Role, _now: Time) -> Option<String> {
        *role = self.begins.pop_front()?;
        self.counts.attempts += u64::from(matches!(role, Role::Seat(_)));
        None
    }

    fn on_open(&mut self, clients: &mut Clients<Role>, id: ClientId) -> Outcome {
        let now = clients.now();
        match clients.state(id).copied() {
            Some(Role::Seat(seat)) => self.seats.set_open(seat, now),
            Some(Role::Staying(index)) => self.staying[index].id = Some(id),
            Some(Role::Nobody) | None => {}
        }
        if self.is_closing {
            clients.close(id, CloseCode::NORMAL);
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        clients: &mut Clients<Role>,
        id: ClientId,
        message: Message<'_>,
    ) -> Outcome {
        let now = clients.now();
        let Some(Role::Staying(index)) = clients.state(id).copied() else { return Ok(()) };
        let staying = &mut self.staying[index];
        match self.stamps.find(message.as_bytes()) {
            // Those of others come too if the server sends each message to all.
            Found::Stamp(stamp)
                if stamp.publisher as usize == index && stamp.number == staying.received =>
            {
                staying.received += 1;
                let is_storm = self.begun.is_some_and(|begun| now >= begun);
                let latency = if is_storm { &mut self.during } else { &mut self.before };
                latency.saturating_record(now.since(stamp.intended));
            }
            Found::Stamp(_) | Found::Corrupt | Found::Other => {}
        }
        Ok(())
    }

    fn on_end(
        &mut self,
        clients: &mut Clients<Role>,
        _id: ClientId,
        role: Role,
        end: &End,
    ) -> Outcome {
        if self.is_closing || self.is_over {
            if let Role::Seat(seat) = role {
                self.seats.set_gone(seat);
            }
            return Ok(());
        }
        let is_early = !self.has_started;
        if is_early && is_final(end) {
            return Err(end.to_string().into());
        }
        let (was_back, attempts) = match role {
            Role::Seat(seat) => self.seats.set_gone(seat),
            Role::Staying(index) => {
                self.staying[index].id = None;
                if !is_early {
                    self.counts.staying_ended += 1;
                    return Ok(());
                }
                (false, 0)
            }
            Role::Nobody => return Ok(()),
        };
        self.counts.lost_again += u64::from(was_back);
        if let End::Refused { status, .. } = end {
            *self.counts.refused.entry(status.to_string()).or_default() += 1;
        }
        let wait = self.wait(clients, end, was_back, attempts);
        let now = clients.now();
        self.begin_at(clients, role, now + wait);
        Ok(())
    }

    fn due(&mut self, clients: &mut Clients<Role>) -> Outcome<Time> {
        let sends = self.send_all_due(clients);
        let drops = self.drop_some(clients);
        Ok(self.begin_due(clients).min(drops).min(sends))
    }
}
