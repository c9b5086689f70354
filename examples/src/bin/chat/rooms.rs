//! Who is where, and what was said.

use crate::{
    Guest,
    protocol::{FromServer, Person, Recalled, Said, TEXT_CHARACTERS_MAX},
};
use quelea::{Conn, Handle, SendStatus};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// Messages of a room that a newcomer gets.
const HISTORY_MAX: usize = 50;
/// Rooms that are kept for their history when nobody is there.
const EMPTY_ROOMS_MAX: usize = 1000;

/// The rooms, whichever workers their people are on.
///
/// What is said in a room is published while the room is locked, by the handle: so all workers, and
/// all people, get it in the same order.
pub(crate) struct Rooms {
    /// When the server started: ids mean something else after a restart.
    epoch: u64,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    rooms: HashMap<String, Room>,
    people_count: u64,
}

/// Someone's place in a room.
#[derive(Clone)]
pub(crate) struct Seat {
    room: String,
    person: Person,
}

#[derive(Default)]
struct Room {
    /// By order of arrival.
    people: Vec<Person>,
    history: VecDeque<Said>,
    said_count: u64,
}

impl Rooms {
    pub(crate) fn new() -> Self {
        Self { epoch: unix_milliseconds(), shared: Mutex::default() }
    }

    /// Lets someone in: they get a welcome, the others are told. They may be told of themselves, and
    /// again of what the welcome holds: the ids tell.
    pub(crate) fn join(
        &self,
        conn: &mut Conn<'_, Guest>,
        handle: &Handle,
        room: String,
        name: String,
    ) -> Seat {
        let mut shared = self.lock();
        shared.forget_empty_rooms();
        shared.people_count += 1;
        let person = Person { id: shared.people_count, name };
        let place = shared.rooms.entry(room.clone()).or_default();
        place.people.push(person.clone());
        conn.subscribe(&room);
        tell(handle, &room, &FromServer::Joined(&person));
        let welcome = FromServer::Welcome {
            you: person.id,
            room: &room,
            epoch: self.epoch,
            people: &place.people,
            history: place.history.iter().map(|said| Recalled { said }).collect(),
        };
        conn.send(&welcome.to_json());
        tracing::info!(room, name = person.name, people = place.people.len(), "joined");
        Seat { room, person }
    }

    pub(crate) fn leave(&self, handle: &Handle, seat: &Seat) {
        let mut shared = self.lock();
        let Some(room) = shared.rooms.get_mut(&seat.room) else { return };
        room.people.retain(|person| person.id != seat.person.id);
        tell(handle, &seat.room, &FromServer::Left { id: seat.person.id });
        tracing::info!(
            room = seat.room,
            name = seat.person.name,
            people = room.people.len(),
            "left",
        );
    }

    pub(crate) fn say(
        &self,
        conn: &mut Conn<'_, Guest>,
        handle: &Handle,
        seat: &Seat,
        text: String,
    ) {
        if !(1..=TEXT_CHARACTERS_MAX).contains(&text.chars().count()) {
            let reason = "a message has 1 to 2000 characters";
            conn.send(&FromServer::Error { reason }.to_json());
            return;
        }
        let mut shared = self.lock();
        let Some(room) = shared.rooms.get_mut(&seat.room) else { return };
        let at = unix_milliseconds();
        let said = Said { id: room.said_count + 1, from: seat.person.clone(), text, at };
        if tell(handle, &seat.room, &FromServer::Message(&said)) == SendStatus::Dropped {
            let reason = "the server is too busy, try again in a moment";
            conn.send(&FromServer::Error { reason }.to_json());
            return;
        }
        room.said_count += 1;
        if room.history.len() == HISTORY_MAX {
            room.history.pop_front();
        }
        room.history.push_back(said);
    }

    /// It is of no use later, so it need not be in order with the rest.
    pub(crate) fn typing(conn: &mut Conn<'_, Guest>, seat: &Seat) {
        let typing = FromServer::Typing { id: seat.person.id };
        conn.publish_to_others(&seat.room, &typing.to_json());
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Rooms are whole after every step in here.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn forget_empty_rooms(&mut self) {
        if self.rooms.len() > EMPTY_ROOMS_MAX
            && self.rooms.values().filter(|room| room.people.is_empty()).count() > EMPTY_ROOMS_MAX
        {
            self.rooms.retain(|_, room| !room.people.is_empty());
        }
    }
}

/// Tells all that are in a room: its topic has its name.
fn tell(handle: &Handle, room: &str, what: &FromServer<'_>) -> SendStatus {
    let status = handle.publish(room, &what.to_json());
    if status != SendStatus::Queued {
        // Who misses that someone came or went sees it with the next welcome.
        tracing::warn!(room, ?status, "not all were told");
    }
    status
}

#[expect(clippy::disallowed_methods, reason = "people want to read the time of day")]
fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
