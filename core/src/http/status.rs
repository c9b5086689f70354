//! Status codes.

use std::fmt;

/// The status of a response (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(pub u16);

macro_rules! statuses {
    ($($(#[$doc:meta])+ $name:ident = $code:literal, $reason:literal;)+) => {
        impl Status {
            $($(#[$doc])+ pub const $name: Self = Self($code);)+

            /// The words that stand beside the number; empty for a number not listed here.
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)+
                    _ => "",
                }
            }
        }
    };
}

statuses! {
    /// 101: the connection is a WebSocket from here on.
    SWITCHING_PROTOCOLS = 101, "Switching Protocols";
    /// 200.
    OK = 200, "OK";
    /// 204: done, and nothing to show.
    NO_CONTENT = 204, "No Content";
    /// 205: done, and what was entered can be cleared.
    RESET_CONTENT = 205, "Reset Content";
    /// 301: moved, for good.
    MOVED_PERMANENTLY = 301, "Moved Permanently";
    /// 302: to be found elsewhere for now.
    FOUND = 302, "Found";
    /// 304: what the client has is still right.
    NOT_MODIFIED = 304, "Not Modified";
    /// 400: no valid request.
    BAD_REQUEST = 400, "Bad Request";
    /// 401: who are you?
    UNAUTHORIZED = 401, "Unauthorized";
    /// 403: not for you.
    FORBIDDEN = 403, "Forbidden";
    /// 404: nothing there.
    NOT_FOUND = 404, "Not Found";
    /// 405: not with this method.
    METHOD_NOT_ALLOWED = 405, "Method Not Allowed";
    /// 408: it took too long.
    REQUEST_TIMEOUT = 408, "Request Timeout";
    /// 413: the body is too long.
    CONTENT_TOO_LARGE = 413, "Content Too Large";
    /// 426: only with another protocol, named in `Upgrade`.
    UPGRADE_REQUIRED = 426, "Upgrade Required";
    /// 429: too often.
    TOO_MANY_REQUESTS = 429, "Too Many Requests";
    /// 431: the head is too long.
    HEADER_FIELDS_TOO_LARGE = 431, "Request Header Fields Too Large";
    /// 500: the server failed.
    INTERNAL_SERVER_ERROR = 500, "Internal Server Error";
    /// 501: not something this server can do.
    NOT_IMPLEMENTED = 501, "Not Implemented";
    /// 503: not now.
    SERVICE_UNAVAILABLE = 503, "Service Unavailable";
    /// 505: not in this version of HTTP.
    VERSION_NOT_SUPPORTED = 505, "HTTP Version Not Supported";
}

impl Status {
    /// Whether a response with it may have a body (RFC 9110, sections 6.4.1 and 15.3.6).
    pub const fn allows_body(self) -> bool {
        self.0 != Self::RESET_CONTENT.0 && !self.ends_with_head()
    }

    /// Whether a response with it ends with its head, whatever length its fields tell (RFC 9112,
    /// section 6.3). A 205 does not: it has to say that its body is empty.
    pub(super) const fn ends_with_head(self) -> bool {
        matches!(self.0, 100..=199 | 204 | 304)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}
