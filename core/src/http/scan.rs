//! Finding the end of a head that arrives in pieces.

use super::{HeadError, fields::FIELDS_MAX, is_token};
use memchr::{memchr, memchr_iter, memmem};

/// What a head may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The longest head in bytes, the empty line included; at most 4 GiB less one byte. Default:
    /// 16 KiB, which holds the cookies of nearly every site.
    pub bytes_max: usize,
    /// The most header fields, at most 128. Default: 100.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: 16 << 10, fields_max: 100 }
    }
}

/// Looks for the end of a request's head, at each byte once, and notices a bad line as soon as it
/// ends.
///
/// ```
/// use quelea_core::http::{HeadLimits, HeadScanner};
/// let (mut scanner, limits) = (HeadScanner::default(), HeadLimits::default());
/// let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
/// assert_eq!(scanner.scan(&head[..20], &limits), Ok(None));
/// assert_eq!(scanner.scan(head, &limits), Ok(Some(head.len() - 4)));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Bytes known to hold no further end of a line.
    seen: u32,
    /// Where the line under way begins.
    line: u32,
    /// Lines that are complete, without empty ones before the first.
    lines: u16,
    leading: u8,
}

/// What the scanner counts to.
const BYTES_MAX: usize = u32::MAX as usize;

/// Empty lines before a request that are put up with (RFC 9112, section 2.2).
const LEADING_MAX: u8 = 2;

impl HeadScanner {
    /// Takes all bytes that came so far, those of earlier calls again at the front; returns the
    /// length of the head once it is complete. With fewer bytes than in an earlier call it waits
    /// for more; what it makes of other bytes in their place is not defined, but never a panic.
    /// After a head or an error, the next head needs a new scanner.
    ///
    /// # Errors
    /// [`HeadError::TooLong`], [`HeadError::TooManyFields`], [`HeadError::Malformed`],
    /// [`HeadError::Version`]; the start line and the fields are checked alone, not together.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let bytes_max = limits.bytes_max.min(BYTES_MAX);
        let within = &bytes[..bytes.len().min(bytes_max)];
        // Nearly every head comes whole, and is parsed whole next: then its lines need no check.
        if self.seen == 0
            && within.first().is_some_and(|first| *first != b'\r')
            && let Some(end) = memmem::find(within, b"\r\n\r\n")
        {
            let lines = memchr_iter(b'\n', &within[..end + 2]).count();
            check_line_count(lines, limits)?;
            return Ok(Some(end + 4));
        }
        if let Some(end) = self.scan_lines(within, limits)? {
            return Ok(Some(end));
        }
        if bytes.len() > bytes_max { Err(HeadError::TooLong) } else { Ok(None) }
    }

    fn scan_lines(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        while let Some(found) = bytes.get(self.seen as usize..).and_then(|rest| memchr(b'\n', rest))
        {
            let end = self.seen as usize + found + 1;
            let line = &bytes[self.line as usize..end];
            (self.seen, self.line) = (end as u32, end as u32);
            match (line, self.lines) {
                (b"\r\n", 0) if self.leading < LEADING_MAX => {
                    self.leading += 1;
                    continue;
                }
                (b"\r\n", 0) => return Err(HeadError::Malformed),
                (b"\r\n", _) => return Ok(Some(end)),
                (_, 0) => check_request_line(line)?,
                _ => check_field_line(line)?,
            }
            self.lines = self.lines.saturating_add(1);
            check_line_count(usize::from(self.lines), limits)?;
        }
        self.seen = self.seen.max(bytes.len() as u32);
        // What is no HTTP at all, such as a TLS handshake, need not be waited for.
        match bytes.get(self.line as usize) {
            Some(first) if self.lines == 0 && *first != b'\r' && !is_token(&[*first]) => {
                Err(HeadError::Malformed)
            }
            _ => Ok(None),
        }
    }
}

/// The first line is no field.
fn check_line_count(lines: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    let is_over = lines > limits.fields_max.min(FIELDS_MAX) + 1;
    if is_over { Err(HeadError::TooManyFields) } else { Ok(()) }
}

fn check_request_line(line: &[u8]) -> Result<(), HeadError> {
    check_line_end(line)?;
    httparse::Request::new(&mut []).parse(line)?;
    Ok(())
}

fn check_field_line(line: &[u8]) -> Result<(), HeadError> {
    check_line_end(line)?;
    httparse::parse_headers(line, &mut [httparse::EMPTY_HEADER; 1])?;
    Ok(())
}

/// httparse takes a bare LF for the end of a line; two readers could then see different heads.
fn check_line_end(line: &[u8]) -> Result<(), HeadError> {
    if line.ends_with(b"\r\n") { Ok(()) } else { Err(HeadError::Malformed) }
}

/// The same for a whole head.
pub(super) fn check_lines(head: &[u8]) -> Result<(), HeadError> {
    let is_bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    if memchr_iter(b'\n', head).any(is_bare) { Err(HeadError::Malformed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Fields, Request};
    use proptest::prelude::*;

    const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nX: y\r\n\r\n";

    fn scan_bytewise(
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> (usize, Result<Option<usize>, HeadError>) {
        let mut scanner = HeadScanner::default();
        for len in 1..=bytes.len() {
            match scanner.scan(&bytes[..len], limits) {
                Ok(None) => {}
                result => return (len, result),
            }
        }
        (bytes.len(), Ok(None))
    }

    #[test]
    fn a_head_is_found_at_its_last_byte() {
        let limits = HeadLimits::default();
        assert_eq!(HeadScanner::default().scan(HEAD, &limits), Ok(Some(HEAD.len())));
        assert_eq!(scan_bytewise(HEAD, &limits), (HEAD.len(), Ok(Some(HEAD.len()))));
    }

    #[test]
    fn two_empty_lines_before_a_request_are_ignored_and_a_third_is_not() {
        let limits = HeadLimits::default();
        let two = [b"\r\n\r\n", HEAD].concat();
        assert_eq!(HeadScanner::default().scan(&two, &limits), Ok(Some(two.len())));
        assert_eq!(scan_bytewise(&two, &limits).1, Ok(Some(two.len())));
        assert_eq!(scan_bytewise(b"\r\n\r\n\r\n", &limits), (6, Err(HeadError::Malformed)));
    }

    #[test]
    fn a_bad_line_is_noticed_when_it_ends_or_before() {
        let limits = HeadLimits { bytes_max: 40, fields_max: 2 };
        let table: &[(&[u8], usize, HeadError)] = &[
            (b"\x16\x03\x01", 1, HeadError::Malformed),
            (b"GET / HTTP/1.1\nHost", 15, HeadError::Malformed),
            (b"GET / HTTP/2.0\r\nHost", 16, HeadError::Version),
            (b"GET /\r\nHost", 7, HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost a\r\nX", 24, HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost : a\r\nX", 26, HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\nX", 26, HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nA:1\r\nB:2\r\nC:3\r\n\r\n", 31, HeadError::TooManyFields),
            (b"GET /0123456789012345678901234567890123456789", 41, HeadError::TooLong),
        ];
        for (bytes, at, error) in table {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(scan_bytewise(bytes, &limits), (*at, Err(*error)), "{text:?}");
        }
    }

    #[test]
    fn each_call_goes_on_where_the_last_one_ended_however_a_head_is_cut() {
        let head = [&HEAD[..HEAD.len() - 2], &b"A: b\r\n".repeat(50), b"X-Long: ", &[b'x'; 9000]];
        let (head, limits) = (head.concat(), HeadLimits::default());
        for step in [1, 2, 7, 1000] {
            let mut scanner = HeadScanner::default();
            for len in (step..=head.len()).step_by(step) {
                assert_eq!(scanner.scan(&head[..len], &limits), Ok(None));
                assert_eq!(scanner.seen as usize, len);
            }
        }
    }

    #[test]
    fn fewer_bytes_than_before_are_waited_for_again() {
        let limits = HeadLimits::default();
        for before in 1..HEAD.len() {
            for fewer in 0..before {
                let mut scanner = HeadScanner::default();
                assert_eq!(scanner.scan(&HEAD[..before], &limits), Ok(None));
                assert_eq!(scanner.scan(&HEAD[..fewer], &limits), Ok(None));
                assert_eq!(scanner.scan(HEAD, &limits), Ok(Some(HEAD.len())), "{before} {fewer}");
            }
        }
    }

    #[test]
    fn a_head_that_comes_whole_is_held_to_the_limits_as_well() {
        let limits = HeadLimits { bytes_max: 60, fields_max: 2 };
        let scan = |head: &str| HeadScanner::default().scan(head.as_bytes(), &limits);
        assert_eq!(scan("GET / HTTP/1.1\r\nA:1\r\nB:2\r\n\r\n"), Ok(Some(28)));
        let many = scan("GET / HTTP/1.1\r\nA:1\r\nB:2\r\nC:3\r\n\r\n");
        assert_eq!(many, Err(HeadError::TooManyFields));
        let long = format!("GET / HTTP/1.1\r\nA:{}\r\n\r\n", "1".repeat(60));
        assert_eq!(scan(&long), Err(HeadError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_order_of_lengths_never_panic(
            bytes in "(GET / HTTP/1.1|A: b|[\r\n]{1,3}|[ -~]){0,12}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        ) {
            let limits = HeadLimits { bytes_max: 40, fields_max: 4 };
            let mut scanner = HeadScanner::default();
            for cut in cuts {
                let len = cut.index(bytes.len() + 1);
                if let Ok(Some(end)) = scanner.scan(&bytes.as_bytes()[..len], &limits) {
                    prop_assert!(end <= len);
                }
            }
        }

        #[test]
        fn any_cutting_of_the_same_bytes_gives_the_same_end(
            lines in prop::collection::vec("[ -~]{0,12}", 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
            let limits = HeadLimits { bytes_max: 80, fields_max: 4 };
            let expected = scan_bytewise(bytes.as_bytes(), &limits).1;
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut scanner = HeadScanner::default();
            let mut result = Ok(None);
            for cut in cuts {
                result = scanner.scan(&bytes.as_bytes()[..cut], &limits);
                if result != Ok(None) {
                    break;
                }
            }
            if expected.is_ok() {
                prop_assert_eq!(result, expected);
            } else {
                // A head that comes whole has its lines checked when it is parsed.
                let is_refused = match result {
                    Ok(Some(len)) => {
                        Request::parse(&bytes.as_bytes()[..len], &mut Fields::new()).is_err()
                    }
                    Ok(None) => false,
                    Err(_) => true,
                };
                prop_assert!(is_refused);
            }
        }
    }
}
