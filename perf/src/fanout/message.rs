//! What is published, and how much of it arrives.

use super::subscribers::Agreed;
use crate::{echo::Kind, load::deflate_settings};
use quelea_core::{Connection, Context, Limits, Message, MessageKind, Role};
use std::{error::Error, fs::File, io::Read};

/// What is published.
pub(super) struct Content {
    pub(super) kind: MessageKind,
    /// They take turns, and are all as long.
    pub(super) payloads: Vec<Vec<u8>>,
}

impl Content {
    pub(super) fn new(kind: Kind, size: usize, seed: u64) -> Self {
        Self { kind: kind.message(), payloads: kind.payloads(size, seed).collect() }
    }
}

/// Messages that are published in one write, and what each of the others receives for it.
pub(super) struct Burst {
    /// Writes that take turns: each publishes as many messages, which are as long.
    pub(super) published: Vec<Vec<u8>>,
    /// Bytes; or messages, if what is received has to be inflated.
    pub(super) delivered: u64,
    pub(super) messages: u64,
}

impl Burst {
    /// So many messages in one write, compressed if that is agreed on.
    pub(super) fn new(
        messages: usize,
        content: &Content,
        agreed: Option<&Agreed>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut seed = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let mut context = Context::new(Limits::default(), seed).with_deflate(deflate_settings());
        let mut client = match agreed.and_then(Agreed::parameters) {
            Some(parameters) => Connection::with_deflate(Role::Client, &parameters, &context),
            None => Connection::new(Role::Client),
        };
        let mut server = Connection::new(Role::Server);
        let mut published = vec![Vec::new(); content.payloads.len()];
        let mut delivered = Vec::new();
        for (number, first) in published.iter_mut().enumerate() {
            for payload in content.payloads.iter().cycle().skip(number).take(messages) {
                let message = match content.kind {
                    MessageKind::Text => Message::Text(str::from_utf8(payload)?),
                    MessageKind::Binary => Message::Binary(payload),
                };
                client.send(message, &mut context, first)?;
                if number == 0 {
                    server.send(message, &mut context, &mut delivered)?;
                }
            }
        }
        let messages = messages as u64;
        let delivered = if agreed.is_some() { messages } else { delivered.len() as u64 };
        Ok(Self { published, delivered, messages })
    }
}

/// The bytes, or the messages, that each socket has received of what was published to all.
pub(super) struct Counts {
    received: Vec<u64>,
    total: u64,
    /// What each has to receive.
    expected: u64,
}

impl Counts {
    pub(super) fn new(sockets: usize) -> Self {
        Self { received: vec![0; sockets], total: 0, expected: 0 }
    }

    /// Something was published: each will receive that much more.
    pub(super) const fn expect(&mut self, count: u64) {
        self.expected += count;
    }

    /// A socket received something; returns what it has received in all.
    pub(super) fn add(&mut self, index: usize, count: u64) -> Result<u64, &'static str> {
        let received = &mut self.received[index];
        *received += count;
        if *received > self.expected {
            return Err("more came than was published");
        }
        self.total += count;
        Ok(*received)
    }

    /// Whether each has received all that was published.
    pub(super) const fn is_complete(&self) -> bool {
        // None has received more.
        self.total == self.expected * self.received.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_delivered_without_a_mask_in_its_shortest_form() {
        for (messages, size, published, delivered) in
            [(1, 100, 106, 102), (100, 100, 10_600, 10_200), (2, 126, 268, 260), (1, 0, 6, 2)]
        {
            let burst = Burst::new(messages, &Content::new(Kind::Text, size, 1), None).unwrap();
            assert_eq!(burst.published[0].len(), published);
            assert_eq!(burst.delivered, delivered);
            assert_eq!(burst.messages, messages as u64);
        }
    }

    #[test]
    fn a_burst_is_complete_when_each_socket_has_all_of_it() {
        let mut counts = Counts::new(2);
        assert!(counts.is_complete());
        counts.expect(10);
        assert_eq!(counts.add(0, 10), Ok(10));
        assert_eq!(counts.add(1, 9), Ok(9));
        assert!(!counts.is_complete());
        assert_eq!(counts.add(1, 1), Ok(10));
        assert!(counts.is_complete());
    }

    #[test]
    fn bytes_that_nobody_published_are_an_error_though_another_socket_lacks_them() {
        let mut counts = Counts::new(2);
        counts.expect(10);
        assert!(counts.add(0, 11).is_err());
    }
}
