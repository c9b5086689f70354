//! What takes faults at an exact moment to show.

use quelea::{
    Accept, Config, Conn, Handler, Message, Response, Upgrade,
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

/// Notes the most that waits for a peer.
#[derive(Clone, Default)]
struct Most(Rc<RefCell<usize>>);

impl Handler for Most {
    type State = ();

    fn on_message(&mut self, _conn: &mut Conn<'_, ()>, _message: Message<'_>) {}

    fn on_ping(&mut self, conn: &mut Conn<'_, ()>, _payload: &[u8]) {
        let mut most = self.0.borrow_mut();
        *most = conn.queued().max(*most);
    }
}

#[test]
fn answers_to_pings_that_come_all_at_once_keep_to_the_limit_and_the_last_one_is_answered() {
    let most = Most::default();
    let config = Config { outbox_bytes_max: 4096, ..Config::default() };
    let mut sim = Simulation::new(1, config, |_worker| most.clone()).unwrap();
    let client = sim.connect("/").unwrap();
    sim.run_for(SECOND);
    for number in 0..1000_u32 {
        let mut payload = [7; 125];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        sim.ping(client, &payload);
    }
    sim.run_for(SECOND);
    assert!(*most.0.borrow() <= 4096, "{} bytes wait", most.0.borrow());
    let pongs: Vec<u32> = sim
        .take_events(client)
        .into_iter()
        .filter_map(|(_, event)| match event {
            ClientEvent::Pong(payload) => payload.first_chunk().map(|n| u32::from_be_bytes(*n)),
            _ => None,
        })
        .collect();
    assert!(pongs.is_sorted() && pongs.last() == Some(&999), "{pongs:?}");
    assert!(sim.is_open(client));
}

/// A message of a client goes to three topics, to which all clients of `/all` are subscribed.
struct Publisher;

const TOPICS: [&str; 3] = ["a", "b", "c"];

impl Handler for Publisher {
    type State = bool;

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<bool>, Response> {
        Ok(Accept::new(upgrade.path() == "/all"))
    }

    fn on_open(&mut self, conn: &mut Conn<'_, bool>) {
        if *conn.state {
            for topic in TOPICS {
                conn.subscribe(topic);
            }
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, bool>, _message: Message<'_>) {
        for topic in TOPICS {
            conn.publish(topic, &[7; 100_000][..]);
        }
    }
}

#[test]
fn who_takes_all_at_once_misses_nothing_however_much_each_tick_of_a_busy_worker_has_for_it() {
    let mut sim = Simulation::new(1, Config::default(), |_worker| Publisher).unwrap();
    sim.set_buffer_bytes(64 << 20);
    let subscribers = [(); 2].map(|()| sim.connect("/all").unwrap());
    let publishers = [(); 100].map(|()| sim.connect("/").unwrap());
    sim.run_for(SECOND);
    sim.pause_worker(0, SECOND);
    // All are there when it goes on: more than is good for one tick.
    publishers.iter().for_each(|publisher| assert!(sim.send(*publisher, "now")));
    sim.run_for(5 * SECOND);
    for subscriber in subscribers {
        let events = sim.take_events(subscriber);
        let is_message = |event: &&(_, ClientEvent)| matches!(event.1, ClientEvent::Binary(_));
        assert_eq!(events.iter().filter(is_message).count(), publishers.len() * TOPICS.len());
    }
}
