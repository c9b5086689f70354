//! Which web pages may connect (RFC 6455, sections 4.2.2 and 10.2).

use crate::http::{is_scheme, split_port};
use std::{fmt, str::FromStr};

/// Where a web page comes from: scheme, host and port (RFC 6454).
///
/// ```
/// use quelea_core::handshake::Origin;
/// let origin: Origin = "https://Example.com".parse()?;
/// assert_eq!(origin, "https://example.com:443".parse()?);
/// # Ok::<(), quelea_core::handshake::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The text is no origin: `scheme://host` or `scheme://host:port`, and nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOrigin;

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin is scheme://host or scheme://host:port")
    }
}

impl std::error::Error for InvalidOrigin {}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let parts = OriginParts::parse(text).ok_or(InvalidOrigin)?;
        Ok(Self {
            scheme: parts.scheme.to_ascii_lowercase(),
            host: parts.host.to_ascii_lowercase(),
            port: parts.port,
        })
    }
}

/// The same, borrowed: a request is checked without a copy.
struct OriginParts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> OriginParts<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = split_port(authority)?;
        is_scheme(scheme).then_some(Self {
            scheme,
            host,
            port: port.or_else(|| default_port(scheme)),
        })
    }

    fn is(&self, origin: &Origin) -> bool {
        self.scheme.eq_ignore_ascii_case(&origin.scheme)
            && self.host.eq_ignore_ascii_case(&origin.host)
            && self.port == origin.port
    }

    /// Whether a request to `authority` came from a web page of the same host and port.
    fn is_page_of(&self, authority: &str) -> bool {
        // No other scheme's pages come from a host: an extension's name may be the same by chance.
        let Some(default) = default_port(self.scheme) else { return false };
        split_port(authority).is_some_and(|(host, port)| {
            self.host.eq_ignore_ascii_case(host) && self.port == Some(port.unwrap_or(default))
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

/// Which web pages may open a WebSocket.
///
/// Browsers let any page connect to any server, cookies included, and only tell it the page's
/// origin: a server that does not look lets every page on the web act as its users. A request
/// without an `Origin` is from no browser, and allowed by every policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Pages of the host and port that the request is for, by `http` or `https`. The default.
    ///
    /// Which of the two is not compared: a server behind a proxy that ends TLS cannot know its own.
    /// The host is the client's word, by `Host`: a page whose name someone lets resolve to this
    /// server (DNS rebinding) passes. Where pages come by `https` alone, or where being on the same
    /// machine or network is all that a client needs, name them in a [`List`](Self::List).
    #[default]
    SameHost,
    /// Pages of these origins, compared exactly.
    List(Vec<Origin>),
    /// All pages: for public data, or where something else shows who connects.
    Any,
}

impl OriginPolicy {
    /// Whether a page of `origin`, as it stands in the request, may connect to `host`.
    ///
    /// ```
    /// use quelea_core::handshake::OriginPolicy;
    /// let policy = OriginPolicy::SameHost;
    /// assert!(policy.allows("https://good.com", Some("good.com")));
    /// assert!(!policy.allows("https://evilgood.com", Some("good.com")));
    /// assert!(!policy.allows("null", Some("good.com")));
    /// ```
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::SameHost => OriginParts::parse(origin)
                .is_some_and(|origin| host.is_some_and(|host| origin.is_page_of(host))),
            Self::List(origins) => OriginParts::parse(origin)
                .is_some_and(|origin| origins.iter().any(|allowed| origin.is(allowed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_host_is_compared_whole_with_default_ports_and_in_any_case() {
        for (origin, host, allowed) in [
            ("http://good.com", "good.com", true),
            ("https://good.com", "good.com", true),
            ("http://GOOD.com", "good.COM", true),
            ("http://good.com:80", "good.com", true),
            ("http://good.com", "good.com:80", true),
            ("https://good.com", "good.com:443", true),
            ("http://good.com:8080", "good.com:8080", true),
            ("http://[::1]:9001", "[::1]:9001", true),
            ("http://good.com", "good.com:443", false),
            ("http://good.com:8080", "good.com", false),
            ("http://evilgood.com", "good.com", false),
            ("http://good.com.evil.com", "good.com", false),
            ("http://sub.good.com", "good.com", false),
            ("http://good.com@evil.com", "good.com", false),
            ("http://evil.com#good.com", "good.com", false),
            ("http://evil.com/good.com", "good.com", false),
            ("http://good.com/", "good.com", false),
            ("http://good.com ", "good.com", false),
            ("http://good.com:", "good.com", false),
            ("http://good.com:99999", "good.com", false),
            ("http://good.com:+80", "good.com", false),
            ("null", "good.com", false),
            ("", "good.com", false),
            ("good.com", "good.com", false),
            ("://good.com", "good.com", false),
            ("http://", "", false),
            ("file://", "good.com", false),
            ("HTTPS://good.com", "good.com", true),
            ("ftp://good.com", "good.com", false),
            ("ws://good.com:80", "good.com:80", false),
            ("moz-extension://good.com:80", "good.com:80", false),
        ] {
            assert_eq!(
                OriginPolicy::SameHost.allows(origin, Some(host)),
                allowed,
                "{origin} {host}"
            );
        }
        assert!(!OriginPolicy::SameHost.allows("http://good.com", None));
    }

    #[test]
    fn a_list_compares_scheme_host_and_port() {
        let list = OriginPolicy::List(vec!["https://good.com".parse().unwrap()]);
        for (origin, allowed) in [
            ("https://good.com", true),
            ("HTTPS://Good.com:443", true),
            ("http://good.com", false),
            ("https://good.com:444", false),
            ("https://xgood.com", false),
            ("null", false),
        ] {
            assert_eq!(list.allows(origin, Some("other.com")), allowed, "{origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_an_error() {
        for text in ["", "null", "good.com", "https://", "https://a/b", "https://a:b", "1x://a"] {
            assert_eq!(text.parse::<Origin>(), Err(InvalidOrigin), "{text:?}");
        }
    }
}
