//! Who is where, and what was said.

use crate::{
    Guest,
    protocol::{FromServer, Person, Recalled, Said, TEXT_CHARACTERS_MAX},
};
use quelea::{Conn, ConnId};
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
    /// By order of arrival; the two lists belong together.
    people: Vec<Person>,
    members: Vec<ConnId>,
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
        place.tell(conn, &FromServer::Joined(&person));
        place.people.push(person.clone());
        place.members.push(conn.id());
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
        let Some(place) = room.members.iter().position(|id| *id == conn.id()) else { return };
        room.members.remove(place);
        room.people.remove(place);
        room.tell(conn, &FromServer::Left { id: seat.person.id });
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
        room.tell(conn, &FromServer::Message(&said));
        if room.history.len() == HISTORY_MAX {
            room.history.pop_front();
        }
        room.history.push_back(said);
    }

    pub(crate) fn typing(&mut self, conn: &mut Conn<'_, Guest>, seat: &Seat) {
        if let Some(room) = self.rooms.get(&seat.room) {
            room.tell_others(conn, &FromServer::Typing { id: seat.person.id });
        }
    }

    fn forget_empty_rooms(&mut self) {
        if self.rooms.len() > EMPTY_ROOMS_MAX
            && self.rooms.values().filter(|room| room.members.is_empty()).count() > EMPTY_ROOMS_MAX
        {
            self.rooms.retain(|_, room| !room.members.is_empty());
        }
    }
}

impl Room {
    fn tell(&self, conn: &mut Conn<'_, Guest>, what: &FromServer<'_>) {
        let json = what.to_json();
        for member in &self.members {
            conn.send_to(*member, &json);
        }
    }

    fn tell_others(&self, conn: &mut Conn<'_, Guest>, what: &FromServer<'_>) {
        let json = what.to_json();
        let own = conn.id();
        for member in self.members.iter().filter(|member| **member != own) {
            conn.send_to(*member, &json);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "people want to read the time of day")]
fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
