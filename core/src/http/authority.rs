//! What a URI names before its path (RFC 3986, sections 3.1 and 3.2).

use std::net::Ipv6Addr;

/// Splits `host[:port]`; `None` if it is anything else, such as one with a user in front.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = match authority.strip_prefix('[') {
        Some(rest) => {
            let len = rest.find(']')?;
            rest[..len].parse::<Ipv6Addr>().ok()?;
            len + 2
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let is_name = |byte| is_unreserved(byte) || b"%!$&'()*+;=".contains(&byte);
            if end == 0 || !authority.bytes().take(end).all(is_name) {
                return None;
            }
            end
        }
    };
    let (host, rest) = authority.split_at(host_end);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        _ => None,
    }
}

/// Whether it is the name of a scheme, such as `https`.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_3_2_a_host_is_a_name_or_an_address_with_a_port_or_none() {
        for (authority, split) in [
            ("a", Some(("a", None))),
            ("a.b-c_d:80", Some(("a.b-c_d", Some(80)))),
            ("127.0.0.1:65535", Some(("127.0.0.1", Some(65535)))),
            ("[::1]", Some(("[::1]", None))),
            ("[2001:DB8::1]:443", Some(("[2001:DB8::1]", Some(443)))),
            ("", None),
            (":80", None),
            ("a:", None),
            ("a:b", None),
            ("a:+80", None),
            ("a:65536", None),
            ("a:80:90", None),
            ("user@a", None),
            ("a/b", None),
            ("a,b", None),
            ("é", None),
            ("::1", None),
            ("[", None),
            ("[]", None),
            ("[::1", None),
            ("[::1]a", None),
            ("[::1%25eth0]", None),
            ("[[::1]]", None),
            ("a[::1]", None),
        ] {
            assert_eq!(split_port(authority), split, "{authority:?}");
        }
    }
}
