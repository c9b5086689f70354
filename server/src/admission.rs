//! Who is let in: limits that all workers share, asked when a connection comes, opens and goes.

use crate::{address::PeerAddress, config::Config};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What the connections of all workers are counted by.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: usize,
    pending_max: usize,
    per_address_max: Option<usize>,
    connections: AtomicUsize,
    pending: AtomicUsize,
    /// Untouched unless there is a limit for each address.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are [`Config::connections_max`].
    Full,
    /// There are [`Config::handshakes_pending_max`] that are not open yet.
    Pending,
    /// Its address has [`Config::connections_per_address_max`].
    Address,
    /// There were [`Config::handshakes_per_second_max`] in this second.
    Rate,
    /// The server drains.
    Draining,
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            connections_max: config.connections_max,
            pending_max: config.handshakes_pending_max,
            per_address_max: config.connections_per_address_max,
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            addresses: Mutex::default(),
        }
    }

    /// Counts a connection that came, unless it is refused: what is not let in takes nothing from
    /// those that are.
    pub(crate) fn enter(&self, peer: PeerAddress) -> Result<(), Refusal> {
        // No order with anything else matters: each counter is exact by itself.
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
        if self.pending.fetch_add(1, Ordering::Relaxed) >= self.pending_max {
            self.leave(false, None);
            return Err(Refusal::Pending);
        }
        if let (Some(address), Some(max)) = (self.counted_address(peer), self.per_address_max) {
            let mut addresses = self.lock();
            let count = addresses.entry(address).or_insert(0);
            if *count >= max {
                drop(addresses);
                self.leave(false, None);
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        Ok(())
    }

    /// How many connections are let in.
    #[cfg(feature = "sim")]
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many of them are not open yet.
    #[cfg(feature = "sim")]
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// How many addresses they are counted by.
    #[cfg(feature = "sim")]
    pub(crate) fn addresses(&self) -> usize {
        self.lock().len()
    }

    /// A connection is a WebSocket now.
    pub(crate) fn open(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection is gone.
    pub(crate) fn leave(&self, was_open: bool, address: Option<IpAddr>) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if !was_open {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(address) = address {
            let mut addresses = self.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }

    /// The address that a connection is counted by, if there is a limit: has to be told when it
    /// leaves.
    pub(crate) fn counted_address(&self, peer: PeerAddress) -> Option<IpAddr> {
        self.per_address_max?;
        match peer {
            // The same client by way of an IPv6 socket is the same client.
            PeerAddress::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddress::Unix => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing in here can panic half-way.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> PeerAddress {
        PeerAddress::Tcp(([192, 0, 2, last], 1000).into())
    }

    #[test]
    fn all_connections_count_and_each_that_leaves_makes_room() {
        let config = Config { connections_max: 2, ..Config::default() };
        let admission = Admission::new(&config);
        assert_eq!(admission.enter(peer(1)), Ok(()));
        assert_eq!(admission.enter(peer(2)), Ok(()));
        assert_eq!(admission.enter(peer(3)), Err(Refusal::Full));
        admission.leave(false, None);
        assert_eq!(admission.enter(PeerAddress::Unix), Ok(()));
        assert!(admission.lock().is_empty(), "addresses are not kept without a limit");
    }

    #[test]
    fn an_address_has_its_own_limit_and_is_forgotten_with_its_last_connection() {
        let config = Config { connections_per_address_max: Some(1), ..Config::default() };
        let admission = Admission::new(&config);
        assert_eq!(admission.enter(peer(1)), Ok(()));
        let mapped = PeerAddress::Tcp("[::ffff:192.0.2.1]:5".parse().unwrap());
        assert_eq!(admission.enter(mapped), Err(Refusal::Address));
        assert_eq!(admission.enter(peer(2)), Ok(()));
        for peer in [mapped, peer(2)] {
            admission.leave(true, admission.counted_address(peer));
        }
        assert!(admission.lock().is_empty());
    }

    #[test]
    fn what_is_not_open_yet_has_a_smaller_limit() {
        let config = Config { handshakes_pending_max: 1, ..Config::default() };
        let admission = Admission::new(&config);
        assert_eq!(admission.enter(peer(1)), Ok(()));
        assert_eq!(admission.enter(peer(1)), Err(Refusal::Pending));
        admission.open();
        assert_eq!(admission.enter(peer(1)), Ok(()));
    }
}
