//! One stream that decompresses.

use super::{WindowBits, compress::TAIL};
use crate::error::Violation;
use std::fmt;
use zlib_rs::{Inflate, InflateFlush, Status};

/// Behind the tail, a block that ends the stream: a message that stopped inside a block does not get that far.
const END: [u8; 9] = {
    let [a, b, c, d] = TAIL;
    [a, b, c, d, 0x01, a, b, c, d]
};

/// How many blocks of a message may say that they are the last: each may cost a copy of the window.
const LAST_BLOCKS_MAX: u16 = 256;

/// Where inflated bytes go.
pub(crate) trait Output {
    /// One byte more than it takes, so that it can tell that there are more.
    fn room(&self) -> usize;

    /// Takes what was inflated.
    fn write(&mut self, inflated: &[u8]) -> Result<(), Violation>;

    /// What it took of this message, in two parts.
    fn written(&self) -> [&[u8]; 2];
}

/// A decompressor, for messages of any connection.
pub(crate) struct Inflater {
    inflate: Inflate,
    at: At,
    last_blocks: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing came since it began.
    Start,
    Inside,
    /// Behind a block that says that it is the last (BFINAL).
    End,
}

impl Inflater {
    /// About how many bytes one takes: a window, and tables of codes.
    pub(crate) const BYTES: usize = 48 << 10;

    pub(super) fn new() -> Self {
        let inflate = Inflate::new(false, WindowBits::MAX.get());
        Self { inflate, at: At::Start, last_blocks: 0 }
    }

    /// Begins a message, with what came before it.
    pub(crate) fn begin(&mut self, window: [&[u8]; 2]) -> Result<(), Violation> {
        self.last_blocks = 0;
        self.restart(&window)
    }

    /// Inflates a piece of the message that began with `window`.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        window: [&[u8]; 2],
        scratch: &mut [u8],
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        let mut is_full = false;
        while !input.is_empty() || is_full {
            if self.at == At::End {
                // The blocks behind it follow as if it had not said so (RFC 7692, section 7.2.3.4).
                self.last_blocks += 1;
                if self.last_blocks > LAST_BLOCKS_MAX {
                    return Err(Violation::DeflateInvalid);
                }
                let ([a, b], [c, d]) = (window, out.written());
                self.restart(&[a, b, c, d])?;
            }
            self.at = At::Inside;
            let end = scratch.len().min(out.room());
            let room = &mut scratch[..end];
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, room, InflateFlush::SyncFlush);
            input = &input[(self.inflate.total_in() - taken) as usize..];
            let made = (self.inflate.total_out() - made) as usize;
            is_full = made == room.len();
            out.write(&room[..made])?;
            match status {
                Ok(Status::StreamEnd) => (self.at, is_full) = (At::End, false),
                Ok(Status::Ok) => {}
                Ok(Status::BufError) if input.is_empty() => {}
                Ok(Status::BufError) | Err(_) => return Err(Violation::DeflateInvalid),
            }
        }
        Ok(())
    }

    /// Ends the message.
    ///
    /// One that ends with a last block, or has no bytes at all, lacks the byte that section 7.2.3.4 and
    /// 7.2.3.6 ask for: it is taken, as it can mean nothing else.
    pub(crate) fn finish(
        &mut self,
        window: [&[u8]; 2],
        scratch: &mut [u8],
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        if self.at != At::Inside {
            return Ok(());
        }
        let room = out.room();
        self.push(&END, window, scratch, out)?;
        // Bytes that were made of it are missing in a block before it.
        let is_whole = self.at == At::End && out.room() == room;
        if is_whole { Ok(()) } else { Err(Violation::DeflateInvalid) }
    }

    /// A new stream behind these bytes, of which it needs the last 32 KiB.
    fn restart(&mut self, before: &[&[u8]]) -> Result<(), Violation> {
        self.inflate.reset(false);
        self.at = At::Start;
        let mut behind: usize = before.iter().map(|part| part.len()).sum();
        for part in before {
            behind -= part.len();
            let needed = WindowBits::MAX.bytes().saturating_sub(behind).min(part.len());
            if needed > 0 {
                let dictionary = &part[part.len() - needed..];
                self.inflate.set_dictionary(dictionary).map_err(|_| Violation::DeflateInvalid)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}
