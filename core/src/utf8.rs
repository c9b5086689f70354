//! UTF-8 validation (RFC 6455, section 8.1; RFC 3629), whole and in pieces.

use crate::mask;
use std::fmt;

/// The bytes are not UTF-8, or stop inside a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not valid UTF-8")
    }
}

impl std::error::Error for InvalidUtf8 {}

/// Below this many bytes the library goes byte by byte; most short texts are ASCII.
const SHORT: usize = 64;
/// The bits that no byte of ASCII has.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Checks a whole text.
///
/// # Errors
/// The bytes are not UTF-8.
#[inline]
pub fn validate(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    if bytes.len() < SHORT && is_ascii(bytes) {
        // SAFETY: bytes below 0x80 are characters, each by itself (RFC 3629, section 3).
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    simdutf8::basic::from_utf8(bytes).map_err(|_| InvalidUtf8)
}

/// Unmasks a short text and checks it: in one pass if it is ASCII, as most are.
///
/// # Errors
/// The bytes are not UTF-8.
#[inline]
pub(crate) fn unmask(bytes: &mut [u8], key: [u8; 4]) -> Result<&mut str, InvalidUtf8> {
    if mask::apply_short(bytes, key) & HIGH == 0 {
        // SAFETY: no bit of any byte is left out of what was returned, so all are below 0x80: as above.
        return Ok(unsafe { std::str::from_utf8_unchecked_mut(bytes) });
    }
    simdutf8::basic::from_utf8_mut(bytes).map_err(|_| InvalidUtf8)
}

/// Eight bytes at a time, the last eight perhaps a second time.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else { return bytes.is_ascii() };
    let (words, _) = bytes.as_chunks::<8>();
    let seen = words.iter().fold(0, |seen, word| seen | u64::from_ne_bytes(*word));
    (seen | u64::from_ne_bytes(*last)) & HIGH == 0
}

/// Validates a text that comes in chunks, cut anywhere.
///
/// ```
/// use quelea_core::utf8::Stream;
/// let (mut stream, mut text) = (Stream::default(), String::new());
/// stream.push(b"caf\xc3", &mut text)?;
/// stream.push(b"\xa9", &mut text)?;
/// stream.finish()?;
/// assert_eq!(text, "café");
/// # Ok::<(), quelea_core::utf8::InvalidUtf8>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The start of a character whose rest has not come.
    begun: [u8; 3],
    begun_len: u8,
}

impl Stream {
    /// Appends a chunk to `text`, but for an incomplete character at its end, which is kept.
    ///
    /// # Errors
    /// The text can no longer become valid: noticed at the first such byte, however it is cut.
    pub fn push(&mut self, chunk: &[u8], text: &mut String) -> Result<(), InvalidUtf8> {
        let chunk = self.complete(chunk, text)?;
        let (whole, begun) = chunk.split_at(incomplete_from(chunk));
        text.push_str(validate(whole)?);
        self.begin(begun)
    }

    /// Ends the text.
    ///
    /// # Errors
    /// The last character is incomplete.
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        if std::mem::take(&mut self.begun_len) > 0 { Err(InvalidUtf8) } else { Ok(()) }
    }

    /// Bytes that are kept, of a character whose rest has not come.
    pub(crate) fn begun_len(&self) -> usize {
        usize::from(self.begun_len)
    }

    /// These bytes.
    #[cfg(feature = "deflate")]
    pub(crate) fn begun(&self) -> &[u8] {
        &self.begun[..self.begun_len()]
    }

    /// Moves bytes from the chunk to the character that was begun, until it is complete.
    fn complete<'c>(
        &mut self,
        mut chunk: &'c [u8],
        text: &mut String,
    ) -> Result<&'c [u8], InvalidUtf8> {
        while self.begun_len > 0
            && let Some((&byte, rest)) = chunk.split_first()
        {
            let len = usize::from(self.begun_len);
            let mut character = [0; 4];
            character[..len].copy_from_slice(&self.begun[..len]);
            character[len] = byte;
            self.begun_len = 0;
            match std::str::from_utf8(&character[..=len]) {
                Ok(complete) => text.push_str(complete),
                Err(_) => self.begin(&character[..=len])?,
            }
            chunk = rest;
        }
        Ok(chunk)
    }

    /// Keeps the start of a character, if it can become one.
    fn begin(&mut self, start: &[u8]) -> Result<(), InvalidUtf8> {
        match std::str::from_utf8(start) {
            Err(error) if error.error_len().is_none() && error.valid_up_to() == 0 => {
                self.begun[..start.len()].copy_from_slice(start);
                self.begun_len = start.len() as u8;
                Ok(())
            }
            Ok("") => Ok(()),
            _ => Err(InvalidUtf8),
        }
    }
}

/// Where the incomplete character at the end begins; the length if there is none.
fn incomplete_from(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(3)..bytes.len();
    let is_incomplete = |at: &usize| {
        let len = match bytes[*at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        at + len > bytes.len()
    };
    last.into_iter().find(is_incomplete).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// At which byte a text can no longer become valid.
    fn oracle(bytes: &[u8]) -> Option<usize> {
        (1..=bytes.len()).find(|&len| {
            std::str::from_utf8(&bytes[..len]).is_err_and(|error| error.error_len().is_some())
        })
    }

    fn push_bytewise(bytes: &[u8]) -> (Option<usize>, String, Stream) {
        let (mut stream, mut text) = (Stream::default(), String::new());
        for (index, byte) in bytes.iter().enumerate() {
            if stream.push(&[*byte], &mut text).is_err() {
                return (Some(index + 1), text, stream);
            }
        }
        (None, text, stream)
    }

    #[test]
    fn a_wrong_byte_is_noticed_as_soon_as_it_comes() {
        for (bytes, at) in [
            (&b"\x80"[..], 1),
            (b"\xc0", 1),
            (b"\xc1", 1),
            (b"\xf5", 1),
            (b"\xff", 1),
            (b"\xc2A", 2),
            (b"\xe0\x80", 2),
            (b"\xed\xa0", 2),
            (b"\xf0\x80", 2),
            (b"\xf4\x90", 2),
            (b"\xe2\x82A", 3),
            (b"\xf0\x9f\x98A", 4),
        ] {
            assert_eq!(oracle(bytes), Some(at));
            assert_eq!(push_bytewise(bytes).0, Some(at), "{bytes:x?}");
            let whole = [b"long enough for the bulk of it to be checked at once", bytes].concat();
            assert!(Stream::default().push(&whole, &mut String::new()).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_text_that_ends_inside_a_character_is_invalid() {
        let mut stream = Stream::default();
        stream.push(b"\xf0\x9f\x98", &mut String::new()).unwrap();
        assert_eq!(stream.finish(), Err(InvalidUtf8));
        assert_eq!(stream.finish(), Ok(()));
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_is_in_a_text_of_any_length() {
        for len in 0..200 {
            let mut bytes = vec![b'a'; len];
            assert!(validate(&bytes).is_ok());
            for at in 0..len {
                bytes[at] = 0x80;
                assert_eq!(validate(&bytes), Err(InvalidUtf8), "{at} of {len}");
                assert_eq!(unmask(&mut bytes.clone(), [0; 4]), Err(InvalidUtf8), "{at} of {len}");
                bytes[at] = 0x7f;
            }
            assert!(validate(&bytes).is_ok());
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
            3 => "[ -~]{0,40}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cutting_is_as_valid_as_the_whole(
            bytes in bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            key: [u8; 4],
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut stream, mut text) = (Stream::default(), String::new());
            let mut failed_in = None;
            for cut in cuts.windows(2) {
                if stream.push(&bytes[cut[0]..cut[1]], &mut text).is_err() {
                    failed_in = Some(cut[0] + 1..=cut[1]);
                    break;
                }
            }
            match (oracle(&bytes), failed_in) {
                (Some(at), Some(chunk)) => prop_assert!(chunk.contains(&at)),
                (None, None) => match std::str::from_utf8(&bytes) {
                    Ok(expected) => {
                        prop_assert_eq!(text, expected);
                        prop_assert_eq!(stream.finish(), Ok(()));
                    }
                    Err(_) => prop_assert_eq!(stream.finish(), Err(InvalidUtf8)),
                },
                (expected, actual) => prop_assert!(false, "{:?} {:?}", expected, actual),
            }
            prop_assert_eq!(push_bytewise(&bytes).0, oracle(&bytes));
            prop_assert_eq!(validate(&bytes).ok(), std::str::from_utf8(&bytes).ok());
            let mut masked = bytes.clone();
            mask::apply(&mut masked, key);
            prop_assert_eq!(unmask(&mut masked, key).ok().map(|text| &*text), std::str::from_utf8(&bytes).ok());
        }
    }
}
