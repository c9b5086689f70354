//! The server that a mode loads: one that runs, or one that it starts.

use crate::{
    load::{Meter, Outcome},
    server::{Server, ServerCommand},
    target::Target,
};
use clap::Args;
use serde::Serialize;

/// Where the load goes.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Subject {
    /// The server, such as ws://127.0.0.1:9001/.
    #[arg(value_name = "URL", value_parser = Target::anywhere, required_unless_present = "server")]
    target: Option<Target>,
    /// Loads a server that is not on this machine. Only do that to a host that is yours: to anyone
    /// else it is an attack.
    #[arg(long)]
    i_own_this_host: bool,
    /// Starts the server with this command, {address} where its HOST:PORT belongs, and ends it
    /// afterwards.
    #[arg(long, value_name = "COMMAND", conflicts_with = "target")]
    server: Option<ServerCommand>,
    /// The process id of a server that runs, or several: tells its CPU time.
    #[arg(long, value_name = "PID", value_delimiter = ',', conflicts_with = "server")]
    server_pid: Vec<u32>,
}

/// A server that is there.
pub(crate) struct Running {
    pub(crate) target: Target,
    /// Of the processes whose CPU time is told; none if nobody knows them.
    pids: Vec<u32>,
    /// If it was started here: it ends when this is dropped.
    started: Option<Server>,
}

impl Subject {
    pub(crate) const fn is_started_here(&self) -> bool {
        self.server.is_some()
    }

    /// The server, once it accepts connections.
    pub(crate) fn start(&self) -> Outcome<Running> {
        if let Some(command) = &self.server {
            let server = Server::start_accepting(command)?;
            let (target, pids) = (server.target().clone(), vec![server.pid()]);
            return Ok(Running { target, pids, started: Some(server) });
        }
        let target = self.target.as_ref().ok_or("expected a URL or --server")?;
        let target = if self.i_own_this_host { target } else { target.check_loopback()? };
        Ok(Running { target: target.clone(), pids: self.server_pid.clone(), started: None })
    }
}

impl Running {
    /// Kills the server, and starts it again at the same address. Does not wait until it serves.
    pub(crate) fn restart(&mut self) -> Outcome {
        let server = self.started.as_mut().ok_or("only a server of --server can be restarted")?;
        server.restart()?;
        self.pids = vec![server.pid()];
        Ok(())
    }

    /// Begins to measure its CPU time, if its processes are known.
    pub(crate) fn meter(&self) -> Outcome<Option<Meter>> {
        (!self.pids.is_empty()).then(|| Meter::of_server(&self.pids)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        subject: Subject,
    }

    fn parse(words: &[&str]) -> Result<Subject, clap::Error> {
        let words = ["mode"].iter().chain(words);
        Arguments::try_parse_from(words).map(|arguments| arguments.subject)
    }

    #[test]
    fn a_server_runs_or_is_started_and_is_on_this_machine_unless_it_is_the_users() {
        let running = parse(&["ws://127.0.0.1:9/a", "--server-pid", "1,2"]).unwrap().start();
        let running = running.unwrap();
        assert_eq!((running.target.path.as_str(), &*running.pids), ("/a", &[1, 2][..]));
        assert!(parse(&["--server", "x {address}"]).unwrap().is_started_here());
        let other = parse(&["ws://192.0.2.1:9/"]).unwrap().start().map(|_| ()).unwrap_err();
        assert!(other.to_string().contains("--i-own-this-host"), "{other}");
        assert!(parse(&["ws://192.0.2.1:9/", "--i-own-this-host"]).unwrap().start().is_ok());
    }

    #[test]
    fn one_server_has_to_be_named_and_one_only() {
        for words in [
            &[][..],
            &["ws://127.0.0.1:9/", "--server", "x {address}"],
            &["--server", "x"],
            &["--server", "x {address}", "--server-pid", "1"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
