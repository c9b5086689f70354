//! A server that is started to be measured.

use crate::{
    client,
    clock::now,
    cpu::{self, Account},
    target::Target,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use signal_hook::{
    consts::{SIGHUP, TERM_SIGNALS},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    env,
    error::Error,
    fmt, io,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{self, Child, Command, Stdio},
    str::FromStr,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::Duration,
};

/// How often a server that starts is asked whether it serves, and how long it may take.
const ASK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a server to fall asleep: one that runs is accounted up to the last tick only.
const SETTLE: Duration = Duration::from_millis(10);

/// How to start a server: a program and its arguments, `{address}` where its HOST:PORT belongs, or
/// `{port}` where its port does, on 127.0.0.1. No shell reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(crate) struct ServerCommand {
    words: Vec<String>,
}

impl ServerCommand {
    /// The floor of this very program.
    pub(crate) fn bare() -> Result<Self, Box<dyn Error>> {
        let program = env::current_exe()?.into_os_string();
        let program = program.into_string().map_err(|_| "this program's path is not UTF-8")?;
        Ok(Self { words: [&program, "bare", "--listen", "{address}"].map(str::to_owned).into() })
    }

    /// The same, on one core.
    pub(crate) fn on_core(&self, core: usize) -> Self {
        let mut words = pinned_to(core);
        words.extend_from_slice(&self.words);
        Self { words }
    }

    fn words_for(&self, address: SocketAddr) -> Vec<String> {
        let (address, port) = (address.to_string(), address.port().to_string());
        let fill = |word: &String| word.replace("{address}", &address).replace("{port}", &port);
        self.words.iter().map(fill).collect()
    }
}

/// What to put before a command, for it to run on one core.
pub(crate) fn pinned_to(core: usize) -> Vec<String> {
    ["taskset", "-c", &core.to_string()].map(str::to_owned).into()
}

impl From<ServerCommand> for String {
    fn from(command: ServerCommand) -> Self {
        command.to_string()
    }
}

impl fmt::Display for ServerCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

impl FromStr for ServerCommand {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("{address}") && !text.contains("{port}") {
            return Err("expected a command with {address} or {port} in it");
        }
        Ok(Self { words: text.split_whitespace().map(str::to_owned).collect() })
    }
}

/// A server that runs, until this is dropped.
pub(crate) struct Server {
    child: Child,
    target: Target,
    /// How it was started.
    words: Vec<String>,
}

impl Server {
    /// Starts a server on a free port of this machine, and waits until it serves WebSockets.
    pub(crate) fn start(command: &ServerCommand) -> Result<Self, Box<dyn Error>> {
        Self::start_until(command, |target| client::connect(target, &[0; 16]).map(drop))
    }

    /// The same of a server that need not serve WebSockets at `/`: waits until it accepts connections.
    pub(crate) fn start_accepting(command: &ServerCommand) -> Result<Self, Box<dyn Error>> {
        Self::start_until(command, |target| {
            let stream = TcpStream::connect(target.address)?;
            // Where nobody listens, a socket can get its own address and so connect to itself.
            let is_own = stream.local_addr()? == stream.peer_addr()?;
            if is_own { Err("nobody listens".into()) } else { Ok(()) }
        })
    }

    fn start_until(
        command: &ServerCommand,
        is_ready: impl Fn(&Target) -> Result<(), Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let target = format!("ws://{address}/").parse()?;
        let words = command.words_for(address);
        let mut server = Self { child: spawn(&words)?, target, words };
        let deadline = now() + PATIENCE;
        while let Err(error) = is_ready(&server.target) {
            let words = server.words.join(" ");
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{words} ended: {status}").into());
            }
            if now() >= deadline {
                return Err(format!("{words} does not serve: {error}").into());
            }
            sleep(ASK_EVERY);
        }
        Ok(server)
    }

    /// Kills it, and starts it again at the same address. Does not wait until it serves.
    pub(crate) fn restart(&mut self) -> Result<(), Box<dyn Error>> {
        self.kill()?;
        self.child = spawn(&self.words)?;
        Ok(())
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What CPU time it has used, with what it started, once it sleeps.
    pub(crate) fn account(&self) -> io::Result<Account> {
        sleep(SETTLE);
        Account::of_families(&[self.child.id()])
    }

    /// Kills it, and what it started: it may have been a script.
    fn kill(&mut self) -> io::Result<()> {
        let started = started_by(self.child.id());
        let killed = self.child.kill();
        kill_all(started);
        killed?;
        self.child.wait().map(drop)
    }
}

fn started_by(pid: u32) -> impl Iterator<Item = Pid> {
    let family = cpu::family(pid).into_iter().skip(1);
    family.filter_map(|pid| Pid::from_raw(pid as i32))
}

fn kill_all(pids: impl Iterator<Item = Pid>) {
    for pid in pids {
        // It fails only when that is gone already.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A signal ends this program: nobody else is to, when the servers that are killed for it are missed.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Servers end with this program, though a signal that asks for it ends it; SIGKILL leaves them behind.
fn end_servers_on_signals() -> io::Result<()> {
    let mut signals = Signals::new(TERM_SIGNALS.iter().chain(&[SIGHUP]))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            IS_ENDING.store(true, Ordering::Relaxed);
            kill_all(started_by(process::id()));
            // What does not end by it goes on.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

fn spawn(words: &[String]) -> Result<Child, String> {
    static WATCHED: LazyLock<Result<(), String>> =
        LazyLock::new(|| end_servers_on_signals().map_err(|error| error.to_string()));
    WATCHED.clone()?;
    Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", words[0]))
}

impl Drop for Server {
    fn drop(&mut self) {
        while IS_ENDING.load(Ordering::Relaxed) {
            thread::park();
        }
        // It fails only when it is gone already.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use std::io::Read;

    #[test]
    fn the_address_is_put_where_the_command_wants_it() {
        let command: ServerCommand = "taskset -c 0 server  --listen={address} -v".parse().unwrap();
        let words = ["taskset", "-c", "0", "server", "--listen=127.0.0.1:1", "-v"];
        assert_eq!(command.words_for(([127, 0, 0, 1], 1).into()), words);
        let command: ServerCommand = "server {port}".parse().unwrap();
        let words = ["taskset", "-c", "1", "server", "80"];
        assert_eq!(command.on_core(1).words_for(([127, 0, 0, 1], 80).into()), words);
        assert!("server --listen 127.0.0.1:9001".parse::<ServerCommand>().is_err());
        assert!("".parse::<ServerCommand>().is_err());
    }

    #[test]
    fn what_a_server_started_ends_with_it() {
        let mut child = Command::new("sh");
        let child = child.args(["-c", "sleep 30 & echo; wait"]).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let target = "ws://127.0.0.1:9/".parse().unwrap();
        let family = cpu::family(child.id());
        assert_eq!(family.len(), 2);
        drop(Server { child, target, words: Vec::new() });
        // It has no memory any more, even if nobody has asked how it ended.
        let is_gone = || memory::anonymous_bytes(&family[1].to_string()).is_err();
        assert!((0..500).any(|_| is_gone() || (sleep(ASK_EVERY), false).1));
    }

    #[test]
    fn a_program_that_does_not_start_or_ends_at_once_is_an_error() {
        for command in ["/nowhere/server {address}", "false {address}"] {
            assert!(Server::start(&command.parse().unwrap()).is_err(), "{command}");
        }
    }
}
