//! Where a result goes.

use super::{Report, histogram, html, text};
use clap::Args;
use std::{
    env,
    error::Error,
    fmt::Display,
    fs,
    io::{self, IsTerminal, Write},
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
        let text = text::plain(&text.to_string());
        if self.json_to_stdout() {
            write_line(io::stderr(), &text)
        } else {
            write_line(io::stdout(), &text)
        }
    }

    /// Says before a run that it gives no histogram, not after.
    pub(crate) fn refuse_hgrm(&self, mode: &str) -> Result<(), String> {
        match self.hgrm {
            None => Ok(()),
            Some(_) => Err(format!("--hgrm: {mode} measures no latency; leave it out")),
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
        if let Some(path) = &self.html {
            write_file(path, &html::page(report)?)?;
        }
        if let Some(path) = &self.hgrm {
            Self::write_percentiles(path, report)?;
        }
        Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
    }

    /// The first histogram goes to the file of that name, each other to one beside it that has its
    /// name before the extension.
    fn write_percentiles(path: &Path, report: &Report) -> Result<(), String> {
        if report.histograms.is_empty() {
            return Err(format!("--hgrm: this run of {} measured no latency", report.mode));
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

fn write_line(mut to: impl Write + IsTerminal, text: &str) -> io::Result<()> {
    let has_colors =
        to.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if has_colors { writeln!(to, "{}", text::colored(text)) } else { writeln!(to, "{text}") }
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::sample, *};
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        output: Output,
    }

    fn parse(words: &[&str]) -> Result<Output, clap::Error> {
        let words = ["perf"].iter().chain(words);
        Arguments::try_parse_from(words).map(|arguments| arguments.output)
    }

    #[test]
    fn where_nothing_can_be_written_is_refused_before_the_run() {
        for words in
            [["--json", "/nowhere/a.json"], ["--html", "/"], ["--hgrm", "."], ["--html", ""]]
        {
            assert!(parse(&words).is_err(), "{words:?}");
        }
        assert!(parse(&["--json", "-"]).unwrap().json_to_stdout());
        assert!(!parse(&["--json", "a.json", "--html", "a.html"]).unwrap().json_to_stdout());
        assert!(parse(&["--hgrm", "a"]).unwrap().refuse_hgrm("sim").is_err());
    }

    #[test]
    fn each_form_is_written_to_its_file_and_each_histogram_to_one_of_its_own() {
        let folder = env::temp_dir().join(format!("quelea-perf-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let words =
            ["--json", &path("a.json"), "--html", &path("a.html"), "--hgrm", &path("a.hgrm")];
        let mut report = sample();
        let latency = report.histograms["latency"].histogram.clone();
        report.histogram("connect", "connect", &latency);
        let code = parse(&words).unwrap().write(&report).unwrap();
        let read = |name| fs::read_to_string(folder.join(name)).unwrap();
        let percentiles = histogram::percentiles(&latency);
        assert_eq!((read("a.hgrm"), read("a.connect.hgrm")), (percentiles.clone(), percentiles));
        assert_eq!(read("a.json"), serde_json::to_string(&report).unwrap());
        assert_eq!(read("a.html"), html::page(&report).unwrap());
        let none = parse(&["--hgrm", &path("none.hgrm")]).unwrap();
        assert!(none.write(&Report::new("idle", ())).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(Output::default().write(report.invalid("late")).unwrap(), ExitCode::from(3));
    }
}
