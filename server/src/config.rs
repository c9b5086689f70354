//! What a server can be told, and what it is unless told.

mod validate;

use quelea_core::{Limits, handshake::OriginPolicy, http::HeadLimits};
use std::time::Duration;

pub(crate) use validate::EXCESS_MAX;

/// The limits and timeouts of a server. Every queue, buffer and wait has one.
///
/// ```
/// use quelea::Config;
/// let config = Config { message_bytes_max: 64 << 10, ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers, each a thread with a listener and connections of its own; at most 256.
    /// Default: `None`, one for each core that the process may use.
    pub workers: Option<usize>,
    /// Whether each worker stays on one core. Default: `false`, so that the
    /// scheduler may move one away from a core that something else keeps busy.
    pub pin_workers: bool,
    /// How the workers speak to the kernel. Default: [`DriverKind::Auto`].
    pub driver: DriverKind,
    /// Whether other processes may listen on the same TCP addresses (`SO_REUSEPORT`): the kernel spreads
    /// connections over all of them, so that together they can have more than one process may have
    /// descriptors. It counts for what is [listened](crate::Server::listen) on after it is set. Who
    /// asks for it is let in by a server of the same user that did not ask, too, if that has several
    /// workers: they share the address among them, and the system knows no difference. Default: `false`, so
    /// that an address which is in use is an error.
    pub share_port: bool,
    /// The most bytes that may wait in one worker's mailbox for it, and as much again at each
    /// worker that sends to it. Beyond it, what is sent there is
    /// [dropped](crate::SendStatus::Dropped). Default: 16 MiB, room for a burst of
    /// thousands of messages. What was read from connections that wait to be
    /// [adopted](crate::Handle::adopt) may be as much.
    pub mailbox_bytes_max: usize,

    /// Whether messages are compressed (RFC 7692), and at which cost in memory; the numbers are those of
    /// one worker. Default: [`Policy::Off`](quelea_core::deflate::Policy::Off), as it takes 4 us of
    /// CPU time a message of 1 KiB, which only slow networks and dear traffic are worth.
    #[cfg(feature = "deflate")]
    pub deflate: quelea_core::deflate::Settings,
    /// The longest message a peer may send, in bytes; beyond it, the connection is closed with
    /// 1009. Default: 1 MiB. To send such messages as well, see
    /// [`outbox_bytes_max`](Self::outbox_bytes_max).
    pub message_bytes_max: usize,
    /// The most fragments of one message; beyond it, 1009. Default: 131,072.
    pub fragments_max: u32,
    /// The most messages a second that a peer may send, pings and pongs included, with a second's
    /// worth at once; beyond it, the connection is closed with 1008. Default: `None`, as only the
    /// application knows what is much. It takes 24 bytes a connection.
    pub messages_per_second_max: Option<u32>,
    /// The most bytes of payload a second that a peer may send, counted in the same way; at least
    /// [`message_bytes_max`](Self::message_bytes_max). A compressed message counts as what is more, its bytes or
    /// those that it took on the wire. Default: `None`.
    pub bytes_per_second_max: Option<usize>,

    /// The most bytes that may wait for one slow peer; what would pass it is treated as
    /// [`overflow`](Self::overflow) says. Default: 4 MiB, which holds a few of the longest
    /// messages.
    pub outbox_bytes_max: usize,
    /// Above this many bytes that wait for a peer, sends say
    /// [`Backlogged`](crate::SendStatus::Backlogged), and reading from that peer pauses, so that
    /// one that asks without listening gets no more. Default: `None`, half of
    /// [`outbox_bytes_max`](Self::outbox_bytes_max).
    pub high_water_bytes: Option<usize>,
    /// At or below this many bytes, a peer that was above the high mark is read from again, and
    /// [`Handler::on_drain`](crate::Handler::on_drain) is called. Default: `None`, a quarter of the
    /// high mark, so that the peer has something to take while more is made.
    pub low_water_bytes: Option<usize>,
    /// What happens to a publish that a slow subscriber has no room for. Default:
    /// [`Overflow::Drop`]: the subscriber is kept, whatever its network.
    pub overflow: Overflow,
    /// The same for the topics that match a pattern, the first one that does:
    /// `("prices.*", Overflow::KeepLatest)`. `*` stands for one part of a name between dots, `>`
    /// at the end for one or more. Default: none.
    pub topic_overflow: Vec<(String, Overflow)>,

    /// The most topics and patterns one connection may be subscribed to. Default: 1,024.
    pub subscriptions_max: usize,
    /// The longest name of a topic, in bytes; at most 256, which is the default.
    pub topic_bytes_max: usize,

    /// What a request head may take; beyond it, 431. Default: 16 KiB, 100 fields.
    pub head: HeadLimits,
    /// Which pages may open a WebSocket; others get 403. Default: those of the same host, and
    /// clients that are no browsers.
    pub origins: OriginPolicy,
    /// The longest a connection may take for a request head, or wait with none. Default: 10 s,
    /// enough for a slow network, and an end to a client that never finishes. A client that is sent
    /// a response has a second more for each 16 KiB of it.
    pub handshake_timeout: Duration,
    /// The longest a closing handshake may take, and what is left to flush; for responses, as with
    /// [`handshake_timeout`](Self::handshake_timeout). Default: 5 s.
    pub close_timeout: Duration,
    /// How long a WebSocket may be silent before it is pinged; `None` for never. Default: 30 s,
    /// below the idle limits of common proxies.
    pub ping_interval: Option<Duration>,
    /// How long a pinged peer may stay silent before its connection is ended, with
    /// [`Cause::TimedOut`](crate::Cause::TimedOut). Anything it sends counts, and so does taking
    /// some of what waits in the server. The next ping is not before its end, so it is best shorter than
    /// [`ping_interval`](Self::ping_interval). Default: 10 s.
    pub pong_timeout: Duration,
    /// How long a peer may send no message before its connection is closed with 1000 and
    /// [`Cause::Idle`](crate::Cause::Idle); pings and pongs do not count. Default: `None`, as many
    /// clients only listen.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live before it is closed with 1012 and
    /// [`Cause::Lifetime`](crate::Cause::Lifetime), so that clients come back to where a load
    /// balancer wants them. Each one ends up to a tenth earlier, so that they do not come back all
    /// at once. Default: `None`.
    pub lifetime_max: Option<Duration>,

    /// The most connections of all workers; beyond it, 503 with `Retry-After`. Default: 1,000,000,
    /// which the limit on descriptors undercuts nearly everywhere, but not with
    /// [`DriverKind::Uring`](crate::DriverKind::Uring): there each worker has a table of 8 bytes for each connection,
    /// or for each descriptor that the process may have if these are fewer. It is made as the server starts, so
    /// that where a million are allowed, 8 MB for each worker are spared by a smaller number.
    pub connections_max: usize,
    /// The most connections from one IP address; beyond it, 429 with `Retry-After`. Default:
    /// `None`, because behind a proxy all clients have its address. It takes 17 bytes a connection.
    pub connections_per_address_max: Option<usize>,
    /// The most connections that are not open yet, of all workers; beyond it, 503 with
    /// `Retry-After`. Default: 10,000, which together may keep
    /// [`head.bytes_max`](HeadLimits::bytes_max) each: 160 MB.
    pub handshakes_pending_max: usize,
    /// The most WebSockets that each worker opens in a second, with a second's worth at once;
    /// beyond it, 503 with `Retry-After`. Default: `None`: accepting takes turns with the open
    /// connections, so it cannot starve them; what a handler does for a new one may be dearer.
    pub handshakes_per_second_max: Option<u32>,
}

/// How workers speak to the kernel. Nothing else depends on it: what a handler sees is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriverKind {
    /// What costs least: [`Uring`](Self::Uring) where no message that comes may have more than 4 KiB
    /// ([`Config::message_bytes_max`]), the kernel has all that makes it faster (Linux 6.16), and this process may
    /// have it; else [`Poll`](Self::Poll), for a reason that is logged: large messages, an old kernel, the sysctl
    /// `kernel.io_uring_disabled`, seccomp, `ulimit -l`. Small messages cost 2 to 8 % less by io_uring, and
    /// those of 16 KiB and more up to a quarter more (docs/benchmarks.md).
    #[default]
    Auto,
    /// Readiness: epoll on Linux, kqueue elsewhere.
    Poll,
    /// Completions: io_uring, on Linux 6.0 and later. Connections have no descriptors then, so that a worker can
    /// have as many as the process may have descriptors ([`run`](crate::Server::run) reads that limit), and
    /// more workers can have more. Where it is not to be had, [`run`](crate::Server::run) fails and says why.
    Uring,
}

/// What happens to a publish that a slow subscriber has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The subscriber does not get it, and goes on with what comes when there is room again.
    Drop,
    /// A subscriber that is behind gets only the latest message of the topic, once it has taken
    /// what waits for it: right for states, such as prices and positions. It counts as behind as
    /// soon as anything waits for it.
    KeepLatest,
    /// The subscriber is closed with 1013 (try again later) and
    /// [`Cause::TooSlow`](crate::Cause::TooSlow): right where a gap is worse than a new start.
    Close,
}

impl Default for Config {
    fn default() -> Self {
        let Limits { message_bytes_max, fragments_max } = Limits::default();
        Self {
            workers: None,
            pin_workers: false,
            driver: DriverKind::Auto,
            share_port: false,
            mailbox_bytes_max: 16 << 20,
            #[cfg(feature = "deflate")]
            deflate: quelea_core::deflate::Settings::default(),
            message_bytes_max,
            fragments_max,
            messages_per_second_max: None,
            bytes_per_second_max: None,
            outbox_bytes_max: 4 << 20,
            high_water_bytes: None,
            low_water_bytes: None,
            overflow: Overflow::Drop,
            topic_overflow: Vec::new(),
            subscriptions_max: 1024,
            topic_bytes_max: 256,
            head: HeadLimits::default(),
            origins: OriginPolicy::default(),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            idle_timeout: None,
            lifetime_max: None,
            connections_max: 1_000_000,
            connections_per_address_max: None,
            handshakes_pending_max: 10_000,
            handshakes_per_second_max: None,
        }
    }
}

impl Config {
    /// The high water mark, in bytes.
    pub(crate) fn high_water(&self) -> usize {
        self.high_water_bytes.unwrap_or(self.outbox_bytes_max / 2)
    }

    /// The low water mark, in bytes.
    pub(crate) fn low_water(&self) -> usize {
        self.low_water_bytes.unwrap_or(self.high_water() / 4)
    }
}
