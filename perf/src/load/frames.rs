//! Messages that are framed and masked once, and sent as often as wanted.
//!
//! The masking key of each is drawn once a run, not for each time it is sent: what a load tool sends is
//! no secret, and a server cannot tell.

use quelea_core::{
    MessageKind, Opcode,
    frame::{self, Header},
};
use std::ops::Range;

/// A message of [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameId(u32);

/// Messages of a run, in the form that a client sends them and in the one that comes back.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    sent: Vec<u8>,
    echoed: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: MessageKind,
    sent: Range<usize>,
    echo: Range<usize>,
    /// Where the payload begins in `echoed`.
    payload: usize,
}

/// Where one of so many fragments lies in a payload: all are as long, but for a byte.
pub(crate) fn cut(len: usize, fragments: usize, number: usize) -> Range<usize> {
    let at = |number: usize| (len as u128 * number as u128 / fragments as u128) as usize;
    at(number)..at(number + 1)
}

impl Frames {
    /// Adds a message that is sent in `fragments` pieces, each masked with a key of its own.
    pub(crate) fn add(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        fragments: usize,
        mut next_key: impl FnMut() -> [u8; 4],
    ) -> FrameId {
        let fragments = fragments.max(1);
        let opcode_of = |number| match (number, kind) {
            (0, MessageKind::Text) => Opcode::Text,
            (0, MessageKind::Binary) => Opcode::Binary,
            _ => Opcode::Continuation,
        };
        let sent = self.sent.len();
        for number in 0..fragments {
            let header = Header {
                fin: number + 1 == fragments,
                reserved: 0,
                opcode: opcode_of(number),
                mask: Some(next_key()),
                payload_len: 0,
            };
            frame::append(&mut self.sent, header, &payload[cut(payload.len(), fragments, number)]);
        }
        let echo = self.echoed.len();
        let header =
            Header { fin: true, reserved: 0, opcode: opcode_of(0), mask: None, payload_len: 0 };
        frame::append(&mut self.echoed, header, payload);
        self.entries.push(Entry {
            kind,
            sent: sent..self.sent.len(),
            echo: echo..self.echoed.len(),
            payload: self.echoed.len() - payload.len(),
        });
        FrameId(self.entries.len() as u32 - 1)
    }

    /// Adds bytes without a frame around them.
    pub(crate) fn add_raw(&mut self, bytes: &[u8]) -> FrameId {
        let (sent, echo) = (self.sent.len(), self.echoed.len());
        self.sent.extend_from_slice(bytes);
        self.echoed.extend_from_slice(bytes);
        self.entries.push(Entry {
            kind: MessageKind::Binary,
            sent: sent..self.sent.len(),
            echo: echo..self.echoed.len(),
            payload: echo,
        });
        FrameId(self.entries.len() as u32 - 1)
    }

    /// Where a message lies in [`Frames::sent_bytes`].
    #[inline]
    pub(crate) fn sent(&self, frame: FrameId) -> Range<usize> {
        self.entries[frame.0 as usize].sent.clone()
    }

    #[inline]
    pub(crate) fn sent_bytes(&self, range: Range<usize>) -> &[u8] {
        &self.sent[range]
    }

    /// The one frame in which a server sends the message back.
    #[inline]
    pub(crate) fn echo(&self, frame: FrameId) -> &[u8] {
        &self.echoed[self.entries[frame.0 as usize].echo.clone()]
    }

    /// What the message is.
    #[inline]
    pub(crate) fn payload(&self, frame: FrameId) -> (MessageKind, &[u8]) {
        let entry = &self.entries[frame.0 as usize];
        (entry.kind, &self.echoed[entry.payload..entry.echo.end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quelea_core::{Connection, Context, Event, Limits, Message, Received, Role};

    fn receive(role: Role, mut bytes: Vec<u8>) -> Vec<(MessageKind, Vec<u8>)> {
        let mut context = Context::new(Limits::default(), [0; 32]);
        let (mut connection, mut out) = (Connection::new(role), Vec::new());
        let mut received = Received::new(&mut bytes);
        let mut messages = Vec::new();
        while let Some(event) =
            connection.poll_event(&mut received, &mut context, &mut out).unwrap()
        {
            let Event::Message(message) = event else { panic!("{event:?}") };
            messages.push((message.kind(), message.as_bytes().to_vec()));
        }
        messages
    }

    #[test]
    fn a_message_is_the_same_as_it_is_sent_and_as_it_is_sent_back() {
        let mut frames = Frames::default();
        let mut key = 0_u32;
        let mut next_key = || {
            key += 0x0102_0304;
            key.to_be_bytes()
        };
        let long = vec![7; 70_000];
        let messages = [
            (Message::Text("né"), 1),
            (Message::Text("né, in pieces"), 4),
            (Message::Binary(b""), 1),
            (Message::Binary(b"ab"), 3),
            (Message::Binary(&long), 2),
        ];
        let ids = messages.map(|(message, fragments)| {
            frames.add(message.kind(), message.as_bytes(), fragments, &mut next_key)
        });
        for ((message, _), id) in messages.iter().zip(ids) {
            let expected = [(message.kind(), message.as_bytes().to_vec())];
            assert_eq!(
                receive(Role::Server, frames.sent_bytes(frames.sent(id)).to_vec()),
                expected
            );
            assert_eq!(receive(Role::Client, frames.echo(id).to_vec()), expected);
            assert_eq!(frames.payload(id), (message.kind(), message.as_bytes()));
        }
    }
}
