//! The clients of one engine: what a mode sees, and sends with.

use super::{
    end::End,
    frames::{FrameId, Frames, cut},
    opening::Opening,
    output::{Output, Queue},
    stats::Stats,
    time::Time,
};
use quelea::driver::SlotId;
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Message, MessageKind, Role, deflate::Parameters,
};
use slab::Slab;
use std::{io, ops::Range};

/// One client, as long as it is there; a later one has another id.
pub(crate) type ClientId = SlotId;

pub(super) struct Client<S> {
    pub(super) id: ClientId,
    pub(super) connection: Connection,
    pub(super) queue: Queue,
    /// Until it is open.
    pub(super) opening: Option<Box<Opening>>,
    /// How much of an expected frame came, if not all of it.
    pub(super) matched: Option<Begun>,
    /// Each message has to be inflated, as later ones may refer to it.
    pub(super) inflates: bool,
    /// Since when the end is waited for.
    pub(super) closing: Option<Time>,
    pub(super) close_begun: bool,
    /// Why it ends, once that is known.
    pub(super) end: Option<Box<End>>,
    pub(super) state: S,
}

/// The start of an expected frame: where that lies in [`Frames::echoed_bytes`], and how much of it came.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) frame: FrameId,
    pub(super) echo: Range<usize>,
    pub(super) len: usize,
}

/// All clients of an engine.
pub(crate) struct Clients<S> {
    pub(super) slots: Slab<Client<S>>,
    pub(super) output: Output,
    pub(super) frames: Frames,
    pub(super) context: Context,
    pub(super) stats: Stats,
    pub(super) now: Time,
    /// How many are to be connected yet.
    pub(super) wanted: usize,
    /// How many are connecting, or wait for the answer to their handshake.
    pub(super) opening: usize,
    pub(super) open: usize,
    generation: u32,
    /// Those that end after what they send in this tick.
    pub(super) doomed: Vec<ClientId>,
    /// Those that are to read no more, or again.
    pub(super) pauses: Vec<(ClientId, bool)>,
    /// Those whose closing handshake began, not yet told to the engine.
    pub(super) closing: Vec<ClientId>,
    random: fastrand::Rng,
}

impl<S> Clients<S> {
    pub(super) fn new(context: Context, random: fastrand::Rng) -> Self {
        Self {
            slots: Slab::new(),
            output: Output::new(),
            frames: Frames::default(),
            context,
            stats: Stats::new(),
            now: Time::default(),
            wanted: 0,
            opening: 0,
            open: 0,
            generation: 0,
            doomed: Vec::new(),
            pauses: Vec::new(),
            closing: Vec::new(),
            random,
        }
    }

    /// When what is being handled was received, or was due.
    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// How many are open.
    pub(crate) const fn open(&self) -> usize {
        self.open
    }

    /// How many are on their way to be open.
    pub(crate) const fn connecting(&self) -> usize {
        self.opening + self.wanted
    }

    /// Connects so many more, as fast as the bound on those that connect at once lets them.
    pub(crate) const fn connect(&mut self, count: usize) {
        self.wanted += count;
    }

    /// Counts of all clients.
    pub(crate) const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counts anew: the time that is measured begins.
    pub(crate) fn restart_stats(&mut self) {
        self.stats.restart();
    }

    /// Counts anew, how connections opened and ended as well.
    pub(crate) fn reset_stats(&mut self) {
        self.stats = Stats::new();
    }

    /// Random numbers, by the seed of the run.
    pub(crate) const fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// What the mode keeps for a client; `None` when that is gone.
    #[inline]
    pub(crate) fn state(&mut self, id: ClientId) -> Option<&mut S> {
        self.client(id).map(|client| &mut client.state)
    }

    /// Whether a client waits until its socket takes more.
    pub(crate) fn is_blocked(&self, id: ClientId) -> bool {
        let client = self.slots.get(id.index()).filter(|client| client.id == id);
        client.is_some_and(|client| client.queue.is_blocked())
    }

    /// Whether a client has written something that its socket has not taken.
    pub(crate) fn is_waiting(&self, id: ClientId) -> bool {
        let client = self.slots.get(id.index()).filter(|client| client.id == id);
        client.is_some_and(|client| self.output.has(&client.queue))
    }

    /// Frames and masks a message once, to be sent often. In text, a fragment may end inside a
    /// character.
    pub(crate) fn prepare(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        fragments: usize,
    ) -> FrameId {
        let Self { frames, random, context, .. } = self;
        let mut next_key = || random.u32(..).to_ne_bytes();
        let id = frames.add(kind, payload, fragments, &mut next_key);
        if let Some(window) = frames.window() {
            frames.compress(window, context, next_key);
        }
        id
    }

    /// The same of bytes that are sent, and come back, as they are.
    pub(crate) fn prepare_raw(&mut self, bytes: &[u8]) -> FrameId {
        self.frames.add_raw(bytes)
    }

    /// What a prepared message is.
    pub(crate) fn payload(&self, frame: FrameId) -> (MessageKind, &[u8]) {
        self.frames.payload(frame)
    }

    /// Sends a prepared message so many times, at the end of this tick; false if the client can send
    /// no more.
    #[inline]
    pub(crate) fn send_prepared(&mut self, id: ClientId, frame: FrameId, count: u32) -> bool {
        let Self { slots, output, frames, .. } = self;
        let Some(client) = find(slots, id).filter(|client| client.can_send()) else {
            return false;
        };
        let range = frames.sent(frame, client.is_agreed());
        if count == 1 && output.send_in_place(id, &mut client.queue, &range) {
            return true;
        }
        let bytes = frames.sent_bytes(range);
        let buffer = output.buffer(id, &mut client.queue, frames);
        for _ in 0..count {
            buffer.extend_from_slice(bytes);
        }
        true
    }

    /// Sends one of the fragments of a prepared message, in a frame of its own.
    pub(crate) fn send_fragment(
        &mut self,
        id: ClientId,
        frame: FrameId,
        fragment: usize,
        fragments: usize,
    ) -> bool {
        let Self { slots, output, frames, context, .. } = self;
        let Some(client) = find(slots, id).filter(|client| client.can_send()) else {
            return false;
        };
        let (kind, payload) = frames.payload(frame);
        let payload = &payload[cut(payload.len(), fragments, fragment)];
        let fin = fragment + 1 == fragments;
        let out = output.buffer(id, &mut client.queue, frames);
        client.connection.send_fragment(kind, payload, fin, context, out).is_ok()
    }

    /// Sends a message, at the end of this tick; false if the client can send no more.
    pub(crate) fn send(&mut self, id: ClientId, message: Message<'_>) -> bool {
        self.write(id, |connection, context, out| connection.send(message, context, out).is_ok())
    }

    /// Sends a ping; false if the client can send no more.
    pub(crate) fn ping(&mut self, id: ClientId, payload: &[u8]) -> bool {
        self.write(id, |connection, context, out| connection.ping(payload, context, out).is_ok())
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, id: ClientId, code: CloseCode) {
        let is_begun = self.write(id, |connection, context, out| {
            connection.close(CloseFrame { code, reason: "" }, context, out).is_ok()
        });
        if is_begun && let Some(client) = self.client(id) {
            client.close_begun = true;
            self.closing.push(id);
        }
    }

    /// Ends a connection without a closing handshake.
    pub(crate) fn abort(&mut self, id: ClientId) {
        self.doom(id, End::Aborted);
    }

    /// Reads nothing more that a client is sent, until it is told to go on.
    pub(crate) fn pause(&mut self, id: ClientId, is_paused: bool) {
        self.pauses.push((id, is_paused));
    }

    /// Those that are open.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ClientId> + '_ {
        let is_open = |client: &&Client<S>| client.can_send();
        self.slots.iter().map(|(_, client)| client).filter(is_open).map(|client| client.id)
    }

    /// The next that is open, from a place on, in turns.
    pub(super) fn next_open(&self, place: &mut usize) -> Option<ClientId> {
        for _ in 0..self.slots.capacity().min(64) {
            *place = if *place < self.slots.capacity() { *place + 1 } else { 0 };
            match self.slots.get(*place) {
                Some(client) if client.can_send() => return Some(client.id),
                _ => {}
            }
        }
        None
    }

    #[inline]
    pub(super) fn client(&mut self, id: ClientId) -> Option<&mut Client<S>> {
        find(&mut self.slots, id)
    }

    pub(super) fn insert(&mut self, opening: Opening, state: S) -> ClientId {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let entry = self.slots.vacant_entry();
        let id = SlotId::new(entry.key() as u32, self.generation);
        entry.insert(Client {
            id,
            connection: Connection::new(Role::Client),
            queue: Queue::default(),
            opening: Some(Box::new(opening)),
            matched: None,
            inflates: false,
            closing: None,
            close_begun: false,
            end: None,
            state,
        });
        self.opening += 1;
        id
    }

    /// What of the compression that was offered a client and its server agreed on.
    pub(super) fn agree(&mut self, id: ClientId, agreed: Option<&Parameters>) {
        let Self { slots, frames, context, random, stats, .. } = self;
        stats.record_deflate(agreed);
        let (Some(agreed), Some(client)) = (agreed, find(slots, id)) else { return };
        client.connection = Connection::with_deflate(Role::Client, agreed, context);
        client.inflates = !agreed.server_no_context_takeover;
        if let Some(window) = client.connection.compressed_window()
            && frames.window().is_none_or(|smallest| smallest > window)
        {
            frames.compress(window, context, || random.u32(..).to_ne_bytes());
        }
    }

    pub(super) fn set_open(&mut self, id: ClientId) {
        if let Some(client) = self.client(id)
            && client.opening.take().is_some()
        {
            self.opening -= 1;
            self.open += 1;
        }
    }

    /// Ends a client once what it sends in this tick is sent. The first reason counts.
    pub(super) fn doom(&mut self, id: ClientId, end: End) {
        if let Some(client) = self.client(id) {
            client.end.get_or_insert_with(|| Box::new(end));
            self.doomed.push(id);
        }
    }

    /// Appends bytes that core made.
    pub(super) fn append(&mut self, id: ClientId, bytes: &[u8]) {
        let Self { slots, output, frames, .. } = self;
        if let Some(client) = find(slots, id) {
            output.buffer(id, &mut client.queue, frames).extend_from_slice(bytes);
        }
    }

    fn write(
        &mut self,
        id: ClientId,
        write: impl FnOnce(&mut Connection, &mut Context, &mut Vec<u8>) -> bool,
    ) -> bool {
        let Self { slots, output, frames, context, .. } = self;
        let Some(client) = find(slots, id).filter(|client| client.can_send()) else {
            return false;
        };
        let out = output.buffer(id, &mut client.queue, frames);
        write(&mut client.connection, context, out)
    }
}

impl<S> Client<S> {
    #[inline]
    pub(super) const fn can_send(&self) -> bool {
        self.opening.is_none() && self.end.is_none() && self.connection.is_open()
    }

    /// Whether messages may be compressed.
    #[inline]
    pub(super) const fn is_agreed(&self) -> bool {
        self.connection.compressed_window().is_some()
    }

    /// What it means that nothing more comes.
    pub(super) fn end_by(&self, error: Option<io::Error>) -> End {
        match (&self.opening, error) {
            (Some(opening), Some(error)) if opening.connected.is_none() => End::Connect(error),
            (Some(_), error) => End::UpgradeLost(error),
            (None, None) => End::Lost,
            (None, Some(error)) => End::Failed(error),
        }
    }
}

#[inline]
fn find<S>(slots: &mut Slab<Client<S>>, id: ClientId) -> Option<&mut Client<S>> {
    slots.get_mut(id.index()).filter(|client| client.id == id)
}
