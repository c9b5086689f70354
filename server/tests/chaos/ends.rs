//! How connections ended, and whether that can be true.

use super::{
    ledger::{Ledger, SLACK, overflow_of},
    scenario::{Guest, IN_FLIGHT_MAX, Run},
};
use quelea::{
    Cause, CloseCode, Config, Overflow,
    sim::{Fault, Faults},
};
use std::time::Duration;

/// How early something may be: time is told in ticks.
const TICK: Duration = Duration::from_millis(8);

impl Run {
    pub(crate) fn check_ends(&mut self) -> Result<(), String> {
        let mut ledger = self.ledger.borrow_mut();
        let (opened, closed) = (ledger.counts.opened, ledger.counts.closed.len() as u64);
        if opened != closed {
            ledger.fail(format!("{opened} were opened, {closed} closed"));
        }
        for (number, guest) in self.guests.iter().enumerate() {
            let bird = &ledger.birds[number];
            if bird.opened.is_none() {
                continue;
            }
            let [(at, cause, code)] = bird.closed[..] else {
                let text = format!("client {number} was closed {} times", bird.closed.len());
                ledger.fail(text);
                continue;
            };
            let asked = bird.local_close.or(bird.outside_close);
            if !self.is_true(&ledger, number, asked, (at, cause, code)) {
                ledger.fail(format!(
                    "client {number} ended by {cause:?} at {at:?}, which is not true: {guest:?}"
                ));
            }
            let bird = &ledger.birds[number];
            if let Some(asked) = bird.local_close
                && ledger.is_punctual
                && at > self.drained_by.max(asked + self.config.close_timeout) + SLACK
            {
                ledger.fail(format!("client {number} is late to go: {:?}", at - asked));
            }
            let bird = &ledger.birds[number];
            if let Some(interval) = self.config.ping_interval
                && guest.has_vanished
                && ledger.is_punctual
                && !bird.was_paused
                // A send that is cut for no reason makes room for the next one: as if it was read.
                && !self.plan.faults.has(Fault::Cuts)
            {
                let Config { pong_timeout, close_timeout, .. } = self.config;
                // The next ping is not before the time for the answer to the last one is over.
                let silence = interval.max(pong_timeout) + pong_timeout;
                let longest = silence + close_timeout + IN_FLIGHT_MAX;
                if at > guest.vanished + longest {
                    let took = at - guest.vanished;
                    ledger.fail(format!("client {number} is late to go: it is gone for {took:?}"));
                }
            }
            let bird = &ledger.birds[number];
            if let (Some(lifetime), Some(opened)) = (self.config.lifetime_max, bird.opened)
                && ledger.is_punctual
                && at > self.drained_by.max(opened + lifetime + self.config.close_timeout) + SLACK
            {
                ledger.fail(format!("client {number} is late to go: it lived {:?}", at - opened));
            }
        }
        ledger.failure().map_or(Ok(()), Err)
    }

    /// Whether what has happened to a client can have been the cause of its end.
    fn is_true(
        &self,
        ledger: &Ledger,
        number: usize,
        local_close: Option<Duration>,
        (at, cause, code): (Duration, Cause, CloseCode),
    ) -> bool {
        let guest = &self.guests[number];
        let config = &self.config;
        let bird = &ledger.birds[number];
        // What the server has told the client, if that is there to see it.
        let is_told = |wanted| guest.close_seen.is_none_or(|seen| seen == wanted);
        match cause {
            Cause::PeerClosed => guest.has_closed && code != CloseCode::ABNORMAL,
            Cause::LocalClosed => {
                local_close.is_some() && code != CloseCode::ABNORMAL && is_told(CloseCode::NORMAL)
            }
            Cause::Disconnected => guest.has_finished,
            Cause::Reset => guest.was_reset,
            Cause::TimedOut => {
                let slow = [
                    Fault::Delays,
                    Fault::Pauses,
                    Fault::ClockJumps,
                    // A backlog may take longer than a closing handshake may.
                    Fault::SmallBuffers,
                ];
                guest.has_vanished
                    || guest.has_stalled
                    || guest.has_finished
                    || slow.iter().any(|fault| self.plan.faults.has(*fault))
            }
            // It may have been told to go for another reason before.
            Cause::ProtocolError(_) => guest.has_broken_rules,
            Cause::Limit(_) => guest.has_broken_rules && code == CloseCode::MESSAGE_TOO_BIG,
            Cause::TooFast => {
                let sent = guest.sent + guest.pings + bird.ponged;
                let rate = config.messages_per_second_max.map(u64::from);
                rate.is_some_and(|rate| sent > rate) && is_told(CloseCode::POLICY_VIOLATION)
            }
            Cause::TooSlow => {
                let is_strict = |topic: &String| overflow_of(topic) == Overflow::Close;
                bird.ever.iter().any(is_strict) && is_told(CloseCode::TRY_AGAIN_LATER)
            }
            Cause::Idle => {
                config.idle_timeout.is_some_and(|idle| {
                    let is_early = at + TICK < bird.active + idle;
                    let is_late = ledger.is_punctual
                        && at
                            > self.drained_by.max(bird.active + idle + config.close_timeout)
                                + SLACK;
                    !is_early && !is_late
                }) && is_told(CloseCode::NORMAL)
            }
            Cause::Lifetime => {
                config.lifetime_max.is_some_and(|lifetime| {
                    bird.opened.is_some_and(|opened| at + TICK >= opened + lifetime * 9 / 10)
                }) && is_told(CloseCode::SERVICE_RESTART)
            }
            Cause::Shutdown => self.has_stopped && is_told(CloseCode::GOING_AWAY),
            _ => false,
        }
    }
}

/// Whether a raw client can have got what it did.
pub(crate) fn is_answer(guest: &Guest, faults: Faults) -> bool {
    let text = String::from_utf8_lossy(&guest.answers);
    let first_lines = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    let statuses: Vec<_> = first_lines.filter_map(|line| line.get(..3)).collect();
    // It was told before it had asked, or asked too slowly.
    let slow = [Fault::Delays, Fault::Pauses, Fault::ClockJumps, Fault::Descriptors];
    let is_slow = slow.iter().any(|fault| faults.has(*fault));
    if statuses == ["503"] || statuses == ["429"] || (is_slow && statuses == ["408"]) {
        return true;
    }
    let expected: &[&str] = match guest.head {
        // Who has not asked is told nothing.
        0 => &[],
        1 => &["408"],
        2 => &["426", "426"],
        3 => &["400"],
        4 => &["405"],
        _ => &["426"],
    };
    let is_cut =
        is_slow || guest.was_reset || guest.has_vanished || guest.has_finished || guest.has_stalled;
    statuses == expected || (is_cut && expected.starts_with(&statuses))
}
