//! Where a result goes.

use super::{Report, histogram, html};
use clap::Args;
use std::{
    error::Error,
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The forms of a result apart from text.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Writes the result to FILE as JSON, or to standard output if FILE is `-`: the text then goes
    /// to standard error.
    #[arg(long, value_name = "FILE", value_parser = parse_file_or_stdout)]
    json: Option<PathBuf>,
    /// Writes the latencies to FILE as HdrHistogram's percentiles, in milliseconds, to be plotted
    /// with those of other tools.
    #[arg(long, value_name = "FILE", value_parser = parse_file)]
    hgrm: Option<PathBuf>,
    /// Writes the result to FILE as a page with plots, which needs nothing from elsewhere.
    #[arg(long, value_name = "FILE", value_parser = parse_file)]
    html: Option<PathBuf>,
}

/// The status of a run whose figures do not tell what they seem to.
const INVALID: u8 = 3;
const STDOUT: &str = "-";

fn parse_file_or_stdout(text: &str) -> Result<PathBuf, String> {
    if text == STDOUT { Ok(text.into()) } else { parse_file(text) }
}

/// Said before a run of minutes, not after.
fn parse_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.file_name().is_none() || path.is_dir() {
        return Err("must be the name of a file".into());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(format!("there is no directory {}", folder.display()))
        }
        _ => Ok(path),
    }
}

impl Output {
    /// Writes the whole result, and tells how the program is to end.
    pub(crate) fn finish(&self, report: &Report) -> Result<ExitCode, Box<dyn Error>> {
        self.line(report)?;
        self.write(report)
    }

    /// Writes a line of text, or several.
    pub(crate) fn line(&self, text: impl Display) -> io::Result<()> {
        if self.json_to_stdout() {
            writeln!(io::stderr(), "{text}")
        } else {
            writeln!(io::stdout(), "{text}")
        }
    }

    fn json_to_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new(STDOUT))
    }

    fn write(&self, report: &Report) -> Result<ExitCode, Box<dyn Error>> {
        if let Some(path) = &self.json {
            let json = serde_json::to_string(report)?;
            if self.json_to_stdout() {
                writeln!(io::stdout(), "{json}")?;
            } else {
                write_file(path, &json)?;
            }
        }
        if let Some(path) = &self.hgrm {
            self.write_percentiles(path, report)?;
        }
        if let Some(path) = &self.html {
            write_file(path, &html::page(report)?)?;
        }
        Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
    }

    /// The first histogram goes to the file of that name, each other to one beside it.
    fn write_percentiles(&self, path: &Path, report: &Report) -> Result<(), Box<dyn Error>> {
        if report.histograms.is_empty() {
            return Err(format!("--hgrm: {} has no histogram", report.mode).into());
        }
        for (index, (name, latency)) in report.histograms.iter().enumerate() {
            let mut path = path.to_owned();
            if index > 0 {
                path.set_extension(format!("{name}.hgrm"));
            }
            write_file(&path, &histogram::percentiles(&latency.histogram))?;
        }
        Ok(())
    }
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
