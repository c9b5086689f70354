//! One direction of a simulated connection.

use std::{collections::VecDeque, time::Instant};

/// Bytes under way, and bytes that have arrived and were not read.
#[derive(Debug)]
pub(super) struct Pipe {
    chunks: VecDeque<Chunk>,
    /// Read already of the first chunk.
    read: usize,
    len: usize,
    capacity: usize,
    /// When the last thing that was sent arrives: nothing overtakes it.
    last: Option<Instant>,
    end: Option<(Instant, End)>,
    /// The sender waits for room.
    pub(super) is_awaited: bool,
}

#[derive(Debug)]
struct Chunk {
    at: Instant,
    bytes: Vec<u8>,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A FIN: after all bytes.
    Fin,
    /// A RST.
    Reset,
}

impl Pipe {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            read: 0,
            len: 0,
            capacity,
            last: None,
            end: None,
            is_awaited: false,
        }
    }

    /// Bytes it takes now.
    pub(super) const fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len)
    }

    /// Whether its sender has ended it.
    pub(super) const fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether nothing is in it and nothing has ended it.
    pub(super) const fn is_idle(&self) -> bool {
        self.len == 0 && self.end.is_none()
    }

    /// Sends; returns when it arrives.
    pub(super) fn send(&mut self, bytes: &[u8], at: Instant) -> Instant {
        let at = self.in_turn(at);
        self.len += bytes.len();
        self.chunks.push_back(Chunk { at, bytes: bytes.to_vec() });
        at
    }

    /// Ends it behind all that was sent; returns when the other side learns of it. A FIN is not taken
    /// back by another one, but by a reset.
    pub(super) fn end(&mut self, end: End, at: Instant) -> Instant {
        let at = self.in_turn(at);
        if end == End::Reset || self.end.is_none() {
            self.end = Some((at, end));
        }
        at
    }

    /// Destroys what has not arrived.
    pub(super) fn lose(&mut self, now: Instant) {
        while self.chunks.back().is_some_and(|chunk| chunk.at > now)
            && let Some(chunk) = self.chunks.pop_back()
        {
            self.len -= chunk.bytes.len();
        }
    }

    fn in_turn(&mut self, at: Instant) -> Instant {
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        at
    }

    /// Whether a read would find something at this time.
    pub(super) fn is_readable(&self, now: Instant) -> bool {
        self.chunks.front().is_some_and(|chunk| chunk.at <= now) || self.ended(now).is_some()
    }

    /// Moves at most `out.len()` bytes that have arrived.
    pub(super) fn read(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let mut len = 0;
        while len < out.len()
            && let Some(chunk) = self.chunks.front()
            && chunk.at <= now
        {
            let unread = &chunk.bytes[self.read..];
            let count = unread.len().min(out.len() - len);
            out[len..len + count].copy_from_slice(&unread[..count]);
            len += count;
            self.read += count;
            if self.read == chunk.bytes.len() {
                self.chunks.pop_front();
                self.read = 0;
            }
        }
        self.len -= len;
        len
    }

    /// How it has ended, once all before that was read.
    pub(super) fn ended(&self, now: Instant) -> Option<End> {
        let (at, end) = self.end?;
        (at <= now && self.chunks.is_empty()).then_some(end)
    }

    /// Whether a reset has arrived, read or not.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        matches!(self.end, Some((at, End::Reset)) if at <= now)
    }

    /// Whether something has come that nobody has read.
    pub(super) fn has_unread(&self, now: Instant) -> bool {
        self.chunks.front().is_some_and(|chunk| chunk.at <= now)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn bytes_come_in_order_not_before_their_time_and_make_room_when_read() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut pipe = Pipe::new(10);
        assert_eq!(pipe.send(b"later", later), later);
        assert_eq!(pipe.send(b"now", now), later, "nothing overtakes");
        assert_eq!(pipe.room(), 2);
        let mut out = [0; 6];
        assert!(!pipe.is_readable(now));
        assert_eq!(pipe.read(now, &mut out), 0);
        assert_eq!(pipe.read(later, &mut out), 6);
        assert_eq!((&out, pipe.room()), (b"latern", 8));
        pipe.end(End::Fin, later);
        assert_eq!(pipe.ended(later), None, "not all is read");
        assert_eq!(pipe.read(later, &mut out), 2);
        assert_eq!(pipe.ended(later), Some(End::Fin));
    }

    #[test]
    fn a_reset_comes_behind_what_has_arrived_and_what_is_lost_never_comes() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut pipe = Pipe::new(10);
        pipe.send(b"here", now);
        pipe.send(b"lost", later);
        pipe.lose(now);
        pipe.end(End::Reset, now);
        assert!(!pipe.is_reset(now) && pipe.is_reset(later));
        assert_eq!(pipe.read(later, &mut [0; 10]), 4);
        assert_eq!(pipe.ended(later), Some(End::Reset));
    }
}
