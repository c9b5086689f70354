//! Payload masking (RFC 6455, section 5.3).
