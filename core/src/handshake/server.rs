//! The server's side (RFC 6455, section 4.2).

use super::{
    OriginPolicy, accept_key,
    extensions::{Extension, Malformed, extensions},
    key::is_key,
};
use crate::http::{Body, FieldError, Request, Status, check_field, is_token, list, write_field};
#[cfg(feature = "deflate")]
use crate::{Context, deflate};
use std::fmt;

/// What [`Upgrade::write_response`] sets itself, or what would change what was agreed on.
const RESERVED: &[&str] = &[
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "Upgrade",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
];

/// Whether a request asks for a WebSocket, rightly or not; if not, it is a plain one.
pub fn wants_upgrade(request: &Request<'_>) -> bool {
    request.header_has_token("Upgrade", "websocket")
        || request.headers().any(|(name, _)| {
            name.len() > 14 && name.as_bytes()[..14].eq_ignore_ascii_case(b"sec-websocket-")
        })
}

/// A request for a WebSocket that was found valid.
#[derive(Debug)]
pub struct Upgrade<'a> {
    request: &'a Request<'a>,
    key: &'a str,
    #[cfg(feature = "deflate")]
    deflate: Option<deflate::Parameters>,
}

impl<'a> Upgrade<'a> {
    /// Checks a request (section 4.2.1).
    ///
    /// # Errors
    /// What is wrong with it; [`Refusal`] knows the status and fields of the answer.
    pub fn check(request: &'a Request<'a>, origins: &OriginPolicy) -> Result<Self, Refusal> {
        if request.method() != "GET" {
            return Err(Refusal::Method);
        }
        if !request.is_http_1_1() {
            return Err(Refusal::HttpVersion);
        }
        if !request.header_has_token("Upgrade", "websocket") {
            return Err(Refusal::Upgrade);
        }
        if !request.header_has_token("Connection", "upgrade") {
            return Err(Refusal::Connection);
        }
        if request.body() != Body::None {
            return Err(Refusal::Body);
        }
        if one(request, "Sec-WebSocket-Version") != Ok(Some("13")) {
            return Err(Refusal::Version);
        }
        let key = match one(request, "Sec-WebSocket-Key") {
            Ok(Some(key)) if is_key(key) => key,
            _ => return Err(Refusal::Key),
        };
        let upgrade = Self {
            request,
            key,
            #[cfg(feature = "deflate")]
            deflate: None,
        };
        upgrade.check_subprotocols()?;
        if upgrade.extensions().any(|extension| extension.is_err()) {
            return Err(Refusal::Extensions);
        }
        match one(request, "Origin") {
            Ok(None) => Ok(upgrade),
            Ok(Some(origin)) if origins.allows(origin, request.host()) => Ok(upgrade),
            _ => Err(Refusal::Origin),
        }
    }

    /// The request.
    pub const fn request(&self) -> &'a Request<'a> {
        self.request
    }

    /// The subprotocols that the client offers, the best first (section 1.9).
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        list(self.request.header_values("Sec-WebSocket-Protocol"))
            .filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// Agrees on compression, if the context's [`Policy`](deflate::Policy) says so and the client offers what it
    /// can keep to (RFC 7692, section 5): for [`Upgrade::write_response`], and for
    /// [`Connection::with_deflate`](crate::Connection::with_deflate).
    ///
    /// Offers with parameters that are unknown, repeated or have a value that they must not have are declined.
    #[cfg(feature = "deflate")]
    pub fn negotiate_deflate(&mut self, context: &Context) -> Option<deflate::Parameters> {
        let offers = self.extensions().filter_map(Result::ok);
        self.deflate = deflate::agree(context.deflate().policy, offers, |bits| {
            context.has_room_for_window(bits)
        });
        self.deflate
    }

    fn extensions(&self) -> impl Iterator<Item = Result<Extension<'a>, Malformed>> + use<'a> {
        extensions(self.request.header_values("Sec-WebSocket-Extensions"))
    }

    /// The `Sec-WebSocket-Accept` of the answer (section 4.2.2, step 5), for who writes that without
    /// [`Upgrade::write_response`].
    pub fn accept_key(&self) -> [u8; 28] {
        accept_key(self.key)
    }

    /// Appends the 101 response (section 4.2.2): with one of the offered subprotocols or none, with what was
    /// agreed on of compression, and with fields of the caller's own, such as `Set-Cookie`.
    ///
    /// # Errors
    /// The subprotocol was not offered, or a field may not be sent; `out` is as it was.
    pub fn write_response<'f>(
        &self,
        subprotocol: Option<&str>,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        out: &mut Vec<u8>,
    ) -> Result<(), FieldError> {
        let start = out.len();
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept_key());
        out.extend_from_slice(b"\r\n");
        let result = self.write_fields(subprotocol, fields, out);
        match result {
            Ok(()) => out.extend_from_slice(b"\r\n"),
            Err(_) => out.truncate(start),
        }
        result
    }

    fn write_fields<'f>(
        &self,
        subprotocol: Option<&str>,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        out: &mut Vec<u8>,
    ) -> Result<(), FieldError> {
        if let Some(subprotocol) = subprotocol {
            if !self.subprotocols().any(|offered| offered == subprotocol) {
                return Err(FieldError::SubprotocolNotOffered);
            }
            write_field(out, "Sec-WebSocket-Protocol", subprotocol);
        }
        #[cfg(feature = "deflate")]
        if let Some(parameters) = &self.deflate {
            write_field(out, "Sec-WebSocket-Extensions", &parameters.to_string());
        }
        for (name, value) in fields {
            check_field(name, value, RESERVED)?;
            write_field(out, name, value);
        }
        Ok(())
    }

    /// Tokens, and each once (section 4.1, item 10).
    fn check_subprotocols(&self) -> Result<(), Refusal> {
        // Kept, because to find them again would be to read the list again for each of them.
        let mut earlier: [&[u8]; SUBPROTOCOLS_MAX] = [&[]; SUBPROTOCOLS_MAX];
        let names = list(self.request.header_values("Sec-WebSocket-Protocol"));
        for (index, name) in names.enumerate() {
            if index == SUBPROTOCOLS_MAX || !is_token(name) || earlier[..index].contains(&name) {
                return Err(Refusal::Subprotocols);
            }
            earlier[index] = name;
        }
        Ok(())
    }
}

/// More than any client offers.
const SUBPROTOCOLS_MAX: usize = 64;

/// The value of a field that may stand once at most.
fn one<'a>(request: &Request<'a>, name: &str) -> Result<Option<&'a str>, Repeated> {
    match (request.header(name), request.header_values(name).nth(1)) {
        (_, Some(_)) => Err(Repeated),
        (None, None) if request.header_values(name).next().is_some() => Ok(Some("")),
        (value, None) => Ok(value),
    }
}

#[derive(Debug, PartialEq)]
struct Repeated;

/// Why a request for a WebSocket is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Another method than GET (section 4.1, item 2).
    Method,
    /// HTTP/1.0 (section 4.1, item 2).
    HttpVersion,
    /// No `Upgrade: websocket` (item 5).
    Upgrade,
    /// No `Connection: Upgrade` (item 6).
    Connection,
    /// A body, or bytes after the head: nothing may follow it before the answer.
    Body,
    /// Another version than 13 (item 9 and section 4.4).
    Version,
    /// Not exactly one key of 16 bytes in base64 (item 7).
    Key,
    /// Subprotocols that are no tokens, or repeated (item 10).
    Subprotocols,
    /// Extensions that are no list by the grammar of section 9.1.
    Extensions,
    /// The page may not connect (item 8): see [`OriginPolicy`].
    Origin,
}

impl Refusal {
    /// The status of the answer.
    pub const fn status(self) -> Status {
        match self {
            Self::Method => Status::METHOD_NOT_ALLOWED,
            Self::Version => Status::UPGRADE_REQUIRED,
            Self::Origin => Status::FORBIDDEN,
            _ => Status::BAD_REQUEST,
        }
    }

    /// Fields that the answer has to have.
    pub const fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::Version => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "a WebSocket handshake is a GET request",
            Self::HttpVersion => "a WebSocket handshake needs HTTP/1.1",
            Self::Upgrade => "a WebSocket handshake needs `Upgrade: websocket`",
            Self::Connection => "a WebSocket handshake needs `Connection: Upgrade`",
            Self::Body => "nothing may follow the head of a WebSocket handshake before its answer",
            Self::Version => "only version 13 of WebSocket is spoken here",
            Self::Key => "Sec-WebSocket-Key must be 16 bytes in base64, once",
            Self::Subprotocols => "Sec-WebSocket-Protocol must be tokens, each once",
            Self::Extensions => "Sec-WebSocket-Extensions must be a list of extensions",
            Self::Origin => "pages of this origin may not connect",
        })
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Fields;

    const GOOD: &[(&str, &str)] = &[
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn head(start: &str, fields: &[(&str, &str)]) -> String {
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{start} HTTP/1.1\r\n{fields}\r\n")
    }

    /// The good fields with some left out, or replaced, or added.
    fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        let kept = GOOD.iter().filter(|(name, _)| !changes.iter().any(|(other, _)| other == name));
        kept.chain(changes.iter().filter(|(_, value)| *value != "-")).copied().collect()
    }

    fn check<T>(head: &str, then: impl FnOnce(Result<Upgrade<'_>, Refusal>) -> T) -> T {
        let mut fields = Fields::new();
        let request = Request::parse(head.as_bytes(), &mut fields).unwrap();
        then(Upgrade::check(&request, &OriginPolicy::SameHost))
    }

    fn refusal_of(upgrade: Result<Upgrade<'_>, Refusal>) -> Option<Refusal> {
        upgrade.err()
    }

    #[test]
    fn rfc6455_1_3_the_example_is_answered_as_there() {
        let fields = with(&[
            ("Origin", "http://server.example.com"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
        ]);
        check(&head("GET /chat", &fields), |upgrade| {
            let upgrade = upgrade.unwrap();
            assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
            assert_eq!(&upgrade.accept_key(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let mut out = Vec::new();
            upgrade.write_response(Some("chat"), [("Set-Cookie", "a=b")], &mut out).unwrap();
            assert_eq!(
                String::from_utf8(out).unwrap(),
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                 Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b\r\n\r\n"
            );
        });
    }

    #[test]
    fn rfc6455_4_2_1_each_rule_that_is_broken_has_its_refusal() {
        for (changes, refusal) in [
            (&[("Upgrade", "-")][..], Refusal::Upgrade),
            (&[("Upgrade", "websockets")], Refusal::Upgrade),
            (&[("Connection", "-")], Refusal::Connection),
            (&[("Connection", "keep-alive")], Refusal::Connection),
            (&[("Sec-WebSocket-Version", "-")], Refusal::Version),
            (&[("Sec-WebSocket-Version", "8")], Refusal::Version),
            (&[("Sec-WebSocket-Version", "13, 8")], Refusal::Version),
            (&[("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "13")], Refusal::Version),
            (&[("Sec-WebSocket-Key", "-")], Refusal::Key),
            (&[("Sec-WebSocket-Key", "c2hvcnQ=")], Refusal::Key),
            (&[("Sec-WebSocket-Protocol", "a b")], Refusal::Subprotocols),
            (&[("Sec-WebSocket-Protocol", "a, b, a")], Refusal::Subprotocols),
            (&[("Sec-WebSocket-Protocol", "é")], Refusal::Subprotocols),
            (&[("Sec-WebSocket-Extensions", "a b")], Refusal::Extensions),
            (&[("Content-Length", "1")], Refusal::Body),
            (&[("Transfer-Encoding", "chunked")], Refusal::Body),
            (&[("Origin", "http://evil.com")], Refusal::Origin),
            (&[("Origin", "null")], Refusal::Origin),
            (
                &[("Origin", "http://server.example.com"), ("Origin", "http://server.example.com")],
                Refusal::Origin,
            ),
        ] {
            let head = head("GET /", &with(changes));
            assert_eq!(check(&head, refusal_of), Some(refusal), "{head}");
        }
        assert_eq!(check(&head("POST /", GOOD), refusal_of), Some(Refusal::Method));
        let old = head("GET /", GOOD).replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(check(&old, refusal_of), Some(Refusal::HttpVersion));
    }

    #[test]
    fn sixty_four_subprotocols_are_taken_and_one_more_is_not() {
        for (count, refusal) in [(64, None), (65, Some(Refusal::Subprotocols))] {
            let names: Vec<_> = (0..count).map(|number| number.to_string()).collect();
            // Empty elements are no subprotocols (RFC 9110, section 5.6.1).
            let list = format!("{}{}", ",".repeat(1000), names.join(", ,"));
            let head = head("GET /", &[GOOD, &[("Sec-WebSocket-Protocol", &list)]].concat());
            assert_eq!(check(&head, refusal_of), refusal);
        }
    }

    #[test]
    fn rfc6455_4_2_1_names_and_tokens_are_taken_in_any_case_and_lists() {
        let fields = [
            ("HOST", "a"),
            ("uPGRADE", "foo, WebSocket"),
            ("connection", "keep-alive, UPGRADE"),
            ("SEC-WEBSOCKET-KEY", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        assert!(check(&head("GET /", &fields), |upgrade| upgrade.is_ok()));
    }

    #[test]
    fn rfc6455_4_2_2_only_what_was_offered_and_no_reserved_field_is_answered() {
        check(&head("GET /", &with(&[("Sec-WebSocket-Protocol", "chat")])), |upgrade| {
            let upgrade = upgrade.unwrap();
            let mut out = b"before".to_vec();
            for (subprotocol, field, error) in [
                (Some("Chat"), ("X", "y"), FieldError::SubprotocolNotOffered),
                (Some(""), ("X", "y"), FieldError::SubprotocolNotOffered),
                (None, ("sec-websocket-accept", "y"), FieldError::Reserved),
                (None, ("Upgrade", "y"), FieldError::Reserved),
                (None, ("X", "a\r\nb: c"), FieldError::Value),
            ] {
                assert_eq!(upgrade.write_response(subprotocol, [field], &mut out), Err(error));
                assert_eq!(out, b"before");
            }
        });
    }

    #[test]
    fn an_origin_that_is_no_text_is_refused_by_every_policy_that_looks() {
        let head = head("GET /", &with(&[("Origin", "X")]));
        let bytes: Vec<u8> =
            head.bytes().map(|byte| if byte == b'X' { 0xff } else { byte }).collect();
        for policy in [OriginPolicy::Any, OriginPolicy::SameHost, OriginPolicy::List(vec![])] {
            let mut fields = Fields::new();
            let request = Request::parse(&bytes, &mut fields).unwrap();
            let refusal = Upgrade::check(&request, &policy).err();
            assert!(refusal.is_some() || policy == OriginPolicy::Any, "{policy:?}");
        }
    }

    #[test]
    fn a_plain_request_wants_no_upgrade_and_a_broken_one_does() {
        let wants = |fields: &[(&str, &str)]| {
            let head = head("GET /", fields);
            let mut fields = Fields::new();
            wants_upgrade(&Request::parse(head.as_bytes(), &mut fields).unwrap())
        };
        assert!(!wants(&[("Host", "a"), ("Upgrade", "h2c"), ("Connection", "Upgrade")]));
        assert!(wants(&[("Host", "a"), ("Upgrade", "WebSocket")]));
        assert!(wants(&[("Host", "a"), ("Sec-WebSocket-Key", "x")]));
    }
}
