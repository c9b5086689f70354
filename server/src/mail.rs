//! What workers and handles ask of each other's connections: publishes, messages, closes.
//!
//! All that a worker sends to others in one tick is one batch, in order, shared by those it is for.

use crate::{
    id::ConnId,
    parts::mailbox::{Mailbox, Push},
};
use quelea_core::{CloseCode, Message, MessageKind};
use std::{collections::VecDeque, ops::Range, sync::Arc};

/// The mailbox of a worker.
pub(crate) type Inbox = Mailbox<Arc<Batch>>;

/// One thing to do for connections of another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mail<'a> {
    Publish { topic: &'a str, message: Message<'a> },
    Send { to: ConnId, message: Message<'a> },
    Close { to: ConnId, code: CloseCode, reason: &'a str },
}

/// Mail in order, each in as many bytes as it has.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    /// Topics, texts and reasons.
    text: String,
    binary: Vec<u8>,
}

#[derive(Debug)]
enum Entry {
    Publish { topic: Range<usize>, payload: Payload },
    Send { to: ConnId, payload: Payload },
    Close { to: ConnId, code: CloseCode, reason: Range<usize> },
}

/// Where a message lies.
#[derive(Clone, Debug)]
struct Payload {
    kind: MessageKind,
    range: Range<usize>,
}

/// What a batch is not kept for reuse with.
const BATCH_BYTES_KEPT: usize = 64 << 10;

impl Batch {
    pub(crate) fn push(&mut self, mail: Mail<'_>) {
        let entry = match mail {
            Mail::Publish { topic, message } => {
                Entry::Publish { topic: self.add_text(topic), payload: self.add(message) }
            }
            Mail::Send { to, message } => Entry::Send { to, payload: self.add(message) },
            Mail::Close { to, code, reason } => {
                Entry::Close { to, code, reason: self.add_text(reason) }
            }
        };
        self.entries.push(entry);
    }

    fn add(&mut self, message: Message<'_>) -> Payload {
        match message {
            Message::Text(text) => Payload { kind: MessageKind::Text, range: self.add_text(text) },
            Message::Binary(bytes) => {
                let start = self.binary.len();
                self.binary.extend_from_slice(bytes);
                Payload { kind: MessageKind::Binary, range: start..self.binary.len() }
            }
        }
    }

    fn add_text(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// The mail at a position below [`Batch::len`].
    pub(crate) fn get(&self, index: usize) -> Option<Mail<'_>> {
        Some(match self.entries.get(index)? {
            Entry::Publish { topic, payload } => {
                Mail::Publish { topic: &self.text[topic.clone()], message: self.message(payload) }
            }
            Entry::Send { to, payload } => Mail::Send { to: *to, message: self.message(payload) },
            Entry::Close { to, code, reason } => {
                Mail::Close { to: *to, code: *code, reason: &self.text[reason.clone()] }
            }
        })
    }

    fn message(&self, payload: &Payload) -> Message<'_> {
        let range = payload.range.clone();
        match payload.kind {
            MessageKind::Text => Message::Text(&self.text[range]),
            MessageKind::Binary => Message::Binary(&self.binary[range]),
        }
    }

    /// The memory it stands for.
    pub(crate) const fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES + self.text.len() + self.binary.len()
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.binary.clear();
    }

    const fn capacity(&self) -> usize {
        self.entries.capacity() * ENTRY_BYTES + self.text.capacity() + self.binary.capacity()
    }
}

/// What a batch takes for one more message, besides its bytes.
const ENTRY_BYTES: usize = size_of::<Entry>();

/// What one worker sends to the others.
#[derive(Debug)]
pub(crate) struct Outgoing {
    own: usize,
    bytes_max: usize,
    /// What this tick has for others.
    batch: Batch,
    /// It is for all of them: something is published.
    is_for_all: bool,
    /// Something waits for room in a mailbox.
    is_held_up: bool,
    /// By worker.
    routes: Vec<Route>,
    /// Batches on their way, which are used again once nobody else holds them.
    sent: VecDeque<Arc<Batch>>,
}

/// The way to one worker.
#[derive(Debug, Default)]
struct Route {
    /// The batch of this tick has something for its connections.
    is_wanted: bool,
    /// What its mailbox had no room for, and how much that is.
    unsent: VecDeque<Arc<Batch>>,
    unsent_bytes: usize,
}

/// Batches that are kept for reuse.
const SENT_MAX: usize = 8;

impl Outgoing {
    /// For worker `own` of `workers`, with so many bytes that may wait for each other one.
    pub(crate) fn new(own: usize, workers: usize, bytes_max: usize) -> Self {
        let routes = std::iter::repeat_with(Route::default).take(workers).collect();
        Self {
            own,
            bytes_max,
            batch: Batch::default(),
            is_for_all: false,
            is_held_up: false,
            routes,
            sent: VecDeque::new(),
        }
    }

    /// Whether there are other workers.
    pub(crate) fn is_needed(&self) -> bool {
        self.routes.len() > 1
    }

    /// Publishes on all other workers, or on none if one is too far behind.
    pub(crate) fn publish(&mut self, topic: &str, message: Message<'_>) -> bool {
        let bytes = ENTRY_BYTES + topic.len() + message.len();
        // While nothing is held up, all workers have the same room.
        let workers = if self.is_held_up { self.routes.len() } else { 1 };
        if !(0..workers).all(|to| self.has_room(to, bytes)) {
            return false;
        }
        self.is_for_all = true;
        self.batch.push(Mail::Publish { topic, message });
        true
    }

    /// Sends to a connection of another worker; `false` if that is too far behind.
    pub(crate) fn send(&mut self, to: ConnId, message: Message<'_>) -> bool {
        let worker = usize::from(to.worker());
        if !self.has_room(worker, ENTRY_BYTES + message.len()) {
            return false;
        }
        self.routes[worker].is_wanted = true;
        self.batch.push(Mail::Send { to, message });
        true
    }

    fn has_room(&self, worker: usize, bytes: usize) -> bool {
        self.routes.get(worker).is_some_and(|route| {
            let waiting = route.unsent_bytes + self.batch.bytes();
            waiting == 0 || waiting + bytes <= self.bytes_max
        })
    }

    /// Batches that wait for room in a mailbox, or for the end of the tick.
    #[cfg(feature = "sim")]
    pub(crate) fn waiting(&self) -> usize {
        let unsent: usize = self.routes.iter().map(|route| route.unsent.len()).sum();
        unsent + usize::from(self.batch.len() > 0)
    }

    /// Whether something waits for room in a mailbox.
    pub(crate) const fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// Hands over what this tick has, and what could not be handed over before; `wake` is called
    /// for workers that may be asleep.
    pub(crate) fn flush(&mut self, inboxes: &[Arc<Inbox>], mut wake: impl FnMut(usize)) {
        if self.batch.len() == 0 && !self.is_held_up {
            return;
        }
        let batch = (self.batch.len() > 0).then(|| self.seal());
        let is_for_all = std::mem::take(&mut self.is_for_all);
        for (worker, route) in self.routes.iter_mut().enumerate() {
            let is_wanted = std::mem::take(&mut route.is_wanted) || is_for_all;
            if let Some(batch) = &batch
                && is_wanted
                && worker != self.own
            {
                route.unsent_bytes += batch.bytes();
                route.unsent.push_back(batch.clone());
            }
            let Some(inbox) = inboxes.get(worker) else { continue };
            if route.hand_over(inbox) {
                wake(worker);
            }
        }
        self.is_held_up = self.routes.iter().any(|route| !route.unsent.is_empty());
    }

    /// The batch of this tick, to be shared; an old one takes its place.
    fn seal(&mut self) -> Arc<Batch> {
        let mut batch = self.take_unused().unwrap_or_default();
        if let Some(unique) = Arc::get_mut(&mut batch) {
            if unique.capacity() > BATCH_BYTES_KEPT {
                *unique = Batch::default();
            }
            unique.clear();
            std::mem::swap(unique, &mut self.batch);
        }
        self.sent.push_back(batch.clone());
        batch
    }

    /// The oldest batch that was sent, if nobody reads it any more.
    fn take_unused(&mut self) -> Option<Arc<Batch>> {
        let mut oldest = self.sent.pop_front()?;
        if Arc::get_mut(&mut oldest).is_some() {
            return Some(oldest);
        }
        if self.sent.len() + 1 < SENT_MAX {
            self.sent.push_front(oldest);
        }
        None
    }

    /// Gives back what is kept for reuse.
    pub(crate) fn trim(&mut self) {
        self.sent = VecDeque::new();
        if self.batch.len() == 0 {
            self.batch = Batch::default();
        }
    }
}

impl Route {
    /// Whether the worker has to be woken.
    fn hand_over(&mut self, inbox: &Inbox) -> bool {
        let mut wake = false;
        while let Some(batch) = self.unsent.front() {
            let bytes = batch.bytes();
            match inbox.push(batch.clone(), bytes) {
                Push::First => wake = true,
                Push::Behind | Push::Closed => {}
                Push::Full => break,
            }
            self.unsent.pop_front();
            self.unsent_bytes -= bytes;
        }
        wake
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::parts::slots::SlotId;

    fn conn(worker: u8) -> ConnId {
        ConnId::new(worker, SlotId::new(1, 1))
    }

    fn inboxes(count: usize, bytes_max: usize) -> Vec<Arc<Inbox>> {
        std::iter::repeat_with(|| Arc::new(Inbox::new(bytes_max))).take(count).collect()
    }

    fn take(inbox: &Inbox) -> Vec<Arc<Batch>> {
        let mut batches = Vec::new();
        inbox.take(&mut batches);
        batches
    }

    #[test]
    fn a_batch_gives_back_what_was_put_in_in_order() {
        let mut batch = Batch::default();
        let all = [
            Mail::Publish { topic: "a", message: Message::Text("tëxt") },
            Mail::Send { to: conn(3), message: Message::Binary(&[0xff, 0]) },
            Mail::Close { to: conn(4), code: CloseCode::NORMAL, reason: "bye" },
            Mail::Publish { topic: "", message: Message::Binary(&[]) },
        ];
        for mail in all {
            batch.push(mail);
        }
        assert!((0..batch.len()).map(|at| batch.get(at).unwrap()).eq(all));
        assert_eq!(batch.get(all.len()), None);
    }

    #[test]
    fn a_tick_is_one_batch_for_those_it_is_for_and_each_is_woken_once() {
        let (mut outgoing, inboxes) = (Outgoing::new(0, 3, 1 << 20), inboxes(3, 1 << 20));
        assert!(outgoing.send(conn(2), "for two".into()));
        assert!(outgoing.send(conn(2), "again".into()));
        let mut woken = Vec::new();
        outgoing.flush(&inboxes, |worker| woken.push(worker));
        assert_eq!(woken, [2]);
        assert!(outgoing.publish("all", "hello".into()));
        outgoing.flush(&inboxes, |worker| woken.push(worker));
        assert_eq!(woken, [2, 1], "one that was woken and has not looked is not woken again");
        assert_eq!([0, 1, 2].map(|at: usize| take(&inboxes[at]).len()), [0, 1, 2]);
        outgoing.flush(&inboxes, |_| panic!("there is nothing to tell"));
    }

    #[test]
    fn what_a_full_mailbox_refuses_goes_later_and_more_is_refused_at_once() {
        let (mut outgoing, inboxes) = (Outgoing::new(0, 2, 1000), inboxes(2, 1000));
        let mut accepted = 0;
        for round in 0..10 {
            while outgoing.publish("t", Message::Text(&format!("{accepted:0100}"))) {
                accepted += 1;
            }
            outgoing.flush(&inboxes, |_| {});
            assert_eq!(outgoing.is_held_up(), round > 0);
        }
        let mut found = 0;
        for _ in 0..3 {
            for batch in take(&inboxes[1]) {
                for at in 0..batch.len() {
                    let text = format!("{found:0100}");
                    let message = Message::Text(&text);
                    assert_eq!(batch.get(at), Some(Mail::Publish { topic: "t", message }));
                    found += 1;
                }
            }
            outgoing.flush(&inboxes, |_| {});
        }
        assert_eq!(found, accepted, "nothing that was accepted is lost");
        assert!(!outgoing.is_held_up());
    }

    #[test]
    fn batches_are_used_again_once_they_were_read() {
        let (mut outgoing, inboxes) = (Outgoing::new(0, 2, 1 << 20), inboxes(2, 1 << 20));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            assert!(outgoing.publish("t", "hello".into()));
            outgoing.flush(&inboxes, |_| {});
            for batch in take(&inboxes[1]) {
                seen.insert(Arc::as_ptr(&batch));
            }
        }
        assert!(seen.len() <= SENT_MAX, "{} batches", seen.len());
        // A reader that keeps them does not make the sender keep more.
        let mut kept = Vec::new();
        for _ in 0..100 {
            assert!(outgoing.publish("t", "hello".into()));
            outgoing.flush(&inboxes, |_| {});
            kept.extend(take(&inboxes[1]));
        }
        assert!(outgoing.sent.len() <= SENT_MAX);
    }
}
