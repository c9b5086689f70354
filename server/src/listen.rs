//! Sockets that listen.

use crate::{
    address::ListenAddress,
    driver::Listener,
    error::{Error, Result},
};
use socket2::{Domain, Socket, Type};
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

/// Binds and listens.
pub(crate) fn bind(address: ListenAddress) -> Result<Bound> {
    let text = address.to_string();
    let failed = |source| Error::Listen { address: text.clone(), source };
    match address {
        ListenAddress::Tcp(addresses) => {
            let mut listeners = Vec::new();
            let mut bound = Vec::new();
            for address in addresses {
                let listener = bind_tcp(address).map_err(failed)?;
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

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server may take its port back while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: no system call a connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
