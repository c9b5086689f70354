//! What a client receives: compared with what is expected, or decoded by core.

use super::{
    ClientId, Clients, End, FrameId, Mode, Outcome, Settings, clients::Begun, frames::RSV1,
    opening::Answer,
};
use quelea_core::{
    Event, Received, Role,
    frame::{Expect, Header},
};

/// Takes all of `bytes`.
pub(super) fn receive<M: Mode>(
    clients: &mut Clients<M::State>,
    mode: &mut M,
    settings: &Settings,
    id: ClientId,
    bytes: &mut [u8],
) -> Outcome {
    clients.stats.bytes_received += bytes.len() as u64;
    let Some(client) = clients.client(id) else { return Ok(()) };
    if client.opening.is_some() {
        let Some(mut rest) = open(clients, settings, id, bytes) else { return Ok(()) };
        mode.on_open(clients, id)?;
        return decode(clients, mode, id, &mut rest).map(drop);
    }
    let mut bytes = bytes;
    loop {
        let taken = compare(clients, mode, id, bytes)?;
        bytes = &mut bytes[taken..];
        if bytes.is_empty() {
            return Ok(());
        }
        if settings.raw {
            return Err("the server sent other bytes than it got: it does not echo".into());
        }
        if let Some(begun) = clients.client(id).and_then(|client| client.matched.take()) {
            // Something else came, though it began alike: core has to see it from its start.
            let echo = clients.frames.echoed_bytes(begun.echo);
            let mut begun = echo[..begun.len].to_vec();
            decode(clients, mode, id, &mut begun)?;
        }
        let Some((frame, len)) = learnable(clients, mode, id, bytes) else {
            return decode(clients, mode, id, bytes).map(drop);
        };
        let (first, rest) = bytes.split_at_mut(len);
        let wire = first.to_vec();
        if decode(clients, mode, id, first)? == 1 {
            clients.frames.learn(frame, &wire);
        }
        bytes = rest;
    }
}

/// The expected message, if `bytes` begin with a whole frame that may be what the server makes of it, and how
/// long that is. Where each message is compressed by itself, the same bytes are the same message ever after.
fn learnable<M: Mode>(
    clients: &Clients<M::State>,
    mode: &M,
    id: ClientId,
    bytes: &[u8],
) -> Option<(FrameId, usize)> {
    let client = clients.slots.get(id.index()).filter(|client| client.id == id)?;
    if !client.is_agreed() || client.inflates || client.connection.is_receiving() {
        return None;
    }
    let (frame, _) = mode.expected(&client.state)?;
    if clients.frames.is_learned(frame) {
        return None;
    }
    let expect = Expect::from_peer_of(Role::Client, false);
    let expect = Expect { reserved_allowed: RSV1, ..expect };
    let (header, header_len) = Header::decode(bytes, expect).ok()??;
    let len = header_len as u64 + header.payload_len;
    let is_whole = header.fin && !header.opcode.is_control() && len <= bytes.len() as u64;
    is_whole.then_some((frame, len as usize))
}

/// Takes frames as long as they are the expected ones; how many bytes that is.
#[inline]
fn compare<M: Mode>(
    clients: &mut Clients<M::State>,
    mode: &mut M,
    id: ClientId,
    bytes: &[u8],
) -> Outcome<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        let Clients { slots, frames, .. } = clients;
        let Some(client) = slots.get_mut(id.index()).filter(|client| client.id == id) else {
            break;
        };
        if client.connection.is_receiving() || client.inflates || !client.can_send() {
            break;
        }
        let is_agreed = client.is_agreed();
        let (frame, echo, begun, most) = match (client.matched.take(), mode.expected(&client.state))
        {
            (Some(Begun { frame, echo, len }), _) => (frame, echo, len, 1),
            (None, Some((frame, most))) => (frame, frames.echo(frame, is_agreed), 0, most),
            (None, None) => break,
        };
        let expected = frames.echoed_bytes(echo.clone());
        let matched = Matched::count(expected, begun, &bytes[taken..], most);
        taken += matched.taken;
        if matched.begun > 0 {
            client.matched = Some(Begun { frame, echo, len: matched.begun });
        }
        if matched.count > 0 {
            mode.on_expected(clients, id, matched.count)?;
        }
        if matched.is_other {
            break;
        }
    }
    Ok(taken)
}

/// What was found to be as expected.
#[derive(Debug, PartialEq, Eq)]
struct Matched {
    /// Whole frames.
    count: u32,
    taken: usize,
    /// How much there is of one that is not whole.
    begun: usize,
    /// What follows is something else.
    is_other: bool,
}

impl Matched {
    /// Of the first frame, `begun` bytes came before.
    #[inline]
    fn count(frame: &[u8], mut begun: usize, bytes: &[u8], most: u32) -> Self {
        let (mut count, mut taken) = (0, 0);
        while count < most && taken < bytes.len() {
            let expected = &frame[begun..];
            let came = &bytes[taken..];
            let len = expected.len().min(came.len());
            if came[..len] != expected[..len] {
                return Self { count, taken, begun, is_other: true };
            }
            taken += len;
            if len < expected.len() {
                return Self { count, taken, begun: begun + len, is_other: false };
            }
            (count, begun) = (count + 1, 0);
        }
        Self { count, taken, begun, is_other: false }
    }
}

/// Takes the answer to the handshake; what came behind it once that is whole.
#[cold]
fn open<S>(
    clients: &mut Clients<S>,
    settings: &Settings,
    id: ClientId,
    bytes: &[u8],
) -> Option<Vec<u8>> {
    let Clients { slots, stats, now, .. } = clients;
    let now = *now;
    let client = slots.get_mut(id.index()).filter(|client| client.id == id)?;
    let opening = client.opening.as_mut()?;
    // What answers is connected, whatever the driver told.
    opening.connect_at(now, stats);
    let connected = opening.connected.unwrap_or(now);
    match opening.receive(settings, bytes) {
        Ok(answer) => {
            let Answer { agreed, rest } = answer?;
            stats.upgrade.saturating_record(now.since(connected));
            if !settings.deflate.offered.offers().is_empty() {
                clients.agree(id, agreed.as_ref());
            }
            clients.set_open(id);
            Some(rest)
        }
        Err(end) => {
            clients.doom(id, end);
            None
        }
    }
}

/// Has core decode `bytes`; how many messages came of that.
fn decode<M: Mode>(
    clients: &mut Clients<M::State>,
    mode: &mut M,
    id: ClientId,
    bytes: &mut [u8],
) -> Outcome<usize> {
    let mut messages = 0;
    let mut received = Received::new(bytes);
    let mut answer = Vec::new();
    loop {
        let now = clients.now;
        let Clients { slots, context, stats, .. } = clients;
        let Some(client) = slots.get_mut(id.index()).filter(|client| client.id == id) else {
            return Ok(messages);
        };
        match client.connection.poll_event(&mut received, context, &mut answer) {
            Ok(None) => break,
            Ok(Some(Event::Message(message))) => {
                mode.on_message(clients, id, message)?;
                messages += 1;
            }
            Ok(Some(Event::Ping(_))) => stats.pings_received += 1,
            Ok(Some(Event::Pong(payload))) => stats.record_heartbeat(payload, now),
            Ok(Some(Event::Close(frame))) => {
                let by_server = !client.close_begun;
                let (code, reason) = (frame.code, frame.reason.to_owned());
                client.end.get_or_insert_with(|| Box::new(End::Closed { code, reason, by_server }));
                // The server ends the connection first (RFC 6455, section 7.1.1).
                clients.closing.push(id);
            }
            Err(violation) => {
                clients.append(id, &answer);
                clients.doom(id, End::Violation(violation));
                return Ok(messages);
            }
        }
        if !answer.is_empty() {
            clients.append(id, &answer);
            answer.clear();
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(begun: usize, bytes: &[u8], most: u32) -> (u32, usize, usize, bool) {
        let matched = Matched::count(b"abc", begun, bytes, most);
        (matched.count, matched.taken, matched.begun, matched.is_other)
    }

    #[test]
    fn whole_frames_are_counted_wherever_they_are_cut() {
        assert_eq!(count(0, b"abcabcab", 9), (2, 8, 2, false));
        assert_eq!(count(2, b"cabc", 9), (2, 4, 0, false));
        assert_eq!(count(1, b"b", 9), (0, 1, 2, false));
        assert_eq!(count(0, b"abcabc", 1), (1, 3, 0, false));
        assert_eq!(count(0, b"", 9), (0, 0, 0, false));
    }

    #[test]
    fn what_is_not_expected_is_left_from_the_start_of_its_frame_on() {
        assert_eq!(count(0, b"abcabx", 9), (1, 3, 0, true));
        assert_eq!(count(2, b"x", 9), (0, 0, 2, true));
        assert_eq!(count(0, b"x", 9), (0, 0, 0, true));
    }
}
