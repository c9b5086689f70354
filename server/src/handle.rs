//! Reaching a server from other threads.

use crate::driver::Wake;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Reaches a server from any thread.
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
/// handle.stop();
/// thread.join().expect("the server does not panic")?;
/// # Ok::<(), quelea::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    wakers: Mutex<Vec<Arc<dyn Wake>>>,
}

impl Handle {
    /// Stops the server: it accepts no more, closes every connection with 1001, and
    /// [`Server::run`](crate::Server::run) returns once all are gone, at the latest after
    /// [`Config::close_timeout`](crate::Config::close_timeout).
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        for waker in self.wakers().iter() {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "a worker could not be woken");
            }
        }
    }

    /// Asked by a worker when it is woken.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }

    /// Adds a worker to be woken; it has to ask [`Handle::is_stopped`] afterwards.
    pub(crate) fn add(&self, waker: Arc<dyn Wake>) {
        self.wakers().push(waker);
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Wake>>> {
        // A list of wakers is whole whatever panicked while it was held.
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stop", &self.0.stop).finish_non_exhaustive()
    }
}
