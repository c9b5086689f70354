//! `quelea-perf raw-server`: TCP that sends back what it gets, on the driver of the server.
//!
//! What is left of an echo without WebSocket: no handshake, no frames, no masks, no timeouts. It
//! batches as a worker of the server does: what came since the last wait leaves in one send a
//! connection. So it is the ceiling of what a server on this driver can do.

use crate::{
    fanout::bare::parse_loopback,
    load::{
        DriverKind, LoadDriver, Outcome,
        frames::Frames,
        output::{Output, Queue},
    },
};
use clap::Args;
use quelea::driver::{Completion, Driver, Listener, Poll, SlotId};
use slab::Slab;
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener};

#[derive(Args)]
#[command(after_help = "Example:\n  \
    quelea-perf raw-server --listen 127.0.0.1:9002 &\n  \
    quelea-perf echo --raw ws://127.0.0.1:9002/ --depth 16 --server-pid $!")]
pub(crate) struct Options {
    /// Where to listen, such as 127.0.0.1:9001: loopback only.
    #[arg(long, value_parser = parse_loopback)]
    listen: SocketAddr,
    /// How to speak to the kernel.
    #[arg(long, value_enum, default_value_t = DriverKind::Poll)]
    driver: DriverKind,
}

/// Beyond so many bytes that a client has not taken, nothing more is received from it.
const WAITING_MAX: usize = 1 << 20;

/// Serves until it fails.
pub(crate) fn run(options: &Options) -> Outcome {
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| format!("{}: {error}", options.listen))?;
    match options.driver {
        DriverKind::Poll => RawServer::new(Poll::new()?, listener)?.serve(),
        #[cfg(target_os = "linux")]
        DriverKind::Uring => RawServer::new(quelea::driver::Uring::start()?, listener)?.serve(),
    }
}

pub(crate) struct RawServer<D> {
    driver: D,
    output: Output,
    /// There are none: what is sent back is written.
    frames: Frames,
    connections: Slab<Connection>,
    generation: u32,
    doomed: Vec<SlotId>,
}

struct Connection {
    id: SlotId,
    queue: Queue,
    is_paused: bool,
}

impl<D: LoadDriver + Driver<Listener = Listener>> RawServer<D> {
    pub(crate) fn new(mut driver: D, listener: TcpListener) -> Outcome<Self> {
        // Those that are accepted have it, too.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        driver.listen(Listener::Tcp(listener))?;
        Ok(Self {
            driver,
            output: Output::new(),
            frames: Frames::default(),
            connections: Slab::new(),
            generation: 0,
            doomed: Vec::new(),
        })
    }

    /// Serves until it fails.
    pub(crate) fn serve(&mut self) -> Outcome {
        loop {
            self.flush()?;
            self.complete()?;
        }
    }

    fn flush(&mut self) -> Outcome {
        let Self { driver, output, frames, connections, doomed, .. } = self;
        let until = (!doomed.is_empty()).then(|| driver.now());
        let queue = |id: SlotId| connections.get(id.index()).map(|connection| &connection.queue);
        driver.wait(output.sends(frames, queue), until)?;
        while let Some((id, sent)) = driver.next_short() {
            if let Some(connection) = find(connections, id) {
                output.keep_rest(&mut connection.queue, sent);
            }
        }
        output.clear(|id| {
            if let Some(connection) = find(connections, id) {
                connection.queue.release();
            }
        });
        for id in doomed.drain(..) {
            driver.close(id);
        }
        Ok(())
    }

    fn complete(&mut self) -> Outcome {
        let Self { driver, output, frames, connections, generation, doomed } = self;
        while !output.is_full()
            && let Some(completion) = driver.next()
        {
            match completion {
                Completion::Accepted { socket, .. } => {
                    *generation = generation.checked_add(1).unwrap_or(1);
                    let entry = connections.vacant_entry();
                    let id = SlotId::new(entry.key() as u32, *generation);
                    if driver.open(id, socket).is_ok() {
                        entry.insert(Connection { id, queue: Queue::default(), is_paused: false });
                    }
                }
                Completion::Received { id, bytes, .. } => {
                    let Some(connection) = find(connections, id) else { continue };
                    output.buffer(id, &mut connection.queue, frames).extend_from_slice(bytes);
                    if connection.queue.waiting() > WAITING_MAX && !connection.is_paused {
                        connection.is_paused = true;
                        driver.pause_receive(id);
                    }
                }
                Completion::Writable { id } => {
                    let Some(connection) = find(connections, id) else { continue };
                    output.unblock(id, &mut connection.queue);
                    if std::mem::take(&mut connection.is_paused) {
                        driver.resume_receive(id);
                    }
                }
                Completion::ReceiveEnded { id, .. } => doomed.push(id),
                Completion::Closed { id } => {
                    if find(connections, id).is_some() {
                        connections.remove(id.index());
                    }
                }
                // It goes on by itself when there are descriptors again.
                Completion::AcceptFailed { .. } | Completion::Woken => {}
            }
        }
        Ok(())
    }
}

fn find(connections: &mut Slab<Connection>, id: SlotId) -> Option<&mut Connection> {
    connections.get_mut(id.index()).filter(|connection| connection.id == id)
}
