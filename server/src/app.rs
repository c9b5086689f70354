//! Starting a server.

use crate::{
    address::ListenAddress,
    config::Config,
    driver::poll::Poll,
    error::{Error, Result},
    handle::Handle,
    handler::Handler,
    listen::{self, Bound},
    worker::Worker,
};
use std::fmt;

/// Which worker a handler is made for: 0 for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The worker's number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A server that is being set up.
///
/// ```no_run
/// use quelea::{Conn, Handler, Message, Server};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type State = ();
///
///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
///         conn.send(message);
///     }
/// }
///
/// fn main() -> quelea::Result<()> {
///     Server::new(|_worker| Echo).listen("127.0.0.1:9001")?.run()
/// }
/// ```
pub struct Server<F> {
    make_handler: F,
    config: Config,
    bound: Vec<Bound>,
    handle: Handle,
}

impl<F, H> Server<F>
where
    F: Fn(WorkerId) -> H + Send + Sync + 'static,
    H: Handler,
{
    /// A server whose workers get their handlers from `make_handler`, each on its own thread.
    pub fn new(make_handler: F) -> Self {
        Self {
            make_handler,
            config: Config::default(),
            bound: Vec::new(),
            handle: Handle::default(),
        }
    }

    /// Sets limits and timeouts.
    ///
    /// # Errors
    /// [`Error::Config`] names the field that cannot work.
    pub fn config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.config = config;
        Ok(self)
    }

    /// Listens on an address, such as `127.0.0.1:9001` or `unix:/run/app.sock`, in addition to
    /// those before. Connections wait from now on, and are served by [`Server::run`].
    ///
    /// # Errors
    /// [`Error::Address`] if it cannot be read, [`Error::Listen`] if it cannot be had.
    pub fn listen<A>(mut self, address: A) -> Result<Self>
    where
        A: TryInto<ListenAddress>,
        Error: From<A::Error>,
    {
        let bound = listen::bind(address.try_into()?)?;
        tracing::info!(address = %bound.address, "listening");
        self.bound.push(bound);
        Ok(self)
    }

    /// The addresses it listens on, with the ports that were given for port 0.
    pub fn local_addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.bound.iter().map(|bound| &bound.address)
    }

    /// What stops the server from another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::stop`], on this thread.
    ///
    /// # Errors
    /// [`Error::NoListener`], or [`Error::Io`] if the system's I/O fails as a whole. Nothing that
    /// a peer does makes it return.
    pub fn run(self) -> Result<()> {
        if self.bound.is_empty() {
            return Err(Error::NoListener);
        }
        let id = WorkerId(0);
        let mut worker =
            Worker::new(id.0, (self.make_handler)(id), Poll::new()?, &self.config, &self.handle);
        let mut files = Vec::new();
        for bound in self.bound {
            files.extend(bound.file);
            for listener in bound.listeners {
                worker.listen(listener)?;
            }
        }
        worker.run()
    }
}

impl<F> fmt::Debug for Server<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}
