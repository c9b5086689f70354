//! Responses: written by a server, read by a client.

use super::{
    FieldError, HeadError, Status,
    fields::{Fields, check_field, list, values},
    scan::check_lines,
};
use std::{fmt, io::Write};

/// A response's head (RFC 9112, section 4), borrowed from the bytes it came in.
#[derive(Debug)]
pub struct Response<'a> {
    status: Status,
    minor_version: u8,
    fields: &'a [httparse::Header<'a>],
}

impl<'a> Response<'a> {
    /// Parses the head at the start of `bytes`: the response and its length, or `None` when more
    /// has to come.
    ///
    /// The caller bounds the length of `bytes`. Each call reads them from the start, so a caller
    /// that calls at each byte pays up to the square of its bound: let it call once `bytes` have
    /// an empty line, or keep the bound to a few KiB.
    ///
    /// # Errors
    /// [`HeadError::Malformed`], [`HeadError::Version`], [`HeadError::TooManyFields`].
    pub fn parse(
        bytes: &'a [u8],
        fields: &'a mut Fields<'a>,
    ) -> Result<Option<(Self, usize)>, HeadError> {
        // httparse skips empty lines, which only a server puts up with (RFC 9112, section 2.2).
        if let Some(b'\r' | b'\n') = bytes.first() {
            return Err(HeadError::Malformed);
        }
        let mut response = httparse::Response::new(&mut fields.0);
        match response.parse(bytes)? {
            httparse::Status::Partial => Ok(None),
            httparse::Status::Complete(len) => {
                check_lines(&bytes[..len])?;
                let (Some(code @ 100..), Some(minor_version)) = (response.code, response.version)
                else {
                    return Err(HeadError::Malformed);
                };
                let status = Status(code);
                Ok(Some((Self { status, minor_version, fields: response.headers }, len)))
            }
        }
    }

    /// The status.
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Whether the version is 1.1, not 1.0.
    pub const fn is_http_1_1(&self) -> bool {
        self.minor_version == 1
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

    /// Whether a comma-separated list has a token, in any case.
    pub fn header_has_token(&self, name: &str, token: &str) -> bool {
        list(values(self.fields, name))
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// How a response is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOptions {
    /// The connection goes on after it.
    pub keep_alive: bool,
    /// It answers HEAD: the length is told, the body is not sent.
    pub head_only: bool,
}

/// What [`write_response`] sets itself.
const RESERVED: &[&str] = &["Content-Length", "Transfer-Encoding", "Connection"];

/// Appends a response to `out`: status, fields, `Connection`, `Content-Length`, body. The body is left
/// out where the status [allows none](Status::allows_body).
///
/// # Errors
/// A field that may not be sent, or a status that is not 200 to 599: a 101 is written by
/// [`Upgrade::write_response`](crate::handshake::Upgrade::write_response) alone. `out` is as it was.
///
/// ```
/// use quelea_core::http::{ResponseOptions, Status, write_response};
/// let mut out = Vec::new();
/// let options = ResponseOptions { keep_alive: true, head_only: false };
/// write_response(&mut out, Status::OK, [("X", "y")], b"hi", options)?;
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nhi");
/// # Ok::<(), quelea_core::http::FieldError>(())
/// ```
pub fn write_response<'f>(
    out: &mut Vec<u8>,
    status: Status,
    fields: impl IntoIterator<Item = (&'f str, &'f str)>,
    body: &[u8],
    options: ResponseOptions,
) -> Result<(), FieldError> {
    if !(200..=599).contains(&status.0) {
        return Err(FieldError::Status);
    }
    let start = out.len();
    write_text(out, format_args!("HTTP/1.1 {status}\r\n"));
    let mut has_upgrade = false;
    for (name, value) in fields {
        if let Err(error) = check_field(name, value, RESERVED) {
            out.truncate(start);
            return Err(error);
        }
        has_upgrade |= name.eq_ignore_ascii_case("Upgrade");
        write_field(out, name, value);
    }
    // `Upgrade` is for the next hop only, and has to be named as such (RFC 9110, section 7.8).
    match (options.keep_alive, has_upgrade) {
        (true, false) => {}
        (true, true) => write_field(out, "Connection", "Upgrade"),
        (false, false) => write_field(out, "Connection", "close"),
        (false, true) => write_field(out, "Connection", "close, Upgrade"),
    }
    let body = if status.allows_body() { body } else { b"" };
    if !status.ends_with_head() {
        write_text(out, format_args!("Content-Length: {}\r\n", body.len()));
    }
    out.extend_from_slice(b"\r\n");
    if !options.head_only {
        out.extend_from_slice(body);
    }
    Ok(())
}

/// Formats into `out` itself: no string is made for it.
fn write_text(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A vector takes all that is written to it.
    let _ = out.write_fmt(text);
}

pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: ResponseOptions = ResponseOptions { keep_alive: false, head_only: false };

    #[test]
    fn a_field_that_would_end_its_line_or_is_reserved_writes_nothing() {
        for (name, value, error) in [
            ("X", "a\r\nSet-Cookie: b", FieldError::Value),
            ("X", "a\nb", FieldError::Value),
            ("X", "\0", FieldError::Value),
            ("X\r\nY", "a", FieldError::Name),
            ("", "a", FieldError::Name),
            ("content-length", "0", FieldError::Reserved),
            ("Connection", "upgrade", FieldError::Reserved),
        ] {
            let mut out = b"before".to_vec();
            let result =
                write_response(&mut out, Status::OK, [("A", "b"), (name, value)], b"", CLOSE);
            assert_eq!(result, Err(error), "{name:?} {value:?}");
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn rfc9110_5_5_a_tab_may_stand_inside_a_value() {
        let mut out = Vec::new();
        write_response(&mut out, Status::OK, [("X", "a\tb")], b"", CLOSE).unwrap();
        assert!(out.starts_with(b"HTTP/1.1 200 OK\r\nX: a\tb\r\n"));
        let mut fields = Fields::new();
        let (response, _) = Response::parse(&out, &mut fields).unwrap().unwrap();
        assert_eq!(response.header("X"), Some("a\tb"));
    }

    #[test]
    fn rfc9110_15_a_status_that_ends_no_request_is_not_written() {
        for code in [0, 7, 100, 101, 199, 600, u16::MAX] {
            let mut out = b"before".to_vec();
            let result = write_response(&mut out, Status(code), [], b"", CLOSE);
            assert_eq!((result, &*out), (Err(FieldError::Status), &b"before"[..]), "{code}");
        }
    }

    #[test]
    fn rfc9112_2_2_and_4_odd_responses_are_refused() {
        for (head, error) in [
            ("HTTP/1.1 101 x\nA: b\n\n", HeadError::Malformed),
            ("HTTP/1.1 101 x\r\nA: b\n\r\n", HeadError::Malformed),
            ("\nHTTP/1.1 101 x\r\n\r\n", HeadError::Malformed),
            ("\r\nHTTP/1.1 101 x\r\n\r\n", HeadError::Malformed),
            ("\r\n\r\nHTTP/1.1 101 x\r\n\r\n", HeadError::Malformed),
            ("\r", HeadError::Malformed),
            ("\n", HeadError::Malformed),
            ("HTTP/1.1 101 x\r\nA: b\r\n c\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 101 x\r\nA: b\rc\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 101 x\r\nA : b\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 099 x\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 1010 x\r\n\r\n", HeadError::Malformed),
            ("HTTP/2.0 101 x\r\n\r\n", HeadError::Version),
        ] {
            let mut fields = Fields::new();
            let result = Response::parse(head.as_bytes(), &mut fields);
            assert_eq!(result.err(), Some(error), "{head:?}");
        }
    }

    #[test]
    fn the_answer_to_head_tells_the_length_alone() {
        let mut out = Vec::new();
        let head = ResponseOptions { keep_alive: true, head_only: true };
        write_response(&mut out, Status::OK, [], b"page", head).unwrap();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    }

    #[test]
    fn rfc9112_6_3_statuses_without_a_body_have_none_and_a_length_only_if_it_is_read() {
        for (code, head) in [
            (204, "HTTP/1.1 204 No Content\r\n\r\n"),
            (205, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
            (304, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ] {
            for head_only in [false, true] {
                let mut out = Vec::new();
                let options = ResponseOptions { keep_alive: true, head_only };
                write_response(&mut out, Status(code), [], b"page", options).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), head);
            }
        }
    }

    #[test]
    fn rfc9110_7_8_upgrade_is_named_in_connection() {
        for (keep_alive, connection) in [(true, "Upgrade"), (false, "close, Upgrade")] {
            let mut out = Vec::new();
            let options = ResponseOptions { keep_alive, head_only: false };
            let fields = [("upgrade", "websocket")];
            write_response(&mut out, Status::UPGRADE_REQUIRED, fields, b"", options).unwrap();
            let head = String::from_utf8(out).unwrap();
            assert!(head.contains(&format!("Connection: {connection}\r\n")), "{head}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Vec::new();
        write_response(&mut out, Status(299), [("X", "é")], b"body", CLOSE).unwrap();
        let mut fields = Fields::new();
        let (response, len) = Response::parse(&out, &mut fields).unwrap().unwrap();
        assert_eq!((response.status(), response.is_http_1_1()), (Status(299), true));
        assert_eq!(response.header("x"), Some("é"));
        assert_eq!(response.header_values("Content-Length").collect::<Vec<_>>(), [b"4"]);
        assert!(response.header_has_token("connection", "close"));
        assert_eq!(&out[len..], b"body");
        for cut in 0..len {
            let mut fields = Fields::new();
            assert!(Response::parse(&out[..cut], &mut fields).unwrap().is_none());
        }
    }
}
