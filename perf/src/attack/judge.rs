//! Runs rows, one after the other, and judges each by what it did to the server and to others too.

use super::{
    arena::{Arena, Calm, Noticed, watch},
    process::Process,
    row::{Finding, Row, Verdict},
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
    /// The last row before which the server still answered.
    last: Option<&'static str>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(arena: Arena<'a>) -> Self {
        Self { arena, last: None }
    }

    pub(crate) fn judge<'r>(&mut self, row: &'r Row) -> Judged<'r> {
        match (Calm::open(&self.arena), self.last) {
            (Ok(calm), _) => {
                self.last = Some(row.name);
                run(row, calm, &self.arena)
            }
            (Err(error), Some(last)) => {
                let finding = Finding::skip(format!("no server since {last}: {error}"));
                Judged { row, finding, cost: None }
            }
            (Err(error), None) => {
                let finding = Finding::fail(format!("a plain echo before it: {error}"));
                Judged { row, finding, cost: None }
            }
        }
    }
}

fn run<'r>(row: &'r Row, calm: Calm, arena: &Arena<'_>) -> Judged<'r> {
    let before = arena.process.map(usage);
    let is_over = AtomicBool::new(false);
    let (finding, noticed) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(calm, arena.process, &is_over));
        let finding = row.run(arena);
        is_over.store(true, Ordering::Release);
        (finding, watching.join().unwrap_or_default())
    });
    let cost = cost(before, &noticed, arena.process);
    let finding = finding.unwrap_or_else(|error| Finding::fail(error.to_string()));
    let finding = with_others(finding, &noticed, arena);
    let finding = with_memory(finding, row, cost.as_ref(), arena);
    Judged { row, finding, cost: cost.filter(|_| row.has_cost) }
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
        memory: noticed.memory_peak?.saturating_sub(memory),
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

fn with_memory(finding: Finding, row: &Row, cost: Option<&Cost>, arena: &Arena<'_>) -> Finding {
    if !row.is_about_memory || matches!(finding.verdict, Verdict::Fail | Verdict::Skip) {
        return finding;
    }
    match cost {
        None => Finding::skip(format!("{}; memory needs --server-pid", finding.happened)),
        Some(cost) if cost.memory > arena.bounds.memory_mib << 20 => {
            let most = arena.bounds.memory_mib;
            Finding::fail(format!("{}; more than {most} MiB of memory", finding.happened))
        }
        Some(_) => finding,
    }
}

impl fmt::Display for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { verdict, happened } = &self.finding;
        write!(f, "{}  {:<40} {happened}", verdict.name(), self.row.name)?;
        if let Some(cost) = &self.cost {
            write!(f, " ({cost})")?;
        }
        if *verdict != Verdict::Pass {
            write!(f, " [expected: {}; {}]", self.row.expected, self.row.rule.text())?;
        }
        Ok(())
    }
}
