//! Taking over connections that something else accepted.

use crate::{address::PeerAddress, admission::Refusal};
use std::{
    any::Any,
    fmt, io,
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Mutex, PoisonError},
};

/// A stream that a server can [adopt](crate::Handle::adopt): a [`TcpStream`] or a [`UnixStream`]. Those
/// of async runtimes become one by a method such as `into_std`.
///
/// No other type can be one: a TLS stream has keys and bytes of its own, which a server that does
/// not speak TLS cannot go on with.
pub trait Adoptable: private::Sealed + Into<OwnedFd> + From<OwnedFd> {
    /// Where the peer is; gives the stream what an accepted one has.
    #[doc(hidden)]
    fn prepare(&self) -> io::Result<PeerAddress>;
}

mod private {
    pub trait Sealed {}
    impl Sealed for std::net::TcpStream {}
    impl Sealed for std::os::unix::net::UnixStream {}
}

impl Adoptable for TcpStream {
    fn prepare(&self) -> io::Result<PeerAddress> {
        let peer = self.peer_addr()?;
        self.set_nodelay(true)?;
        Ok(PeerAddress::Tcp(peer))
    }
}

impl Adoptable for UnixStream {
    fn prepare(&self) -> io::Result<PeerAddress> {
        self.peer_addr().map(|_| PeerAddress::Unix)
    }
}

/// What an application tells of a WebSocket that it hands over by
/// [`Handle::adopt_websocket`](crate::Handle::adopt_websocket); all of it is for
/// [`Handler::on_adopt`](crate::Handler::on_adopt), and none of it has to be told.
///
/// ```
/// use quelea::Adoption;
/// struct User(String);
/// let adoption = Adoption::new("/chat?room=7").subprotocol("chat.v1").data(User("ann".into()));
/// # let _ = adoption;
/// ```
#[derive(Debug, Default)]
pub struct Adoption {
    target: String,
    subprotocol: Option<String>,
    /// Never locked: it makes an error that has this one `Sync`, as most that take errors want it,
    /// and the data need not be.
    data: Option<Mutex<Box<dyn Any + Send>>>,
}

impl Adoption {
    /// A WebSocket that was asked for at this path, perhaps with a query.
    pub fn new(target: impl Into<String>) -> Self {
        Self { target: target.into(), ..Self::default() }
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// A value of the application's own, such as who the user is.
    pub fn data(mut self, data: impl Any + Send) -> Self {
        self.data = Some(Mutex::new(Box::new(data)));
        self
    }
}

/// A WebSocket that was adopted, as [`Handler::on_adopt`](crate::Handler::on_adopt) sees it.
#[derive(Debug)]
pub struct Adopted {
    adoption: Adoption,
    peer: PeerAddress,
}

impl Adopted {
    pub(crate) const fn new(adoption: Adoption, peer: PeerAddress) -> Self {
        Self { adoption, peer }
    }

    /// The path as it was told: `/rooms/7`. Empty if it was not.
    pub fn path(&self) -> &str {
        let target = &*self.adoption.target;
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// What follows the first `?` of what was told.
    pub fn query(&self) -> Option<&str> {
        self.adoption.target.split_once('?').map(|(_, query)| query)
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.adoption.subprotocol.as_deref()
    }

    /// Where the connection comes from.
    pub const fn peer(&self) -> PeerAddress {
        self.peer
    }

    /// The value that the application gave, if it is a `T`.
    pub fn into_data<T: Any>(self) -> Option<T> {
        let data = self.adoption.data?.into_inner().unwrap_or_else(PoisonError::into_inner);
        data.downcast().ok().map(|data| *data)
    }
}

/// A stream that was not adopted, and all that was given with it.
#[non_exhaustive]
pub struct AdoptError<S> {
    /// Why.
    pub reason: AdoptRefusal,
    /// The stream: nothing was read from it or sent to it.
    pub stream: S,
    /// The bytes that were read before.
    pub received: Vec<u8>,
    /// What was told of a WebSocket; of another stream, nothing.
    pub adoption: Adoption,
}

impl<S> AdoptError<S> {
    pub(crate) fn new(
        reason: AdoptRefusal,
        stream: S,
        received: Vec<u8>,
        adoption: Option<Adoption>,
    ) -> Self {
        Self { reason, stream, received, adoption: adoption.unwrap_or_default() }
    }
}

/// Why a stream is not adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdoptRefusal {
    /// The server does not run yet.
    NotRunning,
    /// The server drains, or was stopped.
    Stopped,
    /// There are [`Config::connections_max`](crate::Config::connections_max).
    Full,
    /// There are [`Config::handshakes_pending_max`](crate::Config::handshakes_pending_max) that are
    /// not open yet; so are those that wait for their worker.
    Pending,
    /// Its address has
    /// [`Config::connections_per_address_max`](crate::Config::connections_per_address_max).
    Address,
    /// The bytes that were read of those that wait for the same worker are
    /// [`Config::mailbox_bytes_max`](crate::Config::mailbox_bytes_max).
    Busy,
    /// The stream is not connected: its peer is gone already.
    NotConnected,
}

impl From<Refusal> for AdoptRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::Full,
            Refusal::Pending | Refusal::Rate => Self::Pending,
            Refusal::Address => Self::Address,
            Refusal::Draining => Self::Stopped,
        }
    }
}

impl fmt::Display for AdoptRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "the server does not run yet",
            Self::Stopped => "the server stops",
            Self::Full => "the server is full",
            Self::Pending => "too many are not open yet",
            Self::Address => "too many from this address",
            Self::Busy => "too many bytes wait for the worker",
            Self::NotConnected => "the stream is not connected",
        })
    }
}

impl<S> fmt::Display for AdoptError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stream was not adopted: {}", self.reason)
    }
}

impl<S: fmt::Debug> fmt::Debug for AdoptError<S> {
    /// Without the bytes: they are many, and someone's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdoptError")
            .field("reason", &self.reason)
            .field("stream", &self.stream)
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> std::error::Error for AdoptError<S> {}

/// A stream on its way to a worker.
#[derive(Debug)]
pub(crate) struct Adoptee {
    pub(crate) socket: OwnedFd,
    pub(crate) received: Vec<u8>,
    pub(crate) peer: PeerAddress,
    /// What was told of a WebSocket; `None` if the handshake is before it.
    pub(crate) adoption: Option<Adoption>,
}
