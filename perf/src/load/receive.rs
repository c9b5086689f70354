//! What a client receives: compared with what is expected, or decoded by core.

use super::{ClientId, Clients, End, Mode, Outcome, Settings};
use quelea_core::{Event, Received};

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
        return decode(clients, mode, id, &mut rest);
    }
    let taken = compare(clients, mode, id, bytes)?;
    if taken == bytes.len() {
        return Ok(());
    }
    if settings.raw {
        return Err("the server sent other bytes than it got: it does not echo".into());
    }
    if let Some((frame, len)) = clients.client(id).and_then(|client| client.matched.take()) {
        // Something else came, though it began alike: core has to see it from its start.
        let mut begun = clients.frames.echo(frame)[..len].to_vec();
        decode(clients, mode, id, &mut begun)?;
    }
    decode(clients, mode, id, &mut bytes[taken..])
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
        if client.connection.is_receiving() || !client.can_send() {
            break;
        }
        let (frame, most) = match (client.matched, mode.expected(&client.state)) {
            (Some((frame, _)), _) => (frame, 1),
            (None, Some(expected)) => expected,
            (None, None) => break,
        };
        let begun = client.matched.map_or(0, |(_, len)| len);
        let matched = Matched::count(frames.echo(frame), begun, &bytes[taken..], most);
        taken += matched.taken;
        client.matched = (matched.begun > 0).then_some((frame, matched.begun));
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
        Ok(rest) => {
            let rest = rest?;
            stats.upgrade.saturating_record(now.since(connected));
            clients.set_open(id);
            Some(rest)
        }
        Err(end) => {
            clients.doom(id, end);
            None
        }
    }
}

fn decode<M: Mode>(
    clients: &mut Clients<M::State>,
    mode: &mut M,
    id: ClientId,
    bytes: &mut [u8],
) -> Outcome {
    let mut received = Received::new(bytes);
    let mut answer = Vec::new();
    loop {
        let now = clients.now;
        let Clients { slots, context, stats, .. } = clients;
        let Some(client) = slots.get_mut(id.index()).filter(|client| client.id == id) else {
            return Ok(());
        };
        match client.connection.poll_event(&mut received, context, &mut answer) {
            Ok(None) => break,
            Ok(Some(Event::Message(message))) => mode.on_message(clients, id, message)?,
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
                return Ok(());
            }
        }
        if !answer.is_empty() {
            clients.append(id, &answer);
            answer.clear();
        }
    }
    Ok(())
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
