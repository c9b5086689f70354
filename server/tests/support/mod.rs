//! A server on a thread, a handler that reports what it is called for, and a client that sends
//! exactly the bytes it is told to.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod metrics;

use quelea::{
    Accept, Adoption, Cause, CloseCode, Closed, Config, Conn, ConnId, DriverKind, Handle, Handler,
    ListenAddress, Message, Request, Response, SendStatus, Server, Status, Upgrade, Worker,
};
use std::{
    env::VarError,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Deref,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a handler was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Open,
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Drain,
    RoundTrip(Duration),
    Timer(u8),
    Close(u16, String, Cause),
    Sent(SendStatus),
}

/// Echoes, obeys a few commands, and reports all it is called for.
pub(crate) struct Recorder {
    calls: Sender<(ConnId, Called)>,
    /// The first connection of any worker.
    first: Arc<OnceLock<ConnId>>,
}

impl Recorder {
    fn report(&self, conn: &Conn<'_, ()>, called: Called) {
        // A test that has seen enough no longer listens.
        let _ = self.calls.send((conn.id(), called));
    }
}

impl Handler for Recorder {
    type State = ();

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<()>, Response> {
        match upgrade.path() {
            "/refused" => Err(Response::text(Status::UNAUTHORIZED, "who are you?\n")
                .header("WWW-Authenticate", "Bearer")),
            "/missing" => Err(Response::new(Status::NOT_FOUND)),
            "/subprotocol" => Ok(Accept::default().subprotocol("b").header("X-Own", "yes")),
            _ => Ok(Accept::default()),
        }
    }

    fn on_request(&mut self, request: &Request<'_>) -> Response {
        match request.path() {
            "/page" => Response::text(Status::OK, "a page\n"),
            "/broken" => Response::new(Status::OK).header("X", "a\r\nb"),
            _ => Response::upgrade_required(),
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        self.first.get_or_init(|| conn.id());
        self.report(conn, Called::Open);
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text(text) => {
                self.report(conn, Called::Text(text.to_owned()));
                if let Some(code) = text.strip_prefix("close ") {
                    let code = CloseCode(code.parse().unwrap());
                    let status = conn.close(code, "as told");
                    self.report(conn, Called::Sent(status));
                } else if let Some(len) = text.strip_prefix("send ") {
                    let status = conn.send(&vec![7; len.parse().unwrap()]);
                    self.report(conn, Called::Sent(status));
                } else if let Some(text) = text.strip_prefix("to first ") {
                    let status = conn.send_to(*self.first.get().unwrap(), text);
                    self.report(conn, Called::Sent(status));
                } else if let Some(rest) = text.strip_prefix("timer ") {
                    let (key, after) = rest.split_once(' ').unwrap();
                    let after = Duration::from_millis(after.parse().unwrap());
                    assert!(conn.set_timer(key.parse().unwrap(), after));
                } else if let Some(key) = text.strip_prefix("clear ") {
                    assert!(conn.clear_timer(key.parse().unwrap()));
                } else if let Some(time) = text.strip_prefix("sleep ") {
                    std::thread::sleep(Duration::from_millis(time.parse().unwrap()));
                    conn.send(text);
                } else if text == "pause" {
                    conn.pause();
                } else if text == "ping" {
                    let status = conn.ping(b"from the server");
                    self.report(conn, Called::Sent(status));
                } else if text == "long ping" {
                    let status = conn.ping(&[0; 126]);
                    self.report(conn, Called::Sent(status));
                } else {
                    conn.send(text);
                }
            }
            Message::Binary(bytes) => {
                self.report(conn, Called::Binary(bytes.to_owned()));
                conn.send(bytes);
            }
        }
    }

    fn on_ping(&mut self, conn: &mut Conn<'_, ()>, payload: &[u8]) {
        self.report(conn, Called::Ping(payload.to_owned()));
    }

    fn on_pong(&mut self, conn: &mut Conn<'_, ()>, payload: &[u8]) {
        self.report(conn, Called::Pong(payload.to_owned()));
    }

    fn on_round_trip(&mut self, conn: &mut Conn<'_, ()>, round_trip: Duration) {
        self.report(conn, Called::RoundTrip(round_trip));
    }

    fn on_timer(&mut self, conn: &mut Conn<'_, ()>, key: u8) {
        self.report(conn, Called::Timer(key));
        if key == 1 {
            conn.resume();
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, ()>) {
        self.report(conn, Called::Drain);
    }

    fn on_close(&mut self, conn: &mut Conn<'_, ()>, closed: &Closed<'_>) {
        assert_eq!(conn.send("too late"), SendStatus::Closed);
        let reason = closed.reason.to_owned();
        self.report(conn, Called::Close(closed.code.0, reason, closed.cause));
    }
}

/// How many workers the servers of the tests have: CI runs them with one and with two.
pub(crate) fn workers() -> usize {
    std::env::var("QUELEA_TEST_WORKERS").map_or(1, |count| count.parse().expect("a number"))
}

/// Which driver they have: CI runs them with each.
pub(crate) fn driver() -> DriverKind {
    match std::env::var("QUELEA_TEST_DRIVER").as_deref() {
        Ok("poll") => DriverKind::Poll,
        Ok("uring") => DriverKind::Uring,
        Err(VarError::NotPresent) => DriverKind::Auto,
        other => panic!("there is no driver {other:?}"),
    }
}

/// A server on a thread of its own, until it is dropped.
pub(crate) struct Serving {
    pub(crate) addresses: Vec<ListenAddress>,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<quelea::Result<()>>>,
}

impl Serving {
    /// On these addresses; with none of them, it only adopts.
    pub(crate) fn start<F, H>(config: Config, addresses: &[&str], make: F) -> Self
    where
        F: Fn(Worker) -> H + Send + Sync + 'static,
        H: Handler + 'static,
    {
        let config = Config { driver: driver(), ..config };
        let server = Server::new(make).config(config).unwrap();
        let server =
            addresses.iter().fold(server, |server, address| server.listen(*address).unwrap());
        let server = if addresses.is_empty() { server.without_listener() } else { server };
        let addresses = server.local_addresses().cloned().collect();
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.run()));
        is_running(&handle);
        Self { addresses, handle, thread }
    }

    pub(crate) fn tcp_address(&self) -> SocketAddr {
        let mut addresses = self.addresses.iter().filter_map(|address| match address {
            ListenAddress::Tcp(addresses) => Some(addresses[0]),
            _ => None,
        });
        addresses.next().expect("it listens on TCP")
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::new(TcpStream::connect(self.tcp_address()).unwrap())
    }

    /// Waits for the end of a server that ends by itself.
    pub(crate) fn wait(&mut self) -> std::thread::Result<quelea::Result<()>> {
        self.thread.take().expect("it was not waited for before").join()
    }

    /// Stops the server, if it was not, and waits for its end: `None` if that was waited for before.
    pub(crate) fn join(&mut self) -> Option<std::thread::Result<quelea::Result<()>>> {
        self.handle.stop();
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let ended = self.join();
        if !std::thread::panicking()
            && let Some(ended) = ended
        {
            ended.unwrap().unwrap();
        }
    }
}

/// A server of recorders.
pub(crate) struct Running {
    serving: Serving,
    calls: Receiver<(ConnId, Called)>,
}

impl Deref for Running {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::start_with(Config::default(), "127.0.0.1:0")
    }

    pub(crate) fn start_with(config: Config, address: &str) -> Self {
        let config = Config { workers: Some(workers()), ..config };
        let (sender, calls) = channel();
        let first = Arc::default();
        let make = move |_| Recorder { calls: sender.clone(), first: Arc::clone(&first) };
        Self { serving: Serving::start(config, &[address], make), calls }
    }

    /// The next call of the handler.
    pub(crate) fn called(&self) -> Called {
        self.calls.recv_timeout(PATIENCE).expect("the handler is called").1
    }

    /// Whether the handler was called for no more than was asked about.
    pub(crate) fn is_silent(&self) -> bool {
        self.calls.recv_timeout(Duration::from_millis(50)).is_err()
    }

    /// A connection whose handshake is done and reported.
    pub(crate) fn open(&self) -> Raw {
        let mut raw = self.connect();
        raw.upgrade("/");
        assert_eq!(self.called(), Called::Open);
        raw
    }

    /// A WebSocket that was adopted with these bytes.
    pub(crate) fn adopt(&self, received: &[u8]) -> Raw {
        let (stream, raw) = pair();
        self.handle.adopt_websocket(stream, received, Adoption::default()).unwrap();
        assert_eq!(self.called(), Called::Open);
        raw
    }

    /// Waits for the end of a server that ends by itself.
    pub(crate) fn wait(&mut self) {
        self.serving.wait().unwrap().unwrap();
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(ended) = self.serving.join() {
            ended.unwrap().unwrap();
        }
    }
}

/// A client that sends bytes as told.
pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: S,
}

pub(crate) const HANDSHAKE: &str = "Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

impl Raw<TcpStream> {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends each byte as a segment of its own. A server that has answered with a close may have
    /// closed before the last of them: that is no failure of the client.
    pub(crate) fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }
}

impl<S: Read + Write> Raw<S> {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn upgrade(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    }

    pub(crate) fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read_exact(1));
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads a response with its body.
    pub(crate) fn read_response(&mut self) -> (String, String) {
        let head = self.read_head();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse().unwrap());
        let body = String::from_utf8(self.read_exact(length)).unwrap();
        (head, body)
    }

    /// Reads a frame of the server: its first byte and its payload.
    pub(crate) fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let header = self.read_exact(2);
        let len = match header[1] {
            126 => u64::from(u16::from_be_bytes(self.read_exact(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.read_exact(8).try_into().unwrap()),
            len => u64::from(len),
        };
        (header[0], self.read_exact(len as usize))
    }

    /// Reads a close frame, and then the end of the stream; messages before it are passed over.
    pub(crate) fn read_close(&mut self) -> (u16, String) {
        let (first, payload) = std::iter::repeat_with(|| self.read_frame())
            .find(|(first, _)| !matches!(*first, TEXT | BINARY))
            .unwrap();
        assert_eq!(first, 0x88, "a close frame");
        assert!(self.is_at_end());
        match payload.split_first_chunk() {
            Some((code, reason)) => {
                (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
            }
            None => (1005, String::new()),
        }
    }

    pub(crate) fn is_at_end(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// A client's frame with the mask 01 02 03 04.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0xff);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let key = [1, 2, 3, 4];
    bytes.extend(key);
    bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]));
    bytes
}

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// The payload of a close frame.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A connection that the server knows nothing of: what it is to adopt, and the client.
pub(crate) fn pair() -> (TcpStream, Raw) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, Raw::new(client))
}

/// Waits until something is so.
#[allow(clippy::disallowed_methods, reason = "a test measures time")]
pub(crate) fn soon(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the server runs: an empty topic is invalid only from then on.
pub(crate) fn is_running(handle: &Handle) {
    soon(|| handle.publish("", "") == SendStatus::Invalid);
}

/// Has a WebSocket adopted, and tries again until there is room: the server hears of those that leave
/// in its own time.
#[allow(clippy::disallowed_methods, reason = "a test measures time")]
pub(crate) fn is_adopted_at_last(handle: &Handle) -> Raw {
    let start = Instant::now();
    let (mut stream, raw) = pair();
    while let Err(error) = handle.adopt_websocket(stream, [], Adoption::default()) {
        assert!(start.elapsed() < PATIENCE, "{error}");
        std::thread::sleep(Duration::from_millis(2));
        stream = error.stream;
    }
    raw
}
