//! What a message tells of itself: who sent it, its number, when, and a checksum.
//!
//! It is made of letters and digits, so that it comes through any server that passes text on, in
//! whatever it wraps it: it is searched for in what arrives.

use crate::load::Time;
use memchr::memmem::Finder;

/// What one message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    /// 0 for the first of a publisher.
    pub(crate) number: u64,
    /// When it was to be sent.
    pub(crate) intended: Time,
    pub(crate) sent: Time,
}

/// What was found in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Stamp(Stamp),
    /// It was sent by this run, but not as it came.
    Corrupt,
    /// The server's own, or of another run.
    Other,
}

/// What stamps of one run have in common.
pub(crate) struct Stamps {
    finder: Finder<'static>,
}

/// The shortest payload.
pub(crate) const STAMP_BYTES: usize = 64;
/// Its length is told in six digits.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The digits of each field: length, publisher, number, intended, sent. They are of base 16.
const FIELDS: [usize; 5] = [6, 6, 10, 12, 12];
const MARK_BYTES: usize = 10;
const CHECK_AT: usize = STAMP_BYTES - CHECK_BYTES;
const CHECK_BYTES: usize = 8;

impl Stamps {
    /// Stamps by which this run is told from others.
    pub(crate) fn new(run: u32) -> Self {
        Self { finder: Finder::new(&format!("qp{run:08x}")).into_owned() }
    }

    /// Appends a payload of exactly so many bytes, at least [`STAMP_BYTES`] and at most
    /// [`PAYLOAD_BYTES_MAX`].
    pub(crate) fn write(&self, stamp: &Stamp, length: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.finder.needle());
        let Stamp { publisher, number, intended, sent } = *stamp;
        let fields = [length as u64, publisher.into(), number, intended.nanos(), sent.nanos()];
        for (value, digits) in fields.into_iter().zip(FIELDS) {
            write_digits(value, digits, out);
        }
        out.resize(start + STAMP_BYTES, b'0');
        // Not the same from message to message: a part of another one does not go unseen.
        let first = usize::try_from(number % 26).unwrap_or(0);
        out.extend((b'a'..=b'z').cycle().skip(first).take(length - STAMP_BYTES));
        let check = checksum(&out[start..]);
        let mut digits = Vec::with_capacity(CHECK_BYTES);
        write_digits(check.into(), CHECK_BYTES, &mut digits);
        out[start + CHECK_AT..start + STAMP_BYTES].copy_from_slice(&digits);
    }

    /// Looks for the first stamp in a message.
    #[inline]
    pub(crate) fn find(&self, message: &[u8]) -> Found {
        match self.finder.find(message) {
            Some(start) => read(&message[start..]).map_or(Found::Corrupt, Found::Stamp),
            None => Found::Other,
        }
    }
}

fn read(bytes: &[u8]) -> Option<Stamp> {
    let mut at = MARK_BYTES;
    let mut fields = [0; FIELDS.len()];
    for (field, digits) in fields.iter_mut().zip(FIELDS) {
        *field = read_digits(bytes.get(at..at + digits)?)?;
        at += digits;
    }
    let [length, publisher, number, intended, sent] = fields;
    let payload = bytes.get(..usize::try_from(length).ok()?)?;
    let check = read_digits(payload.get(CHECK_AT..STAMP_BYTES)?)?;
    (check == u64::from(checksum(payload))).then_some(Stamp {
        publisher: u32::try_from(publisher).ok()?,
        number,
        intended: Time::from_nanos(intended),
        sent: Time::from_nanos(sent),
    })
}

/// Of all but its own digits.
fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..CHECK_AT]);
    hasher.update(&payload[STAMP_BYTES..]);
    hasher.finalize()
}

fn write_digits(value: u64, digits: usize, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * place)) as usize & 15]);
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u64::from(digit - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        publisher: 0x00ff_fffe,
        number: 1 << 39,
        intended: Time::from_nanos(3_600_000_000_000),
        sent: Time::from_nanos(3_600_000_000_001),
    };

    fn message(length: usize) -> Vec<u8> {
        let mut out = br#"{"text":""#.to_vec();
        Stamps::new(7).write(&STAMP, length, &mut out);
        assert_eq!(out.len(), 9 + length);
        out.extend_from_slice(br#"","id":7}"#);
        out
    }

    #[test]
    fn a_stamp_is_found_in_whatever_the_server_wraps_it() {
        for length in [STAMP_BYTES, STAMP_BYTES + 1, 1000, PAYLOAD_BYTES_MAX] {
            let message = message(length);
            assert!(message.iter().all(u8::is_ascii));
            assert_eq!(Stamps::new(7).find(&message), Found::Stamp(STAMP));
        }
    }

    #[test]
    fn every_byte_that_is_changed_is_seen() {
        let stamps = Stamps::new(7);
        let message = message(100);
        for index in 9 + MARK_BYTES..9 + 100 {
            let mut wrong = message.clone();
            wrong[index] ^= 1;
            assert_eq!(stamps.find(&wrong), Found::Corrupt, "{index}");
        }
        assert_eq!(stamps.find(&message[..9 + 99]), Found::Corrupt);
        assert_eq!(stamps.find(&message[..9 + MARK_BYTES]), Found::Corrupt);
    }

    #[test]
    fn what_another_run_or_the_server_sent_is_none_of_ours() {
        assert_eq!(Stamps::new(8).find(&message(100)), Found::Other);
        assert_eq!(Stamps::new(7).find(b"qp0000000"), Found::Other);
        assert_eq!(Stamps::new(7).find(b""), Found::Other);
    }

    #[test]
    fn messages_with_the_same_stamp_but_a_number_differ_in_their_filling_too() {
        let payload = |number| {
            let mut out = Vec::new();
            Stamps::new(7).write(&Stamp { number, ..STAMP }, 200, &mut out);
            out.split_off(STAMP_BYTES)
        };
        assert_ne!(payload(1), payload(2));
    }
}
