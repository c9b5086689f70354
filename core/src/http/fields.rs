//! Header fields.

use std::fmt;

/// The most fields that one head can have here.
pub(super) const FIELDS_MAX: usize = 128;

/// Room for the fields of one head, on the stack: see [`Request::parse`](super::Request::parse).
#[derive(Debug)]
pub struct Fields<'a>(pub(super) [httparse::Header<'a>; FIELDS_MAX]);

impl Fields<'_> {
    /// Room for 128 fields.
    pub const fn new() -> Self {
        Self([httparse::EMPTY_HEADER; FIELDS_MAX])
    }
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// All values of a field, in order.
pub(super) fn values<'a>(
    fields: &'a [httparse::Header<'a>],
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// The elements of a comma-separated list over all its fields (RFC 9110, section 5.6.1), empty
/// ones left out.
pub(crate) fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether the bytes are a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Whether the bytes may be a value (RFC 9110, section 5.5): no control character but the tab.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

/// A field, or another part of a head, that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldError {
    /// The name is no token.
    Name,
    /// The value has control characters, which could end the line and begin another.
    Value,
    /// The field is set by the protocol itself.
    Reserved,
    /// The status is none that ends a request: 200 to 599 (RFC 9110, section 15).
    Status,
    /// The subprotocol was not offered by the client (RFC 6455, section 4.2.2).
    SubprotocolNotOffered,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a header name must be a token",
            Self::Value => "a header value must not have control characters",
            Self::Reserved => "this header is set by the protocol and cannot be overridden",
            Self::Status => "the status of a response must be 200 to 599",
            Self::SubprotocolNotOffered => "a subprotocol must be one that the client offered",
        })
    }
}

impl std::error::Error for FieldError {}

pub(crate) fn check_field(name: &str, value: &str, reserved: &[&str]) -> Result<(), FieldError> {
    if !is_token(name.as_bytes()) {
        return Err(FieldError::Name);
    }
    if !is_value(value.as_bytes()) {
        return Err(FieldError::Value);
    }
    if reserved.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(FieldError::Reserved);
    }
    Ok(())
}
