//! Any bytes as compressed messages, in any cutting, give the same events, within the limits; and what one end
//! compresses the other reads.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quelea_core::{
    Connection, Context, Event, Limits, Message, MessageKind, Opcode, Received, Role, Violation,
    deflate::{Parameters, Policy, Settings, WindowBits},
    frame::{self, Header},
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    setup: Setup,
    /// Frames: whether the last of its message, whether compressed if it is the first, and its payload.
    frames: Vec<(bool, bool, &'a [u8])>,
    cuts: Vec<u8>,
    /// Messages, whether each is sent in fragments, and whether windows are given back before.
    messages: Vec<(bool, bool, &'a [u8])>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    is_text: bool,
    no_takeover: (bool, bool),
    window_bits: (u8, u8),
    level: u8,
    budget: u16,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Violation(Violation),
}

const LIMITS: Limits = Limits { message_bytes_max: 60_000, fragments_max: 32 };

struct End {
    connection: Connection,
    context: Context,
    seen: Vec<Seen>,
    out: Vec<u8>,
}

impl End {
    fn new(role: Role, setup: Setup) -> Self {
        let bits = |bits: u8| WindowBits::new(9 + bits % 7);
        let parameters = Parameters {
            server_no_context_takeover: setup.no_takeover.0,
            client_no_context_takeover: setup.no_takeover.1,
            server_max_window_bits: bits(setup.window_bits.0),
            client_max_window_bits: bits(setup.window_bits.1),
        };
        let policy = Policy::Takeover {
            window_bits: WindowBits::MAX,
            budget_bytes: usize::from(setup.budget) * 64,
        };
        let settings = Settings { level: setup.level, message_bytes_min: 8, policy };
        let context = Context::new(LIMITS, [7; 32]).with_deflate(settings);
        let connection = Connection::with_deflate(role, &parameters, &context);
        Self { connection, context, seen: Vec::new(), out: Vec::new() }
    }

    fn receive(&mut self, chunk: &[u8]) {
        let mut bytes = chunk.to_vec();
        let mut received = Received::new(&mut bytes);
        loop {
            match self.connection.poll_event(&mut received, &mut self.context, &mut self.out) {
                Ok(None) => break,
                Ok(Some(Event::Message(message))) => {
                    assert!(message.len() <= LIMITS.message_bytes_max);
                    self.seen.push(match message {
                        Message::Text(text) => Seen::Text(text.to_owned()),
                        Message::Binary(bytes) => Seen::Binary(bytes.to_owned()),
                    });
                }
                Ok(Some(other)) => panic!("not sent: {other:?}"),
                Err(violation) => self.seen.push(Seen::Violation(violation)),
            }
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut wire = Vec::new();
    let mut is_first = true;
    for (fin, is_compressed, payload) in &input.frames {
        let opcode = match (is_first, input.setup.is_text) {
            (false, _) => Opcode::Continuation,
            (true, true) => Opcode::Text,
            (true, false) => Opcode::Binary,
        };
        let reserved = if is_first && *is_compressed { 0x40 } else { 0 };
        let mask = Some([1, 2, 3, 4]);
        let header = Header { fin: *fin, reserved, opcode, mask, payload_len: 0 };
        frame::append(&mut wire, header, payload);
        is_first = *fin;
    }
    let mut whole = End::new(Role::Server, input.setup);
    whole.receive(&wire);
    let mut cut = End::new(Role::Server, input.setup);
    let mut rest = &wire[..];
    for len in &input.cuts {
        let (chunk, after) = rest.split_at(usize::from(*len).min(rest.len()));
        cut.receive(chunk);
        rest = after;
    }
    cut.receive(rest);
    assert_eq!(cut.seen, whole.seen);
    assert_eq!(cut.out, whole.out);

    let mut client = End::new(Role::Client, input.setup);
    let mut server = End::new(Role::Server, input.setup);
    for (in_fragments, trim, message) in &input.messages {
        let End { connection, context, out, .. } = &mut client;
        if *trim {
            connection.trim();
        }
        let sent = if *in_fragments {
            let (first, second) = message.split_at(message.len() / 2);
            connection.send_fragment(MessageKind::Binary, first, false, context, out).and_then(
                |()| connection.send_fragment(MessageKind::Binary, second, true, context, out),
            )
        } else {
            connection.send(Message::Binary(message), context, out)
        };
        sent.expect("it is open");
        server.receive(out);
        out.clear();
        assert_eq!(server.seen.pop(), Some(Seen::Binary(message.to_vec())));
    }
});
