//! Starting a server.

use crate::{
    address::ListenAddress,
    config::Config,
    driver::{Driver, Listener},
    error::{Error, Result},
    handle::Handle,
    handler::Handler,
    hub::Hub,
    id::WORKERS_MAX,
    listen::{self, Bound, SocketFile},
    worker::{self, Member},
};
#[cfg(feature = "signals")]
use crate::{drain::Drain, signals::Registration};
use drivers::Drivers;
use std::{fmt, sync::Arc, thread};

mod drivers;
mod pin;

/// The worker that a handler is made for.
#[derive(Clone, Debug)]
pub struct Worker {
    id: u8,
    count: usize,
    handle: Handle,
}

impl Worker {
    #[cfg(feature = "sim")]
    pub(crate) const fn new(id: u8, count: usize, handle: Handle) -> Self {
        Self { id, count, handle }
    }

    /// The worker's number: 0 for the first.
    pub const fn index(&self) -> usize {
        self.id as usize
    }

    /// How many workers the server has.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// What reaches all connections of the server, also from threads that the handler starts.
    pub const fn handle(&self) -> &Handle {
        &self.handle
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
    needs_listener: bool,
    /// Descriptors that each worker keeps for connections that come when there are no others.
    reserved: usize,
    handle: Handle,
    #[cfg(feature = "signals")]
    signals: Option<Registration>,
}

impl<F, H> Server<F>
where
    F: Fn(Worker) -> H + Send + Sync + 'static,
    H: Handler,
{
    /// A server whose workers get their handlers from `make_handler`, each on its own thread.
    pub fn new(make_handler: F) -> Self {
        Self {
            make_handler,
            config: Config::default(),
            bound: Vec::new(),
            needs_listener: true,
            reserved: 0,
            handle: Handle::default(),
            #[cfg(feature = "signals")]
            signals: None,
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
        let bound = listen::bind(address.try_into()?, self.config.share_port)?;
        tracing::info!(address = %bound.address, "listening");
        self.bound.push(bound);
        Ok(self)
    }

    /// Needs no address to listen on: all connections come by [`Handle::adopt`] or
    /// [`Handle::adopt_websocket`].
    pub fn without_listener(mut self) -> Self {
        self.needs_listener = false;
        self
    }

    /// Keeps so many descriptors for each worker, so that connections come in when the process has no others.
    #[cfg(feature = "metrics")]
    pub(crate) fn reserve_descriptors(mut self, count: usize) -> Self {
        self.reserved = count;
        self
    }

    /// From now on, the first SIGTERM or SIGINT drains the server, and a second one
    /// [aborts](Handle::abort) it: either way [`run`](Server::run) returns, so that the process can
    /// end as it likes. With SIGINT, which is Ctrl-C, the window of the drain is zero.
    ///
    /// All servers of a process that ask for it drain together, each as it was told. While there is
    /// none of them any more, SIGTERM and SIGINT end the process, as they do by default. Handlers
    /// that the program has for them are called as well.
    ///
    /// ```no_run
    /// use quelea::{Conn, Drain, Handler, Message, Server};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type State = ();
    /// #     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {}
    /// # }
    ///
    /// fn main() -> quelea::Result<()> {
    ///     let server = Server::new(|_worker| Echo).drain_on_signals(Drain::default())?;
    ///     server.listen("127.0.0.1:9001")?.run()
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] names the value that cannot work; [`Error::Io`] if the system gives no
    /// thread to wait for signals, or no way to have them.
    #[cfg(feature = "signals")]
    pub fn drain_on_signals(mut self, drain: Drain) -> Result<Self> {
        self.signals = Some(Registration::new(self.handle(), drain)?);
        Ok(self)
    }

    /// The addresses it listens on, with the ports that were given for port 0.
    pub fn local_addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.bound.iter().map(|bound| &bound.address)
    }

    /// What reaches the server from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::drain`], [`Handle::stop`] or [`Handle::abort`]: worker 0 on this
    /// thread, the others on threads of their own.
    ///
    /// # Errors
    /// [`Error::NoListener`], [`Error::Listen`], or [`Error::Io`] if the system's I/O fails as a
    /// whole; then all workers have stopped. Nothing that a peer does makes it return.
    ///
    /// # Panics
    /// If a handler panics, the other workers stop, and then the panic goes on.
    pub fn run(self) -> Result<()> {
        if self.bound.is_empty() && self.needs_listener {
            return Err(Error::NoListener);
        }
        let count = match self.config.workers {
            Some(count) => count,
            None => thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX),
        };
        match Drivers::open(&self.config, count, self.reserved)? {
            Drivers::Poll(drivers) => self.run_on(drivers, "poll"),
            #[cfg(target_os = "linux")]
            Drivers::Uring(drivers) => self.run_on(drivers, "uring"),
        }
    }

    /// One worker for each of the drivers.
    fn run_on<D>(mut self, drivers: Vec<D>, driver: &'static str) -> Result<()>
    where
        D: Driver<Listener = Listener> + Send,
    {
        let count = drivers.len();
        let mut shares: Vec<Share> = (0..count).map(|_| Share::default()).collect();
        for bound in &mut self.bound {
            for (own, more) in shares.iter_mut().zip(bound.share(count)?) {
                own.listeners.extend(more);
            }
            shares[0].files.extend(bound.file.take());
        }
        let hub = Arc::new(Hub::new(&self.config, drivers.iter().map(Driver::waker).collect()));
        self.handle.start(hub.clone());
        tracing::info!(workers = count, driver, "serving");
        let _close = CloseOnDrop(&hub);
        let server = &self;
        thread::scope(|scope| {
            let mut starts = drivers.into_iter().zip(shares).enumerate().map(|(id, start)| {
                let hub = hub.clone();
                move || server.serve(id as u8, hub, start)
            });
            let first = starts.next();
            let others = starts
                .enumerate()
                .map(|(before, start)| {
                    let name = format!("quelea-{}", before + 1);
                    thread::Builder::new().name(name).spawn_scoped(scope, start)
                })
                .collect::<Vec<_>>();
            if others.iter().any(Result::is_err) {
                self.handle.stop();
            }
            let mut result = first.map_or(Ok(()), |start| start());
            for other in others {
                let ended = match other {
                    Ok(thread) => {
                        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    }
                    Err(error) => Err(error.into()),
                };
                result = result.and(ended);
            }
            result
        })
    }

    /// One worker, on the thread it is to be on.
    fn serve<D>(&self, id: u8, hub: Arc<Hub>, start: (D, Share)) -> Result<()>
    where
        D: Driver<Listener = Listener>,
    {
        // If one fails, the others do not go on without it.
        let stop = StopOnDrop(&self.handle);
        let _pinned = match self.config.pin_workers {
            true => Some(pin::pin(usize::from(id))?),
            false => None,
        };
        let (driver, Share { listeners, files }) = start;
        let count = hub.inboxes.len();
        let handler = (self.make_handler)(Worker { id, count, handle: self.handle.clone() });
        let member = Member { id, hub, handle: self.handle.clone() };
        let mut worker = worker::Worker::new(member, handler, driver, &self.config);
        for listener in listeners {
            worker.listen(listener)?;
        }
        worker.keep(files);
        worker.run()?;
        // It was to end, and so are the others; in a drain, each in its own time.
        std::mem::forget(stop);
        Ok(())
    }
}

/// What a worker listens on, and the files that end with it.
#[derive(Default)]
struct Share {
    listeners: Vec<Listener>,
    files: Vec<SocketFile>,
}

struct StopOnDrop<'h>(&'h Handle);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Each worker closes its own queues; one that never came to be has nobody else to do so.
struct CloseOnDrop<'h>(&'h Hub);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
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
