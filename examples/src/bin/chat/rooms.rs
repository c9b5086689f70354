//! Who is where, and what was said.

use crate::{
    Guest,
    protocol::{FromServer, Person, Recalled, Said, TEXT_CHARACTERS_MAX},
};
use quelea::Conn;
use std::{
    collections::{HashMap, VecDeque},
    time::{SystemTime, UNIX_EPOCH},
};

/// Messages of a room that a newcomer gets.
const HISTORY_MAX: usize = 50;
/// Rooms that are kept for their history when nobody is there.
const EMPTY_ROOMS_MAX: usize = 1000;

/// All rooms of a worker.
pub(crate) struct Rooms {
    /// When the server started: ids mean something else after a restart.
    epoch: u64,
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
        Self { epoch: unix_milliseconds(), rooms: HashMap::new(), people_count: 0 }
    }

    /// Lets someone in: they get a welcome, the others are told.
    pub(crate) fn join(&mut self, conn: &mut Conn<'_, Guest>, room: String, name: String) -> Seat {
        self.forget_empty_rooms();
        self.people_count += 1;
        let person = Person { id: self.people_count, name };
        let place = self.rooms.entry(room.clone()).or_default();
        tell(conn, &room, &FromServer::Joined(&person));
        place.people.push(person.clone());
        conn.subscribe(&room);
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

    pub(crate) fn leave(&mut self, conn: &mut Conn<'_, Guest>, seat: &Seat) {
        let Some(room) = self.rooms.get_mut(&seat.room) else { return };
        room.people.retain(|person| person.id != seat.person.id);
        tell(conn, &seat.room, &FromServer::Left { id: seat.person.id });
        tracing::info!(
            room = seat.room,
            name = seat.person.name,
            people = room.people.len(),
            "left",
        );
    }

    pub(crate) fn say(&mut self, conn: &mut Conn<'_, Guest>, seat: &Seat, text: String) {
        let Some(room) = self.rooms.get_mut(&seat.room) else { return };
        if !(1..=TEXT_CHARACTERS_MAX).contains(&text.chars().count()) {
            conn.send(
                &FromServer::Error { reason: "a message has 1 to 2000 characters" }.to_json(),
            );
            return;
        }
        room.said_count += 1;
        let at = unix_milliseconds();
        let said = Said { id: room.said_count, from: seat.person.clone(), text, at };
        tell(conn, &seat.room, &FromServer::Message(&said));
        if room.history.len() == HISTORY_MAX {
            room.history.pop_front();
        }
        room.history.push_back(said);
    }

    pub(crate) fn typing(conn: &mut Conn<'_, Guest>, seat: &Seat) {
        let typing = FromServer::Typing { id: seat.person.id };
        conn.publish_to_others(&seat.room, &typing.to_json());
    }

    fn forget_empty_rooms(&mut self) {
        if self.rooms.len() > EMPTY_ROOMS_MAX
            && self.rooms.values().filter(|room| room.people.is_empty()).count() > EMPTY_ROOMS_MAX
        {
            self.rooms.retain(|_, room| !room.people.is_empty());
        }
    }
}

/// Tells all that are in a room: its topic has its name.
fn tell(conn: &mut Conn<'_, Guest>, room: &str, what: &FromServer<'_>) {
    conn.publish(room, &what.to_json());
}

#[expect(clippy::disallowed_methods, reason = "people want to read the time of day")]
fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
