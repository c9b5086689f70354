//! Runs rows, one after the other, and judges each by what it did to the server and to others too.

use super::{
    NAME_WIDTH,
    arena::{Arena, Bounds, Calm, Noticed, watch},
    finding::{Finding, Verdict},
    process::Process,
    row::Row,
};
use std::{
    fmt, io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// A row, what was found, and what it cost the server.
pub(crate) struct Judged<'r> {
    pub(crate) row: &'r Row,
    pub(crate) finding: Finding,
    pub(crate) cost: Option<Cost>,
}

pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    /// How much more resident memory there was than before, at the most.
    pub(crate) memory: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.as_secs_f64() * 1e3;
        write!(f, "{cpu:.1} ms CPU, {:.1} MiB", self.memory as f64 / f64::from(1 << 20))
    }
}

/// Judges rows, one after the other.
pub(crate) struct Judge<'a> {
    arena: Arena<'a>,
    /// The memory of the server before the first row.
    memory: Option<u64>,
    /// The last row before which the server still answered.
    last: Option<&'static str>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(arena: Arena<'a>) -> Self {
        let memory = arena.process.and_then(|process| process.memory().ok());
        Self { arena, memory, last: None }
    }

    pub(crate) fn judge<'r>(&mut self, row: &'r Row) -> Judged<'r> {
        let finding = match (Calm::open(&self.arena), self.last) {
            (Ok(calm), _) => {
                self.last = Some(row.name);
                return self.run(row, calm);
            }
            (Err(error), Some(last)) => Finding::skip(format!("no server since {last}: {error}")),
            (Err(error), None) => Finding::fail(format!("a plain echo before it: {error}")),
        };
        Judged { row, finding, cost: None }
    }

    fn run<'r>(&self, row: &'r Row, calm: Calm) -> Judged<'r> {
        let arena = &self.arena;
        let before = arena.process.map(usage);
        let peak_before = arena.process.and_then(|process| {
            process.forget_peak();
            process.memory_peak().ok()
        });
        let is_over = AtomicBool::new(false);
        let (finding, mut noticed) = thread::scope(|scope| {
            let watching = scope.spawn(|| watch(calm, arena.process, &is_over));
            let finding = row.run(arena);
            is_over.store(true, Ordering::Release);
            (finding, watching.join().unwrap_or_default())
        });
        // What was there too shortly to be seen, since whoever watches waits for the server as well.
        let peak = arena.process.and_then(|process| process.memory_peak().ok());
        if let (Some(peak), Some(peak_before)) = (peak, peak_before)
            && let Some(Ok((_, memory))) = &before
        {
            let unseen = memory.saturating_add(peak.saturating_sub(peak_before));
            noticed.memory_peak = noticed.memory_peak.max(Some(unseen));
        }
        let cost = cost(before, &noticed, arena.process);
        let finding = finding.unwrap_or_else(|error| Finding::fail(error.to_string()));
        let finding = with_others(finding, &noticed, arena);
        let finding = match row.is_about_memory && finding.verdict < Verdict::Skip {
            true => {
                let grown = cost.as_ref().map(|cost| cost.memory);
                with_memory(finding, grown, noticed.grown_since(self.memory), arena.bounds)
            }
            false => finding,
        };
        Judged { row, finding, cost: cost.filter(|_| row.has_cost) }
    }
}

/// CPU time and memory.
fn usage(process: &Process) -> io::Result<(Duration, u64)> {
    Ok((process.cpu()?, process.memory()?))
}

fn cost(
    before: Option<io::Result<(Duration, u64)>>,
    noticed: &Noticed,
    process: Option<&Process>,
) -> Option<Cost> {
    let (cpu, memory) = before?.ok()?;
    Some(Cost {
        cpu: process?.cpu().ok()?.saturating_sub(cpu),
        memory: noticed.grown_since(Some(memory))?,
    })
}

/// Whatever became of the attack, nobody else may notice.
fn with_others(finding: Finding, noticed: &Noticed, arena: &Arena<'_>) -> Finding {
    let mut problems = Vec::new();
    if arena.process.is_some_and(|process| !process.is_running()) {
        problems.push("the server's process has ended".to_owned());
    }
    if let Some(problem) = &noticed.problem {
        problems.push(format!("another connection {problem}"));
    }
    if let Err(error) = Calm::open(arena) {
        problems.push(format!("a new client after it: {error}"));
    }
    match problems.is_empty() {
        true => finding,
        false => Finding::fail(format!("{}; {}", finding.happened, problems.join("; "))),
    }
}

/// What it grew in this row, and since before the first one: what earlier rows left behind may be
/// used again, and hides what this one takes.
fn with_memory(
    finding: Finding,
    grown: Option<u64>,
    grown_in_all: Option<u64>,
    bounds: &Bounds,
) -> Finding {
    let happened = &finding.happened;
    let most = bounds.memory_mib;
    let is_more = |bytes: u64| bytes > most << 20;
    match (grown, grown_in_all) {
        (Some(grown), _) if is_more(grown) => {
            Finding::fail(format!("{happened}; more than {most} MiB of memory"))
        }
        (Some(_), Some(in_all)) if is_more(in_all) => {
            let kept = in_all >> 20;
            Finding::skip(format!(
                "{happened}; {kept} MiB are kept from earlier rows: run it alone on a new server"
            ))
        }
        (Some(_), Some(_)) => finding,
        _ => Finding::skip(format!("{happened}; memory needs --server-pid")),
    }
}

impl fmt::Display for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { verdict, happened } = &self.finding;
        write!(f, "{}  {:<NAME_WIDTH$} {happened}", verdict.name(), self.row.name)?;
        if let Some(cost) = &self.cost {
            write!(f, " ({cost})")?;
        }
        if *verdict != Verdict::Pass {
            write!(f, " [expected: {}; {}]", self.row.expected, self.row.rule.text())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    #[test]
    fn memory_that_is_kept_from_earlier_rows_is_no_reason_to_pass() {
        let command = Bounds::augment_args(clap::Command::new("attack"));
        let bounds = Bounds::from_arg_matches(&command.get_matches_from(["attack"])).unwrap();
        let judge = |grown: u64, in_all: u64| {
            let (grown, in_all) = (Some(grown << 20), Some(in_all << 20));
            with_memory(Finding::pass("taken"), grown, in_all, &bounds).verdict
        };
        assert_eq!(judge(1, 2), Verdict::Pass);
        assert_eq!(judge(65, 65), Verdict::Fail);
        assert_eq!(judge(65, 1), Verdict::Fail);
        assert_eq!(judge(1, 65), Verdict::Skip);
        let unknown = with_memory(Finding::weak("taken"), None, None, &bounds);
        assert_eq!(unknown.verdict, Verdict::Skip);
        assert!(unknown.happened.contains("--server-pid"));
    }
}
