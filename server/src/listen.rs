//! Sockets that listen.

use crate::{
    address::ListenAddress,
    driver::Listener,
    error::{Error, Result},
};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// Connections that the kernel keeps until they are accepted; it lowers this to its own limit
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Listeners that are bound, and where.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) address: ListenAddress,
    pub(crate) file: Option<SocketFile>,
}

/// Removes the file of a Unix socket in the end.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Someone may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Bound {
    /// The listeners of `count` workers: for TCP each has its own, among which the kernel spreads
    /// what comes; those of a Unix socket are one.
    pub(crate) fn share(&mut self, count: usize) -> Result<Vec<Vec<Listener>>> {
        let failed = |source| Error::Listen { address: self.address.to_string(), source };
        let mut shares = vec![std::mem::take(&mut self.listeners)];
        if count > 1 {
            // Only now: whoever asks to share a port is let in by those that have this.
            shares[0].iter().try_for_each(allow_more).map_err(failed)?;
        }
        for _ in 1..count {
            let more = shares[0].iter().map(|listener| match listener {
                Listener::Tcp(first) => {
                    let socket = bind_tcp_once(first.local_addr()?, true)?;
                    socket.listen(BACKLOG)?;
                    Ok(Listener::Tcp(socket.into()))
                }
                Listener::Unix(first) => first.try_clone().map(Listener::Unix),
            });
            shares.push(more.collect::<io::Result<_>>().map_err(failed)?);
        }
        Ok(shares)
    }
}

/// Binds and listens; a TCP address perhaps together with others.
pub(crate) fn bind(address: ListenAddress, share: bool) -> Result<Bound> {
    let text = address.to_string();
    let failed = |source| Error::Listen { address: text.clone(), source };
    match address {
        ListenAddress::Tcp(addresses) => {
            let mut listeners = Vec::new();
            let mut bound = Vec::new();
            for address in addresses {
                let listener = bind_tcp(address, share).map_err(failed)?;
                bound.push(listener.local_addr().map_err(failed)?);
                listeners.push(Listener::Tcp(listener));
            }
            Ok(Bound { listeners, address: ListenAddress::Tcp(bound), file: None })
        }
        ListenAddress::Unix(path) => {
            let listener = bind_unix(&path).map_err(failed)?;
            Ok(Bound {
                listeners: vec![Listener::Unix(listener)],
                file: Some(SocketFile(path.clone())),
                address: ListenAddress::Unix(path),
            })
        }
    }
}

fn bind_tcp(address: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    // The first socket is bound without sharing unless it is asked for, so that a port that another
    // server listens on is an error, and not a place where half of the connections go.
    let socket = bind_tcp_once(address, share)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets more sockets have the same TCP address.
fn allow_more(listener: &Listener) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => SockRef::from(listener).set_reuse_port(true),
        Listener::Unix(_) => Ok(()),
    }
}

fn bind_tcp_once(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server may take its port back while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    // Accepted sockets inherit it: no system call a connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match bind_unix_once(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            fs::remove_file(path)?;
            bind_unix_once(path)
        }
        result => result,
    }?;
    Ok(listener)
}

fn bind_unix_once(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the file is a socket that nobody listens on.
fn is_left_over(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
