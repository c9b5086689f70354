//! What is published, and how much of it arrives.

use quelea_core::{Connection, Context, Limits, Message, Role};
use std::{error::Error, fs::File, io::Read};

/// Messages that are published in one write, and what each of the others receives for it.
pub(super) struct Burst {
    pub(super) published: Vec<u8>,
    pub(super) delivered_bytes: u64,
    pub(super) messages: u64,
}

impl Burst {
    pub(super) fn new(messages: usize, size: usize) -> Result<Self, Box<dyn Error>> {
        let text: String = ('a'..='z').cycle().take(size).collect();
        let message = Message::Text(&text);
        let mut seed = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let mut context = Context::new(Limits::default(), seed);
        let (mut published, mut delivered) = (Vec::new(), Vec::new());
        let (mut client, mut server) =
            (Connection::new(Role::Client), Connection::new(Role::Server));
        for _ in 0..messages {
            client.send(message, &mut context, &mut published)?;
            server.send(message, &mut context, &mut delivered)?;
        }
        let (delivered_bytes, messages) = (delivered.len() as u64, messages as u64);
        Ok(Self { published, delivered_bytes, messages })
    }
}

/// The bytes that each socket has received of what was published to all.
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
    pub(super) const fn expect(&mut self, bytes: u64) {
        self.expected += bytes;
    }

    /// A socket received something; returns what it has received in all.
    pub(super) fn add(&mut self, index: usize, bytes: u64) -> Result<u64, &'static str> {
        let received = &mut self.received[index];
        *received += bytes;
        if *received > self.expected {
            return Err("more came than was published");
        }
        self.total += bytes;
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
            let burst = Burst::new(messages, size).unwrap();
            assert_eq!(burst.published.len(), published);
            assert_eq!(burst.delivered_bytes, delivered);
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
