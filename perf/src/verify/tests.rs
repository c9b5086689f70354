//! A right server passes, and each check finds the server that is wrong there.

use super::*;
use quelea::{Config, Conn, Handler, Message, Server};
use quelea_core::{
    Opcode, Role,
    frame::{self, Expect, Header},
    handshake::{OriginPolicy, Upgrade},
    http::{Fields, Request},
    mask,
};
use std::{
    io::{self, Read, Write},
    mem,
    net::{TcpListener, TcpStream},
    thread,
};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

#[test]
fn our_own_server_is_right() {
    let config = Config { workers: Some(1), ..Config::default() };
    let server = Server::new(|_| Echo).config(config).unwrap().listen("127.0.0.1:0").unwrap();
    let target = format!("ws://{}/", server.local_addresses().next().unwrap());
    let handle = server.handle();
    let thread = thread::spawn(move || server.run());
    let told =
        run(&Options { target: target.parse().unwrap(), deflate: Deflate::default() }).unwrap();
    assert_eq!(told.lines().count(), CHECKS.len());
    assert!(told.ends_with("right: the closing handshake"));
    handle.stop();
    thread.join().unwrap().unwrap();
}

/// A frame of the client.
struct Asked {
    opcode: Opcode,
    fin: bool,
    payload: Vec<u8>,
}

type Answers = Vec<(Opcode, Vec<u8>)>;

/// How a server is wrong: it changes the right answers to a frame, or goes on after its close frame.
#[derive(Clone, Copy)]
struct Wrong {
    change: fn(&Asked, &mut Answers),
    ends: bool,
}

const RIGHT: Wrong = Wrong { change: |_, _| {}, ends: true };

/// A server for one connection, which ends with its client at the latest.
fn serve(wrong: Wrong) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(&listener);
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // A client that found what is wrong leaves at once.
        let _ = Peer { stream, input: Vec::new() }.serve(wrong);
    });
    target
}

fn target(listener: &TcpListener) -> Target {
    format!("ws://{}/", listener.local_addr().unwrap()).parse().unwrap()
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    fn serve(&mut self, wrong: Wrong) -> io::Result<()> {
        self.accept()?;
        let (mut kind, mut message, mut under_way) = (Opcode::Text, Vec::new(), false);
        loop {
            let asked = self.read_frame(under_way)?;
            let mut answers = Answers::new();
            match asked.opcode {
                Opcode::Ping => answers.push((Opcode::Pong, asked.payload.clone())),
                Opcode::Pong => {}
                Opcode::Close => answers.push((Opcode::Close, asked.payload.clone())),
                opcode => {
                    if opcode != Opcode::Continuation {
                        kind = opcode;
                    }
                    message.extend_from_slice(&asked.payload);
                    under_way = !asked.fin;
                    if asked.fin {
                        answers.push((kind, mem::take(&mut message)));
                    }
                }
            }
            (wrong.change)(&asked, &mut answers);
            for (opcode, payload) in answers {
                self.write_frame(opcode, &payload)?;
            }
            if asked.opcode == Opcode::Close && wrong.ends {
                return Ok(());
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        // The client sends nothing more before it is answered.
        while !self.input.ends_with(b"\r\n\r\n") {
            self.read()?;
        }
        let head = mem::take(&mut self.input);
        let mut fields = Fields::new();
        let request = Request::parse(&head, &mut fields).unwrap();
        let mut out = Vec::new();
        let upgrade = Upgrade::check(&request, &OriginPolicy::Any).unwrap();
        upgrade.write_response(None, [], &mut out).unwrap();
        self.stream.write_all(&out)
    }

    fn read_frame(&mut self, under_way: bool) -> io::Result<Asked> {
        let expect = Expect::from_peer_of(Role::Server, under_way);
        loop {
            if let Some((header, start)) = Header::decode(&self.input, expect).unwrap() {
                let end = start + header.payload_len as usize;
                if let Some(payload) = self.input.get_mut(start..end) {
                    mask::apply(payload, header.mask.unwrap());
                    let payload = payload.to_vec();
                    self.input.drain(..end);
                    return Ok(Asked { opcode: header.opcode, fin: header.fin, payload });
                }
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.input.extend_from_slice(&buffer[..len]);
                Ok(())
            }
        }
    }

    fn write_frame(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mut out = Vec::new();
        let header = Header { fin: true, reserved: 0, opcode, mask: None, payload_len: 0 };
        frame::append(&mut out, header, payload);
        self.stream.write_all(&out)
    }
}

/// What the one check that a server fails says of it; `verify` has to say the same.
fn failure(wrong: Wrong) -> String {
    let failures: Vec<_> = CHECKS
        .iter()
        .filter_map(|check| check.apply(&serve(wrong), PATIENCE, &Deflate::default()).err())
        .collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    failures.into_iter().next().unwrap()
}

#[test]
fn a_right_server_passes_each_check() {
    for check in &CHECKS {
        check.apply(&serve(RIGHT), PATIENCE, &Deflate::default()).unwrap();
    }
}

#[test]
fn each_check_finds_the_server_that_is_wrong_there() {
    type Case = (&'static str, &'static str, fn(&Asked, &mut Answers));
    let cases: [Case; 11] = [
        ("a text message of 20 bytes", "expected a text message of 20 bytes, got a binary", {
            |asked, answers| {
                if asked.payload == b"twenty bytes of text" {
                    answers[0].0 = Opcode::Binary;
                }
            }
        }),
        ("a text message that is not ASCII", "that is another from byte 2 on", |asked, answers| {
            if asked.fin && asked.payload == NON_ASCII.as_bytes() {
                answers[0].1[2..4].copy_from_slice(b"??");
            }
        }),
        ("a text message of 70,000 bytes", "got a text message of 65535 bytes", |_, answers| {
            answers.iter_mut().for_each(|(_, payload)| payload.truncate(65_535));
        }),
        ("a binary message", "expected a binary message of 256 bytes, got a text", {
            |asked, answers| {
                if asked.payload.len() == 256 {
                    answers[0] = (Opcode::Text, vec![b'a'; 256]);
                }
            }
        }),
        ("an empty message", "expected a text message of 0 bytes, got a text message of 1", {
            |asked, answers| {
                if asked.payload.is_empty() {
                    answers[0].1 = b"?".to_vec();
                }
            }
        }),
        ("sixteen messages at once", "that is another from byte 8 on", |asked, answers| {
            if asked.payload == b"message 7" {
                answers[0].1 = b"message 8".to_vec();
            }
        }),
        ("three fragments", "expected a pong of 7 bytes, got a pong of 7 bytes with another", {
            |_, answers| {
                if answers.first().is_some_and(|(opcode, _)| *opcode == Opcode::Pong) {
                    answers[0].1 = b"BETWEEN".to_vec();
                }
            }
        }),
        ("three fragments", "got a text message of 1 bytes", |asked, answers| {
            if asked.opcode == Opcode::Continuation && asked.fin {
                answers[0].1 = b"?".to_vec();
            }
        }),
        ("the closing handshake", "with code 4321, got a close frame with code 1000", {
            |asked, answers| {
                if asked.opcode == Opcode::Close {
                    answers[0].1 = 1000_u16.to_be_bytes().to_vec();
                }
            }
        }),
        ("the closing handshake", "with code 4321, got the end of the stream", |asked, answers| {
            if asked.opcode == Opcode::Close {
                answers.clear();
            }
        }),
        ("a text message of 20 bytes", "the server broke the protocol", |asked, answers| {
            if asked.payload == b"twenty bytes of text" {
                answers[0].0 = Opcode::Continuation;
            }
        }),
    ];
    for (check, why, change) in cases {
        let failure = failure(Wrong { change, ends: true });
        assert!(failure.contains(check) && failure.contains(why), "{failure}");
    }
}

#[test]
fn a_server_that_does_not_end_the_stream_is_given_up_on() {
    let check = CHECKS.last().unwrap();
    let wrong = Wrong { ends: false, ..RIGHT };
    let failure =
        check.apply(&serve(wrong), Duration::from_secs(1), &Deflate::default()).unwrap_err();
    let why = "the closing handshake: expected the end of the stream: nothing more came within 1s";
    assert!(failure.ends_with(why), "{failure}");
}

#[test]
fn a_server_that_goes_on_after_its_close_frame_is_wrong() {
    let failure = failure(Wrong {
        change: |asked, answers| {
            if asked.opcode == Opcode::Close {
                answers.push((Opcode::Text, b"one more".to_vec()));
            }
        },
        ends: true,
    });
    assert!(failure.ends_with("the server went on after its close frame"), "{failure}");
}

#[test]
fn what_is_no_websocket_server_fails_at_the_opening_handshake() {
    for (answer, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "101"),
        ("", "ended the stream"),
        ("SSH-2.0-x\r\n\r\n", "opening handshake"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(&listener);
        let thread = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let failure = verify(&target, &Deflate::default()).unwrap_err();
        assert!(failure.contains("opening handshake") && failure.contains(why), "{failure}");
        thread.join().unwrap();
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(&nobody);
    drop(nobody);
    assert!(verify(&target, &Deflate::default()).unwrap_err().contains("cannot connect"));
}

#[test]
fn a_server_that_compresses_is_right_and_one_that_declines_is_not() {
    use quelea::deflate::{Policy, Settings, WindowBits};
    let offering =
        |offer: &str| Deflate { offered: offer.parse().unwrap(), deflate_optional: false };
    let takeover = Policy::Takeover { window_bits: WindowBits::MAX, budget_bytes: 16 << 20 };
    for policy in [Policy::Shared, takeover] {
        let config = Config { deflate: Settings::new(policy), ..Config::default() };
        let server = crate::testing::TestServer::start(config, |_| Echo);
        let target = format!("ws://{}/", server.address).parse().unwrap();
        for offer in ["off", "shared", "takeover", "server_max_window_bits=9"] {
            verify(&target, &offering(offer)).unwrap();
        }
    }
    let server = crate::testing::TestServer::start(Config::default(), |_| Echo);
    let target = format!("ws://{}/", server.address).parse().unwrap();
    let failure = verify(&target, &offering("shared")).unwrap_err();
    assert!(failure.contains("declined permessage-deflate"), "{failure}");
}

/// Sends each message to all.
struct ToAll {
    copies: usize,
}

impl Handler for ToAll {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        for _ in 0..self.copies {
            conn.publish_to_others("all", message);
        }
        conn.send(message);
    }
}

#[test]
fn a_server_that_publishes_sends_each_message_once_to_its_sender_and_to_the_others() {
    let checked = |copies| {
        let server =
            crate::testing::TestServer::start(Config::default(), move |_| ToAll { copies });
        let target = format!("ws://{}/", server.address).parse().unwrap();
        verify_publish(&target, &Deflate { deflate_optional: true, ..Deflate::default() })
    };
    assert_eq!(checked(1), Ok(()));
    for wrong in [0, 2] {
        let failure = checked(wrong).unwrap_err();
        assert!(failure.contains("two subscribers"), "{failure}");
    }
}
