//! Large payloads, which are sent from where they lie.

use super::{SendStatus, Stage, Table};
use crate::{driver::SendNow, parts::slots::SlotId};
use quelea_core::{Message, frame::HEADER_BYTES_MAX};
use std::io::IoSlice;

/// A payload of so much costs more to copy than a send of its own. What is smaller leaves together.
pub(crate) const LARGE_BYTES: usize = 64 << 10;
/// A tick that sent more at once sends the rest as all others do, so that who sends until it is told of a
/// backlog is told of one, however fast the peer takes it: the other peers wait meanwhile.
const LARGE_PER_TICK_MAX: usize = 1 << 20;

impl Table {
    /// Sends a message to a connection, now if the driver can: with what was written to it before in
    /// this tick, and without a copy but of what the peer does not take at once.
    #[cold]
    pub(crate) fn send_large(
        &mut self,
        id: SlotId,
        message: Message<'_>,
        direct: &mut dyn SendNow,
    ) -> SendStatus {
        self.write_pending(id);
        let mut header = std::mem::take(&mut self.scratch);
        let status = self.try_send_large(id, message, &mut header, direct);
        header.clear();
        self.scratch = header;
        let Some(status) = status else { return self.send(id, message) };
        self.metrics.messages_sent += 1;
        self.metrics.message_bytes_sent += message.len() as u64;
        status
    }

    /// `None` when it has to go the way of all others, which also tells why it cannot go at all.
    fn try_send_large(
        &mut self,
        id: SlotId,
        message: Message<'_>,
        header: &mut Vec<u8>,
        direct: &mut dyn SendNow,
    ) -> Option<SendStatus> {
        if self.large > LARGE_PER_TICK_MAX {
            return None;
        }
        let Self { slots, arena, dirty, context, marks, .. } = self;
        let slot = slots.get_mut(id)?;
        let Stage::WebSocket(connection) = &mut slot.stage else { return None };
        let queued = slot.output.queued(arena) + HEADER_BYTES_MAX + message.len();
        #[cfg(feature = "deflate")]
        if connection.compressed_window().is_some() {
            return None;
        }
        if slot.output.has_outbox() || queued > marks.max {
            return None;
        }
        connection.send_header(message.kind(), message.len(), context, header).ok()?;
        let slices = [slot.output.written(arena), header, message.as_bytes()];
        let sent = direct.send_now(id, &slices.map(IoSlice::new))?;
        self.large += header.len() + message.len();
        let rest = slot.output.keep_rest(slices, sent);
        slot.output.forget_written(arena);
        if rest > 0 {
            connection.hold_pongs(true);
        } else if slot.backlogged {
            // All of the backlog is gone: who has a piece, though nothing is in it, is told at the end of
            // the tick.
            slot.output.buffer(id, arena, dirty);
        }
        if rest > marks.high {
            slot.backlogged = true;
            return Some(SendStatus::Backlogged);
        }
        Some(SendStatus::Queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::PeerAddress, driver::Later, protocol::http::HttpConnection, table::TableOptions,
    };
    use quelea_core::{Connection, Role};
    use std::time::Instant;

    /// A kernel that takes at most so many bytes of each send.
    struct Takes(usize);

    impl SendNow for Takes {
        fn send_now(&mut self, _: SlotId, slices: &[IoSlice<'_>]) -> Option<usize> {
            Some(slices.iter().map(|slice| slice.len()).sum::<usize>().min(self.0))
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
    fn open() -> (Table, SlotId) {
        let mut table = Table::new(TableOptions::example(Instant::now()));
        let http = HttpConnection::new(PeerAddress::Unix, None);
        let id = table.insert(Box::new(http)).unwrap();
        table.upgrade(id, Connection::new(Role::Server));
        (table, id)
    }

    #[test]
    fn each_byte_that_a_tick_wrote_counts_once_whoever_has_it() {
        let payload = vec![0; 100_000];
        for taken in [0, 30_000, 60_000, usize::MAX] {
            let (mut table, id) = open();
            table.send(id, (&payload[..50_000]).into());
            table.send_large(id, (&payload[..]).into(), &mut Takes(taken));
            let all = 50_004 + 100_010;
            assert_eq!(table.output_bytes(), all, "{taken} taken");
            assert_eq!(table.queued(id), all.saturating_sub(taken), "{taken} taken");
            table.finish_sends();
            assert_eq!(table.output_bytes(), 0);
        }
        let (mut table, id) = open();
        table.send_large(id, (&payload[..]).into(), &mut Later);
        assert_eq!((table.output_bytes(), table.queued(id)), (100_010, 100_010));
    }
}
