//! The receiving half: bytes in, events out.

use super::{
    Connection, Context, ControlPayload, State,
    assembly::{Assembly, Peer, payload_bytes_max},
};
use crate::{
    Role,
    close::CloseFrame,
    error::Violation,
    frame::{self, Expect, Header},
    mask,
    message::Message,
    opcode::Opcode,
    utf8,
};

/// Something that a peer sent, borrowed from the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'r> {
    /// A whole message.
    Message(Message<'r>),
    /// A ping; its pong is already in `out`, or held.
    Ping(&'r [u8]),
    /// A pong, asked for or not.
    Pong(&'r [u8]),
    /// The peer's close frame, the last event; the answer is already in `out`.
    Close(CloseFrame<'r>),
}

/// Received bytes on their way through [`Connection::poll_event`], and what its last event borrows.
#[derive(Debug)]
pub struct Received<'i> {
    input: &'i mut [u8],
    held: Held,
    /// What [`Connection::poll_message`] found, for [`Connection::poll_event`] to tell.
    violation: Option<Violation>,
}

#[derive(Debug)]
enum Held {
    Nothing,
    Message(Box<Assembly>),
    Control(ControlPayload),
}

impl<'i> Received<'i> {
    /// Bytes as they came from the transport, in any cutting.
    #[inline]
    pub const fn new(input: &'i mut [u8]) -> Self {
        Self { input, held: Held::Nothing, violation: None }
    }

    /// Whether all of it is taken, so that there is nothing to poll for.
    #[inline]
    pub const fn is_done(&self) -> bool {
        self.input.is_empty() && self.violation.is_none() && !matches!(self.held, Held::Message(_))
    }

    #[cold]
    fn release(&mut self, context: &mut Context) {
        if let Held::Message(assembly) = std::mem::replace(&mut self.held, Held::Nothing) {
            context.recycle(assembly);
        }
    }
}

impl Connection {
    /// The next event of `received`, if it is a message of a client in one frame of at most 125 bytes,
    /// nothing is under way before it, and we sent no close frame yet: most of what servers get. On `None` the
    /// next event is one for [`Connection::poll_event`], which takes these as well, and has to be called before
    /// `received` is dropped, unless that [is done](Received::is_done): it may have a violation to tell. This is
    /// its first part, for loops in which each instruction counts.
    ///
    /// ```
    /// use quelea_core::{Connection, Context, Event, Limits, Message, Received, Role};
    ///
    /// let mut context = Context::new(Limits::default(), [0; 32]);
    /// let mut server = Connection::new(Role::Server);
    /// let mut bytes = *b"\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0";
    /// let mut received = Received::new(&mut bytes);
    /// let message = server.poll_message(&mut received, &context);
    /// assert_eq!(message, Some(Message::Text("hi")));
    /// assert_eq!(server.poll_message(&mut received, &context), None);
    /// let event = server.poll_event(&mut received, &mut context, &mut Vec::new());
    /// assert_eq!(event, Ok(Some(Event::Ping(b""))));
    /// assert!(received.is_done());
    /// ```
    #[inline]
    pub fn poll_message<'i>(
        &mut self,
        received: &mut Received<'i>,
        context: &Context,
    ) -> Option<Message<'i>> {
        if !self.is_open() || self.role != Role::Server || self.assembly.is_some() {
            return None;
        }
        let (is_text, key, payload) =
            frame::take_message(&mut received.input, context.limits.message_bytes_max)?;
        if !is_text {
            mask::apply_short(payload, key);
            return Some(Message::Binary(payload));
        }
        match utf8::unmask(payload, key) {
            Ok(text) => Some(Message::Text(text)),
            Err(_) => {
                received.input = &mut [];
                received.violation = Some(Violation::TextNotUtf8);
                None
            }
        }
    }

    /// The next event of `received`; `None` once all of it is taken.
    ///
    /// Every byte is taken: what is incomplete is kept in the connection, in memory that grows
    /// with what arrived and never with what a header promises. Answers to pings and to the
    /// closing handshake are appended to `out`. After [`Event::Close`] or an error, whatever
    /// else comes is dropped.
    ///
    /// # Errors
    /// The peer broke the protocol: the close frame that says so is in `out` (unless one was sent
    /// before), and the connection [is finished](Connection::is_finished).
    #[inline]
    pub fn poll_event<'r>(
        &mut self,
        received: &'r mut Received<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'r>>, Violation> {
        #[cfg(feature = "deflate")]
        {
            context.compressed_bytes = 0;
        }
        if let Some(message) = self.poll_message(received, context) {
            return Ok(Some(Event::Message(message)));
        }
        self.poll_any(received, context, out)
    }

    /// The next event, whatever it is.
    fn poll_any<'r>(
        &mut self,
        received: &'r mut Received<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'r>>, Violation> {
        if let Held::Message(_) = received.held {
            received.release(context);
        }
        if self.is_finished() {
            (received.input, received.violation) = (&mut [], None);
            return Ok(None);
        }
        match self.next_event(received, context, out) {
            Err(violation) => {
                self.fail(violation, context, out);
                Err(violation)
            }
            event => event,
        }
    }

    #[inline]
    fn next_event<'r>(
        &mut self,
        received: &'r mut Received<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'r>>, Violation> {
        if let Some(violation) = received.violation.take() {
            return Err(violation);
        }
        if self.assembly.is_none() {
            if received.input.is_empty() {
                return Ok(None);
            }
            let reserved_allowed = self.reserved_allowed();
            let expect = Expect { reserved_allowed, ..Expect::from_peer_of(self.role, false) };
            if let Some((header, header_len)) = Header::decode(received.input, expect)? {
                let whole = header_len as u64 + header.payload_len <= received.input.len() as u64;
                if whole && (header.fin || header.opcode.is_control()) {
                    return self.whole_frame(header, header_len, received, context, out);
                }
            }
        }
        self.assemble(received, context, out)
    }

    /// Any other frame that is whole: nothing of it is copied.
    fn whole_frame<'r>(
        &mut self,
        header: Header,
        header_len: usize,
        received: &'r mut Received<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'r>>, Violation> {
        let is_data = !header.opcode.is_control();
        let bytes_max = payload_bytes_max(&context.limits, header.reserved != 0);
        if is_data && header.payload_len > bytes_max {
            return Err(Violation::MessageTooBig);
        }
        let end = header_len + header.payload_len as usize;
        let frame = received.input.split_off_mut(..end).unwrap_or_default();
        let payload = &mut frame[header_len..];
        if let Some(key) = header.mask {
            mask::apply(payload, key);
        }
        #[cfg(feature = "deflate")]
        if header.reserved != 0 {
            return self.whole_compressed(header.opcode, payload, received, context);
        }
        match header.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let message = whole_message(header.opcode == Opcode::Text, payload)?;
                Ok(Some(Event::Message(message)))
            }
            control => self.control(control, payload, context, out).map(Some),
        }
    }

    /// A compressed message in one frame.
    #[cfg(feature = "deflate")]
    fn whole_compressed<'r>(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        received: &'r mut Received<'_>,
        context: &mut Context,
    ) -> Result<Option<Event<'r>>, Violation> {
        use crate::message::MessageKind;
        let kind = if opcode == Opcode::Text { MessageKind::Text } else { MessageKind::Binary };
        let mut assembly = context.take_assembly();
        let window = self.received_window();
        if let Err(violation) = assembly.take_whole_compressed(kind, payload, window, context) {
            context.recycle(assembly);
            return Err(violation);
        }
        context.compressed_bytes = payload.len();
        Ok(self.hold_message(assembly, received))
    }

    /// A message that the next call gives back the buffer of.
    fn hold_message<'r>(
        &mut self,
        assembly: Box<Assembly>,
        received: &'r mut Received<'_>,
    ) -> Option<Event<'r>> {
        #[cfg(feature = "deflate")]
        if assembly.is_compressed() {
            self.keep_received(assembly.message().as_bytes());
        }
        received.held = Held::Message(assembly);
        let Held::Message(assembly) = &received.held else { return None };
        Some(Event::Message(assembly.message()))
    }

    fn peer(&self) -> Peer<'_> {
        #[cfg(feature = "deflate")]
        let window = self.received_window();
        #[cfg(not(feature = "deflate"))]
        let window = [&[][..]; 2];
        Peer { role: self.role, reserved_allowed: self.reserved_allowed(), window }
    }

    /// The reserved bits that were agreed on.
    #[inline]
    const fn reserved_allowed(&self) -> u8 {
        #[cfg(feature = "deflate")]
        return if self.deflate.is_some() { frame::RSV1 } else { 0 };
        #[cfg(not(feature = "deflate"))]
        return 0;
    }

    /// The way of partial frames and fragmented messages: payload moves on as it arrives, so the
    /// cost is linear however it is cut, and bad UTF-8 shows inside a fragment.
    #[inline(never)]
    fn assemble<'r>(
        &mut self,
        received: &'r mut Received<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'r>>, Violation> {
        let mut assembly = self.assembly.take().unwrap_or_else(|| context.take_assembly());
        let frame = match assembly.advance(&mut received.input, &self.peer(), context) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.assembly = Some(assembly);
                return Ok(None);
            }
            Err(violation) => {
                context.recycle(assembly);
                return Err(violation);
            }
        };
        if frame.opcode.is_control() {
            received.held = Held::Control(ControlPayload::new(assembly.control()));
            if assembly.is_idle() {
                context.recycle(assembly);
            } else {
                self.assembly = Some(assembly);
            }
            let Held::Control(payload) = &received.held else { return Ok(None) };
            return self.control(frame.opcode, payload.as_bytes(), context, out).map(Some);
        }
        #[cfg(feature = "deflate")]
        if assembly.is_compressed() {
            context.compressed_bytes = assembly.message_bytes();
        }
        Ok(self.hold_message(assembly, received))
    }

    fn control<'r>(
        &mut self,
        opcode: Opcode,
        payload: &'r [u8],
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<Event<'r>, Violation> {
        match opcode {
            Opcode::Ping => {
                self.answer_ping(payload, context, out);
                Ok(Event::Ping(payload))
            }
            Opcode::Close => {
                let frame = CloseFrame::decode(payload)?;
                let answer = CloseFrame { code: frame.code, reason: "" };
                self.end(State::Closed, answer, context, out);
                Ok(Event::Close(frame))
            }
            _ => Ok(Event::Pong(payload)),
        }
    }

    fn fail(&mut self, violation: Violation, context: &mut Context, out: &mut Vec<u8>) {
        let frame = CloseFrame { code: violation.close_code(), reason: violation.reason() };
        self.end(State::Failed, frame, context, out);
    }

    /// Receives no more, and sends a close frame unless one was sent before.
    fn end(
        &mut self,
        state: State,
        frame: CloseFrame<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) {
        if self.is_open() {
            self.append_close(frame, context, out);
        }
        self.state = state;
        if let Some(assembly) = self.assembly.take() {
            context.recycle(assembly);
        }
    }
}

#[inline]
fn whole_message(is_text: bool, payload: &[u8]) -> Result<Message<'_>, Violation> {
    if is_text {
        utf8::validate(payload).map(Message::Text).map_err(|_| Violation::TextNotUtf8)
    } else {
        Ok(Message::Binary(payload))
    }
}
