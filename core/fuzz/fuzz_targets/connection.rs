//! Any bytes in any cutting give a connection the same events and the same answers.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Event, Limits, Message, Received, Role, Violation,
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_server: bool,
    /// We began the closing handshake.
    is_closing: bool,
    chunks: Vec<&'a [u8]>,
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

fn run<'c>(input: &Input<'_>, chunks: impl Iterator<Item = &'c [u8]>) -> (Vec<Seen>, Vec<u8>) {
    let role = if input.is_server { Role::Server } else { Role::Client };
    let mut context = Context::new(LIMITS, [7; 32]);
    let (mut connection, mut seen, mut out) = (Connection::new(role), Vec::new(), Vec::new());
    if input.is_closing {
        let frame = CloseFrame { code: CloseCode::NORMAL, reason: "" };
        connection.close(frame, &mut context, &mut out).expect("it is open");
    }
    for chunk in chunks {
        let mut bytes = chunk.to_vec();
        let mut received = Received::new(&mut bytes);
        loop {
            match connection.poll_event(&mut received, &mut context, &mut out) {
                Ok(None) => break,
                Ok(Some(event)) => seen.push(match event {
                    Event::Message(Message::Text(text)) => Seen::Text(text.to_owned()),
                    Event::Message(Message::Binary(bytes)) => Seen::Binary(bytes.to_owned()),
                    Event::Ping(payload) => Seen::Ping(payload.to_owned()),
                    Event::Pong(payload) => Seen::Pong(payload.to_owned()),
                    Event::Close(frame) => Seen::Close(frame.code.0, frame.reason.to_owned()),
                }),
                Err(violation) => {
                    assert!(connection.is_finished());
                    seen.push(Seen::Violation(violation));
                }
            }
        }
    }
    assert!(context.pooled_bytes() <= 8 * LIMITS.message_bytes_max);
    (seen, out)
}

fuzz_target!(|input: Input<'_>| {
    let whole = input.chunks.concat();
    let at_once = run(&input, std::iter::once(&whole[..]));
    let in_pieces = run(&input, input.chunks.iter().copied());
    let bytewise = run(&input, whole.chunks(1));
    assert_eq!(in_pieces, at_once);
    assert_eq!(bytewise, at_once);
});
