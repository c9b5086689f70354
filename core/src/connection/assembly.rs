//! What is kept of a frame that has not all arrived, and of a message that lacks fragments.

use super::context::{Context, POOL_ENTRY_BYTES_MAX};
#[cfg(feature = "deflate")]
use super::inflate::Compressed;
use crate::{
    Role,
    error::Violation,
    frame::{Expect, HEADER_BYTES_MAX, Header},
    mask,
    message::{Limits, Message, MessageKind},
    opcode::Opcode,
    utf8,
};

/// The parts of a message so far, and the frame that is arriving.
#[derive(Debug)]
pub(super) struct Assembly {
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    control_len: u8,
    control: [u8; 125],
    frame: Option<FrameState>,
    pub(super) message: Option<MessageKind>,
    fragments: u32,
    message_bytes: u64,
    pub(super) stream: utf8::Stream,
    pub(super) text: String,
    pub(super) binary: Vec<u8>,
    #[cfg(feature = "deflate")]
    pub(super) compressed: Compressed,
}

/// What tells how the frames of a peer are to be read.
pub(super) struct Peer<'p> {
    pub(super) role: Role,
    /// The reserved bits that were agreed on.
    pub(super) reserved_allowed: u8,
    /// What its compressed messages may refer to, in two parts.
    pub(super) window: [&'p [u8]; 2],
}

/// The frame whose payload is arriving.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameState {
    pub(super) opcode: Opcode,
    fin: bool,
    /// Rotated to the next byte to come.
    key: Option<[u8; 4]>,
    remaining: u64,
}

/// How many times what has arrived of a message its buffer may have room for.
const ROOM_MAX: usize = 8;

impl Default for Assembly {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            control_len: 0,
            control: [0; 125],
            frame: None,
            message: None,
            fragments: 0,
            message_bytes: 0,
            stream: utf8::Stream::default(),
            text: String::new(),
            binary: Vec::new(),
            #[cfg(feature = "deflate")]
            compressed: Compressed::default(),
        }
    }
}

impl Assembly {
    pub(super) const fn is_in_message(&self) -> bool {
        self.message.is_some()
    }

    #[cfg(feature = "deflate")]
    pub(super) const fn is_compressed(&self) -> bool {
        self.compressed.is_in_use
    }

    #[cfg(not(feature = "deflate"))]
    pub(super) const fn is_compressed(&self) -> bool {
        false
    }

    /// The payload of its message so far, as it was on the wire: no more than a limit that is a `usize`.
    #[cfg(feature = "deflate")]
    pub(super) const fn message_bytes(&self) -> usize {
        self.message_bytes as usize
    }

    /// Whether it holds nothing, so that it can go back to the pool.
    pub(super) const fn is_idle(&self) -> bool {
        self.message.is_none() && self.frame.is_none() && self.header_len == 0
    }

    pub(super) const fn capacity(&self) -> usize {
        let bytes = size_of::<Self>() + self.text.capacity() + self.binary.capacity();
        #[cfg(feature = "deflate")]
        let bytes = bytes + self.compressed.held.capacity();
        bytes
    }

    pub(super) fn reset(&mut self) {
        self.header_len = 0;
        self.control_len = 0;
        self.frame = None;
        self.message = None;
        self.fragments = 0;
        self.message_bytes = 0;
        self.stream = utf8::Stream::default();
        self.text.clear();
        self.binary.clear();
        #[cfg(feature = "deflate")]
        self.compressed.reset();
    }

    /// Takes frames off `input` up to and with the next control frame or the last fragment of a
    /// message, whichever ends first; `None` when the input ends before.
    pub(super) fn advance(
        &mut self,
        input: &mut &mut [u8],
        peer: &Peer<'_>,
        context: &mut Context,
    ) -> Result<Option<FrameState>, Violation> {
        loop {
            if self.frame.is_none() {
                if input.is_empty() {
                    return Ok(None);
                }
                let expect = peer.expect(self.is_in_message());
                let Some(header) = self.take_header(input, expect)? else { return Ok(None) };
                self.begin(header, &context.limits)?;
            }
            match self.take_payload(input, peer, context)? {
                Some(frame) if frame.fin => return Ok(Some(frame)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Decodes a header that may have begun in an earlier input, taking it off `input`.
    fn take_header(
        &mut self,
        input: &mut &mut [u8],
        expect: Expect,
    ) -> Result<Option<Header>, Violation> {
        let held = usize::from(self.header_len);
        if held == 0
            && let Some((header, len)) = Header::decode(input, expect)?
        {
            skip(input, len);
            return Ok(Some(header));
        }
        let added = input.len().min(HEADER_BYTES_MAX - held);
        self.header[held..held + added].copy_from_slice(&input[..added]);
        match Header::decode(&self.header[..held + added], expect)? {
            Some((header, len)) => {
                self.header_len = 0;
                skip(input, len - held);
                Ok(Some(header))
            }
            None => {
                self.header_len = (held + added) as u8;
                skip(input, added);
                Ok(None)
            }
        }
    }

    /// Begins the frame of `header`, refusing from the header alone what would pass a limit.
    fn begin(&mut self, header: Header, limits: &Limits) -> Result<(), Violation> {
        match header.opcode {
            Opcode::Text => self.message = Some(MessageKind::Text),
            Opcode::Binary => self.message = Some(MessageKind::Binary),
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control_len = 0,
            Opcode::Continuation => {}
        }
        if !header.opcode.is_control() {
            self.fragments = self.fragments.saturating_add(1);
            if self.fragments > limits.fragments_max.max(1) {
                return Err(Violation::TooManyFragments);
            }
            #[cfg(feature = "deflate")]
            if header.reserved != 0 {
                self.compressed.is_in_use = true;
            }
            self.message_bytes = self.message_bytes.saturating_add(header.payload_len);
            if self.message_bytes > payload_bytes_max(limits, self.is_compressed()) {
                return Err(Violation::MessageTooBig);
            }
        }
        self.frame = Some(FrameState {
            opcode: header.opcode,
            fin: header.fin,
            key: header.mask,
            remaining: header.payload_len,
        });
        Ok(())
    }

    /// Takes what `input` has of the frame under way; returns the frame when it is complete.
    fn take_payload(
        &mut self,
        input: &mut &mut [u8],
        peer: &Peer<'_>,
        context: &mut Context,
    ) -> Result<Option<FrameState>, Violation> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let len = usize::try_from(frame.remaining).unwrap_or(usize::MAX).min(input.len());
        let chunk = input.split_off_mut(..len).unwrap_or_default();
        if let Some(key) = &mut frame.key {
            mask::apply(chunk, *key);
            *key = mask::rotate(*key, len);
        }
        frame.remaining -= len as u64;
        let frame = *frame;
        if frame.opcode.is_control() {
            let held = usize::from(self.control_len);
            self.control[held..held + len].copy_from_slice(chunk);
            self.control_len += len as u8;
        } else {
            self.take_data(chunk, frame, peer.window, context)?;
        }
        if frame.remaining > 0 {
            return Ok(None);
        }
        if frame.fin && !frame.opcode.is_control() {
            self.finish()?;
        }
        self.frame = None;
        Ok(Some(frame))
    }

    /// Takes what came of a message.
    #[inline]
    fn take_data(
        &mut self,
        chunk: &[u8],
        frame: FrameState,
        _window: [&[u8]; 2],
        context: &mut Context,
    ) -> Result<(), Violation> {
        #[cfg(feature = "deflate")]
        if self.is_compressed() {
            let is_last = frame.fin && frame.remaining == 0;
            return self.take_compressed(chunk, is_last, _window, context);
        }
        self.append(chunk, frame.remaining, context)
    }

    /// Appends to the message, of whose frame `remaining` bytes have not come.
    pub(super) fn append(
        &mut self,
        chunk: &[u8],
        remaining: u64,
        context: &mut Context,
    ) -> Result<(), Violation> {
        let bytes_max = context.limits.message_bytes_max;
        if self.message == Some(MessageKind::Text) {
            let held = self.text.len() + self.stream.begun_len();
            let room = Room::new(held, self.text.capacity(), chunk.len(), remaining, bytes_max);
            if let Some(room) = room {
                match room.used_buffer(context).map(String::from_utf8) {
                    Some(Ok(mut text)) => {
                        text.push_str(&self.text);
                        context.keep_large(std::mem::replace(&mut self.text, text).into_bytes());
                    }
                    _ => self.text.reserve_exact(room.bytes - self.text.len()),
                }
            }
            self.stream.push(chunk, &mut self.text).map_err(|_| Violation::TextNotUtf8)?;
        } else {
            let (held, capacity) = (self.binary.len(), self.binary.capacity());
            let room = Room::new(held, capacity, chunk.len(), remaining, bytes_max);
            if let Some(room) = room {
                match room.used_buffer(context) {
                    Some(mut binary) => {
                        binary.extend_from_slice(&self.binary);
                        context.keep_large(std::mem::replace(&mut self.binary, binary));
                    }
                    None => self.binary.reserve_exact(room.bytes - self.binary.len()),
                }
            }
            self.binary.extend_from_slice(chunk);
        }
        Ok(())
    }

    /// Ends the message.
    pub(super) fn finish(&mut self) -> Result<(), Violation> {
        if self.message == Some(MessageKind::Text) {
            self.stream.finish().map_err(|_| Violation::TextNotUtf8)?;
        }
        Ok(())
    }

    /// The buffers of its message, which it loses.
    pub(super) fn take_buffers(&mut self) -> [Vec<u8>; 3] {
        #[cfg(feature = "deflate")]
        let held = std::mem::take(&mut self.compressed.held);
        #[cfg(not(feature = "deflate"))]
        let held = Vec::new();
        [std::mem::take(&mut self.text).into_bytes(), std::mem::take(&mut self.binary), held]
    }

    /// The payload of the control frame that was just completed.
    pub(super) fn control(&self) -> &[u8] {
        &self.control[..usize::from(self.control_len)]
    }

    /// The message, once its last fragment is there.
    pub(super) fn message(&self) -> Message<'_> {
        match self.message {
            Some(MessageKind::Text) => Message::Text(&self.text),
            _ => Message::Binary(&self.binary),
        }
    }
}

impl Peer<'_> {
    /// What its next header has to be, with or without a message under way.
    const fn expect(&self, continuation: bool) -> Expect {
        let reserved_allowed = self.reserved_allowed;
        Expect { reserved_allowed, ..Expect::from_peer_of(self.role, continuation) }
    }
}

/// How long the payload of a message may be: compressed it may be longer than the message, by a header a block.
pub(super) const fn payload_bytes_max(limits: &Limits, is_compressed: bool) -> u64 {
    let bytes = limits.message_bytes_max as u64;
    if is_compressed { bytes.saturating_add(bytes / 8 + 64) } else { bytes }
}

/// What a message needs that becomes too large for a buffer that is pooled with its assembly.
struct Room {
    /// What its frame has announced, but no more than what has arrived vouches for.
    least: usize,
    /// At least twice what it had, if it grows, or all that a message may have: so that it does in few steps.
    bytes: usize,
    most: usize,
}

impl Room {
    /// `None` if the buffer is large enough, or small.
    fn new(
        held: usize,
        capacity: usize,
        more: usize,
        remaining: u64,
        bytes_max: usize,
    ) -> Option<Self> {
        let arrived = held + more;
        if arrived <= capacity.max(POOL_ENTRY_BYTES_MAX) {
            return None;
        }
        let remaining = usize::try_from(remaining).unwrap_or(usize::MAX);
        let most = arrived.saturating_mul(ROOM_MAX);
        let least = arrived.saturating_add(remaining).min(most);
        Some(Self { least, bytes: least.max(bytes_max.min(2 * capacity)), most })
    }

    fn used_buffer(&self, context: &mut Context) -> Option<Vec<u8>> {
        context.take_large(self.least..=self.most)
    }
}

fn skip(input: &mut &mut [u8], len: usize) {
    *input = &mut std::mem::take(input)[len..];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_fragments_never_wraps() {
        let limits = Limits { fragments_max: u32::MAX, ..Limits::default() };
        let message = Some(MessageKind::Binary);
        let mut assembly = Assembly { message, fragments: u32::MAX, ..Assembly::default() };
        let mut bytes = *b"\x00\x01x";
        let mut context = Context::new(limits, [0; 32]);
        let peer = Peer { role: Role::Client, reserved_allowed: 0, window: [&[]; 2] };
        let advanced = assembly.advance(&mut &mut bytes[..], &peer, &mut context);
        assert!(matches!(advanced, Ok(None)), "{advanced:?}");
        assert_eq!((assembly.fragments, &assembly.binary[..]), (u32::MAX, &b"x"[..]));
    }
}
