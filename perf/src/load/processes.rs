//! One process or several: those of a run that needs more descriptors than one may have.
//!
//! Each is a [`Worker`], which does what it is told and tells what came of it. One is in this process;
//! several are this program again, with commands as lines of JSON on their standard input and answers
//! on their standard output. They end with their parent: then their input does.

use super::Outcome;
use quelea::driver::Wake;
use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// The hidden subcommand of a process of several.
pub(crate) const SUBCOMMAND: &str = "process";
/// Descriptors that a process needs for other things than connections.
const DESCRIPTORS_SPARED: u64 = 64;
/// No machine has use for more.
const PROCESSES_MAX: usize = 1024;
/// Source addresses between those of one process and those of the next.
const SOURCES_EACH: u64 = 32;

/// One process's share of a run.
pub(crate) trait Worker: Sized {
    /// Which kind of worker it is, for a process that is to be one.
    const KIND: &'static str;
    /// What it needs to know from the start.
    type Plan: Serialize + DeserializeOwned;
    /// What it is told.
    type Command: Serialize + DeserializeOwned;
    /// What it tells.
    type Answer: Serialize + DeserializeOwned;

    fn new(plan: Self::Plan) -> Outcome<Self>;

    /// Does what it is told, to the end.
    fn obey(&mut self, command: Self::Command) -> Outcome<Self::Answer>;

    /// Keeps its connections alive until `is_over` says that this is enough, which is asked often, and
    /// whenever it is woken.
    fn idle(&mut self, is_over: &mut dyn FnMut() -> bool) -> Outcome;

    fn waker(&self) -> Arc<dyn Wake>;
}

/// How many connections each of so many has, and which source address is its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) connections: usize,
    pub(crate) first_source: u64,
}

/// As many processes as so many connections need, or as are asked for.
///
/// # Errors
/// They are too many, or there is less than one connection for each.
pub(crate) fn shares(connections: usize, processes: Option<usize>) -> Outcome<Vec<Share>> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let each = usize::try_from(limit.saturating_sub(DESCRIPTORS_SPARED)).unwrap_or(usize::MAX);
    divide(connections, each, processes)
}

/// Whether so many connections fit in this process, for a mode that has one only.
///
/// # Errors
/// It may not have so many descriptors.
pub(crate) fn check_one(connections: usize) -> Result<(), String> {
    fits_in_one(connections, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn fits_in_one(connections: usize, limit: u64) -> Result<(), String> {
    let needed = (connections as u64).saturating_add(DESCRIPTORS_SPARED);
    if needed <= limit {
        return Ok(());
    }
    Err(format!(
        "{connections} connections need {needed} descriptors, and this process may have {limit}: ask \
         for fewer, or raise `ulimit -n`"
    ))
}

fn divide(connections: usize, each_max: usize, processes: Option<usize>) -> Outcome<Vec<Share>> {
    if each_max == 0 {
        return Err("a process may have no descriptors for connections: raise `ulimit -n`".into());
    }
    let needed = connections.div_ceil(each_max).max(1);
    let processes = processes.unwrap_or(needed);
    if processes < needed {
        return Err(format!(
            "{connections} connections need {needed} processes, each of which may have {each_max} \
             (`ulimit -n`)"
        )
        .into());
    }
    if processes > PROCESSES_MAX || processes > connections.max(1) {
        return Err(format!(
            "{connections} connections of {processes} processes: at most {PROCESSES_MAX} processes, \
             and a connection for each"
        )
        .into());
    }
    let share = |index: usize| Share {
        connections: connections / processes + usize::from(index < connections % processes),
        first_source: index as u64 * SOURCES_EACH,
    };
    Ok((0..processes).map(share).collect())
}

/// The workers of a run.
pub(crate) enum Crew<W> {
    Here(W),
    Processes(Vec<Process>),
}

impl<W: Worker> Crew<W> {
    /// Starts a worker for each plan: a single one in this process.
    pub(crate) fn start(mut plans: Vec<W::Plan>) -> Outcome<Self> {
        if plans.len() == 1
            && let Some(plan) = plans.pop()
        {
            return Ok(Self::Here(W::new(plan)?));
        }
        let started: Outcome<Vec<_>> = plans.iter().map(Process::start::<W>).collect();
        Ok(Self::Processes(started?))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Here(_) => 1,
            Self::Processes(processes) => processes.len(),
        }
    }

    /// Tells each something, and waits for all the answers.
    pub(crate) fn call(
        &mut self,
        mut command: impl FnMut(usize) -> W::Command,
    ) -> Outcome<Vec<W::Answer>> {
        match self {
            Self::Here(worker) => Ok(vec![worker.obey(command(0))?]),
            Self::Processes(processes) => {
                for (index, process) in processes.iter_mut().enumerate() {
                    process.tell(&command(index));
                }
                processes.iter_mut().map(Process::hear).collect()
            }
        }
    }

    /// Lets time go by, with all connections kept alive.
    pub(crate) fn wait(&mut self, length: Duration) -> Outcome {
        match self {
            Self::Here(worker) => {
                let end = crate::clock::now() + length;
                worker.idle(&mut || crate::clock::now() >= end)
            }
            Self::Processes(_) => {
                thread::sleep(length);
                Ok(())
            }
        }
    }
}

/// A worker in a process of its own, which ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The first line that a process is told.
#[derive(Serialize, Deserialize)]
struct Hello {
    kind: String,
    plan: Value,
}

impl Process {
    fn start<W: Worker>(plan: &W::Plan) -> Outcome<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or("a process without pipes")?;
        let mut process = Self { child, input, output: BufReader::new(output) };
        let plan = serde_json::to_value(plan)?;
        process.tell(&Hello { kind: W::KIND.to_owned(), plan });
        Ok(process)
    }

    fn tell(&mut self, command: &impl Serialize) {
        let line = serde_json::to_string(command).expect("commands have names that are strings");
        // One that is gone has said why: that is heard next.
        let _ = writeln!(self.input, "{line}");
    }

    fn hear<A: DeserializeOwned>(&mut self) -> Outcome<A> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            return Err(format!("a process of the generator ended: {status}").into());
        }
        serde_json::from_str::<Result<A, String>>(&line)?.map_err(Into::into)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process is told, when it is one of several.
pub(crate) struct Orders {
    kind: String,
    plan: Value,
    lines: mpsc::Receiver<String>,
    waker: mpsc::Sender<Arc<dyn Wake>>,
}

impl Orders {
    /// Waits for the first line.
    pub(crate) fn read() -> Outcome<Self> {
        // Its input ends with its parent, but that is not looked at while something is measured.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let (sender, lines) = mpsc::channel();
        let (waker, wakers) = mpsc::channel::<Arc<dyn Wake>>();
        thread::spawn(move || {
            let mut waker = None;
            for line in io::stdin().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
                // There is none before the worker is made.
                waker = waker.or_else(|| wakers.try_recv().ok());
                waker.iter().for_each(|waker| drop(waker.wake()));
            }
            drop(sender);
            let waker = waker.or_else(|| wakers.try_recv().ok());
            waker.iter().for_each(|waker| drop(waker.wake()));
        });
        let first = lines.recv().map_err(|_| "expected a plan on standard input")?;
        let Hello { kind, plan } = serde_json::from_str(&first)?;
        Ok(Self { kind, plan, lines, waker })
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Does what it is told until nobody is there to tell it more.
    pub(crate) fn follow<W: Worker>(self) -> Outcome {
        let plan = serde_json::from_value(self.plan)?;
        let mut worker = match W::new(plan) {
            Ok(worker) => worker,
            Err(error) => {
                answer::<W>(&Err(error.to_string()));
                return Ok(());
            }
        };
        // The thread is gone only when the input is at its end.
        let _ = self.waker.send(worker.waker());
        loop {
            let mut line = None;
            let mut is_over = || match self.lines.try_recv() {
                Ok(command) => {
                    line = Some(command);
                    true
                }
                Err(error) => error == mpsc::TryRecvError::Disconnected,
            };
            let done = match worker.idle(&mut is_over) {
                Ok(()) => {
                    let Some(line) = line else { return Ok(()) };
                    worker.obey(serde_json::from_str(&line)?)
                }
                Err(error) => Err(error),
            };
            let done = done.map_err(|error| error.to_string());
            if !answer::<W>(&done) || done.is_err() {
                return Ok(());
            }
        }
    }
}

/// Whether anybody is there to hear it.
fn answer<W: Worker>(answer: &Result<W::Answer, String>) -> bool {
    let line = serde_json::to_string(answer).expect("answers have names that are strings");
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(connections: usize, each_max: usize, processes: Option<usize>) -> Vec<usize> {
        let shares = divide(connections, each_max, processes).unwrap();
        shares.iter().map(|share| share.connections).collect()
    }

    #[test]
    fn connections_are_divided_over_as_many_processes_as_descriptors_need() {
        assert_eq!(counts(100, 100, None), [100]);
        assert_eq!(counts(101, 100, None), [51, 50]);
        assert_eq!(counts(10, 100, Some(3)), [4, 3, 3]);
        assert_eq!(counts(0, 100, None), [0]);
        let sources: Vec<_> = divide(3, 1, None).unwrap().iter().map(|s| s.first_source).collect();
        assert_eq!(sources, [0, SOURCES_EACH, 2 * SOURCES_EACH]);
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let error = |connections, each, processes| {
            divide(connections, each, processes).unwrap_err().to_string()
        };
        assert!(error(200, 99, Some(2)).contains("need 3 processes"));
        assert!(error(2, 99, Some(3)).contains("a connection for each"));
        assert!(error(1_000_000, 1, None).contains("at most 1024"));
        assert!(error(1, 0, None).contains("ulimit -n"));
    }

    #[test]
    fn what_does_not_fit_in_one_process_is_told() {
        assert_eq!(fits_in_one(100, 100 + DESCRIPTORS_SPARED), Ok(()));
        let error = fits_in_one(101, 100 + DESCRIPTORS_SPARED).unwrap_err();
        assert!(error.contains("ulimit -n"), "{error}");
    }
}
