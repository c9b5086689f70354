//! What a table has now, and the limits that were reached.

use super::{Stage, Table};
use crate::{
    metrics::{By, ConnectionState, Label, Limit},
    parts::slots::SlotId,
    throttle::Line,
};

/// A walk over the slots, and what it found so far. Counting as slots change would have to be done at
/// each change; this is done when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    next: usize,
    pub(crate) connections: By<ConnectionState>,
    pub(crate) backlogged: u64,
    pub(crate) queued_bytes: u64,
}

impl Table {
    /// Goes on over so many slots; whether those were the last.
    pub(crate) fn walk(&self, walk: &mut Walk, count: usize) -> bool {
        let end = self.slots.indices().end;
        let to = walk.next.saturating_add(count).min(end);
        for slot in self.slots.used(walk.next..to) {
            let state = match &slot.stage {
                Stage::Http(_) if slot.is_admitted => ConnectionState::Handshaking,
                Stage::Http(_) => ConnectionState::Refused,
                Stage::WebSocket(connection) if connection.is_open() => ConnectionState::Open,
                Stage::WebSocket(_) => ConnectionState::Closing,
                Stage::Ending(_) => ConnectionState::Ending,
            };
            walk.connections[state] += 1;
            walk.backlogged += u64::from(slot.backlogged);
            walk.queued_bytes += slot.output.queued(&self.arena) as u64;
        }
        walk.next = to;
        to == end
    }

    /// Whether a line is to be logged now: see [`Throttle::admit`](crate::throttle::Throttle::admit).
    pub(crate) fn admit(&mut self, line: Line) -> Option<u64> {
        self.throttle.admit(line, self.now)
    }

    /// Counts a limit that was reached, and says so now and then.
    #[cold]
    pub(crate) fn reach(&mut self, limit: Limit, id: Option<SlotId>) {
        self.metrics.limits[limit] += 1;
        if limit.is_ordinary() {
            return;
        }
        if let Some(left_out) = self.admit(Line::Limit(limit)) {
            let conn = id.map(|id| tracing::field::display(self.conn_id(id)));
            tracing::warn!(conn, limit = limit.as_str(), left_out, "a limit was reached");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::PeerAddress,
        admission::Refusal,
        protocol::http::HttpConnection,
        table::{Ending, Marks, TableOptions},
    };
    use quelea_core::{Connection, Role};
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
    fn table() -> Table {
        Table::new(TableOptions {
            marks: Marks { low: 10, high: 20, max: 4 << 20 },
            ..TableOptions::example(Instant::now())
        })
    }

    #[test]
    fn a_walk_in_pieces_finds_each_connection_once_whatever_the_pieces() {
        let mut table = table();
        let insert = |table: &mut Table, refusal| {
            table.insert(Box::new(HttpConnection::new(PeerAddress::Unix, refusal))).unwrap()
        };
        let open = |table: &mut Table| {
            let id = insert(table, None);
            table.upgrade(id, Connection::new(Role::Server));
            id
        };
        for _ in 0..10 {
            insert(&mut table, None);
            insert(&mut table, Some(Refusal::Full));
            insert(&mut table, Some(Refusal::Full));
            let gone = open(&mut table);
            let sent = open(&mut table);
            table.send(sent, "more than the high mark".into());
            let closing = open(&mut table);
            table.close(closing, quelea_core::CloseCode::NORMAL, "");
            let ending = open(&mut table);
            table.end(ending, Ending::Linger);
            table.remove(gone);
        }
        for count in [1, 7, 69, 70, usize::MAX] {
            let mut walk = Walk::default();
            while !table.walk(&mut walk, count) {}
            let states: Vec<_> = walk.connections.iter().map(|(_, count)| count).collect();
            assert_eq!(states, [10, 20, 10, 10, 10], "{count} at a time");
            assert_eq!((walk.backlogged, walk.queued_bytes), (10, 10 * (25 + 4)), "{count}");
        }
    }
}
