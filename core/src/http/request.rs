//! Requests.

use super::{
    HeadError,
    authority::{is_scheme, split_port},
    fields::{Fields, is_token, is_value, list, values},
    scan::check_lines,
};

/// A request's head (RFC 9112, section 3), borrowed from the bytes it came in.
///
/// ```
/// use quelea_core::http::{Fields, Request};
/// let mut fields = Fields::new();
/// let head = b"GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\n\r\n";
/// let request = Request::parse(head, &mut fields)?;
/// assert_eq!((request.method(), request.path(), request.query()), ("GET", "/chat", Some("room=7")));
/// assert_eq!(request.header("host"), Some("example.com"));
/// # Ok::<(), quelea_core::http::HeadError>(())
/// ```
#[derive(Debug)]
pub struct Request<'a> {
    method: &'a str,
    target: Target<'a>,
    minor_version: u8,
    body: Body,
    fields: &'a [httparse::Header<'a>],
}

/// A target, taken apart.
#[derive(Debug)]
struct Target<'a> {
    whole: &'a str,
    authority: Option<&'a str>,
    path_and_query: &'a str,
}

impl<'a> Target<'a> {
    /// One of the four forms, whose meaning depends on nothing but the method. What is none of them
    /// could be taken for one by some and for another by others.
    fn parse(whole: &'a str, method: &str) -> Option<Self> {
        let (authority, path_and_query) = if method == "CONNECT" {
            (Some(whole), "")
        } else if whole.starts_with('/') || (whole == "*" && method == "OPTIONS") {
            (None, whole)
        } else {
            let (_, rest) = whole.split_once("://").filter(|(scheme, _)| is_scheme(scheme))?;
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), path)
        };
        let is_host = authority.is_none_or(|authority| split_port(authority).is_some());
        // A URI is ASCII, and its fragment stays with the client (RFC 3986, sections 2 and 3.5).
        let is_valid = is_host && whole.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        is_valid.then_some(Self { whole, authority, path_and_query })
    }
}

/// What follows a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// A body with a `Transfer-Encoding`, whose length shows only at its end.
    Encoded,
}

impl<'a> Request<'a> {
    /// Parses a whole head and nothing else, as found by [`HeadScanner`](super::HeadScanner).
    ///
    /// # Errors
    /// Each kind of [`HeadError`] but [`HeadError::TooLong`]. A head that is not complete, or that
    /// has bytes behind it, is [`HeadError::Malformed`].
    pub fn parse(head: &'a [u8], fields: &'a mut Fields<'a>) -> Result<Self, HeadError> {
        let mut request = httparse::Request::new(&mut fields.0);
        let status = request.parse(head)?;
        let is_whole = status == httparse::Status::Complete(head.len());
        let (Some(method), Some(target), Some(minor_version), true) =
            (request.method, request.path, request.version, is_whole)
        else {
            return Err(HeadError::Malformed);
        };
        check_lines(head)?;
        Self::check(method, target, minor_version, request.headers)
    }

    /// Takes over a request that another HTTP/1.1 implementation has parsed, under the same rules:
    /// to check a handshake that came to a server of another kind.
    ///
    /// ```
    /// use quelea_core::http::{Fields, Request};
    /// let mut room = Fields::new();
    /// let fields = [("host", &b"example.com"[..]), ("upgrade", b"websocket")];
    /// let request = Request::from_parts("GET", "/chat?room=7", true, fields, &mut room)?;
    /// assert_eq!((request.path(), request.header("Upgrade")), ("/chat", Some("websocket")));
    /// # Ok::<(), quelea_core::http::HeadError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Request::parse`]; [`HeadError::TooManyFields`] if there are more than `room` has room for.
    pub fn from_parts(
        method: &'a str,
        target: &'a str,
        is_http_1_1: bool,
        fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        room: &'a mut Fields<'a>,
    ) -> Result<Self, HeadError> {
        let mut len = 0;
        for (name, value) in fields {
            if !is_token(name.as_bytes()) || !is_value(value) {
                return Err(HeadError::Malformed);
            }
            *room.0.get_mut(len).ok_or(HeadError::TooManyFields)? =
                httparse::Header { name, value };
            len += 1;
        }
        if !is_token(method.as_bytes()) {
            return Err(HeadError::Malformed);
        }
        Self::check(method, target, u8::from(is_http_1_1), &room.0[..len])
    }

    /// The rules that go beyond the syntax of lines.
    fn check(
        method: &'a str,
        target: &'a str,
        minor_version: u8,
        fields: &'a [httparse::Header<'a>],
    ) -> Result<Self, HeadError> {
        let target = Target::parse(target, method).ok_or(HeadError::Malformed)?;
        let request = Self { method, target, minor_version, body: body(fields)?, fields };
        // A hop of 1.0 does not know the field, and sees another end (RFC 9112, section 6.1).
        if request.body == Body::Encoded && !request.is_http_1_1() {
            return Err(HeadError::Framing);
        }
        request.check_host()?;
        Ok(request)
    }

    /// The method, such as `GET`.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// The target as it was sent: path and query, or a whole URI (RFC 9112, section 3.2).
    pub const fn target(&self) -> &'a str {
        self.target.whole
    }

    /// The path, percent-encoded as it was sent: `/rooms/7`.
    pub fn path(&self) -> &'a str {
        let path = self.target.path_and_query;
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the first `?`, as it was sent.
    pub fn query(&self) -> Option<&'a str> {
        self.target.path_and_query.split_once('?').map(|(_, query)| query)
    }

    /// The host and port that the request is for: from the target if it is a whole URI, else from
    /// `Host`.
    pub fn host(&self) -> Option<&'a str> {
        self.target.authority.or_else(|| self.header("Host"))
    }

    /// Whether the version is 1.1, not 1.0.
    pub const fn is_http_1_1(&self) -> bool {
        self.minor_version == 1
    }

    /// What follows the head.
    pub const fn body(&self) -> Body {
        self.body
    }

    /// The first value of a header field, by its name in any case; `None` if there is none or it
    /// is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        values(self.fields, name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a header field, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        values(self.fields, name)
    }

    /// All header fields, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// Whether a comma-separated list has a token, in any case.
    pub fn header_has_token(&self, name: &str, token: &str) -> bool {
        list(values(self.fields, name))
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the client may send another request on this connection (RFC 9112, section 9.3).
    ///
    /// Never after HTTP/1.0: its clients take a connection for persistent only if the response says
    /// so (appendix C.2.2), and wait for its end otherwise.
    pub fn is_keep_alive(&self) -> bool {
        self.is_http_1_1() && !self.header_has_token("Connection", "close")
    }

    fn check_host(&self) -> Result<(), HeadError> {
        let mut hosts = values(self.fields, "Host");
        match (hosts.next(), hosts.next()) {
            (None, None) if !self.is_http_1_1() => Ok(()),
            (Some(host), None) if is_host(host) => Ok(()),
            _ => Err(HeadError::Host),
        }
    }
}

/// A host with a port, with an empty one, or with none; or nothing, which is for targets that have no
/// host either (RFC 9112, section 3.2).
fn is_host(value: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(value) else { return false };
    match host.strip_suffix(':') {
        Some(name) => split_port(name).is_some_and(|(_, port)| port.is_none()),
        None => host.is_empty() || split_port(host).is_some(),
    }
}

fn body(fields: &[httparse::Header<'_>]) -> Result<Body, HeadError> {
    let mut length = None;
    for field in fields.iter().filter(|field| field.name.eq_ignore_ascii_case("Content-Length")) {
        let value = field.value;
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(HeadError::Framing);
        }
        let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse::<u64>().ok());
        // The same number twice is allowed to be taken for one; it is also how requests are
        // smuggled, and no client does it.
        if length.is_some() || number.is_none() {
            return Err(HeadError::Framing);
        }
        length = number;
    }
    let is_encoded =
        fields.iter().any(|field| field.name.eq_ignore_ascii_case("Transfer-Encoding"));
    match (length, is_encoded) {
        (Some(_), true) => Err(HeadError::Framing),
        (None, true) => Ok(Body::Encoded),
        (None | Some(0), false) => Ok(Body::None),
        (Some(length), false) => Ok(Body::Length(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str, check: impl FnOnce(Result<Request<'_>, HeadError>)) {
        let mut fields = Fields::new();
        check(Request::parse(head.as_bytes(), &mut fields));
    }

    fn error(head: &str) -> Option<HeadError> {
        let mut fields = Fields::new();
        Request::parse(head.as_bytes(), &mut fields).err()
    }

    #[test]
    fn rfc9112_3_2_targets_are_a_path_or_a_whole_uri() {
        let table = [
            ("/", "/", None, "h"),
            ("/a/b?c=d?e", "/a/b", Some("c=d?e"), "h"),
            ("/?", "/", Some(""), "h"),
            ("/a://b", "/a://b", None, "h"),
            ("http://other:81/a?b", "/a", Some("b"), "other:81"),
            ("http://other", "/", None, "other"),
            ("http://other?q", "/", Some("q"), "other"),
        ];
        for (target, path, query, host) in table {
            parse(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), |request| {
                let request = request.unwrap();
                assert_eq!((request.path(), request.query()), (path, query), "{target}");
                assert_eq!(request.host(), Some(host), "{target}");
            });
        }
    }

    #[test]
    fn rfc9112_3_2_a_target_of_no_form_is_refused() {
        for request in [
            "GET foo",
            "GET *",
            "GET a:443",
            "GET ?x=http://good/y",
            "GET foo?a://b/c",
            "GET /a#b",
            "GET http://a#b",
            "GET http:///p",
            "GET http://user@a/p",
            "GET http://a:b/p",
            "GET 1x://a/p",
            "GET ://a/p",
            "CONNECT /",
            "CONNECT http://a/",
            "OPTIONS **",
        ] {
            let head = format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(error(&head), Some(HeadError::Malformed), "{request:?}");
        }
        for (request, path, host) in [
            ("OPTIONS *", "*", "a"),
            ("CONNECT b:443", "/", "b:443"),
            ("OPTIONS http://b", "/", "b"),
        ] {
            parse(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"), |request| {
                let request = request.unwrap();
                assert_eq!((request.path(), request.host()), (path, Some(host)));
            });
        }
    }

    #[test]
    fn rfc9112_3_2_a_target_of_bytes_that_no_uri_has_is_refused() {
        for byte in (0..b' ').chain(0x7f..=0xff) {
            let mut head = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
            head[5] = byte;
            let mut fields = Fields::new();
            let result = Request::parse(&head, &mut fields);
            assert_eq!(result.err(), Some(HeadError::Malformed), "{byte:#x}");
        }
        for target in ["/é", "/?é", "http://a/é"] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(error(&head), Some(HeadError::Malformed), "{target:?}");
        }
    }

    #[test]
    fn rfc9112_3_2_a_request_of_1_1_has_exactly_one_valid_host() {
        assert_eq!(error("GET / HTTP/1.0\r\n\r\n"), None);
        for host in ["", "a", "a:", "a:80", "[::1]", "[::1]:", "[::1]:80"] {
            assert_eq!(error(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), None, "{host:?}");
        }
        let bad = ": :80 a:: a:80: a:b a:80:90 a:99999 [ ] [::1]a [::1]:: [::1]:80: ::1";
        for host in bad.split(' ') {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(error(&head), Some(HeadError::Host), "{host:?}");
        }
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        ] {
            assert_eq!(error(head), Some(HeadError::Host), "{head:?}");
        }
    }

    #[test]
    fn rfc9112_6_3_a_length_that_two_readers_could_read_differently_is_refused() {
        for fields in [
            "Content-Length: x",
            "Content-Length: -1",
            "Content-Length: +1",
            "Content-Length: ",
            "Content-Length: 1, 1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 99999999999999999999",
            "Content-Length: 0x1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            assert_eq!(error(&head), Some(HeadError::Framing), "{fields}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(error(old), Some(HeadError::Framing), "HTTP/1.0 has no Transfer-Encoding");
        for (fields, body) in [
            ("Content-Length: 0", Body::None),
            ("Content-Length: 12", Body::Length(12)),
            ("Transfer-Encoding: chunked", Body::Encoded),
        ] {
            parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"), |request| {
                assert_eq!(request.unwrap().body(), body);
            });
        }
    }

    #[test]
    fn rfc9112_2_2_and_5_odd_lines_are_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "",
        ] {
            assert_eq!(error(head), Some(HeadError::Malformed), "{head:?}");
        }
        assert_eq!(error("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Some(HeadError::Version));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(128));
        assert_eq!(error(&many), Some(HeadError::TooManyFields));
    }

    #[test]
    fn rfc9112_2_2_a_head_is_parsed_from_its_first_byte_to_its_last() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(error(head), None);
        assert_eq!(error(&format!("\r\n{head}")), None, "an empty line may precede it");
        for rest in ["x", "\r\n", head] {
            assert_eq!(error(&format!("{head}{rest}")), Some(HeadError::Malformed), "{rest:?}");
        }
    }

    #[test]
    fn what_another_implementation_parsed_is_held_to_the_same_rules() {
        type Parts<'p> = (&'p str, &'p str, bool, &'p [(&'p str, &'p [u8])]);
        let error = |(method, target, is_http_1_1, fields): Parts<'_>| {
            let mut room = Fields::new();
            let fields = fields.iter().copied();
            Request::from_parts(method, target, is_http_1_1, fields, &mut room).err()
        };
        let host: &[(&str, &[u8])] = &[("host", b"a")];
        assert_eq!(error(("GET", "/a?b", true, host)), None);
        assert_eq!(error(("GET", "/a?b", false, &[])), None);
        for (parts, expected) in [
            (("GET", "/a b", true, host), HeadError::Malformed),
            (("GE T", "/", true, host), HeadError::Malformed),
            (("", "/", true, host), HeadError::Malformed),
            (("GET", "/", true, &[("host", b"a"), ("x y", b"")]), HeadError::Malformed),
            (("GET", "/", true, &[("host", b"a"), ("x", b"a\r\nb: c")]), HeadError::Malformed),
            (("GET", "/", true, &[]), HeadError::Host),
            (("GET", "/", true, &[("host", b"a"), ("host", b"a")]), HeadError::Host),
            (("GET", "/", true, &[("host", b"a"), ("content-length", b"x")]), HeadError::Framing),
        ] {
            assert_eq!(error(parts), Some(expected), "{parts:?}");
        }
        let fields = |count| std::iter::repeat_n(("host", &b"a"[..]), count).collect::<Vec<_>>();
        assert_eq!(error(("GET", "/", true, &fields(128))), Some(HeadError::Host));
        assert_eq!(error(("GET", "/", true, &fields(129))), Some(HeadError::TooManyFields));
    }

    #[test]
    fn a_value_that_is_no_text_is_there_as_bytes_only() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n";
        let mut fields = Fields::new();
        let request = Request::parse(head, &mut fields).unwrap();
        assert_eq!(request.header("X"), None);
        assert_eq!(request.header_values("x").collect::<Vec<_>>(), [b"\xff"]);
    }

    #[test]
    fn rfc9110_5_6_1_tokens_are_found_in_lists_over_several_fields_in_any_case() {
        let head =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive ,\r\nconnection: UPGRADE\r\n\r\n";
        parse(head, |request| {
            let request = request.unwrap();
            assert!(request.header_has_token("Connection", "upgrade"));
            assert!(request.header_has_token("Connection", "Keep-Alive"));
            assert!(!request.header_has_token("Connection", "keep"));
        });
    }

    #[test]
    fn rfc9112_9_3_persistence_follows_the_version_and_connection() {
        for (version, connection, keep) in [
            ("1.1", "x", true),
            ("1.1", "x, Close", false),
            ("1.0", "x", false),
            ("1.0", "keep-alive", false),
        ] {
            let head =
                format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
            parse(&head, |request| assert_eq!(request.unwrap().is_keep_alive(), keep, "{head:?}"));
        }
    }
}
