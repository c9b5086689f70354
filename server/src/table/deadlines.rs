//! The deadlines of connections: for the handshake, for silence, for life, and for the end.

use super::{Table, slot::Slot};
use crate::parts::{
    slots::SlotId,
    timer::{TICK, Tick},
};
use std::time::{Duration, Instant};

/// How long each wait may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Duration,
    pub(crate) close: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong: Duration,
    pub(crate) idle: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
}

/// What a look at an open connection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is there, or has time left to show it.
    Alive,
    /// It did not answer in time.
    Gone,
    /// It sent no message for too long.
    Idle,
}

/// What a pong answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// A ping of ours, sent so long ago.
    Heartbeat(Duration),
    /// A ping of ours, but it says nothing of the way: we stood still meanwhile, or the peer has
    /// made the answer up.
    Implausible,
    /// None of ours.
    Other,
}

/// A timer beside the one that each slot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// One of the handler's.
    Handler(u8),
    /// The connection has lived long enough.
    Lifetime,
}

/// How fast a client has to take a response at least.
const RESPONSE_BYTES_PER_SECOND: u64 = 16 << 10;

/// The longest that a connection may wait to be told that it is refused.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// The key of [`Alarm::Lifetime`]: the handler's keys are below.
const LIFETIME: u16 = 256;

/// What makes a ping one of ours; the time it was sent follows, in nanoseconds since the start.
const PING_MARK: [u8; 4] = *b"\0ql\0";

/// The longest timer of a handler; a longer one is cut. The ticks of a wheel wrap after a year.
const ALARM_MAX: Duration = Duration::from_secs(100 * 24 * 60 * 60);

impl Timeouts {
    /// When a connection that does nothing has to be looked at, and what is found then if it is now.
    fn check(&self, slot: &Slot, now: Tick) -> (Checked, Option<Duration>) {
        let mut next: Option<Duration> = None;
        let mut left = |limit: Duration, elapsed: Duration| {
            let left = limit.saturating_sub(elapsed);
            next = Some(next.map_or(left, |next| next.min(left)));
            left.is_zero()
        };
        let mut checked = Checked::Alive;
        if let Some(limit) = self.idle
            && left(limit, now.since(slot.active))
        {
            checked = Checked::Idle;
        }
        if let Some(interval) = self.ping_interval {
            // Of a peer that was pinged, `heard` is when.
            let limit = if slot.pinged { self.pong } else { interval };
            if left(limit, now.since(slot.heard)) {
                checked = Checked::Gone;
            }
        }
        (checked, next)
    }

    /// Whether a peer has to be pinged, and was not yet.
    fn is_silent(&self, slot: &Slot, now: Tick) -> bool {
        self.ping_interval.is_some_and(|limit| !slot.pinged && now.since(slot.heard) >= limit)
    }

    /// The lifetime of a connection: up to a tenth shorter than told, by a hash of its id.
    fn lifetime_of(&self, id: SlotId) -> Option<Duration> {
        let lifetime = self.lifetime?;
        let hash = (id.index() as u32 ^ id.generation().rotate_left(16)).wrapping_mul(0x9e37_79b9);
        Some(lifetime - lifetime / 10 * (hash >> 16) / (1 << 16))
    }
}

impl Table {
    /// Gives the connection the time of a handshake from now on, and that for a response that waits.
    pub(crate) fn arm_handshake(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.timeouts.handshake + self.response_time(id));
    }

    /// The time that a client may take for the responses that wait for it. The kernel tells too
    /// seldom how much it took to count from then.
    fn response_time(&self, id: SlotId) -> Duration {
        match self.slots.get(id) {
            Some(slot) if !slot.opened => {
                let bytes = slot.output.queued(&self.arena) as u64;
                Duration::from_millis(bytes * 1000 / RESPONSE_BYTES_PER_SECOND)
            }
            _ => Duration::ZERO,
        }
    }

    /// Gives a connection that is refused the time to ask, and to be told.
    pub(super) fn arm_refused(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.timeouts.handshake.min(REFUSED_MAX));
    }

    /// Gives the connection the time of a closing handshake from now on.
    pub(super) fn arm_close(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.timeouts.close + self.response_time(id));
    }

    /// From now on, a peer that ends and has something to take may take it until `deadline`.
    pub(crate) fn flush_until(&mut self, deadline: Instant) {
        self.flush_until = Some(deadline);
    }

    /// The time of an ending connection is over: whether it has more, because the server drains, and
    /// bytes wait for the peer.
    pub(crate) fn may_flush_on(&mut self, id: SlotId) -> bool {
        let Some(until) = self.flush_until.filter(|until| self.now < *until) else { return false };
        let slot = self.slots.get(id);
        let may = slot.is_some_and(|slot| slot.ends() && slot.output.queued(&self.arena) > 0);
        if may {
            self.timers.arm(id.index(), until);
        }
        may
    }

    /// The timer of an open connection is due, or it was just opened: pings a silent peer, and arms
    /// the timer for the next look. What the peer sends until then does not touch it. Only what was
    /// pinged is ever gone, so that a server that slept does not end peers that had no chance.
    pub(crate) fn check_open(&mut self, id: SlotId) -> Checked {
        let now = self.timers.now();
        let timeouts = self.timeouts;
        let Some(slot) = self.slots.get_mut(id) else { return Checked::Alive };
        if slot.held {
            // Whom we do not listen to cannot show that it is there.
            (slot.heard, slot.active, slot.pinged) = (now, now, false);
        }
        let ping = timeouts.is_silent(slot, now);
        if ping {
            (slot.heard, slot.pinged) = (now, true);
            self.freed_bytes += slot.trim();
        }
        let (checked, next) = timeouts.check(slot, now);
        if checked != Checked::Alive {
            return checked;
        }
        match next {
            Some(next) => self.timers.arm(id.index(), self.now + next),
            None => self.timers.disarm(id.index()),
        }
        if ping {
            let nanoseconds = self.now.duration_since(self.start).as_nanos() as u64;
            let mut payload = [0; 12];
            payload[..4].copy_from_slice(&PING_MARK);
            payload[4..].copy_from_slice(&nanoseconds.to_be_bytes());
            self.ping(id, &payload);
        }
        Checked::Alive
    }

    /// Which ping a pong answers. The round trip of one of ours is counted.
    pub(crate) fn answered(&mut self, payload: &[u8]) -> Answered {
        let (Some(interval), Some(sent)) =
            (self.timeouts.ping_interval, payload.strip_prefix(&PING_MARK))
        else {
            return Answered::Other;
        };
        let Ok(sent) = sent.try_into() else { return Answered::Other };
        let sent = Duration::from_nanos(u64::from_be_bytes(sent));
        let round_trip = self.now.duration_since(self.start).checked_sub(sent);
        match round_trip.filter(|round_trip| *round_trip <= interval + self.timeouts.pong) {
            Some(round_trip) => {
                self.metrics.round_trip.record(round_trip);
                Answered::Heartbeat(round_trip)
            }
            None => Answered::Implausible,
        }
    }

    /// Starts to watch a connection that was just opened.
    pub(super) fn arm_open(&mut self, id: SlotId) {
        if let Some(lifetime) = self.timeouts.lifetime_of(id) {
            self.alarms.set(id, LIFETIME, self.now + lifetime);
        }
        self.check_open(id);
    }

    /// Sets a timer of the handler's.
    pub(crate) fn set_alarm(&mut self, id: SlotId, key: u8, after: Duration) -> bool {
        if !self.is_websocket(id) {
            return false;
        }
        self.alarms.set(id, u16::from(key), self.now + after.clamp(TICK, ALARM_MAX));
        true
    }

    pub(crate) fn clear_alarm(&mut self, id: SlotId, key: u8) -> bool {
        self.alarms.clear(id, u16::from(key))
    }

    /// A timer beside those of the slots that is due.
    pub(crate) fn next_alarm(&mut self) -> Option<(SlotId, Alarm)> {
        let (id, key, due_at) = self.alarms.expired(self.now)?;
        self.metrics.timer_lag.record(self.now.saturating_duration_since(due_at));
        self.touched.push(id);
        Some((id, u8::try_from(key).map_or(Alarm::Lifetime, Alarm::Handler)))
    }

    /// When the first may be due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.alarms.next()).min()
    }

    /// A connection whose time is over.
    pub(crate) fn next_expired(&mut self) -> Option<SlotId> {
        let index = self.timers.expired(self.now)?;
        self.metrics.timer_lag.record(self.now.saturating_duration_since(self.timers.due_at()));
        self.slots.id_at(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::PeerAddress,
        protocol::http::HttpConnection,
        table::{Ending, TableOptions},
    };

    #[test]
    fn lifetimes_are_spread_over_their_last_tenth() {
        let lifetime = Duration::from_secs(1000);
        let timeouts = Timeouts {
            handshake: TICK,
            close: TICK,
            ping_interval: None,
            pong: TICK,
            idle: None,
            lifetime: Some(lifetime),
        };
        let mut tenths = [0; 10];
        for index in 0..1000 {
            let own = timeouts.lifetime_of(SlotId::new(index, 1)).unwrap();
            assert!(own > lifetime * 9 / 10 && own <= lifetime);
            tenths[((lifetime - own).as_secs() / 10) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
    fn a_response_has_the_time_of_its_length_and_then_ends() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut table = Table::new(TableOptions::example(now));
        let http = HttpConnection::new(PeerAddress::Unix, None);
        let id = table.insert(Box::new(http)).unwrap();
        let is_due_within = |table: &mut Table, seconds: Duration| {
            table.set_now(now + seconds);
            table.next_expired() == Some(id)
        };
        assert!(!is_due_within(&mut table, 9 * second));
        table.output(id).unwrap().extend_from_slice(&[0; 160 << 10]);
        table.arm_handshake(id);
        assert!(!is_due_within(&mut table, 28 * second));
        assert!(is_due_within(&mut table, 30 * second));
        table.end(id, Ending::Linger);
        assert!(!is_due_within(&mut table, 44 * second));
        assert!(is_due_within(&mut table, 46 * second));
    }
}
