//! The way of one worker's counts to those who ask for them.

use super::{WorkerMetrics, WorkerReport};
use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest that anyone waits: with more, the clock could overflow.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a worker leaves what it counted. It looks at a flag when it is woken, and takes the lock only to
/// answer.
#[derive(Debug, Default)]
pub(crate) struct Report {
    is_asked: AtomicBool,
    inner: Mutex<Inner>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    metrics: WorkerMetrics,
    stage: Stage,
    /// How often it answered.
    answers: u64,
    /// When it was asked first what it has not answered yet.
    asked_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Its handler is being made.
    #[default]
    Starting,
    Serving,
    Ended,
}

/// What somebody asked.
#[derive(Debug)]
pub(crate) struct Question {
    /// The answers before it; `None` if the worker does not serve, and was not asked.
    answers: Option<u64>,
}

impl Report {
    /// Asks the worker, which has to be woken afterwards.
    pub(crate) fn ask(&self) -> Question {
        let mut inner = self.lock();
        let is_serving = inner.stage == Stage::Serving;
        if is_serving {
            inner.asked_at.get_or_insert_with(now);
            self.is_asked.store(true, Ordering::Release);
        }
        Question { answers: is_serving.then_some(inner.answers) }
    }

    /// The answer, if it comes in time; until then, and of a worker that does not run, the latest.
    pub(crate) fn wait(&self, question: &Question, until: Instant) -> WorkerReport {
        let is_missing = |inner: &mut Inner| Some(inner.answers) == question.answers;
        let patience = until.saturating_duration_since(now());
        let waited = self.answered.wait_timeout_while(self.lock(), patience, is_missing);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let unanswered = match is_missing(&mut inner) {
            true => inner.asked_at.map(|asked_at| now().saturating_duration_since(asked_at)),
            false => None,
        };
        WorkerReport { metrics: inner.metrics.clone(), unanswered }
    }

    /// Whether the worker serves.
    pub(crate) fn is_serving(&self) -> bool {
        self.lock().stage == Stage::Serving
    }

    /// The worker serves from now on.
    pub(crate) fn start(&self) {
        self.lock().stage = Stage::Serving;
    }

    /// Whether the worker is to answer.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }

    /// The worker's answer, also for those who asked since it began to count: nothing has happened
    /// to it meanwhile.
    pub(crate) fn answer(&self, metrics: WorkerMetrics) {
        self.answer_as(Stage::Serving, metrics);
    }

    /// The worker's last answer.
    pub(crate) fn end(&self, metrics: WorkerMetrics) {
        self.answer_as(Stage::Ended, metrics);
    }

    fn answer_as(&self, stage: Stage, metrics: WorkerMetrics) {
        let mut inner = self.lock();
        (inner.stage, inner.metrics) = (stage, metrics);
        inner.answers += 1;
        inner.asked_at = None;
        self.is_asked.store(false, Ordering::Relaxed);
        self.answered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moment that somebody waits for who asks now.
pub(crate) fn until(patience: Duration) -> Instant {
    now() + patience.min(PATIENCE_MAX)
}

#[expect(clippy::disallowed_methods, reason = "the clock of who asks: no worker reads it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const MOMENT: Duration = Duration::from_millis(10);
    const HOUR: Duration = Duration::from_secs(3600);

    fn metrics(accepted: u64) -> WorkerMetrics {
        WorkerMetrics { accepted, ..Default::default() }
    }

    #[test]
    fn an_answer_ends_the_wait_of_all_that_asked_before_it() {
        let report = Report::default();
        report.start();
        let questions = [report.ask(), report.ask()];
        thread::scope(|scope| {
            let waits = questions
                .each_ref()
                .map(|question| scope.spawn(|| report.wait(question, until(HOUR))));
            assert!(report.is_asked());
            report.answer(metrics(7));
            assert!(!report.is_asked());
            for wait in waits {
                let expected = WorkerReport { metrics: metrics(7), unanswered: None };
                assert_eq!(wait.join().unwrap(), expected);
            }
        });
    }

    #[test]
    fn one_that_does_not_answer_is_known_by_its_last_answer_and_for_how_long() {
        let report = Report::default();
        report.start();
        report.ask();
        report.answer(metrics(1));
        let asked_at = now();
        let first = report.wait(&report.ask(), until(MOMENT));
        assert_eq!(first.metrics, metrics(1));
        assert!(first.unanswered.is_some_and(|time| time >= MOMENT && time <= asked_at.elapsed()));
        let second = report.wait(&report.ask(), until(MOMENT));
        assert!(second.unanswered >= Some(2 * MOMENT), "since it was asked first");
        report.answer(metrics(2));
        let question = report.ask();
        report.answer(metrics(3));
        assert_eq!(report.wait(&question, until(MOMENT)).unanswered, None);
    }

    #[test]
    fn nobody_waits_for_one_that_does_not_run() {
        let report = Report::default();
        assert_eq!(report.wait(&report.ask(), until(HOUR)), WorkerReport::default());
        assert!(!report.is_serving());
        let early = report.ask();
        report.start();
        assert!(report.is_serving());
        assert_eq!(report.wait(&early, until(HOUR)), WorkerReport::default());
        let question = report.ask();
        report.end(metrics(5));
        assert!(!report.is_serving());
        for question in [question, report.ask()] {
            let last = WorkerReport { metrics: metrics(5), unanswered: None };
            assert_eq!(report.wait(&question, until(HOUR)), last);
        }
    }
}
