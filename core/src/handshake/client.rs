//! The client's side (RFC 6455, section 4.1).

use super::{accept_key, extensions::extensions, key::key};
#[cfg(feature = "deflate")]
use crate::deflate::{NAME, Offer, Parameters};
use crate::http::{FieldError, Response, Status, check_field, is_token, split_port, write_field};
use std::fmt;

/// What [`ClientRequest::write`] sets itself.
const RESERVED: &[&str] = &[
    "Host",
    "Connection",
    "Upgrade",
    "Content-Length",
    "Transfer-Encoding",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
];

/// A request for a WebSocket, and the check of its answer.
///
/// ```
/// use quelea_core::handshake::ClientRequest;
/// let nonce = [7; 16]; // from a source of randomness
/// let request = ClientRequest::new("example.com", "/chat", &nonce).subprotocols(&["chat"]);
/// let mut out = Vec::new();
/// request.write(&mut out)?;
/// # Ok::<(), quelea_core::http::FieldError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientRequest<'a> {
    host: &'a str,
    target: &'a str,
    key: String,
    subprotocols: &'a [&'a str],
    fields: &'a [(&'a str, &'a str)],
    #[cfg(feature = "deflate")]
    deflate: &'a [Offer],
}

impl<'a> ClientRequest<'a> {
    /// A request to `host` (`name` or `name:port`) for `target` (path and query), with 16 random
    /// bytes that are used once.
    pub fn new(host: &'a str, target: &'a str, nonce: &[u8; 16]) -> Self {
        Self {
            host,
            target,
            key: key(nonce),
            subprotocols: &[],
            fields: &[],
            #[cfg(feature = "deflate")]
            deflate: &[],
        }
    }

    /// Offers compression, the best first (RFC 7692, section 5.1): such as
    /// [`Policy::offers`](crate::deflate::Policy::offers). What the server makes of it tells
    /// [`ClientRequest::check_deflate`].
    #[cfg(feature = "deflate")]
    pub const fn deflate(mut self, offers: &'a [Offer]) -> Self {
        self.deflate = offers;
        self
    }

    /// Offers subprotocols, the best first.
    pub const fn subprotocols(mut self, names: &'a [&'a str]) -> Self {
        self.subprotocols = names;
        self
    }

    /// Adds header fields, such as `Origin` or `Authorization`.
    pub const fn fields(mut self, fields: &'a [(&'a str, &'a str)]) -> Self {
        self.fields = fields;
        self
    }

    /// Appends the request to `out`.
    ///
    /// # Errors
    /// A part that would break the head: a host that is none, a target that is no path or has a
    /// fragment (section 3), a subprotocol that is no token or is there twice (section 4.1, item 10),
    /// a field that may not be sent. `out` is as it was.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), FieldError> {
        let is_visible = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !self.target.starts_with('/') || !self.target.bytes().all(is_visible) {
            return Err(FieldError::Value);
        }
        if split_port(self.host).is_none() {
            return Err(FieldError::Value);
        }
        for (index, name) in self.subprotocols.iter().enumerate() {
            if !is_token(name.as_bytes()) || self.subprotocols[..index].contains(name) {
                return Err(FieldError::Value);
            }
        }
        for (name, value) in self.fields {
            check_field(name, value, RESERVED)?;
        }
        out.extend_from_slice(format!("GET {} HTTP/1.1\r\n", self.target).as_bytes());
        write_field(out, "Host", self.host);
        write_field(out, "Upgrade", "websocket");
        write_field(out, "Connection", "Upgrade");
        write_field(out, "Sec-WebSocket-Key", &self.key);
        write_field(out, "Sec-WebSocket-Version", "13");
        if !self.subprotocols.is_empty() {
            write_field(out, "Sec-WebSocket-Protocol", &self.subprotocols.join(", "));
        }
        #[cfg(feature = "deflate")]
        for offer in self.deflate {
            write_field(out, "Sec-WebSocket-Extensions", &offer.to_string());
        }
        for (name, value) in self.fields {
            write_field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Checks the answer; returns the subprotocol that the server chose.
    ///
    /// # Errors
    /// What is wrong with it: the connection must not be used.
    pub fn check_response<'r>(
        &self,
        response: &Response<'r>,
    ) -> Result<Option<&'r str>, ClientHandshakeError> {
        if response.status() != Status::SWITCHING_PROTOCOLS {
            return Err(ClientHandshakeError::Status(response.status()));
        }
        if !response.is_http_1_1() {
            return Err(ClientHandshakeError::HttpVersion);
        }
        let mut upgrades = response.header_values("Upgrade");
        match (upgrades.next(), upgrades.next()) {
            (Some(protocol), None) if protocol.eq_ignore_ascii_case(b"websocket") => {}
            _ => return Err(ClientHandshakeError::Upgrade),
        }
        if !response.header_has_token("Connection", "upgrade") {
            return Err(ClientHandshakeError::Connection);
        }
        let mut accepts = response.header_values("Sec-WebSocket-Accept");
        match (accepts.next(), accepts.next()) {
            (Some(accept), None) if accept == accept_key(&self.key) => {}
            _ => return Err(ClientHandshakeError::Accept),
        }
        self.check_extensions(response)?;
        let mut chosen = response.header_values("Sec-WebSocket-Protocol");
        match (chosen.next(), chosen.next()) {
            (None, _) => Ok(None),
            (Some(name), None) if self.subprotocols.iter().any(|own| own.as_bytes() == name) => {
                Ok(response.header("Sec-WebSocket-Protocol"))
            }
            _ => Err(ClientHandshakeError::Subprotocol),
        }
    }
}

impl ClientRequest<'_> {
    /// What the server agreed on of the compression that was offered; `None` if it declined. It is for
    /// [`Connection::with_deflate`](crate::Connection::with_deflate), after [`ClientRequest::check_response`].
    ///
    /// # Errors
    /// [`ClientHandshakeError::Extension`], [`ClientHandshakeError::Deflate`]: the connection must not be used.
    /// [`ClientRequest::check_response`] says so too.
    #[cfg(feature = "deflate")]
    pub fn check_deflate(
        &self,
        response: &Response<'_>,
    ) -> Result<Option<Parameters>, ClientHandshakeError> {
        let mut extensions = extensions(response.header_values("Sec-WebSocket-Extensions"));
        let extension = match (extensions.next(), extensions.next()) {
            (None, _) => return Ok(None),
            (Some(Ok(only)), None) if only.name == NAME.as_bytes() && !self.deflate.is_empty() => {
                only
            }
            _ => return Err(ClientHandshakeError::Extension),
        };
        Parameters::from_answer(&extension)
            .and_then(|answer| answer.of_offers(self.deflate))
            .map(Some)
            .ok_or(ClientHandshakeError::Deflate)
    }

    #[cfg(feature = "deflate")]
    fn check_extensions(&self, response: &Response<'_>) -> Result<(), ClientHandshakeError> {
        self.check_deflate(response).map(|_| ())
    }

    #[cfg(not(feature = "deflate"))]
    fn check_extensions(&self, response: &Response<'_>) -> Result<(), ClientHandshakeError> {
        match extensions(response.header_values("Sec-WebSocket-Extensions")).next() {
            None => Ok(()),
            Some(_) => Err(ClientHandshakeError::Extension),
        }
    }
}

/// Why a server's answer is refused (section 4.1, second list).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientHandshakeError {
    /// Another status than 101: a refusal, a redirection, or no WebSocket server.
    Status(Status),
    /// A 101 of HTTP/1.0, which knows no `Upgrade` (RFC 9110, section 7.8).
    HttpVersion,
    /// Not `Upgrade: websocket`, once and alone (item 2).
    Upgrade,
    /// No `Connection: Upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` does not answer the key.
    Accept,
    /// An extension that was not offered, several, or no list of extensions (section 9.1).
    Extension,
    /// Compression with parameters that were not offered, or are none (RFC 7692, section 7.1); or with a window of
    /// 8 bits for us to compress with, which cannot be done.
    Deflate,
    /// A subprotocol that was not offered, or several.
    Subprotocol,
}

impl fmt::Display for ClientHandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answered {status}, not 101"),
            Self::HttpVersion => f.write_str("the answer is not of HTTP/1.1"),
            Self::Upgrade => f.write_str("the answer's Upgrade is not `websocket`, once and alone"),
            Self::Connection => f.write_str("the answer lacks `Connection: Upgrade`"),
            Self::Accept => f.write_str("the answer's Sec-WebSocket-Accept is wrong"),
            Self::Extension => f.write_str("the server uses an extension that was not offered"),
            Self::Deflate => f.write_str("the server's permessage-deflate is not what was offered"),
            Self::Subprotocol => f.write_str("the server chose a subprotocol that was not offered"),
        }
    }
}

impl std::error::Error for ClientHandshakeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        handshake::{OriginPolicy, Upgrade},
        http::{Fields, Request},
    };

    const NONCE: &[u8; 16] = b"the sample nonce";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn answer(head: &str) -> Result<Option<String>, ClientHandshakeError> {
        let request = ClientRequest::new("a", "/", NONCE).subprotocols(&["chat", "superchat"]);
        let mut fields = Fields::new();
        let (response, _) = Response::parse(head.as_bytes(), &mut fields).unwrap().unwrap();
        request.check_response(&response).map(|name| name.map(str::to_owned))
    }

    #[test]
    fn the_own_server_accepts_what_the_client_writes_and_the_other_way_round() {
        let request = ClientRequest::new("a:81", "/x?y", NONCE)
            .subprotocols(&["chat"])
            .fields(&[("Origin", "http://a:81")]);
        let mut out = Vec::new();
        request.write(&mut out).unwrap();
        let mut fields = Fields::new();
        let parsed = Request::parse(&out, &mut fields).unwrap();
        let upgrade = Upgrade::check(&parsed, &OriginPolicy::SameHost).unwrap();
        let mut answer = Vec::new();
        upgrade.write_response(Some("chat"), [], &mut answer).unwrap();
        let mut fields = Fields::new();
        let (response, len) = Response::parse(&answer, &mut fields).unwrap().unwrap();
        assert_eq!(len, answer.len());
        assert_eq!(request.check_response(&response), Ok(Some("chat")));
    }

    #[test]
    fn rfc6455_4_1_each_rule_that_an_answer_breaks_has_its_error() {
        let good = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        );
        assert_eq!(answer(&good), Ok(None));
        let chosen = good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: superchat\r\n\r\n");
        assert_eq!(answer(&chosen), Ok(Some("superchat".into())));
        for (from, to, error) in [
            ("101", "200", ClientHandshakeError::Status(Status::OK)),
            ("HTTP/1.1", "HTTP/1.0", ClientHandshakeError::HttpVersion),
            ("WebSocket\r", "h2c\r", ClientHandshakeError::Upgrade),
            ("WebSocket\r", "h2c, WebSocket\r", ClientHandshakeError::Upgrade),
            ("WebSocket\r", "WebSocket, WebSocket\r", ClientHandshakeError::Upgrade),
            ("Upgrade: WebSocket\r\n", "", ClientHandshakeError::Upgrade),
            ("\r\n\r\n", "\r\nUpgrade: h2c\r\n\r\n", ClientHandshakeError::Upgrade),
            ("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n", ClientHandshakeError::Upgrade),
            ("upgrade", "close", ClientHandshakeError::Connection),
            ("s3p", "S3p", ClientHandshakeError::Accept),
            ("\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n", ClientHandshakeError::Accept),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Extensions: x\r\n\r\n",
                ClientHandshakeError::Extension,
            ),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: x\r\n\r\n",
                ClientHandshakeError::Subprotocol,
            ),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: chat, superchat\r\n\r\n",
                ClientHandshakeError::Subprotocol,
            ),
        ] {
            assert_eq!(answer(&good.replace(from, to)), Err(error), "{to:?}");
        }
    }

    #[test]
    fn a_request_that_would_break_its_head_is_not_written() {
        for request in [
            ClientRequest::new("a\r\nX: y", "/", NONCE),
            ClientRequest::new("a", "/ HTTP/1.1\r\n", NONCE),
            ClientRequest::new("", "/", NONCE),
            ClientRequest::new("user@a", "/", NONCE),
            ClientRequest::new("a/b", "/", NONCE),
            ClientRequest::new("a:b", "/", NONCE),
            ClientRequest::new("a", "", NONCE),
            ClientRequest::new("a", "x", NONCE),
            ClientRequest::new("a", "/x#y", NONCE),
            ClientRequest::new("a", "/", NONCE).subprotocols(&["a", "b", "a"]),
            ClientRequest::new("a", "/", NONCE).subprotocols(&["a b"]),
            ClientRequest::new("a", "/", NONCE).fields(&[("Host", "b")]),
        ] {
            let mut out = Vec::new();
            assert!(request.write(&mut out).is_err(), "{request:?}");
            assert!(out.is_empty());
        }
    }
}
