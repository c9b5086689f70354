//! Signals, in a process of their own: they are those of a whole process.

mod support;

use quelea::{Config, Conn, Drain, Handler, Message, Server};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Lines},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};
use support::{CLOSE, PATIENCE, Raw, driver, frame};
use tracing::{Event, Metadata, Subscriber, span};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

/// Logs to where nobody reads any more.
struct Broken;

impl Subscriber for Broken {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "quelea::signals"
    }

    fn event(&self, _: &Event<'_>) {
        // Panics as `println!` does, and keeps the output of the tests clean.
        std::panic::resume_unwind(Box::new("failed printing to stderr"));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

const CHILD: &str = "QUELEA_TEST_OF_SIGNALS";

/// Runs two servers until both are gone, and then waits for its end.
fn be_the_child() -> ! {
    std::thread::spawn(|| {
        std::thread::sleep(6 * PATIENCE);
        std::process::exit(3);
    });
    let drain =
        Drain { window: Duration::from_secs(60), timeout: 2 * PATIENCE, ..Drain::default() };
    assert!(
        Server::new(|_| Echo).drain_on_signals(drain).is_err(),
        "it is longer than its timeout"
    );
    let drain = Drain { timeout: Duration::from_secs(80), ..drain };
    let start = || {
        let config = Config { workers: Some(1), driver: driver(), ..Config::default() };
        let server = Server::new(|_| Echo).config(config).unwrap();
        let server = server.drain_on_signals(drain).unwrap().listen("127.0.0.1:0").unwrap();
        say(server.local_addresses().next().unwrap());
        std::thread::spawn(|| server.run())
    };
    for server in [start(), start()] {
        server.join().unwrap().unwrap();
    }
    say(&"both ended");
    loop {
        std::thread::park();
    }
}

/// To the test: the harness of the child keeps nothing back.
fn say(what: &dyn std::fmt::Display) {
    println!("> {what}");
}

struct Servers {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Servers {
    fn start() -> Self {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, said }
    }

    fn says(&mut self) -> String {
        let said = self.said.by_ref().map(Result::unwrap);
        let mut marked = said.filter_map(|line| Some(line.split_once("> ")?.1.to_owned()));
        marked.next().expect("the child says more")
    }

    /// Connections to the server whose address is said next.
    fn open<const COUNT: usize>(&mut self) -> [Raw; COUNT] {
        let address = self.says();
        std::array::from_fn(|_| {
            let mut raw = Raw::new(TcpStream::connect(&address).unwrap());
            raw.upgrade("/");
            raw
        })
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_first_signal_drains_all_servers_a_second_ends_them_and_then_it_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        be_the_child();
    }
    let mut servers = Servers::start();
    let both: [[Raw; 2]; 2] = [servers.open(), servers.open()];
    servers.signal(Signal::TERM);
    let waiting = both.map(|[mut first, second]| {
        let (opcode, payload) = first.read_frame();
        assert_eq!((opcode, &payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
        second
    });
    servers.signal(Signal::TERM);
    for mut raw in waiting {
        assert!(raw.is_at_end(), "its turn would have been half a minute later");
    }
    assert_eq!(servers.says(), "both ended");
    servers.signal(Signal::TERM);
    assert_eq!(servers.end().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn an_interrupt_closes_all_connections_at_once() {
    if std::env::var_os(CHILD).is_some() {
        be_the_child();
    }
    let mut servers = Servers::start();
    let both: [[Raw; 2]; 2] = [servers.open(), servers.open()];
    servers.signal(Signal::INT);
    for mut raw in both.into_iter().flatten() {
        let (opcode, payload) = raw.read_frame();
        assert_eq!(opcode, CLOSE);
        raw.send(&frame(CLOSE, &payload));
        assert!(raw.is_at_end());
    }
    assert_eq!(servers.says(), "both ended");
    servers.signal(Signal::INT);
    assert_eq!(servers.end().signal(), Some(Signal::INT.as_raw()));
}

#[test]
fn a_log_that_panics_keeps_no_signal_from_its_work() {
    if std::env::var_os(CHILD).is_some() {
        tracing::subscriber::set_global_default(Broken).unwrap();
        be_the_child();
    }
    let mut servers = Servers::start();
    let both: [[Raw; 2]; 2] = [servers.open(), servers.open()];
    servers.signal(Signal::TERM);
    for [first, _] in &both {
        let mut first = Raw { stream: &first.stream };
        assert_eq!(first.read_frame().0, CLOSE);
    }
    servers.signal(Signal::TERM);
    assert_eq!(servers.says(), "both ended");
    servers.signal(Signal::TERM);
    assert_eq!(servers.end().signal(), Some(Signal::TERM.as_raw()));
}
