//! Compression by a server: what is agreed on, what is compressed, and what many get of one publish.
#![cfg(feature = "deflate")]

mod support;

use quelea::{
    Config, Conn, Handler, Message,
    deflate::{Compress, Parameters, Policy, Settings, WindowBits},
};
use quelea_core::{Connection, Context, Event, Limits, Received, Role};
use support::*;

/// Sends back what comes, but for commands.
struct Room;

impl Handler for Room {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text("join") => {
                conn.subscribe("room");
                conn.subscribe_pattern("*");
                conn.send("joined");
            }
            Message::Text(text) if text.starts_with("all ") => {
                conn.publish("room", text);
            }
            Message::Text(text) if text.starts_with("plain ") => {
                conn.send_with(text, Compress::No);
            }
            message => {
                conn.send(message);
            }
        }
    }
}

const TAKEOVER: Policy = Policy::Takeover { window_bits: WindowBits::MAX, budget_bytes: 8 << 20 };

fn start(policy: Policy) -> Serving {
    let config =
        Config { workers: Some(workers()), deflate: Settings::new(policy), ..Config::default() };
    Serving::start(config, &["127.0.0.1:0"], |_| Room)
}

/// A client that reads what is compressed.
struct Client {
    raw: Raw,
    connection: Connection,
    context: Context,
    /// The first byte of the frame that was read last, and how long it was.
    last: (u8, usize),
}

impl Client {
    /// Offers these parameters, and expects this answer.
    fn new(serving: &Serving, offer: &str, answer: Option<(&str, Parameters)>) -> Self {
        let mut raw = serving.connect();
        let offer = match offer {
            "" => String::new(),
            offer => format!("Sec-WebSocket-Extensions: {offer}\r\n"),
        };
        raw.send(
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
            )
            .as_bytes(),
        );
        let head = raw.read_head();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let value = head.split("Sec-WebSocket-Extensions: ").nth(1);
        let value = value.and_then(|rest| rest.split("\r\n").next());
        assert_eq!(value, answer.as_ref().map(|(answer, _)| *answer));
        let limits = Limits { message_bytes_max: 16 << 20, ..Limits::default() };
        let context = Context::new(limits, [1; 32]).with_deflate(Settings::new(TAKEOVER));
        let connection = match answer {
            Some((_, parameters)) => Connection::with_deflate(Role::Client, &parameters, &context),
            None => Connection::new(Role::Client),
        };
        Self { raw, connection, context, last: (0, 0) }
    }

    fn send(&mut self, text: &str) {
        let mut out = Vec::new();
        self.connection.send(Message::Text(text), &mut self.context, &mut out).unwrap();
        self.raw.send(&out);
    }

    fn read(&mut self) -> String {
        let (first, payload) = self.raw.read_frame();
        self.last = (first, payload.len());
        let mut bytes = vec![first];
        match payload.len() {
            0..126 => bytes.push(payload.len() as u8),
            126..0x1_0000 => {
                bytes.push(126);
                bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&payload);
        let mut received = Received::new(&mut bytes);
        match self.connection.poll_event(&mut received, &mut self.context, &mut Vec::new()) {
            Ok(Some(Event::Message(Message::Text(text)))) => text.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn echoes(&mut self, text: &str) {
        self.send(text);
        assert_eq!(self.read(), text);
    }
}

const ALONE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn alone(server_bits: Option<u8>) -> Parameters {
    Parameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: server_bits.and_then(WindowBits::new),
        client_max_window_bits: None,
    }
}

fn json(number: usize) -> String {
    format!(
        r#"{{"id":{number},"tags":["alpha","beta","alpha","beta"],"text":"{}"}}"#,
        "word ".repeat(30)
    )
}

#[test]
fn what_is_agreed_on_is_what_the_policy_says_and_nothing_without_one() {
    let offer = "permessage-deflate; client_max_window_bits";
    let serving = start(Policy::Off);
    let mut off = Client::new(&serving, offer, None);
    off.echoes(&json(1));
    assert_eq!(off.last.0, TEXT);

    let serving = start(Policy::Shared);
    let mut shared = Client::new(&serving, offer, Some((ALONE, alone(None))));
    for number in 0..3 {
        shared.echoes(&json(number));
        assert_eq!(shared.last.0, TEXT | 0x40);
    }
    Client::new(&serving, "", None).echoes(&json(1));
    Client::new(&serving, "permessage-deflate; unknown", None).echoes(&json(1));

    let serving = start(TAKEOVER);
    let answer = Some(("permessage-deflate", Parameters::default()));
    let mut takeover = Client::new(&serving, offer, answer);
    takeover.echoes(&json(1));
    let first = takeover.last.1;
    takeover.echoes(&json(2));
    assert!(takeover.last.1 * 3 < first, "{} after {first}", takeover.last.1);
}

#[test]
fn what_is_not_to_be_compressed_and_what_is_large_arrive_in_order() {
    for (policy, answer) in [
        (Policy::Shared, (ALONE, alone(None))),
        (TAKEOVER, ("permessage-deflate", Parameters::default())),
    ] {
        let serving = start(policy);
        let mut client = Client::new(&serving, "permessage-deflate", Some(answer));
        for repeat in [1, 1000, 1, 4000, 1] {
            let plain = format!("plain {}", json(repeat).repeat(repeat.min(100)));
            client.send(&plain);
            let large = json(repeat).repeat(repeat);
            client.send(&large);
            assert_eq!(client.read(), plain);
            assert_eq!(client.last.0, TEXT);
            assert_eq!(client.read(), large);
            assert_eq!(client.last.0, TEXT | 0x40);
        }
    }
}

#[test]
fn a_publish_reaches_each_subscriber_compressed_as_it_can_read_it() {
    for policy in [Policy::Shared, TAKEOVER] {
        let serving = start(policy);
        let small = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                     server_max_window_bits=9";
        let mut clients = vec![
            Client::new(&serving, "", None),
            Client::new(&serving, small, Some((small, alone(Some(9))))),
        ];
        for _ in 0..3 {
            let answer = match policy {
                Policy::Shared => (ALONE, alone(None)),
                _ => ("permessage-deflate", Parameters::default()),
            };
            clients.push(Client::new(&serving, "permessage-deflate", Some(answer)));
        }
        for client in &mut clients {
            client.send("join");
            assert_eq!(client.read(), "joined");
        }
        for round in 0..20 {
            let news = format!("all {}", json(round));
            let from = round % clients.len();
            // Two publishes, each to the topic and the pattern, and a message of its own, in one go.
            clients[from].send(&news);
            clients[from].send(&json(round));
            clients[from].send(&news);
            for (index, client) in clients.iter_mut().enumerate() {
                let first = if index == 0 { TEXT } else { TEXT | 0x40 };
                let mut read = Vec::new();
                for _ in 0..if index == from { 5 } else { 4 } {
                    read.push(client.read());
                    assert_eq!(client.last.0, first, "client {index} in round {round}");
                }
                let own = read.iter().filter(|text| **text == json(round)).count();
                assert_eq!(own, usize::from(index == from));
                assert_eq!(read.iter().filter(|text| **text == news).count(), 4);
            }
        }
    }
}
