//! The sending half: messages in, bytes to send out.

use super::{Connection, Context, ControlPayload, State};
use crate::{
    Role,
    close::{CloseCode, CloseFrame},
    frame::{self, HEADER_BYTES_MAX, Header},
    message::{Message, MessageKind},
    opcode::Opcode,
};
use std::fmt;

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// A close frame was sent, or the connection failed: nothing may follow (section 5.5.1).
    Closed,
    /// A message is being sent in fragments; it has to be finished first (section 5.4).
    InFragments,
    /// The code may not be on the wire (section 7.4).
    CloseCodeInvalid,
    /// The payload of a ping or pong is longer than 125 bytes (section 5.5).
    ControlTooLong,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closing: nothing can be sent after a close frame",
            Self::InFragments => "a fragmented message is being sent: send its last fragment first",
            Self::CloseCodeInvalid => "close codes on the wire are 1000-1003, 1007-1014, 3000-4999",
            Self::ControlTooLong => "a ping or pong payload is at most 125 bytes",
        })
    }
}

impl std::error::Error for SendError {}

impl Connection {
    /// Appends a message to `out` as one frame: compressed, if that is agreed on, and as the context's
    /// settings say.
    ///
    /// # Errors
    /// [`SendError::Closed`], [`SendError::InFragments`].
    #[inline]
    pub fn send(
        &mut self,
        message: Message<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.check_between_messages()?;
        #[cfg(feature = "deflate")]
        if self.deflate.is_some() {
            self.append_message(message, crate::deflate::Compress::Auto, context, out);
            return Ok(());
        }
        self.append(true, message.kind().opcode(), message.as_bytes(), context, out);
        Ok(())
    }

    /// Appends the header alone of a message as one frame, for a sender that hands over the payload from
    /// where it lies, and as it is: it has to follow at once. A client's has to be masked, with the key that is
    /// returned (section 5.3).
    ///
    /// ```
    /// use quelea_core::{Connection, Context, Limits, MessageKind, Role};
    ///
    /// let mut context = Context::new(Limits::default(), [0; 32]);
    /// let mut connection = Connection::new(Role::Server);
    /// let mut header = Vec::new();
    /// let key = connection.send_header(MessageKind::Binary, 300, &mut context, &mut header);
    /// assert_eq!((key, &header[..]), (Ok(None), &[0x82, 126, 1, 44][..]));
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`], [`SendError::InFragments`].
    pub fn send_header(
        &mut self,
        kind: MessageKind,
        payload_len: usize,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<[u8; 4]>, SendError> {
        self.check_between_messages()?;
        let mask = self.next_mask(context);
        let payload_len = payload_len as u64;
        let header = Header { fin: true, reserved: 0, opcode: kind.opcode(), mask, payload_len };
        let mut bytes = [0; HEADER_BYTES_MAX];
        let len = header.encode(&mut bytes);
        out.extend_from_slice(&bytes[..len]);
        Ok(mask)
    }

    /// Appends one fragment of a message (section 5.4); the message ends with the one that has
    /// `fin`. `kind` counts in the first fragment only. The fragments of a text message may be cut
    /// inside a character; that together they are UTF-8 is the caller's promise to the peer. A message whose
    /// first fragment is long enough to be compressed is, if that is agreed on.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn send_fragment(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        fin: bool,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.check_open()?;
        let opcode = if self.fragment_sent { Opcode::Continuation } else { kind.opcode() };
        self.fragment_sent = !fin;
        #[cfg(feature = "deflate")]
        if self.append_fragment(opcode, payload, fin, context, out) {
            return Ok(());
        }
        self.append(fin, opcode, payload, context, out);
        Ok(())
    }

    /// Appends a ping (section 5.5.2).
    ///
    /// # Errors
    /// [`SendError::Closed`], [`SendError::ControlTooLong`].
    pub fn ping(
        &mut self,
        payload: &[u8],
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.send_control(Opcode::Ping, payload, context, out)
    }

    /// Appends a pong that nobody asked for (section 5.5.3): a heartbeat in one direction.
    ///
    /// # Errors
    /// [`SendError::Closed`], [`SendError::ControlTooLong`].
    pub fn pong(
        &mut self,
        payload: &[u8],
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.send_control(Opcode::Pong, payload, context, out)
    }

    /// Begins the closing handshake (section 7.1.2): appends a close frame. What the peer still
    /// sends before its own close frame arrives as events.
    ///
    /// [`CloseCode::NO_STATUS`] sends a frame without a code, which has no room for a reason: the
    /// one that is passed is left out (section 5.5.1). A reason of more than
    /// [`REASON_BYTES_MAX`](crate::close::REASON_BYTES_MAX) bytes is cut between two characters.
    ///
    /// # Errors
    /// [`SendError::Closed`] when one was sent before, [`SendError::CloseCodeInvalid`].
    pub fn close(
        &mut self,
        frame: CloseFrame<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        if frame.code != CloseCode::NO_STATUS && !frame.code.is_allowed_on_wire() {
            return Err(SendError::CloseCodeInvalid);
        }
        self.check_open()?;
        self.append_close(frame, context, out);
        Ok(())
    }

    /// Holds the answers to pings back, for as long as the peer does not read what was sent:
    /// only the latest is kept (section 5.5.3 allows that), so that a flood of pings costs no
    /// memory. Off at first.
    pub fn hold_pongs(&mut self, hold: bool) {
        self.pongs_held = hold;
    }

    /// Appends the pong that was held back, if there is one.
    pub fn flush_pong(&mut self, context: &mut Context, out: &mut Vec<u8>) {
        if let Some(pong) = self.take_pong() {
            self.append(true, Opcode::Pong, pong.as_bytes(), context, out);
        }
    }

    pub(super) fn answer_ping(&mut self, payload: &[u8], context: &mut Context, out: &mut Vec<u8>) {
        if !self.is_open() {
            return;
        }
        if self.pongs_held {
            self.hold_pong(ControlPayload::new(payload));
        } else {
            // A newer pong stands for those before it.
            self.take_pong();
            self.append(true, Opcode::Pong, payload, context, out);
        }
    }

    pub(super) fn append_close(
        &mut self,
        frame: CloseFrame<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) {
        let mut payload = [0; 125];
        let len = frame.encode(&mut payload);
        self.append(true, Opcode::Close, &payload[..len], context, out);
        self.state = State::Closing;
        // Nothing follows it, and nothing is held again.
        self.take_pong();
    }

    fn send_control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.check_open()?;
        if payload.len() > 125 {
            return Err(SendError::ControlTooLong);
        }
        self.append(true, opcode, payload, context, out);
        Ok(())
    }

    #[inline]
    fn check_open(&self) -> Result<(), SendError> {
        if self.is_open() { Ok(()) } else { Err(SendError::Closed) }
    }

    #[inline]
    pub(super) fn check_between_messages(&self) -> Result<(), SendError> {
        self.check_open()?;
        if self.fragment_sent { Err(SendError::InFragments) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn next_mask(&self, context: &mut Context) -> Option<[u8; 4]> {
        match self.role {
            Role::Server => None,
            Role::Client => Some(context.next_mask()),
        }
    }

    #[inline]
    pub(super) fn append(
        &self,
        fin: bool,
        opcode: Opcode,
        payload: &[u8],
        context: &mut Context,
        out: &mut Vec<u8>,
    ) {
        let mask = self.next_mask(context);
        frame::append(out, Header { fin, reserved: 0, opcode, mask, payload_len: 0 }, payload);
    }
}

impl ControlPayload {
    /// Keeps a control payload, which is at most 125 bytes.
    pub(super) fn new(payload: &[u8]) -> Self {
        let mut bytes = [0; 125];
        let len = payload.len().min(bytes.len());
        bytes[..len].copy_from_slice(&payload[..len]);
        Self { len: len as u8, bytes }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
