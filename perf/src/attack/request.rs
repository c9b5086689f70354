//! A request, and how its answer is judged.

use super::{
    arena::Arena,
    finding::Finding,
    peer::{End, Heard, is_accepted},
};
use crate::clock::now;
use std::{io, time::Duration};

/// How long is listened for more behind an answer, where more would be wrong.
const QUIET: Duration = Duration::from_millis(700);

pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_bytewise: bool,
    /// Whether what follows the head of the answer counts.
    pub(crate) is_listening: bool,
    pub(crate) judge: Judge,
}

pub(crate) type Judge = fn(&Reply) -> Finding;

/// All that came back.
pub(crate) struct Reply {
    pub(crate) status: Option<u16>,
    pub(crate) head: String,
    /// What followed the head, if that counts, and how the server ended the connection.
    pub(crate) rest: Vec<u8>,
    pub(crate) end: Option<End>,
    /// What is said if nothing came.
    nothing: String,
}

impl Request {
    pub(crate) fn new(name: impl Into<String>, bytes: Vec<u8>, judge: Judge) -> Self {
        Self { name: name.into(), bytes, is_bytewise: false, is_listening: false, judge }
    }

    pub(crate) fn bytewise(self) -> Self {
        Self { is_bytewise: true, ..self }
    }

    pub(crate) fn listening(self) -> Self {
        Self { is_listening: true, ..self }
    }

    pub(crate) fn run(&self, arena: &Arena<'_>) -> io::Result<Finding> {
        let mut peer = arena.connect()?;
        if self.is_bytewise {
            peer.send_bytewise(&self.bytes);
        } else {
            peer.send(&self.bytes);
        }
        let nothing = arena.nothing("no answer");
        let mut reply =
            Reply { status: None, head: String::new(), rest: Vec::new(), end: None, nothing };
        match peer.head(now() + arena.bounds.patience)? {
            Heard::Some(head) => {
                reply.status = status(&head);
                reply.head = head;
                if self.is_listening {
                    (reply.rest, reply.end) = peer.rest(now() + QUIET)?;
                }
            }
            Heard::End(end) => reply.end = Some(end),
            Heard::Nothing => {}
        }
        Ok((self.judge)(&reply))
    }
}

fn status(head: &str) -> Option<u16> {
    let (_, rest) = head.strip_prefix("HTTP/1.")?.split_once(' ')?;
    rest.get(..3)?.parse().ok()
}

impl Reply {
    fn is_opened(&self) -> bool {
        self.status == Some(101)
    }

    fn is_error(&self) -> bool {
        matches!(self.status, Some(400..500))
    }

    /// How many heads of answers came.
    fn answers(&self) -> usize {
        let rest = String::from_utf8_lossy(&self.rest);
        usize::from(self.status.is_some()) + rest.matches("HTTP/1.1 ").count()
    }

    fn happened(&self) -> String {
        match (self.status, self.end) {
            (Some(101), _) => "opened (101)".to_owned(),
            (Some(status), _) => status.to_string(),
            (None, _) if !self.head.is_empty() => "an answer that is no HTTP".to_owned(),
            (None, Some(End::Closed)) => "closed without an answer".to_owned(),
            (None, Some(End::Reset)) => "reset without an answer".to_owned(),
            (None, None) => self.nothing.clone(),
        }
    }
}

/// A client error; not as good is an end without a word, or an answer that calls it no error.
pub(crate) fn refused(reply: &Reply) -> Finding {
    match reply.status {
        Some(400..500) => Finding::pass(reply.happened()),
        Some(101) => Finding::fail(reply.happened()),
        Some(_) => Finding::weak(reply.happened()),
        None if reply.end.is_some() => Finding::weak(reply.happened()),
        None => Finding::fail(reply.happened()),
    }
}

/// What is no request for a WebSocket may be answered with a page.
pub(crate) fn not_opened(reply: &Reply) -> Finding {
    match reply.status {
        Some(200..300) => Finding::pass(reply.happened()),
        _ => refused(reply),
    }
}

/// What is of another protocol, or of another version of this one.
pub(crate) fn no_http(reply: &Reply) -> Finding {
    match reply.status {
        Some(505) => Finding::pass(reply.happened()),
        _ => refused(reply),
    }
}

/// A client error that tells which version is spoken.
pub(crate) fn told_the_version(reply: &Reply) -> Finding {
    let tells = |line: &str| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("Sec-WebSocket-Version")
                && value.split(',').any(|version| version.trim() == "13")
        })
    };
    match (reply.is_error(), reply.head.lines().any(tells)) {
        (true, false) => {
            Finding::fail(format!("{} without Sec-WebSocket-Version: 13", reply.happened()))
        }
        (true, true) => {
            Finding::pass(format!("{} with Sec-WebSocket-Version: 13", reply.happened()))
        }
        _ => refused(reply),
    }
}

/// The bytes of the body may be refused or passed over, but are no frames.
pub(crate) fn body_is_no_frame(reply: &Reply) -> Finding {
    match reply.is_opened() {
        true if !reply.rest.is_empty() => {
            Finding::fail("opened (101), and took the body as frames")
        }
        true if reply.end.is_some() => Finding::weak("opened (101), then ended without a frame"),
        true => Finding::weak("opened (101), the body passed over"),
        false => refused(reply),
    }
}

/// One answer, and then the end: the next request could be a part of this one.
pub(crate) fn one_answer_then_the_end(reply: &Reply) -> Finding {
    match (reply.answers(), reply.end) {
        (2.., _) => Finding::fail("two answers: the body was read as a request"),
        (_, None) if reply.status.is_some() => {
            Finding::fail(format!("{}, and the connection stays open", reply.happened()))
        }
        _ if reply.is_error() => Finding::pass(format!("{}, closed", reply.happened())),
        _ => not_opened(reply),
    }
}

/// What came before the 101 is refused; or at least no HTTP request any more.
pub(crate) fn no_second_request(reply: &Reply) -> Finding {
    match reply.is_opened() {
        true if reply.answers() > 1 => {
            Finding::fail("opened (101), and answered a request behind it")
        }
        true if !reply.rest.is_empty() => {
            Finding::weak("opened (101), what was behind it taken as frames")
        }
        true if reply.end.is_some() => Finding::weak("opened (101), then ended without a frame"),
        true => Finding::weak("opened (101), what was behind it passed over"),
        false => refused(reply),
    }
}

/// An answer, whatever it says.
pub(crate) fn answered(reply: &Reply) -> Finding {
    match reply.status {
        Some(_) => Finding::pass(reply.happened()),
        None if reply.end.is_some() => Finding::weak(reply.happened()),
        None => Finding::fail(reply.happened()),
    }
}

/// The 101, with the right key.
pub(crate) fn opened(reply: &Reply) -> Finding {
    if is_accepted(&reply.head) {
        Finding::pass(reply.happened())
    } else {
        Finding::fail(reply.happened())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn reply(head: &str, rest: &[u8], end: Option<End>) -> Reply {
        let nothing = "no answer".to_owned();
        Reply { status: status(head), head: head.to_owned(), rest: rest.to_vec(), end, nothing }
    }

    #[test]
    fn each_answer_is_judged_by_what_it_says() {
        use Verdict::*;
        let closed = Some(End::Closed);
        let opened_head = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let with_version = "HTTP/1.1 426 Upgrade\r\nsec-websocket-version: 13, 8\r\n\r\n";
        for (judge, head, rest, end, verdict) in [
            (refused as Judge, "HTTP/1.1 400 Bad\r\n\r\n", &b""[..], closed, Pass),
            (refused, "HTTP/1.1 500 Oh\r\n\r\n", b"", closed, Weak),
            (refused, "HTTP/1.1 200 OK\r\n\r\n", b"", closed, Weak),
            (refused, opened_head, b"", None, Fail),
            (refused, "", b"", closed, Weak),
            (refused, "", b"", None, Fail),
            (not_opened, "HTTP/1.1 200 OK\r\n\r\n", b"", None, Pass),
            (not_opened, opened_head, b"", None, Fail),
            (told_the_version, with_version, b"", closed, Pass),
            (told_the_version, "HTTP/1.1 426 Upgrade\r\n\r\n", b"", closed, Fail),
            (told_the_version, opened_head, b"", None, Fail),
            (body_is_no_frame, opened_head, b"\x81\x01a", None, Fail),
            (body_is_no_frame, opened_head, b"", closed, Weak),
            (body_is_no_frame, opened_head, b"", None, Weak),
            (body_is_no_frame, "HTTP/1.1 413 Long\r\n\r\n", b"", None, Pass),
            (one_answer_then_the_end, "HTTP/1.1 400 Bad\r\n\r\n", b"", closed, Pass),
            (one_answer_then_the_end, "HTTP/1.1 400 Bad\r\n\r\n", b"", None, Fail),
            (one_answer_then_the_end, "HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 ", closed, Fail),
            (one_answer_then_the_end, opened_head, b"", None, Fail),
            (no_second_request, opened_head, b"HTTP/1.1 200 OK", None, Fail),
            (no_second_request, opened_head, b"\x88\x02\x03\xea", closed, Weak),
            (no_second_request, "HTTP/1.1 400 Bad\r\n\r\n", b"", closed, Pass),
            (answered, opened_head, b"", None, Pass),
            (answered, "", b"", None, Fail),
            (opened, opened_head, b"", None, Fail),
        ] {
            let finding = judge(&reply(head, rest, end));
            assert_eq!(finding.verdict, verdict, "{head:?} {rest:?} {end:?}: {finding:?}");
        }
    }
}
