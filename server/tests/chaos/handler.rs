//! A handler that does what clients tell it in text, and writes all down.
//!
//! `NUMBER VERB WORDS... |FILLER`, each client counting its commands.

use super::ledger::{Ledger, OUTSIDE, SLACK};
use quelea::{
    Accept, CloseCode, Closed, Conn, Handler, Message, Response, SubscribeStatus, Upgrade,
};
use std::{cell::RefCell, rc::Rc, time::Duration};

pub(crate) struct Told {
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) worker: usize,
}

/// The timer that ends a pause.
const RESUME: u8 = 255;

#[derive(Default)]
pub(crate) struct State {
    client: Option<usize>,
}

type Connection<'a> = Conn<'a, State>;

impl Handler for Told {
    type State = State;

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<State>, Response> {
        let client = upgrade.query().and_then(|query| query.parse().ok());
        Ok(Accept::new(State { client }))
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.counts.opened += 1;
        let now = ledger.now();
        let Some(client) = conn.state.client else { return };
        let bird = ledger.bird(client);
        if bird.opened.replace(now).is_some() {
            ledger.fail(format!("client {client} was opened twice"));
        }
        let bird = ledger.bird(client);
        (bird.id, bird.worker) = (Some(conn.id()), self.worker);
    }

    fn on_message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        let ledger = &mut *ledger;
        ledger.counts.messages_received += 1;
        ledger.counts.bytes_received += message.len() as u64;
        if message.len() > ledger.config.message_bytes_max {
            ledger.fail(format!("a message of {} bytes passed", message.len()));
        }
        let Some(client) = conn.state.client else { return };
        self.check_alive(ledger, conn, client);
        // Anything else is a hostile client's.
        let Message::Text(text) = message else { return };
        let mut words = text.split(' ');
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { return };
        let bird = ledger.bird(client);
        if number != bird.commands {
            let expected = bird.commands;
            return ledger.fail(format!("client {client}'s command {number} came for {expected}"));
        }
        bird.commands += 1;
        let verb = words.next().unwrap_or_default();
        let mut next = || words.next().unwrap_or_default();
        match verb {
            "say" => say(ledger, conn, client, next().parse().unwrap_or(0)),
            "tell" => {
                let (to, len) = (next().parse().unwrap_or(0), next().parse().unwrap_or(0));
                tell(ledger, conn, client, to, len);
            }
            "sub" => {
                let topic = next();
                if conn.subscribe(topic) == SubscribeStatus::Subscribed {
                    ledger.subscribed(client, topic);
                }
            }
            "match" => {
                let topic = next();
                // Nothing else begins with it, so that the pattern is the topic.
                if conn.subscribe_pattern(&format!("*.{topic}")) == SubscribeStatus::Subscribed {
                    ledger.subscribed(client, &format!("all.{topic}"));
                }
            }
            "unsub" => {
                let topic = next();
                if conn.unsubscribe(topic) {
                    ledger.unsubscribed(client, topic);
                }
            }
            "pub" | "others" => {
                let (topic, len) = (next(), next().parse().unwrap_or(0));
                let (text, number) = ledger.publish(client, topic, len);
                let status = match verb {
                    "pub" => conn.publish(topic, &text),
                    _ => conn.publish_to_others(topic, &text),
                };
                ledger.published(client, topic, number, status, verb == "others");
            }
            "close" => {
                conn.close(CloseCode::NORMAL, "asked for");
                let now = ledger.now();
                ledger.bird(client).local_close.get_or_insert(now);
            }
            "timer" => {
                let key: u8 = next().parse().unwrap_or(0);
                let after = Duration::from_millis(next().parse().unwrap_or(0));
                if conn.set_timer(key, after) {
                    let now = ledger.now();
                    ledger.bird(client).timers.insert(key, (now, after));
                }
            }
            "pause" => {
                conn.pause();
                conn.set_timer(RESUME, Duration::from_millis(next().parse().unwrap_or(0)));
            }
            other => ledger.fail(format!("there is no command {other:.20}")),
        }
    }

    fn on_timer(&mut self, conn: &mut Connection<'_>, key: u8) {
        let mut ledger = self.ledger.borrow_mut();
        let ledger = &mut *ledger;
        let Some(client) = conn.state.client else { return };
        self.check_alive(ledger, conn, client);
        if key == RESUME {
            ledger.saw("resume");
            return conn.resume();
        }
        ledger.saw("timer");
        let now = ledger.now();
        let Some((set, after)) = ledger.bird(client).timers.remove(&key) else {
            return ledger.fail(format!("client {client}'s timer {key} was not set"));
        };
        let late = now.saturating_sub(set + after);
        if ledger.is_punctual && late > SLACK {
            ledger.fail(format!("client {client}'s timer {key} is late: {late:?}"));
        }
        if now < set + after {
            ledger
                .fail(format!("client {client}'s timer {key} came {:?} early", set + after - now));
        }
    }

    fn on_drain(&mut self, conn: &mut Connection<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.saw("drain");
        if let Some(client) = conn.state.client {
            self.check_alive(&mut ledger, conn, client);
        }
    }

    fn on_round_trip(&mut self, conn: &mut Connection<'_>, _round_trip: Duration) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.saw("round trip");
        if let Some(client) = conn.state.client {
            self.check_alive(&mut ledger, conn, client);
        }
    }

    fn on_close(&mut self, conn: &mut Connection<'_>, closed: &Closed<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.counts.closed += 1;
        let cause = format!("{:?}", closed.cause);
        ledger.saw(cause.split('(').next().unwrap_or_default());
        let now = ledger.now();
        if let Some(client) = conn.state.client {
            self.check_alive(&mut ledger, conn, client);
            let bird = ledger.bird(client);
            bird.closed.push((now, closed.cause, closed.code));
            bird.topics.clear();
        }
    }
}

impl Told {
    /// Callbacks come between the first and the last one, and limits hold in each.
    fn check_alive(&self, ledger: &mut Ledger, conn: &Connection<'_>, client: usize) {
        let bird = ledger.bird(client);
        if bird.opened.is_none() || !bird.closed.is_empty() || bird.id != Some(conn.id()) {
            ledger.fail(format!("client {client} was called about, and is not there"));
        }
        let queued = conn.queued();
        let max = ledger.config.outbox_bytes_max + 256;
        if queued > max {
            ledger.fail(format!("{queued} bytes wait for client {client}, {max} may"));
        }
    }
}

fn say(ledger: &mut Ledger, conn: &mut Connection<'_>, client: usize, len: usize) {
    let (text, number) = ledger.direct(client, client, len);
    let status = conn.send(&text);
    ledger.sent(client, client, number, status);
}

fn tell(ledger: &mut Ledger, conn: &mut Connection<'_>, from: usize, to: usize, len: usize) {
    debug_assert!(from != OUTSIDE, "that is a handle's");
    if let Some(id) = ledger.birds.get(to).and_then(|bird| bird.id) {
        let (text, number) = ledger.direct(from, to, len);
        let status = conn.send_to(id, &text);
        ledger.sent(from, to, number, status);
    }
}
