//! What to load.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

/// A server and a path on it, from `ws://HOST:PORT/PATH`. As it is parsed it is on loopback: a load
/// tool that is pointed at someone else's host by mistake is an attack. See [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
}

/// The server of a mode that takes any, if it is the user's.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Destination {
    /// The server, such as ws://127.0.0.1:9001/.
    #[arg(value_name = "URL", value_parser = Target::anywhere)]
    target: Target,
    /// Loads a server that is not on this machine. Only do that to a host that is yours: to anyone
    /// else it is an attack.
    #[arg(long)]
    i_own_this_host: bool,
}

impl Destination {
    /// # Errors
    /// It is not on this machine, and nobody said that it may be loaded.
    pub(crate) fn target(&self) -> Result<&Target, String> {
        if self.i_own_this_host { Ok(&self.target) } else { self.target.check_loopback() }
    }
}

impl Target {
    /// A target on any host.
    pub(crate) fn anywhere(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("ws://").ok_or("expected ws://HOST:PORT/PATH")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut addresses = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }

    pub(crate) fn check_loopback(&self) -> Result<&Self, String> {
        let host = &self.host;
        if self.address.ip().is_loopback() {
            return Ok(self);
        }
        Err(format!(
            "{host} is not this machine: only loopback is loaded, but where a mode takes \
             --i-own-this-host"
        ))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::anywhere(text)?.check_loopback().cloned()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}{}", self.host, self.path)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

/// How one process tells another: it was checked by the first one.
impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::anywhere(&text)
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
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        destination: Destination,
    }

    #[test]
    fn another_host_is_loaded_only_by_who_says_that_it_is_theirs() {
        use clap::Parser;
        let parse = |words: &[&str]| {
            let words = ["mode"].iter().chain(words);
            Arguments::try_parse_from(words).unwrap().destination
        };
        let error = parse(&["ws://192.0.2.1:80/a"]).target().unwrap_err();
        assert!(error.contains("192.0.2.1:80 is not this machine"), "{error}");
        assert!(error.contains("--i-own-this-host"), "{error}");
        let own = parse(&["ws://192.0.2.1:80/a", "--i-own-this-host"]);
        let target = own.target().unwrap();
        assert_eq!(target.to_string(), "ws://192.0.2.1:80/a");
        let json = serde_json::to_string(target).unwrap();
        assert_eq!(&serde_json::from_str::<Target>(&json).unwrap(), target);
        assert_eq!(parse(&["ws://[::1]:9"]).target().unwrap().path, "/");
    }
}
