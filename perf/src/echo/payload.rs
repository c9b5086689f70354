//! What is sent: messages of each kind and size that was asked for.

use clap::ValueEnum;
use quelea_core::MessageKind;
use serde::{Deserialize, Serialize};

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Text of ASCII letters.
    Text,
    /// Binary messages of all bytes.
    Binary,
    /// Text of which most characters take two to four bytes.
    Utf8,
}

impl Kind {
    pub(super) const fn message(self) -> MessageKind {
        match self {
            Self::Text | Self::Utf8 => MessageKind::Text,
            Self::Binary => MessageKind::Binary,
        }
    }

    /// A payload of exactly so many bytes.
    pub(super) fn payload(self, size: usize) -> Vec<u8> {
        match self {
            Self::Text => (b'a'..=b'z').cycle().take(size).collect(),
            Self::Binary => (0..=u8::MAX).cycle().take(size).collect(),
            Self::Utf8 => {
                let mut text = String::with_capacity(size);
                for character in "häßlich, クエレア, ∑ и 🐦. ".chars().cycle() {
                    if text.len() + character.len_utf8() > size {
                        break;
                    }
                    text.push(character);
                }
                // What no whole character fits.
                text.extend(std::iter::repeat_n('.', size - text.len()));
                text.into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_long_as_asked_for_and_text_is_valid() {
        for size in [0, 1, 2, 3, 20, 125, 126, 1000, 70_001] {
            for kind in [Kind::Text, Kind::Binary, Kind::Utf8] {
                let payload = kind.payload(size);
                assert_eq!(payload.len(), size);
                if kind.message() == MessageKind::Text {
                    let text = std::str::from_utf8(&payload).unwrap();
                    assert!(size < 3 || text.is_ascii() == (kind == Kind::Text));
                }
            }
        }
    }
}
