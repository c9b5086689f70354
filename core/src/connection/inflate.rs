//! The receiving half of compression (RFC 7692, section 7.2.2).

use super::{
    assembly::Assembly,
    context::{Context, POOL_ENTRY_BYTES_MAX},
};
use crate::{
    deflate::{Inflater, Output},
    error::Violation,
    message::{Limits, MessageKind},
};

/// What is kept of a message for its compression.
#[derive(Debug, Default)]
pub(super) struct Compressed {
    /// The message under way is compressed.
    pub(super) is_in_use: bool,
    /// What came of it, as it came, as long as it is not inflated.
    pub(super) held: Vec<u8>,
    /// What inflates it as it comes.
    inflater: Option<Box<Inflater>>,
}

impl Compressed {
    pub(super) fn reset(&mut self) {
        self.is_in_use = false;
        self.held.clear();
    }
}

/// How much of a message is kept before it is inflated as it comes: an eighth of what it may take from then on, which
/// is its inflater and a buffer.
fn held_bytes_max(limits: &Limits) -> usize {
    limits.message_bytes_max.max(POOL_ENTRY_BYTES_MAX).saturating_add(Inflater::BYTES) / 8
}

impl Assembly {
    /// A compressed message that is there as a whole.
    pub(super) fn take_whole_compressed(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        window: [&[u8]; 2],
        context: &mut Context,
    ) -> Result<(), Violation> {
        self.message = Some(kind);
        self.compressed.is_in_use = true;
        self.take_compressed(payload, true, window, context)?;
        self.finish()
    }

    /// Takes what came of a compressed message whose peer has `window` before it.
    pub(super) fn take_compressed(
        &mut self,
        chunk: &[u8],
        is_last: bool,
        window: [&[u8]; 2],
        context: &mut Context,
    ) -> Result<(), Violation> {
        let inflater = self.take_inflater();
        let arrived = self.compressed.held.len() + chunk.len();
        if inflater.is_none() && !is_last && arrived <= held_bytes_max(&context.limits) {
            self.compressed.held.extend_from_slice(chunk);
            return Ok(());
        }
        let (is_new, mut inflater) = match inflater {
            Some(inflater) => (false, inflater),
            None => (true, context.streams.take_inflater()),
        };
        let mut scratch = context.streams.take_scratch();
        let held = std::mem::take(&mut self.compressed.held);
        let result = (|| {
            if is_new {
                inflater.begin(window)?;
            }
            let mut into = Into { assembly: self, context };
            inflater.push(&held, window, &mut scratch, &mut into)?;
            inflater.push(chunk, window, &mut scratch, &mut into)?;
            if is_last { inflater.finish(window, &mut scratch, &mut into) } else { Ok(()) }
        })();
        context.streams.keep_scratch(scratch);
        if !is_last || held.capacity() > POOL_ENTRY_BYTES_MAX {
            // If it is small it is freed: it is not needed while the rest comes.
            context.keep_large(held);
        } else {
            self.compressed.held = held;
            self.compressed.held.clear();
        }
        if is_last || result.is_err() {
            context.streams.keep_inflater(inflater);
        } else {
            self.compressed.inflater = Some(inflater);
        }
        result
    }

    /// What its inflater takes.
    #[cfg(test)]
    pub(super) const fn inflater_bytes(&self) -> usize {
        if self.compressed.inflater.is_some() { Inflater::BYTES } else { 0 }
    }

    pub(super) fn take_inflater(&mut self) -> Option<Box<Inflater>> {
        self.compressed.inflater.take()
    }
}

/// The message of an assembly, that grows.
struct Into<'a> {
    assembly: &'a mut Assembly,
    context: &'a mut Context,
}

impl Into<'_> {
    fn len(&self) -> usize {
        self.written().iter().map(|part| part.len()).sum()
    }
}

impl Output for Into<'_> {
    fn room(&self) -> usize {
        (self.context.limits.message_bytes_max - self.len()).saturating_add(1)
    }

    fn write(&mut self, inflated: &[u8]) -> Result<(), Violation> {
        if inflated.len() > self.context.limits.message_bytes_max - self.len() {
            return Err(Violation::MessageTooBig);
        }
        self.assembly.append(inflated, 0, self.context)
    }

    fn written(&self) -> [&[u8]; 2] {
        match self.assembly.message {
            Some(MessageKind::Text) => {
                [self.assembly.text.as_bytes(), self.assembly.stream.begun()]
            }
            _ => [&self.assembly.binary, &[]],
        }
    }
}
