//! What the connections of one worker share.

use super::assembly::Assembly;
use crate::message::Limits;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// The limits, the reusable buffers and the masking keys of any number of connections that run on
/// one thread.
#[derive(Debug)]
pub struct Context {
    pub(super) limits: Limits,
    mask_keys: ChaCha8Rng,
    #[expect(clippy::vec_box, reason = "the boxes themselves move into connections and back")]
    pool: Vec<Box<Assembly>>,
    pool_bytes: usize,
}

/// What the pool may keep for the next partial frame or fragmented message.
const POOL_BYTES_MAX: usize = 4 << 20;
const POOL_ENTRIES_MAX: usize = 256;
/// A larger buffer is given back: the next to borrow it may hold it for a single byte.
const POOL_ENTRY_BYTES_MAX: usize = 64 << 10;

impl Context {
    /// A context with these limits.
    ///
    /// `seed` feeds the masking keys of the client role: it has to come from a strong source of
    /// entropy, since keys must not be predictable (RFC 6455, sections 5.3 and 10.3). Servers do
    /// not mask, and may pass zeros.
    pub fn new(limits: Limits, seed: [u8; 32]) -> Self {
        let mask_keys = ChaCha8Rng::from_seed(seed);
        Self { limits, mask_keys, pool: Vec::new(), pool_bytes: 0 }
    }

    /// The limits that received messages are held to.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Gives back the memory that is kept for reuse: for a time of quiet.
    pub fn trim(&mut self) {
        self.pool = Vec::new();
        self.pool_bytes = 0;
    }

    /// Bytes kept for reuse: at most 4 MiB and a little.
    pub const fn pooled_bytes(&self) -> usize {
        self.pool_bytes
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
        assembly.reset();
        let bytes = self.pool_bytes + assembly.capacity();
        if assembly.capacity() <= POOL_ENTRY_BYTES_MAX
            && bytes <= POOL_BYTES_MAX
            && self.pool.len() < POOL_ENTRIES_MAX
        {
            self.pool_bytes = bytes;
            self.pool.push(assembly);
        }
    }
}
