//! Reaching a server from other threads.

use crate::{
    hub::{Counts, Hub},
    id::ConnId,
    mail::Mail,
    table::SendStatus,
};
use quelea_core::{CloseCode, Message};
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// Reaches a server from any thread or async runtime; no method waits for the server.
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
    stop: AtomicBool,
    /// Set once the server runs.
    hub: OnceLock<Arc<Hub>>,
}

impl Handle {
    /// Stops the server: it accepts no more, closes every connection with 1001, and
    /// [`Server::run`](crate::Server::run) returns once all are gone, at the latest after
    /// [`Config::close_timeout`](crate::Config::close_timeout).
    pub fn stop(&self) {
        // A worker looks at it once more after its waker is in the hub.
        self.0.stop.store(true, Ordering::SeqCst);
        if let Some(hub) = self.0.hub.get() {
            hub.wake_all();
        }
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

    /// How many connections there are, and what was lost since the start.
    /// Each worker's part is of when it last began to wait.
    pub fn counts(&self) -> Counts {
        self.0.hub.get().map_or(Counts::default(), |hub| hub.counts())
    }

    fn post(&self, to: Option<ConnId>, mail: Mail<'_>) -> SendStatus {
        self.0.hub.get().map_or(SendStatus::Closed, |hub| hub.post(to, mail))
    }

    /// Asked by a worker when it is woken.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    /// The server runs from now on; the workers have to ask [`Handle::is_stopped`] afterwards.
    pub(crate) fn start(&self, hub: Arc<Hub>) {
        // A server runs once: `run` takes it.
        let _ = self.0.hub.set(hub);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stop", &self.0.stop).finish_non_exhaustive()
    }
}
