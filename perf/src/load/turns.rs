//! Senders that share a schedule.

use super::{Schedule, Time};

/// Senders take turns in a schedule: of three, each has every third time.
pub(crate) struct Turns {
    schedule: Schedule,
    /// The number of the time that comes next.
    due: u64,
    /// Those that have more to send than they could, and whether one is among them.
    behind: Vec<usize>,
    is_behind: Vec<bool>,
}

/// How far a sender got with what is due of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    /// It is asked again in the next tick: its socket takes no more.
    Blocked,
    /// It is asked again at once, in a tick of its own: there was enough in this one.
    Enough,
}

impl Turns {
    /// So many senders, 1 at least.
    pub(crate) fn new(schedule: Schedule, senders: usize) -> Self {
        Self { schedule, due: 0, behind: Vec::new(), is_behind: vec![false; senders.max(1)] }
    }

    /// When a sender is to send the message that is number `number` of its own.
    pub(crate) fn intended(&self, sender: usize, number: u64) -> Time {
        self.schedule.at(sender as u64 + number * self.is_behind.len() as u64)
    }

    /// How many messages of a sender were due by now, behind so many that it has sent.
    pub(crate) fn unsent(&self, now: Time, sender: usize, sent: u64) -> u64 {
        (sent..).take_while(|number| self.intended(sender, *number) <= now).count() as u64
    }

    /// Has each that is behind send, and each whose turn has come by now: all that is due of it. When to come again.
    pub(crate) fn take(&mut self, now: Time, mut send: impl FnMut(&Self, usize) -> Sent) -> Time {
        let mut is_enough = false;
        for sender in std::mem::take(&mut self.behind) {
            self.is_behind[sender] = false;
            is_enough |= self.send(sender, &mut send);
        }
        let senders = self.is_behind.len() as u64;
        // All that is due of a sender is sent at once: one turn is enough.
        for turn in 0.. {
            let next = self.schedule.at(self.due);
            if next > now {
                return if is_enough { now } else { next };
            }
            let sender = (self.due % senders) as usize;
            if turn < senders && !self.is_behind[sender] {
                is_enough |= self.send(sender, &mut send);
            }
            self.due += 1;
        }
        Time::NEVER
    }

    fn send(&mut self, sender: usize, send: &mut impl FnMut(&Self, usize) -> Sent) -> bool {
        let sent = send(self, sender);
        if sent != Sent::All {
            self.is_behind[sender] = true;
            self.behind.push(sender);
        }
        sent == Sent::Enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    /// Two senders, each of which sends every 20 ms.
    fn turns() -> Turns {
        Turns::new(Schedule::new(at(0), 100.0), 2)
    }

    /// Who is asked, and when to come again.
    fn take(turns: &mut Turns, millis: u64, sent: [Sent; 2]) -> (Vec<usize>, Time) {
        let mut asked = Vec::new();
        let next = turns.take(at(millis), |_, sender| {
            asked.push(sender);
            sent[sender]
        });
        (asked, next)
    }

    #[test]
    fn each_has_its_times_and_is_asked_once_for_all_that_is_due() {
        let mut turns = turns();
        assert_eq!([turns.intended(0, 0), turns.intended(1, 0)], [at(0), at(10)]);
        assert_eq!([turns.intended(0, 3), turns.intended(1, 3)], [at(60), at(70)]);
        assert_eq!(take(&mut turns, 0, [Sent::All; 2]), (vec![0], at(10)));
        assert_eq!(take(&mut turns, 9, [Sent::All; 2]), (vec![], at(10)));
        assert_eq!(take(&mut turns, 65, [Sent::All; 2]), (vec![1, 0], at(70)));
        assert_eq!([turns.unsent(at(65), 0, 0), turns.unsent(at(65), 1, 0)], [4, 3]);
        assert_eq!([turns.unsent(at(69), 0, 4), turns.unsent(at(100), 1, 2)], [0, 3]);
    }

    #[test]
    fn who_could_not_send_is_asked_again_in_each_tick_until_it_can() {
        let mut turns = turns();
        assert_eq!(take(&mut turns, 0, [Sent::Blocked; 2]), (vec![0], at(10)));
        assert_eq!(take(&mut turns, 1, [Sent::Blocked; 2]), (vec![0], at(10)));
        assert_eq!(take(&mut turns, 20, [Sent::Blocked, Sent::All]), (vec![0, 1], at(30)));
        assert_eq!(take(&mut turns, 21, [Sent::All; 2]), (vec![0], at(30)));
        assert_eq!(take(&mut turns, 22, [Sent::All; 2]), (vec![], at(30)));
    }

    #[test]
    fn who_has_sent_enough_for_a_tick_is_asked_again_at_once() {
        let mut turns = turns();
        assert_eq!(take(&mut turns, 0, [Sent::Enough; 2]), (vec![0], at(0)));
        let (asked, next) = take(&mut turns, 10, [Sent::Enough; 2]);
        assert_eq!((asked.into_iter().collect::<BTreeSet<_>>(), next), ([0, 1].into(), at(10)));
        assert_eq!(take(&mut turns, 10, [Sent::All; 2]).1, at(20));
    }
}
