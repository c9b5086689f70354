//! A server that is started to be measured.

use crate::{client, clock::now, cpu, target::Target};
use serde::{Serialize, Serializer};
use std::{
    env,
    error::Error,
    io,
    net::TcpListener,
    process::{Child, Command, Stdio},
    str::FromStr,
    thread::sleep,
    time::Duration,
};

/// How often a server that starts is asked whether it serves, and how long it may take.
const ASK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a server to fall asleep: one that runs is accounted up to the last tick only.
const SETTLE: Duration = Duration::from_millis(10);

/// How to start a server: a program and its arguments, `{address}` where its address belongs. No
/// shell reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerCommand {
    words: Vec<String>,
}

impl ServerCommand {
    /// The floor of this very program.
    pub(super) fn bare() -> Result<Self, Box<dyn Error>> {
        let program = env::current_exe()?.into_os_string();
        let program = program.into_string().map_err(|_| "this program's path is not UTF-8")?;
        Ok(Self { words: [&program, "bare", "--listen", "{address}"].map(str::to_owned).into() })
    }

    fn words_for(&self, address: &str) -> Vec<String> {
        self.words.iter().map(|word| word.replace("{address}", address)).collect()
    }
}

impl Serialize for ServerCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words.join(" "))
    }
}

impl FromStr for ServerCommand {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("{address}") {
            return Err("expected a command with {address} in it");
        }
        Ok(Self { words: text.split_whitespace().map(str::to_owned).collect() })
    }
}

/// A server that runs, until this is dropped.
pub(crate) struct Server {
    child: Child,
    target: Target,
}

impl Server {
    /// Starts a server on a free port of this machine, and waits until it serves WebSockets.
    pub(crate) fn start(command: &ServerCommand) -> Result<Self, Box<dyn Error>> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let target = format!("ws://{address}/").parse()?;
        let words = command.words_for(&address);
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", words[0]))?;
        let mut server = Self { child, target };
        let deadline = now() + PATIENCE;
        while let Err(error) = client::connect(&server.target, &[0; 16]) {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{} ended: {status}", words.join(" ")).into());
            }
            if now() >= deadline {
                return Err(format!("{} does not serve: {error}", words.join(" ")).into());
            }
            sleep(ASK_EVERY);
        }
        Ok(server)
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time that it has used, once it sleeps.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        sleep(SETTLE);
        cpu::time(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_put_where_the_command_wants_it() {
        let command: ServerCommand = "taskset -c 0 server  --listen={address} -v".parse().unwrap();
        let words = ["taskset", "-c", "0", "server", "--listen=127.0.0.1:1", "-v"];
        assert_eq!(command.words_for("127.0.0.1:1"), words);
        assert!("server --listen 127.0.0.1:9001".parse::<ServerCommand>().is_err());
        assert!("".parse::<ServerCommand>().is_err());
    }

    #[test]
    fn a_program_that_does_not_start_or_ends_at_once_is_an_error() {
        for command in ["/nowhere/server {address}", "false {address}"] {
            assert!(Server::start(&command.parse().unwrap()).is_err(), "{command}");
        }
    }
}
