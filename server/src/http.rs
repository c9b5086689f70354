//! Plain HTTP: what a handler is asked, and what it answers.

use quelea_core::{
    handshake::Refusal,
    http::{FieldError, HeadError, ResponseOptions, Status, write_response},
};
use std::borrow::Cow;

pub use quelea_core::http::Request;

/// An answer to a plain request, or the refusal of an upgrade.
///
/// `Content-Length` and `Connection` are set by the server.
///
/// ```
/// use quelea::{Response, Status};
///
/// let page = Response::new(Status::OK).content("text/html; charset=utf-8", "<h1>Hello</h1>");
/// let login = Response::new(Status::UNAUTHORIZED).header("WWW-Authenticate", "Bearer");
/// # let _ = (page, login);
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) status: Status,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// An answer with no body.
    pub const fn new(status: Status) -> Self {
        Self { status, headers: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// An answer of one line of text.
    pub fn text(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        let text = match text.into() {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => Content::from(text),
        };
        Self::new(status).content("text/plain; charset=utf-8", text)
    }

    /// 426: what a plain request gets from a server that only speaks WebSocket.
    pub fn upgrade_required() -> Self {
        Self::text(Status::UPGRADE_REQUIRED, "this is a WebSocket server: connect with ws://\n")
            .header("Upgrade", "websocket")
    }

    /// Adds a header field. A name or value that is not allowed there makes the answer a 500, and
    /// is logged.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body and its media type.
    pub fn content(
        self,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Content>,
    ) -> Self {
        let mut response = self.header("Content-Type", content_type);
        response.body = body.into().0;
        response
    }
}

impl Response {
    /// Appends the answer to `out`.
    ///
    /// # Errors
    /// It cannot be sent as it is: what was appended is a 500.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        options: ResponseOptions,
    ) -> Result<(), FieldError> {
        let fields = self.headers.iter().map(|(name, value)| (&**name, &**value));
        write_response(out, self.status, fields, &self.body, options).inspect_err(|_| {
            let status = Status::INTERNAL_SERVER_ERROR;
            // With no field of the handler's, nothing is left that could fail.
            let _ = write_response(out, status, [], b"", options);
        })
    }
}

impl From<HeadError> for Response {
    fn from(error: HeadError) -> Self {
        Self::text(error.status(), format!("{error}\n"))
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let response = Self::text(refusal.status(), format!("{refusal}\n"));
        refusal
            .fields()
            .iter()
            .fold(response, |response, (name, value)| response.header(*name, *value))
    }
}

/// The body of a [`Response`]: text or bytes, borrowed for good or owned.
#[derive(Clone, Debug)]
pub struct Content(Cow<'static, [u8]>);

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}
