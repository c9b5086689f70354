//! Messages that are framed and masked once, and sent as often as wanted.
//!
//! The masking key of each is drawn once a run, not for each time it is sent: what a load tool sends is
//! no secret, and a server cannot tell.

use quelea_core::{
    Context, Message, MessageKind, Opcode, Role,
    deflate::WindowBits,
    frame::{self, Expect, Header},
};
use std::ops::Range;

/// The bit that says that a message is compressed (RFC 7692, section 6).
pub(super) const RSV1: u8 = 0x40;

/// A message of [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameId(u32);

/// Messages of a run, in the form that a client sends them and in the one that comes back.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    sent: Vec<u8>,
    /// It only grows: what lies in it stays where it is.
    echoed: Vec<u8>,
    entries: Vec<Entry>,
    /// The smallest window that was agreed on, which all compressed messages keep to.
    window: Option<WindowBits>,
}

#[derive(Debug)]
struct Entry {
    kind: MessageKind,
    fragments: usize,
    sent: Range<usize>,
    /// Of a message that compression makes shorter, and the window that it keeps to.
    compressed: Option<(Range<usize>, WindowBits)>,
    /// The one frame in which a server sends it back, which is not compressed, and the payload in it.
    echo: Range<usize>,
    payload: Range<usize>,
    /// What a server that compresses each message by itself made of it.
    learned: Option<Range<usize>>,
}

/// Where one of so many fragments lies in a payload: all are as long, but for a byte.
pub(crate) fn cut(len: usize, fragments: usize, number: usize) -> Range<usize> {
    let at = |number: usize| (len as u128 * number as u128 / fragments as u128) as usize;
    at(number)..at(number + 1)
}

const fn opcode_of(kind: MessageKind, fragment: usize) -> Opcode {
    match (fragment, kind) {
        (0, MessageKind::Text) => Opcode::Text,
        (0, MessageKind::Binary) => Opcode::Binary,
        _ => Opcode::Continuation,
    }
}

/// Appends the frames of a message whose first one is of that kind and has these reserved bits.
fn append_sent(
    out: &mut Vec<u8>,
    (kind, reserved): (MessageKind, u8),
    payload: &[u8],
    fragments: usize,
    next_key: &mut impl FnMut() -> [u8; 4],
) -> Range<usize> {
    let start = out.len();
    for number in 0..fragments {
        let header = Header {
            fin: number + 1 == fragments,
            reserved: if number == 0 { reserved } else { 0 },
            opcode: opcode_of(kind, number),
            mask: Some(next_key()),
            payload_len: 0,
        };
        frame::append(out, header, &payload[cut(payload.len(), fragments, number)]);
    }
    start..out.len()
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
        let sent = append_sent(&mut self.sent, (kind, 0), payload, fragments, &mut next_key);
        let echo = self.echoed.len();
        let opcode = opcode_of(kind, 0);
        let header = Header { fin: true, reserved: 0, opcode, mask: None, payload_len: 0 };
        frame::append(&mut self.echoed, header, payload);
        self.entries.push(Entry {
            kind,
            fragments,
            sent,
            compressed: None,
            echo: echo..self.echoed.len(),
            payload: self.echoed.len() - payload.len()..self.echoed.len(),
            learned: None,
        });
        FrameId(self.entries.len() as u32 - 1)
    }

    /// Compresses each message within a window, once, if it has not been: by itself, so that it can be sent on any
    /// connection that agreed on that window or a larger one.
    pub(crate) fn compress(
        &mut self,
        window: WindowBits,
        context: &mut Context,
        mut next_key: impl FnMut() -> [u8; 4],
    ) {
        let window = self.window.map_or(window, |smallest| smallest.min(window));
        self.window = Some(window);
        let mut compressed = Vec::new();
        for entry in &mut self.entries {
            if entry.compressed.as_ref().is_some_and(|(_, bits)| *bits <= window) {
                continue;
            }
            compressed.clear();
            let payload = Message::Binary(&self.echoed[entry.payload.clone()]);
            let expect =
                Expect { reserved_allowed: RSV1, ..Expect::from_peer_of(Role::Client, false) };
            if context.append_compressed(payload, window, &mut compressed)
                && let Ok(Some((_, header_len))) = Header::decode(&compressed, expect)
            {
                let (first, payload) = ((entry.kind, RSV1), &compressed[header_len..]);
                let range =
                    append_sent(&mut self.sent, first, payload, entry.fragments, &mut next_key);
                entry.compressed = Some((range, window));
            }
        }
    }

    /// The window that messages which are added have to be compressed for.
    pub(crate) const fn window(&self) -> Option<WindowBits> {
        self.window
    }

    /// Expects these bytes from now on, where each message is compressed by itself: a server has sent them, and
    /// they were inflated and are right.
    pub(crate) fn learn(&mut self, frame: FrameId, wire: &[u8]) {
        let start = self.echoed.len();
        self.echoed.extend_from_slice(wire);
        self.entries[frame.0 as usize].learned = Some(start..self.echoed.len());
    }

    /// Whether it is known what a server makes of a message.
    pub(crate) fn is_learned(&self, frame: FrameId) -> bool {
        self.entries[frame.0 as usize].learned.is_some()
    }

    /// Adds bytes without a frame around them.
    pub(crate) fn add_raw(&mut self, bytes: &[u8]) -> FrameId {
        let (sent, echo) = (self.sent.len(), self.echoed.len());
        self.sent.extend_from_slice(bytes);
        self.echoed.extend_from_slice(bytes);
        self.entries.push(Entry {
            kind: MessageKind::Binary,
            fragments: 1,
            sent: sent..self.sent.len(),
            compressed: None,
            echo: echo..self.echoed.len(),
            payload: echo..self.echoed.len(),
            learned: None,
        });
        FrameId(self.entries.len() as u32 - 1)
    }

    /// Where a message lies in [`Frames::sent_bytes`]: compressed, if that is agreed on and makes it shorter.
    #[inline]
    pub(crate) fn sent(&self, frame: FrameId, is_agreed: bool) -> Range<usize> {
        let entry = &self.entries[frame.0 as usize];
        match &entry.compressed {
            Some((range, _)) if is_agreed => range.clone(),
            _ => entry.sent.clone(),
        }
    }

    #[inline]
    pub(crate) fn sent_bytes(&self, range: Range<usize>) -> &[u8] {
        &self.sent[range]
    }

    /// Where the one frame in which a server sends the message back lies in [`Frames::echoed_bytes`]: as it was
    /// learned, if compression is agreed on.
    #[inline]
    pub(crate) fn echo(&self, frame: FrameId, is_agreed: bool) -> Range<usize> {
        let entry = &self.entries[frame.0 as usize];
        match &entry.learned {
            Some(range) if is_agreed => range.clone(),
            _ => entry.echo.clone(),
        }
    }

    #[inline]
    pub(crate) fn echoed_bytes(&self, range: Range<usize>) -> &[u8] {
        &self.echoed[range]
    }

    /// What the message is.
    #[inline]
    pub(crate) fn payload(&self, frame: FrameId) -> (MessageKind, &[u8]) {
        let entry = &self.entries[frame.0 as usize];
        (entry.kind, &self.echoed[entry.payload.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::deflate_settings as settings;
    use quelea_core::{Connection, Event, Limits, Received, deflate::Parameters};

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
                receive(Role::Server, frames.sent_bytes(frames.sent(id, true)).to_vec()),
                expected
            );
            let echo = frames.echoed_bytes(frames.echo(id, true));
            assert_eq!(receive(Role::Client, echo.to_vec()), expected);
            assert_eq!(frames.payload(id), (message.kind(), message.as_bytes()));
        }
    }

    #[test]
    fn messages_are_compressed_once_for_the_smallest_window_and_those_that_grow_are_not() {
        let mut context = Context::new(Limits::default(), [0; 32]).with_deflate(settings());
        let mut frames = Frames::default();
        let text = "all the same, ".repeat(1000);
        let long = frames.add(MessageKind::Text, text.as_bytes(), 3, || [1, 2, 3, 4]);
        let short = frames.add(MessageKind::Text, b"short", 1, || [1, 2, 3, 4]);
        assert_eq!(frames.window(), None);
        let [most, least] = [WindowBits::MAX, WindowBits::MIN];
        let mut lens = Vec::new();
        for window in [most, least, most] {
            frames.compress(window, &mut context, || [5, 6, 7, 8]);
            lens.push(frames.sent.len());
            let mut wire = frames.sent_bytes(frames.sent(long, true)).to_vec();
            assert!(wire.len() < 500, "{}", wire.len());
            let agreed =
                Parameters { client_max_window_bits: Some(window), ..Parameters::default() };
            let mut server = Connection::with_deflate(Role::Server, &agreed, &context);
            let mut received = Received::new(&mut wire);
            let event = server.poll_event(&mut received, &mut context, &mut Vec::new());
            assert_eq!(event, Ok(Some(Event::Message(Message::Text(&text)))));
        }
        assert!(lens[0] < lens[1] && lens[1] == lens[2], "{lens:?}");
        assert_eq!(frames.window(), Some(least));
        assert_eq!(frames.sent(short, true), frames.sent(short, false));
        assert_ne!(frames.sent(long, true), frames.sent(long, false));
    }

    #[test]
    fn what_is_learned_is_expected_only_where_compression_is_agreed_on() {
        let mut frames = Frames::default();
        let id = frames.add(MessageKind::Text, b"text", 1, || [1, 2, 3, 4]);
        let plain = frames.echo(id, false);
        assert!(!frames.is_learned(id) && frames.echo(id, true) == plain);
        frames.learn(id, b"wire");
        assert!(frames.is_learned(id) && frames.echo(id, false) == plain);
        assert_eq!(frames.echoed_bytes(frames.echo(id, true)), b"wire");
        assert_eq!(frames.payload(id), (MessageKind::Text, &b"text"[..]));
    }
}
