//! From what a connection writes to what the driver sends: the arena of the tick for peers that
//! keep up, an outbox for those that do not.

use super::{
    Ending, Slot, Stage, Table,
    fanout::{Fanout, SharedId},
};
use crate::{
    metrics::Limit,
    parts::{
        arena::{Arena, PieceId},
        mutant::{Mutant, is_planted},
        outbox::Outbox,
        slots::SlotId,
    },
};

/// Where a connection's output stands.
///
/// idle -> (written to) in the arena -> sent -> idle; or -> short send -> blocked, with an outbox ->
/// writable -> dirty -> sent -> idle. There is an outbox only while it is dirty or blocked.
#[derive(Debug)]
pub(super) struct Output {
    piece: Option<PieceId>,
    outbox: Option<Box<Outbox>>,
    /// It is sent what a topic has gathered, and nothing else.
    pub(super) shared: Option<SharedId>,
}

impl Output {
    pub(super) const fn new() -> Self {
        Self { piece: None, outbox: None, shared: None }
    }

    /// Whether the peer has to take something before more can be sent.
    pub(super) fn is_blocked(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.is_blocked)
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_idle(&self, arena: &Arena) -> bool {
        self.shared.is_none()
            && self.outbox.is_none()
            && self.piece.is_none_or(|piece| arena.piece(piece).is_empty())
    }

    #[inline]
    pub(super) fn queued(&self, arena: &Arena) -> usize {
        let written = self.piece.map_or(0, |piece| arena.piece_len(piece));
        match &self.outbox {
            Some(outbox) => written + outbox.len(),
            None => written,
        }
    }

    /// Where to append.
    #[inline]
    pub(super) fn buffer<'a>(
        &'a mut self,
        id: SlotId,
        arena: &'a mut Arena,
        dirty: &mut Vec<SlotId>,
    ) -> &'a mut Vec<u8> {
        if self.outbox.is_none() {
            let piece = *self.piece.get_or_insert_with(|| arena.begin(id));
            if arena.is_last(piece) {
                return arena.buffer();
            }
        }
        self.own_outbox(id, arena, dirty).buffer()
    }

    pub(super) const fn has_outbox(&self) -> bool {
        self.outbox.is_some()
    }

    /// What is written in the arena.
    pub(super) fn written<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        self.piece.map_or(&[], |piece| arena.piece(piece))
    }

    /// It is sent, or kept elsewhere.
    pub(super) fn forget_written(&mut self, arena: &mut Arena) {
        if let Some(piece) = self.piece.take() {
            arena.remove(piece);
        }
    }

    /// Keeps what the peer did not take of these slices, of which `sent` bytes went out; how much that is.
    pub(super) fn keep_rest<const N: usize>(&mut self, slices: [&[u8]; N], sent: usize) -> usize {
        let mut sent = sent;
        let mut rest = 0;
        for slice in slices {
            let unsent = &slice[sent.min(slice.len())..];
            sent -= slice.len() - unsent.len();
            if !unsent.is_empty() {
                let outbox = self.outbox.get_or_insert_default();
                outbox.is_blocked = true;
                outbox.extend(unsent);
                rest += unsent.len();
            }
        }
        rest
    }

    /// What was to be sent of the outbox is sent; whether that was all.
    fn finish_outbox(&mut self) -> bool {
        let Some(outbox) = &mut self.outbox else { return true };
        outbox.advance(outbox.unsent().len());
        if outbox.is_empty() {
            self.outbox = None;
        }
        self.outbox.is_none()
    }

    /// Appends what was written elsewhere.
    #[inline]
    pub(super) fn extend<'b>(
        &mut self,
        id: SlotId,
        arena: &mut Arena,
        dirty: &mut Vec<SlotId>,
        pieces: impl Iterator<Item = &'b [u8]>,
    ) {
        if self.outbox.is_none() {
            let piece = *self.piece.get_or_insert_with(|| arena.begin(id));
            if arena.is_last(piece) {
                return pieces.for_each(|piece| arena.buffer().extend_from_slice(piece));
            }
        }
        let outbox = self.own_outbox(id, arena, dirty);
        pieces.for_each(|piece| outbox.extend(piece));
    }

    #[cold]
    fn own_outbox(
        &mut self,
        id: SlotId,
        arena: &mut Arena,
        dirty: &mut Vec<SlotId>,
    ) -> &mut Outbox {
        let outbox = self.outbox.get_or_insert_with(|| {
            dirty.push(id);
            Box::default()
        });
        if let Some(piece) = self.piece.take() {
            outbox.extend(arena.piece(piece));
            arena.remove(piece);
        }
        outbox
    }

    fn send_short(&mut self, sent: usize, arena: &mut Arena, fanout: &Fanout) {
        let outbox = self.outbox.get_or_insert_default();
        outbox.is_blocked = true;
        match (self.shared.take(), self.piece) {
            (Some(shared), _) => outbox.extend(&fanout.shared_bytes(shared)[sent..]),
            (None, Some(piece)) => outbox.extend(&arena.piece(piece)[sent..]),
            (None, None) => outbox.advance(sent),
        }
        self.forget_written(arena);
    }
}

impl Table {
    /// Bytes that this tick has written: those of a publish once, and once for each copy.
    pub(crate) const fn output_bytes(&self) -> usize {
        self.arena.len() + self.fanout.pending_bytes + self.copied + self.large
    }

    /// All that is to be sent, one piece a connection.
    pub(crate) fn sends(&self) -> impl Iterator<Item = (SlotId, &[u8])> {
        let outboxes = self.dirty.iter().filter_map(|&id| {
            let outbox = self.slots.get(id)?.output.outbox.as_ref()?;
            Some((id, outbox.unsent()))
        });
        let outboxes = outboxes.filter(|(_, bytes)| !bytes.is_empty());
        self.arena.pieces().chain(outboxes).chain(self.fanout.sends())
    }

    /// Whether some outbox has more for a peer that took all it was sent.
    pub(crate) const fn has_sends(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether something is to be done as soon as the sends are, without waiting for more.
    pub(crate) fn has_work_after_sends(&self) -> bool {
        self.may_drain
            || !self.ending.is_empty()
            || !self.dirty.is_empty()
            || !self.drained.is_empty()
    }

    /// The driver could send only so much of a piece.
    pub(crate) fn send_short(&mut self, id: SlotId, sent: usize) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.output.send_short(sent, &mut self.arena, &self.fanout);
        if slot.output.queued(&self.arena) > self.marks.high {
            slot.backlogged = true;
        }
        if let Stage::WebSocket(connection) = &mut slot.stage {
            connection.hold_pongs(true);
        }
    }

    /// All short sends are told: the rest was sent.
    #[inline]
    pub(crate) fn finish_sends(&mut self) {
        (self.may_drain, self.copied, self.large) = (false, 0, 0);
        self.fanout.finish_sends(&mut self.slots);
        for owner in self.arena.clear() {
            if let Some(slot) = self.slots.get_mut(owner) {
                slot.output.piece = None;
                if slot.backlogged && slot.output.outbox.is_none() {
                    // Its peer took all at once: no outbox will say so.
                    self.dirty.push(owner);
                }
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.finish_outbox(id);
        }
        // Answers that were held back may be dirty already.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    fn finish_outbox(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let is_blocked = slot.output.is_blocked();
        let is_sent = !is_blocked && slot.output.finish_outbox();
        if slot.backlogged && slot.output.queued(&self.arena) <= self.marks.low {
            slot.backlogged = false;
            self.drained.push_back(id);
        }
        if !is_sent {
            if !is_blocked {
                self.dirty.push(id);
            }
            return;
        }
        if self.flush_until.is_some() && slot.ends() {
            // It had the time to take all; now it has that to answer.
            self.arm_close(id);
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        match &mut slot.stage {
            Stage::Ending(_) => self.ending.push(id),
            Stage::Http(_) => {}
            Stage::WebSocket(connection) => {
                connection.hold_pongs(false);
                let mut pong = Vec::new();
                connection.flush_pong(&mut self.context, &mut pong);
                if !pong.is_empty() {
                    slot.output.buffer(id, &mut self.arena, &mut self.dirty).extend(pong);
                }
                self.deliver_owed(id);
            }
        }
    }

    /// A ping was answered. Beyond the high mark only the last one is, once there is room.
    #[inline]
    pub(crate) fn handle_ping(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.output.queued(&self.arena) > self.marks.high
            && let Stage::WebSocket(connection) = &mut slot.stage
        {
            connection.hold_pongs(true);
            slot.backlogged = true;
            self.may_drain = true;
        }
    }

    /// The peer took something: what waits for it goes out with the next sends.
    pub(crate) fn handle_writable(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id)
            && let Some(outbox) = &mut slot.output.outbox
            && std::mem::take(&mut outbox.is_blocked)
        {
            (slot.heard, slot.pinged) = (self.timers.now(), false);
            self.dirty.push(id);
        }
    }

    /// A connection whose backlog is gone.
    pub(crate) fn next_drained(&mut self) -> Option<SlotId> {
        self.drained.pop_front()
    }

    /// A connection whose reading may have to pause or go on, though nothing came from it.
    pub(crate) fn next_touched(&mut self) -> Option<SlotId> {
        self.touched.pop()
    }

    /// Whether to stop or resume reading from a peer, if that is to change.
    #[inline]
    pub(crate) fn next_pause(&mut self, id: SlotId) -> Option<bool> {
        let slot = self.slots.get_mut(id)?;
        let pause = match slot.stage {
            Stage::Ending(_) => false,
            _ => slot.backlogged || slot.held,
        };
        if std::mem::replace(&mut slot.paused, pause) == pause {
            return None;
        }
        if pause && slot.backlogged {
            self.reach(Limit::HighWaterBytes, Some(id));
        }
        Some(pause)
    }

    /// Whether reading from a peer is stopped, as far as the driver was told.
    pub(crate) fn is_paused(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.paused)
    }

    /// Ends a connection, once all is sent unless it is aborted.
    pub(crate) fn end(&mut self, id: SlotId, ending: Ending) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.stage = Stage::Ending(ending);
            self.ending.push(id);
            self.arm_close(id);
            if !is_planted(Mutant::KeepSubscriptions) {
                self.unsubscribe_all(id);
            }
            self.alarms.clear_all(id);
        }
    }

    /// A connection that ends, with nothing left to send; to be asked after
    /// [`Table::finish_sends`].
    pub(crate) fn next_ending(&mut self) -> Option<(SlotId, Ending)> {
        while let Some(id) = self.ending.pop() {
            let Some(Slot { stage: Stage::Ending(ending), output, .. }) = self.slots.get_mut(id)
            else {
                continue;
            };
            if *ending == Ending::Abort {
                *output = Output::new();
                return Some((id, *ending));
            }
            if output.outbox.is_none() && output.piece.is_none() {
                let now = *ending;
                if now == Ending::Linger {
                    *ending = Ending::FinSent;
                }
                return Some((id, now));
            }
        }
        None
    }

    /// What silent connections gave back since it was asked last.
    pub(crate) fn take_freed_bytes(&mut self) -> usize {
        std::mem::take(&mut self.freed_bytes)
    }

    /// Gives back what was kept for reuse and is not used.
    pub(crate) fn trim_unused(&mut self) {
        self.context.trim_unused();
    }

    /// Gives back what is kept for reuse. All of it: a little that is kept where a busy time left it
    /// keeps the allocator from giving back what is below.
    pub(crate) fn trim(&mut self) {
        self.arena.trim();
        self.context.trim();
        self.outgoing.trim();
        self.fanout.trim();
        self.dirty.shrink_to_fit();
        self.ending.shrink_to_fit();
        self.drained.shrink_to_fit();
        self.touched.shrink_to_fit();
        self.scratch.shrink_to_fit();
    }
}
