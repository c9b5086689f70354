//! How far a run is, for whoever watches it.

use crate::report::Unit;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// What a phase ends with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Total {
    Time(Duration),
    Count(u64),
}

impl From<Duration> for Total {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl From<u64> for Total {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

/// A line on standard error that is there until this is dropped; nothing if it is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    total: Total,
    /// What is counted: "messages".
    counted: &'static str,
    start: Instant,
    /// When it was drawn, and how much was done then.
    drawn: (Instant, u64),
    next: Instant,
}

/// Between two changes of the line.
const INTERVAL: Duration = Duration::from_millis(200);

impl Progress {
    /// Begins a phase that ends at a time or a count of what is counted.
    pub(crate) fn new(
        phase: impl Into<String>,
        counted: &'static str,
        total: impl Into<Total>,
        now: Instant,
    ) -> Self {
        Self::on(ProgressDrawTarget::stderr(), phase.into(), counted, total.into(), now)
    }

    fn on(
        target: ProgressDrawTarget,
        phase: String,
        counted: &'static str,
        total: Total,
        now: Instant,
    ) -> Self {
        let length = match total {
            Total::Time(time) => milliseconds(time),
            Total::Count(count) => count,
        };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_prefix(phase);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3} % {msg}");
        bar.set_style(style.expect("a template that never changes"));
        Self { bar, total, counted, start: now, drawn: (now, 0), next: now }
    }

    /// Tells how much of what is counted is done; cheap enough for each turn of a loop.
    #[inline]
    pub(crate) fn set(&mut self, now: Instant, done: u64) {
        if now >= self.next {
            self.draw(now, done);
        }
    }

    #[cold]
    fn draw(&mut self, now: Instant, done: u64) {
        let (then, before) = self.drawn;
        let rate = done.saturating_sub(before) as f64 / (now - then).as_secs_f64();
        self.bar.set_position(match self.total {
            Total::Time(_) => milliseconds(now - self.start),
            Total::Count(_) => done,
        });
        // Just now it began.
        let rate = if rate.is_finite() {
            format!(", {}", Unit::PerSecond.text(rate))
        } else {
            String::new()
        };
        self.bar.set_message(format!("{done} {}{rate}", self.counted));
        self.drawn = (now, done);
        self.next = now + INTERVAL;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn progress(total: impl Into<Total>, now: Instant) -> Progress {
        Progress::on(ProgressDrawTarget::hidden(), "run".to_owned(), "messages", total.into(), now)
    }

    #[test]
    fn the_rate_is_that_since_the_last_change_of_the_line() {
        let start = clock::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut progress = progress(Duration::from_secs(10), start);
        progress.set(at(0), 0);
        assert_eq!(progress.bar.message(), "0 messages");
        progress.set(at(1000), 5000);
        assert_eq!(progress.bar.message(), "5000 messages, 5000 a second");
        progress.set(at(1500), 6000);
        assert_eq!(progress.bar.message(), "6000 messages, 2000 a second");
        assert_eq!((progress.bar.position(), progress.bar.length()), (1500, Some(10_000)));
    }

    #[test]
    fn the_line_changes_a_few_times_a_second_only() {
        let start = clock::now();
        let mut progress = progress(1000, start);
        for millisecond in 0..300 {
            progress.set(start + Duration::from_millis(millisecond), millisecond);
        }
        assert_eq!(progress.bar.position(), 200);
    }
}
