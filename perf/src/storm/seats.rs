//! Who is to come back, and when each was.

use crate::load::Time;
use std::time::Duration;

/// How long a client waits that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl BackOff {
    /// After so many attempts before: anything from nothing to twice as long as the time before, so that
    /// clients that were refused together do not come back together; what the server says comes
    /// first.
    pub(super) fn wait(
        &self,
        attempts: u32,
        retry_after: Option<Duration>,
        random: &mut fastrand::Rng,
    ) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempts.min(20));
        doubled.min(self.most).mul_f64(random.f64()) + retry_after.unwrap_or_default()
    }
}

/// The connections that are dropped.
pub(super) struct Seats {
    seats: Vec<Seat>,
    open: usize,
    /// When each was back for the first time: in the order of time.
    back: Vec<Time>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    is_open: bool,
    was_back: bool,
    attempts: u32,
}

impl Seats {
    pub(super) fn new(count: usize) -> Self {
        Self { seats: vec![Seat::default(); count], open: 0, back: Vec::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.seats.len()
    }

    /// How many are open now.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// How many were back, if only for a while.
    pub(super) const fn back(&self) -> usize {
        self.back.len()
    }

    /// The storm begins: who is open from now on is back.
    pub(super) fn begin(&mut self) {
        self.back.clear();
        for seat in &mut self.seats {
            (seat.was_back, seat.attempts) = (false, 0);
        }
    }

    pub(super) fn set_open(&mut self, seat: usize, now: Time) {
        let seat = &mut self.seats[seat];
        self.open += usize::from(!seat.is_open);
        (seat.is_open, seat.attempts) = (true, 0);
        if !std::mem::replace(&mut seat.was_back, true) {
            self.back.push(now);
        }
    }

    /// It ended, or did not open; whether it was back, and how many attempts in a row have failed.
    pub(super) fn set_gone(&mut self, seat: usize) -> (bool, u32) {
        let seat = &mut self.seats[seat];
        self.open -= usize::from(seat.is_open);
        let was_back = seat.is_open && seat.was_back;
        let attempts = seat.attempts;
        if !std::mem::replace(&mut seat.is_open, false) {
            seat.attempts += 1;
        }
        (was_back, attempts)
    }

    /// When this share of all was back.
    pub(super) fn time_until(&self, share: f64) -> Option<Time> {
        let count = (self.seats.len() as f64 * share).ceil() as usize;
        self.back.get(count.max(1) - 1).copied()
    }

    pub(super) fn times(&self) -> impl Iterator<Item = Time> + '_ {
        self.back.iter().copied()
    }

    /// How many were back at which time: some hundred points.
    pub(super) fn points(&self) -> impl Iterator<Item = (Time, f64)> + '_ {
        let step = self.back.len().div_ceil(POINTS).max(1);
        let is_last = move |index| index + 1 == self.back.len();
        let points = self.back.iter().enumerate();
        let chosen = points.filter(move |(index, _)| index % step == 0 || is_last(*index));
        chosen.map(|(index, time)| (*time, (index + 1) as f64))
    }
}

/// The most points of the curve.
const POINTS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound_by_chance_and_is_never_below_what_the_server_says() {
        let back_off = BackOff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        let mut random = fastrand::Rng::with_seed(7);
        let mut longest =
            |attempts| (0..1000).map(|_| back_off.wait(attempts, None, &mut random)).max().unwrap();
        assert!((90..=100).contains(&longest(0).as_millis()));
        assert!((180..=200).contains(&longest(1).as_millis()));
        assert!((900..=1000).contains(&longest(4).as_millis()));
        assert!((900..=1000).contains(&longest(u32::MAX).as_millis()));
        let said = Duration::from_secs(5);
        let waits: Vec<_> = (0..100).map(|_| back_off.wait(0, Some(said), &mut random)).collect();
        assert!(waits.iter().all(|wait| *wait >= said) && waits[0] != waits[1]);
    }

    #[test]
    fn shares_of_those_that_are_back_are_told_once_there_are_so_many() {
        let mut seats = Seats::new(4);
        seats.begin();
        for seat in 0..3 {
            seats.set_open(seat, Time::from_nanos(10 + seat as u64));
        }
        assert_eq!(seats.time_until(0.5), Some(Time::from_nanos(11)));
        assert_eq!(seats.time_until(0.01), Some(Time::from_nanos(10)));
        assert_eq!(seats.time_until(1.0), None);
        assert_eq!(seats.points().last(), Some((Time::from_nanos(12), 3.0)));
    }

    #[test]
    fn who_was_back_once_is_not_back_for_the_first_time_again() {
        let mut seats = Seats::new(2);
        seats.set_open(0, Time::from_nanos(1));
        seats.begin();
        assert_eq!(seats.set_gone(0), (false, 0));
        assert_eq!((seats.set_gone(0), seats.set_gone(0)), ((false, 0), (false, 1)));
        seats.set_open(0, Time::from_nanos(2));
        assert_eq!(seats.set_gone(0), (true, 0));
        seats.set_open(0, Time::from_nanos(3));
        assert_eq!((seats.open(), seats.back()), (1, 1));
        assert_eq!(seats.times().collect::<Vec<_>>(), [Time::from_nanos(2)]);
    }

    #[test]
    fn the_curve_of_many_has_few_points_and_ends_with_all() {
        let mut seats = Seats::new(100_001);
        seats.begin();
        (0..100_001).for_each(|seat| seats.set_open(seat, Time::from_nanos(seat as u64)));
        let points: Vec<_> = seats.points().collect();
        assert!(points.len() <= POINTS + 1, "{}", points.len());
        assert_eq!((points[0].1, points.last().unwrap().1), (1.0, 100_001.0));
    }
}
