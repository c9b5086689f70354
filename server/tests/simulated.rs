//! What takes faults at an exact moment to show.

use quelea::{
    Config, Conn, Handler, Message,
    sim::{ClientEvent, Simulation},
};
use std::{cell::RefCell, rc::Rc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

/// Notes which callbacks a pong comes by.
#[derive(Clone, Default)]
struct Pongs(Rc<RefCell<Vec<&'static str>>>);

impl Handler for Pongs {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.ping(b"mine");
    }

    fn on_message(&mut self, _conn: &mut Conn<'_, ()>, _message: Message<'_>) {}

    fn on_pong(&mut self, _conn: &mut Conn<'_, ()>, payload: &[u8]) {
        self.0.borrow_mut().push(if payload == b"mine" { "mine" } else { "of others" });
    }

    fn on_round_trip(&mut self, _conn: &mut Conn<'_, ()>, _round_trip: Duration) {
        self.0.borrow_mut().push("round trip");
    }
}

#[test]
fn the_answer_to_a_heartbeat_is_no_pong_of_the_handlers_however_late() {
    let pongs = Pongs::default();
    let config = Config { ping_interval: Some(SECOND), pong_timeout: SECOND, ..Config::default() };
    let mut sim = Simulation::new(4, config, |_worker| pongs.clone()).unwrap();
    let client = sim.connect("/").unwrap();
    sim.run_for(SECOND + SECOND / 2);
    assert_eq!(*pongs.0.borrow(), ["mine", "round trip"]);
    // The worker has sent its next ping, and stands still until long after the answer is there.
    while !sim.take_events(client).iter().any(|(_, event)| matches!(event, ClientEvent::Ping(_))) {
        sim.run_for(SECOND / 100);
    }
    sim.take_events(client);
    while !sim.take_events(client).iter().any(|(_, event)| matches!(event, ClientEvent::Ping(_))) {
        sim.run_for(Duration::from_micros(50));
    }
    pongs.0.borrow_mut().clear();
    sim.pause_worker(0, 5 * SECOND);
    sim.run_for(5 * SECOND + SECOND / 2);
    assert!(sim.is_open(client), "a server that slept ends nobody");
    assert_eq!(*pongs.0.borrow(), [""; 0], "it says nothing about the way");
}
