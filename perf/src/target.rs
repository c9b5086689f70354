//! What to load.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

/// A server and a path on it, from `ws://HOST:PORT/PATH`. Loopback only: a load tool that is pointed
/// at someone else's host by mistake is an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("ws://").ok_or("expected ws://HOST:PORT/PATH")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut addresses = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
        if !address.ip().is_loopback() {
            return Err(format!("{host} is not this machine: only loopback is loaded"));
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_loaded() {
        let target: Target = "ws://127.0.0.1:9001/a?b".parse().unwrap();
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:9001", "/a?b"));
        assert_eq!("ws://[::1]:1".parse::<Target>().unwrap().path, "/");
        for text in ["http://127.0.0.1:1/", "ws://127.0.0.1/", "ws://192.0.2.1:80/", "ws://"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
