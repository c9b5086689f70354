//! What is sent: messages of each kind and size that was asked for.

use super::json::json;
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
    /// Text that is JSON: a list of orders with random values. Up to 64 different messages take turns.
    Json,
}

/// How many messages of JSON there are, but no more bytes than this if there are several.
const VARIANTS_MAX: usize = 64;
const VARIANTS_BYTES_MAX: usize = 1 << 20;

impl Kind {
    pub(crate) const fn message(self) -> MessageKind {
        match self {
            Self::Text | Self::Utf8 | Self::Json => MessageKind::Text,
            Self::Binary => MessageKind::Binary,
        }
    }

    /// As it is asked for.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How many different messages of a size there are: what a server compresses with those before it in mind is
    /// not to be the same again and again.
    pub(crate) fn variants(self, size: usize) -> usize {
        match self {
            Self::Json => (VARIANTS_BYTES_MAX / size.max(1)).clamp(1, VARIANTS_MAX),
            Self::Text | Self::Binary | Self::Utf8 => 1,
        }
    }

    /// All of them.
    pub(crate) fn payloads(self, size: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
        let seeds = (0..self.variants(size) as u64).map(move |number| seed.wrapping_add(number));
        seeds.map(move |seed| self.payload(size, seed))
    }

    /// A payload of exactly so many bytes.
    pub(crate) fn payload(self, size: usize, seed: u64) -> Vec<u8> {
        match self {
            Self::Text => (b'a'..=b'z').cycle().take(size).collect(),
            Self::Binary => (0..=u8::MAX).cycle().take(size).collect(),
            Self::Json => json(size, seed),
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
            for kind in [Kind::Text, Kind::Binary, Kind::Utf8, Kind::Json] {
                let payload = kind.payload(size, 1);
                assert_eq!(payload.len(), size);
                if kind.message() == MessageKind::Text {
                    let text = std::str::from_utf8(&payload).unwrap();
                    assert!(size < 3 || text.is_ascii() == (kind != Kind::Utf8));
                }
            }
        }
    }

    #[test]
    fn there_are_as_many_messages_of_json_as_are_soon_compressed_and_one_of_all_others() {
        let variants =
            [0, 1024, 16 << 10, 256 << 10, 8 << 20].map(|size| Kind::Json.variants(size));
        assert_eq!(variants, [64, 64, 64, 4, 1]);
        let mut payloads: Vec<_> = Kind::Json.payloads(1024, u64::MAX).collect();
        payloads.dedup();
        assert_eq!(payloads.len(), 64);
        assert_eq!(Kind::Text.payloads(20, 1).count(), 1);
    }
}
