//! Messages that are inflated to be counted: what a server makes of one differs, by its window and by its compressor.

use crate::load::deflate_settings;
use quelea_core::{
    Connection, Context, Event, Limits, Message, MessageKind, Received, Role,
    deflate::Parameters,
    frame::{Expect, Header},
};
use std::{collections::HashSet, error::Error};

/// The bit that says that a message is compressed (RFC 7692, section 6).
const RSV1: u8 = 0x40;
/// How many frames are known by heart at most: a server that makes something else of a message each time is to cost
/// time here, not memory.
const KNOWN_MAX: usize = 1024;

/// The receiving side of all sockets.
pub(super) struct Inflating {
    context: Context,
    sockets: Vec<Socket>,
    kind: MessageKind,
    /// What is published.
    payloads: HashSet<Vec<u8>>,
    /// Frames that were inflated and are right: where each message is compressed by itself, the same bytes are so
    /// again.
    known: HashSet<Vec<u8>>,
}

struct Socket {
    connection: Connection,
    by_itself: bool,
}

impl Inflating {
    /// For connections that agreed on this, and messages of one kind.
    pub(super) fn new(
        agreed: &[Option<Parameters>],
        kind: MessageKind,
        payloads: HashSet<Vec<u8>>,
    ) -> Self {
        let message_bytes_max = payloads.iter().map(Vec::len).max().unwrap_or(0);
        let limits = Limits { message_bytes_max, ..Limits::default() };
        let context = Context::new(limits, [0; 32]).with_deflate(deflate_settings());
        let socket = |agreed: &Option<Parameters>| match agreed {
            Some(agreed) => Socket {
                connection: Connection::with_deflate(Role::Client, agreed, &context),
                by_itself: agreed.server_no_context_takeover,
            },
            None => Socket { connection: Connection::new(Role::Client), by_itself: true },
        };
        let sockets = agreed.iter().map(socket).collect();
        Self { context, sockets, kind, payloads, known: HashSet::new() }
    }

    /// How many messages end in `bytes`, that a socket received.
    pub(super) fn count(&mut self, index: usize, bytes: &mut [u8]) -> Result<u64, Box<dyn Error>> {
        let mut count = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            let socket = &self.sockets[index];
            let is_between = socket.by_itself && !socket.connection.is_receiving();
            let Some(len) = whole_message(rest).filter(|_| is_between) else {
                return Ok(count + self.inflate(index, rest)?);
            };
            let (frame, behind) = rest.split_at_mut(len);
            if self.known.contains(frame) {
                count += 1;
            } else {
                let wire = frame.to_vec();
                count += self.inflate(index, frame)?;
                if self.known.len() < KNOWN_MAX {
                    self.known.insert(wire);
                }
            }
            rest = behind;
        }
        Ok(count)
    }

    fn inflate(&mut self, index: usize, bytes: &mut [u8]) -> Result<u64, Box<dyn Error>> {
        let Self { context, sockets, kind, payloads, .. } = self;
        let connection = &mut sockets[index].connection;
        let mut received = Received::new(bytes);
        let (mut count, mut unsent) = (0, Vec::new());
        while let Some(event) = connection.poll_event(&mut received, context, &mut unsent)? {
            match event {
                Event::Message(message) if is_published(payloads, *kind, message) => count += 1,
                Event::Message(_) => return Err("the server sent something else".into()),
                Event::Ping(_) | Event::Pong(_) => {}
                Event::Close(frame) => return Err(format!("closed: {}", frame.code).into()),
            }
        }
        Ok(count)
    }
}

fn is_published(payloads: &HashSet<Vec<u8>>, kind: MessageKind, message: Message<'_>) -> bool {
    message.kind() == kind && payloads.contains(message.as_bytes())
}

/// The length of the frame that `bytes` begin with, if it is there and is a whole message.
fn whole_message(bytes: &[u8]) -> Option<usize> {
    let expect = Expect::from_peer_of(Role::Client, false);
    let expect = Expect { reserved_allowed: RSV1, ..expect };
    let (header, header_len) = Header::decode(bytes, expect).ok()??;
    let len = header_len as u64 + header.payload_len;
    let is_whole = header.fin && !header.opcode.is_control() && len <= bytes.len() as u64;
    is_whole.then_some(len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> String {
        format!("{number} is published, {number} is published, {number} is published, and nothing else. ")
            .repeat(3)
    }

    fn payloads() -> HashSet<Vec<u8>> {
        (0..3).map(|number| text(number).into_bytes()).collect()
    }

    /// What a server sends of messages, compressed as it was agreed on.
    fn wire(agreed: &Parameters, messages: &[String]) -> Vec<u8> {
        let policy = quelea_core::deflate::Policy::Takeover {
            window_bits: quelea_core::deflate::WindowBits::MAX,
            budget_bytes: 4 << 20,
        };
        let settings = quelea_core::deflate::Settings::new(policy);
        let mut context = Context::new(Limits::default(), [0; 32]).with_deflate(settings);
        let mut server = Connection::with_deflate(Role::Server, agreed, &context);
        let mut out = Vec::new();
        for message in messages {
            server.send(Message::Text(message), &mut context, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn messages_are_counted_however_they_are_compressed_and_cut() {
        for server_no_context_takeover in [false, true] {
            let agreed = Parameters { server_no_context_takeover, ..Parameters::default() };
            let wire = wire(&agreed, &[0, 1, 0, 2, 2, 1, 0].map(text));
            for cut in [1, 7, 50, wire.len()] {
                let agreed = [Some(agreed)];
                let mut inflating = Inflating::new(&agreed, MessageKind::Text, payloads());
                let mut count = 0;
                for piece in wire.chunks(cut) {
                    count += inflating.count(0, &mut piece.to_vec()).unwrap();
                }
                assert_eq!(count, 7, "{cut} {server_no_context_takeover}");
                let learns = server_no_context_takeover && cut == wire.len();
                if learns {
                    assert_eq!(inflating.known.len(), 3);
                }
                assert!(server_no_context_takeover || inflating.known.is_empty());
            }
        }
    }

    #[test]
    fn what_was_not_published_is_an_error() {
        let agreed = Parameters::default();
        let other = [Some(agreed)];
        for messages in [vec![text(7)], vec![text(1), text(7)]] {
            let mut inflating = Inflating::new(&other, MessageKind::Text, payloads());
            assert!(inflating.count(0, &mut wire(&agreed, &messages)).is_err());
        }
        let mut inflating = Inflating::new(&other, MessageKind::Binary, payloads());
        assert!(inflating.count(0, &mut wire(&agreed, &[text(1)])).is_err());
        let mut plain = Inflating::new(&[None], MessageKind::Text, payloads());
        let mut frame = b"\x81\x02no".to_vec();
        assert!(plain.count(0, &mut frame).is_err());
    }
}
