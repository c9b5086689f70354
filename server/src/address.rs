//! Where a server listens, and where a peer is.

use crate::error::{Error, Result};
use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
};

/// An address to listen on, or the one a listener got.
///
/// Written as `127.0.0.1:9001`, `[::1]:9001`, `localhost:9001` (every address of the name), or
/// `unix:/run/app.sock`. Port 0 takes a free one.
///
/// ```
/// use quelea::ListenAddress;
/// let address: ListenAddress = "unix:/run/app.sock".parse()?;
/// assert_eq!(address.to_string(), "unix:/run/app.sock");
/// # Ok::<(), quelea::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// TCP over IPv4 or IPv6.
    Tcp(Vec<SocketAddr>),
    /// A Unix socket. A file that a dead server left there is replaced; one that a server still
    /// answers on is an error.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(Error::address(text, "the path after `unix:` is empty"));
            }
            return Ok(Self::Unix(path.into()));
        }
        let addresses: Vec<_> = text
            .to_socket_addrs()
            .map_err(|error| {
                Error::address(text, format!("expected HOST:PORT or unix:PATH ({error})"))
            })?
            .collect();
        if addresses.is_empty() {
            return Err(Error::address(text, "the name has no address"));
        }
        Ok(Self::Tcp(addresses))
    }
}

impl TryFrom<&str> for ListenAddress {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for ListenAddress {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(vec![address])
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{address}")?;
                }
                Ok(())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddress {
    /// The other end of a TCP connection: a proxy's, when there is one in between.
    Tcp(SocketAddr),
    /// Some process of this machine.
    Unix,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_ipv6_and_unix_addresses_are_read() {
        for text in ["127.0.0.1:9001", "[::1]:0", "unix:/tmp/a.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_error_names_the_address_and_says_what_is_expected() {
        for text in ["", "unix:", "127.0.0.1", "127.0.0.1:99999"] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        let error = "9001".parse::<ListenAddress>().unwrap_err().to_string();
        assert!(error.contains("HOST:PORT"), "{error}");
    }
}
