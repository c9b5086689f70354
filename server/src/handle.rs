//! Reaching a server from other threads.

use crate::{
    adopt::{AdoptError, AdoptRefusal, Adoptable, Adoption},
    drain::Drain,
    error::Result,
    hub::{Counts, Hub},
    id::ConnId,
    mail::Mail,
    metrics::Metrics,
    table::SendStatus,
};
use quelea_core::{CloseCode, Message};
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

/// Reaches a server from any thread or async runtime; no method but [`Handle::metrics`] waits for the
/// server.
///
/// What is sent goes by the mailboxes of the workers:
/// [`SendStatus::Queued`] means that it is on its way there, in order with what this thread sent
/// before; [`SendStatus::Dropped`] that a mailbox is full
/// ([`Config::mailbox_bytes_max`](crate::Config::mailbox_bytes_max)): the server is busy, and it is
/// best to try again in a moment; or that the message is longer than
/// [`Config::outbox_bytes_max`](crate::Config::outbox_bytes_max);
/// [`SendStatus::Closed`] that the server does not run.
///
/// ```
/// # use quelea::{Conn, Handler, Message, Server};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type State = ();
/// #     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
/// #         conn.send(message);
/// #     }
/// # }
/// let server = Server::new(|_worker| Echo).listen("127.0.0.1:0")?;
/// let handle = server.handle();
/// let thread = std::thread::spawn(move || server.run());
/// handle.publish("news", "hello to all that are subscribed");
/// handle.stop();
/// thread.join().expect("the server does not panic")?;
/// # Ok::<(), quelea::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The furthest [`Phase`] that was asked for.
    phase: AtomicU8,
    /// How to drain: set before the phase.
    drain: OnceLock<Drain>,
    /// Set once the server runs.
    hub: OnceLock<Arc<Hub>>,
}

/// How far a server is on its way to its end. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    Draining,
    Stopping,
    Aborting,
}

impl Handle {
    /// Drains the server: it accepts no more, closes its connections spread over
    /// [`Drain::window`], each behind what is queued for it, and
    /// [`Server::run`](crate::Server::run) returns once all are gone, at the latest after
    /// [`Drain::timeout`]. Open connections go on until their turn. Who asks for a WebSocket
    /// meanwhile gets 503 with `Retry-After`, and who asks for a page gets it as the last one on
    /// its connection. Listeners are closed, so another server may take their place, and nothing more
    /// is adopted.
    ///
    /// The first drain counts: another one changes nothing, and so does one after
    /// [`Handle::stop`], which is quicker. A worker that is inside of a callback begins when that
    /// returns.
    ///
    /// ```
    /// # use quelea::{Conn, Drain, Handler, Message, Server};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type State = ();
    /// #     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {}
    /// # }
    /// let server = Server::new(|_worker| Echo).listen("127.0.0.1:0")?;
    /// let handle = server.handle();
    /// let thread = std::thread::spawn(move || server.run());
    /// handle.drain(Drain::default())?;
    /// // There are no connections to wait for.
    /// thread.join().expect("the server does not panic")?;
    /// # Ok::<(), quelea::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the value that cannot work; then the server
    /// goes on as it was.
    pub fn drain(&self, drain: Drain) -> Result<()> {
        drain.validate()?;
        let _ = self.0.drain.set(drain);
        self.enter(Phase::Draining);
        Ok(())
    }

    /// Stops the server: it accepts no more, closes every connection with 1001, and
    /// [`Server::run`](crate::Server::run) returns once all are gone, at the latest after
    /// [`Config::close_timeout`](crate::Config::close_timeout). During a drain, this is the end of
    /// its window.
    pub fn stop(&self) {
        self.enter(Phase::Stopping);
    }

    /// Ends the server at once: [`Server::run`](crate::Server::run) returns as soon as the
    /// callbacks that are running do. No peer is told or waited for, and what is queued is lost;
    /// each open connection still has its [`on_close`](crate::Handler::on_close).
    pub fn abort(&self) {
        self.enter(Phase::Aborting);
    }

    /// Whether the server is to end, or has ended: true from [`drain`](Self::drain),
    /// [`stop`](Self::stop) or [`abort`](Self::abort) on. It costs a load.
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Sends a message to a connection.
    pub fn send<'m>(&self, to: ConnId, message: impl Into<Message<'m>>) -> SendStatus {
        self.post(Some(to), Mail::Send { to, message: message.into() })
    }

    /// Publishes to all subscribers of a topic, on all workers. [`SendStatus::Dropped`] means that
    /// at least one worker did not take it: subscribers of the others get it.
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Message<'m>>) -> SendStatus {
        self.post(None, Mail::Publish { topic, message: message.into() })
    }

    /// Begins the closing handshake of a connection, as
    /// [`Conn::close`](crate::Conn::close) does.
    pub fn close(&self, to: ConnId, code: CloseCode, reason: &str) -> SendStatus {
        self.post(Some(to), Mail::Close { to, code, reason })
    }

    /// Takes over a connection that something else accepted, as if it had just been accepted here:
    /// what it sends is answered by [`Handler::on_request`](crate::Handler::on_request) and
    /// [`Handler::on_upgrade`](crate::Handler::on_upgrade). `received` is what was read from it
    /// already; it comes first, as fast as what it causes to be sent is taken. How long it may be is
    /// for the caller to bound.
    ///
    /// It goes to the worker that has the fewest WebSockets, and counts as any connection does, also
    /// until that worker has taken it. If the server stops before, it is closed. Whether the stream
    /// blocks does not matter; that no other copy of it is read from does.
    ///
    /// # Errors
    /// Why it was not taken over, and all that was given: see [`AdoptRefusal`].
    ///
    /// ```
    /// use quelea::{Conn, Handler, Message, Server};
    /// use std::{io::{Read, Write}, net::TcpListener, sync::mpsc, thread};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type State = ();
    /// #     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
    /// #         conn.send(message);
    /// #     }
    /// # }
    ///
    /// // The port belongs to someone else, so the server has none of its own.
    /// let (start, started) = mpsc::channel();
    /// let server = Server::new(move |_worker| {
    ///     let _ = start.send(());
    ///     Echo
    /// });
    /// let server = server.without_listener();
    /// let handle = server.handle();
    /// let thread = thread::spawn(move || server.run());
    /// // Before it runs, it adopts nothing.
    /// started.recv()?;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// # let client = thread::spawn(move || {
    /// #     let mut client = std::net::TcpStream::connect(address).unwrap();
    /// #     client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    /// #     let mut answer = [0; 12];
    /// #     client.read_exact(&mut answer).unwrap();
    /// #     assert_eq!(&answer, b"HTTP/1.1 426");
    /// # });
    /// let (mut stream, _) = listener.accept()?;
    /// let mut first = [0; 4];
    /// stream.read_exact(&mut first)?;
    /// match &first {
    ///     b"GET " | b"HEAD" => handle.adopt(stream, first)?,
    ///     _ => stream.write_all(b"this port also speaks something else\n")?,
    /// }
    /// # client.join().unwrap();
    /// # handle.stop();
    /// # thread.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt<S: Adoptable>(
        &self,
        stream: S,
        received: impl Into<Vec<u8>>,
    ) -> Result<(), AdoptError<S>> {
        self.hand_over(stream, received.into(), None)
    }

    /// Takes over a WebSocket whose handshake something else has done: the 101 response was sent, with
    /// no extension (RFC 6455, section 9), and `received` is what was read of the peer's frames. All
    /// else is as with [`Handle::adopt`].
    ///
    /// [`Handler::on_adopt`](crate::Handler::on_adopt) makes its state;
    /// [`Handler::on_open`](crate::Handler::on_open) follows, and then what was received. Who does
    /// the handshake also has to look at the origin; `quelea_core::handshake::Upgrade` does so. The
    /// application's own limit takes the place of
    /// [`Config::handshakes_per_second_max`](crate::Config::handshakes_per_second_max).
    ///
    /// # Errors
    /// Why it was not taken over, and all that was given: see [`AdoptRefusal`].
    pub fn adopt_websocket<S: Adoptable>(
        &self,
        stream: S,
        received: impl Into<Vec<u8>>,
        adoption: Adoption,
    ) -> Result<(), AdoptError<S>> {
        self.hand_over(stream, received.into(), Some(adoption))
    }

    fn hand_over<S: Adoptable>(
        &self,
        stream: S,
        received: Vec<u8>,
        adoption: Option<Adoption>,
    ) -> Result<(), AdoptError<S>> {
        let reason = match self.0.hub.get() {
            _ if self.is_draining() => AdoptRefusal::Stopped,
            Some(hub) => return hub.adopt(stream, received, adoption),
            None => AdoptRefusal::NotRunning,
        };
        Err(AdoptError::new(reason, stream, received, adoption))
    }

    /// How many connections there are, and what was lost since the start.
    /// Each worker's part is of when it last began to wait.
    pub fn counts(&self) -> Counts {
        self.0.hub.get().map_or(Counts::default(), |hub| hub.counts())
    }

    /// Asks all workers what they counted, and waits for those that answer within `patience`. A worker
    /// that does not, because a call of its handler lasts, has its last answer in it, and
    /// [how long](crate::metrics::WorkerReport::unanswered) it has not. Not to be called by a handler: its
    /// own worker cannot answer meanwhile.
    ///
    /// After the server has stopped, all counts are those of its end.
    ///
    /// ```
    /// # use quelea::{Handle, metrics::Limit};
    /// # use std::time::Duration;
    /// fn watch(handle: &Handle) {
    ///     let total = handle.metrics(Duration::from_secs(1)).total();
    ///     println!("{} messages came in", total.messages_received);
    ///     println!("{} did not fit", total.limits[Limit::OutboxBytesMax]);
    /// }
    /// ```
    pub fn metrics(&self, patience: Duration) -> Metrics {
        self.0.hub.get().map_or_else(Metrics::default, |hub| hub.metrics(patience))
    }

    /// Whether all workers serve, and the server was not told to end.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.0.hub.get().is_some_and(|hub| hub.is_serving())
    }

    fn post(&self, to: Option<ConnId>, mail: Mail<'_>) -> SendStatus {
        self.0.hub.get().map_or(SendStatus::Closed, |hub| hub.post(to, mail))
    }

    fn enter(&self, phase: Phase) {
        // A worker looks at it once more after its waker is in the hub.
        let before = self.0.phase.fetch_max(phase as u8, Ordering::SeqCst);
        if before < phase as u8
            && let Some(hub) = self.0.hub.get()
        {
            hub.wake_all();
        }
    }

    /// Asked by a worker when it is woken.
    pub(crate) fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Stopping,
            _ => Phase::Aborting,
        }
    }

    /// How to drain, from [`Phase::Draining`] on if it was entered.
    pub(crate) fn drain_options(&self) -> Drain {
        self.0.drain.get().copied().unwrap_or_default()
    }

    /// The server runs from now on; the workers have to ask for the [`Handle::phase`] afterwards.
    pub(crate) fn start(&self, hub: Arc<Hub>) {
        // A server runs once: `run` takes it.
        let _ = self.0.hub.set(hub);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
