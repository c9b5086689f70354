//! What the connections of one worker share.

use super::assembly::Assembly;
#[cfg(feature = "deflate")]
use crate::deflate::{Settings, Streams};
use crate::message::Limits;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{collections::VecDeque, ops::RangeInclusive};

/// The limits, the reusable buffers and the masking keys of any number of connections that run on
/// one thread.
#[derive(Debug)]
pub struct Context {
    pub(super) limits: Limits,
    mask_keys: ChaCha8Rng,
    #[expect(clippy::vec_box, reason = "the boxes themselves move into connections and back")]
    pool: Vec<Box<Assembly>>,
    /// Buffers of messages beyond [`POOL_ENTRY_BYTES_MAX`], empty; the oldest first.
    large: VecDeque<Vec<u8>>,
    pool_bytes: usize,
    large_bytes: usize,
    /// The fewest that `large` had since [`Context::trim_unused`]: as many were not needed.
    large_unused: usize,
    #[cfg(feature = "deflate")]
    pub(super) streams: Streams,
    /// The payload of the compressed message that came last, as it was on the wire.
    #[cfg(feature = "deflate")]
    pub(super) compressed_bytes: usize,
}

/// What the pool may keep for the next partial frame or fragmented message.
const POOL_BYTES_MAX: usize = 4 << 20;
const POOL_ENTRIES_MAX: usize = 256;
/// A larger buffer is kept apart: the next to borrow this one may hold it for a single byte.
pub(super) const POOL_ENTRY_BYTES_MAX: usize = 64 << 10;
/// What may be kept of larger ones: new memory for each large message would cost more than the rest of it.
const LARGE_BYTES_MAX: usize = 16 << 20;
const LARGE_ENTRIES_MAX: usize = 128;

impl Context {
    /// A context with these limits.
    ///
    /// `seed` feeds the masking keys of the client role: it has to come from a strong source of
    /// entropy, since keys must not be predictable (RFC 6455, sections 5.3 and 10.3). Servers do
    /// not mask, and may pass zeros.
    pub fn new(limits: Limits, seed: [u8; 32]) -> Self {
        let mask_keys = ChaCha8Rng::from_seed(seed);
        let (pool, large) = (Vec::new(), VecDeque::new());
        Self {
            limits,
            mask_keys,
            pool,
            large,
            pool_bytes: 0,
            large_bytes: 0,
            large_unused: 0,
            #[cfg(feature = "deflate")]
            streams: Streams::new(Settings::default()),
            #[cfg(feature = "deflate")]
            compressed_bytes: 0,
        }
    }

    /// The same context with compression, which is off at first: call it before there are connections.
    #[cfg(feature = "deflate")]
    pub fn with_deflate(mut self, settings: Settings) -> Self {
        self.streams = Streams::new(settings);
        self
    }

    /// How many bytes of payload the message of the last event took on the wire, if it was compressed; 0 if it was
    /// not, and when asked again. It is to be asked before the next event is polled for; a message of
    /// [`Connection::poll_message`](crate::Connection::poll_message) never was compressed, and leaves it as it is.
    /// For those who count what peers send: what inflates to nothing costs time as well.
    #[cfg(feature = "deflate")]
    pub const fn take_compressed_bytes(&mut self) -> usize {
        std::mem::replace(&mut self.compressed_bytes, 0)
    }

    /// The limits that received messages are held to.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Gives back the memory that is kept for reuse: for a time of quiet.
    pub fn trim(&mut self) {
        (self.pool, self.large) = (Vec::new(), VecDeque::new());
        (self.pool_bytes, self.large_bytes, self.large_unused) = (0, 0, 0);
        #[cfg(feature = "deflate")]
        self.streams.trim();
    }

    /// Gives back the buffers of large messages that were not needed since it was called last: for once
    /// a second in busy times.
    pub fn trim_unused(&mut self) {
        for buffer in self.large.drain(..self.large_unused.min(self.large.len())) {
            self.large_bytes -= buffer.capacity();
        }
        self.large_unused = self.large.len();
    }

    /// Bytes kept for reuse: at most 20 MiB and a little, and what [`Policy`](crate::deflate::Policy) says.
    pub fn pooled_bytes(&self) -> usize {
        #[cfg(feature = "deflate")]
        return self.pool_bytes + self.large_bytes + self.streams.bytes();
        #[cfg(not(feature = "deflate"))]
        return self.pool_bytes + self.large_bytes;
    }

    pub(super) fn next_mask(&mut self) -> [u8; 4] {
        self.mask_keys.next_u32().to_ne_bytes()
    }

    pub(super) fn take_assembly(&mut self) -> Box<Assembly> {
        let Some(assembly) = self.pool.pop() else { return Box::default() };
        self.pool_bytes -= assembly.capacity();
        assembly
    }

    pub(super) fn recycle(&mut self, mut assembly: Box<Assembly>) {
        #[cfg(feature = "deflate")]
        if let Some(inflater) = assembly.take_inflater() {
            self.streams.keep_inflater(inflater);
        }
        assembly.reset();
        if assembly.capacity() > POOL_ENTRY_BYTES_MAX {
            for buffer in assembly.take_buffers() {
                self.keep_large(buffer);
            }
        }
        let bytes = self.pool_bytes + assembly.capacity();
        if assembly.capacity() <= POOL_ENTRY_BYTES_MAX
            && bytes <= POOL_BYTES_MAX
            && self.pool.len() < POOL_ENTRIES_MAX
        {
            self.pool_bytes = bytes;
            self.pool.push(assembly);
        }
    }

    /// An empty buffer of such a capacity, if there is one.
    pub(super) fn take_large(&mut self, capacity: RangeInclusive<usize>) -> Option<Vec<u8>> {
        let index = self.large.iter().rposition(|buffer| capacity.contains(&buffer.capacity()))?;
        let buffer = self.large.remove(index)?;
        self.large_unused = self.large_unused.min(self.large.len());
        self.large_bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Keeps a buffer for [`Context::take_large`]. The oldest make room for it: or else those of sizes that
    /// nobody needs would be all that is kept.
    pub(super) fn keep_large(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        let bytes = buffer.capacity();
        if bytes <= POOL_ENTRY_BYTES_MAX || bytes > LARGE_BYTES_MAX {
            return;
        }
        while (self.large.len() == LARGE_ENTRIES_MAX || self.large_bytes + bytes > LARGE_BYTES_MAX)
            && let Some(oldest) = self.large.pop_front()
        {
            self.large_bytes -= oldest.capacity();
            self.large_unused = self.large_unused.min(self.large.len());
        }
        self.large_bytes += bytes;
        self.large.push_back(buffer);
    }
}
