//! `quelea-perf idle`: what a connection that does nothing costs the server.

use crate::{
    client::{Client, Payload},
    clock::now,
    fanout::parse_count,
    memory::anonymous_bytes,
    target::Target,
};
use clap::Args;
use mio::{Events, Poll, Token};
use quelea_core::{Context, Limits, MessageKind};
use std::{error::Error, fmt, fs::File, io::Read, thread::sleep, time::Duration};

#[derive(Args)]
pub(crate) struct Options {
    /// The server, such as ws://127.0.0.1:9001/.
    target: Target,
    /// How many connections to measure; bounded by the descriptors a process may have.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Connections made before them, so that what a server needs once is not counted.
    #[arg(long, default_value_t = 1000)]
    before: usize,
    /// How long the server has, after the last one, to give back what it needs no longer.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The server's process id.
    #[arg(long)]
    server_pid: u32,
    /// How many of the connections then send a message each, all at once, and read it back: memory
    /// is measured again when they are idle again. The server has to be one that echoes.
    #[arg(long, default_value_t = 0)]
    messages: usize,
    /// The payload of such a message, in bytes.
    #[arg(long, default_value_t = 100_000, value_parser = parse_count)]
    message_bytes: usize,
    /// In how many fragments it is sent.
    #[arg(long, default_value_t = 10, value_parser = parse_count)]
    fragments: usize,
}

/// What was measured.
pub(crate) struct Report {
    connections: usize,
    before_bytes: u64,
    after_bytes: u64,
    /// If messages were sent.
    after_messages_bytes: Option<u64>,
}

/// How long the server may send nothing while an echo is missing.
const PATIENCE: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 256 << 10;

pub(crate) fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let mut random = File::open("/dev/urandom")?;
    let settle = Duration::try_from_secs_f64(options.seconds)?;
    let mut clients = Vec::new();
    let mut connect = |count: usize| -> Result<u64, Box<dyn Error>> {
        for _ in 0..count {
            let mut nonce = [0; 16];
            random.read_exact(&mut nonce)?;
            clients.push(Client::connect(&options.target, &nonce)?);
        }
        sleep(settle);
        Ok(anonymous_bytes(&options.server_pid.to_string())?)
    };
    let before_bytes = connect(options.before)?;
    let after_bytes = connect(options.connections)?;
    let after_messages_bytes = if options.messages > 0 {
        let busy = clients.get_mut(..options.messages).ok_or("more messages than connections")?;
        exchange(busy, options.message_bytes, options.fragments)?;
        sleep(settle);
        Some(anonymous_bytes(&options.server_pid.to_string())?)
    } else {
        None
    };
    let connections = options.connections;
    Ok(Report { connections, before_bytes, after_bytes, after_messages_bytes })
}

/// Sends a message on each and reads its echo. None sends its next fragment before all have sent
/// theirs, so that the server has all the messages in pieces at once.
fn exchange(clients: &mut [Client], bytes: usize, fragments: usize) -> Result<(), Box<dyn Error>> {
    let message: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
    let limits = Limits { message_bytes_max: bytes, ..Limits::default() };
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let mut context = Context::new(limits, seed);
    let mut poll = Poll::new()?;
    for (index, client) in clients.iter_mut().enumerate() {
        client.register(poll.registry(), Token(index))?;
    }
    let payload = |bytes| Payload { kind: MessageKind::Binary, bytes };
    let cut = |fragment: usize| (bytes as u128 * fragment as u128 / fragments as u128) as usize;
    for fragment in 0..fragments {
        let piece = payload(&message[cut(fragment)..cut(fragment + 1)]);
        for client in &mut *clients {
            client.send_fragment(piece, fragment + 1 == fragments, &mut context, now())?;
            client.flush()?;
        }
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut missing = clients.len();
    while missing > 0 {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err(format!("{missing} messages did not come back").into());
        }
        for event in &events {
            let client = &mut clients[event.token().0];
            client.flush()?;
            client.receive(payload(&message), &mut context, &mut buffer, |_| missing -= 1)?;
        }
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grown = self.after_bytes.saturating_sub(self.before_bytes);
        writeln!(f, "connections     {}", self.connections)?;
        writeln!(f, "server before   {} KiB", self.before_bytes / 1024)?;
        writeln!(f, "server after    {} KiB", self.after_bytes / 1024)?;
        write!(f, "a connection    {:.1} bytes", grown as f64 / self.connections.max(1) as f64)?;
        if let Some(bytes) = self.after_messages_bytes {
            let percent = bytes as f64 * 100.0 / self.after_bytes.max(1) as f64;
            write!(f, "\nafter messages  {} KiB ({percent:.1} % of before)", bytes / 1024)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quelea::{Config, Conn, Handler, Message, Server};
    use std::thread;

    /// Echoes what is not of a length that it refuses.
    struct Echo {
        refused: usize,
    }

    impl Handler for Echo {
        type State = ();

        fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
            if message.as_bytes().len() == self.refused {
                conn.close(quelea::CloseCode::POLICY_VIOLATION, "");
            } else {
                conn.send(message);
            }
        }
    }

    #[test]
    fn a_message_in_fragments_is_sent_on_each_connection_and_read_back() {
        let config = Config { workers: Some(1), ..Config::default() };
        let server = Server::new(|_| Echo { refused: 7 }).config(config).unwrap();
        let server = server.listen("127.0.0.1:0").unwrap();
        let target = format!("ws://{}/", server.local_addresses().next().unwrap());
        let target: Target = target.parse().unwrap();
        let handle = server.handle();
        let thread = thread::spawn(move || server.run());
        let connect = || Client::connect(&target, &[0; 16]).unwrap();
        for (bytes, fragments) in [(100_000, 10), (1, 3), (1_000_000, 1)] {
            let mut clients: Vec<_> = (0..5).map(|_| connect()).collect();
            exchange(&mut clients, bytes, fragments).unwrap();
            assert!(clients.iter().all(|client| client.in_flight() == 0));
        }
        assert!(exchange(&mut [connect()], 7, 2).is_err());
        handle.stop();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn memory_after_messages_is_told_if_any_were_sent() {
        let report = Report {
            connections: 2,
            before_bytes: 100 << 10,
            after_bytes: 200 << 10,
            after_messages_bytes: None,
        };
        assert_eq!(report.to_string().lines().last(), Some("a connection    51200.0 bytes"));
        let report = Report { after_messages_bytes: Some(207 << 10), ..report };
        let line = "after messages  207 KiB (103.5 % of before)";
        assert_eq!(report.to_string().lines().last(), Some(line));
    }
}
