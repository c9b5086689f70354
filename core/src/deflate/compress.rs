//! One stream that compresses.

use super::WindowBits;
use std::fmt;
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Method, Strategy};

/// What a flush ends with, and what is left out at the end of a message (RFC 7692, section 7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// How much memory zlib takes for symbols: 8 is its default.
const MEM_LEVEL: i32 = 8;
/// The least that is made room for at once.
const OUTPUT_BYTES_MIN: usize = 4 << 10;

/// A compressor, for messages of any connection with its window.
pub(super) struct Compressor {
    deflate: Deflate,
    bits: WindowBits,
    /// The window whose bytes it has seen, all of them and nothing else: 0 for none.
    pub(super) seen: u64,
}

impl Compressor {
    pub(super) fn new(level: u8, bits: WindowBits) -> Self {
        let config = DeflateConfig {
            level: i32::from(level),
            method: Method::Deflated,
            // Negative: without a header.
            window_bits: -i32::from(bits.get()),
            mem_level: MEM_LEVEL,
            strategy: Strategy::Default,
        };
        Self { deflate: Deflate::new_with_config(config), bits, seen: 0 }
    }

    /// About how many bytes one takes: hash chains, twice the window and its links, symbols.
    pub(super) const fn bytes(bits: WindowBits) -> usize {
        (244 << 10) + 4 * bits.bytes()
    }

    pub(super) const fn bits(&self) -> WindowBits {
        self.bits
    }

    /// Begins anew, with what was sent before.
    pub(super) fn begin(&mut self, window: [&[u8]; 2]) {
        self.seen = 0;
        self.deflate.reset();
        for part in window.into_iter().filter(|part| !part.is_empty()) {
            if self.deflate.set_dictionary(part).is_err() {
                // Without it the result is longer, and as right.
                return self.deflate.reset();
            }
        }
    }

    /// Compresses `input`, which is not empty, up to a flush; returns the length in `out`, the tail included.
    ///
    /// It goes on to the flush even if the result is longer than the input: what zlib-rs (0.6.8) makes after a
    /// reset in the middle of a block may be no deflate. `None` if the stream is of no use any more.
    pub(super) fn compress(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut len = 0;
        loop {
            if len == out.len() {
                out.resize((2 * len).max(OUTPUT_BYTES_MIN), 0);
            }
            let (taken, made) = (self.deflate.total_in(), self.deflate.total_out());
            self.deflate.compress(input, &mut out[len..], DeflateFlush::SyncFlush).ok()?;
            input = &input[(self.deflate.total_in() - taken) as usize..];
            len += (self.deflate.total_out() - made) as usize;
            // Room that is left says that nothing is left to be flushed.
            if len < out.len() {
                return (input.is_empty() && out[..len].ends_with(&TAIL)).then_some(len);
            }
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("bits", &self.bits).finish_non_exhaustive()
    }
}
