//! A server with its network, its clock and its clients.

mod schedule;

use super::{
    Fault, Faults, FieldError,
    client::{Client, ClientEvent, ClientOptions},
};
use crate::{
    address::PeerAddress,
    app,
    config::Config,
    driver::{
        Driver,
        sim::{Network, Owner, Sim, WireId},
    },
    error::Result,
    handle::Handle,
    handler::Handler,
    hub::Hub,
    metrics::WorkerMetrics,
    parts::mutant::{Mutant, is_planted},
    table::Residue,
    worker::{self, Member},
};
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Limits, Message, Received, Role,
    handshake::ClientRequest,
};
use schedule::Timer;
use std::{
    cell::RefCell,
    fmt,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest message that a simulated client takes.
const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The longest time that passes at once, so that no sum of times is beyond what the clock can hold.
const TIME_MAX: Duration = Duration::from_secs(100 * 24 * 60 * 60);

/// A server with its network, its clock and its clients, all made up.
///
/// Nothing happens but in [`run_for`](Self::run_for): what a client is told to do is done from then
/// on. See the [module](super) for an example.
pub struct Simulation<H: Handler> {
    network: Rc<RefCell<Network>>,
    hosts: Vec<Host<H>>,
    handle: Handle,
    clients: Vec<Client>,
    /// That of all clients.
    context: Context,
    crowd_request: Vec<u8>,
    crowd_open: usize,
    is_weather_on: bool,
    scratch: Vec<u8>,
}

/// One worker, and when it runs next.
struct Host<H: Handler> {
    worker: Option<worker::Worker<H, Sim>>,
    due: Option<Instant>,
    busy_until: Instant,
}

/// The clock of a [`Simulation`].
#[derive(Clone)]
pub struct Clock(Rc<RefCell<Network>>);

impl Clock {
    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.borrow().elapsed()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.elapsed()).finish()
    }
}

/// A client of a [`Simulation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u32);

impl ClientId {
    /// How many clients there were before it.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl<H: Handler> Simulation<H> {
    /// A server of [`Config::workers`] workers, one if that is `None`, without clients and without
    /// faults.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the field that cannot work.
    pub fn new(seed: u64, config: Config, make_handler: impl Fn(app::Worker) -> H) -> Result<Self> {
        config.validate()?;
        let config = with_planted(config);
        let count = config.workers.unwrap_or(1);
        let network = Rc::new(RefCell::new(Network::new(seed, Faults::NONE, count)));
        let drivers: Vec<_> = (0..count).map(|worker| Sim::new(network.clone(), worker)).collect();
        let hub = Arc::new(Hub::new(&config, drivers.iter().map(Driver::waker).collect()));
        let handle = Handle::default();
        handle.start(hub.clone());
        let now = network.borrow().now();
        let mut hosts = Vec::new();
        for (id, driver) in drivers.into_iter().enumerate() {
            let id = id as u8;
            let handler = make_handler(app::Worker::new(id, count, handle.clone()));
            let member = Member { id, hub: hub.clone(), handle: handle.clone() };
            let mut worker = worker::Worker::new(member, handler, driver, &config);
            worker.listen(())?;
            hosts.push(Host { worker: Some(worker), due: None, busy_until: now });
        }
        let limits =
            Limits { message_bytes_max: CLIENT_MESSAGE_BYTES_MAX, fragments_max: u32::MAX };
        let mut key = [0; 32];
        network.borrow_mut().random().fill(&mut key);
        let mut crowd_request = Vec::new();
        // The host and target are valid.
        let _ = ClientRequest::new("simulated", "/", &[7; 16]).write(&mut crowd_request);
        let mut simulation = Self {
            network,
            hosts,
            handle,
            clients: Vec::new(),
            context: Context::new(limits, key),
            crowd_request,
            crowd_open: 0,
            is_weather_on: false,
            scratch: Vec::new(),
        };
        (0..count).for_each(|worker| simulation.plan(worker, now));
        Ok(simulation)
    }

    /// Lets faults happen, by chance, from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        let mut network = self.network.borrow_mut();
        network.set_faults(faults);
        let has_weather = faults.has(Fault::Descriptors) || faults.has(Fault::ClockJumps);
        if has_weather && !self.is_weather_on {
            self.is_weather_on = true;
            let now = network.now();
            network.set_timer(now, Timer::Weather.key());
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.network.borrow().elapsed()
    }

    /// The clock, for those who cannot reach the simulation: handlers.
    pub fn clock(&self) -> Clock {
        Clock(self.network.clone())
    }

    /// How many bytes each direction of a new connection holds, at least one, unless
    /// [`Fault::SmallBuffers`] says otherwise. Default: 256 KiB.
    pub fn set_buffer_bytes(&mut self, bytes: usize) {
        self.network.borrow_mut().set_capacity(bytes.max(1));
    }

    /// What reaches the server from outside.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A number that stands for all that has happened so far: two runs with the same seed have the
    /// same.
    pub fn digest(&self) -> u64 {
        self.network.borrow().digest()
    }

    /// How many workers still run: none after [`Handle::stop`] and the end of all connections.
    pub fn running(&self) -> usize {
        self.hosts.iter().filter(|host| host.worker.is_some()).count()
    }

    /// What the workers hold on to. Once all connections are gone, it is nothing.
    pub fn residue(&self) -> Residue {
        let workers = self.hosts.iter().filter_map(|host| host.worker.as_ref());
        workers.map(worker::Worker::residue).sum()
    }

    /// What all workers have counted. [`Handle::metrics`] does not ask the workers of a simulation:
    /// they run only in [`run_for`](Self::run_for).
    pub fn metrics(&self) -> WorkerMetrics {
        let ended = self.handle.metrics(Duration::ZERO);
        let mut total = WorkerMetrics::default();
        for (host, report) in self.hosts.iter().zip(&ended.workers) {
            match &host.worker {
                Some(worker) => total += &worker.metrics(),
                None => total += &report.metrics,
            }
        }
        total
    }

    /// A client that opens a WebSocket, at `/` or another target.
    ///
    /// # Errors
    /// The target cannot be asked for.
    pub fn connect(&mut self, target: &str) -> std::result::Result<ClientId, FieldError> {
        self.connect_with(ClientOptions { target: target.to_owned(), ..ClientOptions::default() })
    }

    /// A client that connects in any way.
    ///
    /// # Errors
    /// The target, a field or a subprotocol cannot be sent.
    pub fn connect_with(
        &mut self,
        options: ClientOptions,
    ) -> std::result::Result<ClientId, FieldError> {
        let number = self.clients.len() as u32;
        let id = ClientId(number);
        let mut network = self.network.borrow_mut();
        let address = options.address.unwrap_or_else(|| address_of(number));
        let worker = options.worker.unwrap_or_else(|| network.random().usize(0..self.hosts.len()));
        let wire = network.connect(Owner::Client(number), PeerAddress::Tcp(address), worker);
        let mut nonce = [0; 16];
        network.random().fill(&mut nonce);
        match Client::new(wire, options, nonce) {
            Ok(client) => self.clients.push(client),
            Err(error) => {
                network.reset_by_client(wire);
                return Err(error);
            }
        }
        let fates = [
            (Fault::Resets, 6, Timer::Reset(number)),
            (Fault::HalfOpen, 8, Timer::Vanish(number)),
            (Fault::Stalls, 4, Timer::Stall(number)),
        ];
        for (fault, once_in, timer) in fates {
            if network.happens(fault, once_in) {
                let after = Duration::from_micros(network.random().u64(0..20_000_000));
                let at = network.now() + after;
                network.set_timer(at, timer.key());
            }
        }
        drop(network);
        self.flush(id);
        Ok(id)
    }

    /// Connects many clients that only answer pings, and that take no memory: to see what a server
    /// needs for those that are there. They are not subject to [`Fault::Cuts`] and
    /// [`Fault::SmallBuffers`].
    pub fn connect_crowd(&mut self, count: usize) {
        let mut network = self.network.borrow_mut();
        for number in 0..count as u32 {
            let worker = number as usize % self.hosts.len();
            let address = PeerAddress::Tcp(address_of(number));
            let wire = network.connect(Owner::Crowd { is_open: false }, address, worker);
            network.send_to_server(wire, &self.crowd_request);
        }
    }

    /// How many of the crowd have their WebSocket.
    pub const fn crowd_open(&self) -> usize {
        self.crowd_open
    }

    /// Sends a message; whether the client is open.
    pub fn send<'m>(&mut self, client: ClientId, message: impl Into<Message<'m>>) -> bool {
        self.act(client, |client, context| client.send(message.into(), context))
    }

    /// Sends a message in so many fragments; whether the client is open.
    pub fn send_in_fragments<'m>(
        &mut self,
        client: ClientId,
        message: impl Into<Message<'m>>,
        count: usize,
    ) -> bool {
        self.act(client, |client, context| client.send_in_fragments(message.into(), count, context))
    }

    /// Sends a ping of at most 125 bytes; whether the client is open.
    pub fn ping(&mut self, client: ClientId, payload: &[u8]) -> bool {
        self.act(client, |client, context| client.ping(payload, context))
    }

    /// Begins the closing handshake; whether the client was open.
    pub fn close(&mut self, client: ClientId, code: CloseCode, reason: &str) -> bool {
        self.act(client, |client, context| client.close(CloseFrame { code, reason }, context))
    }

    /// Sends bytes as they are, behind what was sent before.
    pub fn write(&mut self, client: ClientId, bytes: &[u8]) {
        self.act(client, |client, _| {
            client.out.extend_from_slice(bytes);
            true
        });
    }

    /// Sends a FIN behind what was sent before; what the server sends still comes, and nothing goes
    /// back any more.
    pub fn finish(&mut self, client: ClientId) {
        self.act(client, |client, _| {
            client.is_finishing = true;
            true
        });
    }

    /// Ends the connection with a RST.
    pub fn reset(&mut self, client: ClientId) {
        if let Some(client) =
            self.clients.get_mut(client.index()).filter(|client| !client.is_over())
        {
            self.network.borrow_mut().reset_by_client(client.wire);
            client.end();
        }
    }

    /// From now on nothing comes from the client, and nobody is told.
    pub fn vanish(&mut self, client: ClientId) {
        if let Some(client) =
            self.clients.get_mut(client.index()).filter(|client| !client.is_over())
        {
            self.network.borrow_mut().vanish(client.wire);
            client.end();
        }
    }

    /// The client reads nothing until [`resume`](Self::resume).
    pub fn stall(&mut self, client: ClientId) {
        if let Some(client) = self.clients.get_mut(client.index()) {
            client.is_stalled = true;
        }
    }

    /// The client reads again, all that has come.
    pub fn resume(&mut self, client: ClientId) {
        if let Some(stalled) = self.clients.get_mut(client.index()) {
            stalled.is_stalled = false;
            self.read(client);
        }
    }

    /// Whether the client can send messages.
    pub fn is_open(&self, client: ClientId) -> bool {
        self.clients.get(client.index()).is_some_and(Client::is_open)
    }

    /// Whether the client's connection is gone.
    pub fn is_over(&self, client: ClientId) -> bool {
        self.clients.get(client.index()).is_none_or(Client::is_over)
    }

    /// What the client has seen since the last time, each with when, from the start on.
    pub fn take_events(&mut self, client: ClientId) -> Vec<(Duration, ClientEvent)> {
        self.clients.get_mut(client.index()).map(Client::take_events).unwrap_or_default()
    }

    /// A worker stands still for so long, at most 100 days, while all else goes on. One that stands
    /// still for longer already does so.
    pub fn pause_worker(&mut self, worker: usize, pause: Duration) {
        if let Some(host) = self.hosts.get_mut(worker) {
            let until = self.network.borrow().now() + pause.min(TIME_MAX);
            host.busy_until = host.busy_until.max(until);
            host.due = None;
            let until = host.busy_until;
            self.plan(worker, until);
        }
    }

    /// The clock leaps while nothing runs, by at most 100 days.
    pub fn jump(&mut self, by: Duration) {
        let mut network = self.network.borrow_mut();
        let to = network.now() + by.min(TIME_MAX);
        network.pass_until(to);
    }

    /// Whether a worker gets no descriptors for new connections from now on.
    pub fn set_out_of_descriptors(&mut self, worker: usize, is_out: bool) {
        if worker < self.hosts.len() {
            self.network.borrow_mut().set_out_of_descriptors(worker, is_out);
        }
    }

    fn act(
        &mut self,
        id: ClientId,
        action: impl FnOnce(&mut Client, &mut Context) -> bool,
    ) -> bool {
        let Some(client) = self.clients.get_mut(id.index()).filter(|client| !client.is_over())
        else {
            return false;
        };
        let done = action(client, &mut self.context);
        self.flush(id);
        done
    }

    fn flush(&mut self, id: ClientId) {
        let client = &mut self.clients[id.index()];
        let mut network = self.network.borrow_mut();
        if !client.out.is_empty() {
            let sent = network.send_to_server(client.wire, &client.out);
            client.out.drain(..sent);
        }
        if client.is_finishing && client.out.is_empty() {
            client.is_finishing = false;
            network.finish_by_client(client.wire);
        }
    }

    /// The client reads what has come, and sends what it could not before.
    fn read(&mut self, id: ClientId) {
        let at = self.elapsed();
        let client = &mut self.clients[id.index()];
        if client.is_over() {
            return;
        }
        if !client.is_stalled {
            let mut bytes = std::mem::take(&mut self.scratch);
            let ended = self.network.borrow_mut().read_at_client(client.wire, &mut bytes);
            client.receive(at, &mut bytes, &mut self.context);
            bytes.clear();
            self.scratch = bytes;
            if let Some(is_fin) = ended {
                client.tell(at, if is_fin { ClientEvent::Ended } else { ClientEvent::Reset });
                self.network.borrow_mut().close_by_client(client.wire);
                return client.end();
            }
        }
        self.flush(id);
    }

    fn read_crowd(&mut self, wire: WireId, is_open: bool) {
        let mut bytes = std::mem::take(&mut self.scratch);
        let mut network = self.network.borrow_mut();
        let ended = network.read_at_client(wire, &mut bytes);
        let mut out = Vec::new();
        if is_open {
            let mut connection = Connection::new(Role::Client);
            let mut received = Received::new(&mut bytes);
            while let Ok(Some(_)) =
                connection.poll_event(&mut received, &mut self.context, &mut out)
            {}
        } else if bytes.starts_with(b"HTTP/1.1 101 ") {
            self.crowd_open += 1;
            network.set_crowd_open(wire);
        }
        network.send_to_server(wire, &out);
        if ended.is_some() {
            self.crowd_open -= usize::from(is_open);
            network.close_by_client(wire);
        }
        bytes.clear();
        self.scratch = bytes;
    }
}

/// A server that does not keep to its limits, if that bug is planted.
fn with_planted(mut config: Config) -> Config {
    if is_planted(Mutant::NoOutboxLimit) {
        (config.high_water_bytes, config.outbox_bytes_max) = (Some(512 << 20), 1 << 30);
    }
    if is_planted(Mutant::DoubleMessages) {
        config.message_bytes_max *= 2;
        config.mailbox_bytes_max *= 2;
    }
    config
}

/// The address of a client that was given none.
fn address_of(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 40_000))
}

impl<H: Handler> fmt::Debug for Simulation<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("elapsed", &self.elapsed())
            .field("workers", &self.hosts.len())
            .field("clients", &self.clients.len())
            .finish_non_exhaustive()
    }
}
