//! Sockets that connect without waiting, from as many addresses as their number needs.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// How many connections come from one address. Linux gives out 28,232 ports by default, but first tries
/// all of one half of them: with most of that half in use, each connect takes milliseconds.
const PER_ADDRESS: u64 = 8000;
/// How many addresses there are before the first is used again: 127.0.0.2 to 127.0.249.251.
const ADDRESSES: u64 = 250 * 250;

/// Where connections come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    /// The first address; 0 is the one that the system picks.
    first: u64,
    begun: u64,
    abort_by_reset: bool,
}

/// A socket on its way.
pub(super) struct Connecting {
    pub(super) socket: Socket,
    /// Loopback is mostly as fast as the call.
    pub(super) is_connected: bool,
}

impl Sources {
    pub(super) const fn new(first: u64, abort_by_reset: bool) -> Self {
        Self { first, begun: 0, abort_by_reset }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, to: SocketAddr) -> io::Result<Connecting> {
        let socket = Socket::new(
            Domain::for_address(to),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        if self.abort_by_reset {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if let Some(source) = self.next(to.ip()) {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => return Ok(Connecting { socket, is_connected: true }),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        match socket.peer_addr() {
            Ok(_) => Ok(Connecting { socket, is_connected: true }),
            Err(error) if error.kind() == ErrorKind::NotConnected => match socket.take_error()? {
                None => Ok(Connecting { socket, is_connected: false }),
                Some(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The address of the next connection; `None` for the one that the system picks.
    fn next(&mut self, to: IpAddr) -> Option<Ipv4Addr> {
        let number = self.first + self.begun / PER_ADDRESS;
        self.begun += 1;
        // Only 127.0.0.0/8 is all ours.
        let is_own = matches!(to, IpAddr::V4(to) if to.is_loopback());
        let number = number.checked_sub(1).filter(|_| is_own)? % ADDRESSES;
        Some(Ipv4Addr::new(127, 0, (number / 250) as u8, (number % 250) as u8 + 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn each_address_is_used_for_as_many_connections_as_it_has_ports_for() {
        let to: IpAddr = "127.0.0.1".parse().unwrap();
        let mut sources = Sources::new(0, false);
        let mut next = |count: u64| (0..count).map(|_| sources.next(to)).last().unwrap();
        assert_eq!(next(PER_ADDRESS), None);
        assert_eq!(next(1), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(next(PER_ADDRESS), Some(Ipv4Addr::new(127, 0, 0, 3)));
        assert_eq!(Sources::new(251, false).next(to), Some(Ipv4Addr::new(127, 0, 1, 2)));
        assert_eq!(Sources::new(ADDRESSES + 1, false).next(to), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(Sources::new(5, false).next("::1".parse().unwrap()), None);
        assert_eq!(Sources::new(5, false).next("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn a_connection_comes_from_its_address_and_a_refusal_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connecting = Sources::new(7, false).connect(address).unwrap();
        let from = listener.accept().unwrap().1;
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 8]));
        assert!(connecting.is_connected && connecting.socket.peer_addr().is_ok());
        drop(listener);
        let error = Sources::new(0, false).connect(address).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
