//! The rounds.

use super::{
    Options, Placement,
    contestant::Contestant,
    measurement::{Measurement, Start},
    results::Results,
};
use crate::{
    clock::now,
    progress::Progress,
    server::{Server, pinned_to},
};
use serde_json::Value;
use std::{env, error::Error, io, process::Command};

/// Measures each on each server, in turns.
pub(super) fn measure_all(
    options: &Options,
    contestants: &[Contestant],
    measurements: &[Measurement],
    results: &mut Results,
) {
    let total = measurements.len() * options.rounds * contestants.len();
    let mut progress = Progress::new("comparing", "runs", total as u64, now());
    let mut done = 0;
    // What is measured once all run is measured together, so that each server is started once for it.
    let mut running: Vec<Option<Server>> = Vec::new();
    for (index, measurement) in measurements.iter().enumerate() {
        if measurement.start == Start::Once {
            running.resize_with(contestants.len(), || None);
        } else {
            running.clear();
        }
        for round in 0..options.rounds {
            for turn in 0..contestants.len() {
                // Who comes first in a round comes last in the next one.
                let number = (round + turn) % contestants.len();
                let side = Side {
                    contestant: &contestants[number],
                    running: running.get_mut(number),
                    cores: [options.cores[0], options.cores[1]],
                };
                match side.measure(measurement) {
                    Ok(run) => results.add(number, index, run.as_ref()),
                    Err(error) => results.fail(number, index, &error.to_string()),
                }
                done += 1;
                progress.set(now(), done);
            }
        }
    }
}

struct Side<'c> {
    contestant: &'c Contestant,
    /// Where it is kept from run to run, if it is.
    running: Option<&'c mut Option<Server>>,
    /// Of the servers, and the other one.
    cores: [usize; 2],
}

impl Side<'_> {
    /// `None` if this is nothing for this server.
    fn measure(self, measurement: &Measurement) -> Result<Option<Value>, Box<dyn Error>> {
        let [core, other] = self.cores;
        let load = match measurement.placement {
            Placement::Same => core,
            Placement::Cross => other,
        };
        let echo = self.contestant.echo.on_core(core);
        let mut fresh = None;
        let running = self.running.map(|running| {
            // One that has ended serves nobody any more: what comes next is not to fail with it.
            if running.as_mut().is_some_and(|server| !server.is_running()) {
                *running = None;
            }
            running
        });
        let server = match (measurement.start, running) {
            (Start::ByMode, _) => {
                let Some(publish) = &self.contestant.publish else { return Ok(None) };
                return run_mode(load, measurement.arguments_with(&publish.on_core(core)))
                    .map(Some);
            }
            (Start::Once, Some(Some(server))) => server,
            (Start::Once, Some(none)) => none.insert(Server::start(&echo)?),
            (Start::Anew, _) | (Start::Once, None) => fresh.insert(Server::start(&echo)?),
        };
        let arguments = measurement.arguments_for(server.target().address, server.pid());
        run_mode(load, arguments).map(Some)
    }
}

/// Runs another mode of this program on one core; its result.
fn run_mode(core: usize, arguments: Vec<String>) -> Result<Value, Box<dyn Error>> {
    let words = pinned_to(core);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .arg(env::current_exe()?)
        .args(arguments)
        .args(["--json", "-"])
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", words[0])))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().rfind(|line| !line.trim().is_empty());
        line.unwrap_or("it said nothing").trim().into()
    })
}
