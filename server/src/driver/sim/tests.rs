use super::{Fault, Faults, Network, Owner, Sim, SimSocket, Sleep, WireId};
use crate::{
    address::PeerAddress,
    driver::{
        Completion, Driver, Holdings, ListenerId, Wake,
        contract::{Peer, World, contract},
    },
    parts::slots::SlotId,
};
use std::{cell::RefCell, io, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Instant};

/// A simulated driver that has its network for itself: its waits let the time pass.
struct Alone(Sim, Rc<RefCell<Network>>);

impl Driver for Alone {
    type Socket = SimSocket;
    type Listener = ();

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn read_clock(&self) -> Instant {
        self.0.read_clock()
    }

    fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent()
    }

    fn holdings(&self) -> Holdings {
        self.0.holdings()
    }

    fn listen(&mut self, (): ()) -> io::Result<ListenerId> {
        self.0.listen(())
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        self.0.stop_accept(listener);
    }

    fn adopt(&mut self, stream: OwnedFd) -> io::Result<SimSocket> {
        self.0.adopt(stream)
    }

    fn open(&mut self, id: SlotId, socket: SimSocket) -> io::Result<()> {
        self.0.open(id, socket)
    }

    fn pause_receive(&mut self, id: SlotId) {
        self.0.pause_receive(id);
    }

    fn resume_receive(&mut self, id: SlotId) {
        self.0.resume_receive(id);
    }

    fn shutdown(&mut self, id: SlotId) {
        self.0.shutdown(id);
    }

    fn close(&mut self, id: SlotId) {
        self.0.close(id);
    }

    fn wait<'b>(
        &mut self,
        sends: impl Iterator<Item = (SlotId, &'b [u8])>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        self.0.wait(sends, until)?;
        loop {
            let mut network = self.1.borrow_mut();
            let Sleep::Until(until) = network.sleep(0) else { return Ok(()) };
            match (network.next_at(), until) {
                (Some(at), Some(until)) if at > until => network.pass_until(until),
                (Some(_), _) => drop(network.advance()),
                (None, Some(until)) => network.pass_until(until),
                (None, None) => return Ok(()),
            }
            drop(network);
            self.0.wait([].into_iter(), until)?;
        }
    }

    fn next_short(&mut self) -> Option<(SlotId, usize)> {
        self.0.next_short()
    }

    fn next(&mut self) -> Option<Completion<'_, SimSocket>> {
        self.0.next()
    }

    fn is_behind(&self) -> bool {
        self.0.is_behind()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.0.waker()
    }
}

/// A network, perhaps with the fault that changes how things are told, but not what happens.
struct Net<const REORDER: bool> {
    driver: Alone,
    network: Rc<RefCell<Network>>,
    listener: ListenerId,
}

impl<const REORDER: bool> World for Net<REORDER> {
    type Driver = Alone;
    type Peer = Client;

    const SENDS_NOW: bool = true;

    fn new() -> Self {
        let faults = match REORDER {
            true => Faults::NONE.with(Fault::Reorder),
            false => Faults::NONE,
        };
        let mut network = Network::new(7, faults, 1);
        network.set_capacity(4 << 20);
        let network = Rc::new(RefCell::new(network));
        let mut driver = Alone(Sim::new(network.clone(), 0), network.clone());
        let listener = driver.listen(()).unwrap();
        Self { driver, network, listener }
    }

    fn driver(&mut self) -> &mut Alone {
        &mut self.driver
    }

    fn listener(&self) -> ListenerId {
        self.listener
    }

    fn connect(&mut self) -> Client {
        let wire = self.network.borrow_mut().connect(Owner::Client(0), PeerAddress::Unix, 0);
        Client { network: self.network.clone(), wire, received: Vec::new() }
    }
}

struct Client {
    network: Rc<RefCell<Network>>,
    wire: WireId,
    received: Vec<u8>,
}

impl Client {
    fn read_more(&mut self) -> Option<bool> {
        let mut network = self.network.borrow_mut();
        let before = self.received.len();
        let ended = network.read_at_client(self.wire, &mut self.received);
        if ended.is_none() && self.received.len() == before {
            network.advance().expect("something is still to come");
        }
        ended
    }
}

impl Peer for Client {
    fn write(&mut self, bytes: &[u8]) {
        let sent = self.network.borrow_mut().send_to_server(self.wire, bytes);
        assert_eq!(sent, bytes.len(), "the test sends more than is taken");
    }

    fn read(&mut self, len: usize) -> Vec<u8> {
        while self.received.len() < len {
            let ended = self.read_more();
            assert!(ended.is_none() || self.received.len() >= len, "it ended before its bytes");
        }
        self.received.drain(..len).collect()
    }

    fn is_at_end(&mut self) -> bool {
        loop {
            if let Some(is_fin) = self.read_more() {
                return is_fin;
            }
        }
    }

    fn finish(&mut self) {
        self.network.borrow_mut().finish_by_client(self.wire);
    }

    fn reset(self) {
        self.network.borrow_mut().reset_by_client(self.wire);
    }
}

mod in_order {
    super::contract!(super::Net<false>);
}

mod in_any_order {
    super::contract!(super::Net<true>);
}
