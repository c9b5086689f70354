//! Compression of a connection (RFC 7692, section 7.2): what is agreed on, and the sending half.

use super::{Connection, Context, SendError};
use crate::{
    Role,
    deflate::{Compress, Parameters, Policy, Takeover, WindowBits},
    frame::{self, Header, RSV1},
    message::Message,
    opcode::Opcode,
};

/// What a flush ends with; at the end of a message it is left out (section 7.2.1).
const TAIL_BYTES: usize = 4;
/// The most bytes of a block that is not compressed (RFC 1951, section 3.2.4).
const STORED_BYTES_MAX: usize = 0xffff;
/// The first byte of an empty block whose rest is the tail (section 7.2.3.6).
const EMPTY_BLOCK: u8 = 0x00;

impl Connection {
    /// A connection whose opening handshake is done, with what was agreed on there: by
    /// [`Upgrade::negotiate_deflate`](crate::handshake::Upgrade::negotiate_deflate) or
    /// [`ClientRequest::check_deflate`](crate::handshake::ClientRequest::check_deflate).
    ///
    /// If the peer may refer to its earlier messages, room for them is reserved in the context's budget
    /// until the connection is dropped. What is sent keeps to the window of the context's own [`Policy`], if the
    /// peer allows a larger one. A connection stays with the context that it was made with.
    pub fn with_deflate(role: Role, parameters: &Parameters, context: &Context) -> Self {
        let (mut send, receive) = parameters.directions(role);
        if let Policy::Takeover { window_bits, .. } = context.streams.settings.policy {
            // Less than the peer allows is always right (RFC 7692, section 7.1.2), and is what we have room for.
            send.window_bits = send.window_bits.min(window_bits);
        }
        let mut connection = Self::new(role);
        connection.deflate = Some(send.window_bits);
        if let Some(takeover) = Takeover::new(send, receive, &context.streams.budget) {
            connection.rare.get_or_insert_default().takeover = Some(takeover);
        }
        connection
    }

    /// Appends a message to `out` as one frame, and says whether to compress it.
    ///
    /// # Errors
    /// [`SendError::Closed`], [`SendError::InFragments`].
    pub fn send_with(
        &mut self,
        message: Message<'_>,
        compress: Compress,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.check_between_messages()?;
        self.append_message(message, compress, context, out);
        Ok(())
    }

    /// The window within which a message that is compressed for many has to be, so that this
    /// peer can read it: see [`Context::append_compressed`]. `None` if it has to be sent plain.
    #[inline]
    pub const fn compressed_window(&self) -> Option<WindowBits> {
        self.deflate
    }

    /// Has to be called when a frame of [`Context::append_compressed`] was sent, before anything else is:
    /// our next message must not refer to what came before that.
    #[inline]
    pub fn sent_compressed(&mut self) {
        if let Some(sent) = self.takeover_mut().and_then(|takeover| takeover.sent.as_mut()) {
            sent.forget();
        }
    }

    /// Gives back the window of what was compressed so far, which is memory only with context takeover. The next
    /// message refers to nothing before it, and begins another one. For connections that are idle. What the
    /// peer may refer to is kept: parameters cannot be negotiated again. Returns how many bytes that frees.
    #[inline]
    pub fn trim(&mut self) -> usize {
        let sent = self.takeover_mut().and_then(|takeover| takeover.sent.take());
        sent.map_or(0, |sent| sent.window.capacity())
    }

    /// What compressed messages of the peer may refer to, in two parts.
    pub(super) fn received_window(&self) -> [&[u8]; 2] {
        let takeover = self.rare.as_ref().and_then(|rare| rare.takeover.as_ref());
        let window = takeover.and_then(|takeover| takeover.received.as_ref());
        if let Some(window) = window { window.parts() } else { [&[]; 2] }
    }

    /// Keeps what the peer's next message may refer to.
    pub(super) fn keep_received(&mut self, message: &[u8]) {
        if let Some(window) = self.takeover_mut().and_then(|takeover| takeover.received.as_mut()) {
            window.push(message);
        }
    }

    #[inline]
    fn takeover_mut(&mut self) -> Option<&mut Takeover> {
        self.rare.as_mut()?.takeover.as_mut()
    }

    pub(super) fn append_message(
        &mut self,
        message: Message<'_>,
        compress: Compress,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) {
        let opcode = message.kind().opcode();
        let payload = message.as_bytes();
        let bytes_min = match compress {
            Compress::Auto => context.streams.settings.message_bytes_min.max(1),
            Compress::Yes => 1,
            Compress::No => usize::MAX,
        };
        if payload.len() >= bytes_min
            && let Some(len) = self.compress(payload, context)
        {
            let header = self.header(true, RSV1, opcode, context);
            frame::append(out, header, &context.streams.output()[..len - TAIL_BYTES]);
            context.streams.shrink_output();
        } else {
            self.append(true, opcode, payload, context, out);
        }
    }

    /// Appends a fragment of a message that is compressed; `false` if it is not. That is decided with
    /// its first.
    pub(super) fn append_fragment(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        fin: bool,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_first = opcode != Opcode::Continuation;
        if is_first {
            let bytes_min = context.streams.settings.message_bytes_min;
            self.fragments_compressed = self.deflate.is_some() && payload.len() >= bytes_min;
        }
        if !self.fragments_compressed {
            return false;
        }
        let header = self.header(fin, if is_first { RSV1 } else { 0 }, opcode, context);
        let compressed = if payload.is_empty() { None } else { self.compress(payload, context) };
        if let Some(len) = compressed {
            // The flush between two fragments is what makes the first end with a byte.
            let len = if fin { len - TAIL_BYTES } else { len };
            frame::append(out, header, &context.streams.output()[..len]);
            context.streams.shrink_output();
        } else {
            frame::append(out, header, &self.store(payload, fin));
        }
        true
    }

    /// Compresses what is not empty; `None` if it does not become shorter.
    fn compress(&mut self, payload: &[u8], context: &mut Context) -> Option<usize> {
        let bits = self.deflate?;
        let streams = &mut context.streams;
        let sent =
            self.takeover_mut().and_then(|takeover| takeover.sent(bits, &mut streams.budget));
        streams.compress(payload, bits, sent)
    }

    /// Blocks that are not compressed: what does not become shorter has to be in some, once the fragments before
    /// it were compressed.
    fn store(&mut self, payload: &[u8], fin: bool) -> Vec<u8> {
        // The peer's window has it, ours has not.
        self.sent_compressed();
        let mut blocks = Vec::with_capacity(payload.len() + 8);
        for block in payload.chunks(STORED_BYTES_MAX) {
            let len = block.len() as u16;
            blocks.push(0);
            blocks.extend_from_slice(&len.to_le_bytes());
            blocks.extend_from_slice(&(!len).to_le_bytes());
            blocks.extend_from_slice(block);
        }
        if fin {
            blocks.push(EMPTY_BLOCK);
        }
        blocks
    }

    fn header(&self, fin: bool, reserved: u8, opcode: Opcode, context: &mut Context) -> Header {
        Header { fin, reserved, opcode, mask: self.next_mask(context), payload_len: 0 }
    }
}

impl Context {
    /// Compresses a message once, for any number of connections: appends the frame that servers send of it
    /// (clients mask each of theirs by itself) to `out`. `false` if it is too short, as
    /// [`Settings::message_bytes_min`](crate::deflate::Settings::message_bytes_min) says, or does not become
    /// shorter: then nothing is appended, and it is to be sent plain.
    ///
    /// It is for connections whose [`Connection::compressed_window`] is `window_bits` or more, and
    /// [`Connection::sent_compressed`] has to be called for each that it was sent to. Any
    /// connection may be sent the plain frame instead.
    ///
    /// ```
    /// use quelea_core::{
    ///     Connection, Context, Event, Limits, Message, Received, Role,
    ///     deflate::{Parameters, Policy, Settings, WindowBits},
    /// };
    /// let mut context = Context::new(Limits::default(), [0; 32])
    ///     .with_deflate(Settings::new(Policy::Shared));
    /// let news = "all the same ".repeat(50);
    /// let mut frame = Vec::new();
    /// assert!(context.append_compressed(Message::Text(&news), WindowBits::MAX, &mut frame));
    /// assert!(frame.len() < 50);
    ///
    /// let agreed = Parameters::default();
    /// for _ in 0..3 {
    ///     let mut server = Connection::with_deflate(Role::Server, &agreed, &context);
    ///     assert_eq!(server.compressed_window(), Some(WindowBits::MAX));
    ///     let mut wire = frame.clone();
    ///     server.sent_compressed();
    ///     let mut client = Connection::with_deflate(Role::Client, &agreed, &context);
    ///     let mut received = Received::new(&mut wire);
    ///     let event = client.poll_event(&mut received, &mut context, &mut Vec::new())?;
    ///     assert_eq!(event, Some(Event::Message(Message::Text(&news))));
    /// }
    /// # Ok::<(), quelea_core::Violation>(())
    /// ```
    pub fn append_compressed(
        &mut self,
        message: Message<'_>,
        window_bits: WindowBits,
        out: &mut Vec<u8>,
    ) -> bool {
        let payload = message.as_bytes();
        if payload.len() < self.streams.settings.message_bytes_min.max(1) {
            return false;
        }
        let Some(len) = self.streams.compress(payload, window_bits, None) else { return false };
        let opcode = message.kind().opcode();
        let header = Header { fin: true, reserved: RSV1, opcode, mask: None, payload_len: 0 };
        frame::append(out, header, &self.streams.output()[..len - TAIL_BYTES]);
        self.streams.shrink_output();
        true
    }

    /// How messages are compressed.
    pub const fn deflate(&self) -> &crate::deflate::Settings {
        &self.streams.settings
    }

    /// Whether the budget has room for a window of this size.
    pub(crate) fn has_room_for_window(&self, bits: WindowBits) -> bool {
        self.streams.budget.has_room(bits.bytes())
    }

    /// Bytes of the budget that the windows of connections have reserved.
    pub fn windows_bytes(&self) -> usize {
        self.streams.budget.used()
    }
}
