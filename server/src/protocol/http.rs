//! Collecting request heads: in place when one comes whole, in a buffer when it does not.

use crate::{address::PeerAddress, admission::Refusal};
use quelea_core::http::{HeadError, HeadLimits, HeadScanner};

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    pub(crate) peer: PeerAddress,
    /// The first request is answered with a refusal.
    pub(crate) refusal: Option<Refusal>,
    head: Vec<u8>,
    scanner: HeadScanner,
}

/// A request head, and where in the input the bytes after it begin.
#[derive(Debug)]
pub(crate) struct Head<'i> {
    input: &'i [u8],
    buffered: Vec<u8>,
    pub(crate) rest: usize,
}

impl Head<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.buffered.is_empty() { &self.input[..self.rest] } else { &self.buffered }
    }
}

impl HttpConnection {
    pub(crate) fn new(peer: PeerAddress, refusal: Option<Refusal>) -> Self {
        Self { peer, refusal, head: Vec::new(), scanner: HeadScanner::default() }
    }

    /// Whether part of a head came.
    pub(crate) const fn is_inside_head(&self) -> bool {
        !self.head.is_empty()
    }

    /// The next head; `None` when all of `input` is kept for it and more has to come.
    ///
    /// At most `limits.bytes_max` bytes and one are kept, and none is looked at twice.
    pub(crate) fn receive<'i>(
        &mut self,
        input: &'i [u8],
        limits: &HeadLimits,
    ) -> Result<Option<Head<'i>>, HeadError> {
        if self.head.is_empty() {
            if let Some(rest) = self.scanner.scan(input, limits)? {
                self.scanner = HeadScanner::default();
                return Ok(Some(Head { input, buffered: Vec::new(), rest }));
            }
            self.head.extend_from_slice(input);
            return Ok(None);
        }
        let before = self.head.len();
        let room = (limits.bytes_max + 1).saturating_sub(before);
        let more = &input[..room.min(input.len())];
        self.reserve(more.len(), limits.bytes_max + 1);
        self.head.extend_from_slice(more);
        let Some(len) = self.scanner.scan(&self.head, limits)? else { return Ok(None) };
        self.scanner = HeadScanner::default();
        let mut buffered = std::mem::take(&mut self.head);
        buffered.truncate(len);
        Ok(Some(Head { input, buffered, rest: len - before }))
    }

    /// Makes room by doubling, as a vector does, but not for more than may ever be kept.
    fn reserve(&mut self, more: usize, bytes_max: usize) {
        let needed = self.head.len() + more;
        if needed > self.head.capacity() {
            let capacity = needed.max(bytes_max.min(2 * self.head.capacity()));
            self.head.reserve_exact(capacity - self.head.len());
        }
    }
}
