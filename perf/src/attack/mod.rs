//! `quelea-perf attack`: what hostile and broken peers get from a server, a row an attack.
//!
//! Each row is bounded in time and bytes, and runs alone; before, while and after it, another
//! connection has to get its echo in good time.

mod arena;
mod deadlines;
mod deflate;
mod exchange;
mod finding;
mod floods;
mod fragments;
mod frames;
mod handshake;
mod judge;
pub(crate) mod peer;
mod pour;
mod process;
mod request;
mod row;

use crate::{
    report::{Output, Report, Table, Unit},
    target::Target,
};
use arena::{Arena, Bounds};
use clap::Args;
use finding::Verdict;
use judge::{Judge, Judged};
use process::Process;
use row::Row;
use serde::Serialize;
use std::{collections::BTreeMap, error::Error, process::ExitCode};

#[derive(Args, Serialize)]
#[command(after_help = "Examples, where 4711 is the server's process:\n  \
    quelea-perf attack ws://127.0.0.1:9001/ --server-pid 4711\n  \
    One group of rows, or one row:\n    \
    quelea-perf attack ws://127.0.0.1:9001/ --row handshake --row frames/unmasked")]
pub(crate) struct Options {
    /// A server that echoes, such as ws://127.0.0.1:9001/.
    #[arg(required_unless_present = "list", value_name = "URL")]
    target: Option<Target>,
    /// The server's process id: tells what attacks cost it, and is needed by the rows about memory
    /// and descriptors.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Runs only this row, or this group of rows; may be given several times.
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Lists the rows, each with its rule and what is expected, and runs none.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    #[serde(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// Runs the rows; the status is that of a failure if a row failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let Some(target) = options.target.as_ref().filter(|_| !options.list) else {
        // The names are those of any target.
        for row in wanted(&"ws://127.0.0.1:80/".parse()?, &options.rows)? {
            let (name, rule) = (row.name, row.rule.text());
            options.output.line(format_args!("{name:<NAME_WIDTH$} {rule}: {}", row.expected))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    options.output.refuse_hgrm("attack")?;
    let process = options.server_pid.map(Process::new).transpose()?;
    let rows = wanted(target, &options.rows)?;
    let arena = Arena { target, bounds: &options.bounds, process: process.as_ref() };
    let mut judge = Judge::new(arena);
    let mut judged = Vec::new();
    for row in &rows {
        let row = judge.judge(row);
        options.output.line(&row)?;
        judged.push(row);
    }
    let code = options.output.finish(&report(options, &judged))?;
    let has_failed = judged.iter().any(|row| row.finding.verdict == Verdict::Fail);
    Ok(if has_failed { ExitCode::FAILURE } else { code })
}

/// How long the names are.
pub(crate) const NAME_WIDTH: usize = 37;

fn report(options: &Options, judged: &[Judged<'_>]) -> Report {
    let mut report = Report::new("attack", options);
    let columns = [
        ("verdict", None),
        ("row", None),
        ("happened", None),
        ("CPU", Some(Unit::Seconds)),
        ("memory", Some(Unit::Bytes)),
        ("expected", None),
        ("rule", None),
    ];
    let mut table = Table::new("rows", &columns);
    let mut counts: BTreeMap<_, _> =
        Verdict::ALL.iter().map(|verdict| (verdict.name().to_owned(), 0)).collect();
    for Judged { row, finding, cost } in judged {
        *counts.entry(finding.verdict.name().to_owned()).or_default() += 1;
        table.row(vec![
            finding.verdict.name().into(),
            row.name.into(),
            finding.happened.as_str().into(),
            cost.as_ref().map(|cost| cost.cpu.as_secs_f64()).into(),
            cost.as_ref().map(|cost| cost.memory).into(),
            row.expected.into(),
            row.rule.text().into(),
        ]);
    }
    report.table(table.written());
    report.counts("verdicts", "rows", counts);
    report
}

fn wanted(target: &Target, names: &[String]) -> Result<Vec<Row>, String> {
    let mut rows = handshake::rows(target);
    rows.extend(frames::rows());
    rows.extend(deflate::rows());
    rows.extend(floods::rows());
    rows.extend(fragments::long_rows());
    if let Some(name) = names.iter().find(|name| !rows.iter().any(|row| row.is_called(name))) {
        return Err(format!("there is no row `{name}`: --list tells their names"));
    }
    rows.retain(|row| names.is_empty() || names.iter().any(|name| row.is_called(name)));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    fn names(wanted: &[&str]) -> Result<Vec<&'static str>, String> {
        let names: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        let rows = super::wanted(&"ws://127.0.0.1:80/".parse().unwrap(), &names)?;
        Ok(rows.iter().map(|row| row.name).collect())
    }

    #[test]
    fn rows_are_chosen_by_their_name_or_their_group() {
        let all = names(&[]).unwrap();
        let unique: BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len(), "each name stands once");
        let groups =
            ["handshake", "frames", "deflate", "floods"].map(|group| names(&[group]).unwrap());
        assert_eq!(groups.concat(), all);
        let some = ["frames/unmasked", "floods/never-reader"];
        assert_eq!(names(&some).unwrap(), some);
        assert!(names(&["frames/no-such"]).unwrap_err().contains("--list"));
    }
}
