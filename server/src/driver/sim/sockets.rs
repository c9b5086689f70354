//! The connections of the driver, and what is sent on them.

use super::network::{Network, WireId};
use crate::{
    driver::SendNow,
    parts::{
        mutant::{Mutant, shows},
        slots::{SLOTS_RESERVED, SlotId},
    },
};
use std::{cell::RefCell, collections::VecDeque, io::IoSlice, rc::Rc};

/// The wire of a member of a crowd that nothing is under way for.
pub(super) const PARKED: u32 = u32::MAX;

/// See the [module](self).
pub(super) struct Sockets {
    pub(super) network: Rc<RefCell<Network>>,
    pub(super) worker: usize,
    pub(super) connections: Vec<Connection>,
    /// What is to be told, in this tick or a later one.
    pub(super) ready: VecDeque<Ready>,
    pub(super) bytes_sent: u64,
}

/// What the driver knows of one slot; of one that is not in use, generation 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Connection {
    pub(super) wire: u32,
    pub(super) generation: u32,
    pub(super) is_paused: bool,
    pub(super) is_queued: bool,
    pub(super) is_ended: bool,
    pub(super) is_blocked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    Receive(SlotId),
    Writable(SlotId),
    Closed(SlotId),
    Accept,
    Woken,
}

impl Sockets {
    pub(super) fn new(network: Rc<RefCell<Network>>, worker: usize) -> Self {
        Self {
            network,
            worker,
            connections: Vec::with_capacity(SLOTS_RESERVED),
            ready: VecDeque::new(),
            bytes_sent: 0,
        }
    }

    pub(super) fn connection(&mut self, id: SlotId) -> Option<&mut Connection> {
        self.connections
            .get_mut(id.index())
            .filter(|connection| connection.generation == id.generation())
    }

    /// The connection's wire, unless it is parked.
    pub(super) fn wire(&mut self, id: SlotId) -> Option<WireId> {
        let index = self.connection(id)?.wire;
        self.network.borrow().wire_at(index)
    }

    /// The connection's wire: if it is parked, a new one.
    pub(super) fn wake(&mut self, id: SlotId) -> Option<WireId> {
        let worker = self.worker;
        let network = self.network.clone();
        let connection = self.connection(id)?;
        if connection.wire != PARKED {
            return network.borrow().wire_at(connection.wire);
        }
        let wire = network.borrow_mut().wake_crowd(worker, id);
        connection.wire = wire.index();
        Some(wire)
    }

    /// Sends what the network takes at once: how much, if that was not all.
    pub(super) fn send(&mut self, id: SlotId, bytes: &[u8]) -> Option<usize> {
        let connection = *self.connection(id)?;
        let wire = self.wake(id);
        let network = self.network.clone();
        let mut network = network.borrow_mut();
        // A message: what else is lost is noticed by the protocol.
        if bytes.first() == Some(&0x81) && shows(Mutant::LoseSend) {
            return None;
        }
        let sent = match wire.map(|wire| network.send_to_client(wire, bytes)) {
            Some(Ok(sent)) if sent == bytes.len() => {
                self.bytes_sent += sent as u64;
                if let Some(wire) = wire.filter(|_| shows(Mutant::SendTwice)) {
                    let _ = network.send_to_client(wire, bytes);
                }
                return None;
            }
            Some(Ok(sent)) => sent,
            // It is told already that nothing more comes: what is left goes nowhere.
            _ if connection.is_ended => return None,
            _ => {
                self.queue_receive(id);
                0
            }
        };
        self.bytes_sent += sent as u64;
        self.connections[id.index()].is_blocked = true;
        Some(sent)
    }

    pub(super) fn queue_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.connection(id)
            && !connection.is_queued
            && !connection.is_ended
        {
            connection.is_queued = true;
            self.ready.push_back(Ready::Receive(id));
        }
    }
}

impl SendNow for Sockets {
    fn send_now(&mut self, id: SlotId, slices: &[IoSlice<'_>]) -> Option<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        Some(self.send(id, &bytes).unwrap_or(bytes.len()))
    }
}
