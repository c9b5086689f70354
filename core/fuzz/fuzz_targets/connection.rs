//! Any bytes in any cutting give a connection the same events and the same answers, whatever another
//! connection receives in between from the buffers that both share.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Event, Limits, Message, Opcode, Received, Role,
    Violation,
    frame::{Expect, Header},
    mask,
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    setups: [Setup; 2],
    /// What comes, and whether it comes for the second connection.
    chunks: Vec<(bool, &'a [u8])>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    is_server: bool,
    /// We began the closing handshake.
    is_closing: bool,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Violation(Violation),
}

const LIMITS: Limits = Limits { message_bytes_max: 4096, fragments_max: 32 };

struct End {
    connection: Connection,
    seen: Vec<Seen>,
    out: Vec<u8>,
}

impl End {
    fn new(setup: Setup, context: &mut Context) -> Self {
        let role = if setup.is_server { Role::Server } else { Role::Client };
        let (mut connection, mut out) = (Connection::new(role), Vec::new());
        if setup.is_closing {
            let frame = CloseFrame { code: CloseCode::NORMAL, reason: "" };
            connection.close(frame, context, &mut out).expect("it is open");
        }
        Self { connection, seen: Vec::new(), out }
    }

    fn receive(&mut self, chunk: &[u8], context: &mut Context) {
        let mut bytes = chunk.to_vec();
        let mut received = Received::new(&mut bytes);
        loop {
            match self.connection.poll_event(&mut received, context, &mut self.out) {
                Ok(None) => break,
                Ok(Some(event)) => self.seen.push(match event {
                    Event::Message(Message::Text(text)) => Seen::Text(text.to_owned()),
                    Event::Message(Message::Binary(bytes)) => Seen::Binary(bytes.to_owned()),
                    Event::Ping(payload) => Seen::Ping(payload.to_owned()),
                    Event::Pong(payload) => Seen::Pong(payload.to_owned()),
                    Event::Close(frame) => Seen::Close(frame.code.0, frame.reason.to_owned()),
                }),
                Err(violation) => {
                    assert!(self.connection.is_finished());
                    self.seen.push(Seen::Violation(violation));
                }
            }
        }
    }

    /// What was sent, without the masks: both connections draw them from one source.
    fn answers(&self) -> Vec<(Opcode, Vec<u8>)> {
        let masked = self.connection.role() == Role::Client;
        let expect = Expect { masked, continuation: false, reserved_allowed: 0 };
        let (mut rest, mut answers) = (&self.out[..], Vec::new());
        while let Some((header, len)) = Header::decode(rest, expect).expect("valid frames") {
            let (payload, after) = rest[len..].split_at(header.payload_len as usize);
            let mut payload = payload.to_vec();
            if let Some(key) = header.mask {
                mask::apply(&mut payload, key);
            }
            answers.push((header.opcode, payload));
            rest = after;
        }
        assert!(rest.is_empty(), "whole frames");
        answers
    }
}

/// What each of the two sees and answers.
type Outcome = (Vec<Seen>, Vec<(Opcode, Vec<u8>)>);

fn run<'c>(setups: [Setup; 2], chunks: impl Iterator<Item = (usize, &'c [u8])>) -> [Outcome; 2] {
    let mut context = Context::new(LIMITS, [7; 32]);
    let mut ends = setups.map(|setup| End::new(setup, &mut context));
    for (index, chunk) in chunks {
        ends[index].receive(chunk, &mut context);
    }
    assert!(context.pooled_bytes() <= 2 * 8 * LIMITS.message_bytes_max);
    ends.map(|end| {
        let answers = end.answers();
        (end.seen, answers)
    })
}

fuzz_target!(|input: Input<'_>| {
    let chunks = || input.chunks.iter().map(|(second, chunk)| (usize::from(*second), *chunk));
    let mut wholes = [Vec::new(), Vec::new()];
    for (index, chunk) in chunks() {
        wholes[index].extend_from_slice(chunk);
    }
    let alone = |index: usize| {
        let [first, second] = run(input.setups, std::iter::once((index, &wholes[index][..])));
        if index == 0 { first } else { second }
    };
    let expected = [alone(0), alone(1)];
    assert_eq!(run(input.setups, chunks()), expected);
    let mut bytes_in_turns = Vec::new();
    for at in 0..wholes[0].len().max(wholes[1].len()) {
        for (index, whole) in wholes.iter().enumerate() {
            bytes_in_turns.extend(whole.get(at..=at).map(|byte| (index, byte)));
        }
    }
    assert_eq!(run(input.setups, bytes_in_turns.into_iter()), expected);
});
