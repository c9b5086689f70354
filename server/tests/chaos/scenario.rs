//! A run: clients that come, talk, misbehave and go, and what has to be true of it.

use super::{
    config::config,
    ends::is_answer,
    handler::Told,
    ledger::{Bird, Ledger, OUTSIDE, filler as filler_of},
};
use quelea::{
    CloseCode, Config, Drain, SendStatus,
    sim::{ClientEvent, ClientId, ClientOptions, Fault, Plan, Residue, Simulation},
};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

const TOPICS: &[&str] = &["news", "latest", "close", "all.x"];
/// Clients of one run, those that are gone included.
const GUESTS_MAX: usize = 14;
/// How long bytes take at most, there and back.
pub(crate) const IN_FLIGHT_MAX: Duration = Duration::from_secs(4);
const SECOND: Duration = Duration::from_secs(1);

/// A client, and what was done with it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) id: ClientId,
    pub(crate) is_raw: bool,
    pub(crate) sent: u64,
    pub(crate) opened: Option<Duration>,
    pub(crate) is_over: bool,
    pub(crate) close_seen: Option<CloseCode>,
    pub(crate) has_closed: bool,
    pub(crate) has_finished: bool,
    pub(crate) was_reset: bool,
    pub(crate) has_vanished: bool,
    pub(crate) connected: Duration,
    pub(crate) vanished: Duration,
    pub(crate) over: Duration,
    pub(crate) has_stalled: bool,
    pub(crate) has_broken_rules: bool,
    pub(crate) has_flooded: bool,
    /// Pings that it sent, each with its number, and the last that was answered.
    pub(crate) pings: u64,
    pub(crate) pong: Option<u64>,
    /// What a raw one sent first, and what came back.
    pub(crate) head: usize,
    pub(crate) answers: Vec<u8>,
}

pub(crate) struct Run {
    pub(crate) sim: Simulation<Told>,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    random: fastrand::Rng,
    pub(crate) plan: Plan,
    pub(crate) config: Config,
    pub(crate) guests: Vec<Guest>,
    pub(crate) has_stopped: bool,
    /// Until then, a drain lets peers take what waits for them.
    pub(crate) drained_by: Duration,
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Stands for all that happened.
    pub(crate) digest: u64,
    /// The kinds of things that happened.
    pub(crate) seen: BTreeSet<String>,
}

/// Runs a plan; what it came to, or what went wrong.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, String> {
    let mut run = Run::new(plan)?;
    for _ in 0..plan.steps {
        run.step();
        run.check_step()?;
    }
    run.settle()?;
    run.end()?;
    let seen = std::mem::take(&mut run.ledger.borrow_mut().seen);
    Ok(Outcome { digest: run.sim.digest(), seen })
}

impl Run {
    fn new(plan: &Plan) -> Result<Self, String> {
        let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
        let config = config(&mut random, plan.workers);
        let stands_still = plan.faults.has(Fault::Pauses) || plan.faults.has(Fault::ClockJumps);
        let mut ledger = Ledger::new(config.clone(), !stands_still);
        ledger.may_reset = plan.faults.has(Fault::Resets);
        let ledger = Rc::new(RefCell::new(ledger));
        let make = |worker: quelea::Worker| Told { ledger: ledger.clone(), worker: worker.index() };
        let mut sim =
            Simulation::new(plan.seed, config.clone(), make).map_err(|e| e.to_string())?;
        sim.set_faults(plan.faults);
        ledger.borrow_mut().clock = Some(sim.clock());
        Ok(Self {
            sim,
            ledger,
            random,
            plan: *plan,
            config,
            guests: Vec::new(),
            has_stopped: false,
            drained_by: Duration::ZERO,
        })
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.usize(0..end)
    }

    /// A length: mostly short, sometimes as long as may be.
    fn len(&mut self) -> usize {
        let most = match self.below(8) {
            0 => self.config.message_bytes_max.min(self.config.outbox_bytes_max) / 2,
            1 => 10_000.min(self.config.message_bytes_max / 2),
            _ => 100,
        };
        self.below(most.max(1))
    }

    fn step(&mut self) {
        let time = match self.below(20) {
            0 => Duration::from_millis(self.below(3000) as u64),
            1..8 => Duration::from_millis(self.below(50) as u64),
            8..14 => Duration::from_micros(self.below(500) as u64),
            _ => Duration::ZERO,
        };
        self.sim.run_for(time);
        let alive: Vec<_> =
            (0..self.guests.len()).filter(|at| !self.sim.is_over(self.guests[*at].id)).collect();
        let has_place = self.guests.len() < GUESTS_MAX;
        if self.guests.is_empty()
            || (has_place && (alive.len() < 3 || (alive.len() < 10 && self.below(8) == 0)))
        {
            return self.connect();
        }
        let at = match alive.len() {
            0 => self.below(self.guests.len()),
            // Now and then what is done to the dead.
            count => match self.below(20) {
                0 => self.below(self.guests.len()),
                _ => alive[self.below(count)],
            },
        };
        let topic = TOPICS[self.below(TOPICS.len())];
        match self.below(100) {
            0..20 => self.burst(at, "say"),
            20..30 => {
                let to = self.below(self.guests.len());
                let len = self.len();
                self.command(at, &format!("tell {to} {len}"));
            }
            30..42 => self.subscribe(at, topic),
            42..45 => self.command(at, &format!("unsub {topic}")),
            45..62 => self.burst(at, &format!("pub {topic}")),
            62..66 => self.burst(at, &format!("others {topic}")),
            66..70 => {
                let (key, after) = (self.below(4), self.below(3000));
                self.command(at, &format!("timer {key} {after}"));
            }
            70..72 => {
                let after = self.below(2000);
                self.command(at, &format!("pause {after}"));
            }
            72..74 => self.command(at, "close"),
            74..77 => self.act_from_outside(at, topic),
            77..80 => {
                self.ping(at);
            }
            80..83 => self.break_rules(at),
            83..85 => self.flood(at),
            86..97 => self.misbehave(at),
            85 => self.command(at, "ping"),
            97 if self.plan.faults.has(Fault::Pauses) => {
                let pause = Duration::from_millis(self.below(4000) as u64);
                let worker = self.below(self.plan.workers);
                self.sim.pause_worker(worker, pause);
            }
            98 if self.plan.faults.has(Fault::ClockJumps) => {
                let jump = Duration::from_secs(self.below(3600) as u64);
                self.sim.jump(jump);
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        let number = self.guests.len();
        let is_raw = self.below(10) == 0;
        let host = self.below(6) as u8;
        let address = Some(([10, 0, 0, host], 40_000 + number as u16).into());
        let eager = if self.below(6) == 0 { "eager." } else { "" };
        let options = ClientOptions {
            target: format!("/?{eager}{number}"),
            is_raw,
            address,
            ..ClientOptions::default()
        };
        let Ok(id) = self.sim.connect_with(options) else { return };
        let head = self.below(6);
        if is_raw {
            let heads: [&[u8]; 6] = [
                b"",
                b"GET / HTTP/1.1\r\nHo",
                b"GET /page HTTP/1.1\r\nHost: a\r\n\r\nGET /more HTTP/1.1\r\nHost: a\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            ];
            self.sim.write(id, heads[head]);
        }
        self.ledger.borrow_mut().birds.push(Bird::from_host(host));
        self.guests.push(Guest {
            id,
            is_raw,
            sent: 0,
            opened: None,
            is_over: false,
            close_seen: None,
            has_closed: false,
            has_finished: false,
            was_reset: false,
            has_vanished: false,
            connected: self.sim.elapsed(),
            vanished: Duration::ZERO,
            over: Duration::ZERO,
            has_stalled: false,
            has_broken_rules: false,
            has_flooded: false,
            pings: 0,
            pong: None,
            head,
            answers: Vec::new(),
        });
    }

    /// Tells the handler something, if the client is in a state to.
    fn command(&mut self, at: usize, words: &str) {
        let pieces = if self.below(6) == 0 { 1 + self.below(5) } else { 1 };
        let max = self.config.message_bytes_max;
        // As long as may be, or anything up to that.
        let filler = match self.below(48) {
            0 if max <= 64 << 10 => Some(max),
            1 => Some(self.below(max.min(64 << 10))),
            _ => None,
        };
        let guest = &mut self.guests[at];
        if guest.is_raw || guest.has_broken_rules || guest.has_flooded {
            return;
        }
        let mut text = format!("{} {words}", guest.sent);
        if let Some(len) = filler {
            let len = len.saturating_sub(text.len() + 2).min(max - text.len() - 2);
            text = format!("{text} |{}", filler_of(guest.sent, len));
        }
        if self.sim.send_in_fragments(guest.id, &text, pieces) {
            guest.sent += 1;
        }
    }

    fn burst(&mut self, at: usize, words: &str) {
        let count = match self.below(10) {
            0 => 30,
            1..4 => 5,
            _ => 1,
        };
        for _ in 0..count {
            let len = self.len();
            self.command(at, &format!("{words} {len}"));
        }
    }

    fn subscribe(&mut self, at: usize, topic: &str) {
        match topic.strip_prefix("all.") {
            Some(rest) => self.command(at, &format!("match {rest}")),
            None => self.command(at, &format!("sub {topic}")),
        }
    }

    fn act_from_outside(&mut self, at: usize, topic: &str) {
        let len = self.len();
        let what = self.below(3);
        // Many at once: where they arrive, there may be no room for all.
        let count = if self.below(3) == 0 { 40 } else { 1 };
        let mut ledger = self.ledger.borrow_mut();
        let ledger = &mut *ledger;
        let handle = self.sim.handle();
        match (what, ledger.birds[at].id) {
            (0, Some(id)) => {
                for _ in 0..count {
                    let (text, number) = ledger.direct(OUTSIDE, at, len.max(count * 10));
                    let status = handle.send(id, &text);
                    ledger.sent(OUTSIDE, at, number, status);
                }
            }
            (1, Some(id)) if len < 20 => {
                if handle.close(id, CloseCode::NORMAL, "from outside") == SendStatus::Queued {
                    let now = ledger.now();
                    ledger.birds[at].outside_close.get_or_insert(now);
                }
            }
            _ => {
                let (text, number) = ledger.publish(OUTSIDE, topic, len);
                let status = handle.publish(topic, &text);
                ledger.published(OUTSIDE, topic, number, status, false);
            }
        }
    }

    /// Sends what RFC 6455 or a limit forbids.
    fn break_rules(&mut self, at: usize) {
        let too_big = (self.config.message_bytes_max as u64 + 1).to_be_bytes();
        let oversized = [&[0x82, 0xff][..], &too_big, &[1, 2, 3, 4]].concat();
        let wrongs: [&[u8]; 9] = [
            b"\x81\x02hi",
            b"\x83\x80\x01\x02\x03\x04",
            b"\xc1\x80\x01\x02\x03\x04",
            b"\x80\x80\x01\x02\x03\x04",
            b"\x09\x80\x01\x02\x03\x04",
            b"\x89\xfe\x00\x7e\x01\x02\x03\x04",
            b"\x81\x81\x00\x00\x00\x00\xff",
            b"\x88\x81\x01\x02\x03\x04\x00",
            &oversized,
        ];
        let wrong = wrongs[self.below(wrongs.len())];
        let is_long = self.below(4) == 0;
        let guest = &mut self.guests[at];
        if !guest.is_raw && self.sim.is_open(guest.id) {
            guest.has_broken_rules = true;
            if is_long {
                let text = "a".repeat(self.config.message_bytes_max + 1);
                self.sim.send(guest.id, &text);
            } else {
                self.sim.write(guest.id, wrong);
            }
        }
    }

    /// Sends more in a second than is allowed, if anything is.
    fn flood(&mut self, at: usize) {
        if let Some(rate) = self.config.messages_per_second_max
            && self.sim.is_open(self.guests[at].id)
        {
            self.guests[at].has_flooded = true;
            for _ in 0..2 * rate {
                self.ping(at);
            }
        }
    }

    fn ping(&mut self, at: usize) {
        let guest = &mut self.guests[at];
        if !guest.has_broken_rules && self.sim.ping(guest.id, &guest.pings.to_be_bytes()) {
            guest.pings += 1;
        }
    }

    fn misbehave(&mut self, at: usize) {
        let what = self.below(10);
        let guest = &mut self.guests[at];
        match what {
            0 if self.sim.close(guest.id, CloseCode::NORMAL, "bye") => guest.has_closed = true,
            1 => {
                guest.has_finished = true;
                self.sim.finish(guest.id);
            }
            2 if self.plan.faults.has(Fault::Resets) => {
                guest.was_reset = true;
                self.sim.reset(guest.id);
            }
            3 if self.plan.faults.has(Fault::HalfOpen) => {
                (guest.has_vanished, guest.vanished) = (true, self.sim.elapsed());
                self.sim.vanish(guest.id);
            }
            4..7 if self.plan.faults.has(Fault::Stalls) => {
                guest.has_stalled = true;
                self.sim.stall(guest.id);
            }
            7.. => self.sim.resume(guest.id),
            _ => {}
        }
    }

    /// Takes what the clients have seen, and looks whether it can be true.
    fn look(&mut self) {
        let mut ledger = self.ledger.borrow_mut();
        for (number, guest) in self.guests.iter_mut().enumerate() {
            for (at, event) in self.sim.take_events(guest.id) {
                match event {
                    ClientEvent::Text(text) => ledger.arrived(number, &text),
                    ClientEvent::Open { .. } => guest.opened = Some(at),
                    ClientEvent::Refused(status) => ledger.saw(format!("refused {}", status.0)),
                    ClientEvent::Close { code, reason } => {
                        guest.close_seen = Some(code);
                        // The handler's own words: nothing that was accepted before is behind them.
                        if reason == "asked for" {
                            ledger.saw("close behind all else");
                            ledger.check_before_close(number);
                        }
                    }
                    ClientEvent::Pong(payload) => {
                        match payload.try_into().map(u64::from_be_bytes) {
                            Ok(number)
                                if guest.pong.is_none_or(|last| last < number)
                                    && number < guest.pings =>
                            {
                                guest.pong = Some(number);
                            }
                            _ => ledger.fail(format!(
                                "client {number} got another pong than it asked for"
                            )),
                        }
                    }
                    ClientEvent::Bytes(bytes) => guest.answers.extend(bytes),
                    ClientEvent::Violation(violation) => {
                        ledger.fail(format!("the server broke a rule for {number}: {violation}"));
                    }
                    ClientEvent::Binary(_) => ledger.fail("nobody sends binary".into()),
                    ClientEvent::Ended | ClientEvent::Reset => {
                        (guest.is_over, guest.over) = (true, at);
                    }
                    ClientEvent::Fault(Fault::Resets) => guest.was_reset = true,
                    ClientEvent::Fault(Fault::HalfOpen) => {
                        (guest.has_vanished, guest.vanished) = (true, at);
                    }
                    ClientEvent::Fault(Fault::Stalls) => guest.has_stalled = true,
                    _ => {}
                }
            }
        }
    }

    fn check_step(&mut self) -> Result<(), String> {
        self.look();
        let admitted = self.sim.residue().admitted;
        let mut ledger = self.ledger.borrow_mut();
        if admitted > self.config.connections_max {
            ledger.fail(format!("{admitted} connections were let in"));
        }
        let pending = self.sim.residue().pending;
        if pending > self.config.handshakes_pending_max {
            ledger.fail(format!("{pending} handshakes were let in"));
        }
        let open = ledger.counts.opened as usize - ledger.counts.closed.len();
        let states = Rc::strong_count(&ledger.states) - 1;
        if states != open {
            ledger.fail(format!("{open} connections are open, and have {states} states"));
        }
        ledger.failure().map_or(Ok(()), Err)
    }

    /// The network heals, all clients read: what was accepted arrives, and what is dead is noticed.
    fn settle(&mut self) -> Result<(), String> {
        self.sim.set_faults(quelea::sim::Faults::NONE);
        for worker in 0..self.plan.workers {
            self.sim.set_out_of_descriptors(worker, false);
        }
        for at in 0..self.guests.len() {
            self.sim.resume(self.guests[at].id);
        }
        let Config { ping_interval, pong_timeout, handshake_timeout, close_timeout, .. } =
            self.config;
        let silence =
            ping_interval.map_or(Duration::ZERO, |interval| 2 * (interval + pong_timeout));
        // What was under way, clocks that wait, and what the handler holds.
        let wait = silence.max(handshake_timeout + close_timeout) + 30 * SECOND;
        self.sim.run_for(wait);
        self.check_step()?;
        let mut ledger = self.ledger.borrow_mut();
        for (number, guest) in self.guests.iter().enumerate() {
            let is_alive = self.sim.is_open(guest.id);
            let bird = &ledger.birds[number];
            let (is_served, commands) =
                (bird.opened.is_some() && bird.closed.is_empty(), bird.commands);
            if guest.has_vanished && is_served && ping_interval.is_some() {
                ledger.fail(format!("client {number} is gone, and nobody has noticed"));
            } else if !guest.has_vanished && is_alive != is_served {
                ledger.fail(format!("client {number}: alive {is_alive}, served {is_served}"));
            }
            let bird = &ledger.birds[number];
            if is_served && (bird.outside_close.is_some() || bird.local_close.is_some()) {
                ledger.fail(format!("client {number} was to be closed, and is still there"));
            }
            let is_innocent = !guest.has_broken_rules && !guest.has_flooded;
            if is_alive && is_served && is_innocent && !guest.has_finished {
                if commands != guest.sent {
                    let sent = guest.sent;
                    ledger.fail(format!("client {number} sent {sent}, {commands} came"));
                }
                ledger.check_complete(number);
                if guest.pong != guest.pings.checked_sub(1) {
                    ledger.fail(format!("client {number}'s last ping was not answered"));
                }
                let bird = &ledger.birds[number];
                let now = ledger.now();
                // What was set at the end may still be due.
                let late =
                    bird.timers.iter().find(|(_, (set, after))| *set + *after + SECOND < now);
                if let Some((key, due)) = late.map(|(key, (set, after))| (*key, *set + *after)) {
                    ledger
                        .fail(format!("client {number}'s timer {key} never came: due at {due:?}"));
                } else if !bird.pings.is_empty() {
                    ledger.fail(format!("client {number} never answered a ping"));
                }
            }
            if guest.answers.starts_with(b"HTTP/1.1 408") {
                ledger.saw("refused 408");
            }
            if guest.is_raw && !is_answer(guest, self.plan.faults) {
                let answer = String::from_utf8_lossy(&guest.answers);
                ledger.fail(format!("client {number} asked {}, and got {answer:?}", guest.head));
            }
            let Config { handshake_timeout, close_timeout, .. } = self.config;
            let longest = handshake_timeout + close_timeout + IN_FLIGHT_MAX;
            let slow = [Fault::Stalls, Fault::Descriptors];
            let is_slow = slow.iter().any(|fault| self.plan.faults.has(*fault));
            if guest.is_raw
                && ledger.is_punctual
                && !is_slow
                && guest.over > guest.connected + longest
            {
                let took = guest.over - guest.connected;
                ledger.fail(format!("client {number} is late to go: it asked for {took:?}"));
            }
            let has_asked = !guest.is_raw || guest.is_over || guest.has_vanished;
            if !has_asked && !self.sim.is_over(guest.id) {
                ledger.fail(format!("client {number} never asked, and is still there"));
            }
        }
        if ledger.lost_publishes() > 0 {
            ledger.saw("publish dropped");
        }
        if ledger.lost_mail() > 0 {
            ledger.saw("mail dropped");
        }
        ledger.failure().map_or(Ok(()), Err)?;
        drop(ledger);
        self.check_gauges()
    }

    /// All come to their end: the clients first, or the server.
    fn end(&mut self) -> Result<(), String> {
        let is_server_first = self.random.bool();
        if is_server_first {
            self.has_stopped = true;
            match self.random.bool() {
                true => self.sim.handle().stop(),
                false => self.drain()?,
            }
        } else {
            for at in 0..self.guests.len() {
                let guest = &mut self.guests[at];
                if self.random.bool() && self.sim.close(guest.id, CloseCode::GOING_AWAY, "") {
                    guest.has_closed = true;
                } else {
                    guest.was_reset = true;
                    self.sim.reset(guest.id);
                }
            }
        }
        // Until all are gone, and no longer: what is left then is not to go by itself later.
        let end = self.sim.elapsed() + self.config.close_timeout + 2 * SECOND;
        while self.sim.residue().connections > 0 && self.sim.elapsed() < end {
            self.sim.run_for(Duration::from_millis(20));
        }
        self.check_step()?;
        // A client that is gone without a word stays, if nobody asks after it.
        let can_notice = self.config.ping_interval.is_some()
            || !self.guests.iter().any(|guest| guest.has_vanished);
        if !is_server_first && can_notice {
            let mut ledger = self.ledger.borrow_mut();
            let is_here = |bird: &Bird| bird.opened.is_some() && bird.closed.is_empty();
            if let Some(late) = ledger.birds.iter().position(is_here) {
                ledger.fail(format!("client {late} is late to go"));
            }
            ledger.failure().map_or(Ok(()), Err)?;
            let residue = self.sim.residue();
            if residue != Residue::default() {
                return Err(format!("all are gone, and this is left: {residue:?}"));
            }
        }
        self.has_stopped = true;
        self.sim.handle().stop();
        self.sim.run_for(self.config.close_timeout + 2 * SECOND);
        if self.sim.running() > 0 {
            return Err(format!("{} workers run on", self.sim.running()));
        }
        self.check_ends()?;
        self.check_counts()
    }

    /// Drains to the end, or into the middle of its window, where it is stopped then.
    fn drain(&mut self) -> Result<(), String> {
        let window = Duration::from_millis(self.random.u64(0..4000));
        let timeout = window + self.config.close_timeout;
        self.drained_by = self.sim.elapsed() + timeout;
        let handle = self.sim.handle();
        handle.drain(Drain { window, timeout, ..Drain::default() }).map_err(|e| e.to_string())?;
        if self.random.bool() {
            self.sim.run_for(window / 2);
            return Ok(());
        }
        // A worker may stand still for that long.
        self.sim.run_for(timeout + 5 * SECOND);
        match self.sim.running() {
            0 => Ok(()),
            running => Err(format!("{running} workers drain on")),
        }
    }
}
