//! A handler that does what clients tell it in text, and writes all down.
//!
//! `NUMBER VERB WORDS... |FILLER`, each client counting its commands.

use super::ledger::{Ledger, OUTSIDE, SLACK, filler};
use quelea::{
    Accept, CloseCode, Closed, Conn, Handler, Message, Request, Response, SendStatus,
    SubscribeStatus, Upgrade,
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
    /// It is busy from its first moment to its last.
    is_eager: bool,
    /// How often its timer was due.
    rounds: u32,
    _share: Option<Rc<()>>,
}

type Connection<'a> = Conn<'a, State>;

impl Handler for Told {
    type State = State;

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<State>, Response> {
        let query = upgrade.query().unwrap_or_default();
        let (is_eager, number) = match query.strip_prefix("eager.") {
            Some(number) => (true, number),
            None => (false, query),
        };
        let share = Some(self.ledger.borrow().states.clone());
        Ok(Accept::new(State { client: number.parse().ok(), is_eager, rounds: 0, _share: share }))
    }

    fn on_request(&mut self, _request: &Request<'_>) -> Response {
        self.ledger.borrow_mut().counts.requests += 1;
        Response::upgrade_required()
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
        (bird.id, bird.worker, bird.active) = (Some(conn.id()), self.worker, now);
        ledger.check_address(client);
        let max = ledger.config.connections_max as u64;
        if ledger.counts.opened - ledger.counts.closed.len() as u64 > max {
            ledger.fail(format!("more than {max} are open"));
        }
        if conn.state.is_eager {
            ledger.saw("eager");
            subscribe(&mut ledger, conn, client, "news");
            publish(&mut ledger, conn, client, "pub", "news", 9);
            publish(&mut ledger, conn, client, "others", "latest", 99);
            say(&mut ledger, conn, client, 3000);
            set_timer(&mut ledger, conn, client, 0, Duration::from_secs(1));
        }
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
        ledger.check_rate(client);
        let now = ledger.now();
        ledger.bird(client).active = now;
        // What was read at once still comes, and all there is in front of a reset.
        if !ledger.may_reset && ledger.bird(client).paused.is_some_and(|at| at < now) {
            ledger.fail(format!("client {client}'s message came while it was paused"));
        }
        // Anything else is a hostile client's.
        let Message::Text(text) = message else { return };
        let (text, filling) = text.split_once(" |").map_or((text, None), |(a, b)| (a, Some(b)));
        let mut words = text.split(' ');
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { return };
        let bird = ledger.bird(client);
        if number != bird.commands {
            let expected = bird.commands;
            return ledger.fail(format!("client {client}'s command {number} came for {expected}"));
        }
        bird.commands += 1;
        if filling.is_some_and(|filling| filling != filler(number, filling.len())) {
            return ledger.fail(format!("client {client}'s command {number} came broken"));
        }
        let verb = words.next().unwrap_or_default();
        let mut next = || words.next().unwrap_or_default();
        match verb {
            "say" => say(ledger, conn, client, next().parse().unwrap_or(0)),
            "tell" => {
                let (to, len) = (next().parse().unwrap_or(0), next().parse().unwrap_or(0));
                tell(ledger, conn, client, to, len);
            }
            "sub" => subscribe(ledger, conn, client, next()),
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
                publish(ledger, conn, client, verb, topic, len);
            }
            "ping" => {
                let payload = ledger.bird(client).commands;
                if matches!(
                    conn.ping(&payload.to_be_bytes()),
                    SendStatus::Queued | SendStatus::Backlogged
                ) {
                    ledger.bird(client).pings.push_back(payload);
                }
            }
            "close" => {
                conn.close(CloseCode::NORMAL, "asked for");
                let now = ledger.now();
                ledger.bird(client).local_close.get_or_insert(now);
            }
            "timer" => {
                let key: u8 = next().parse().unwrap_or(0);
                let after = Duration::from_millis(next().parse().unwrap_or(0));
                set_timer(ledger, conn, client, key, after);
            }
            "pause" => {
                conn.pause();
                let now = ledger.now();
                let bird = ledger.bird(client);
                (bird.paused, bird.was_paused) = (bird.paused.or(Some(now)), true);
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
            // Whom nobody listens to is not idle.
            let now = ledger.now();
            let bird = ledger.bird(client);
            (bird.active, bird.paused) = (now, None);
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
        match key {
            0 if conn.state.is_eager && conn.state.rounds < 10 => {
                conn.state.rounds += 1;
                publish(ledger, conn, client, "pub", "close", 2000);
                set_timer(ledger, conn, client, 0, Duration::from_secs(1));
            }
            1 => publish(ledger, conn, client, "others", "news", 50),
            2 => say(ledger, conn, client, 500),
            _ => {}
        }
    }

    fn on_pong(&mut self, conn: &mut Connection<'_>, payload: &[u8]) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.counts.pongs_received += 1;
        let Some(client) = conn.state.client else { return };
        self.check_alive(&mut ledger, conn, client);
        ledger.saw("pong");
        ledger.bird(client).ponged += 1;
        let number = payload.try_into().map(u64::from_be_bytes).unwrap_or(u64::MAX);
        let pings = &mut ledger.bird(client).pings;
        // RFC 6455, section 5.5.3: a pong may answer several pings.
        let Some(at) = pings.iter().position(|one| *one == number) else {
            return ledger.fail(format!("client {client} got a pong that answers nothing"));
        };
        pings.drain(..=at);
    }

    fn on_ping(&mut self, conn: &mut Connection<'_>, _payload: &[u8]) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.counts.pings_received += 1;
        if let Some(client) = conn.state.client {
            ledger.check_rate(client);
            self.check_alive(&mut ledger, conn, client);
        }
    }

    fn on_drain(&mut self, conn: &mut Connection<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.saw("drain");
        if let Some(client) = conn.state.client {
            self.check_alive(&mut ledger, conn, client);
            if conn.state.is_eager {
                publish(&mut ledger, conn, client, "others", "news", 700);
                say(&mut ledger, conn, client, 700);
            }
        }
    }

    fn on_round_trip(&mut self, conn: &mut Connection<'_>, _round_trip: Duration) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.saw("round trip");
        ledger.counts.pongs_received += 1;
        ledger.counts.round_trips += 1;
        if let Some(client) = conn.state.client {
            ledger.bird(client).ponged += 1;
            self.check_alive(&mut ledger, conn, client);
        }
    }

    fn on_close(&mut self, conn: &mut Connection<'_>, closed: &Closed<'_>) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.counts.closed.push((closed.cause, closed.code));
        let cause = format!("{:?}", closed.cause);
        ledger.saw(cause.split('(').next().unwrap_or_default());
        let now = ledger.now();
        if let Some(client) = conn.state.client {
            self.check_alive(&mut ledger, conn, client);
            let bird = ledger.bird(client);
            bird.closed.push((now, closed.cause, closed.code));
            bird.topics.clear();
            bird.timers.clear();
            let is_gone = conn.send("too late") == SendStatus::Closed
                && conn.ping(b"") == SendStatus::Closed
                && conn.close(CloseCode::NORMAL, "") == SendStatus::Closed
                && conn.subscribe("news") == SubscribeStatus::Closed
                && !conn.unsubscribe("news")
                && !conn.set_timer(9, Duration::ZERO)
                && conn.queued() <= ledger.config.outbox_bytes_max + 256;
            if !is_gone {
                ledger.fail(format!("client {client} can be used in its on_close"));
            }
            conn.pause();
            conn.resume();
            publish(&mut ledger, conn, client, "others", "news", 30);
            publish(&mut ledger, conn, client, "pub", "latest", 30);
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
        // A close frame, and the answer to a ping.
        let max = ledger.config.outbox_bytes_max + 256;
        if queued > max {
            ledger.fail(format!("{queued} bytes wait for client {client}, {max} may"));
        }
    }
}

fn subscribe(ledger: &mut Ledger, conn: &mut Connection<'_>, client: usize, topic: &str) {
    match conn.subscribe(topic) {
        SubscribeStatus::Subscribed => ledger.subscribed(client, topic),
        SubscribeStatus::TooMany
            if ledger.bird(client).topics.len() < ledger.config.subscriptions_max =>
        {
            ledger.fail(format!("client {client} may have more subscriptions"));
        }
        SubscribeStatus::Already if !ledger.bird(client).topics.contains(topic) => {
            ledger.fail(format!("client {client} has not subscribed to {topic}"));
        }
        _ => {}
    }
}

fn publish(
    ledger: &mut Ledger,
    conn: &mut Connection<'_>,
    client: usize,
    verb: &str,
    topic: &str,
    len: usize,
) {
    let (text, number) = ledger.publish(client, topic, len);
    let status = match verb {
        "pub" => conn.publish(topic, &text),
        _ => conn.publish_to_others(topic, &text),
    };
    ledger.published(client, topic, number, status, verb == "others");
}

fn set_timer(
    ledger: &mut Ledger,
    conn: &mut Connection<'_>,
    client: usize,
    key: u8,
    after: Duration,
) {
    if conn.set_timer(key, after) {
        let now = ledger.now();
        ledger.bird(client).timers.insert(key, (now, after));
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
