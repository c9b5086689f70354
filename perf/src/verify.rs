//! `quelea-perf verify`: whether an echo server is right. One that is not may not be measured.

mod session;
#[cfg(test)]
mod tests;

use crate::{load::Deflate, target::Target};
use clap::Args;
use quelea_core::MessageKind;
use session::{Received, Session};
use std::time::Duration;

#[derive(Args)]
#[command(after_help = "Example:\n  \
    quelea-perf verify ws://127.0.0.1:9001/")]
pub(crate) struct Options {
    /// The echo server, such as ws://127.0.0.1:9001/.
    target: Target,
    #[command(flatten)]
    deflate: Deflate,
}

/// What an echo server has to do right, over a connection of its own.
struct Check {
    name: &'static str,
    run: fn(&mut Session) -> Result<(), String>,
}

/// How long a server may take for one check.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than fits a length of 16 bits, and most read buffers.
const LARGE_BYTES: usize = 70_000;
/// Two, three and four bytes a character.
const NON_ASCII: &str = "Grüße, Жизнь, 日本語, 🦜";
/// As many in flight as a comparison has.
const BURST: usize = 16;
/// For applications (RFC 6455, section 7.4.2), so a server does not have it by itself.
const CLOSE_CODE: u16 = 4321;

const CHECKS: [Check; 8] = [
    Check {
        name: "a text message of 20 bytes",
        run: |session| echo(session, MessageKind::Text, b"twenty bytes of text"),
    },
    Check {
        name: "a text message that is not ASCII",
        run: |session| echo(session, MessageKind::Text, NON_ASCII.as_bytes()),
    },
    Check {
        name: "a text message of 70,000 bytes",
        run: |session| {
            let letters: Vec<u8> = (b'a'..=b'z').cycle().take(LARGE_BYTES).collect();
            echo(session, MessageKind::Text, &letters)
        },
    },
    Check {
        name: "a binary message",
        run: |session| {
            let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
            echo(session, MessageKind::Binary, &all_bytes)
        },
    },
    Check {
        name: "an empty message",
        run: |session| {
            echo(session, MessageKind::Text, b"")?;
            echo(session, MessageKind::Binary, b"")
        },
    },
    Check { name: "sixteen messages at once", run: burst },
    Check { name: "a message in three fragments, with a ping between", run: fragments },
    Check { name: "the closing handshake", run: close },
];

pub(crate) fn run(options: &Options) -> Result<String, String> {
    verify(&options.target, &options.deflate)?;
    let names = CHECKS.map(|check| format!("right: {}", check.name));
    Ok(names.join("\n"))
}

/// Whether the server at `target` echoes as RFC 6455 wants it, and RFC 7692 if compression is offered: the error
/// names the first check that failed, and why it did.
pub(crate) fn verify(target: &Target, deflate: &Deflate) -> Result<(), String> {
    CHECKS.iter().try_for_each(|check| check.apply(target, PATIENCE, deflate))
}

/// Whether the server at `target` sends each message to all, its sender included: to one client alone that is an echo.
pub(crate) fn verify_publish(target: &Target, deflate: &Deflate) -> Result<(), String> {
    verify(target, deflate)?;
    publish(target, deflate)
        .map_err(|error| format!("the server failed at a message for two subscribers: {error}"))
}

fn publish(target: &Target, deflate: &Deflate) -> Result<(), String> {
    let message = |text: &[u8]| Received::Message(MessageKind::Text, text.to_vec());
    let mut first = Session::open(target, PATIENCE, deflate)?;
    // Who gets its own message is a subscriber from then on.
    echo(&mut first, MessageKind::Text, b"the first")?;
    let mut second = Session::open(target, PATIENCE, deflate)?;
    echo(&mut second, MessageKind::Text, b"the second")?;
    first.expect(&message(b"the second"))?;
    echo(&mut first, MessageKind::Text, b"to both")?;
    second.expect(&message(b"to both"))?;
    // Nobody gets anything twice: it would come before the end.
    [first, second].iter_mut().try_for_each(close)
}

impl Check {
    fn apply(&self, target: &Target, patience: Duration, deflate: &Deflate) -> Result<(), String> {
        Session::open(target, patience, deflate)
            .map_err(|error| format!("the opening handshake: {error}"))
            .and_then(|mut session| (self.run)(&mut session))
            .map_err(|error| format!("the server failed at {}: {error}", self.name))
    }
}

fn echo(session: &mut Session, kind: MessageKind, payload: &[u8]) -> Result<(), String> {
    session.send_fragment(kind, payload, true)?;
    session.expect(&Received::Message(kind, payload.to_vec()))
}

/// All are there before one is answered, so that a server that answers several by one write does.
fn burst(session: &mut Session) -> Result<(), String> {
    let messages = (0..BURST).map(|number| format!("message {number}").into_bytes());
    let messages: Vec<_> = messages.collect();
    for message in &messages {
        session.queue_fragment(MessageKind::Text, message, true)?;
    }
    session.flush()?;
    messages
        .into_iter()
        .try_for_each(|message| session.expect(&Received::Message(MessageKind::Text, message)))
}

/// Cut inside of characters, as a sender may (section 5.6).
fn fragments(session: &mut Session) -> Result<(), String> {
    let message = NON_ASCII.as_bytes();
    let (first, rest) = message.split_at(3);
    let (second, third) = rest.split_at(rest.len() - 2);
    session.send_fragment(MessageKind::Text, first, false)?;
    session.ping(b"between")?;
    session.expect(&Received::Pong(b"between".to_vec()))?;
    session.send_fragment(MessageKind::Text, second, false)?;
    session.send_fragment(MessageKind::Text, third, true)?;
    session.expect(&Received::Message(MessageKind::Text, message.to_vec()))
}

fn close(session: &mut Session) -> Result<(), String> {
    session.close(CLOSE_CODE)?;
    session.expect(&Received::Close(CLOSE_CODE))?;
    session.expect(&Received::End)
}
