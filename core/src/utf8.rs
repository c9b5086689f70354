//! Streaming UTF-8 validation (RFC 6455, section 8.1).
