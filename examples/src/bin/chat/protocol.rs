//! What goes over the wire: see `examples/chat/PROTOCOL.md`.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The name and version of the protocol, offered by the client.
pub(crate) const SUBPROTOCOL: &str = "chat.quelea.v1";

const ROOM_CHARACTERS_MAX: usize = 64;
const NAME_CHARACTERS_MAX: usize = 32;
/// The longest text of a message, in characters.
pub(crate) const TEXT_CHARACTERS_MAX: usize = 2000;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum FromClient {
    Message { text: String },
    Typing,
}

#[derive(Clone, Serialize)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(crate) name: String,
}

#[derive(Clone, Serialize)]
pub(crate) struct Said {
    pub(crate) id: u64,
    pub(crate) from: Person,
    pub(crate) text: String,
    /// Unix time in milliseconds.
    pub(crate) at: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum FromServer<'a> {
    Welcome {
        you: u64,
        room: &'a str,
        epoch: u64,
        people: &'a [Person],
        history: Vec<Recalled<'a>>,
    },
    Joined(&'a Person),
    Left {
        id: u64,
    },
    Message(&'a Said),
    Typing {
        id: u64,
    },
    Error {
        reason: &'a str,
    },
}

/// A message of the history: the same object as a new one.
#[derive(Serialize)]
#[serde(tag = "type", rename = "message")]
pub(crate) struct Recalled<'a> {
    #[serde(flatten)]
    pub(crate) said: &'a Said,
}

impl FromServer<'_> {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always have a JSON form")
    }
}

/// Why someone gets no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Room,
    Name,
}

impl Refusal {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Room => "a room has 1 to 64 characters",
            Self::Name => "a name has 1 to 32 characters",
        }
    }
}

/// The room and the name that a request asks for.
pub(crate) fn seat(room: &str, query: &str) -> Result<(String, String), Refusal> {
    let room = percent_decode_str(room).decode_utf8().map_err(|_| Refusal::Room)?;
    let name = form_urlencoded::parse(query.as_bytes())
        .find_map(|(key, value)| (key == "name").then_some(value))
        .ok_or(Refusal::Name)?;
    if !is_label(&room, ROOM_CHARACTERS_MAX) {
        return Err(Refusal::Room);
    }
    if !is_label(&name, NAME_CHARACTERS_MAX) {
        return Err(Refusal::Name);
    }
    Ok((room.into_owned(), name.into_owned()))
}

fn is_label(text: &str, characters_max: usize) -> bool {
    (1..=characters_max).contains(&text.chars().count())
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_and_names_are_percent_decoded() {
        let seat = seat("caf%C3%A9%2Fbar", "name=Ada%20L").unwrap();
        assert_eq!(seat, ("café/bar".into(), "Ada L".into()));
    }

    #[test]
    fn rooms_and_names_that_are_empty_too_long_or_unprintable_are_refused() {
        assert_eq!(seat("", "name=Ada"), Err(Refusal::Room));
        assert_eq!(seat("%FF", "name=Ada"), Err(Refusal::Room));
        assert_eq!(seat(&"x".repeat(65), "name=Ada"), Err(Refusal::Room));
        assert_eq!(seat("%20lobby", "name=Ada"), Err(Refusal::Room));
        for name in ["", "name=", "name=%00", "other=Ada", &format!("name={}", "x".repeat(33))] {
            assert_eq!(seat("lobby", name), Err(Refusal::Name), "{name}");
        }
    }

    #[test]
    fn messages_have_the_form_of_the_protocol() {
        let from = Person { id: 7, name: "Ada".into() };
        let said = Said { id: 1, from, text: "Hello".into(), at: 5 };
        let json =
            r#"{"type":"message","id":1,"from":{"id":7,"name":"Ada"},"text":"Hello","at":5}"#;
        assert_eq!(FromServer::Message(&said).to_json(), json);
        let recalled = serde_json::to_string(&Recalled { said: &said }).unwrap();
        assert_eq!(recalled, json);
        assert_eq!(
            FromServer::Joined(&said.from).to_json(),
            r#"{"type":"joined","id":7,"name":"Ada"}"#
        );
    }
}
