//! Messages, and the limits on what a peer may send.

use crate::opcode::Opcode;

/// A whole message, borrowed: text is known to be UTF-8 (RFC 6455, section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// Text or binary, without the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text: UTF-8.
    Text,
    /// Binary: any bytes.
    Binary,
}

impl MessageKind {
    #[inline]
    pub(crate) const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

impl<'a> Message<'a> {
    /// Text or binary.
    #[inline]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }

    /// The payload.
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The length of the payload in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Binary(bytes)
    }
}

/// What a peer may send before the connection is failed with 1009.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes, over all its fragments. Known from the frame header alone,
    /// so a longer one costs nothing. Default: 1 MiB, which holds what browsers' applications
    /// commonly send and bounds what one peer can make a server keep.
    pub message_bytes_max: usize,
    /// The most fragments of one message, empty ones included; at least 1, and 0 counts as 1.
    /// Default: 131,072: enough for 4 MiB in pieces of 32 bytes, and an end to a message that
    /// never ends.
    pub fragments_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 1 << 20, fragments_max: 1 << 17 }
    }
}
