//! HTTP/1.1 request and response heads over `httparse` (RFC 9112).
