//! The output of a tick: what all clients send, a piece each, so that each has one send.

use super::frames::Frames;
use quelea::driver::SlotId;
use std::ops::Range;

/// Beyond this many bytes a tick is cut short, to stay in the cache.
const TICK_BYTES_MAX: usize = 1 << 20;
/// What one tick took beyond it, as the first of many messages at once does, is given back.
const WRITTEN_KEPT_BYTES_MAX: usize = 4 * TICK_BYTES_MAX;
/// A client's own buffer is given back beyond this many bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Below this many bytes a prepared frame is copied to the others of the tick.
const COPIED_BYTES_MAX: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Output {
    written: Vec<u8>,
    pieces: Vec<Piece>,
    /// Numbers ticks, so that the places of the last one count no more.
    tick: u32,
    own_pieces: bool,
}

#[derive(Debug)]
struct Piece {
    id: SlotId,
    /// Where what it wrote begins; where the next piece begins, it ends.
    start: usize,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Written,
    Prepared(Range<usize>),
    /// It lies in the client's own buffer.
    Own,
}

/// What one client has to send.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Its piece, and of which tick that is.
    piece: (u32, u32),
    /// The socket took no more: what is here goes first.
    blocked: bool,
    own: Vec<u8>,
    /// What is left of a prepared frame; if not empty, `own` is.
    rest: Range<usize>,
}

impl Queue {
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn waiting(&self) -> usize {
        if self.blocked { self.own.len() + self.rest.len() } else { 0 }
    }

    /// All that waited was sent.
    pub(crate) fn release(&mut self) {
        if !self.blocked {
            self.own.clear();
            self.own.shrink_to(KEPT_BYTES_MAX);
        }
    }

    fn own(&mut self, frames: &Frames) -> &mut Vec<u8> {
        let rest = std::mem::take(&mut self.rest);
        self.own.extend_from_slice(frames.sent_bytes(rest));
        &mut self.own
    }
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { tick: 1, ..Self::default() }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.written.len() > TICK_BYTES_MAX
    }

    /// Whether a client has written what is not sent.
    pub(crate) const fn has(&self, queue: &Queue) -> bool {
        queue.blocked || queue.piece.0 == self.tick
    }

    /// Who sends in this tick.
    pub(crate) fn owners(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.pieces.iter().map(|piece| piece.id)
    }

    /// Where to append what a client sends.
    #[inline]
    pub(crate) fn buffer<'a>(
        &'a mut self,
        id: SlotId,
        queue: &'a mut Queue,
        frames: &Frames,
    ) -> &'a mut Vec<u8> {
        if queue.blocked {
            return queue.own(frames);
        }
        if queue.piece.0 != self.tick {
            self.begin(id, queue, Content::Written);
            return &mut self.written;
        }
        let index = queue.piece.1 as usize;
        let is_last = index + 1 == self.pieces.len();
        match (is_last, &self.pieces[index].content) {
            (true, Content::Written) => &mut self.written,
            (false, Content::Written) => {
                let range = self.range(index);
                queue.own.extend_from_slice(&self.written[range]);
                self.give_own(index);
                &mut queue.own
            }
            (true, Content::Prepared(range)) => {
                self.written.extend_from_slice(frames.sent_bytes(range.clone()));
                self.pieces[index].content = Content::Written;
                &mut self.written
            }
            (false, Content::Prepared(range)) => {
                queue.own.extend_from_slice(frames.sent_bytes(range.clone()));
                self.give_own(index);
                &mut queue.own
            }
            (_, Content::Own) => &mut queue.own,
        }
    }

    /// Sends a prepared frame from where it lies, if it is worth it.
    #[inline]
    pub(crate) fn send_in_place(
        &mut self,
        id: SlotId,
        queue: &mut Queue,
        range: &Range<usize>,
    ) -> bool {
        let fits = range.len() > COPIED_BYTES_MAX && !queue.blocked && queue.piece.0 != self.tick;
        if fits {
            self.begin(id, queue, Content::Prepared(range.clone()));
        }
        fits
    }

    /// The socket takes more: sends what waits.
    pub(crate) fn unblock(&mut self, id: SlotId, queue: &mut Queue) {
        queue.blocked = false;
        if !queue.rest.is_empty() {
            let rest = std::mem::take(&mut queue.rest);
            self.begin(id, queue, Content::Prepared(rest));
        } else if !queue.own.is_empty() {
            self.begin(id, queue, Content::Own);
            self.own_pieces = true;
        }
    }

    /// What is to be sent in this tick.
    pub(crate) fn sends<'a>(
        &'a self,
        frames: &'a Frames,
        queue: impl Fn(SlotId) -> Option<&'a Queue>,
    ) -> impl Iterator<Item = (SlotId, &'a [u8])> {
        self.pieces.iter().enumerate().filter_map(move |(index, piece)| {
            let bytes = match &piece.content {
                Content::Written => &self.written[self.range(index)],
                Content::Prepared(range) => frames.sent_bytes(range.clone()),
                Content::Own => &*queue(piece.id)?.own,
            };
            (!bytes.is_empty()).then_some((piece.id, bytes))
        })
    }

    /// Keeps what the socket did not take of a client's piece.
    pub(crate) fn keep_rest(&self, queue: &mut Queue, sent: usize) {
        if queue.piece.0 != self.tick || queue.blocked {
            return;
        }
        queue.blocked = true;
        let index = queue.piece.1 as usize;
        match &self.pieces[index].content {
            Content::Written => {
                let range = self.range(index);
                queue.own.extend_from_slice(&self.written[range.start + sent..range.end]);
            }
            Content::Prepared(range) => queue.rest = range.start + sent..range.end,
            Content::Own => drop(queue.own.drain(..sent)),
        }
    }

    /// Starts the next tick; calls `release` for those whose own buffer was sent. All that was not
    /// taken has to be kept by now.
    pub(crate) fn clear(&mut self, mut release: impl FnMut(SlotId)) {
        if std::mem::take(&mut self.own_pieces) {
            for piece in &self.pieces {
                if let Content::Own = piece.content {
                    release(piece.id);
                }
            }
        }
        self.pieces.clear();
        self.written.clear();
        self.written.shrink_to(WRITTEN_KEPT_BYTES_MAX);
        self.tick = self.tick.wrapping_add(1);
    }

    fn begin(&mut self, id: SlotId, queue: &mut Queue, content: Content) {
        queue.piece = (self.tick, self.pieces.len() as u32);
        self.pieces.push(Piece { id, start: self.written.len(), content });
    }

    /// A piece that can grow no more goes on in its owner's buffer.
    fn give_own(&mut self, index: usize) {
        self.pieces[index].content = Content::Own;
        self.own_pieces = true;
    }

    fn range(&self, index: usize) -> Range<usize> {
        let end = self.pieces.get(index + 1).map_or(self.written.len(), |next| next.start);
        self.pieces[index].start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quelea_core::MessageKind;

    const IDS: [SlotId; 2] = [SlotId::new(0, 1), SlotId::new(1, 1)];

    /// Two clients, whose sockets take as many bytes as they are told to.
    struct World {
        output: Output,
        frames: Frames,
        queues: [Queue; 2],
        taken: [Vec<u8>; 2],
    }

    impl World {
        fn new() -> Self {
            let (output, frames) = (Output::new(), Frames::default());
            Self { output, frames, queues: Default::default(), taken: Default::default() }
        }

        fn write(&mut self, client: usize, bytes: &[u8]) {
            let Self { output, frames, queues, .. } = self;
            output.buffer(IDS[client], &mut queues[client], frames).extend_from_slice(bytes);
        }

        fn send_in_place(&mut self, client: usize, range: Range<usize>) {
            let Self { output, queues, .. } = self;
            assert!(output.send_in_place(IDS[client], &mut queues[client], &range));
        }

        fn flush(&mut self, room: [usize; 2]) {
            let Self { output, frames, queues, taken } = self;
            let mut shorts = Vec::new();
            for (id, bytes) in output.sends(frames, |id| queues.get(id.index())) {
                let (index, len) = (id.index(), bytes.len().min(room[id.index()]));
                taken[index].extend_from_slice(&bytes[..len]);
                if len < bytes.len() {
                    shorts.push((index, len));
                }
            }
            for (index, sent) in shorts {
                output.keep_rest(&mut queues[index], sent);
            }
            output.clear(|id| queues[id.index()].release());
        }

        fn unblock(&mut self, client: usize) {
            self.output.unblock(IDS[client], &mut self.queues[client]);
        }
    }

    #[test]
    fn each_client_has_one_send_a_tick_however_they_take_turns() {
        let mut world = World::new();
        for (client, bytes) in [(0, b"a0"), (1, b"b0"), (0, b"a1"), (1, b"b1"), (1, b"b2")] {
            world.write(client, bytes);
        }
        assert_eq!(world.output.owners().collect::<Vec<_>>(), IDS);
        world.flush([99, 99]);
        assert_eq!(world.taken, [b"a0a1".to_vec(), b"b0b1b2".to_vec()]);
        world.flush([99, 99]);
        assert_eq!(world.taken[0].len(), 4);
    }

    #[test]
    fn what_a_socket_does_not_take_goes_first_when_there_is_room() {
        let mut world = World::new();
        world.write(0, b"first, ");
        world.write(1, b"other");
        world.flush([3, 99]);
        world.write(0, b"second, ");
        assert!(world.queues[0].is_blocked() && world.queues[0].own.len() == 12);
        world.flush([99, 99]);
        world.unblock(0);
        world.write(1, b" one");
        world.write(0, b"third");
        world.flush([5, 99]);
        world.unblock(0);
        world.flush([99, 99]);
        let expected = [b"first, second, third".to_vec(), b"other one".to_vec()];
        assert_eq!(world.taken, expected);
        assert!(!world.output.has(&world.queues[0]) && world.queues[0].own.is_empty());
    }

    #[test]
    fn a_long_frame_is_sent_from_where_it_lies_and_in_order_with_the_rest() {
        let mut world = World::new();
        let payload: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let id = world.frames.add(MessageKind::Binary, &payload, 1, || [1, 2, 3, 4]);
        let range = world.frames.sent(id, false);
        let frame = world.frames.sent_bytes(range.clone()).to_vec();
        world.send_in_place(0, range.clone());
        world.send_in_place(1, range.clone());
        world.write(1, b"last");
        world.write(0, b"moved");
        world.flush([99, 5000]);
        world.unblock(0);
        world.unblock(1);
        world.flush([99_999, 1]);
        world.write(1, b" of all");
        world.unblock(1);
        world.flush([0, 99_999]);
        assert_eq!(world.taken[0], [&frame[..], b"moved"].concat());
        assert_eq!(world.taken[1], [&frame[..], b"last of all"].concat());
        // Alone, what is left of it stays where it is.
        world.send_in_place(0, range);
        world.flush([4000, 0]);
        assert!(world.queues[0].own.is_empty() && world.queues[0].rest.len() > 6000);
        world.unblock(0);
        world.flush([99_999, 0]);
        assert_eq!(world.taken[0], [&frame[..], b"moved", &frame].concat());
    }
}
