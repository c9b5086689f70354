//! Log lines that a peer could cause without end: each kind now and then, with how many were left out.

use crate::metrics::{Label, Limit};
use std::time::{Duration, Instant};

/// The time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// What is logged at most once in ten seconds by each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// No connection could be accepted.
    AcceptFailed,
    /// A connection could not be watched.
    OpenFailed,
    /// A handler's acceptance or response cannot be sent.
    InvalidAnswer,
    /// A limit was reached.
    Limit(Limit),
}

/// When each kind of line was last written.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    kinds: [Kind; Line::COUNT],
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    next: Option<Instant>,
    left_out: u64,
}

impl Line {
    const OTHERS: usize = 3;
    const COUNT: usize = Self::OTHERS + Limit::ALL.len();

    const fn index(self) -> usize {
        match self {
            Self::AcceptFailed => 0,
            Self::OpenFailed => 1,
            Self::InvalidAnswer => 2,
            Self::Limit(limit) => Self::OTHERS + limit as usize,
        }
    }
}

impl Throttle {
    /// Whether a line is to be written now: then, how many of its kind were left out since the last one.
    pub(crate) fn admit(&mut self, line: Line, now: Instant) -> Option<u64> {
        let kind = &mut self.kinds[line.index()];
        if kind.next.is_some_and(|next| now < next) {
            kind.left_out += 1;
            return None;
        }
        kind.next = Some(now + PAUSE);
        Some(std::mem::take(&mut kind.left_out))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_written_and_then_one_in_ten_seconds_with_how_many_were_not() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let line = Line::Limit(Limit::ConnectionsMax);
        assert_eq!(throttle.admit(line, start), Some(0));
        for second in 0..10 {
            assert_eq!(throttle.admit(line, start + Duration::from_secs(second)), None);
        }
        assert_eq!(throttle.admit(line, start + PAUSE), Some(10));
        assert_eq!(throttle.admit(line, start + PAUSE), None);
        assert_eq!(throttle.admit(line, start + 100 * PAUSE), Some(1));
    }

    #[test]
    fn kinds_do_not_keep_each_other_from_being_written() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let limits = Limit::ALL.iter().map(|limit| Line::Limit(*limit));
        let others = [Line::AcceptFailed, Line::OpenFailed, Line::InvalidAnswer];
        for line in limits.chain(others) {
            assert_eq!((throttle.admit(line, now), throttle.admit(line, now)), (Some(0), None));
        }
    }
}
